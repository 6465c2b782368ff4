//! A world that protocols run in.
//!
//! It holds nodes, the wire between them, their disks, timers, clocks and keys, and lets one thing happen at a time:
//! deliver this message, fire that timer, flush, crash, restart. It decides nothing: which thing happens next is a
//! scheduler's choice, be that a seeded one ([`crate::seeded`]) or a script's ([`crate::script`]). Whatever a step
//! starts (a message under way, a timer that runs, a flush) is handed to the scheduler as [`Pending`].

mod cast;
mod fault;
mod flawed;
mod fork;
mod halt;
mod harm;
mod index;
mod kept;
mod shape;
mod speak;
mod stated;
mod step;
mod wire;
mod work;

use self::halt::Doom;
pub use self::shape::{Setup, Shape};
pub(crate) use self::speak::STOLEN;
pub(crate) use self::wire::{Frame, Packet};
use crate::adversary::{Adversary, Misconduct};
use crate::atlas::Condition;
use crate::conspiracy::{Advocates, Plot, Proposes};
use crate::disk::Codec;
use crate::event::{Audit, Event, Fact, NodeId};
use crate::host::{Flaw, Host, Rolls};
use crate::keys::{Keyring, Signatures, SimKeys, SimSigner};
use crate::liar::{Tamper, tamper_bytes};
use crate::load::Load;
use crate::oracle::Table;
use crate::rng::Rng;
use crate::script::compact;
use crate::shared::Shared;
use crate::step::{Ordinals, Recording};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use testudo_contracts::Tactic;
use testudo_core::{
    ClusterId, Context, Domain, Evidence, GroupId, Incarnation, Member, Membership, Message, Peer,
    Protocol, ProtocolId, ReplicaId,
};

/// The automata of one protocol and how their outputs are read.
///
/// A protocol without clients uses [`crate::NoClient`] for them. A bare ordering has its upper layer played by
/// [`System::above`].
pub trait System: Sized {
    /// What all of them say.
    type Message: Message + 'static;
    /// The replica.
    type Replica: Protocol<Message = Self::Message>;
    /// The client.
    type Client: Protocol<Message = Self::Message>;

    /// What the replica at `node` is started with.
    fn replica_config(
        &mut self,
        setup: &Setup,
        node: NodeId,
        id: ReplicaId,
    ) -> <Self::Replica as Protocol>::Config;

    /// What the client with this index is started with.
    fn client_config(&mut self, setup: &Setup, client: usize)
    -> <Self::Client as Protocol>::Config;

    /// What a replica's output tells oracles.
    fn replica_facts(&self, output: &<Self::Replica as Protocol>::Output, facts: &mut Vec<Fact>) {
        let _ = (output, facts);
    }

    /// What a client's output tells oracles.
    fn client_facts(&self, output: &<Self::Client as Protocol>::Output, facts: &mut Vec<Fact>) {
        let _ = (output, facts);
    }

    /// The layer above a replica: what it asks for, in return, when told this. It is lost with its node.
    fn above(
        &mut self,
        node: NodeId,
        output: <Self::Replica as Protocol>::Output,
    ) -> Vec<<Self::Replica as Protocol>::Input> {
        let _ = (node, output);
        Vec::new()
    }

    /// A node crashed: what its upper layer had in memory is gone.
    fn crashed(&mut self, node: NodeId) {
        let _ = node;
    }

    /// A client's node crashed, by its index: what its upper layer had in memory is gone.
    fn client_crashed(&mut self, client: usize) {
        let _ = client;
    }

    /// How a node misbehaves, where a system knows more of that than all systems do.
    fn adversary(
        &self,
        misconduct: Misconduct,
        me: Peer,
    ) -> Option<Box<dyn Adversary<Self::Message>>> {
        misconduct.adversary(me, self.tamper())
    }

    /// Whether a third party with the public keys would be convinced. Unless a system says otherwise its messages decide, as
    /// they do in production: those that convict nobody leave every accusation empty.
    fn convicts(&self, evidence: &Evidence, context: &Context<'_>) -> bool {
        Self::Message::is_convicted(evidence, context)
    }

    /// How a replica says it is.
    fn condition(&self, replica: &Self::Replica) -> Condition {
        let _ = replica;
        Condition::default()
    }

    /// What a replica keeps in memory beside the state of what it serves, and how much that may ever be, however long it
    /// runs.
    fn tables(&self, replica: &Self::Replica) -> Vec<Table> {
        let _ = replica;
        Vec::new()
    }

    /// What a replica is like, for people.
    fn describe(&self, replica: &Self::Replica) -> String {
        format!("{:?}", self.condition(replica))
    }

