//! A look at what a node's folder holds, while the node is stopped.
//!
//! Its automaton takes up its past as it would at a start, and what it wants done about it is not done: nothing is written,
//! nothing is said, and nothing on the disk changes. As long as somebody looks, the node cannot start.

use crate::environment::Environment;
use crate::host::{Driven, Fatal};
use crate::identity::Owner;
use crate::metrics::Metrics;
use crate::node::StartError;
use crate::overlay::Overlay;
use crate::past::past;
use crate::storage::StorageError;
use crate::voice::Keys;
use crate::{DurableStorage, FolderError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use testudo_core::{Domain, Effects, Host as _, Panicked, Peer, Position, PublicKey, ReplicaId};
use testudo_keys::{Keyring, NodeKey};
use testudo_wal::{DiskErrorKind, Identity};

/// Whose folder is looked at, and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The folder. One that does not exist holds nothing.
    pub data: &'a Path,
    /// The node's secret keys.
    pub key: &'a NodeKey,
    /// Where its statements count.
    pub domain: Domain,
    /// Which replica it is.
    pub me: ReplicaId,
}

/// What a folder has of what its node had promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Nothing is there, and nothing says that there ever was.
    Empty,
    /// Something was there, and what it had promised is lost.
    Lost,
    /// It is there.
    There,
}

/// A node's automaton that has taken up its past, and does nothing.
pub struct Peek<P> {
    /// The automaton.
    pub automaton: P,
    /// What there is of its promises.
    pub memory: Memory,
    environment: Environment,
    /// Holds the folder's lock.
    disk: Arc<Overlay>,
}

/// As long as this is there the node cannot start.
#[derive(Debug)]
pub struct Held {
    _disk: Arc<Overlay>,
}

impl<P> std::fmt::Debug for Peek<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peek").field("memory", &self.memory).finish_non_exhaustive()
    }
}

impl<P: Driven> Peek<P> {
    /// Looks.
    ///
    /// # Errors
    /// When a process has the folder, or it is somebody else's, cannot be read, or cannot be taken up.
    pub fn at(place: &Place<'_>, config: P::Config) -> Result<Self, StartError> {
        let Place { data, key, domain, me } = *place;
        let (cluster, group) = (domain.cluster, domain.group);
        let owner = Owner { cluster, group, node: key.identity.public() };
        let disk = Overlay::over(&data.join("log"))
            .map_err(|error| StorageError::caused("open the data folder", error))?;
        let disk = Arc::new(disk);
        let had_data = owner.has(data)?;
        let keys = Keyring::look(key, data)?;
        let (identity, last) = (Identity(owner.short()), keys.last_incarnation());
        let (_, recovered) = DurableStorage::open(disk.clone(), identity, had_data, last)?;
        let mut next = recovered.next;
        let memory = match recovered.promise {
            Some(_) => Memory::There,
            None if next == Position(0) && recovered.lost.is_empty() => Memory::Empty,
            None => Memory::Lost,
        };
        let past = past::<P>(recovered, &Metrics::new())?;
        let mut environment = Environment::new(Keys::Replica(Box::new(keys)))
            .map_err(|error| Fatal::Recovery(format!("no randomness from the system: {error}")))?;
        let started = catch_unwind(AssertUnwindSafe(|| {
            let mut undone = Vec::new();
            let mut fx = Effects::new(&mut undone, &mut next, &mut environment);
            P::start(config, Peer::Replica(me), past, &mut fx)
        }));
        let automaton = started
            .map_err(|_| Fatal::Broken("it panicked when it took up its past".to_owned()))?;
        Ok(Self { automaton, memory, environment, disk })
    }

    /// Whether the node can sign with that voting key.
    #[must_use]
    pub fn holds(&self, voting: &PublicKey) -> bool {
        self.environment.holds(voting)
    }

    /// A voting key that the node has never signed with, if there is one in its folder.
    #[must_use]
    pub fn candidate(&self) -> Option<PublicKey> {
        self.environment.candidate()
    }

    /// Lets go of all but the folder.
    #[must_use]
    pub fn hold(self) -> Held {
        self.disk.let_go();
        Held { _disk: self.disk }
    }

    /// The automaton, and what runs an operation of its service that may panic.
    pub fn guarded(
        &mut self,
    ) -> (&P, impl FnMut(&mut dyn FnMut()) -> Result<(), Panicked> + use<'_, P>) {
        let Self { automaton, environment, .. } = self;
        (automaton, |operation: &mut dyn FnMut()| environment.guard(operation))
    }
}

/// Whether that is why a node could not start, or be looked at: a process has its folder.
#[must_use]
pub fn is_in_use(error: &StartError) -> bool {
    let StartError::Storage(error) = error else { return false };
    let cause =
        error.source.as_ref().and_then(|cause| cause.downcast_ref::<testudo_wal::DiskError>());
    cause.is_some_and(|cause| cause.kind == DiskErrorKind::Busy)
}

/// Whether that is why: the folder is another node's.
#[must_use]
pub const fn is_foreign(error: &StartError) -> bool {
    matches!(error, StartError::Folder(FolderError::Foreign { .. }))
}
