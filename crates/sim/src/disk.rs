//! A node's disk: a log with an unflushed end, a superblock and snapshots.
//!
//! Writes are durable in the order in which they were asked for, and not before a flush says so. A crash loses the
//! unflushed ones, or keeps the first few of them: a kernel may have written what nobody waited for.
//!
//! What is here are books. They are all that most runs need, and fast; in the others the log that production uses stands
//! beside them ([`log`]), and they are what it is judged by.

mod codec;
mod faults;
mod flawed;
mod harm;
mod log;
mod opening;
mod rot;

pub use codec::Codec;
pub(crate) use faults::Failure;
pub(crate) use rot::Change;

use crate::keys::Purse;
use faults::Faults;
use harm::Image;
use log::Log;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use testudo_core::{Lost, Past, Position, Promise, Protocol, Tag};

/// Something that must become durable in its turn.
#[derive(Clone, Debug)]
pub(crate) enum Write<R> {
    /// A record of the log.
    Record(Position, R),
    /// The superblock.
    Promise(Promise),
}

/// What one node has on disk.
#[derive(Clone)]
pub struct Disk<P: Protocol> {
    /// The two copies of the superblock, each as far as it can be read.
    copies: [Option<Promise>; 2],
    records: BTreeMap<Position, P::Record>,
    /// The newest snapshot, as far as it can be read.
    snapshot: Option<P::Snapshot>,
    /// The one before it, likewise.
    older: Option<P::Snapshot>,
    /// Records that were durable and rotted, with their tags where those are left.
    lost: BTreeMap<Position, Option<Tag>>,
    /// Writes that a flush acknowledged and that never reached the disk. Nobody knows yet.
    unwritten: BTreeSet<Position>,
    is_snapshot_rotten: bool,
    /// Of what was lost, that which the node knows of in this life, and whether it knows of its snapshot.
    known: (BTreeSet<Position>, bool),
    /// The position after the last durable record.
    end: Position,
    /// The position before which everything was forgotten.
    floor: Position,
    /// Voting keys that were made here.
    pub(crate) purse: Purse,
    /// What was on the disk once, for putting it back.
    image: Option<Box<Image<P>>>,
    unflushed: VecDeque<Write<P::Record>>,
    /// Writes of this life that are durable: the gate's mark.
    flushed: u64,
    /// Snapshots asked for and finished in this life.
    asked: u64,
    finished: u64,
    /// Positions below which records may go once that many snapshots are finished.
    forgets: VecDeque<(u64, Position)>,
    /// The real log, where there is one.
    log: Option<Box<Log<P>>>,
    /// What it refuses to do now.
    faults: Faults,
}

/// All that a disk does from here on depends on, but for what was kept of it for putting it back.
impl<P: Protocol> fmt::Debug for Disk<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("copies", &self.copies)
            .field("records", &self.records)
            .field("snapshots", &(&self.snapshot, &self.older, self.is_snapshot_rotten))
            .field("lost", &(&self.lost, &self.unwritten, &self.known))
            .field("ends", &(self.floor, self.end))
            .field("purse", &self.purse.counts())
            .field("unflushed", &self.unflushed)
            .field("counts", &(self.flushed, self.asked, self.finished))
            .field("forgets", &self.forgets)
            .finish_non_exhaustive()
    }
}

impl<P: Protocol> Default for Disk<P> {
    fn default() -> Self {
        Self {
            copies: [None; 2],
            records: BTreeMap::new(),
            snapshot: None,
            older: None,
            lost: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            is_snapshot_rotten: false,
            known: (BTreeSet::new(), false),
            end: Position(0),
            floor: Position(0),
            purse: Purse::default(),
            image: None,
            unflushed: VecDeque::new(),
            flushed: 0,
            asked: 0,
            finished: 0,
            forgets: VecDeque::new(),
            log: None,
            faults: Faults::default(),
        }
    }
}

