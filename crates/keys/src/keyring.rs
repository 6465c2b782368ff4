//! The voting keys of a node that come and go while it lives.
//!
//! A node's key file holds its identity key and the voting key that it begins with. A node that has forgotten what it said
//! may not sign with that voting key again, and comes back under another one. That must be made beforehand, on the machine
//! that will sign with it, and be known to be unused. So the data folder has a folder of keys:
//!
//! ```text
//! keys/candidate     a voting key that this node has never signed with: it may ask to come back under it
//! keys/voting-1      the voting key of its first return
//! keys/voting-2      that of its second
//! ```
//!
//! The candidate becomes a voting key when the membership names it for this node: it is renamed, durably, before anything
//! is signed with it, and another candidate is made. So a candidate that is found at a start was never signed with, whatever
//! crashed before. Voting keys are kept for good. They lie beside the log as they are worth nothing without it: whoever
//! loses the folder has lost both, what it has said and the means to contradict it.
//!
//! A file says whose key it is, and what its public half is, so that a file that rots or is moved is found out.

use crate::ed25519::SigningKey;
use crate::file::{
    FILE_BYTES, Hex, NodeKey, ParseError, number, private, secret, set, sync_directory,
};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use testudo_core::{Digest, Incarnation, Member, PublicKey, Signature, Signer};

/// The folder of voting keys within a data folder.
pub const KEYS_FOLDER: &str = "keys";

const CANDIDATE: &str = "candidate";

/// What the name of a voting key's file begins with. The incarnation follows.
const VOTING: &str = "voting-";

/// What is being written, until it is whole.
const UNFINISHED: &str = "candidate.new";

/// The version of the format that is read and written.
const VERSION: u64 = 1;

/// A node's identity key, and every voting key that it can sign with.
#[derive(Debug)]
pub struct Keyring {
    folder: PathBuf,
    identity: SigningKey,
    /// Invariant: the candidate is not among them.
    voting: BTreeMap<PublicKey, SigningKey>,
    /// The last incarnation that one of them is of.
    last: Incarnation,
    candidate: Option<SigningKey>,
}

impl Keyring {
    /// The keys of the node with this key file, as far as its data folder holds them. Makes a candidate where there is none.
    /// The data folder is there, and no other process uses it.
    ///
    /// # Errors
    /// When a file cannot be read or written, is open to others, has rotted, or is another node's.
    pub fn open(key: &NodeKey, data: &Path) -> Result<Self, KeyringError> {
        let folder = data.join(KEYS_FOLDER);
        make_folder(&folder).map_err(|error| KeyringError::io(&folder, error))?;
        let unfinished = folder.join(UNFINISHED);
        remove_if_there(&unfinished).map_err(|error| KeyringError::io(&unfinished, error))?;
        let mut ring = Self::of(key, folder);
        ring.read_voting()?;
        ring.read_candidate()?;
        ring.remove_copy()?;
        ring.renew()?;
        Ok(ring)
    }

    /// The same for somebody who only looks: nothing is made or changed, so there may be no candidate.
    ///
    /// # Errors
    /// When a file cannot be read, is open to others, has rotted, or is another node's.
    pub fn look(key: &NodeKey, data: &Path) -> Result<Self, KeyringError> {
        let mut ring = Self::of(key, data.join(KEYS_FOLDER));
        if ring.folder.is_dir() {
            ring.read_voting()?;
            ring.read_candidate()?;
        }
        Ok(ring)
    }

    fn of(key: &NodeKey, folder: PathBuf) -> Self {
        Self {
            folder,
            identity: key.identity.clone(),
            voting: BTreeMap::from([(key.voting.public(), key.voting.clone())]),
            last: key.incarnation,
            candidate: None,
        }
    }

    /// Whether this node can sign with that voting key, or could if the membership named it.
    #[must_use]
    pub fn holds(&self, voting: &PublicKey) -> bool {
        self.voting.contains_key(voting) || self.candidate() == Some(*voting)
    }

    /// A voting key that this node has never signed with.
    #[must_use]
    pub fn candidate(&self) -> Option<PublicKey> {
        self.candidate.as_ref().map(SigningKey::public)
    }

    /// The candidate's signature, which shows that this node has it.
    #[must_use]
    pub fn vouch(&self, digest: &Digest) -> Option<Signature> {
        self.candidate.as_ref().map(|key| key.sign(digest))
    }

    /// The last incarnation under whose voting key this node may have signed anything that it could contradict.
    #[must_use]
    pub const fn last_incarnation(&self) -> Incarnation {
        self.last
    }

    /// The membership names this member for this node, so that it signs with that voting key from now on, if it has it. A
    /// candidate is a voting key from then on, and that is durable when this returns.
    ///
    /// # Errors
    /// When the file system fails. Then nothing may be signed with that key.
    pub fn enter(&mut self, member: &Member) -> Result<MemberSigner, KeyringError> {
        if let Some(candidate) = self.candidate.take_if(|it| it.public() == member.voting) {
            let path = self.folder.join(format!("{VOTING}{}", member.incarnation));
            if let Err(error) = rename_new(&self.folder.join(CANDIDATE), &path) {
                self.candidate = Some(candidate);
                return Err(error);
            }
            self.voting.insert(member.voting, candidate);
            self.last = self.last.max(member.incarnation);
        }
        let voting = self.voting.get(&member.voting).cloned();
        Ok(MemberSigner { identity: self.identity.clone(), voting, named: member.voting })
    }

