//! A run that a byte string decides: for fuzzers, who know how to change bytes so that something new happens.
//!
//! Each byte says what happens next, of what can: which of the things under way ends (the first sixteen can be named), which
//! timer fires, which client asks, who crashes or starts again, what is lost or doubled, who is cut off. Any string is a
//! run, and a small change of it is mostly a small change of the run. What a byte asks for and cannot be had (there is no
//! such thing, or it would be one fault too many) does nothing.
//!
//! When the bytes end, so does the trouble: a calm [`Seeded`] scheduler takes over, every operation must be answered in
//! time, everything is read once more, and whoever looks on has time to see it. The same court judges as judges a seed.

use crate::conformance::court::Court;
use crate::conformance::{Ask, Serving};
use crate::event::{Loss, NodeId};
use crate::papers::{Papers, guarded, shape};
use crate::plan::{Climate, Plan};
use crate::report::Report;
use crate::rng::{Chance, Rng};
use crate::seeded::{Outcome, Seeded};
use crate::workload::Workload;
use crate::world::{Pending, World};
use std::time::Duration;
use testudo_core::ReplicaId;

/// Plays the run that these bytes decide. Of the plan it takes who there is, who lies, how many operations there are, on how
/// many keys, how long a healed cluster may take, and whether more than f replicas may be down. The first byte says who the
/// first liar is. A panic of a replica is a violation like any other.
pub fn run_bytes<S: Serving>(make: impl FnOnce() -> S, bytes: &[u8], plan: &Plan) -> Report {
    let papers = Papers::default();
    guarded(&papers.clone(), 0, plan, || {
        let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
        let mut run = Run::new(make(), *first, plan, papers.clone());
        let mut bytes = rest.iter().copied();
        while let Some(byte) = bytes.next() {
            if run.papers.is_violated() {
                break;
            }
            run.happen(byte, &mut bytes);
            run.take_up();
            run.listen();
        }
        if !run.papers.is_violated() {
            run.calm_down();
        }
        run.close();
    })
}

/// A byte string of this length from a seed, in which most bytes let something under way end.
#[must_use]
pub fn drawn(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = Rng::split(seed, "bytes", 0);
    (0..length).map(|_| rng.below(256) as u8).collect()
}

struct Run<'a, S: Serving> {
    /// Whose world this is. It decides nothing before the bytes have ended.
    seeded: Seeded<S>,
    plan: &'a Plan,
    papers: Papers,
    rng: Rng,
    /// What is under way, in the order in which it began.
    open: Vec<Pending>,
    /// Timers and when they are due.
    timers: Vec<(Duration, NodeId, u64)>,
    court: Court<S>,
    issued: usize,
}

impl<'a, S: Serving> Run<'a, S> {
    fn new(system: S, first: u8, plan: &'a Plan, papers: Papers) -> Self {
        let n = plan.n();
        let ids = (0..n).map(|id| ReplicaId((u16::from(first) + id) % n.max(1)));
        let liars: Vec<_> = ids.zip(plan.liars.iter().copied()).collect();
        let world = World::asleep(system, &shape(plan, plan.clients, &liars), 0);
        let mut seeded = Seeded::new(world, 0, Climate::calm(), plan.f, plan.beyond);
        for (id, liar) in liars {
            seeded.corrupt(NodeId(id.0), liar);
        }
        papers.open(&mut seeded.world, plan);
        seeded.world.start_all();
        let mut run = Self {
            seeded,
            plan,
            court: Court::new(0, plan, papers.clone()),
            papers,
            rng: Rng::split(0, "bytes", 1),
            open: Vec::new(),
            timers: Vec::new(),
            issued: 0,
        };
        run.take_up();
        run
    }

    /// What a byte says happens, if it can.
    fn happen(&mut self, byte: u8, more: &mut impl Iterator<Item = u8>) {
        let choice = usize::from(byte);
        match byte {
            0..=159 => self.end(choice % 16),
            160..=191 => self.ask(choice % self.callers()),
            192..=207 => self.fire(choice % 8),
            208..=215 => self.end(self.open.len().saturating_sub(1)),
            216..=223 => self.crash(self.replica(choice), more.next().unwrap_or_default()),
            224..=231 => self.seeded.world.restart(self.replica(choice)),
            232..=239 => {
                let at = usize::from(more.next().unwrap_or_default());
                if let Some(number) = self.packet(at) {
                    self.seeded.world.lose(number, Loss::Network);
                }
            }
            240..=245 => {
                let at = usize::from(more.next().unwrap_or_default());
                if let Some(number) = self.packet(at) {
                    self.seeded.world.duplicate(number);
                }
            }
            246..=250 => self.isolate(self.replica(choice)),
            251..=253 => self.seeded.world.heal(),
            254..=255 => {
                self.seeded.world.advance_to(self.seeded.world.now() + Duration::from_millis(50));
            }
        }
    }

    fn replica(&self, choice: usize) -> NodeId {
        NodeId((choice % usize::from(self.plan.n().max(1))) as u16)
    }

    /// The number of a message under way.
    fn packet(&self, choice: usize) -> Option<u64> {
        match self.open.get(choice % self.open.len().max(1))? {
            Pending::Packet(number, _) => Some(*number),
            _ => None,
        }
    }

