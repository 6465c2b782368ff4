//! Keys and values through the gateway, as an etcd client sees them.

mod common;

use bytes::Bytes;
use common::{Mood, Running, call_raw, said};
use prost::Message;
use testudo_etcd::SubmitError;
use testudo_etcd::proto::etcdserverpb::compare::TargetUnion;
use testudo_etcd::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use testudo_etcd::proto::etcdserverpb::request_op::Request as Op;
use testudo_etcd::proto::etcdserverpb::response_op::Response as OpResponse;
use testudo_etcd::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
};
use testudo_etcd::proto::mvccpb::KeyValue;
use tonic::Code;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }
}

fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), range_end: bytes(range_end), ..RangeRequest::default() }
}

fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), ..DeleteRangeRequest::default() }
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn key_value(key: &str, value: &str, create: i64, modified: i64, version: i64) -> KeyValue {
    KeyValue {
        key: bytes(key),
        value: bytes(value),
        create_revision: create,
        mod_revision: modified,
        version,
        lease: 0,
    }
}

fn keys(kvs: &[KeyValue]) -> Vec<&[u8]> {
    kvs.iter().map(|kv| kv.key.as_ref()).collect()
}

#[tokio::test]
async fn what_is_put_is_read_and_every_header_is_filled() {
    let gateway = Running::new().await;
    let mut kv = gateway.kv().await;
    let header = |revision| {
        Some(ResponseHeader {
            cluster_id: gateway.info.cluster_id(),
            member_id: gateway.info.member_id(),
            revision,
            raft_term: 7,
        })
    };

    let answer = kv.put(put("a", "1")).await.expect("put").into_inner();
    assert_eq!((answer.header, answer.prev_kv), (header(2), None));
    let answer = kv.put(PutRequest { prev_kv: true, ..put("a", "2") }).await.expect("put");
    let answer = answer.into_inner();
    assert_eq!(answer.header, header(3));
    assert_eq!(answer.prev_kv, Some(key_value("a", "1", 2, 2, 1)));

    let answer = kv.range(range("a", "")).await.expect("range").into_inner();
    assert_eq!(answer.header, header(3));
    assert_eq!(answer.kvs, [key_value("a", "2", 2, 3, 2)]);
    assert_eq!((answer.count, answer.more), (1, false));

    let request = DeleteRangeRequest { prev_kv: true, ..delete("a") };
    let answer = kv.delete_range(request).await.expect("delete").into_inner();
    assert_eq!((answer.header, answer.deleted), (header(4), 1));
    assert_eq!(answer.prev_kvs, [key_value("a", "2", 2, 3, 2)]);
    let answer = kv.delete_range(delete("a")).await.expect("delete").into_inner();
    assert_eq!((answer.header, answer.deleted), (header(4), 0));
}

#[tokio::test]
async fn every_option_of_a_range_arrives() {
    let gateway = Running::new().await;
    let mut kv = gateway.kv().await;
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("b", "0"), ("d", "")] {
        kv.put(put(key, value)).await.expect("put");
    }
    let all = range("a", "z");
    let cases: [(RangeRequest, &[&[u8]]); 10] = [
        (all.clone(), &[b"a", b"b", b"c", b"d"]),
        (range("b", "\0"), &[b"b", b"c", b"d"]),
        (RangeRequest { limit: 2, ..all.clone() }, &[b"a", b"b"]),
        (RangeRequest { revision: 3, ..all.clone() }, &[b"a", b"b"]),
        (
            RangeRequest { sort_order: SortOrder::Descend.into(), ..all.clone() },
            &[b"d", b"c", b"b", b"a"],
        ),
        (
            RangeRequest { sort_target: SortTarget::Value.into(), ..all.clone() },
            &[b"d", b"b", b"c", b"a"],
        ),
        (RangeRequest { min_mod_revision: 4, ..all.clone() }, &[b"b", b"c", b"d"]),
        (RangeRequest { max_mod_revision: 4, ..all.clone() }, &[b"a", b"c"]),
        (RangeRequest { min_create_revision: 4, ..all.clone() }, &[b"c", b"d"]),
        (RangeRequest { max_create_revision: 3, serializable: true, ..all.clone() }, &[b"a", b"b"]),
    ];
    for (request, expected) in cases {
        let answer = kv.range(request.clone()).await.expect("range").into_inner();
        assert_eq!(keys(&answer.kvs), expected, "{request:?}");
        assert_eq!(answer.more, request.limit > 0);
        assert_eq!(
            answer.count,
            if request.revision > 0 {
                2
            } else if request.key == "b" {
                3
            } else {
                4
            }
        );
    }
    let request = RangeRequest { keys_only: true, ..all.clone() };
    let answer = kv.range(request).await.expect("range").into_inner();
    assert!(answer.kvs.iter().all(|kv| kv.value.is_empty() && kv.version > 0));
    let answer = kv.range(RangeRequest { count_only: true, ..all }).await.expect("range");
    assert_eq!((answer.get_ref().kvs.len(), answer.get_ref().count), (0, 4));
}

