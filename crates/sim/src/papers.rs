//! What all runs share: who lies, who judges, what is written down, and that a panic is a violation like any other.

use crate::adversary::Misconduct;
use crate::diagram::{Film, Reel};
use crate::fraud::{LIES_OF_CLIENTS, Trick};
use crate::keys::Signatures;
use crate::oracle::{Alarms, Cast, Counts, Jury, Trace, Violation};
use crate::plan::Plan;
use crate::report::{Report, broken, twisted};
use crate::rng::{Chance, Rng};
use crate::seeded::Seeded;
use crate::world::{Shape, System, Tally, World};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use testudo_core::fault::FaultKind;
use testudo_core::{FaultModel, ReplicaId};

/// What is written down while a run goes on, and survives its panic.
#[derive(Clone)]
pub(crate) struct Papers {
    jury: Rc<RefCell<Jury>>,
    trace: Rc<RefCell<Trace>>,
    counts: Rc<RefCell<Counts>>,
    alarms: Rc<RefCell<Alarms>>,
    result: Rc<RefCell<Report>>,
    /// How far the world has got, which a panic takes with it.
    tally: Rc<Cell<Tally>>,
    film: Option<Reel>,
}

impl Default for Papers {
    fn default() -> Self {
        Self {
            jury: Rc::new(RefCell::new(Jury::new(Cast::default()))),
            trace: Rc::new(RefCell::new(Trace::new(Cast::default(), 0))),
            counts: Rc::default(),
            alarms: Rc::default(),
            result: Rc::default(),
            tally: Rc::default(),
            film: None,
        }
    }
}

impl Papers {
    /// Papers with a film, if there is one, of what they are about.
    pub(crate) fn with_film(film: Option<&Reel>) -> Self {
        Self { film: film.cloned(), ..Self::default() }
    }

    /// The film, if there is one, is shown what the last step came to.
    pub(crate) fn look<S: System>(&self, world: &World<S>) {
        if let Some(film) = &self.film {
            film.borrow_mut().look(world);
        }
    }

    /// Listens to a world whose liars are known.
    pub(crate) fn open<S: System>(&self, world: &mut World<S>, plan: &Plan) {
        let cast = Cast::of(world);
        self.jury.replace(Jury::new(cast.clone()));
        self.alarms.replace(Alarms::new(cast.clone()));
        self.trace.replace(Trace::new(cast, length_of_trace(plan)));
        world.tally_in(self.tally.clone());
        world.watch(self.counts.clone());
        world.watch(self.trace.clone());
        world.watch(self.jury.clone());
        world.watch(self.alarms.clone());
        if let Some(film) = &self.film {
            Film::roll(film, world);
        }
    }

    /// Notes a broken rule that no event tells of.
    pub(crate) fn violate(&self, oracle: &'static str, at: Duration, what: String) {
        self.jury.borrow_mut().violate(Violation { oracle, at, what });
    }

    /// Whether this rule was broken.
    pub(crate) fn is_broken(&self, oracle: &str) -> bool {
        self.jury.borrow().violations().iter().any(|found| found.oracle == oracle)
    }

    /// Takes down how far a run has got that panicked.
    fn break_off(&self, text: String) {
        let Tally { audit, at, steps } = self.tally.get();
        let mut result = self.result.borrow_mut();
        (result.audit, result.time, result.steps) = (audit.hex(), at, steps);
        drop(result);
        self.violate(NO_PANIC, at, text);
    }

    pub(crate) fn is_violated(&self) -> bool {
        !self.jury.borrow().violations().is_empty()
    }

    /// Takes down how often something happened.
    pub(crate) fn count(&self, name: &str, count: u64) {
        self.result.borrow_mut().counts.insert(name.into(), count);
    }

    /// Takes down what the run came to.
    pub(crate) fn close<S: System>(&self, seeded: &Seeded<S>, answered: usize) {
        self.close_world(&seeded.world, answered);
        let mut result = self.result.borrow_mut();
        for (name, count) in seeded.befallen() {
            result.counts.insert(format!("trouble: {name}"), count);
        }
    }

    /// Takes down what a run came to that nobody scheduled.
    pub(crate) fn close_world<S: System>(&self, world: &World<S>, answered: usize) {
        let behind = self.behind(world);
        let mut result = self.result.borrow_mut();
        result.audit = world.audit_hash().hex();
        result.steps = world.steps();
        result.time = world.now();
        result.answered = answered;
        result.counts.insert("replicas behind at the end".into(), behind);
        if world.keys().signatures() == Signatures::Ed25519 {
            result.counts.insert("runs with real signatures".into(), 1);
        }
        for ((protocol, kind), count) in world.twisted() {
            result.counts.insert(twisted(*protocol, kind), *count);
        }
    }

