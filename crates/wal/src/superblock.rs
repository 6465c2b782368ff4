//! The superblock: one small value that must never be lost.
//!
//! The value stands in two files, each with a sequence number and a digest. A store overwrites one file, flushes it, and only
//! then the other, so that a crash can spoil at most one of them, and the newest good copy is always the last value whose
//! store had returned, or the one being stored. A copy's file is made under a temporary name: one that has its name had been
//! whole. Both files unreadable means that a promise may have been forgotten, which is a different thing from none having been
//! made ([`Loaded::Lost`], [`Loaded::Absent`]).

use crate::disk::{Disk, DiskError, DiskErrorKind, DiskFile};
use crate::segment::{FORMAT_VERSION, Identity};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use sha2::{Digest, Sha256};

/// The longest value of a superblock in bytes.
pub const SUPERBLOCK_MAX: usize = 4096;

const MAGIC: [u8; 8] = *b"TSTDSUPR";
const DIGEST_AT: usize = 40;
const VALUE_AT: usize = 72;
const COPY_SIZE: usize = VALUE_AT + SUPERBLOCK_MAX;

/// What opening a superblock found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// Nothing has ever been stored.
    Absent,
    /// The newest value.
    Present {
        /// The value as it was given to [`Superblock::store`].
        value: Vec<u8>,
        /// Whether the other copy could not be read, by rot or because a store was interrupted. It is good again now.
        damaged: bool,
    },
    /// Something had been stored and no copy of it is readable.
    Lost,
}

/// Why a superblock could not be opened or stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuperblockError {
    /// The disk failed, now or at an earlier store, after which no other is tried.
    Disk(DiskError),
    /// The superblock belongs to another cluster, group or node.
    OtherIdentity {
        /// The file.
        file: String,
        /// Whose it is.
        found: Identity,
        /// Whose it should be.
        expected: Identity,
    },
    /// The superblock was written in a format that this version does not know.
    UnknownVersion {
        /// The file.
        file: String,
        /// The version that it names.
        version: u32,
    },
    /// The value is longer than [`SUPERBLOCK_MAX`].
    TooLarge(usize),
}

impl fmt::Display for SuperblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SuperblockError::Disk(error) => write!(f, "superblock: {error}"),
            SuperblockError::OtherIdentity { file, found, expected } => write!(
                f,
                "{file} belongs to {found}, but this is {expected}: \
                 the directory is another cluster's, group's or node's"
            ),
            SuperblockError::UnknownVersion { file, version } => write!(
                f,
                "{file} has format version {version}, but this program knows only {FORMAT_VERSION}: \
                 use the release that wrote it"
            ),
            SuperblockError::TooLarge(length) => {
                write!(f, "a superblock of {length} bytes is longer than {SUPERBLOCK_MAX}")
            }
        }
    }
}

impl core::error::Error for SuperblockError {}

impl From<DiskError> for SuperblockError {
    fn from(error: DiskError) -> Self {
        SuperblockError::Disk(error)
    }
}

/// A small value in two copies on the disk.
pub struct Superblock<D: Disk> {
    disk: D,
    identity: Identity,
    names: [String; 2],
    files: [Option<D::File>; 2],
    /// The number of the last store.
    sequence: u64,
    /// Copies that could not be read. The next time they are written as a whole, so that the drive puts other sectors in the
    /// place of bad ones.
    unreadable: [bool; 2],
    poison: Option<DiskError>,
}

/// What stands in one of the files.
enum Copy {
    Missing,
    Damaged,
    /// The disk cannot read it now. As long as the other one can be read that is no more than damage.
    Unreadable(DiskError),
    Version(u32),
    Good {
        identity: Identity,
        sequence: u64,
        value: Vec<u8>,
    },
}

impl<D: Disk> Superblock<D> {
    /// Opens the superblock of this name and loads its newest value. A copy that is damaged or stale is written again, and
    /// both are durable before this returns a value.
    pub fn open(
        disk: D,
        name: &str,
        identity: Identity,
    ) -> Result<(Self, Loaded), SuperblockError> {
        let names = [format!("{name}.a"), format!("{name}.b")];
        let (file_a, copy_a) = load(&disk, &names[0])?;
        let (file_b, copy_b) = load(&disk, &names[1])?;
        let files = [file_a, file_b];
        let unreadable = [&copy_a, &copy_b].map(|copy| matches!(copy, Copy::Unreadable(_)));
        let mut block =
            Superblock { disk, identity, names, files, sequence: 0, unreadable, poison: None };
        let (loaded, newest) = block.judge(copy_a, copy_b)?;
        if let Loaded::Present { value, .. } = &loaded {
            let bytes = block.encode(value);
            // The copy that was read is written last, and is there until the other is durable. It is written at all because
            // what was read may be in the machine's memory only.
            block.write_copy(1 - newest, &bytes)?;
            block.write_copy(newest, &bytes)?;
        }
        Ok((block, loaded))
    }

    /// Stores a value: when this returns, both copies are durable. After an error the superblock stores nothing any more;
    /// which of the two values the disk has is found out by opening it again.
    pub fn store(&mut self, value: &[u8]) -> Result<(), SuperblockError> {
        if value.len() > SUPERBLOCK_MAX {
            return Err(SuperblockError::TooLarge(value.len()));
        }
        if let Some(error) = &self.poison {
            let what = format!("the superblock failed before: {error}");
            return Err(DiskError::new(DiskErrorKind::Failed, what).into());
        }
        // While one copy is overwritten the other is all that there is. So one that has rotted since is written first.
        let is_second_good = self.is_good(1);
        self.sequence = self.sequence.saturating_add(1);
        let bytes = self.encode(value);
        let (first, second) = if is_second_good { (0, 1) } else { (1, 0) };
        let stored = self.write_copy(first, &bytes).and_then(|()| self.write_copy(second, &bytes));
        if let Err(error) = &stored {
            self.poison = Some(error.clone());
        }
        Ok(stored?)
    }

