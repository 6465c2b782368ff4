//! Keep-alive streams as no well-meaning client opens them. Each costs its sender the stream, the
//! gateway bounded memory, and the cluster little.

mod common;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use common::raw::{
    Answers, HELD, KEEP_ALIVE, comes_to, connect, framed, metric, open, resident, send,
};
use common::{Mood, Running};
use testudo_core::Encode;
use testudo_etcd::proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use testudo_etcd::{Cluster, Limits};
use testudo_kv::{LeaseGrant, Operation};
use tokio::sync::Mutex;
use tokio::time::timeout;

const STREAMS: &str = "testudo_gateway_lease_streams";

fn keep(id: i64) -> Bytes {
    framed(&LeaseKeepAliveRequest { id })
}

async fn grant(gateway: &Running, id: i64) {
    let grant = Operation::LeaseGrant(LeaseGrant { id, ttl: 60 });
    gateway.cluster.submit(grant.to_bytes().into()).await.expect("a lease");
}

/// Held by tests that look at the memory of this process, which all of them share.
static MEMORY: Mutex<()> = Mutex::const_new(());

type Kept = Answers<LeaseKeepAliveResponse>;

/// A client that sends without end and never reads is not read from, and what it has sent so far is
/// not agreed on without end either.
#[tokio::test]
async fn who_never_reads_is_not_read_from() {
    let _alone = MEMORY.lock().await;
    let gateway = Running::new().await;
    let before = resident();
    let mut sender = connect(&gateway).await;
    let (answer, mut stream) = open(&mut sender, KEEP_ALIVE);
    let some: Bytes = (0..1000).flat_map(keep).collect();
    let mut sent = 0;
    while timeout(Duration::from_millis(300), send(&mut stream, some.clone())).await == Ok(true) {
        sent += some.len();
        assert!(sent < 8 << 20, "it reads on");
    }
    assert!(metric(&gateway, HELD).await < 4 << 20);
    let submits = gateway.cluster.submits();
    gateway.assert_alive().await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.cluster.submits(), submits + 1, "only the put of those who are alive");
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} kB");
    drop((answer, stream));
    comes_to(&gateway, STREAMS, 0).await;
    comes_to(&gateway, HELD, 0).await;
}

#[tokio::test]
async fn one_lease_a_million_times_is_agreed_on_a_few_times() {
    let _alone = MEMORY.lock().await;
    let gateway = Running::new().await;
    grant(&gateway, 7).await;
    let before = (gateway.cluster.submits(), resident());
    let mut sender = connect(&gateway).await;
    let (answer, mut stream) = open(&mut sender, KEEP_ALIVE);
    let count = 1_000_000;
    let asking = tokio::spawn(async move {
        let some: Bytes = (0..1000).flat_map(|_| keep(7)).collect();
        for _ in 0..count / 1000 {
            assert!(send(&mut stream, some.clone()).await);
        }
        stream
    });
    let mut answers = Kept::new(answer).await;
    for _ in 0..count {
        let kept = answers.next().await;
        assert_eq!((kept.id, kept.ttl), (7, 60), "each is answered");
    }
    let submits = gateway.cluster.submits() - before.0;
    assert!(submits <= count / 10, "{submits}");
    let grown = resident().saturating_sub(before.1);
    assert!(grown < 64 << 10, "{grown} kB");
    drop(asking.await.expect("it does not panic"));
    gateway.assert_alive().await;
}

/// While the cluster is silent, one keep-alive of a lease waits for it, however often it was asked for.
#[tokio::test]
async fn what_was_asked_meanwhile_is_answered_by_the_next() {
    let gateway = Running::new().await;
    grant(&gateway, 7).await;
    let before = gateway.cluster.submits();
    gateway.cluster.set(Mood::Silent);
    let mut sender = connect(&gateway).await;
    let (answer, mut stream) = open(&mut sender, KEEP_ALIVE);
    // Two leases in turns are no run: those are all under way.
    let asked = [7; 500].into_iter().chain([8, 7, 8, 7]);
    let mut bytes: BytesMut = asked.clone().map(keep).flat_map(Bytes::into_iter).collect();
    bytes.put(keep(9));
    assert!(send(&mut stream, bytes.freeze()).await);
    while gateway.cluster.submits() == before {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.cluster.submits(), before + 1);
    gateway.cluster.set(Mood::Answers);
    let mut answers = Kept::new(answer).await;
    for id in asked.chain([9]) {
        let kept = answers.next().await;
        assert_eq!((kept.id, kept.ttl), (id, if id == 7 { 60 } else { 0 }));
    }
    assert_eq!(gateway.cluster.submits(), before + 2 + 5);
}

/// Bytes without pattern, the same in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn noise_ends_its_stream_with_etcds_error() {
    let gateway = Running::new().await;
    let mut sender = connect(&gateway).await;
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let noise = noise(seed, 1 + seed as usize % 90);
        let mut bytes = BytesMut::new();
        // Every other one is a frame of noise, the others are noise from the first byte on.
        if seed % 2 == 0 {
            bytes.put_u8(0);
            bytes.put_u32(noise.len() as u32);
        }
        bytes.put_slice(&noise);
        let (answer, mut stream) = open(&mut sender, KEEP_ALIVE);
        // The gateway may have ended the stream before it has all.
        let _sent = stream.send_data(bytes.freeze(), true);
        let (status, message) = Kept::new(answer).await.status().await;
        let known = match status.as_str() {
            // Noise that happens to be a request.
            "0" => message.is_empty(),
            "8" => message.starts_with("grpc: received message larger than max"),
            "13" => [
                "grpc: failed to unmarshal the received message",
                "grpc: compressed flag set with identity or empty encoding",
                "grpc: received unexpected payload format",
                "unexpected EOF",
            ]
            .iter()
            .any(|text| message.starts_with(text)),
            _ => false,
        };
        assert!(known, "{status} {message}");
        seen.insert(message.chars().take(24).collect::<String>());
    }
    assert!(seen.len() >= 4, "{seen:?}");
    comes_to(&gateway, STREAMS, 0).await;
    gateway.assert_alive().await;
}

