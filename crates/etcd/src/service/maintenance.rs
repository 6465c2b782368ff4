//! `etcdserverpb.Maintenance`, as far as it goes.

use tonic::Status;

use super::{Patience, Shared};
use crate::cluster::Cluster;
use crate::etcd_error;
use crate::info::VERSION;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmRequest, AlarmResponse, DowngradeInfo, StatusResponse};

/// The version of the layout of etcd's store that goes with [`VERSION`].
const STORAGE_VERSION: &str = "3.6.0";

/// How the cluster stands. It has an answer when the cluster has none: the last that is known, no
/// leader, and the error that says so.
pub(crate) async fn status<C: Cluster>(shared: &Shared<C>) -> Result<StatusResponse, Status> {
    let asked = shared.linearizable(Patience::new(shared.limits.probe, None)).await;
    let answers = asked.is_ok();
    let position = shared.cluster.position();
    let store = asked.or_else(|_| shared.serializable())?.status()?;
    let bytes = i64::try_from(store.bytes).unwrap_or(i64::MAX);
    Ok(StatusResponse {
        header: Some(shared.header(store.revision)),
        version: VERSION.to_owned(),
        db_size: bytes,
        leader: if answers { shared.info.member_id_of(position.primary) } else { 0 },
        raft_index: position.slot.0,
        raft_term: shared.term(),
        raft_applied_index: position.slot.0,
        errors: if answers { Vec::new() } else { vec![etcd_error::no_leader().message().into()] },
        db_size_in_use: bytes,
        is_learner: false,
        storage_version: STORAGE_VERSION.to_owned(),
        db_size_quota: 0,
        downgrade_info: Some(DowngradeInfo::default()),
    })
}

/// Alarms. There are none, so there is none to list or to clear. One cannot be raised by hand.
pub(crate) fn alarm<C: Cluster>(
    shared: &Shared<C>,
    request: &AlarmRequest,
) -> Result<AlarmResponse, Status> {
    let is_harmless = request.action == i32::from(AlarmAction::Get)
        || request.action == i32::from(AlarmAction::Deactivate);
    if !is_harmless {
        return Err(etcd_error::not_implemented("etcdserverpb.Maintenance", "Alarm to raise one"));
    }
    Ok(AlarmResponse { header: Some(shared.header(shared.revision())), alarms: Vec::new() })
}
