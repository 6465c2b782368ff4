//! A directory as a [`Disk`].
//!
//! Files are flushed with `fdatasync`, names by flushing the directory. New files are filled with written zeros rather than
//! holes, so that overwriting them later allocates nothing and changes no metadata. A lock file keeps a second process out of
//! the directory; the operating system frees it with the process, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use testudo_wal::{Disk, DiskError, DiskErrorKind, DiskFile};

pub(crate) const LOCK: &str = "LOCK";
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// One directory of the file system, held by this process alone.
#[derive(Debug)]
pub struct FsDisk {
    path: PathBuf,
    directory: File,
    /// Holds the lock as long as it is open.
    _lock: File,
}

/// An open file of an [`FsDisk`].
#[derive(Debug)]
pub struct FsFile {
    file: File,
    name: String,
}

impl FsDisk {
    /// Takes the directory, making it durably if it does not exist yet. [`DiskErrorKind::Busy`] if another process, or this
    /// one, has it already.
    pub fn open(path: impl AsRef<Path>) -> Result<FsDisk, DiskError> {
        let path = path.as_ref().to_path_buf();
        let named = |error| failure("open the directory", &path.display().to_string(), &error);
        make_directory(&path).map_err(named)?;
        let directory = File::open(&path).map_err(named)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(named)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DiskError::new(
                DiskErrorKind::Busy,
                format!("{} is held by another process", path.display()),
            ),
            TryLockError::Error(error) => named(error),
        })?;
        Ok(FsDisk { path, directory, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file, whose name must be one plain component: nothing outside the directory is ever touched.
    fn path_of(&self, what: &str, name: &str) -> Result<PathBuf, DiskError> {
        let mut components = Path::new(name).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(only)), None) if only == name && name != LOCK => {
                Ok(self.path.join(name))
            }
            _ => {
                let what = format!("{what} {name:?}: not the name of a file of ours");
                Err(DiskError::new(DiskErrorKind::Failed, what))
            }
        }
    }
}

impl Disk for FsDisk {
    type File = FsFile;

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let failed = |error: io::Error| failure("list", &self.path.display().to_string(), &error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_file = entry.file_type().map_err(failed)?.is_file();
            // Names that are not text are none of ours.
            if let Ok(name) = entry.file_name().into_string()
                && is_file
                && name != LOCK
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, size: u64) -> Result<FsFile, DiskError> {
        let path = self.path_of("create", name)?;
        let made = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let file = FsFile::named(name, "create", made)?;
        let mut offset = 0;
        while offset < size {
            let length = (size - offset).min(ZEROS.len() as u64);
            file.write_at(offset, &ZEROS[..length as usize])?;
            offset += length;
        }
        Ok(file)
    }

    fn open(&self, name: &str) -> Result<FsFile, DiskError> {
        let path = self.path_of("open", name)?;
        FsFile::named(name, "open", OpenOptions::new().read(true).write(true).open(path))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let (old, new) = (self.path_of("rename", from)?, self.path_of("rename to", to)?);
        std::fs::rename(old, new).map_err(|error| failure("rename", from, &error))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path_of("remove", name)?;
        std::fs::remove_file(path).map_err(|error| failure("remove", name, &error))
    }

    fn flush(&self) -> Result<(), DiskError> {
        let flushed = self.directory.sync_all();
        flushed.map_err(|error| failure("flush", &self.path.display().to_string(), &error))
    }
}

impl FsFile {
    fn named(name: &str, what: &str, opened: io::Result<File>) -> Result<FsFile, DiskError> {
        let file = opened.map_err(|error| failure(what, name, &error))?;
        Ok(FsFile { file, name: name.into() })
    }

    fn done<T>(&self, what: &str, result: io::Result<T>) -> Result<T, DiskError> {
        result.map_err(|error| failure(what, &self.name, &error))
    }
}

impl DiskFile for FsFile {
    fn size(&self) -> Result<u64, DiskError> {
        self.done("size of", self.file.metadata().map(|metadata| metadata.len()))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.done("read", self.file.read_exact_at(buffer, offset))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.done("write", self.file.write_all_at(bytes, offset))
    }

    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.done("truncate", self.file.set_len(size))
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.done("flush", self.file.sync_data())
    }
}

/// Makes the directory and those above it, and their names durable.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_directory(parent)?;
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    File::open(parent)?.sync_all()
}

