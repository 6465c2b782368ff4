//! Leases through the gateway, rule by rule as etcd's clients rely on them.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::watching::{told, watch};
use common::{Mood, Running, said};
use testudo_core::Encode;
use testudo_etcd::proto::etcdserverpb::lease_client::LeaseClient;
use testudo_etcd::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    PutRequest, RangeRequest,
};
use testudo_etcd::{Cluster, SubmitError};
use testudo_kv::{LeaseGrant, Operation};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

/// Leases live a little longer than granted, because clocks differ.
const SLACK: u64 = 2_000;

async fn leases(gateway: &Running) -> LeaseClient<Channel> {
    LeaseClient::new(gateway.channel().await)
}

async fn grant(gateway: &Running, id: i64, ttl: i64) -> LeaseGrantResponse {
    let granted = leases(gateway).await.lease_grant(LeaseGrantRequest { id, ttl }).await;
    granted.expect("a lease").into_inner()
}

async fn put_on(gateway: &Running, key: &str, lease: i64) {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let put = PutRequest { key, lease, ..PutRequest::default() };
    gateway.kv().await.put(put).await.expect("a put");
}

async fn time_to_live(gateway: &Running, id: i64) -> LeaseTimeToLiveResponse {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    leases(gateway).await.lease_time_to_live(request).await.expect("an answer").into_inner()
}

async fn alive(gateway: &Running) -> Vec<i64> {
    let answer = leases(gateway).await.lease_leases(LeaseLeasesRequest {}).await;
    answer.expect("an answer").into_inner().leases.iter().map(|lease| lease.id).collect()
}

/// A stream that keeps leases alive.
struct Keeping {
    requests: Option<mpsc::Sender<LeaseKeepAliveRequest>>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

impl Keeping {
    async fn new(gateway: &Running) -> Self {
        Self::open(gateway, false).await
    }

    async fn open(gateway: &Running, requires_leader: bool) -> Self {
        let (sender, receiver) = mpsc::channel(1024);
        let mut request = tonic::Request::new(ReceiverStream::new(receiver));
        if requires_leader {
            request.metadata_mut().insert("hasleader", "true".parse().expect("a header"));
        }
        let answers = leases(gateway).await.lease_keep_alive(request).await.expect("a stream");
        Self { requests: Some(sender), answers: answers.into_inner() }
    }

    async fn ask(&self, id: i64) {
        let requests = self.requests.as_ref().expect("the client has not finished");
        requests.send(LeaseKeepAliveRequest { id }).await.expect("the stream stands");
    }

    async fn next(&mut self) -> LeaseKeepAliveResponse {
        self.answers.message().await.expect("no end").expect("an answer")
    }