    /// Whether a copy still holds what was stored last, as far as can be seen. One that cannot be read now has not rotted.
    fn is_good(&self, index: usize) -> bool {
        let loaded = self.files[index].is_some().then(|| load(&self.disk, &self.names[index]));
        match loaded {
            Some(Ok((_, Copy::Good { sequence, .. }))) => sequence == self.sequence,
            Some(Err(_) | Ok((_, Copy::Unreadable(_)))) => true,
            Some(Ok(_)) => false,
            // Before the first store there is nothing to lose.
            None => true,
        }
    }

    /// Compares the copies, and says which of them is the newest.
    fn judge(&mut self, a: Copy, b: Copy) -> Result<(Loaded, usize), SuperblockError> {
        for (copy, file) in [&a, &b].into_iter().zip(&self.names) {
            if let Copy::Good { identity, .. } = copy
                && *identity != self.identity
            {
                let (file, found) = (file.clone(), *identity);
                return Err(SuperblockError::OtherIdentity {
                    file,
                    found,
                    expected: self.identity,
                });
            }
        }
        let (newest, sequence, value, damaged) = match (a, b) {
            (Copy::Missing, Copy::Missing) => return Ok((Loaded::Absent, 0)),
            (Copy::Version(one), Copy::Version(two)) if one == two => {
                let file = self.names[0].clone();
                return Err(SuperblockError::UnknownVersion { file, version: one });
            }
            (
                Copy::Good { sequence: one, value, .. },
                Copy::Good { sequence: two, value: other, .. },
            ) => match one.cmp(&two) {
                core::cmp::Ordering::Greater => (0, one, value, false),
                core::cmp::Ordering::Less => (1, two, other, false),
                core::cmp::Ordering::Equal if value == other => (0, one, value, false),
                core::cmp::Ordering::Equal => return Ok((Loaded::Lost, 0)),
            },
            // The very first store was interrupted between its two files: nothing is damaged.
            (Copy::Good { sequence: 1, value, .. }, Copy::Missing) => (0, 1, value, false),
            (Copy::Good { sequence, value, .. }, _) => (0, sequence, value, true),
            (_, Copy::Good { sequence, value, .. }) => (1, sequence, value, true),
            // Nobody may take a promise for lost that the disk may give back tomorrow.
            (Copy::Unreadable(error), _) | (_, Copy::Unreadable(error)) => return Err(error.into()),
            _ => return Ok((Loaded::Lost, 0)),
        };
        self.sequence = sequence;
        Ok((Loaded::Present { value, damaged }, newest))
    }

    fn encode(&self, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(COPY_SIZE);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.identity.0);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        let digest = digest(&bytes, value);
        bytes.extend_from_slice(&digest);
        bytes.extend_from_slice(value);
        bytes
    }

    fn write_copy(&mut self, index: usize, bytes: &[u8]) -> Result<(), DiskError> {
        if let Some(file) = &self.files[index] {
            if self.unreadable[index] {
                let mut whole = bytes.to_vec();
                whole.resize(COPY_SIZE, 0);
                file.write_at(0, &whole)?;
            } else {
                file.write_at(0, bytes)?;
            }
            file.flush()?;
            self.unreadable[index] = false;
            return Ok(());
        }
        let temporary = format!("{}{}", self.names[index], crate::segment::TEMPORARY);
        let file = self.disk.create(&temporary, COPY_SIZE as u64)?;
        file.write_at(0, bytes)?;
        file.flush()?;
        self.disk.rename(&temporary, &self.names[index])?;
        self.disk.flush()?;
        self.files[index] = Some(file);
        Ok(())
    }
}

impl<D: Disk> fmt::Debug for Superblock<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Superblock")
            .field("names", &self.names)
            .field("identity", &self.identity)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

fn digest(header: &[u8], value: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(&header[..DIGEST_AT]);
    hasher.update(value);
    hasher.finalize().into()
}

fn load<D: Disk>(disk: &D, name: &str) -> Result<(Option<D::File>, Copy), DiskError> {
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok((None, Copy::Missing)),
        Err(error) => return Err(error),
    };
    let size = file.size()?.min(COPY_SIZE as u64) as usize;
    let mut bytes = vec![0; size];
    let copy = match file.read_at(0, &mut bytes) {
        Ok(()) => decode(&bytes).unwrap_or(Copy::Damaged),
        Err(error) => Copy::Unreadable(error),
    };
    Ok((Some(file), copy))
}

fn decode(bytes: &[u8]) -> Option<Copy> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if bytes.get(..8)? != MAGIC {
        return None;
    }
    let version = number(8)?;
    if version != FORMAT_VERSION {
        return Some(Copy::Version(version));
    }
    let length = number(12)? as usize;
    let value = bytes.get(VALUE_AT..VALUE_AT.checked_add(length)?)?;
    if bytes.get(DIGEST_AT..VALUE_AT)? != digest(bytes, value) {
        return None;
    }
    Some(Copy::Good {
        identity: Identity(bytes.get(16..32)?.try_into().ok()?),
        sequence: u64::from_le_bytes(bytes.get(32..40)?.try_into().ok()?),
        value: value.into(),
    })
}
