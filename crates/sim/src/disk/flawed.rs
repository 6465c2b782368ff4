//! The disk in memory as a driver sees it: as it is, or as a driver that is not right makes use of it.
//!
//! Nothing that is wrong is in production's code. What a wrong log would do differently is done here, between the log and
//! its disk: a flush is not asked for, a name is not made durable, the second copy of a superblock is nowhere.

use crate::host::Flaw;
use testudo_wal::{Disk, DiskError, DiskErrorKind, DiskFile, MemoryDisk, MemoryFile};

/// A disk in memory, and what is wrong with whoever uses it.
#[derive(Clone, Debug)]
pub(crate) struct FlawedDisk {
    pub(super) bytes: MemoryDisk,
    pub(super) flaw: Option<Flaw>,
}

/// A file of it.
#[derive(Clone, Debug)]
pub(crate) struct FlawedFile {
    file: MemoryFile,
    flaw: Option<Flaw>,
    is_log: bool,
}

impl FlawedDisk {
    fn file(&self, name: &str, file: MemoryFile) -> FlawedFile {
        FlawedFile { file, flaw: self.flaw, is_log: name.starts_with("log-") }
    }

    /// Whether this is the copy that a driver with a single superblock does not have.
    fn is_nowhere(&self, name: &str) -> bool {
        self.flaw == Some(Flaw::KeepsOneSuperblock) && name.starts_with("superblock.b")
    }
}

impl Disk for FlawedDisk {
    type File = FlawedFile;

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.bytes.list()
    }

    fn create(&self, name: &str, size: u64) -> Result<FlawedFile, DiskError> {
        let nowhere = MemoryDisk::new();
        let disk = if self.is_nowhere(name) { &nowhere } else { &self.bytes };
        disk.create(name, size).map(|file| self.file(name, file))
    }

    fn open(&self, name: &str) -> Result<FlawedFile, DiskError> {
        self.bytes.open(name).map(|file| self.file(name, file))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        if self.is_nowhere(from) {
            return Ok(());
        }
        self.bytes.rename(from, to)?;
        if self.flaw == Some(Flaw::RemovesEarly) && to.starts_with("log-") {
            // The new segment's name is not durable yet, and nothing says that what is in the old ones is done with.
            let names = self.bytes.list()?;
            let older = names.iter().filter(|name| name.starts_with("log-") && name.as_str() < to);
            older.into_iter().try_for_each(|name| self.bytes.remove(name))?;
            self.bytes.flush()?;
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        match self.bytes.remove(name) {
            // It has removed it already.
            Err(error) if error.kind == DiskErrorKind::NotFound && self.flaw.is_some() => Ok(()),
            removed => removed,
        }
    }

    fn flush(&self) -> Result<(), DiskError> {
        if self.flaw == Some(Flaw::LosesNames) {
            return Ok(());
        }
        self.bytes.flush()
    }
}

impl DiskFile for FlawedFile {
    fn size(&self) -> Result<u64, DiskError> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_at(offset, bytes)
    }

    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.file.truncate(size)
    }

    fn flush(&self) -> Result<(), DiskError> {
        match self.flaw {
            Some(Flaw::FlushesNothing) if self.is_log => Ok(()),
            // The second one succeeds, whatever became of what the first should have written.
            Some(Flaw::FlushesAgain) => self.file.flush().or_else(|_| self.file.flush()),
            _ => self.file.flush(),
        }
    }
}
