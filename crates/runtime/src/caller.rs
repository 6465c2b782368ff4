//! A client's or a learner's automaton among replicas: no disk, no thread of its own, only channels.
//!
//! It runs as a task of the event loop that it is called from. Most steps cost microseconds, and handing each of them to a
//! thread and back would cost more. But a learner executes what was decided, and a full slot, or the state that it begins
//! with, takes tens of milliseconds, for which no event loop may stand still. So a turn that took long sends those that
//! follow it to a thread for blocking work, until they are short again: what is rare and heavy is paid for when it
//! happens, and what is frequent and light never.

use crate::carrier::{CurrentScope, Scope, SharedVerifier};
use crate::host::{Driven, Event, Fatal, Host};
use crate::http::look;
use crate::inbox::Inbox;
use crate::memo::Memo;
use crate::metrics::Metrics;
use crate::net::{Addresses, Carriage, Network};
use crate::ports::Ports;
use crate::storage::Recovered;
use crate::verify::Verification;
use crate::voice::Keys;
use crate::work::Workers;
use std::sync::Arc;
use std::time::Duration;
use testudo_core::{Domain, Membership, Peer, PublicKey};
use testudo_keys::{Ed25519Verifier, SigningKey};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How long channels get to write what is queued when a client stops.
const FAREWELL: Duration = Duration::from_millis(500);

/// What a caller is started with.
#[derive(Clone, Debug)]
pub struct CallerConfig {
    /// Its name in logs.
    pub name: String,
    /// Its key, which is its name among the replicas. It proves it on channels and signs with it.
    pub key: SigningKey,
    /// Where its statements count.
    pub domain: Domain,
    /// The replicas.
    pub membership: Membership,
    /// Where they are.
    pub addresses: Addresses,
    /// Threads that verify frames. With none, all are verified on the event loop, which costs least; whoever gets large
    /// frames needs one.
    pub verifiers: usize,
    /// What counts and measures it.
    pub metrics: Arc<Metrics>,
}

/// Starts a caller on the event loop of whoever calls this.
///
/// `outputs` is dropped when the automaton has come to its end, whatever that was: nothing is told any more.
///
/// # Errors
/// When the operating system has no randomness or no thread to give.
///
/// # Panics
/// When it is called from outside of an event loop of tokio's.
pub fn call<P: Driven + Send>(
    config: CallerConfig,
    protocol: P::Config,
    outputs: impl FnMut(P::Output) + Send + 'static,
) -> Result<CallerHandle<P>, Fatal> {
    let me = Peer::Client(config.key.public());
    let runtime = Handle::current();
    let metrics = config.metrics;
    let inbox = Arc::new(Inbox::new());
    let scope = Scope { domain: config.domain, membership: config.membership };
    let keys: Vec<PublicKey> =
        scope.membership.members.iter().map(|member| member.voting).collect();
    let verifier: SharedVerifier = Arc::new(Ed25519Verifier::new(keys));
    let current = Arc::new(CurrentScope::new(scope.clone()));
    let memo = Memo::new(verifier, metrics.clone());
    let verification =
        Verification::new(config.verifiers, inbox.clone(), current.clone(), memo, metrics.clone());
    // They end when the verification is closed, and nobody waits for that.
    verification
        .start(&config.name)
        .map_err(|error| Fatal::Broken(format!("no thread to verify: {error}")))?;
    let network = Network::new(
        me,
        current,
        config.addresses,
        config.key.clone(),
        verification.clone(),
        metrics.clone(),
        runtime.clone(),
    );
    network.dial_members();
    let ports = Ports {
        me,
        scope,
        carrier: Arc::new(Carriage(network.clone())),
        signer: Arc::new(config.key),
        keys: Keys::Client,
        outgoing: None,
        disk: None,
        workers: Workers::new(inbox.clone(), &config.name),
        outputs: Box::new(outputs),
        evidence: Box::new(|evidence, _| {
            tracing::error!(accused = %evidence.accused, offence = evidence.offence, "a replica is convicted");
        }),
        lineage: Box::new(|_, _| Vec::new()),
        metrics: metrics.clone(),
    };
    let host = Host::<P>::start(protocol, Recovered::default(), ports)?;
    let (ended, end) = watch::channel(false);
    let ending = Ending { inbox: inbox.clone(), ended };
    let name = config.name;
    runtime.spawn(async move {
        if let Err(fatal) = host.run_as_task(&ending.inbox).await {
            tracing::error!("the {name} stops: {fatal}");
        }
        drop(ending);
    });
    Ok(CallerHandle { inbox, metrics, network, verification, end })
}

/// Says that a caller has come to its end, even if that was a panic: from then on it is asked in vain.
struct Ending<P: Driven> {
    inbox: Arc<Inbox<P::Message, Event<P>>>,
    ended: watch::Sender<bool>,
}

impl<P: Driven> Drop for Ending<P> {
    fn drop(&mut self) {
        self.inbox.close();
        self.ended.send_replace(true);
    }
}

/// A running caller. Dropping it stops it at once.
pub struct CallerHandle<P: Driven> {
    inbox: Arc<Inbox<P::Message, Event<P>>>,
    metrics: Arc<Metrics>,
    network: Arc<Network<P::Message>>,
    verification: Arc<Verification<P::Message>>,
    end: watch::Receiver<bool>,
}

impl<P: Driven> std::fmt::Debug for CallerHandle<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallerHandle")
    }
}

impl<P: Driven> CallerHandle<P> {
    /// Asks the automaton for something. False when it has stopped.
    pub fn input(&self, input: P::Input) -> bool {
        self.inbox.tell(Event::Input(input))
    }

    /// Looks at the automaton. `None` when it has stopped.
    pub async fn inspect<R: Send + 'static>(
        &self,
        inspect: impl FnOnce(&P) -> R + Send + 'static,
    ) -> Option<R> {
        look::<P, R>(&self.inbox, Duration::from_secs(60), inspect).await
    }

    /// How many replicas it is connected to.
    #[must_use]
    pub fn connections(&self) -> usize {
        usize::try_from(self.metrics.live_connections()).unwrap_or(0)
    }

    /// What it counts and measures.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Stops it, once what is queued has been written.
    pub async fn shutdown(self) {
        self.inbox.tell(Event::Stop);
        let mut end = self.end.clone();
        // An error means that the task is gone, which is what is waited for.
        let _ = end.wait_for(|is_over| *is_over).await;
        self.network.stop();
        let quiet = async {
            while !self.network.is_quiet() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, quiet).await;
    }
}

impl<P: Driven> Drop for CallerHandle<P> {
    fn drop(&mut self) {
        self.inbox.tell(Event::Stop);
        self.network.stop();
        self.network.abandon();
        self.verification.close();
    }
}
