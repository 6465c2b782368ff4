//! A toy protocol, and clusters of it in this process, over real channels.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testudo_core::fault::FaultModel;
use testudo_core::{
    ClusterId, Context, Decode, DecodeError, Domain, Effects, Encode, Epoch, Evidence, GroupId,
    Invalid, Kind, Membership, Message, NoWork, Past, Peer, Position, Promise, Protocol,
    ProtocolId, PublicKey, Reader, ReplicaId, Rot, Strength, Target, Verified, View,
};
use testudo_keys::NodeKey;
use testudo_runtime::storage::{Recovered, Storage};
use testudo_runtime::{Addresses, NodeConfig, NodeHandle, Probe, StartError, node};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something holds, and says what did not when it never does.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Signed, for everybody.
    News(u64),
    /// For the receiver alone.
    Whisper(u64),
    /// Of a length that a test chooses.
    Bulk(Vec<u8>),
}

impl Message for Word {
    fn protocol(&self) -> ProtocolId {
        ProtocolId(99)
    }
    fn kind(&self) -> Kind {
        Kind(match self {
            Self::News(_) => 1,
            Self::Whisper(_) => 2,
            Self::Bulk(_) => 3,
        })
    }
    fn name(&self) -> &'static str {
        "word"
    }
    fn strength(&self) -> Strength {
        match self {
            Self::News(_) => Strength::Signature,
            _ => Strength::Channel,
        }
    }
    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::News(number) | Self::Whisper(number) => number.encode(out),
            Self::Bulk(bytes) => bytes.encode(out),
        }
    }
    fn decode_body(_: ProtocolId, kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        match kind.0 {
            1 => u64::from_bytes(body).map(Self::News),
            2 => u64::from_bytes(body).map(Self::Whisper),
            3 => Vec::from_bytes(body).map(Self::Bulk),
            _ => Err(DecodeError::Unknown("word")),
        }
    }
    fn validate(&self, _: Peer, _: &Context<'_>) -> Result<(), Invalid> {
        match self {
            Self::News(u64::MAX) => Err(Invalid("there is no such news")),
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
pub enum Ask {
    /// Record the number, then tell everybody.
    Publish(u64),
    /// Whisper to somebody, without a record.
    Whisper(Peer, u64),
    /// Send so many bytes to somebody.
    Bulk(Peer, usize),
    /// Record without saying anything.
    Note(u64),
    /// Promise a view, then tell everybody.
    Promise(u64),
    /// Write a snapshot of what was recorded, and forget the records.
    Compact,
    /// Write a snapshot of what was recorded, and forget nothing.
    Keep,
    /// Read a record back.
    Recall(Position),
    /// Run an operation that panics.
    Guarded,
    /// Compute for so long, and note on which thread.
    Compute(Duration),
    /// Tell everybody the first number, change the members, and tell them the second.
    Succeed(Membership, u64, u64),
    /// Accuse somebody.
    Accuse(ReplicaId),
    /// Break an invariant.
    Break,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Published(u64),
    Promised(u64),
    Recalled(Position, u64),
    Panicked,
    Rotten(Rot),
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Kept(pub Vec<u64>);

pub struct Gossip {
    pub me: Peer,
    pub candidate: Option<PublicKey>,
    pub holds: bool,
    pub past: Past<Kept, u64>,
    pub recorded: Vec<u64>,
    pub heard: Vec<(Peer, Word)>,
    pub bulk: usize,
    pub computed_on: Vec<std::thread::ThreadId>,
    is_broken: bool,
}

/// A snapshot in as many pieces as it has numbers.
impl Encode for Kept {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn pieces(&self, put: &mut dyn FnMut(&[u8]) -> bool) {
        self.0.iter().all(|number| put(&number.to_bytes()));
    }
}

impl Decode for Kept {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Vec::decode(reader).map(Self)
    }
    fn from_pieces(next: &mut dyn FnMut() -> Option<Vec<u8>>) -> Result<Self, DecodeError> {
        std::iter::from_fn(next)
            .map(|piece| u64::from_bytes(&piece))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Protocol for Gossip {
    type Config = ();
    type Message = Word;
    type Record = u64;
    type Snapshot = Kept;
    type Timer = u8;
    type Input = Ask;
    type Output = Told;
    type Work = NoWork;

    fn start((): (), me: Peer, past: Past<Kept, u64>, fx: &mut Effects<'_, Self>) -> Self {
        let candidate = fx.candidate();
        let holds = candidate.is_some_and(|candidate| fx.holds(&candidate));
        let mut recorded = past.snapshot.clone().unwrap_or_default().0;
        recorded.extend(past.records.iter().map(|(_, number)| *number));
        let (heard, computed_on) = (Vec::new(), Vec::new());
        Self { me, candidate, holds, past, recorded, heard, bulk: 0, computed_on, is_broken: false }
    }

    fn on_input(&mut self, input: Ask, fx: &mut Effects<'_, Self>) {
        match input {
            Ask::Publish(number) => {
                self.recorded.push(number);
                fx.persist(number);
                fx.send(Target::Replicas, Word::News(number));
                fx.output(Told::Published(number));
            }
            Ask::Whisper(peer, number) => fx.send(peer, Word::Whisper(number)),
            Ask::Bulk(peer, length) => fx.send(peer, Word::Bulk(vec![7; length])),
            Ask::Note(number) => {
                self.recorded.push(number);
                fx.persist(number);
            }
            Ask::Promise(view) => {
                fx.promise(Promise { view: View(view), ..Promise::default() });
                fx.send(Target::Replicas, Word::News(view));
                fx.output(Told::Promised(view));
            }
            Ask::Compact => {
                let before = fx.persist(0);
                self.recorded.push(0);
                fx.snapshot(Kept(self.recorded.clone()));
                fx.forget(before.next());
            }
            Ask::Keep => fx.snapshot(Kept(self.recorded.clone())),
            Ask::Recall(position) => fx.recall(position),
            Ask::Guarded => {
                if fx.guard(&mut || panic!("on purpose")).is_err() {
                    fx.output(Told::Panicked);
                }
            }
            Ask::Compute(time) => {
                let begun = Instant::now();
                while begun.elapsed() < time {
                    std::hint::spin_loop();
                }
                self.computed_on.push(std::thread::current().id());
            }
            Ask::Succeed(members, before, after) => {
                fx.persist(before);
                fx.send(Target::Replicas, Word::News(before));
                fx.members(members);
                fx.send(Target::Replicas, Word::News(after));
            }
            Ask::Accuse(accused) => {
                let (protocol, offence) = (ProtocolId(99), "on purpose".to_owned());
                fx.blame(Evidence { accused, protocol, offence, statements: Vec::new() });
            }
            Ask::Break => self.is_broken = true,
        }
    }

    fn on_message(&mut self, message: Verified<Word>, fx: &mut Effects<'_, Self>) {
        let sender = message.sender();
        if let (Peer::Client(_), Word::Whisper(number)) = (sender, message.message()) {
            fx.send(sender, Word::Whisper(number + 1));
        }
        match message.into_message() {
            Word::Bulk(bytes) => self.bulk += bytes.len(),
            word => self.heard.push((sender, word)),
        }
    }

    fn on_timer(&mut self, _: u8, _: &mut Effects<'_, Self>) {}

    fn on_recalled(&mut self, position: Position, record: u64, fx: &mut Effects<'_, Self>) {
        fx.output(Told::Recalled(position, record));
    }

    fn on_rot(&mut self, rot: Rot, fx: &mut Effects<'_, Self>) {
        fx.output(Told::Rotten(rot));
    }

    fn invariants(&self) {
        assert!(!self.is_broken, "the toy is broken on purpose");
    }
}

pub fn replica(id: usize) -> Peer {
    Peer::Replica(ReplicaId(id as u16))
}

/// Keys, places and folders of a cluster's nodes.
pub struct Site {
    pub keys: Vec<NodeKey>,
    pub domain: Domain,
    pub membership: Membership,
    pub addresses: Addresses,
    pub ports: Vec<u16>,
    listeners: BTreeMap<usize, TcpListener>,
    pub folder: tempfile::TempDir,
    pub verifiers: usize,
    pub scrub: u64,
}

#[derive(Debug)]
pub struct Running {
    pub handle: NodeHandle<Gossip>,
    pub told: Arc<Mutex<Vec<Told>>>,
}

impl Site {
    pub fn new(n: usize) -> Self {
        let keys: Vec<NodeKey> = (0..n).map(|_| NodeKey::generate().unwrap()).collect();
        let mut cluster = [0; 16];
        cluster.copy_from_slice(&keys[0].identity.public().0[..16]);
        let domain = Domain { cluster: ClusterId(cluster), group: GroupId(0), epoch: Epoch(0) };
        let membership = Membership::first(
            keys.iter().map(NodeKey::member).collect(),
            FaultModel::byzantine(((n - 1) / 3) as u16),
        );
        let mut listeners = BTreeMap::new();
        let (mut addresses, mut ports) = (Addresses::new(), Vec::new());
        for (id, key) in keys.iter().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            addresses.insert(key.identity.public(), format!("127.0.0.1:{port}"));
            ports.push(port);
            listeners.insert(id, listener);
        }
        let folder = tempfile::tempdir().unwrap();
        Self {
            keys,
            domain,
            membership,
            addresses,
            ports,
            listeners,
            folder,
            verifiers: 1,
            scrub: 0,
        }
    }

    pub fn data(&self, id: usize) -> PathBuf {
        self.folder.path().join(format!("node{id}"))
    }

    pub fn identity(&self, id: usize) -> PublicKey {
        self.keys[id].identity.public()
    }

    pub fn config(&mut self, id: usize) -> NodeConfig<Gossip> {
        let port = self.ports[id];
        // The port of a node that has just ended may be held a little longer by the system.
        let listener = self.listeners.remove(&id).unwrap_or_else(|| {
            let mut bound = None;
            until("the port is free again", || {
                bound = TcpListener::bind(("127.0.0.1", port)).ok();
                bound.is_some()
            });
            bound.unwrap()
        });
        NodeConfig {
            clients: None,
            name: format!("n{id}"),
            data: self.data(id),
            key: self.keys[id].clone(),
            domain: self.domain,
            membership: self.membership.clone(),
            me: ReplicaId(id as u16),
            addresses: self.addresses.clone(),
            listener,
            metrics: None,
            verifiers: self.verifiers,
            scrub: self.scrub,
            outgoing: None,
            probe: Probe::default(),
        }
    }

    pub fn start(&mut self, id: usize) -> Running {
        let config = self.config(id);
        run(config).unwrap()
    }

    pub fn start_on(&mut self, id: usize, storage: impl Storage, recovered: Recovered) -> Running {
        let config = self.config(id);
        std::fs::create_dir_all(&config.data).unwrap();
        let (told, outputs) = outputs();
        let handle = node::start_on(config, (), outputs, storage, recovered).unwrap();
        Running { handle, told }
    }

    pub fn start_all(&mut self) -> Vec<Running> {
        (0..self.keys.len()).map(|id| self.start(id)).collect()
    }
}

fn outputs() -> (Arc<Mutex<Vec<Told>>>, impl FnMut(Told) + Send + 'static) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let outputs = told.clone();
    (told, move |output| outputs.lock().unwrap().push(output))
}

pub fn run(config: NodeConfig<Gossip>) -> Result<Running, StartError> {
    let (told, outputs) = outputs();
    Ok(Running { handle: node::start(config, (), outputs)?, told })
}

impl Running {
    pub fn ask(&self, ask: Ask) {
        assert!(self.handle.input(ask), "the node has stopped");
    }

    pub fn heard(&self) -> Vec<(Peer, Word)> {
        self.handle.inspect_blocking(|gossip| gossip.heard.clone()).unwrap_or_default()
    }

    pub fn has_heard(&self, from: usize, word: &Word) -> bool {
        self.heard().iter().any(|(sender, heard)| *sender == replica(from) && heard == word)
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }
}

pub fn files(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
