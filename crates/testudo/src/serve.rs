//! A gateway inside this process: a learner of a cluster, and etcd's API in front of it.

mod admin;
mod link;

pub(crate) use link::Link;

use crate::cli;
use crate::cluster::Address;
use crate::failure::{Failure, Outcome, plain};
use crate::logging;
use crate::node::Identity;
use crate::protocols::{self, Runnable, Visit};
use crate::say;
use crate::signals::Signals;
use admin::Window;
use link::PrimaryOf;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use testudo_client::{ClusterConfig, Learner};
use testudo_core::ReplicaId;
use testudo_etcd::{Gateway, GatewayInfo};
use testudo_kv::Kv;
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

/// A learner of the cluster under the gateway's key. It catches up in the background.
pub(crate) fn connect(identity: &Identity) -> Outcome<Link> {
    struct Connect<'a>(&'a Identity);
    impl Visit for Connect<'_> {
        type Output = Outcome<(Learner, PrimaryOf)>;
        fn visit<O: Runnable>(self) -> Self::Output {
            let cluster = &self.0.cluster;
            let config = ClusterConfig {
                domain: cluster.domain(),
                membership: cluster.membership()?,
                addresses: self.0.addresses(),
                resend: RESEND,
                checkpoint_interval: testudo_core::limits::CHECKPOINT_INTERVAL,
                deadline: DEADLINE,
            };
            let service = Kv::new(cluster.service);
            let key = self.0.key.identity.clone();
            let learner = Learner::connect::<O, Kv>(config, key, service, cluster.clients())
                .map_err(|error| Failure::failed(format!("cannot start a learner: {error}")))?;
            Ok((learner, O::primary_of))
        }
    }
    identity.gateway()?;
    let (learner, primary_of) = protocols::visit(&identity.cluster.protocol, Connect(identity))??;
    let membership = Arc::new(identity.cluster.membership()?);
    Ok(Link::new(learner, membership, primary_of))
}

/// A gateway that serves.
pub(crate) struct Serving {
    task: JoinHandle<std::io::Result<()>>,
    stop: tokio::sync::oneshot::Sender<()>,
    link: Link,
    /// Whoever answers those who ask how the gateway is.
    admin: Option<JoinHandle<()>>,
}

impl Serving {
    /// Serves etcd's API on the listener, which clients reach at `advertised`, and shows how it is at `admin`.
    pub(crate) async fn start(
        identity: &Identity,
        link: Link,
        listener: TcpListener,
        advertised: &Address,
        admin: Option<&str>,
    ) -> Outcome<Self> {
        let window = Window {
            cluster: identity.cluster.id.to_string(),
            gateway: identity.gateway()?.id,
            etcd: local(&listener)?,
            link: link.clone(),
        };
        let admin = match admin {
            Some(address) => Some(admin::start(address, window).await?),
            None => None,
        };
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
        Ok(Self { task, stop, link, admin })
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
        if let Some(admin) = self.admin {
            admin.abort();
        }
        self.link.close().await;
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
    let admin = match (flags.admin.as_deref(), &identity.gateway()?.admin) {
        (Some("off"), _) => None,
        (Some(given), _) => Some(given.to_owned()),
        (None, own) => own.as_ref().map(ToString::to_string),
    };
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let mut signals = Signals::catch()?;
        let listener = listen(flags.listen).await?;
        let local = local(&listener)?;
        let advertised = advertised.unwrap_or_else(|| Address::of(local));
        let link = connect(&identity)?;
        let serving = Serving::start(&identity, link, listener, &advertised, admin.as_deref());
        let mut serving = serving.await?;
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
