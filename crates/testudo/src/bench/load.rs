//! Workers that each have one operation under way: the next begins when one has ended, or when its time has come.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use testudo_etcd::proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use testudo_etcd::proto::etcdserverpb::request_op::Request;
use testudo_etcd::proto::etcdserverpb::response_op::Response;
use testudo_etcd::proto::etcdserverpb::{
    Compare, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest,
    TxnResponse,
};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use super::args::{BenchArgs, Workload};
use super::client::{Connection, Endpoint, Failure, UNREADABLE};
use super::histogram::Histogram;
use super::stamp::Stamps;

/// Random bytes that values are cut from. More than a value's size, so that few are alike.
const NOISE: usize = 1 << 20;
/// How long a worker waits before it tries again to connect.
const RECONNECT: Duration = Duration::from_millis(50);

/// What a window came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    /// How long it was.
    pub(super) window: Duration,
    /// Of the operations that ended well in it.
    pub(super) latencies: Histogram,
    /// Of those, the swaps that found their key changed.
    pub(super) lost_swaps: u64,
    /// Of those that did not, by what was wrong.
    pub(super) failures: BTreeMap<Failure, u64>,
    /// The one of them that came first.
    pub(super) first_failure: Option<Failure>,
}

/// Connections, keys and what is measured; clones share it.
#[derive(Clone)]
pub(super) struct Load {
    shared: Rc<Shared>,
    workers: Rc<RefCell<JoinSet<()>>>,
}

struct Shared {
    workload: Workload,
    timeout: Duration,
    outstanding: usize,
    /// How long to warm up and to measure, or how many operations to measure.
    warm_up: Duration,
    duration: Duration,
    operations: Option<u64>,
    /// Whether keys need not be set before operations begin.
    is_preloaded: bool,
    value_size: usize,
    seed: u64,
    keys: Vec<Bytes>,
    noise: Bytes,
    endpoints: Vec<Endpoint>,
    lines: Vec<Line>,
    /// Values of a workload whose values are checked.
    stamps: Stamps,
    /// For a workload that is paced, the time from one operation's beginning to the next.
    pace: Option<Duration>,
    /// When the next operation may begin.
    turn: Cell<Option<tokio::time::Instant>>,
    /// How many stamped values were made.
    numbers: Cell<u64>,
    /// The revision at which each key was seen last.
    revisions: RefCell<Vec<i64>>,
    measured: RefCell<Measured>,
    measuring: Cell<bool>,
    stopping: Cell<bool>,
    /// Told when as many operations have ended as are to be measured.
    enough: Notify,
}

/// A place for a connection, which is opened again when it breaks.
struct Line {
    current: Mutex<(u64, usize, Connection)>,
}

