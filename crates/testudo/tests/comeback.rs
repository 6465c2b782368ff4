//! Replicas that forget what they said, under load from clients: each finds that out from the others, follows, and gets its
//! vote back by itself, under another voting key. That its vote counts is shown by the cluster answering when another
//! replica is out. Clients see nothing of it but latency.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::hosts::Client;
use support::troupe::{Role, Troupe};
use support::workload::{Workload, answers};
use support::{Cluster, alone, eventually, folder, path, said, testudo};

/// How long a client rests after each answer.
const REST: Duration = Duration::from_millis(40);

/// Operations that are answered in each round, whatever happens meanwhile.
const OPERATIONS: usize = 150;

/// Operations that must be answered while a replica is out.
const MEANWHILE: usize = 50;

/// The replica that lies in one of the stories.
const LIAR: usize = 1;

/// A cluster and its clients.
struct Stage {
    troupe: Troupe,
    workload: Arc<Workload>,
    /// Whether one of the replicas lies in this story, of its state too.
    has_liar: bool,
}

impl Stage {
    fn start() -> Self {
        let troupe = Troupe::start(LIAR);
        let workload = Workload::resting(&troupe.etcd, 1, REST);
        Self { troupe, workload, has_liar: false }
    }

    /// What happens to the cluster while clients ask.
    fn round(&mut self, what: &str, mut story: impl FnMut(&mut Troupe, &Workload)) {
        let began = Instant::now();
        let Self { troupe, workload, .. } = self;
        workload.round(OPERATIONS, |_| {
            story(troupe, workload);
            true
        });
        eprintln!("{what}: {:.1?}", began.elapsed());
        if !self.has_liar {
            let slot = troupe.agree();
            eprintln!("all equal at slot {slot} after {:.1?}", began.elapsed());
        }
    }

    /// All agree, nobody was blamed for anything, and one order explains what clients saw.
    fn end(self) {
        self.troupe.agree();
        self.workload.verify();
        let status = self.troupe.status();
        for (id, row) in status["replicas"].as_array().expect("rows").iter().enumerate() {
            assert_eq!(row["caught"], serde_json::json!([]), "{row:#}");
            // Nor were channels ended because an epoch had.
            for reason in ["invalid", "domain", "malformed", "sender", "proof"] {
                let name = format!("testudo_frames_rejected_total{{reason=\"{reason}\"}}");
                assert_eq!(self.troupe.metric(id, &name), 0, "{reason} at replica {id}");
            }
            assert_eq!(self.troupe.metric(id, "testudo_comeback"), 0, "replica {id}");
            assert_eq!(self.troupe.metric(id, "testudo_epoch"), row["claim"]["epoch"], "{row:#}");
        }
        self.troupe.stop();
    }
}

