//! Durable before visible: nothing leaves a node before what it rests on is on the disk, and a disk that fails stops it.

mod common;

use common::{Ask, Running, Site, Told, Word, until};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use testudo_core::{Encode as _, Lost, Position, Promise, Rot, Tag};
use testudo_runtime::Fatal;
use testudo_runtime::storage::{Put, Recovered, SnapshotWriter, Storage, StorageError};

#[derive(Default)]
struct State {
    is_held: bool,
    fails: bool,
    arrived: u64,
    flushes: u64,
    records: u64,
    promises: u64,
    forgotten: Position,
    snapshots_held: bool,
    snapshots: u64,
}

/// Storage whose flushes a test holds back, lets go, or lets fail.
#[derive(Clone, Default)]
struct Held {
    state: Arc<Mutex<State>>,
    change: Arc<Condvar>,
}

impl Held {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.change.notify_all();
    }

    fn get<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        read(&self.state.lock().unwrap())
    }

    fn pass(&self, done: impl FnOnce(&mut State)) -> Result<(), StorageError> {
        let mut state = self.state.lock().unwrap();
        state.arrived += 1;
        while state.is_held {
            state = self.change.wait(state).unwrap();
        }
        if state.fails {
            return Err(StorageError::new("the disk is on fire"));
        }
        done(&mut state);
        Ok(())
    }
}

impl Storage for Held {
    fn append(&mut self, _: Position, _: Tag, _: &[u8]) -> Result<(), StorageError> {
        self.set(|state| state.records += 1);
        Ok(())
    }
    fn flush(&mut self) -> Result<(), StorageError> {
        self.pass(|state| state.flushes += 1)
    }
    fn promise(&mut self, _: Promise) -> Result<(), StorageError> {
        self.pass(|state| state.promises += 1)
    }
    fn read(&mut self, _: Position) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(None)
    }
    fn forget(&mut self, before: Position) -> Result<(), StorageError> {
        self.set(|state| state.forgotten = before);
        Ok(())
    }
    fn snapshots(&mut self) -> Box<dyn SnapshotWriter> {
        Box::new(self.clone())
    }
}

