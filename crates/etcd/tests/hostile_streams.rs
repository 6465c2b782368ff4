//! Streams as no well-meaning client opens them, and more of them than most do. Each costs its sender
//! the stream, and others nothing.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::Running;
use common::raw::{
    self, Answers, HELD, KEEP_ALIVE, SLOW, STREAMS, WATCH, WATCHES, comes_to, connect, metric,
    open, resident, send,
};
use common::watching::{Watching, told, watch};
use testudo_etcd::Limits;
use testudo_etcd::proto::etcdserverpb::watch_request::RequestUnion;
use testudo_etcd::proto::etcdserverpb::{
    PutRequest, WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::time::timeout;

/// Frames a request of a watch stream.
fn framed(union: RequestUnion) -> Bytes {
    raw::framed(&WatchRequest { request_union: Some(union) })
}

fn create(watch_id: i64) -> Bytes {
    framed(RequestUnion::CreateRequest(WatchCreateRequest { watch_id, ..watch("k", "") }))
}

fn cancel(watch_id: i64) -> Bytes {
    framed(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))
}

#[tokio::test]
async fn what_is_no_request_ends_its_stream_with_etcds_error() {
    let gateway = Running::new().await;
    let mut sender = connect(&gateway).await;
    let (internal, exhausted) = ("13", "8");
    let cases: [(&[u8], bool, &str, &str); 6] = [
        (
            b"\x00\x00\x00\x00\x02\xff\xff",
            false,
            internal,
            "grpc: failed to unmarshal the received",
        ),
        (b"\x01\x00\x00\x00\x01x", false, internal, "grpc: compressed flag set with identity"),
        (b"\x05\x00\x00\x00\x01x", false, internal, "grpc: received unexpected payload format 5"),
        (b"\x00\xff\xff\xff\xff", false, exhausted, "grpc: received message larger than max"),
        (b"\x00\x00", true, internal, "unexpected EOF"),
        (b"\x00\x00\x00\x00\x09abc", true, internal, "unexpected EOF"),
    ];
    for uri in [WATCH, KEEP_ALIVE] {
        for (bytes, ends, code, text) in cases {
            let (answer, mut stream) = open(&mut sender, uri);
            let data = Bytes::copy_from_slice(bytes);
            stream.send_data(data, ends).expect("it is open");
            let answers = Answers::<WatchResponse>::new(answer).await;
            let (status, message) = answers.status().await;
            assert_eq!(status, code, "{message}");
            assert!(message.starts_with(text), "{message}");
        }
    }
    comes_to(&gateway, STREAMS, 0).await;
}

#[tokio::test]
async fn requests_may_come_in_single_bytes_and_many_at_once() {
    let gateway = Running::new().await;
    let mut sender = connect(&gateway).await;
    let (answer, mut stream) = open(&mut sender, WATCH);
    for byte in create(1) {
        stream.send_data(Bytes::copy_from_slice(&[byte]), false).expect("it is open");
        tokio::task::yield_now().await;
    }
    let many: Vec<u8> = (2..=100).flat_map(create).collect();
    assert!(send(&mut stream, many.into()).await);
    let mut answers = Answers::<WatchResponse>::new(answer).await;
    for watch_id in 1..=100 {
        let created = answers.next().await;
        assert_eq!((created.watch_id, created.created), (watch_id, true));
    }
}

#[tokio::test]
async fn a_million_watches_are_refused_beyond_the_limit() {
    let gateway = Running::new().await;
    let limit = Limits::default().watches.watches_per_stream as i64;
    let mut sender = connect(&gateway).await;
    let (answer, mut stream) = open(&mut sender, WATCH);
    let count = 1_000_000;
    let asking = tokio::spawn(async move {
        let some: Bytes = (0..1000).flat_map(|_| create(0)).collect();
        for _ in 0..count / 1000 {
            assert!(send(&mut stream, some.clone()).await);
        }
        stream
    });
    let mut answers = Answers::<WatchResponse>::new(answer).await;
    for index in 0..count {
        let answer = answers.next().await;
        assert!(answer.created);
        let expected =
            if index < limit { (index, "") } else { (-1, "etcdserver: too many requests") };
        assert_eq!((answer.watch_id, answer.cancel_reason.as_str()), expected);
    }
    assert_eq!(metric(&gateway, WATCHES).await, limit as u64);
    gateway.assert_alive().await;
    drop((answers, asking.await.expect("it does not panic")));
    comes_to(&gateway, WATCHES, 0).await;
}

