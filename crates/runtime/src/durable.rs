//! Storage on a disk: the log, the superblock and the snapshots of `testudo-wal` as one.
//!
//! The superblock holds the promise and how far records are forgotten: the log lets go of whole segments only, and what
//! an automaton had let go of must neither come back to it nor, when it rots, be taken for a loss.

use crate::storage::{Put, Recovered, SnapshotReader, SnapshotWriter, Storage, StorageError};
use testudo_core::{Decode, Encode, Lost, Position, Promise, Tag, wire_struct};
use testudo_wal::{
    CHUNK_MAX, Disk, Identity, Loaded, Log, OpenError, Options, ReadError, SnapshotError,
    Snapshots, Superblock,
};

/// Bytes of a segment of the log.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Lost positions that are told one by one. Where a damaged place may have held more, it is not a place but a disk that
/// is gone.
const LOST: u64 = 1 << 20;

/// What the superblock holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Essentials {
    promise: Option<Promise>,
    forgotten: Position,
}
wire_struct!(Essentials { promise, forgotten });

/// Log, superblock and snapshots on one disk.
pub struct DurableStorage<D: Disk> {
    disk: D,
    identity: Identity,
    log: Log<D>,
    superblock: Superblock<D>,
    essentials: Essentials,
    /// The number of the next snapshot.
    next_snapshot: u64,
}

impl<D: Disk> std::fmt::Debug for DurableStorage<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DurableStorage")
            .field("essentials", &self.essentials)
            .finish_non_exhaustive()
    }
}

impl<D> DurableStorage<D>
where
    D: Disk + Clone + Send + Sync + 'static,
    D::File: Send,
{
    /// Opens what belongs to this identity on the disk, or begins it, and reads all of it back.
    ///
    /// # Errors
    /// When the disk fails, belongs to somebody else, was written by another version, or has lost what no replica may
    /// go on without: its promise, its whole log, or every snapshot although records are forgotten.
    pub fn open(
        disk: D,
        identity: Identity,
        had_data: bool,
    ) -> Result<(Self, Recovered), StorageError> {
        let (mut superblock, loaded) = Superblock::open(disk.clone(), "superblock", identity)
            .map_err(|error| StorageError::caused("open the superblock", error))?;
        let known = essentials(loaded)?;
        // Before the log is opened, which begins one where there is none: otherwise the next start would find a log
        // that is merely empty.
        if known.is_some() && !has_log(&disk)? {
            return Err(StorageError::new(
                "the superblock is there and the log is gone: this replica has forgotten what it said",
            ));
        }
        if known.is_none() && had_data {
            return Err(StorageError::new(
                "this folder has served this replica, and its log and superblock are gone: it has forgotten what \
                 it promised, and may come back only under a new voting key",
            ));
        }
        let forgotten = known.map_or(Position(0), |known| known.forgotten);
        let mut records = Vec::new();
        let (log, found) = Self::open_log(&disk, identity, forgotten, &mut records)?;
        match known {
            Some(_) if found.next < forgotten.0 => {
                return Err(StorageError::new(
                    "the log ends before what it may have forgotten: newer records of it are gone",
                ));
            }
            None if found.next > 0 => {
                return Err(StorageError::new(
                    "the log is there and the superblock is gone: this replica has forgotten what it \
                 promised, and may come back only under a new voting key",
                ));
            }
            Some(_) => {}
            None => superblock
                .store(&Essentials::default().to_bytes())
                .map_err(|error| StorageError::caused("begin the superblock", error))?,
        }
        let lost = lost(&found, forgotten)?;
        let (snapshots, next_snapshot) = find_snapshots(&disk, identity)?;
        let essentials = known.unwrap_or_default();
        if snapshots.is_empty() && essentials.forgotten > Position(0) {
            return Err(StorageError::new(
                "records are forgotten and the snapshot that stood for them is gone",
            ));
        }
        let recovered = Recovered {
            promise: essentials.promise,
            snapshots,
            forgotten,
            records,
            lost,
            next: Position(found.next),
        };
        Ok((Self { disk, identity, log, superblock, essentials, next_snapshot }, recovered))
    }

    fn open_log(
        disk: &D,
        identity: Identity,
        forgotten: Position,
        records: &mut Vec<(Position, Vec<u8>)>,
    ) -> Result<(Log<D>, testudo_wal::Recovered), StorageError> {
        let salt = getrandom::u64().map_err(|error| {
            StorageError::new(format!("no randomness from the system: {error}"))
        })?;
        let options = Options { segment_bytes: SEGMENT_BYTES, salt, ..Options::default() };
        let opened: Result<_, OpenError> =
            Log::open_with(disk.clone(), identity, options, &mut |position, bytes| {
                if Position(position) >= forgotten {
                    records.push((Position(position), bytes.to_vec()));
                }
            });
        let (log, found) = opened.map_err(|error| StorageError::caused("open the log", error))?;
        if found.torn_bytes > 0 {
            tracing::info!(
                bytes = found.torn_bytes,
                "an unfinished write was removed from the log"
            );
        }
        if found.mended > 0 {
            tracing::warn!(places = found.mended, "damaged places of the log were mended");
        }
        for damage in &found.damaged {
            tracing::error!(%damage, "the log is damaged");
        }
        Ok((log, found))
    }

    fn store_essentials(&mut self) -> Result<(), StorageError> {
        self.superblock
            .store(&self.essentials.to_bytes())
            .map_err(|error| StorageError::caused("write the superblock", error))
    }
}

