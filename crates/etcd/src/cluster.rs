//! The gateway's view of the cluster: something that orders and executes operations, and a copy of
//! the state that the gateway has executed itself and found to be what the replicas vouch for.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use testudo_contracts::Moment;
use testudo_core::{Epoch, ReplicaId, Slot, Time, View};
use testudo_state::Map;
use tokio::sync::watch;

/// The state after one slot, checked by the gateway's own execution. It never changes: what comes
/// after it is another copy.
#[derive(Clone, Debug)]
pub struct Copy {
    /// The last slot that it has executed.
    pub slot: Slot,
    /// Agreed time after that slot.
    pub time: Time,
    /// The service's state.
    pub state: Map,
    /// Copies of one number follow from each other. If it changes the gateway has found its own
    /// execution wrong, and has fetched a state: nothing kept of earlier copies is to be believed.
    pub lineage: u64,
    /// When it was published, by the gateway's own clock, which says how much time has passed since.
    pub taken: Instant,
}

impl Copy {
    /// The moment of a read that happens now: leases have run on since the last slot.
    pub(crate) fn now(&self) -> Moment {
        let elapsed = u64::try_from(self.taken.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { slot: self.slot, time: Time(self.time.0.saturating_add(elapsed)), elapsed }
    }
}

/// A cluster, as its gateway reaches it. The production one follows the log as a learner; tests run
/// the service in place.
///
/// Every future may take as long as it likes: the gateway gives up after its own deadline and drops
/// it, which need not recall an operation.
pub trait Cluster: Send + Sync + 'static {
    /// Has one operation ordered and executed once, and gives its result from the gateway's own
    /// checked execution. When it comes, [`Cluster::latest`] covers it.
    ///
    /// # Errors
    /// When there is no result to be had; the error says what is known of the operation.
    fn submit(
        &self,
        operation: Arc<[u8]>,
    ) -> impl Future<Output = Result<Arc<[u8]>, SubmitError>> + Send;

    /// A copy that covers everything acknowledged, by whatever gateway, before this was called.
    ///
    /// # Errors
    /// When no quorum says what has been acknowledged.
    fn read(&self) -> impl Future<Output = Result<Arc<Copy>, SubmitError>> + Send;

    /// The newest copy, however old it is.
    ///
    /// # Errors
    /// [`SubmitError::NotReady`] while there is none: the gateway is catching up, or its own
    /// execution came to something else than the replicas vouch for.
    fn latest(&self) -> Result<Arc<Copy>, SubmitError>;

    /// The newest copy, and word whenever there is another. None while there is none. Its slot never
    /// falls.
    fn updates(&self) -> watch::Receiver<Option<Arc<Copy>>>;

    /// Where the cluster stood when it was heard from last. Neither the slot ever falls nor the view,
    /// but that it begins anew in the next epoch.
    fn position(&self) -> Position;
}

/// Where a cluster stands, as far as its client knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Position {
    /// The epoch of the copy published last.
    pub epoch: Epoch,
    /// The highest view of that epoch that replicas are known to be in.
    pub view: View,
    /// The highest slot of an accepted answer. Shown to users as the Raft index.
    pub slot: Slot,
    /// The primary of that view. Shown to users as the leader.
    pub primary: ReplicaId,
}

impl Position {
    /// What users are shown as the Raft term. It never falls: each epoch begins above all views of
    /// those before. Views are counted from 1, because clients take term 0 for none.
    #[must_use]
    pub fn term(&self) -> u64 {
        let view = self.view.0.min(u64::from(u32::MAX) - 1);
        self.epoch.0.min(u64::from(u32::MAX)) << 32 | (view + 1)
    }
}

/// Why there is no result, or no copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubmitError {
    /// No quorum answers. The operation may yet be executed.
    Unavailable,
    /// Whether the operation was executed cannot be found out any more.
    Unknown,
    /// The gateway has no copy of the state that it can vouch for. Nothing was executed.
    NotReady,
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
            Self::NotReady => "the gateway has no copy of the state that it can vouch for",
            Self::NotAdmitted => "the cluster does not admit this client",
            Self::TooLarge => "the operation is too large",
            Self::Overloaded => "too many operations are waiting",
            Self::Stopped => "the client was stopped",
        })
    }
}

impl std::error::Error for SubmitError {}
