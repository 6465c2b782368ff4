//! Snapshot files: a large value, written once, whole or not at all.
//!
//! ```text
//!   header: magic · version · identity · position · check          40 bytes and a checksum
//!   chunk:  kind · length · payload check · check, then the payload
//!   end:    a chunk of the other kind: number of chunks, digest of everything before
//! ```
//!
//! The file is written under a temporary name, flushed, and then given its name, so that one that has its name had been whole.
//! Reading checks every chunk before handing it out, and the digest of the whole before saying that it was all.

use crate::disk::{Disk, DiskError, DiskErrorKind, DiskFile};
use crate::segment::{FORMAT_VERSION, Identity, TEMPORARY};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use crc32fast::Hasher;
use sha2::{Digest, Sha256};

/// The longest chunk of a snapshot in bytes.
pub const CHUNK_MAX: usize = 64 << 20;

/// Bytes that are gathered before they are written.
const GATHERED: usize = 256 << 10;
/// Bytes that are written before they are flushed.
const FLUSHED: u64 = 8 << 20;

const MAGIC: [u8; 8] = *b"TSTDSNAP";
const HEADER_SIZE: usize = 40;
const CHUNK_HEADER: usize = 16;
const CHUNK: u32 = 0x4B4E_4843;
const END: u32 = 0x0044_4E45;
const END_SIZE: usize = 8 + 32;

/// Why a snapshot could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// The disk failed.
    Disk(DiskError),
    /// There is no snapshot at this position.
    Absent(u64),
    /// The snapshot does not match its checksums, or is not complete.
    Damaged {
        /// Where in the file, in bytes.
        offset: u64,
        /// What was found there.
        what: &'static str,
    },
    /// The snapshot belongs to another cluster, group or node.
    OtherIdentity(Identity),
    /// The snapshot was written in a format that this version does not know.
    UnknownVersion(u32),
    /// A chunk is longer than [`CHUNK_MAX`].
    TooLarge(usize),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Disk(error) => write!(f, "snapshot: {error}"),
            SnapshotError::Absent(position) => write!(f, "there is no snapshot at {position}"),
            SnapshotError::Damaged { offset, what } => {
                write!(f, "the snapshot is damaged at byte {offset}: {what}")
            }
            SnapshotError::OtherIdentity(found) => {
                write!(f, "the snapshot belongs to {found}: the directory is another node's")
            }
            SnapshotError::UnknownVersion(version) => write!(
                f,
                "the snapshot has format version {version}, but this program knows only {FORMAT_VERSION}"
            ),
            SnapshotError::TooLarge(length) => {
                write!(f, "a chunk of {length} bytes is longer than {CHUNK_MAX}")
            }
        }
    }
}

impl core::error::Error for SnapshotError {}

impl From<DiskError> for SnapshotError {
    fn from(error: DiskError) -> Self {
        SnapshotError::Disk(error)
    }
}

/// The snapshots of one name on a disk, each of one position (a slot, or whatever the caller counts).
#[derive(Clone, Debug)]
pub struct Snapshots<D> {
    disk: D,
    name: String,
    identity: Identity,
}

impl<D: Disk> Snapshots<D> {
    /// The snapshots called `name`, which tells groups on one disk apart, and must be fit for a file's name.
    pub fn new(disk: D, name: &str, identity: Identity) -> Self {
        Snapshots { disk, name: name.into(), identity }
    }

    /// Writes a snapshot and returns the digest of the whole file up to its end mark. When this returns it is durable; before,
    /// and after an error, an earlier snapshot of this position is as it was, and no other is touched.
    pub fn write<C: AsRef<[u8]>>(
        &self,
        position: u64,
        chunks: impl IntoIterator<Item = C>,
    ) -> Result<[u8; 32], SnapshotError> {
        let mut writer = self.begin(position)?;
        for chunk in chunks {
            writer.put(chunk.as_ref())?;
        }
        writer.finish()
    }

