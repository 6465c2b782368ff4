//! More replicas lose their disks than the cluster survives: it stops, people decide what it goes on from, and everything that
//! was answered is there.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use support::troupe::copy_folder;
use support::workload::Workload;
use support::{Cluster, TESTUDO, alone, eventually, folder, path, said, signal, testudo};

/// Operations that are answered before anything happens, and after.
const OPERATIONS: usize = 150;

/// How many bytes at the end of a log come to harm.
const GNAWED: usize = 8 << 10;

/// How often it is killed while it carries out what was decided.
const KILLS: u32 = 8;

fn recover(data: &str, more: &[&str]) -> Output {
    testudo(&[&["recover", "--data", data], more].concat())
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// That it was refused, with these words.
fn refused(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{}{}", shown(output), said(output));
    let said = said(output);
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// All files in a folder, with their contents.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the folder is listed") {
        let path = entry.expect("the folder is listed").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).expect("the file is read"));
        }
    }
    found
}

/// Superblock and log are gone, and the rest is not.
fn destroy(replica: &Path) {
    for entry in std::fs::read_dir(replica.join("log")).expect("its log is listed") {
        let file = entry.expect("its log is listed").path();
        std::fs::remove_file(file).expect("a file is removed");
    }
}

/// The end of its log cannot be read any more, nor what it was about, but for the records of its last moments.
fn gnaw(replica: &Path) {
    let files = files(&replica.join("log"));
    let mut logs = files.iter().filter(|(path, bytes)| {
        let is_log = path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("log-"));
        is_log && bytes.iter().rposition(|byte| *byte != 0).is_some_and(|last| last > GNAWED)
    });
    let (path, bytes) = logs.next_back().expect("there is a log");
    let mut bytes = bytes.clone();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or_default() + 1;
    let from = end - GNAWED;
    bytes[from..from + GNAWED / 2].iter_mut().for_each(|byte| *byte ^= 0xa5);
    std::fs::write(path, bytes).expect("the file is written");
}

/// All replicas are killed while clients ask.
fn killed_under_load(cluster: Cluster, workload: &std::sync::Arc<Workload>, replicas: &[u32]) {
    workload.round(OPERATIONS, |answered| {
        let is_due = answered >= OPERATIONS;
        if is_due {
            replicas.iter().for_each(|pid| signal(*pid, "KILL"));
        }
        is_due
    });
    cluster.stop("TERM");
}

