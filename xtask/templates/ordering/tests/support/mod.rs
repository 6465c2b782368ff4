//! What the tests share: a stage on which one replica stands, with a layer above that does what the test says.
#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;
use __crate__::message::Message;
use __crate__::{__Type__, Rules, Standard};
use testudo_contracts::{
    Batch, Checkpoint, Freshness, Mode, OrderConfig, OrderInput, OrderOutput, Waiting,
};
use testudo_core::auth::{Context, Evidence};
use testudo_core::{Digest, FaultModel, ReplicaId, Slot, View};
use testudo_sim::{
    Event, Fact, NoClient, NodeId, Observer, Pending, Setup, Shape, System, World,
};

/// The replica's node.
pub const NODE: NodeId = NodeId(0);

/// A batch that is told apart from others by its name.
pub fn batch(name: &str) -> Batch {
    Batch { bundles: vec![Digest::of(name.as_bytes())], ..Batch::default() }
}

/// The name of a batch: a letter, or what the null batch is called.
fn name(digest: Digest) -> String {
    let mut letters = ('a'..='z').map(|letter| letter.to_string());
    let null = || (digest == Batch::null().digest()).then(|| "null".to_string());
    letters.find(|name| batch(name).digest() == digest).or_else(null).unwrap_or_else(|| "?".into())
}

/// The layer above: it judges or does not, and remembers what it was told in this life.
pub struct Above<R> {
    pub judges: bool,
    pub asked: Vec<(View, Slot, Batch, Freshness)>,
    pub executed: BTreeMap<Slot, Batch>,
    pub behind: Vec<Slot>,
    rules: PhantomData<fn() -> R>,
}

impl<R: Rules> System for Above<R> {
    type Message = Message;
    type Replica = __Type__<R>;
    type Client = NoClient<Message>;

    fn replica_config(&mut self, setup: &Setup, _: NodeId, _: ReplicaId) -> OrderConfig {
        let membership = (*setup.membership).clone();
        OrderConfig { window: 16, ..OrderConfig::new(setup.domain, membership) }
    }

    fn client_config(&mut self, _: &Setup, _: usize) {}

    fn replica_facts(&self, output: &OrderOutput, facts: &mut Vec<Fact>) {
        facts.push(match output {
            OrderOutput::Execute { slot, batch, mode } => {
                let is_final = *mode == Mode::Final;
                Fact::Executed { slot: *slot, batch: batch.digest(), is_final }
            }
            OrderOutput::Commit(slot) => Fact::Committed(*slot),
            OrderOutput::Rollback(slot) => Fact::RolledBack(*slot),
            OrderOutput::View(view, primary) => Fact::View(*view, *primary),
            OrderOutput::Judge { view, slot, batch, freshness } => {
                let name = name(batch.digest());
                Fact::Note(format!("asks v{view} s{slot} {name}, {freshness:?}").into())
            }
            OrderOutput::Behind(slot) => Fact::Note(format!("is behind s{slot}").into()),
            OrderOutput::Remind => Fact::Note("reminds the primary".into()),
        });
    }

    fn above(&mut self, _: NodeId, output: OrderOutput) -> Vec<OrderInput> {
        match output {
            OrderOutput::Judge { view, slot, batch, freshness } => {
                let digest = batch.digest();
                self.asked.push((view, slot, batch, freshness));
                let judged = OrderInput::Judged { view, slot, batch: digest };
                return if self.judges { vec![judged] } else { Vec::new() };
            }
            OrderOutput::Execute { slot, batch, .. } => {
                let before = self.executed.insert(slot, batch);
                assert_eq!(before, None, "{slot:?} was executed twice in one life");
            }
            OrderOutput::Behind(slot) => self.behind.push(slot),
            OrderOutput::Commit(_)
            | OrderOutput::Rollback(_)
            | OrderOutput::Remind
            | OrderOutput::View(..) => {}
        }
        Vec::new()
    }

    fn crashed(&mut self, _: NodeId) {
        self.asked.clear();
        self.executed.clear();
        self.behind.clear();
    }

    fn convicts(&self, evidence: &Evidence, context: &Context<'_>) -> bool {
        <Message as testudo_core::Message>::is_convicted(evidence, context)
    }
}

/// What happens, one line each, without times and digests.
#[derive(Default)]
struct Lines(Vec<String>);

