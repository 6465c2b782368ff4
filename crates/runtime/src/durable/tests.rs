//! What is on the disk comes back, and what is not is named.

use super::*;
use crate::disk::FsDisk;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use testudo_core::{Encode as _, Epoch, Incarnation, Lost, Rot, Slot, View};
use testudo_wal::{Disk, DiskError, DiskErrorKind, DiskFile};

type Opened = Result<(DurableStorage<Arc<FsDisk>>, Recovered), StorageError>;

fn open(folder: &Path) -> Opened {
    DurableStorage::open(Arc::new(FsDisk::open(folder).unwrap()), Identity([3; 16]), false, LAST)
}

fn files(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let named = entries.filter(|entry| entry.file_name().to_str().unwrap().starts_with(prefix));
    named.map(|entry| entry.path()).collect()
}

fn flip(path: &Path, what: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(what.len()).position(|window| window == what).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

const PROMISE: Promise = Promise { epoch: Epoch(2), view: View(7), incarnation: Incarnation(1) };

/// The incarnation that it has spoken as last.
const LAST: Incarnation = PROMISE.incarnation;

/// Three records of which the first is forgotten, a promise and a snapshot.
fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, recovered) = open(folder.path()).unwrap();
    assert_eq!(recovered.next, Position(0));
    assert_eq!((recovered.promise, recovered.snapshots.len()), (None, 0));
    for (position, record) in ["first record", "second record", "third record"].iter().enumerate() {
        let tag = Tag::Vote(Slot(position as u64));
        storage.append(Position(position as u64), tag, record.as_bytes()).unwrap();
    }
    storage.flush().unwrap();
    storage.promise(PROMISE).unwrap();
    let mut writer = storage.snapshots();
    writer.write(&mut |put| assert!(put(b"an early state"))).unwrap();
    let bytes = writer.write(&mut |put| assert!(put(b"all ") && put(b"") && put(b"of it")));
    assert!(bytes.unwrap() > 9);
    storage.forget(Position(1)).unwrap();
    folder
}

/// All records that come back, each with its position.
fn read(recovered: &mut Recovered) -> Vec<(u64, Option<String>)> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let records = recovered.records.by_ref().map(|record| record.unwrap());
    records.map(|(position, bytes)| (position.0, bytes.map(text))).collect()
}

#[test]
fn what_was_kept_comes_back_and_what_was_forgotten_does_not() {
    let folder = filled();
    let (mut storage, mut recovered) = open(folder.path()).unwrap();
    let records = [(1, Some("second record".to_owned())), (2, Some("third record".to_owned()))];
    assert_eq!(read(&mut recovered), records);
    assert_eq!(recovered.promise, Some(PROMISE));
    assert_eq!(recovered.forgotten, Position(1));
    let [snapshot, _] = &mut recovered.snapshots[..] else { panic!("the last two are kept") };
    for piece in [&b"all "[..], b"", b"of it"] {
        assert_eq!(snapshot.next().unwrap().as_deref(), Some(piece));
    }
    assert_eq!(snapshot.next().unwrap(), None);
    assert_eq!((recovered.lost, recovered.next), (vec![], Position(3)));
    assert_eq!(storage.read(Position(2)).unwrap().unwrap(), b"third record");
    assert_eq!(storage.read(Position(9)).unwrap(), None);
    assert!(storage.append(Position(9), Tag::Body, b"out of order").is_err());
}

#[test]
fn a_record_that_rots_is_lost_by_name_unless_it_was_forgotten() {
    let folder = filled();
    let segment = &files(folder.path(), "log-")[0];
    flip(segment, b"first record");
    assert_eq!(open(folder.path()).unwrap().1.lost, []);
    flip(segment, b"second record");
    let (mut storage, mut recovered) = open(folder.path()).unwrap();
    let tag = Some(Tag::Vote(Slot(1)));
    assert_eq!(recovered.lost, [Lost { position: Position(1), tag }]);
    assert_eq!(read(&mut recovered), [(1, None), (2, Some("third record".to_owned()))]);
    assert_eq!(storage.read(Position(1)).unwrap(), None);
}

/// It starts, and says so at every start from then on, whatever is written meanwhile.
fn starts_as_one_that_has_forgotten(folder: &Path) {
    for _ in 0..3 {
        let (mut storage, recovered) = open(folder).unwrap();
        let unknown = Lost { position: recovered.next, tag: None };
        assert_eq!((recovered.promise, recovered.lost.last()), (None, Some(&unknown)));
        storage.promise(PROMISE).unwrap();
        storage.append(recovered.next, Tag::Body, b"heard since").unwrap();
        storage.flush().unwrap();
    }
}

