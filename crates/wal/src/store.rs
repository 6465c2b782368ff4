//! What an automaton's driver keeps: the log, the superblock and the snapshots as one.
//!
//! The superblock holds the promise and how far records are forgotten: the log lets go of whole segments only, and what
//! an automaton had let go of must neither come back to it nor, when it rots, be taken for a loss.
//!
//! A disk that has lost something is opened all the same, and what is lost is said: a record by its tag, whatever cannot be
//! named as a loss of its own without a tag. What the automaton may still do is for the automaton to know. Where the promise
//! is lost, or the log with the promise left, the superblock says so from then on (its amnesia): what is written from then
//! on must not make a later start believe that nothing was lost. It is over when the replica speaks under a voting key with
//! which it had not signed anything by then: a promise of a later incarnation says so. That promise is durable before
//! anything that is signed with the key leaves, and it and the end of forgetting are one write; so a crash leaves either one
//! that has forgotten, or one that has said under its new key nothing but what it knows.
//!
//! Of snapshots the last two are kept: the log has what the older one lacks, should the newer not be read back.
//!
//! Production and simulation keep their records by this same code. It is one thread's; what is shared among threads is the
//! business of whoever has them.

mod error;
mod essentials;
mod past;
mod scrubber;

pub use error::StorageError;
pub use past::{Kept, PastError, Taken, read_whole, take_up};

use crate::disk::Disk;
use crate::log::{Log, Options, Place, ReadError};
use crate::recover::Recovered;
use crate::segment::Identity;
use crate::snapshot::{CHUNK_MAX, SnapshotError, Snapshots};
use crate::superblock::{Loaded, Superblock};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use essentials::{Essentials, amnesia, lost, unknown};
use scrubber::Scrubber;
use testudo_core::{Incarnation, Lost, Position, Promise, Rot, Tag};

/// Whose store it is, and how it begins.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// Whose it is.
    pub identity: Identity,
    /// Whether there was something on the disk before.
    pub had_data: bool,
    /// Under which incarnation's voting key this node may have spoken last.
    pub last: Incarnation,
}

/// What was found when a store was opened.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The superblock's promise, where nothing says that what was promised is forgotten.
    pub promise: Option<Promise>,
    /// The numbers of the snapshots that are there, the newest first. Whether one reads back whole is seen by reading it.
    pub snapshots: Vec<u64>,
    /// Records before this one were let go of: without a snapshot there is no going on.
    pub forgotten: Position,
    /// The first record to be read back.
    pub first: Position,
    /// The position of the next record.
    pub next: Position,
    /// Records that were durable and cannot be read any more, in order.
    pub lost: Vec<Lost>,
    /// What opening the log found.
    pub log: Recovered,
    /// Whether one copy of the superblock could not be read, and is written anew.
    pub is_superblock_mended: bool,
    /// What says that this replica has forgotten what it promised, if that was found out now.
    pub amnesia: Option<&'static str>,
    /// Whether this replica has forgotten what it promised, as was found out now or earlier.
    pub has_forgotten: bool,
    /// Whether the log ends before what it may have forgotten: newer records are gone.
    pub is_cut_short: bool,
}

/// What a look at a part of what is stored found.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// How many bytes were read.
    pub bytes: u64,
    /// How many damaged places were written again from copies.
    pub mended: u64,
    /// What has rotted, each told once.
    pub rot: Vec<Rot>,
    /// What has rotted, for people.
    pub sentences: Vec<String>,
    /// Whether the end of all was reached, and the next look begins at the beginning.
    pub is_round: bool,
}

/// A record that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is there.
    Record(Vec<u8>),
    /// It is forgotten, or was never written.
    Absent,
    /// It was there once.
    Damaged,
    /// The disk cannot read it now, for want of a file descriptor, say. Nothing is lost by that.
    Unreadable(String),
}

/// Log, superblock and snapshots on one disk.
pub struct Store<D: Disk> {
    disk: D,
    identity: Identity,
    log: Log<D>,
    superblock: Superblock<D>,
    essentials: Essentials,
    /// The number of the newest snapshot, and of the next.
    newest_snapshot: Option<u64>,
    next_snapshot: u64,
    scrubber: Scrubber<D>,
}

