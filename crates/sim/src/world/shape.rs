//! Who there is in a world when it begins.

use crate::keys::Signatures;
use std::rc::Rc;
use testudo_core::{Domain, FaultModel, Membership, PublicKey, ReplicaId};

/// Who there is at the beginning.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where statements count.
    pub domain: Domain,
    /// The replicas.
    pub membership: Rc<Membership>,
    /// The clients' keys, by index: those of clients that keep nothing first, then those of learners.
    pub clients: Vec<PublicKey>,
    /// How many of the clients are learners.
    pub learners: usize,
}

impl Setup {
    /// Whether the client with this index is a learner.
    #[must_use]
    pub const fn is_learner(&self, client: usize) -> bool {
        client < self.clients.len() && client + self.learners >= self.clients.len()
    }
}

/// The shape of a world.
#[derive(Clone, Debug)]
pub struct Shape {
    /// n.
    pub replicas: u16,
    /// How many clients that keep nothing.
    pub clients: u16,
    /// How many clients that learn what is decided, for systems that know such.
    pub learners: u16,
    /// What the replicas claim to survive.
    pub model: FaultModel,
    /// Replicas that are run as twins: two copies under one identity.
    pub twins: Vec<ReplicaId>,
    /// What signatures are; the seed's choice where nothing is said.
    pub signatures: Option<Signatures>,
}

impl Shape {
    /// n = 3f+1 replicas that survive f liars.
    #[must_use]
    pub const fn byzantine(f: u16, clients: u16) -> Self {
        Self {
            replicas: 3 * f + 1,
            clients,
            learners: 0,
            model: FaultModel::byzantine(f),
            twins: Vec::new(),
            signatures: None,
        }
    }
}
