//! Everybody who judges a run of a service, whoever decides what happens next in it.
//!
//! The jury reads the world's events. What it cannot see from there is brought before it here: the history of what
//! clients asked and were answered, the states that replicas hold, and what learners publish.

use super::{Heard, Held, Serving};
use crate::event::{Event, Fact, NodeId};
use crate::linear::Operation;
use crate::oracle::{Bounds, Copies, States};
use crate::papers::Papers;
use crate::plan::Plan;
use crate::workload::{Finding, Onlooker, Workload};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use testudo_core::Slot;
use testudo_replication::Published;

/// The states after every so-manieth slot are compared.
const COMPARED: u64 = 4;

/// What replicas keep in memory is counted whenever a replica's state has moved on, and every so-many looks whether it has
/// or not: what grows while nothing is executed grows too.
const COUNTED: u64 = 64;
/// Tickets beyond this one are of operations that are no part of the history.
const UNJUDGED: u64 = 1 << 48;

/// Whether an operation of this ticket is no part of the history.
pub(crate) const fn is_unjudged(ticket: u64) -> bool {
    ticket > UNJUDGED
}

/// What the clients of a system are asked for.
pub type Ask<S> = <<S as Serving>::Workload as Workload>::Ask;
type Answer<S> = <<S as Serving>::Workload as Workload>::Answer;

/// What became of a client's request.
pub(crate) enum Turn {
    /// The client has its answer.
    Answered(usize),
    /// The client's node started again, and nobody waits for the answer any more.
    Abandoned(usize),
}

/// The judges of one run.
pub(crate) struct Court<S: Serving> {
    papers: Papers,
    history: Vec<Operation<Ask<S>, Answer<S>>>,
    /// Per ticket, which operation of the history it is.
    tickets: BTreeMap<u64, usize>,
    /// Tickets whose answers are not judged.
    disregarded: BTreeSet<u64>,
    /// How many operations were asked for that are no part of the history.
    unjudged: u64,
    /// When each operation of the history was asked for.
    times: Vec<Duration>,
    onlooker: <S::Workload as Workload>::Onlooker,
    copies: Copies,
    states: States,
    bounds: Bounds,
    /// The slot of the state that each replica was last seen to hold.
    held: Vec<Option<Slot>>,
    /// How many steps there had been when somebody last looked.
    looked: u64,
    /// How often somebody looked.
    looks: u64,
    /// The life of each client's node.
    lives: Vec<Option<u32>>,
    /// Per client, the operation that it waits for.
    open: BTreeMap<usize, usize>,
    /// Orders calls and returns.
    moment: u64,
    /// How many records a correct replica's log may ever hold, if there is a bound.
    most_records: Option<usize>,
}

impl<S: Serving> Court<S> {
    pub(crate) fn new(seed: u64, plan: &Plan, papers: Papers) -> Self {
        Self {
            papers,
            history: Vec::new(),
            tickets: BTreeMap::new(),
            disregarded: BTreeSet::new(),
            times: Vec::new(),
            onlooker: S::Workload::onlooker(seed),
            copies: Copies::default(),
            states: States::default(),
            bounds: Bounds::default(),
            held: vec![None; usize::from(plan.n())],
            looked: 0,
            looks: 0,
            lives: vec![None; usize::from(plan.callers()) + plan.lying_clients.len()],
            unjudged: 0,
            open: BTreeMap::new(),
            moment: 0,
            most_records: plan.most_records,
        }
    }

    pub(crate) const fn onlooker(&self) -> &<S::Workload as Workload>::Onlooker {
        &self.onlooker
    }

    /// Whether a client waits for an answer.
    pub(crate) fn is_waiting(&self, client: usize) -> bool {
        self.open.contains_key(&client)
    }

    /// The answer to this ticket is not judged: nobody here knows what was asked for.
    pub(crate) fn disregard(&mut self, ticket: u64) {
        self.disregarded.insert(ticket);
    }

    /// Whether an operation of this ticket was asked for.
    pub(crate) fn has_issued(&self, ticket: u64) -> bool {
        self.tickets.contains_key(&ticket)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// The ticket that nobody has had.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.history.len() as u64
    }

    /// What every operation of the history asked for.
    pub(crate) fn asks(&self) -> impl Iterator<Item = (u64, &Ask<S>)> {
        self.tickets.iter().map(|(ticket, id)| (*ticket, &self.history[*id].input))
    }

    /// How many operations were answered.
    pub(crate) fn answered(&self) -> usize {
        self.history.iter().filter(|operation| operation.returned.is_some()).count()
    }