impl Observer for Lines {
    fn observe(&mut self, _: Duration, event: &Event) {
        let line = match event {
            Event::Sent(letter) => {
                format!("{} -> {}  {}", letter.from.0, letter.to.0, letter.name)
            }
            Event::Flushed(node, writes) => format!("{} flushes {writes}", node.0),
            Event::Fired(node, timer) => format!("{} runs out of {timer}", node.0),
            Event::Started(node) => format!("{} starts", node.0),
            Event::Crashed { node, writes, held } => {
                format!("{} crashes and loses {writes} writes, {held} words", node.0)
            }
            Event::Told(node, Fact::Executed { slot, batch, .. }) => {
                format!("{} executes s{slot} {}", node.0, name(*batch))
            }
            Event::Told(node, Fact::View(view, _)) => format!("{} enters v{view}", node.0),
            Event::Told(node, Fact::Note(note)) => format!("{} {note}", node.0),
            Event::Blamed { by, accused, offence, .. } => {
                format!("{} convicts {accused} of {offence}", by.0)
            }
            _ => return,
        };
        self.0.push(line);
    }
}

/// A world with one replica, in which nothing happens but what a test asks for.
pub struct Stage<R: Rules = Standard> {
    pub world: World<Above<R>>,
    /// How many flushes may still go through; writes beyond wait for more to be allowed.
    pub flushes: usize,
    pending: Vec<Pending>,
    lines: Rc<RefCell<Lines>>,
}

impl<R: Rules> Stage<R> {
    /// A replica that was just started for the first time.
    pub fn new() -> Self {
        let above = Above {
            judges: true,
            asked: Vec::new(),
            executed: BTreeMap::new(),
            behind: Vec::new(),
            rules: PhantomData,
        };
        let model = FaultModel::byzantine(0);
        let shape = Shape { replicas: 1, model, ..Shape::byzantine(0, 0) };
        let mut world = World::asleep(above, &shape, 0);
        let lines = Rc::new(RefCell::new(Lines::default()));
        world.watch(lines.clone());
        let mut stage = Self { world, flushes: usize::MAX, pending: Vec::new(), lines };
        stage.start();
        stage
    }

    /// Starts the replica from its disk, and lets everything happen that follows.
    pub fn start(&mut self) {
        self.world.restart(NODE);
        self.run();
    }

    /// Stops it. What is not flushed is lost.
    pub fn crash(&mut self) {
        self.pending.clear();
        self.world.crash(NODE, 0);
    }

    pub fn input(&mut self, input: OrderInput) {
        self.world.ask_replica(NODE, input);
        self.run();
    }

    pub fn propose(&mut self, name: &str) {
        self.input(OrderInput::Propose(batch(name)));
    }

    pub fn wait(&mut self, oldest: u64) {
        self.input(OrderInput::Waiting(Waiting::Oldest(oldest)));
    }

    /// The view's time runs out, if it runs.
    pub fn suspect(&mut self) {
        if let Some(timer) = self.world.timer_named(NODE, "view") {
            self.world.fire(NODE, timer);
        }
        self.run();
    }

    /// A stable checkpoint at this slot.
    pub fn checkpoint(&self, slot: u64) -> testudo_contracts::StableCheckpoint {
        let statement = Checkpoint { slot: Slot(slot), state: Digest::of(b"state") };
        self.world.certify(&[NODE], &statement)
    }

    /// Lets everything happen that was started, but timers, until nothing is left or only flushes that may not go
    /// through.
    pub fn run(&mut self) {
        loop {
            self.pending.extend(self.world.take_pending());
            let may = |pending: &Pending| !matches!(pending, Pending::Flush(..)) || self.flushes > 0;
            let Some(next) = self.pending.iter().position(may) else { break };
            match self.pending.remove(next) {
                Pending::Packet(number, _) => {
                    self.world.deliver(number);
                }
                Pending::Flush(node, life, mark) => {
                    self.flushes = self.flushes.saturating_sub(1);
                    self.world.flush(node, life, mark);
                }
                Pending::Chore(node, number) => self.world.finish(node, number),
                Pending::Timer(..) | Pending::Serve(..) => {}
            }
        }
        self.world.audit();
    }

    pub fn replica(&self) -> &__Type__<R> {
        let host = self.world.replica(NODE).expect("it is a replica");
        host.automaton().expect("it runs")
    }

    /// What it has executed in this life, in the order of slots.
    pub fn executed(&self) -> Vec<Batch> {
        self.world.system.executed.values().cloned().collect()
    }

    /// What has happened since the last call.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines.borrow_mut().0)
    }
}

/// Batches by name.
pub fn batches(names: &[&str]) -> Vec<Batch> {
    names.iter().map(|name| batch(name)).collect()
}
