//! Streams whose clients would rather lose them than be cut off without knowing.
//!
//! A request with `hasleader: true` among its metadata asks to fail when no quorum can be reached,
//! and a stream that began with it, to end. While there are such streams the gateway asks the cluster
//! often enough to know; their clients then resume through another gateway.

use std::future::Future;
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::service::Shared;

/// Whether the cluster has been silent for longer than streams with a leader may live.
#[derive(Debug)]
pub(crate) struct Leadership {
    lost: watch::Sender<bool>,
}

impl Leadership {
    pub(crate) fn new() -> Self {
        Self { lost: watch::Sender::new(false) }
    }

    /// Ready when the cluster has been silent for too long.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut lost = self.lost.subscribe();
        async move {
            // The gateway does not end before its streams do.
            let _lost = lost.wait_for(|lost| *lost).await;
        }
    }

    /// Asks the cluster for as long as anybody wants to know.
    pub(crate) async fn attend<C: Cluster>(shared: &Shared<C>) {
        let this = &shared.leadership;
        let mut answered = Instant::now();
        loop {
            sleep(shared.limits.leader_period).await;
            let is_asked = this.lost.receiver_count() > 0;
            if !is_asked || shared.is_answering().await {
                answered = Instant::now();
            }
            let is_lost = answered.elapsed() > shared.limits.leaderless;
            this.lost.send_if_modified(|lost| std::mem::replace(lost, is_lost) != is_lost);
        }
    }
}