#[tokio::test]
async fn a_put_may_keep_the_value() {
    let gateway = Running::new().await;
    let mut kv = gateway.kv().await;
    kv.put(put("a", "kept")).await.expect("put");
    let request = PutRequest { ignore_value: true, ignore_lease: true, ..put("a", "") };
    kv.put(request).await.expect("put");
    let answer = kv.range(range("a", "")).await.expect("range").into_inner();
    assert_eq!(answer.kvs, [key_value("a", "kept", 2, 3, 2)]);
}

#[tokio::test]
async fn a_transaction_compares_and_runs_one_branch_in_one_revision() {
    let gateway = Running::new().await;
    let mut kv = gateway.kv().await;
    kv.put(put("lock", "mine")).await.expect("put");
    let compare = |union| Compare {
        target: target_of(&union),
        key: bytes("lock"),
        target_union: Some(union),
        ..Compare::default()
    };
    let inner = TxnRequest {
        failure: vec![op(Op::RequestRange(range("lock", "")))],
        compare: vec![compare(TargetUnion::Version(9))],
        ..TxnRequest::default()
    };
    let request = TxnRequest {
        compare: vec![
            compare(TargetUnion::Value(bytes("mine"))),
            compare(TargetUnion::Version(1)),
            compare(TargetUnion::CreateRevision(2)),
            compare(TargetUnion::ModRevision(2)),
            compare(TargetUnion::Lease(0)),
        ],
        success: vec![
            op(Op::RequestPut(PutRequest { prev_kv: true, ..put("a", "1") })),
            op(Op::RequestDeleteRange(delete("lock"))),
            op(Op::RequestTxn(inner)),
        ],
        failure: vec![],
    };
    let answer = kv.txn(request.clone()).await.expect("txn").into_inner();
    assert!(answer.succeeded);
    let header = answer.header.expect("a header");
    assert_eq!((header.revision, header.member_id), (3, gateway.info.member_id()));
    let responses: Vec<OpResponse> =
        answer.responses.into_iter().filter_map(|op| op.response).collect();
    let [
        OpResponse::ResponsePut(put),
        OpResponse::ResponseDeleteRange(delete),
        OpResponse::ResponseTxn(txn),
    ] = &responses[..]
    else {
        panic!("{responses:?}");
    };
    let bare = |revision| Some(ResponseHeader { revision, ..ResponseHeader::default() });
    assert_eq!((put.header, &put.prev_kv), (bare(3), &None));
    assert_eq!((delete.header, delete.deleted), (bare(3), 1));
    assert_eq!((txn.header, txn.succeeded), (bare(0), false));
    assert!(matches!(
        txn.responses[0].response.as_ref(),
        Some(OpResponse::ResponseRange(range)) if range.count == 0
    ));

    let answer = kv.txn(request).await.expect("txn").into_inner();
    assert!(!answer.succeeded);
    assert_eq!((answer.responses.len(), answer.header.map(|header| header.revision)), (0, Some(3)));
}

fn target_of(union: &TargetUnion) -> i32 {
    match union {
        TargetUnion::Version(_) => 0,
        TargetUnion::CreateRevision(_) => 1,
        TargetUnion::ModRevision(_) => 2,
        TargetUnion::Value(_) => 3,
        TargetUnion::Lease(_) => 4,
    }
}

