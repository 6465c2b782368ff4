//! A handful of cores, with messages delivered by hand: keyed hashes for signatures, a gate and a disk that can lose
//! what it has not flushed, and a layer above that judges and executes.
//!
//! Whatever a test does, [`Cluster::check`] holds at its end: correct replicas executed the same, none of them said
//! anything that convicts it, and every invariant stands.
#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use testudo_contracts::{
    Batch, Checkpoint, Freshness, OrderConfig, OrderInput, OrderOutput, StableCheckpoint, Waiting,
};
use testudo_core::fault::FaultModel;
use testudo_core::gate::Gate;
use testudo_core::{
    Certificate, Context, Digest, Domain, Effect, Effects, Evidence, Host, Incarnation, Lost,
    Member, Membership, Message as _, Past, Peer, Position, Promise, Protocol, PublicKey,
    ReplicaId, Signature, Signed, Signer, Slot, Statement, Tagged as _, Target, Time, Verified,
    Verifier, View,
};
use testudo_pbft::message::{Commit, Prepare};
use testudo_pbft::{Message, Pbft, Record, Rules, Snapshot, Standard, Timer, safety};
use testudo_quorum::Dissemination;

/// A replica's key: its signature is a hash that its public key is enough to make, but nobody here does.
pub struct Key(pub ReplicaId);

fn public(id: ReplicaId) -> PublicKey {
    PublicKey(Digest::of_value(&id).0)
}

fn hash(key: &PublicKey, digest: &Digest) -> Signature {
    let half = Digest::of_parts(&[&key.0, &digest.0]).0;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&half);
    signature[32..].copy_from_slice(&half);
    Signature(signature)
}

impl Signer for Key {
    fn sign(&self, digest: &Digest) -> Signature {
        hash(&public(self.0), digest)
    }
}

pub struct Checker;
impl Verifier for Checker {
    fn check(&self, key: &PublicKey, digest: &Digest, signature: &Signature) -> bool {
        hash(key, digest) == *signature
    }
}

/// A host whose secrets are numbers of starts.
struct Still(u64);
impl Host for Still {
    fn clock(&self) -> Time {
        Time(0)
    }
    fn choose(&mut self, _: u32) -> u32 {
        0
    }
    fn secret(&mut self) -> [u8; 32] {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&self.0.to_le_bytes());
        secret
    }
}

pub fn membership(n: u16, f: u16) -> Membership {
    let member = |id| Member {
        identity: public(ReplicaId(id)),
        voting: public(ReplicaId(id)),
        incarnation: Incarnation(0),
    };
    let members = (0..n).map(member).collect();
    Membership::first(members, FaultModel::byzantine(f))
}

pub fn batch(name: &str) -> Batch {
    Batch { bundles: vec![Digest::of(name.as_bytes())], ..Batch::default() }
}

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Letter {
    pub from: ReplicaId,
    pub to: ReplicaId,
    pub message: Message,
    pub signed: Signed<Message>,
}

/// What survives a crash.
#[derive(Clone, Default)]
pub struct Disk {
    pub promise: Option<Promise>,
    pub records: Vec<(Position, Record)>,
    pub lost: Vec<Lost>,
    pub snapshot: Option<Snapshot>,
}

enum Write {
    Promise(Promise),
    Record(Position, Record),
}

pub struct Node<R: Rules> {
    pub core: Option<Pbft<R>>,
    pub disk: Disk,
    gate: Gate<Effect<Pbft<R>>>,
    unwritten: Vec<Write>,
    next: Position,
    /// Whether every write is durable at once. Otherwise [`Cluster::flush`] makes them so.
    pub flushes: bool,
    /// Writes that may still become durable before the disk takes no more; `None` for no end.
    pub writes_left: Option<usize>,
    /// Whether the layer above judges everything at once.
    pub judges: bool,
    pub asked: Vec<(View, Slot, Batch, Freshness)>,
    pub timers: BTreeMap<Timer, Duration>,
    pub executed: BTreeMap<Slot, Batch>,
    pub behind: Vec<Slot>,
    pub views: Vec<View>,
    pub evidence: Vec<Evidence>,
    /// Every signed message that has left it, with how often.
    pub said: Vec<Message>,
    pub is_faulty: bool,
}

