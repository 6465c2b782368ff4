//! The revision that an operation is about to make.
//!
//! An operation reads the store through its draft and writes into the draft alone: what it has changed so far is what
//! it reads. Only when it has succeeded to the last are the changes written out, at once and with nothing left that
//! could fail. So an operation that is refused half-way, for whatever reason, leaves no trace.

use crate::compaction;
use crate::error::Error;
use crate::history::record_at;
use crate::layout::{
    Keys, Ledger, Meta, Record, attachment_key, change_key, current_bounds, current_key,
    expiry_key, key_of_current, lease_key, split_version_key, version_bounds, version_key,
};
use crate::lease::Lease;
use crate::operation::Bytes;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Bound;
use testudo_contracts::Reading;
use testudo_core::Encode;

/// How many keys and versions one operation may look at. Beyond it is refused with [`Error::TooMuchWork`]: a request
/// of a few bytes may look at the whole store, and a transaction of thousands of such requests would hold up everyone.
/// One request can still look through a store of 8 GiB, etcd's largest suggested, if its records average 512 bytes.
pub const WORK: u64 = 1 << 24;

/// What has become of a key.
#[derive(Debug)]
struct Change {
    /// The record that the store has; none if it does not have the key.
    before: Option<Bytes>,
    /// Its record now; none if it is deleted.
    record: Option<Bytes>,
    /// Its place among the operation's changes, in the order in which they were made.
    place: u32,
}

/// What has become of a lease.
#[derive(Clone, Copy, Debug)]
struct LeaseChange {
    id: i64,
    /// The lease that the store has.
    before: Option<Lease>,
    /// The lease now; none if it has ended.
    after: Option<Lease>,
}

/// The store as an operation sees it, with what the operation has changed.
pub(crate) struct Draft<'a> {
    store: &'a dyn Reading,
    meta: Meta,
    changes: Changes,
    work: Cell<u64>,
}

/// Which state a read is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum At {
    /// The newest, with the operation's own changes.
    Newest,
    /// The store's, without them.
    Before,
    /// That of a revision before.
    Past(i64),
}

impl<'a> Draft<'a> {
    /// Begins an operation; `meta` is the store's.
    pub(crate) fn new(store: &'a dyn Reading, meta: Meta) -> Self {
        Self { store, meta, changes: Changes::default(), work: Cell::new(WORK) }
    }

    /// Begins what nobody has asked for: it must succeed, whatever it has to look at.
    pub(crate) fn unbounded(store: &'a dyn Reading, meta: Meta) -> Self {
        Self { work: Cell::new(u64::MAX), ..Self::new(store, meta) }
    }

