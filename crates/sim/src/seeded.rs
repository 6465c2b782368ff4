//! The seeded scheduler: virtual time, and chance that decides how long everything takes and what goes wrong.
//!
//! Everything that the world starts gets a due time when it starts; the queue runs in the order of due times. Faults
//! come as drawn, and never more at a time than the budget allows: liars count, so do replicas that are down, those whose
//! clocks are wrong, and whoever has come to harm and not healed ([`crate::atlas`]). [`Seeded::heal`] ends the trouble, as partial synchrony promises
//! that it ends.

mod courier;
mod faults;
mod halts;
mod links;
mod toll;

use self::courier::Hands;
use self::links::Flap;
use self::toll::{Doubles, Ways};
use crate::adversary::Misconduct;
use crate::atlas::Ailment;
use crate::event::{Loss, NodeId};
use crate::lateness::Lateness;
use crate::plan::Climate;
use crate::rng::{Chance, Rng};
use crate::weather::Weather;
use crate::world::{Pending, System, World};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;
use testudo_core::Peer;

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
    /// A replica's disk becomes again what it was when it was kept.
    Image(NodeId),
    /// A scrub comes by a replica's disk.
    Scrub(NodeId),
    /// The partition with this number ends.
    Heal(u64),
    /// Flapping links go down or come up.
    Flap(usize),
    /// The network becomes timely.
    Stabilise,
    /// The adversary that holds messages picks one.
    Choose,
    /// A paused node goes on.
    Resume(NodeId),
    /// A clock jumps, and so many times again.
    Jump(NodeId, u32),
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
    /// Room for what steps start, kept between them.
    started: Vec<Pending>,
    /// Breaks ties in the order of asking.
    sequence: u64,
    rng: Rng,
    /// What makes this run's links differ in pace.
    links: u64,
    climate: Climate,
    is_calm: bool,
    f: usize,
    beyond: bool,
    /// Replicas that count as faulty until the run heals, or for ever: whose clocks are wrong, who lie.
    impaired: BTreeSet<NodeId>,
    /// What befell replicas' disks and memories, and may not be over.
    ailments: Vec<(NodeId, Ailment)>,
    /// How often replicas may have forgotten what they had said, and had to come back under another key.
    forgot: BTreeMap<NodeId, usize>,
    /// A power failure that waits for its moment.
    ambush: Option<Ambush>,
    /// The number of the current partition.
    partition: u64,
    /// When those start again whom their disks have stopped.
    starts: Rng,
    /// What befell nodes, counted when it did.
    befallen: BTreeMap<&'static str, u64>,
    /// Whether twins say different things.
    doubles: Doubles,
    /// Who lies in all ways in turn, and how often that came to a lie.
    ways: Rc<RefCell<Ways>>,
    /// What newer kinds of trouble are drawn from.
    odds: Rng,
    /// Whether the network is timely although other trouble goes on.
    is_timely: bool,
    flaps: Vec<Flap>,
    /// Per link that keeps its order, when the last message arrives that was sent on it.
    carried: BTreeMap<(NodeId, NodeId), Duration>,
    /// Replicas that will crash between two effects.
    doomed: BTreeSet<NodeId>,
    /// What the adversary that picks deliveries holds.
    hands: Option<Hands>,
    /// Watches whether a timing assumption holds.
    lateness: Option<Rc<RefCell<Lateness>>>,
}