fn failure(what: &str, name: &str, error: &io::Error) -> DiskError {
    let kind = match error.kind() {
        ErrorKind::NotFound => DiskErrorKind::NotFound,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskErrorKind::Full,
        _ => DiskErrorKind::Failed,
    };
    DiskError::new(kind, format!("{what} {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use testudo_wal::{Identity, Loaded, Log, OpenError, Options, Snapshots, Superblock};

    const IDENTITY: Identity = Identity(*b"file system test");
    const OPTIONS: Options = Options { segment_bytes: 8192, record_limit: 1 << 20, salt: 11 };

    /// A directory of its own, removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("testudo-disk-{}-{count}", std::process::id());
            Directory(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_do_what_the_trait_says() {
        let directory = Directory::new();
        let disk = FsDisk::open(directory.0.join("deeper").join("still")).unwrap();
        let file = disk.create("one", 3 << 20).unwrap();
        assert_eq!(file.size(), Ok(3 << 20));
        file.write_at(5, b"hello").unwrap();
        file.flush().unwrap();
        let mut buffer = [1; 7];
        file.read_at(4, &mut buffer).unwrap();
        assert_eq!(&buffer, b"\0hello\0");
        assert_eq!(
            file.read_at((3 << 20) - 6, &mut buffer).unwrap_err().kind,
            DiskErrorKind::Failed
        );
        file.truncate(4).unwrap();
        file.truncate(8).unwrap();
        let mut buffer = [1; 8];
        file.read_at(0, &mut buffer).unwrap();
        assert_eq!(buffer, [0; 8]);
        file.write_at(8, b"more").unwrap();
        assert_eq!(file.size(), Ok(12));

        disk.create("two", 0).unwrap();
        disk.rename("one", "two").unwrap();
        disk.flush().unwrap();
        assert_eq!(disk.list().unwrap(), ["two"]);
        assert_eq!(disk.open("two").unwrap().size(), Ok(12));
        disk.remove("two").unwrap();
        disk.flush().unwrap();
        assert_eq!(disk.list().unwrap(), [""; 0]);
        assert_eq!(file.size(), Ok(12), "an open file outlives its name");
    }

    #[test]
    fn errors_name_the_case_and_the_file() {
        let directory = Directory::new();
        let disk = FsDisk::open(&directory.0).unwrap();
        let error = disk.open("nothing").unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::NotFound);
        assert!(error.what.starts_with("open nothing: "), "{}", error.what);
        assert_eq!(disk.remove("nothing").unwrap_err().kind, DiskErrorKind::NotFound);
        for name in ["", ".", "..", "../escape", "a/b", "/etc/passwd", "a/", LOCK] {
            assert_eq!(disk.create(name, 0).unwrap_err().kind, DiskErrorKind::Failed, "{name}");
            assert_eq!(disk.open(name).unwrap_err().kind, DiskErrorKind::Failed, "{name}");
        }
        assert_eq!(disk.list().unwrap(), [""; 0]);
    }

    #[test]
    fn a_directory_is_held_once() {
        let directory = Directory::new();
        let disk = FsDisk::open(&directory.0).unwrap();
        let error = FsDisk::open(&directory.0).unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Busy);
        drop(disk);
        FsDisk::open(&directory.0).unwrap();
    }

    #[test]
    fn a_log_lives_on_a_directory() {
        let directory = Directory::new();
        let record = |index: u64| vec![index as u8; 100 * index as usize];
        {
            let disk = Arc::new(FsDisk::open(&directory.0).unwrap());
            let (mut log, recovered) = Log::open(disk.clone(), IDENTITY, OPTIONS).unwrap();
            assert!(recovered.fresh);
            for index in 0..50 {
                assert_eq!(log.append(0, &record(index)), Ok(index));
                if index % 3 == 0 {
                    assert_eq!(log.flush(), Ok(index + 1));
                    log.prepare().unwrap();
                }
            }
            log.append(0, b"never flushed").unwrap();
        }
        let disk = Arc::new(FsDisk::open(&directory.0).unwrap());
        let (mut log, recovered) = Log::open(disk, IDENTITY, OPTIONS).unwrap();
        assert_eq!((recovered.fresh, recovered.next, recovered.torn_bytes), (false, 49, 0));
        assert_eq!(recovered.damaged, []);
        for (position, read) in log.records(0) {
            assert_eq!(read.unwrap(), record(position));
        }
        log.truncate_before(30).unwrap();
        assert!(log.first() > 0 && log.first() <= 30);
        let log_names = |disk: &FsDisk| disk.list().unwrap().len();
        assert!(log_names(log.disk()) < 30);
        let other = Identity(*b"another identity");
        let refused = Log::open(log.disk().clone(), other, OPTIONS);
        assert!(matches!(refused, Err(OpenError::OtherIdentity { .. })));
    }

    #[test]
    fn superblock_and_snapshots_live_beside_the_log() {
        let directory = Directory::new();
        let disk = Arc::new(FsDisk::open(&directory.0).unwrap());
        let (mut block, loaded) = Superblock::open(disk.clone(), "promise", IDENTITY).unwrap();
        assert_eq!(loaded, Loaded::Absent);
        block.store(b"view 3").unwrap();
        block.store(b"view 4").unwrap();
        let (_, loaded) = Superblock::open(disk.clone(), "promise", IDENTITY).unwrap();
        assert_eq!(loaded, Loaded::Present { value: b"view 4".to_vec(), damaged: false });

        let snapshots = Snapshots::new(disk.clone(), "state", IDENTITY);
        snapshots.write(7, [b"first".as_slice(), b"second".as_slice()]).unwrap();
        snapshots.write(9, [vec![1; 100_000]]).unwrap();
        assert_eq!(snapshots.latest(), Ok(Some(9)));
        let mut reader = snapshots.read(9).unwrap();
        assert_eq!(reader.next_chunk(), Ok(Some(vec![1; 100_000])));
        assert_eq!(reader.next_chunk(), Ok(None));
        snapshots.remove_before(9).unwrap();
        assert_eq!(snapshots.list(), Ok(vec![9]));
        let (_, recovered) = Log::open(disk, IDENTITY, OPTIONS).unwrap();
        assert!(recovered.fresh);
    }
}