impl Load {
    /// Opens all connections.
    ///
    /// # Errors
    /// When an endpoint is not one, or cannot be reached.
    pub(super) async fn connect(args: &BenchArgs) -> Result<Self, String> {
        let parsed: Result<Vec<_>, _> =
            args.endpoints.iter().map(|text| Endpoint::parse(text)).collect();
        let endpoints = parsed?;
        let mut lines = Vec::new();
        for index in 0..args.connections() {
            let at = index % endpoints.len().max(1);
            let endpoint = endpoints.get(at).ok_or("there is no endpoint")?;
            let connection = endpoint.connect().await.map_err(|failure| failure.to_string())?;
            lines.push(Line { current: Mutex::new((0, at, connection)) });
        }
        let mut random = Random::new(args.seed);
        let length = NOISE.max(2 * args.value_size);
        let noise: Vec<u8> =
            (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
        let noise = Bytes::from(noise);
        let keys = (0..args.keys).map(name).collect();
        let shared = Shared {
            workload: args.workload,
            timeout: args.timeout,
            outstanding: args.outstanding,
            warm_up: args.warmup,
            duration: args.duration,
            operations: args.operations,
            is_preloaded: args.preloaded
                || matches!(args.workload, Workload::Put | Workload::Lease),
            value_size: args.value_size,
            seed: args.seed,
            keys,
            stamps: Stamps::new(noise.clone(), args.value_size),
            pace: args.workload.is_paced().then(|| Duration::from_secs(1) / args.rate),
            turn: Cell::new(None),
            numbers: Cell::new(0),
            noise,
            endpoints,
            lines,
            revisions: RefCell::new(vec![0; args.keys]),
            measured: RefCell::default(),
            measuring: Cell::new(false),
            stopping: Cell::new(false),
            enough: Notify::new(),
        };
        Ok(Self { shared: Rc::new(shared), workers: Rc::default() })
    }

    /// The endpoint that the connection of this number goes to.
    pub(super) fn endpoint(&self, connection: usize) -> &Endpoint {
        &self.shared.endpoints[connection % self.shared.endpoints.len()]
    }

    /// The name of a key.
    pub(super) fn key(&self, key: usize) -> Bytes {
        self.shared.keys[key].clone()
    }

    /// What comes after the last of the keys.
    pub(super) fn end_of_keys(&self) -> Bytes {
        name(self.shared.keys.len())
    }

    /// The highest revision that the answer to a put of this key has told.
    pub(super) fn last_revision(&self, key: usize) -> i64 {
        self.shared.revisions.borrow()[key]
    }

    /// How values are checked.
    pub(super) fn stamps(&self) -> &Stamps {
        &self.shared.stamps
    }

    /// Whether the window is open.
    pub(super) fn is_measuring(&self) -> bool {
        self.shared.measuring.get()
    }

    /// Sets every key once, if the workload needs it and nobody has done it.
    ///
    /// # Errors
    /// The first failure.
    pub(super) async fn preload(&self) -> Result<(), String> {
        if self.shared.is_preloaded {
            return Ok(());
        }
        let next = Rc::new(Cell::new(0));
        let mut loaders = JoinSet::new();
        for index in 0..self.shared.outstanding.clamp(64, 1024) {
            let (shared, next) = (self.shared.clone(), next.clone());
            loaders.spawn_local(async move {
                let mut worker = Worker::new(shared, index).await;
                loop {
                    let key = next.replace(next.get() + 1);
                    if key >= worker.shared.keys.len() {
                        return Ok(());
                    }
                    let attempt = timeout(worker.shared.timeout, worker.put(key)).await;
                    attempt.unwrap_or(Err(Failure::TimedOut))?;
                }
            });
        }
        while let Some(loaded) = loaders.join_next().await {
            loaded
                .map_err(|error| error.to_string())?
                .map_err(|failure: Failure| format!("cannot set the keys to be read: {failure}"))?;
        }
        Ok(())
    }

    /// Starts the workers and lets them run unmeasured.
    pub(super) async fn warm_up(&self) {
        for index in 0..self.shared.outstanding {
            let shared = self.shared.clone();
            let work = async move { Worker::new(shared, index).await.work().await };
            self.workers.borrow_mut().spawn_local(work);
        }
        sleep(self.shared.warm_up).await;
    }

    /// Measures, and tells the workers to stop.
    pub(super) async fn measure(&self) -> Measured {
        let shared = &self.shared;
        let start = Instant::now();
        shared.measuring.set(true);
        if shared.operations.is_some() {
            shared.enough.notified().await;
        } else {
            sleep(shared.duration).await;
        }
        shared.measuring.set(false);
        shared.stopping.set(true);
        let mut measured = shared.measured.take();
        measured.window = start.elapsed();
        measured
    }

    /// Waits until nothing is under way.
    pub(super) async fn drain(&self) {
        let mut workers = self.workers.take();
        while workers.join_next().await.is_some() {}
    }
}

impl Shared {
    /// When the next operation begins, if operations are paced. Turns that nobody was free for are made up for.
    fn take_turn(&self) -> Option<tokio::time::Instant> {
        let pace = self.pace?;
        let turn = self.turn.get().unwrap_or_else(tokio::time::Instant::now);
        self.turn.set(Some(turn + pace));
        Some(turn)
    }

