//! A learner of a whole cluster: PBFT replicas in this process, over real channels and real disks.

mod common;

use common::{Cluster, Sum, number, sum};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testudo_client::{ClientError, Copy, Learner, Standing};
use testudo_contracts::{Moment, Service, Store};
use testudo_core::{ReplicaId, Slot};
use testudo_keys::SigningKey;
use testudo_replication::Replica;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a learner follows, and says whom.
async fn upstream(learner: &Learner) -> ReplicaId {
    let mut standings = learner.standings();
    let follows = standings.wait_for(|standing| matches!(standing, Standing::Following(_)));
    match *tokio::time::timeout(PATIENCE, follows).await.expect("it follows").unwrap() {
        Standing::Following(upstream) => upstream,
        other => panic!("it does not follow: {other:?}"),
    }
}

/// Waits until a replica has executed up to a slot.
async fn caught_up(cluster: &Cluster, id: usize, slot: Slot) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = cluster.nodes[id].as_ref().unwrap().inspect(Replica::status).await.unwrap();
        if status.slot >= slot {
            return;
        }
        assert!(Instant::now() < deadline, "replica {id} never catches up to {slot:?}: {status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Looks at every copy that is published from here on: neither slots nor sums ever fall, and there always is one. Ends, and
/// gives the last, when the learner does.
fn watch(learner: &Learner) -> JoinHandle<Option<Arc<Copy>>> {
    let mut updates = learner.updates();
    tokio::spawn(async move {
        let mut last: Option<Arc<Copy>> = updates.borrow_and_update().clone();
        while updates.changed().await.is_ok() {
            let Some(copy) = updates.borrow_and_update().clone() else { return last };
            if let Some(last) = &last {
                assert!(copy.published.slot > last.published.slot, "slots rise");
                assert!(sum(&copy) >= sum(last), "sums do not fall");
                assert!(copy.published.time >= last.published.time, "time does not fall");
            }
            last = Some(copy);
        }
        last
    })
}

#[tokio::test]
async fn results_come_from_the_copy_that_is_shown() {
    let cluster = Cluster::start(4, 0);
    let learner = cluster.learner();
    let executed = learner.execute(vec![5]).await.unwrap();
    assert_eq!(number(&executed.result), 5);
    let latest = learner.latest().expect("it follows");
    assert!(latest.published.slot >= executed.slot, "the copy covers the answer");
    assert_eq!(sum(&latest), 5);
    // What others had acknowledged is covered by a read that is asked for later.
    let client = cluster.client();
    for expected in 6..=25 {
        let other = client.execute(vec![1]).await.unwrap();
        let copy = learner.read().await.unwrap();
        assert!(copy.published.slot >= other.slot);
        assert!(sum(&copy) >= expected);
    }
    assert_eq!(learner.connections(), 4);
    assert_eq!(learner.unanswered(), 0);
    let text = learner.metrics().render();
    assert!(text.contains("testudo_learner_standing 1"), "{text}");
    assert!(text.contains("testudo_learner_divergences 0"), "{text}");
    assert!(learner.metrics().heard("voucher") > 0 && learner.metrics().heard("feed") > 0);
    assert!(learner.metrics().said("claim ask") >= 20);
    learner.close().await;
    assert_eq!(learner.execute(vec![1]).await, Err(ClientError::Closed));
    assert_eq!(learner.read().await.unwrap_err(), ClientError::Closed);
}

#[tokio::test]
async fn many_ask_at_once_and_each_reader_sees_what_was_acknowledged_before() {
    let cluster = Cluster::start(4, 1);
    let learner = cluster.learner();
    upstream(&learner).await;
    let watcher = watch(&learner);
    let mut tasks = Vec::new();
    for _ in 0..100 {
        let learner = learner.clone();
        tasks.push(tokio::spawn(async move {
            let executed = learner.execute(vec![1]).await.unwrap();
            let copy = learner.read().await.unwrap();
            assert!(copy.published.slot >= executed.slot);
            assert!(sum(&copy) >= number(&executed.result));
            number(&executed.result)
        }));
    }
    let mut sums = Vec::new();
    for task in tasks {
        sums.push(task.await.unwrap());
    }
    sums.sort_unstable();
    assert_eq!(sums, (1..=100).collect::<Vec<u64>>(), "each once, in one order");
    drop(learner);
    assert_eq!(sum(&watcher.await.unwrap().unwrap()), 100);
}

#[tokio::test]
async fn nobody_notices_that_the_upstream_and_the_primary_stop() {
    let mut cluster = Cluster::start(4, 0);
    let learner = cluster.learner();
    let upstream = upstream(&learner).await;
    let watcher = watch(&learner);
    let mut expected = 0;
    for id in [usize::from(upstream.0), 0, 1] {
        let mut slot = Slot(0);
        for _ in 0..5 {
            expected += 1;
            let executed = learner.execute(vec![1]).await.unwrap();
            assert_eq!(number(&executed.result), expected);
            slot = executed.slot;
        }
        cluster.kill(id);
        expected += 1;
        assert_eq!(number(&learner.execute(vec![1]).await.unwrap().result), expected);
        assert_eq!(sum(&learner.read().await.unwrap()), expected);
        cluster.restart(id);
        caught_up(&cluster, id, slot).await;
    }
    drop(learner);
    assert_eq!(sum(&watcher.await.unwrap().unwrap()), expected);
}

#[tokio::test]
async fn every_replica_is_restarted_in_turn_while_readers_and_writers_go_on() {
    let mut cluster = Cluster::start_with_snapshots();
    let learner = cluster.learner();
    upstream(&learner).await;
    let watcher = watch(&learner);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let worker = tokio::spawn({
        let learner = learner.clone();
        async move {
            let mut sum_before = 0;
            while !*stopped.borrow() {
                let executed = learner.execute(vec![1]).await.unwrap();
                assert_eq!(number(&executed.result), sum_before + 1, "executed once each");
                sum_before += 1;
                assert_eq!(sum(&learner.read().await.unwrap()), sum_before);
            }
            sum_before
        }
    });
    for id in 0..4 {
        let before = sum(&learner.read().await.unwrap());
        cluster.kill(id);
        // It goes on without it.
        while sum(&learner.read().await.unwrap()) < before + 5 {
            tokio::task::yield_now().await;
        }
        cluster.restart(id);
        let slot = learner.read().await.unwrap().published.slot;
        caught_up(&cluster, id, slot).await;
    }
    stop.send_replace(true);
    let total = worker.await.unwrap();
    drop(learner);
    assert_eq!(sum(&watcher.await.unwrap().unwrap()), total);
}

#[tokio::test]
async fn without_a_quorum_reads_are_unavailable_and_the_copy_stays() {
    let mut cluster = Cluster::start(4, 0);
    let learner = cluster.learner_of(Sum, cluster.learner_key.clone(), Duration::from_millis(700));
    upstream(&learner).await;
    assert_eq!(number(&learner.execute(vec![3]).await.unwrap().result), 3);
    cluster.kill(2);
    cluster.kill(3);
    assert_eq!(learner.read().await.unwrap_err(), ClientError::Unavailable);
    assert_eq!(learner.execute(vec![1]).await, Err(ClientError::Unknown));
    assert_eq!(sum(&learner.latest().expect("a stale read is still served")), 3);
    // They come back, and so does the answer.
    cluster.restart(2);
    let deadline = Instant::now() + PATIENCE;
    while learner.read().await.is_err() {
        assert!(Instant::now() < deadline, "it never reads again");
    }
}

#[tokio::test]
async fn a_stranger_is_shown_nothing() {
    let cluster = Cluster::start(4, 0);
    let patience = Duration::from_millis(700);
    let stranger = cluster.learner_of(Sum, SigningKey::generate().unwrap(), patience);
    let refused = stranger.execute(vec![1]).await.unwrap_err();
    assert!(matches!(refused, ClientError::NotAdmitted | ClientError::Unknown), "{refused}");
    assert_eq!(stranger.read().await.unwrap_err(), ClientError::Unavailable);
    assert!(stranger.latest().is_none());
    assert_eq!(number(&cluster.client().submit(vec![2]).await.unwrap()), 2, "nothing was executed");
}

/// Counts one too many.
#[derive(Clone, Debug)]
struct Wrong;

impl Service for Wrong {
    const VERSION: u32 = Sum::VERSION;
    fn genesis(&self, _: &mut dyn Store) {}
    fn execute(&self, store: &mut dyn Store, operation: &[u8], moment: &Moment) -> Vec<u8> {
        let _ = Sum.execute(store, &[1], moment);
        Sum.execute(store, operation, moment)
    }
    fn internal_error(&self) -> Vec<u8> {
        Sum.internal_error()
    }
    fn too_large(&self) -> Vec<u8> {
        Sum.too_large()
    }
}

#[tokio::test]
async fn a_learner_whose_execution_differs_answers_nothing_and_says_so() {
    let cluster = Cluster::start(4, 0);
    let patience = Duration::from_millis(700);
    let learner = cluster.learner_of(Wrong, cluster.learner_key.clone(), patience);
    upstream(&learner).await;
    assert!(learner.latest().is_some());
    assert_eq!(number(&cluster.client().submit(vec![2]).await.unwrap()), 2);
    let mut standings = learner.standings();
    let diverged = standings.wait_for(|standing| matches!(standing, Standing::Diverged(_)));
    tokio::time::timeout(PATIENCE, diverged).await.expect("it is found out").unwrap();
    assert!(learner.latest().is_none(), "what differs is shown to nobody");
    assert_eq!(learner.execute(vec![1]).await, Err(ClientError::Unknown));
    assert_eq!(learner.read().await.unwrap_err(), ClientError::Unavailable);
    assert!(learner.latest().is_none());
    let text = learner.metrics().render();
    // How often it has fetched a state since depends on the machine.
    let counted = text.lines().find_map(|line| line.strip_prefix("testudo_learner_divergences "));
    assert!(
        counted.is_some_and(|times| times.parse::<u32>().is_ok_and(|times| times > 0)),
        "{text}"
    );
}
