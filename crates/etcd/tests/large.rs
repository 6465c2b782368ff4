//! Large answers: they come in one message, as from etcd, and only what there is room for is made.

mod common;

use bytes::Bytes;
use common::raw::{HELD, comes_to};
use common::{Running, said};
use testudo_core::limits::RESULT_BYTES;
use testudo_core::{Decode, Encode};
use testudo_etcd::proto::etcdserverpb::request_op::Request as Op;
use testudo_etcd::proto::etcdserverpb::response_op::Response as Answer;
use testudo_etcd::proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest};
use testudo_etcd::{Cluster, Limits};
use testudo_kv::check::TXN_OPERATIONS;
use testudo_kv::{Operation, Put, Response, Txn};
use tonic::Code;

/// Puts so many keys, many at a time.
async fn fill(gateway: &Running, keys: usize, value: usize) {
    let value: std::sync::Arc<[u8]> = vec![b'v'; value].into();
    let numbers: Vec<usize> = (0..keys).collect();
    let at_once = TXN_OPERATIONS.min(1 + (1 << 20) / value.len());
    for some in numbers.chunks(at_once) {
        let put = |number: &usize| {
            let key = format!("key/{number:08}").into_bytes().into();
            testudo_kv::RequestOp::Put(Put { key, value: value.clone(), ..Put::default() })
        };
        let txn = Txn { success: some.iter().map(put).collect(), ..Txn::default() };
        let operation = Operation::Txn(txn).to_bytes();
        let result = gateway.cluster.submit(operation.into()).await.expect("it is executed");
        let result = Response::from_bytes(&result).expect("a result");
        assert!(matches!(result, Response::Txn(_)), "{result:?}");
    }
}

fn all() -> RangeRequest {
    let (key, range_end) = (Bytes::from_static(b"key/"), Bytes::from_static(b"key0"));
    RangeRequest { key, range_end, ..RangeRequest::default() }
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

#[tokio::test]
async fn a_hundred_thousand_keys_come_in_one_message() {
    let gateway = Running::new().await;
    let (keys, size) = (100_000, 512);
    fill(&gateway, keys, size).await;
    assert!(keys * size > RESULT_BYTES, "more than a result that is ordered may have");
    let submits = gateway.cluster.submits();
    let mut kv = gateway.kv().await;
    for serializable in [false, true] {
        let request = RangeRequest { serializable, ..all() };
        let answer = kv.range(request).await.expect("a range").into_inner();
        assert_eq!((answer.kvs.len(), answer.count, answer.more), (keys, keys as i64, false));
        for (number, pair) in answer.kvs.iter().enumerate() {
            assert_eq!(pair.key, format!("key/{number:08}"));
            assert_eq!(pair.value.len(), size);
        }
    }
    let keys_only = RangeRequest { keys_only: true, ..all() };
    let answer = kv.range(keys_only).await.expect("a range").into_inner();
    assert_eq!(answer.kvs.len(), keys);
    assert!(answer.kvs.iter().all(|pair| pair.value.is_empty()));

    // A transaction that only reads is no different.
    let txn = TxnRequest { success: vec![op(Op::RequestRange(all()))], ..TxnRequest::default() };
    let answer = kv.txn(txn).await.expect("a transaction").into_inner();
    let Some(Answer::ResponseRange(range)) = &answer.responses[0].response else {
        panic!("a range was asked for")
    };
    assert_eq!(range.kvs.len(), keys);
    assert_eq!(gateway.cluster.submits(), submits, "nothing was ordered");
    comes_to(&gateway, HELD, 0).await;
}

#[tokio::test]
async fn what_is_ordered_has_the_limit_of_results() {
    let gateway = Running::new().await;
    fill(&gateway, 100, 400 << 10).await;
    let revision = gateway.cluster.revision();
    let mut kv = gateway.kv().await;
    let key = Bytes::from_static(b"other");
    let put = Op::RequestPut(PutRequest { key, ..PutRequest::default() });
    let success = vec![op(put), op(Op::RequestRange(all()))];
    let refused = kv.txn(TxnRequest { success, ..TxnRequest::default() }).await;
    let (code, text) = said(refused);
    assert_eq!(code, Code::ResourceExhausted);
    assert!(text.starts_with("testudo: the result is larger than one reply may be"), "{text}");
    assert_eq!(gateway.cluster.revision(), revision, "nothing was put");
    assert_eq!(kv.range(all()).await.expect("a range").into_inner().kvs.len(), 100);
}

#[tokio::test]
async fn nothing_is_made_that_there_is_no_room_for() {
    let limits = Limits { bytes: 36 << 20, connection_bytes: 24 << 20, ..Limits::default() };
    let gateway = Running::within(limits).await;
    fill(&gateway, 100, 100 << 10).await;
    let mut kv = gateway.kv().await;

    // The result and its message are ten megabytes each: there is room for both, and for no more.
    let answer = kv.range(all()).await.expect("a range").into_inner();
    assert_eq!(answer.kvs.len(), 100);
    drop(answer);
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut kv = kv.clone();
        waiting.push(tokio::spawn(async move { kv.range(all()).await.map(|_| ()) }));
    }
    for asked in waiting {
        if let Err(refused) = asked.await.expect("it does not panic") {
            let spent = (Code::ResourceExhausted, "etcdserver: too many requests");
            assert_eq!((refused.code(), refused.message()), spent);
        }
    }

    // What could not be sent even alone is too large, however little waits.
    fill(&gateway, 130, 100 << 10).await;
    let (code, text) = said(kv.range(all()).await);
    assert_eq!(code, Code::ResourceExhausted);
    assert!(text.starts_with("testudo: the result is larger than one reply may be"), "{text}");
    let some = RangeRequest { limit: 50, ..all() };
    assert_eq!(kv.range(some).await.expect("a range").into_inner().kvs.len(), 50);
    comes_to(&gateway, HELD, 0).await;
}
