//! A node: one automaton with its disk, its channels and what it shows of itself.

use crate::carrier::{CurrentScope, Scope, SharedVerifier};
use crate::disk::FsDisk;
use crate::durable::DurableStorage;
use crate::evidence::Keeper;
use crate::host::{Driven, Event, Fatal, Host};
use crate::http::{Probe, Window, look, serve};
use crate::identity::{FolderError, Owner};
use crate::inbox::Inbox;
use crate::journal::{Archivist, Journal, Reports};
use crate::letters::Outgoing;
use crate::memo::Memo;
use crate::metrics::Metrics;
use crate::net::{Addresses, Carriage, Network};
use crate::ports::Ports;
use crate::storage::{Recovered, Storage, StorageError};
use crate::verify::Verification;
use crate::voice::Keys;
use crate::work::Workers;
use std::any::Any;
use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use testudo_core::{Domain, Membership, Peer, PublicKey, ReplicaId};
use testudo_keys::channel::ChannelError;
use testudo_keys::{Ed25519Verifier, Keyring, KeyringError, NodeKey};
use testudo_wal::Identity;
use tokio::sync::{oneshot, watch};

/// How long channels get to write what is queued when a node stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a node is started with.
#[derive(Debug)]
pub struct NodeConfig<P: Driven> {
    /// Its name in logs and thread names.
    pub name: String,
    /// The folder for all that it keeps.
    pub data: PathBuf,
    /// Its secret keys.
    pub key: NodeKey,
    /// Where its statements count.
    pub domain: Domain,
    /// The members of that epoch, checked against their bound.
    pub membership: Membership,
    /// Which of them it is.
    pub me: ReplicaId,
    /// Where the others are.
    pub addresses: Addresses,
    /// The client keys that it hears. `None` hears every key that proves itself, and leaves it to the service to admit
    /// it; otherwise a stranger's channel is refused, so that strangers cost nothing.
    pub clients: Option<BTreeSet<PublicKey>>,
    /// Where it listens for replicas and clients.
    pub listener: TcpListener,
    /// Where it listens for those who look, if anywhere.
    pub metrics: Option<TcpListener>,
    /// Threads that verify frames. With none, frames are verified where they are read, which costs least; one or two
    /// bring more throughput where there are cores for them.
    pub verifiers: usize,
    /// Bytes a second of log and snapshots that are read again to see whether they have rotted, about. With none, rot is
    /// found at the next start.
    pub scrub: u64,
    /// What a liar says instead. `None` in every node that is not a demonstration.
    pub outgoing: Option<Lie<P::Message>>,
    /// How the automaton is looked at.
    pub probe: Probe<P>,
}

/// A pace for [`NodeConfig::scrub`] that costs nothing that matters.
pub const SCRUB: u64 = 1 << 20;

/// See [`NodeConfig::outgoing`].
pub struct Lie<M>(pub Outgoing<M>);