    pub(crate) fn find(&self, at: Duration, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|(oracle, what)| self.papers.violate(oracle, at, what));
    }

    /// Has a client ask for an operation.
    pub(crate) fn submit(
        &mut self,
        world: &mut World<S>,
        client: usize,
        ticket: u64,
        input: Ask<S>,
    ) {
        let id = self.history.len();
        let operation = S::Workload::encode(&input);
        self.moment += 1;
        let now = world.now();
        self.onlooker.asked(now, client, &input);
        world.take_down_ask(client, ticket, &operation);
        let note = Fact::Note(format!("asks #{ticket}: {input:?}").into());
        world.note(&Event::Told(world.client_node(client), note));
        self.history.push(Operation { client, input, called: self.moment, returned: None });
        self.tickets.insert(ticket, id);
        self.times.push(now);
        self.open.insert(client, id);
        let input = world.system.submit(client, ticket, operation);
        world.ask_client(client, input);
    }

    /// Has a client ask for an operation that is no part of the history, whatever is answered.
    pub(crate) fn submit_unjudged(
        &mut self,
        world: &mut World<S>,
        client: usize,
        operation: Vec<u8>,
    ) {
        self.unjudged += 1;
        let ticket = UNJUDGED + self.unjudged;
        world.take_down_ask(client, ticket, &operation);
        let input = world.system.submit(client, ticket, operation);
        world.ask_client(client, input);
    }

    /// Looks at what replicas hold now. Those whose state is known to be spoilt need not hold what others hold.
    pub(crate) fn look(&mut self, world: &World<S>, is_spoilt: impl Fn(NodeId) -> bool) {
        if std::mem::replace(&mut self.looked, world.steps()) == world.steps() {
            return;
        }
        let at = world.now();
        self.looks += 1;
        let is_counted = self.looks.is_multiple_of(COUNTED);
        let mut findings = Vec::new();
        for node in world.replicas().filter(|node| world.is_correct(*node)) {
            findings.extend(self.unbounded(world, node));
            let Some(replica) = world.replica(node).and_then(|host| host.automaton()) else {
                continue;
            };
            let held = S::held(replica);
            let moved_to = held.as_ref().map(|held| held.slot);
            let before = self.held.get_mut(node.index());
            let has_moved = before.is_some_and(|before| {
                moved_to.is_some() && std::mem::replace(before, moved_to) != moved_to
            });
            if has_moved || is_counted {
                let tables = world.system.tables(replica);
                findings.extend(self.bounds.keeps(&world.name(node), &tables));
            }
            let Some(Held { slot, time, state }) = held else { continue };
            if !has_moved || is_spoilt(node) {
                continue;
            }
            // Without learners nobody shows copies that would have to be compared with it.
            if world.setup().learners > 0 {
                findings.extend(self.copies.held(slot, state));
            }
            findings.extend(self.onlooker.held(at, node, slot, time, state));
            if slot.0.is_multiple_of(COMPARED)
                && let Some((slot, digest)) = S::digest(replica)
            {
                findings.extend(self.states.held(node, slot, digest));
            }
        }
        self.find(at, findings);
    }

    /// A replica that crashes in the midst of a step has told of a slot at which nobody has seen it. What a learner shows there
    /// stands for the state, until another replica comes by and it is compared.
    fn foresee(&mut self, world: &World<S>, shown: &Published) -> Vec<Finding> {
        let someone = world.replicas().next().filter(|_| self.copies.is_ahead(shown.slot));
        let held =
            |node| self.onlooker.held(world.now(), node, shown.slot, shown.time, &shown.state);
        someone.map_or_else(Vec::new, held)
    }

    /// A log that grows beyond what the plan allows is not let go.
    fn unbounded(&self, world: &World<S>, node: NodeId) -> Option<Finding> {
        let most = self.most_records?;
        let records = world.replica(node)?.disk().records();
        (records > most).then(|| {
            ("bounded log", format!("{} holds {records} records on disk", world.name(node)))
        })
    }

    /// Sees which clients began a new life, and hears what clients were told.
    pub(crate) fn hear(&mut self, world: &mut World<S>) -> Vec<Turn> {
        let mut turns = Vec::new();
        for client in 0..world.setup().clients.len() {
            let life = world.life(world.client_node(client));
            let before = self.lives.get_mut(client).and_then(|known| known.replace(life));
            // Whoever starts for the first time had nothing to lose: where steps are done again, somebody looks on already.
            if before.is_some_and(|before| before != life && before > 0) {
                // What it had asked for may be executed or not, and nobody waits for it.
                self.copies.crashed(client);
                self.onlooker.crashed(client);
                if self.open.remove(&client).is_some() {
                    turns.push(Turn::Abandoned(client));
                }
            }
        }
        while let Some((client, output)) = world.take_answer() {
            for heard in world.system.answered(client, output) {
                match heard {
                    Heard::Answer(ticket, answer) => {
                        turns.extend(self.answer(world, client, ticket, &answer));
                    }
                    Heard::Published(published) => {
                        let at = world.now();
                        let mut findings = self.foresee(world, &published);
                        findings.extend(self.onlooker.published(at, client, &published));
                        findings.extend(self.copies.published(client, &published));
                        self.find(at, findings);
                    }
                }
            }
        }
        turns
    }

    fn answer(
        &mut self,
        world: &World<S>,
        client: usize,
        ticket: u64,
        answer: &[u8],
    ) -> Option<Turn> {
        if is_unjudged(ticket) || self.disregarded.contains(&ticket) {
            return None;
        }
        let (now, name) = (world.now(), world.name(world.client_node(client)));
        let id = self.tickets.get(&ticket).copied();
        let Some((id, operation)) = id.and_then(|id| Some((id, self.history.get_mut(id)?))) else {
            self.find(now, [("clients", format!("{name} was answered what nobody asked"))]);
            return None;
        };
        if operation.returned.is_some() {
            self.find(now, [("clients", format!("{name} was answered #{ticket} twice"))]);
            return None;
        }
        self.moment += 1;
        match S::Workload::decode(&operation.input, answer) {
            Ok(answer) => {
                self.onlooker.answered(self.times[id], now, &operation.input, &answer);
                operation.returned = Some((self.moment, answer));
            }
            Err(error) => {
                let what = format!("the answer to #{ticket} cannot be read: {error}");
                self.find(now, [("clients", what)]);
            }
        }
        self.open.remove(&client);
        Some(Turn::Answered(client))
    }

    /// All trouble has ended.
    pub(crate) fn healed(&mut self, at: Duration) {
        self.onlooker.healed(at);
    }

    /// What a client waits for, for people.
    pub(crate) fn waiting(&self, world: &World<S>) -> String {
        let line = |(client, id): (&usize, &usize)| {
            let input = self.history.get(*id).map(|operation| &operation.input);
            format!("{} {input:?}", world.name(world.client_node(*client)))
        };
        self.open.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    /// A whole run is over: what should have happened and did not.
    pub(crate) fn finish(&mut self, at: Duration) {
        let findings = self.onlooker.finish(at);
        self.find(at, findings);
    }

    /// At the end whoever has executed equally far holds the same state, whether it was struck or not.
    fn compare_all(&mut self, world: &World<S>, is_spoilt: impl Fn(NodeId) -> bool) {
        let mut findings = Vec::new();
        for node in world.replicas().filter(|node| world.is_correct(*node)) {
            let automaton = world.replica(node).and_then(|host| host.automaton());
            if let Some((slot, digest)) = automaton.and_then(S::digest)
                && !is_spoilt(node)
            {
                findings.extend(self.states.held(node, slot, digest));
            }
        }
        self.find(world.now(), findings);
    }

    /// How long after the last answer somebody wants to go on looking on.
    pub(crate) fn afterthought(&self) -> Duration {
        self.onlooker.afterthought()
    }

    /// The last judgement, wherever the run has ended: every part of one must be right. The ledger balances only at the
    /// end of a whole one. Whoever looks on is asked only if it knows all that was asked for.
    pub(crate) fn judge(
        &mut self,
        world: &World<S>,
        is_whole: bool,
        is_spoilt: impl Fn(NodeId) -> bool,
    ) {
        self.compare_all(world, is_spoilt);
        let at = world.now();
        if is_whole {
            self.find(at, self.copies.finish());
        }
        if self.disregarded.is_empty() {
            let findings = self.onlooker.judge(at);
            self.find(at, findings);
        }
        self.find(at, S::Workload::judge(&self.history, is_whole));
        self.count();
    }

    /// Takes down how much was judged.
    fn count(&self) {
        self.papers.count("copies compared", self.copies.compared());
        self.papers.count("copies that nobody else held when shown", self.copies.alone());
        self.papers.count("states compared", self.states.compared());
        self.papers.count("tables counted", self.bounds.looks());
        self.onlooker.counts().into_iter().for_each(|(name, count)| self.papers.count(name, count));
    }
}