    /// Makes a candidate if there is none. Without one this node can do all but come back.
    ///
    /// # Errors
    /// When the file system fails, or the operating system gives no randomness.
    pub fn renew(&mut self) -> Result<(), KeyringError> {
        if self.candidate.is_some() {
            return Ok(());
        }
        let key = SigningKey::generate().map_err(KeyringError::Randomness)?;
        let (new, path) = (self.folder.join(UNFINISHED), self.folder.join(CANDIDATE));
        let write = || {
            // An attempt that failed may have left it behind.
            remove_if_there(&new)?;
            let mut file = private().create_new(true).open(&new)?;
            file.write_all(text(&self.identity.public(), &key).as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| KeyringError::io(&new, error))?;
        rename_new(&new, &path)?;
        self.candidate = Some(key);
        Ok(())
    }

    fn read_voting(&mut self) -> Result<(), KeyringError> {
        let failed = |error| KeyringError::io(&self.folder, error);
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(VOTING));
            let Some(incarnation) = number.and_then(|number| number.parse().ok()) else { continue };
            let key = self.read(&self.folder.join(&name))?;
            self.voting.insert(key.public(), key);
            self.last = self.last.max(Incarnation(incarnation));
        }
        Ok(())
    }

    fn read_candidate(&mut self) -> Result<(), KeyringError> {
        let path = self.folder.join(CANDIDATE);
        match self.read(&path) {
            // A copy that somebody has made of a key that may have signed. It is held already.
            Ok(key) if self.voting.contains_key(&key.public()) => {}
            Ok(key) => self.candidate = Some(key),
            Err(KeyringError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Removes what has a candidate's name and is none.
    fn remove_copy(&self) -> Result<(), KeyringError> {
        if self.candidate.is_some() {
            return Ok(());
        }
        let path = self.folder.join(CANDIDATE);
        remove_if_there(&path)
            .and_then(|()| sync_directory(&path))
            .map_err(|error| KeyringError::io(&path, error))
    }

    fn read(&self, path: &Path) -> Result<SigningKey, KeyringError> {
        let failed = |error| KeyringError::io(path, error);
        let file = File::open(path).map_err(failed)?;
        refuse_exposed(&file, path)?;
        let mut text = Vec::new();
        file.take(FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
        let (node, key) = parse_voting_key(&text)
            .map_err(|error| KeyringError::Malformed { path: path.into(), error })?;
        if node == self.identity.public() {
            Ok(key)
        } else {
            let this = self.identity.public();
            Err(KeyringError::Foreign { path: path.into(), node, this })
        }
    }
}

/// Signs as one member: statements with the voting key that the membership names, and what stands for the node itself with
/// its identity key.
#[derive(Clone, Debug)]
pub struct MemberSigner {
    identity: SigningKey,
    voting: Option<SigningKey>,
    named: PublicKey,
}

impl MemberSigner {
    /// Whether it has the voting key that it should sign with.
    #[must_use]
    pub const fn can_vote(&self) -> bool {
        self.voting.is_some()
    }

    /// The voting key that the membership names.
    #[must_use]
    pub const fn named(&self) -> PublicKey {
        self.named
    }
}

impl Signer for MemberSigner {
    /// Where the voting key is not held, the signature is one that no key has made: its second half is no scalar.
    fn sign(&self, digest: &Digest) -> Signature {
        self.voting.as_ref().map_or(Signature([0xff; 64]), |key| key.sign(digest))
    }

    fn certify(&self, digest: &Digest) -> Signature {
        self.identity.sign(digest)
    }
}

/// The text of a voting key's file. Secret.
fn text(node: &PublicKey, key: &SigningKey) -> String {
    format!(
        "# Testudo voting key, made on this machine. Keep it secret, and leave it where it is.\nversion = {VERSION}\nnode = \"{node}\"\npublic = \"{}\"\nvoting = \"{}\"\n",
        key.public(),
        Hex(key.secret()),
    )
}

/// Reads the text of a voting key's file: the public identity key of the node whose it is, and the key.
///
/// # Errors
/// When it is no voting key's file of this version, or its halves do not belong together.
pub fn parse_voting_key(text: &[u8]) -> Result<(PublicKey, SigningKey), ParseError> {
    let whole = |what| ParseError { line: 0, what };
    if text.len() as u64 > FILE_BYTES {
        return Err(whole("it is longer than any key file"));
    }
    let text = str::from_utf8(text).map_err(|_| whole("it is not UTF-8 text"))?;
    let mut fields = Fields::default();
    for (i, line) in text.lines().enumerate() {
        fields.take(line).map_err(|what| ParseError { line: i + 1, what })?;
    }
    fields.finish().map_err(whole)
}

/// What was read of a voting key's file so far.
#[derive(Default)]
struct Fields {
    version: Option<u64>,
    node: Option<[u8; 32]>,
    public: Option<[u8; 32]>,
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
            "node" => set(&mut self.node, secret(value)?),
            "public" => set(&mut self.public, secret(value)?),
            "voting" => set(&mut self.voting, secret(value)?),
            _ => Err("a voting key's file has no field of that name"),
        }
    }

    fn finish(self) -> Result<(PublicKey, SigningKey), &'static str> {
        match self.version {
            Some(VERSION) => {}
            Some(_) => return Err("its version is not 1, the only one that this program knows"),
            None => return Err("it does not say which version it has"),
        }
        let node = self.node.ok_or("it does not say whose it is")?;
        let public = self.public.ok_or("the public half is missing")?;
        let voting = self.voting.ok_or("the voting key is missing")?;
        let key = SigningKey::from_secret(&voting);
        if key.public() == PublicKey(public) {
            Ok((PublicKey(node), key))
        } else {
            Err("the secret half and the public half do not belong together")
        }
    }
}

