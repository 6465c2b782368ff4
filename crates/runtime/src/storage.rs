//! What the host asks of whatever keeps its records.
//!
//! The trait is small enough for a test to hold a flush back or to fail one. The log of `testudo-wal` stands behind it
//! in production; [`Volatile`] stands behind it for automata that have nothing to lose, clients among them.

use std::fmt;
use testudo_core::{Lost, Position, Promise, Rot, Tag};

pub use testudo_wal::StorageError;

/// What was found when storage was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The superblock's content.
    pub promise: Option<Promise>,
    /// The snapshots that are there, the newest first. Whether one reads back whole is seen by reading it.
    pub snapshots: Vec<Box<dyn SnapshotReader>>,
    /// Records before this one were let go of: without a snapshot there is no going on.
    pub forgotten: Position,
    /// The records that are durable and not forgotten, read one by one.
    pub records: Records,
    /// Records that were durable and cannot be read any more, in order.
    pub lost: Vec<Lost>,
    /// The position of the next record.
    pub next: Position,
}

/// Records in order, each read when its turn comes. One that is there and cannot be read is none.
pub struct Records(Box<dyn Iterator<Item = Read> + Send>);

/// What becomes of reading a record.
type Read = Result<(Position, Option<Vec<u8>>), StorageError>;

impl Records {
    /// These.
    pub fn new(records: impl Iterator<Item = Read> + Send + 'static) -> Self {
        Self(Box::new(records))
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::new(std::iter::empty())
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Records")
    }
}

impl Iterator for Records {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        self.0.next()
    }
}

/// What a look at a part of what is stored found.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// How many bytes were read.
    pub bytes: u64,
    /// How many damaged places were written again from copies.
    pub mended: u64,
    /// What has rotted, each told once.
    pub rot: Vec<Rot>,
    /// Whether the end of all was reached, and the next look begins at the beginning.
    pub is_round: bool,
}

/// Reads one snapshot back, piece by piece.
pub trait SnapshotReader: Send + fmt::Debug {
    /// The next piece as it was written; none after the last, once the whole is known to be what was written. Before that
    /// nothing of it is to be relied on.
    ///
    /// # Errors
    /// When the snapshot is damaged or the disk fails.
    fn next(&mut self) -> Result<Option<Vec<u8>>, StorageError>;
}

/// Takes the pieces of a snapshot, and says false when it takes no more.
pub type Put<'a> = &'a mut dyn FnMut(&[u8]) -> bool;

/// Writes snapshots in the background, on a thread of its own.
pub trait SnapshotWriter: Send {
    /// Writes the snapshot whose pieces `render` hands over, and gives its length in bytes. It is durable, and found by the
    /// next start, when this returns; older ones are gone then.
    ///
    /// # Errors
    /// When the disk fails. The older snapshot is still there.
    fn write(&mut self, render: &mut dyn FnMut(Put<'_>)) -> Result<u64, StorageError>;
}

/// Durable records, promise and snapshots of one automaton. One thread owns it.
pub trait Storage: Send + 'static {
    /// Takes in a record and what it is about. It is durable after the next [`Storage::flush`].
    ///
    /// # Errors
    /// When the disk fails.
    fn append(&mut self, position: Position, tag: Tag, record: &[u8]) -> Result<(), StorageError>;

    /// Makes all that was taken in durable.
    ///
    /// # Errors
    /// When the disk fails: everything since the last success counts as lost.
    fn flush(&mut self) -> Result<(), StorageError>;

    /// Replaces the promise. It is durable, twice, when this returns.
    ///
    /// # Errors
    /// When the disk fails.
    fn promise(&mut self, promise: Promise) -> Result<(), StorageError>;

    /// Reads a record back. `None` when it is forgotten or damaged.
    ///
    /// # Errors
    /// When the disk fails.
    fn read(&mut self, position: Position) -> Result<Option<Vec<u8>>, StorageError>;

    /// Lets go of the records before `before`.
    ///
    /// # Errors
    /// When the disk fails.
    fn forget(&mut self, before: Position) -> Result<(), StorageError>;

    /// Nothing waits: what will be needed later may be made ready.
    ///
    /// # Errors
    /// When the disk fails.
    fn idle(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Looks whether the next part of what is stored, of about so many bytes, is still what was written.
    ///
    /// # Errors
    /// When the disk fails. That something has rotted is none: it is told.
    fn scrub(&mut self, bytes: u64) -> Result<Scrubbed, StorageError> {
        let _ = bytes;
        Ok(Scrubbed::default())
    }

    /// The writer of snapshots, which another thread gets. Asked for once.
    fn snapshots(&mut self) -> Box<dyn SnapshotWriter>;
}

/// Keeps nothing, and so has it durable at once: for automata that may forget.
#[derive(Clone, Copy, Debug, Default)]
pub struct Volatile;

impl SnapshotWriter for Volatile {
    fn write(&mut self, _: &mut dyn FnMut(Put<'_>)) -> Result<u64, StorageError> {
        Ok(0)
    }
}

impl Storage for Volatile {
    fn append(&mut self, _: Position, _: Tag, _: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }
    fn flush(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
    fn promise(&mut self, _: Promise) -> Result<(), StorageError> {
        Ok(())
    }
    fn read(&mut self, _: Position) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(None)
    }
    fn forget(&mut self, _: Position) -> Result<(), StorageError> {
        Ok(())
    }
    fn snapshots(&mut self) -> Box<dyn SnapshotWriter> {
        Box::new(Self)
    }
}
