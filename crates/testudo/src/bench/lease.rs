//! Leases that are kept alive while other things go on. Each has a key, which goes when the lease does.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use prost::Message;
use testudo_etcd::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse,
};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::args::BenchArgs;
use super::client::{Connection, Endpoint, Failure, Questions, UNREADABLE};
use super::histogram::Histogram;
use super::load::Load;

/// Where the leases' keys are.
const KEYS: &str = "bench-lease/";
/// After the last of them.
const KEYS_END: &str = "bench-lease0";
/// Calls that grant or revoke leases and are under way at a time on a connection.
const CALLS: usize = 16;

/// What came of the leases.
#[derive(Clone, Debug, Default)]
pub(super) struct Leased {
    /// How many there were, and for how long each lasts by itself.
    pub(super) leases: usize,
    /// As granted.
    pub(super) ttl: Duration,
    /// How long it took to grant them all and to put their keys.
    pub(super) granting: Duration,
    /// From a renewal's beginning to its answer, for answers that came in the window.
    pub(super) renewals: Histogram,
    /// Leases that an answer said to be gone.
    pub(super) lost: u64,
    /// Leases whose key was gone at the end.
    pub(super) keys_lost: u64,
    /// Renewals that were not answered within a TTL.
    pub(super) late: u64,
    /// What ended a stream of renewals, if anything did.
    pub(super) broken: Option<Failure>,
}

impl Leased {
    /// Whether every lease was kept.
    pub(super) const fn is_well(&self) -> bool {
        self.lost == 0 && self.keys_lost == 0 && self.late == 0 && self.broken.is_none()
    }
}

/// Leases that are kept alive.
pub(super) struct Leases {
    shared: Rc<Shared>,
    keepers: JoinSet<()>,
}

struct Shared {
    load: Load,
    ttl: Duration,
    leased: RefCell<Leased>,
    /// Leases by stream.
    held: RefCell<Vec<Vec<i64>>>,
    stopping: Cell<bool>,
}

impl Leases {
    /// Grants them all, puts their keys, and begins to keep them alive as soon as they are granted.
    ///
    /// # Errors
    /// When one is not granted.
    pub(super) async fn open(args: &BenchArgs, load: &Load) -> Result<Self, String> {
        let began = Instant::now();
        let streams = args.connections().min(args.leases);
        let ttl = Duration::from_secs(args.ttl.into());
        let shared = Rc::new(Shared {
            load: load.clone(),
            ttl,
            leased: RefCell::new(Leased { leases: args.leases, ttl, ..Leased::default() }),
            held: RefCell::new(vec![Vec::new(); streams]),
            stopping: Cell::new(false),
        });
        let mut granting = JoinSet::new();
        let mut keepers = JoinSet::new();
        for stream in 0..streams {
            let endpoint = load.endpoint(stream).clone();
            let connection = endpoint.connect().await.map_err(|failure| failure.to_string())?;
            for call in 0..CALLS {
                let names = (stream..args.leases).step_by(streams).skip(call).step_by(CALLS);
                let (connection, endpoint) = (connection.clone(), endpoint.clone());
                let (shared, patience) = (shared.clone(), args.timeout);
                granting.spawn_local(async move {
                    shared.grant(stream, names, connection, &endpoint, patience).await
                });
            }
            let shared = shared.clone();
            keepers.spawn_local(async move {
                let outcome = shared.keep(stream, connection, &endpoint).await;
                if let Err(failure) = outcome
                    && !shared.stopping.get()
                {
                    shared.leased.borrow_mut().broken.get_or_insert(failure);
                }
            });
        }
        while let Some(granted) = granting.join_next().await {
            granted
                .map_err(|error| error.to_string())?
                .map_err(|failure| format!("cannot grant all leases: {failure}"))?;
        }
        shared.leased.borrow_mut().granting = began.elapsed();
        Ok(Self { shared, keepers })
    }

    /// Looks for the leases' keys, ends and revokes them all, and says what came of them.
    pub(super) async fn finish(mut self, patience: Duration) -> Leased {
        let shared = self.shared.clone();
        let keys = timeout(patience, shared.keys()).await.unwrap_or(Err(Failure::TimedOut));
        shared.stopping.set(true);
        self.keepers.shutdown().await;
        let mut leased = shared.leased.take();
        match keys {
            Ok(keys) => leased.keys_lost = (leased.leases as u64).saturating_sub(keys),
            Err(failure) => {
                leased.broken.get_or_insert(failure);
            }
        }
        shared.revoke(patience).await;
        leased
    }
}

impl Shared {
    async fn grant(
        &self,
        stream: usize,
        names: impl Iterator<Item = usize>,
        mut connection: Connection,
        endpoint: &Endpoint,
        patience: Duration,
    ) -> Result<(), Failure> {
        for name in names {
            let ttl = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
            let request = LeaseGrantRequest { ttl, id: 0 };
            let answer = timeout(patience, connection.call(&endpoint.lease_grant, &request)).await;
            let answer = answer.unwrap_or(Err(Failure::TimedOut))?;
            let granted =
                LeaseGrantResponse::decode(answer).map_err(|_| Failure::Nonsense(UNREADABLE))?;
            if granted.id == 0 || granted.ttl < ttl {
                return Err(Failure::Nonsense("a lease was granted for less than was asked for"));
            }
            if let Some(held) = self.held.borrow_mut().get_mut(stream) {
                held.push(granted.id);
            }
            let key = format!("{KEYS}{name:09}").into();
            let put = PutRequest { key, lease: granted.id, ..PutRequest::default() };
            let put = timeout(patience, connection.call(&endpoint.put, &put)).await;
            put.unwrap_or(Err(Failure::TimedOut))?;
        }
        Ok(())
    }

