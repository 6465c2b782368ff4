//! What befalls a node's disk and memory. [`crate::atlas`] says what is promised all the same.

use super::{System, World, each_host};
use crate::atlas::{Condition, Findings, Harm};
use crate::disk::{Change, Failure};
use crate::event::{Event, NodeId};
use crate::rng::{Chance, Rng};
use crate::step::{Injury, Step};
use std::time::Duration;
use testudo_core::{Position, Slot};

/// Does something to a node's disk, whatever the node is.
macro_rules! on_disk {
    ($world:ident, $node:expr, $disk:ident => $do:expr) => {
        each_host!(&mut $world.nodes[$node.index()].body, host => {
            let $disk = &mut host.disk;
            $do
        })
    };
}

impl<S: System> World<S> {
    /// The positions of a node's durable records.
    #[must_use]
    pub fn positions(&self, node: NodeId) -> Vec<Position> {
        each_host!(&self.nodes[node.index()].body, host => host.disk().positions().collect())
    }

    /// A node's durable records about what it has said on slots, by slot.
    #[must_use]
    pub fn votes(&self, node: NodeId) -> Vec<(Slot, Position)> {
        let mut votes = each_host!(
            &self.nodes[node.index()].body, host => host.disk().votes().collect::<Vec<_>>());
        votes.sort_unstable();
        votes
    }

    /// How a record of a node's log prints, if there is one at this position.
    #[must_use]
    pub fn show_record(&self, node: NodeId, position: Position) -> Option<String> {
        each_host!(&self.nodes[node.index()].body, host => {
            host.disk().record(position).map(|record| format!("{record:?}"))
        })
    }

    fn note_harm(&mut self, node: NodeId, harm: Harm, happened: bool) -> bool {
        if happened {
            self.record(&Event::Harmed(node, harm));
        }
        happened
    }

    /// A durable record of a node rots; it is found at the next start, with the record's tag.
    pub fn rot(&mut self, node: NodeId, position: Position) -> bool {
        self.take_down_harm(node, Injury::Record(position));
        let rotted = on_disk!(self, node, disk => disk.rot(position, true));
        self.note_harm(node, Harm::Record, rotted)
    }

    /// A durable record of a node rots together with its tag: at the next start nobody knows what it was about.
    pub fn rot_wholly(&mut self, node: NodeId, position: Position) -> bool {
        self.take_down_harm(node, Injury::RecordAndTag(position));
        let rotted = on_disk!(self, node, disk => disk.rot(position, false));
        self.note_harm(node, Harm::RecordAndTag, rotted)
    }

    /// A write that a flush acknowledged never reached a node's disk.
    pub fn lose_write(&mut self, node: NodeId, position: Position) -> bool {
        self.take_down_harm(node, Injury::Write(position));
        let lost = on_disk!(self, node, disk => disk.lose(position));
        self.note_harm(node, Harm::LostWrite, lost)
    }

    /// A write of a node went to the place of another record.
    pub fn misdirect(&mut self, node: NodeId, from: Position, onto: Position) -> bool {
        self.take_down_harm(node, Injury::Misdirected(from, onto));
        let happened = on_disk!(self, node, disk => disk.misdirect(from, onto));
        self.note_harm(node, Harm::Misdirected, happened)
    }

    /// A node's newest snapshot that can be read rots.
    pub fn rot_snapshot(&mut self, node: NodeId) -> bool {
        self.take_down_harm(node, Injury::Snapshot);
        let rotted = on_disk!(self, node, disk => disk.rot_snapshot());
        self.note_harm(node, Harm::Snapshot, rotted)
    }

    /// A value in a replica's memory becomes another one, if it runs and its system can bring that about.
    pub fn rot_memory(&mut self, node: NodeId, draw: u64) -> bool {
        self.take_down_harm(node, Injury::Memory(draw));
        let rotted = self.is_up(node) && self.system.rot_memory(node, draw);
        self.note_harm(node, Harm::Memory, rotted)
    }

    /// A copy of a node's superblock is lost, the first or the second.
    pub fn lose_superblock_copy(&mut self, node: NodeId, second: bool) -> bool {
        self.take_down_harm(node, Injury::SuperblockCopy(second));
        let lost = on_disk!(self, node, disk => disk.lose_copy(second));
        self.note_harm(node, Harm::SuperblockCopy, lost)
    }

    /// Both copies of a node's superblock are lost.
    pub fn lose_superblock(&mut self, node: NodeId) -> bool {
        self.take_down_harm(node, Injury::Superblock);
        let lost = on_disk!(self, node, disk => disk.lose_copy(false) | disk.lose_copy(true));
        self.note_harm(node, Harm::Superblock, lost)
    }

