//! Every kind of fault, at the primary and at a backup, under a thousand operations of eight clients: what was
//! answered is explained by one order, nothing acknowledged is lost, and the replicas end in the same state.

mod support;

use std::time::{Duration, Instant};
use support::workload::Workload;
use support::{Cluster, alone, eventually, signal};

/// Operations that are answered in each round.
const OPERATIONS: usize = 1_000;

/// How many are answered before the fault.
const BEFORE: usize = 150;

/// Who is hurt.
#[derive(Clone, Copy)]
enum Victim {
    Primary,
    Backup,
}

impl Victim {
    fn of(self, cluster: &Cluster) -> usize {
        let primary = cluster.primary();
        match self {
            Self::Primary => primary,
            Self::Backup => (primary + 2) % 4,
        }
    }
}

/// Kills one replica after the other. Each is started again, and catches up before the next is hurt.
#[test]
fn killed_replicas() {
    let _alone = alone();
    let cluster = Cluster::up(&["--ephemeral"]);
    let workload = Workload::new(&cluster.etcd);
    for victim in [Victim::Primary, Victim::Backup, Victim::Primary] {
        let id = victim.of(&cluster);
        let pid = cluster.pid_of(id);
        workload.round(OPERATIONS, |answered| {
            let is_time = answered >= BEFORE;
            if is_time {
                signal(pid, "KILL");
            }
            is_time
        });
        let next = eventually("the replica runs again", || {
            cluster
                .claim(id)
                .and_then(|claim| claim["pid"].as_u64())
                .filter(|it| *it != u64::from(pid))
        });
        assert_ne!(next, u64::from(pid));
        cluster.agree_but(&[]);
    }
    workload.verify();
    let (code, said) = cluster.stop("INT");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("was killed by signal 9; starting it again in 0.25 s"), "{said}");
}

/// Stops one replica after the other for longer than a view lasts, and lets it go on as if nothing had been.
#[test]
fn stopped_and_continued_replicas() {
    let _alone = alone();
    let cluster = Cluster::up(&["--ephemeral"]);
    let workload = Workload::new(&cluster.etcd);
    for victim in [Victim::Primary, Victim::Backup] {
        let pid = cluster.pid_of(victim.of(&cluster));
        let mut stopped = None;
        workload.round(OPERATIONS, |answered| match stopped {
            None if answered >= BEFORE => {
                signal(pid, "STOP");
                stopped = Some((Instant::now(), answered));
                false
            }
            // The others get something done meanwhile.
            Some((since, then)) => {
                let is_time = since.elapsed() > Duration::from_secs(3) && answered > then + BEFORE;
                if is_time {
                    signal(pid, "CONT");
                }
                is_time
            }
            None => false,
        });
        cluster.agree_but(&[]);
    }
    workload.verify();
}

/// One replica lies all the time.
fn liar(kind: &str, id: usize) {
    let _alone = alone();
    let cluster = Cluster::up(&["--ephemeral", "--liar", &format!("{id}={kind}")]);
    let workload = Workload::new(&cluster.etcd);
    workload.round(OPERATIONS, |_| true);
    cluster.agree_but(&[id]);
    workload.verify();
    cluster.agree_but(&[id]);
    let status = cluster.status();
    if matches!(kind, "silent" | "equivocate") {
        // The other liars let a quorum hear the truth often enough that one may bear with them.
        assert_ne!(status["agreed"]["primary"], id, "a liar is still in office: {status:#}");
    }
    for (other, row) in status["replicas"].as_array().unwrap().iter().enumerate() {
        let caught = row["caught"].as_array().unwrap();
        assert!(other == id || caught.is_empty(), "an honest replica is accused: {status:#}");
        let contradicts_itself = matches!(kind, "equivocate" | "corrupt" | "random");
        if other == id && contradicts_itself {
            assert!(caught.iter().any(|it| it["proved"] == true), "not convicted: {status:#}");
        }
    }
    let log = std::fs::read_to_string(cluster.data.join(format!("replica-{id}.log"))).unwrap();
    assert!(log.contains(&format!("this replica lies ({kind})")), "{log}");
}

macro_rules! liars {
    ($($name:ident: $kind:literal at $id:literal;)*) => {$(
        #[test]
        fn $name() {
            liar($kind, $id);
        }
    )*};
}

// Replica 0 is the first primary.
liars! {
    a_silent_primary: "silent" at 0;
    a_silent_backup: "silent" at 2;
    an_equivocating_primary: "equivocate" at 0;
    an_equivocating_backup: "equivocate" at 2;
    a_corrupt_primary: "corrupt" at 0;
    a_corrupt_backup: "corrupt" at 2;
    a_stale_primary: "stale" at 0;
    a_stale_backup: "stale" at 2;
    a_random_primary: "random" at 0;
    a_random_backup: "random" at 2;
}
