//! The cluster of an `up`: made at the first start, found again at the next.

use super::folder::Folder;
use crate::cli;
use crate::cluster::service::{Bytes, Compaction};
use crate::cluster::{Address, Cluster, Gateway, Replica, refuse_many};
use crate::failure::{Failure, Outcome, plain};
use crate::init::{
    fresh_id, fresh_key, gateway_key, private_folder, replica_key, settings, write_key,
};
use crate::lying::Assignment;
use crate::protocols;
use std::net::{Ipv4Addr, TcpListener};

/// Ports are taken from below the range that operating systems draw the ports of outgoing connections from, so that
/// none is taken away while a replica is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

const LOOPBACK: &str = "127.0.0.1";

/// The cluster in the folder with this run's ports; made as the flags say if there is none.
pub(crate) fn prepare(folder: &Folder, flags: &cli::Up) -> Outcome<Cluster> {
    let path = folder.cluster_file();
    let mut cluster = if path.exists() {
        let cluster = Cluster::load(&path)?;
        refuse_other_makers(folder, &cluster)?;
        refuse_other_flags(folder, flags, &cluster)?;
        cluster
    } else {
        let cluster = plan(flags)?;
        make_keys(folder, cluster)?
    };
    choose_ports(&mut cluster)?;
    cluster.store(&path)?;
    Ok(cluster)
}

/// The cluster that the flags ask for, without keys and ports. Everything that can be refused is refused here, before
/// anything is written.
fn plan(flags: &cli::Up) -> Outcome<Cluster> {
    let profile = protocols::profile(protocols::DEFAULT)?;
    let faults = flags.faults.unwrap_or(1);
    let n = match flags.replicas {
        Some(n) => usize::from(n),
        None => (profile.replicas)(usize::from(faults)),
    };
    refuse_many(n)?;
    let liars = liars(flags)?;
    let mut cluster = Cluster {
        id: fresh_id()?,
        protocol: protocols::DEFAULT.into(),
        faults,
        demonstration: !liars.is_empty(),
        beyond: flags.beyond,
        // All replicas and the gateway share this machine.
        service: settings(&flags.service, n as u64 + 1),
        replicas: Vec::new(),
        gateways: Vec::new(),
    };
    for id in (0..).take(n) {
        let liar = liars.iter().find(|it| it.id == id).map(|it| it.lie);
        let (admin, identity, voting) = (None, Default::default(), Default::default());
        let address = Address::new(LOOPBACK, PORTS.start + id);
        cluster.replicas.push(Replica { id, address, admin, identity, voting, liar });
    }
    cluster.check_bound()?;
    if let Some(stranger) = liars.iter().find(|liar| usize::from(liar.id) >= n) {
        return Err(Failure::refused(format!(
            "--liar {stranger} names no replica of this cluster; its {n} replicas are numbered from 0 to {}",
            n.saturating_sub(1)
        )));
    }
    cluster.check_liars()?;
    Ok(cluster)
}

/// Who lies, each once.
fn liars(flags: &cli::Up) -> Outcome<Vec<Assignment>> {
    let mut liars = flags.liars.clone();
    liars.sort_unstable();
    liars.dedup();
    let twice = liars.windows(2).find(|pair| pair.iter().all(|it| it.id == pair[0].id));
    match twice {
        None => Ok(liars),
        Some(pair) => Err(Failure::refused(format!(
            "replica {} can lie in one way only; give --liar once for it",
            pair[0].id
        ))),
    }
}

fn make_keys(folder: &Folder, mut cluster: Cluster) -> Outcome<Cluster> {
    let keys = folder.keys();
    if keys.exists() {
        // Left by a first start that did not come to its end: no cluster file names these keys.
        std::fs::remove_dir_all(&keys).map_err(|error| Failure::file("remove", &keys, &error))?;
    }
    private_folder(&keys)?;
    for replica in &mut cluster.replicas {
        let key = fresh_key()?;
        write_key(&key, &replica_key(&keys, replica.id))?;
        let member = key.member();
        (replica.identity, replica.voting) = (member.identity, member.voting);
    }
    let key = fresh_key()?;
    write_key(&key, &gateway_key(&keys, 0))?;
    let key = key.member().identity;
    cluster.gateways.push(Gateway { id: 0, key, address: None, admin: None });
    Ok(cluster)
}

