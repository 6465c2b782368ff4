//! A handful of whole replicas over PBFT, driven by hand: messages are delivered in order until nothing is under way,
//! timers run out when a test says so, and every write is durable at once.
#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use testudo_contracts::{Moment, OrderConfig, Reading, Service, Store};
use testudo_core::{
    Context, Digest, Domain, Done, Effect, Effects, FaultModel, Host, Incarnation, Lost, Member,
    Membership, Panicked, Past, Peer, Position, Promise, Protocol, PublicKey, Rejection, ReplicaId,
    Rot, Signature, Signed, Signer, Slot, Tagged as _, Target, Time, Verified, Verifier, Work as _,
};
use testudo_pbft::Pbft;
use testudo_replication::{
    Bundle, Config, Event, Health, Replica, ReplicaMessage, ReplyBody, Request,
};

/// Appends what it is told to one entry. From time to time it wants to tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tape {
    /// How many milliseconds pass between two ticks, if it ticks.
    pub period: Option<u64>,
    /// Whether it says that it is due by a panic.
    pub panics: bool,
    /// Whether an operation is a value that takes the place of what its first eight bytes name.
    pub is_shelf: bool,
    /// From this slot on it executes something else than it should.
    pub wrong_from: Option<u64>,
    /// In this slot it executes something else than it should.
    pub wrong_at: Option<u64>,
}

fn number(store: &dyn Reading, key: &[u8]) -> u64 {
    let bytes = store.get(key).and_then(|value| <[u8; 8]>::try_from(&*value).ok());
    bytes.map_or(0, u64::from_le_bytes)
}

impl Service for Tape {
    const VERSION: u32 = 1;
    fn genesis(&self, store: &mut dyn Store) {
        store.put(b"tape", Arc::from(&b""[..]));
    }
    fn execute(&self, store: &mut dyn Store, operation: &[u8], moment: &Moment) -> Vec<u8> {
        if self.is_shelf {
            store.put(operation.get(..8).unwrap_or(operation), Arc::from(operation));
            return Vec::new();
        }
        let mut tape = store.get(b"tape").map(|tape| tape.to_vec()).unwrap_or_default();
        tape.extend_from_slice(operation);
        if self.wrong_from.is_some_and(|slot| slot <= moment.slot.0)
            || self.wrong_at == Some(moment.slot.0)
        {
            tape.push(b'?');
        }
        store.put(b"tape", tape.clone().into());
        store.put(operation, Arc::from(operation));
        tape
    }
    fn advance(&self, store: &mut dyn Store, moment: &Moment) -> Vec<u8> {
        let Some(period) = self.period else { return Vec::new() };
        let waited = number(store, b"waited") + moment.elapsed;
        store.put(b"waited", Arc::from((waited % period).to_le_bytes()));
        if waited < period {
            return Vec::new();
        }
        let ticks = number(store, b"ticks") + waited / period;
        store.put(b"ticks", Arc::from(ticks.to_le_bytes()));
        ticks.to_le_bytes().to_vec()
    }
    fn due(&self, store: &dyn Reading) -> Option<u64> {
        assert!(!self.panics, "due panics");
        self.period.map(|period| period - number(store, b"waited"))
    }
    fn internal_error(&self) -> Vec<u8> {
        b"internal".to_vec()
    }
    fn too_large(&self) -> Vec<u8> {
        b"too large".to_vec()
    }
}

pub type Node = Replica<Pbft, Tape>;
pub type Message = <Node as Protocol>::Message;
pub type Record = <Node as Protocol>::Record;
pub type Snapshot = <Node as Protocol>::Snapshot;
pub type Timer = <Node as Protocol>::Timer;
type Fx<'a> = Effects<'a, Node>;

/// A signature is a hash that the public key is enough to make, but nobody here makes another's.
pub struct Key {
    /// What statements are signed with.
    pub voting: PublicKey,
    /// What is signed in one's own name.
    pub identity: PublicKey,
}

impl Key {
    /// The key of a client, or of a replica that never came back.
    pub fn of(peer: Peer) -> Self {
        Self { voting: public(peer), identity: public(peer) }
    }
}

pub fn public(peer: Peer) -> PublicKey {
    match peer {
        Peer::Replica(id) => PublicKey(Digest::of_value(&id).0),
        Peer::Client(key) => key,
    }
}

pub fn hash(key: &PublicKey, digest: &Digest) -> Signature {
    let half = Digest::of_parts(&[&key.0, &digest.0]).0;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&half);
    Signature(signature)
}

