//! Requests that etcd's members die of, some of them again at every start because they were ordered
//! first, and others that make no sense. All are refused before anything is ordered: the cluster
//! does not hear of them.

mod common;

use common::{Running, call_raw};
use prost::Message;
use testudo_etcd::proto::etcdserverpb::compare::TargetUnion;
use testudo_etcd::proto::etcdserverpb::request_op::Request as Op;
use testudo_etcd::proto::etcdserverpb::{
    AlarmRequest, AuthRoleGrantPermissionRequest, CompactionRequest, Compare, DeleteRangeRequest,
    DowngradeRequest, LeaseGrantRequest, MoveLeaderRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};
use tonic::Code;

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const ROLE_GRANT: &str = "/etcdserverpb.Auth/RoleGrantPermission";

/// A method, a message for it, and how it is refused.
type Case = (&'static str, Vec<u8>, Code, &'static str);

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put(key: &'static str) -> RequestOp {
    op(Op::RequestPut(PutRequest { key: key.into(), value: "v".into(), ..Default::default() }))
}

fn range(sort_order: i32, sort_target: i32) -> RangeRequest {
    RangeRequest { key: "a".into(), sort_order, sort_target, ..RangeRequest::default() }
}

fn success(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

/// A transaction beside a put, in every place that it can have, and two levels down.
fn everywhere(bad: &RequestOp) -> Vec<Case> {
    let (code, text) = match &bad.request {
        None => (Code::InvalidArgument, "etcdserver: key not found"),
        Some(_) => (Code::InvalidArgument, "etcdserver: invalid sort option"),
    };
    let nested = |inner: TxnRequest| success(vec![put("b"), op(Op::RequestTxn(inner))]);
    let txns = [
        success(vec![put("b"), bad.clone()]),
        success(vec![bad.clone(), put("b")]),
        TxnRequest { success: vec![put("b")], failure: vec![bad.clone()], ..TxnRequest::default() },
        nested(success(vec![put("c"), bad.clone()])),
        nested(TxnRequest { failure: vec![bad.clone()], ..TxnRequest::default() }),
        nested(nested(success(vec![bad.clone()]))),
    ];
    txns.into_iter().map(|txn| (TXN, txn.encode_to_vec(), code, text)).collect()
}

/// Asks for all of these, and shows that nothing was ordered and the store is as it was.
async fn all_are_refused(cases: Vec<Case>) {
    let gateway = Running::new().await;
    gateway.put("a", "1").await;
    let (submits, slot) = (gateway.cluster.submits(), gateway.cluster.slot());
    let channel = gateway.channel().await;
    for (path, message, code, text) in cases {
        let refused = call_raw(channel.clone(), path, &message).await;
        let refused = refused.expect_err("a refusal was expected");
        assert_eq!(refused.code(), code, "{path} {message:?}: {}", refused.message());
        assert!(refused.message().starts_with(text), "{path}: {}", refused.message());
        assert_eq!(gateway.cluster.submits(), submits, "{path} {message:?} was ordered");
    }
    assert_eq!((gateway.cluster.slot(), gateway.cluster.revision()), (slot, 2));
    gateway.assert_alive().await;
    assert_eq!(gateway.cluster.submits(), submits + 1, "what is sound is ordered");
}

#[tokio::test]
async fn alarms_that_nobody_can_raise() {
    let alarm = |action, alarm| AlarmRequest { action, alarm, member_id: 1 }.encode_to_vec();
    let (activate, none) = (1, 0);
    let by_hand = (Code::Unimplemented, "testudo: alarms are not raised by hand");
    let mut cases = Vec::new();
    for kind in [none, 1, 2, 77, -1, i32::MAX] {
        cases.push((ALARM, alarm(activate, kind), by_hand.0, by_hand.1));
    }
    for action in [3, 77, -1, i32::MIN] {
        let text = "testudo: there is no such alarm action";
        cases.push((ALARM, alarm(action, none), Code::InvalidArgument, text));
    }
    all_are_refused(cases).await;
}

#[tokio::test]
async fn grants_of_no_permission() {
    let request = AuthRoleGrantPermissionRequest { name: "root".into(), perm: None };
    let text = "testudo: etcdserverpb.Auth/RoleGrantPermission is not implemented yet";
    let messages = [request.encode_to_vec(), Vec::new()];
    let refused = messages.map(|message| (ROLE_GRANT, message, Code::Unimplemented, text));
    all_are_refused(refused.into()).await;
}

#[tokio::test]
async fn orders_that_do_not_exist() {
    let mut cases = Vec::new();
    for (order, target) in [(0, 99), (99, 0), (99, 99), (1, 5), (3, 1), (-1, 0), (0, i32::MIN)] {
        for serializable in [false, true] {
            let range = RangeRequest { serializable, ..range(order, target) };
            let text = "etcdserver: invalid sort option";
            cases.push((RANGE, range.encode_to_vec(), Code::InvalidArgument, text));
        }
        cases.extend(everywhere(&op(Op::RequestRange(range(order, target)))));
    }
    all_are_refused(cases).await;
}

#[tokio::test]
async fn operations_of_no_kind() {
    let mut cases = everywhere(&RequestOp { request: None });
    // A kind that is none of this protocol is no kind: field 9 of a request, beside a put.
    let message = [&b"\x12\x02\x4a\x00"[..], &success(vec![put("b")]).encode_to_vec()].concat();
    cases.push((TXN, message, Code::InvalidArgument, "etcdserver: key not found"));
    all_are_refused(cases).await;
}

#[tokio::test]
async fn what_is_empty_where_something_must_be() {
    let text = "etcdserver: key is not provided";
    let invalid = |path, message| (path, message, Code::InvalidArgument, text);
    let empty_range = op(Op::RequestRange(RangeRequest::default()));
    let empty_delete = op(Op::RequestDeleteRange(DeleteRangeRequest::default()));
    let empty_put = op(Op::RequestPut(PutRequest::default()));
    let mut cases: Vec<Case> =
        [RANGE, PUT, DELETE_RANGE].map(|path| invalid(path, Vec::new())).into();
    for empty in [empty_range, empty_delete, empty_put] {
        cases.push(invalid(TXN, success(vec![put("b"), empty]).encode_to_vec()));
    }
    let compare = vec![Compare { target_union: None, ..Compare::default() }];
    let txn = TxnRequest { compare, success: vec![put("b")], ..TxnRequest::default() };
    cases.push(invalid(TXN, txn.encode_to_vec()));
    all_are_refused(cases).await;
}

#[tokio::test]
async fn what_cannot_be_read_and_what_is_out_of_bounds() {
    let deep =
        (0..50).fold(success(vec![put("b")]), |inner, _| success(vec![op(Op::RequestTxn(inner))]));
    let long = success((0..129).map(|_| put("b")).collect());
    let twice = success(vec![put("b"), put("b")]);
    let downgrade = DowngradeRequest { action: 99, version: "x".into() }.encode_to_vec();
    let leader = MoveLeaderRequest { target_id: u64::MAX }.encode_to_vec();
    let ttl = LeaseGrantRequest { ttl: i64::MAX, id: 1 }.encode_to_vec();
    let many = "etcdserver: too many operations in txn request";
    let unreadable = "grpc: error unmarshalling request";
    let cases = vec![
        (TXN, deep.encode_to_vec(), Code::InvalidArgument, many),
        (TXN, long.encode_to_vec(), Code::InvalidArgument, many),
        (TXN, twice.encode_to_vec(), Code::InvalidArgument, "etcdserver: duplicate key given"),
        (TXN, b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec(), Code::Internal, unreadable),
        (PUT, b"\x0a\x05ab".to_vec(), Code::Internal, unreadable),
        (ALARM, b"\xff\xff\xff".to_vec(), Code::Internal, unreadable),
        (GRANT, ttl, Code::OutOfRange, "etcdserver: too large lease TTL"),
        ("/etcdserverpb.Maintenance/Downgrade", downgrade, Code::Unimplemented, "testudo: "),
        ("/etcdserverpb.Maintenance/MoveLeader", leader, Code::Unimplemented, "testudo: "),
    ];
    all_are_refused(cases).await;
}

/// Some of what looks deadly has an answer of etcd's own, which only the cluster can give. It is
/// ordered, answered, and changes nothing it should not.
#[tokio::test]
async fn odd_requests_that_etcd_answers_are_ordered_and_answered() {
    let gateway = Running::new().await;
    gateway.put("a", "1").await;
    let channel = gateway.channel().await;
    for revision in [i64::MIN, -1, 0, 3, i64::MAX] {
        let message = CompactionRequest { revision, physical: false }.encode_to_vec();
        let refused = call_raw(channel.clone(), COMPACT, &message).await;
        assert_eq!(refused.expect_err("it cannot be").code(), Code::OutOfRange, "{revision}");
    }
    // Compares of kinds that do not exist, beside a put.
    for (result, target) in [(99, 0), (0, 99), (-1, -1)] {
        let compare = Compare {
            result,
            target,
            key: "a".into(),
            target_union: Some(TargetUnion::Version(1)),
            ..Compare::default()
        };
        let txn =
            TxnRequest { compare: vec![compare], success: vec![put("b")], ..Default::default() };
        call_raw(channel.clone(), TXN, &txn.encode_to_vec()).await.expect("an answer");
    }
    gateway.assert_alive().await;
}
