//! One run of one seed.

use super::{Heard, Held, Serving};
use crate::adversary::Misconduct;
use crate::event::{Event, Fact, NodeId};
use crate::linear::Operation;
use crate::oracle::{Copies, States};
use crate::papers::{Papers, guarded, place_liars, shape};
use crate::plan::{Climate, Plan};
use crate::report::Report;
use crate::rng::{Chance, Rng};
use crate::seeded::{Outcome, Seeded};
use crate::workload::{Finding, Onlooker, Workload};
use crate::world::World;
use std::collections::BTreeMap;
use std::time::Duration;
use testudo_core::{ReplicaId, Slot};

/// Runs one seed under a plan. A panic of a replica is a violation like any other.
pub fn run_seed<S: Serving>(make: impl FnOnce() -> S, seed: u64, plan: &Plan) -> Report {
    let papers = Papers::default();
    guarded(&papers.clone(), seed, plan, || {
        let mut run = Run::new(make(), seed, plan, papers.clone());
        run.play();
        run.judge_history();
        let answered = run.history.iter().filter(|op| op.returned.is_some()).count();
        run.papers.count("copies compared", run.copies.compared());
        run.papers.count("states compared", run.states.compared());
        run.onlooker.counts().into_iter().for_each(|(name, count)| run.papers.count(name, count));
        run.papers.close(&run.seeded, answered);
    })
}

/// Whoever learns hears a liar first; or second, where it takes a second one for the liar to be asked at all.
fn first_upstream(liar: ReplicaId, misconduct: Misconduct, n: u16) -> u16 {
    match misconduct {
        Misconduct::Upstream(Some(strategy)) if strategy.is_about_states() => (liar.0 + n - 1) % n,
        _ => liar.0,
    }
}

/// Appointments beyond this number are not those of clients.
const CLIENTS: u64 = 1 << 32;

/// The states after every so-manieth slot are compared.
const COMPARED: u64 = 4;

type Ask<S> = <<S as Serving>::Workload as Workload>::Ask;
type Answer<S> = <<S as Serving>::Workload as Workload>::Answer;

pub(super) struct Run<'a, S: Serving> {
    pub(super) seeded: Seeded<S>,
    pub(super) plan: &'a Plan,
    papers: Papers,
    rng: Rng,
    history: Vec<Operation<Ask<S>, Answer<S>>>,
    /// When each operation of the history was asked for.
    times: Vec<Duration>,
    onlooker: <S::Workload as Workload>::Onlooker,
    copies: Copies,
    pub(super) states: States,
    /// The slot of the state that each replica was last seen to hold.
    held: BTreeMap<NodeId, Slot>,
    /// The life of each client's node.
    lives: BTreeMap<usize, u32>,
    /// Per client, the operation that it waits for.
    open: BTreeMap<usize, usize>,
    issued: usize,
    /// Operations that nobody waits for any more: their clients crashed. Others are asked for in their place.
    abandoned: usize,
    /// Operations beyond those of the plan, so that work goes on while replicas recover.
    pub(super) extra: usize,
    /// Orders calls and returns.
    moment: u64,
}

impl<'a, S: Serving> Run<'a, S> {
    fn new(system: S, seed: u64, plan: &'a Plan, papers: Papers) -> Self {
        let mut rng = Rng::split(seed, "run", 0);
        let liars = place_liars(plan, &mut rng);
        let shape = shape(plan, plan.clients, &liars);
        let mut world = World::asleep(system, &shape, seed);
        if plan.disks.are_logs(seed) {
            world.keep_logs(seed);
        }
        let climate = plan
            .climate
            .clone()
            .unwrap_or_else(|| Climate::drawn(&plan.troubles, &mut Rng::split(seed, "climate", 0)));
        let mut seeded = Seeded::new(world, seed, climate, plan.f, plan.beyond);
        if let Some((liar, misconduct)) = liars.first() {
            seeded.world.load_learners(u32::from(first_upstream(*liar, *misconduct, plan.n())));
        }
        for (id, liar) in liars {
            seeded.corrupt(NodeId(id.0), liar);
        }
        papers.open(&mut seeded.world, plan);
        seeded.spread_clocks();
        seeded.world.start_all();
        for client in 0..u64::from(plan.callers()) {
            seeded.call(Duration::from_millis(rng.below(50)), client);
        }
        Self {
            seeded,
            plan,
            papers,
            rng,
            history: Vec::new(),
            times: Vec::new(),
            onlooker: S::Workload::onlooker(seed),
            copies: Copies::default(),
            states: States::default(),
            held: BTreeMap::new(),
            lives: BTreeMap::new(),
            open: BTreeMap::new(),
            issued: 0,
            abandoned: 0,
            extra: 0,
            moment: 0,
        }
    }

