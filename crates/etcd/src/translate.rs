//! From etcd's messages to the coordination service's operations, and back.
//!
//! Nothing is judged here. The service's types follow etcd's field by field, and its checks and
//! answers are etcd's.

use crate::proto::etcdserverpb::{
    self, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest,
    watch_request::RequestUnion,
};
use prost::Message;
use testudo_kv::watch::WatchRequest;
use testudo_kv::{LeaseKeepAlive, Operation};

mod record;
mod request;
mod response;
mod shape;
mod watch;

pub(crate) use record::range_message;
pub(crate) use request::{
    compact, delete_range, lease_grant, lease_revoke, lease_time_to_live, put, range, txn,
};
pub(crate) use response::{delete_range_response, lease_response, put_response, txn_response};
pub(crate) use shape::{OPERATION_BYTES, operations};
pub(crate) use watch::{watch_message, watch_request};

/// What a message asks for, read as each kind of request that it may be: operations, and a watch. A gateway knows by the
/// method which it is; this is for whoever tries what reads requests on bytes that nobody wrote.
#[must_use]
pub fn readings(message: &[u8]) -> (Vec<Operation>, Option<WatchRequest>) {
    let mut readings = Vec::new();
    readings.extend(RangeRequest::decode(message).map(|one| Operation::Range(range(&one))));
    readings.extend(PutRequest::decode(message).map(|one| Operation::Put(put(&one))));
    readings.extend(
        DeleteRangeRequest::decode(message).map(|one| Operation::DeleteRange(delete_range(&one))),
    );
    // As a gateway does: what would take up too much when it is decoded is refused before.
    if operations(message).is_ok() {
        readings.extend(TxnRequest::decode(message).map(|one| Operation::Txn(txn(&one))));
    }
    readings.extend(
        LeaseRevokeRequest::decode(message).map(|one| Operation::LeaseRevoke(lease_revoke(&one))),
    );
    readings.extend(
        LeaseTimeToLiveRequest::decode(message)
            .map(|one| Operation::LeaseTimeToLive(lease_time_to_live(&one))),
    );
    readings.extend(
        LeaseGrantRequest::decode(message).map(|one| Operation::LeaseGrant(lease_grant(&one))),
    );
    readings.extend(
        LeaseKeepAliveRequest::decode(message)
            .map(|one| Operation::LeaseKeepAlive(LeaseKeepAlive { id: one.id })),
    );
    readings
        .extend(CompactionRequest::decode(message).map(|one| Operation::Compact(compact(&one))));
    let asked = etcdserverpb::WatchRequest::decode(message).ok().and_then(|one| one.request_union);
    let watch = match &asked {
        Some(RequestUnion::CreateRequest(create)) => Some(watch_request(create)),
        _ => None,
    };
    (readings, watch)
}