#[test]
fn who_has_forgotten_what_it_said_never_believes_otherwise() {
    let folder = filled();
    for file in files(folder.path(), "superblock") {
        flip(&file, &PROMISE.to_bytes());
    }
    starts_as_one_that_has_forgotten(folder.path());

    let folder = filled();
    for file in files(folder.path(), "superblock") {
        fs::remove_file(file).unwrap();
    }
    starts_as_one_that_has_forgotten(folder.path());

    let folder = filled();
    for file in files(folder.path(), "log-") {
        fs::remove_file(file).unwrap();
    }
    starts_as_one_that_has_forgotten(folder.path());

    // A folder that served once, and of which all is gone.
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(FsDisk::open(folder.path()).unwrap());
    drop(DurableStorage::open(disk, Identity([3; 16]), true, LAST).unwrap());
    starts_as_one_that_has_forgotten(folder.path());
}

/// A folder of which both copies of the superblock are damaged.
fn amnesiac() -> tempfile::TempDir {
    let folder = filled();
    for file in files(folder.path(), "superblock") {
        flip(&file, &PROMISE.to_bytes());
    }
    folder
}

/// Makes promises at one start after the other, and says what was known before each: the promise, and whether nothing is lost.
fn promised(
    folder: &Path,
    last: Incarnation,
    promises: &[Promise],
) -> Vec<(Option<Promise>, bool)> {
    let one = |promise: &Promise| {
        let disk = Arc::new(FsDisk::open(folder).unwrap());
        let opened = DurableStorage::open(disk, Identity([3; 16]), true, last);
        let (mut storage, Recovered { promise: known, lost, .. }) = opened.unwrap();
        storage.promise(*promise).unwrap();
        (known, lost.is_empty())
    };
    promises.iter().map(one).collect()
}

#[test]
fn who_comes_back_under_another_key_knows_all_that_it_said_with_it() {
    let folder = amnesiac();
    let back = |incarnation| Promise { epoch: Epoch(5), incarnation, ..PROMISE };
    let (old, new) = (back(LAST), back(LAST.next()));
    // What it goes through on its way is no return.
    let known = promised(folder.path(), LAST, &[back(Incarnation(0)), old, old, new, new, new]);
    let (forgotten, all) = ((None, false), (Some(new), true));
    assert_eq!(known, [forgotten, forgotten, forgotten, forgotten, all, all]);
    // It is lost again: what it said as that incarnation is forgotten, too.
    for file in files(folder.path(), "superblock") {
        flip(&file, &new.to_bytes());
    }
    let newest = back(LAST.next().next());
    let known = promised(folder.path(), LAST.next(), &[new, new, newest, newest]);
    assert_eq!(known, [forgotten, forgotten, forgotten, (Some(newest), true)]);
}

#[test]
fn what_is_written_after_the_log_was_lost_is_read_again() {
    let folder = filled();
    for file in files(folder.path(), "log-") {
        fs::remove_file(file).unwrap();
    }
    let (mut storage, recovered) = open(folder.path()).unwrap();
    assert_eq!((recovered.promise, recovered.next), (None, Position(0)));
    storage.append(Position(0), Tag::Body, b"heard since").unwrap();
    storage.flush().unwrap();
    storage.promise(Promise { incarnation: LAST.next(), ..PROMISE }).unwrap();
    drop((storage, recovered));
    let (_, mut recovered) = open(folder.path()).unwrap();
    assert_eq!(read(&mut recovered), [(0, Some("heard since".to_owned()))]);
    assert_eq!((recovered.lost, recovered.forgotten), (vec![], Position(0)));
}

#[test]
fn what_was_forgotten_before_the_superblock_was_lost_is_no_loss_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = open(folder.path()).unwrap();
    let record = vec![7; 1 << 20];
    for position in 0..40 {
        storage.append(Position(position), Tag::Body, &record).unwrap();
        storage.flush().unwrap();
    }
    storage.promise(PROMISE).unwrap();
    storage.forget(Position(38)).unwrap();
    drop(storage);
    for file in files(folder.path(), "superblock") {
        flip(&file, &PROMISE.to_bytes());
    }
    let (mut storage, recovered) = open(folder.path()).unwrap();
    assert_eq!(recovered.lost, [Lost { position: Position(40), tag: None }]);
    assert!(recovered.forgotten > Position(0), "older segments are gone");
    storage.promise(Promise { incarnation: LAST.next(), ..PROMISE }).unwrap();
    drop((storage, recovered));
    assert_eq!(open(folder.path()).unwrap().1.lost, []);
}

