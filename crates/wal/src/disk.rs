//! What the log asks of a disk.
//!
//! A [`Disk`] is one flat directory of files. The trait says no more than a crash-safe log needs: bytes written are
//! durable only after the file's [`DiskFile::flush`] has returned, and names made, changed or removed are durable only
//! after [`Disk::flush`] has. Between the two a crash may keep any part of what was asked. Everything is synchronous and
//! takes `&self`, so that the log, the superblock and a snapshot being written can share one disk from several threads;
//! [`Disk`] is implemented for `&D`, `Rc<D>` and `Arc<D>`.
//!
//! Rot is not an error of this trait: a disk that returns wrong bytes does so without saying it, and finding that out is
//! the business of the formats above.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// What went wrong with the disk, as far as a caller may want to tell cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskErrorKind {
    /// No file of that name exists.
    NotFound,
    /// The disk, or the owner's quota on it, is full.
    Full,
    /// Another process holds the directory.
    Busy,
    /// Anything else: the operation may have been carried out in any part or not at all.
    Failed,
}

/// An operation on the disk that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// The case, for code.
    pub kind: DiskErrorKind,
    /// The operation and the file it concerned, for people.
    pub what: String,
}

impl DiskError {
    /// An error of this kind with a sentence that names the operation and the file.
    pub fn new(kind: DiskErrorKind, what: impl Into<String>) -> Self {
        DiskError { kind, what: what.into() }
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DiskErrorKind::NotFound => "file not found",
            DiskErrorKind::Full => "disk full",
            DiskErrorKind::Busy => "directory in use",
            DiskErrorKind::Failed => "disk failed",
        };
        write!(f, "{kind}: {}", self.what)
    }
}

impl core::error::Error for DiskError {}

/// One flat directory of files.
pub trait Disk {
    /// An open file. It stays usable when its name is changed or removed.
    type File: DiskFile;

    /// The names of all files, in no particular order.
    fn list(&self) -> Result<Vec<String>, DiskError>;

    /// Makes a file of `size` zero bytes that are really allocated, so that overwriting them later can neither run out of
    /// space nor has to change the file's metadata. Replaces a file of that name.
    fn create(&self, name: &str, size: u64) -> Result<Self::File, DiskError>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> Result<Self::File, DiskError>;

    /// Gives a file another name, atomically replacing a file that had it.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file.
    fn remove(&self, name: &str) -> Result<(), DiskError>;

    /// Makes all names durable as they are now.
    fn flush(&self) -> Result<(), DiskError>;
}

/// An open file of a [`Disk`].
pub trait DiskFile {
    /// The length in bytes.
    fn size(&self) -> Result<u64, DiskError>;

    /// Fills the whole buffer from `offset` on; a file that ends before that is [`DiskErrorKind::Failed`].
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Writes all bytes at `offset`, growing the file where they reach past its end.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Sets the length: cuts the file, or extends it with zeros.
    fn truncate(&self, size: u64) -> Result<(), DiskError>;

    /// Makes all that was written to this file durable, and its length. Whoever gets an error here must take everything
    /// written since the last success as lost, whatever a later read or flush may say.
    fn flush(&self) -> Result<(), DiskError>;
}

macro_rules! disk_behind_pointer {
    ($($pointer:ty),*) => {$(
        impl<D: Disk> Disk for $pointer {
            type File = D::File;

            fn list(&self) -> Result<Vec<String>, DiskError> {
                (**self).list()
            }

            fn create(&self, name: &str, size: u64) -> Result<Self::File, DiskError> {
                (**self).create(name, size)
            }

            fn open(&self, name: &str) -> Result<Self::File, DiskError> {
                (**self).open(name)
            }

            fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
                (**self).rename(from, to)
            }

            fn remove(&self, name: &str) -> Result<(), DiskError> {
                (**self).remove(name)
            }

            fn flush(&self) -> Result<(), DiskError> {
                (**self).flush()
            }
        }
    )*};
}

disk_behind_pointer!(&D, Rc<D>, Arc<D>);
