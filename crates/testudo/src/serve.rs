//! A gateway inside this process: the client of a cluster, and etcd's API in front of it.

use crate::cli;
use crate::cluster::Address;
use crate::failure::{Failure, Outcome, plain};
use crate::logging;
use crate::node::Identity;
use crate::protocols::{self, Runnable, Visit};
use crate::say;
use crate::signals::Signals;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testudo_client::{Client, ClientError, ClusterConfig};
use testudo_core::{Encode, Membership, ReplicaId, Slot, View};
use testudo_etcd::{Gateway, GatewayInfo, Position, Submit, SubmitError};
use testudo_kv::Operation;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long a bundle may be unanswered before it is sent again.
const RESEND: Duration = Duration::from_millis(500);

/// How long an operation may take before its outcome is called unknown. etcd's clients wait about as long.
const DEADLINE: Duration = Duration::from_secs(7);

/// Listens for etcd clients.
pub(crate) async fn listen(address: SocketAddr) -> Outcome<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; stop what serves there, or take another --listen",
            _ => "",
        };
        Failure::failed(format!("cannot listen on {address}: {}{advice}", plain(&error)))
    })
}

/// A client of the cluster under the gateway's key.
pub(crate) fn connect(identity: &Identity) -> Outcome<Link> {
    struct Connect<'a>(&'a Identity);
    impl Visit for Connect<'_> {
        type Output = Outcome<(Client, PrimaryOf)>;
        fn visit<O: Runnable>(self) -> Self::Output {
            let cluster = &self.0.cluster;
            let config = ClusterConfig {
                domain: cluster.domain(),
                membership: cluster.membership()?,
                addresses: self.0.addresses(),
                resend: RESEND,
                deadline: DEADLINE,
            };
            let client = Client::connect::<O>(config, self.0.key.identity.clone())
                .map_err(|error| Failure::failed(format!("cannot start a client: {error}")))?;
            Ok((client, O::primary_of))
        }
    }
    identity.gateway()?;
    let (client, primary_of) = protocols::visit(&identity.cluster.protocol, Connect(identity))??;
    let membership = Arc::new(identity.cluster.membership()?);
    Ok(Link { client, membership, primary_of, known: Arc::default() })
}

/// Whose turn a view is, as the protocol has it.
type PrimaryOf = fn(View, &Membership) -> ReplicaId;

/// What answers have shown of the cluster.
#[derive(Default)]
struct Known {
    slot: AtomicU64,
    view: AtomicU64,
}

/// A client as a gateway wants it.
#[derive(Clone)]
pub(crate) struct Link {
    client: Client,
    membership: Arc<Membership>,
    primary_of: PrimaryOf,
    known: Arc<Known>,
}

impl Link {
    /// Has one operation ordered that changes nothing: the service answers when this comes back.
    pub(crate) async fn first_answer(&self) -> Outcome {
        loop {
            match self.submit(Operation::Status.to_bytes().into()).await {
                Ok(_) => return Ok(()),
                Err(SubmitError::NotAdmitted) => {
                    return Err(Failure::refused("the cluster does not admit this gateway's key"));
                }
                Err(SubmitError::Stopped) => return Err(Failure::failed("the client has stopped")),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// How many replicas it is connected to.
    pub(crate) fn connections(&self) -> usize {
        self.client.connections()
    }
}

impl Submit for Link {
    async fn submit(&self, operation: Arc<[u8]>) -> Result<Arc<[u8]>, SubmitError> {
        match self.client.execute(operation).await {
            Ok(executed) => {
                self.known.slot.fetch_max(executed.slot.0, Ordering::Relaxed);
                self.known.view.fetch_max(executed.view.0, Ordering::Relaxed);
                Ok(executed.result)
            }
            Err(ClientError::Unknown | ClientError::Unavailable) => Err(SubmitError::Unavailable),
            Err(ClientError::NotAdmitted) => Err(SubmitError::NotAdmitted),
            Err(ClientError::TooLarge) => Err(SubmitError::TooLarge),
            Err(ClientError::Overloaded) => Err(SubmitError::Overloaded),
            Err(ClientError::Closed) => Err(SubmitError::Stopped),
        }
    }

    fn position(&self) -> Position {
        let view = View(self.known.view.load(Ordering::Relaxed));
        let slot = Slot(self.known.slot.load(Ordering::Relaxed));
        Position { view, slot, primary: (self.primary_of)(view, &self.membership) }
    }
}

/// A gateway that serves.
pub(crate) struct Serving {
    task: JoinHandle<std::io::Result<()>>,
    stop: tokio::sync::oneshot::Sender<()>,
    link: Link,
}

impl Serving {
    /// Serves etcd's API on the listener, which clients reach at `advertised`.
    pub(crate) fn start(
        identity: &Identity,
        link: Link,
        listener: TcpListener,
        advertised: &Address,
    ) -> Self {
        let replicas = identity.cluster.replicas.iter().map(|replica| {
            (format!("replica-{}", replica.id), format!("https://{}", replica.address))
        });
        let url = format!("http://{advertised}");
        let info = GatewayInfo::new(identity.cluster.id, ReplicaId(0), replicas, &[url]);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shutdown = async {
            // An error means that nobody is left to say so, which says the same.
            let _ = stopped.await;
        };
        let task = tokio::spawn(Gateway::serve(listener, link.clone(), info, shutdown));
        Self { task, stop, link }
    }

    /// Waits until it ends by itself, which it does only because it must.
    pub(crate) async fn failed(&mut self) -> Failure {
        let why = match (&mut self.task).await {
            Ok(Ok(())) => "it was told to".to_owned(),
            Ok(Err(error)) => plain(&error),
            Err(error) => error.to_string(),
        };
        Failure::failed(format!("the gateway has stopped: {why}"))
    }

    /// Lets requests that are under way end, and then ends.
    pub(crate) async fn stop(self) {
        // It may have ended already.
        let _ = self.stop.send(());
        let _ = self.task.await;
        self.link.client.close().await;
    }
}

/// `testudo gateway`: serves until it is told to stop.
pub(crate) fn run(flags: &cli::Gateway, log: &str) -> Outcome {
    match &flags.node.supervised {
        Some(file) => logging::to_file(log, file)?,
        None => logging::to_stderr(log)?,
    }
    let identity = Identity::load(&flags.node)?;
    let advertised = match (&flags.advertise, identity.gateway()?.address.clone()) {
        (Some(text), _) => Some(
            Address::read(text)
                .map_err(|what| Failure::refused(format!("--advertise: `{text}` {what}")))?,
        ),
        (None, own) => own,
    };
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let mut signals = Signals::catch()?;
        let listener = listen(flags.listen).await?;
        let local = local(&listener)?;
        let advertised = advertised.unwrap_or_else(|| Address::of(local));
        let link = connect(&identity)?;
        let mut serving = Serving::start(&identity, link, listener, &advertised);
        tracing::info!(address = %local, %advertised, "the gateway serves etcd v3");
        say::out(format_args!("testudo gateway etcd={local}"));
        let outcome = tokio::select! {
            () = signals.next() => Ok(()),
            failure = serving.failed() => return Err(failure),
        };
        tokio::select! {
            () = serving.stop() => {}
            () = signals.next() => {}
        }
        outcome
    })
}

/// The address that a listener has in fact.
pub(crate) fn local(listener: &TcpListener) -> Outcome<SocketAddr> {
    listener
        .local_addr()
        .map_err(|error| Failure::failed(format!("a listener has no address: {}", plain(&error))))
}