impl Signer for Key {
    fn sign(&self, digest: &Digest) -> Signature {
        hash(&self.voting, digest)
    }
    fn certify(&self, digest: &Digest) -> Signature {
        hash(&self.identity, digest)
    }
}

struct Checker;
impl Verifier for Checker {
    fn check(&self, key: &PublicKey, digest: &Digest, signature: &Signature) -> bool {
        hash(key, digest) == *signature
    }
}

struct InHand(Time, Keys);
impl Host for InHand {
    fn clock(&self) -> Time {
        self.0
    }
    fn holds(&self, voting: &PublicKey) -> bool {
        self.1.held.contains(voting)
    }
    fn candidate(&self) -> Option<PublicKey> {
        self.1.candidate
    }
    fn vouch(&self, digest: &Digest) -> Option<Signature> {
        self.1.candidate.map(|key| hash(&key, digest))
    }
    fn choose(&mut self, _: u32) -> u32 {
        0
    }
    fn secret(&mut self) -> [u8; 32] {
        [0; 32]
    }
    fn guard(&mut self, operation: &mut dyn FnMut()) -> Result<(), Panicked> {
        catch_unwind(AssertUnwindSafe(operation)).map_err(|_| Panicked)
    }
}

pub fn client(name: u8) -> PublicKey {
    PublicKey([name; 32])
}

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Letter {
    pub from: Peer,
    pub to: ReplicaId,
    pub message: Message,
    pub signed: Signed<Message>,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub promise: Option<Promise>,
    pub records: Vec<(Position, Record)>,
    pub snapshot: Option<Snapshot>,
    /// The snapshot before that one.
    pub older: Option<Snapshot>,
    pub forgotten: Position,
    pub lost: Vec<Lost>,
}

/// The voting keys of a replica: the first from outside, the others made on its disk.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    pub held: BTreeSet<PublicKey>,
    pub candidate: Option<PublicKey>,
    made: u8,
}

impl Keys {
    fn new(id: u16, made: u8) -> Self {
        let first = public(Peer::Replica(ReplicaId(id)));
        let candidate = Digest::of_parts(&[b"candidate", &[id as u8, made]]).0;
        let held = BTreeSet::from([first]);
        Self { held, candidate: Some(PublicKey(candidate)), made }
    }

    /// The membership names these keys.
    fn use_candidate(&mut self, id: u16, voting: PublicKey) {
        if self.candidate == Some(voting) {
            self.held.insert(voting);
            self.made += 1;
            self.candidate = Self::new(id, self.made).candidate;
        }
    }
}

pub struct Machine {
    /// Who orders, as far as it knows.
    pub membership: Membership,
    pub keys: Keys,
    pub replica: Option<Node>,
    pub disk: Disk,
    next: Position,
    pub timers: BTreeMap<Timer, Duration>,
    pub events: Vec<Event>,
    /// Work that was asked for, while it is held back.
    pub work: Vec<(testudo_core::Stamp, <Node as Protocol>::Work)>,
}

enum Chore {
    Worked(Done<Node>),
    Recalled(Position, Record),
}

pub struct Cluster {
    pub config: Config<Tape>,
    /// What each replica executes.
    pub services: [Tape; 4],
    pub nodes: Vec<Machine>,
    pub wire: VecDeque<Letter>,
    /// What replicas said to clients.
    pub heard: Vec<(ReplicaId, PublicKey, Message)>,
    /// Letters for which this is true are lost.
    pub drop: Box<dyn Fn(&Letter) -> bool>,
    /// What their sender says instead, if it lies.
    pub twist: Box<dyn Fn(&Letter) -> Option<Message>>,
    pub now: u64,
    /// Whether work waits until [`Cluster::work`].
    pub holds_work: bool,
    /// Sees what replicas write.
    pub writes: Box<dyn FnMut(u16, &Effect<Node>)>,
    chores: VecDeque<(u16, Chore)>,
}

impl Cluster {
    /// Four replicas with a checkpoint every `interval` slots.
    pub fn new(interval: u64, service: Tape) -> Self {
        Self::with(interval, [service; 4])
    }

