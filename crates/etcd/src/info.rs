//! Who the gateway says it is, and whom it stands in front of.

use testudo_core::{ClusterId, Digest, ReplicaId};

use crate::proto::etcdserverpb::Member;

/// The version of etcd whose answers are given here. Clients switch features by it.
pub const VERSION: &str = "3.6.8";

/// What never changes while a gateway runs: names, and addresses to be told.
#[derive(Clone, Debug)]
pub struct GatewayInfo {
    cluster: ClusterId,
    beside: ReplicaId,
    members: Vec<Member>,
}

impl GatewayInfo {
    /// Describes a cluster by the name and address of each replica, in the order of their numbers,
    /// and this gateway by the URLs at which clients reach it (`http://host:port`).
    ///
    /// The gateway answers in the name of one replica, `beside`: the one on its own machine, or any.
    ///
    /// Replicas are shown as etcd's members. Clients dial the client URLs of all members that they
    /// are told of, so every member bears this gateway's: it is the one address that is known to
    /// serve whoever could reach it to ask.
    pub fn new(
        cluster: ClusterId,
        beside: ReplicaId,
        replicas: impl IntoIterator<Item = (String, String)>,
        client_urls: &[String],
    ) -> Self {
        let members = replicas.into_iter().zip(0..).map(|((name, peer_url), index)| Member {
            id: member_id(cluster, ReplicaId(index)),
            name,
            peer_ur_ls: vec![peer_url],
            client_ur_ls: client_urls.to_vec(),
            is_learner: false,
        });
        Self { cluster, beside, members: members.collect() }
    }

    /// The cluster's number in every answer's header.
    #[must_use]
    pub fn cluster_id(&self) -> u64 {
        number(&[b"cluster", &self.cluster.0])
    }

    /// The number of the member in whose name this gateway answers.
    #[must_use]
    pub fn member_id(&self) -> u64 {
        member_id(self.cluster, self.beside)
    }

    /// The number of the member that a replica is shown as.
    #[must_use]
    pub fn member_id_of(&self, replica: ReplicaId) -> u64 {
        member_id(self.cluster, replica)
    }

    /// The replicas as etcd's members.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }
}

fn member_id(cluster: ClusterId, replica: ReplicaId) -> u64 {
    number(&[b"member", &cluster.0, &replica.0.to_le_bytes()])
}

/// A number that clients never see change, and that is not zero, which to them means none.
fn number(parts: &[&[u8]]) -> u64 {
    let Digest(bytes) = Digest::of_parts(parts);
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(first).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(cluster: u8) -> GatewayInfo {
        let replicas = (0..4).map(|i| (format!("r{i}"), format!("https://r{i}:1")));
        GatewayInfo::new(
            ClusterId([cluster; 16]),
            ReplicaId(2),
            replicas,
            &["http://g:2379".into()],
        )
    }

    #[test]
    fn members_have_stable_distinct_numbers_of_their_cluster() {
        let (one, again, other) = (info(1), info(1), info(2));
        let ids: std::collections::BTreeSet<u64> = one.members().iter().map(|m| m.id).collect();
        assert_eq!(ids.len(), 4);
        assert_eq!(one.members(), again.members());
        assert!(other.members().iter().all(|member| !ids.contains(&member.id)));
        assert_ne!(one.cluster_id(), other.cluster_id());
    }

    #[test]
    fn the_gateway_answers_as_a_member_of_the_list_whose_address_is_its_own() {
        let info = info(1);
        let own = info.members().iter().find(|member| member.id == info.member_id());
        assert_eq!(own.map(|member| member.name.as_str()), Some("r2"));
        assert!(info.members().iter().all(|member| member.client_ur_ls == ["http://g:2379"]));
    }
}
