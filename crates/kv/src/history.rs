//! What revisions have changed, and what was before: for those who watch.

use crate::layout::{
    Meta, Record, change_bounds, current_key, split_change_key, version_key, version_prefix,
};
use crate::operation::Bytes;
use core::ops::Bound;
use testudo_contracts::Reading;

/// What one revision did to one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The revision.
    pub revision: i64,
    /// The key.
    pub key: Bytes,
    /// The key's record as the revision left it, encoded as a [`crate::KeyValue`]; none if it deleted the key.
    pub record: Option<Bytes>,
}

/// Visits what the revisions `from..=to` did, in order of revisions and, within one, of the operations that
/// did it, until `visit` says false.
/// Revisions before the compacted one are left out. It costs a look-up for each change visited, and nothing for those
/// outside of the bounds.
pub fn changes(store: &dyn Reading, from: i64, to: i64, visit: &mut dyn FnMut(Change) -> bool) {
    let from = from.max(Meta::read(store).compacted).max(0);
    if to < from {
        return;
    }
    let (low, high) = change_bounds(from, to);
    store.scan(Bound::Included(&low), Bound::Excluded(&high), false, &mut |store_key, _| {
        let (revision, key) = split_change_key(store_key);
        // A change that can be read has its record: compaction drops records with the changes that made them.
        record_of(store, key, revision)
            .is_none_or(|record| visit(Change { revision, key: key.into(), record }))
    });
}

/// The newest record of `key` before `revision`; none if the key did not exist then, or if that is compacted.
#[must_use]
pub fn record_before(store: &dyn Reading, key: &[u8], revision: i64) -> Option<Bytes> {
    let before = revision.checked_sub(1).filter(|before| *before > 0)?;
    if before < Meta::read(store).compacted {
        return None;
    }
    record_at(store, key, before)
}

/// The record that `key` had at `revision`, of which compaction must not have dropped anything; none if it had none.
pub(crate) fn record_at(store: &dyn Reading, key: &[u8], revision: i64) -> Option<Bytes> {
    let current = store.get(&current_key(key));
    if current.as_ref().is_some_and(|record| Record::read(record).mod_revision <= revision) {
        return current;
    }
    let (from, to) = (version_prefix(key), version_key(key, revision));
    let mut found = None;
    store.scan(Bound::Included(&from), Bound::Included(&to), true, &mut |_, version| {
        found = (!version.is_empty()).then(|| version.clone());
        false
    });
    found
}

/// What `revision` made of `key`: a record, or none where it deleted the key. None at all if nothing is known of it.
fn record_of(store: &dyn Reading, key: &[u8], revision: i64) -> Option<Option<Bytes>> {
    let current = store.get(&current_key(key));
    if current.as_ref().is_some_and(|record| Record::read(record).mod_revision == revision) {
        return Some(current);
    }
    let version = store.get(&version_key(key, revision))?;
    Some((!version.is_empty()).then_some(version))
}
