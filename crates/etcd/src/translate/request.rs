//! Requests become operations.

use std::sync::Arc;

use bytes::Bytes;
use testudo_kv as kv;

use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// The frame that a request came in is let go with it; what goes on is a copy.
pub(super) fn own(bytes: &Bytes) -> Arc<[u8]> {
    Arc::from(bytes.as_ref())
}

pub(crate) fn range(request: &RangeRequest) -> kv::Range {
    kv::Range {
        key: own(&request.key),
        range_end: own(&request.range_end),
        limit: request.limit,
        revision: request.revision,
        sort_order: kv::SortOrder(request.sort_order),
        sort_target: kv::SortTarget(request.sort_target),
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

pub(crate) fn put(request: &PutRequest) -> kv::Put {
    kv::Put {
        key: own(&request.key),
        value: own(&request.value),
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

pub(crate) fn delete_range(request: &DeleteRangeRequest) -> kv::DeleteRange {
    kv::DeleteRange {
        key: own(&request.key),
        range_end: own(&request.range_end),
        prev_kv: request.prev_kv,
    }
}

pub(crate) const fn compact(request: &CompactionRequest) -> kv::Compact {
    kv::Compact { revision: request.revision, physical: request.physical }
}

/// A lease with the number that the client gives it, if it gives one.
pub(crate) const fn lease_grant(request: &LeaseGrantRequest) -> kv::LeaseGrant {
    kv::LeaseGrant { id: request.id, ttl: request.ttl }
}

pub(crate) const fn lease_revoke(request: &LeaseRevokeRequest) -> kv::LeaseRevoke {
    kv::LeaseRevoke { id: request.id }
}

pub(crate) const fn lease_time_to_live(request: &LeaseTimeToLiveRequest) -> kv::LeaseTimeToLive {
    kv::LeaseTimeToLive { id: request.id, keys: request.keys }
}

/// The message may be nested as deeply as its decoder allows, which is not deep.
pub(crate) fn txn(request: &TxnRequest) -> kv::Txn {
    kv::Txn {
        compare: request.compare.iter().map(compare).collect(),
        success: request.success.iter().map(request_op).collect(),
        failure: request.failure.iter().map(request_op).collect(),
    }
}

fn request_op(op: &RequestOp) -> kv::RequestOp {
    match &op.request {
        None => kv::RequestOp::None,
        Some(Request::RequestRange(request)) => kv::RequestOp::Range(range(request)),
        Some(Request::RequestPut(request)) => kv::RequestOp::Put(put(request)),
        Some(Request::RequestDeleteRange(request)) => {
            kv::RequestOp::DeleteRange(delete_range(request))
        }
        Some(Request::RequestTxn(request)) => kv::RequestOp::Txn(txn(request)),
    }
}

fn compare(compare: &Compare) -> kv::Compare {
    kv::Compare {
        relation: kv::Relation(compare.result),
        target: kv::CompareTarget(compare.target),
        key: own(&compare.key),
        range_end: own(&compare.range_end),
        operand: match &compare.target_union {
            None => kv::Operand::None,
            Some(TargetUnion::Version(version)) => kv::Operand::Version(*version),
            Some(TargetUnion::CreateRevision(revision)) => kv::Operand::Create(*revision),
            Some(TargetUnion::ModRevision(revision)) => kv::Operand::Mod(*revision),
            Some(TargetUnion::Value(value)) => kv::Operand::Value(own(value)),
            Some(TargetUnion::Lease(lease)) => kv::Operand::Lease(*lease),
        },
    }
}