    /// A message's fields, without its name, for people.
    fn show(&self, message: &Self::Message) -> String {
        compact(&format!("{message:?}"))
    }

    /// Has a value in a replica's memory become another one soon; a number says which. False where a system has no
    /// state to spoil.
    fn rot_memory(&mut self, node: NodeId, draw: u64) -> bool {
        let _ = (node, draw);
        false
    }

    /// Whether nothing waits to become another value in that replica's memory.
    fn is_memory_settled(&self, node: NodeId) -> bool {
        let _ = node;
        true
    }

    /// How many values in replicas' memories have become others.
    fn memories_rotted(&self) -> u64 {
        0
    }

    /// What is wrong with its driver: a mutant that oracles must convict.
    fn flaw(&self) -> Option<Flaw> {
        None
    }

    /// By which digest votes name what a message of this system proposes, for liars that vote for what they made up.
    fn proposes(&self) -> Proposes<Self::Message> {
        |_| None
    }

    /// What a replica can say by itself in favour of what a message proposes, for liars that say so of their own accord.
    fn advocates(&self) -> Advocates<Self::Message> {
        |_| Vec::new()
    }

    /// A replica that keeps to a tactic, where a system's protocol knows it.
    fn tactician(
        &self,
        tactic: Tactic,
        me: ReplicaId,
        setup: &Setup,
    ) -> Option<Box<dyn Adversary<Self::Message>>> {
        let _ = (tactic, me, setup);
        None
    }

    /// What a client is asked for by the operation in these bytes, whose answer is known by the ticket; none where a
    /// system's clients take no operations.
    fn asked(
        &mut self,
        client: usize,
        ticket: u64,
        operation: &[u8],
    ) -> Option<<Self::Client as Protocol>::Input> {
        let _ = (client, ticket, operation);
        None
    }

    /// How an input from the layer above a replica is written down, where a system can.
    fn write_input(&self, input: &<Self::Replica as Protocol>::Input) -> Option<Vec<u8>> {
        let _ = input;
        None
    }

    /// The input from the layer above a replica that was written down like this.
    fn read_input(&self, bytes: &[u8]) -> Option<<Self::Replica as Protocol>::Input> {
        let _ = bytes;
        None
    }

    /// The binary forms of what replicas keep, for worlds in which they keep real logs.
    fn codec(&self) -> Option<Codec<Self::Replica>> {
        None
    }

    /// How liars change this system's messages.
    fn tamper(&self) -> Tamper<Self::Message> {
        tamper_bytes
    }
}

/// What a node is.
pub enum Body<S: System> {
    /// A replica.
    Replica(Host<S::Replica>),
    /// A client, by index.
    Client(usize, Host<S::Client>),
}

/// A node and what ails it.
pub(crate) struct Node<S: System> {
    pub(crate) body: Body<S>,
    pub(crate) peer: Peer,
    pub(crate) adversary: Option<Box<dyn Adversary<S::Message>>>,
    /// Which copy it is, where its identity has two.
    pub(crate) side: Option<bool>,
    pub(crate) is_correct: bool,
}

/// Runs the same expression on whichever host a node has.
macro_rules! each_host {
    ($body:expr, $host:ident => $do:expr) => {
        match $body {
            $crate::world::Body::Replica($host) => $do,
            $crate::world::Body::Client(_, $host) => $do,
        }
    };
}
pub(crate) use each_host;

/// Something that a step started and that a scheduler has to let happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pending {
    /// A message is under way; its sender holds it back for so long first.
    Packet(u64, Duration),
    /// A timer runs: node, number, how long.
    Timer(NodeId, u64, Duration),
    /// Writes up to this mark are on their way to the disk: node, its life, mark.
    Flush(NodeId, u32, u64),
    /// Something goes on in the background: node, its number.
    Chore(NodeId, u64),
    /// A node's processor is busy for so long, then it looks at the next message.
    Serve(NodeId, Duration),
}

/// How far a world has got, as of its last event.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    /// The hash over all events so far.
    pub(crate) audit: Audit,
    /// When the last one was.
    pub(crate) at: Duration,
    /// Steps of automata before it.
    pub(crate) steps: u64,
}

/// Whoever wants to hear of every event at once.
pub trait Observer {
    /// Something happened at this virtual time.
    fn observe(&mut self, at: Duration, event: &Event);
}