    /// The same, where not all need execute the same.
    pub fn with(interval: u64, services: [Tape; 4]) -> Self {
        let member = |id| {
            let key = public(Peer::Replica(ReplicaId(id)));
            Member { identity: key, voting: key, incarnation: Incarnation(0) }
        };
        let members = (0..4).map(member).collect();
        let membership = Membership::first(members, FaultModel::byzantine(1));
        let order = OrderConfig {
            checkpoint_interval: interval,
            window: 2 * interval,
            ..OrderConfig::new(Domain::default(), membership)
        };
        let clients = BTreeSet::from([client(1), client(2), client(3)]);
        let mut cluster = Self {
            config: Config { order, clients, service: services[0], decree: None },
            services,
            nodes: Vec::new(),
            wire: VecDeque::new(),
            heard: Vec::new(),
            drop: Box::new(|_| false),
            twist: Box::new(|_| None),
            now: 1_000_000,
            holds_work: false,
            writes: Box::new(|_, _| {}),
            chores: VecDeque::new(),
        };
        for id in 0..4 {
            let membership = cluster.config.order.membership.clone();
            cluster.nodes.push(Machine {
                membership,
                keys: Keys::new(id, 0),
                replica: None,
                disk: Disk::default(),
                next: Position(0),
                timers: BTreeMap::new(),
                events: Vec::new(),
                work: Vec::new(),
            });
        }
        (0..4).for_each(|id| cluster.start(id));
        cluster.run();
        cluster
    }

