//! What the gateway's methods share: the cluster, who we are, and how an operation is run.

mod cluster;
mod health;
mod kv;
mod maintenance;

pub(crate) use cluster::member_list;
pub(crate) use health::{check as health_check, watch as health_watch};
pub(crate) use kv::Method;
pub(crate) use maintenance::{alarm, status};

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use testudo_core::{Decode, Encode};
use testudo_kv::{Operation, Response, StatusResponse};
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tonic::Status;

use crate::budget::Budget;
use crate::etcd_error;
use crate::gateway::Limits;
use crate::info::GatewayInfo;
use crate::proto::etcdserverpb::ResponseHeader;
use crate::pulse::Pulse;
use crate::submit::{Submit, SubmitError};

/// Bytes that the encoding of an operation of few parts may have beyond its message's.
const ENCODING_OVERHEAD: usize = 128;

/// What all requests of a gateway share.
pub(crate) struct Shared<S> {
    pub(crate) cluster: S,
    pub(crate) info: GatewayInfo,
    pub(crate) limits: Limits,
    pub(crate) budget: Arc<Budget>,
    pub(crate) pulse: Pulse,
    pub(crate) counters: Counters,
    /// Becomes true when the gateway stops, which ends its streams.
    pub(crate) stopping: watch::Receiver<bool>,
    cluster_id: u64,
    member_id: u64,
}

/// What the gateway has seen pass, for its metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Operations that were answered with a result.
    pub(crate) answered: AtomicU64,
    /// Operations that were not.
    pub(crate) failed: AtomicU64,
    /// Operations that are under way.
    pub(crate) pending: AtomicI64,
    /// The store's revision and bytes when somebody asked last.
    pub(crate) revision: AtomicI64,
    pub(crate) bytes: AtomicU64,
}

impl<S: Submit> Shared<S> {
    pub(crate) fn new(
        cluster: S,
        info: GatewayInfo,
        limits: Limits,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            budget: Budget::new(limits.bytes),
            pulse: Pulse::new(),
            counters: Counters::default(),
            cluster_id: info.cluster_id(),
            member_id: info.member_id(),
            cluster,
            info,
            limits,
            stopping,
        }
    }

    /// The header of an answer given at a revision of the store.
    pub(crate) fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: self.term(),
        }
    }

    /// The view, counted from 1, because clients take term 0 for none.
    pub(crate) fn term(&self) -> u64 {
        self.cluster.position().view.0.saturating_add(1)
    }

    /// Has the cluster execute an operation, given by its encoding: the operation itself is better
    /// gone before the waiting begins, of which there may be thousands.
    pub(crate) async fn execute(
        &self,
        operation: Arc<[u8]>,
        patience: Patience,
    ) -> Result<Response, Status> {
        let pending = Pending::new(&self.counters.pending);
        let outcome = timeout(patience.duration, self.cluster.submit(operation)).await;
        drop(pending);
        self.judge(outcome, patience)
    }

    /// What came of an operation, and what that says of the cluster.
    fn judge(
        &self,
        outcome: Result<Result<Arc<[u8]>, SubmitError>, Elapsed>,
        patience: Patience,
    ) -> Result<Response, Status> {
        match outcome {
            Ok(Ok(result)) => {
                self.pulse.beat();
                self.counters.answered.fetch_add(1, Ordering::Relaxed);
                match Response::from_bytes(&result) {
                    Ok(Response::Error(error)) => Err(etcd_error::refused(error)),
                    Ok(response) => Ok(response),
                    Err(_) => Err(etcd_error::unreadable_result()),
                }
            }
            Ok(Err(error)) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                if error == SubmitError::Unavailable {
                    self.pulse.miss();
                }
                Err(etcd_error::not_executed(error))
            }
            Err(_) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                if patience.is_the_clients {
                    return Err(etcd_error::deadline_exceeded());
                }
                self.pulse.miss();
                Err(etcd_error::timed_out())
            }
        }
    }

    /// Asks the cluster about the store as a whole, and remembers what it says.
    pub(crate) async fn store_status(&self) -> Result<StatusResponse, Status> {
        let patience = Patience { duration: self.limits.probe, is_the_clients: false };
        match self.execute(encode(&Operation::Status, 0), patience).await? {
            Response::Status(status) => {
                self.counters.revision.store(status.revision, Ordering::Relaxed);
                self.counters.bytes.store(status.bytes, Ordering::Relaxed);
                Ok(status)
            }
            _ => Err(etcd_error::unreadable_result()),
        }
    }

    /// Whether the cluster answers, asked if need be.
    pub(crate) async fn is_answering(&self) -> bool {
        self.pulse
            .check(|| async {
                // The pulse hears of it either way.
                let _status = self.store_status().await;
            })
            .await
    }
}

/// The encoding of an operation that came in a message of so many bytes, which is about as long.
pub(crate) fn encode(operation: &Operation, size: usize) -> Arc<[u8]> {
    let mut bytes = Vec::with_capacity(size + ENCODING_OVERHEAD);
    operation.encode(&mut bytes);
    bytes.into()
}

/// How long to wait for the cluster, and who says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    duration: Duration,
    /// The client's own deadline is the sooner one: that it passes says nothing of the cluster.
    is_the_clients: bool,
}

impl Patience {
    pub(crate) fn new(ours: Duration, the_clients: Option<Duration>) -> Self {
        match the_clients {
            Some(duration) if duration < ours => Self { duration, is_the_clients: true },
            _ => Self { duration: ours, is_the_clients: false },
        }
    }
}

/// Counts an operation as under way until it is dropped, which a client that goes away does too.
struct Pending<'a>(&'a AtomicI64);

impl<'a> Pending<'a> {
    fn new(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
