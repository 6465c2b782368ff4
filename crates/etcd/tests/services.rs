//! The calls beside keys and values: members, status, health, what is not there, plain HTTP.

mod common;

use std::time::Duration;

use common::{Mood, Running, call_raw, said};
use testudo_etcd::proto::etcdserverpb::cluster_client::ClusterClient;
use testudo_etcd::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use testudo_etcd::proto::etcdserverpb::{
    AlarmRequest, MemberListRequest, PutRequest, StatusRequest,
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
async fn there_are_no_alarms() {
    let gateway = Running::new().await;
    let mut maintenance = MaintenanceClient::new(gateway.channel().await);
    for action in [0, 2] {
        let request = AlarmRequest { action, ..AlarmRequest::default() };
        let answer = maintenance.alarm(request).await.expect("alarm").into_inner();
        assert!(answer.alarms.is_empty() && answer.header.is_some());
    }
    for action in [1, 77] {
        let request = AlarmRequest { action, ..AlarmRequest::default() };
        assert_eq!(said(maintenance.alarm(request).await).0, Code::Unimplemented);
    }
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
        ("/etcdserverpb.KV/Compact", "etcdserverpb.KV/Compact"),
        ("/etcdserverpb.KV/RangeStream", "etcdserverpb.KV/RangeStream"),
        ("/etcdserverpb.Lease/LeaseGrant", "etcdserverpb.Lease/LeaseGrant"),
        ("/etcdserverpb.Lease/LeaseKeepAlive", "etcdserverpb.Lease/LeaseKeepAlive"),
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
    assert!(metrics.contains("\netcd_server_has_leader 1\n"), "{metrics}");
    assert_eq!(plain(&gateway, "POST /health").await.0, "405 Method Not Allowed");
    assert_eq!(plain(&gateway, "GET /nothing").await.0, "404 Not Found");
    let (status, body) = plain(&gateway, "POST /v3/kv/put").await;
    assert_eq!(status, "501 Not Implemented");
    assert!(body.contains("testudo: /v3/kv/put is not implemented yet"), "{body}");

    gateway.cluster.set(Mood::Silent);
    let put = PutRequest { key: "k".into(), ..PutRequest::default() };
    assert_eq!(said(gateway.kv().await.put(put).await).0, Code::Unavailable);
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
