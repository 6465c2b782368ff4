//! The revision that an operation is about to make.
//!
//! An operation reads the store through its draft and writes into the draft alone: what it has changed so far is what
//! it reads. Only when it has succeeded to the last are the changes written out, at once and with nothing left that
//! could fail. So an operation that is refused half-way, for whatever reason, leaves no trace.

use crate::error::Error;
use crate::history::{
    Keys, Meta, current_bounds, current_key, key_of_current, split_version_key, version_bounds,
    version_key,
};
use crate::operation::Bytes;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Bound;
use testudo_contracts::{Reading, Store};

/// How many keys and versions one operation may look at. Beyond it is refused with [`Error::TooMuchWork`]: a request
/// of a few bytes may look at the whole store, and a transaction of thousands of such requests would hold up everyone.
/// One request can still look through a store of 8 GiB, etcd's largest suggested, if its records average 512 bytes.
pub const WORK: u64 = 1 << 24;

/// What has become of a key.
#[derive(Debug)]
struct Change {
    /// Whether the store has the key.
    existed: bool,
    /// Its record now; none if it is deleted.
    record: Option<Bytes>,
}

/// The store as an operation sees it, with what the operation has changed.
pub(crate) struct Draft<'a> {
    store: &'a dyn Reading,
    meta: Meta,
    changes: BTreeMap<Bytes, Change>,
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
    /// Begins an operation.
    pub(crate) fn new(store: &'a dyn Reading) -> Self {
        Self { store, meta: Meta::read(store), changes: BTreeMap::new(), work: Cell::new(WORK) }
    }

    /// The store's meta entry as it was before the operation.
    pub(crate) const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The store's revision if the operation ended now.
    pub(crate) fn revision(&self) -> i64 {
        if self.changes.is_empty() { self.meta.revision } else { self.next_revision() }
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
        Ok(match self.changes.get(key) {
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
                self.past_of_one(key, revision, visit);
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

    /// Sets the record of `key`.
    pub(crate) fn put(&mut self, key: &Bytes, record: Bytes) {
        self.change(key, Some(record));
    }

    /// Deletes `key`, which exists.
    pub(crate) fn delete(&mut self, key: &Bytes) {
        self.change(key, None);
    }

    /// Ends the operation: what is to be written.
    pub(crate) fn finish(self) -> Changes {
        Changes { meta: self.meta, changes: self.changes }
    }

    fn change(&mut self, key: &Bytes, record: Option<Bytes>) {
        if let Some(change) = self.changes.get_mut(key) {
            change.record = record;
        } else {
            // A put of a key that the store has bears a version above 1, and only what exists is deleted.
            let existed = record
                .as_ref()
                .is_none_or(|record| crate::history::Record::read(record).version > 1);
            self.changes.insert(key.clone(), Change { existed, record });
        }
    }

    /// Counts one key or version looked at; false when there were too many.
    fn look(&self) -> bool {
        let left = self.work.get();
        self.work.set(left.saturating_sub(1));
        left > 0
    }

    /// The newest version of `key` that is not after `revision`.
    fn past_of_one(&self, key: &[u8], revision: i64, visit: &mut dyn FnMut(&Bytes)) {
        let (from, to) = (version_key(key, 0), version_key(key, revision));
        let (from, to) = (Bound::Included(&from[..]), Bound::Included(&to[..]));
        self.store.scan(from, to, true, &mut |_, version| {
            if !version.is_empty() {
                visit(version);
            }
            false
        });
    }

    /// The newest versions that are not after `revision`, of each key; false when there were too many to look at.
    fn past_of_span(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        revision: i64,
        visit: &mut dyn FnMut(&Bytes),
    ) -> bool {
        let (from, to) = version_bounds(from, to);
        let (from, to) = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        // A key's versions come oldest first: which one counts is known when another key begins, or none.
        let mut candidate: Option<(Vec<u8>, Bytes)> = None;
        let mut finish = |candidate: Option<(Vec<u8>, Bytes)>| {
            if let Some((_, version)) = candidate.filter(|(_, version)| !version.is_empty()) {
                visit(&version);
            }
        };
        let mut enough = true;
        self.store.scan(from, to, false, &mut |store_key, version| {
            enough = self.look();
            let (prefix, written) = split_version_key(store_key);
            if written <= revision {
                match &mut candidate {
                    Some((key, newest)) if key == prefix => newest.clone_from(version),
                    _ => finish(candidate.replace((prefix.to_vec(), version.clone()))),
                }
            }
            enough
        });
        finish(candidate);
        enough
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
        let mut own = self.changes.range::<[u8], _>((Bound::Included(from), end)).peekable();
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
pub(crate) struct Changes {
    meta: Meta,
    changes: BTreeMap<Bytes, Change>,
}

impl Changes {
    /// Writes the changes, as one revision if there are any.
    pub(crate) fn write(self, store: &mut dyn Store) {
        if self.changes.is_empty() {
            return;
        }
        let mut meta = self.meta;
        meta.revision += 1;
        for (key, Change { existed, record }) in self.changes {
            let current_key = current_key(&key);
            let version_key = version_key(&key, meta.revision);
            meta.bytes +=
                (version_key.len() + record.as_ref().map_or(0, |record| record.len())) as u64;
            match (existed, &record) {
                (false, Some(_)) => {
                    meta.keys += 1;
                    meta.bytes += current_key.len() as u64;
                }
                (true, None) => {
                    meta.keys -= 1;
                    meta.bytes -= current_key.len() as u64;
                }
                (false, None) | (true, Some(_)) => {}
            }
            match &record {
                Some(record) => store.put(&current_key, record.clone()),
                None if existed => assert!(store.delete(&current_key), "what exists is there"),
                None => {}
            }
            store.put(&version_key, record.unwrap_or_default());
        }
        meta.write(store);
    }
}
