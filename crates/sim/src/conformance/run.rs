//! One run of one seed.

use super::Serving;
use crate::event::NodeId;
use crate::linear::{Linearity, Operation, check};
use crate::oracle::settle;
use crate::papers::{Papers, guarded, place_liars, shape};
use crate::plan::{Climate, Plan};
use crate::report::Report;
use crate::rng::{Chance, Rng};
use crate::seeded::{Outcome, Seeded};
use crate::service::{Answer, Ask, KeyModel, Mix};
use crate::world::World;
use std::collections::BTreeMap;
use std::time::Duration;
use testudo_core::{Decode, Encode};

/// Runs one seed under a plan. A panic of a replica is a violation like any other.
pub fn run_seed<S: Serving>(make: impl FnOnce() -> S, seed: u64, plan: &Plan) -> Report {
    let papers = Papers::default();
    guarded(&papers.clone(), seed, plan, || {
        let mut run = Run::new(make(), seed, plan, papers.clone());
        run.play();
        run.judge_history();
        let answered = run.history.iter().filter(|op| op.returned.is_some()).count();
        run.papers.close(&run.seeded, answered);
    })
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
}

impl<'a, S: Serving> Run<'a, S> {
    fn new(system: S, seed: u64, plan: &'a Plan, papers: Papers) -> Self {
        let mut rng = Rng::split(seed, "run", 0);
        let liars = place_liars(plan, &mut rng);
        let shape = shape(plan, plan.clients, &liars);
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
            // Time for whoever is a little behind to hear the rest.
            let quiet = self.seeded.world.now() + Duration::from_secs(5);
            self.run_while(|run| run.seeded.world.now() < quiet);
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
        !self.papers.is_violated()
    }

    fn waiting(&self, client: usize, operation: usize) -> String {
        let input = self.history.get(operation).map(|operation| &operation.input);
        format!("c{} {input:?}", client + 1)
    }

    fn violate(&self, oracle: &'static str, what: String) {
        let at = self.seeded.world.now();
        self.papers.violate(oracle, at, what);
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

    /// Linearizable must be every part of a run; the ledger balances only at the end of a whole one.
    fn judge_history(&self) {
        let is_whole = !self.papers.is_violated();
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
