//! A directory to look at: what is changed is changed in memory, and nothing on the disk.
//!
//! Opening a log mends it, opening a superblock may write one, and an automaton that takes up its past may want to write more.
//! Whoever only looks lets them, and throws that away.

use crate::disk::LOCK;
use crate::sync::lock;
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use testudo_wal::{Disk, DiskError, DiskErrorKind, DiskFile};

/// One directory, held by this process alone, that is never written to.
#[derive(Debug)]
pub(crate) struct Overlay {
    path: PathBuf,
    /// What is other than on the disk, or open: none of a name that was removed.
    files: Mutex<BTreeMap<String, Option<Arc<Mutex<Content>>>>>,
    /// Holds the lock as long as it is open. None where nobody has ever taken it.
    _lock: Option<File>,
}

/// An open file of an [`Overlay`].
#[derive(Debug)]
pub(crate) struct OverlayFile {
    name: String,
    content: Arc<Mutex<Content>>,
}

#[derive(Debug)]
enum Content {
    /// As on the disk.
    Same(File),
    /// Its bytes as they would be there.
    Changed(Vec<u8>),
}

impl Overlay {
    /// Looks at this directory, which need not exist: then it holds nothing.
    ///
    /// # Errors
    /// [`DiskErrorKind::Busy`] if a process has it.
    pub(crate) fn over(path: &Path) -> Result<Self, DiskError> {
        let failed = |error: &io::Error| failure("open", &path.display().to_string(), error);
        let held = match File::open(path.join(LOCK)) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&error)),
        };
        if let Some(file) = &held {
            file.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => {
                    let what = format!("{} is held by another process", path.display());
                    DiskError::new(DiskErrorKind::Busy, what)
                }
                TryLockError::Error(error) => failed(&error),
            })?;
        }
        Ok(Self { path: path.into(), files: Mutex::default(), _lock: held })
    }

    /// Throws away what was changed, and holds the directory still.
    pub(crate) fn let_go(&self) {
        lock(&self.files).clear();
    }

    fn content(&self, name: &str) -> Result<Arc<Mutex<Content>>, DiskError> {
        let mut files = lock(&self.files);
        match files.get(name) {
            Some(Some(content)) => Ok(content.clone()),
            Some(None) => Err(DiskError::new(DiskErrorKind::NotFound, format!("open {name}"))),
            None => {
                let file = File::open(self.path.join(name));
                let file = file.map_err(|error| failure("open", name, &error))?;
                let content = Arc::new(Mutex::new(Content::Same(file)));
                files.insert(name.into(), Some(content.clone()));
                Ok(content)
            }
        }
    }
}

impl Disk for Overlay {
    type File = OverlayFile;

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let failed = |error: io::Error| failure("list", &self.path.display().to_string(), &error);
        let files = lock(&self.files);
        let changed = files.iter().filter(|(_, content)| content.is_some());
        let mut names: Vec<String> = changed.map(|(name, _)| name.clone()).collect();
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let is_file = entry.file_type().map_err(failed)?.is_file();
            // Names that are not text are none of ours.
            if let Ok(name) = entry.file_name().into_string()
                && is_file
                && name != LOCK
                && !files.contains_key(&name)
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, size: u64) -> Result<OverlayFile, DiskError> {
        let bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        let content = Arc::new(Mutex::new(Content::Changed(bytes)));
        lock(&self.files).insert(name.into(), Some(content.clone()));
        Ok(OverlayFile { name: name.into(), content })
    }

    fn open(&self, name: &str) -> Result<OverlayFile, DiskError> {
        Ok(OverlayFile { name: name.into(), content: self.content(name)? })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let content = self.content(from)?;
        let mut files = lock(&self.files);
        files.insert(from.into(), None);
        files.insert(to.into(), Some(content));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.content(name)?;
        lock(&self.files).insert(name.into(), None);
        Ok(())
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

impl OverlayFile {
    fn failed(&self, what: &str, error: &io::Error) -> DiskError {
        failure(what, &self.name, error)
    }

    /// Changes the bytes in memory, which are those of the disk until then.
    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) -> Result<(), DiskError> {
        let mut content = lock(&self.content);
        if let Content::Same(file) = &*content {
            let length = file.metadata().map_err(|error| self.failed("size of", &error))?.len();
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, 0).map_err(|error| self.failed("read", &error))?;
            *content = Content::Changed(bytes);
        }
        if let Content::Changed(bytes) = &mut *content {
            change(bytes);
        }
        Ok(())
    }
}