/// What the superblock holds, if it was ever written.
fn essentials(loaded: Loaded) -> Result<Option<Essentials>, StorageError> {
    match loaded {
        Loaded::Absent => Ok(None),
        Loaded::Lost => Err(StorageError::new(
            "both copies of the superblock are damaged: this replica has forgotten what it promised, and may come \
             back only under a new voting key",
        )),
        Loaded::Present { value, damaged } => {
            if damaged {
                tracing::warn!("one copy of the superblock was damaged and is mended");
            }
            Essentials::from_bytes(&value)
                .map(Some)
                .map_err(|error| StorageError::caused("read the superblock", error))
        }
    }
}

/// Whether there is any segment of a log.
fn has_log<D: Disk>(disk: &D) -> Result<bool, StorageError> {
    let files = disk.list().map_err(|error| StorageError::caused("list the data folder", error))?;
    Ok(files.iter().any(|name| name.starts_with("log-") && !name.ends_with(".tmp")))
}

/// The records that matter and are lost: those that are damaged, and those before the first segment that is left.
fn lost(found: &testudo_wal::Recovered, forgotten: Position) -> Result<Vec<Lost>, StorageError> {
    let missing = core::iter::once((forgotten.0..found.first, None));
    let damaged = found.damaged.iter().filter_map(|damage| {
        let first = damage.position?;
        let end = first.saturating_add(damage.records).min(found.next);
        Some((first.max(forgotten.0)..end, damage.tag.and_then(Tag::from_bits)))
    });
    let mut lost = Vec::new();
    for (range, tag) in missing.chain(damaged) {
        if range.end.saturating_sub(range.start) > LOST {
            return Err(StorageError::new("too much of the log is lost to say what"));
        }
        lost.extend(range.map(|position| Lost { position: Position(position), tag }));
    }
    Ok(lost)
}

/// The snapshots that are there, the newest first, and the number of the next.
fn find_snapshots<D>(
    disk: &D,
    identity: Identity,
) -> Result<(Vec<Box<dyn SnapshotReader>>, u64), StorageError>
where
    D: Disk + Clone + Send + 'static,
    D::File: Send,
{
    let snapshots = Snapshots::new(disk.clone(), "snapshot", identity);
    snapshots.clean().map_err(|error| StorageError::caused("clean up snapshots", error))?;
    let numbers =
        snapshots.list().map_err(|error| StorageError::caused("list snapshots", error))?;
    let next = numbers.last().map_or(1, |newest| newest.saturating_add(1));
    let found = |number: u64| -> Box<dyn SnapshotReader> {
        Box::new(Found { snapshots: snapshots.clone(), number, reader: None })
    };
    Ok((numbers.into_iter().rev().map(found).collect(), next))
}

