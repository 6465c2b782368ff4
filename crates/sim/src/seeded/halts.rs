//! Replicas that stop for a while or crash between two effects, and clocks that drift or jump.

use super::{Act, Seeded};
use crate::event::NodeId;
use crate::plan::Trouble;
use crate::rng::Chance;
use crate::world::System;
use std::time::Duration;

/// By how many millionths a crystal is off at most. Over the time of a run that is far less than what correct clocks may
/// differ by, so whoever drifts no faster keeps time.
const CRYSTAL: u64 = 200;
/// By how many millionths a broken clock is off at most.
const BROKEN: u64 = 500_000;

impl<S: System> Seeded<S> {
    /// A replica or learner stops for a while. That counts among no faults: it may befall any number at a time.
    pub(super) fn pause_one(&mut self) -> bool {
        let setup = self.world.setup();
        let learners = (0..setup.clients.len()).filter(|client| setup.is_learner(*client));
        let learners = learners.map(|client| self.world.client_node(client));
        let runs = |node: &NodeId| self.world.is_up(*node) && self.world.is_correct(*node);
        let nodes: Vec<NodeId> =
            self.world.replicas().chain(learners).filter(|node| runs(node)).collect();
        if nodes.is_empty() {
            return false;
        }
        let node = *self.odds.pick(&nodes);
        let most = if self.odds.below(4) == 0 { 10_000 } else { 1_000 };
        let after = Duration::from_millis(self.odds.between(20, most));
        let bites = self.world.pause(node);
        if bites {
            self.plan(after, Act::Resume(node));
        }
        bites
    }

    pub(super) fn resume(&mut self, node: NodeId) {
        let timers_first = self.odds.below(2) == 0;
        self.world.resume(node, timers_first);
    }

    /// A replica will crash in the midst of a step. It counts from now on, and the crash when it comes.
    pub(super) fn doom_one(&mut self) -> bool {
        let Some(node) = self.victim(self.beyond) else { return false };
        let left = self.odds.below(24) as u32;
        let keep = if self.odds.below(2) == 0 { 0 } else { self.odds.below(4) as usize };
        if self.world.doom(node, left, keep) {
            self.doomed.insert(node);
        }
        false
    }

    /// Whoever has crashed in the midst of a step starts again later.
    pub(super) fn bury(&mut self) {
        if self.doomed.is_empty() {
            return;
        }
        let dead: Vec<NodeId> =
            self.doomed.iter().copied().filter(|node| !self.world.is_up(*node)).collect();
        for node in dead {
            self.doomed.remove(&node);
            self.count(Trouble::Midway.name());
            let down = if self.odds.below(4) == 0 { 5_000 } else { 300 };
            let after = Duration::from_millis(self.odds.between(1, down));
            self.plan(after, Act::Restart(node));
        }
    }

    /// Everybody goes on, and nobody is doomed any more.
    pub(super) fn end_halts(&mut self) {
        for node in std::mem::take(&mut self.doomed) {
            self.world.spare(node);
        }
        for node in self.world.all() {
            self.resume_if_paused(node);
        }
    }

    fn resume_if_paused(&mut self, node: NodeId) {
        if self.world.is_paused(node) {
            self.resume(node);
        }
    }

    /// A scrub comes by, once its node runs.
    pub(super) fn scrub(&mut self, node: NodeId) {
        if self.world.is_paused(node) {
            self.plan(Duration::from_millis(100), Act::Scrub(node));
        } else {
            self.on_disk(node, |world| {
                world.scrub(node);
            });
        }
    }

    /// A clock begins to run too fast or too slowly.
    pub(super) fn drift(&mut self) -> bool {
        let (node, most) = if self.odds.below(2) == 0 {
            let all: Vec<NodeId> =
                self.world.all().filter(|node| self.world.is_correct(*node)).collect();
            if all.is_empty() {
                return false;
            }
            (*self.odds.pick(&all), CRYSTAL)
        } else {
            let Some(node) = self.victim(false) else { return false };
            self.impaired.insert(node);
            (node, BROKEN)
        };
        let rate = 1 + self.odds.below(most) as i32;
        let rate = if self.odds.below(2) == 0 { rate } else { -rate };
        // A broken clock does not mend because its node drifts like all others, too.
        let is_broken = most == BROKEN;
        if is_broken || !self.impaired.contains(&node) {
            self.world.set_rate(node, rate);
            // What correct clocks do as well must not hide that no clock was ever broken.
            if !is_broken {
                self.count("crystal drift");
            }
        }
        is_broken
    }

    /// A clock begins to jump.
    pub(super) fn begin_jumps(&mut self) -> bool {
        let Some(node) = self.victim(false) else { return false };
        self.impaired.insert(node);
        let left = self.odds.between(1, 8) as u32;
        self.jump(node, left);
        true
    }

    /// A clock jumps; the last time it jumps back to about the right time.
    pub(super) fn jump(&mut self, node: NodeId, left: u32) {
        if self.is_calm {
            return;
        }
        let Some(left) = left.checked_sub(1) else {
            let offset = self.odds.between(0, 200) as i64 - 100;
            return self.world.set_clock(node, offset);
        };
        // As far as a second leaves room for, a little farther, or as far as time zones and bad batteries go.
        let reach = *self.odds.pick(&[300, 3_000, 60_000, 86_400_000]);
        let jump = self.odds.between(0, 2 * reach) as i64 - reach as i64;
        self.world.set_clock(node, self.world.clock_error(node).saturating_add(jump));
        let after = Duration::from_millis(self.odds.between(2, 2_500));
        self.plan(after, Act::Jump(node, left));
    }
}
