//! A run of a bare ordering: requests come in through a storm, and in the end every correct replica has executed all.

use super::{Bare, Told, request};
use crate::conformance::Seeds;
use crate::event::{Event, Fact, NodeId};
use crate::papers::{Papers, guarded, place_liars, shape};
use crate::plan::{Climate, Plan};
use crate::report::{Report, Summary};
use crate::rng::{Chance, Rng};
use crate::seeded::{Outcome, Seeded};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use testudo_contracts::{
    Batch, Checkpoint, OrderInput, OrderOutput, Ordering, StableCheckpoint, Waiting,
};
use testudo_core::{Digest, Slot};
use testudo_quorum::Dissemination;

/// Runs every seed under one of the plans, which the seed alone decides, and sums up.
pub fn conform<O: Ordering>(make: impl Fn() -> Bare<O>, seeds: &Seeds, plans: &[Plan]) -> Summary
where
    O::Message: 'static,
{
    let mut summary = Summary::default();
    for seed in seeds.all() {
        if let Some(plan) = plans.get((seed % plans.len().max(1) as u64) as usize) {
            summary.add(run_seed(&make, *seed, plan));
        }
    }
    summary
}

/// Runs one seed: as many requests as the plan has operations, each known to all replicas.
pub fn run_seed<O: Ordering>(make: impl FnOnce() -> Bare<O>, seed: u64, plan: &Plan) -> Report
where
    O::Message: 'static,
{
    let papers = Papers::default();
    guarded(&papers.clone(), seed, plan, || {
        let mut run = Run::new(make(), seed, plan, papers.clone());
        run.play();
        run.papers.close(&run.seeded, run.issued as usize);
    })
}

/// What the layer above a replica remembers.
#[derive(Default)]
struct Upper {
    executed: Slot,
    /// What it last said about waiting requests.
    waiting: Option<Waiting>,
    /// Requests that it has proposed in this view as its primary.
    proposed: BTreeSet<u64>,
    /// Whether nothing fresh was proposed in this view yet.
    is_first: bool,
    /// The slot of the last stable checkpoint that it was told of.
    stable: Slot,
    /// Others have decided up to here, and it has to be handed the state.
    behind: Option<Slot>,
}

struct Run<'a, O: Ordering>
where
    O::Message: 'static,
{
    seeded: Seeded<Bare<O>>,
    plan: &'a Plan,
    papers: Papers,
    rng: Rng,
    issued: u64,
    /// Per request, the first slot that it was executed in.
    places: BTreeMap<u64, Slot>,
    numbers: BTreeMap<Digest, u64>,
    /// The chain of digests of all that was executed, by slot.
    chain: BTreeMap<Slot, Digest>,
    uppers: BTreeMap<NodeId, Upper>,
    stable: Option<StableCheckpoint>,
    interval: u64,
}

/// How often upper layers look whether there is something to propose.
const TICK: Duration = Duration::from_millis(5);
/// The appointment for that; another number is that of the next request.
const LOOK: u64 = 1;