impl<M> std::fmt::Debug for Lie<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lie")
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its keys are not those that its cluster knows it by.
    #[error("{0}")]
    Keys(String),
    /// Its data folder is somebody else's, or cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The voting keys in its data folder cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Its disk failed, is in use, or has lost what it may not go on without.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The automaton could not take up its past.
    #[error(transparent)]
    Automaton(#[from] Fatal),
    /// Its channels could not be made.
    #[error(transparent)]
    Channels(#[from] ChannelError),
    /// The operating system refuses a thread, a socket or a file.
    #[error("{what}: {error}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::System { what, error }
}

/// Starts a node on the disk.
///
/// # Errors
/// When it cannot start; see [`StartError`].
pub fn start<P: Driven>(
    config: NodeConfig<P>,
    protocol: P::Config,
    outputs: impl FnMut(P::Output) + Send + 'static,
) -> Result<NodeHandle<P>, StartError> {
    let owner = owner(&config)?;
    std::fs::create_dir_all(&config.data)
        .map_err(|error| FolderError::Io { path: config.data.clone(), error })?;
    // Opening takes the lock: what follows is done by one process at a time.
    let disk = FsDisk::open(config.data.join("log"))
        .map_err(|error| StorageError::caused("open the data folder", error))?;
    let had_data = owner.has(&config.data)?;
    let keys = Keyring::open(&config.key, &config.data)?;
    let identity = Identity(owner.short());
    let last = keys.last_incarnation();
    let (storage, recovered) = DurableStorage::open(Arc::new(disk), identity, had_data, last)?;
    if !had_data {
        owner.take(&config.data)?;
    }
    start_with(config, protocol, outputs, keys, (storage, recovered))
}

/// That the keys are those that the cluster knows this replica by; and whose folder it needs.
fn owner<P: Driven>(config: &NodeConfig<P>) -> Result<Owner, StartError> {
    let me = config.me;
    let Some(member) = config.membership.member(me) else {
        return Err(StartError::Keys(format!(
            "replica {me} is none of the {} members",
            config.membership.n()
        )));
    };
    let own = config.key.member();
    if own != *member {
        let which = if own.identity == member.identity { "voting" } else { "identity" };
        return Err(StartError::Keys(format!(
            "the {which} key is not the one that the cluster knows replica {me} by"
        )));
    }
    Ok(Owner { cluster: config.domain.cluster, group: config.domain.group, node: own.identity })
}

/// Starts a node on any storage: [`start`] does it on the disk, tests on what they please.
///
/// # Errors
/// When it cannot start; see [`StartError`].
pub fn start_on<P: Driven>(
    config: NodeConfig<P>,
    protocol: P::Config,
    outputs: impl FnMut(P::Output) + Send + 'static,
    storage: impl Storage,
    recovered: Recovered,
) -> Result<NodeHandle<P>, StartError> {
    owner(&config)?;
    let keys = Keyring::open(&config.key, &config.data)?;
    start_with(config, protocol, outputs, keys, (storage, recovered))
}

fn start_with<P: Driven>(
    config: NodeConfig<P>,
    protocol: P::Config,
    outputs: impl FnMut(P::Output) + Send + 'static,
    keys: Keyring,
    (storage, recovered): (impl Storage, Recovered),
) -> Result<NodeHandle<P>, StartError> {
    let name = &config.name;
    let address = config.listener.local_addr().map_err(system("the listener's address"))?;
    let metrics = Arc::new(Metrics::new());
    metrics.found_lost(recovered.lost.len());
    let mut running = Running::<P>::new(&config, &metrics)?;
    let inbox = running.inbox.clone();
    let mut keeper = Keeper::open(&config.data, metrics.clone()).map_err(system("evidence"))?;
    let probe = Arc::new(config.probe);
    let lineage = probe.clone();
    let ports = Ports {
        me: Peer::Replica(config.me),
        scope: Scope { domain: config.domain, membership: config.membership },
        carrier: Arc::new(Carriage(running.network.clone())),
        signer: Arc::new(config.key.voting),
        keys: Keys::Replica(Box::new(keys)),
        outgoing: config.outgoing.map(|lie| lie.0),
        disk: Some(disk(storage, &inbox, &metrics, name, config.scrub)?),
        workers: Workers::new(inbox.clone(), name),
        outputs: Box::new(outputs),
        evidence: Box::new(move |evidence, lineage| keeper.keep(evidence, lineage)),
        lineage: Box::new(move |automaton, epoch| (lineage.lineage)(automaton, epoch)),
        metrics: metrics.clone(),
    };
    let (fate, fatal) = watch::channel(None);
    let host = start_host(name, protocol, recovered, ports, inbox.clone(), fate);
    running.host = Some(host.map_err(|error| match &*fatal.borrow() {
        // It broke down while it took up its past, and has said how.
        Some(fatal) => Fatal::Broken(fatal.to_string()).into(),
        None => error,
    })?);
    // Nobody is heard before the past is taken up.
    running.network.accept(running.engine.listener(config.listener)?, config.clients)?;
    let mut watched = None;
    if let Some(metrics_listener) = config.metrics {
        watched = metrics_listener.local_addr().ok();
        let window = Window { inbox, probe, metrics: metrics.clone() };
        let listener = running.engine.listener(metrics_listener)?;
        running.engine.handle.spawn(serve(listener, window));
    }
    Ok(NodeHandle { address, watched, metrics, fatal, running })
}

/// Starts the threads that own the storage.
fn disk<P: Driven>(
    mut storage: impl Storage,
    inbox: &Events<P>,
    metrics: &Arc<Metrics>,
    name: &str,
    scrub: u64,
) -> Result<(Journal, Archivist), StartError> {
    let inbox = inbox.clone();
    let reports: Reports = Arc::new(move |report| inbox.tell(Event::Report(report)));
    let snapshots = storage.snapshots();
    let archivist = Archivist::start(snapshots, reports.clone(), metrics.clone(), name)
        .map_err(system("a thread for snapshots"))?;
    let journal = Journal::start(storage, reports, metrics.clone(), name, scrub)
        .map_err(system("a thread for the log"))?;
    Ok((journal, archivist))
}

type Events<P> = Arc<Inbox<<P as testudo_core::Protocol>::Message, Event<P>>>;
type Fate = watch::Sender<Option<Arc<Fatal>>>;

/// Starts the automaton's thread, and waits until it has taken up its past.
fn start_host<P: Driven>(
    name: &str,
    protocol: P::Config,
    recovered: Recovered,
    ports: Ports<P>,
    inbox: Events<P>,
    fate: Fate,
) -> Result<JoinHandle<()>, StartError> {
    let (started, starting) = mpsc::channel();
    let span = tracing::info_span!("node", name = %name);
    let carrier = ports.carrier.clone();
    let run = move || {
        let _entered = span.entered();
        let starting_host = started.clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut host = match Host::start(protocol, recovered, ports) {
                Ok(host) => host,
                Err(fatal) => {
                    let _ = starting_host.send(Err(fatal));
                    return Ok(());
                }
            };
            let _ = starting_host.send(Ok(()));
            host.run(&inbox)
        }));
        let outcome = outcome.unwrap_or_else(|panic| Err(Fatal::Broken(words(&*panic))));
        // From here on nothing is heard, and nothing more is said.
        inbox.close();
        if let Err(fatal) = outcome {
            tracing::error!("the node stops: {fatal}");
            fate.send_replace(Some(Arc::new(fatal)));
            carrier.stop();
        }
        // Whoever waits for the start hears of its failure only now that the reason can be read.
        drop(started);
    };
    let thread = std::thread::Builder::new()
        .name(format!("{name}-host"))
        .spawn(run)
        .map_err(system("a thread for the automaton"))?;
    match starting.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(fatal)) => Err(fatal.into()),
        Err(_) => Err(Fatal::Broken("it panicked when it took up its past".to_owned()).into()),
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

