//! Channels between nodes.
//!
//! Every replica dials every other and speaks on the connections that it dialled; on those that it accepted it listens.
//! So each direction has one lane, nobody negotiates, and a half-open connection hurts one direction until its silence
//! is noticed. Clients dial replicas, and are answered on the connection that they came by.
//!
//! A channel is TLS 1.3 with both keys proved; the first words inside it ([`hello`]) tell clusters apart. What comes in
//! goes to verification; what goes out waits in a bounded [`outbox`] that outlives the connection.

mod accept;
pub(crate) mod channel;
mod dial;
pub(crate) mod hello;
mod outbox;
mod round;

use crate::carrier::{Carrier, CurrentScope, Scope};
use crate::metrics::Metrics;
use crate::sync::lock;
use crate::verify::Verification;
use bytes::Bytes;
use outbox::{Outbox, Pool};
use round::Round;
use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testudo_core::{Message, Peer, PublicKey};
use testudo_keys::SigningKey;
use testudo_keys::channel::{self as tls, ChannelError};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;

/// Connections that one client key may have. The oldest gives way to the newest.
const CONNECTIONS_PER_CLIENT: usize = 16;

/// Where the replicas are found, by their identity keys: `host:port`.
pub type Addresses = BTreeMap<PublicKey, String>;

/// An accepted connection.
struct Accepted {
    number: u64,
    outbox: Arc<Outbox>,
    replaced: Arc<Notify>,
}

/// A replica that is dialled.
struct Dialled {
    outbox: Arc<Outbox>,
    task: AbortHandle,
}

#[derive(Default)]
struct Peers {
    /// The replicas dialled, by identity key.
    dialled: HashMap<PublicKey, Dialled>,
    /// Where frames to replica i go. Own place and strangers have none.
    routes: Vec<Option<Arc<Outbox>>>,
    /// Connections accepted from replicas and clients.
    accepted: HashMap<Peer, Vec<Accepted>>,
}

/// Complaints about strangers that a second may see. The metrics count all.
const COMPLAINTS_PER_SECOND: u32 = 5;

/// How many complaints the second that began then has seen.
#[derive(Default)]
struct Complaints {
    since: Option<Instant>,
    count: u32,
}

impl Complaints {
    fn allow(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count += 1;
        self.count <= COMPLAINTS_PER_SECOND
    }
}

/// All channels of one node.
pub(crate) struct Network<M> {
    me: Peer,
    scope: Arc<CurrentScope>,
    addresses: Mutex<Addresses>,
    /// Proved to everybody at the other end of a channel.
    identity: SigningKey,
    metrics: Arc<Metrics>,
    shared: channel::Shared<M>,
    runtime: Handle,
    peers: Mutex<Peers>,
    round: Arc<Round>,
    rounds: AbortHandle,
    /// Bytes that wait for clients.
    clients: Pool,
    connections: AtomicU64,
    complaints: Mutex<Complaints>,
    stop: watch::Sender<bool>,
}

