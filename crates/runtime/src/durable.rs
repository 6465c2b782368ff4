//! Storage on a disk: the log, the superblock and the snapshots of `testudo-wal` as one.
//!
//! The superblock holds the promise and how far records are forgotten: the log lets go of whole segments only, and what
//! an automaton had let go of must neither come back to it nor, when it rots, be taken for a loss.
//!
//! A disk that has lost something is opened all the same, and what is lost is said: a record by its tag, whatever cannot be
//! named as a loss of its own without a tag. What the automaton may still do is for the automaton to know. Where the promise
//! is lost, or the log with the promise left, the superblock says so from then on ([`Essentials::amnesia`]): what is written
//! from then on must not make a later start believe that nothing was lost. It is over when the replica speaks under a voting
//! key with which it had not signed anything by then: a promise of a later incarnation says so. That promise is durable before
//! anything that is signed with the key leaves, and it and the end of forgetting are one write; so a crash leaves either one that
//! has forgotten, or one that has said under its new key nothing but what it knows.
//!
//! Of snapshots the last two are kept: the log has what the older one lacks, should the newer not be read back.

use crate::scrub::Scrubber;
use crate::storage::{
    Put, Records, Recovered, Scrubbed, SnapshotReader, SnapshotWriter, Storage, StorageError,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use testudo_core::{Decode, Encode, Incarnation, Lost, Position, Promise, Tag, wire_struct};
use testudo_wal::{
    CHUNK_MAX, Disk, Identity, Loaded, Log, Options, ReadError, SnapshotError, Snapshots,
    Superblock,
};

/// Bytes of a segment of the log.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Lost positions of one place that are told one by one.
const LOST: u64 = 1 << 12;

/// What the superblock holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Essentials {
    promise: Option<Promise>,
    forgotten: Position,
    /// The last incarnation under which it had spoken when a promise, or all records, were lost: whoever uses this disk does
    /// not know what it has said under that one and those before. None when nothing of the kind is lost.
    amnesia: Option<Incarnation>,
}
wire_struct!(Essentials { promise, forgotten, amnesia });

/// The form of what the superblock holds; its first byte. Forms before this one had no such byte, and began with 0 or 1.
const FORM: u8 = 2;

impl Essentials {
    fn framed(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        self.encode(&mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Self, StorageError> {
        match bytes.split_first() {
            Some((&FORM, rest)) => Self::from_bytes(rest)
                .map_err(|error| StorageError::caused("read the superblock", error)),
            _ => Err(StorageError::new(
                "the superblock was written by another version of testudo, in a form that this one does not read; run the \
                 version that wrote it, or let this replica start on an empty data folder: it fetches the state, and comes \
                 back under another voting key by itself",
            )),
        }
    }
}

/// Log, superblock and snapshots on one disk.
pub struct DurableStorage<D: Disk> {
    disk: D,
    identity: Identity,
    /// Shared with what reads it at the start ([`Recovered::records`]), and later with nobody.
    log: Arc<Mutex<Log<D>>>,
    superblock: Superblock<D>,
    essentials: Essentials,
    /// The number of the newest snapshot, and of the next.
    newest_snapshot: Option<u64>,
    next_snapshot: u64,
    scrubber: Scrubber<D>,
}

impl<D: Disk> std::fmt::Debug for DurableStorage<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DurableStorage")
            .field("essentials", &self.essentials)
            .finish_non_exhaustive()
    }
}