/// The world.
pub struct World<S: System> {
    /// The protocol's own part: configurations, upper layers, facts.
    pub system: S,
    setup: Setup,
    keys: SimKeys,
    rolls: Rolls,
    now: Duration,
    /// Milliseconds since the Unix epoch at the start.
    began: u64,
    nodes: Vec<Shared<Node<S>>>,
    lives: Vec<u32>,
    /// Replicas that have found their state wrong, and have no other yet.
    wrong: BTreeSet<NodeId>,
    /// How often another state has taken the place of each replica's wrong one.
    mended: BTreeMap<NodeId, u64>,
    addresses: BTreeMap<Peer, Vec<NodeId>>,
    /// For the two copies of a twin: the peers that the second one talks to.
    second_side: BTreeSet<Peer>,
    wire: BTreeMap<u64, Packet<S::Message>>,
    letters: u64,
    asked: u64,
    cuts: BTreeSet<(NodeId, NodeId)>,
    pending: Vec<Pending>,
    answers: VecDeque<(usize, <S::Client as Protocol>::Output)>,
    audit: Audit,
    steps: u64,
    /// Where somebody can read how far it has got, whatever becomes of the world.
    tally: Option<Rc<Cell<Tally>>>,
    observers: Vec<Rc<RefCell<dyn Observer>>>,
    rng: Rng,
    /// What work costs; none where nothing does.
    load: Option<Load>,
    /// How often liars said something else, by what kind of message it was about.
    twisted: BTreeMap<(ProtocolId, &'static str), u64>,
    /// What liars share that conspire.
    plot: Option<Rc<RefCell<Plot<S::Message>>>>,
    /// Nodes that do not run for a while, with what has come due meanwhile.
    paused: BTreeMap<NodeId, Vec<Pending>>,
    /// Nodes that crash when they have given out so much more.
    doomed: BTreeMap<NodeId, Doom>,
    /// What names messages.
    ordinals: Ordinals,
    /// The steps that are taken down, where somebody wants them.
    recording: Option<Box<Recording>>,
}

impl<S: System> World<S> {
    /// Makes a world in which every node has just been started for the first time.
    #[must_use]
    pub fn new(system: S, shape: &Shape, seed: u64) -> Self {
        let mut world = Self::asleep(system, shape, seed);
        world.start_all();
        world
    }

    /// Makes a world in which nobody has been started yet, so that observers and adversaries can be added first.
    #[must_use]
    pub fn asleep(system: S, shape: &Shape, seed: u64) -> Self {
        let signatures = shape.signatures.unwrap_or_else(|| Signatures::of(seed));
        let mut keys = SimKeys::with(seed, signatures);
        let voting: Vec<SimSigner> = (0..shape.replicas).map(|_| keys.mint()).collect();
        let clients: Vec<SimSigner> =
            (0..shape.clients + shape.learners).map(|_| keys.mint()).collect();
        let rings: Vec<Keyring> = voting
            .into_iter()
            .map(|first| {
                let identity = keys.mint();
                let unmade = (0..Keyring::UNMADE).map(|_| keys.mint()).collect();
                Keyring { identity, first, unmade }
            })
            .collect();
        let members = rings
            .iter()
            .map(|ring| Member {
                identity: ring.identity.public(),
                voting: ring.first.public(),
                incarnation: Incarnation(0),
            })
            .collect();
        let domain = Domain {
            cluster: ClusterId(*b"simulated world."),
            group: GroupId(0),
            ..Domain::default()
        };
        let membership = Rc::new(Membership::first(members, shape.model));
        keys.expect(&membership);
        let setup = Setup {
            domain,
            membership,
            clients: clients.iter().map(SimSigner::public).collect(),
            learners: usize::from(shape.learners),
        };
        let mut world = Self {
            system,
            rolls: Rc::new(RefCell::new(vec![setup.membership.clone()])),
            setup,
            keys,
            now: Duration::ZERO,
            began: 1_700_000_000_000,
            nodes: Vec::new(),
            lives: Vec::new(),
            wrong: BTreeSet::new(),
            mended: BTreeMap::new(),
            addresses: BTreeMap::new(),
            second_side: BTreeSet::new(),
            wire: BTreeMap::new(),
            letters: 0,
            asked: 0,
            cuts: BTreeSet::new(),
            pending: Vec::new(),
            answers: VecDeque::new(),
            audit: Audit::default(),
            steps: 0,
            tally: None,
            observers: Vec::new(),
            rng: Rng::split(seed, "adversary", 0),
            load: None,
            twisted: BTreeMap::new(),
            plot: None,
            paused: BTreeMap::new(),
            doomed: BTreeMap::new(),
            ordinals: Ordinals::default(),
            recording: None,
        };
        world.populate(&rings, &clients, &shape.twins, seed);
        world
    }

    /// Has all replicas keep real logs, if their system knows how what they keep is written. Before any of them starts.
    pub fn keep_logs(&mut self, seed: u64) {
        let (codec, flaw) = (self.system.codec(), self.system.flaw());
        let Some(codec) = codec else { return };
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if let Body::Replica(host) = &mut node.body {
                let seed = Rng::split(seed, "bytes", index as u64).next();
                host.disk.keep_log(codec, flaw, seed);
            }
        }
    }

