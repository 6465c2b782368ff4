//! What the gateway's methods share: the cluster, who we are, and how an operation is run.

mod cluster;
mod health;
mod kv;
mod lease;
mod maintenance;
mod watch;

pub(crate) use cluster::member_list;
pub(crate) use health::{check as health_check, watch as health_watch};
pub(crate) use kv::{Consistency, Method, compact};
pub(crate) use lease::{grant as lease_grant, keep_alive as lease_keep_alive};
pub(crate) use maintenance::{HASHING_BYTES, alarm, defragment, hash, hash_kv, status};
pub(crate) use watch::watch;

use std::future::Future;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use testudo_core::{Decode, Encode};
use testudo_kv::{Kv, Operation, Response, StatusResponse};
use tokio::sync::watch as signal;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tonic::Status;

use crate::budget::{Account, Budget, Charge};
use crate::cluster::{Cluster, Copy, Position, SubmitError};
use crate::etcd_error;
use crate::gateway::Limits;
use crate::hub::Hub;
use crate::info::GatewayInfo;
use crate::leadership::Leadership;
use crate::proto::etcdserverpb::ResponseHeader;
use crate::pulse::Pulse;

/// Bytes that the encoding of an operation of few parts may have beyond its message's.
const ENCODING_OVERHEAD: usize = 128;

/// What all requests of a gateway share.
pub(crate) struct Shared<C> {
    pub(crate) cluster: C,
    pub(crate) info: GatewayInfo,
    pub(crate) limits: Limits,
    pub(crate) budget: Arc<Budget>,
    pub(crate) pulse: Pulse,
    pub(crate) leadership: Leadership,
    pub(crate) hub: Hub,
    pub(crate) counters: Counters,
    /// Becomes true when the gateway stops, which ends its streams.
    pub(crate) stopping: signal::Receiver<bool>,
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
    /// Events that were handed to watch streams.
    pub(crate) events: AtomicU64,
    /// Watch streams that have something to say for which their clients have no room.
    pub(crate) blocked: AtomicI64,
    /// Lease streams.
    pub(crate) lease_streams: AtomicI64,
    /// Keep-alives that were answered.
    pub(crate) keep_alives: AtomicU64,
    /// Changes of view.
    pub(crate) turns: Turns,
}

/// How often the view has changed, over all epochs, as far as this gateway knows.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<(Position, u64)>);

impl Turns {
    /// How often by now, if the cluster stands here. It never falls.
    pub(crate) fn count(&self, now: Position) -> u64 {
        let (seen, count) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.term() > seen.term() {
            // A new epoch begins with its first view, which is another one than the last.
            let since = if now.epoch == seen.epoch { seen.view.0 } else { 0 };
            let begun = u64::from(now.epoch != seen.epoch);
            *count = count.saturating_add(now.view.0.saturating_sub(since)).saturating_add(begun);
            *seen = now;
        }
        *count
    }
}

