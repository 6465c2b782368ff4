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
use crate::translate;

/// Bytes of an operation on a lease, about.
const SIZE: usize = 16;
/// How often another number is tried for a lease whose client leaves that to us. Numbers have 63
/// bits, so that one try is almost always enough.
const TRIES: usize = 8;
/// Keep-alives of one stream that are under way. Further ones wait until the first of these is
/// answered.
const IN_FLIGHT: usize = 256;
/// Keep-alives of one stream that wait, sixteen bytes each at most. Further ones are not read. What a client
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
        let operation = Operation::LeaseGrant(LeaseGrant { id, ..translate::lease_grant(request) });
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
///
/// What is asked for one lease several times in a row, while the first of it is under way, is one
/// keep-alive more with as many answers: it begins after all of them have come, so it does what each
/// of them has asked for. Whoever asks a million times makes the cluster agree a few times.
pub(crate) async fn keep_alive<C: Cluster>(
    shared: Arc<Shared<C>>,
    mut requests: Requests,
    replies: Replies,
) -> Outcome {
    let _counted = Counted::new(&shared.counters.lease_streams);
    let mut renewals = Renewals(VecDeque::new());
    let mut waiting = Waiting::default();
    let mut asks = true;
    loop {
        while renewals.0.len() < IN_FLIGHT
            && let Some(asked) = waiting.next(renewals.last())
        {
            renewals.push(asked, renew(shared.clone(), asked.id));
        }
        let is_idle = renewals.0.is_empty();
        if is_idle && !asks {
            return Ok(());
        }
        tokio::select! {
            biased;
            // What has come is all taken before the first answer is looked for.
            request = requests.next(), if asks && waiting.count < WAITING => match request? {
                Some(LeaseKeepAliveRequest { id }) => waiting.push(id),
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

/// What was asked for one lease, several times in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    id: i64,
    times: u32,
}

/// What was asked for and has not begun.
#[derive(Debug, Default)]
struct Waiting {
    asked: VecDeque<Asked>,
    /// How many answers that makes.
    count: usize,
}

impl Waiting {
    fn push(&mut self, id: i64) {
        self.count += 1;
        match self.asked.back_mut() {
            Some(last) if last.id == id => last.times += 1,
            _ => self.asked.push_back(Asked { id, times: 1 }),
        }
    }

    /// What is to begin next, unless the last that has begun is for the same lease.
    fn next(&mut self, last: Option<i64>) -> Option<Asked> {
        self.asked.front().filter(|asked| last != Some(asked.id))?;
        let asked = self.asked.pop_front()?;
        self.count -= asked.times as usize;
        Some(asked)
    }
}

type Renewed = Result<LeaseKeepAliveResponse, Status>;

/// A keep-alive under way, or what came of it.
enum Run {
    UnderWay(Pin<Box<dyn Future<Output = Renewed> + Send>>),
    Done(Renewed),
}

/// One keep-alive, and whom it is to be answered to.
struct Renewal {
    asked: Asked,
    run: Run,
}

/// Keep-alives in the order in which they are to be answered.
struct Renewals(VecDeque<Renewal>);

impl Renewals {
    fn push(&mut self, asked: Asked, run: impl Future<Output = Renewed> + Send + 'static) {
        self.0.push_back(Renewal { asked, run: Run::UnderWay(Box::pin(run)) });
    }

    /// The lease that the last of them keeps alive.
    fn last(&self) -> Option<i64> {
        self.0.back().map(|renewal| renewal.asked.id)
    }

    /// The next answer, if it has come.
    fn next_done(&mut self) -> Option<Renewed> {
        let first = self.0.front_mut()?;
        let Run::Done(renewed) = &first.run else { return None };
        let renewed = renewed.clone();
        first.asked.times = first.asked.times.saturating_sub(1);
        if first.asked.times == 0 {
            self.0.pop_front();
        }
        Some(renewed)
    }

    /// The next answer. All are driven on while it is waited for, and none after it has come.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Renewed> {
        if let Some(renewed) = self.next_done() {
            return Poll::Ready(renewed);
        }
        for renewal in &mut self.0 {
            if let Run::UnderWay(run) = &mut renewal.run
                && let Poll::Ready(renewed) = run.as_mut().poll(cx)
            {
                renewal.run = Run::Done(renewed);
            }
        }
        self.next_done().map_or(Poll::Pending, Poll::Ready)
    }
}
