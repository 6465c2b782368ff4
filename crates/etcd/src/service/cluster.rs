//! `etcdserverpb.Cluster`, as far as it goes.

use super::Shared;
use crate::cluster::Cluster;
use crate::proto::etcdserverpb::MemberListResponse;

/// The replicas as members. Membership does not change while a gateway runs, so the cluster is not
/// asked. The header bears no revision, as etcd's bears none.
pub(crate) fn member_list<C: Cluster>(shared: &Shared<C>) -> MemberListResponse {
    MemberListResponse { header: Some(shared.header(0)), members: shared.info.members().to_vec() }
}
