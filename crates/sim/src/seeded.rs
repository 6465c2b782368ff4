//! The seeded scheduler: virtual time, and chance that decides how long everything takes and what goes wrong.
//!
//! Everything that the world starts gets a due time when it starts; the queue runs in the order of due times. Faults
//! come as drawn, and never more at a time than the budget allows: liars count, so do replicas that are down, and those
//! whose clocks are wrong or whose records rotted. [`Seeded::heal`] ends the trouble, as partial synchrony promises
//! that it ends.

use crate::adversary::Misconduct;
use crate::event::{Loss, NodeId};
use crate::plan::{Climate, Trouble, Weather};
use crate::rng::{Chance, Rng};
use crate::world::{Pending, System, World};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;
use testudo_core::{Peer, Position};

/// Something that will happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Act {
    Deliver(u64),
    Fire(NodeId, u64),
    Flush(NodeId, u32, u64),
    Finish(NodeId, u64),
    Serve(NodeId),
    Trouble(usize),
    Restart(NodeId),
    /// An ambush: this replica, or everybody, loses power.
    Strike(Option<NodeId>),
    /// The partition with this number ends.
    Heal(u64),
    SwapTwins,
    /// A caller's own appointment.
    Call(u64),
}

/// Power that fails at a bad moment: when so many replicas have unflushed writes to lose, or a little later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ambush {
    /// Who loses power; everybody if nobody is named.
    victim: Option<NodeId>,
    /// How many replicas must have unflushed writes, if it is everybody's.
    writers: usize,
}

/// What came of one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing is left to happen.
    Idle,
    /// Something happened.
    Happened,
    /// A caller's appointment is due.
    Call(u64),
}

/// A world under a seeded scheduler.
pub struct Seeded<S: System> {
    /// The world.
    pub world: World<S>,
    queue: BinaryHeap<Reverse<(Duration, u64, Act)>>,
    /// Breaks ties in the order of asking.
    sequence: u64,
    rng: Rng,
    /// What makes this run's links differ in pace.
    links: u64,
    climate: Climate,
    is_calm: bool,
    f: usize,
    beyond: bool,
    /// Replicas that count as faulty, other than for being down.
    impaired: BTreeSet<NodeId>,
    /// A power failure that waits for its moment.
    ambush: Option<Ambush>,
    /// The number of the current partition.
    partition: u64,
    /// What befell nodes, counted when it did.
    befallen: BTreeMap<&'static str, u64>,
}

impl<S: System> Seeded<S> {
    /// Puts a world (whose nodes may have been started or not) under this climate. At most `f` replicas are faulty at a
    /// time, unless `beyond`.
    #[must_use]
    pub fn new(world: World<S>, seed: u64, climate: Climate, f: u16, beyond: bool) -> Self {
        let mut seeded = Self {
            world,
            queue: BinaryHeap::new(),
            sequence: 0,
            rng: Rng::split(seed, "scheduler", 0),
            links: Rng::split(seed, "links", 0).next(),
            climate,
            is_calm: false,
            f: usize::from(f),
            beyond,
            impaired: BTreeSet::new(),
            ambush: None,
            partition: 0,
            befallen: BTreeMap::new(),
        };
        for index in 0..seeded.climate.troubles.len() {
            seeded.expect_trouble(index);
        }
        seeded.plan_pending();
        seeded
    }

    /// Small differences between the wall clocks of correct nodes, as a cluster has them that keeps time well.
    pub fn spread_clocks(&mut self) {
        for node in self.world.all() {
            let offset = self.rng.between(0, 200) as i64 - 100;
            self.world.set_clock(node, offset);
        }
    }

    /// From now on a replica lies. Twins must have been made with the world.
    pub fn corrupt(&mut self, node: NodeId, misconduct: Misconduct) {
        self.impaired.insert(node);
        if misconduct == Misconduct::Twins {
            self.swap_twins();
        } else {
            self.world.corrupt(node, misconduct);
        }
        *self.befallen.entry(misconduct.name()).or_default() += 1;
    }

