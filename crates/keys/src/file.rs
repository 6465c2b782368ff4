//! A node's secrets on disk.
//!
//! A key file is text that its owner can read and nobody else may:
//!
//! ```text
//! # Testudo key file. Keep it secret.
//! version = 1
//! incarnation = 0
//! identity = "the identity key's 32 secret bytes as hexadecimal digits"
//! voting = "the voting key's"
//! ```
//!
//! The identity key is the node's for life: channels are pinned to it, and evidence follows it. The voting key signs
//! statements; a node that may have lost promises must not sign with the old one again, and comes back under the next
//! incarnation's.

use crate::ed25519::SigningKey;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use testudo_core::{Incarnation, Member, PublicKey};

/// The version of the format that is read and written.
const VERSION: u64 = 1;

/// Bytes of a key file. A longer one is refused.
pub(crate) const FILE_BYTES: u64 = 4 << 10;

/// A node's secret keys.
#[derive(Clone, Debug)]
pub struct NodeKey {
    /// What its channels are pinned to.
    pub identity: SigningKey,
    /// What it signs statements with in this incarnation.
    pub voting: SigningKey,
    /// How often it has come back under a new voting key.
    pub incarnation: Incarnation,
}

impl NodeKey {
    /// Fresh keys for a node that never ran.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, KeyFileError> {
        let key = || SigningKey::generate().map_err(KeyFileError::Randomness);
        Ok(Self { identity: key()?, voting: key()?, incarnation: Incarnation(0) })
    }

    /// The same node under a fresh voting key.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn next_incarnation(&self) -> Result<Self, KeyFileError> {
        let voting = SigningKey::generate().map_err(KeyFileError::Randomness)?;
        Ok(Self { identity: self.identity.clone(), voting, incarnation: self.incarnation.next() })
    }

    /// What others know of this node: the public halves.
    #[must_use]
    pub fn member(&self) -> Member {
        Member {
            identity: self.identity.public(),
            voting: self.voting.public(),
            incarnation: self.incarnation,
        }
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// When it cannot be read, when others than its owner could, or when it is no key file of this version.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let failed = |error| KeyFileError::Io { path: path.into(), error };
        let file = File::open(path).map_err(failed)?;
        refuse_exposed(&file, path)?;
        let mut text = Vec::new();
        file.take(FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
        Self::parse(&text).map_err(|error| KeyFileError::Malformed { path: path.into(), error })
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// When it is no key file of this version.
    pub fn parse(text: &[u8]) -> Result<Self, ParseError> {
        if text.len() as u64 > FILE_BYTES {
            return Err(ParseError { line: 0, what: "it is longer than any key file" });
        }
        let text = str::from_utf8(text)
            .map_err(|_| ParseError { line: 0, what: "it is not UTF-8 text" })?;
        let mut fields = Fields::default();
        for (i, line) in text.lines().enumerate() {
            fields.take(line).map_err(|what| ParseError { line: i + 1, what })?;
        }
        fields.finish().map_err(|what| ParseError { line: 0, what })
    }

    /// The text of its key file. Secret.
    fn text(&self) -> String {
        format!(
            "# Testudo key file. Keep it secret.\nversion = {VERSION}\nincarnation = {}\nidentity = \"{}\"\nvoting = \"{}\"\n",
            self.incarnation,
            Hex(self.identity.secret()),
            Hex(self.voting.secret()),
        )
    }

    /// Writes a key file where there is none yet, durably, for its owner alone. The file under this name is whole or
    /// is not there.
    ///
    /// # Errors
    /// When there is a file of that name, which is never overwritten, or when it cannot be written.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyFileError> {
        self.write(path, |new| {
            // A hard link, unlike a rename, fails where the name is taken.
            fs::hard_link(new, path)?;
            fs::remove_file(new)
        })
    }

    /// Writes the key file anew, as after a new incarnation, durably: after a crash the file is the old or the new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn replace(&self, path: &Path) -> Result<(), KeyFileError> {
        self.write(path, |new| fs::rename(new, path))
    }

    fn write(
        &self,
        path: &Path,
        publish: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), KeyFileError> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let steps = || {
            // Left behind by a crash, if it is there.
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = private().create_new(true).open(&new)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            publish(&new)?;
            sync_directory(path)
        };
        steps().map_err(|error| {
            // The secret must not stay under a name that nobody looks at; if this fails too, the first error counts.
            let _ = fs::remove_file(&new);
            KeyFileError::Io { path: path.into(), error }
        })
    }
}

