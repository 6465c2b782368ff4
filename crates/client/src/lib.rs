//! Async handles on the automata of `testudo-replication` that stand on a client's side.
//!
//! A [`Client`] keeps no state: [`Client::submit`] hands an operation over and comes back with the result that the
//! protocol's reply rule accepts. A [`Learner`] follows the log and executes all of it on a copy of its own; it answers
//! operations from that, and gives the copy to whoever reads.
//!
//! What many tasks ask for at once travels as one bundle under one signature, or waits for one round of claims. An operation
//! is executed at most once, however often it has to be sent; when its deadline passes, or its session is lost, what became
//! of it is unknown, and the error says so. Everything that waits is bounded, and what comes beyond is refused at once.
#![forbid(unsafe_code)]

mod automaton;
mod client;
mod desk;
mod learner;
mod teller;

pub use client::Client;
pub use learner::Learner;
pub use teller::Copy;
pub use testudo_replication::{Published, Standing};

use desk::NoAnswer;
use std::sync::Arc;
use std::time::Duration;
use testudo_core::{Domain, Membership, Slot, View};
use testudo_keys::SigningKey;
use testudo_replication::Outcome;
use testudo_runtime::caller::CallerConfig;
use testudo_runtime::{Addresses, Metrics};

/// Operations that are not answered, counted in KiB and at least one each. More are refused at once.
const UNANSWERED_KIB: u32 = 64 << 10;

/// Which cluster a client talks to, and how.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Where its operations count.
    pub domain: Domain,
    /// The replicas.
    pub membership: Membership,
    /// Where they are, by identity key.
    pub addresses: Addresses,
    /// How long a bundle may be unanswered before it is sent again.
    pub resend: Duration,
    /// Slots between two checkpoints, as the replicas have it.
    pub checkpoint_interval: u64,
    /// How long an operation may take before its outcome is called unknown, and a read before it is given up.
    pub deadline: Duration,
}

impl ClusterConfig {
    fn caller(&self, name: &str, key: SigningKey, verifiers: usize) -> CallerConfig {
        CallerConfig {
            name: name.to_owned(),
            key,
            domain: self.domain,
            membership: self.membership.clone(),
            addresses: self.addresses.clone(),
            verifiers,
            metrics: Arc::new(Metrics::new()),
        }
    }
}

/// Why an operation has no result, or a reader no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// It was not answered in time, or its session was evicted: it may or may not have been executed.
    #[error("whether the operation was executed is not known")]
    Unknown,
    /// A read was not answered in time: no quorum says what has been acknowledged, or the learner's copy does not reach it.
    /// Nothing was executed.
    #[error("the cluster does not answer")]
    Unavailable,
    /// The cluster does not admit this client's key. It was not executed.
    #[error("the cluster does not admit this client's key")]
    NotAdmitted,
    /// It is larger than an operation may be. It was not executed.
    #[error("the operation is too large")]
    TooLarge,
    /// Too much is unanswered: try again in a moment. It was not executed.
    #[error("too many operations are unanswered; try again later")]
    Overloaded,
    /// The client was closed, or has broken down, before it was handed over. It was not executed.
    #[error("the client is closed")]
    Closed,
}

/// A result, and where in the order it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The slot that the operation was executed in.
    pub slot: Slot,
    /// The highest view that the replicas are known to be in by now.
    pub view: View,
    /// What came of it.
    pub result: Arc<[u8]>,
}

/// What became of an operation.
type Answer = (Outcome, View);

/// The shares that an operation takes of what may be unanswered.
fn shares_of(operation: &[u8]) -> Result<u32, ClientError> {
    u32::try_from(1 + operation.len() / 1024).map_err(|_| ClientError::TooLarge)
}

/// What an operation's answer says.
fn executed(answer: Result<Answer, NoAnswer>) -> Result<Executed, ClientError> {
    match answer {
        Ok((Outcome::Done(slot, result), view)) => Ok(Executed { slot, view, result }),
        Ok((Outcome::NotAdmitted, _)) => Err(ClientError::NotAdmitted),
        Ok((Outcome::TooLarge, _)) => Err(ClientError::TooLarge),
        Err(NoAnswer::Overloaded) => Err(ClientError::Overloaded),
        Err(NoAnswer::Closed) => Err(ClientError::Closed),
        // Not answered in time, the session is lost, or the automaton is gone.
        Ok((Outcome::Unknown, _)) | Err(NoAnswer::Unanswered) => Err(ClientError::Unknown),
    }
}