impl<M: Message + Send + Sync + 'static> Network<M> {
    pub(crate) fn new(
        me: Peer,
        scope: Arc<CurrentScope>,
        addresses: Addresses,
        identity: SigningKey,
        verification: Arc<Verification<M>>,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Arc<Self> {
        let (stop, stopping) = watch::channel(false);
        let shared = channel::Shared {
            verification,
            metrics: metrics.clone(),
            large_frames: Arc::new(Semaphore::new(channel::LARGE_FRAMES_KIB)),
            stopping,
        };
        let round = Arc::new(Round::default());
        let rounds = runtime.spawn(round.clone().run()).abort_handle();
        Arc::new(Self {
            me,
            scope,
            addresses: Mutex::new(addresses),
            identity,
            metrics,
            shared,
            runtime,
            peers: Mutex::default(),
            round,
            rounds,
            clients: Pool::default(),
            connections: AtomicU64::new(0),
            complaints: Mutex::default(),
            stop,
        })
    }

    /// Dials the members, and keeps dialling.
    pub(crate) fn dial_members(self: &Arc<Self>) {
        self.reconcile(&self.scope.get());
    }

    /// Accepts whoever dials. Any key may connect: whether a client's is admitted is decided at execution, the same
    /// everywhere.
    ///
    /// # Errors
    /// When no certificate can be made of the identity key.
    ///
    /// With `clients`, nobody but members and these is heard: whoever else connects is refused before he has said a
    /// word, and takes nobody's place.
    pub(crate) fn accept(
        self: &Arc<Self>,
        listener: TcpListener,
        clients: Option<BTreeSet<PublicKey>>,
    ) -> Result<(), ChannelError> {
        let scope = self.scope.clone();
        let accepts = move |key: &PublicKey| {
            let is_member = || {
                let scope = scope.get();
                scope.membership.members.iter().any(|member| member.identity == *key)
            };
            clients.as_ref().is_none_or(|clients| clients.contains(key) || is_member())
        };
        let config = tls::server_config(&self.identity, Arc::new(accepts))?;
        self.runtime.spawn(accept::run(self.clone(), listener, Arc::new(config)));
        Ok(())
    }

    /// Writes what is queued, and ends all channels.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
        let peers = lock(&self.peers);
        peers.dialled.values().for_each(|dialled| dialled.outbox.wake());
    }

    /// Whether all channels have ended.
    pub(crate) fn is_quiet(&self) -> bool {
        self.metrics.connections.get() == 0
    }

    /// Lets go of the tasks that dial, and of the one that wakes.
    pub(crate) fn abandon(&self) {
        self.rounds.abort();
        let mut peers = lock(&self.peers);
        for (_, dialled) in peers.dialled.drain() {
            dialled.task.abort();
        }
        peers.routes.clear();
    }

    /// Dials whom this membership names and nobody else, and ends accepted channels that it no longer vouches for.
    fn reconcile(self: &Arc<Self>, scope: &Scope) {
        let mut peers = lock(&self.peers);
        let addresses = lock(&self.addresses);
        let members = &scope.membership.members;
        let is_me = |index: usize| self.me.replica().is_some_and(|me| usize::from(me.0) == index);
        peers.dialled.retain(|key, dialled| {
            let stays = members.iter().any(|member| member.identity == *key);
            if !stays {
                dialled.task.abort();
            }
            stays
        });
        peers.routes.clear();
        for (index, member) in members.iter().enumerate() {
            if is_me(index) {
                peers.routes.push(None);
                continue;
            }
            let address = addresses.get(&member.identity);
            match (peers.dialled.entry(member.identity), address) {
                (Entry::Occupied(_), _) => {}
                (Entry::Vacant(place), Some(address)) => {
                    place.insert(self.dial(member.identity, index, address.clone()));
                }
                (Entry::Vacant(_), None) => tracing::error!(
                    replica = index,
                    key = %member.identity,
                    "no address of this replica is known: it is not dialled"
                ),
            }
            let route = peers.dialled.get(&member.identity).map(|dialled| dialled.outbox.clone());
            peers.routes.push(route);
        }
        peers.accepted.retain(|peer, accepted| {
            let stays = match peer {
                Peer::Client(_) => true,
                Peer::Replica(id) => scope.membership.member(*id).is_some(),
            };
            if !stays {
                accepted.iter().for_each(|accepted| accepted.replaced.notify_one());
            }
            stays
        });
    }

    fn dial(self: &Arc<Self>, key: PublicKey, index: usize, address: String) -> Dialled {
        let outbox = Outbox::new(self.metrics.clone());
        let replica = testudo_core::ReplicaId(index as u16);
        let task = dial::run(self.clone(), replica, key, address, outbox.clone());
        Dialled { outbox, task: self.runtime.spawn(task).abort_handle() }
    }

    /// Takes up an accepted connection of this peer. A replica has one: a new one means that it has given up the old.
    fn register(&self, peer: Peer) -> (u64, Arc<Outbox>, Arc<Notify>) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let replaced = Arc::new(Notify::new());
        let metrics = self.metrics.clone();
        let (limit, outbox) = match peer {
            Peer::Replica(_) => (1, Outbox::new(metrics)),
            Peer::Client(_) => {
                (CONNECTIONS_PER_CLIENT, Outbox::of_client(metrics, self.clients.clone()))
            }
        };
        let mut peers = lock(&self.peers);
        let accepted = peers.accepted.entry(peer).or_default();
        while accepted.len() >= limit {
            accepted.remove(0).replaced.notify_one();
        }
        accepted.push(Accepted { number, outbox: outbox.clone(), replaced: replaced.clone() });
        (number, outbox, replaced)
    }

    fn unregister(&self, peer: Peer, number: u64) {
        let mut peers = lock(&self.peers);
        if let Some(accepted) = peers.accepted.get_mut(&peer) {
            accepted.retain(|accepted| accepted.number != number);
            if accepted.is_empty() {
                peers.accepted.remove(&peer);
            }
        }
    }

    /// Whether one more complaint about strangers may go to the log: anybody can knock, and nobody shall fill the disk.
    fn may_complain(&self) -> bool {
        lock(&self.complaints).allow(Instant::now())
    }

    fn queue(&self, outbox: &Arc<Outbox>, frame: Bytes) {
        if outbox.push(frame) {
            self.round.add(outbox.clone());
        }
    }

    fn hello(&self) -> hello::Hello {
        let domain = self.scope.get().domain;
        hello::Hello { cluster: domain.cluster, group: domain.group, replica: self.me.replica() }
    }
}

/// What a host sees of the network. Dialling needs the network itself, which is behind this handle.
pub(crate) struct Carriage<M>(pub(crate) Arc<Network<M>>);

impl<M: Message + Send + Sync + 'static> Carrier for Carriage<M> {
    fn send(&self, to: Peer, frame: Bytes) {
        let network = &self.0;
        let peers = lock(&network.peers);
        match to {
            Peer::Replica(id) if Peer::Replica(id) != network.me => {
                match peers.routes.get(usize::from(id.0)) {
                    Some(Some(outbox)) => network.queue(outbox, frame),
                    _ => network.metrics.dropped("unreachable"),
                }
            }
            _ => match peers.accepted.get(&to) {
                Some(accepted) => accepted
                    .iter()
                    .for_each(|accepted| network.queue(&accepted.outbox, frame.clone())),
                None => network.metrics.dropped("unreachable"),
            },
        }
    }

    fn flush(&self) {
        self.0.round.call();
    }

    fn members(&self, scope: &Scope) {
        self.0.scope.set(scope.clone());
        self.0.reconcile(scope);
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn relieve(&self, senders: &[Peer]) {
        self.0.shared.verification.relieve(senders);
    }
}
