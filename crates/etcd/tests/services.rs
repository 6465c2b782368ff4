//! The calls beside keys and values: members, status, health, what is not there, plain HTTP.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::watching::{told, watch};
use common::{Mood, Running, call_raw, said};
use testudo_etcd::proto::etcdserverpb::cluster_client::ClusterClient;
use testudo_etcd::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use testudo_etcd::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, CompactionRequest, DefragmentRequest, HashKvRequest, HashRequest,
    MemberListRequest, PutRequest, RangeRequest, StatusRequest, WatchCreateRequest,
};
use testudo_etcd::proto::health::health_check_response::ServingStatus;
use testudo_etcd::proto::health::health_client::HealthClient;
use testudo_etcd::proto::health::{HealthCheckRequest, HealthCheckResponse};
use testudo_etcd::proto::v3electionpb::CampaignRequest;
use testudo_etcd::{Limits, VERSION};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;

#[tokio::test]
async fn members_are_the_replicas_behind_this_gateways_address() {
    let gateway = Running::new().await;
    let mut cluster = ClusterClient::new(gateway.channel().await);
    let answer = cluster.member_list(MemberListRequest { linearizable: true }).await;
    let answer = answer.expect("member list").into_inner();
    let header = answer.header.expect("a header");
    assert_eq!((header.revision, header.cluster_id), (0, gateway.info.cluster_id()));
    let names: Vec<&str> = answer.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["replica-0", "replica-1", "replica-2", "replica-3"]);
    assert_eq!(answer.members[1].id, header.member_id);
    for (member, index) in answer.members.iter().zip(0..) {
        assert_eq!(member.peer_ur_ls, [format!("https://replica-{index}:7000")]);
        assert_eq!(member.client_ur_ls, [format!("http://{}", gateway.address)]);
        assert!(!member.is_learner);
    }
}

#[tokio::test]
async fn status_says_where_the_cluster_stands_and_when_it_does_not_answer() {
    let gateway = Running::impatient().await;
    gateway.assert_alive().await;
    let mut maintenance = MaintenanceClient::new(gateway.channel().await);
    let status = maintenance.status(StatusRequest {}).await.expect("status").into_inner();
    assert_eq!(status.version, VERSION);
    assert_eq!(status.header.map(|header| header.revision), Some(2));
    assert_eq!(status.leader, gateway.info.members()[2].id);
    assert_eq!((status.raft_term, status.raft_index, status.raft_applied_index), (7, 1, 1));
    assert!(status.db_size > 0 && status.db_size_in_use == status.db_size);
    assert!(status.errors.is_empty() && !status.is_learner);
    assert_eq!(status.storage_version, "3.6.0");

    gateway.cluster.set(Mood::Silent);
    let silent = maintenance.status(StatusRequest {}).await.expect("status").into_inner();
    assert_eq!(silent.leader, 0);
    assert_eq!(silent.errors, ["etcdserver: no leader"]);
    assert_eq!(silent.db_size, status.db_size, "the last that is known");
}

