//! The data folder of an `up`: held by one process, and gone at the end if it was ephemeral.
//!
//! ```text
//! DIR/lock             held while an `up` runs; says its process id
//! DIR/cluster.toml     the cluster file, with this run's ports
//! DIR/keys/            one key file per node
//! DIR/replica-N.log    what replica N logs; replica-N.log.1 is what it logged before
//! DIR/replica-N/       its data folder
//! ```

use crate::cluster;
use crate::failure::{Failure, Outcome, plain};
use crate::init::private_folder;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
const KEYS: &str = "keys";

/// A data folder that this process holds.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    is_ephemeral: bool,
    /// The operating system frees the lock with the process, however that ends.
    _lock: File,
}

impl Folder {
    /// Takes the folder at `path`, making it if it is not there.
    pub(crate) fn take(path: &Path) -> Outcome<Self> {
        refuse_foreign(path)?;
        private_folder(path)?;
        let lock = lock(path)?;
        Ok(Self { path: path.into(), is_ephemeral: false, _lock: lock })
    }

    /// A new folder for temporary files.
    pub(crate) fn ephemeral() -> Outcome<Self> {
        let mut name = [0; 6];
        getrandom::fill(&mut name).map_err(|error| {
            Failure::failed(format!("the operating system gives no randomness: {error}"))
        })?;
        let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut folder = Self::take(&std::env::temp_dir().join(format!("testudo-{name}")))?;
        folder.is_ephemeral = true;
        Ok(folder)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the key files are.
    pub(crate) fn keys(&self) -> PathBuf {
        self.path.join(KEYS)
    }

    /// Where the cluster file is.
    pub(crate) fn cluster_file(&self) -> PathBuf {
        self.path.join(cluster::FILE)
    }

    /// Where a replica logs to.
    pub(crate) fn log(&self, id: u16) -> PathBuf {
        self.path.join(format!("replica-{id}.log"))
    }

    /// Where a replica keeps its data.
    pub(crate) fn replica(&self, id: u16) -> PathBuf {
        self.path.join(format!("replica-{id}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_ephemeral
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            let path = self.path.display();
            tracing::error!("{path} could not be removed: {}", plain(&error));
        }
    }
}

/// A folder that holds anything but a cluster of ours is somebody else's.
fn refuse_foreign(path: &Path) -> Outcome {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::file("use", path, &error)),
    };
    if path.join(cluster::FILE).exists() {
        return Ok(());
    }
    for entry in entries {
        let name = entry.map_err(|error| Failure::file("read", path, &error))?.file_name();
        // A first start that did not come to its end leaves these two.
        if name != LOCK && name != KEYS {
            return Err(Failure::refused(format!(
                "{} holds other things ({}) and no cluster; take a new folder for --data",
                path.display(),
                Path::new(&name).display()
            )));
        }
    }
    Ok(())
}

/// Who holds a folder whose lock file this is, in brackets. What cannot be read is not named.
pub(crate) fn holder(lock: &mut File) -> String {
    let mut holder = String::new();
    let _ = std::io::Read::take(lock, 32).read_to_string(&mut holder);
    match holder.trim() {
        "" => String::new(),
        pid => format!(" (pid {pid})"),
    }
}

fn lock(folder: &Path) -> Outcome<File> {
    let path = folder.join(LOCK);
    let failed = |error: &std::io::Error| Failure::file("lock", &path, error);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(failed(&error)),
        Err(TryLockError::WouldBlock) => {
            let holder = holder(&mut file);
            return Err(Failure::refused(format!(
                "{} is in use by another `testudo up`{holder}; stop that one, or take another --data",
                folder.display()
            )));
        }
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| failed(&error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_once_and_names_its_holder() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("data");
        let folder = Folder::take(&path).unwrap();
        let refusal = Folder::take(&path).unwrap_err();
        let pid = std::process::id().to_string();
        assert!(refusal.sentence.contains(&pid), "{refusal}");
        drop(folder);
        Folder::take(&path).unwrap();
    }

    #[test]
    fn somebody_elses_folder_is_left_alone() {
        let outer = tempfile::tempdir().unwrap();
        std::fs::write(outer.path().join("thesis.tex"), "").unwrap();
        let refusal = Folder::take(outer.path()).unwrap_err();
        assert!(refusal.sentence.contains("thesis.tex"), "{refusal}");
        assert!(!outer.path().join(LOCK).exists());
    }

    #[test]
    fn an_ephemeral_folder_goes_with_its_holder() {
        let folder = Folder::ephemeral().unwrap();
        let path = folder.path().to_owned();
        std::fs::write(path.join("something"), "").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
