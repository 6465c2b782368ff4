//! Watches through the gateway, rule by rule as etcd's clients rely on them.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::watching::{Watching, told, watch};
use common::{Mood, Running};
use testudo_etcd::Limits;
use testudo_etcd::proto::etcdserverpb::request_op::Request as Op;
use testudo_etcd::proto::etcdserverpb::watch_create_request::FilterType;
use testudo_etcd::proto::etcdserverpb::{
    PutRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchResponse,
};
use testudo_etcd::proto::mvccpb::Event;
use tokio::time::timeout;
use tonic::Code;

fn revision(answer: &WatchResponse) -> i64 {
    answer.header.as_ref().map_or(0, |header| header.revision)
}

/// A transaction that puts keys.
fn puts(keys: &[&str], value: &[u8]) -> TxnRequest {
    let put = |key: &&str| RequestOp {
        request: Some(Op::RequestPut(PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value),
            ..PutRequest::default()
        })),
    };
    TxnRequest { success: keys.iter().map(put).collect(), ..TxnRequest::default() }
}

#[tokio::test]
async fn a_watch_is_created_and_told_what_comes_after() {
    let gateway = Running::new().await;
    gateway.put("a", "0").await;
    let mut watching = gateway.watching().await;
    let created = watching.create(watch("a", "")).await;
    let header = created.header.expect("a header");
    assert_eq!((header.revision, header.raft_term), (2, 7));
    assert_eq!(header.cluster_id, gateway.info.cluster_id());
    assert_eq!(header.member_id, gateway.info.member_id());
    assert_eq!((created.watch_id, created.canceled, created.events.len()), (0, false, 0));

    gateway.put("a", "1").await;
    gateway.put("b", "not watched").await;
    gateway.delete("a", "").await;
    let events = watching.events(0, 2).await;
    assert_eq!(told(&events), ["3 a=1", "5 -a"]);
    let kv = events[0].kv.as_ref().expect("a key");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
}

