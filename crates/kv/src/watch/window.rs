//! The latest changes, shared by all watches.
//!
//! A hundred watches of one key are told of a put out of one look at the store. Records before a change are looked up
//! when the first watch asks for them, and kept for the next.

use crate::history::{Change, record_before};
use crate::operation::Bytes;
use crate::watch::index::Span;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use testudo_contracts::Reading;

/// All changes of one revision, in order of operations.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    list: Arc<[Change]>,
    /// Their places in order of keys, unless that is the same order.
    by_key: Option<Arc<[u32]>>,
}

impl Changes {
    pub(super) fn new(changes: &[Change]) -> Self {
        let list: Arc<[Change]> = changes.into();
        let by_key = (!list.is_sorted_by(|a, b| a.key < b.key)).then(|| {
            // A revision has fewer changes than a message or a lease has keys in memory.
            let mut places: Vec<u32> = (0..list.len() as u32).collect();
            places.sort_by(|a, b| list[*a as usize].key.cmp(&list[*b as usize].key));
            places.into()
        });
        Self { list, by_key }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Change] {
        &self.list
    }

    /// Where the changes of a span's keys lie, in order of operations.
    pub(super) fn within(&self, span: &Span) -> Places {
        match &self.by_key {
            None => {
                let left = span.within(&self.list, |change, key| change.key[..].cmp(key));
                Places { picked: None, left }
            }
            Some(by_key) => {
                let found =
                    span.within(by_key, |place, key| self.list[*place as usize].key[..].cmp(key));
                let mut picked = by_key[found].to_vec();
                picked.sort_unstable();
                Places { left: 0..picked.len(), picked: Some(picked.into()) }
            }
        }
    }
}

/// Places of changes within a revision, in order.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The places, if they are no run.
    picked: Option<Arc<[u32]>>,
    left: Range<usize>,
}

impl Places {
    /// Lets the place that was given last come again.
    pub(super) const fn put_back(&mut self) {
        self.left.start = self.left.start.saturating_sub(1);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.left.start >= self.left.end
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let at = self.left.next()?;
        match &self.picked {
            None => Some(at),
            Some(picked) => picked.get(at).map(|place| *place as usize),
        }
    }
}

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
        self.entries.push_back(Entry {
            changes: Changes::new(changes),
            previous: Vec::new(),
            bytes,
        });
        self.evict();
    }

    /// Forgets the oldest revisions beyond the limits, but never the newest.
    fn evict(&mut self) {
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
            entry.previous.resize(entry.changes.all().len(), Previous::Unknown);
        }
        match entry.previous.get_mut(index) {
            Some(Previous::Known(record)) => record.clone(),
            Some(unknown) => {
                let record = look_up();
                let bytes = record.as_ref().map_or(0, |record| record.len());
                *unknown = Previous::Known(record.clone());
                entry.bytes += bytes;
                self.bytes += bytes;
                self.evict();
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
