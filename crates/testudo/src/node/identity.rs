//! Who a node is: its key, and the place that its cluster gives that key.

use crate::cli;
use crate::cluster::{Cluster, Gateway};
use crate::failure::{Failure, Outcome};
use std::path::PathBuf;
use testudo_core::ReplicaId;
use testudo_keys::NodeKey;
use testudo_runtime::Addresses;

/// A node's key within its cluster.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// The node's key.
    pub(crate) key: NodeKey,
    file: PathBuf,
    key_file: PathBuf,
}

impl Identity {
    /// Reads both files.
    pub(crate) fn load(flags: &cli::Node) -> Outcome<Self> {
        let cluster = Cluster::load(&flags.cluster)?;
        let key = NodeKey::read(&flags.key).map_err(|error| Failure::refused(error.to_string()))?;
        Ok(Self { cluster, key, file: flags.cluster.clone(), key_file: flags.key.clone() })
    }

    /// Which replica it is.
    pub(crate) fn replica(&self) -> Outcome<ReplicaId> {
        let key = self.key.member();
        if let Some(id) = self.cluster.replica_of(&key.identity) {
            return Ok(id);
        }
        Err(self.stranger(
            "replica",
            match self.cluster.gateway_of(&key.identity) {
                Some(_) => "a gateway's: run `testudo gateway` with it",
                None => "nobody's there: take the key file that was made together with it",
            },
        ))
    }

    /// Which gateway it is.
    pub(crate) fn gateway(&self) -> Outcome<&Gateway> {
        let key = self.key.member();
        self.cluster.gateway_of(&key.identity).ok_or_else(|| {
            self.stranger(
                "gateway",
                match self.cluster.replica_of(&key.identity) {
                    Some(_) => "a replica's: run `testudo replica` with it",
                    None => "nobody's there: take the key file that was made together with it",
                },
            )
        })
    }

    fn stranger(&self, what: &str, whose: &str) -> Failure {
        Failure::refused(format!(
            "{} is not the key of a {what} in {}, but {whose}",
            self.key_file.display(),
            self.file.display()
        ))
    }

    /// Where the replicas are.
    pub(crate) fn addresses(&self) -> Addresses {
        let address = |it: &crate::cluster::Replica| (it.identity, it.address.to_string());
        self.cluster.replicas.iter().map(address).collect()
    }
}