/// A snapshot on the disk, opened when it is read.
struct Found<D: Disk> {
    snapshots: Snapshots<D>,
    number: u64,
    reader: Option<testudo_wal::SnapshotReader<D::File>>,
}

impl<D: Disk> std::fmt::Debug for Found<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.number)
    }
}

impl<D> SnapshotReader for Found<D>
where
    D: Disk + Send,
    D::File: Send,
{
    fn next(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        let caused = |error: SnapshotError| StorageError::caused("read a snapshot", error);
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.snapshots.read(self.number).map_err(caused)?),
        };
        reader.next_chunk().map_err(caused)
    }
}

impl<D> Storage for DurableStorage<D>
where
    D: Disk + Clone + Send + Sync + 'static,
    D::File: Send,
    Log<D>: Send,
    Superblock<D>: Send,
{
    fn append(&mut self, position: Position, tag: Tag, record: &[u8]) -> Result<(), StorageError> {
        let at = self
            .log
            .append(tag.to_bits(), record)
            .map_err(|error| StorageError::caused("append to the log", error))?;
        if at == position.0 {
            Ok(())
        } else {
            Err(StorageError::new(format!("the log took record {position} as record {at}")))
        }
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.log.flush().map(drop).map_err(|error| StorageError::caused("flush the log", error))
    }

    fn promise(&mut self, promise: Promise) -> Result<(), StorageError> {
        self.essentials.promise = Some(promise);
        self.store_essentials()
    }

    fn read(&mut self, position: Position) -> Result<Option<Vec<u8>>, StorageError> {
        match self.log.read(position.0) {
            Ok(record) => Ok(Some(record)),
            Err(ReadError::Disk(error)) if self.log.poison().is_some() => {
                Err(StorageError::caused("read the log", error))
            }
            // Nothing is forgotten by a read that fails, for want of a file descriptor, say: whoever asked asks again.
            Err(ReadError::Disk(error)) => {
                tracing::warn!(%position, "a record cannot be read now: {error}");
                Ok(None)
            }
            Err(ReadError::Forgotten { .. } | ReadError::NotYet { .. }) => Ok(None),
            Err(ReadError::Damaged) => {
                tracing::error!(%position, "a record that was asked for is damaged");
                Ok(None)
            }
        }
    }

    fn forget(&mut self, before: Position) -> Result<(), StorageError> {
        if before <= self.essentials.forgotten {
            return Ok(());
        }
        self.essentials.forgotten = before;
        self.store_essentials()?;
        self.log
            .truncate_before(before.0)
            .map_err(|error| StorageError::caused("remove old segments", error))
    }

    fn idle(&mut self) -> Result<(), StorageError> {
        self.log.prepare().map_err(|error| StorageError::caused("prepare a segment", error))
    }

    fn snapshots(&mut self) -> Box<dyn SnapshotWriter> {
        Box::new(Writer {
            snapshots: Snapshots::new(self.disk.clone(), "snapshot", self.identity),
            next: self.next_snapshot,
        })
    }
}

struct Writer<D> {
    snapshots: Snapshots<D>,
    next: u64,
}

