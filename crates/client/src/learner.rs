//! The handle on a learner: it executes the log on a copy of its own.

use crate::automaton::Automaton;
use crate::desk::{Desk, NoAnswer};
use crate::teller::{Board, Copy, Teller};
use crate::{Answer, ClientError, ClusterConfig, Executed, UNANSWERED_KIB, executed, shares_of};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testudo_contracts::Service;
use testudo_core::PublicKey;
use testudo_keys::SigningKey;
use testudo_replication::{LearnerConfig, LearnerInput, Standing};
use testudo_runtime::caller::{CallerConfig, call};
use testudo_runtime::{Driven, Fatal, Metrics};
use tokio::sync::watch;

/// Readers that wait for their round. More are refused at once.
const READERS: u32 = 16 << 10;

/// Threads that verify what is large: a slot full of others' bundles, or a piece of a state. What is small is verified where
/// it is read.
const VERIFIERS: usize = 1;

struct Shared {
    automaton: Box<dyn Automaton<LearnerInput>>,
    board: Arc<Board>,
    operations: Arc<Desk<Answer>>,
    reads: Arc<Desk<Arc<Copy>>>,
    /// The next ticket, of either kind.
    next: AtomicU64,
    deadline: Duration,
    key: PublicKey,
}

/// A learner of one cluster. Clones share one copy and one session.
///
/// It runs as a task of the event loop that it is started from; what would hold that loop up runs on a thread for blocking
/// work ([`testudo_runtime::caller`]).
#[derive(Clone)]
pub struct Learner {
    shared: Arc<Shared>,
}

impl fmt::Debug for Learner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Learner").field("key", &self.shared.key).finish_non_exhaustive()
    }
}

impl Learner {
    /// Starts a learner under this key, for the cluster's protocol `O` and service `S`. `clients` are the keys that the
    /// cluster admits from the start, which the state begins with. It connects and catches up in the background; what is
    /// asked meanwhile waits.
    ///
    /// # Errors
    /// When the operating system has no randomness or no thread to give.
    ///
    /// # Panics
    /// When it is called from outside of an event loop of tokio's, or the membership has no quorums, which whoever makes a
    /// membership has checked.
    pub fn connect<O, S>(
        config: ClusterConfig,
        key: SigningKey,
        service: S,
        clients: BTreeSet<PublicKey>,
    ) -> Result<Self, Fatal>
    where
        O: testudo_contracts::Ordering + 'static,
        O::Message: Send + Sync,
        S: Service + Clone,
    {
        let caller = config.caller("learner", key, VERIFIERS);
        let protocol = LearnerConfig {
            domain: config.domain,
            membership: config.membership,
            clients,
            service,
            resend: config.resend,
            checkpoint_interval: config.checkpoint_interval,
        };
        Self::start::<testudo_replication::Learner<O, S>>(caller, protocol, config.deadline)
    }

    fn start<P>(
        caller: CallerConfig,
        protocol: P::Config,
        deadline: Duration,
    ) -> Result<Self, Fatal>
    where
        P: Driven<Input = LearnerInput, Output = testudo_replication::LearnerOutput> + Send,
    {
        let key = caller.key.public();
        let (board, operations, reads) =
            (Board::new(), Desk::new(UNANSWERED_KIB), Desk::new(READERS));
        let mut teller =
            Teller::new(board.clone(), operations.clone(), reads.clone(), caller.metrics.clone());
        let automaton = call::<P>(caller, protocol, move |output| teller.tell(output))?;
        Ok(Self {
            shared: Arc::new(Shared {
                automaton: Box::new(automaton),
                board,
                operations,
                reads,
                next: AtomicU64::new(0),
                deadline,
                key,
            }),
        })
    }

    /// Has an operation ordered and executed once, and gives its result from this learner's own execution, which f+1
    /// replicas agree with. When it comes, [`Learner::latest`] covers it.
    ///
    /// # Errors
    /// When there is no result; see [`ClientError`].
    pub async fn execute(&self, operation: impl Into<Arc<[u8]>>) -> Result<Executed, ClientError> {
        let operation = operation.into();
        let shared = &*self.shared;
        let shares = shares_of(&operation)?;
        let ticket = self.ticket();
        let submit = || shared.automaton.ask(LearnerInput::Submit { ticket, operation });
        executed(shared.operations.ask(ticket, shares, shared.deadline, submit).await)
    }

    /// A copy that covers all that was acknowledged, by whomever, before this was called. All who wait share one round.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] when no quorum answers in time, [`ClientError::Overloaded`] when too many wait, and
    /// [`ClientError::Closed`].
    pub async fn read(&self) -> Result<Arc<Copy>, ClientError> {
        let shared = &*self.shared;
        let ticket = self.ticket();
        let read = || shared.automaton.ask(LearnerInput::Read { ticket });
        let answer = shared.reads.ask(ticket, 1, shared.deadline, read).await;
        answer.map_err(|problem| match problem {
            NoAnswer::Overloaded => ClientError::Overloaded,
            NoAnswer::Closed => ClientError::Closed,
            NoAnswer::Unanswered => ClientError::Unavailable,
        })
    }

    /// The newest copy, however old it is. None until it has caught up once, and while its own execution differs from the
    /// replicas'.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<Copy>> {
        self.shared.board.latest.borrow().clone()
    }

    /// The newest copy, and word whenever there is another, or none. Slots never fall; some may be passed over.
    #[must_use]
    pub fn updates(&self) -> watch::Receiver<Option<Arc<Copy>>> {
        self.shared.board.latest.subscribe()
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        *self.shared.board.standing.borrow()
    }

    /// How it stands, and word whenever that changes.
    #[must_use]
    pub fn standings(&self) -> watch::Receiver<Standing> {
        self.shared.board.standing.subscribe()
    }

    /// The key that it is known by.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.shared.key
    }

    /// How many replicas it is connected to.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.automaton.connections()
    }

    /// How many operations and readers are not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.shared.operations.unanswered() + self.shared.reads.unanswered()
    }

    /// What it counts and measures.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.shared.automaton.metrics()
    }

    /// Takes no more operations and readers, gives those that are out until the deadline, and answers the rest with
    /// [`ClientError::Unknown`] and [`ClientError::Unavailable`]. It goes on following, and the connections end, with the
    /// last clone.
    pub async fn close(&self) {
        let Shared { operations, reads, deadline, .. } = &*self.shared;
        operations.close();
        reads.close();
        tokio::join!(operations.drain(*deadline), reads.drain(*deadline));
        operations.abandon();
        reads.abandon();
    }

    fn ticket(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }
}