    /// Begins a snapshot whose chunks are made one after the other. Nothing of it is seen before
    /// [`SnapshotWriter::finish`].
    pub fn begin(&self, position: u64) -> Result<SnapshotWriter<'_, D>, SnapshotError> {
        let temporary = format!("{}{TEMPORARY}", self.file_name(position));
        let created = self.disk.create(&temporary, 0);
        Ok(SnapshotWriter {
            snapshots: self,
            position,
            seed: seed(self.identity, position),
            file: created.inspect_err(|_| drop(self.disk.remove(&temporary)))?,
            temporary,
            offset: 0,
            flushed: 0,
            chunks: 0,
            hasher: Sha256::new(),
            buffer: header(self.identity, position).to_vec(),
            finished: false,
        })
    }

    /// Opens the snapshot of a position for reading.
    pub fn read(&self, position: u64) -> Result<SnapshotReader<D::File>, SnapshotError> {
        let file = self.disk.open(&self.file_name(position)).map_err(|error| match error.kind {
            DiskErrorKind::NotFound => SnapshotError::Absent(position),
            _ => SnapshotError::Disk(error),
        })?;
        let size = file.size()?;
        let mut reader = SnapshotReader {
            file,
            size,
            offset: 0,
            chunks: 0,
            seed: seed(self.identity, position),
            hasher: Sha256::new(),
            finished: false,
        };
        let mut bytes = [0; HEADER_SIZE];
        reader.take(&mut bytes)?;
        check_header(&bytes, self.identity, position)?;
        Ok(reader)
    }

    /// The positions of all snapshots, in order.
    pub fn list(&self) -> Result<Vec<u64>, DiskError> {
        let names = self.disk.list()?;
        let mut positions: Vec<u64> = names.iter().filter_map(|name| self.parse(name)).collect();
        positions.sort_unstable();
        Ok(positions)
    }

    /// The position of the newest snapshot.
    pub fn latest(&self) -> Result<Option<u64>, DiskError> {
        Ok(self.list()?.pop())
    }

    /// Removes the snapshots of positions before this one, durably.
    pub fn remove_before(&self, position: u64) -> Result<(), DiskError> {
        let old: Vec<u64> = self.list()?.into_iter().filter(|at| *at < position).collect();
        for at in &old {
            self.disk.remove(&self.file_name(*at))?;
        }
        if old.is_empty() { Ok(()) } else { self.disk.flush() }
    }

    /// Removes what interrupted writes left behind. For the start, while no snapshot is being written.
    pub fn clean(&self) -> Result<(), DiskError> {
        for name in self.disk.list()? {
            if name.strip_suffix(TEMPORARY).is_some_and(|name| self.parse(name).is_some()) {
                self.disk.remove(&name)?;
            }
        }
        Ok(())
    }

    fn file_name(&self, position: u64) -> String {
        format!("{}-{position:016x}.snapshot", self.name)
    }

    fn parse(&self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(&self.name)?.strip_prefix('-')?.strip_suffix(".snapshot")?;
        let position = u64::from_str_radix(digits, 16).ok()?;
        (self.file_name(position) == name).then_some(position)
    }
}

/// Writes a snapshot chunk by chunk: small ones are gathered into one write, and flushed as they come, so that the last
/// flush is not a long one. A snapshot that is dropped unfinished is removed.
pub struct SnapshotWriter<'a, D: Disk> {
    snapshots: &'a Snapshots<D>,
    position: u64,
    seed: u32,
    file: D::File,
    temporary: String,
    offset: u64,
    /// What is before this is flushed. What is after may wait for the disk, together with a log's flush.
    flushed: u64,
    chunks: u64,
    hasher: Sha256,
    buffer: Vec<u8>,
    finished: bool,
}

impl<D: Disk> SnapshotWriter<'_, D> {
    /// Adds a chunk. After an error the snapshot cannot be finished.
    pub fn put(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        if chunk.len() > CHUNK_MAX {
            return Err(SnapshotError::TooLarge(chunk.len()));
        }
        self.chunk(CHUNK, chunk);
        self.chunks += 1;
        if self.buffer.len() < GATHERED {
            return Ok(());
        }
        self.write()?;
        if self.offset - self.flushed >= FLUSHED {
            self.file.flush()?;
            self.flushed = self.offset;
        }
        Ok(())
    }

    /// How many bytes it has so far.
    pub fn bytes(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    /// Ends the snapshot and gives it its name. Returns as [`Snapshots::write`] does.
    pub fn finish(mut self) -> Result<[u8; 32], SnapshotError> {
        self.write()?;
        let digest: [u8; 32] = self.hasher.clone().finalize().into();
        let mut end = Vec::with_capacity(END_SIZE);
        end.extend_from_slice(&self.chunks.to_le_bytes());
        end.extend_from_slice(&digest);
        self.chunk(END, &end);
        self.write()?;
        self.file.flush()?;
        let disk = &self.snapshots.disk;
        disk.rename(&self.temporary, &self.snapshots.file_name(self.position))?;
        disk.flush()?;
        self.finished = true;
        Ok(digest)
    }

    fn chunk(&mut self, kind: u32, payload: &[u8]) {
        let length = payload.len() as u32;
        let header = chunk_header(kind, self.seed, self.chunks, length, payload);
        self.buffer.extend_from_slice(&header);
        self.buffer.extend_from_slice(payload);
    }

    fn write(&mut self) -> Result<(), DiskError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_at(self.offset, &self.buffer)?;
        self.hasher.update(&self.buffer);
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl<D: Disk> Drop for SnapshotWriter<'_, D> {
    fn drop(&mut self) {
        if !self.finished {
            // Space is what may be missing; a leftover that cannot be removed now is removed by `clean`.
            let _ = self.snapshots.disk.remove(&self.temporary);
        }
    }
}