    /// The store as it was before the operation.
    pub(crate) const fn store(&self) -> &'a dyn Reading {
        self.store
    }

    /// The store's meta entry as it was before the operation.
    pub(crate) const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The store's revision if the operation ended now.
    pub(crate) fn revision(&self) -> i64 {
        if self.changes.keys.is_empty() { self.meta.revision } else { self.next_revision() }
    }

    /// The revision that the operation's changes belong to.
    pub(crate) const fn next_revision(&self) -> i64 {
        self.meta.revision + 1
    }

    /// Which state a read at `revision` is of.
    ///
    /// # Errors
    /// When the revision is in the future, or compacted.
    pub(crate) fn at(&self, revision: i64) -> Result<At, Error> {
        if revision > self.revision() {
            Err(Error::FutureRevision)
        } else if revision <= 0 || revision > self.meta.revision {
            Ok(At::Newest)
        } else if revision < self.meta.compacted {
            Err(Error::Compacted)
        } else if revision == self.meta.revision {
            Ok(At::Before)
        } else {
            Ok(At::Past(revision))
        }
    }

    /// The newest record of `key`.
    pub(crate) fn newest(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        if !self.look() {
            return Err(Error::TooMuchWork);
        }
        Ok(match self.changes.keys.get(key) {
            Some(change) => change.record.clone(),
            None => self.store.get(&current_key(key)),
        })
    }

    /// Visits the records of `keys` in ascending order of keys.
    pub(crate) fn visit(
        &self,
        keys: Keys<'_>,
        at: At,
        visit: &mut dyn FnMut(&Bytes),
    ) -> Result<(), Error> {
        let enough = match (keys, at) {
            (Keys::Nothing, _) => true,
            (Keys::One(key), At::Newest) => {
                self.newest(key)?.iter().for_each(visit);
                true
            }
            (Keys::One(key), At::Before) => {
                self.store.get(&current_key(key)).iter().for_each(visit);
                self.look()
            }
            (Keys::One(key), At::Past(revision)) => {
                record_at(self.store, key, revision).iter().for_each(visit);
                self.look()
            }
            (Keys::Span(from, to), At::Newest) => self.newest_of_span(from, to, visit),
            (Keys::Span(from, to), At::Before) => {
                self.scan_current(from, to, &mut |_, record| visit(record))
            }
            (Keys::Span(from, to), At::Past(revision)) => {
                self.past_of_span(from, to, revision, visit)
            }
        };
        if enough { Ok(()) } else { Err(Error::TooMuchWork) }
    }

    /// Sets the record of `key`, whose newest one is `newest`.
    pub(crate) fn put(&mut self, key: &Bytes, newest: Option<Bytes>, record: Bytes) {
        self.change(key, newest, Some(record));
    }

    /// Deletes `key`, whose newest record is `newest`.
    pub(crate) fn delete(&mut self, key: &Bytes, newest: Bytes) {
        self.change(key, Some(newest), None);
    }

    /// Makes of a lease that is `before` in the store what it is to be.
    pub(crate) fn set_lease(&mut self, id: i64, before: Option<Lease>, after: Option<Lease>) {
        self.changes.lease = Some(LeaseChange { id, before, after });
    }

    /// Makes `revision` the oldest that can be read.
    pub(crate) fn compact(&mut self, revision: i64) {
        self.changes.compacted = Some(revision);
    }

    /// Ends the operation: what is to be written.
    pub(crate) fn finish(self) -> Changes {
        self.changes
    }

    fn change(&mut self, key: &Bytes, newest: Option<Bytes>, record: Option<Bytes>) {
        let place = self.changes.made;
        self.changes.made = place.saturating_add(1);
        match self.changes.keys.get_mut(key) {
            Some(change) => {
                change.record = record;
                change.place = place;
            }
            // Nothing has changed the key yet, so its newest record is the store's.
            None => {
                let change = Change { before: newest, record, place };
                self.changes.keys.insert(key.clone(), change);
            }
        }
    }

    /// Counts one key or version looked at; false when there were too many.
    pub(crate) fn look(&self) -> bool {
        let left = self.work.get();
        self.work.set(left.saturating_sub(1));
        left > 0
    }

    /// The records that were the newest at `revision`; false when there were too many to look at.
    fn past_of_span(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        revision: i64,
        visit: &mut dyn FnMut(&Bytes),
    ) -> bool {
        let Some(superseded) = self.superseded(from, to, revision) else { return false };
        let mut superseded = superseded.iter().peekable();
        let enough = self.scan_current(from, to, &mut |key, record| {
            while let Some(gone) = superseded.next_if(|old| Record::read(old).key < key) {
                visit(gone);
            }
            let old = superseded.next_if(|old| Record::read(old).key == key);
            if Record::read(record).mod_revision <= revision {
                visit(record);
            } else {
                old.into_iter().for_each(&mut *visit);
            }
        });
        if enough {
            superseded.for_each(visit);
        }
        enough
    }

    /// Of each key the newest version that is not after `revision`, without those that are deletions; none when there
    /// were too many to look at.
    fn superseded(&self, from: &[u8], to: Option<&[u8]>, revision: i64) -> Option<Vec<Bytes>> {
        let (from, to) = version_bounds(from, to);
        let (from, to) = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let mut found: Vec<Bytes> = Vec::new();
        // A key's versions come oldest first: the last one that is not after the revision counts.
        let mut last: Vec<u8> = Vec::new();
        let mut enough = true;
        self.store.scan(from, to, false, &mut |store_key, version| {
            enough = self.look();
            let (prefix, written) = split_version_key(store_key);
            if written <= revision {
                if last == prefix {
                    found.pop();
                } else {
                    last = prefix.to_vec();
                }
                found.push(version.clone());
            }
            enough
        });
        found.retain(|version| !version.is_empty());
        enough.then_some(found)
    }

    /// The store's current records, each with its key; false when there were too many to look at.
    fn scan_current(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &Bytes),
    ) -> bool {
        let (from, to) = current_bounds(from, to);
        let (from, to) = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let mut enough = true;
        self.store.scan(from, to, false, &mut |store_key, record| {
            visit(key_of_current(store_key), record);
            enough = self.look();
            enough
        });
        enough
    }

    /// The store's current records with the operation's own changes merged in; false when there were too many.
    fn newest_of_span(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&Bytes),
    ) -> bool {
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut own = self.changes.keys.range::<[u8], _>((Bound::Included(from), end)).peekable();
        let mut enough = self.scan_current(from, to, &mut |key, record| {
            while let Some((_, change)) = own.next_if(|(own, _)| &own[..] < key) {
                self.look();
                change.record.iter().for_each(&mut *visit);
            }
            match own.next_if(|(own, _)| &own[..] == key) {
                Some((_, change)) => change.record.iter().for_each(&mut *visit),
                None => visit(record),
            }
        });
        // Changes count too: one transaction can make thousands, and read each of them thousands of times.
        for (_, change) in own {
            enough = enough && self.look();
            if !enough {
                break;
            }
            change.record.iter().for_each(&mut *visit);
        }
        enough
    }
}