    /// The disk of a node that is down is replaced by an empty one.
    pub fn wipe(&mut self, node: NodeId) -> bool {
        self.take_down_harm(node, Injury::Wiped);
        let is_down = !self.is_up(node);
        if is_down {
            on_disk!(self, node, disk => disk.wipe());
        }
        self.note_harm(node, Harm::Wiped, is_down)
    }

    /// Keeps what is on a node's disk now, for [`World::restore_image`].
    pub fn keep_image(&mut self, node: NodeId) {
        self.take_down(|world| Some(Step::Image(world.who(node))));
        on_disk!(self, node, disk => disk.keep_image());
    }

    /// The disk of a node that is down is again what it was when it was kept.
    pub fn restore_image(&mut self, node: NodeId) -> bool {
        self.take_down_harm(node, Injury::OldImage);
        let restored = !self.is_up(node) && on_disk!(self, node, disk => disk.restore_image());
        self.note_harm(node, Harm::OldImage, restored)
    }

    /// A bit somewhere on a node's disk becomes another; a number says which.
    pub fn flip_bit(&mut self, node: NodeId, draw: u64) -> bool {
        self.take_down_harm(node, Injury::FlippedBit(draw));
        let changed = on_disk!(self, node, disk => disk.change(Change::Bit, draw));
        self.note_harm(node, Harm::FlippedBit, changed)
    }

    /// A sector somewhere on a node's disk becomes noise; a number says which.
    pub fn lose_sector(&mut self, node: NodeId, draw: u64) -> bool {
        self.take_down_harm(node, Injury::LostSector(draw));
        let changed = on_disk!(self, node, disk => disk.change(Change::Sector, draw));
        self.note_harm(node, Harm::LostSector, changed)
    }

    /// A run of bytes somewhere on a node's disk becomes zeros; a number says which.
    pub fn zero_run(&mut self, node: NodeId, draw: u64) -> bool {
        self.take_down_harm(node, Injury::ZeroedRun(draw));
        let changed = on_disk!(self, node, disk => disk.change(Change::Zeros, draw));
        self.note_harm(node, Harm::ZeroedRun, changed)
    }

    /// A page somewhere on a node's disk cannot be read any more; a number says which.
    pub fn fail_sector(&mut self, node: NodeId, draw: u64) -> bool {
        self.take_down_harm(node, Injury::UnreadableSector(draw));
        let changed = on_disk!(self, node, disk => disk.change(Change::Page, draw));
        self.note_harm(node, Harm::UnreadableSector, changed)
    }

    /// After so many more changes to a node's disk one fails, and the node stops.
    pub fn fail_disk(&mut self, node: NodeId, after: u64) -> bool {
        self.take_down_harm(node, Injury::FailedFlush(after));
        let is_up = self.is_up(node);
        if is_up {
            on_disk!(self, node, disk => disk.fail(after));
        }
        self.note_harm(node, Harm::FailedFlush, is_up)
    }

    /// For so long a node's disk has no space.
    pub fn fill_disk(&mut self, node: NodeId, lasts: Duration) -> bool {
        self.take_down_harm(node, Injury::FullDisk(lasts));
        let until = self.now + lasts;
        on_disk!(self, node, disk => disk.fill(until));
        self.note_harm(node, Harm::FullDisk, true)
    }

    /// For so long a node's flushes take that many times as long.
    pub fn slow_disk(&mut self, node: NodeId, times: u32, lasts: Duration) -> bool {
        self.take_down_harm(node, Injury::SlowDisk(times, lasts));
        let until = self.now + lasts;
        on_disk!(self, node, disk => disk.slow(times, until));
        self.note_harm(node, Harm::SlowDisk, true)
    }

    /// How many times as long as usual a node's flushes take now.
    #[must_use]
    pub fn slowness(&self, node: NodeId) -> u32 {
        let now = self.now;
        each_host!(&self.nodes[node.index()].body, host => host.disk().slowness(now))
    }

    /// How often disks refused something because of this harm.
    #[must_use]
    pub fn refused(&self, harm: Harm) -> u64 {
        let disks = self.nodes.iter();
        disks.map(|node| each_host!(&node.body, host => host.disk().refused(harm))).sum()
    }

    /// All disks do again what they are asked. What is lost stays lost.
    pub fn relent(&mut self) {
        self.take_down(|_| Some(Step::Relent));
        for node in self.all() {
            on_disk!(self, node, disk => disk.relent());
        }
    }

