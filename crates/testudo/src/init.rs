//! `testudo init`: the files of a cluster on hosts of its own.

use crate::cli;
use crate::cluster::service::quota_here;
use crate::cluster::{self, Address, Cluster, Gateway, Replica};
use crate::failure::{Failure, Outcome};
use crate::say;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use testudo_core::ClusterId;
use testudo_keys::NodeKey;
use testudo_kv::Settings;

/// A fresh random name of a cluster.
pub(crate) fn fresh_id() -> Outcome<ClusterId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| {
        Failure::failed(format!("the operating system gives no randomness: {error}"))
    })?;
    Ok(ClusterId(id))
}

/// Where a replica's key file is.
pub(crate) fn replica_key(folder: &Path, id: u16) -> PathBuf {
    folder.join(format!("replica-{id}.key"))
}

/// Where a gateway's key file is.
pub(crate) fn gateway_key(folder: &Path, id: u16) -> PathBuf {
    folder.join(format!("gateway-{id}.key"))
}

/// A folder that only its owner may enter, made if it is not there.
pub(crate) fn private_folder(path: &Path) -> Outcome {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::file("create", path, &error))
}

/// A fresh key.
pub(crate) fn fresh_key() -> Outcome<NodeKey> {
    NodeKey::generate().map_err(|error| Failure::failed(error.to_string()))
}

/// Writes keys where none are.
pub(crate) fn write_key(key: &NodeKey, path: &Path) -> Outcome {
    key.write_new(path).map_err(|error| Failure::failed(error.to_string()))
}

/// Processes on each host that hold the state: a replica, and a gateway perhaps.
const PROCESSES: u64 = 2;

/// What the flags ask for, for machines like this one that run so many processes which hold the state.
pub(crate) fn settings(flags: &cli::Service, processes: u64) -> Settings {
    Settings {
        quota: flags.quota.unwrap_or_else(|| quota_here(processes)),
        compaction: flags.auto_compaction.unwrap_or_default(),
    }
}

/// Writes the cluster file and one key file per node.
pub(crate) fn run(flags: &cli::Init) -> Outcome {
    let path = flags.out.join(cluster::FILE);
    if path.exists() {
        return Err(Failure::refused(format!(
            "{} exists already, and its keys would be lost with it; choose another --out",
            path.display()
        )));
    }
    let (cluster, keys) = plan(flags)?;
    cluster.check()?;
    private_folder(&flags.out)?;
    let (replicas, gateways) = keys.split_at(cluster.replicas.len());
    for (id, key) in (0..).zip(replicas) {
        write_key(key, &replica_key(&flags.out, id))?;
    }
    for (id, key) in (0..).zip(gateways) {
        write_key(key, &gateway_key(&flags.out, id))?;
    }
    // Last, so that a cluster file is never there without its keys.
    cluster.store(&path)?;
    report(flags, &cluster);
    Ok(())
}

/// The cluster that was asked for, with the keys of its replicas and then of its gateways.
fn plan(flags: &cli::Init) -> Outcome<(Cluster, Vec<NodeKey>)> {
    let mut cluster = Cluster {
        id: fresh_id()?,
        protocol: flags.protocol.clone(),
        faults: flags.faults,
        demonstration: false,
        beyond: false,
        service: settings(&flags.service, PROCESSES),
        replicas: Vec::new(),
        gateways: Vec::new(),
    };
    let mut keys = Vec::new();
    for (id, text) in (0..).zip(&flags.replicas) {
        let address = Address::read(text.trim())
            .map_err(|what| Failure::refused(format!("--replicas: `{text}` {what}")))?;
        let admin = address
            .port()
            .checked_add(1)
            .map(|port| Address::new(address.host(), port))
            .filter(|admin| !flags.replicas.contains(&admin.to_string()));
        let key = fresh_key()?;
        let member = key.member();
        let (identity, voting) = (member.identity, member.voting);
        cluster.replicas.push(Replica { id, address, admin, identity, voting, liar: None });
        keys.push(key);
    }
    for id in 0..flags.gateways {
        let key = fresh_key()?;
        let identity = key.member().identity;
        cluster.gateways.push(Gateway { id, key: identity, address: None, admin: None });
        keys.push(key);
    }
    Ok((cluster, keys))
}

fn report(flags: &cli::Init, cluster: &Cluster) {
    let (out, file) = (flags.out.display(), cluster::FILE);
    say::out(format_args!("{out}/{file}: for every node; it is public"));
    for cluster::Replica { id, address, .. } in &cluster.replicas {
        say::out(format_args!("{out}/replica-{id}.key: for the host of {address} alone"));
    }
    for cluster::Gateway { id, .. } in &cluster.gateways {
        say::out(format_args!("{out}/gateway-{id}.key: for the host of that gateway alone"));
    }
    say::out(format_args!(
        "\nOn each replica's host:\n  \
         testudo replica --cluster {file} --key replica-N.key --data DIR\n\
         Beside the applications:\n  \
         testudo gateway --cluster {file} --key gateway-N.key\n\
         To see how they are:\n  \
         testudo status --cluster {file}"
    ));
}