/// What an operation has changed.
#[derive(Default)]
pub(crate) struct Changes {
    keys: BTreeMap<Bytes, Change>,
    /// How many changes to keys were made.
    made: u32,
    lease: Option<LeaseChange>,
    compacted: Option<i64>,
}

impl Changes {
    /// How many keys have changed.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Writes the changes, those to keys as one revision if there are any.
    pub(crate) fn write(self, ledger: &mut Ledger<'_>) {
        if !self.keys.is_empty() {
            ledger.meta.revision += 1;
        }
        let revision = ledger.meta.revision;
        for (key, change) in self.keys {
            write_change(ledger, &key, revision, change);
        }
        if let Some(LeaseChange { id, before, after }) = self.lease {
            write_lease(ledger, id, before, after);
        }
        if let Some(revision) = self.compacted {
            compaction::forget_before(ledger, revision);
        }
    }
}

fn write_lease(ledger: &mut Ledger<'_>, id: i64, before: Option<Lease>, after: Option<Lease>) {
    let encoded = |lease: &Lease| Bytes::from(lease.to_bytes());
    match (&before, &after) {
        (None, Some(after)) => ledger.add(&lease_key(id), encoded(after)),
        (Some(before), Some(after)) => {
            ledger.replace(&lease_key(id), encoded(before).len(), encoded(after));
        }
        (Some(before), None) => ledger.remove(&lease_key(id), encoded(before).len()),
        (None, None) => {}
    }
    if let Some(before) = before {
        ledger.remove(&expiry_key(before.expires, id), 0);
    }
    if let Some(after) = after {
        ledger.add(&expiry_key(after.expires, id), Bytes::default());
    }
}

/// Lets a key hang on the lease that its record names, and no more on the one that its record named before.
fn write_attachment(
    ledger: &mut Ledger<'_>,
    key: &[u8],
    before: Option<&[u8]>,
    now: Option<&[u8]>,
) {
    let lease = |record: Option<&[u8]>| record.map_or(0, |record| Record::read(record).lease);
    let (before, now) = (lease(before), lease(now));
    if before != now {
        if before != 0 {
            ledger.remove(&attachment_key(before, key), 0);
        }
        if now != 0 {
            ledger.add(&attachment_key(now, key), Bytes::default());
        }
    }
}

/// Writes what `revision` made of one key, and files what it was before.
fn write_change(ledger: &mut Ledger<'_>, key: &[u8], revision: i64, change: Change) {
    let Change { before, record, place } = change;
    write_attachment(ledger, key, before.as_deref(), record.as_deref());
    let current_key = current_key(key);
    ledger.add(&change_key(key, revision, place), Bytes::default());
    let was = before.as_ref().map(|before| before.len());
    if let Some(before) = before {
        let written = Record::read(&before).mod_revision;
        ledger.add(&version_key(key, written), before);
    }
    if record.is_none() {
        ledger.add(&version_key(key, revision), Bytes::default());
    }
    match (was, record) {
        (Some(was), Some(record)) => ledger.replace(&current_key, was, record),
        (None, Some(record)) => {
            ledger.add(&current_key, record);
            ledger.meta.keys += 1;
        }
        (Some(was), None) => {
            ledger.remove(&current_key, was);
            ledger.meta.keys -= 1;
        }
        // Put and deleted again by one transaction.
        (None, None) => {}
    }
}
