//! A disk in memory that can do what real ones do: lose what was not flushed, in any part, fail, fill up, and rot.
//!
//! It keeps for each file what is durable, what was written since, and what a reader sees. A crash makes some of the unflushed
//! writes durable, and drops or tears the rest, as the caller chooses. A flush that is made to fail does the same on its own,
//! and reports it once, while readers go on seeing them and the next flush succeeds: that is what operating systems do, and
//! why the log never flushes twice. Names are not dropped like that: they change through a journal, which stops when it fails.
//!
//! A page that cannot be read fails every read that touches it, and every write that leaves a part of it as it was: an
//! operating system reads a page before it changes a part of it. Written as a whole it can be read again, as a drive puts
//! another sector in the place of a bad one.

use crate::disk::{Disk, DiskError, DiskErrorKind, DiskFile};
use crate::frame::{PAGE, SECTOR};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::mem;
use core::ops::Range;

/// A disk in memory. Clones are handles on the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Rc<RefCell<State>>,
}

/// An open file of a [`MemoryDisk`].
#[derive(Clone, Debug)]
pub struct MemoryFile {
    state: Rc<RefCell<State>>,
    content: Shared,
}

/// A file, whatever names it has. It is gone when no name and no open file is left.
type Shared = Rc<RefCell<Content>>;

#[derive(Debug, Default)]
struct State {
    /// What a reader of the directory sees.
    names: BTreeMap<String, Shared>,
    durable_names: BTreeMap<String, Shared>,
    unflushed_names: Vec<NameChange>,
    /// How many files were ever made.
    made: u64,
    /// The bytes that all files together may have.
    capacity: Option<u64>,
    /// How many changes succeed before one fails.
    fail_after: Option<u64>,
    /// How many changes have been asked for.
    changes: u64,
    /// Why something was refused last, until somebody asks.
    refused: Option<DiskErrorKind>,
}

#[derive(Debug, Default)]
struct Content {
    /// Its number in the order of making.
    id: u64,
    /// What a reader sees.
    seen: Vec<u8>,
    durable: Vec<u8>,
    unflushed: Vec<Write>,
    /// Pages that cannot be read, by number.
    unreadable: BTreeSet<usize>,
}

#[derive(Debug)]
enum Write {
    Bytes { offset: usize, bytes: Vec<u8> },
    Size(usize),
}

#[derive(Debug)]
enum NameChange {
    Set(String, Shared),
    Rename(String, String),
    Remove(String),
}

impl MemoryDisk {
    /// An empty disk that never fills up.
    pub fn new() -> Self {
        MemoryDisk::default()
    }

    /// From now on all files together may have that many bytes.
    pub fn limit(&self, bytes: Option<u64>) {
        self.state.borrow_mut().capacity = bytes;
    }

    /// Lets that many changes (writes, flushes, creations, renamings, removals) succeed and the one after them fail. A write
    /// that fails has been carried out by half; a flush that fails has made some part of its writes durable and forgotten the rest.
    pub fn fail_after(&self, changes: Option<u64>) {
        self.state.borrow_mut().fail_after = changes;
    }

    /// Why something was refused that would have succeeded on a sound disk: since this was asked last, and the last of it.
    pub fn take_refusal(&self) -> Option<DiskErrorKind> {
        self.state.borrow_mut().refused.take()
    }

    /// How many changes have been asked for since the disk was made.
    pub fn changes(&self) -> u64 {
        self.state.borrow().changes
    }

    /// How many bytes all files together have.
    pub fn used(&self) -> u64 {
        self.state.borrow().used()
    }

    /// Power is lost. `choose(n)` is asked for numbers below `n`, and so decides what happened to each unflushed change:
    /// a source that always says 0 drops all of them. Files that keep their names stay usable, and see what is left.
    pub fn crash(&self, choose: &mut dyn FnMut(u64) -> u64) {
        let mut state = self.state.borrow_mut();
        for content in state.files() {
            let mut content = content.borrow_mut();
            let writes = mem::take(&mut content.unflushed);
            for write in &writes {
                content.survive(write, writes.len() == 1, choose);
            }
            content.seen = content.durable.clone();
        }
        let changes = mem::take(&mut state.unflushed_names);
        // Names change through the file system's journal: what survives is a beginning.
        let kept = choose(changes.len() as u64 + 1) as usize;
        for change in changes.into_iter().take(kept) {
            change.apply(&mut state.durable_names);
        }
        state.names = state.durable_names.clone();
    }

    /// Flips one bit of a file, for all readers and for good; `false` if the file has no such bit.
    pub fn flip_bit(&self, name: &str, bit: u64) -> bool {
        let (index, mask) = ((bit / 8) as usize, 1 << (bit % 8));
        self.change(name, |bytes| bytes.get_mut(index).map(|byte| *byte ^= mask).is_some())
    }

