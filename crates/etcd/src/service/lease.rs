//! `etcdserverpb.Lease`: what is more than one operation.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use testudo_kv::{Error, LeaseGrant, LeaseKeepAlive, Operation, Response, check};
use tonic::Status;

use super::{Counted, Patience, Shared, encode, read_result, understand};
use crate::cluster::Cluster;
use crate::etcd_error::{refused, unreadable_result};
use crate::grpc::{BATCH, Outcome, Replies, Requests, frame};
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
};

/// Bytes of an operation on a lease, about.
const SIZE: usize = 16;
/// How often another number is tried for a lease whose client leaves that to us. Numbers have 63
/// bits, so that one try is almost always enough.
const TRIES: usize = 8;
/// Keep-alives of one stream that are under way. Further ones wait until the first of these is
/// answered.
const IN_FLIGHT: usize = 256;
/// Keep-alives of one stream that wait, eight bytes each. Further ones are not read. What a client
/// sends for all its leases at once should find room: many small requests that are not read are a
/// reason for HTTP/2 to close the connection.
const WAITING: usize = 1 << 15;

/// Begins a lease. A client that gives it no number gets one that nobody could foresee.
pub(crate) async fn grant<C: Cluster>(
    shared: &Shared<C>,
    request: &LeaseGrantRequest,
    patience: Patience,
) -> Result<LeaseGrantResponse, Status> {
    for _ in 0..TRIES {
        let id = if request.id == 0 { random_id()? } else { request.id };
        let operation = Operation::LeaseGrant(LeaseGrant { id, ttl: request.ttl });
        check::operation(&operation).map_err(refused)?;
        let result = shared.execute(encode(&operation, SIZE), patience).await?;
        match read_result(&result)? {
            Response::Error(Error::LeaseExists) if request.id == 0 => {}
            Response::Error(error) => return Err(refused(error)),
            Response::LeaseGrant(granted) => {
                return Ok(LeaseGrantResponse {
                    header: Some(shared.header(granted.revision)),
                    id: granted.id,
                    ttl: granted.ttl,
                    error: String::new(),
                });
            }
            _ => return Err(unreadable_result()),
        }
    }
    Err(refused(Error::LeaseExists))
}

/// A positive number.
fn random_id() -> Result<i64, Status> {
    let number = getrandom::u64().map_err(|error| {
        Status::internal(format!("testudo: the system gives no random numbers: {error}"))
    })?;
    Ok((number >> 1).max(1).cast_signed())
}

/// Keeps leases alive, any number on one stream. Many are under way at a time; their answers come in
/// the order in which they were asked for.
pub(crate) async fn keep_alive<C: Cluster>(
    shared: Arc<Shared<C>>,
    mut requests: Requests,
    replies: Replies,
) -> Outcome {
    let _counted = Counted::new(&shared.counters.lease_streams);
    let mut renewals = Renewals(VecDeque::new());
    let mut waiting = VecDeque::new();
    let mut asks = true;
    loop {
        while renewals.0.len() < IN_FLIGHT
            && let Some(id) = waiting.pop_front()
        {
            renewals.push(renew(shared.clone(), id));
        }
        let is_idle = renewals.0.is_empty();
        if is_idle && !asks {
            return Ok(());
        }
        tokio::select! {
            biased;
            // What has come is all taken before the first answer is looked for.
            request = requests.next(), if asks && waiting.len() < WAITING => match request? {
                Some(LeaseKeepAliveRequest { id }) => waiting.push_back(id),
                None => asks = false,
            },
            answer = poll_fn(|cx| renewals.poll_next(cx)), if !is_idle => {
                let room = replies.room().await;
                let mut answers = Vec::new();
                frame(&answer?, &mut answers);
                while answers.len() < BATCH && let Some(answer) = renewals.next_done() {
                    frame(&answer?, &mut answers);
                }
                room.send(answers);
            }
        }
    }
}

/// Keeps one lease alive. One that does not live has no time left, and that is no error.
async fn renew<C: Cluster>(
    shared: Arc<Shared<C>>,
    id: i64,
) -> Result<LeaseKeepAliveResponse, Status> {
    let operation = Operation::LeaseKeepAlive(LeaseKeepAlive { id });
    let patience = Patience::new(shared.limits.request, None);
    let result = shared.execute(encode(&operation, SIZE), patience).await?;
    match understand(&result)? {
        Response::LeaseKeepAlive(kept) => {
            shared.counters.keep_alives.fetch_add(1, Ordering::Relaxed);
            Ok(LeaseKeepAliveResponse {
                header: Some(shared.header(kept.revision)),
                id: kept.id,
                ttl: kept.ttl,
            })
        }
        _ => Err(unreadable_result()),
    }
}

type Renewed = Result<LeaseKeepAliveResponse, Status>;

/// One keep-alive.
enum Renewal {
    UnderWay(Pin<Box<dyn Future<Output = Renewed> + Send>>),
    Done(Renewed),
}

/// Keep-alives in the order in which they are to be answered.
struct Renewals(VecDeque<Renewal>);

impl Renewals {
    fn push(&mut self, renewal: impl Future<Output = Renewed> + Send + 'static) {
        self.0.push_back(Renewal::UnderWay(Box::pin(renewal)));
    }

    /// The first one's answer, if it has come.
    fn next_done(&mut self) -> Option<Renewed> {
        match self.0.pop_front()? {
            Renewal::Done(renewed) => Some(renewed),
            under_way @ Renewal::UnderWay(_) => {
                self.0.push_front(under_way);
                None
            }
        }
    }

    /// The first one's answer. All are driven on while it is waited for, and none after it has come.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Renewed> {
        if let Some(renewed) = self.next_done() {
            return Poll::Ready(renewed);
        }
        for renewal in &mut self.0 {
            if let Renewal::UnderWay(run) = renewal
                && let Poll::Ready(renewed) = run.as_mut().poll(cx)
            {
                *renewal = Renewal::Done(renewed);
            }
        }
        self.next_done().map_or(Poll::Pending, Poll::Ready)
    }
}
