//! What a learner tells: the copies that it publishes, how it stands, and who is answered by that.

use crate::Answer;
use crate::desk::Desk;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use testudo_core::{ReplicaId, Time};
use testudo_replication::{LearnerOutput, Published, Repair, Standing};
use testudo_runtime::Metrics;
use tokio::sync::watch;

/// A state that the learner has executed and found to be what the replicas vouch for. It never changes: what comes after it
/// is another one.
#[derive(Clone, Debug)]
pub struct Copy {
    /// The state, and what it covers.
    pub published: Published,
    /// How often the learner had found itself wrong before it. Copies of one number follow from each other; one of the next
    /// follows from a state that was fetched, and nothing that was kept of those before is to be believed.
    pub lineage: u64,
    /// When it was published, by this machine's clock, which says how much time has passed since.
    pub taken: Instant,
}

/// What can be seen of a learner at any time.
pub(crate) struct Board {
    /// The newest copy. None until the learner has caught up once, and while its own execution is known to be wrong. One
    /// that fetches what it was left behind of shows what it had: that was vouched for, and only grows old.
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
    /// Times that it had to catch up, the start among them.
    catch_ups: i64,
    divergences: u64,
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
                match latest.filter(|_| self.follows()) {
                    Some(latest) => self.reads.answer(ticket, latest),
                    None => self.early.push(ticket),
                }
            }
            LearnerOutput::Repaired(Repair { slot, fetched, differing }) => {
                let found = differing.map_or_else(
                    || "what was wrong cannot be told any more".to_owned(),
                    |differing| differing.to_string(),
                );
                tracing::warn!(
                    slot = slot.0,
                    fetched_bytes = fetched.bytes,
                    "this copy was wrong, and is repaired: {found}"
                );
            }
            LearnerOutput::Standing(standing) => {
                self.count(standing);
                if matches!(standing, Standing::Diverged(_)) {
                    // What it had so far was vouched for, and yet its memory cannot be relied on.
                    self.board.latest.send_replace(None);
                }
                self.board.standing.send_replace(standing);
            }
        }
    }

    fn follows(&self) -> bool {
        matches!(*self.board.standing.borrow(), Standing::Following(_))
    }

    fn publish(&mut self, published: Published) {
        if !self.follows() {
            return;
        }
        let show =
            |name, value: u64| self.metrics.show(name, i64::try_from(value).unwrap_or(i64::MAX));
        show("learner_slot", published.slot.0);
        show("learner_view", published.view.0);
        self.metrics.show("learner_lag_milliseconds", lag(published.time));
        let copy =
            Arc::new(Copy { published, lineage: self.counts.divergences, taken: Instant::now() });
        self.board.latest.send_replace(Some(copy.clone()));
        for ticket in self.early.drain(..) {
            self.reads.answer(ticket, copy.clone());
        }
    }

    fn count(&mut self, standing: Standing) {
        let counts = &mut self.counts;
        let word = match standing {
            Standing::Fetching => {
                counts.catch_ups += 1;
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
        self.metrics.show("learner_catch_ups", counts.catch_ups);
        let divergences = i64::try_from(counts.divergences).unwrap_or(i64::MAX);
        self.metrics.show("learner_divergences", divergences);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use testudo_core::{Epoch, Slot, View};
    use testudo_state::Map;

    fn teller() -> Teller {
        Teller::new(Board::new(), Desk::new(9), Desk::new(9), Arc::new(Metrics::new()))
    }

    fn published(slot: u64) -> LearnerOutput {
        let (slot, time, view) = (Slot(slot), Time(3), View(2));
        LearnerOutput::Published(Published { slot, time, epoch: Epoch(0), view, state: Map::new() })
    }

    fn follows(upstream: u16) -> LearnerOutput {
        LearnerOutput::Standing(Standing::Following(ReplicaId(upstream)))
    }

    fn shown(board: &Board) -> Option<u64> {
        board.latest.borrow().as_ref().map(|copy| copy.published.slot.0)
    }

    #[test]
    fn a_copy_is_shown_unless_the_learner_is_wrong_by_itself() {
        let mut teller = teller();
        let board = teller.board.clone();
        teller.tell(published(1));
        assert_eq!(shown(&board), None);
        teller.tell(follows(0));
        teller.tell(published(2));
        teller.tell(follows(1));
        assert_eq!(shown(&board), Some(2), "another upstream changes nothing");
        teller.tell(LearnerOutput::Standing(Standing::Fetching));
        teller.tell(published(7));
        assert_eq!(
            shown(&board),
            Some(2),
            "left behind, it shows what was vouched for, and nothing else"
        );
        teller.tell(follows(1));
        teller.tell(LearnerOutput::Standing(Standing::Diverged(Slot(3))));
        assert_eq!(shown(&board), None);
        teller.tell(LearnerOutput::Standing(Standing::Fetching));
        teller.tell(follows(1));
        teller.tell(published(5));
        assert_eq!(shown(&board), Some(5));
        let text = teller.metrics.render();
        for line in [
            "testudo_learner_standing 1",
            "testudo_learner_upstream 1",
            "testudo_learner_upstream_changes 1",
            "testudo_learner_catch_ups 3",
            "testudo_learner_divergences 1",
            "testudo_learner_slot 5",
            "testudo_learner_view 2",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
        }
        drop(teller);
        assert_eq!(shown(&board), None, "nobody vouches for it any more");
    }

    #[tokio::test]
    async fn a_reader_who_may_read_while_a_state_is_fetched_gets_the_copy_that_comes_of_it() {
        let mut teller = teller();
        let reads = teller.reads.clone();
        teller.tell(follows(0));
        teller.tell(published(4));
        teller.tell(LearnerOutput::Standing(Standing::Fetching));
        let (reader, _) = tokio::join!(reads.ask(7, 1, Duration::from_secs(30), || true), async {
            teller.tell(LearnerOutput::Readable { ticket: 7 });
            teller.tell(follows(0));
            teller.tell(published(9));
        });
        assert_eq!(reader.unwrap().published.slot, Slot(9));
    }

    #[tokio::test]
    async fn a_reader_who_may_read_before_anything_is_shown_gets_the_next_copy() {
        let mut teller = teller();
        let reads = teller.reads.clone();
        let (reader, _) = tokio::join!(reads.ask(7, 1, Duration::from_secs(30), || true), async {
            teller.tell(LearnerOutput::Readable { ticket: 7 });
            teller.tell(follows(0));
            teller.tell(published(4));
        });
        assert_eq!(reader.unwrap().published.slot, Slot(4));
    }
}
