//! Storage on a disk: [`testudo_wal::Store`] for many threads, which says in the node's log what it finds.

use crate::storage::{
    Put, Records, Recovered, Scrubbed, SnapshotReader, SnapshotWriter, Storage, StorageError,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use testudo_core::{Incarnation, Position, Promise, Tag};
use testudo_wal::store::{Archive, Asked, Found};
use testudo_wal::{Disk, Identity, Log, Options, Owner, Snapshots, Store, Superblock};

/// Bytes of a segment of the log.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How long the superblock is left alone at least.
const REFRESH: Duration = Duration::from_secs(30);

/// Log, superblock and snapshots on one disk.
pub struct DurableStorage<D: Disk> {
    /// Shared with what reads it at the start ([`Recovered::records`]), and later with nobody.
    store: Arc<Mutex<Store<D>>>,
    /// When the superblock was last written for a scrub.
    refreshed: Instant,
}

impl<D: Disk> std::fmt::Debug for DurableStorage<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DurableStorage").field("store", &self.store).finish_non_exhaustive()
    }
}

/// A panic while the store was held has stopped the node already.
fn lock<D: Disk>(store: &Mutex<Store<D>>) -> MutexGuard<'_, Store<D>> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D> DurableStorage<D>
where
    D: Disk + Clone + Send + Sync + 'static,
    D::File: Send,
{
    /// Opens what belongs to this identity on the disk, or begins it, and says what is there. `had_data` tells that there
    /// was something before, and `last` under which incarnation's voting key this node may have spoken last.
    ///
    /// # Errors
    /// When the disk fails, belongs to somebody else, or was written by another version. Not when something is lost: that
    /// is in what is recovered.
    pub fn open(
        disk: D,
        identity: Identity,
        had_data: bool,
        last: Incarnation,
    ) -> Result<(Self, Recovered), StorageError> {
        let salt = getrandom::u64().map_err(|error| {
            StorageError::new(format!("no randomness from the system: {error}"))
        })?;
        let options = Options { segment_bytes: SEGMENT_BYTES, salt, ..Options::default() };
        let (store, found) = Store::open(disk, Owner { identity, had_data, last }, options)?;
        say(&found);
        let snapshots = store.snapshots();
        let reader = |number: &u64| -> Box<dyn SnapshotReader> {
            Box::new(Reading { snapshots: snapshots.clone(), number: *number, reader: None })
        };
        let snapshots = found.snapshots.iter().map(reader).collect();
        let store = Arc::new(Mutex::new(store));
        let records = Reread { store: store.clone(), next: found.first.0, end: found.next.0 };
        let recovered = Recovered {
            promise: found.promise,
            snapshots,
            forgotten: found.forgotten,
            records: Records::new(records),
            lost: found.lost,
            next: found.next,
        };
        Ok((Self { store, refreshed: Instant::now() }, recovered))
    }

    fn store(&self) -> MutexGuard<'_, Store<D>> {
        lock(&self.store)
    }
}

/// Says what was found at the start, to whoever looks after the node.
fn say(found: &Found) {
    if let Some(what) = found.amnesia {
        tracing::error!(
            "{what}: this replica has forgotten what it said; it follows the others, and votes again only under a new \
             voting key"
        );
    }
    if found.is_superblock_mended {
        tracing::warn!("one copy of the superblock was damaged and is mended");
    }
    if found.is_cut_short {
        tracing::error!("the log ends before what it may have forgotten: newer records are gone");
    }
    let log = &found.log;
    if log.torn_bytes > 0 {
        tracing::info!(bytes = log.torn_bytes, "an unfinished write was removed from the log");
    }
    if log.mended > 0 {
        tracing::warn!(places = log.mended, "damaged places of the log were mended");
    }
    for damage in &log.damaged {
        tracing::error!(%damage, "the log is damaged");
    }
}

/// Reads the records of a store that was opened, one after the other.
struct Reread<D: Disk> {
    store: Arc<Mutex<Store<D>>>,
    next: u64,
    end: u64,
}

impl<D: Disk + Clone> Iterator for Reread<D> {
    type Item = Result<(Position, Option<Vec<u8>>), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let position = Position(self.next);
        if self.next >= self.end {
            return None;
        }
        self.next += 1;
        Some(match lock(&self.store).read(position) {
            Ok(Asked::Record(record)) => Ok((position, Some(record))),
            Ok(Asked::Unreadable(why)) => Err(StorageError::new(format!("read the log: {why}"))),
            Ok(Asked::Absent | Asked::Damaged) => Ok((position, None)),
            Err(error) => Err(error),
        })
    }
}

/// A snapshot on the disk, opened when it is read.
struct Reading<D: Disk> {
    snapshots: Snapshots<D>,
    number: u64,
    reader: Option<testudo_wal::SnapshotReader<D::File>>,
}

impl<D: Disk> std::fmt::Debug for Reading<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.number)
    }
}

impl<D> SnapshotReader for Reading<D>
where
    D: Disk + Send,
    D::File: Send,
{
    fn next(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        let caused = |error| StorageError::caused("read a snapshot", error);
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
        self.store().append(position, tag, record)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.store().flush()
    }

    fn promise(&mut self, promise: Promise) -> Result<(), StorageError> {
        if self.store().promise(promise)? {
            tracing::info!(
                incarnation = %promise.incarnation,
                "this replica has come back under another voting key: what it has forgotten matters no more"
            );
        }
        Ok(())
    }

    fn read(&mut self, position: Position) -> Result<Option<Vec<u8>>, StorageError> {
        match self.store().read(position)? {
            Asked::Record(record) => return Ok(Some(record)),
            // Nothing is forgotten by a read that fails: whoever asked asks again.
            Asked::Unreadable(why) => {
                tracing::warn!(%position, "a record cannot be read now: {why}");
            }
            Asked::Absent => {}
            Asked::Damaged => tracing::error!(%position, "a record that was asked for is damaged"),
        }
        Ok(None)
    }

    fn forget(&mut self, before: Position) -> Result<(), StorageError> {
        self.store().forget(before)
    }

    fn idle(&mut self) -> Result<(), StorageError> {
        self.store().idle()
    }

    fn snapshots(&mut self) -> Box<dyn SnapshotWriter> {
        Box::new(Writer(self.store().archive()))
    }

    fn scrub(&mut self, bytes: u64) -> Result<Scrubbed, StorageError> {
        let found = self.store().scrub(bytes)?;
        for sentence in &found.sentences {
            tracing::error!("{sentence}");
        }
        if found.is_round && self.refreshed.elapsed() >= REFRESH {
            self.refreshed = Instant::now();
            self.store().refresh()?;
        }
        let (bytes, mended, is_round) = (found.bytes, found.mended, found.is_round);
        Ok(Scrubbed { bytes, mended, rot: found.rot, is_round })
    }
}

struct Writer<D>(Archive<D>);

impl<D: Disk + Send> SnapshotWriter for Writer<D> {
    fn write(&mut self, render: &mut dyn FnMut(Put<'_>)) -> Result<u64, StorageError> {
        self.0.write(render)
    }
}

#[cfg(test)]
mod tests;