    /// Renews the leases of one stream in turn, so that each has its turn once in a third of its TTL.
    async fn keep(
        &self,
        stream: usize,
        mut connection: Connection,
        endpoint: &Endpoint,
    ) -> Result<(), Failure> {
        let round = self.ttl / 3;
        let mut under_way = UnderWay::default();
        let first = loop {
            let first = self.held.borrow().get(stream).and_then(|held| held.first().copied());
            match first {
                Some(first) => break first,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        under_way.begin(first);
        let renewal = LeaseKeepAliveRequest { id: first };
        let method = &endpoint.lease_keep_alive;
        let (mut questions, mut answers) = connection.stream(method, &renewal).await?;
        let (mut next, mut turn) = (1, tokio::time::Instant::now());
        loop {
            tokio::select! {
                answer = answers.next::<LeaseKeepAliveResponse>() => match answer? {
                    Some(answer) => self.take(&mut under_way, &answer)?,
                    None => return Err(Failure::Nonsense("the server has ended a renewal stream")),
                },
                () = sleep_until(turn) => {
                    let held = self.held.borrow().get(stream).map_or(0, Vec::len).max(1);
                    if next >= held {
                        next = 0;
                    }
                    self.renew(stream, next, &mut questions, &mut under_way)?;
                    next += 1;
                    // A turn that came late is made up for, so that all have theirs in time.
                    turn += round / u32::try_from(held).unwrap_or(u32::MAX);
                }
            }
        }
    }

    fn renew(
        &self,
        stream: usize,
        place: usize,
        questions: &mut Questions,
        under_way: &mut UnderWay,
    ) -> Result<(), Failure> {
        let held = self.held.borrow();
        let Some(id) = held.get(stream).and_then(|held| held.get(place)).copied() else {
            return Ok(());
        };
        if under_way.oldest(id).is_some_and(|age| age > self.ttl) {
            // Nothing more is sent for a lease that the server does not answer for.
            self.leased.borrow_mut().late += 1;
            return Ok(());
        }
        under_way.begin(id);
        questions.send(&LeaseKeepAliveRequest { id })
    }

    fn take(
        &self,
        under_way: &mut UnderWay,
        answer: &LeaseKeepAliveResponse,
    ) -> Result<(), Failure> {
        let latency = under_way
            .end(answer.id)
            .ok_or(Failure::Nonsense("an answer to a renewal that nobody asked for"))?;
        let mut leased = self.leased.borrow_mut();
        if answer.ttl <= 0 {
            leased.lost += 1;
        }
        leased.late += u64::from(latency > self.ttl);
        if self.load.is_measuring() {
            leased.renewals.add(latency);
        }
        Ok(())
    }

    /// How many keys of leases there are.
    async fn keys(&self) -> Result<u64, Failure> {
        let endpoint = self.load.endpoint(0);
        let request = RangeRequest {
            key: KEYS.into(),
            range_end: KEYS_END.into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let answer = endpoint.connect().await?.call(&endpoint.range, &request).await?;
        let answer = RangeResponse::decode(answer).map_err(|_| Failure::Nonsense(UNREADABLE))?;
        Ok(answer.count.unsigned_abs())
    }

    /// Revokes all, as far as that can be done; those that are left end by themselves.
    async fn revoke(&self, patience: Duration) {
        let mut calls = JoinSet::new();
        for (stream, held) in self.held.take().into_iter().enumerate() {
            let endpoint = self.load.endpoint(stream).clone();
            let Ok(connection) = endpoint.connect().await else { continue };
            for part in held.chunks(held.len().div_ceil(CALLS).max(1)) {
                let (part, endpoint) = (part.to_vec(), endpoint.clone());
                let mut connection = connection.clone();
                calls.spawn_local(async move {
                    for id in part {
                        let request = LeaseRevokeRequest { id };
                        let call = connection.call(&endpoint.lease_revoke, &request);
                        if timeout(patience, call).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
        while calls.join_next().await.is_some() {}
    }
}

/// When renewals that have no answer yet began. A server answers those of one lease in the order in which they came.
#[derive(Debug, Default)]
struct UnderWay(BTreeMap<i64, VecDeque<Instant>>);

impl UnderWay {
    fn begin(&mut self, id: i64) {
        self.0.entry(id).or_default().push_back(Instant::now());
    }

    /// How long ago the oldest of a lease began.
    fn oldest(&self, id: i64) -> Option<Duration> {
        self.0.get(&id)?.front().map(Instant::elapsed)
    }

    fn end(&mut self, id: i64) -> Option<Duration> {
        self.0.get_mut(&id)?.pop_front().map(|began| began.elapsed())
    }
}
