//! What etcd's clients send.

use prost::Message;
use testudo_core::{Decode, Encode};
use testudo_etcd::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest, request_op,
    watch_request,
};
use testudo_kv::{Operation, Response};

/// A message of any kind becomes an operation that a service may refuse, and that has one form where it does not.
pub(crate) fn run(input: &[u8]) {
    let (operations, _) = testudo_etcd::readings(input);
    for operation in operations {
        let bytes = operation.to_bytes();
        if testudo_kv::check::operation(&operation).is_ok() {
            assert_eq!(Operation::from_bytes(&bytes).as_ref(), Ok(&operation));
        }
    }
    crate::one_form::<Response>(input);
    crate::one_form::<Operation>(input);
}

pub(crate) fn good() -> Vec<Vec<u8>> {
    let key = || b"key"[..].into();
    let put = PutRequest { key: key(), value: b"value"[..].into(), lease: 7, ..Default::default() };
    let range = RangeRequest { key: key(), range_end: b"kez"[..].into(), ..Default::default() };
    let delete = DeleteRangeRequest { key: key(), prev_kv: true, ..Default::default() };
    let create = WatchCreateRequest { key: key(), start_revision: 3, ..Default::default() };
    let watch =
        WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) };
    let one = |request| RequestOp { request: Some(request) };
    let inner = TxnRequest {
        failure: vec![one(request_op::Request::RequestRange(range.clone()))],
        ..Default::default()
    };
    let txn = TxnRequest {
        success: vec![
            one(request_op::Request::RequestPut(put.clone())),
            one(request_op::Request::RequestTxn(inner)),
        ],
        ..Default::default()
    };
    let operations = testudo_etcd::readings(&txn.encode_to_vec()).0;
    let messages = vec![
        put.encode_to_vec(),
        range.encode_to_vec(),
        delete.encode_to_vec(),
        watch.encode_to_vec(),
        LeaseGrantRequest { id: 7, ttl: 60 }.encode_to_vec(),
        LeaseKeepAliveRequest { id: 7 }.encode_to_vec(),
        CompactionRequest { revision: 5, physical: true }.encode_to_vec(),
        txn.encode_to_vec(),
    ];
    messages.into_iter().chain(operations.iter().map(Encode::to_bytes)).collect()
}
