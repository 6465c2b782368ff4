//! An async handle on the client automaton of `testudo-replication`.
//!
//! [`Client::submit`] hands an operation over and comes back with the result that the protocol's reply rule accepts. What
//! many tasks submit at once travels as one bundle under one signature. An operation is executed at most once, however
//! often it has to be sent; when its deadline passes, or its session is lost, what became of it is unknown, and the error
//! says so.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use testudo_core::{Domain, Membership, PublicKey, Slot, View};
use testudo_keys::SigningKey;
use testudo_replication::{ClientInput, ClientOutput, Outcome};
use testudo_runtime::caller::{CallerConfig, CallerHandle, call};
use testudo_runtime::{Addresses, Fatal, Metrics};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;

/// Operations that are not answered, counted in KiB and at least one each. More are refused at once.
const UNANSWERED_KIB: usize = 64 << 10;

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
    /// How long an operation may take before its outcome is called unknown.
    pub deadline: Duration,
}

/// Why an operation has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// It was not answered in time, or its session was evicted: it may or may not have been executed.
    #[error("whether the operation was executed is not known")]
    Unknown,
    /// The cluster does not admit this client's key. It was not executed.
    #[error("the cluster does not admit this client's key")]
    NotAdmitted,
    /// It is larger than an operation may be. It was not executed.
    #[error("the operation is too large")]
    TooLarge,
    /// Too much is unanswered: try again in a moment. It was not executed.
    #[error("too many operations are unanswered; try again later")]
    Overloaded,
    /// The client was closed before it was handed over. It was not executed.
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

/// An operation that is not answered. Its share is given back when the automaton answers, not when the caller has lost
/// patience: until then it takes up memory.
struct Ticket {
    answer: oneshot::Sender<(Outcome, View)>,
    _share: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Tickets(Mutex<HashMap<u64, Ticket>>);

impl Tickets {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Ticket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The automaton behind the handle, whatever protocol's client it is.
trait Automaton: Send + Sync {
    fn submit(&self, input: ClientInput) -> bool;
    fn connections(&self) -> usize;
    fn metrics(&self) -> &Arc<Metrics>;
}

impl<O: testudo_contracts::Ordering> Automaton for CallerHandle<testudo_replication::Client<O>>
where
    testudo_replication::Client<O>: testudo_runtime::Driven<Input = ClientInput>,
{
    fn submit(&self, input: ClientInput) -> bool {
        self.input(input)
    }
    fn connections(&self) -> usize {
        Self::connections(self)
    }
    fn metrics(&self) -> &Arc<Metrics> {
        Self::metrics(self)
    }
}

/// How far a client is on its way to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// It takes no more operations.
    Closing,
    /// It waits for no more answers.
    Closed,
}

struct Shared {
    automaton: Box<dyn Automaton>,
    tickets: Arc<Tickets>,
    next: AtomicU64,
    unanswered: Arc<Semaphore>,
    deadline: Duration,
    key: PublicKey,
    phase: watch::Sender<Phase>,
}

/// A client of one cluster. Clones share one session.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("key", &self.shared.key).finish_non_exhaustive()
    }
}

impl Client {
    /// Starts a client under this key, for the cluster's protocol `O`. It connects in the background, and goes on trying;
    /// what is submitted meanwhile waits.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    ///
    /// # Panics
    /// When it is called from outside of an event loop of tokio's.
    pub fn connect<O>(config: ClusterConfig, key: SigningKey) -> Result<Self, Fatal>
    where
        O: testudo_contracts::Ordering + 'static,
        O::Message: Send + Sync,
    {
        let tickets = Arc::new(Tickets::default());
        let answered = tickets.clone();
        let outputs = move |output: ClientOutput| {
            let ClientOutput::Answer { ticket, outcome, view } = output;
            if let Some(ticket) = answered.lock().remove(&ticket) {
                // Whoever asked may have lost patience.
                let _ = ticket.answer.send((outcome, view));
            }
        };
        let public = key.public();
        let protocol = testudo_replication::ClientConfig {
            domain: config.domain,
            membership: config.membership.clone(),
            resend: config.resend,
        };
        let caller = CallerConfig {
            name: "client".to_owned(),
            key,
            domain: config.domain,
            membership: config.membership,
            addresses: config.addresses,
            verifiers: 0,
        };
        let automaton = call::<testudo_replication::Client<O>>(caller, protocol, outputs)?;
        Ok(Self {
            shared: Arc::new(Shared {
                automaton: Box::new(automaton),
                tickets,
                next: AtomicU64::new(0),
                unanswered: Arc::new(Semaphore::new(UNANSWERED_KIB)),
                deadline: config.deadline,
                key: public,
                phase: watch::channel(Phase::Open).0,
            }),
        })
    }

    /// Has an operation executed, and gives its result.
    ///
    /// # Errors
    /// When there is no result; see [`ClientError`].
    pub async fn submit(&self, operation: Vec<u8>) -> Result<Arc<[u8]>, ClientError> {
        self.execute(operation).await.map(|executed| executed.result)
    }

    /// Has an operation executed, and gives its result and its place in the order.
    ///
    /// # Errors
    /// When there is no result; see [`ClientError`].
    pub async fn execute(&self, operation: impl Into<Arc<[u8]>>) -> Result<Executed, ClientError> {
        let operation = operation.into();
        let shared = &*self.shared;
        let mut phase = shared.phase.subscribe();
        if *phase.borrow() != Phase::Open {
            return Err(ClientError::Closed);
        }
        let cost = u32::try_from(1 + operation.len() / 1024).map_err(|_| ClientError::TooLarge)?;
        let share = shared.unanswered.clone().try_acquire_many_owned(cost);
        let share = share.map_err(|_| ClientError::Overloaded)?;
        let ticket = shared.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        shared.tickets.lock().insert(ticket, Ticket { answer, _share: share });
        if !shared.automaton.submit(ClientInput::Submit { ticket, operation }) {
            shared.tickets.lock().remove(&ticket);
            return Err(ClientError::Closed);
        }
        let outcome = tokio::select! {
            outcome = timeout(shared.deadline, answered) => outcome,
            _ = phase.wait_for(|phase| *phase == Phase::Closed) => return Err(ClientError::Unknown),
        };
        match outcome {
            Ok(Ok((Outcome::Done(slot, result), view))) => Ok(Executed { slot, view, result }),
            Ok(Ok((Outcome::NotAdmitted, _))) => Err(ClientError::NotAdmitted),
            Ok(Ok((Outcome::TooLarge, _))) => Err(ClientError::TooLarge),
            // Not answered in time, the session is lost, or the automaton is gone.
            Ok(Ok((Outcome::Unknown, _)) | Err(_)) | Err(_) => Err(ClientError::Unknown),
        }
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

    /// How many operations are not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.shared.tickets.lock().len()
    }

    /// What it counts and measures.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.shared.automaton.metrics()
    }

    /// Takes no more operations, gives those that are out until the deadline, and answers the rest with
    /// [`ClientError::Unknown`]. The connections end with the last clone.
    pub async fn close(&self) {
        self.shared.phase.send_replace(Phase::Closing);
        let drained = async {
            while self.unanswered() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = timeout(self.shared.deadline, drained).await;
        self.shared.phase.send_replace(Phase::Closed);
        self.shared.tickets.lock().clear();
    }
}
