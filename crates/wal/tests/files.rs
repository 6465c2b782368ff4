//! How many files are open at a time, and snapshots whose chunks are made one by one.

use std::cell::Cell;
use std::rc::Rc;
use testudo_wal::{
    Disk, DiskError, DiskFile, Identity, Log, MemoryDisk, MemoryFile, Options, Snapshots,
};

const IDENTITY: Identity = Identity(*b"files and chunks");

/// A disk that counts what is open.
#[derive(Clone, Default)]
struct Counting {
    disk: MemoryDisk,
    open: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
}

struct Counted {
    file: MemoryFile,
    open: Rc<Cell<usize>>,
}

impl Counting {
    fn count(&self, file: MemoryFile) -> Counted {
        self.open.set(self.open.get() + 1);
        self.most.set(self.most.get().max(self.open.get()));
        Counted { file, open: self.open.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

impl Disk for Counting {
    type File = Counted;

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.disk.list()
    }
    fn create(&self, name: &str, size: u64) -> Result<Counted, DiskError> {
        self.disk.create(name, size).map(|file| self.count(file))
    }
    fn open(&self, name: &str) -> Result<Counted, DiskError> {
        self.disk.open(name).map(|file| self.count(file))
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.disk.remove(name)
    }
    fn flush(&self) -> Result<(), DiskError> {
        self.disk.flush()
    }
}

impl DiskFile for Counted {
    fn size(&self) -> Result<u64, DiskError> {
        self.file.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_at(offset, bytes)
    }
    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.file.truncate(size)
    }
    fn flush(&self) -> Result<(), DiskError> {
        self.file.flush()
    }
}

fn record(position: u64) -> Vec<u8> {
    vec![position as u8; 1500]
}

#[test]
fn a_log_of_many_segments_keeps_few_files_open() {
    let disk = Counting::default();
    let options = Options { segment_bytes: 4096, ..Options::default() };
    let (mut log, _) = Log::open(disk.clone(), IDENTITY, options).unwrap();
    for position in 0..100 {
        log.append(0, &record(position)).unwrap();
        log.flush().unwrap();
        log.prepare().unwrap();
    }
    // Several segments that are filled by one flush are closed, too.
    (100..200).for_each(|position| assert_eq!(log.append(0, &record(position)), Ok(position)));
    log.flush().unwrap();
    assert!(disk.list().unwrap().len() >= 100);
    assert!(disk.open.get() <= 2, "the last segment and a spare one, not {}", disk.open.get());
    // Reading opens a few again, in whatever order, and forgets none of what they hold.
    for step in 0..200 {
        let position = step * 77 % 200;
        assert_eq!(log.read(position), Ok(record(position)));
    }
    assert!(log.records(0).all(|(position, read)| read == Ok(record(position))));
    assert!(disk.open.get() <= 6, "not {}", disk.open.get());
    log.truncate_before(190).unwrap();
    assert!(log.first() > 150 && log.read(195) == Ok(record(195)));
    drop(log);
    assert_eq!(disk.open.get(), 0);

    disk.most.set(0);
    let (log, recovered) = Log::open(disk.clone(), IDENTITY, options).unwrap();
    assert_eq!((recovered.next, recovered.damaged), (200, vec![]));
    assert!(disk.most.get() <= 2, "opening needs no more, but had {}", disk.most.get());
    assert_eq!(log.read(199), Ok(record(199)));
}

#[test]
fn an_unfinished_snapshot_is_never_seen_and_leaves_nothing() {
    let disk = MemoryDisk::new();
    let snapshots = Snapshots::new(disk.clone(), "state", IDENTITY);
    let mut writer = snapshots.begin(3).unwrap();
    writer.put(b"one").unwrap();
    assert_eq!(snapshots.list(), Ok(vec![]));
    drop(writer);
    assert_eq!(disk.list(), Ok(vec![]));

    let mut writer = snapshots.begin(4).unwrap();
    writer.put(b"one").unwrap();
    writer.put(b"two").unwrap();
    let before = writer.bytes();
    let digest = writer.finish().unwrap();
    assert!(disk.get(&disk.list().unwrap()[0]).unwrap().len() as u64 > before);
    let mut reader = snapshots.read(4).unwrap();
    assert_eq!(reader.next_chunk(), Ok(Some(b"one".to_vec())));
    assert_eq!(reader.next_chunk(), Ok(Some(b"two".to_vec())));
    assert_eq!(reader.next_chunk(), Ok(None));
    // However the chunks are handed over, the file is the same.
    assert_eq!(snapshots.write(4, [b"one", b"two"]), Ok(digest));
}