    /// There may be space on a node's disk again.
    pub(super) fn settle_disk(&mut self, node: NodeId) {
        let now = self.now;
        on_disk!(self, node, disk => disk.settle(now));
    }

    /// A node's disk has failed it: it stops, and says nothing that it may forget.
    pub(super) fn stop(&mut self, node: NodeId, failure: Failure) {
        self.record(&Event::Failed(node, failure));
        self.crash(node, 0);
    }

    /// Does harm of this kind to a node, where chance decides what the kind leaves open. False if there is nothing to
    /// harm. What takes a disk that is not in use wants the node to be down.
    pub fn harm(&mut self, node: NodeId, harm: Harm, rng: &mut Rng) -> bool {
        let positions = self.positions(node);
        let one = if positions.is_empty() { None } else { Some(*rng.pick(&positions)) };
        match harm {
            Harm::Record => one.is_some_and(|position| self.rot(node, position)),
            Harm::RecordAndTag => one.is_some_and(|position| self.rot_wholly(node, position)),
            // The last writes are those that nobody misses.
            Harm::LostWrite if rng.below(2) == 0 => {
                let count = 1 + rng.below(4) as usize;
                let last: Vec<Position> = positions.into_iter().rev().take(count).collect();
                last.into_iter().fold(false, |lost, at| self.lose_write(node, at) | lost)
            }
            Harm::LostWrite => one.is_some_and(|position| self.lose_write(node, position)),
            Harm::Misdirected => one.is_some_and(|onto| {
                let from = *rng.pick(&positions);
                self.misdirect(node, from, onto)
            }),
            // Every second time the one before it, too.
            Harm::Snapshot => {
                let count = 1 + rng.below(2);
                (0..count).fold(false, |rotted, _| self.rot_snapshot(node) | rotted)
            }
            Harm::Memory => self.rot_memory(node, rng.next()),
            // The other one as well would be worse than that.
            Harm::SuperblockCopy if !on_disk!(self, node, disk => disk.has_both_copies()) => false,
            Harm::SuperblockCopy => self.lose_superblock_copy(node, rng.below(2) == 0),
            Harm::Superblock => self.lose_superblock(node),
            Harm::Wiped => self.wipe(node),
            Harm::OldImage => self.restore_image(node),
            Harm::FlippedBit => self.flip_bit(node, rng.next()),
            Harm::LostSector => self.lose_sector(node, rng.next()),
            Harm::ZeroedRun => self.zero_run(node, rng.next()),
            Harm::UnreadableSector => self.fail_sector(node, rng.next()),
            Harm::FailedFlush => self.fail_disk(node, rng.below(6)),
            Harm::FullDisk => self.fill_disk(node, Duration::from_millis(rng.between(100, 8_000))),
            Harm::SlowDisk => {
                let times = 10 * 10_u32.pow(rng.below(3) as u32) / (1 + rng.below(3) as u32);
                let lasts = Duration::from_millis(rng.between(100, 8_000));
                self.slow_disk(node, times.max(10), lasts)
            }
        }
    }

    /// A scrub comes by: a node that runs is told what it did not know to be lost. Says how much that was.
    pub fn scrub(&mut self, node: NodeId) -> usize {
        if !self.is_up(node) {
            return 0;
        }
        self.take_down(|world| Some(Step::Scrub(world.who(node))));
        let found = match on_disk!(self, node, disk => disk.scrub()) {
            Ok(found) => found,
            Err(failure) => {
                self.stop(node, failure);
                return 0;
            }
        };
        let count = found.len();
        for rot in found {
            self.tell_of_rot(node, rot);
        }
        count
    }

    /// How a replica that is up says it is.
    #[must_use]
    pub fn condition(&self, node: NodeId) -> Option<Condition> {
        self.replica(node)?.automaton().map(|replica| self.system.condition(replica))
    }

    /// What an [`crate::Ailment`] of a replica is reckoned by.
    #[must_use]
    pub fn findings(&self, node: NodeId) -> Findings {
        Findings {
            condition: self.condition(node),
            life: self.life(node),
            mended: self.mended.get(&node).copied().unwrap_or_default(),
            is_log_whole: each_host!(
                &self.nodes[node.index()].body, host => host.disk().is_log_whole()),
            is_snapshot_whole: each_host!(
                &self.nodes[node.index()].body, host => host.disk().is_snapshot_whole()),
            is_memory_settled: self.system.is_memory_settled(node),
            is_disk_sound: each_host!(
                &self.nodes[node.index()].body, host => host.disk().is_sound(self.now)),
        }
    }
}
