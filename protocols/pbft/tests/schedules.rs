//! Random schedules: messages in any order, lost or twice, crashes that lose unflushed writes, and a replica that says
//! whatever its key can sign. Then everything is healed, and what waits must be executed.

mod harness;

use harness::{Cluster, Letter, batch};
use std::collections::BTreeMap;
use testudo_contracts::{Batch, OrderInput, Ordering, Waiting};
use testudo_core::{Message as _, Peer, ReplicaId, Slot, Strength, View};
use testudo_pbft::message::{
    Attested, Commit, NewView, PrePrepare, Prepare, Prepared, Slots, ViewChange, Vote, primary_of,
};
use testudo_pbft::safety::Rules as _;
use testudo_pbft::{Message, Standard, Timer};

/// A small generator with a full period: the seed is the whole schedule.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound.max(1)
    }
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// What an adversary has overheard.
#[derive(Default)]
struct Heard {
    batches: Vec<Batch>,
    changes: BTreeMap<View, BTreeMap<ReplicaId, Attested<ViewChange>>>,
    prepared: Vec<Prepared>,
    /// The latest votes of others.
    votes: Vec<Vote>,
}

struct Schedule {
    cluster: Cluster<Standard>,
    chance: Chance,
    faulty: Option<u16>,
    heard: Heard,
    proposed: usize,
    clock: usize,
    filter: Filter,
}

/// What the network has against some messages for a while.
#[derive(Clone, Copy)]
enum Filter {
    Nothing,
    /// Commits reach this replica alone.
    CommitsTo(u16),
    /// Prepares reach this replica alone.
    PreparesTo(u16),
    /// This replica is cut off.
    Isolate(u16),
}