#[test]
fn a_return_that_power_cuts_short_has_happened_or_not() {
    let whole = amnesiac();
    drop(open(whole.path()).unwrap());
    let back = Promise { epoch: Epoch(5), incarnation: LAST.next(), ..PROMISE };
    // The superblock is written copy by copy: either may be torn, or be of before or after.
    let before: Vec<_> = files(whole.path(), "superblock")
        .iter()
        .map(|it| (it.clone(), fs::read(it).unwrap()))
        .collect();
    let (mut storage, _) = open(whole.path()).unwrap();
    storage.promise(back).unwrap();
    drop(storage);
    let after: Vec<_> =
        before.iter().map(|(path, _)| (path.clone(), fs::read(path).unwrap())).collect();
    for torn in 0..before.len() {
        for (is_new, images) in [(false, &before), (true, &after)] {
            for (path, bytes) in images {
                fs::write(path, bytes).unwrap();
            }
            let (path, bytes) = &images[torn];
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            let (_, recovered) = open(whole.path()).unwrap();
            assert_eq!(recovered.promise, is_new.then_some(back));
            assert_eq!(recovered.lost.is_empty(), is_new);
        }
    }
}

#[test]
fn a_superblock_of_another_version_is_refused_with_what_to_do() {
    for bytes in [&[0; 10][..], &[1, 7, 0], b"", &[3]] {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(FsDisk::open(folder.path()).unwrap());
        let (mut superblock, _) =
            Superblock::open(disk.clone(), "superblock", Identity([3; 16])).unwrap();
        superblock.store(bytes).unwrap();
        drop((superblock, disk));
        let refused = open(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("another version of testudo"), "{refused}");
        assert!(refused.contains("empty data folder"), "{refused}");
    }
}

#[test]
fn a_first_boot_that_was_cut_short_has_forgotten_nothing() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    for file in files(folder.path(), "log-") {
        fs::remove_file(file).unwrap();
    }
    let (_, recovered) = open(folder.path()).unwrap();
    assert_eq!((recovered.lost, recovered.next), (vec![], Position(0)));
}

#[test]
fn a_log_without_its_newest_records_says_that_something_is_lost() {
    let folder = filled();
    let (mut storage, _) = open(folder.path()).unwrap();
    storage.forget(Position(3)).unwrap();
    drop(storage);
    // A log that ends before what was forgotten: what is there is of an older time than the superblock.
    let older = tempfile::tempdir().unwrap();
    drop(open(older.path()).unwrap());
    for file in files(folder.path(), "log-") {
        fs::remove_file(file).unwrap();
    }
    let log = &files(older.path(), "log-")[0];
    fs::copy(log, folder.path().join(log.file_name().unwrap())).unwrap();
    let (_, recovered) = open(folder.path()).unwrap();
    assert_eq!(recovered.lost.last().map(|lost| lost.tag), Some(None));
    assert_eq!(recovered.promise, Some(PROMISE));
}

#[test]
fn snapshots_that_are_damaged_or_gone_keep_nobody_from_starting() {
    let folder = filled();
    let newest = files(folder.path(), "snapshot").into_iter().max().unwrap();
    flip(&newest, b"of it");
    let mut recovered = open(folder.path()).unwrap().1;
    assert_eq!(recovered.snapshots[0].next().unwrap().unwrap(), b"all ");
    assert_eq!(recovered.snapshots[0].next().unwrap().unwrap(), b"");
    let damaged = recovered.snapshots[0].next().unwrap_err().to_string();
    assert!(damaged.contains("does not match its checksum"), "{damaged}");
    assert_eq!(recovered.snapshots[1].next().unwrap().unwrap(), b"an early state");
    drop(recovered);
    for file in files(folder.path(), "snapshot") {
        fs::remove_file(file).unwrap();
    }
    let recovered = open(folder.path()).unwrap().1;
    assert_eq!((recovered.snapshots.len(), recovered.forgotten), (0, Position(1)));
}

#[test]
fn a_scrub_finds_what_rots_while_the_storage_is_open() {
    let folder = filled();
    let (mut storage, _) = open(folder.path()).unwrap();
    let scrub = |storage: &mut DurableStorage<Arc<FsDisk>>| {
        let mut rot = Vec::new();
        loop {
            let found = storage.scrub(64).unwrap();
            rot.extend(found.rot);
            if found.is_round {
                return rot;
            }
        }
    };
    assert_eq!(scrub(&mut storage), []);
    let log = &files(folder.path(), "log-")[0];
    flip(log, b"first record");
    assert_eq!(scrub(&mut storage), [], "that is forgotten");
    flip(log, b"third record");
    let newest = files(folder.path(), "snapshot").into_iter().max().unwrap();
    flip(&newest, b"of it");
    let lost = Lost { position: Position(2), tag: Some(Tag::Vote(Slot(2))) };
    assert_eq!(scrub(&mut storage), [Rot::Record(lost), Rot::Snapshot]);
    assert_eq!(scrub(&mut storage), [], "told once");
    // A fresh snapshot takes the place of the rotten one at the one after it.
    let mut writer = storage.snapshots();
    writer.write(&mut |put| assert!(put(b"fresh"))).unwrap();
    writer.write(&mut |put| assert!(put(b"and more"))).unwrap();
    assert_eq!(scrub(&mut storage), []);
    let all = files(folder.path(), "snapshot").len();
    assert_eq!(all, 2);
    flip(&files(folder.path(), "snapshot")[0], b"e");
    assert_eq!(scrub(&mut storage), [Rot::Snapshot], "another one");
}