impl<D: Disk> core::fmt::Debug for Store<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Store").field("essentials", &self.essentials).finish_non_exhaustive()
    }
}

const SUPERBLOCK: &str = "superblock";
const SNAPSHOT: &str = "snapshot";

impl<D: Disk + Clone> Store<D> {
    /// Opens what belongs to this owner on the disk, or begins it, and says what is there.
    ///
    /// # Errors
    /// When the disk fails, belongs to somebody else, or was written by another version. Not when something is lost: that
    /// is in what is found.
    pub fn open(disk: D, owner: Owner, options: Options) -> Result<(Self, Found), StorageError> {
        let identity = owner.identity;
        let mut found = Found::default();
        let (superblock, mut essentials) = open_superblock(&disk, owner, &mut found)?;
        let (log, recovered) = Log::open(disk.clone(), identity, options)
            .map_err(|error| StorageError::caused("open the log", error))?;
        if essentials.amnesia.is_some() {
            // Nobody knows what lies before the records that are left. That is said as long as it matters, and no longer.
            essentials.forgotten = essentials.forgotten.max(Position(recovered.first));
        }
        found.forgotten = essentials.forgotten;
        found.lost = lost(&recovered, found.forgotten);
        // Without a promise nothing that was said is known, whatever is written from now on.
        found.has_forgotten = essentials.amnesia.is_some();
        if found.has_forgotten {
            found.lost.push(unknown(&recovered));
            essentials.promise = None;
        }
        if recovered.next < found.forgotten.0 {
            found.is_cut_short = true;
            found.lost.push(unknown(&recovered));
        }
        found.promise = essentials.promise;
        found.first = Position(recovered.first).max(found.forgotten);
        found.next = Position(recovered.next);
        found.log = recovered;
        let snapshots = Snapshots::new(disk.clone(), SNAPSHOT, identity);
        snapshots.clean().map_err(|error| StorageError::caused("clean up snapshots", error))?;
        found.snapshots =
            snapshots.list().map_err(|error| StorageError::caused("list snapshots", error))?;
        found.snapshots.reverse();
        let newest_snapshot = found.snapshots.first().copied();
        let store = Self {
            scrubber: Scrubber::new(snapshots),
            disk,
            identity,
            log,
            superblock,
            essentials,
            newest_snapshot,
            next_snapshot: newest_snapshot.map_or(1, |newest| newest.saturating_add(1)),
        };
        Ok((store, found))
    }

    /// Takes in a record and what it is about. It is durable after the next [`Store::flush`].
    ///
    /// # Errors
    /// When the disk fails, or another position is next.
    pub fn append(
        &mut self,
        position: Position,
        tag: Tag,
        record: &[u8],
    ) -> Result<(), StorageError> {
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

    /// Makes all that was taken in durable.
    ///
    /// # Errors
    /// When the disk fails: everything since the last success counts as lost.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        self.log.flush().map(drop).map_err(|error| StorageError::caused("flush the log", error))
    }

