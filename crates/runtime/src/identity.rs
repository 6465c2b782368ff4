//! A data folder belongs to one node of one cluster, and says so.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use testudo_core::{ClusterId, Digest, Encode, GroupId, PublicKey};

/// The file that says whose folder it is.
const FILE: &str = "identity";
const TITLE: &str = "testudo data folder, format 1";

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It belongs to somebody else.
    #[error("{folder} belongs to another node.\n  it says:  {found}\n  this is:  {expected}")]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// Whose it says that it is.
        found: String,
        /// Who wants it.
        expected: String,
    },
    /// It cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// Who a data folder belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) cluster: ClusterId,
    pub(crate) group: GroupId,
    /// The node's identity key, which outlives its voting keys.
    pub(crate) node: PublicKey,
}

impl Owner {
    /// The same as one short name, for files that hold no text.
    pub(crate) fn short(&self) -> [u8; 16] {
        let mut bytes = b"testudo data folder".to_vec();
        self.cluster.encode(&mut bytes);
        self.group.encode(&mut bytes);
        self.node.encode(&mut bytes);
        let mut short = [0; 16];
        short.copy_from_slice(&Digest::of(&bytes).0[..16]);
        short
    }

    fn sentence(&self) -> String {
        format!("cluster {}, group {}, node {}", self.cluster, self.group, self.node)
    }

    /// Whether a folder is this owner's already. One that is nobody's is none's yet. The caller holds its lock.
    pub(crate) fn has(&self, folder: &Path) -> Result<bool, FolderError> {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let found = text.strip_prefix(TITLE).map_or(text.trim(), str::trim);
                if found == self.sentence() {
                    return Ok(true);
                }
                let (found, expected) = (shorten(found), self.sentence());
                Err(FolderError::Foreign { folder: folder.to_owned(), found, expected })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(FolderError::Io { path, error }),
        }
    }

    /// Takes a folder that is nobody's, once what it is to hold is durable there: from then on a folder that holds
    /// nothing has lost it.
    pub(crate) fn take(&self, folder: &Path) -> Result<(), FolderError> {
        let path = folder.join(FILE);
        self.write(folder, &path).map_err(|error| FolderError::Io { path, error })
    }

    /// Whole or not at all, whatever crashes.
    fn write(&self, folder: &Path, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let mut file = fs::File::create(&temporary)?;
        writeln!(file, "{TITLE}\n{}", self.sentence())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(folder)?.sync_all()
    }
}

/// What a file says, made fit for an error's sentence.
fn shorten(text: &str) -> String {
    let mut short = String::new();
    for character in text.chars().take(200) {
        if character.is_control() {
            let _ = write!(short, " ");
        } else {
            short.push(character);
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(node: u8) -> Owner {
        Owner { cluster: ClusterId([7; 16]), group: GroupId(1), node: PublicKey([node; 32]) }
    }

    #[test]
    fn a_folder_stays_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!owner(1).has(folder.path()).unwrap());
        owner(1).take(folder.path()).unwrap();
        assert!(owner(1).has(folder.path()).unwrap());
        let refused = owner(2).has(folder.path()).unwrap_err();
        let sentence = refused.to_string();
        assert!(sentence.contains("belongs to another node"), "{sentence}");
        assert!(sentence.contains(&PublicKey([1; 32]).to_string()), "{sentence}");
        assert_ne!(owner(1).short(), owner(2).short());
    }

    #[test]
    fn a_file_that_is_something_else_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "my diary\u{7}\n").unwrap();
        assert!(matches!(owner(1).has(folder.path()), Err(FolderError::Foreign { .. })));
    }
}
