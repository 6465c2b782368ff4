//! Checks a whole store against itself. It visits everything, so it is for tests and simulators.

use crate::layout::{
    CURSOR, Family, META, Meta, Record, entry_bytes, family, key_of_current, lease_key,
    split_attachment_key, split_change_key, split_expiry_key, split_numbered, split_version_key,
    unescape,
};
use crate::lease::Lease;
use crate::operation::Bytes;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;
use testudo_contracts::Reading;
use testudo_core::Decode;

/// A key's records by revision; none where it was deleted.
type History = BTreeMap<i64, Option<Bytes>>;

/// All that a store holds, taken apart.
#[derive(Default)]
struct Found {
    bytes: u64,
    histories: BTreeMap<Vec<u8>, History>,
    current: BTreeMap<Vec<u8>, Bytes>,
    changes: BTreeSet<(i64, Vec<u8>)>,
    samples: Vec<i64>,
    /// Each lease with when it expires.
    leases: BTreeMap<i64, u64>,
    expiries: BTreeMap<i64, u64>,
    attachments: BTreeSet<(i64, Vec<u8>)>,
}

/// Checks that what lies in the store fits together: each record lies once and follows from the one before, each change
/// has its record and each record its change unless that is compacted, nothing is left of what was swept, leases and
/// keys know of each other, and the meta entry counts everything rightly.
///
/// # Panics
/// When the state is not one that this service can have written.
pub(crate) fn audit(store: &dyn Reading) {
    let meta = Meta::read(store);
    assert!(meta.revision >= 1, "revisions start at 1");
    assert!(meta.compacted <= meta.revision, "what is not there yet is compacted");
    assert!(meta.swept <= meta.compacted, "what is not compacted is swept");
    let found = take_apart(store);
    for (key, history) in &found.histories {
        history_follows(key, history, &meta);
        history_is_swept(history, &meta);
        let current = found.current.get(key).map(|record| Record::read(record).mod_revision);
        let newest = history.last_key_value();
        let newest = newest.and_then(|(revision, record)| record.is_some().then_some(*revision));
        assert_eq!(current, newest, "the current entry is not the newest record");
    }
    changes_fit(&found, &meta);
    leases_fit(&found);
    assert!(found.samples.is_sorted(), "revisions fell as time passed");
    let counted = Meta { keys: found.current.len() as u64, bytes: found.bytes, ..meta };
    assert_eq!(counted, meta, "the meta entry counts wrongly");
}

fn take_apart(store: &dyn Reading) -> Found {
    let mut found = Found::default();
    store.scan(Bound::Unbounded, Bound::Unbounded, false, &mut |store_key, value| {
        if store_key != META && store_key != CURSOR {
            found.bytes += entry_bytes(store_key, value.len());
            found.take(store_key, value);
        }
        true
    });
    found
}

impl Found {
    fn take(&mut self, store_key: &[u8], value: &Bytes) {
        match family(store_key).expect("an entry belongs to a family") {
            Family::Current => {
                let key = key_of_current(store_key).to_vec();
                self.record(key.clone(), Record::read(value).mod_revision, value);
                self.current.insert(key, value.clone());
            }
            Family::Version => {
                let (prefix, revision) = split_version_key(store_key);
                self.record(unescape(prefix), revision, value);
            }
            Family::Change => {
                let (revision, key) = split_change_key(store_key);
                assert!(value.is_empty(), "a change says all in its key");
                self.changes.insert((revision, key.to_vec()));
            }
            Family::Sample => self.samples.push(i64::from_bytes(value).expect("a revision")),
            Family::Lease => {
                let lease = Lease::from_bytes(value).expect("a lease");
                let (id, _) = split_numbered(store_key);
                assert_eq!(lease_key(id), store_key, "a lease's store key is its number");
                self.leases.insert(id, lease.expires);
            }
            Family::Attachment => {
                let (lease, key) = split_attachment_key(store_key);
                self.attachments.insert((lease, key.to_vec()));
            }
            Family::Expiry => {
                let (expires, lease) = split_expiry_key(store_key);
                let other = self.expiries.insert(lease, expires);
                assert_eq!(other, None, "a lease expires twice");
            }
        }
    }

    fn record(&mut self, key: Vec<u8>, revision: i64, value: &Bytes) {
        let record = (!value.is_empty()).then(|| value.clone());
        if let Some(record) = record.as_deref().map(Record::read) {
            assert_eq!(record.key, key, "a record is filed under another key");
            assert_eq!(record.mod_revision, revision, "a record is filed under another revision");
        }
        let other = self.histories.entry(key).or_default().insert(revision, record);
        assert_eq!(other, None, "a record lies twice");
    }
}

/// Checks that each record of a key follows from the one before, which may be forgotten if it was before the compacted
/// revision.
fn history_follows(key: &[u8], history: &History, meta: &Meta) {
    assert!(!key.is_empty(), "a key is never empty");
    let mut before: Option<&Bytes> = None;
    for (at, (revision, record)) in history.iter().enumerate() {
        assert!(*revision > 1 && *revision <= meta.revision, "a revision that is not");
        let Some(record) = record else {
            before = None;
            continue;
        };
        let now = Record::read(record);
        match before.filter(|_| now.create_revision != *revision) {
            None if now.create_revision == *revision => assert_eq!(now.version, 1, "a creation"),
            None => {
                assert!(at == 0 && *revision <= meta.compacted, "a record without its past");
                assert!(now.create_revision < *revision && now.version > 1, "it had a past");
            }
            Some(before) => {
                let before = Record::read(before);
                assert_eq!(now.create_revision, before.create_revision, "created once");
                assert_eq!(now.version, before.version + 1, "versions count up");
            }
        }
        before = Some(record);
    }
}

/// Checks that of what was swept only that is left which can be read.
fn history_is_swept(history: &History, meta: &Meta) {
    if meta.swept < meta.compacted {
        return;
    }
    let mut old = history.range(..=meta.compacted);
    if let Some((revision, record)) = old.next_back() {
        let readable = record.is_some() || *revision == meta.compacted;
        assert!(readable, "a deletion that is forgotten is left");
    }
    assert!(old.next().is_none(), "a record that is forgotten is left");
}

fn changes_fit(found: &Found, meta: &Meta) {
    for (revision, key) in &found.changes {
        let history = found.histories.get(key);
        let known = history.is_some_and(|history| history.contains_key(revision));
        assert!(known, "a change without its record");
        assert!(meta.swept < meta.compacted || *revision >= meta.compacted, "a change is left");
    }
    for (key, history) in &found.histories {
        for (revision, _) in history.range(meta.compacted.max(0)..) {
            let change = (*revision, key.clone());
            assert!(found.changes.contains(&change), "a record without its change");
        }
    }
    let changed: BTreeSet<i64> = found.changes.iter().map(|(revision, _)| *revision).collect();
    let readable = meta.compacted.max(2)..=meta.revision;
    assert!(
        changed.range(meta.compacted.max(0)..).copied().eq(readable),
        "a revision that changed nothing"
    );
}

fn leases_fit(found: &Found) {
    assert_eq!(found.leases, found.expiries, "leases and their expiries differ");
    let mut attached = BTreeSet::new();
    for (key, record) in &found.current {
        let lease = Record::read(record).lease;
        if lease != 0 {
            assert!(found.leases.contains_key(&lease), "a key hangs on a lease that is not");
            attached.insert((lease, key.clone()));
        }
    }
    assert_eq!(attached, found.attachments, "keys and leases know of each other");
}