/// A cluster that is started does not go on by itself, and status says why in these words.
fn is_stranded(data: &str, why: &str) {
    let mut stranded = Command::new(TESTUDO)
        .args(["up", "--listen", "127.0.0.1:0", "--data", data, "--wait", "20"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    eventually("status says why", || {
        let output = testudo(&["status", "--data", data]);
        let text = shown(&output);
        let says = output.status.code() == Some(4) && text.contains(why);
        (says && text.contains("`testudo recover`")).then_some(())
    });
    let ended = stranded.wait().expect("it ends");
    assert_eq!(ended.code(), Some(4), "no quorum answers");
}

/// A cluster that was killed under load, and then lost two of its four disks.
fn ruin(data: &Path) -> (std::sync::Arc<Workload>, String) {
    let name = path(data);
    let cluster = Cluster::up(&["--data", &name, "--no-restart"]);
    let workload = Workload::new(&cluster.etcd);
    let pids: Vec<u32> = (0..4).map(|id| cluster.pid_of(id)).collect();
    let running = recover(&name, &["--yes"]);
    refused(&running, &["is in use by a `testudo up`", &cluster.pid().to_string()]);
    killed_under_load(cluster, &workload, &pids);
    // A power cut of all: they come back by themselves, with all that was answered.
    let cluster = Cluster::up(&["--data", &name, "--no-restart"]);
    workload.moved(&cluster.etcd);
    workload.verify();
    workload.round(OPERATIONS, |_| true);
    (0..4).for_each(|id| signal(cluster.pid_of(id), "KILL"));
    cluster.stop("TERM");
    let all = recover(&name, &[]);
    refused(&all, &["nothing needs recovery: 4 of 4 replicas may vote", "start them as usual"]);
    assert!(shown(&all).contains("knows what it has promised"), "{}", shown(&all));
    destroy(&data.join("replica-2"));
    let three = recover(&name, &["--yes"]);
    refused(&three, &["nothing needs recovery: 3 of 4", "come back by themselves"]);
    std::fs::remove_dir_all(data.join("replica-3")).expect("the folder is removed");
    (workload, name)
}

#[test]
fn what_was_answered_is_there_after_people_have_decided() {
    let _alone = alone();
    let folder = folder();
    let data = folder.path().join("data");
    let (workload, name) = ruin(&data);

    is_stranded(&name, "forgotten what it promised, and only follows: 2 and 3.");

    let before = files(&data);
    let explained = recover(&name, &[]);
    assert_eq!(explained.status.code(), Some(0), "{}", said(&explained));
    let text = shown(&explained);
    for what in [
        "3 replicas must know what they have promised, and only replicas 0 and 1 do.",
        "Goes on from:  the state of replica ",
        "Is lost:       nothing that was answered",
        "Comes back:    replica 2 under",
        &format!("\n  testudo recover --data {name} --yes\n"),
    ] {
        assert!(text.contains(what), "{what}: {text}");
    }
    assert!(files(&data) == before, "whoever only asks changes nothing");
    refused(&recover(&name, &["--from", "4"]), &["--from 4: that replica is not at hand"]);
    assert!(files(&data) == before);

    let done = recover(&name, &["--yes"]);
    assert_eq!(done.status.code(), Some(0), "{}{}", shown(&done), said(&done));
    assert!(
        shown(&done).contains("Done: epoch 1 begins with the state of replica"),
        "{}",
        shown(&done)
    );
    refused(&recover(&name, &["--yes"]), &["nothing needs recovery: 4 of 4"]);

    let cluster = Cluster::up(&["--data", &name, "--no-restart"]);
    workload.moved(&cluster.etcd);
    workload.verify();
    workload.round(OPERATIONS, |_| {
        (0..4).all(|id| {
            let claim = cluster.claim(id).unwrap_or_default();
            claim["epoch"] == 1 && claim["standing"] == "voting"
        })
    });
    for (id, incarnation) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        let claim = cluster.claim(id).expect("it shows itself");
        assert_eq!(claim["incarnation"], incarnation, "{claim:#}");
    }
    // All four are needed to lose another one.
    signal(cluster.pid_of(1), "KILL");
    workload.round(OPERATIONS, |_| true);
    workload.verify();
    let (code, said) = cluster.stop("TERM");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn it_may_be_killed_at_any_point_and_run_again() {
    let _alone = alone();
    let folder = folder();
    let data = folder.path().join("data");
    let (workload, _) = ruin(&data);
    let mut last = None;
    for kill in 0..KILLS {
        let scene = folder.path().join(format!("scene-{kill}"));
        copy_folder(&data, &scene).expect("the folder is copied");
        let name = path(&scene);
        let mut child = Command::new(TESTUDO)
            .args(["recover", "--data", &name, "--yes"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command starts");
        std::thread::sleep(Duration::from_millis(40) * kill);
        let _ = child.kill();
        child.wait().expect("it ends");
        let again = recover(&name, &["--yes"]);
        if again.status.code() != Some(0) {
            refused(&again, &["nothing needs recovery: 4 of 4"]);
        }
        refused(&recover(&name, &["--yes"]), &["nothing needs recovery: 4 of 4"]);
        last = Some(name);
    }
    let cluster = Cluster::up(&["--data", &last.expect("there was one")]);
    workload.moved(&cluster.etcd);
    workload.verify();
    workload.round(OPERATIONS, |_| true);
    cluster.agree_but(&[]);
    workload.verify();
}

#[test]
fn hosts_of_their_own_give_their_key_files_and_folders() {
    let _alone = alone();
    let folder = folder();
    let data = folder.path().join("data");
    let (workload, name) = ruin(&data);
    let file = path(&data.join("cluster.toml"));
    let given = |id: usize, data_of: usize| {
        let key = data.join(format!("keys/replica-{id}.key"));
        format!("{}={}", path(&key), path(&data.join(format!("replica-{data_of}"))))
    };
    let run = |given: &[String], more: &[&str]| {
        let mut words = vec!["recover", "--cluster", &file];
        words.extend(given.iter().flat_map(|one| ["--replica", one]));
        testudo(&[&words[..], more].concat())
    };
    let few = run(&[given(0, 0)], &["--yes"]);
    refused(&few, &["of 1 of 4 replicas", "3 must sign", "replicas 1, 2 and 3"]);
    let swapped = run(&[given(0, 1), given(1, 0), given(2, 2)], &["--yes"]);
    refused(&swapped, &["belongs to another node"]);
    let twice = run(&[given(0, 0), given(0, 1)], &[]);
    refused(&twice, &["given twice"]);
    refused(&run(&["nonsense".to_owned()], &[]), &["--replica", "key file and a data folder"]);
    refused(&run(&[], &[]), &["--replica"]);
    refused(&recover(&path(folder.path()), &[]), &["cluster.toml"]);

    // Another cluster's key, and another cluster's folder.
    let out = path(&folder.path().join("other"));
    let hosts = "a:7000,b:7000,c:7000,d:7000";
    let made = testudo(&["init", "--replicas", hosts, "--out", &out]);
    assert_eq!(made.status.code(), Some(0), "{}", said(&made));
    let strange = format!("{out}/replica-0.key={}", path(&data.join("replica-0")));
    refused(
        &run(std::slice::from_ref(&strange), &[]),
        &["not the key of a replica of this cluster"],
    );
    let other = format!("{out}/cluster.toml");
    let foreign = testudo(&["recover", "--cluster", &other, "--replica", &strange]);
    refused(&foreign, &["belongs to another node"]);

    // One that runs has its folder.
    let key = path(&data.join("keys/replica-1.key"));
    let own = path(&data.join("replica-1"));
    let words = ["replica", "--cluster", &file, "--key", &key, "--data", &own, "--admin", "off"];
    let node = support::Node::start(&[&words[..], &["--log", "error"]].concat());
    let all: Vec<String> = (0..4).map(|id| given(id, id)).collect();
    eventually("a running replica is found", || {
        let output = run(&all, &["--yes"]);
        said(&output)
            .contains("replica 1 runs")
            .then(|| refused(&output, &["stop all replicas first"]))
    });
    assert_eq!(node.stop(), Some(0));

    // Replica 3's host is gone for good, with its keys: three can decide, and do.
    // Of the two that know what they have promised, one may lack what was answered last. It says so, and people choose.
    let costs_nothing = |from: &&str| {
        shown(&run(&all[..3], &["--from", from]))
            .contains("Is lost:       nothing that was answered")
    };
    let from = ["1", "0"].into_iter().find(costs_nothing).expect("one of them has all of it");
    let explained = run(&all[..3], &["--from", from]);
    assert_eq!(explained.status.code(), Some(0), "{}", said(&explained));
    assert!(shown(&explained).contains("Is not there:  replica 3."), "{}", shown(&explained));
    let command = shown(&explained);
    let command = command.lines().find(|line| line.contains("--yes")).expect("it says how");
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    let done = testudo(&words);
    assert_eq!(done.status.code(), Some(0), "{}{}", shown(&done), said(&done));

    // Its host turns up again, with its keys and without its disk: in the new epoch it has said nothing that it could forget.
    let cluster = Cluster::up(&["--data", &name]);
    workload.moved(&cluster.etcd);
    workload.verify();
    workload.round(OPERATIONS, |_| {
        let claim = cluster.claim(3).unwrap_or_default();
        claim["standing"] == "voting" && claim["epoch"] == 1
    });
    cluster.agree_but(&[]);
    workload.verify();
}

/// All superblocks are there, and all know their promises. But two of four have lost what they held on the slots that are open.
#[test]
fn where_too_many_have_lost_the_same_slots_people_decide() {
    let _alone = alone();
    let folder = folder();
    let data = folder.path().join("data");
    let name = path(&data);
    let cluster = Cluster::up(&["--data", &name, "--no-restart"]);
    let workload = Workload::new(&cluster.etcd);
    let pids: Vec<u32> = (0..4).map(|id| cluster.pid_of(id)).collect();
    killed_under_load(cluster, &workload, &pids);
    [2, 3].iter().for_each(|id| gnaw(&data.join(format!("replica-{id}"))));

    is_stranded(&name, "No quorum can be had");

    let explained = recover(&name, &[]);
    assert_eq!(explained.status.code(), Some(0), "{}", said(&explained));
    let text = shown(&explained);
    for what in [
        "replicas must have all that they held on slot",
        "only replicas 0 and 1 do",
        "Is lost:       nothing that was answered",
        "its log has lost records of slot",
    ] {
        assert!(text.contains(what), "{what}: {text}");
    }
    let done = recover(&name, &["--yes"]);
    assert_eq!(done.status.code(), Some(0), "{}{}", shown(&done), said(&done));
    refused(&recover(&name, &["--yes"]), &["nothing needs recovery: 4 of 4"]);

    let cluster = Cluster::up(&["--data", &name, "--no-restart"]);
    workload.moved(&cluster.etcd);
    workload.verify();
    workload.round(OPERATIONS, |_| {
        (0..4).all(|id| {
            let claim = cluster.claim(id).unwrap_or_default();
            claim["epoch"] == 1 && claim["standing"] == "voting" && claim["incarnation"] == 0
        })
    });
    cluster.agree_but(&[]);
    workload.verify();
    let (code, said) = cluster.stop("TERM");
    assert_eq!(code, Some(0), "{said}");
}
