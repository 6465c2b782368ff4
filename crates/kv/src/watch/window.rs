//! The latest changes, shared by all watches.
//!
//! A hundred watches of one key are told of a put out of one look at the store. Records before a change are looked up
//! when the first watch asks for them, and kept for the next.

use crate::history::{Change, record_before};
use crate::operation::Bytes;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_contracts::Reading;

/// All changes of one revision, in order of keys.
pub(super) type Changes = Arc<[Change]>;

/// A record before a change, once it has been looked up.
#[derive(Clone, Debug)]
enum Previous {
    Unknown,
    Known(Option<Bytes>),
}

#[derive(Debug)]
struct Entry {
    changes: Changes,
    /// One for each change; nothing at all as long as nobody has asked.
    previous: Vec<Previous>,
    bytes: usize,
}

/// The changes of the latest revisions, without a gap up to the newest.
#[derive(Debug)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    /// The revision of the first entry.
    first: i64,
    bytes: usize,
    most_entries: usize,
    most_bytes: usize,
}

impl Window {
    pub(super) const fn new(most_entries: usize, most_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), first: 0, bytes: 0, most_entries, most_bytes }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Adds the changes of the next revision, of which there is at least one, and forgets the oldest ones beyond the
    /// limits. The newest revision is kept however large it is.
    pub(super) fn push(&mut self, changes: &[Change]) {
        let Some(revision) = changes.first().map(|change| change.revision) else { return };
        if self.first + self.entries.len() as i64 != revision {
            self.clear();
        }
        if self.entries.is_empty() {
            self.first = revision;
        }
        let bytes = changes.iter().map(size).sum();
        self.bytes += bytes;
        self.entries.push_back(Entry { changes: changes.into(), previous: Vec::new(), bytes });
        while self.entries.len() > 1
            && (self.entries.len() > self.most_entries || self.bytes > self.most_bytes)
        {
            self.first += 1;
            self.bytes -= self.entries.pop_front().map_or(0, |entry| entry.bytes);
        }
    }

    /// What a revision has changed, if the window still holds it.
    pub(super) fn get(&self, revision: i64) -> Option<&Changes> {
        self.entries.get(self.at(revision)?).map(|entry| &entry.changes)
    }

    /// The record before a change, which is the one at `index` within its revision.
    pub(super) fn previous(
        &mut self,
        store: &dyn Reading,
        change: &Change,
        index: usize,
    ) -> Option<Bytes> {
        let look_up = || record_before(store, &change.key, change.revision);
        let at = self.at(change.revision);
        let Some(entry) = at.and_then(|at| self.entries.get_mut(at)) else { return look_up() };
        if entry.previous.is_empty() {
            entry.previous.resize(entry.changes.len(), Previous::Unknown);
        }
        match entry.previous.get_mut(index) {
            Some(Previous::Known(record)) => record.clone(),
            Some(unknown) => {
                let record = look_up();
                let bytes = record.as_ref().map_or(0, |record| record.len());
                *unknown = Previous::Known(record.clone());
                entry.bytes += bytes;
                self.bytes += bytes;
                record
            }
            None => look_up(),
        }
    }

    fn at(&self, revision: i64) -> Option<usize> {
        usize::try_from(revision.checked_sub(self.first)?).ok()
    }
}

fn size(change: &Change) -> usize {
    let record = change.record.as_ref().map_or(0, |record| record.len());
    size_of::<Change>() + change.key.len() + record
}
