//! The learner: it follows the log, executes on its own copy, and compares.
//!
//! See [`LearnerInput`] and [`LearnerOutput`] for what it does for the layer above.

use crate::asking::Outcome;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::time::Duration;
use testudo_core::{Domain, Membership, PublicKey, ReplicaId, Slot, Time, View};
use testudo_state::Map;

/// What a learner is started with.
#[derive(Clone, Debug)]
pub struct LearnerConfig<S> {
    /// Where its bundles count.
    pub domain: Domain,
    /// Who orders.
    pub membership: Membership,
    /// The client keys that are admitted from the start: part of the state that everything starts from.
    pub clients: BTreeSet<PublicKey>,
    /// What is replicated.
    pub service: S,
    /// How long it waits before what may have been lost is said or asked for again.
    pub resend: Duration,
}

/// What the learner's user asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LearnerInput {
    /// Execute this operation once. The ticket names it in the answer.
    Submit {
        /// Chosen by the user, not in use.
        ticket: u64,
        /// The operation.
        operation: Arc<[u8]>,
    },
    /// Say when the published state covers all that was acknowledged, by whomever, before this was asked.
    Read {
        /// Chosen by the user, not in use.
        ticket: u64,
    },
}

/// What the learner has executed and found to be what f+1 replicas vouch for.
#[derive(Clone, Debug)]
pub struct Published {
    /// The last slot.
    pub slot: Slot,
    /// Agreed time after it.
    pub time: Time,
    /// The highest view that the replicas are known to be in.
    pub view: View,
    /// The service's state: an O(1) clone.
    pub state: Map,
}

/// How a learner is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It has no state yet, or is too far behind to follow, and fetches a certified state.
    Fetching,
    /// It follows. Only now are tickets answered.
    Following(ReplicaId),
    /// Its own execution came to something else than f+1 replicas vouch for at this slot. It answers nothing, has thrown
    /// its state away, and goes on to fetch a certified one.
    Diverged(Slot),
}

/// What the learner tells its user.
#[derive(Clone, Debug)]
pub enum LearnerOutput {
    /// The state has moved. Comes before the answers that rest on it.
    Published(Published),
    /// The answer to a submitted ticket. Every such ticket gets exactly one, in no particular order.
    Answer {
        /// The ticket.
        ticket: u64,
        /// What its operation came to.
        outcome: Outcome,
        /// The highest view that the replicas are known to be in.
        view: View,
    },
    /// The state published last covers what this ticket asked for.
    Readable {
        /// The ticket.
        ticket: u64,
    },
    /// How the learner is has changed.
    Standing(Standing),
}