impl<R: Rules> Node<R> {
    pub fn core(&self) -> &Pbft<R> {
        self.core.as_ref().expect("it runs")
    }
}

pub struct Cluster<R: Rules = Standard> {
    pub config: OrderConfig,
    pub nodes: Vec<Node<R>>,
    pub wire: Vec<Letter>,
    /// Letters for which this is true are lost.
    pub drop: Box<dyn Fn(&Letter) -> bool>,
    pub delivered: usize,
    starts: u64,
    /// What the layers above answer once the step that asked is over.
    answers: VecDeque<(u16, Answer)>,
}

enum Answer {
    Input(OrderInput),
    Recalled(Position, Record),
}

impl<R: Rules> Cluster<R> {
    pub fn new(n: u16, f: u16) -> Self {
        let mut config = OrderConfig::new(Domain::default(), membership(n, f));
        config.window = 16;
        let node = || Node {
            core: None,
            disk: Disk::default(),
            gate: Gate::new(),
            unwritten: Vec::new(),
            next: Position(0),
            flushes: true,
            writes_left: None,
            judges: true,
            asked: Vec::new(),
            timers: BTreeMap::new(),
            executed: BTreeMap::new(),
            behind: Vec::new(),
            views: Vec::new(),
            evidence: Vec::new(),
            said: Vec::new(),
            is_faulty: false,
        };
        let nodes = (0..n).map(|_| node()).collect();
        let drop = Box::new(|_: &Letter| false);
        let (wire, answers) = (Vec::new(), VecDeque::new());
        let mut cluster = Self { config, nodes, wire, drop, delivered: 0, starts: 0, answers };
        (0..n).for_each(|id| cluster.start(id));
        // Everybody asks everybody what it has said, and joins.
        cluster.run();
        cluster.delivered = 0;
        cluster
    }

