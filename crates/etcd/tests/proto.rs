//! The generated messages speak the bytes that clients of etcd speak.
//!
//! The expected bytes are written out from the protobuf encoding rules, so that a slip in a field
//! number or type shows here rather than in somebody's cluster.

use bytes::Bytes;
use prost::Message;
use testudo_etcd::proto::etcdserverpb::{
    Compare, RangeRequest, ResponseHeader, WatchResponse, compare::TargetUnion,
};
use testudo_etcd::proto::mvccpb::{Event, KeyValue, event::EventType};
use testudo_etcd::proto::{etcdserverpb, health, v3electionpb, v3lockpb};

#[test]
fn a_compare_keeps_its_distant_field_number() {
    let compare = Compare {
        result: 1,
        target: 3,
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"l"),
        target_union: Some(TargetUnion::Value(Bytes::from_static(b"v"))),
    };
    let expected = b"\x08\x01\x10\x03\x1a\x01k\x3a\x01v\x82\x04\x01l";
    assert_eq!(compare.encode_to_vec(), expected);
    assert_eq!(Compare::decode(&expected[..]), Ok(compare));
}

#[test]
fn a_watch_answer_carries_its_events_in_field_eleven() {
    let key_value =
        KeyValue { key: Bytes::from_static(b"k"), mod_revision: 300, ..KeyValue::default() };
    let answer = WatchResponse {
        header: Some(ResponseHeader { revision: 300, ..ResponseHeader::default() }),
        watch_id: -1,
        events: vec![Event {
            r#type: EventType::Delete.into(),
            kv: Some(key_value),
            prev_kv: None,
        }],
        ..WatchResponse::default()
    };
    let mut expected = b"\x0a\x03\x18\xac\x02\x10".to_vec();
    expected.extend([0xff; 9]);
    expected.push(0x01);
    expected.extend(b"\x5a\x0a\x08\x01\x12\x06\x0a\x01k\x18\xac\x02");
    assert_eq!(answer.encode_to_vec(), expected);
    assert_eq!(WatchResponse::decode(&expected[..]), Ok(answer));
}

#[test]
fn byte_fields_are_views_into_the_frame() {
    let request = RangeRequest { key: Bytes::from(vec![7; 4096]), ..RangeRequest::default() };
    let frame = Bytes::from(request.encode_to_vec());
    let decoded = RangeRequest::decode(frame.clone()).expect("our own encoding decodes");
    let view = frame.slice_ref(&decoded.key);
    assert_eq!(view, request.key);
}

#[test]
fn unknown_fields_of_newer_clients_are_passed_over() {
    let mut frame = RangeRequest { limit: 5, ..RangeRequest::default() }.encode_to_vec();
    frame.extend(b"\xfa\x07\x03new");
    let decoded = RangeRequest::decode(&frame[..]).expect("an unknown field is no error");
    assert_eq!(decoded.limit, 5);
}

#[test]
fn services_answer_under_the_names_that_clients_call() {
    let names = [
        etcdserverpb::kv_server::SERVICE_NAME,
        etcdserverpb::watch_server::SERVICE_NAME,
        etcdserverpb::lease_server::SERVICE_NAME,
        etcdserverpb::cluster_server::SERVICE_NAME,
        etcdserverpb::maintenance_server::SERVICE_NAME,
        etcdserverpb::auth_server::SERVICE_NAME,
        v3lockpb::lock_server::SERVICE_NAME,
        v3electionpb::election_server::SERVICE_NAME,
        health::health_server::SERVICE_NAME,
    ];
    let expected = [
        "etcdserverpb.KV",
        "etcdserverpb.Watch",
        "etcdserverpb.Lease",
        "etcdserverpb.Cluster",
        "etcdserverpb.Maintenance",
        "etcdserverpb.Auth",
        "v3lockpb.Lock",
        "v3electionpb.Election",
        "grpc.health.v1.Health",
    ];
    assert_eq!(names, expected);
}
