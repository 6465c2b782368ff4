//! A learner as a gateway wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testudo_client::{ClientError, Learner, Standing};
use testudo_core::{Encode as _, Epoch, Membership, ReplicaId, Slot, View};
use testudo_etcd::{Cluster, Copy, Position, SubmitError};
use testudo_kv::Operation;
use tokio::sync::watch;

use crate::failure::{Failure, Outcome};

/// Whose turn a view is, as the protocol has it.
pub(super) type PrimaryOf = fn(View, &Membership) -> ReplicaId;

/// How long to wait before asking again whether the cluster answers.
const PAUSE: Duration = Duration::from_millis(50);

/// What answers have shown of the cluster.
#[derive(Default)]
struct Known {
    slot: AtomicU64,
    /// Epoch and view, in half of the bits each, so that both together never fall.
    turn: AtomicU64,
}

fn turn(epoch: Epoch, view: View) -> u64 {
    let half = |number: u64| number.min(u64::from(u32::MAX));
    half(epoch.0) << 32 | half(view.0)
}

/// A learner as a gateway wants it; clones share it.
#[derive(Clone)]
pub(crate) struct Link {
    learner: Learner,
    copies: watch::Receiver<Option<Arc<Copy>>>,
    membership: Arc<Membership>,
    primary_of: PrimaryOf,
    known: Arc<Known>,
}

/// The learner's copy as the gateway has it. Both only point to the state.
fn shown(copy: &testudo_client::Copy) -> Arc<Copy> {
    let published = &copy.published;
    Arc::new(Copy {
        slot: published.slot,
        time: published.time,
        state: published.state.clone(),
        lineage: copy.lineage,
        taken: copy.taken,
    })
}

impl Link {
    /// Must be called from within an event loop, on which it hands on what the learner publishes.
    pub(super) fn new(
        learner: Learner,
        membership: Arc<Membership>,
        primary_of: PrimaryOf,
    ) -> Self {
        let mut theirs = learner.updates();
        let (hand_on, copies) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let copy = theirs.borrow_and_update().as_deref().map(shown);
                if hand_on.send(copy).is_err() {
                    return;
                }
                if theirs.changed().await.is_err() {
                    // The learner has ended, and nothing can be vouched for any more.
                    hand_on.send_replace(None);
                    return;
                }
            }
        });
        Self { learner, copies, membership, primary_of, known: Arc::default() }
    }

    /// Has one operation ordered that changes nothing: the service answers when this comes back.
    pub(crate) async fn first_answer(&self) -> Outcome {
        loop {
            match self.submit(Operation::Status.to_bytes().into()).await {
                Ok(_) => return Ok(()),
                Err(SubmitError::NotAdmitted) => {
                    return Err(Failure::refused("the cluster does not admit this gateway's key"));
                }
                Err(SubmitError::Stopped) => return Err(Failure::failed("the client has stopped")),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// How many replicas it is connected to.
    pub(crate) fn connections(&self) -> usize {
        self.learner.connections()
    }

    /// How its learner stands.
    pub(super) fn standing(&self) -> Standing {
        self.learner.standing()
    }

    /// Operations and reads that wait for an answer.
    pub(super) fn unanswered(&self) -> usize {
        self.learner.unanswered()
    }

    /// Its numbers, as Prometheus reads them.
    pub(super) fn metrics(&self) -> String {
        self.learner.metrics().render()
    }

    /// Takes nothing more, and waits for what is under way.
    pub(super) async fn close(&self) {
        self.learner.close().await;
    }
}

fn refused(error: ClientError) -> SubmitError {
    match error {
        ClientError::Unknown => SubmitError::Unknown,
        ClientError::Unavailable => SubmitError::Unavailable,
        ClientError::NotAdmitted => SubmitError::NotAdmitted,
        ClientError::TooLarge => SubmitError::TooLarge,
        ClientError::Overloaded => SubmitError::Overloaded,
        ClientError::Closed => SubmitError::Stopped,
    }
}

impl Cluster for Link {
    async fn submit(&self, operation: Arc<[u8]>) -> Result<Arc<[u8]>, SubmitError> {
        let executed = self.learner.execute(operation).await.map_err(refused)?;
        self.known.slot.fetch_max(executed.slot.0, Ordering::Relaxed);
        Ok(executed.result)
    }

    async fn read(&self) -> Result<Arc<Copy>, SubmitError> {
        self.learner.read().await.map(|copy| shown(&copy)).map_err(refused)
    }

    fn latest(&self) -> Result<Arc<Copy>, SubmitError> {
        self.learner.latest().map(|copy| shown(&copy)).ok_or(SubmitError::NotReady)
    }

    fn updates(&self) -> watch::Receiver<Option<Arc<Copy>>> {
        self.copies.clone()
    }

    fn position(&self) -> Position {
        if let Some(copy) = self.learner.latest() {
            self.known.slot.fetch_max(copy.published.slot.0, Ordering::Relaxed);
            let (epoch, view) = (copy.published.epoch, copy.published.view);
            self.known.turn.fetch_max(turn(epoch, view), Ordering::Relaxed);
        }
        let turn = self.known.turn.load(Ordering::Relaxed);
        let (epoch, view) = (Epoch(turn >> 32), View(turn & u64::from(u32::MAX)));
        let slot = Slot(self.known.slot.load(Ordering::Relaxed));
        Position { epoch, view, slot, primary: (self.primary_of)(view, &self.membership) }
    }
}
