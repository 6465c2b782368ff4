//! The cluster file: who belongs to a cluster and what it survives.
//!
//! It is public and the same on every node; what is secret is in one key file per node. It boots epoch 0 and nothing
//! else. Reading it is strict: a field that is not known is as wrong as one that is missing, since a slip of the pen
//! there (`fault = 2`) would quietly make another cluster of it.

mod address;
mod fields;
mod read;
pub(crate) mod service;
mod write;

pub(crate) use address::Address;

use crate::failure::{Failure, Outcome};
use crate::lying::Lie;
use crate::protocols;
use std::collections::BTreeSet;
use std::path::Path;
use testudo_core::fault::bounds;
use testudo_core::{
    ClusterId, Domain, Epoch, FaultModel, GroupId, Incarnation, Member, Membership, PublicKey,
    ReplicaId, limits,
};
use testudo_kv::Settings;

/// The version of the file that this program reads and writes.
pub(crate) const FORMAT: i64 = 1;

/// The file's usual name.
pub(crate) const FILE: &str = "cluster.toml";

/// A cluster as its file describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cluster {
    /// Its random name.
    pub(crate) id: ClusterId,
    /// The name of the protocol that orders, as the catalog has it.
    pub(crate) protocol: String,
    /// f: how many faulty replicas it survives.
    pub(crate) faults: u16,
    /// Whether replicas may be told to lie: only `up` makes such a cluster.
    pub(crate) demonstration: bool,
    /// Whether more liars than faults were asked for, knowingly.
    pub(crate) beyond: bool,
    /// What the service begins with.
    pub(crate) service: Settings,
    /// The replicas. Invariant: the i-th has id i.
    pub(crate) replicas: Vec<Replica>,
    /// The gateways. Invariant: the i-th has id i.
    pub(crate) gateways: Vec<Gateway>,
}

/// A replica in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Replica {
    /// Its place in the membership.
    pub(crate) id: u16,
    /// Where its peers and the gateways reach it.
    pub(crate) address: Address,
    /// Where `status` reaches it. Plain HTTP that only reads.
    pub(crate) admin: Option<Address>,
    /// The key that its channels are pinned to.
    pub(crate) identity: PublicKey,
    /// The key that its statements are signed with.
    pub(crate) voting: PublicKey,
    /// How it lies, in a demonstration.
    pub(crate) liar: Option<Lie>,
}

/// A gateway in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Gateway {
    /// Its number.
    pub(crate) id: u16,
    /// Its one key: of its channels and of what it asks for.
    pub(crate) key: PublicKey,
    /// Where etcd clients reach it, to be told to them; an address that only it knows if absent.
    pub(crate) address: Option<Address>,
    /// Where `status` reaches it. Plain HTTP that only reads.
    pub(crate) admin: Option<Address>,
}

