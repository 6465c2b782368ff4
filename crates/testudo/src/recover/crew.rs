//! The replicas whose key files and folders are at hand.

use crate::cli;
use crate::cluster::{self, Cluster};
use crate::failure::{Failure, Outcome};
use crate::init::replica_key;
use crate::up::folder;
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use testudo_keys::NodeKey;

/// A replica that is at hand.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Its keys.
    pub(crate) key: NodeKey,
    /// Its data folder, which may be empty, or not there.
    pub(crate) data: PathBuf,
}

/// All that is at hand of a cluster.
#[derive(Debug)]
pub(crate) struct Crew {
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// By id.
    pub(crate) seats: BTreeMap<u16, Seat>,
    /// Keeps an `up` from starting.
    _lock: Option<File>,
}

impl Crew {
    /// Finds what the flags name, and refuses what does not belong together.
    pub(crate) fn gather(flags: &cli::Recover) -> Outcome<Self> {
        let folder = flags.data.clone().unwrap_or_else(|| PathBuf::from(cli::DATA));
        match &flags.cluster {
            None => Self::of_up(&folder),
            Some(file) => Self::given(file, &flags.replicas),
        }
    }

    /// The replicas of an `up`.
    fn of_up(folder: &Path) -> Outcome<Self> {
        let cluster = Cluster::load(&folder.join(cluster::FILE))?;
        let lock = hold(folder)?;
        let keys = folder.join("keys");
        let mut crew = Self { cluster, seats: BTreeMap::new(), _lock: lock };
        for id in (0..).take(crew.cluster.replicas.len()) {
            let path = replica_key(&keys, id);
            if path.exists() {
                crew.seat(&path, folder.join(format!("replica-{id}")))?;
            }
        }
        Ok(crew)
    }

    /// These.
    fn given(file: &Path, replicas: &[Given]) -> Outcome<Self> {
        let cluster = Cluster::load(file)?;
        let mut crew = Self { cluster, seats: BTreeMap::new(), _lock: None };
        for Given { key, data } in replicas {
            crew.seat(key, data.clone())?;
        }
        Ok(crew)
    }

    fn seat(&mut self, file: &Path, data: PathBuf) -> Outcome {
        let key = NodeKey::read(file).map_err(|error| Failure::refused(error.to_string()))?;
        let member = key.member();
        let Some(id) = self.cluster.replica_of(&member.identity) else {
            return Err(Failure::refused(format!(
                "{} is not the key of a replica of this cluster; take the key files that were made together with the \
                 cluster file",
                file.display()
            )));
        };
        if self.cluster.replica(id.0).is_none_or(|known| known.voting != member.voting) {
            return Err(Failure::refused(format!(
                "{} has another voting key than the cluster file gives replica {id}; take the key file that was made \
                 together with it",
                file.display()
            )));
        }
        let is_taken = self.seats.values().any(|seat| seat.data == data);
        if is_taken || self.seats.insert(id.0, Seat { key, data }).is_some() {
            return Err(Failure::refused(format!(
                "replica {id} or its folder is given twice; give --replica once for each"
            )));
        }
        Ok(())
    }
}

/// A key file and the folder that belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Given {
    /// The replica's key file.
    pub(crate) key: PathBuf,
    /// Its data folder.
    pub(crate) data: PathBuf,
}

impl Given {
    /// Reads what a flag says.
    ///
    /// # Errors
    /// When it does not name both.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, data)) if !key.is_empty() && !data.is_empty() => {
                Ok(Self { key: key.into(), data: data.into() })
            }
            _ => Err("name a key file and a data folder, as in `replica-0.key=/var/lib/testudo`"
                .to_owned()),
        }
    }
}

/// Holds the folder of an `up` as that does, without writing to it.
fn hold(data: &Path) -> Outcome<Option<File>> {
    let path = data.join("lock");
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::file("open", &path, &error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::Error(error)) => Err(Failure::file("lock", &path, &error)),
        Err(TryLockError::WouldBlock) => {
            let holder = folder::holder(&mut file);
            Err(Failure::refused(format!(
                "{} is in use by a `testudo up`{holder}; stop that first: people decide for a cluster only while none of \
                 it runs",
                data.display()
            )))
        }
    }
}