    pub fn context(&self) -> Context<'_> {
        Context {
            domain: self.config.domain,
            membership: &self.config.membership,
            verifier: &Checker,
        }
    }

    /// Starts a replica from its disk. What the layer above had executed is gone, and comes again.
    pub fn start(&mut self, id: u16) {
        let config = self.config.clone();
        self.starts += 1;
        let node = &mut self.nodes[usize::from(id)];
        let past = Past {
            promise: node.disk.promise,
            snapshot: node.disk.snapshot.clone(),
            records: node.disk.records.clone(),
            lost: node.disk.lost.clone(),
        };
        let mut list = Vec::new();
        let mut host = Still(self.starts);
        let mut fx = Effects::new(&mut list, &mut node.next, &mut host);
        let core = Pbft::start(config, Peer::Replica(ReplicaId(id)), past, &mut fx);
        core.audit();
        node.core = Some(core);
        node.writes_left = None;
        self.carry_out(id, list);
        self.settle();
    }

    /// Stops a replica. What it has not flushed is lost, and what waited for it was never said.
    pub fn crash(&mut self, id: u16) {
        let node = &mut self.nodes[usize::from(id)];
        node.core = None;
        node.gate = Gate::new();
        node.unwritten.clear();
        node.timers.clear();
        node.asked.clear();
        let written = node.disk.records.last().map(|(last, _)| *last);
        let lost = node.disk.lost.last().map(|lost| lost.position);
        node.next = written.max(lost).map_or(Position(0), Position::next);
    }

    /// The records that match rot, while the replica is down. Their tags are left of them, or not.
    pub fn rot(&mut self, id: u16, keeps_tag: bool, is_hit: impl Fn(&Record) -> bool) -> usize {
        let disk = &mut self.nodes[usize::from(id)].disk;
        let (rotten, sound): (Vec<_>, Vec<_>) =
            disk.records.drain(..).partition(|(_, record)| is_hit(record));
        disk.records = sound;
        let lost = rotten.iter().map(|(position, record)| Lost {
            position: *position,
            tag: keeps_tag.then(|| record.tag()),
        });
        disk.lost.extend(lost);
        disk.lost.sort_unstable();
        rotten.len()
    }

    /// What its disk holds now.
    pub fn image(&self, id: u16) -> Disk {
        self.nodes[usize::from(id)].disk.clone()
    }

    /// Its disk gives back what it once held.
    pub fn restore(&mut self, id: u16, image: Disk) {
        self.nodes[usize::from(id)].disk = image;
    }

    /// The quorums.
    pub fn system(&self) -> Dissemination {
        Dissemination::of(&self.config.membership).expect("it bears quorums")
    }

    /// From here on it is its adversary's: it says only what the test forges.
    pub fn corrupt(&mut self, id: u16) {
        self.crash(id);
        self.nodes[usize::from(id)].is_faulty = true;
    }

    fn step(&mut self, id: u16, act: impl FnOnce(&mut Pbft<R>, &mut Effects<'_, Pbft<R>>)) {
        let node = &mut self.nodes[usize::from(id)];
        let Some(core) = &mut node.core else { return };
        let mut list = Vec::new();
        act(core, &mut Effects::new(&mut list, &mut node.next, &mut Still(0)));
        core.audit();
        self.carry_out(id, list);
        self.settle();
    }

    /// Lets the layers above answer.
    fn settle(&mut self) {
        while let Some((id, answer)) = self.answers.pop_front() {
            self.step(id, |core, fx| match answer {
                Answer::Input(input) => core.on_input(input, fx),
                Answer::Recalled(position, record) => core.on_recalled(position, record, fx),
            });
        }
    }

    pub fn input(&mut self, id: u16, input: OrderInput) {
        self.step(id, |core, fx| core.on_input(input, fx));
    }

    pub fn propose(&mut self, id: u16, name: &str) {
        self.input(id, OrderInput::Propose(batch(name)));
    }

    pub fn wait(&mut self, ids: &[u16], oldest: u64) {
        for id in ids {
            self.input(*id, OrderInput::Waiting(Waiting::Oldest(oldest)));
        }
    }

    /// Lets a timer run out, if it runs.
    pub fn fire(&mut self, id: u16, timer: Timer) {
        if self.nodes[usize::from(id)].timers.remove(&timer).is_some() {
            self.step(id, |core, fx| core.on_timer(timer, fx));
        }
    }

    /// One period of the resend timer at everybody, and all that comes of it.
    pub fn tick(&mut self) {
        for id in 0..self.nodes.len() as u16 {
            self.fire(id, Timer::Resend);
        }
        self.run();
    }

    fn carry_out(&mut self, id: u16, list: Vec<Effect<Pbft<R>>>) {
        for effect in list {
            let node = &mut self.nodes[usize::from(id)];
            match effect {
                Effect::Promise(promise) => {
                    node.gate.write();
                    node.unwritten.push(Write::Promise(promise));
                }
                Effect::Persist(position, record) => {
                    node.gate.write();
                    node.unwritten.push(Write::Record(position, record));
                }
                Effect::SetTimer(timer, after) => drop(node.timers.insert(timer, after)),
                Effect::CancelTimer(timer) => drop(node.timers.remove(&timer)),
                Effect::Send(..) | Effect::Output(_) | Effect::Blame(_) => {
                    if let Some(effect) = node.gate.pass(effect) {
                        self.release(id, effect);
                    }
                }
                Effect::Recall(position) => {
                    let found = node.disk.records.iter().find(|(at, _)| *at == position);
                    let found = found.cloned().map(|(at, record)| Answer::Recalled(at, record));
                    self.answers.extend(found.map(|answer| (id, answer)));
                }
                other => panic!("{other:?} is not expected here"),
            }
            if self.nodes[usize::from(id)].flushes {
                self.write(id);
            }
        }
    }

    /// Makes everything durable that the disk still takes, and lets go what waited for it.
    pub fn flush(&mut self, id: u16) {
        self.write(id);
        self.settle();
    }

    fn write(&mut self, id: u16) {
        loop {
            let node = &mut self.nodes[usize::from(id)];
            if node.unwritten.is_empty() || node.writes_left == Some(0) {
                return;
            }
            node.writes_left = node.writes_left.map(|left| left - 1);
            match node.unwritten.remove(0) {
                Write::Promise(promise) => node.disk.promise = Some(promise),
                Write::Record(position, record) => node.disk.records.push((position, record)),
            }
            let mark = node.gate.written() - node.unwritten.len() as u64;
            let ready: Vec<_> = node.gate.durable(mark).collect();
            for effect in ready {
                self.release(id, effect);
            }
        }
    }

    fn release(&mut self, id: u16, effect: Effect<Pbft<R>>) {
        let n = self.nodes.len() as u16;
        let node = &mut self.nodes[usize::from(id)];
        match effect {
            Effect::Send(to, message) => {
                node.said.push(message.clone());
                match to {
                    Target::Peer(Peer::Replica(to)) => self.post(id, to.0, message),
                    Target::Peer(Peer::Client(_)) => panic!("clients are not spoken to"),
                    Target::Replicas => (0..n).for_each(|to| self.post(id, to, message.clone())),
                    Target::Others => (0..n)
                        .filter(|to| *to != id)
                        .for_each(|to| self.post(id, to, message.clone())),
                }
            }
            Effect::Output(OrderOutput::Judge { view, slot, batch, freshness }) => {
                let digest = batch.digest();
                node.asked.push((view, slot, batch, freshness));
                if node.judges {
                    let judged = OrderInput::Judged { view, slot, batch: digest };
                    self.answers.push_back((id, Answer::Input(judged)));
                }
            }
            Effect::Output(OrderOutput::Execute { slot, batch, .. }) => {
                let before = node.executed.insert(slot, batch.clone());
                assert!(before.is_none_or(|before| before == batch), "another batch in {slot:?}");
            }
            Effect::Output(OrderOutput::Behind(slot)) => node.behind.push(slot),
            Effect::Output(OrderOutput::View(view, _)) => node.views.push(view),
            Effect::Output(OrderOutput::Remind) => {}
            Effect::Output(other) => panic!("{other:?} is not expected here"),
            Effect::Blame(evidence) => node.evidence.push(evidence),
            other => panic!("{other:?} passes no gate"),
        }
    }

    /// Puts a message on the wire in a replica's name, under its own key.
    pub fn post(&mut self, from: u16, to: u16, message: Message) {
        let (from, to) = (ReplicaId(from), ReplicaId(to));
        let sealed = Verified::seal(message.clone(), from.into(), self.config.domain, &Key(from));
        self.wire.push(Letter { from, to, message, signed: sealed.signed() });
    }

    /// The verified form of what a replica would say.
    pub fn seal(&self, from: u16, message: Message) -> Verified<Message> {
        let from = ReplicaId(from);
        Verified::seal(message, from.into(), self.config.domain, &Key(from))
    }

    /// Delivers one letter. False when its receiver refused it.
    pub fn deliver(&mut self, letter: Letter) -> bool {
        let via = Peer::Replica(letter.from);
        let Ok(message) = letter.signed.verify(via, &self.context()) else { return false };
        self.delivered += 1;
        self.step(letter.to.0, |core, fx| core.on_message(message, fx));
        true
    }

    /// Delivers everything, first come first served, until nothing is under way.
    pub fn run(&mut self) {
        let mut steps = 0;
        while !self.wire.is_empty() {
            let letter = self.wire.remove(0);
            if !(self.drop)(&letter) {
                self.deliver(letter);
            }
            steps += 1;
            assert!(steps < 200_000, "it never comes to rest");
        }
    }

    pub fn core(&self, id: u16) -> &Pbft<R> {
        self.nodes[usize::from(id)].core()
    }

    pub fn executed(&self, id: u16) -> Vec<Batch> {
        self.nodes[usize::from(id)].executed.values().cloned().collect()
    }

    pub fn names(names: &[&str]) -> Vec<Batch> {
        names.iter().map(|name| batch(name)).collect()
    }

    /// A certificate for a statement, signed by these.
    pub fn certify<T: Statement>(
        &self,
        statement: T,
        message: &Message,
        by: &[u16],
    ) -> Certificate<T> {
        let mut certificate = Certificate::new(statement);
        for id in by {
            assert!(certificate.add(&self.seal(*id, message.clone())));
        }
        certificate
    }

    pub fn prepares(&self, prepare: &Prepare, by: &[u16]) -> Certificate<Prepare> {
        self.certify(prepare.clone(), &Message::Prepare(prepare.clone()), by)
    }

    pub fn commits(&self, commit: &Commit, by: &[u16]) -> Certificate<Commit> {
        self.certify(commit.clone(), &Message::Commit(commit.clone()), by)
    }

    /// A stable checkpoint at this slot, signed by everybody.
    pub fn checkpoint(&self, slot: u64) -> StableCheckpoint {
        let statement = Checkpoint { slot: Slot(slot), state: Digest::of(b"state") };
        let mut certificate = Certificate::new(statement.clone());
        for id in (0..self.nodes.len() as u16).map(ReplicaId) {
            let note = Note(statement.clone());
            assert!(certificate.add(&Verified::seal(
                note,
                id.into(),
                self.config.domain,
                &Key(id)
            )));
        }
        certificate
    }

    /// What must hold at the end of every test.
    pub fn check(&self) {
        let system = self.system();
        let correct = || self.nodes.iter().enumerate().filter(|(_, node)| !node.is_faulty);
        let mut order: BTreeMap<Slot, &Batch> = BTreeMap::new();
        for (id, node) in correct() {
            for (slot, batch) in &node.executed {
                let other = order.entry(*slot).or_insert(batch);
                assert_eq!(*other, batch, "replica {id} executed something else in {slot:?}");
            }
            let bytes = |message: &&Message| {
                let mut out = vec![message.kind().0];
                message.encode_body(&mut out);
                out
            };
            let signed = node
                .said
                .iter()
                .filter(|m| matches!(m.strength(), testudo_core::Strength::Signature));
            let mut seen = BTreeSet::new();
            let said: Vec<_> = signed.filter(|message| seen.insert(bytes(message))).collect();
            for (at, one) in said.iter().enumerate() {
                assert_eq!(
                    Standard::convicts_alone(&system, one),
                    None,
                    "replica {id} said {one:?}"
                );
                for other in &said[at + 1..] {
                    let offence = Standard::convicts(one, other);
                    assert_eq!(offence, None, "replica {id} said {one:?} and {other:?}");
                }
            }
            for evidence in &node.evidence {
                let accused = usize::from(evidence.accused.0);
                assert!(
                    self.nodes[accused].is_faulty,
                    "a correct replica is blamed for {}",
                    evidence.offence
                );
                assert!(safety::is_convicted(evidence, &self.context()), "nothing is proven");
            }
        }
    }
}

/// A checkpoint message, as replication says it.
#[derive(Clone, Debug)]
struct Note(Checkpoint);

impl testudo_core::Message for Note {
    fn protocol(&self) -> testudo_core::ProtocolId {
        Checkpoint::PROTOCOL
    }
    fn kind(&self) -> testudo_core::Kind {
        Checkpoint::KIND
    }
    fn name(&self) -> &'static str {
        "checkpoint"
    }
    fn strength(&self) -> testudo_core::Strength {
        testudo_core::Strength::Signature
    }
    fn encode_body(&self, out: &mut Vec<u8>) {
        testudo_core::Encode::encode(&self.0, out);
    }
    fn decode_body(
        _: testudo_core::ProtocolId,
        _: testudo_core::Kind,
        body: &[u8],
    ) -> Result<Self, testudo_core::DecodeError> {
        testudo_core::Decode::from_bytes(body).map(Self)
    }
    fn validate(&self, _: Peer, _: &Context<'_>) -> Result<(), testudo_core::Invalid> {
        Ok(())
    }
}