    /// Overwrites bytes of a file, for all readers and for good, as far as the file reaches.
    pub fn rot(&self, name: &str, offset: u64, rot: &[u8]) -> bool {
        self.change(name, |bytes| {
            let begin = (offset as usize).min(bytes.len());
            for (byte, rotten) in bytes[begin..].iter_mut().zip(rot) {
                *byte = *rotten;
            }
            begin < bytes.len()
        })
    }

    /// From now on the page of a file that this byte is in cannot be read, until it is written as a whole; `false` if the
    /// file has no such byte.
    pub fn fail_reads(&self, name: &str, offset: u64) -> bool {
        let state = self.state.borrow();
        let Some(content) = state.names.get(name) else { return false };
        let mut content = content.borrow_mut();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let is_there = offset < content.seen.len();
        if is_there {
            content.unreadable.insert(offset / PAGE);
        }
        is_there
    }

    /// Puts a file on the disk, durably.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state.borrow_mut();
        let content = Content { seen: bytes.into(), durable: bytes.into(), ..Content::default() };
        let content = state.make(content);
        state.names.insert(name.into(), content.clone());
        state.durable_names.insert(name.into(), content);
    }

    /// What a reader sees of a file.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        state.names.get(name).map(|content| content.borrow().seen.clone())
    }

    /// Another disk with the same durable bytes and nothing else.
    pub fn duplicate(&self) -> MemoryDisk {
        let disk = MemoryDisk::new();
        for (name, content) in &self.state.borrow().durable_names {
            let content = content.borrow();
            disk.put(name, &content.durable);
            for page in &content.unreadable {
                disk.fail_reads(name, (page * PAGE) as u64);
            }
        }
        disk
    }

    fn change(&self, name: &str, change: impl Fn(&mut [u8]) -> bool) -> bool {
        let state = self.state.borrow();
        let Some(content) = state.names.get(name) else {
            return false;
        };
        let mut content = content.borrow_mut();
        let seen = change(&mut content.seen);
        let durable = change(&mut content.durable);
        seen || durable
    }
}