/// Waits until a replica votes again, having come back so often, in this epoch.
fn votes_again(troupe: &Troupe, id: usize, incarnation: u64, epoch: u64) {
    let began = Instant::now();
    let is_back = || {
        let claim = troupe.row(id)["claim"].take();
        let place = (claim["incarnation"].as_u64(), claim["epoch"].as_u64());
        let is_there = place == (Some(incarnation), Some(epoch)) && claim["standing"] == "voting";
        is_there.then_some(claim)
    };
    let deadline = Instant::now() + support::EVENTUALLY;
    let claim = loop {
        if let Some(claim) = is_back() {
            break claim;
        }
        if Instant::now() > deadline {
            let logs: Vec<String> = (0..4).map(|id| troupe.said(id)).collect();
            panic!("replica {id} never came back: {:#}\n{}", troupe.status(), logs.join("\n---\n"));
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(claim["comeback"]["is"], "not needed", "{claim:#}");
    eprintln!("replica {id} votes again after {:.1?}", began.elapsed());
    troupe.healed(id);
}

/// With another replica out, nothing is answered but by a quorum that this one is of.
fn its_vote_counts(troupe: &mut Troupe, workload: &Workload, other: usize) {
    assert_eq!(troupe.end(other, "KILL"), None);
    answers(workload, MEANWHILE);
}

fn wipe(folder: &Path) {
    std::fs::remove_dir_all(folder).expect("its folder is removed");
}

#[test]
fn wiped_replicas_get_their_votes_back_one_after_the_other() {
    let _alone = alone();
    let mut stage = Stage::start();
    let client = Client::new(&stage.troupe.etcd);
    let term = || eventually("a term is shown", || client.term().ok());
    stage.round("one is wiped", |troupe, workload| {
        answers(workload, MEANWHILE);
        assert_eq!(term() >> 32, 0);
        assert_eq!(troupe.end(3, "KILL"), None);
        wipe(troupe.data(3));
        answers(workload, MEANWHILE);
        troupe.begin(3, Role::Honest);
        votes_again(troupe, 3, 1, 1);
        let said = troupe.said(3);
        let notice = "orders in epoch 1 from now on; came back since it was in another: replica 3";
        assert!(said.contains(notice), "{said}");
    });
    stage.round("another one is wiped", |troupe, workload| {
        let primary = troupe.primary();
        let other = if primary == 3 { 0 } else { primary };
        its_vote_counts(troupe, workload, other);
        wipe(troupe.data(other));
        troupe.begin(other, Role::Honest);
        votes_again(troupe, other, 1, 2);
        // Again without one that never was wiped: both that came back are needed.
        let third = (0..3).find(|id| *id != other).expect("there are four");
        its_vote_counts(troupe, workload, third);
        troupe.begin(third, Role::Honest);
        troupe.healed(third);
    });
    eventually("the term goes on", || (term() >> 32 == 2).then_some(()));
    // Somebody who has only the cluster file, which names the members of the first epoch, is served all the same.
    stage.troupe.begin_gateway();
    stage.round("a fresh gateway", answers_a_few);
    eventually("it knows how far the cluster is", || (term() >> 32 == 2).then_some(()));
    stage.end();
}

fn answers_a_few(_: &mut Troupe, workload: &Workload) {
    answers(workload, MEANWHILE);
}

#[test]
fn evidence_of_a_later_epoch_convicts_with_the_cluster_file_alone() {
    let _alone = alone();
    let mut stage = Stage { has_liar: true, ..Stage::start() };
    stage.round("one is wiped, and another one lies", |troupe, workload| {
        answers(workload, MEANWHILE);
        assert_eq!(troupe.end(3, "KILL"), None);
        wipe(troupe.data(3));
        troupe.begin(3, Role::Honest);
        votes_again(troupe, 3, 1, 1);
        assert_eq!(troupe.end(LIAR, "TERM"), Some(0));
        troupe.begin(LIAR, Role::Liar);
        eventually("the liar is caught", || {
            let row = troupe.row(LIAR);
            let caught = row["caught"].as_array().cloned().unwrap_or_default();
            caught.iter().any(|it| it["proved"] == true).then_some(())
        });
        answers(workload, MEANWHILE);
    });
    let files = stage.troupe.evidence();
    let mut words = vec!["evidence", "verify", "--json", "--cluster", &stage.troupe.cluster];
    words.extend(files.iter().map(String::as_str));
    let output = testudo(&words);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for finding in found.as_array().expect("a list") {
        let (accused, convicted) = (&finding["accused"], &finding["convicted"]);
        assert_eq!((accused, convicted), (&LIAR.into(), &true.into()), "{finding:#}");
        assert_eq!(finding["epoch"], 1, "{finding:#}");
    }
    // What led to the epoch is signed, too.
    let mut bytes = std::fs::read(&files[0]).expect("read");
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    let forged = path(&stage.troupe.folder().join("forged.evidence"));
    std::fs::write(&forged, bytes).expect("written");
    let output = testudo(&["evidence", "verify", "--cluster", &stage.troupe.cluster, &forged]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    stage.workload.verify();
}

#[test]
fn a_cluster_that_starts_in_a_later_epoch_goes_on() {
    let _alone = alone();
    let folder = folder();
    let data = path(&folder.path().join("data"));
    let up = || Cluster::up(&["--data", &data]);
    let stop = |cluster: Cluster| {
        let (code, said) = cluster.stop("TERM");
        assert_eq!(code, Some(0), "{said}");
    };
    let cluster = up();
    let workload = Workload::new(&cluster.etcd);
    workload.round(OPERATIONS, |_| true);
    cluster.agree_but(&[]);
    stop(cluster);
    for (epoch, id) in [(1, 0), (2, 2)] {
        wipe(&folder.path().join(format!("data/replica-{id}")));
        let cluster = up();
        workload.moved(&cluster.etcd);
        workload.round(OPERATIONS, |_| {
            let claim = cluster.claim(id).unwrap_or_default();
            claim["epoch"] == epoch && claim["incarnation"] == 1 && claim["standing"] == "voting"
        });
        cluster.agree_but(&[]);
        stop(cluster);
    }
    let cluster = up();
    workload.moved(&cluster.etcd);
    workload.round(OPERATIONS, |_| true);
    cluster.agree_but(&[]);
    let status = cluster.status();
    assert_eq!(status["verdict"], "well", "{status:#}");
    for row in status["replicas"].as_array().expect("rows") {
        let returned = [0, 2].map(serde_json::Value::from).contains(&row["id"]);
        assert_eq!(row["claim"]["epoch"], 2, "{row:#}");
        assert_eq!(row["claim"]["incarnation"], u64::from(returned), "{row:#}");
    }
    workload.verify();
    stop(cluster);
}

/// A disk that loses everything again and again needs a person: returns are rationed.
#[test]
fn whoever_forgets_too_often_is_refused() {
    let _alone = alone();
    let mut stage = Stage::start();
    for times in 1..=testudo_core::limits::READMISSIONS as u64 + 1 {
        stage.round(&format!("wiped, {times}"), |troupe, workload| {
            // It has said something that it could forget.
            answers(workload, MEANWHILE);
            assert_eq!(troupe.end(3, "KILL"), None);
            wipe(troupe.data(3));
            answers(workload, MEANWHILE);
            troupe.begin(3, Role::Honest);
            if times <= testudo_core::limits::READMISSIONS as u64 {
                votes_again(troupe, 3, times, times);
            } else {
                let claim = eventually("it is refused", || {
                    let claim = troupe.row(3)["claim"].take();
                    (claim["comeback"]["is"] == "refused").then_some(claim)
                });
                let why = claim["comeback"]["why"].as_str().expect("it says why");
                assert!(why.contains("it has come back too often of late"), "{claim:#}");
                assert_eq!(claim["standing"], "forgotten", "{claim:#}");
                troupe.healed(3);
            }
        });
    }
    let shown = testudo(&["status", "--cluster", &stage.troupe.cluster]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("is refused: came back 4 times in 24 h, again in"), "{text}");
    stage.workload.verify();
}

/// How a replica loses what it has promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loss {
    /// Both copies of its superblock are destroyed.
    Superblock,
    /// Its folder is as it was some time ago.
    Restored,
    /// Its log is removed, and nothing else.
    Log,
}

fn overwrite(files: &[std::path::PathBuf]) {
    for file in files {
        let length = std::fs::metadata(file).expect("it is there").len();
        std::fs::write(file, vec![0xa5; length as usize]).expect("it is overwritten");
    }
}

fn superblocks(troupe: &Troupe, id: usize) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(troupe.data(id).join("log")).expect("listed").flatten();
    let paths = entries.map(|entry| entry.path());
    let is_one = |path: &std::path::PathBuf| path.to_string_lossy().contains("superblock");
    let found: Vec<_> = paths.filter(is_one).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    found
}

/// A replica loses something, finds out, and comes back; then its vote counts. Again, as the same may befall it twice.
fn loses_and_comes_back(loss: Loss) {
    let _alone = alone();
    let mut stage = Stage::start();
    let (id, other) = (2, 1);
    for times in 1..=2 {
        stage.round(&format!("{loss:?}, {times}"), |troupe, workload| {
            answers(workload, MEANWHILE);
            let old = troupe.folder().join(format!("old-{times}"));
            if loss == Loss::Restored {
                assert_eq!(troupe.end(id, "TERM"), Some(0));
                troupe.copy_data(id, &old);
                troupe.begin(id, Role::Honest);
                // What it says from now on, the copy does not know.
                votes_again(troupe, id, times - 1, times - 1);
                answers(workload, 2 * MEANWHILE);
            }
            assert_eq!(troupe.end(id, "KILL"), None);
            match loss {
                Loss::Superblock => overwrite(&superblocks(troupe, id)),
                Loss::Restored => {
                    wipe(troupe.data(id));
                    std::fs::rename(&old, troupe.data(id)).expect("the old one takes its place");
                }
                Loss::Log => {
                    let segments = troupe.files(id, ".segment");
                    assert!(!segments.is_empty());
                    segments.iter().for_each(|file| std::fs::remove_file(file).expect("removed"));
                }
            }
            answers(workload, MEANWHILE);
            troupe.begin(id, Role::Honest);
            votes_again(troupe, id, times, times);
            // A restart changes nothing of that.
            assert_eq!(troupe.end(id, "KILL"), None);
            troupe.begin(id, Role::Honest);
            votes_again(troupe, id, times, times);
            its_vote_counts(troupe, workload, other);
            troupe.begin(other, Role::Honest);
            troupe.healed(other);
        });
    }
    stage.end();
}

#[test]
fn a_replica_whose_superblock_is_destroyed_comes_back() {
    loses_and_comes_back(Loss::Superblock);
}

#[test]
fn a_replica_whose_folder_is_replaced_by_an_older_copy_comes_back() {
    loses_and_comes_back(Loss::Restored);
}

#[test]
fn a_replica_whose_log_is_removed_comes_back() {
    loses_and_comes_back(Loss::Log);
}