/// What was read of a key file so far.
#[derive(Default)]
struct Fields {
    version: Option<u64>,
    incarnation: Option<u64>,
    identity: Option<[u8; 32]>,
    voting: Option<[u8; 32]>,
}

impl Fields {
    fn take(&mut self, line: &str) -> Result<(), &'static str> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (name, value) = line.split_once('=').ok_or("it is not of the form name = value")?;
        let value = value.trim();
        match name.trim() {
            "version" => set(&mut self.version, number(value)?),
            "incarnation" => set(&mut self.incarnation, number(value)?),
            "identity" => set(&mut self.identity, secret(value)?),
            "voting" => set(&mut self.voting, secret(value)?),
            _ => Err("a key file has no field of that name"),
        }
    }

    fn finish(self) -> Result<NodeKey, &'static str> {
        match self.version {
            Some(VERSION) => {}
            Some(_) => return Err("its version is not 1, the only one that this program knows"),
            None => return Err("it does not say which version it has"),
        }
        let incarnation = self.incarnation.ok_or("the incarnation is missing")?;
        let identity = self.identity.ok_or("the identity key is missing")?;
        let voting = self.voting.ok_or("the voting key is missing")?;
        if identity == voting {
            return Err("the identity key and the voting key are the same");
        }
        Ok(NodeKey {
            identity: SigningKey::from_secret(&identity),
            voting: SigningKey::from_secret(&voting),
            incarnation: Incarnation(incarnation),
        })
    }
}

pub(crate) fn set<T>(field: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err("this field was given before"),
    }
}

pub(crate) fn number(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "the value is not a number")
}

pub(crate) fn secret(text: &str) -> Result<[u8; 32], &'static str> {
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .and_then(hex)
        .ok_or("the value is not 64 hexadecimal digits between quotation marks")
}

/// 32 bytes from 64 hexadecimal digits.
fn hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut bytes = [0; 32];
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (digit(high)? << 4 | digit(low)?) as u8;
    }
    Some(bytes)
}

/// A public key from the 64 hexadecimal digits that it is printed as.
///
/// Whether they are a point of the curve is not asked: a key that is none verifies nothing.
///
/// # Errors
/// When the text is anything else.
pub fn parse_public_key(text: &str) -> Result<PublicKey, ParseError> {
    let what = "a public key is 64 hexadecimal digits";
    hex(text).map(PublicKey).ok_or(ParseError { line: 0, what })
}

pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(unix)]
pub(crate) fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

#[cfg(not(unix))]
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    options
}

#[cfg(unix)]
fn refuse_exposed(file: &File, path: &Path) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata =
        file.metadata().map_err(|error| KeyFileError::Io { path: path.into(), error })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyFileError::Exposed { path: path.into(), mode }) }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &File, _: &Path) -> Result<(), KeyFileError> {
    Ok(())
}

/// Makes the directory entry durable too.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if cfg!(unix) { File::open(parent.unwrap_or(Path::new(".")))?.sync_all() } else { Ok(()) }
}

/// Text that is not what it should be. It never shows the text, which may be secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// The line, counted from 1; 0 if no single line is to blame.
    pub(crate) line: usize,
    pub(crate) what: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

impl std::error::Error for ParseError {}

/// Why a key file was not read or written.
#[derive(Debug)]
pub enum KeyFileError {
    /// The file system says no.
    Io {
        /// The key file.
        path: PathBuf,
        /// What the file system says.
        error: io::Error,
    },
    /// Others than its owner may read or change it.
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permissions, as `chmod` counts them.
        mode: u32,
    },
    /// It is no key file of this version.
    Malformed {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        error: ParseError,
    },
    /// The operating system gives no randomness.
    Randomness(getrandom::Error),
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "key file {}: {error}", path.display()),
            Self::Exposed { path, mode } => {
                let path = path.display();
                write!(
                    f,
                    "key file {path} is open to others than its owner (mode {mode:04o}); `chmod 600 {path}` closes it, but who may have read it may sign in this node's name"
                )
            }
            Self::Malformed { path, error } => {
                write!(f, "{} is not a Testudo key file: {error}", path.display())
            }
            Self::Randomness(error) => {
                write!(f, "the operating system gives no randomness for a key: {error}")
            }
        }
    }
}

impl std::error::Error for KeyFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Malformed { error, .. } => Some(error),
            Self::Exposed { .. } | Self::Randomness(_) => None,
        }
    }
}