impl<P: Protocol> Disk<P> {
    /// How many writes wait for a flush.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        self.unflushed.len()
    }

    /// The positions of the durable records.
    pub fn positions(&self) -> impl Iterator<Item = Position> + '_ {
        self.records.keys().copied()
    }

    /// The durable superblock, of whichever copy can be read.
    #[must_use]
    pub fn promise(&self) -> Option<Promise> {
        self.copies[0].max(self.copies[1])
    }

    pub(crate) fn append(&mut self, write: Write<P::Record>) {
        self.unflushed.push_back(write);
    }

    /// Makes all writes up to the gate's `mark` durable and says how many that were.
    pub(crate) fn flush(&mut self, mark: u64) -> Result<usize, Failure> {
        let count = mark.saturating_sub(self.flushed) as usize;
        match &mut self.log {
            Some(log) => {
                if let Err(failure) = log.write(self.unflushed.iter().take(count)) {
                    self.faults.fired(&log.bytes);
                    return Err(failure);
                }
            }
            None => self.faults.refuse()?,
        }
        Ok(self.harden(count))
    }

    fn harden(&mut self, count: usize) -> usize {
        let count = count.min(self.unflushed.len());
        for write in self.unflushed.drain(..count) {
            match write {
                Write::Record(position, record) => {
                    self.end = position.next();
                    self.records.insert(position, record);
                }
                Write::Promise(promise) => {
                    let before = self.copies[0].max(self.copies[1]);
                    assert!(before <= Some(promise), "{before:?} is taken back for {promise:?}");
                    self.copies = [Some(promise); 2];
                }
            }
        }
        self.flushed += count as u64;
        self.apply_forgets();
        count
    }

    pub(crate) fn ask_snapshot(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    pub(crate) fn finish_snapshot(
        &mut self,
        number: u64,
        snapshot: P::Snapshot,
    ) -> Result<(), Failure> {
        // Snapshots may finish in any order; an older one must not replace a newer one.
        if number <= self.finished {
            return Ok(());
        }
        match &mut self.log {
            Some(log) => {
                if let Err(failure) = log.archive(&snapshot) {
                    self.faults.fired(&log.bytes);
                    return Err(failure);
                }
            }
            None => self.faults.refuse()?,
        }
        self.finished = number;
        // The last two are kept, whether or not they can be read.
        self.older = self.snapshot.replace(snapshot);
        self.is_snapshot_rotten = false;
        self.known.1 = false;
        self.apply_forgets();
        Ok(())
    }

    /// Lets go of the records before a position, once all snapshots that were asked for are durable; or without waiting
    /// for them, if it is that careless.
    pub(crate) fn forget(&mut self, before: Position, is_careless: bool) {
        let needs = if is_careless { 0 } else { self.asked };
        self.forgets.push_back((needs, before));
        self.apply_forgets();
    }

    fn apply_forgets(&mut self) {
        while let Some((needs, before)) = self.forgets.front().copied() {
            if needs > self.finished {
                break;
            }
            self.forgets.pop_front();
            self.records = self.records.split_off(&before);
            self.lost = self.lost.split_off(&before);
            self.unwritten = self.unwritten.split_off(&before);
            self.floor = self.floor.max(before);
            if let Some(log) = &mut self.log {
                log.forget = Some(self.floor);
            }
        }
    }

    pub(crate) fn recall(&self, position: Position) -> Option<P::Record> {
        let unflushed = self.unflushed.iter().find_map(|write| match write {
            Write::Record(at, record) if *at == position => Some(record.clone()),
            _ => None,
        });
        unflushed.or_else(|| match &self.log {
            Some(log) => log.recall(position),
            None => self.records.get(&position).cloned(),
        })
    }

    /// The power fails: of what was not flushed, the first `keep` writes are there all the same, and of those after them, and
    /// of a snapshot that was being written, whatever a real log leaves. Says how many are not.
    pub(crate) fn crash(&mut self, keep: usize, snapshot: Option<&P::Snapshot>) -> usize {
        let keep = keep.min(self.unflushed.len());
        let is_kept = match &mut self.log {
            Some(log) => log.crash(&self.unflushed, keep, snapshot),
            None => true,
        };
        self.harden(if is_kept { keep } else { 0 });
        let lost = self.unflushed.len();
        self.unflushed.clear();
        self.forgets.clear();
        self.faults.disarm();
        (self.flushed, self.asked, self.finished) = (0, 0, 0);
        lost
    }

    /// What the node finds when it starts, and the position that its next record gets.
    fn past(&self) -> (Past<P::Snapshot, P::Record>, Position) {
        let snapshot = self.snapshot.as_ref().or(self.older.as_ref());
        let records = self.records.iter().filter_map(|(position, record)| {
            Some((*position, P::keep(snapshot, *position, record.clone())?))
        });
        let mut lost: Vec<Lost> =
            self.lost.iter().map(|(at, tag)| Lost { position: *at, tag: *tag }).collect();
        if self.floor > snapshot.map_or(Position(0), P::covered) {
            lost.push(Lost { position: self.end, tag: None });
        }
        let past = Past {
            promise: self.promise(),
            snapshot: snapshot.cloned(),
            records: records.collect(),
            lost,
        };
        (past, self.end)
    }
}
