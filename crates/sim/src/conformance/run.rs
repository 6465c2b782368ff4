//! One run of one seed.

use super::Serving;
use super::court::{Ask, Court, Turn};
use crate::adversary::Misconduct;
use crate::diagram::Reel;
use crate::event::NodeId;
use crate::papers::{Papers, guarded, place_liars, shape};
use crate::plan::{Climate, Plan};
use crate::report::Report;
use crate::rng::{Chance, Rng};
use crate::seeded::{Outcome, Seeded};
use crate::step::Step;
use crate::workload::{Finding, Workload};
use crate::world::{Shape, World};
use std::time::Duration;
use testudo_core::ReplicaId;

/// Runs one seed under a plan. A panic of a replica is a violation like any other.
pub fn run_seed<S: Serving>(make: impl FnOnce() -> S, seed: u64, plan: &Plan) -> Report {
    run_on_film(make, seed, plan, None)
}

/// The same, with a film of it: to be developed with [`crate::Film::to_html`], whatever the run came to.
pub fn film_seed<S: Serving>(
    make: impl FnOnce() -> S,
    seed: u64,
    plan: &Plan,
    film: &Reel,
) -> Report {
    run_on_film(make, seed, plan, Some(film))
}

fn run_on_film<S: Serving>(
    make: impl FnOnce() -> S,
    seed: u64,
    plan: &Plan,
    film: Option<&Reel>,
) -> Report {
    let papers = Papers::with_film(film);
    guarded(&papers.clone(), seed, plan, || {
        let world = World::asleep(make(), &shape_of(seed, plan), seed);
        let mut run = Run::new(world, seed, plan, papers.clone());
        run.play();
        run.close();
    })
}

/// What was done in a run, whatever it came to.
pub(crate) struct Taken<A> {
    pub(crate) steps: Vec<Step>,
    pub(crate) asks: Vec<(u64, A)>,
}

/// Runs one seed and takes down every step of it, and what clients asked for by their tickets.
pub(crate) fn run_and_record<S: Serving>(
    make: impl FnOnce() -> S,
    seed: u64,
    plan: &Plan,
) -> (Report, Taken<Ask<S>>) {
    let papers = Papers::default();
    let mut run = None;
    let report = guarded(&papers.clone(), seed, plan, || {
        let mut world = World::asleep(make(), &shape_of(seed, plan), seed);
        world.record_steps();
        let run = run.insert(Run::new(world, seed, plan, papers.clone()));
        run.play();
        run.close();
    });
    // A run that panicked was taken down up to the step that did.
    let taken = run.map(|mut run| Taken {
        steps: run.seeded.world.take_steps(),
        asks: run.court.asks().map(|(ticket, ask)| (ticket, ask.clone())).collect(),
    });
    (report, taken.unwrap_or_else(|| Taken { steps: Vec::new(), asks: Vec::new() }))
}

/// The shape of the world of a seed's run.
pub(crate) fn shape_of(seed: u64, plan: &Plan) -> Shape {
    shape(plan, plan.bare_clients(), &place_liars(plan, &mut Rng::split(seed, "run", 0)))
}

/// The climate of a seed's run: the plan's, or one that is drawn.
pub(crate) fn climate_of(seed: u64, plan: &Plan) -> Climate {
    let drawn = || Climate::drawn(&plan.troubles, &mut Rng::split(seed, "climate", 0));
    plan.climate.clone().unwrap_or_else(drawn)
}

/// Whoever learns hears a liar first; or second, where it takes a second one for the liar to be asked at all.
fn first_upstream(liar: ReplicaId, misconduct: Misconduct, n: u16) -> u16 {
    match misconduct {
        Misconduct::Upstream(Some(strategy)) if strategy.is_about_states() => (liar.0 + n - 1) % n,
        _ => liar.0,
    }
}

/// How often more work is given where a rule was broken that somebody must notice: enough for several checkpoints.
const OCCASIONS: u64 = 15;

/// Appointments beyond this number are not those of clients.
const CLIENTS: u64 = 1 << 32;

