//! Checks a whole store against itself. It visits everything, so it is for tests and simulators.

use crate::layout::{
    Family, META, Meta, Record, entry_bytes, family, key_of_current, split_change_key,
    split_version_key, unescape,
};
use crate::operation::Bytes;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;
use testudo_contracts::Reading;

/// All that a store holds, taken apart.
#[derive(Default)]
struct Found {
    bytes: u64,
    /// Each key's history, by revision: a record, or none where the key was deleted.
    histories: BTreeMap<Vec<u8>, BTreeMap<i64, Option<Bytes>>>,
    current: BTreeMap<Vec<u8>, Bytes>,
    changes: BTreeSet<(i64, Vec<u8>)>,
}

/// Checks that what lies in the store fits together: each record lies once and follows from the one before, each has
/// the change that made it and each change its record, and the meta entry counts them rightly.
///
/// # Panics
/// When the state is not one that this service can have written.
pub(crate) fn audit(store: &dyn Reading) {
    let meta = Meta::read(store);
    assert!(meta.revision >= 1, "revisions start at 1");
    let found = take_apart(store);
    for (key, history) in &found.histories {
        history_follows(key, history);
        let current = found.current.get(key).map(|record| Record::read(record).mod_revision);
        let newest = history.last_key_value();
        let newest = newest.and_then(|(revision, record)| record.is_some().then_some(*revision));
        assert_eq!(current, newest, "the current entry is not the newest record");
        for revision in history.keys() {
            assert!(*revision > 1 && *revision <= meta.revision, "a revision that is not");
            let change = (*revision, key.clone());
            assert!(found.changes.contains(&change), "a record without its change");
        }
    }
    for (revision, key) in &found.changes {
        let history = found.histories.get(key);
        let known = history.is_some_and(|history| history.contains_key(revision));
        assert!(known, "a change without its record");
    }
    let changed: BTreeSet<i64> = found.changes.iter().map(|(revision, _)| *revision).collect();
    assert!(changed.into_iter().eq(2..=meta.revision), "a revision that changed nothing");
    let counted = Meta { keys: found.current.len() as u64, bytes: found.bytes, ..meta };
    assert_eq!(counted, meta, "the meta entry counts wrongly");
}

fn take_apart(store: &dyn Reading) -> Found {
    let mut found = Found::default();
    store.scan(Bound::Unbounded, Bound::Unbounded, false, &mut |store_key, value| {
        if store_key == META {
            return true;
        }
        found.bytes += entry_bytes(store_key, value.len());
        match family(store_key) {
            Some(Family::Current) => {
                let key = key_of_current(store_key).to_vec();
                let record = Record::read(value);
                assert_eq!(record.key, key, "a record is filed under another key");
                let history = found.histories.entry(key.clone()).or_default();
                history.insert(record.mod_revision, Some(value.clone()));
                found.current.insert(key, value.clone());
            }
            Some(Family::Version) => {
                let (prefix, revision) = split_version_key(store_key);
                let key = unescape(prefix);
                if !value.is_empty() {
                    let record = Record::read(value);
                    assert_eq!(record.key, key, "a record is filed under another key");
                    assert_eq!(record.mod_revision, revision, "filed under another revision");
                }
                let record = (!value.is_empty()).then(|| value.clone());
                let other = found.histories.entry(key).or_default().insert(revision, record);
                assert_eq!(other, None, "a record lies twice");
            }
            Some(Family::Change) => {
                assert!(value.is_empty(), "a change says all in its key");
                let (revision, key) = split_change_key(store_key);
                found.changes.insert((revision, key.to_vec()));
            }
            None => panic!("an entry of no family"),
        }
        true
    });
    found
}

/// Checks that each record of a key follows from the one before.
fn history_follows(key: &[u8], history: &BTreeMap<i64, Option<Bytes>>) {
    assert!(!key.is_empty(), "a key is never empty");
    let mut before: Option<&Bytes> = None;
    for (revision, record) in history {
        if let Some(record) = record {
            let now = Record::read(record);
            match before.filter(|_| now.create_revision != *revision) {
                None => assert_eq!((now.create_revision, now.version), (*revision, 1), "creation"),
                Some(before) => {
                    let before = Record::read(before);
                    assert_eq!(now.create_revision, before.create_revision, "created once");
                    assert_eq!(now.version, before.version + 1, "versions count up");
                }
            }
        }
        before = record.as_ref();
    }
}