impl Filter {
    fn drops(self, letter: &Letter) -> bool {
        let (from, to) = (letter.from.0, letter.to.0);
        match (self, &letter.message) {
            (Self::CommitsTo(only), Message::Commit(_) | Message::Committed(_))
            | (Self::PreparesTo(only), Message::Prepare(_)) => to != only,
            (Self::Isolate(whom), _) => (from == whom) != (to == whom),
            _ => false,
        }
    }
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        chance.below(1);
        let (n, f) = *chance.pick(&[(4, 1), (5, 1), (6, 1), (7, 2)]).expect("there are some");
        let mut cluster = Cluster::new(n, f);
        let faulty = (!chance.once_in(4)).then(|| chance.below(usize::from(n)) as u16);
        faulty.into_iter().for_each(|id| cluster.corrupt(id));
        for node in &mut cluster.nodes {
            node.flushes = false;
        }
        let mut heard = Heard::default();
        heard.batches.extend(["x", "y"].map(batch));
        let filter = Filter::Nothing;
        Self { cluster, chance, faulty, heard, proposed: 0, clock: 0, filter }
    }

    fn n(&self) -> usize {
        self.cluster.nodes.len()
    }

    fn overhear(&mut self, letter: &Letter) {
        if self.faulty.is_none() || letter.message.strength() != Strength::Signature {
            return;
        }
        match &letter.message {
            Message::PrePrepare(body) => self.heard.batches.push(body.batch.clone()),
            Message::ViewChange(body) => {
                let via = Peer::Replica(letter.from);
                let verified = letter.signed.clone().verify(via, &self.cluster.context());
                let attested =
                    verified.ok().and_then(|message| Attested::of(&message, body.clone()));
                let of_view = self.heard.changes.entry(body.view).or_default();
                of_view.extend(attested.map(|attested| (letter.from, attested)));
                self.heard.prepared.extend(body.prepared.iter().cloned());
            }
            _ => {}
        }
        if let Some(vote) = letter.message.vote() {
            self.heard.votes.push(vote);
            let surplus = self.heard.votes.len().saturating_sub(40);
            self.heard.votes.drain(..surplus);
        }
    }

    /// One random step of the world.
    fn step(&mut self) {
        let id = self.chance.below(self.n()) as u16;
        match self.chance.below(40) {
            0 => self.crash(id),
            1 => self.propose(id),
            2 => self.wait(id),
            3 if self.chance.once_in(3) => self.cluster.fire(id, Timer::View),
            4 => self.cluster.fire(id, Timer::Resend),
            5..=9 => self.cluster.flush(id),
            10..=14 => self.lie(),
            15 if self.chance.once_in(10) => self.stabilize(),
            16 if self.chance.once_in(3) => self.filter = self.any_filter(id),
            _ => self.deliver(),
        }
    }

    fn any_filter(&mut self, id: u16) -> Filter {
        match self.chance.below(5) {
            0 => Filter::CommitsTo(id),
            1 => Filter::PreparesTo(id),
            2 | 3 => Filter::Isolate(id),
            _ => Filter::Nothing,
        }
    }

    fn deliver(&mut self) {
        if self.cluster.wire.is_empty() {
            return;
        }
        // Mostly near the front, so that the run gets anywhere.
        let reach = if self.chance.once_in(4) { self.cluster.wire.len() } else { 6 };
        let at = self.chance.below(reach.min(self.cluster.wire.len()));
        let letter = self.cluster.wire.remove(at);
        self.overhear(&letter);
        if self.filter.drops(&letter) {
            return;
        }
        match self.chance.below(20) {
            0 if letter.from != letter.to => return,
            1 => self.cluster.wire.push(letter.clone()),
            _ => {}
        }
        self.cluster.deliver(letter);
    }

    fn crash(&mut self, id: u16) {
        if Some(id) != self.faulty && self.chance.once_in(2) {
            self.cluster.nodes[usize::from(id)].writes_left = Some(self.chance.below(3));
            self.cluster.flush(id);
            self.cluster.crash(id);
            self.cluster.start(id);
        }
    }

    fn propose(&mut self, id: u16) {
        let node = &self.cluster.nodes[usize::from(id)];
        if node.core.as_ref().is_some_and(Ordering::may_propose) {
            self.proposed += 1;
            let name = format!("{}", self.proposed);
            self.cluster.propose(id, &name);
        }
    }

    fn wait(&mut self, id: u16) {
        self.clock += 1;
        let waiting = match self.chance.below(3) {
            0 => Waiting::Nothing,
            _ => Waiting::Oldest(self.clock as u64),
        };
        self.cluster.input(id, OrderInput::Waiting(waiting));
    }

    /// Some slot that a correct replica executed becomes stable, and some hear of it.
    fn stabilize(&mut self) {
        let running = self.cluster.nodes.iter().filter_map(|node| node.core.as_ref());
        let mut executed: Vec<Slot> = running.map(Ordering::executed).collect();
        executed.sort_unstable();
        let quorum = self.n().div_ceil(2) + 1;
        let Some(slot) = executed.len().checked_sub(quorum).and_then(|at| executed.get(at)) else {
            return;
        };
        if *slot > Slot(0) {
            let stable = self.cluster.checkpoint(slot.0);
            for id in 0..self.n() as u16 {
                if self.chance.once_in(2) {
                    self.cluster.input(id, OrderInput::Stable(stable.clone()));
                }
            }
        }
    }

    /// The adversary says something, to one or to all.
    fn lie(&mut self) {
        let Some(liar) = self.faulty else { return };
        let running: Vec<(View, Slot)> = self
            .cluster
            .nodes
            .iter()
            .filter_map(|node| node.core.as_ref())
            .map(|core| (core.view(), core.executed()))
            .collect();
        let Some((view, executed)) = self.chance.pick(&running).copied() else { return };
        let view = View(view.0 + self.chance.below(2) as u64);
        let slot = Slot(executed.0 + 1 + self.chance.below(3) as u64);
        let Some(batch) = self.chance.pick(&self.heard.batches).cloned() else { return };
        let digest = batch.digest();
        let messages = match self.chance.below(8) {
            0 | 1 => vec![Message::PrePrepare(PrePrepare { view, slot, batch })],
            2 => vec![Message::Prepare(Prepare { view, slot, digest })],
            3 => vec![Message::Commit(Commit { view, slot, digest })],
            4 => vec![self.lying_change(view)],
            5 => self.lying_new_view(liar).unwrap_or_default(),
            // It backs whatever somebody else stands for.
            _ => self.chance.pick(&self.heard.votes).map(|vote| both(*vote)).unwrap_or_default(),
        };
        let to = self.chance.below(2 * self.n()) as u16;
        for id in 0..self.n() as u16 {
            if (usize::from(to) >= self.n() || id == to) && id != liar {
                messages.iter().for_each(|m| self.cluster.post(liar, id, m.clone()));
            }
        }
    }

    fn lying_change(&mut self, view: View) -> Message {
        let some = self.chance.pick(&self.heard.prepared).filter(|p| p.view() < view).cloned();
        let prepared = some.into_iter().collect();
        Message::ViewChange(ViewChange { view, stable: None, prepared, lost: Slots::none() })
    }

    /// A new view of the adversary's, from whichever view changes it likes, mostly well reckoned, and its votes for it.
    fn lying_new_view(&mut self, liar: u16) -> Option<Vec<Message>> {
        let n = self.n();
        let quorum = testudo_quorum::Dissemination::of(&self.cluster.config.membership)?.quorum();
        let own = |view: &View| primary_of(*view, n) == ReplicaId(liar);
        let views: Vec<View> = self.heard.changes.keys().copied().filter(own).collect();
        let view = *self.chance.pick(&views)?;
        let empty = ViewChange { view, stable: None, prepared: Vec::new(), lost: Slots::none() };
        let sealed = self.cluster.seal(liar, Message::ViewChange(empty.clone()));
        let mut changes = self.heard.changes.get(&view)?.clone();
        changes.extend(Attested::of(&sealed, empty).map(|own| (ReplicaId(liar), own)));
        while changes.len() > quorum {
            let ids: Vec<ReplicaId> = changes.keys().copied().collect();
            changes.remove(self.chance.pick(&ids)?);
        }
        let changes: Vec<_> = changes.into_values().collect();
        let statements: Vec<_> = changes.iter().map(|change| &change.statement).collect();
        let mut ordered = Standard::adopt(&self.cluster.system(), &statements).ordered;
        if self.chance.once_in(3) {
            let at = self.chance.below(ordered.len());
            let other = self.chance.pick(&self.heard.batches).cloned();
            let spoilt = ordered.get_mut(at).zip(other);
            spoilt.into_iter().for_each(|((_, batch), other)| *batch = other);
        }
        let vote =
            |(slot, batch): &(Slot, Batch)| Vote { view, slot: *slot, digest: batch.digest() };
        let votes: Vec<Message> = ordered.iter().map(vote).flat_map(both).collect();
        let mut messages = vec![Message::NewView(NewView { view, changes, ordered })];
        messages.extend(votes);
        Some(messages)
    }

    /// From here on nothing is lost, and the faulty one is silent.
    fn heal(&mut self) {
        for id in 0..self.n() as u16 {
            self.cluster.nodes[usize::from(id)].flushes = true;
            self.cluster.flush(id);
        }
        self.cluster.run();
        let goal = self.proposed + 1;
        for round in 0..400 {
            self.clock += 1;
            let done = |batch: &Batch| *batch == harness::batch(&format!("{goal}"));
            let mut waits = 0;
            for id in 0..self.n() as u16 {
                let node = &self.cluster.nodes[usize::from(id)];
                if node.is_faulty || node.executed.values().any(done) {
                    self.cluster.input(id, OrderInput::Waiting(Waiting::Nothing));
                    continue;
                }
                waits += 1;
                self.cluster.input(id, OrderInput::Waiting(Waiting::Oldest(u64::MAX)));
                if self.cluster.core(id).may_propose() && self.cluster.core(id).open_slots() == 0 {
                    self.cluster.propose(id, &format!("{goal}"));
                }
            }
            if waits == 0 {
                return;
            }
            self.cluster.tick();
            if round % 12 == 11 {
                (0..self.n() as u16).for_each(|id| self.cluster.fire(id, Timer::View));
                self.cluster.run();
            }
            let stable = self.cluster.nodes.iter().filter_map(|node| node.core.as_ref());
            if let Some(slot) = stable.map(Ordering::executed).min().filter(|slot| slot.0 > 0) {
                let stable = self.cluster.checkpoint(slot.0);
                for id in 0..self.n() as u16 {
                    self.cluster.input(id, OrderInput::Stable(stable.clone()));
                }
            }
        }
        let states: Vec<_> = self.cluster.nodes.iter().map(|node| node.core.as_ref()).collect();
        panic!("what waits is not executed: {states:#?}");
    }
}

/// A prepare and a commit for the same.
fn both(Vote { view, slot, digest }: Vote) -> Vec<Message> {
    let prepare = Prepare { view, slot, digest };
    vec![Message::Prepare(prepare), Message::Commit(Commit { view, slot, digest })]
}

fn run(seed: u64, steps: usize) {
    let mut schedule = Schedule::new(seed);
    for _ in 0..steps {
        schedule.step();
    }
    schedule.cluster.check();
    schedule.heal();
    schedule.cluster.check();
}

fn number(name: &str, otherwise: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(otherwise, |value| value.parse().expect("seeds are numbers"))
}

#[test]
fn random_schedules_agree_and_then_make_progress() {
    let first = number("TESTUDO_SEED", 0);
    for seed in first..first + number("TESTUDO_SEEDS", 40) {
        println!("TESTUDO_SEED={seed}");
        run(seed, 1500);
    }
}
