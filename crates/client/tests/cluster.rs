//! A client of a whole cluster: PBFT replicas in this process, over real channels and real disks.

mod common;

use common::{Cluster, number};
use std::time::{Duration, Instant};
use testudo_client::ClientError;
use testudo_core::limits;
use testudo_keys::SigningKey;
use testudo_replication::Replica;

#[tokio::test]
async fn operations_execute_once_each_and_in_one_order() {
    let cluster = Cluster::start(4, 1);
    let client = cluster.client();
    assert_eq!(number(&client.submit(vec![5]).await.unwrap()), 5);
    let mut tasks = Vec::new();
    for _ in 0..100 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move { client.execute(vec![1]).await.unwrap() }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        let executed = task.await.unwrap();
        answers.push((number(&executed.result), executed.slot));
    }
    answers.sort_unstable();
    let sums: Vec<u64> = answers.iter().map(|(sum, _)| *sum).collect();
    assert_eq!(sums, (6..=105).collect::<Vec<u64>>());
    assert!(answers.is_sorted_by_key(|(_, slot)| *slot), "sums and slots rise together");
    client.close().await;
    assert_eq!(client.submit(vec![1]).await, Err(ClientError::Closed));
}

#[tokio::test]
async fn a_service_that_panics_is_answered_and_the_cluster_goes_on() {
    let cluster = Cluster::start(4, 0);
    let client = cluster.client();
    assert_eq!(client.submit(Vec::new()).await.unwrap()[..], *b"internal");
    assert_eq!(number(&client.submit(vec![1]).await.unwrap()), 1);
}

#[tokio::test]
async fn what_is_refused_says_why() {
    let cluster = Cluster::start(4, 0);
    let client = cluster.client();
    let large = vec![0; limits::OPERATION_BYTES + 1];
    assert_eq!(client.submit(large).await, Err(ClientError::TooLarge));
    let patience = Duration::from_secs(30);
    let stranger = cluster.client_under(SigningKey::generate().unwrap(), patience);
    assert_eq!(stranger.submit(vec![1]).await, Err(ClientError::NotAdmitted));
    // What is unanswered is bounded: of so much at once the last is refused, at once.
    let (fitting, more) = (31, 4);
    let submit = |_| {
        let client = client.clone();
        tokio::spawn(async move { client.submit(vec![0; limits::OPERATION_BYTES]).await })
    };
    let tasks: Vec<_> = (0..fitting + more).map(submit).collect();
    for task in tasks.into_iter().skip(fitting) {
        assert_eq!(task.await.unwrap(), Err(ClientError::Overloaded));
    }
    assert_eq!(client.unanswered(), fitting);
}

#[tokio::test]
async fn the_cluster_goes_on_without_one_replica_and_takes_it_back() {
    let mut cluster = Cluster::start(4, 1);
    let client = cluster.client();
    assert_eq!(number(&client.submit(vec![1]).await.unwrap()), 1);
    // The first primary: the others have to change the view.
    cluster.kill(0);
    assert_eq!(number(&client.submit(vec![1]).await.unwrap()), 2);
    cluster.restart(0);
    assert_eq!(number(&client.submit(vec![1]).await.unwrap()), 3);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let node = cluster.nodes[0].as_ref().unwrap();
        let status = node.inspect(Replica::status).await.unwrap();
        if status.sessions == 1 && status.slot.0 >= 3 {
            break;
        }
        assert!(Instant::now() < deadline, "it never catches up: {status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.kill(1);
    assert_eq!(number(&client.submit(vec![1]).await.unwrap()), 4);
}

#[tokio::test]
async fn a_whole_cluster_that_was_stopped_remembers() {
    let mut cluster = Cluster::start(4, 0);
    let client = cluster.client();
    for expected in 1..=20 {
        assert_eq!(number(&client.submit(vec![1]).await.unwrap()), expected);
    }
    (0..4).for_each(|id| cluster.kill(id));
    (0..4).for_each(|id| cluster.restart(id));
    assert_eq!(number(&client.submit(vec![1]).await.unwrap()), 21);
}

#[tokio::test]
async fn without_a_quorum_the_outcome_is_unknown_in_the_end() {
    let mut cluster = Cluster::start(4, 0);
    cluster.kill(2);
    cluster.kill(3);
    let patience = Duration::from_millis(400);
    let client = cluster.client_under(cluster.client_key.clone(), patience);
    assert_eq!(client.submit(vec![1]).await, Err(ClientError::Unknown));
}