    pub fn context(&self) -> Context<'_> {
        self.context_of(0)
    }

    /// What a replica verifies with.
    pub fn context_of(&self, id: u16) -> Context<'_> {
        let membership = &self.nodes[usize::from(id)].membership;
        let domain = Domain { epoch: membership.epoch, ..Domain::default() };
        Context { domain, membership, verifier: &Checker }
    }

    /// A replica that is stopped loses its disk, and all keys that were made on it.
    pub fn wipe(&mut self, id: u16) {
        let node = &mut self.nodes[usize::from(id)];
        assert!(node.replica.is_none(), "it runs");
        node.disk = Disk::default();
        node.next = Position(0);
        node.keys = Keys::new(id, node.keys.made + 1);
    }

    /// Starts a replica from its disk.
    pub fn start(&mut self, id: u16) {
        let (mut config, now) = (self.config.clone(), self.now);
        config.service = self.services[usize::from(id)];
        let node = &mut self.nodes[usize::from(id)];
        node.membership = config.order.membership.clone();
        let Disk { promise, records, snapshot, forgotten, mut lost, .. } = node.disk.clone();
        if forgotten > snapshot.as_ref().map_or(Position(0), Node::covered) {
            lost.push(Lost { position: node.next, tag: None });
        }
        // Positions go on where they were, as on a disk.
        let kept = records
            .into_iter()
            .filter_map(|(at, record)| Some((at, Node::keep(snapshot.as_ref(), at, record)?)));
        let records = kept.collect();
        let past = Past { promise, snapshot, records, lost };
        let mut list = Vec::new();
        let mut hand = InHand(Time(now), node.keys.clone());
        let mut fx = Effects::new(&mut list, &mut node.next, &mut hand);
        let replica = Node::start(config, Peer::Replica(ReplicaId(id)), past, &mut fx);
        replica.invariants();
        replica.audit();
        node.replica = Some(replica);
        self.carry_out(id, list);
    }

    /// The records that match rot: themselves alone, or their tags with them. It is found out at the next start.
    pub fn rot(&mut self, id: u16, keeps_tag: bool, is_hit: impl Fn(&Record) -> bool) {
        let disk = &mut self.nodes[usize::from(id)].disk;
        let (rotten, sound): (Vec<_>, Vec<_>) =
            disk.records.drain(..).partition(|(_, record)| is_hit(record));
        assert!(!rotten.is_empty(), "there is no such record");
        disk.records = sound;
        disk.lost.extend(rotten.iter().map(|(position, record)| Lost {
            position: *position,
            tag: keeps_tag.then(|| record.tag()),
        }));
        disk.lost.sort_unstable();
    }

    /// Stops a replica. Everything it wrote is durable.
    pub fn stop(&mut self, id: u16) {
        let node = &mut self.nodes[usize::from(id)];
        node.replica = None;
        node.timers.clear();
        node.events.clear();
        node.work.clear();
    }

    pub fn restart(&mut self, id: u16) {
        self.stop(id);
        self.start(id);
        self.run();
    }

    /// A record of a replica that runs rots. Its driver finds it, and tells.
    pub fn rot_while_it_runs(&mut self, id: u16, position: Position) {
        let disk = &mut self.nodes[usize::from(id)].disk;
        let at = disk.records.iter().position(|(at, _)| *at == position).expect("it is there");
        let (_, record) = disk.records.remove(at);
        let lost = Lost { position, tag: Some(record.tag()) };
        disk.lost.push(lost);
        self.tell_rot(id, Rot::Record(lost));
    }

    /// A replica that runs is told of rot.
    pub fn tell_rot(&mut self, id: u16, rot: Rot) {
        self.step(id, |replica, fx| replica.on_rot(rot, fx));
        self.run();
    }

    fn step(&mut self, id: u16, act: impl FnOnce(&mut Node, &mut Fx<'_>)) {
        let node = &mut self.nodes[usize::from(id)];
        let Some(replica) = &mut node.replica else { return };
        let (mut list, mut hand) = (Vec::new(), InHand(Time(self.now), node.keys.clone()));
        act(replica, &mut Effects::new(&mut list, &mut node.next, &mut hand));
        replica.invariants();
        self.carry_out(id, list);
    }

    fn carry_out(&mut self, id: u16, list: Vec<Effect<Node>>) {
        for effect in list {
            (self.writes)(id, &effect);
            let node = &mut self.nodes[usize::from(id)];
            match effect {
                Effect::Promise(promise) => node.disk.promise = Some(promise),
                Effect::Persist(position, record) => node.disk.records.push((position, record)),
                Effect::Snapshot(snapshot) => {
                    node.disk.older = node.disk.snapshot.replace(*snapshot);
                }
                Effect::Forget(before) => {
                    node.disk.forgotten = before;
                    node.disk.records.retain(|(position, _)| *position >= before);
                    node.disk.lost.retain(|lost| lost.position >= before);
                }
                Effect::SetTimer(timer, after) => drop(node.timers.insert(timer, after)),
                Effect::CancelTimer(timer) => drop(node.timers.remove(&timer)),
                Effect::Output(event) => node.events.push(event),
                Effect::Work(stamp, work) if self.holds_work => node.work.push((stamp, work)),
                Effect::Work(stamp, work) => {
                    let done = Done { stamp, output: work.run() };
                    self.chores.push_back((id, Chore::Worked(done)));
                }
                Effect::Recall(position) => {
                    let found = node.disk.records.iter().find(|(at, _)| *at == position);
                    let found = found.cloned().map(|(at, record)| Chore::Recalled(at, record));
                    self.chores.extend(found.map(|chore| (id, chore)));
                }
                Effect::Send(to, message) | Effect::SendEager(to, message) => {
                    self.post(Peer::Replica(ReplicaId(id)), to, message);
                }
                Effect::Members(members) => {
                    if let Some(member) = members.member(ReplicaId(id)) {
                        node.keys.use_candidate(id, member.voting);
                    }
                    node.membership = members;
                }
                other => panic!("{other:?} is not expected here"),
            }
        }
    }

    /// Where somebody speaks, and what it signs with.
    fn seal_of(&self, from: Peer) -> (Domain, Key) {
        let Peer::Replica(id) = from else { return (Domain::default(), Key::of(from)) };
        let context = self.context_of(id.0);
        let voting = context.membership.key(from).expect("a member");
        (context.domain, Key { voting, ..Key::of(from) })
    }

    /// Puts a message on the wire.
    pub fn post(&mut self, from: Peer, to: Target, message: Message) {
        let (domain, key) = self.seal_of(from);
        let sealed = Verified::seal(message.clone(), from, domain, &key);
        let to: Vec<u16> = match to {
            Target::Peer(Peer::Client(key)) => {
                if let Peer::Replica(replica) = from {
                    self.heard.push((replica, key, message));
                }
                return;
            }
            Target::Peer(Peer::Replica(to)) => vec![to.0],
            Target::Replicas => (0..4).collect(),
            Target::Others => (0..4).filter(|id| Peer::Replica(ReplicaId(*id)) != from).collect(),
        };
        for to in to.into_iter().map(ReplicaId) {
            let (message, signed) = (message.clone(), sealed.signed());
            self.wire.push_back(Letter { from, to, message, signed });
        }
    }

    /// Delivers everything until nothing is under way.
    pub fn run(&mut self) {
        for _ in 0..1_000_000 {
            if let Some((id, chore)) = self.chores.pop_front() {
                self.step(id, |replica, fx| match chore {
                    Chore::Worked(done) => replica.on_work(done, fx),
                    Chore::Recalled(position, record) => replica.on_recalled(position, record, fx),
                });
            } else if let Some(mut letter) = self.wire.pop_front() {
                if let Some(message) = (self.twist)(&letter) {
                    let (domain, key) = self.seal_of(letter.from);
                    let sealed = Verified::seal(message, letter.from, domain, &key);
                    (letter.message, letter.signed) = (sealed.message().clone(), sealed.signed());
                }
                if !(self.drop)(&letter) {
                    self.deliver(&letter);
                }
            } else {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn deliver(&mut self, letter: &Letter) {
        match letter.signed.clone().verify(letter.from, &self.context_of(letter.to.0)) {
            Ok(message) => self.step(letter.to.0, |node, fx| node.on_message(message, fx)),
            // It is of another epoch.
            Err(Rejection::Domain) => {}
            Err(rejection) => panic!("{letter:?} is refused: {rejection:?}"),
        }
    }

    /// Does the work that was held back at a replica.
    pub fn work(&mut self, id: u16) {
        for (stamp, work) in std::mem::take(&mut self.nodes[usize::from(id)].work) {
            let done = Done { stamp, output: work.run() };
            self.step(id, |replica, fx| replica.on_work(done, fx));
        }
        self.run();
    }

    /// Lets a timer run out, if it runs.
    pub fn fire(&mut self, id: u16, timer: Timer) -> bool {
        let ran = self.nodes[usize::from(id)].timers.remove(&timer).is_some();
        if ran {
            self.step(id, |replica, fx| replica.on_timer(timer, fx));
        }
        ran
    }

    /// Lets a timer run out everywhere, and delivers all that comes of it.
    pub fn fire_all(&mut self, timer: Timer) {
        for id in 0..4 {
            self.fire(id, timer);
        }
        self.run();
    }

    /// A client says something to all replicas, and everything that comes of it is delivered.
    pub fn say(&mut self, name: u8, message: Message) {
        self.post(Peer::Client(client(name)), Target::Replicas, message);
        self.run();
    }

    /// A client says something to one replica.
    pub fn say_to(&mut self, name: u8, to: u16, message: Message) {
        self.post(Peer::Client(client(name)), Peer::Replica(ReplicaId(to)).into(), message);
        self.run();
    }

    pub fn open(&mut self, name: u8) -> u64 {
        let request = Request::Register { nonce: 7 };
        self.say(name, ReplicaMessage::Bundle(Bundle { replier: ReplicaId(0), request }));
        let opening = self.replica(0).state().system.opening(client(name), 7);
        let body = opening.map(|opening| {
            testudo_core::Decode::from_bytes(&opening.body).expect("a reply that can be read")
        });
        match body {
            Some(ReplyBody::Registered(number)) => number,
            other => panic!("no session: {other:?}"),
        }
    }

    pub fn bundle(session: u64, sequence: u64, operation: &[u8]) -> Bundle {
        let operations = vec![Arc::from(operation)];
        let request = Request::Operations { session, sequence, operations };
        Bundle { replier: ReplicaId(0), request }
    }

    /// Client 2 asks, once for each of these numbers of its session, for what the number names.
    pub fn put(&mut self, session: u64, sequences: std::ops::Range<u64>) {
        for sequence in sequences {
            let bundle = Self::bundle(session, sequence, &sequence.to_le_bytes());
            self.say(2, ReplicaMessage::Bundle(bundle));
        }
    }

    pub fn replica(&self, id: u16) -> &Node {
        self.nodes[usize::from(id)].replica.as_ref().expect("it runs")
    }

    /// What replicas said to this client since the last time.
    pub fn take_heard(&mut self, name: u8) -> Vec<(u16, Message)> {
        let (own, others) =
            std::mem::take(&mut self.heard).into_iter().partition(|(_, to, _)| *to == client(name));
        self.heard = others;
        let own: Vec<_> = own;
        own.into_iter().map(|(from, _, message)| (from.0, message)).collect()
    }

    /// Everybody is well, and has executed the same up to this slot.
    pub fn check(&self, slot: u64) {
        let head = self.replica(0).state().head();
        for id in 0..4 {
            self.replica(id).audit();
            assert_eq!(self.replica(id).status().health, Health::Well, "replica {id}");
            assert_eq!(self.replica(id).state().slot, Slot(slot), "replica {id}");
            assert_eq!(self.replica(id).state().head(), head, "replica {id}");
        }
    }
}

/// All that a replica has told in its life.
pub fn events(cluster: &Cluster, id: u16) -> &[Event] {
    &cluster.nodes[usize::from(id)].events
}

/// What its health became, one after the other.
pub fn health(cluster: &Cluster, id: u16) -> Vec<Health> {
    let health = events(cluster, id).iter().filter_map(|event| match event {
        Event::Health(health) => Some(*health),
        _ => None,
    });
    health.collect()
}