impl<D: Disk> fmt::Debug for SnapshotWriter<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter")
            .field("position", &self.position)
            .field("bytes", &self.offset)
            .finish_non_exhaustive()
    }
}

/// Reads a snapshot chunk by chunk.
pub struct SnapshotReader<F> {
    file: F,
    size: u64,
    offset: u64,
    chunks: u64,
    seed: u32,
    hasher: Sha256,
    finished: bool,
}

impl<F: DiskFile> SnapshotReader<F> {
    /// The next chunk, checked; `None` after the last, once the digest of the whole is checked too. A snapshot of which this
    /// has not returned `None` must not be relied on.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, SnapshotError> {
        if self.finished {
            return Ok(None);
        }
        let begin = self.offset;
        let damaged = |what| SnapshotError::Damaged { offset: begin, what };
        let digest: [u8; 32] = self.hasher.clone().finalize().into();
        let mut header = [0; CHUNK_HEADER];
        self.take(&mut header)?;
        let kind = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if edge_check(self.seed, self.chunks, &header[..12]) != header[12..] {
            return Err(damaged("the header of a chunk does not match its checksum"));
        }
        if length as usize > CHUNK_MAX || u64::from(length) > self.size - self.offset {
            return Err(damaged("a chunk is longer than the file"));
        }
        let mut payload = vec![0; length as usize];
        self.take(&mut payload)?;
        if chunk_header(kind, self.seed, self.chunks, length, &payload) != header {
            return Err(damaged("a chunk does not match its checksum"));
        }
        match kind {
            CHUNK => {
                self.chunks += 1;
                Ok(Some(payload))
            }
            END => {
                let counted = payload.get(..8) == Some(&self.chunks.to_le_bytes());
                if !counted || payload.get(8..) != Some(&digest) {
                    return Err(damaged("the snapshot does not match its digest"));
                }
                if self.offset != self.size {
                    return Err(damaged("something follows the end"));
                }
                self.finished = true;
                Ok(None)
            }
            _ => Err(damaged("a chunk of unknown kind")),
        }
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        let offset = self.offset;
        if bytes.len() as u64 > self.size.saturating_sub(offset) {
            return Err(SnapshotError::Damaged { offset, what: "the file ends early" });
        }
        self.file.read_at(offset, bytes)?;
        self.hasher.update(&*bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

impl<F> fmt::Debug for SnapshotReader<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotReader")
            .field("size", &self.size)
            .field("offset", &self.offset)
            .field("chunks", &self.chunks)
            .finish_non_exhaustive()
    }
}

fn seed(identity: Identity, position: u64) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&identity.0);
    hasher.update(&position.to_le_bytes());
    hasher.finalize()
}

fn header(identity: Identity, position: u64) -> [u8; HEADER_SIZE] {
    let mut bytes = [0; HEADER_SIZE];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[12..28].copy_from_slice(&identity.0);
    bytes[28..36].copy_from_slice(&position.to_le_bytes());
    let check = edge_check(0, 0, &bytes[..36]);
    bytes[36..40].copy_from_slice(&check);
    bytes
}

fn check_header(
    bytes: &[u8; HEADER_SIZE],
    identity: Identity,
    position: u64,
) -> Result<(), SnapshotError> {
    let damaged = |what| Err(SnapshotError::Damaged { offset: 0, what });
    if bytes[..8] != MAGIC {
        return damaged("this is no snapshot");
    }
    if edge_check(0, 0, &bytes[..36]) != bytes[36..] {
        return damaged("the header does not match its checksum");
    }
    let version = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    if version != FORMAT_VERSION {
        return Err(SnapshotError::UnknownVersion(version));
    }
    if bytes[12..28] != identity.0 {
        let mut found = [0; 16];
        found.copy_from_slice(&bytes[12..28]);
        return Err(SnapshotError::OtherIdentity(Identity(found)));
    }
    if bytes[28..36] != position.to_le_bytes() {
        return damaged("the snapshot is of another position than its name says");
    }
    Ok(())
}

fn chunk_header(
    kind: u32,
    seed: u32,
    index: u64,
    length: u32,
    payload: &[u8],
) -> [u8; CHUNK_HEADER] {
    let mut bytes = [0; CHUNK_HEADER];
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(payload);
    bytes[0..4].copy_from_slice(&kind.to_le_bytes());
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[8..12].copy_from_slice(&hasher.finalize().to_le_bytes());
    let check = edge_check(seed, index, &bytes[..12]);
    bytes[12..16].copy_from_slice(&check);
    bytes
}

fn edge_check(seed: u32, index: u64, bytes: &[u8]) -> [u8; 4] {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(&index.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize().to_le_bytes()
}