impl Cluster {
    /// Reads and checks a cluster file.
    pub(crate) fn load(path: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => "; `testudo init` or `testudo up` makes one",
                _ => "",
            };
            let Failure { sentence, .. } = Failure::file("read", path, &error);
            Failure::refused(format!("{sentence}{hint}"))
        })?;
        let cluster = read::read(path, &text)?;
        cluster.check().map_err(|Failure { sentence, exit }| Failure {
            sentence: format!("{}: {sentence}", path.display()),
            exit,
        })?;
        Ok(cluster)
    }

    /// Writes it, whole or not at all.
    pub(crate) fn store(&self, path: &Path) -> Outcome {
        let beside = path.with_extension("toml.new");
        std::fs::write(&beside, write::write(self))
            .and_then(|()| std::fs::File::open(&beside)?.sync_all())
            .and_then(|()| std::fs::rename(&beside, path))
            .map_err(|error| Failure::file("write", path, &error))
    }

    /// Refuses what cannot work or would not survive what it claims to.
    pub(crate) fn check(&self) -> Outcome {
        self.check_bound()?;
        self.check_keys()?;
        self.check_addresses()?;
        self.check_liars()
    }

    /// Refuses a cluster that is too small for what it claims to survive, or too large for anybody.
    pub(crate) fn check_bound(&self) -> Outcome {
        let profile = protocols::profile(&self.protocol)?;
        refuse_many(self.replicas.len())?;
        refuse_many_gateways(self.gateways.len())?;
        bounds::check(
            bounds::Problem::StateMachineReplication,
            &self.model(profile.faults),
            self.replicas.len(),
        )
        .map_err(|refusal| Failure::refused(refusal.to_string()))
    }

    fn check_keys(&self) -> Outcome {
        let mut keys = Vec::new();
        for replica in &self.replicas {
            let owner = format!("replica {}", replica.id);
            keys.push((replica.identity, owner.clone()));
            if replica.voting != replica.identity {
                keys.push((replica.voting, owner));
            }
        }
        keys.extend(self.gateways.iter().map(|it| (it.key, format!("gateway {}", it.id))));
        match twice(keys) {
            None => Ok(()),
            Some((key, one, other)) => Err(Failure::refused(format!(
                "{one} and {other} have the same key {key}; every node needs keys of its own"
            ))),
        }
    }

    fn check_addresses(&self) -> Outcome {
        let mut addresses = Vec::new();
        for replica in &self.replicas {
            addresses.push((replica.address.clone(), format!("replica {}", replica.id)));
            addresses
                .extend(replica.admin.clone().map(|it| (it, format!("replica {}", replica.id))));
        }
        let admins = self.gateways.iter().filter_map(|it| Some((it.admin.clone()?, it.id)));
        addresses.extend(admins.map(|(address, id)| (address, format!("gateway {id}"))));
        match twice(addresses) {
            None => Ok(()),
            Some((address, one, other)) if one == other => Err(Failure::refused(format!(
                "{one} uses the address {address} for peers and for its administration; take two"
            ))),
            Some((address, one, other)) => Err(Failure::refused(format!(
                "{one} and {other} have the same address {address}; give each one of its own"
            ))),
        }
    }

    /// Refuses liars where none may be, and more than are survived unless that is wanted.
    pub(crate) fn check_liars(&self) -> Outcome {
        let liars = self.liars();
        if liars > 0 && !self.demonstration {
            return Err(Failure::refused(
                "a replica is told to lie, but the cluster is no demonstration; remove `liar`",
            ));
        }
        if self.demonstration && self.replicas.iter().any(|replica| !replica.address.is_loopback())
        {
            return Err(Failure::refused(
                "a demonstration runs on one machine, and this cluster has addresses elsewhere; \
                 remove `demonstration`",
            ));
        }
        if liars > usize::from(self.faults) && !self.beyond {
            let (faults, are) = (self.faults, if liars == 1 { "liar is" } else { "liars are" });
            return Err(Failure::refused(format!(
                "{liars} {are} more than the {faults} that this cluster survives; \
                 take fewer, raise --faults, or say --beyond to see what is lost then"
            )));
        }
        Ok(())
    }

    /// How many replicas are told to lie.
    pub(crate) fn liars(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.liar.is_some()).count()
    }

    /// What it claims to survive, under a protocol for that kind of fault.
    fn model(&self, kind: testudo_core::fault::FaultKind) -> FaultModel {
        FaultModel { kind, ..FaultModel::byzantine(self.faults) }
    }

    /// Where its statements count at first.
    pub(crate) fn domain(&self) -> Domain {
        Domain { cluster: self.id, group: GroupId(0), epoch: Epoch(0) }
    }

    /// The configuration that it boots.
    pub(crate) fn membership(&self) -> Outcome<Membership> {
        let profile = protocols::profile(&self.protocol)?;
        let member = |replica: &Replica| Member {
            identity: replica.identity,
            voting: replica.voting,
            incarnation: Incarnation(0),
        };
        Ok(Membership::first(
            self.replicas.iter().map(member).collect(),
            self.model(profile.faults),
        ))
    }

    /// The keys that are admitted from the beginning: part of what every replica and gateway starts from.
    pub(crate) fn clients(&self) -> BTreeSet<PublicKey> {
        self.gateways.iter().map(|gateway| gateway.key).collect()
    }

    /// The replica with that id.
    pub(crate) fn replica(&self, id: u16) -> Option<&Replica> {
        self.replicas.get(usize::from(id))
    }

    /// The replica that has that identity key.
    pub(crate) fn replica_of(&self, identity: &PublicKey) -> Option<ReplicaId> {
        let found = self.replicas.iter().find(|replica| replica.identity == *identity)?;
        Some(ReplicaId(found.id))
    }

    /// The gateway that has that key.
    pub(crate) fn gateway_of(&self, key: &PublicKey) -> Option<&Gateway> {
        self.gateways.iter().find(|gateway| gateway.key == *key)
    }
}

/// Refuses more replicas than any cluster may have.
pub(crate) fn refuse_many(n: usize) -> Outcome {
    match limits::REPLICAS {
        most if n > most => Err(Failure::refused(format!(
            "{n} replicas are more than the {most} that a cluster may have; survive fewer faults"
        ))),
        _ => Ok(()),
    }
}

/// A replica hears so many learners and no more: a further gateway would never catch up.
fn refuse_many_gateways(count: usize) -> Outcome {
    match limits::FOLLOWERS {
        most if count > most => Err(Failure::refused(format!(
            "{count} gateways are more than the {most} that a replica tells what was decided; let more clients share one"
        ))),
        _ => Ok(()),
    }
}

/// The first item that has two owners, with both. An owner may be the same twice.
fn twice<T: Ord>(mut owned: Vec<(T, String)>) -> Option<(T, String, String)> {
    owned.sort();
    let at = owned.windows(2).position(|pair| match pair {
        [one, other] => one.0 == other.0,
        _ => false,
    })?;
    let (item, one) = owned.swap_remove(at);
    let other = owned.into_iter().find(|(it, _)| *it == item)?.1;
    Some(if one <= other { (item, one, other) } else { (item, other, one) })
}

#[cfg(test)]
mod tests;
