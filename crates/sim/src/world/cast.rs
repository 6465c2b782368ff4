//! Who lives in a world, and with which keys.

use super::{Body, Node, Setup, System, World};
use crate::event::NodeId;
use crate::host::{Host, Place};
use crate::keys::{Keyring, SimSigner};
use crate::rng::Rng;
use crate::shared::Shared;
use testudo_core::{Peer, Protocol, ReplicaId};

impl<S: System> World<S> {
    /// Adds everybody who has these keys.
    pub(super) fn populate(
        &mut self,
        rings: &[Keyring],
        clients: &[SimSigner],
        twins: &[ReplicaId],
        seed: u64,
    ) {
        for (index, ring) in rings.iter().enumerate() {
            self.add_replica(ReplicaId(index as u16), ring.clone(), seed);
        }
        for (index, signer) in clients.iter().enumerate() {
            let peer = Peer::Client(signer.public());
            let rng = Rng::split(seed, "client", index as u64);
            let host = self.host(peer, Keyring::single(signer), rng);
            self.add(Body::Client(index, host), peer);
        }
        for id in twins {
            if let Some(ring) = rings.get(usize::from(id.0)) {
                self.add_twin(*id, ring.clone(), seed);
            }
        }
    }

    fn host<P: Protocol>(&self, peer: Peer, ring: Keyring, rng: Rng) -> Host<P> {
        let Setup { domain, membership, .. } = &self.setup;
        let place = Place { domain: *domain, membership: membership.clone() };
        let mut host = Host::new(peer, ring, place, self.rolls.clone(), rng);
        host.flaw = self.system.flaw();
        host
    }

    fn add_replica(&mut self, id: ReplicaId, ring: Keyring, seed: u64) {
        let rng = Rng::split(seed, "node", self.nodes.len() as u64);
        let host = self.host(Peer::Replica(id), ring, rng);
        self.add(Body::Replica(host), Peer::Replica(id));
    }

    fn add_twin(&mut self, id: ReplicaId, ring: Keyring, seed: u64) {
        self.add_replica(id, ring, seed);
        let (second, first) = (self.nodes.len() - 1, usize::from(id.0));
        for (index, side) in [(first, false), (second, true)] {
            self.nodes[index].side = Some(side);
            self.nodes[index].is_correct = false;
        }
    }

    fn add(&mut self, body: Body<S>, peer: Peer) {
        let id = NodeId(self.nodes.len() as u16);
        let node = Node { body, peer, adversary: None, side: None, is_correct: true };
        self.nodes.push(Shared::new(node));
        self.lives.push(0);
        self.addresses.entry(peer).or_default().push(id);
    }
}
