//! One run of one seed.

use super::Serving;
use crate::adversary::Misconduct;
use crate::event::NodeId;
use crate::linear::{Linearity, Operation, check};
use crate::oracle::{Cast, Counts, Jury, Trace, Violation, settle};
use crate::plan::{Climate, Plan};
use crate::report::Report;
use crate::rng::{Chance, Rng};
use crate::seeded::{Outcome, Seeded};
use crate::service::{Answer, Ask, KeyModel, Mix};
use crate::world::{Shape, World};
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use testudo_core::{Decode, Encode, FaultModel, ReplicaId};

/// Runs one seed under a plan. A panic of a replica is a violation like any other.
pub fn run_seed<S: Serving>(make: impl FnOnce() -> S, seed: u64, plan: &Plan) -> Report {
    let papers = Papers::default();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut run = Run::new(make(), seed, plan, papers.clone());
        run.play();
        run
    }));
    let mut report = papers.report(seed, plan);
    match result {
        Ok(run) => run.finish(&mut report),
        Err(panic) => report.violations.push(Violation {
            oracle: "no panic",
            at: Duration::ZERO,
            what: panic_text(panic.as_ref()),
        }),
    }
    if report.is_clean() {
        report.trace.clear();
    }
    report
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// What is written down while a run goes on, and survives its panic.
#[derive(Clone, Default)]
struct Papers {
    jury: Rc<RefCell<Option<Rc<RefCell<Jury>>>>>,
    trace: Rc<RefCell<Option<Rc<RefCell<Trace>>>>>,
    counts: Rc<RefCell<Counts>>,
}

impl Papers {
    fn open<S: Serving>(&self, world: &mut World<S>, plan: &Plan) {
        let cast = Cast::of(world);
        let jury = Rc::new(RefCell::new(Jury::new(cast.clone())));
        let trace = Rc::new(RefCell::new(Trace::new(cast, plan.trace)));
        world.watch(self.counts.clone());
        world.watch(trace.clone());
        world.watch(jury.clone());
        self.jury.replace(Some(jury));
        self.trace.replace(Some(trace));
    }

    fn is_violated(&self) -> bool {
        let jury = self.jury.borrow();
        jury.as_ref().is_some_and(|jury| !jury.borrow().violations().is_empty())
    }

    fn report(&self, seed: u64, plan: &Plan) -> Report {
        let liars: Vec<&str> = plan.liars.iter().map(|liar| liar.name()).collect();
        let liars = if liars.is_empty() { "no liar".into() } else { liars.join(" and ") };
        let beyond = if plan.beyond { ", beyond f" } else { "" };
        let counts = self.counts.borrow().all();
        Report {
            seed,
            title: format!("n={}, {liars}{beyond}", plan.n()),
            audit: String::new(),
            steps: 0,
            time: Duration::ZERO,
            answered: 0,
            counts: counts.into_iter().map(|(name, count)| (name.into(), count)).collect(),
            violations: self
                .jury
                .borrow()
                .as_ref()
                .map(|jury| jury.borrow().violations().to_vec())
                .unwrap_or_default(),
            trace: self
                .trace
                .borrow()
                .as_ref()
                .map(|trace| trace.borrow().lines())
                .unwrap_or_default(),
        }
    }
}

/// Appointments beyond this number are not those of clients.
const CLIENTS: u64 = 1 << 32;

struct Run<'a, S: Serving> {
    seeded: Seeded<S>,
    plan: &'a Plan,
    papers: Papers,
    rng: Rng,
    history: Vec<Operation<Ask, Answer>>,
    /// Per client, the operation that it waits for.
    open: BTreeMap<usize, usize>,
    issued: usize,
    /// Orders calls and returns.
    moment: u64,
    /// What went wrong that no event tells.
    violations: Vec<Violation>,
}

impl<'a, S: Serving> Run<'a, S> {
    fn new(system: S, seed: u64, plan: &'a Plan, papers: Papers) -> Self {
        let mut rng = Rng::split(seed, "run", 0);
        let liars = place_liars(plan, &mut rng);
        let twins = liars.iter().filter(|(_, liar)| *liar == Misconduct::Twins);
        let shape = Shape {
            replicas: plan.n(),
            clients: plan.clients,
            model: FaultModel::byzantine(plan.f),
            twins: twins.map(|(id, _)| *id).collect(),
        };
        let world = World::asleep(system, &shape, seed);
        let climate = plan
            .climate
            .clone()
            .unwrap_or_else(|| Climate::drawn(&plan.troubles, &mut Rng::split(seed, "climate", 0)));
        let mut seeded = Seeded::new(world, seed, climate, plan.f, plan.beyond);
        for (id, liar) in liars {
            seeded.corrupt(NodeId(id.0), liar);
        }
        papers.open(&mut seeded.world, plan);
        seeded.spread_clocks();
        seeded.world.start_all();
        for client in 0..u64::from(plan.clients) {
            seeded.call(Duration::from_millis(rng.below(50)), client);
        }
        Self {
            seeded,
            plan,
            papers,
            rng,
            history: Vec::new(),
            open: BTreeMap::new(),
            issued: 0,
            moment: 0,
            violations: Vec::new(),
        }
    }

    fn play(&mut self) {
        let storm = self.plan.storm;
        self.run_while(|run| run.seeded.world.now() < storm && run.is_busy());
        self.seeded.heal();
        if !self.complete("the storm") {
            return;
        }
        self.seeded.world.audit();
        self.seeded.blackout(Duration::from_secs(1));
        let wait = self.seeded.world.now() + Duration::from_secs(2);
        self.run_while(|run| run.seeded.world.now() < wait);
        self.seeded.heal();
        self.read_everything();
        if self.complete("the blackout") {
            self.seeded.world.audit();
        }
    }

