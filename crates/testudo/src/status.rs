//! `testudo status`: how the replicas of a cluster are.
//!
//! Each is asked for itself, and what it says is a claim: a liar claims what it likes. [`summary`] puts beside the
//! claims what at least f+1 replicas agree on, at least one of which is honest, and finds who differs.

pub(crate) mod claim;
pub(crate) mod gateway;
mod http;
mod summary;
mod table;

use crate::cli;
use crate::cluster::{self, Cluster};
use crate::failure::{Exit, Failure, Outcome};
use crate::say;
use claim::Claim;
use std::path::PathBuf;
use std::time::Duration;
use summary::{Summary, Verdict};

/// How long a replica has to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks all, prints what comes of it, and gives the code to exit with.
pub(crate) fn run(flags: &cli::Status) -> Outcome<u8> {
    let path = file(flags);
    let cluster = Cluster::load(&path)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let (claims, gateways) =
        runtime.block_on(async { tokio::join!(ask_all(&cluster), ask_gateways(&cluster)) });
    let summary = Summary::of(&cluster, claims, gateways)?;
    if flags.json {
        say::out(format_args!("{:#}", summary.json()));
    } else {
        say::out(format_args!("{}", table::table(&summary)));
    }
    Ok(match summary.verdict {
        Verdict::Well => 0,
        Verdict::Amiss => Exit::Amiss as u8,
        Verdict::NoQuorum => Exit::NoQuorum as u8,
    })
}

fn file(flags: &cli::Status) -> PathBuf {
    match (&flags.cluster, &flags.data) {
        (Some(file), _) => file.clone(),
        (None, Some(folder)) => folder.join(cluster::FILE),
        (None, None) => PathBuf::from(cli::DATA).join(cluster::FILE),
    }
}

/// What each replica says, or why it says nothing, in the order of their ids.
pub(crate) async fn ask_all(cluster: &Cluster) -> Vec<Result<Claim, String>> {
    let asked: Vec<_> = cluster
        .replicas
        .iter()
        .map(|replica| {
            let (id, name) = (replica.id, cluster.id.to_string());
            let address = replica.admin.as_ref().map(ToString::to_string);
            tokio::spawn(async move { ask(id, &name, address).await })
        })
        .collect();
    let mut claims = Vec::with_capacity(asked.len());
    for answer in asked {
        claims.push(answer.await.unwrap_or_else(|error| Err(error.to_string())));
    }
    claims
}

/// What each gateway says that the cluster file gives an admin address.
async fn ask_gateways(cluster: &Cluster) -> Vec<gateway::Row> {
    let mut rows = Vec::new();
    let name = cluster.id.to_string();
    for gateway in &cluster.gateways {
        let Some(admin) = &gateway.admin else { continue };
        let (id, address) = (gateway.id, admin.to_string());
        let asked = tokio::time::timeout(PATIENCE, gateway::ask(id, &name, &address)).await;
        rows.push(asked.unwrap_or_else(|_| gateway::Row {
            id,
            claim: Err(format!("does not answer within {} s", PATIENCE.as_secs())),
            watches: None,
        }));
    }
    rows
}

async fn ask(id: u16, cluster: &str, address: Option<String>) -> Result<Claim, String> {
    let address = address.ok_or("the cluster file gives it no admin address")?;
    let body = tokio::time::timeout(PATIENCE, http::get(&address, "/status"))
        .await
        .map_err(|_| format!("does not answer within {} s", PATIENCE.as_secs()))??;
    let claim: Claim =
        serde_json::from_slice(&body).map_err(|_| "its answer is no status of a replica")?;
    if claim.cluster != cluster {
        return Err("it belongs to another cluster".into());
    }
    if claim.replica != id {
        return Err(format!("it says that it is replica {}", claim.replica));
    }
    Ok(claim.cleaned())
}
