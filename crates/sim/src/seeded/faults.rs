//! What goes wrong, when, and with whom: never with more replicas at a time than the budget allows.

use super::{Act, Ambush, Seeded};
use crate::atlas::{Ailment, Findings, Harm};
use crate::event::NodeId;
use crate::plan::Trouble;
use crate::rng::Chance;
use crate::world::{System, World};
use std::collections::BTreeSet;
use std::time::Duration;
use testudo_core::limits;

/// A disk that takes longer than that is one that hangs.
const LONGEST_FLUSH: Duration = Duration::from_secs(10);

impl<S: System> Seeded<S> {
    pub(super) fn expect_trouble(&mut self, index: usize) {
        let (_, mean) = self.climate.troubles[index];
        let millis = self.rng.between(1, 2 * mean.as_millis() as u64);
        self.plan(Duration::from_millis(millis), Act::Trouble(index));
    }

    pub(super) fn trouble(&mut self, index: usize) {
        if self.is_calm {
            return;
        }
        self.expect_trouble(index);
        let (trouble, _) = self.climate.troubles[index];
        if self.is_timely && trouble.is_of_network() {
            return;
        }
        let bites = match trouble {
            Trouble::Crash => self.crash_one(),
            Trouble::Blackout => self.beyond && self.black_out(),
            Trouble::Partition => self.partition(),
            Trouble::OneWay => self.one_way(),
            Trouble::Partial => self.partial(),
            Trouble::Flapping => self.begin_flapping(),
            Trouble::Clock => self.wrong_clock(),
            Trouble::Jumps => self.begin_jumps(),
            Trouble::Drift => self.drift(),
            Trouble::Pause => self.pause_one(),
            Trouble::Midway => self.doom_one(),
            Trouble::Harm(Harm::OldImage) => self.old_image(),
            Trouble::Harm(harm) => self.harm_one(harm),
            Trouble::Helical => self.helical(),
            Trouble::Learner => self.crash_learner(),
        };
        if bites {
            self.count(trouble.name());
        }
    }

    /// Replicas that are faulty now, by first copies: what befell them is not over, or they are down, or say
    /// themselves that they are not what they should be.
    fn faulty(&mut self) -> BTreeSet<NodeId> {
        let world = &self.world;
        self.ailments.retain(|(node, ailment)| !ailment.is_over(&world.findings(*node)));
        let is_unfit = |node: &NodeId| {
            let condition = self.world.condition(*node);
            condition.is_none_or(|condition| !condition.votes || !condition.is_well)
        };
        let unfit = self.world.replicas().filter(is_unfit);
        let ailing = self.ailments.iter().map(|(node, _)| *node);
        let doomed = self.doomed.iter().copied();
        unfit.chain(ailing).chain(doomed).chain(self.impaired.iter().copied()).collect()
    }

    /// A correct replica that is up, if the budget allows for one more faulty one.
    pub(super) fn victim(&mut self, may_exceed: bool) -> Option<NodeId> {
        let faulty = self.faulty();
        if faulty.len() >= self.f && !may_exceed {
            return None;
        }
        let sound: Vec<NodeId> =
            self.world.replicas().filter(|node| !faulty.contains(node)).collect();
        if sound.is_empty() { None } else { Some(*self.rng.pick(&sound)) }
    }

    pub(super) fn crash(&mut self, node: NodeId) {
        let unflushed = self.world.unflushed(node);
        let keep = match self.rng.below(5) {
            0 => unflushed,
            1 => self.rng.below(unflushed as u64 + 1) as usize,
            _ => 0,
        };
        self.doomed.remove(&node);
        self.world.crash(node, keep);
    }

    fn crash_one(&mut self) -> bool {
        let Some(node) = self.victim(self.beyond) else { return false };
        let waits = self.rng.below(2) == 0;
        if waits {
            self.ambush = Some(Ambush { victim: Some(node), writers: 1 });
        } else {
            self.crash_for_a_while(node);
        }
        !waits
    }

    /// A learner keeps nothing on disk; nor does it count among the replicas that may be faulty. Each life opens a
    /// session, and more lives than sessions are kept of one client evict those of earlier ones.
    fn crash_learner(&mut self) -> bool {
        let setup = self.world.setup();
        let learners = (0..setup.clients.len()).filter(|client| setup.is_learner(*client));
        let nodes = learners.map(|client| self.world.client_node(client));
        let up: Vec<NodeId> = nodes.filter(|node| self.world.is_up(*node)).collect();
        if up.is_empty() {
            return false;
        }
        let node = *self.rng.pick(&up);
        self.crash_for_a_while(node);
        true
    }

