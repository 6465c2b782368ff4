//! Snapshots of real replicas: written in the background, started from, handed to learners, and not believed when they rot.

mod common;

use common::{Cluster, number, sum};
use std::time::{Duration, Instant};
use testudo_client::Client;
use testudo_runtime::Metrics;

const PATIENCE: Duration = Duration::from_secs(30);

/// Has slots executed until every replica has a snapshot of most of them. Gives the sum.
async fn fill(cluster: &Cluster, client: &Client) -> u64 {
    let mut sum = 0;
    for _ in 0..40 {
        sum = number(&client.submit(vec![1]).await.unwrap());
    }
    let deadline = Instant::now() + PATIENCE;
    let has_snapshot = |metrics: &Metrics| metrics.snapshots_written() > 0;
    while !cluster.nodes.iter().flatten().all(|node| has_snapshot(node.metrics())) {
        sum = number(&client.submit(vec![1]).await.unwrap());
        assert!(Instant::now() < deadline, "snapshots are never written");
    }
    sum
}

fn lost_snapshots(cluster: &Cluster) -> Vec<u64> {
    cluster.nodes.iter().flatten().map(|node| node.metrics().lost_snapshots()).collect()
}

#[tokio::test]
async fn replicas_start_from_snapshots_and_hand_them_to_learners() {
    let mut cluster = Cluster::start_with_snapshots();
    let client = cluster.client();
    let filled = fill(&cluster, &client).await;
    (0..4).for_each(|id| cluster.kill(id));
    let kept = |id| cluster.snapshot_files(id).len();
    assert!((0..4).all(|id| (1..=2).contains(&kept(id))), "the newest two are kept");
    (0..4).for_each(|id| cluster.restart(id));
    assert_eq!(lost_snapshots(&cluster), [0; 4]);
    assert_eq!(number(&client.submit(vec![1]).await.unwrap()), filled + 1);
    // They do not know the slots before their snapshots any more.
    let learner = cluster.learner();
    assert_eq!(sum(&learner.read().await.unwrap()), filled + 1);
    assert!(learner.metrics().said("state ask") > 0, "it was handed a state");
    assert_eq!(number(&learner.execute(vec![1]).await.unwrap().result), filled + 2);
}

#[tokio::test]
async fn snapshots_that_rot_are_reported_and_older_ones_or_the_log_stand_for_them() {
    let mut cluster = Cluster::start_with_snapshots();
    let client = cluster.client();
    let filled = fill(&cluster, &client).await;
    (0..4).for_each(|id| cluster.kill(id));
    for (id, place) in [(0, 2), (1, 3), (2, 5), (3, 100)] {
        let files = cluster.snapshot_files(id);
        let newest = files.iter().max().expect("there is one");
        let mut bytes = std::fs::read(newest).unwrap();
        let at = bytes.len() - 1 - bytes.len() / place;
        bytes[at] ^= 0x10;
        std::fs::write(newest, bytes).unwrap();
    }
    (0..4).for_each(|id| cluster.restart(id));
    assert_eq!(lost_snapshots(&cluster), [1; 4]);
    assert_eq!(number(&client.submit(vec![1]).await.unwrap()), filled + 1);
    assert_eq!(sum(&cluster.learner().read().await.unwrap()), filled + 1);
}