/// Renames a file to a name that is not taken, durably.
fn rename_new(from: &Path, to: &Path) -> Result<(), KeyringError> {
    match fs::symlink_metadata(to) {
        Ok(_) => return Err(KeyringError::Taken { path: to.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(KeyringError::io(to, error)),
    }
    fs::rename(from, to)
        .and_then(|()| sync_directory(to))
        .map_err(|error| KeyringError::io(to, error))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the folder, for its owner alone and durably, if it is not there.
fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // Also where it was there: whoever made it may not have come to this.
        _ => sync_directory(folder),
    }
}

#[cfg(unix)]
fn refuse_exposed(file: &File, path: &Path) -> Result<(), KeyringError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata().map_err(|error| KeyringError::io(path, error))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyringError::Exposed { path: path.into(), mode }) }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &File, _: &Path) -> Result<(), KeyringError> {
    Ok(())
}

/// Why a node's voting keys cannot be used, and what to do about it.
#[derive(Debug)]
pub enum KeyringError {
    /// The file system says no.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system says.
        error: io::Error,
    },
    /// Others than its owner may read or change it.
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions, as `chmod` counts them.
        mode: u32,
    },
    /// It is no voting key's file of this version, or has rotted.
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ParseError,
    },
    /// It is another node's.
    Foreign {
        /// The file.
        path: PathBuf,
        /// The identity key of the node that it belongs to.
        node: PublicKey,
        /// The identity key of this one.
        this: PublicKey,
    },
    /// There is a file of that name already, which is never overwritten.
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gives no randomness.
    Randomness(getrandom::Error),
}

impl KeyringError {
    /// Whether a person must do something before another attempt can go better.
    #[must_use]
    pub const fn is_for_people(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::Randomness(_))
    }

    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.into(), error }
    }
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(
                f,
                "voting key {}: {error}; let this process read and write it, and start it again",
                path.display()
            ),
            Self::Exposed { path, mode } => {
                let path = path.display();
                write!(
                    f,
                    "voting key {path} is open to others than its owner (mode {mode:04o}); `chmod 600 {path}` closes it, but who may have read it may sign in this node's name"
                )
            }
            Self::Malformed { path, error } => {
                write!(f, "{} is not a voting key: {error}; ", path.display())?;
                if path.ends_with(CANDIDATE) {
                    f.write_str("nothing was signed with it, so remove it, and another one is made")
                } else {
                    f.write_str(
                        "if you have no copy of it, remove it: this replica then follows the others, and comes back under another key by itself",
                    )
                }
            }
            Self::Foreign { path, node, this } => write!(
                f,
                "{} is a voting key of node {node}, and this is node {this}; keys stay in the data folder that they were made in: move it back there",
                path.display()
            ),
            Self::Taken { path } => write!(
                f,
                "there is a voting key {} already, and it is another one; the folder holds files of two nodes or of two times: move it away",
                path.display()
            ),
            Self::Randomness(error) => {
                write!(f, "the operating system gives no randomness for a key: {error}")
            }
        }
    }
}

impl std::error::Error for KeyringError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Malformed { error, .. } => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_whose_it_is_and_proves_itself() {
        let (node, key) = (PublicKey([9; 32]), SigningKey::from_secret(&[7; 32]));
        let text = text(&node, &key);
        let (read, again) = parse_voting_key(text.as_bytes()).expect("well-formed");
        assert_eq!((read, again.public()), (node, key.public()));
        let rotten = text.replace("voting = \"07", "voting = \"06");
        let error = parse_voting_key(rotten.as_bytes()).expect_err("rotten").to_string();
        assert_eq!(error, "the secret half and the public half do not belong together");
        for end in 0..text.len() - 1 {
            let error =
                parse_voting_key(&text.as_bytes()[..end]).expect_err("truncated").to_string();
            assert!(!error.contains("0707"), "{error}");
        }
    }
}