    /// What befell nodes so far, by name.
    #[must_use]
    pub const fn befallen(&self) -> &BTreeMap<&'static str, u64> {
        &self.befallen
    }

    /// Has [`Seeded::step`] give back [`Outcome::Call`] with this number after so long.
    pub fn call(&mut self, after: Duration, number: u64) {
        self.plan(after, Act::Call(number));
    }

    /// Stops all trouble: everybody but liars is up and keeps time, nobody is cut off, the network is timely.
    pub fn heal(&mut self) {
        self.is_calm = true;
        self.climate.weather = Weather::calm();
        self.partition += 1;
        self.world.heal();
        for node in self.world.all() {
            if !self.world.is_up(node) {
                self.world.restart(node);
            }
            if self.world.is_correct(node) {
                let offset = self.rng.between(0, 20) as i64 - 10;
                self.world.set_clock(node, offset);
            }
        }
        self.plan_pending();
    }

    /// All replicas lose power at once; they start again after at most `within`.
    pub fn blackout(&mut self, within: Duration) {
        for node in self.world.all().collect::<Vec<_>>() {
            if self.world.is_replica(node) && self.world.is_up(node) {
                self.crash(node);
                let after = self.rng.below(within.as_millis() as u64 + 1);
                self.plan(Duration::from_millis(after), Act::Restart(node));
            }
        }
    }

    /// Lets the next thing happen.
    pub fn step(&mut self) -> Outcome {
        self.plan_pending();
        self.spring();
        let Some(Reverse((due, _, act))) = self.queue.pop() else { return Outcome::Idle };
        self.world.advance_to(due);
        match act {
            Act::Deliver(number) => {
                self.world.deliver(number);
            }
            Act::Fire(node, number) => {
                self.world.fire(node, number);
            }
            Act::Flush(node, life, mark) => self.world.flush(node, life, mark),
            Act::Finish(node, number) => self.world.finish(node, number),
            Act::Serve(node) => self.world.serve(node),
            Act::Restart(node) => self.world.restart(node),
            Act::Strike(victim) => self.strike(victim),
            Act::Heal(number) if number == self.partition => self.world.heal(),
            Act::Heal(_) => {}
            Act::Trouble(index) => self.trouble(index),
            Act::SwapTwins => self.swap_twins(),
            Act::Call(number) => return Outcome::Call(number),
        }
        Outcome::Happened
    }

    /// Steps until `done` says so, or this moment of virtual time is reached, or nothing is left. Appointments that
    /// fall into this time are lost.
    pub fn run_until(
        &mut self,
        end: Duration,
        mut done: impl FnMut(&mut World<S>) -> bool,
    ) -> bool {
        loop {
            if done(&mut self.world) {
                return true;
            }
            self.plan_pending();
            match self.queue.peek() {
                Some(Reverse((due, ..))) if *due <= end => {
                    self.step();
                }
                _ => {
                    self.world.advance_to(end);
                    return done(&mut self.world);
                }
            }
        }
    }

    fn plan(&mut self, after: Duration, act: Act) {
        self.sequence += 1;
        self.queue.push(Reverse((self.world.now() + after, self.sequence, act)));
    }

    fn plan_pending(&mut self) {
        loop {
            let pending = self.world.take_pending();
            if pending.is_empty() {
                return;
            }
            for item in pending {
                self.plan_one(item);
            }
        }
    }

    fn plan_one(&mut self, item: Pending) {
        let weather = self.climate.weather;
        match item {
            Pending::Packet(number, held) if self.world.is_own(number) => {
                self.plan(held, Act::Deliver(number));
            }
            Pending::Packet(number, held) => {
                if self.rng.per_mille(weather.lost_per_mille) {
                    self.world.lose(number, Loss::Network);
                    return;
                }
                if self.rng.per_mille(weather.doubled_per_mille) {
                    self.world.duplicate(number);
                }
                let after = held + weather.travel(self.link(number), &mut self.rng);
                self.plan(after, Act::Deliver(number));
            }
            Pending::Timer(node, number, after) => self.plan(after, Act::Fire(node, number)),
            Pending::Flush(node, life, mark) => {
                let after = Weather::takes(weather.flush, &mut self.rng);
                self.plan(after, Act::Flush(node, life, mark));
            }
            Pending::Chore(node, number) => {
                let after = Weather::takes(weather.chore, &mut self.rng);
                self.plan(after, Act::Finish(node, number));
            }
            Pending::Serve(node, after) => self.plan(after, Act::Serve(node)),
        }
    }

    fn link(&self, number: u64) -> u64 {
        let ends = self
            .world
            .letter(number)
            .map_or(0, |letter| u64::from(letter.from.0) << 16 | u64::from(letter.to.0));
        self.links ^ ends
    }

    fn expect_trouble(&mut self, index: usize) {
        let (_, mean) = self.climate.troubles[index];
        let millis = self.rng.between(1, 2 * mean.as_millis() as u64);
        self.plan(Duration::from_millis(millis), Act::Trouble(index));
    }

    fn trouble(&mut self, index: usize) {
        if self.is_calm {
            return;
        }
        self.expect_trouble(index);
        let (trouble, _) = self.climate.troubles[index];
        let bites = match trouble {
            Trouble::Crash => self.crash_one(),
            Trouble::Blackout => self.beyond && self.black_out(),
            Trouble::Partition => self.partition(),
            Trouble::OneWay => self.one_way(),
            Trouble::Clock => self.wrong_clock(),
            Trouble::Rot => self.rot(),
            Trouble::Learner => self.crash_learner(),
        };
        if bites {
            *self.befallen.entry(trouble.name()).or_default() += 1;
        }
    }

    /// Replicas that are faulty now, by first copies.
    fn faulty(&self) -> BTreeSet<NodeId> {
        let down = self.world.replicas().filter(|node| !self.world.is_up(*node));
        down.chain(self.impaired.iter().copied()).collect()
    }

    /// A correct replica that is up, if the budget allows for one more faulty one.
    fn victim(&mut self, may_exceed: bool) -> Option<NodeId> {
        let faulty = self.faulty();
        if faulty.len() >= self.f && !may_exceed {
            return None;
        }
        let sound: Vec<NodeId> =
            self.world.replicas().filter(|node| !faulty.contains(node)).collect();
        if sound.is_empty() { None } else { Some(*self.rng.pick(&sound)) }
    }

    fn crash(&mut self, node: NodeId) {
        let unflushed = self.world.unflushed(node);
        let keep = match self.rng.below(5) {
            0 => unflushed,
            1 => self.rng.below(unflushed as u64 + 1) as usize,
            _ => 0,
        };
        self.world.crash(node, keep);
    }

    fn crash_one(&mut self) -> bool {
        let Some(node) = self.victim(self.beyond) else { return false };
        if self.rng.below(2) == 0 {
            self.ambush = Some(Ambush { victim: Some(node), writers: 1 });
        } else {
            self.crash_for_a_while(node);
        }
        true
    }

    /// A learner keeps nothing on disk; nor does it count among the replicas that may be faulty.
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
        if self.rng.below(3) == 0 {
            self.blackout(Duration::from_secs(1));
        } else {
            let writers = self.rng.between(1, self.world.setup().membership.n() as u64) as usize;
            self.ambush = Some(Ambush { victim: None, writers });
        }
        true
    }

    /// Crashes at the worst moment are rare by chance, so some are waited for.
    fn spring(&mut self) {
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

    fn strike(&mut self, victim: Option<NodeId>) {
        match victim {
            _ if self.is_calm => {}
            None => self.blackout(Duration::from_secs(1)),
            Some(node) if self.beyond || self.faulty().len() < self.f => {
                self.crash_for_a_while(node);
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
        self.world.partition(&[one, other]);
        self.heal_later();
        true
    }

    fn one_way(&mut self) -> bool {
        let all: Vec<NodeId> = self.world.all().collect();
        let from = *self.rng.pick(&all);
        let is_deaf = self.rng.below(2) == 0;
        for other in all {
            if self.rng.below(2) == 0 {
                let (from, to) = if is_deaf { (other, from) } else { (from, other) };
                self.world.cut(from, to);
            }
        }
        self.heal_later();
        true
    }

    fn heal_later(&mut self) {
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

    fn rot(&mut self) -> bool {
        let Some(node) = self.victim(false) else { return false };
        let positions = self.world.positions(node);
        if positions.is_empty() {
            return false;
        }
        let position: Position = *self.rng.pick(&positions);
        self.impaired.insert(node);
        self.crash(node);
        self.world.rot(node, position);
        let after = Duration::from_millis(self.rng.between(1, 300));
        self.plan(after, Act::Restart(node));
        true
    }

    fn swap_twins(&mut self) {
        let mut peers: Vec<Peer> = self.world.all().map(|node| self.world.peer(node)).collect();
        peers.retain(|_| self.rng.below(2) == 0);
        self.world.set_second_side(peers);
        let after = Duration::from_millis(self.rng.between(200, 5_000));
        self.plan(after, Act::SwapTwins);
    }
}