    fn is_busy(&self) -> bool {
        self.issued < self.plan.operations || !self.open.is_empty()
    }

    /// After trouble ends every operation is answered in time, or liveness is broken.
    fn complete(&mut self, what: &str) -> bool {
        let deadline = self.seeded.world.now() + self.plan.patience;
        self.run_while(|run| run.is_busy() && run.seeded.world.now() < deadline);
        if self.is_busy() && !self.papers.is_violated() {
            let waiting: Vec<String> =
                self.open.iter().map(|(client, op)| self.waiting(*client, *op)).collect();
            let patience = self.plan.patience;
            self.violate(
                "liveness",
                format!("{patience:?} after {what} still unanswered: {}", waiting.join(", ")),
            );
        }
        self.violations.is_empty() && !self.papers.is_violated()
    }

    fn waiting(&self, client: usize, operation: usize) -> String {
        let input = self.history.get(operation).map(|operation| &operation.input);
        format!("c{} {input:?}", client + 1)
    }

    fn violate(&mut self, oracle: &'static str, what: String) {
        let at = self.seeded.world.now();
        self.violations.push(Violation { oracle, at, what });
    }

    /// Steps while `more` says so, until a rule is broken or nothing is left to happen.
    fn run_while(&mut self, more: impl Fn(&Self) -> bool) {
        while self.violations.is_empty() && !self.papers.is_violated() && more(self) {
            match self.seeded.step() {
                Outcome::Idle => return,
                Outcome::Happened => {}
                Outcome::Call(client) if client < CLIENTS => self.ask(client as usize),
                Outcome::Call(_) => {}
            }
            while let Some((client, output)) = self.seeded.world.take_answer() {
                for (id, answer) in self.seeded.world.system.answered(client, output) {
                    self.answer(client, id, &answer);
                }
            }
        }
    }

    fn ask(&mut self, client: usize) {
        if self.issued < self.plan.operations && !self.open.contains_key(&client) {
            let ask = Ask::drawn(self.plan.keys, self.issued as u64, S::MIX, &mut self.rng);
            self.issued += 1;
            self.submit(client, ask);
        }
    }

    fn submit(&mut self, client: usize, input: Ask) {
        let id = self.history.len();
        let operation = input.to_bytes();
        self.moment += 1;
        self.history.push(Operation { client, input, called: self.moment, returned: None });
        self.open.insert(client, id);
        let input = self.seeded.world.system.submit(client, id as u64, operation);
        self.seeded.world.ask_client(client, input);
    }

    fn answer(&mut self, client: usize, id: u64, answer: &[u8]) {
        let Some(operation) = self.history.get_mut(id as usize) else {
            self.violate("clients", format!("c{} was answered what nobody asked", client + 1));
            return;
        };
        if operation.returned.is_some() {
            self.violate("clients", format!("c{} was answered #{id} twice", client + 1));
            return;
        }
        self.moment += 1;
        match Answer::from_bytes(answer) {
            Ok(answer) => operation.returned = Some((self.moment, answer)),
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
        let mut keys: Vec<String> = (0..self.plan.keys).map(|key| format!("k{key}")).collect();
        if S::MIX == Mix::Everything {
            keys.extend((0..self.plan.keys).map(|key| format!("l{key}")));
        }
        // One after the other, by clients in turn, each waiting for its answer.
        for (index, key) in keys.into_iter().enumerate() {
            let client = index % usize::from(self.plan.clients.max(1));
            let deadline = self.seeded.world.now() + self.plan.patience;
            self.run_while(|run| {
                run.open.contains_key(&client) && run.seeded.world.now() < deadline
            });
            if self.open.contains_key(&client) {
                return;
            }
            self.submit(client, Ask::Get { key });
        }
    }

    fn finish(mut self, report: &mut Report) {
        if self.papers.is_violated() || !self.violations.is_empty() {
            self.judge_history(false);
        } else {
            self.judge_history(true);
        }
        let world = &self.seeded.world;
        report.audit = world.audit_hash().hex();
        report.steps = world.steps();
        report.time = world.now();
        report.answered = self.history.iter().filter(|op| op.returned.is_some()).count();
        for (name, count) in self.seeded.befallen() {
            report.counts.insert(format!("trouble: {name}"), *count);
        }
        report.violations.append(&mut self.violations);
    }

    /// The ledger balances only at the end of a whole run; linearizable is every part of one.
    fn judge_history(&mut self, is_whole: bool) {
        match check(&KeyModel, &self.history) {
            Linearity::Holds => {}
            Linearity::Broken(how) => self.violate("linearizability", how),
            Linearity::Unknown(steps) => {
                self.violate("linearizability", format!("undecided after {steps} steps"));
            }
        }
        if is_whole && let Err(what) = settle(&self.history) {
            self.violate("ledger", what);
        }
    }
}

/// Which replicas lie. The first primary is one of them half of the time.
fn place_liars(plan: &Plan, rng: &mut Rng) -> Vec<(ReplicaId, Misconduct)> {
    let mut ids: Vec<ReplicaId> = (0..plan.n()).map(ReplicaId).collect();
    rng.shuffle(&mut ids);
    if rng.below(2) == 0 {
        ids.retain(|id| id.0 != 0);
        ids.insert(0, ReplicaId(0));
    }
    ids.into_iter().zip(plan.liars.iter().copied()).collect()
}