/// A panic while the log was held has stopped the node already.
fn lock<D: Disk>(log: &Mutex<Log<D>>) -> MutexGuard<'_, Log<D>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (superblock, mut essentials) = Self::open_superblock(&disk, identity, had_data, last)?;
        let (log, found) = Self::open_log(&disk, identity)?;
        if essentials.amnesia.is_some() {
            // Nobody knows what lies before the records that are left. That is said as long as it matters, and no longer.
            essentials.forgotten = essentials.forgotten.max(Position(found.first));
        }
        let forgotten = essentials.forgotten;
        let mut lost = lost(&found, forgotten);
        // Without a promise nothing that was said is known, whatever is written from now on.
        if essentials.amnesia.is_some() {
            lost.push(unknown(&found));
            essentials.promise = None;
        }
        if found.next < forgotten.0 {
            tracing::error!(
                "the log ends before what it may have forgotten: newer records are gone"
            );
            lost.push(unknown(&found));
        }
        let (snapshots, newest_snapshot) = find_snapshots(&disk, identity)?;
        let log = Arc::new(Mutex::new(log));
        let recovered = Recovered {
            promise: essentials.promise,
            snapshots,
            forgotten,
            records: Records::new(Reread {
                log: log.clone(),
                next: found.first.max(forgotten.0),
                end: found.next,
            }),
            lost,
            next: Position(found.next),
        };
        let scrubber = Scrubber::new(Snapshots::new(disk.clone(), "snapshot", identity));
        let next_snapshot = newest_snapshot.map_or(1, |newest| newest.saturating_add(1));
        let storage = Self {
            disk,
            identity,
            log,
            superblock,
            essentials,
            newest_snapshot,
            next_snapshot,
            scrubber,
        };
        Ok((storage, recovered))
    }

    /// The superblock, in which what is lost is noted already.
    fn open_superblock(
        disk: &D,
        identity: Identity,
        had_data: bool,
        last: Incarnation,
    ) -> Result<(Superblock<D>, Essentials), StorageError> {
        let (mut superblock, loaded) = Superblock::open(disk.clone(), "superblock", identity)
            .map_err(|error| StorageError::caused("open the superblock", error))?;
        let is_lost = loaded == Loaded::Lost;
        let known = essentials(loaded)?;
        // Before the log is opened, which begins one where there is none.
        let has_log = has_log(disk)?;
        let amnesia = amnesia(known, is_lost, has_log, had_data);
        let mut essentials = known.unwrap_or_default();
        if !has_log {
            // Positions begin anew, and what is written from now on matters.
            essentials.forgotten = Position(0);
        }
        if let Some(what) = amnesia {
            tracing::error!(
                "{what}: this replica has forgotten what it said; it follows the others, and votes again only under a new \
                 voting key"
            );
            essentials.amnesia = essentials.amnesia.max(Some(last));
        }
        if known != Some(essentials) || known.is_none() {
            superblock
                .store(&essentials.framed())
                .map_err(|error| StorageError::caused("write the superblock", error))?;
        }
        Ok((superblock, essentials))
    }

    fn open_log(
        disk: &D,
        identity: Identity,
    ) -> Result<(Log<D>, testudo_wal::Recovered), StorageError> {
        let salt = getrandom::u64().map_err(|error| {
            StorageError::new(format!("no randomness from the system: {error}"))
        })?;
        let options = Options { segment_bytes: SEGMENT_BYTES, salt, ..Options::default() };
        let opened = Log::open(disk.clone(), identity, options);
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

    fn log(&self) -> MutexGuard<'_, Log<D>> {
        lock(&self.log)
    }

    fn store_essentials(&mut self) -> Result<(), StorageError> {
        self.superblock
            .store(&self.essentials.framed())
            .map_err(|error| StorageError::caused("write the superblock", error))
    }
}

/// What says that this replica has forgotten what it promised, if anything does. A superblock that says nothing was begun
/// before its log; otherwise each of the two is nothing without the other.
fn amnesia(
    known: Option<Essentials>,
    is_lost: bool,
    has_log: bool,
    had_data: bool,
) -> Option<&'static str> {
    let is_blank = known.unwrap_or_default() == Essentials::default();
    match known {
        None if is_lost => Some("both copies of the superblock are damaged"),
        None if has_log => Some("the superblock is gone, and the log is there"),
        None if had_data => Some("log and superblock are gone"),
        Some(_) if !has_log && (had_data || !is_blank) => Some("the log is gone"),
        _ => None,
    }
}

/// What the superblock holds, if it was ever written.
fn essentials(loaded: Loaded) -> Result<Option<Essentials>, StorageError> {
    match loaded {
        Loaded::Absent | Loaded::Lost => Ok(None),
        Loaded::Present { value, damaged } => {
            if damaged {
                tracing::warn!("one copy of the superblock was damaged and is mended");
            }
            Essentials::read(&value).map(Some)
        }
    }
}

/// Whether there is any segment of a log.
fn has_log<D: Disk>(disk: &D) -> Result<bool, StorageError> {
    let files = disk.list().map_err(|error| StorageError::caused("list the data folder", error))?;
    Ok(files.iter().any(|name| name.starts_with("log-") && !name.ends_with(".tmp")))
}

/// Something is lost that nobody can name. It stands after all that there is: whatever slots that goes to, what is lost may
/// have been about as many more.
fn unknown(found: &testudo_wal::Recovered) -> Lost {
    Lost { position: Position(found.next), tag: None }
}