    /// Replaces the promise. It is durable, twice, when this returns. Says whether that ends a time in which this replica
    /// had forgotten what it said.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn promise(&mut self, promise: Promise) -> Result<bool, StorageError> {
        self.essentials.promise = Some(promise);
        let is_over = self.essentials.amnesia.is_some_and(|lost| promise.incarnation > lost);
        if is_over {
            self.essentials.amnesia = None;
        }
        self.refresh()?;
        Ok(is_over)
    }

    /// Writes the superblock anew: it is too small to be read now and then.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn refresh(&mut self) -> Result<(), StorageError> {
        store(&mut self.superblock, &self.essentials)
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// When the log has failed.
    pub fn read(&self, position: Position) -> Result<Asked, StorageError> {
        match self.log.read(position.0) {
            Ok(record) => Ok(Asked::Record(record)),
            Err(ReadError::Disk(error)) if self.log.poison().is_some() => {
                Err(StorageError::caused("read the log", error))
            }
            Err(ReadError::Disk(error)) => Ok(Asked::Unreadable(format!("{error}"))),
            Err(ReadError::Forgotten { .. } | ReadError::NotYet { .. }) => Ok(Asked::Absent),
            Err(ReadError::Damaged) => Ok(Asked::Damaged),
        }
    }

    /// Lets go of the records before `before`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn forget(&mut self, before: Position) -> Result<(), StorageError> {
        if before <= self.essentials.forgotten {
            return Ok(());
        }
        self.essentials.forgotten = before;
        self.refresh()?;
        self.log
            .truncate_before(before.0)
            .map_err(|error| StorageError::caused("remove old segments", error))
    }

    /// Records before this one were let go of.
    pub fn forgotten(&self) -> Position {
        self.essentials.forgotten
    }

    /// Where a record stands; none where the log has none at this position.
    pub fn whereabouts(&self, position: Position) -> Option<Place> {
        self.log.whereabouts(position.0)
    }

    /// Nothing waits: what will be needed later is made ready.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn idle(&mut self) -> Result<(), StorageError> {
        self.log.prepare().map_err(|error| StorageError::caused("prepare a segment", error))
    }

    /// Looks whether the next part of what is stored, of about so many bytes, is still what was written.
    ///
    /// # Errors
    /// When the disk fails. That something has rotted is none: it is told.
    pub fn scrub(&mut self, bytes: u64) -> Result<Look, StorageError> {
        self.scrubber.scrub(&mut self.log, self.essentials.forgotten, bytes)
    }

    /// The snapshots of this store, for reading.
    pub fn snapshots(&self) -> Snapshots<D> {
        Snapshots::new(self.disk.clone(), SNAPSHOT, self.identity)
    }

    /// The writer of its snapshots, for the one who writes them all.
    pub fn archive(&self) -> Archive<D> {
        Archive {
            snapshots: self.snapshots(),
            before: self.newest_snapshot,
            next: self.next_snapshot,
        }
    }
}

/// Writes the snapshots of a store, one after the other.
#[derive(Clone, Debug)]
pub struct Archive<D> {
    snapshots: Snapshots<D>,
    /// The last one that was written, if any was.
    before: Option<u64>,
    next: u64,
}

impl<D: Disk> Archive<D> {
    /// Writes the snapshot whose pieces `render` hands over, and gives its length in bytes. It is durable, and found by the
    /// next start, when this returns; all but the one before it are gone then.
    ///
    /// # Errors
    /// When the disk fails. The older snapshot is still there.
    pub fn write(
        &mut self,
        render: &mut dyn FnMut(&mut dyn FnMut(&[u8]) -> bool),
    ) -> Result<u64, StorageError> {
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

/// The superblock, in which what is lost is noted already.
fn open_superblock<D: Disk + Clone>(
    disk: &D,
    owner: Owner,
    found: &mut Found,
) -> Result<(Superblock<D>, Essentials), StorageError> {
    let Owner { identity, had_data, last } = owner;
    let (mut superblock, loaded) = Superblock::open(disk.clone(), SUPERBLOCK, identity)
        .map_err(|error| StorageError::caused("open the superblock", error))?;
    found.is_superblock_mended = matches!(loaded, Loaded::Present { damaged: true, .. });
    let is_lost = loaded == Loaded::Lost;
    let known = match loaded {
        Loaded::Absent | Loaded::Lost => None,
        Loaded::Present { value, .. } => Some(Essentials::read(&value)?),
    };
    // Before the log is opened, which begins one where there is none.
    let has_log = has_log(disk)?;
    found.amnesia = amnesia(known, is_lost, has_log, had_data);
    let mut essentials = known.unwrap_or_default();
    if !has_log {
        // Positions begin anew, and what is written from now on matters.
        essentials.forgotten = Position(0);
    }
    if found.amnesia.is_some() {
        essentials.amnesia = essentials.amnesia.max(Some(last));
    }
    if known != Some(essentials) || known.is_none() {
        store(&mut superblock, &essentials)?;
    }
    Ok((superblock, essentials))
}

fn store<D: Disk>(
    superblock: &mut Superblock<D>,
    essentials: &Essentials,
) -> Result<(), StorageError> {
    superblock
        .store(&essentials.framed())
        .map_err(|error| StorageError::caused("write the superblock", error))
}

/// Whether there is any segment of a log.
fn has_log<D: Disk>(disk: &D) -> Result<bool, StorageError> {
    let files = disk.list().map_err(|error| StorageError::caused("list the data folder", error))?;
    Ok(files.iter().any(|name| name.starts_with("log-") && !name.ends_with(".tmp")))
}