    /// Correct replicas that have not got as far as others. That is no fault: nobody need tell them before there is
    /// something new to tell.
    fn behind<S: System>(&self, world: &World<S>) -> u64 {
        let counts = self.counts.borrow();
        let correct: Vec<_> = world.replicas().filter(|node| world.is_correct(*node)).collect();
        let furthest = correct.iter().map(|node| counts.reached(*node)).max().unwrap_or_default();
        correct.iter().filter(|node| counts.reached(**node) < furthest).count() as u64
    }

    fn report(&self, seed: u64, plan: &Plan) -> Report {
        let mut report = self.result.borrow().clone();
        report.seed = seed;
        report.title = title(plan);
        report.exceeds = plan.exceeds;
        report.f = plan.f;
        report.liars = plan.liars.len();
        let alarms = self.alarms.borrow();
        report.evidence = alarms.evidence;
        report.convicted = alarms.convicted.clone();
        report.alarms = alarms.standing().to_vec();
        report.counts.insert("alarms raised".into(), alarms.raised);
        report.counts.extend(self.counts.borrow().all());
        let by_clients = |name: &&String| name.strip_prefix("lies: ").is_some_and(Trick::is_name);
        let by_clients: Vec<&String> = report.counts.keys().filter(by_clients).collect();
        let lies = by_clients.iter().map(|name| report.count(name)).sum();
        report.counts.insert(LIES_OF_CLIENTS.into(), lies);
        let jury = self.jury.borrow();
        report.violations = jury.violations().to_vec();
        report.places = jury.places().clone();
        let broken = jury.times().iter().map(|(rule, times)| (broken(rule), *times));
        report.counts.extend(broken);
        if !report.is_clean() {
            report.trace = self.trace.borrow().lines();
        }
        report
    }
}

/// The rule that nothing panics, whatever it is sent.
pub(crate) const NO_PANIC: &str = "no panic";

/// As many events as the plan says, unless `TESTUDO_TRACE` in the environment asks for another number.
fn length_of_trace(plan: &Plan) -> usize {
    let asked = std::env::var("TESTUDO_TRACE").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(plan.trace)
}

/// Runs something that writes its papers, and reports on it even if it panics.
pub(crate) fn guarded(papers: &Papers, seed: u64, plan: &Plan, run: impl FnOnce()) -> Report {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        papers.break_off(panic_text(panic.as_ref()));
    }
    papers.report(seed, plan)
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn title(plan: &Plan) -> String {
    let liars: Vec<&str> = plan.liars.iter().map(|liar| liar.name()).collect();
    let liars = if liars.is_empty() { "no liar".into() } else { liars.join(" and ") };
    let beyond = match (plan.exceeds, plan.beyond) {
        (true, _) => ", beyond all promises",
        (false, true) => ", beyond f",
        (false, false) => "",
    };
    let clients = match plan.lying_clients.len() {
        0 => String::new(),
        1 => " and a lying client".into(),
        count => format!(" and {count} lying clients"),
    };
    format!("n={}, {liars}{clients}{beyond}", plan.n())
}

/// Which replicas lie. The first primary is one of them half of the time.
pub(crate) fn place_liars(plan: &Plan, rng: &mut Rng) -> Vec<(ReplicaId, Misconduct)> {
    let mut ids: Vec<ReplicaId> = (0..plan.n()).map(ReplicaId).collect();
    rng.shuffle(&mut ids);
    if rng.below(2) == 0 {
        ids.retain(|id| id.0 != 0);
        ids.insert(0, ReplicaId(0));
    }
    ids.into_iter().zip(plan.liars.iter().copied()).collect()
}

/// The world's shape under a plan.
pub(crate) fn shape(plan: &Plan, clients: u16, liars: &[(ReplicaId, Misconduct)]) -> Shape {
    let twins = liars.iter().filter(|(_, liar)| *liar == Misconduct::Twins);
    Shape {
        replicas: plan.n(),
        clients,
        learners: plan.learners,
        model: match plan.kind {
            FaultKind::Byzantine => FaultModel::byzantine(plan.f),
            kind => FaultModel { kind, ..FaultModel::crash(plan.f) },
        },
        twins: twins.map(|(id, _)| *id).collect(),
        signatures: plan.signatures,
    }
}