/// What was asked before the noise is not answered any more: the stream has ended.
#[tokio::test]
async fn noise_after_requests_ends_the_stream_once() {
    let gateway = Running::new().await;
    let mut sender = connect(&gateway).await;
    let (answer, mut stream) = open(&mut sender, KEEP_ALIVE);
    stream.send_data(keep(1), false).expect("it is open");
    let mut answers = Kept::new(answer).await;
    assert_eq!(answers.next().await.id, 1);
    let mut bytes = BytesMut::new();
    bytes.put(keep(2));
    bytes.put_slice(b"\x00\x00\x00\x00\x02\xff\xff");
    bytes.put(keep(3));
    stream.send_data(bytes.freeze(), false).expect("it is open");
    let (status, message) = answers.status().await;
    assert_eq!(status, "13");
    assert!(message.starts_with("grpc: failed to unmarshal the received message"), "{message}");
    comes_to(&gateway, STREAMS, 0).await;
}

#[tokio::test]
async fn half_closed_streams_are_answered_to_the_last_and_end_well() {
    let gateway = Running::new().await;
    let mut sender = connect(&gateway).await;
    // Closed before anything was asked.
    let (answer, mut stream) = open(&mut sender, KEEP_ALIVE);
    stream.send_data(Bytes::new(), true).expect("it is open");
    let ended = Kept::new(answer).await.status().await;
    assert_eq!(ended, ("0".to_owned(), String::new()));

    // Closed with everything still to be answered.
    gateway.cluster.set(Mood::Silent);
    let (answer, mut stream) = open(&mut sender, KEEP_ALIVE);
    let bytes: Bytes = (0..1000).flat_map(keep).collect();
    stream.send_data(bytes, true).expect("it is open");
    while gateway.cluster.waiting() < 256 {
        tokio::task::yield_now().await;
    }
    gateway.cluster.set(Mood::Answers);
    let mut answers = Kept::new(answer).await;
    for id in 0..1000 {
        assert_eq!(answers.next().await.id, id);
    }
    assert_eq!(answers.status().await.0, "0");
    comes_to(&gateway, STREAMS, 0).await;

    // Half closed and never read.
    let mut unread = Vec::new();
    for _ in 0..100 {
        let (answer, mut stream) = open(&mut sender, KEEP_ALIVE);
        let bytes: Bytes = (0..100).flat_map(keep).collect();
        stream.send_data(bytes, true).expect("it is open");
        unread.push(answer);
    }
    gateway.assert_alive().await;
    drop(unread);
    comes_to(&gateway, STREAMS, 0).await;
    comes_to(&gateway, HELD, 0).await;
}

#[tokio::test]
async fn many_streams_are_served_and_those_beyond_the_budget_refused() {
    let _alone = MEMORY.lock().await;
    let gateway = Running::new().await;
    grant(&gateway, 7).await;
    let before = resident();
    let mut sender = connect(&gateway).await;
    let mut streams = Vec::new();
    for _ in 0..5_000 {
        let (answer, mut stream) = open(&mut sender, KEEP_ALIVE);
        stream.send_data(keep(7), false).expect("it is open");
        let mut answers = Kept::new(answer).await;
        assert_eq!(answers.next().await.ttl, 60);
        streams.push((answers, stream));
    }
    assert_eq!(metric(&gateway, STREAMS).await, 5_000);
    let grown = resident().saturating_sub(before);
    assert!(grown < 200 << 10, "{grown} kB, of which half are the clients");
    // All of them at once.
    for (_, stream) in &mut streams {
        stream.send_data(keep(7), false).expect("it is open");
    }
    for (answers, _) in &mut streams {
        assert_eq!(answers.next().await.ttl, 60);
    }
    drop(streams);
    comes_to(&gateway, STREAMS, 0).await;

    // A connection with room for some.
    let limits = Limits { connection_bytes: 64 << 10, ..Limits::default() };
    let gateway = Running::within(limits).await;
    let mut sender = connect(&gateway).await;
    let mut streams = Vec::new();
    let refused = loop {
        let (answer, stream) = open(&mut sender, KEEP_ALIVE);
        let answer = answer.await.expect("it answers");
        if answer.headers().contains_key("grpc-status") {
            break answer;
        }
        streams.push((answer, stream));
        assert!(streams.len() <= 64, "more streams than there is room for");
    };
    assert_eq!(refused.headers()["grpc-status"], "8");
    assert_eq!(refused.headers()["grpc-message"], "etcdserver:%20too%20many%20requests");
    gateway.assert_alive().await;
    drop(streams);
    comes_to(&gateway, STREAMS, 0).await;
}

#[tokio::test]
async fn streams_that_are_reset_leave_nothing_behind() {
    let gateway = Running::new().await;
    gateway.cluster.set(Mood::Silent);
    let mut sender = connect(&gateway).await;
    for round in 0..300 {
        let (answer, mut stream) = open(&mut sender, KEEP_ALIVE);
        stream.send_data(keep(round), false).expect("it is open");
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
    }
    comes_to(&gateway, STREAMS, 0).await;
    while gateway.cluster.waiting() > 0 {
        tokio::task::yield_now().await;
    }
    gateway.cluster.set(Mood::Answers);
    gateway.assert_alive().await;
}
