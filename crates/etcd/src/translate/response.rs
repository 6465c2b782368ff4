//! Results become answers.
//!
//! The header of an answer is handed in: at the top it says who answers, inside a transaction it
//! bears a revision and nothing else.

use std::sync::Arc;

use bytes::Bytes;
use testudo_kv as kv;

use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    DeleteRangeResponse, LeaseTimeToLiveResponse, PutResponse, RangeResponse, ResponseHeader,
    ResponseOp, TxnResponse,
};
use crate::proto::mvccpb::KeyValue;

pub(super) fn range_response(header: ResponseHeader, response: kv::RangeResponse) -> RangeResponse {
    RangeResponse {
        header: Some(header),
        kvs: response.kvs.into_iter().map(key_value).collect(),
        more: response.more,
        count: response.count,
    }
}

pub(crate) fn put_response(header: ResponseHeader, response: kv::PutResponse) -> PutResponse {
    PutResponse { header: Some(header), prev_kv: response.prev_kv.map(key_value) }
}

pub(crate) fn delete_range_response(
    header: ResponseHeader,
    response: kv::DeleteRangeResponse,
) -> DeleteRangeResponse {
    DeleteRangeResponse {
        header: Some(header),
        deleted: response.deleted,
        prev_kvs: response.prev_kvs.into_iter().map(key_value).collect(),
    }
}

pub(crate) fn txn_response(header: ResponseHeader, response: kv::TxnResponse) -> TxnResponse {
    TxnResponse {
        header: Some(header),
        succeeded: response.succeeded,
        responses: response.responses.into_iter().map(response_op).collect(),
    }
}

pub(crate) fn lease_response(
    header: ResponseHeader,
    lease: kv::LeaseTimeToLiveResponse,
) -> LeaseTimeToLiveResponse {
    LeaseTimeToLiveResponse {
        header: Some(header),
        id: lease.id,
        ttl: lease.ttl,
        granted_ttl: lease.granted_ttl,
        keys: lease.keys.into_iter().map(share).collect(),
    }
}

fn response_op(op: kv::ResponseOp) -> ResponseOp {
    let inner = |revision| ResponseHeader { revision, ..ResponseHeader::default() };
    let response = match op {
        kv::ResponseOp::Range(range) => {
            Response::ResponseRange(range_response(inner(range.revision), range))
        }
        kv::ResponseOp::Put(put) => Response::ResponsePut(put_response(inner(put.revision), put)),
        kv::ResponseOp::DeleteRange(delete) => {
            Response::ResponseDeleteRange(delete_range_response(inner(delete.revision), delete))
        }
        kv::ResponseOp::Txn(txn) => Response::ResponseTxn(txn_response(inner(txn.revision), txn)),
    };
    ResponseOp { response: Some(response) }
}

fn key_value(kv: kv::KeyValue) -> KeyValue {
    KeyValue {
        key: share(kv.key),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: share(kv.value),
        lease: kv.lease,
    }
}

/// The same bytes under the other type, not copied.
fn share(bytes: Arc<[u8]>) -> Bytes {
    if bytes.is_empty() { Bytes::new() } else { Bytes::from_owner(bytes) }
}