    fn black_out(&mut self) -> bool {
        let waits = self.rng.below(3) != 0;
        if waits {
            let writers = self.rng.between(1, self.world.setup().membership.n() as u64) as usize;
            self.ambush = Some(Ambush { victim: None, writers });
        } else {
            self.blackout(Duration::from_secs(1));
        }
        !waits
    }

    /// Crashes at the worst moment are rare by chance, so some are waited for.
    pub(super) fn spring(&mut self) {
        let Some(Ambush { victim, writers }) = self.ambush else { return };
        let has_writes = |node: &NodeId| self.world.is_up(*node) && self.world.unflushed(*node) > 0;
        let is_time = match victim {
            Some(node) => has_writes(&node),
            None => self.world.replicas().filter(has_writes).count() >= writers,
        };
        if is_time {
            self.ambush = None;
            let reach = 4 * self.climate.weather.latency.as_nanos() as u64;
            let after = Duration::from_nanos(self.rng.below(reach + 1));
            self.plan(after, Act::Strike(victim));
        }
    }

    pub(super) fn strike(&mut self, victim: Option<NodeId>) {
        match victim {
            _ if self.is_calm => {}
            None => {
                self.blackout(Duration::from_secs(1));
                self.count(Trouble::Blackout.name());
            }
            Some(node) if self.beyond || self.faulty().len() < self.f => {
                self.crash_for_a_while(node);
                self.count(Trouble::Crash.name());
            }
            Some(_) => {}
        }
    }

    fn crash_for_a_while(&mut self, node: NodeId) {
        self.crash(node);
        let down = if self.rng.below(4) == 0 { 5_000 } else { 300 };
        let after = self.rng.between(1, down);
        self.plan(Duration::from_millis(after), Act::Restart(node));
    }

    fn partition(&mut self) -> bool {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for node in self.world.all() {
            if self.rng.below(2) == 0 { one.push(node) } else { other.push(node) }
        }
        let has_cut = !one.is_empty() && !other.is_empty();
        self.world.partition(&[one, other]);
        self.heal_later();
        has_cut
    }

    fn one_way(&mut self) -> bool {
        let all: Vec<NodeId> = self.world.all().collect();
        let from = *self.rng.pick(&all);
        let is_deaf = self.rng.below(2) == 0;
        let mut has_cut = false;
        for other in all {
            if self.rng.below(2) == 0 {
                has_cut |= other != from;
                let (from, to) = if is_deaf { (other, from) } else { (from, other) };
                self.world.cut(from, to);
            }
        }
        self.heal_later();
        has_cut
    }

    pub(super) fn heal_later(&mut self) {
        self.partition += 1;
        let after = Duration::from_millis(self.rng.between(20, 4_000));
        self.plan(after, Act::Heal(self.partition));
    }

    fn wrong_clock(&mut self) -> bool {
        let Some(node) = self.victim(false) else { return false };
        const YEARS: u64 = 30 * 365 * 24 * 3_600_000;
        let reach = if self.rng.below(2) == 0 { 20_000 } else { YEARS };
        let offset = self.rng.between(0, 2 * reach) as i64 - reach as i64;
        self.world.set_clock(node, offset);
        self.impaired.insert(node);
        true
    }

    /// Harm to the disk or memory of one replica. Some of it takes a crash, and what rots on a disk is often found
    /// because of one.
    fn harm_one(&mut self, harm: Harm) -> bool {
        let Some(node) = self.victim(!harm.counts()) else { return false };
        if harm.may_forget() && !self.may_return(node) {
            return false;
        }
        let crashes = !harm.is_of_use() && (harm.takes_a_crash() || self.rng.below(2) == 0);
        if crashes {
            self.crash(node);
        }
        let happened = self.harm(node, harm);
        if crashes {
            let after = Duration::from_millis(self.rng.between(1, 300));
            self.plan(after, Act::Restart(node));
        } else {
            // Somebody reads the disk again from time to time.
            let after = Duration::from_millis(self.rng.between(100, 20_000));
            self.plan(after, Act::Scrub(node));
        }
        happened && !harm.bites_later()
    }