impl DiskFile for OverlayFile {
    fn size(&self) -> Result<u64, DiskError> {
        match &*lock(&self.content) {
            Content::Same(file) => {
                let length = file.metadata().map(|metadata| metadata.len());
                length.map_err(|error| self.failed("size of", &error))
            }
            Content::Changed(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        match &*lock(&self.content) {
            Content::Same(file) => {
                file.read_exact_at(buffer, offset).map_err(|error| self.failed("read", &error))
            }
            Content::Changed(bytes) => {
                let begin = usize::try_from(offset).unwrap_or(usize::MAX);
                let range = begin..begin.saturating_add(buffer.len());
                let found = bytes.get(range).ok_or_else(|| {
                    self.failed("read", &io::Error::from(ErrorKind::UnexpectedEof))
                })?;
                buffer.copy_from_slice(found);
                Ok(())
            }
        }
    }

    fn write_at(&self, offset: u64, written: &[u8]) -> Result<(), DiskError> {
        self.change(|bytes| {
            let begin = offset as usize;
            let end = begin + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[begin..end].copy_from_slice(written);
        })
    }

    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.change(|bytes| bytes.resize(size as usize, 0))
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

fn failure(what: &str, name: &str, error: &io::Error) -> DiskError {
    let kind = match error.kind() {
        ErrorKind::NotFound => DiskErrorKind::NotFound,
        _ => DiskErrorKind::Failed,
    };
    DiskError::new(kind, format!("{what} {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FsDisk;
    use testudo_wal::{Identity, Log, Options};

    const IDENTITY: Identity = Identity(*b"somebody's disk!");
    const OPTIONS: Options = Options { segment_bytes: 8192, record_limit: 1 << 20, salt: 3 };

    fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(folder).unwrap();
        let read = |entry: std::fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        };
        entries.map(|entry| read(entry.unwrap())).collect()
    }

    #[test]
    fn a_log_is_mended_and_written_and_the_disk_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        {
            let disk = Arc::new(FsDisk::open(folder.path()).unwrap());
            let (mut log, _) = Log::open(disk, IDENTITY, OPTIONS).unwrap();
            for index in 0..40_u64 {
                log.append(0, &vec![index as u8; 400]).unwrap();
                log.flush().unwrap();
                log.prepare().unwrap();
            }
            log.append(0, &[9; 300]).unwrap();
        }
        let before = bytes(folder.path());
        let disk = Arc::new(Overlay::over(folder.path()).unwrap());
        let (mut log, found) = Log::open(disk.clone(), IDENTITY, OPTIONS).unwrap();
        assert_eq!(found.next, 40);
        for index in 40..80_u64 {
            log.append(0, &vec![index as u8; 400]).unwrap();
            log.flush().unwrap();
        }
        log.truncate_before(50).unwrap();
        assert_eq!(log.read(79).unwrap(), [79; 400]);
        drop(log);
        let (log, found) = Log::open(disk.clone(), IDENTITY, OPTIONS).unwrap();
        assert_eq!((found.next, log.read(60).unwrap()), (80, vec![60; 400]));
        let busy = FsDisk::open(folder.path()).unwrap_err();
        assert_eq!(busy.kind, DiskErrorKind::Busy);
        assert_eq!(bytes(folder.path()), before);
    }

    #[test]
    fn who_looks_does_not_disturb_and_is_not_disturbed() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("nowhere");
        let overlay = Overlay::over(&missing).unwrap();
        overlay.create("a", 4).unwrap().write_at(2, b"long").unwrap();
        overlay.rename("a", "b").unwrap();
        assert_eq!(overlay.list().unwrap(), ["b"]);
        assert_eq!(overlay.open("a").unwrap_err().kind, DiskErrorKind::NotFound);
        let file = overlay.open("b").unwrap();
        let mut read = [1; 6];
        file.read_at(0, &mut read).unwrap();
        assert_eq!(&read, b"\0\0long");
        assert_eq!(file.read_at(1, &mut read).unwrap_err().kind, DiskErrorKind::Failed);
        overlay.remove("b").unwrap();
        assert!(!missing.exists());

        let held = FsDisk::open(folder.path()).unwrap();
        assert_eq!(Overlay::over(folder.path()).unwrap_err().kind, DiskErrorKind::Busy);
        drop(held);
        Overlay::over(folder.path()).unwrap();
    }
}