impl<C: Cluster> Shared<C> {
    pub(crate) fn new(
        cluster: C,
        info: GatewayInfo,
        limits: Limits,
        stopping: signal::Receiver<bool>,
    ) -> Self {
        Self {
            budget: Budget::new(limits.bytes),
            pulse: Pulse::new(),
            leadership: Leadership::new(),
            hub: Hub::new(cluster.updates(), limits.watches),
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

    pub(crate) fn term(&self) -> u64 {
        self.cluster.position().term()
    }

    /// Has the cluster execute an operation, given by its encoding, and gives its result.
    pub(crate) async fn execute(
        &self,
        operation: Arc<[u8]>,
        patience: Patience,
    ) -> Result<Arc<[u8]>, Status> {
        let pending = Counted::new(&self.counters.pending);
        let outcome = timeout(patience.duration, self.cluster.submit(operation)).await;
        drop(pending);
        let outcome = self.judge(outcome, patience);
        let count = if outcome.is_ok() { &self.counters.answered } else { &self.counters.failed };
        count.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// A copy that covers all that was acknowledged before this was called.
    pub(crate) async fn linearizable(&self, patience: Patience) -> Result<Arc<Copy>, Status> {
        let outcome = timeout(patience.duration, self.cluster.read()).await;
        self.judge(outcome, patience)
    }

    /// The newest copy.
    pub(crate) fn serializable(&self) -> Result<Arc<Copy>, Status> {
        self.cluster.latest().map_err(etcd_error::not_executed)
    }

    /// What came of a question to the cluster, and what that says of the cluster.
    fn judge<T>(
        &self,
        outcome: Result<Result<T, SubmitError>, Elapsed>,
        patience: Patience,
    ) -> Result<T, Status> {
        match outcome {
            Ok(Ok(result)) => {
                self.pulse.beat();
                Ok(result)
            }
            Ok(Err(error)) => {
                if error == SubmitError::Unavailable {
                    self.pulse.miss();
                }
                Err(etcd_error::not_executed(error))
            }
            Err(_) if patience.is_the_clients => Err(etcd_error::deadline_exceeded()),
            Err(_) => {
                self.pulse.miss();
                Err(etcd_error::timed_out())
            }
        }
    }

    /// The revision of the newest copy, and zero while there is none.
    pub(crate) fn revision(&self) -> i64 {
        self.cluster.latest().map_or(0, |copy| copy.status().revision)
    }

    /// Whether the cluster answers, asked if need be, and the gateway has a copy of its state.
    pub(crate) async fn is_answering(&self) -> bool {
        if self.cluster.latest().is_err() {
            return false;
        }
        let patience = Patience::new(self.limits.probe, None);
        self.pulse
            .check(|| async {
                // The pulse hears of it either way.
                let _copy = self.linearizable(patience).await;
            })
            .await
    }
}

/// Bytes of a result that is read from a copy, at most. etcd has no such limit but that of its
/// messages, 2 GiB; long before that what a connection may hold decides.
const READ_BYTES: usize = 512 << 20;

/// A result, and what it is charged for as long as it lies in memory.
pub(crate) struct Held {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Copy {
    /// The result of an operation that only reads. It is charged before it is made.
    pub(crate) fn result(
        &self,
        operation: &Operation,
        account: &Arc<Account>,
    ) -> Result<Held, Status> {
        let mut charge = account.charge(0).ok_or_else(etcd_error::too_many_requests)?;
        // The result and the message that is made of it lie in memory together. What cannot even be
        // answered on a connection that waits for nothing else is too large.
        let most = READ_BYTES.min(account.most() / 2);
        let mut is_spent = false;
        let bytes = self.result_within(operation, &mut |bytes| {
            let fits = charge.bytes().saturating_add(bytes) <= most;
            is_spent = fits && charge.extend(bytes).is_none();
            fits && !is_spent
        })?;
        if is_spent {
            return Err(etcd_error::too_many_requests());
        }
        Ok(Held { bytes, _charge: charge })
    }

    /// The same, if there is room for it.
    pub(crate) fn result_within(
        &self,
        operation: &Operation,
        room: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<u8>, Status> {
        let result = Kv::default().read_within(&self.state, operation, &self.now(), room);
        result.ok_or_else(etcd_error::unreadable_result)
    }

    /// The store as a whole.
    pub(crate) fn status(&self) -> StatusResponse {
        Kv::default().status(&self.state, self.now().time)
    }
}

/// Reads a result.
pub(crate) fn read_result(result: &[u8]) -> Result<Response, Status> {
    Response::from_bytes(result).map_err(|_| etcd_error::unreadable_result())
}

/// Reads a result. What the service refused is an error.
pub(crate) fn understand(result: &[u8]) -> Result<Response, Status> {
    match read_result(result)? {
        Response::Error(error) => Err(etcd_error::refused(error)),
        response => Ok(response),
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
    /// Waits for something that says nothing of the cluster's health.
    pub(crate) async fn wait<F: Future>(self, future: F) -> Result<F::Output, Status> {
        match timeout(self.duration, future).await {
            Ok(output) => Ok(output),
            Err(_) if self.is_the_clients => Err(etcd_error::deadline_exceeded()),
            Err(_) => Err(etcd_error::timed_out()),
        }
    }

    pub(crate) fn new(ours: Duration, the_clients: Option<Duration>) -> Self {
        match the_clients {
            Some(duration) if duration < ours => Self { duration, is_the_clients: true },
            _ => Self { duration: ours, is_the_clients: false },
        }
    }
}

/// Counts something until this is dropped, which it is, too, when a client goes away.
pub(crate) struct Counted<'a>(&'a AtomicI64);

impl<'a> Counted<'a> {
    pub(crate) fn new(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_core::{Epoch, View};

    #[test]
    fn neither_terms_nor_changes_of_view_fall_when_an_epoch_begins() {
        let turns = Turns::default();
        let at =
            |epoch, view| Position { epoch: Epoch(epoch), view: View(view), ..Position::default() };
        let mut term = 0;
        for (position, changes) in
            [(at(0, 0), 0), (at(0, 2), 2), (at(1, 0), 3), (at(1, 1), 4), (at(3, 2), 7)]
        {
            assert!(position.term() > term, "{position:?}");
            term = position.term();
            assert_eq!(turns.count(position), changes, "{position:?}");
            assert_eq!(turns.count(at(0, 0)), changes, "what is old counts for nothing");
        }
        assert_eq!(at(0, 6).term(), 7, "in the first epoch it is the view, counted from 1");
        assert!(at(0, u64::MAX).term() < at(1, 0).term());
        assert!(at(u64::MAX, u64::MAX).term() > term);
    }
}