    /// Does something for which a node needs its disk. Where that fails it, the node stops, and starts again later.
    pub(super) fn on_disk(&mut self, node: NodeId, act: impl FnOnce(&mut World<S>)) {
        let was_up = self.world.is_up(node);
        act(&mut self.world);
        if was_up {
            self.start_later(node);
        }
    }

    /// Somebody looks after a node that its disk has stopped.
    pub(super) fn start_later(&mut self, node: NodeId) {
        if !self.world.is_up(node) {
            let after = self.starts.between(1, 3_000);
            self.plan(Duration::from_millis(after), Act::Restart(node));
        }
    }

    /// How long a flush takes that would usually take so long.
    pub(super) fn flush_time(&mut self, node: NodeId, usual: Duration) -> Duration {
        let slowness = self.world.slowness(node);
        if slowness > 1 {
            self.count(Harm::SlowDisk.name());
        }
        (usual * slowness).min(usual.max(LONGEST_FLUSH))
    }

    /// A different record rots on each correct replica, and all lose power.
    fn helical(&mut self) -> bool {
        if self.faulty().len() >= self.f {
            return false;
        }
        let mut slots = BTreeSet::new();
        let mut struck = Vec::new();
        let nodes: Vec<NodeId> = self.world.replicas().collect();
        for node in nodes.into_iter().filter(|node| self.world.is_correct(*node)) {
            let mut votes = self.world.votes(node);
            votes.retain(|(slot, _)| !slots.contains(slot));
            // The newest matter most: no checkpoint covers them.
            let newest = votes.len().saturating_sub(1 + self.rng.below(12) as usize);
            if let Some((slot, position)) = votes.get(newest).copied() {
                slots.insert(slot);
                struck.push((node, position));
            }
        }
        self.blackout(Duration::from_secs(1));
        for (node, position) in &struck {
            self.reckon(*node, Harm::Record);
            self.world.rot(*node, *position);
        }
        // One replica with a rotten record is another kind of trouble.
        struck.len() > 1
    }

    /// A replica's disk is kept as it is, and comes back later.
    fn old_image(&mut self) -> bool {
        let Some(node) = self.victim(false) else { return false };
        self.world.keep_image(node);
        let after = Duration::from_millis(self.rng.between(10, 5_000));
        self.plan(after, Act::Image(node));
        false
    }

    /// The moment at which an old disk comes back, if the budget still allows for it.
    pub(super) fn bring_back_image(&mut self, node: NodeId) {
        let faulty = self.faulty();
        let is_too_much = faulty.contains(&node) || faulty.len() >= self.f;
        if self.is_calm || is_too_much || !self.may_return(node) {
            return;
        }
        self.crash(node);
        if self.harm(node, Harm::OldImage) {
            self.count(Harm::OldImage.name());
        }
        let after = Duration::from_millis(self.rng.between(1, 300));
        self.plan(after, Act::Restart(node));
    }

    /// Does the harm, and reckons with it from now on.
    fn harm(&mut self, node: NodeId, harm: Harm) -> bool {
        let before = self.ailments.len();
        if harm.counts() {
            self.reckon(node, harm);
        }
        let happened = self.world.harm(node, harm, &mut self.rng);
        if !happened {
            self.ailments.truncate(before);
        } else if harm.may_forget() {
            *self.forgot.entry(node).or_default() += 1;
        }
        happened
    }

    /// Whether a replica that forgets what it has said would be let in once more: no run is as long as the time after which
    /// it may return again.
    fn may_return(&self, node: NodeId) -> bool {
        self.forgot.get(&node).is_none_or(|times| *times < limits::READMISSIONS)
    }

    fn reckon(&mut self, node: NodeId, harm: Harm) {
        let conditions = self.world.replicas().filter_map(|node| self.world.condition(node));
        let horizon = conditions.map(|condition| condition.horizon).max().unwrap_or_default();
        let Findings { life, mended, .. } = self.world.findings(node);
        self.ailments.push((node, Ailment { harm, life, mended, horizon }));
    }

    /// Whether a replica's memory has come to harm, and its state has not been replaced since.
    #[must_use]
    pub fn is_spoilt(&self, of: NodeId) -> bool {
        let mut ailments = self.ailments.iter().filter(|(node, _)| *node == of);
        ailments.any(|(node, ailment)| {
            ailment.harm == Harm::Memory && !ailment.is_over(&self.world.findings(*node))
        })
    }
}
