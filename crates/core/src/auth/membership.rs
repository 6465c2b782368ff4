//! Who belongs to a cluster in which epoch, and with which keys.

use crate::digest::Digest;
use crate::fault::FaultModel;
use crate::ids::{Epoch, Incarnation, Peer, PublicKey, ReplicaId, Slot};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A replica as its cluster knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its long-lived key, which its channels are pinned to and which evidence follows.
    pub identity: PublicKey,
    /// The key that its statements are signed with in this incarnation.
    pub voting: PublicKey,
    /// How often it has come back under a new voting key.
    pub incarnation: Incarnation,
}
crate::wire_struct!(Member { identity, voting, incarnation });

/// One configuration: who belongs to it, and what it claims to survive. Replica i is the i-th member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// The configuration's number.
    pub epoch: Epoch,
    /// The replicas, by id.
    pub members: Vec<Member>,
    /// What this configuration claims to survive; checked against the bounds before it is used.
    pub model: FaultModel,
    /// What it begins with: the state that the epoch before has ended in.
    pub base: Base,
    /// Who belonged to the epoch before, and so on to the first: by their keys what was said then still convicts.
    pub before: Option<Arc<Membership>>,
}

/// The state that an epoch begins with. Whoever knows the membership knows that it is right, so it needs no certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Base {
    /// The last slot of the epoch before; 0 for the first epoch, which begins with the genesis.
    pub slot: Slot,
    /// The digest of the state after it.
    pub state: Digest,
}
crate::wire_struct!(Base { slot, state });

impl Base {
    /// What the first epoch begins with.
    pub const GENESIS: Self = Self { slot: Slot(0), state: Digest::ZERO };
}

impl Membership {
    /// The configuration that a cluster begins with.
    #[must_use]
    pub fn first(members: Vec<Member>, model: FaultModel) -> Self {
        Self { epoch: Epoch(0), members, model, base: Base::GENESIS, before: None }
    }
    /// The configuration that follows it.
    #[must_use]
    pub fn next(&self, members: Vec<Member>, base: Base) -> Self {
        let (epoch, model) = (self.epoch.next(), self.model);
        Self { epoch, members, model, base, before: Some(Arc::new(self.clone())) }
    }
    /// n, the number of replicas.
    #[must_use]
    pub fn n(&self) -> usize {
        self.members.len()
    }
    /// The ids 0..n.
    pub fn replicas(&self) -> impl DoubleEndedIterator<Item = ReplicaId> + use<> {
        (0..self.members.len()).map(|i| ReplicaId(i as u16))
    }
    /// The member with that id.
    #[must_use]
    pub fn member(&self, id: ReplicaId) -> Option<&Member> {
        self.members.get(usize::from(id.0))
    }
    /// The key that `peer` signs with: a replica's voting key, a client's own.
    #[must_use]
    pub fn key(&self, peer: Peer) -> Option<PublicKey> {
        match peer {
            Peer::Replica(id) => self.member(id).map(|member| member.voting),
            Peer::Client(key) => Some(key),
        }
    }
    /// The long-lived key of `peer`: a replica's identity, a client's own.
    #[must_use]
    pub fn identity(&self, peer: Peer) -> Option<PublicKey> {
        match peer {
            Peer::Replica(id) => self.member(id).map(|member| member.identity),
            Peer::Client(key) => Some(key),
        }
    }
}
