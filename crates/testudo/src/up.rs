//! `testudo up`: a whole cluster on one machine.
//!
//! Replicas are processes of their own, so that each can crash, be stopped or lie by itself; the gateway lives in this
//! one. The order of things: listen, hold the folder, make or find the cluster, start the replicas, have one operation
//! ordered, and only then say that it is ready. At the end the gateway goes first, then the replicas, then the folder
//! if it was ephemeral.

mod child;
pub(crate) mod folder;
mod nursery;
mod prepare;
mod report;

use crate::cli;
use crate::cluster::{Address, Cluster};
use crate::failure::{Failure, Outcome};
use crate::init::gateway_key;
use crate::logging;
use crate::node::Identity;
use crate::say;
use crate::serve::{self, Link, Serving};
use crate::signals::Signals;
use folder::Folder;
use nursery::Nursery;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long requests that are under way may take to end when the cluster stops.
const FAREWELL: Duration = Duration::from_secs(3);

/// Runs a cluster until it is told to stop.
pub(crate) fn run(flags: &cli::Up, log: &str) -> Outcome {
    logging::quietly(log)?;
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(up(flags, log));
    // Nothing that hangs may keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn up(flags: &cli::Up, log: &str) -> Outcome {
    let mut signals = Signals::catch()?;
    let listener = serve::listen(flags.listen).await?;
    let folder = if flags.ephemeral { Folder::ephemeral() } else { Folder::take(&flags.data) }?;
    let cluster = prepare::prepare(&folder, flags)?;
    let mut nursery = Nursery::start(&cluster, &folder, flags, log)?;
    let patience = Duration::from_secs(flags.wait.into());
    let mut serving = None;
    let served = tokio::select! {
        served = serve(&cluster, &folder, listener, &mut nursery, patience, &mut serving) => served,
        () = signals.next() => Ok(()),
    };
    say::err(format_args!("stopping"));
    // The gateway goes first, so that what is under way is still answered.
    if let Some(serving) = serving {
        tokio::select! {
            _ = tokio::time::timeout(FAREWELL, Serving::stop(serving)) => {}
            () = signals.next() => {}
        }
    }
    tokio::select! {
        () = nursery.stop() => {}
        () = signals.next() => nursery.kill().await,
    }
    // The folder goes last: its files are the children's.
    drop(folder);
    served
}

/// Serves until something fails.
async fn serve(
    cluster: &Cluster,
    folder: &Folder,
    listener: TcpListener,
    nursery: &mut Nursery,
    patience: Duration,
    serving: &mut Option<Serving>,
) -> Outcome {
    let key = gateway_key(&folder.keys(), 0);
    let flags = cli::Node { cluster: folder.cluster_file(), key, supervised: None };
    let identity = Identity::load(&flags)?;
    let link = serve::connect(&identity)?;
    first_answer(cluster, &link, nursery, patience).await?;
    let address = serve::local(&listener)?;
    let admin = identity.gateway()?.admin.as_ref().map(ToString::to_string);
    let advertised = Address::of(address);
    let gateway = Serving::start(&identity, link, listener, &advertised, admin.as_deref());
    let serving = serving.insert(gateway.await?);
    nursery.is_serving = true;
    report::ready(cluster, folder.path(), address, nursery);
    tokio::select! {
        failure = serving.failed() => Err(failure),
        failure = nursery.watch() => Err(failure),
    }
}

/// Until an operation has been ordered, executed and answered.
async fn first_answer(
    cluster: &Cluster,
    link: &Link,
    nursery: &mut Nursery,
    patience: Duration,
) -> Outcome {
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(patience, link.first_answer()) => outcome,
        failure = nursery.watch() => return Err(failure),
    };
    outcome.unwrap_or_else(|_| {
        let silent = match cluster.liars() {
            0 => String::new(),
            liars => format!(", and {liars} of them lie"),
        };
        Err(Failure::no_quorum(format!(
            "the cluster has not answered within {} s: {} of its {} replicas run, {} are connected{silent}; \
             {} honest ones are needed",
            patience.as_secs(),
            nursery.running(),
            cluster.replicas.len(),
            link.connections(),
            nursery.quorum(),
        )))
    })
}