#[tokio::test]
async fn who_does_not_read_is_not_read_from() {
    let gateway = Running::new().await;
    let mut sender = connect(&gateway).await;
    let (answer, mut stream) = open(&mut sender, WATCH);
    let some: Bytes = (0..10_000).flat_map(|_| create(0)).collect();
    let mut sent = 0;
    // Until the windows of the stream are full, and what may be queued for it.
    while timeout(Duration::from_millis(300), send(&mut stream, some.clone())).await == Ok(true) {
        sent += some.len();
        assert!(sent < 4 << 20, "it reads on");
    }
    gateway.assert_alive().await;
    assert!(metric(&gateway, "testudo_gateway_blocked_watch_streams").await == 1);
    drop((answer, stream));
    comes_to(&gateway, STREAMS, 0).await;
}

#[tokio::test]
async fn what_waits_for_those_who_do_not_read_is_bounded_and_theirs() {
    let limits = Limits { connection_bytes: 8 << 20, ..Limits::default() };
    let gateway = Running::within(limits).await;
    let mut sender = connect(&gateway).await;
    let mut held_streams = Vec::new();
    for _ in 0..50 {
        let (answer, mut stream) = open(&mut sender, WATCH);
        stream.send_data(create(1), false).expect("it is open");
        held_streams.push((answer.await.expect("it answers"), stream));
    }
    comes_to(&gateway, WATCHES, 50).await;
    let mut reader = gateway.watching().await;
    reader.create(watch("k", "")).await;
    let value = Bytes::from(vec![b'v'; 1 << 20]);
    let mut kv = gateway.kv().await;
    for _ in 0..20 {
        let key = Bytes::from_static(b"k");
        let put = PutRequest { key, value: value.clone(), ..PutRequest::default() };
        kv.put(put).await.expect("others are served");
        timeout(Duration::from_secs(5), reader.events(0, 1)).await.expect("others are told");
    }
    // One answer waits for each of them as far as their connection's budget goes, and no more.
    let held = metric(&gateway, HELD).await;
    assert!((6 << 20..10 << 20).contains(&held), "{held}");
    drop(held_streams);
    comes_to(&gateway, WATCHES, 1).await;
    let held = metric(&gateway, HELD).await;
    assert!(held < 1 << 20, "{held} bytes were not given back");
}

/// Who has not taken what he was to be told for long is told out of history, and is counted meanwhile.
#[tokio::test]
async fn watches_that_fall_behind_are_counted_until_they_have_caught_up() {
    let pending = Limits::default().watches.pending;
    let gateway = Running::new().await;
    let mut sender = connect(&gateway).await;
    let (answer, mut stream) = open(&mut sender, WATCH);
    stream.send_data(create(1), false).expect("it is open");
    comes_to(&gateway, WATCHES, 1).await;
    assert_eq!(metric(&gateway, SLOW).await, 0);
    let mut kv = gateway.kv().await;
    // Far more than a client's windows hold.
    let count = 4 * pending;
    for number in 0..count {
        let value = Bytes::from(vec![number as u8; 8 << 10]);
        let put = PutRequest { key: "k".into(), value, ..PutRequest::default() };
        kv.put(put).await.expect("others are served");
    }
    assert_eq!(metric(&gateway, SLOW).await, 1);
    let mut answers = Answers::<WatchResponse>::new(answer).await;
    assert!(answers.next().await.created);
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(answers.next().await.events);
    }
    let revisions = events.iter().filter_map(|event| Some(event.kv.as_ref()?.mod_revision));
    assert!(revisions.eq(2..2 + count as i64), "each once, in order");
    comes_to(&gateway, SLOW, 0).await;
}

/// The limits that are not a client's own affair are answered in the words of etcd.
#[tokio::test]
async fn streams_and_watches_beyond_the_limits_are_refused_in_etcds_words() {
    let watches = testudo_kv::watch::Limits {
        streams: 2,
        watches: 3,
        key_bytes: 1 << 10,
        ..testudo_kv::watch::Limits::default()
    };
    let gateway = Running::within(Limits { watches, ..Limits::default() }).await;
    let (mut one, mut other) = (gateway.watching().await, gateway.watching().await);
    one.create(watch("a", "")).await;
    other.create(watch("a", "")).await;
    let refused = Watching::new(gateway.channel().await).await.ended().await;
    let text = "etcdserver: too many requests";
    assert_eq!((refused.code(), refused.message()), (tonic::Code::ResourceExhausted, text));

    let long = "k".repeat(2 << 10);
    for request in [watch(&long, ""), watch("b", ""), watch("c", "")] {
        let fits = request.key == "b";
        let answer = one.create(request).await;
        let expected = if fits { (1, false, "") } else { (-1, true, text) };
        let reason = answer.cancel_reason.as_str();
        assert_eq!((answer.watch_id, answer.canceled, reason), expected);
    }
    // Nobody else has lost anything, and room that is given back is there.
    gateway.put("a", "1").await;
    for watching in [&mut one, &mut other] {
        assert_eq!(told(&watching.events(0, 1).await), ["2 a=1"]);
    }
    drop(other);
    comes_to(&gateway, STREAMS, 1).await;
    let mut next = gateway.watching().await;
    assert_eq!(next.create(watch("d", "")).await.watch_id, 0);
}

