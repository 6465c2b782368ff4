//! The durable log of Testudo, its superblock and its snapshot files, over a small [`Disk`] trait.
//!
//! A replica that forgets a vote it gave is as good as a liar. So what is written here is either durable, or known not to be;
//! and what the disk loses later is either mended from a second copy, or named. Nothing is guessed.
//!
//! # The log
//!
//! A [`Log`] is a row of records, each a string of bytes with a position counted from 0. Records are appended in memory and
//! made durable by [`Log::flush`] with one write and one data flush, however many they are. The row is cut into segments:
//! files of fixed length, full of zeros before they are written, overwritten in place, so that a flush has no metadata to
//! write. A segment is named after its first position, and removed as a whole when all in it is forgotten.
//!
//! ```text
//!   log-0000000000000000.segment          log-0000000000000a31.segment
//!   ┌────────┬────────┬───────┬───────┐   ┌────────┬────────┬───────┬─────────────┐
//!   │ header │ header │ frame │ frame …   │ header │ header │ frame │ 0 0 0 0 …   │
//!   └────────┴────────┴───────┴───────┘   └────────┴────────┴───────┴─────────────┘
//!     sector   sector                              head · payload · tail
//! ```
//!
//! Three things are told apart at opening, which look alike to a log that knows only checksums:
//!
//! - **Torn**: an unfinished write at the end, of which nothing had been acknowledged. It is removed.
//! - **Rot in a head, tail or header**: each stands twice. It is written again.
//! - **Rot in a record**: reported with the record's position ([`Damage`]), even in the very last flush. Each record has a
//!   tag, eight bytes of the caller's that stand in head and tail, outside what has rotted: so it is also known what the
//!   record was about, unless both are gone. What follows is the caller's business: a replica lists the slots whose records
//!   it has lost, or comes back under a new key.
//!
//! A disk mostly reports a bad sector instead of giving out what is wrong. What cannot be read is read around, page by page,
//! taken for rot, and written anew as a whole, so that the drive puts another sector in its place. Where more than a few pages
//! of a segment fail it is the disk, and opening fails without giving anything up.
//!
//! How they are told apart is the essay at the head of the `scan` module.
//!
//! What the log cannot see: a disk that goes back to an older image as a whole, or loses the newest segments with their names.
//! That [`Recovered::fresh`] or [`Recovered::next`] do not fit what else is known is for the caller to notice.
//!
//! # While it runs
//!
//! What rots after opening is found by [`Log::scrub`], a part at a time: an edge or header is written again from its twin, a
//! record that is lost is named with its tag, while its owner may still know in memory what it said.
//!
//! # Failure
//!
//! After any operation that failed on the disk, a [`Log`] or [`Superblock`] fails for good, since a flush that succeeds after
//! one that failed says nothing about what the first should have written. Opening writes the last flush again, because its
//! bytes may be in the machine's memory only.
//!
//! # The rest
//!
//! [`Superblock`] keeps a small value in two copies, [`Snapshots`] large ones in files of their own. [`store`] makes the three
//! into what an automaton's driver keeps. [`MemoryDisk`] is a disk
//! that crashes, tears, fails to write or to read, fills up and rots on demand. The crate is `no_std`, has no clock and no chance.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod disk;
mod files;
mod frame;
mod log;
mod memory;
mod recover;
mod scan;
mod scrub;
mod segment;
mod snapshot;
pub mod store;
mod superblock;

pub use disk::{Disk, DiskError, DiskErrorKind, DiskFile};
pub use log::{AppendError, Log, Options, Place, Position, ReadError};
pub use memory::{MemoryDisk, MemoryFile};
pub use recover::{Damage, OpenError, Recovered};
pub use scrub::Scrubbed;
pub use segment::{FORMAT_VERSION, Identity};
pub use snapshot::{CHUNK_MAX, SnapshotError, SnapshotReader, SnapshotWriter, Snapshots};
pub use store::{Owner, StorageError, Store};
pub use superblock::{Loaded, SUPERBLOCK_MAX, Superblock, SuperblockError};
