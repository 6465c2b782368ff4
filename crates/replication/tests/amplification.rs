//! How much is written for what is put: log, zeros for the log's files, snapshots and superblock, on the real formats.

mod cluster;

use cluster::{Cluster, Node, Tape, client};
use std::cell::RefCell;
use std::rc::Rc;
use testudo_core::{Effect, Encode, Peer, Position, Tagged, Target};
use testudo_replication::ReplicaMessage;
use testudo_wal::{
    Disk, DiskError, DiskFile, Identity, Log, MemoryDisk, MemoryFile, Options, Snapshots,
    Superblock,
};

/// The size that the log's stretches, its files and the state have here. In production each is thirty-two times that or more,
/// which changes nothing of how they relate, and takes less for headers.
const SCALE: u64 = 1 << 19;
const VALUE: usize = 1024;
const KEYS: u64 = 450;

/// Bytes written, by what they were written to.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    log: u64,
    zeros: u64,
    snapshots: u64,
    superblock: u64,
}

impl Written {
    fn all(&self) -> u64 {
        self.log + self.zeros + self.snapshots + self.superblock
    }
}

/// A disk that counts.
#[derive(Clone)]
struct Counting(MemoryDisk, Rc<RefCell<Written>>);

struct File(MemoryFile, String, Rc<RefCell<Written>>);

impl Disk for Counting {
    type File = File;

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.0.list()
    }
    fn create(&self, name: &str, size: u64) -> Result<File, DiskError> {
        self.1.borrow_mut().zeros += size;
        Ok(File(self.0.create(name, size)?, name.into(), self.1.clone()))
    }
    fn open(&self, name: &str) -> Result<File, DiskError> {
        Ok(File(self.0.open(name)?, name.into(), self.1.clone()))
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.0.remove(name)
    }
    fn flush(&self) -> Result<(), DiskError> {
        self.0.flush()
    }
}

impl DiskFile for File {
    fn size(&self) -> Result<u64, DiskError> {
        self.0.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut written = self.2.borrow_mut();
        let count = match self.1.split('-').next() {
            Some("log") => &mut written.log,
            Some("snapshot") => &mut written.snapshots,
            _ => &mut written.superblock,
        };
        *count += bytes.len() as u64;
        self.0.write_at(offset, bytes)
    }
    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.0.truncate(size)
    }
    fn flush(&self) -> Result<(), DiskError> {
        self.0.flush()
    }
}

/// What a driver keeps for one replica.
struct Store {
    disk: Counting,
    log: Log<Counting>,
    superblock: Superblock<Counting>,
    snapshots: Snapshots<Counting>,
    taken: u64,
    /// The most bytes that all files had at once.
    most: u64,
}

impl Store {
    fn new() -> Self {
        let disk = Counting(MemoryDisk::new(), Rc::default());
        let identity = Identity([1; 16]);
        let options = Options { segment_bytes: SCALE, ..Options::default() };
        let (log, _) = Log::open(disk.clone(), identity, options).expect("an empty disk");
        let (superblock, _) =
            Superblock::open(disk.clone(), "superblock", identity).expect("an empty disk");
        let snapshots = Snapshots::new(disk.clone(), "snapshot", identity);
        Self { disk, log, superblock, snapshots, taken: 0, most: 0 }
    }

    /// Carries out what concerns a disk. Snapshots are durable at once here.
    fn take(&mut self, effect: &Effect<Node>) {
        match effect {
            Effect::Persist(position, record) => {
                let at = self.log.append(record.tag().to_bits(), &record.to_bytes());
                assert_eq!(at.map(Position), Ok(*position));
                // Two or three records share a flush, about: how many they are changes nothing of what is counted.
                self.log.flush().expect("a disk in memory");
            }
            Effect::Promise(promise) => {
                self.superblock.store(&promise.to_bytes()).expect("a disk in memory");
            }
            Effect::Snapshot(snapshot) => {
                self.taken += 1;
                let mut writer = self.snapshots.begin(self.taken).expect("a disk in memory");
                snapshot.pieces(&mut |piece| writer.put(piece).is_ok());
                writer.finish().expect("a disk in memory");
                self.snapshots.remove_before(self.taken.saturating_sub(1)).expect("in memory");
            }
            Effect::Forget(before) => {
                self.superblock.store(&before.to_bytes()).expect("a disk in memory");
                self.log.truncate_before(before.0).expect("a disk in memory");
                let files = self.disk.list().expect("a disk in memory");
                let sizes = files.iter().map(|name| self.disk.0.get(name).map_or(0, |f| f.len()));
                self.most = self.most.max(sizes.sum::<usize>() as u64);
            }
            _ => {}
        }
    }
}

/// Values of 1 KiB, from three clients that have eight under way each, over a state that is as large as a stretch of log:
/// the worst case for snapshots, as a smaller state takes less and a larger one is written more seldom.
#[test]
fn four_bytes_are_written_at_most_for_one_that_is_put() {
    let mut cluster = Cluster::new(64, Tape { is_shelf: true, ..Tape::default() });
    cluster.config.order.snapshot_bytes = SCALE;
    (0..4).for_each(|id| cluster.restart(id));
    let store = Rc::new(RefCell::new(Store::new()));
    let seen = store.clone();
    let mut base = None;
    cluster.writes = Box::new(move |id, effect| {
        if id == 1 {
            // The replica has written a little before it is watched.
            let moved = match effect {
                Effect::Persist(position, record) => {
                    let base = *base.get_or_insert(position.0);
                    Effect::Persist(Position(position.0 - base), record.clone())
                }
                Effect::Forget(before) => Effect::Forget(Position(before.0 - base.unwrap_or(0))),
                Effect::Promise(promise) => Effect::Promise(*promise),
                Effect::Snapshot(snapshot) => Effect::Snapshot(snapshot.clone()),
                _ => return,
            };
            seen.borrow_mut().take(&moved);
        }
    });
    let sessions = [1, 2, 3].map(|name| cluster.open(name));
    let (mut sequence, mut put, mut key, mut from) = (0, 0, 0_u64, None);
    while store.borrow().taken < 11 {
        for of in sequence..sequence + 8 {
            for (name, session) in (1..).zip(sessions) {
                let mut value = vec![(of % 251) as u8; VALUE];
                value[..8].copy_from_slice(&(key % KEYS).to_be_bytes());
                key += 7;
                put += value.len() as u64;
                let bundle = ReplicaMessage::Bundle(Cluster::bundle(session, of + 1, &value));
                cluster.post(Peer::Client(client(name)), Target::Replicas, bundle);
            }
        }
        sequence += 8;
        cluster.run();
        cluster.heard.clear();
        cluster.nodes.iter_mut().for_each(|node| node.events.clear());
        if from.is_none() && store.borrow().taken == 1 {
            from = Some((put, *store.borrow().disk.1.borrow()));
        }
    }
    let store = store.borrow();
    let written = *store.disk.1.borrow();
    let (put_before, before) = from.expect("ten snapshots were written after the first");
    let per_byte = |all: u64| all as f64 / (put - put_before) as f64;
    let amplification = per_byte(written.all() - before.all());
    println!(
        "{amplification:.2} bytes per byte: log {:.2}, zeros {:.2}, snapshots {:.2}; {} bytes at most",
        per_byte(written.log - before.log),
        per_byte(written.zeros - before.zeros),
        per_byte(written.snapshots - before.snapshots),
        store.most,
    );
    assert!(amplification <= 4.0, "{amplification}");
    // Two stretches of log, two snapshots, and what a segment is longer than its share.
    assert!(store.most <= 7 * SCALE, "{} bytes lie on the disk", store.most);
}
