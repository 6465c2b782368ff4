//! Durable before visible: nothing leaves a node before what it rests on is on the disk, and a disk that fails stops it.

extern crate alloc;

mod common;

use common::{Ask, Site, Told, Word, until};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use testudo_core::{Position, Promise};
use testudo_runtime::Fatal;
use testudo_runtime::storage::{Recovered, SnapshotWriter, Storage, StorageError};

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
    fn append(&mut self, _: Position, _: &[u8]) -> Result<(), StorageError> {
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
    fn write(&mut self, _: &[u8]) -> Result<(), StorageError> {
        let mut state = self.state.lock().unwrap();
        while state.snapshots_held {
            state = self.change.wait(state).unwrap();
        }
        state.snapshots += 1;
        Ok(())
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