impl<S: System> Seeded<S> {
    /// Puts a world (whose nodes may have been started or not) under this climate. At most `f` replicas are faulty at a
    /// time, unless `beyond`.
    #[must_use]
    pub fn new(world: World<S>, seed: u64, climate: Climate, f: u16, beyond: bool) -> Self {
        let mut seeded = Self {
            world,
            queue: BinaryHeap::new(),
            started: Vec::new(),
            sequence: 0,
            rng: Rng::split(seed, "scheduler", 0),
            links: Rng::split(seed, "links", 0).next(),
            climate,
            is_calm: false,
            f: usize::from(f),
            beyond,
            impaired: BTreeSet::new(),
            ailments: Vec::new(),
            forgot: BTreeMap::new(),
            ambush: None,
            partition: 0,
            starts: Rng::split(seed, "starts", 0),
            befallen: BTreeMap::new(),
            doubles: Doubles::default(),
            ways: Rc::default(),
            odds: Rng::split(seed, "odds", 0),
            is_timely: false,
            flaps: Vec::new(),
            carried: BTreeMap::new(),
            doomed: BTreeSet::new(),
            hands: None,
            lateness: None,
        };
        seeded.prepare_network(seed);
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
            let peer = self.world.peer(node);
            self.doubles.expect(self.world.all().filter(|one| self.world.peer(*one) == peer));
            self.swap_twins();
        } else {
            self.expect_ways(node, misconduct);
            self.world.corrupt(node, misconduct);
        }
    }

    /// How many things wait for their time, stopped timers among them.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Has [`Seeded::step`] give back [`Outcome::Call`] with this number after so long.
    pub fn call(&mut self, after: Duration, number: u64) {
        self.plan(after, Act::Call(number));
    }

    /// Stops all trouble: everybody but liars is up and keeps time, nobody is cut off, the network is timely.
    pub fn heal(&mut self) {
        self.is_calm = true;
        // What the run alone knows of the network goes on: its bound is not that of a calm one.
        let bound = self.climate.weather.stabilises.map(|stabilises| stabilises.bound);
        match bound {
            Some(bound) => self.become_timely(bound),
            None => {
                // Channels that keep their order do so for ever.
                let keeps_order = self.climate.weather.keeps_order;
                self.settle(Weather { keeps_order, ..Weather::calm() });
            }
        }
        self.world.heal();
        self.world.relent();
        self.end_halts();
        for node in self.world.all() {
            if !self.world.is_up(node) {
                self.world.restart(node);
            }
            if self.world.is_correct(node) {
                let offset = self.rng.between(0, 20) as i64 - 10;
                self.world.set_rate(node, 0);
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
            Act::Deliver(number) => self.arrive(number),
            Act::Fire(node, number) => {
                self.world.fire(node, number);
            }
            Act::Flush(node, life, mark) => {
                self.on_disk(node, |world| world.flush(node, life, mark));
            }
            Act::Finish(node, number) => self.on_disk(node, |world| world.finish(node, number)),
            Act::Serve(node) => self.world.serve(node),
            Act::Restart(node) => {
                self.world.restart(node);
                self.start_later(node);
            }
            Act::Strike(victim) => self.strike(victim),
            Act::Scrub(node) => self.scrub(node),
            Act::Flap(index) => self.flap(index),
            Act::Stabilise => self.stabilise(),
            Act::Choose => self.choose(),
            Act::Resume(node) => self.resume(node),
            Act::Jump(node, left) => self.jump(node, left),
            Act::Image(node) => self.bring_back_image(node),
            Act::Heal(number) if number == self.partition => self.world.heal(),
            Act::Heal(_) => {}
            Act::Trouble(index) => self.trouble(index),
            Act::SwapTwins => self.swap_twins(),
            Act::Call(number) => return Outcome::Call(number),
        }
        self.bury();
        self.tell_of_lateness();
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
        let mut pending = std::mem::take(&mut self.started);
        loop {
            self.world.swap_pending(&mut pending);
            if pending.is_empty() {
                break;
            }
            for item in pending.drain(..) {
                self.plan_one(item);
            }
        }
        self.started = pending;
    }

    fn plan_one(&mut self, item: Pending) {
        let weather = self.climate.weather;
        match item {
            Pending::Packet(number, held) if self.world.is_own(number) => {
                self.plan(held, Act::Deliver(number));
            }
            Pending::Packet(number, held) => {
                self.compare_twins(number);
                if self.rng.per_mille(weather.lost_per_mille) {
                    self.world.lose(number, Loss::Network);
                    return;
                }
                if self.rng.per_mille(weather.doubled_per_mille) {
                    self.world.duplicate(number);
                }
                let (link, now) = (self.link(number), self.world.now());
                let mut travel = weather.travel(link, now, &mut self.rng);
                if let Some(delay) = weather.delayed(&mut self.rng) {
                    travel += delay;
                    self.count("delay");
                }
                if !self.is_calm && weather.is_stalled(link, now) {
                    self.count(weather.spread.name());
                }
                let after = self.on_the_way(number, held + travel);
                self.plan(after, Act::Deliver(number));
            }
            Pending::Timer(node, number, after) => self.plan(after, Act::Fire(node, number)),
            Pending::Flush(node, life, mark) => {
                let usual = Weather::takes(weather.flush, &mut self.rng);
                let after = self.flush_time(node, usual);
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

    fn swap_twins(&mut self) {
        let mut peers: Vec<Peer> = self.world.all().map(|node| self.world.peer(node)).collect();
        peers.retain(|_| self.rng.below(2) == 0);
        self.world.set_second_side(peers);
        let after = Duration::from_millis(self.rng.between(200, 5_000));
        self.plan(after, Act::SwapTwins);
    }
}