impl<D: Disk + Send> SnapshotWriter for Writer<D> {
    fn write(&mut self, render: &mut dyn FnMut(Put<'_>)) -> Result<u64, StorageError> {
        let number = self.next;
        let caused = |error: SnapshotError| StorageError::caused("write a snapshot", error);
        let mut writer = self.snapshots.begin(number).map_err(caused)?;
        let mut outcome = Ok(());
        render(&mut |piece| {
            outcome = match piece.len() {
                0..=CHUNK_MAX => writer.put(piece),
                _ => piece.chunks(CHUNK_MAX).try_for_each(|chunk| writer.put(chunk)),
            };
            outcome.is_ok()
        });
        outcome.map_err(caused)?;
        let bytes = writer.bytes();
        writer.finish().map_err(caused)?;
        self.next = number.saturating_add(1);
        self.snapshots
            .remove_before(number)
            .map_err(|error| StorageError::caused("remove an old snapshot", error))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FsDisk;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use testudo_core::{Incarnation, Slot, View};

    type Opened = Result<(DurableStorage<Arc<FsDisk>>, Recovered), StorageError>;

    fn open(folder: &Path) -> Opened {
        DurableStorage::open(Arc::new(FsDisk::open(folder).unwrap()), Identity([3; 16]), false)
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

    const PROMISE: Promise = Promise { view: View(7), incarnation: Incarnation(1) };

    /// Three records of which the first is forgotten, a promise and a snapshot.
    fn filled() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let (mut storage, recovered) = open(folder.path()).unwrap();
        assert_eq!(recovered.next, Position(0));
        assert_eq!((recovered.promise, recovered.snapshots.len()), (None, 0));
        for (position, record) in
            ["first record", "second record", "third record"].iter().enumerate()
        {
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

    fn refused(folder: &Path) -> String {
        open(folder).unwrap_err().to_string()
    }

    #[test]
    fn what_was_kept_comes_back_and_what_was_forgotten_does_not() {
        let folder = filled();
        let (mut storage, mut recovered) = open(folder.path()).unwrap();
        let records: Vec<_> = recovered
            .records
            .iter()
            .map(|(position, bytes)| (position.0, String::from_utf8_lossy(bytes).into_owned()))
            .collect();
        assert_eq!(records, [(1, "second record".to_owned()), (2, "third record".to_owned())]);
        assert_eq!(recovered.promise, Some(PROMISE));
        assert_eq!(recovered.forgotten, Position(1));
        let [snapshot] = &mut recovered.snapshots[..] else { panic!("the newest alone is kept") };
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
        let (mut storage, recovered) = open(folder.path()).unwrap();
        let tag = Some(Tag::Vote(Slot(1)));
        assert_eq!(recovered.lost, [Lost { position: Position(1), tag }]);
        assert_eq!(recovered.records.len(), 1);
        assert_eq!(storage.read(Position(1)).unwrap(), None);
    }

    #[test]
    fn a_replica_that_has_forgotten_what_it_said_does_not_start() {
        let folder = filled();
        for file in files(folder.path(), "superblock") {
            flip(&file, &PROMISE.to_bytes());
        }
        assert!(refused(folder.path()).contains("forgotten what it promised"));
        for file in files(folder.path(), "superblock") {
            fs::remove_file(file).unwrap();
        }
        assert!(refused(folder.path()).contains("the superblock is gone"));

        let folder = filled();
        for file in files(folder.path(), "log-") {
            fs::remove_file(file).unwrap();
        }
        // And not at the next start either, which would find what this one had begun.
        for _ in 0..2 {
            assert!(refused(folder.path()).contains("the log is gone"));
        }

        let folder = filled();
        flip(&files(folder.path(), "snapshot")[0], b"of it");
        let mut recovered = open(folder.path()).unwrap().1;
        assert_eq!(recovered.snapshots[0].next().unwrap().unwrap(), b"all ");
        assert_eq!(recovered.snapshots[0].next().unwrap().unwrap(), b"");
        let damaged = recovered.snapshots[0].next().unwrap_err().to_string();
        assert!(damaged.contains("does not match its checksum"), "{damaged}");
        drop(recovered);
        fs::remove_file(&files(folder.path(), "snapshot")[0]).unwrap();
        assert!(refused(folder.path()).contains("the snapshot that stood for them is gone"));
    }

    #[test]
    fn a_folder_that_served_and_holds_nothing_is_no_first_boot() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let disk = Arc::new(FsDisk::open(folder.path()).unwrap());
            let refused = DurableStorage::open(disk, Identity([3; 16]), true).unwrap_err();
            assert!(refused.to_string().contains("only under a new voting key"), "{refused}");
        }
        assert!(open(folder.path()).is_ok());
    }

    #[test]
    fn another_nodes_disk_is_refused() {
        let folder = filled();
        let disk = Arc::new(FsDisk::open(folder.path()).unwrap());
        let refused = DurableStorage::open(disk, Identity([4; 16]), false).unwrap_err().to_string();
        assert!(refused.contains("belongs to"), "{refused}");
    }
}