#[test]
fn another_nodes_disk_is_refused() {
    let folder = filled();
    let disk = Arc::new(FsDisk::open(folder.path()).unwrap());
    let refused =
        DurableStorage::open(disk, Identity([4; 16]), false, LAST).unwrap_err().to_string();
    assert!(refused.contains("belongs to"), "{refused}");
}

/// A disk of which a call fails, from a moment on: as one that is full, or whose flushes fail.
#[derive(Clone)]
struct Failing(Arc<FsDisk>, Arc<Mutex<Option<DiskErrorKind>>>);

struct FailingFile(crate::disk::FsFile, Arc<Mutex<Option<DiskErrorKind>>>);

fn fails(state: &Mutex<Option<DiskErrorKind>>, is_flush: bool) -> Result<(), DiskError> {
    match *state.lock().unwrap() {
        Some(DiskErrorKind::Full) if !is_flush => Err(DiskError::new(DiskErrorKind::Full, "write")),
        Some(kind @ DiskErrorKind::Failed) if is_flush => Err(DiskError::new(kind, "flush")),
        _ => Ok(()),
    }
}

impl Disk for Failing {
    type File = FailingFile;

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.0.list()
    }
    fn create(&self, name: &str, size: u64) -> Result<FailingFile, DiskError> {
        fails(&self.1, false)?;
        Ok(FailingFile(self.0.create(name, size)?, self.1.clone()))
    }
    fn open(&self, name: &str) -> Result<FailingFile, DiskError> {
        Ok(FailingFile(self.0.open(name)?, self.1.clone()))
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.0.remove(name)
    }
    fn flush(&self) -> Result<(), DiskError> {
        fails(&self.1, true)?;
        self.0.flush()
    }
}

impl DiskFile for FailingFile {
    fn size(&self) -> Result<u64, DiskError> {
        self.0.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        fails(&self.1, false)?;
        self.0.write_at(offset, bytes)
    }
    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.0.truncate(size)
    }
    fn flush(&self) -> Result<(), DiskError> {
        fails(&self.1, true)?;
        self.0.flush()
    }
}

#[test]
fn a_disk_that_is_full_or_fails_is_named_and_nothing_acknowledged_is_lost() {
    for (kind, words) in
        [(DiskErrorKind::Full, "disk full"), (DiskErrorKind::Failed, "disk failed")]
    {
        let folder = filled();
        let state = Arc::new(Mutex::new(None));
        let disk = Failing(Arc::new(FsDisk::open(folder.path()).unwrap()), state.clone());
        let (mut storage, _) = DurableStorage::open(disk, Identity([3; 16]), false, LAST).unwrap();
        storage.append(Position(3), Tag::Body, b"acknowledged").unwrap();
        storage.flush().unwrap();
        *state.lock().unwrap() = Some(kind);
        storage.append(Position(4), Tag::Body, b"not any more").unwrap();
        let error = storage.flush().unwrap_err().to_string();
        assert!(error.contains("flush the log") && error.contains(words), "{error}");
        // A later success would say nothing of what failed before.
        *state.lock().unwrap() = None;
        let again = storage.flush().unwrap_err().to_string();
        assert!(again.contains("the log failed before"), "{again}");
        assert!(storage.append(Position(5), Tag::Body, b"nor this").is_err());
        *state.lock().unwrap() = Some(kind);
        let mut snapshots = storage.snapshots();
        let error = snapshots
            .write(&mut |put| {
                let _ = put(b"a state");
            })
            .unwrap_err()
            .to_string();
        assert!(error.contains("write a snapshot") && error.contains(words), "{error}");
        let error = storage.promise(PROMISE).unwrap_err().to_string();
        assert!(error.contains("write the superblock") && error.contains(words), "{error}");
        drop((storage, snapshots));
        let (_, mut recovered) = open(folder.path()).unwrap();
        let records = read(&mut recovered);
        assert_eq!(
            records[..2],
            [(1, Some("second record".to_owned())), (2, Some("third record".to_owned()))]
        );
        assert_eq!(records[2], (3, Some("acknowledged".to_owned())));
        assert_eq!((recovered.lost.len(), recovered.snapshots.len()), (0, 2), "{words}");
    }
}
