//! `etcdserverpb.Cluster`, as far as it goes.

use super::Shared;
use crate::proto::etcdserverpb::MemberListResponse;
use crate::submit::Submit;

/// The replicas as members. Membership does not change while a gateway runs, so the cluster is not
/// asked. The header bears no revision, as etcd's bears none.
pub(crate) fn member_list<S: Submit>(shared: &Shared<S>) -> MemberListResponse {
    MemberListResponse { header: Some(shared.header(0)), members: shared.info.members().to_vec() }
}
