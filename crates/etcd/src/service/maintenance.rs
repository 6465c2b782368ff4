//! `etcdserverpb.Maintenance`, as far as it goes.

use std::sync::Arc;

use testudo_core::digest::Hasher;
use testudo_core::{Digest, Encode};
use testudo_kv::{Error, Operation, Range, Response};
use tokio::task::yield_now;
use tonic::Status;

use super::{Patience, Shared, read_result};
use crate::cluster::Cluster;
use crate::etcd_error;
use crate::info::VERSION;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentResponse, DowngradeInfo,
    HashKvRequest, HashKvResponse, HashResponse, StatusResponse,
};

/// The version of the layout of etcd's store that goes with [`VERSION`].
const STORAGE_VERSION: &str = "3.6.0";
/// Keys that are read at once to be hashed, between which others get their turn.
const HASHED_AT_ONCE: i64 = 4096;
/// Bytes that are read at once to be hashed, which the largest pair has room in.
const HASHED_BYTES: usize = 2 * testudo_core::limits::OPERATION_BYTES;
/// What hashing takes up: keys as they were read, taken apart, and what is hashed of them.
pub(crate) const HASHING_BYTES: usize = 3 * HASHED_BYTES;

/// How the cluster stands. It has an answer when the cluster has none: the last that is known, no
/// leader, and the error that says so.
pub(crate) async fn status<C: Cluster>(shared: &Shared<C>) -> Result<StatusResponse, Status> {
    let asked = shared.linearizable(Patience::new(shared.limits.probe, None)).await;
    let answers = asked.is_ok();
    let position = shared.cluster.position();
    let store = asked.or_else(|_| shared.serializable())?.status();
    let bytes = signed(store.bytes);
    let mut errors = Vec::new();
    if !answers {
        errors.push(etcd_error::no_leader().message().to_owned());
    }
    if store.alarm {
        errors.push(format!("memberID:{} alarm:NOSPACE ", shared.info.member_id()));
    }
    Ok(StatusResponse {
        header: Some(shared.header(store.revision)),
        version: VERSION.to_owned(),
        db_size: bytes,
        leader: if answers { shared.info.member_id_of(position.primary) } else { 0 },
        raft_index: position.slot.0,
        raft_term: shared.term(),
        raft_applied_index: position.slot.0,
        errors,
        db_size_in_use: bytes,
        is_learner: false,
        storage_version: STORAGE_VERSION.to_owned(),
        db_size_quota: signed(store.quota),
        downgrade_info: Some(DowngradeInfo::default()),
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Alarms. There is one, that the store is full. It is raised by growth and ends when there is room
/// again, neither of which can be done by hand: to clear it is answered as by etcd and changes
/// nothing.
pub(crate) async fn alarm<C: Cluster>(
    shared: &Shared<C>,
    request: &AlarmRequest,
    patience: Patience,
) -> Result<AlarmResponse, Status> {
    let asks_for = |alarm: AlarmType| request.alarm == i32::from(alarm);
    let is_meant = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => asks_for(AlarmType::None) || asks_for(AlarmType::Nospace),
        Ok(AlarmAction::Deactivate) => {
            asks_for(AlarmType::Nospace)
                && [0, shared.info.member_id()].contains(&request.member_id)
        }
        Ok(AlarmAction::Activate) => {
            return Err(Status::unimplemented("testudo: alarms are not raised by hand"));
        }
        Err(_) => return Err(Status::invalid_argument("testudo: there is no such alarm action")),
    };
    let store = shared.linearizable(patience).await?.status();
    let alarm =
        AlarmMember { member_id: shared.info.member_id(), alarm: AlarmType::Nospace.into() };
    let alarms = if is_meant && store.alarm { vec![alarm] } else { Vec::new() };
    Ok(AlarmResponse { header: Some(shared.header(store.revision)), alarms })
}

/// There is nothing to be defragmented: space that is not in use is free.
pub(crate) fn defragment<C: Cluster>(shared: &Shared<C>) -> DefragmentResponse {
    DefragmentResponse { header: Some(shared.header(shared.revision())) }
}

/// A digest of all keys as they are now.
pub(crate) async fn hash<C: Cluster>(
    shared: &Shared<C>,
    patience: Patience,
) -> Result<HashResponse, Status> {
    let hashed = hash_kv(shared, &HashKvRequest { revision: 0 }, patience).await?;
    Ok(HashResponse { header: hashed.header, hash: hashed.hash })
}

/// A digest of all keys as they were at a revision: the same wherever it is asked for, and whatever
/// of the history before is compacted. It is not etcd's own, which is of the bytes of its file.
pub(crate) async fn hash_kv<C: Cluster>(
    shared: &Shared<C>,
    request: &HashKvRequest,
    patience: Patience,
) -> Result<HashKvResponse, Status> {
    let copy = shared.linearizable(patience).await?;
    let status = copy.status();
    let revision = if request.revision > 0 { request.revision } else { status.revision };
    let mut range = Range {
        key: Arc::from(&[0][..]),
        range_end: Arc::from(&[0][..]),
        limit: HASHED_AT_ONCE,
        revision,
        ..Range::default()
    };
    let mut hasher = Hasher::new();
    loop {
        let mut left = HASHED_BYTES;
        let result = copy.result_within(&Operation::Range(range.clone()), &mut |bytes| {
            let rest = left.checked_sub(bytes);
            left = rest.unwrap_or(left);
            rest.is_some()
        })?;
        let page = match read_result(&result)? {
            Response::Range(page) => page,
            Response::Error(Error::ResultTooLarge) if range.limit > 1 => {
                range.limit /= 2;
                continue;
            }
            Response::Error(error) => return Err(etcd_error::refused(error)),
            _ => return Err(etcd_error::unreadable_result()),
        };
        for pair in &page.kvs {
            hasher.update(&pair.to_bytes());
        }
        let Some(last) = page.kvs.last().filter(|_| page.more) else { break };
        // The next key after the last one.
        range.key = last.key.iter().copied().chain([0]).collect();
        yield_now().await;
    }
    let Digest(digest) = hasher.finish();
    let [a, b, c, d, ..] = digest;
    Ok(HashKvResponse {
        header: Some(shared.header(status.revision)),
        hash: u32::from_be_bytes([a, b, c, d]),
        compact_revision: status.compacted,
        hash_revision: revision,
    })
}