    /// Counts how an operation ended, if this is the time to count.
    fn count(&self, latency: Duration, outcome: Result<Outcome, Failure>) {
        if !self.measuring.get() {
            return;
        }
        let mut measured = self.measured.borrow_mut();
        match outcome {
            Ok(outcome) => {
                measured.latencies.add(latency);
                measured.lost_swaps += u64::from(outcome == Outcome::LostSwap);
            }
            Err(failure) => {
                if measured.first_failure.is_none() {
                    measured.first_failure = Some(failure.clone());
                }
                *measured.failures.entry(failure).or_default() += 1;
            }
        }
        let ended = measured.latencies.total() + measured.failures.values().sum::<u64>();
        if self.operations.is_some_and(|operations| ended >= operations) {
            self.measuring.set(false);
            self.enough.notify_one();
        }
    }
}

fn name(key: usize) -> Bytes {
    format!("bench/{key:09}").into()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Done,
    LostSwap,
}

/// One operation at a time.
struct Worker {
    shared: Rc<Shared>,
    line: usize,
    generation: u64,
    endpoint: usize,
    connection: Connection,
    random: Random,
}

impl Worker {
    async fn new(shared: Rc<Shared>, index: usize) -> Self {
        let line = index % shared.lines.len();
        let (generation, endpoint, connection) = shared.lines[line].current.lock().await.clone();
        let random =
            Random::new(shared.seed ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { shared, line, generation, endpoint, connection, random }
    }

    async fn work(&mut self) {
        while !self.shared.stopping.get() {
            if let Some(turn) = self.shared.take_turn() {
                sleep_until(turn).await;
            }
            let start = Instant::now();
            let attempt = timeout(self.shared.timeout, self.operate()).await;
            let outcome = attempt.unwrap_or(Err(Failure::TimedOut));
            let is_broken = matches!(outcome, Err(Failure::Connection(_)));
            self.shared.count(start.elapsed(), outcome);
            if is_broken {
                self.reconnect().await;
            }
        }
    }

    async fn operate(&mut self) -> Result<Outcome, Failure> {
        let key = self.random.below(self.shared.keys.len());
        match self.shared.workload {
            Workload::Put | Workload::Lease => self.put(key).await,
            Workload::Watch => self.put_stamped(key).await,
            Workload::Get => self.get(key, false).await,
            Workload::GetSerializable => self.get(key, true).await,
            Workload::Txn => self.swap(key).await,
            Workload::Mixed if self.random.below(2) == 0 => self.put(key).await,
            Workload::Mixed => self.get(key, false).await,
        }
    }

    async fn put(&mut self, key: usize) -> Result<Outcome, Failure> {
        let request = self.put_request(key);
        let method = &self.shared.endpoints[self.endpoint].put;
        self.connection.call(method, &request).await?;
        Ok(Outcome::Done)
    }

    /// Puts a value that is known again, and remembers at which revision.
    async fn put_stamped(&mut self, key: usize) -> Result<Outcome, Failure> {
        let shared = self.shared.clone();
        let number = shared.numbers.replace(shared.numbers.get() + 1);
        let value = shared.stamps.value(number);
        let request = PutRequest { key: shared.keys[key].clone(), value, ..PutRequest::default() };
        let method = &shared.endpoints[self.endpoint].put;
        let answer = self.connection.call(method, &request).await?;
        let answer = PutResponse::decode(answer).map_err(|_| Failure::Nonsense(UNREADABLE))?;
        let header = answer.header.ok_or(Failure::Nonsense("the answer names no revision"))?;
        let known = &mut shared.revisions.borrow_mut()[key];
        *known = header.revision.max(*known);
        Ok(Outcome::Done)
    }

    async fn get(&mut self, key: usize, serializable: bool) -> Result<Outcome, Failure> {
        let request = RangeRequest { serializable, ..self.range_request(key) };
        let method = &self.shared.endpoints[self.endpoint].range;
        let answer = self.connection.call(method, &request).await?;
        match RangeResponse::decode(answer) {
            Ok(range) if range.kvs.len() == 1 => Ok(Outcome::Done),
            Ok(_) => Err(Failure::Nonsense("a key that was set is not there")),
            Err(_) => Err(Failure::Nonsense(UNREADABLE)),
        }
    }

    /// Puts if the key is as it was seen last; otherwise looks at it.
    async fn swap(&mut self, key: usize) -> Result<Outcome, Failure> {
        let seen = self.shared.revisions.borrow()[key];
        let operation = |request| vec![RequestOp { request: Some(request) }];
        let request = TxnRequest {
            compare: vec![Compare {
                target: CompareTarget::Mod.into(),
                key: self.shared.keys[key].clone(),
                target_union: Some(TargetUnion::ModRevision(seen)),
                ..Compare::default()
            }],
            success: operation(Request::RequestPut(self.put_request(key))),
            failure: operation(Request::RequestRange(self.range_request(key))),
        };
        let method = &self.shared.endpoints[self.endpoint].txn;
        let answer = self.connection.call(method, &request).await?;
        let Ok(answer) = TxnResponse::decode(answer) else {
            return Err(Failure::Nonsense(UNREADABLE));
        };
        let now = if answer.succeeded {
            answer.header.map(|header| header.revision)
        } else {
            match answer.responses.into_iter().next().and_then(|op| op.response) {
                Some(Response::ResponseRange(range)) => range.kvs.first().map(|kv| kv.mod_revision),
                _ => None,
            }
        };
        let now = now.ok_or(Failure::Nonsense("the answer does not say what became of the key"))?;
        let known = &mut self.shared.revisions.borrow_mut()[key];
        *known = now.max(*known);
        Ok(if answer.succeeded { Outcome::Done } else { Outcome::LostSwap })
    }

    fn put_request(&mut self, key: usize) -> PutRequest {
        let size = self.shared.value_size;
        let start = self.random.below(self.shared.noise.len() - size);
        let value = self.shared.noise.slice(start..start + size);
        PutRequest { key: self.shared.keys[key].clone(), value, ..PutRequest::default() }
    }

    fn range_request(&self, key: usize) -> RangeRequest {
        RangeRequest { key: self.shared.keys[key].clone(), ..RangeRequest::default() }
    }

    /// Gets another connection for the one that broke: the one that somebody else has opened
    /// since, or one to the next endpoint.
    async fn reconnect(&mut self) {
        let shared = self.shared.clone();
        let mut current = shared.lines[self.line].current.lock().await;
        while current.0 == self.generation && !shared.stopping.get() {
            let next = (current.1 + 1) % shared.endpoints.len();
            let attempt = timeout(shared.timeout, shared.endpoints[next].connect()).await;
            match attempt.unwrap_or(Err(Failure::TimedOut)) {
                Ok(connection) => *current = (current.0 + 1, next, connection),
                Err(failure) => {
                    current.1 = next;
                    shared.count(Duration::ZERO, Err(failure));
                    sleep(RECONNECT).await;
                }
            }
        }
        (self.generation, self.endpoint, self.connection) = current.clone();
    }
}

/// The same numbers for the same seed (xorshift64*).
struct Random(u64);

impl Random {
    const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from zero up to, not including, a bound that is not zero.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}