    fn play(&mut self) {
        let storm = self.plan.storm;
        self.run_while(|run| run.seeded.world.now() < storm && run.is_busy());
        self.heal();
        if !self.complete("the storm") {
            return;
        }
        self.seeded.world.audit();
        self.seeded.blackout(Duration::from_secs(1));
        self.pass(Duration::from_secs(2));
        self.heal();
        if self.plan.heals && !(self.recover() && self.complete("recovery")) {
            return;
        }
        self.read_everything();
        if self.complete("the blackout") {
            // Time for whoever is a little behind to hear the rest.
            self.pass(self.onlooker.afterthought().max(Duration::from_secs(5)));
            self.seeded.world.audit();
            if !self.papers.is_violated() {
                let findings = self.onlooker.finish(self.seeded.world.now());
                self.find(findings);
                self.compare_all();
            }
        }
    }

    fn heal(&mut self) {
        self.seeded.heal();
        self.onlooker.healed(self.seeded.world.now());
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.seeded.world.now() + time;
        self.run_while(|run| run.seeded.world.now() < end);
    }

    fn is_busy(&self) -> bool {
        self.has_more() || !self.open.is_empty()
    }

    /// Whether there is more to ask for.
    fn has_more(&self) -> bool {
        self.issued < self.plan.operations + self.abandoned + self.extra
    }

    /// After trouble ends every operation is answered in time, or liveness is broken.
    pub(super) fn complete(&mut self, what: &str) -> bool {
        let deadline = self.seeded.world.now() + self.plan.patience;
        self.run_while(|run| run.is_busy() && run.seeded.world.now() < deadline);
        if self.is_busy() && !self.papers.is_violated() {
            let waiting: Vec<String> =
                self.open.iter().map(|(client, op)| self.waiting(*client, *op)).collect();
            let patience = self.plan.patience;
            let (waiting, replicas) = (waiting.join(", "), self.describe_all());
            self.violate(
                "liveness",
                format!("{patience:?} after {what} still unanswered: {waiting}{replicas}"),
            );
        }
        !self.papers.is_violated()
    }

    fn waiting(&self, client: usize, operation: usize) -> String {
        let input = self.history.get(operation).map(|operation| &operation.input);
        format!("{} {input:?}", self.name(client))
    }

    pub(super) fn is_violated(&self) -> bool {
        self.papers.is_violated()
    }

    fn name(&self, client: usize) -> String {
        self.seeded.world.name(self.seeded.world.client_node(client))
    }

    pub(super) fn violate(&self, oracle: &'static str, what: String) {
        let at = self.seeded.world.now();
        self.papers.violate(oracle, at, what);
    }

