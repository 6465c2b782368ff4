//! What compaction has forgotten and no sweep has removed yet.
//!
//! A gateway may first see a revision in a copy in which it is already compacted: two puts and a compaction fit into
//! one slot. Its watches keep up, and have a right to be told. Mostly nothing is lost: a compaction takes effect at
//! once, but removes nothing before the next slots, and then the oldest changes first. So as long as any change before
//! a revision lies in the store, so does all that the revision itself and those after it have written.

use crate::history::Change;
use crate::layout::{Record, change_bounds, current_key, split_change_key, version_key};
use crate::operation::Bytes;
use alloc::vec::Vec;
use core::ops::Bound;
use testudo_contracts::Reading;

/// All changes of the revisions `from..=to`, whether or not they are compacted; none if some may have been removed.
pub(super) fn remains(store: &dyn Reading, from: i64, to: i64) -> Option<Vec<Change>> {
    let mut untouched = false;
    scan(store, 0, from.checked_sub(1)?, &mut |_, _| {
        untouched = true;
        false
    });
    if !untouched {
        return None;
    }
    let (mut found, mut expected) = (Vec::new(), from);
    scan(store, from, to, &mut |revision, key| {
        // Every revision has changed something: a gap is a revision that was removed.
        let known = record_of(store, key, revision).filter(|_| revision <= expected);
        let Some(record) = known else { return false };
        found.push(Change { revision, key: key.into(), record });
        expected = revision + 1;
        true
    });
    (expected == to + 1).then_some(found)
}

fn scan(store: &dyn Reading, from: i64, to: i64, visit: &mut dyn FnMut(i64, &[u8]) -> bool) {
    let (low, high) = change_bounds(from, to);
    store.scan(Bound::Included(&low), Bound::Excluded(&high), false, &mut |store_key, _| {
        let (revision, key) = split_change_key(store_key);
        visit(revision, key)
    });
}

/// What `revision` made of `key`: a record, or none where it deleted the key. None at all if that is not there.
fn record_of(store: &dyn Reading, key: &[u8], revision: i64) -> Option<Option<Bytes>> {
    let current = store.get(&current_key(key));
    if current.as_ref().is_some_and(|record| Record::read(record).mod_revision == revision) {
        return Some(current);
    }
    let version = store.get(&version_key(key, revision))?;
    Some((!version.is_empty()).then_some(version))
}
