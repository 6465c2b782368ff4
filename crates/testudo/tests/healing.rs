//! One replica after the other is killed, wiped, turned into a liar, and given a rotten, full, slow or broken disk, under load
//! from eight clients: each is named and healed before the next is hurt, all end in the same state, nobody is accused who did
//! not lie, and what was answered is explained by one order.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::hosts::{Client, burden};
use support::hurt::{
    BadDisk, SmallDisk, flip_before_the_end, flip_in_memory, flip_in_the_middle, written,
};
use support::troupe::{Role, Troupe};
use support::workload::{Workload, answers};
use support::{alone, eventually, said, testudo};

/// How long a client rests after each answer: eight of them ask for two hundred operations a second at most.
const REST: Duration = Duration::from_millis(40);

/// Operations that are answered in each round, whatever happens meanwhile.
const OPERATIONS: usize = 150;

/// Operations that must be answered while a replica is out.
const MEANWHILE: usize = 50;

/// Bytes of the small disk: enough for a log and its snapshots, and soon full with ballast.
const SMALL: u64 = 192 << 20;

/// Milliseconds of a flush of the slow disk.
const SLOW: u32 = 120;

/// What a disk that is full, slow or broken may cost clients: the longest time without any answer. A replica that must be
/// done without costs a change of view at most.
const MOMENT: Duration = Duration::from_secs(10);

/// How far before the end of a log it rots.
const RECENT: usize = 16 << 10;

/// How often a bit is flipped until it hits what a log holds once only. Every third or so hits an edge of a record.
const ATTEMPTS: usize = 10;

/// The replica that lies for a while.
const LIAR: usize = 1;

/// A cluster and its clients.
struct Stage {
    troupe: Troupe,
    workload: Arc<Workload>,
    /// Who has lied by now.
    liars: Vec<usize>,
}

impl Stage {
    /// Hurts and heals a replica under load; then all replicas agree.
    fn round(&mut self, what: &str, mut story: impl FnMut(&mut Troupe, &Workload)) {
        let began = Instant::now();
        let Self { troupe, workload, .. } = self;
        workload.round(OPERATIONS, |_| {
            story(troupe, workload);
            true
        });
        let healed = began.elapsed();
        let slot = troupe.agree();
        assert_eq!(troupe.accused(), self.liars, "divergence and loss are no evidence");
        eprintln!(
            "{what}: healed in {healed:.1?}, all equal at slot {slot} after {:.1?}",
            began.elapsed()
        );
    }
}

#[test]
fn one_after_the_other_is_hurt_and_heals() {
    let _alone = alone();
    let troupe = Troupe::start(LIAR);
    put_what_will_rot(&troupe.etcd);
    let workload = Workload::resting(&troupe.etcd, 2, REST);
    let mut stage = Stage { troupe, workload, liars: Vec::new() };
    stage.round("killed and started again", |troupe, workload| killed(troupe, workload, 0));
    stage.round("rotten memory", |troupe, workload| rotten_memory(troupe, workload, 3));
    stage.round("a rotten snapshot", |troupe, workload| rotten_snapshot(troupe, workload, 2));
    stage.round("a full disk", |troupe, workload| full_disk(troupe, workload, 3));
    stage.round("a slow disk", slow_disk);
    stage.round("a broken disk", |troupe, workload| broken_disk(troupe, workload, 0));
    stage.round("a rotten log", |troupe, workload| rotten_log(troupe, workload, 2));
    stage.round("rot under a running replica", |troupe, workload| scrubbed(troupe, workload, 0));
    stage.round("a wiped disk", |troupe, workload| wiped(troupe, workload, 3));
    // Last, as whoever has signed lies has no vote any more.
    stage.liars.push(LIAR);
    stage.round("a liar, replaced", |troupe, workload| liar(troupe, workload, LIAR));
    stage.workload.verify();
    stage.troupe.stop();
}