impl SnapshotWriter for Held {
    fn write(&mut self, render: &mut dyn FnMut(Put<'_>)) -> Result<u64, StorageError> {
        let mut bytes = 0;
        render(&mut |piece| {
            bytes += piece.len() as u64;
            true
        });
        let mut state = self.state.lock().unwrap();
        while state.snapshots_held {
            state = self.change.wait(state).unwrap();
        }
        state.snapshots += 1;
        Ok(bytes)
    }
}

#[test]
fn nothing_leaves_before_what_it_rests_on_is_durable() {
    let mut site = Site::new(2);
    let disk = Held::default();
    let node = site.start_on(0, disk.clone(), Recovered::default());
    let other = site.start(1);
    disk.set(|state| state.is_held = true);
    node.ask(Ask::Publish(1));
    until("the flush begins", || disk.get(|state| state.arrived) == 1);
    // What is said later waits behind it, on the same lane and on any other.
    node.ask(Ask::Whisper(common::replica(1), 2));
    node.ask(Ask::Whisper(common::replica(0), 3));
    node.ask(Ask::Promise(4));
    // The other way is open, so that what could have come would have come.
    other.ask(Ask::Whisper(common::replica(0), 5));
    until("0 hears 1", || node.has_heard(1, &Word::Whisper(5)));
    assert_eq!(other.heard(), []);
    assert_eq!(node.told(), []);
    assert!(!node.has_heard(0, &Word::Whisper(3)), "not even to itself");

    disk.set(|state| state.is_held = false);
    until("all of it leaves", || other.has_heard(0, &Word::News(4)));
    let heard: Vec<Word> = other.heard().into_iter().map(|(_, word)| word).collect();
    assert_eq!(heard, [Word::News(1), Word::Whisper(2), Word::News(4)], "in order");
    assert_eq!(node.told(), [Told::Published(1), Told::Promised(4)]);
    assert_eq!(disk.get(|state| state.promises), 1);
}

#[test]
fn many_steps_share_a_flush() {
    let mut site = Site::new(1);
    let disk = Held::default();
    let node = site.start_on(0, disk.clone(), Recovered::default());
    disk.set(|state| state.is_held = true);
    node.ask(Ask::Publish(0));
    until("the first flush begins", || disk.get(|state| state.arrived) == 1);
    for number in 1..=200 {
        node.ask(Ask::Publish(number));
    }
    until("all steps are done", || {
        node.handle.inspect_blocking(|gossip| gossip.recorded.len()) == Some(201)
    });
    disk.set(|state| state.is_held = false);
    until("all are told", || node.told().len() == 201);
    assert_eq!(disk.get(|state| state.records), 201);
    let flushes = disk.get(|state| state.flushes);
    // The last of them may have been handed over just after the first flush had ended.
    assert!(flushes <= 3, "what gathered while one flush ran is one other, not {flushes}");
}

#[test]
fn a_record_on_which_nothing_waits_is_durable_soon_all_the_same() {
    let mut site = Site::new(1);
    let disk = Held::default();
    let node = site.start_on(0, disk.clone(), Recovered::default());
    node.ask(Ask::Note(1));
    until("it is flushed", || disk.get(|state| state.flushes) == 1);
    node.ask(Ask::Note(2));
    node.handle.shutdown();
    assert_eq!(disk.get(|state| state.records), 2, "and at the end in any case");
    assert_eq!(disk.get(|state| state.flushes), 2);
}

#[test]
fn a_failed_flush_stops_the_replica_and_nothing_leaves() {
    let mut site = Site::new(2);
    let disk = Held::default();
    let node = site.start_on(0, disk.clone(), Recovered::default());
    let other = site.start(1);
    node.ask(Ask::Whisper(common::replica(1), 1));
    until("they are connected", || other.has_heard(0, &Word::Whisper(1)));
    disk.set(|state| state.fails = true);
    node.ask(Ask::Publish(2));
    until("it stops", || node.handle.failure().is_some());
    let failure = node.handle.failure().unwrap();
    assert!(matches!(*failure, Fatal::Storage(_)), "{failure}");
    assert!(failure.to_string().contains("on fire"), "{failure}");
    assert!(!node.handle.input(Ask::Whisper(common::replica(1), 3)));
    node.handle.shutdown();
    assert_eq!(other.heard().len(), 1, "what rested on the flush never left");
}

#[test]
fn records_are_let_go_of_only_when_the_snapshot_is_durable() {
    let mut site = Site::new(1);
    let disk = Held::default();
    let node = site.start_on(0, disk.clone(), Recovered::default());
    disk.set(|state| state.snapshots_held = true);
    node.ask(Ask::Publish(1));
    node.ask(Ask::Compact);
    node.ask(Ask::Publish(2));
    until("all is published", || node.told().contains(&Told::Published(2)));
    assert_eq!(disk.get(|state| state.forgotten), Position(0));
    disk.set(|state| state.snapshots_held = false);
    until("the records are let go", || disk.get(|state| state.forgotten) == Position(2));
    assert_eq!(disk.get(|state| state.snapshots), 1);
}

#[test]
fn a_snapshot_is_written_only_when_what_it_rests_on_is_durable() {
    let mut site = Site::new(1);
    let disk = Held::default();
    let node = site.start_on(0, disk.clone(), Recovered::default());
    disk.set(|state| state.is_held = true);
    node.ask(Ask::Publish(1));
    node.ask(Ask::Keep);
    until("the flush begins", || disk.get(|state| state.arrived) == 1);
    // Work that would be done by now shows that the snapshot's writer has had its chance.
    assert_eq!(node.handle.inspect_blocking(|gossip| gossip.recorded.len()), Some(1));
    assert_eq!(disk.get(|state| state.snapshots), 0);
    disk.set(|state| state.is_held = false);
    until("it is written", || node.handle.metrics().snapshots_written() == 1);
    assert_eq!(disk.get(|state| state.snapshots), 1);
}

/// The newest snapshot in a node's folder.
fn snapshot_file(site: &Site) -> PathBuf {
    let folder = site.data(0).join("log");
    let mut files = common::files(&folder);
    files.retain(|name| name.ends_with(".snapshot"));
    assert!(files.len() <= 2, "{files:?}");
    folder.join(files.iter().max().unwrap())
}

fn flip_in_the_middle(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// What a node was started from: its snapshot, and how many records.
fn past(node: &Running) -> (Option<Vec<u64>>, usize) {
    let past = node.handle.inspect_blocking(|gossip| gossip.past.clone()).unwrap();
    (past.snapshot.map(|kept| kept.0), past.records.len())
}

#[test]
fn a_node_starts_from_its_newest_snapshot_and_the_log() {
    let mut site = Site::new(1);
    let node = site.start(0);
    for number in 1..=3 {
        node.ask(Ask::Publish(number));
        node.ask(Ask::Keep);
    }
    // Those that wait while one is written may give way to the last, which is written in any case.
    node.ask(Ask::Publish(4));
    node.handle.shutdown();
    let node = site.start(0);
    assert_eq!(past(&node), (Some(vec![1, 2, 3]), 4), "nobody let go of the log");
    assert_eq!(node.handle.metrics().lost_snapshots(), 0);
}

#[test]
fn a_snapshot_that_rots_is_not_used_and_the_log_stands_for_it() {
    let mut site = Site::new(1);
    let node = site.start(0);
    (1..=3).for_each(|number| node.ask(Ask::Publish(number)));
    node.ask(Ask::Keep);
    node.handle.shutdown();
    flip_in_the_middle(&snapshot_file(&site));
    let node = site.start(0);
    assert_eq!(past(&node), (None, 3));
    assert_eq!(node.handle.metrics().lost_snapshots(), 1);
    // The next one takes its place.
    node.ask(Ask::Keep);
    node.handle.shutdown();
    let node = site.start(0);
    assert_eq!(past(&node), (Some(vec![1, 2, 3]), 3));
    assert!(node.handle.metrics().render().contains("testudo_snapshots_lost_total 0"));
}

#[test]
fn without_the_snapshot_that_stood_for_it_a_node_knows_that_something_is_lost() {
    let mut site = Site::new(1);
    let node = site.start(0);
    node.ask(Ask::Publish(1));
    node.ask(Ask::Compact);
    until("the snapshot is written", || node.handle.metrics().snapshots_written() == 1);
    // Another record after it tells when the older ones have been let go of.
    node.ask(Ask::Publish(2));
    until("that is told", || node.told().contains(&Told::Published(2)));
    node.handle.shutdown();
    let node = site.start(0);
    assert_eq!(past(&node), (Some(vec![1, 0]), 1));
    node.handle.shutdown();
    flip_in_the_middle(&snapshot_file(&site));
    let node = site.start(0);
    assert_eq!(past(&node), (None, 1));
    let lost = node.handle.inspect_blocking(|gossip| gossip.past.lost.clone());
    assert_eq!(lost, Some(vec![Lost { position: Position(3), tag: None }]));
}

/// Starts a node that looks at its disk all the time.
fn watchful(site: &mut Site) -> Running {
    site.scrub = 1 << 30;
    site.start(0)
}

#[test]
fn rot_is_found_while_a_node_runs_and_goes_without_a_restart() {
    let mut site = Site::new(1);
    let node = watchful(&mut site);
    (0..100).for_each(|number| node.ask(Ask::Publish(0x1122_3344_5566_7700 + number)));
    until("all is published", || node.told().len() == 100);
    let segment = site.data(0).join("log").join("log-0000000000000000.segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    let record = 0x1122_3344_5566_7742_u64.to_bytes();
    let at = bytes.windows(record.len()).position(|window| window == record).unwrap();
    bytes[at] ^= 1;
    // In place, as rot is: the log goes on in the same file.
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::OpenOptions::new().write(true).open(&segment).unwrap(),
        &bytes[at..=at],
        at as u64,
    )
    .unwrap();
    until("the node is told", || node.told().iter().any(|told| matches!(told, Told::Rotten(_))));
    let lost = Lost { position: Position(0x42), tag: Some(Tag::Other) };
    assert!(node.told().contains(&Told::Rotten(Rot::Record(lost))));
    assert_eq!(node.handle.metrics().rot_found(), (1, 0));
    // It lets go of everything, and at its next start nothing is missing.
    node.ask(Ask::Compact);
    until("the snapshot is written", || node.handle.metrics().snapshots_written() == 1);
    node.ask(Ask::Publish(1));
    until("that is told", || node.told().contains(&Told::Published(1)));
    flip_in_the_middle(&snapshot_file(&site));
    until("the node is told", || node.told().contains(&Told::Rotten(Rot::Snapshot)));
    node.ask(Ask::Keep);
    until("another is written", || node.handle.metrics().snapshots_written() == 2);
    node.handle.shutdown();
    let node = site.start(0);
    assert_eq!(
        (node.handle.metrics().lost_records(), node.handle.metrics().lost_snapshots()),
        (0, 0)
    );
    assert_eq!(past(&node).0.map(|recorded| recorded.len()), Some(102));
}

#[test]
fn stopping_waits_for_what_may_still_be_said() {
    let mut site = Site::new(2);
    let disk = Held::default();
    let node = site.start_on(0, disk.clone(), Recovered::default());
    let other = site.start(1);
    node.ask(Ask::Whisper(common::replica(1), 1));
    until("they are connected", || other.has_heard(0, &Word::Whisper(1)));
    disk.set(|state| state.is_held = true);
    node.ask(Ask::Publish(2));
    until("the flush begins", || disk.get(|state| state.arrived) == 1);
    let release = std::thread::spawn({
        let disk = disk.clone();
        move || {
            std::thread::sleep(Duration::from_millis(20));
            disk.set(|state| state.is_held = false);
        }
    });
    node.handle.shutdown();
    release.join().unwrap();
    until("the last words arrive", || other.has_heard(0, &Word::News(2)));
}