/// A cluster whose keys are elsewhere was made by `init`, for other hosts.
fn refuse_other_makers(folder: &Folder, cluster: &Cluster) -> Outcome {
    let keys = folder.keys();
    let mut needed: Vec<_> = cluster.replicas.iter().map(|it| replica_key(&keys, it.id)).collect();
    needed.push(gateway_key(&keys, 0));
    match needed.iter().find(|path| !path.exists()) {
        None => Ok(()),
        Some(path) => Err(Failure::refused(format!(
            "{} is there, but the key file {} is not, so that `up` did not make this cluster or lost a part of it; \
             take another --data",
            folder.cluster_file().display(),
            path.display()
        ))),
    }
}

fn refuse_other_flags(folder: &Folder, flags: &cli::Up, cluster: &Cluster) -> Outcome {
    let n = cluster.replicas.len();
    let was: Vec<String> = cluster
        .replicas
        .iter()
        .filter_map(|it| it.liar.map(|lie| Assignment { id: it.id, lie }.to_string()))
        .collect();
    let liars: Vec<String> = liars(flags)?.iter().map(ToString::to_string).collect();
    let other = if flags.faults.is_some_and(|faults| faults != cluster.faults) {
        Some(("--faults", format!("to survive {} faults", cluster.faults)))
    } else if flags.replicas.is_some_and(|replicas| usize::from(replicas) != n) {
        Some(("--replicas", format!("with {n} replicas")))
    } else if !liars.is_empty() && liars != was {
        let made = match was.as_slice() {
            [] => "without liars".into(),
            was => format!("with --liar {}", was.join(" --liar ")),
        };
        Some(("--liar", made))
    } else if flags.service.quota.is_some_and(|quota| quota != cluster.service.quota) {
        Some(("--quota", format!("with --quota {}", Bytes(cluster.service.quota))))
    } else if flags.service.auto_compaction.is_some_and(|it| it != cluster.service.compaction) {
        let made = Compaction(cluster.service.compaction);
        Some(("--auto-compaction", format!("with --auto-compaction {made}")))
    } else if flags.beyond && !cluster.beyond {
        Some(("--beyond", "without --beyond".into()))
    } else {
        None
    };
    match other {
        None => Ok(()),
        Some((flag, made)) => Err(Failure::refused(format!(
            "the cluster in {} was made {made}, and that cannot change; leave {flag} out, or take another --data",
            folder.path().display()
        ))),
    }
}

/// Gives every replica two ports that nobody listens on, and the gateway one. They are held until all are found, so that none is found
/// twice.
fn choose_ports(cluster: &mut Cluster) -> Outcome {
    let mut held = Vec::new();
    let count = usize::from(PORTS.end - PORTS.start);
    let mut start = [0; 8];
    getrandom::fill(&mut start).map_err(|error| {
        Failure::failed(format!("the operating system gives no randomness: {error}"))
    })?;
    let start = (u64::from_le_bytes(start) % count as u64) as usize;
    let mut ports = PORTS.cycle().skip(start).take(count);
    let mut next = || -> Outcome<Address> {
        let mut last = None;
        for port in ports.by_ref() {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(listener) => {
                    held.push(listener);
                    return Ok(Address::new(LOOPBACK, port));
                }
                Err(error) => last = Some(error),
            }
        }
        let why = last.map_or_else(String::new, |error| format!(" ({})", plain(&error)));
        Err(Failure::failed(format!("there is no free port on {LOOPBACK} for a replica{why}")))
    };
    for replica in &mut cluster.replicas {
        replica.address = next()?;
        replica.admin = Some(next()?);
    }
    for gateway in &mut cluster.gateways {
        gateway.admin = Some(next()?);
    }
    Ok(())
}