impl<'a, O: Ordering> Run<'a, O>
where
    O::Message: 'static,
{
    fn new(system: Bare<O>, seed: u64, plan: &'a Plan, papers: Papers) -> Self {
        let mut rng = Rng::split(seed, "run", 0);
        let liars = place_liars(plan, &mut rng);
        let plan_shape = shape(plan, 0, &liars);
        let climate = plan
            .climate
            .clone()
            .unwrap_or_else(|| Climate::drawn(&plan.troubles, &mut Rng::split(seed, "climate", 0)));
        let interval = system.interval();
        let world = World::asleep(system, &plan_shape, seed);
        let mut seeded = Seeded::new(world, seed, climate, plan.f, plan.beyond);
        for (id, liar) in liars {
            seeded.corrupt(NodeId(id.0), liar);
        }
        papers.open(&mut seeded.world, plan);
        seeded.spread_clocks();
        seeded.world.start_all();
        seeded.call(TICK, LOOK);
        seeded.call(TICK, LOOK + 1);
        Self {
            seeded,
            plan,
            papers,
            rng,
            issued: 0,
            places: BTreeMap::new(),
            numbers: BTreeMap::new(),
            chain: BTreeMap::from([(Slot(0), Digest::ZERO)]),
            uppers: BTreeMap::new(),
            stable: None,
            interval,
        }
    }

    fn play(&mut self) {
        let storm = self.plan.storm;
        self.run_while(|run| run.seeded.world.now() < storm && !run.is_complete());
        self.seeded.heal();
        self.complete("the storm");
        self.seeded.world.audit();
        self.seeded.blackout(Duration::from_secs(1));
        let wait = self.seeded.world.now() + Duration::from_secs(2);
        self.run_while(|run| run.seeded.world.now() < wait);
        self.seeded.heal();
        // One more request shows that the protocol goes on from what the disks hold.
        self.issue();
        self.complete("the blackout");
        self.seeded.world.audit();
    }

    /// Whether every request has been issued, and executed by every correct replica.
    fn is_complete(&self) -> bool {
        let last = self.places.values().max().copied().unwrap_or_default();
        self.issued >= self.plan.operations as u64
            && self.places.len() as u64 == self.issued
            && self.seeded.world.replicas().all(|node| {
                !self.seeded.world.is_correct(node)
                    || self.uppers.get(&node).is_some_and(|upper| upper.executed >= last)
            })
    }

    fn complete(&mut self, what: &str) {
        let deadline = self.seeded.world.now() + self.plan.patience;
        self.run_while(|run| !run.is_complete() && run.seeded.world.now() < deadline);
        if !self.is_complete() && !self.papers.is_violated() {
            let executed: Vec<Slot> = self.uppers.values().map(|upper| upper.executed).collect();
            let (done, issued) = (self.places.len(), self.issued);
            let what =
                format!("after {what}: {done} of {issued} executed, replicas at {executed:?}");
            self.papers.violate("liveness", self.seeded.world.now(), what);
        }
    }

    fn run_while(&mut self, more: impl Fn(&Self) -> bool) {
        while !self.papers.is_violated() && more(self) {
            match self.seeded.step() {
                Outcome::Idle => return,
                Outcome::Happened => {}
                Outcome::Call(LOOK) => {
                    self.look();
                    self.seeded.call(TICK, LOOK);
                }
                Outcome::Call(_) => {
                    if self.issued < self.plan.operations as u64 {
                        self.issue();
                        let pause = if self.rng.per_mille(50) { 2_000 } else { 30 };
                        let pause = Duration::from_millis(self.rng.below(pause));
                        self.seeded.call(pause, LOOK + 1);
                    }
                }
            }
            while let Some((node, told)) = self.seeded.world.system.take_told() {
                match told {
                    Told::Output(output) => self.hear(node, output),
                    Told::Crashed => {
                        self.uppers.remove(&node);
                    }
                }
            }
        }
    }

    fn upper(&mut self, node: NodeId) -> &mut Upper {
        self.uppers.entry(node).or_insert_with(|| Upper { is_first: true, ..Upper::default() })
    }

    fn issue(&mut self) {
        self.numbers.insert(request(self.issued), self.issued);
        self.issued += 1;
    }

    fn hear(&mut self, node: NodeId, output: OrderOutput) {
        match output {
            OrderOutput::Execute { slot, batch, .. } => self.execute(node, slot, &batch),
            OrderOutput::View(..) => {
                let upper = self.upper(node);
                upper.proposed.clear();
                upper.is_first = true;
            }
            OrderOutput::Behind(slot) => {
                self.upper(node).behind = Some(slot);
            }
            OrderOutput::Rollback(slot) => {
                self.upper(node).executed = slot;
            }
            OrderOutput::Judge { .. } | OrderOutput::Commit(_) | OrderOutput::Remind => {}
        }
    }

    fn execute(&mut self, node: NodeId, slot: Slot, batch: &Batch) {
        self.upper(node).executed = slot;
        if !self.seeded.world.is_correct(node) {
            return;
        }
        if let Some(before) = self.chain.get(&slot.previous()).copied() {
            let after = Digest::of_parts(&[&before.0, &batch.digest().0]);
            self.chain.entry(slot).or_insert(after);
        }
        for number in batch.bundles.iter().filter_map(|bundle| self.numbers.get(bundle)) {
            self.places.entry(*number).or_insert(slot);
        }
        if slot.0.is_multiple_of(self.interval) {
            self.checkpoint(slot);
        }
    }

    /// A checkpoint that a quorum has executed is stable.
    fn checkpoint(&mut self, slot: Slot) {
        let Some(state) = self.chain.get(&slot).copied() else { return };
        let Some(quorums) = Dissemination::of(&self.seeded.world.setup().membership) else {
            return;
        };
        let reached =
            |node: &NodeId| self.uppers.get(node).is_some_and(|upper| upper.executed >= slot);
        let nodes: Vec<NodeId> = self.seeded.world.replicas().filter(reached).collect();
        let is_newer = self.stable.as_ref().is_none_or(|known| known.statement().slot < slot);
        if nodes.len() >= quorums.quorum() && is_newer {
            let statement = Checkpoint { slot, state };
            self.stable = Some(self.seeded.world.certify(&nodes, &statement));
        }
    }

    /// Each upper layer tells its ordering what is waiting and stable, and proposes what it may.
    fn look(&mut self) {
        for node in self.seeded.world.all().collect::<Vec<_>>() {
            let Some(executed) = self.executed(node) else { continue };
            if self.seeded.world.is_paused(node) {
                continue;
            }
            // While writes are under way, what it executed may still wait behind the gate.
            let is_settled = self.seeded.world.unflushed(node) == 0;
            if is_settled {
                self.upper(node).executed = executed;
            }
            if is_settled {
                self.hand_down(node);
            }
            self.tell_waiting(node);
            self.propose(node);
        }
    }

    fn executed(&self, node: NodeId) -> Option<Slot> {
        self.seeded.world.replica(node)?.automaton().map(Ordering::executed)
    }

    fn hand_down(&mut self, node: NodeId) {
        let (Some(stable), Some(upper)) = (self.stable.clone(), self.uppers.get_mut(&node)) else {
            return;
        };
        let slot = stable.statement().slot;
        if upper.executed >= slot {
            if upper.stable < slot {
                upper.stable = slot;
                self.seeded.world.ask_replica(node, OrderInput::Stable(stable));
            }
        } else if upper.behind.take().is_some() {
            upper.executed = slot;
            upper.stable = slot;
            self.seeded.world.note(&Event::Told(node, Fact::Restored(slot)));
            self.seeded.world.ask_replica(node, OrderInput::Restored(stable));
        }
    }

    /// The oldest requests that this replica has not executed.
    fn open(&self, executed: Slot) -> impl Iterator<Item = u64> + '_ {
        (0..self.issued)
            .filter(move |number| self.places.get(number).is_none_or(|slot| *slot > executed))
    }

    fn tell_waiting(&mut self, node: NodeId) {
        let Some(executed) = self.uppers.get(&node).map(|upper| upper.executed) else { return };
        let waiting = self.open(executed).next().map_or(Waiting::Nothing, Waiting::Oldest);
        if let Some(upper) = self.uppers.get_mut(&node)
            && upper.waiting != Some(waiting)
        {
            upper.waiting = Some(waiting);
            self.seeded.world.ask_replica(node, OrderInput::Waiting(waiting));
        }
    }

    fn propose(&mut self, node: NodeId) {
        let automaton = self.seeded.world.replica(node).and_then(|host| host.automaton());
        if !automaton.is_some_and(|ordering| ordering.may_propose() && ordering.open_slots() < 2) {
            return;
        }
        let Some(upper) = self.uppers.get(&node) else { return };
        let (executed, is_first) = (upper.executed, upper.is_first);
        let fresh: Vec<u64> =
            self.open(executed).filter(|number| !upper.proposed.contains(number)).take(4).collect();
        if fresh.is_empty() {
            return;
        }
        let batch = Batch {
            bundles: fresh.iter().map(|number| request(*number)).collect(),
            time: self.seeded.world.time(),
            gap_not_counted: is_first,
        };
        if let Some(upper) = self.uppers.get_mut(&node) {
            upper.is_first = false;
            upper.proposed.extend(fresh);
        }
        self.seeded.world.ask_replica(node, OrderInput::Propose(batch));
    }
}