#[tokio::test]
async fn storms_of_cancellations_and_resets_leave_nothing_behind() {
    let gateway = Running::new().await;
    let mut sender = connect(&gateway).await;
    let (answer, mut stream) = open(&mut sender, WATCH);
    let mut answers = Answers::<WatchResponse>::new(answer).await;
    let storm: Bytes = (1..=500)
        .flat_map(|id| [create(id), cancel(id), cancel(id), create(id), create(id), cancel(id)])
        .flatten()
        .collect();
    for _ in 0..10 {
        assert!(send(&mut stream, storm.clone()).await);
        for id in 1..=500 {
            let kinds: Vec<(i64, bool, bool)> = {
                let mut kinds = Vec::new();
                for _ in 0..5 {
                    let answer = answers.next().await;
                    kinds.push((answer.watch_id, answer.created, answer.canceled));
                }
                kinds
            };
            let (created, canceled) = ((id, true, false), (id, false, true));
            assert_eq!(kinds, [created, canceled, created, (-1, true, true), canceled]);
        }
    }
    assert_eq!(metric(&gateway, WATCHES).await, 0);

    for round in 0..500 {
        let (answer, mut stream) = open(&mut sender, WATCH);
        stream.send_data(create(round), false).expect("it is open");
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
    }
    comes_to(&gateway, STREAMS, 1).await;
    comes_to(&gateway, WATCHES, 0).await;
    gateway.assert_alive().await;
}

#[tokio::test]
async fn connections_that_go_silent_take_their_watches_with_them() {
    let gateway = Running::new().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut sender = connect(&gateway).await;
        let (answer, mut stream) = open(&mut sender, WATCH);
        stream.send_data(create(1), false).expect("it is open");
        silent.push((sender, answer, stream));
    }
    comes_to(&gateway, WATCHES, 20).await;
    // Nobody has read an answer yet, and nobody ever does.
    gateway.put("k", "v").await;
    drop(silent);
    comes_to(&gateway, WATCHES, 0).await;
}

#[tokio::test]
async fn ten_thousand_watches_on_one_stream_are_told_what_concerns_them() {
    let gateway = Running::new().await;
    let before = resident();
    let mut watching = gateway.watching().await;
    for index in 0..10_000 {
        let request = watch(&format!("key/{index}/"), &format!("key/{index}0"));
        assert_eq!(watching.create(request).await.watch_id, index);
    }
    for index in [9_999, 0, 5_000] {
        let key = format!("key/{index}/x");
        gateway.put(&key, "v").await;
        let answer = watching.next().await;
        assert_eq!((answer.watch_id, answer.events.len()), (index, 1));
    }
    watching.request_progress().await;
    assert_eq!(watching.next().await.watch_id, -1);
    let grown = resident().saturating_sub(before);
    assert!(grown < 100 << 10, "{grown} kB");
}

#[tokio::test]
async fn ten_thousand_streams_are_told_what_concerns_them() {
    let gateway = Running::new().await;
    let before = resident();
    let mut watching = Vec::new();
    for connection in 0..4 {
        let channel = gateway.channel().await;
        for stream in 0..2_500 {
            let mut one = Watching::new(channel.clone()).await;
            let key =
                if stream % 100 == 0 { "all".to_owned() } else { format!("{connection}/{stream}") };
            one.create(watch(&key, "")).await;
            watching.push(one);
        }
    }
    assert_eq!(metric(&gateway, WATCHES).await, 10_000);
    let grown = resident().saturating_sub(before);
    for value in ["1", "2", "3"] {
        gateway.put("all", value).await;
    }
    for one in watching.iter_mut().step_by(100) {
        assert_eq!(told(&one.events(0, 3).await), ["2 all=1", "3 all=2", "4 all=3"]);
    }
    // Half of this are the clients.
    assert!(grown < 400 << 10, "{grown} kB");
    drop(watching);
    comes_to(&gateway, WATCHES, 0).await;
}