/// It comes back with all that it had said.
fn killed(troupe: &mut Troupe, workload: &Workload, id: usize) {
    answers(workload, MEANWHILE);
    assert_eq!(troupe.end(id, "KILL"), None);
    let row = troupe.row(id);
    assert_eq!(row["reachable"], false, "{row:#}");
    answers(workload, MEANWHILE);
    troupe.begin(id, Role::Honest);
    troupe.healed(id);
}

/// What it lost is known to have been lost, and nothing that rests on it is used.
fn rotten_log(troupe: &mut Troupe, workload: &Workload, id: usize) {
    let is_lost = (0..ATTEMPTS).any(|attempt| {
        assert_eq!(troupe.end(id, "KILL"), None);
        let segments = troupe.files(id, ".segment");
        // What is older is in a snapshot by now, and is missed by nobody.
        let segment = segments.iter().rev().find(|file| written(file) > 2 * RECENT);
        let segment = segment.expect("there is a log");
        let place = flip_before_the_end(segment, RECENT - 200 * attempt);
        eprintln!("flipped a bit of byte {place} of {}", segment.display());
        answers(workload, MEANWHILE);
        troupe.begin(id, Role::Honest);
        troupe.healed(id);
        let said = troupe.said(id);
        // The edges of a record stand in the log twice: one that rots is written again from the other.
        assert!(said.contains("the log is damaged") || said.contains("were mended"), "{said}");
        said.contains("the log is damaged")
    });
    assert!(is_lost, "the bit was in an edge each time:\n{}", troupe.said(id));
    let disk = troupe.row(id)["claim"]["disk"].take();
    assert!(disk["records_lost"].as_u64() >= Some(1), "{disk:#}");
    eventually("it votes on every slot again", || {
        let claim = troupe.row(id)["claim"].take();
        (claim["standing"] == "voting" && claim["lost_slots"] == 0).then_some(())
    });
}

/// Rot that nobody has read yet is found by the scrub of a replica that runs, and nothing of it is left to a later start.
fn scrubbed(troupe: &mut Troupe, workload: &Workload, id: usize) {
    let found = |troupe: &Troupe| {
        let names = ["testudo_scrub_mended_total", "testudo_scrub_rotten_total{reason=\"record\"}"];
        names.map(|name| troupe.metric(id, name)).iter().sum::<u64>()
    };
    let before = found(troupe);
    let segments = troupe.files(id, ".segment");
    let segment = segments.iter().rev().find(|file| written(file) > 2 * RECENT);
    flip(segment.expect("there is a log"));
    eventually("the scrub finds it", || (found(troupe) > before).then_some(()));
    answers(workload, MEANWHILE);
    troupe.healed(id);
    assert_eq!(troupe.row(id)["claim"]["standing"], "voting");
}

/// Nothing is left of what it had said. It finds that out, and gets its vote back under another voting key.
fn wiped(troupe: &mut Troupe, workload: &Workload, id: usize) {
    assert_eq!(troupe.end(id, "KILL"), None);
    std::fs::remove_dir_all(troupe.data(id)).expect("its folder is removed");
    answers(workload, MEANWHILE);
    troupe.begin(id, Role::Honest);
    eventually("it votes again", || {
        let claim = troupe.row(id)["claim"].take();
        (claim["incarnation"] == 1 && claim["standing"] == "voting").then_some(())
    });
    troupe.healed(id);
}

/// A snapshot that does not prove itself is not used.
fn rotten_snapshot(troupe: &mut Troupe, workload: &Workload, id: usize) {
    eventually("a snapshot is written", || {
        burden(&troupe.etcd, 4);
        (!troupe.files(id, ".snapshot").is_empty()).then_some(())
    });
    assert_eq!(troupe.end(id, "KILL"), None);
    let snapshots = troupe.files(id, ".snapshot");
    snapshots.iter().for_each(|file| flip(file));
    answers(workload, MEANWHILE);
    troupe.begin(id, Role::Honest);
    troupe.healed(id);
    assert!(troupe.said(id).contains("a snapshot is lost"), "{}", troupe.said(id));
    let disk = troupe.row(id)["claim"]["disk"].take();
    assert_eq!(disk["snapshots_lost"], snapshots.len(), "{disk:#}");
}