#[tokio::test]
async fn numbers_are_given_or_chosen() {
    let gateway = Running::new().await;
    let mut watching = gateway.watching().await;
    let chosen = |watch_id| WatchCreateRequest { watch_id, ..watch("a", "") };
    assert_eq!(watching.create(watch("a", "")).await.watch_id, 0);
    assert_eq!(watching.create(chosen(1)).await.watch_id, 1);
    assert_eq!(watching.create(chosen(-7)).await.watch_id, -7);
    assert_eq!(watching.create(watch("b", "")).await.watch_id, 2, "1 is taken");

    let again = watching.create(chosen(1)).await;
    assert_eq!((again.canceled, again.watch_id), (true, -1));
    assert_eq!(again.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    let empty = watching.create(watch("b", "a")).await;
    assert_eq!((empty.canceled, empty.watch_id), (true, -1));
    assert_eq!(empty.cancel_reason, "mvcc: watcher range is empty");
    let negative = WatchCreateRequest { start_revision: -1, ..watch("a", "") };
    assert!(watching.create(negative).await.canceled);

    // The stream lives on, and so do the watches that it had.
    watching.cancel(0).await;
    let canceled = watching.next().await;
    assert_eq!((canceled.canceled, canceled.watch_id), (true, 0));
    assert!(canceled.cancel_reason.is_empty() && canceled.compact_revision == 0);
    watching.cancel(-7).await;
    assert_eq!(watching.next().await.watch_id, -7);
    gateway.put("a", "x").await;
    assert_eq!(told(&watching.events(1, 1).await), ["2 a=x"]);
    gateway.put("b", "y").await;
    assert_eq!(told(&watching.events(2, 1).await), ["3 b=y"]);
}

#[tokio::test]
async fn what_is_not_there_is_not_canceled_and_what_asks_nothing_not_answered() {
    let gateway = Running::new().await;
    let mut watching = gateway.watching().await;
    watching.cancel(5).await;
    watching.ask(None).await;
    watching.request_progress().await;
    assert!(watching.create(watch("a", "")).await.created, "the first answer that there is");
}

#[tokio::test]
async fn a_watch_may_begin_in_the_past_and_in_the_future() {
    let gateway = Running::new().await;
    for value in ["1", "2", "3"] {
        gateway.put("a", value).await;
    }
    let mut watching = gateway.watching().await;
    let from = |start_revision| WatchCreateRequest { start_revision, ..watch("a", "") };
    watching.create(from(3)).await;
    assert_eq!(told(&watching.events(0, 2).await), ["3 a=2", "4 a=3"]);
    watching.create(from(6)).await;
    gateway.put("a", "4").await;
    assert_eq!(told(&watching.events(0, 1).await), ["5 a=4"]);
    gateway.put("a", "5").await;
    let both = [watching.next().await, watching.next().await];
    let mut ids: Vec<_> = both.iter().map(|answer| answer.watch_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [0, 1]);
    for answer in &both {
        assert_eq!(told(&answer.events), ["6 a=5"]);
    }
}

#[tokio::test]
async fn ranges_filters_and_what_was_before() {
    let gateway = Running::new().await;
    let mut watching = gateway.watching().await;
    let filtered = |filter: FilterType, id| WatchCreateRequest {
        filters: vec![filter.into()],
        watch_id: id,
        ..watch("k", "l")
    };
    watching.create(WatchCreateRequest { prev_kv: true, watch_id: 1, ..watch("k", "l") }).await;
    gateway.put("k1", "a").await;
    assert_eq!(told(&watching.events(1, 1).await), ["2 k1=a"]);
    gateway.put("k1", "b").await;
    assert_eq!(told(&watching.events(1, 1).await), ["3 k1=b (was a)"]);
    gateway.delete("k", "l").await;
    assert_eq!(told(&watching.events(1, 1).await), ["4 -k1 (was b)"]);
    watching.cancel(1).await;
    assert!(watching.next().await.canceled);

    watching.create(filtered(FilterType::Noput, 2)).await;
    gateway.put("k2", "c").await;
    gateway.delete("k2", "").await;
    assert_eq!(told(&watching.events(2, 1).await), ["6 -k2"]);
    watching.cancel(2).await;
    assert!(watching.next().await.canceled);
    watching.create(filtered(FilterType::Nodelete, 3)).await;
    gateway.put("k3", "d").await;
    gateway.delete("k3", "").await;
    gateway.put("k4", "e").await;
    assert_eq!(told(&watching.events(3, 2).await), ["7 k3=d", "9 k4=e"]);

    // From a key on, and everything.
    let mut other = gateway.watching().await;
    other.create(watch("x", "\0")).await;
    other.create(watch("\0", "\0")).await;
    gateway.put("z", "f").await;
    for _ in 0..2 {
        assert_eq!(told(&other.next().await.events), ["10 z=f"]);
    }
}

#[tokio::test]
async fn a_revisions_events_are_one_answer_unless_fragments_are_asked_for() {
    let gateway = Running::new().await;
    let mut watching = gateway.watching().await;
    watching.create(watch("a", "b")).await;
    watching.create(WatchCreateRequest { fragment: true, ..watch("a", "b") }).await;
    let mut kv = gateway.kv().await;
    kv.txn(puts(&["a3", "a1", "a2"], b"")).await.expect("txn");
    for _ in 0..2 {
        let answer = watching.next().await;
        assert_eq!(
            told(&answer.events),
            ["2 a3=", "2 a1=", "2 a2="],
            "in the order of the requests"
        );
        assert!(!answer.fragment);
    }

    // What one revision deletes is more than a message should hold.
    let value = vec![b'v'; 400 << 10];
    let keys = ["a1", "a2", "a3", "a4", "a5", "a6"];
    kv.txn(puts(&keys[..3], &value)).await.expect("txn");
    kv.txn(puts(&keys[3..], &value)).await.expect("txn");
    let ask_prev = |fragment, watch_id| WatchCreateRequest {
        prev_kv: true,
        fragment,
        watch_id,
        start_revision: 5,
        ..watch("a", "b")
    };
    gateway.delete("a", "b").await;
    let mut other = gateway.watching().await;
    other.create(ask_prev(false, 1)).await;
    let whole = other.next().await;
    assert_eq!((whole.events.len(), whole.fragment), (6, false));
    let mut other = gateway.watching().await;
    other.create(ask_prev(true, 2)).await;
    let mut events = Vec::new();
    let mut answers = 0;
    loop {
        let answer = other.next().await;
        answers += 1;
        assert_eq!((answer.watch_id, revision(&answer)), (2, 5));
        assert!(prost::Message::encoded_len(&answer) <= 2 << 20);
        events.extend(answer.events);
        if !answer.fragment {
            break;
        }
    }
    assert_eq!((answers, events), (2, whole.events));
}

#[tokio::test]
async fn progress_is_said_when_all_is_told() {
    let gateway = Running::new().await;
    let mut watching = gateway.watching().await;
    watching.create(watch("a", "b")).await;
    watching.create(watch("c", "")).await;
    gateway.put("a", "1").await;
    gateway.put("x", "not watched").await;
    watching.request_progress().await;
    assert_eq!(told(&watching.events(0, 1).await), ["2 a=1"]);
    let progress = watching.next().await;
    assert_eq!((progress.watch_id, revision(&progress)), (-1, 3));
    assert!(progress.events.is_empty() && !progress.created && !progress.canceled);
}

#[tokio::test]
async fn idle_watches_that_ask_for_it_are_told_how_far_they_are() {
    let limits = Limits { progress_period: Duration::from_millis(30), ..Limits::default() };
    let gateway = Running::within(limits).await;
    let mut watching = gateway.watching().await;
    watching.create(watch("a", "")).await;
    watching.create(WatchCreateRequest { progress_notify: true, ..watch("b", "") }).await;
    gateway.put("x", "not watched").await;
    let progress = watching.next().await;
    assert_eq!((progress.watch_id, revision(&progress)), (1, 2));
    assert!(progress.events.is_empty());
    gateway.put("y", "not watched either").await;
    loop {
        let progress = watching.next().await;
        assert_eq!((progress.watch_id, progress.events.len()), (1, 0));
        if revision(&progress) == 3 {
            break;
        }
    }
}

#[tokio::test]
async fn a_client_that_has_finished_asking_is_told_on() {
    let gateway = Running::new().await;
    let mut watching = gateway.watching().await;
    watching.create(watch("a", "")).await;
    watching.finish();
    gateway.put("a", "1").await;
    assert_eq!(told(&watching.events(0, 1).await), ["2 a=1"]);
}

#[tokio::test]
async fn who_does_not_read_slows_nobody_and_misses_nothing() {
    let gateway = Running::new().await;
    let mut slow = gateway.watching().await;
    slow.create(watch("a", "b")).await;
    let mut quick = gateway.watching().await;
    quick.create(watch("a", "b")).await;
    let mut kv = gateway.kv().await;
    let value = vec![b'v'; 20 << 10];
    let count = 400;
    for _ in 0..count {
        kv.txn(puts(&["a"], &value)).await.expect("txn");
        let events = timeout(Duration::from_secs(5), quick.events(0, 1)).await;
        events.expect("it is told at once");
    }
    let revisions: Vec<_> = slow
        .events(0, count)
        .await
        .iter()
        .map(|event| event.kv.as_ref().expect("a key").mod_revision)
        .collect();
    assert_eq!(revisions, (2..2 + count as i64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_watch_waits_for_the_copy_and_outlives_its_loss() {
    let gateway = Running::new().await;
    let mut watching = gateway.watching().await;
    watching.create(watch("a", "")).await;
    gateway.cluster.lose_copy();
    gateway.put("a", "1").await;
    gateway.put("a", "2").await;
    let mut late = gateway.watching().await;
    let request = WatchCreateRequest { start_revision: 2, ..watch("a", "") };
    let early = timeout(Duration::from_millis(50), late.create(request)).await;
    assert!(early.is_err(), "nobody knows what there is to be told");
    gateway.cluster.find_copy();
    assert_eq!(told(&watching.events(0, 2).await), ["2 a=1", "3 a=2"]);
    assert!(late.next().await.created);
    assert_eq!(told(&late.events(0, 2).await), ["2 a=1", "3 a=2"]);
}

#[tokio::test]
async fn nothing_is_told_out_of_a_copy_that_was_given_up() {
    let gateway = Running::new().await;
    let (mut kv, value, count) = (gateway.kv().await, vec![b'v'; 100 << 10], 400_i64);
    for _ in 0..count {
        kv.txn(puts(&["a"], &value)).await.expect("txn");
    }
    let mut behind = gateway.watching().await;
    behind.create(WatchCreateRequest { start_revision: 2, ..watch("a", "b") }).await;
    let mut revisions: Vec<i64> = Vec::new();
    let mut take = |events: Vec<Event>| {
        let revision = |event: Event| event.kv.expect("a key").mod_revision;
        revisions.extend(events.into_iter().map(revision));
        revisions.len()
    };
    take(behind.next().await.events);
    gateway.cluster.lose_copy();
    // What had left before still arrives.
    let mut told = 0;
    while let Ok(answer) = timeout(Duration::from_millis(200), behind.next()).await {
        told = take(answer.events);
    }
    assert!(told < count as usize / 2, "{told} are told out of what is not believed any more");
    behind.request_progress().await;
    let answer = timeout(Duration::from_millis(100), behind.next()).await;
    assert!(answer.is_err(), "nobody knows how far it is: {answer:?}");
    gateway.cluster.find_copy();
    while take(behind.next().await.events) < count as usize {}
    assert_eq!(revisions, (2..2 + count).collect::<Vec<_>>(), "everything, in order, once");
    let progress = behind.next().await;
    assert_eq!((progress.watch_id, progress.events.len()), (-1, 0), "{progress:?}");
}

#[tokio::test]
async fn streams_that_require_a_leader_end_without_one() {
    let gateway = Running::impatient().await;
    let metadata = [("hasleader", "true")];
    let with = Watching::open(gateway.channel().await, &metadata).await.expect("there is one");
    let mut without = gateway.watching().await;
    without.create(watch("a", "")).await;
    gateway.cluster.set(Mood::Silent);
    let ended = with.ended().await;
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "etcdserver: no leader"));
    let refused = Watching::open(gateway.channel().await, &metadata).await.err();
    let refused = refused.expect("there is none");
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));

    gateway.cluster.set(Mood::Answers);
    gateway.put("a", "1").await;
    assert_eq!(told(&without.events(0, 1).await), ["2 a=1"]);
    Watching::open(gateway.channel().await, &metadata).await.expect("there is one again");
}

#[tokio::test]
async fn streams_end_with_the_gateway_and_with_their_clients_deadline() {
    let mut gateway = Running::new().await;
    let channel = gateway.channel().await;
    let hurried = Watching::open(channel, &[("grpc-timeout", "50m")]).await.expect("a stream");
    assert_eq!(hurried.ended().await.code(), Code::DeadlineExceeded);
    let mut watching = gateway.watching().await;
    watching.create(watch("a", "")).await;
    gateway.stop();
    let ended = watching.ended().await;
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "etcdserver: server stopped"));
    gateway.ended().await;
}