/// The thread that carries the channels.
struct Engine {
    handle: tokio::runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    fn start(name: &str) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system("an event loop"))?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let span = tracing::info_span!("node", name = %name);
        let thread = std::thread::Builder::new()
            .name(format!("{name}-net"))
            .spawn(move || {
                let _entered = span.entered();
                // An error means that the sender is gone, which says the same.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
            })
            .map_err(system("a thread for channels"))?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Makes a listener one of this event loop's.
    fn listener(&self, listener: TcpListener) -> Result<tokio::net::TcpListener, StartError> {
        let _entered = self.handle.enter();
        listener.set_nonblocking(true).map_err(system("a listener"))?;
        tokio::net::TcpListener::from_std(listener).map_err(system("a listener"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The threads of a node, some of which may not have started. Dropping it ends them in order.
struct Running<P: Driven> {
    inbox: Events<P>,
    host: Option<JoinHandle<()>>,
    network: Arc<Network<P::Message>>,
    verification: Arc<Verification<P::Message>>,
    verifiers: Vec<JoinHandle<()>>,
    engine: Engine,
}

impl<P: Driven> Running<P> {
    /// Starts everything but the automaton and what it writes to.
    fn new(config: &NodeConfig<P>, metrics: &Arc<Metrics>) -> Result<Self, StartError> {
        let members = &config.membership.members;
        let keys = members.iter().flat_map(|member| [member.voting, member.identity]);
        let verifier: SharedVerifier = Arc::new(Ed25519Verifier::new(keys));
        let scope = Scope { domain: config.domain, membership: config.membership.clone() };
        let scope = Arc::new(CurrentScope::new(scope));
        let inbox = Arc::new(Inbox::new());
        let verification = Verification::new(
            config.verifiers,
            inbox.clone(),
            scope.clone(),
            Memo::new(verifier, metrics.clone()),
            metrics.clone(),
        );
        let engine = Engine::start(&config.name)?;
        let network = Network::new(
            Peer::Replica(config.me),
            scope,
            config.addresses.clone(),
            config.key.identity.clone(),
            verification.clone(),
            metrics.clone(),
            engine.handle.clone(),
        );
        let verifiers = verification.start(&config.name).map_err(system("a thread to verify"))?;
        network.dial_members();
        Ok(Self { inbox, host: None, network, verification, verifiers, engine })
    }
}

impl<P: Driven> Drop for Running<P> {
    fn drop(&mut self) {
        if let Some(host) = self.host.take() {
            self.inbox.tell(Event::Stop);
            // A panic there has been reported as the node's failure.
            let _ = host.join();
        }
        self.network.stop();
        let deadline = Instant::now() + FAREWELL;
        while !self.network.is_quiet() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.network.abandon();
        self.verification.close();
        for verifier in self.verifiers.drain(..) {
            let _ = verifier.join();
        }
    }
}

/// A running node. Dropping it stops it as [`NodeHandle::shutdown`] does.
pub struct NodeHandle<P: Driven> {
    address: SocketAddr,
    watched: Option<SocketAddr>,
    metrics: Arc<Metrics>,
    fatal: watch::Receiver<Option<Arc<Fatal>>>,
    running: Running<P>,
}

impl<P: Driven> std::fmt::Debug for NodeHandle<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeHandle").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<P: Driven> NodeHandle<P> {
    /// Where it listens for replicas and clients.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it shows itself, if it does.
    #[must_use]
    pub const fn metrics_address(&self) -> Option<SocketAddr> {
        self.watched
    }

    /// What it counts and measures.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Asks the automaton for something. False when the node has stopped.
    pub fn input(&self, input: P::Input) -> bool {
        self.running.inbox.tell(Event::Input(input))
    }

    /// Looks at the automaton, on its own thread. `None` when the node has stopped.
    pub async fn inspect<R: Send + 'static>(
        &self,
        inspect: impl FnOnce(&P) -> R + Send + 'static,
    ) -> Option<R> {
        look::<P, R>(&self.running.inbox, Duration::from_secs(3600), inspect).await
    }

    /// As [`NodeHandle::inspect`], for callers outside of any event loop.
    pub fn inspect_blocking<R: Send + 'static>(
        &self,
        inspect: impl FnOnce(&P) -> R + Send + 'static,
    ) -> Option<R> {
        let (answer, answered) = mpsc::channel();
        self.running.inbox.tell(Event::Look(Box::new(move |automaton| {
            let _ = answer.send(inspect(automaton));
        })));
        answered.recv().ok()
    }

    /// Waits until the node stops of itself, which it does only because it must.
    pub async fn failed(&self) -> Arc<Fatal> {
        let mut fatal = self.fatal.clone();
        let outcome = fatal.wait_for(Option::is_some).await.ok().and_then(|fatal| fatal.clone());
        match outcome {
            Some(fatal) => fatal,
            // It was told to stop, and did: it will not fail any more.
            None => std::future::pending().await,
        }
    }

    /// Why it has stopped of itself, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<Fatal>> {
        self.fatal.borrow().clone()
    }

    /// Stops it in order: what was recorded is made durable, what may be said is said, and all threads have ended when
    /// this returns.
    pub fn shutdown(self) {
        drop(self);
    }
}