/// A value that stands nowhere else in a process's memory, with a first byte that is rare there.
const ROT: &str = "\u{1d}a value that is going to rot in the memory of one replica";

/// Raises the store's revision to 2.
fn put_what_will_rot(etcd: &str) {
    let client = Client::new(etcd);
    eventually("the gateway serves", || client.put("key-rot", ROT.to_owned()).ok());
}

/// A bit flips in memory. The replica finds out by itself, and says nothing of its state before it is right again.
fn rotten_memory(troupe: &mut Troupe, workload: &Workload, id: usize) {
    let places = flip_in_memory(troupe.pid(id), ROT.as_bytes());
    eprintln!("flipped a bit in {places} places of replica {id}'s memory");
    assert!(places > 0, "the value is nowhere");
    eventually("it finds out and heals", || {
        troupe.said(id).contains("has healed at slot").then_some(())
    });
    answers(workload, MEANWHILE);
    troupe.healed(id);
    let healed = troupe.row(id)["claim"]["healed"].take();
    assert!(healed["differing"].as_u64() >= Some(1), "{healed:#}");
    let said = troupe.said(id);
    assert!(said.contains("is not what a quorum signed"), "{said}");
}

fn flip(file: &Path) {
    let place = flip_in_the_middle(file);
    eprintln!("flipped a bit of byte {place} of {}", file.display());
}

/// It ends, as it must not say what it may forget; and comes back when there is space.
fn full_disk(troupe: &mut Troupe, workload: &Workload, id: usize) {
    workload.longest_pause();
    let home = troupe.data(id).to_owned();
    let disk = match SmallDisk::make(troupe.folder(), SMALL) {
        Ok(disk) => {
            eprintln!(
                "a full disk: a file system of {SMALL} bytes in a name space of its own, filled"
            );
            assert_eq!(troupe.end(id, "TERM"), Some(0));
            troupe.move_data(id, &disk.path.join("data"));
            troupe.begin(id, Role::Honest);
            troupe.healed(id);
            Some((disk.fill(), disk))
        }
        Err(why) => {
            eprintln!("a full disk: a limit on the length of files, as {why}");
            assert_eq!(troupe.end(id, "TERM"), Some(0));
            troupe.begin(id, Role::Limited(1 << 20));
            None
        }
    };
    // Space that the log had taken beforehand is used up first.
    let mut ended = None;
    eventually("a full disk ends it", || {
        burden(&troupe.etcd, 2);
        ended = ended.take().or_else(|| troupe.has_ended(id));
        ended.is_some().then_some(())
    });
    assert_eq!(ended, Some(Some(1)));
    let said = troupe.said(id);
    // Where files are not to be longer than they are, it may not even come to writing.
    let reasons = [
        "storage failed, and a replica must not say what it may forget",
        "the log could not be opened: disk failed",
    ];
    assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
    answers(workload, MEANWHILE);
    costs_a_moment(workload);
    if let Some((ballast, _disk)) = disk {
        std::fs::remove_file(ballast).expect("the ballast is removed");
        troupe.begin(id, Role::Honest);
        troupe.healed(id);
        assert_eq!(troupe.end(id, "TERM"), Some(0));
        troupe.move_data(id, &home);
    }
    troupe.begin(id, Role::Honest);
    troupe.healed(id);
}

/// The primary's flushes take long. Clients wait a little longer, and nobody is harmed.
fn slow_disk(troupe: &mut Troupe, workload: &Workload) {
    let disk = BadDisk::make(troupe.folder(), SLOW);
    let id = troupe.primary();
    assert_eq!(troupe.end(id, "TERM"), Some(0));
    troupe.begin(id, Role::Preloaded(&disk.library));
    troupe.healed(id);
    disk.slow_down();
    workload.longest_pause();
    answers(workload, 2 * MEANWHILE);
    costs_a_moment(workload);
    eventually("status names the slow disk", || {
        let status = troupe.status();
        let is_slow = |other: &usize| {
            status["replicas"][*other]["claim"]["disk"]["flush_ms"].as_f64() >= Some(50.0)
        };
        ((0..4).filter(is_slow).collect::<Vec<_>>() == [id]).then_some(())
    });
    disk.mend();
    troupe.healed(id);
    // Without that library, which another one is going to be given.
    assert_eq!(troupe.end(id, "TERM"), Some(0));
    troupe.begin(id, Role::Honest);
    troupe.healed(id);
}

