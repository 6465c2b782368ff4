//! The gateway's view of the cluster: something that executes operations.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use testudo_core::{ReplicaId, Slot, View};

/// Has operations ordered and executed. The production one is the asynchronous client; tests run the
/// service in place.
pub trait Submit: Send + Sync + 'static {
    /// Has one operation executed once, and gives the result that the cluster agrees on.
    ///
    /// It may take as long as it likes: the gateway gives up after its own deadline and drops the
    /// future, which need not recall the operation.
    ///
    /// # Errors
    /// When there is no result to be had; the error says what is known of the operation.
    fn submit(
        &self,
        operation: Arc<[u8]>,
    ) -> impl Future<Output = Result<Arc<[u8]>, SubmitError>> + Send;

    /// Where the cluster stood when it was heard from last. No part of it ever falls but the
    /// primary, which changes with the view.
    fn position(&self) -> Position;
}

/// Where a cluster stands, as far as its client knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Position {
    /// The view of the last accepted answer. Shown to users as the Raft term, counted from 1.
    pub view: View,
    /// The highest slot of an accepted answer. Shown to users as the Raft index.
    pub slot: Slot,
    /// The primary of that view. Shown to users as the leader.
    pub primary: ReplicaId,
}

/// Why an operation has no result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubmitError {
    /// No quorum answers. The operation may yet be executed.
    Unavailable,
    /// Whether the operation was executed cannot be found out any more.
    Unknown,
    /// The cluster does not admit this gateway's key. Nothing was executed.
    NotAdmitted,
    /// The operation is larger than the cluster takes. Nothing was executed.
    TooLarge,
    /// More is waiting than may wait. Nothing was executed.
    Overloaded,
    /// The client has been stopped. The operation may have been executed.
    Stopped,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "no quorum answers",
            Self::Unknown => "whether the operation was executed is not known",
            Self::NotAdmitted => "the cluster does not admit this client",
            Self::TooLarge => "the operation is too large",
            Self::Overloaded => "too many operations are waiting",
            Self::Stopped => "the client was stopped",
        })
    }
}

impl std::error::Error for SubmitError {}