impl State {
    /// Counts a change, and fails if it is the one to fail.
    fn count(&mut self, what: &str) -> Result<(), DiskError> {
        self.changes += 1;
        match self.fail_after {
            Some(0) => {
                self.fail_after = None;
                Err(self.refuse(DiskErrorKind::Failed, what))
            }
            Some(left) => {
                self.fail_after = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn refuse(&mut self, kind: DiskErrorKind, what: &str) -> DiskError {
        self.refused = Some(kind);
        DiskError::new(kind, what)
    }

    fn make(&mut self, mut content: Content) -> Shared {
        self.made += 1;
        content.id = self.made;
        Rc::new(RefCell::new(content))
    }

    /// All files that have a name, seen or durable, each once, in the order of making.
    fn files(&self) -> Vec<Shared> {
        let named = self.names.values().chain(self.durable_names.values());
        let files: BTreeMap<u64, &Shared> =
            named.map(|content| (content.borrow().id, content)).collect();
        files.into_values().cloned().collect()
    }

    fn used(&self) -> u64 {
        self.names.values().map(|content| content.borrow().seen.len() as u64).sum()
    }

    fn reserve(&mut self, more: u64, what: &str) -> Result<(), DiskError> {
        match self.capacity {
            Some(capacity) if more > 0 && self.used().saturating_add(more) > capacity => {
                Err(self.refuse(DiskErrorKind::Full, what))
            }
            _ => Ok(()),
        }
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unflushed_names.push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Shared>) {
        match self {
            NameChange::Set(name, content) => drop(names.insert(name.clone(), content.clone())),
            NameChange::Rename(from, to) => {
                if let Some(content) = names.remove(from) {
                    names.insert(to.clone(), content);
                }
            }
            NameChange::Remove(name) => drop(names.remove(name)),
        }
    }
}

impl Content {
    /// Whether any of these bytes are in a page that cannot be read.
    fn is_unreadable(&self, bytes: Range<usize>) -> bool {
        let pages = bytes.start / PAGE..bytes.end.div_ceil(PAGE);
        self.unreadable.range(pages).next().is_some()
    }

    /// These bytes are about to be written: pages that are among them as a whole, as far as the file reaches, can be read
    /// from now on.
    fn replace_pages(&mut self, bytes: Range<usize>) {
        let end = self.seen.len();
        let is_whole = |page: &usize| {
            let (begin, after) = (page * PAGE, (page + 1) * PAGE);
            bytes.start <= begin && bytes.end >= after.min(end)
        };
        self.unreadable.retain(|page| !is_whole(page));
    }

    fn write(&mut self, write: Write) {
        write.apply(&mut self.seen);
        self.unflushed.push(write);
    }

    /// Decides what a crash leaves of an unflushed write. Only one that is alone may end within a sector: no sector holds
    /// parts of two.
    fn survive(&mut self, write: &Write, is_alone: bool, choose: &mut dyn FnMut(u64) -> u64) {
        match (choose(4), write) {
            (0, _) => {}
            (2, Write::Bytes { offset, bytes }) => {
                let mut kept = choose(bytes.len() as u64 + 1) as usize;
                if !is_alone && kept < bytes.len() {
                    let end = (*offset + kept) / SECTOR * SECTOR;
                    kept = end.saturating_sub(*offset);
                }
                overwrite(&mut self.durable, *offset, &bytes[..kept]);
            }
            (3, Write::Bytes { offset, bytes }) => {
                let mut at = *offset;
                for sector in crate::frame::sectors(bytes, *offset) {
                    if choose(2) == 1 {
                        overwrite(&mut self.durable, at, sector);
                    }
                    at += sector.len();
                }
                debug_assert!(at.is_multiple_of(SECTOR) || at == offset + bytes.len());
            }
            (_, write) => write.apply(&mut self.durable),
        }
    }
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Write::Bytes { offset, bytes: new } => overwrite(bytes, *offset, new),
            Write::Size(size) => bytes.resize(*size, 0),
        }
    }
}

fn overwrite(bytes: &mut Vec<u8>, offset: usize, new: &[u8]) {
    let end = offset + new.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(new);
}

fn not_found(what: &str, name: &str) -> DiskError {
    DiskError::new(DiskErrorKind::NotFound, format!("{what} {name}"))
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn list(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.state.borrow().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, size: u64) -> Result<MemoryFile, DiskError> {
        let mut state = self.state.borrow_mut();
        state.count("create")?;
        state.reserve(size, name)?;
        let mut content = Content::default();
        content.write(Write::Size(size as usize));
        let content = state.make(content);
        state.change_name(NameChange::Set(name.into(), content.clone()));
        Ok(MemoryFile { state: self.state.clone(), content })
    }

    fn open(&self, name: &str) -> Result<MemoryFile, DiskError> {
        let content = self.state.borrow().names.get(name).cloned();
        let content = content.ok_or_else(|| not_found("open", name))?;
        Ok(MemoryFile { state: self.state.clone(), content })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut state = self.state.borrow_mut();
        state.count("rename")?;
        if !state.names.contains_key(from) {
            return Err(not_found("rename", from));
        }
        state.change_name(NameChange::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let mut state = self.state.borrow_mut();
        state.count("remove")?;
        if !state.names.contains_key(name) {
            return Err(not_found("remove", name));
        }
        state.change_name(NameChange::Remove(name.into()));
        Ok(())
    }

    fn flush(&self) -> Result<(), DiskError> {
        let mut state = self.state.borrow_mut();
        state.count("flush of the directory")?;
        let changes = mem::take(&mut state.unflushed_names);
        for change in changes {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn size(&self) -> Result<u64, DiskError> {
        Ok(self.content.borrow().seen.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let content = self.content.borrow();
        let range = usize::try_from(offset)
            .ok()
            .and_then(|begin| Some(begin..begin.checked_add(buffer.len())?))
            .filter(|range| range.end <= content.seen.len())
            .ok_or_else(|| DiskError::new(DiskErrorKind::Failed, "read past the end"))?;
        if content.is_unreadable(range.clone()) {
            return Err(DiskError::new(DiskErrorKind::Failed, "a page cannot be read"));
        }
        buffer.copy_from_slice(&content.seen[range]);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.state.borrow_mut();
        let counted = state.count("write");
        let (offset, size) = (offset as usize, self.content.borrow().seen.len());
        let growth = (offset + bytes.len()).saturating_sub(size);
        state.reserve(growth as u64, "write")?;
        let range = offset..offset + bytes.len();
        self.content.borrow_mut().replace_pages(range.clone());
        if self.content.borrow().is_unreadable(range) {
            let what = "a page cannot be read that is written in part";
            return Err(DiskError::new(DiskErrorKind::Failed, what));
        }
        let done = if counted.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        self.content.borrow_mut().write(Write::Bytes { offset, bytes: done.into() });
        counted
    }

    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        let mut state = self.state.borrow_mut();
        state.count("truncate")?;
        let growth = size.saturating_sub(self.content.borrow().seen.len() as u64);
        state.reserve(growth, "truncate")?;
        self.content.borrow_mut().write(Write::Size(size as usize));
        Ok(())
    }

    fn flush(&self) -> Result<(), DiskError> {
        let mut state = self.state.borrow_mut();
        let counted = state.count("flush");
        let mut noise = state.changes.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut content = self.content.borrow_mut();
        let writes = mem::take(&mut content.unflushed);
        for write in &writes {
            match counted {
                Ok(()) => write.apply(&mut content.durable),
                Err(_) => content.survive(write, writes.len() == 1, &mut |bound| {
                    // Any spread will do, as long as one run is like the other.
                    noise = noise.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                    (noise >> 33) % bound
                }),
            }
        }
        counted
    }
}