#[tokio::test]
async fn a_full_store_is_an_alarm_that_comes_and_goes_by_itself() {
    let gateway = Running::with_quota(20_000).await;
    let mut maintenance = MaintenanceClient::new(gateway.channel().await);
    let ask = |action: i32, alarm: i32| AlarmRequest { action, alarm, member_id: 0 };
    let (get, clear) = (0, 2);
    for action in [get, clear] {
        let answer = maintenance.alarm(ask(action, 0)).await.expect("alarm").into_inner();
        assert!(answer.alarms.is_empty() && answer.header.is_some());
    }
    assert_eq!(said(maintenance.alarm(ask(1, 1)).await).0, Code::Unimplemented);
    assert_eq!(said(maintenance.alarm(ask(77, 1)).await).0, Code::InvalidArgument);

    let mut kv = gateway.kv().await;
    let value = Bytes::from(vec![b'v'; 1000]);
    let put = || PutRequest { key: "k".into(), value: value.clone(), ..PutRequest::default() };
    let refused = loop {
        match kv.put(put()).await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    let text = "etcdserver: mvcc: database space exceeded";
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, text));
    let member = gateway.info.member_id();
    for request in [ask(get, 0), ask(get, 1), ask(clear, 1)] {
        let answer = maintenance.alarm(request).await.expect("alarm").into_inner();
        assert_eq!(answer.alarms, [AlarmMember { member_id: member, alarm: 1 }]);
    }
    let other = maintenance.alarm(ask(get, 2)).await.expect("alarm").into_inner();
    assert!(other.alarms.is_empty(), "nothing is corrupt");
    let status = maintenance.status(StatusRequest {}).await.expect("status").into_inner();
    assert_eq!(status.errors, [format!("memberID:{member} alarm:NOSPACE ")]);
    assert_eq!(status.db_size_quota, 20_000);
    assert!(status.db_size > 20_000);
    assert_eq!(
        plain(&gateway, "GET /health").await.1,
        r#"{"health":"false","reason":"ALARM NOSPACE"}"#
    );
    let well = plain(&gateway, "GET /health?serializable=true&exclude=NOSPACE").await;
    assert_eq!(well.0, "200 OK");

    // Deletions go through, and compaction makes room again.
    gateway.delete("k", "").await;
    let revision = status.header.map_or(0, |header| header.revision) + 1;
    let compaction = CompactionRequest { revision, physical: true };
    kv.compact(compaction).await.expect("compaction");
    let answer = maintenance.alarm(ask(get, 0)).await.expect("alarm").into_inner();
    assert!(answer.alarms.is_empty());
    kv.put(put()).await.expect("there is room");
    let defragmented = maintenance.defragment(DefragmentRequest {}).await.expect("at once");
    assert!(defragmented.into_inner().header.is_some());
}