    async fn keep(&mut self, id: i64) -> i64 {
        self.ask(id).await;
        let answer = self.next().await;
        assert_eq!(answer.id, id);
        answer.ttl
    }
}

#[tokio::test]
async fn a_lease_is_granted_under_a_number_of_ones_own_or_the_gateways() {
    let gateway = Running::new().await;
    let granted = grant(&gateway, 77, 60).await;
    assert_eq!((granted.id, granted.ttl, granted.error.as_str()), (77, 60, ""));
    let header = granted.header.expect("a header");
    assert_eq!((header.revision, header.raft_term), (1, 7));
    assert_eq!(header.member_id, gateway.info.member_id());

    let (one, other) = (grant(&gateway, 0, 60).await, grant(&gateway, 0, 60).await);
    assert!(one.id > 0 && other.id > 0 && one.id != other.id);
    let mut expected = vec![77, one.id, other.id];
    expected.sort_unstable();
    let mut found = alive(&gateway).await;
    found.sort_unstable();
    assert_eq!(found, expected);

    // Too short a time is raised.
    for ttl in [1, 0, -5] {
        assert_eq!(grant(&gateway, 0, ttl).await.ttl, 2);
    }
    let mut client = leases(&gateway).await;
    let again = client.lease_grant(LeaseGrantRequest { id: 77, ttl: 60 }).await;
    let exists = (Code::FailedPrecondition, "etcdserver: lease already exists".to_owned());
    assert_eq!(said(again), exists);
    let long = client.lease_grant(LeaseGrantRequest { id: 0, ttl: 9_000_000_001 }).await;
    let too_large = (Code::OutOfRange, "etcdserver: too large lease TTL".to_owned());
    assert_eq!(said(long), too_large);
    assert_eq!(grant(&gateway, 0, 9_000_000_000).await.ttl, 9_000_000_000);
}

#[tokio::test]
async fn a_lease_lives_for_its_time_and_takes_its_keys_with_it() {
    let gateway = Running::new().await;
    let mut watching = gateway.watching().await;
    watching.create(watch("a", "c")).await;
    grant(&gateway, 5, 10).await;
    put_on(&gateway, "a", 5).await;
    put_on(&gateway, "b", 5).await;
    watching.events(0, 2).await;
    let lease = time_to_live(&gateway, 5).await;
    assert_eq!((lease.id, lease.granted_ttl), (5, 10));
    assert!((9..=10).contains(&lease.ttl), "{lease:?}");
    assert_eq!(lease.keys, [Bytes::from_static(b"a"), Bytes::from_static(b"b")]);

    gateway.cluster.pass(10_000);
    assert_eq!(alive(&gateway).await, [5], "not before its time");
    gateway.cluster.pass(SLACK + 1_000);
    assert_eq!(told(&watching.events(0, 2).await), ["4 -a", "4 -b"]);
    assert!(alive(&gateway).await.is_empty());
    let dead = time_to_live(&gateway, 5).await;
    assert_eq!((dead.id, dead.ttl, dead.granted_ttl, dead.keys.len()), (5, -1, 0, 0));
    let request = RangeRequest { key: Bytes::from_static(b"a"), ..RangeRequest::default() };
    let left = gateway.kv().await.range(request).await.expect("a range").into_inner();
    assert_eq!((left.count, left.header.map(|header| header.revision)), (0, Some(4)));
}

#[tokio::test]
async fn revoking_deletes_what_is_still_attached() {
    let gateway = Running::new().await;
    let mut watching = gateway.watching().await;
    watching.create(watch("a", "d")).await;
    for id in [1, 2] {
        grant(&gateway, id, 100).await;
    }
    for (key, lease) in [("a", 1), ("b", 1), ("b", 0), ("c", 1), ("c", 2)] {
        put_on(&gateway, key, lease).await;
    }
    watching.events(0, 5).await;
    let mut client = leases(&gateway).await;
    let revoked = client.lease_revoke(LeaseRevokeRequest { id: 1 }).await.expect("it lives");
    assert_eq!(revoked.into_inner().header.map(|header| header.revision), Some(7));
    assert_eq!(told(&watching.events(0, 1).await), ["7 -a"]);
    let gone = (Code::NotFound, "etcdserver: requested lease not found".to_owned());
    assert_eq!(said(client.lease_revoke(LeaseRevokeRequest { id: 1 }).await), gone);
    let put = PutRequest { key: Bytes::from_static(b"x"), lease: 1, ..PutRequest::default() };
    assert_eq!(said(gateway.kv().await.put(put).await), gone);
    assert_eq!(time_to_live(&gateway, 2).await.keys, [Bytes::from_static(b"c")]);
}

#[tokio::test]
async fn one_stream_keeps_many_leases_alive() {
    let gateway = Running::new().await;
    for id in 1..=3 {
        grant(&gateway, id, 10).await;
    }
    let mut keeping = Keeping::new(&gateway).await;
    assert_eq!(keeping.keep(1).await, 10);
    assert_eq!(keeping.keep(99).await, 0, "there is no such lease, and the stream lives on");
    gateway.cluster.pass(9_000);
    assert_eq!(keeping.keep(2).await, 10);
    assert!(time_to_live(&gateway, 2).await.ttl >= 9);
    gateway.cluster.pass(SLACK + 2_000);
    assert_eq!(alive(&gateway).await, [2]);
    assert_eq!(keeping.keep(1).await, 0);
    assert_eq!(keeping.keep(2).await, 10);

    // Who has finished asking is answered what he has asked, and then it is over.
    keeping.ask(2).await;
    keeping.ask(3).await;
    keeping.requests = None;
    assert_eq!((keeping.next().await.ttl, keeping.next().await.ttl), (10, 0));
    assert_eq!(keeping.answers.message().await.expect("all is well"), None);
}

#[tokio::test]
async fn many_are_under_way_at_a_time_and_answered_in_order() {
    let gateway = Running::new().await;
    for id in 1..=20 {
        grant(&gateway, id, 100).await;
    }
    let mut keeping = Keeping::new(&gateway).await;
    gateway.cluster.set(Mood::Silent);
    for id in 1..=40 {
        keeping.ask(id).await;
    }
    while gateway.cluster.waiting() < 40 {
        tokio::task::yield_now().await;
    }
    gateway.cluster.set(Mood::Answers);
    for id in 1..=40 {
        let answer = keeping.next().await;
        assert_eq!((answer.id, answer.ttl), (id, if id <= 20 { 100 } else { 0 }));
    }
}

#[tokio::test]
async fn no_more_are_under_way_than_may_be() {
    let gateway = Running::new().await;
    gateway.cluster.set(Mood::Silent);
    let mut keeping = Keeping::new(&gateway).await;
    let requests = keeping.requests.clone().expect("the client has not finished");
    tokio::spawn(async move {
        for id in 1..=2000 {
            requests.send(LeaseKeepAliveRequest { id }).await.expect("the stream stands");
        }
    });
    while gateway.cluster.waiting() < 256 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.cluster.waiting(), 256);
    gateway.cluster.set(Mood::Answers);
    for id in 1..=2000 {
        assert_eq!(keeping.next().await.id, id);
    }
}