pub(super) struct Run<'a, S: Serving> {
    pub(super) seeded: Seeded<S>,
    pub(super) plan: &'a Plan,
    pub(super) court: Court<S>,
    papers: Papers,
    rng: Rng,
    /// What clients that lie ask for, and when.
    whims: Rng,
    issued: usize,
    /// Operations that nobody waits for any more: their clients crashed. Others are asked for in their place.
    abandoned: usize,
    /// Operations beyond those of the plan, so that work goes on while replicas recover.
    pub(super) extra: usize,
}

impl<'a, S: Serving> Run<'a, S> {
    fn new(world: World<S>, seed: u64, plan: &'a Plan, papers: Papers) -> Self {
        let mut rng = Rng::split(seed, "run", 0);
        let liars = place_liars(plan, &mut rng);
        let mut world = world;
        if plan.disks.are_logs(seed) {
            world.keep_logs(seed);
        }
        let climate = climate_of(seed, plan);
        let mut seeded = Seeded::new(world, seed, climate, plan.budget(), plan.beyond);
        if let Some((liar, misconduct)) = liars.first() {
            seeded.world.load_learners(u32::from(first_upstream(*liar, *misconduct, plan.n())));
        }
        for (id, liar) in liars {
            seeded.corrupt(NodeId(id.0), liar);
        }
        for (client, trick) in plan.lying() {
            let node = seeded.world.client_node(client);
            seeded.world.corrupt(node, Misconduct::Client(trick));
        }
        papers.open(&mut seeded.world, plan);
        seeded.spread_clocks();
        seeded.world.start_all();
        for number in 0..usize::from(plan.callers()) {
            let client = plan.caller(number) as u64;
            seeded.call(Duration::from_millis(rng.below(50)), client);
        }
        for (client, _) in plan.lying() {
            seeded.call(Duration::ZERO, client as u64);
        }
        let court = Court::new(seed, plan, papers.clone());
        let whims = Rng::split(seed, "lying clients", 0);
        Self { seeded, plan, court, papers, rng, whims, issued: 0, abandoned: 0, extra: 0 }
    }

    fn play(&mut self) {
        self.perform();
        if self.plan.exceeds {
            self.let_it_be_noticed();
        }
    }

    /// Where a rule was broken and nothing came after it, nobody had an occasion to notice: replicas compare what they hold
    /// at checkpoints, and ask each other now and then. So there is more to do for a while, if anybody still answers.
    fn let_it_be_noticed(&mut self) {
        for _ in 0..OCCASIONS {
            if !self.papers.is_violated() || self.is_over() {
                return;
            }
            let callers = u64::from(self.plan.callers());
            self.extra += callers as usize;
            (0..callers).for_each(|client| self.seeded.call(Duration::ZERO, client));
            self.pass(Duration::from_secs(1));
        }
    }