#[tokio::test]
async fn compaction_answers_as_etcd_answers_and_may_be_waited_for() {
    let gateway = Running::new().await;
    let mut kv = gateway.kv().await;
    for value in ["1", "2", "3", "4"] {
        gateway.put("a", value).await;
    }
    let compact = |revision, physical| CompactionRequest { revision, physical };
    let compacted =
        (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted".to_owned());
    let future =
        (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision".to_owned());
    assert_eq!(said(kv.compact(compact(0, false)).await), compacted);
    assert_eq!(said(kv.compact(compact(6, true)).await), future);
    let answer = kv.compact(compact(4, true)).await.expect("compaction").into_inner();
    assert_eq!(answer.header.map(|header| header.revision), Some(5));
    assert_eq!(said(kv.compact(compact(4, false)).await), compacted);
    let at = |revision| RangeRequest { key: "a".into(), revision, ..RangeRequest::default() };
    assert_eq!(said(kv.range(at(3)).await), compacted);
    let kept = kv.range(at(4)).await.expect("it is kept").into_inner();
    assert_eq!(kept.kvs[0].value, "3");
    assert_eq!(said(kv.range(at(6)).await), future);

    // A watch from before is created, and then ended.
    let mut watching = gateway.watching().await;
    let request = WatchCreateRequest { start_revision: 2, ..watch("a", "") };
    let created = watching.create(request).await;
    assert!(!created.canceled);
    let ended = watching.next().await;
    assert_eq!((ended.canceled, ended.compact_revision, ended.watch_id), (true, 4, 0));
    assert_eq!(ended.header.map(|header| header.revision), Some(0));
    assert!(ended.cancel_reason.is_empty());
    watching.create(WatchCreateRequest { start_revision: 4, ..watch("a", "") }).await;
    assert_eq!(told(&watching.events(1, 2).await), ["4 a=3", "5 a=4"]);
}

#[tokio::test]
async fn hashes_are_of_the_keys_at_a_revision() {
    let (one, other) = (Running::new().await, Running::new().await);
    let hash = async |gateway: &Running, revision| {
        let mut maintenance = MaintenanceClient::new(gateway.channel().await);
        maintenance.hash_kv(HashKvRequest { revision }).await
    };
    let empty = hash(&one, 0).await.expect("a hash").into_inner();
    assert_eq!((empty.hash_revision, empty.compact_revision), (1, -1));
    for gateway in [&one, &other] {
        gateway.put("a", "1").await;
        gateway.put("b", "2").await;
    }
    other.put("c", "3").await;
    let now = hash(&one, 0).await.expect("a hash").into_inner();
    assert_eq!(now.hash_revision, 3);
    assert_ne!(now.hash, empty.hash);
    let then = hash(&other, 3).await.expect("a hash").into_inner();
    assert_eq!((then.hash, then.hash_revision), (now.hash, 3));
    assert_ne!(hash(&other, 0).await.expect("a hash").into_inner().hash, now.hash);
    assert_eq!(said(hash(&one, 9).await).0, Code::OutOfRange);
    let mut maintenance = MaintenanceClient::new(one.channel().await);
    let whole = maintenance.hash(HashRequest {}).await.expect("a hash").into_inner();
    assert_eq!(whole.hash, now.hash);
}

fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn it_serves_while_the_cluster_answers() {
    let gateway = Running::impatient().await;
    let mut health = HealthClient::new(gateway.channel().await);
    let serving = HealthCheckResponse { status: ServingStatus::Serving.into() };
    let not_serving = HealthCheckResponse { status: ServingStatus::NotServing.into() };
    assert_eq!(health.check(check("")).await.expect("check").into_inner(), serving);
    let unknown = (Code::NotFound, "unknown service".to_owned());
    assert_eq!(said(health.check(check("etcdserverpb.Nothing")).await), unknown);

    let mut watch = health.watch(check("")).await.expect("watch").into_inner();
    assert_eq!(watch.message().await.expect("health"), Some(serving));
    gateway.cluster.set(Mood::Silent);
    let put = PutRequest { key: "k".into(), ..PutRequest::default() };
    assert_eq!(said(gateway.kv().await.put(put).await).0, Code::Unavailable);
    assert_eq!(watch.message().await.expect("health"), Some(not_serving));
    assert_eq!(health.check(check("")).await.expect("check").into_inner(), not_serving);
    gateway.cluster.set(Mood::Answers);
    assert_eq!(watch.message().await.expect("health"), Some(serving));

    let mut other = health.watch(check("nobody")).await.expect("watch").into_inner();
    let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
    assert_eq!(other.message().await.expect("health"), Some(unknown));
}

#[tokio::test]
async fn what_is_not_there_yet_names_itself() {
    let gateway = Running::new().await;
    let channel = gateway.channel().await;
    for (path, name) in [
        ("/etcdserverpb.KV/RangeStream", "etcdserverpb.KV/RangeStream"),
        ("/etcdserverpb.Cluster/MemberAdd", "etcdserverpb.Cluster/MemberAdd"),
        ("/etcdserverpb.Maintenance/Snapshot", "etcdserverpb.Maintenance/Snapshot"),
        ("/etcdserverpb.Auth/Authenticate", "etcdserverpb.Auth/Authenticate"),
        ("/v3lockpb.Lock/Lock", "v3lockpb.Lock/Lock"),
        ("/v3electionpb.Election/Campaign", "v3electionpb.Election/Campaign"),
    ] {
        let text = format!("testudo: {name} is not implemented yet");
        assert_eq!(said(call_raw(channel.clone(), path, b"").await), (Code::Unimplemented, text));
    }
    for (path, text) in [
        ("/etcdserverpb.KV/Frobnicate", "unknown method Frobnicate for service etcdserverpb.KV"),
        ("/etcdserverpb.Nothing/Range", "unknown service etcdserverpb.Nothing"),
        (
            "/grpc.reflection.v1.ServerReflection/X",
            "unknown service grpc.reflection.v1.ServerReflection",
        ),
    ] {
        let text = text.to_owned();
        assert_eq!(said(call_raw(channel.clone(), path, b"").await), (Code::Unimplemented, text));
    }
    // A stream that its client keeps open is refused all the same.
    let requests = tokio_stream::pending::<CampaignRequest>();
    let path = "/v3electionpb.Election/Observe".parse().expect("a path");
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("the connection stands");
    let codec = tonic_prost::ProstCodec::<CampaignRequest, CampaignRequest>::default();
    let request = tonic::Request::new(requests);
    let text = "testudo: v3electionpb.Election/Observe is not implemented yet".to_owned();
    let refused = client.streaming(request, path, codec).await;
    assert_eq!(said(refused), (Code::Unimplemented, text));
    gateway.assert_alive().await;
}

#[tokio::test]
async fn what_is_compressed_is_refused() {
    let gateway = Running::new().await;
    let mut request = tonic::Request::new(PutRequest { key: "k".into(), ..PutRequest::default() });
    request.metadata_mut().insert("grpc-encoding", "snappy".parse().expect("a header"));
    let text = "grpc: Decompressor is not installed for grpc-encoding \"snappy\"".to_owned();
    assert_eq!(said(gateway.kv().await.put(request).await), (Code::Unimplemented, text));
}

/// Sends a request as HTTP/1.1 and gives the answer's first line and body.
async fn plain(gateway: &Running, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(gateway.address).await.expect("it listens");
    let text = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.lines().next().unwrap_or_default();
    (status.trim_start_matches("HTTP/1.1 ").to_owned(), body.to_owned())
}

#[tokio::test]
async fn plain_http_is_answered_on_the_same_port() {
    let gateway = Running::impatient().await;
    let ok = |body: &str| ("200 OK".to_owned(), body.to_owned());
    assert_eq!(
        plain(&gateway, "GET /version").await,
        ok(r#"{"etcdserver":"3.6.8","etcdcluster":"3.6.0"}"#)
    );
    assert_eq!(plain(&gateway, "GET /health").await, ok(r#"{"health":"true","reason":""}"#));
    assert_eq!(plain(&gateway, "GET /readyz").await, ok("ok\n"));
    let (status, metrics) = plain(&gateway, "GET /metrics").await;
    assert_eq!(status, "200 OK");
    for sample in [
        "etcd_server_has_leader 1",
        "testudo_gateway_has_copy 1",
        "etcd_debugging_mvcc_watch_stream_total 0",
        "etcd_debugging_mvcc_current_revision 1",
        "testudo_gateway_lease_streams 0",
    ] {
        assert!(metrics.contains(&format!("\n{sample}\n")), "{metrics}");
    }
    assert_eq!(plain(&gateway, "POST /health").await.0, "405 Method Not Allowed");
    assert_eq!(plain(&gateway, "GET /nothing").await.0, "404 Not Found");
    let (status, body) = plain(&gateway, "POST /v3/kv/put").await;
    assert_eq!(status, "501 Not Implemented");
    assert!(body.contains("testudo: /v3/kv/put is not implemented yet"), "{body}");

    gateway.cluster.lose_copy();
    assert_eq!(plain(&gateway, "GET /health").await.0, "503 Service Unavailable");
    assert_eq!(plain(&gateway, "GET /health?serializable=true").await.0, "503 Service Unavailable");
    gateway.cluster.find_copy();
    assert_eq!(plain(&gateway, "GET /health").await.0, "200 OK");

    gateway.cluster.set(Mood::Silent);
    let put = PutRequest { key: "k".into(), ..PutRequest::default() };
    assert_eq!(said(gateway.kv().await.put(put).await).0, Code::Unavailable);
    assert_eq!(plain(&gateway, "GET /health?serializable=true").await.0, "200 OK");
    let (status, body) = plain(&gateway, "GET /health").await;
    assert_eq!(status, "503 Service Unavailable");
    assert_eq!(body, r#"{"health":"false","reason":"RAFT NO LEADER"}"#);
    assert_eq!(plain(&gateway, "GET /readyz").await.0, "503 Service Unavailable");
    assert_eq!(plain(&gateway, "GET /livez").await, ok("ok\n"));
}

#[tokio::test]
async fn it_ends_when_what_was_under_way_has_ended() {
    let mut gateway = Running::new().await;
    gateway.cluster.set(Mood::Silent);
    let mut kv = gateway.kv().await;
    let mut health = HealthClient::new(gateway.channel().await);
    let nobody = health.watch(check("nobody")).await.expect("watch");
    let mut watch = nobody.into_inner();
    assert!(watch.message().await.expect("health").is_some());
    let put = tokio::spawn(async move {
        kv.put(PutRequest { key: "k".into(), ..PutRequest::default() }).await
    });
    while gateway.cluster.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    gateway.stop();
    let ended = watch.message().await.expect_err("streams end");
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "etcdserver: server stopped"));
    gateway.cluster.set(Mood::Answers);
    put.await.expect("no panic").expect("it was under way");
    let address = gateway.address;
    gateway.ended().await;
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn what_does_not_end_is_cut_off() {
    let limits = Limits { drain: Duration::from_millis(20), ..Limits::default() };
    let gateway = Running::within(limits).await;
    gateway.cluster.set(Mood::Silent);
    let mut kv = gateway.kv().await;
    let put = tokio::spawn(async move {
        kv.put(PutRequest { key: "k".into(), ..PutRequest::default() }).await
    });
    while gateway.cluster.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let ended = timeout(Duration::from_secs(5), gateway.ended()).await;
    ended.expect("it does not wait for the request's own deadline");
    assert!(put.await.expect("no panic").is_err());
}