#[tokio::test]
async fn a_keep_alive_that_fails_ends_the_stream() {
    let gateway = Running::impatient().await;
    let mut keeping = Keeping::new(&gateway).await;
    gateway.cluster.set(Mood::Silent);
    keeping.ask(1).await;
    let ended = keeping.answers.message().await.expect_err("no quorum answers");
    let timed_out = (Code::Unavailable, "etcdserver: request timed out");
    assert_eq!((ended.code(), ended.message()), timed_out);

    gateway.cluster.set(Mood::Answers);
    let mut keeping = Keeping::open(&gateway, true).await;
    assert_eq!(keeping.keep(1).await, 0);
    gateway.cluster.set(Mood::Fails(SubmitError::Unavailable));
    let ended = keeping.answers.message().await.expect_err("there is no leader");
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "etcdserver: no leader"));
}

#[tokio::test]
async fn ten_thousand_leases_are_kept_alive_over_one_stream() {
    let gateway = Running::new().await;
    let count = 10_000;
    for id in 1..=count {
        let grant = Operation::LeaseGrant(LeaseGrant { id, ttl: 10 });
        gateway.cluster.submit(grant.to_bytes().into()).await.expect("a lease");
    }
    let mut keeping = Keeping::new(&gateway).await;
    for _ in 0..3 {
        gateway.cluster.pass(8_000);
        let requests = keeping.requests.clone().expect("the client has not finished");
        let asking = tokio::spawn(async move {
            for id in 1..=count {
                requests.send(LeaseKeepAliveRequest { id }).await.expect("the stream stands");
            }
        });
        for id in 1..=count {
            let answer = timeout(Duration::from_secs(20), keeping.next()).await;
            let answer = answer.expect("it is answered");
            assert_eq!((answer.id, answer.ttl), (id, 10));
        }
        asking.await.expect("it does not panic");
    }
    assert_eq!(alive(&gateway).await.len(), count as usize);
}