/// The records that matter and are lost: those that are damaged, and those before the first segment that is left.
fn lost(found: &testudo_wal::Recovered, forgotten: Position) -> Vec<Lost> {
    let missing = core::iter::once((forgotten.0..found.first, None));
    let damaged = found.damaged.iter().filter_map(|damage| {
        let first = damage.position?;
        let end = first.saturating_add(damage.records).min(found.next);
        Some((first.max(forgotten.0)..end, damage.tag.and_then(Tag::from_bits)))
    });
    let mut lost = Vec::new();
    for (range, tag) in missing.chain(damaged) {
        // Of so many all that matters is that nobody knows what they were.
        let range = range.start..range.end.min(range.start.saturating_add(LOST));
        lost.extend(range.map(|position| Lost { position: Position(position), tag }));
    }
    lost
}

/// Reads the records of a log that was opened, one after the other.
struct Reread<D: Disk> {
    log: Arc<Mutex<Log<D>>>,
    next: u64,
    end: u64,
}

impl<D: Disk> Iterator for Reread<D> {
    type Item = Result<(Position, Option<Vec<u8>>), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let position = self.next;
        if position >= self.end {
            return None;
        }
        self.next += 1;
        Some(match lock(&self.log).read(position) {
            Ok(record) => Ok((Position(position), Some(record))),
            Err(ReadError::Disk(error)) => Err(StorageError::caused("read the log", error)),
            Err(_) => Ok((Position(position), None)),
        })
    }
}

/// The snapshots that are there, the newest first, and the number of that.
fn find_snapshots<D>(
    disk: &D,
    identity: Identity,
) -> Result<(Vec<Box<dyn SnapshotReader>>, Option<u64>), StorageError>
where
    D: Disk + Clone + Send + 'static,
    D::File: Send,
{
    let snapshots = Snapshots::new(disk.clone(), "snapshot", identity);
    snapshots.clean().map_err(|error| StorageError::caused("clean up snapshots", error))?;
    let numbers =
        snapshots.list().map_err(|error| StorageError::caused("list snapshots", error))?;
    let newest = numbers.last().copied();
    let found = |number: u64| -> Box<dyn SnapshotReader> {
        Box::new(Found { snapshots: snapshots.clone(), number, reader: None })
    };
    Ok((numbers.into_iter().rev().map(found).collect(), newest))
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
            .log()
            .append(tag.to_bits(), record)
            .map_err(|error| StorageError::caused("append to the log", error))?;
        if at == position.0 {
            Ok(())
        } else {
            Err(StorageError::new(format!("the log took record {position} as record {at}")))
        }
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.log().flush().map(drop).map_err(|error| StorageError::caused("flush the log", error))
    }

    fn promise(&mut self, promise: Promise) -> Result<(), StorageError> {
        self.essentials.promise = Some(promise);
        if self.essentials.amnesia.is_some_and(|lost| promise.incarnation > lost) {
            tracing::info!(
                incarnation = %promise.incarnation,
                "this replica has come back under another voting key: what it has forgotten matters no more"
            );
            self.essentials.amnesia = None;
        }
        self.store_essentials()
    }

    fn read(&mut self, position: Position) -> Result<Option<Vec<u8>>, StorageError> {
        let log = self.log();
        match log.read(position.0) {
            Ok(record) => Ok(Some(record)),
            Err(ReadError::Disk(error)) if log.poison().is_some() => {
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
        self.log()
            .truncate_before(before.0)
            .map_err(|error| StorageError::caused("remove old segments", error))
    }

    fn idle(&mut self) -> Result<(), StorageError> {
        self.log().prepare().map_err(|error| StorageError::caused("prepare a segment", error))
    }

    fn snapshots(&mut self) -> Box<dyn SnapshotWriter> {
        Box::new(Writer {
            snapshots: Snapshots::new(self.disk.clone(), "snapshot", self.identity),
            before: self.newest_snapshot,
            next: self.next_snapshot,
        })
    }

    fn scrub(&mut self, bytes: u64) -> Result<Scrubbed, StorageError> {
        let found = self.scrubber.scrub(&mut lock(&self.log), self.essentials.forgotten, bytes)?;
        if found.is_round && self.scrubber.may_refresh() {
            // A superblock is too small to be read now and then: it is written anew.
            self.store_essentials()?;
        }
        Ok(found)
    }
}

struct Writer<D> {
    snapshots: Snapshots<D>,
    /// The last one that was written, if any was.
    before: Option<u64>,
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
        let kept = self.before.replace(number).unwrap_or(number);
        self.snapshots
            .remove_before(kept)
            .map_err(|error| StorageError::caused("remove an old snapshot", error))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