#[tokio::test]
async fn refusals_have_etcds_codes_and_texts() {
    use Code::{InvalidArgument, NotFound, OutOfRange};
    let gateway = Running::new().await;
    let mut kv = gateway.kv().await;
    let key_missing = (InvalidArgument, "etcdserver: key is not provided".to_owned());
    assert_eq!(said(kv.put(put("", "v")).await), key_missing);
    assert_eq!(said(kv.range(range("", "z")).await), key_missing);
    assert_eq!(said(kv.delete_range(delete("")).await), key_missing);

    let puts = [
        (PutRequest { ignore_value: true, ..put("k", "") }, InvalidArgument, "key not found"),
        (PutRequest { ignore_lease: true, ..put("k", "v") }, InvalidArgument, "key not found"),
        (PutRequest { ignore_value: true, ..put("k", "v") }, InvalidArgument, "value is provided"),
        (
            PutRequest { ignore_lease: true, lease: 1, ..put("k", "v") },
            InvalidArgument,
            "lease is provided",
        ),
        (PutRequest { lease: 99, ..put("k", "v") }, NotFound, "requested lease not found"),
    ];
    for (request, code, text) in puts {
        assert_eq!(said(kv.put(request).await), (code, format!("etcdserver: {text}")));
    }
    let ranges = [
        (
            RangeRequest { revision: 50, ..range("k", "") },
            OutOfRange,
            "mvcc: required revision is a future revision",
        ),
        (
            RangeRequest { sort_target: 99, ..range("k", "") },
            InvalidArgument,
            "invalid sort option",
        ),
        (RangeRequest { sort_order: -1, ..range("k", "") }, InvalidArgument, "invalid sort option"),
    ];
    for (request, code, text) in ranges {
        assert_eq!(said(kv.range(request).await), (code, format!("etcdserver: {text}")));
    }
    let twice = vec![op(Op::RequestPut(put("k", "1"))), op(Op::RequestPut(put("k", "2")))];
    let many = vec![op(Op::RequestRange(range("k", ""))); 129];
    let txns = [
        (twice, "duplicate key given in txn request"),
        (many, "too many operations in txn request"),
        (vec![RequestOp::default()], "key not found"),
        (vec![op(Op::RequestPut(put("", "")))], "key is not provided"),
    ];
    for (success, text) in txns {
        let request = TxnRequest { success, ..TxnRequest::default() };
        assert_eq!(said(kv.txn(request).await), (InvalidArgument, format!("etcdserver: {text}")));
    }
}

#[tokio::test]
async fn sizes_are_limited_where_etcd_limits_them() {
    let gateway = Running::new().await;
    let mut kv = gateway.kv().await;
    let too_large = (Code::InvalidArgument, "etcdserver: request is too large".to_owned());

    // The fields of a put with a key of one byte and such a value take 3 and 4 bytes more.
    let of_size = |size: usize| PutRequest { value: vec![b'v'; size - 7].into(), ..put("k", "") };
    assert_eq!(of_size(1_572_864).encoded_len(), 1_572_864);
    kv.put(of_size(1_572_864)).await.expect("it is just small enough");
    assert_eq!(said(kv.put(of_size(1_572_865)).await), too_large);
    assert_eq!(said(kv.put(of_size(2_097_152)).await), too_large);
    let longer = (
        Code::ResourceExhausted,
        "grpc: received message larger than max (2097153 vs. 2097152)".to_owned(),
    );
    assert_eq!(said(kv.put(of_size(2_097_153)).await), longer);

    // What is wrong with a request comes before its size, and reads have no size of their own.
    let nameless = PutRequest { key: Bytes::new(), ..of_size(1_600_000) };
    let text = "etcdserver: key is not provided".to_owned();
    assert_eq!(said(kv.put(nameless).await), (Code::InvalidArgument, text));
    let long = RangeRequest { key: vec![b'k'; 1_600_000].into(), ..RangeRequest::default() };
    assert_eq!(kv.range(long).await.expect("a read").into_inner().count, 0);

    // An answer may be larger than any request.
    for key in ["l", "m"] {
        kv.put(PutRequest { key: bytes(key), ..of_size(1_500_000) }).await.expect("put");
    }
    let answer = kv.range(range("k", "z")).await.expect("range").into_inner();
    assert!(answer.encoded_len() > 4_500_000);
}

#[tokio::test]
async fn a_transaction_that_would_swell_is_not_decoded() {
    let gateway = Running::new().await;
    // Two bytes for each request of no kind.
    let message = b"\x12\x00".repeat(1 << 20);
    let answer = call_raw(gateway.channel().await, "/etcdserverpb.KV/Txn", &message).await;
    let text = "etcdserver: too many operations in txn request".to_owned();
    assert_eq!(said(answer), (Code::InvalidArgument, text));
}