    fn end(&mut self, at: usize) {
        if self.open.is_empty() {
            return;
        }
        match self.open.remove(at.min(self.open.len() - 1)) {
            Pending::Packet(number, _) => {
                self.seeded.world.deliver(number);
            }
            Pending::Flush(node, life, mark) => self.seeded.world.flush(node, life, mark),
            Pending::Chore(node, number) => self.seeded.world.finish(node, number),
            Pending::Serve(node, _) => self.seeded.world.serve(node),
            Pending::Timer(node, number, _) => {
                self.seeded.world.fire(node, number);
            }
        }
    }

    /// A timer fires that is among the first to be due; time moves on to then.
    fn fire(&mut self, at: usize) {
        if self.timers.is_empty() {
            return;
        }
        let (due, node, number) = self.timers.remove(at.min(self.timers.len() - 1));
        self.seeded.world.advance_to(due);
        self.seeded.world.fire(node, number);
    }

    fn crash(&mut self, node: NodeId, keep: u8) {
        let is_faulty =
            |node: &NodeId| !self.seeded.world.is_correct(*node) || !self.seeded.world.is_up(*node);
        let faulty = self.seeded.world.replicas().filter(is_faulty).count();
        if (self.plan.beyond || faulty < usize::from(self.plan.f))
            && self.seeded.world.is_correct(node)
        {
            let keep = usize::from(keep) % (self.seeded.world.unflushed(node) + 1);
            self.seeded.world.crash(node, keep);
        }
    }

    fn isolate(&mut self, node: NodeId) {
        for other in self.seeded.world.all() {
            self.seeded.world.cut(node, other);
            self.seeded.world.cut(other, node);
        }
    }

    fn ask(&mut self, client: usize) {
        if self.issued < self.plan.operations && !self.court.is_waiting(client) {
            let token = self.issued as u64;
            self.issued += 1;
            let onlooker = self.court.onlooker();
            let ask = S::Workload::draw(self.plan.keys, token, onlooker, &mut self.rng);
            self.submit(client, ask);
        }
    }

    fn submit(&mut self, client: usize, input: Ask<S>) {
        let ticket = self.court.next_ticket();
        self.court.submit(&mut self.seeded.world, client, ticket, input);
    }

    /// Takes up what has begun.
    fn take_up(&mut self) {
        for pending in self.seeded.world.take_pending() {
            match pending {
                Pending::Timer(node, number, after) => {
                    let timer = (self.seeded.world.now() + after, node, number);
                    let at = self.timers.partition_point(|other| *other < timer);
                    self.timers.insert(at, timer);
                }
                other => self.open.push(other),
            }
        }
        let world = &self.seeded.world;
        self.open.retain(|pending| match pending {
            Pending::Packet(number, _) => world.letter(*number).is_some(),
            Pending::Flush(node, life, _) => world.life(*node) == *life && world.is_up(*node),
            _ => true,
        });
        self.timers.retain(|(_, node, number)| world.is_running(*node, *number));
    }

    /// The court looks at what replicas hold, and hears what was answered. No byte spoils a memory.
    fn listen(&mut self) {
        let Self { court, seeded, .. } = self;
        court.look(&seeded.world, |_| false);
        court.hear(&mut seeded.world);
    }

    /// The trouble is over: what was asked for is answered, and everything can be read.
    fn calm_down(&mut self) {
        let now = self.seeded.world.now();
        let timers = std::mem::take(&mut self.timers).into_iter();
        let timers =
            timers.map(|(due, node, number)| Pending::Timer(node, number, due.saturating_sub(now)));
        let pending = std::mem::take(&mut self.open).into_iter().chain(timers);
        self.seeded.world.put_back(pending.collect());
        self.seeded.heal();
        self.court.healed(now);
        self.complete("the bytes");
        for (index, read) in S::Workload::last_reads(self.plan.keys).into_iter().enumerate() {
            if self.papers.is_violated() {
                return;
            }
            self.submit(index % self.callers(), read);
            self.complete("the last reads");
        }
        self.pass(self.court.afterthought());
        self.seeded.world.audit();
        if !self.papers.is_violated() {
            self.court.finish(self.seeded.world.now());
        }
    }

    fn callers(&self) -> usize {
        usize::from(self.plan.callers().max(1))
    }

    /// Time passes in which nobody asks for anything.
    fn pass(&mut self, time: Duration) {
        let end = self.seeded.world.now() + time;
        while self.seeded.world.now() < end && !self.papers.is_violated() {
            if self.seeded.step() == Outcome::Idle {
                return;
            }
            self.listen();
        }
    }

    /// Steps until every operation is answered, which must not take longer than the plan's patience.
    fn complete(&mut self, what: &str) {
        let deadline = self.seeded.world.now() + self.plan.patience;
        let most = self.seeded.world.steps() + self.plan.steps;
        while !self.court.is_idle() && !self.papers.is_violated() {
            let world = &self.seeded.world;
            let is_over = world.now() >= deadline || world.steps() > most;
            if is_over || self.seeded.step() == Outcome::Idle {
                let waiting = self.court.waiting(&self.seeded.world);
                let what = format!("after {what} still unanswered: {waiting}");
                return self.papers.violate("liveness", self.seeded.world.now(), what);
            }
            self.listen();
        }
    }

    fn close(&mut self) {
        let Self { court, seeded, papers, .. } = self;
        court.judge(&seeded.world, !papers.is_violated(), |_| false);
        papers.close(seeded, court.answered());
    }
}
