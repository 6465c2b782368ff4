//! How a cluster on one machine comes, goes and comes back.

mod support;

use support::hosts::{Client, Hosts};
use support::workload::Workload;
use support::{
    Cluster, alone, eventually, folder, is_alive, path, said, said as said_by, signal, testudo,
};

fn pids(cluster: &Cluster) -> Vec<u32> {
    (0..4).map(|id| cluster.pid_of(id)).collect()
}

#[test]
fn the_same_data_goes_on_and_other_flags_are_refused() {
    let _alone = alone();
    let folder = folder();
    let data = path(&folder.path().join("data"));
    let cluster = Cluster::up(&["--data", &data, "--liar", "3=stale"]);
    assert_eq!(path(&cluster.data), data);
    let first = Workload::new(&cluster.etcd);
    first.round(200, |_| true);
    first.verify();

    // A second one while the first runs.
    let up = |flags: &[&str]| {
        let mut all = vec!["up", "--listen", "127.0.0.1:0", "--data", &data];
        all.extend(flags);
        let output = testudo(&all);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        said(&output)
    };
    let refusal = up(&[]);
    assert!(
        refusal.contains(&format!("another `testudo up` (pid {})", cluster.pid())),
        "{refusal}"
    );

    let children = pids(&cluster);
    let (code, said) = cluster.stop("INT");
    assert_eq!(code, Some(0), "{said}");
    assert!(children.iter().all(|pid| !is_alive(*pid)), "a child outlived up");

    for (flags, what) in [
        (&["--faults", "2"][..], "made to survive 1 faults"),
        (&["--replicas", "5"], "made with 4 replicas"),
        (&["--liar", "3=silent"], "made with --liar 3=stale"),
        (&["--liar", "2=stale"], "made with --liar 3=stale"),
        (&["--beyond"], "made without --beyond"),
    ] {
        let refusal = up(flags);
        assert!(refusal.contains(what), "{flags:?}: {refusal}");
    }

    // The same flags, or none of them.
    for flags in [&["--faults", "1", "--replicas", "4", "--liar", "3=stale"][..], &[]] {
        let mut all = vec!["--data", &data];
        all.extend(flags);
        let cluster = Cluster::up(&all);
        first.moved(&cluster.etcd);
        first.round(100, |_| true);
        first.verify();
        cluster.agree_but(&[3]);
        let (code, said) = cluster.stop("TERM");
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn an_ephemeral_cluster_leaves_nothing() {
    let _alone = alone();
    let cluster = Cluster::up(&["--ephemeral", "--faults", "1"]);
    let data = cluster.data.clone();
    let children = pids(&cluster);
    assert!(data.join("cluster.toml").exists());
    let (code, said) = cluster.stop("TERM");
    assert_eq!(code, Some(0), "{said}");
    assert!(!data.exists());
    assert!(children.iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn children_do_not_outlive_an_up_that_is_killed() {
    let _alone = alone();
    let folder = folder();
    let data = path(&folder.path().join("data"));
    let cluster = Cluster::up(&["--data", &data]);
    let workload = Workload::new(&cluster.etcd);
    workload.round(100, |_| true);
    let children = pids(&cluster);
    let (code, _) = cluster.stop("KILL");
    assert_eq!(code, None);
    eventually("all children have ended", || {
        children.iter().all(|pid| !is_alive(*pid)).then_some(())
    });
    // Nothing that was acknowledged is lost with it.
    let cluster = Cluster::up(&["--data", &data]);
    workload.moved(&cluster.etcd);
    workload.verify();
    cluster.agree_but(&[]);
}

#[test]
fn without_restart_the_dead_stay_dead_and_a_lost_quorum_is_told() {
    let _alone = alone();
    let cluster = Cluster::up(&["--ephemeral", "--no-restart"]);
    let children = pids(&cluster);
    signal(children[3], "KILL");
    eventually("its death is told", || {
        cluster.said().contains("was killed by signal 9; it is not started again").then_some(())
    });
    Workload::new(&cluster.etcd).round(100, |_| true);
    let status = testudo(&["status", "--data", &path(&cluster.data)]);
    assert_eq!(status.status.code(), Some(3), "one is gone: {}", said(&status));
    signal(children[2], "KILL");
    eventually("the lost quorum is told", || {
        cluster.said().contains("2 of 4 replicas run and 3 are needed").then_some(())
    });
    let status = testudo(&["status", "--data", &path(&cluster.data)]);
    assert_eq!(status.status.code(), Some(4), "two are gone: {}", said(&status));
    let (code, said) = cluster.stop("INT");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn more_liars_than_are_survived_end_in_a_reason() {
    let _alone = alone();
    let output = testudo(&[
        "up",
        "--ephemeral",
        "--listen",
        "127.0.0.1:0",
        "--wait",
        "5",
        "--beyond",
        "--liar",
        "0=silent",
        "--liar",
        "1=silent",
    ]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(
        said.contains("has not answered within 5 s") && said.contains("2 of them lie"),
        "{said}"
    );
    assert!(output.stdout.is_empty(), "it is not ready and must not say so");
}

#[test]
fn a_data_folder_of_another_cluster_is_refused() {
    let _alone = alone();
    let folder = folder();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let cluster = Cluster::up(&["--data", &path(&one)]);
    cluster.stop("TERM");
    let cluster = Cluster::up(&["--data", &path(&other)]);
    cluster.stop("TERM");
    std::fs::remove_dir_all(one.join("replica-2")).unwrap();
    std::fs::rename(other.join("replica-2"), one.join("replica-2")).unwrap();
    let output = testudo(&["up", "--listen", "127.0.0.1:0", "--data", &path(&one)]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("replica 2 refuses to run"), "{said}");
    assert!(said.contains("belongs to another node"), "{said}");
}

/// A disk that fails ends a replica, which is tried again ever more seldom, and comes back when the disk does.
#[test]
fn a_replica_whose_disk_fails_is_tried_again_and_the_reason_is_told() {
    let _alone = alone();
    let cluster = Cluster::up(&["--ephemeral"]);
    let (log, away) = (cluster.data.join("replica-3/log"), cluster.data.join("replica-3/away"));
    let pid = cluster.pid_of(3);
    std::fs::rename(&log, &away).unwrap();
    std::fs::write(&log, "a file where a folder should be").unwrap();
    signal(pid, "KILL");
    let said = eventually("its death is told three times", || {
        Some(cluster.said()).filter(|said| said.contains("starting it again in 1 s"))
    });
    for what in [
        "was killed by signal 9; starting it again in 0.25 s",
        "ended with exit code 1: cannot start on ",
        "open the data folder: ",
        "starting it again in 0.5 s",
    ] {
        assert!(said.contains(what), "{what} is not in\n{said}");
    }
    let workload = Workload::new(&cluster.etcd);
    workload.round(100, |_| true);
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&away, &log).unwrap();
    cluster.agree_but(&[]);
    workload.verify();
}

/// Nodes that `init` made run one by one, as on hosts of their own.
#[test]
fn nodes_of_init_make_a_cluster() {
    let _alone = alone();
    let hosts = Hosts::start();
    let gateway = hosts.gateway();
    let workload = Workload::new(&hosts.etcd);
    workload.round(200, |_| true);
    workload.verify();
    eventually("status shows all of them well", || {
        (testudo(&["status", "--cluster", &hosts.cluster]).status.code() == Some(0)).then_some(())
    });
    assert_eq!(gateway.stop(), Some(0));
    hosts.stop();
}

/// History counts, too; and whoever is full may delete and compact.
#[test]
fn a_quota_refuses_growth_alone_and_clears_itself() {
    let _alone = alone();
    let folder = folder();
    let data = path(&folder.path().join("data"));
    let cluster = Cluster::up(&["--data", &data, "--quota", "16MiB"]);
    let store = |cluster: &Cluster| cluster.status()["gateways"][0]["claim"]["store"].take();
    assert_eq!(store(&cluster)["quota"], 16 << 20);
    let client = Client::new(&cluster.etcd);
    // One key, whose history grows by a MiB with each put.
    let value = || "v".repeat(1 << 20);
    let refused = (0..20).find_map(|_| client.put("key", value()).err());
    let refused = refused.expect("twenty MiB are refused");
    assert_eq!(refused.message(), "etcdserver: mvcc: database space exceeded");
    eventually("status shows it", || (store(&cluster)["is_full"] == true).then_some(()));
    let table = testudo(&["status", "--data", &data]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("NOSPACE"));

    client.delete("key").expect("a deletion is no growth");
    assert!(client.put("key", value()).is_err(), "its history is still there");
    let revision = store(&cluster)["revision"].as_i64().expect("a number");
    client.compact(revision).expect("nor is a compaction");
    eventually("there is room again", || client.put("key", value()).ok());
    assert_eq!(store(&cluster)["is_full"], false);
    let (code, said) = cluster.stop("INT");
    assert_eq!(code, Some(0), "{said}");

    for (flag, value, what) in [
        ("--quota", "32MiB", "made with --quota 16MiB"),
        ("--auto-compaction", "period=1h", "made with --auto-compaction off"),
    ] {
        let output = testudo(&["up", "--listen", "127.0.0.1:0", "--data", &data, flag, value]);
        assert_eq!(output.status.code(), Some(2));
        assert!(said_by(&output).contains(what), "{}", said_by(&output));
    }
}

/// All but so many revisions are forgotten by itself.
#[test]
fn history_is_forgotten_by_itself() {
    let _alone = alone();
    let cluster = Cluster::up(&["--ephemeral", "--auto-compaction", "revisions=20"]);
    let client = Client::new(&cluster.etcd);
    for number in 0..100 {
        client.put("key", format!("{number}")).expect("it is put");
    }
    let told = client.get_at("key", 10).expect_err("that is forgotten");
    assert_eq!(told.message(), "etcdserver: mvcc: required revision has been compacted");
    assert_eq!(client.get_at("key", 90).expect("that is kept"), "88");
    cluster.agree_but(&[]);
}