    /// Starts every node that does not run.
    pub fn start_all(&mut self) {
        for node in self.all() {
            self.restart(node);
        }
    }

    /// Has somebody hear of every event from now on.
    pub fn watch(&mut self, observer: Rc<RefCell<dyn Observer>>) {
        self.observers.push(observer);
    }

    /// Virtual time since the start.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// Moves virtual time on; it never goes back.
    pub fn advance_to(&mut self, to: Duration) {
        self.now = self.now.max(to);
    }

    /// Who there was at the beginning.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// All keys, for checks that a third party could make.
    #[must_use]
    pub const fn keys(&self) -> &SimKeys {
        &self.keys
    }

    /// The hash over all events so far.
    #[must_use]
    pub const fn audit_hash(&self) -> Audit {
        self.audit
    }

    /// Steps of automata so far.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// How often liars said something else than they should, of the same kind, by protocol and kind of message.
    #[must_use]
    pub const fn twisted(&self) -> &BTreeMap<(ProtocolId, &'static str), u64> {
        &self.twisted
    }

    /// All nodes: replicas, clients, second copies of twins.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + use<S> {
        (0..self.nodes.len()).map(|index| NodeId(index as u16))
    }

    /// The first copies of all replicas.
    pub fn replicas(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<S> {
        (0..self.setup.membership.n()).map(|index| NodeId(index as u16))
    }

    /// The node of a client.
    #[must_use]
    pub fn client_node(&self, client: usize) -> NodeId {
        NodeId((self.setup.membership.n() + client) as u16)
    }

    /// Whether it is a replica (or a twin of one).
    #[must_use]
    pub fn is_replica(&self, node: NodeId) -> bool {
        matches!(self.nodes[node.index()].body, Body::Replica(_))
    }

    /// Whether it does what its protocol says: it may crash, but does not lie.
    #[must_use]
    pub fn is_correct(&self, node: NodeId) -> bool {
        self.nodes[node.index()].is_correct
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        each_host!(&self.nodes[node.index()].body, host => host.is_up())
    }

    /// Its identity.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Peer {
        self.nodes[node.index()].peer
    }

    /// A replica's host, to look at its automaton and disk; none for clients.
    #[must_use]
    pub fn replica(&self, node: NodeId) -> Option<&Host<S::Replica>> {
        match &self.nodes.get(node.index())?.body {
            Body::Replica(host) => Some(host),
            Body::Client(..) => None,
        }
    }

    /// A client's host, by its index.
    #[must_use]
    pub fn client(&self, client: usize) -> Option<&Host<S::Client>> {
        match &self.nodes.get(self.setup.membership.n() + client)?.body {
            Body::Client(_, host) => Some(host),
            Body::Replica(_) => None,
        }
    }

    /// A node's name in traces: replicas by number, clients as c1 and on, learners as l1 and on, a twin's second copy
    /// with a prime.
    #[must_use]
    pub fn name(&self, node: NodeId) -> String {
        self.who(node).to_string()
    }

    /// What has been started since the last call, in the order of starting, taken over by who gives an empty list for it: the
    /// two lists then serve by turns.
    pub fn swap_pending(&mut self, empty: &mut Vec<Pending>) {
        debug_assert!(empty.is_empty(), "what was started before has been let happen");
        std::mem::swap(&mut self.pending, empty);
    }

    /// What has been started since the last call.
    pub fn take_pending(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.pending)
    }

    /// The next answer that a client's automaton gave the layer above it.
    pub fn take_answer(&mut self) -> Option<(usize, <S::Client as Protocol>::Output)> {
        self.answers.pop_front()
    }

    /// Runs the deep check of every node that is up and correct.
    pub fn audit(&self) {
        for node in self.nodes.iter().filter(|node| node.is_correct) {
            each_host!(&node.body, host => host.audit());
        }
    }

    /// From now on how far it has got is written down there after every event.
    pub(crate) fn tally_in(&mut self, tally: Rc<Cell<Tally>>) {
        self.tally = Some(tally);
    }

    /// Notes something that only a run's own driver knows.
    pub fn note(&mut self, event: &Event) {
        self.record(event);
    }

    pub(crate) fn record(&mut self, event: &Event) {
        self.audit.add(self.now, event);
        if let Some(tally) = &self.tally {
            tally.set(Tally { audit: self.audit, at: self.now, steps: self.steps });
        }
        for observer in &self.observers {
            observer.borrow_mut().observe(self.now, event);
        }
    }
}