    pub(super) fn find(&self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|(oracle, what)| self.violate(oracle, what));
    }

    /// Steps while `more` says so, until a rule is broken or nothing is left to happen.
    fn run_while(&mut self, more: impl Fn(&Self) -> bool) {
        while !self.papers.is_violated() && more(self) {
            match self.seeded.step() {
                Outcome::Idle => return,
                Outcome::Happened => {}
                Outcome::Call(client) if client < CLIENTS => self.ask(client as usize),
                Outcome::Call(_) => {}
            }
            if self.seeded.world.steps() > self.plan.steps {
                self.violate("liveness", "it goes round in circles".into());
            }
            self.look();
            while let Some((client, output)) = self.seeded.world.take_answer() {
                for heard in self.seeded.world.system.answered(client, output) {
                    match heard {
                        Heard::Answer(id, answer) => self.answer(client, id, &answer),
                        Heard::Published(published) => {
                            let at = self.seeded.world.now();
                            let mut findings = self.onlooker.published(at, client, &published);
                            findings.extend(self.copies.published(client, &published));
                            self.find(findings);
                        }
                    }
                }
            }
        }
    }

    /// Looks at what replicas hold now, and at which clients began a new life.
    fn look(&mut self) {
        let at = self.seeded.world.now();
        let mut findings = Vec::new();
        for node in self.seeded.world.replicas() {
            if !self.seeded.world.is_correct(node) {
                continue;
            }
            findings.extend(self.unbounded(node));
            let automaton = self.seeded.world.replica(node).and_then(|host| host.automaton());
            let Some(Held { slot, time, state }) = automaton.and_then(S::held) else { continue };
            if self.held.insert(node, slot) == Some(slot) || self.seeded.is_spoilt(node) {
                continue;
            }
            self.copies.held(slot, state);
            findings.extend(self.onlooker.held(at, node, slot, time, state));
            if slot.0.is_multiple_of(COMPARED)
                && let Some((slot, digest)) = automaton.and_then(S::digest)
            {
                findings.extend(self.states.held(node, slot, digest));
            }
        }
        self.find(findings);
        for client in 0..usize::from(self.plan.callers()) {
            let life = self.seeded.world.life(self.seeded.world.client_node(client));
            let before = self.lives.insert(client, life).unwrap_or(life);
            if before != life {
                self.begin_anew(client);
            }
        }
    }

    /// A client's node has started again: what it had asked for may be executed or not, and nobody waits for it.
    fn begin_anew(&mut self, client: usize) {
        self.copies.crashed(client);
        self.onlooker.crashed(client);
        if self.open.remove(&client).is_some() {
            self.abandoned += 1;
            let pause = Duration::from_millis(self.rng.between(1, 100));
            self.seeded.call(pause, client as u64);
        }
    }

    fn ask(&mut self, client: usize) {
        if !self.has_more() || self.open.contains_key(&client) {
            return;
        }
        if !self.seeded.world.is_up(self.seeded.world.client_node(client)) {
            self.seeded.call(Duration::from_millis(100), client as u64);
            return;
        }
        let ask =
            S::Workload::draw(self.plan.keys, self.issued as u64, &self.onlooker, &mut self.rng);
        self.issued += 1;
        self.submit(client, ask);
    }

    fn submit(&mut self, client: usize, input: Ask<S>) {
        let id = self.history.len();
        let operation = S::Workload::encode(&input);
        self.moment += 1;
        let now = self.seeded.world.now();
        self.onlooker.asked(now, client, &input);
        let node = self.seeded.world.client_node(client);
        let note = Fact::Note(format!("asks #{id}: {input:?}").into());
        self.seeded.world.note(&Event::Told(node, note));
        self.history.push(Operation { client, input, called: self.moment, returned: None });
        self.times.push(now);
        self.open.insert(client, id);
        let input = self.seeded.world.system.submit(client, id as u64, operation);
        self.seeded.world.ask_client(client, input);
    }

    fn answer(&mut self, client: usize, id: u64, answer: &[u8]) {
        let Some(operation) = self.history.get_mut(id as usize) else {
            self.violate(
                "clients",
                format!("{} was answered what nobody asked", self.name(client)),
            );
            return;
        };
        if operation.returned.is_some() {
            self.violate("clients", format!("{} was answered #{id} twice", self.name(client)));
            return;
        }
        self.moment += 1;
        match S::Workload::decode(&operation.input, answer) {
            Ok(answer) => {
                let (called, now) = (self.times[id as usize], self.seeded.world.now());
                self.onlooker.answered(called, now, &operation.input, &answer);
                operation.returned = Some((self.moment, answer));
            }
            Err(error) => {
                self.violate("clients", format!("the answer to #{id} cannot be read: {error}"));
            }
        }
        self.open.remove(&client);
        // Mostly at once again; now and then after a pause, so that the work lasts through the storm.
        let pause = if self.rng.per_mille(100) {
            self.rng.between(100, 3_000)
        } else {
            self.rng.between(0, 30)
        };
        self.seeded.call(Duration::from_millis(pause), client as u64);
    }

    fn read_everything(&mut self) {
        // One after the other, by clients in turn, each waiting for its answer.
        for (index, read) in S::Workload::last_reads(self.plan.keys).into_iter().enumerate() {
            let client = index % usize::from(self.plan.callers().max(1));
            let deadline = self.seeded.world.now() + self.plan.patience;
            self.run_while(|run| {
                run.open.contains_key(&client) && run.seeded.world.now() < deadline
            });
            if self.open.contains_key(&client) {
                return;
            }
            self.submit(client, read);
        }
    }

    /// Every part of a run must be right; the ledger balances only at the end of a whole one.
    fn judge_history(&self) {
        let is_whole = !self.papers.is_violated();
        self.find(S::Workload::judge(&self.history, is_whole));
    }
}