#[tokio::test]
async fn messages_that_cannot_be_read_are_answered_as_etcd_answers() {
    let gateway = Running::new().await;
    for path in ["/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn"] {
        let answer = call_raw(gateway.channel().await, path, b"\x0a\x7f").await;
        let (code, text) = said(answer);
        assert_eq!(code, Code::Internal);
        assert!(text.starts_with("grpc: error unmarshalling request: "), "{text}");
    }
}

#[tokio::test]
async fn a_cluster_that_fails_is_told_apart() {
    let gateway = Running::new().await;
    let mut kv = gateway.kv().await;
    let cases = [
        (SubmitError::Unavailable, Code::Unavailable, "etcdserver: request timed out"),
        (SubmitError::Unknown, Code::Unavailable, "etcdserver: request timed out"),
        (
            SubmitError::NotAdmitted,
            Code::Unavailable,
            "testudo: the cluster does not admit this gateway",
        ),
        (SubmitError::TooLarge, Code::InvalidArgument, "etcdserver: request is too large"),
        (SubmitError::Overloaded, Code::ResourceExhausted, "etcdserver: too many requests"),
        (SubmitError::Stopped, Code::Unavailable, "etcdserver: server stopped"),
    ];
    for (error, code, text) in cases {
        gateway.cluster.set(Mood::Fails(error));
        assert_eq!(said(kv.put(put("k", "v")).await), (code, text.to_owned()), "{error:?}");
    }
    gateway.cluster.set(Mood::Raves);
    let (code, text) = said(kv.put(put("k", "v")).await);
    assert_eq!(code, Code::Internal);
    assert!(text.starts_with("testudo: "), "{text}");
    gateway.cluster.set(Mood::Answers);
    gateway.assert_alive().await;
}

#[tokio::test]
async fn a_silent_cluster_costs_the_deadline_and_no_more() {
    let gateway = Running::impatient().await;
    let mut kv = gateway.kv().await;
    gateway.cluster.set(Mood::Silent);
    let timed_out = (Code::Unavailable, "etcdserver: request timed out".to_owned());
    assert_eq!(said(kv.put(put("k", "v")).await), timed_out);
    assert_eq!(said(kv.range(range("k", "")).await), timed_out);

    let requires_leader = |request| {
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("hasleader", "true".parse().expect("a header"));
        request
    };
    let no_leader = (Code::Unavailable, "etcdserver: no leader".to_owned());
    assert_eq!(said(kv.put(requires_leader(put("k", "v"))).await), no_leader);
    gateway.cluster.set(Mood::Answers);
    kv.put(requires_leader(put("k", "v"))).await.expect("there is one again");
}

#[tokio::test]
async fn reads_rest_on_what_they_ask_for_and_are_not_ordered() {
    let gateway = Running::impatient().await;
    let mut kv = gateway.kv().await;
    kv.put(put("a", "1")).await.expect("put");
    let slot = gateway.cluster.slot();
    let local = RangeRequest { serializable: true, ..range("a", "") };
    let txn = |range: &RangeRequest| TxnRequest {
        success: vec![op(Op::RequestRange(range.clone()))],
        ..TxnRequest::default()
    };
    for request in [&range("a", ""), &local] {
        kv.range(request.clone()).await.expect("range");
        kv.txn(txn(request)).await.expect("txn");
    }
    assert_eq!(gateway.cluster.slot(), slot, "nothing was ordered");

    // No quorum answers: what is local still does.
    gateway.cluster.set(Mood::Silent);
    let timed_out = (Code::Unavailable, "etcdserver: request timed out".to_owned());
    assert_eq!(said(kv.range(range("a", "")).await), timed_out);
    assert_eq!(said(kv.txn(txn(&range("a", ""))).await), timed_out);
    let answer = kv.range(local.clone()).await.expect("range").into_inner();
    assert_eq!(answer.kvs, [key_value("a", "1", 2, 2, 1)]);
    assert!(kv.txn(txn(&local)).await.expect("txn").into_inner().succeeded);

    // Without a copy there is nothing local either.
    gateway.cluster.lose_copy();
    let unhealthy = (Code::Unavailable, "etcdserver: unhealthy cluster".to_owned());
    assert_eq!(said(kv.range(local.clone()).await), unhealthy);
    gateway.cluster.set(Mood::Answers);
    gateway.cluster.find_copy();
    kv.range(local).await.expect("range");
    kv.range(range("a", "")).await.expect("range");
}
