//! The handle on a client that keeps no state.

use crate::automaton::Automaton;
use crate::desk::Desk;
use crate::{Answer, ClientError, ClusterConfig, Executed, UNANSWERED_KIB, executed, shares_of};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testudo_core::PublicKey;
use testudo_keys::SigningKey;
use testudo_replication::{ClientConfig, ClientInput, ClientOutput};
use testudo_runtime::caller::call;
use testudo_runtime::{Fatal, Metrics};

struct Shared {
    automaton: Box<dyn Automaton<ClientInput>>,
    operations: Arc<Desk<Answer>>,
    next: AtomicU64,
    deadline: Duration,
    key: PublicKey,
}

/// Hands answers to whoever asked. When the automaton ends, nobody waits for it any longer.
struct Answers(Arc<Desk<Answer>>);

impl Drop for Answers {
    fn drop(&mut self) {
        self.0.abandon();
    }
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
        let operations = Desk::new(UNANSWERED_KIB);
        let answers = Answers(operations.clone());
        let outputs = move |output: ClientOutput| {
            let ClientOutput::Answer { ticket, outcome, view } = output;
            answers.0.answer(ticket, (outcome, view));
        };
        let public = key.public();
        let caller = config.caller("client", key, 0);
        let protocol = ClientConfig {
            domain: config.domain,
            membership: config.membership,
            resend: config.resend,
        };
        let automaton = call::<testudo_replication::Client<O>>(caller, protocol, outputs)?;
        Ok(Self {
            shared: Arc::new(Shared {
                automaton: Box::new(automaton),
                operations,
                next: AtomicU64::new(0),
                deadline: config.deadline,
                key: public,
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
        let shares = shares_of(&operation)?;
        let ticket = shared.next.fetch_add(1, Ordering::Relaxed);
        let submit = || shared.automaton.ask(ClientInput::Submit { ticket, operation });
        executed(shared.operations.ask(ticket, shares, shared.deadline, submit).await)
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
        self.shared.operations.unanswered()
    }

    /// What it counts and measures.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.shared.automaton.metrics()
    }

    /// Takes no more operations, gives those that are out until the deadline, and answers the rest with
    /// [`ClientError::Unknown`]. The connections end with the last clone.
    pub async fn close(&self) {
        self.shared.operations.close();
        self.shared.operations.drain(self.shared.deadline).await;
        self.shared.operations.abandon();
    }
}
