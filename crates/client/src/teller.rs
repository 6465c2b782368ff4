//! What a learner tells: the copies that it publishes, how it stands, and who is answered by that.

use crate::Answer;
use crate::desk::Desk;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use testudo_core::{ReplicaId, Time};
use testudo_replication::{LearnerOutput, Published, Standing};
use testudo_runtime::Metrics;
use tokio::sync::watch;

/// A state that the learner has executed and found to be what the replicas vouch for. It never changes: what comes after it
/// is another one.
#[derive(Clone, Debug)]
pub struct Copy {
    /// The state, and what it covers.
    pub published: Published,
    /// When it was published, by this machine's clock, which says how much time has passed since.
    pub taken: Instant,
}

/// What can be seen of a learner at any time.
pub(crate) struct Board {
    /// The newest copy. None while the learner does not follow.
    pub(crate) latest: watch::Sender<Option<Arc<Copy>>>,
    pub(crate) standing: watch::Sender<Standing>,
}

impl Board {
    pub(crate) fn new() -> Arc<Self> {
        let (latest, standing) = (watch::channel(None).0, watch::channel(Standing::Fetching).0);
        Arc::new(Self { latest, standing })
    }
}

/// Takes what the automaton tells, in order. When the automaton ends, there is no copy any more, and nobody waits.
pub(crate) struct Teller {
    pub(crate) board: Arc<Board>,
    pub(crate) operations: Arc<Desk<Answer>>,
    pub(crate) reads: Arc<Desk<Arc<Copy>>>,
    pub(crate) metrics: Arc<Metrics>,
    /// Readers that may read while nothing is shown. The next copy that is covers what they asked for, too.
    early: Vec<u64>,
    counts: Counts,
}

/// How often something has happened.
#[derive(Default)]
struct Counts {
    upstream: Option<ReplicaId>,
    upstream_changes: i64,
    transfers: i64,
    divergences: i64,
}

impl Teller {
    pub(crate) fn new(
        board: Arc<Board>,
        operations: Arc<Desk<Answer>>,
        reads: Arc<Desk<Arc<Copy>>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (early, counts) = (Vec::new(), Counts::default());
        let mut teller = Self { board, operations, reads, metrics, early, counts };
        teller.count(Standing::Fetching);
        teller
    }

    /// The automaton tells something.
    pub(crate) fn tell(&mut self, output: LearnerOutput) {
        match output {
            LearnerOutput::Published(published) => self.publish(published),
            LearnerOutput::Answer { ticket, outcome, view } => {
                self.operations.answer(ticket, (outcome, view));
            }
            LearnerOutput::Readable { ticket } => {
                let latest = self.board.latest.borrow().clone();
                match latest {
                    Some(latest) => self.reads.answer(ticket, latest),
                    None => self.early.push(ticket),
                }
            }
            LearnerOutput::Standing(standing) => {
                self.count(standing);
                if !matches!(standing, Standing::Following(_)) {
                    // It is shown to nobody while it cannot be vouched for.
                    self.board.latest.send_replace(None);
                }
                self.board.standing.send_replace(standing);
            }
        }
    }

    fn publish(&mut self, published: Published) {
        if !matches!(*self.board.standing.borrow(), Standing::Following(_)) {
            return;
        }
        let show =
            |name, value: u64| self.metrics.show(name, i64::try_from(value).unwrap_or(i64::MAX));
        show("learner_slot", published.slot.0);
        show("learner_view", published.view.0);
        self.metrics.show("learner_lag_milliseconds", lag(published.time));
        let copy = Arc::new(Copy { published, taken: Instant::now() });
        self.board.latest.send_replace(Some(copy.clone()));
        for ticket in self.early.drain(..) {
            self.reads.answer(ticket, copy.clone());
        }
    }

    fn count(&mut self, standing: Standing) {
        let counts = &mut self.counts;
        let word = match standing {
            Standing::Fetching => {
                counts.transfers += 1;
                0
            }
            Standing::Following(upstream) => {
                let before = counts.upstream.replace(upstream);
                counts.upstream_changes +=
                    i64::from(before.is_some_and(|before| before != upstream));
                self.metrics.show("learner_upstream", i64::from(upstream.0));
                1
            }
            Standing::Diverged(slot) => {
                tracing::error!(
                    %slot,
                    "this learner's own execution differs from what the replicas vouch for: it answers nothing until \
                     it has fetched a certified state"
                );
                counts.divergences += 1;
                2
            }
        };
        self.metrics.show("learner_standing", word);
        self.metrics.show("learner_upstream_changes", counts.upstream_changes);
        self.metrics.show("learner_transfers", counts.transfers);
        self.metrics.show("learner_divergences", counts.divergences);
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.board.latest.send_replace(None);
        self.operations.abandon();
        self.reads.abandon();
    }
}

/// Milliseconds by which agreed time is behind this machine's clock. Negative if this clock is the one behind.
fn lag(agreed: Time) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let difference = now as i128 - i128::from(agreed.0);
    i64::try_from(difference).unwrap_or(i64::MAX)
}