/// A flush fails, and nobody knows what of it is on the disk: the replica says nothing that rests on it, and ends. It comes
/// back from what is really there.
fn broken_disk(troupe: &mut Troupe, workload: &Workload, id: usize) {
    let disk = BadDisk::make(troupe.folder(), 0);
    assert_eq!(troupe.end(id, "TERM"), Some(0));
    troupe.begin(id, Role::Preloaded(&disk.library));
    troupe.healed(id);
    workload.longest_pause();
    disk.break_down();
    assert_eq!(troupe.ended(id), Some(1));
    let said = troupe.said(id);
    let reason = "storage failed, and a replica must not say what it may forget";
    assert!(said.contains(reason), "{said}");
    answers(workload, MEANWHILE);
    costs_a_moment(workload);
    disk.mend();
    troupe.begin(id, Role::Honest);
    troupe.healed(id);
}

fn costs_a_moment(workload: &Workload) {
    let pause = workload.longest_pause();
    eprintln!("the longest time without an answer: {pause:.1?}");
    assert!(pause < MOMENT, "nobody was answered for {pause:?}");
}

/// It forges what it sends, and is caught at it; then an honest process takes its place.
fn liar(troupe: &mut Troupe, workload: &Workload, id: usize) {
    assert_eq!(troupe.end(id, "TERM"), Some(0));
    troupe.begin(id, Role::Liar);
    let row = eventually("the liar is caught", || {
        let row = troupe.row(id);
        let caught =
            row["caught"].as_array().is_some_and(|all| all.iter().any(|it| it["proved"] == true));
        caught.then_some(row)
    });
    answers(workload, MEANWHILE);
    convicted_by_files(troupe, id);
    assert_eq!(troupe.end(id, "TERM"), Some(0), "{row:#}");
    troupe.begin(id, Role::Honest);
    troupe.healed(id);
    // What it signed is not in its log: it knows that now, and follows. And as it is convicted it never votes again.
    let refused = "it is convicted of having lied";
    let row = eventually("it is refused", || {
        let row = troupe.row(id);
        (row["claim"]["comeback"]["why"] == refused).then_some(row)
    });
    assert_eq!(row["claim"]["standing"], "forgotten", "{row:#}");
    assert_eq!((&row["claim"]["epoch"], &row["claim"]["incarnation"]), (&1.into(), &0.into()));
    for other in (0..4).filter(|other| *other != id) {
        for name in ["testudo_evidence_sets", "testudo_evidence_accused"] {
            assert!(troupe.metric(other, name) > 0, "{name} at replica {other}");
        }
    }
    let output = testudo(&["status", "--cluster", &troupe.cluster]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    for what in [
        "FORGOTTEN, does not vote: is refused: it is convicted of having lied",
        "Replica that has forgotten what it promised, and only follows: 1.",
    ] {
        assert!(shown.contains(what), "{shown}");
    }
    for (other, row) in troupe.status()["replicas"].as_array().expect("rows").iter().enumerate() {
        let is_accused = row["caught"].as_array().is_some_and(|all| !all.is_empty());
        assert_eq!(is_accused, other == id, "{row:#}");
    }
}

/// The files that the others keep convict it with public keys alone.
fn convicted_by_files(troupe: &Troupe, id: usize) {
    let files = troupe.evidence();
    let mut words = vec!["evidence", "verify", "--json", "--cluster", &troupe.cluster];
    words.extend(files.iter().map(String::as_str));
    let output = testudo(&words);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for finding in found.as_array().expect("a list") {
        assert_eq!((&finding["accused"], &finding["convicted"]), (&id.into(), &true.into()));
    }
}