    fn perform(&mut self) {
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
            self.silence_liars();
            // Time for whoever is a little behind to hear the rest.
            self.pass(self.court.afterthought().max(Duration::from_secs(5)));
            self.seeded.world.audit();
            if !self.is_over() {
                let now = self.seeded.world.now();
                self.court.finish(now);
            }
        }
    }

    /// The last judgement, and what is taken down of the run.
    fn close(&mut self) {
        let Self { court, seeded, papers, .. } = self;
        court.judge(&seeded.world, !papers.is_violated(), |node| seeded.is_spoilt(node));
        self.papers.close(&self.seeded, self.court.answered());
    }

    fn heal(&mut self) {
        self.seeded.heal();
        self.court.healed(self.seeded.world.now());
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.seeded.world.now() + time;
        self.run_while(|run| run.seeded.world.now() < end);
    }

    fn is_busy(&self) -> bool {
        self.has_more() || !self.court.is_idle()
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
            let patience = self.plan.patience;
            let (waiting, replicas) = (self.court.waiting(&self.seeded.world), self.describe_all());
            self.violate(
                "liveness",
                format!("{patience:?} after {what} still unanswered: {waiting}{replicas}"),
            );
        }
        !self.is_busy() && !self.is_over()
    }

    /// Whether there is nothing more to learn: a rule is broken, and nobody need notice it; or nothing moves on.
    pub(super) fn is_over(&self) -> bool {
        let circles = self.seeded.world.steps() > self.plan.steps;
        self.papers.is_violated() && (circles || !self.plan.exceeds)
    }

    pub(super) fn violate(&self, oracle: &'static str, what: String) {
        self.find([(oracle, what)]);
    }

    fn find(&self, findings: impl IntoIterator<Item = Finding>) {
        self.court.find(self.seeded.world.now(), findings);
    }

    /// Steps while `more` says so, until a rule is broken or nothing is left to happen.
    fn run_while(&mut self, more: impl Fn(&Self) -> bool) {
        while !self.is_over() && more(self) {
            match self.seeded.step() {
                Outcome::Idle => return,
                Outcome::Happened => {}
                Outcome::Call(client) if client < CLIENTS => self.ask(client as usize),
                Outcome::Call(_) => {}
            }
            if self.seeded.world.steps() > self.plan.steps {
                self.violate("liveness", "it goes round in circles".into());
            }
            self.papers.look(&self.seeded.world);
            let Self { court, seeded, .. } = self;
            court.look(&seeded.world, |node| seeded.is_spoilt(node));
            let turns = court.hear(&mut seeded.world);
            turns.iter().for_each(|turn| self.go_on(turn));
        }
    }

    /// A client that waits for nothing any more asks again.
    fn go_on(&mut self, turn: &Turn) {
        let (client, pause) = match turn {
            Turn::Abandoned(client) => {
                self.abandoned += 1;
                (*client, self.rng.between(1, 100))
            }
            // Mostly at once again; now and then after a pause, so that the work lasts through the storm.
            Turn::Answered(client) if self.rng.per_mille(100) => {
                (*client, self.rng.between(100, 3_000))
            }
            Turn::Answered(client) => (*client, self.rng.between(0, 30)),
        };
        self.seeded.call(Duration::from_millis(pause), client as u64);
    }

    fn ask(&mut self, client: usize) {
        if self.plan.lying().any(|(lying, _)| lying == client) {
            return self.ask_liar(client);
        }
        if !self.has_more() || self.court.is_waiting(client) {
            return;
        }
        let node = self.seeded.world.client_node(client);
        if !self.seeded.world.is_up(node) || self.seeded.world.is_paused(node) {
            self.seeded.call(Duration::from_millis(100), client as u64);
            return;
        }
        let token = self.issued as u64;
        let ask = S::Workload::draw(self.plan.keys, token, self.court.onlooker(), &mut self.rng);
        self.issued += 1;
        self.submit(client, ask);
    }

    /// A client that lies asks for something, and will again, whatever it is answered.
    fn ask_liar(&mut self, client: usize) {
        let world = &mut self.seeded.world;
        let node = world.client_node(client);
        if world.is_up(node) && !world.is_paused(node) {
            let operation = S::Workload::foreign(self.whims.next(), &mut self.whims);
            self.court.submit_unjudged(world, client, operation);
        }
        let pause = Duration::from_millis(self.whims.between(5, 300));
        self.seeded.call(pause, client as u64);
    }

    /// Clients that lie stop for good, so that at the end everybody has come to the same.
    fn silence_liars(&mut self) {
        for (client, _) in self.plan.lying() {
            let world = &mut self.seeded.world;
            world.crash(world.client_node(client), 0);
        }
    }

    fn submit(&mut self, client: usize, input: Ask<S>) {
        let ticket = self.court.next_ticket();
        self.court.submit(&mut self.seeded.world, client, ticket, input);
    }

    fn read_everything(&mut self) {
        // One after the other, by clients in turn, each waiting for its answer.
        for (index, read) in S::Workload::last_reads(self.plan.keys).into_iter().enumerate() {
            let client = self.plan.caller(index % usize::from(self.plan.callers().max(1)));
            let deadline = self.seeded.world.now() + self.plan.patience;
            self.run_while(|run| run.court.is_waiting(client) && run.seeded.world.now() < deadline);
            if self.court.is_waiting(client) {
                return;
            }
            self.submit(client, read);
        }
    }
}
