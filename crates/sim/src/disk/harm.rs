//! What goes wrong with a disk beyond losing what nobody had waited for.
//!
//! A disk tells no lies here that a real one could not tell: what it lost in the midst of a log is found out at the next
//! start, as what stands behind it shows that something had been there; what it lost at the log's end looks as if it had
//! never been written, and nothing on the disk says otherwise.

use super::Disk;
use super::faults::Failure;
use super::log::Log;
use crate::atlas::Harm;
use crate::keys::Purse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use testudo_core::{Lost, Position, Promise, Protocol, Rot, Slot, Tag, Tagged as _};

/// What is on a disk at one moment, for putting it back later.
#[derive(Clone)]
pub(super) struct Image<P: Protocol> {
    copies: [Option<Promise>; 2],
    records: BTreeMap<Position, P::Record>,
    snapshot: Option<P::Snapshot>,
    older: Option<P::Snapshot>,
    lost: BTreeMap<Position, Option<Tag>>,
    unwritten: BTreeSet<Position>,
    end: Position,
    floor: Position,
    purse: Purse,
    log: Option<Box<Log<P>>>,
}

impl<P: Protocol> Disk<P> {
    /// Whether everything that was ever durable and is not forgotten can be read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_log_whole() && !self.is_snapshot_rotten && self.copies[0] == self.copies[1]
    }

    /// Whether no record is missing that is not forgotten.
    #[must_use]
    pub fn is_log_whole(&self) -> bool {
        self.lost.is_empty() && self.unwritten.is_empty()
    }

    /// How many records the log holds.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// A record.
    #[must_use]
    pub fn record(&self, position: Position) -> Option<&P::Record> {
        self.records.get(&position)
    }

    /// Whether both copies of the superblock can be read.
    #[must_use]
    pub fn has_both_copies(&self) -> bool {
        let is_torn = self.log.as_ref().is_some_and(|log| log.torn_copies != [false; 2]);
        !is_torn && self.copies.iter().all(Option::is_some)
    }

    /// The records about what the node has said on slots.
    pub fn votes(&self) -> impl Iterator<Item = (Slot, Position)> + '_ {
        self.records.iter().filter_map(|(position, record)| match record.tag() {
            Tag::Vote(slot) => Some((slot, *position)),
            _ => None,
        })
    }

    /// Whether no snapshot has rotted since the last one that was written.
    #[must_use]
    pub const fn is_snapshot_whole(&self) -> bool {
        !self.is_snapshot_rotten
    }

    /// A durable record rots: itself alone, or its tag with it. True if there was one.
    pub(crate) fn rot(&mut self, position: Position, keeps_tag: bool) -> bool {
        if let Some(log) = self.log.as_mut().filter(|_| self.records.contains_key(&position)) {
            log.rot(position, keeps_tag);
            self.assess(false, None);
            return !self.records.contains_key(&position);
        }
        let Some(record) = self.records.remove(&position) else { return false };
        self.lost.insert(position, keeps_tag.then(|| record.tag()));
        true
    }

    /// A write that a flush acknowledged never reached the disk. True if there was one.
    pub(crate) fn lose(&mut self, position: Position) -> bool {
        if let Some(log) = self.log.as_mut().filter(|_| self.records.contains_key(&position)) {
            log.lose(position);
            self.assess(true, None);
            return !self.records.contains_key(&position);
        }
        self.records.remove(&position).is_some() && self.unwritten.insert(position)
    }

    /// A write went to the place of another record: it is missing in its own, and what stood there is gone, and its tag
    /// with it. True if both were there.
    pub(crate) fn misdirect(&mut self, from: Position, onto: Position) -> bool {
        let are_there = [from, onto].iter().all(|at| self.records.contains_key(at));
        if from == onto || !are_there {
            return false;
        }
        if let Some(log) = &mut self.log {
            log.misdirect(from, onto);
            self.assess(true, None);
            return true;
        }
        self.lose(from) && self.rot(onto, false)
    }

    /// The newest snapshot that can be read rots. True if there was one.
    pub(crate) fn rot_snapshot(&mut self) -> bool {
        let is_newest = self.snapshot.is_some();
        let is_there = self.snapshot.take().or_else(|| self.older.take()).is_some();
        if is_there {
            (self.is_snapshot_rotten, self.known.1) = (true, false);
            if let Some(log) = &mut self.log
                && let Some(number) = log.numbers[usize::from(!is_newest)]
            {
                log.rot_snapshot(number);
            }
        }
        is_there
    }

    /// A copy of the superblock, the first or the second, cannot be read any more. True if there was one.
    pub(crate) fn lose_copy(&mut self, second: bool) -> bool {
        if let Some(log) = &mut self.log {
            log.lose_copy(second);
        }
        self.copies[usize::from(second)].take().is_some()
    }

    /// One of the next changes to the disk fails.
    pub(crate) fn fail(&mut self, after: u64) {
        self.faults.fail(after, self.log.as_ref().map(|log| &log.bytes));
    }

    /// There is no space until then.
    pub(crate) fn fill(&mut self, until: Duration) {
        self.faults.fill(until, self.log.as_ref().map(|log| &log.bytes));
    }

    /// Flushes take so many times as long until then.
    pub(crate) fn slow(&mut self, times: u32, until: Duration) {
        self.faults.slow(times, until);
    }

    /// How many times as long as usual a flush takes now.
    pub(crate) fn slowness(&self, now: Duration) -> u32 {
        self.faults.slowness(now)
    }

    /// Time has passed: there may be space again.
    pub(crate) fn settle(&mut self, now: Duration) {
        self.faults.settle(now, self.log.as_ref().map(|log| &log.bytes));
    }

    /// It refuses nothing any more.
    pub(crate) fn relent(&mut self) {
        self.faults.end(self.log.as_ref().map(|log| &log.bytes));
    }

    /// How often it refused something because of this harm.
    #[must_use]
    pub fn refused(&self, harm: Harm) -> u64 {
        self.faults.refused(harm)
    }

    /// Whether it refuses nothing.
    #[must_use]
    pub fn is_sound(&self, now: Duration) -> bool {
        self.faults.is_sound(now)
    }

    /// The disk is replaced by an empty one.
    pub(crate) fn wipe(&mut self) {
        let image = self.image.take();
        let log = self.log.as_ref().map(|log| Box::new(log.emptied()));
        *self = Self { image, log, faults: self.faults.relieved(), ..Self::default() };
    }

    /// Keeps what is on the disk now.
    pub(crate) fn keep_image(&mut self) {
        self.image = Some(Box::new(Image {
            copies: self.copies,
            records: self.records.clone(),
            snapshot: self.snapshot.clone(),
            older: self.older.clone(),
            lost: self.lost.clone(),
            unwritten: self.unwritten.clone(),
            end: self.end,
            floor: self.floor,
            purse: self.purse.clone(),
            log: self.log.as_ref().map(|log| Box::new(log.at_rest())),
        }));
    }

    /// Puts back what was kept. True if something was.
    pub(crate) fn restore_image(&mut self) -> bool {
        let Some(image) = self.image.take() else { return false };
        let Image { copies, records, snapshot, older, lost, unwritten, end, floor, purse, log } =
            *image;
        *self = Self {
            copies,
            records,
            snapshot,
            older,
            lost,
            unwritten,
            end,
            floor,
            purse,
            log,
            faults: self.faults.relieved(),
            ..Self::default()
        };
        true
    }

    /// What a driver does when it opens a disk: it writes a superblock's lost copy again from the other, and learns what is
    /// missing in the midst of the log. What is missing at its end was never there, as far as it can tell.
    pub(super) fn mend(&mut self) {
        self.copies = [self.promise(); 2];
        if !self.unwritten.is_empty() {
            self.find_gaps();
            let last = self.records.keys().chain(self.lost.keys()).max().map(|last| last.next());
            self.end = last.unwrap_or_default().max(self.floor);
            self.unwritten.clear();
        }
        self.known = (self.lost.keys().copied().collect(), true);
    }

    /// What no driver should do: the log ends before the first record that cannot be read.
    pub(super) fn truncate(&mut self) {
        self.find_gaps();
        if let Some(first) = self.lost.keys().next().copied() {
            self.records.split_off(&first);
            self.lost.clear();
            self.end = first;
        }
    }

    /// What is missing with something behind it is known to have been there, and nothing else of it.
    fn find_gaps(&mut self) {
        let Some(last) = self.records.keys().chain(self.lost.keys()).max().copied() else { return };
        let later = self.unwritten.split_off(&last);
        let gaps = std::mem::replace(&mut self.unwritten, later);
        self.lost.extend(gaps.into_iter().map(|position| (position, None)));
    }

    /// Reads everything again, mends the superblock, and says what is lost that the node does not know of in this life.
    pub(crate) fn scrub(&mut self) -> Result<Vec<Rot>, Failure> {
        if let Some(log) = &mut self.log {
            let found = match log.scrub() {
                Ok(found) => found,
                Err(failure) => {
                    self.faults.fired(&log.bytes);
                    return Err(failure);
                }
            };
            self.copies = [self.promise(); 2];
            return Ok(found);
        }
        self.copies = [self.promise(); 2];
        self.find_gaps();
        let (records, is_snapshot_known) = &mut self.known;
        let mut found = Vec::new();
        for (position, tag) in &self.lost {
            if records.insert(*position) {
                found.push(Rot::Record(Lost { position: *position, tag: *tag }));
            }
        }
        if self.is_snapshot_rotten && !*is_snapshot_known {
            *is_snapshot_known = true;
            found.push(Rot::Snapshot);
        }
        Ok(found)
    }
}
