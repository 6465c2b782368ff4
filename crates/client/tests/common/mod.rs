//! A cluster of PBFT replicas in this process, over real channels and real disks, replicating a counter.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use testudo_client::{Client, ClusterConfig, Copy, Learner};
use testudo_contracts::{Moment, OrderConfig, Service, Store};
use testudo_core::fault::FaultModel;
use testudo_core::{ClusterId, Domain, Epoch, GroupId, Membership, PublicKey, ReplicaId};
use testudo_keys::{NodeKey, SigningKey};
use testudo_pbft::Pbft;
use testudo_replication::{Config, Replica};
use testudo_runtime::{Addresses, NodeConfig, NodeHandle, Probe, node};

/// Adds the operation's first byte to a sum, and answers the sum.
#[derive(Clone, Debug)]
pub struct Sum;

impl Service for Sum {
    const VERSION: u32 = 1;
    fn genesis(&self, _: &mut dyn Store) {}
    fn execute(&self, store: &mut dyn Store, operation: &[u8], _: &Moment) -> Vec<u8> {
        let old =
            store.get(b"sum").map_or(0, |bytes| u64::from_le_bytes(bytes[..].try_into().unwrap()));
        let Some(added) = operation.first() else { panic!("an operation of no bytes") };
        let sum = old + u64::from(*added);
        store.put(b"sum", sum.to_le_bytes()[..].into());
        sum.to_le_bytes().to_vec()
    }
    fn internal_error(&self) -> Vec<u8> {
        b"internal".to_vec()
    }
    fn too_large(&self) -> Vec<u8> {
        b"too large".to_vec()
    }
}

pub type Node = NodeHandle<Replica<Pbft, Sum>>;

pub struct Cluster {
    pub keys: Vec<NodeKey>,
    pub client_key: SigningKey,
    pub learner_key: SigningKey,
    pub domain: Domain,
    pub membership: Membership,
    pub order: OrderConfig,
    pub addresses: Addresses,
    pub ports: Vec<u16>,
    pub folder: tempfile::TempDir,
    pub verifiers: usize,
    pub nodes: Vec<Option<Node>>,
}

impl Cluster {
    pub fn start(n: usize, verifiers: usize) -> Self {
        Self::start_with(n, verifiers, |_| ())
    }

    /// With checkpoints every few slots and a snapshot of each.
    pub fn start_with_snapshots() -> Self {
        Self::start_with(4, 0, |order| {
            (order.checkpoint_interval, order.window, order.snapshot_bytes) = (8, 12, 0);
        })
    }

    fn start_with(n: usize, verifiers: usize, change: impl FnOnce(&mut OrderConfig)) -> Self {
        let keys: Vec<NodeKey> = (0..n).map(|_| NodeKey::generate().unwrap()).collect();
        let client_key = SigningKey::generate().unwrap();
        let learner_key = SigningKey::generate().unwrap();
        let domain = Domain { cluster: ClusterId([9; 16]), group: GroupId(0), epoch: Epoch(0) };
        let membership = Membership::first(
            keys.iter().map(NodeKey::member).collect(),
            FaultModel::byzantine(((n - 1) / 3) as u16),
        );
        let listeners: Vec<_> =
            keys.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let addresses = keys
            .iter()
            .zip(&ports)
            .map(|(key, port)| (key.identity.public(), format!("127.0.0.1:{port}")))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let mut order = OrderConfig::new(domain, membership.clone());
        change(&mut order);
        let mut cluster = Self {
            order,
            keys,
            client_key,
            learner_key,
            domain,
            membership,
            addresses,
            ports,
            folder,
            verifiers,
            nodes: Vec::new(),
        };
        for (id, listener) in listeners.into_iter().enumerate() {
            let node = cluster.node(id, listener);
            cluster.nodes.push(Some(node));
        }
        cluster
    }

    fn node(&self, id: usize, listener: TcpListener) -> Node {
        let config = NodeConfig {
            clients: None,
            name: format!("n{id}"),
            data: self.folder.path().join(format!("node{id}")),
            key: self.keys[id].clone(),
            domain: self.domain,
            membership: self.membership.clone(),
            me: ReplicaId(id as u16),
            addresses: self.addresses.clone(),
            listener,
            metrics: None,
            verifiers: self.verifiers,
            scrub: 0,
            outgoing: None,
            probe: Probe::default(),
        };
        let protocol = Config {
            order: self.order.clone(),
            clients: self.admitted(),
            service: Sum,
            decree: None,
        };
        node::start(config, protocol, |_| ()).unwrap()
    }

    fn admitted(&self) -> BTreeSet<PublicKey> {
        BTreeSet::from([self.client_key.public(), self.learner_key.public()])
    }

    /// The snapshots in a node's folder.
    pub fn snapshot_files(&self, id: usize) -> Vec<PathBuf> {
        let folder = self.folder.path().join(format!("node{id}")).join("log");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|it| it == "snapshot")).collect()
    }

    pub fn kill(&mut self, id: usize) {
        self.nodes[id].take().unwrap().shutdown();
    }

    pub fn restart(&mut self, id: usize) {
        let listener = loop {
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", self.ports[id])) {
                break listener;
            }
            std::thread::yield_now();
        };
        let node = self.node(id, listener);
        self.nodes[id] = Some(node);
    }

    fn config(&self, deadline: Duration) -> ClusterConfig {
        ClusterConfig {
            domain: self.domain,
            membership: self.membership.clone(),
            addresses: self.addresses.clone(),
            resend: Duration::from_millis(300),
            checkpoint_interval: 8,
            deadline,
        }
    }

    pub fn client_under(&self, key: SigningKey, deadline: Duration) -> Client {
        Client::connect::<Pbft>(self.config(deadline), key).unwrap()
    }

    pub fn learner_of<S: Service + Clone>(
        &self,
        service: S,
        key: SigningKey,
        deadline: Duration,
    ) -> Learner {
        let config = self.config(deadline);
        Learner::connect::<Pbft, S>(config, key, service, self.admitted()).unwrap()
    }

    pub fn learner(&self) -> Learner {
        self.learner_of(Sum, self.learner_key.clone(), Duration::from_secs(30))
    }

    pub fn client(&self) -> Client {
        self.client_under(self.client_key.clone(), Duration::from_secs(30))
    }
}

pub fn number(result: &Arc<[u8]>) -> u64 {
    u64::from_le_bytes(result[..].try_into().unwrap())
}

/// The sum that a learner's copy holds.
pub fn sum(copy: &Copy) -> u64 {
    copy.published.state.get(b"sum").map_or(0, number)
}
