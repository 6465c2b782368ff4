//! Clients that put, watchers of what they put, and holders of leases; and the judgement of what they saw.
//!
//! Every value is put once, so that an event can be told from every other. A watcher must see each acknowledged put of
//! its keys exactly once, at its revision, in the order of revisions, and nothing that nobody put.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use testudo_etcd::proto::etcdserverpb as pb;
use testudo_etcd::proto::etcdserverpb::kv_client::KvClient;
use testudo_etcd::proto::etcdserverpb::lease_client::LeaseClient;
use testudo_etcd::proto::etcdserverpb::watch_client::WatchClient;
use testudo_etcd::proto::mvccpb::event::EventType;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Clients that put.
const PUTTERS: u64 = 4;

/// Keys that they share.
const KEYS: u64 = 8;

/// Where their keys are.
const FOLDER: &str = "watched/";

/// After the last of them.
const FOLDER_END: &str = "watched0";

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a putter rests after each put, so that watchers and replicas get their share of the machine.
const REST: Duration = Duration::from_millis(10);

/// Events after which a watcher that comes and goes does so.
const RESUME: usize = 150;

/// What a watch is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    /// All keys, with the values that they had before.
    All,
    /// All keys; the stream is left now and then, and another goes on where it ended.
    ComesAndGoes,
    /// One key.
    One(u64),
}

/// An event, as a watcher was told it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    revision: i64,
    key: String,
    value: u64,
    before: Option<u64>,
}

#[derive(Debug)]
struct Watcher {
    scope: Scope,
    seen: Mutex<Vec<Seen>>,
    /// What was wrong with its stream.
    broken: Mutex<Option<String>>,
}

/// What all share.
struct Shared {
    channel: Channel,
    values: AtomicU64,
    /// Acknowledged puts, by revision.
    acknowledged: Mutex<BTreeMap<i64, (String, u64)>>,
    /// Values that were put, acknowledged or not.
    attempted: Mutex<BTreeSet<u64>>,
    are_resting: AtomicBool,
    watchers: Mutex<Vec<Arc<Watcher>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Clients, watchers and holders of leases of one cluster.
pub(crate) struct Audience {
    runtime: Runtime,
    shared: Arc<Shared>,
    putters: Vec<tokio::task::JoinHandle<()>>,
}

impl Audience {
    /// Opens watches on the etcd endpoint, which serves an empty store, and begins to put once all are confirmed.
    pub(crate) fn gather(etcd: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("an event loop");
        let endpoint = Endpoint::from_shared(format!("http://{etcd}")).expect("an address");
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        let shared = Arc::new(Shared {
            channel,
            values: AtomicU64::new(0),
            acknowledged: Mutex::default(),
            attempted: Mutex::default(),
            are_resting: AtomicBool::new(false),
            watchers: Mutex::default(),
        });
        let mut audience = Self { runtime, shared, putters: Vec::new() };
        audience.watch(Scope::All, 0);
        audience.watch(Scope::ComesAndGoes, 0);
        for key in 0..KEYS {
            audience.watch(Scope::One(key), 0);
        }
        audience.putters = (0..PUTTERS)
            .map(|number| {
                let shared = audience.shared.clone();
                audience.runtime.spawn(async move { shared.put_on(number).await })
            })
            .collect();
        audience
    }

    /// Opens a watch from a revision on (0 for from now on), and waits until it is confirmed.
    fn watch(&self, scope: Scope, from: i64) {
        let watcher = Arc::new(Watcher { scope, seen: Mutex::default(), broken: Mutex::default() });
        lock(&self.shared.watchers).push(watcher.clone());
        let (shared, (tell, confirmed)) = (self.shared.clone(), std::sync::mpsc::channel());
        self.runtime.spawn(async move {
            if let Err(how) = watcher.follow(&shared, from, &tell).await {
                lock(&watcher.broken).get_or_insert(how);
            }
        });
        confirmed.recv_timeout(PATIENCE).expect("a watch is confirmed");
    }

    /// Puts that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        lock(&self.shared.acknowledged).len()
    }

    /// Waits until so many more puts are acknowledged: the cluster answers.
    pub(crate) fn goes_on(&self, more: usize) {
        let goal = self.acknowledged() + more;
        super::eventually("puts are acknowledged", || (self.acknowledged() >= goal).then_some(()));
    }

    /// Runs something of a client's on the audience's event loop.
    pub(crate) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// A connection.
    pub(crate) fn channel(&self) -> Channel {
        self.shared.channel.clone()
    }

    /// Ends the puts. Watches go on.
    pub(crate) fn rest(&mut self) {
        self.shared.are_resting.store(true, Ordering::SeqCst);
        for putter in std::mem::take(&mut self.putters) {
            self.runtime.block_on(putter).expect("a putter does not panic");
        }
    }

    /// Ends the puts, opens one more watch on all that there ever was, waits until every watcher has seen the last put,
    /// and judges what they saw.
    pub(crate) fn judge(mut self) {
        self.rest();
        self.watch(Scope::All, 1);
        let acknowledged = lock(&self.shared.acknowledged).clone();
        let watchers = lock(&self.shared.watchers).clone();
        for watcher in &watchers {
            let last = acknowledged.iter().rev().find(|(_, (key, _))| watcher.scope.has(key));
            let last = last.map_or(0, |(revision, _)| *revision);
            super::eventually("a watcher sees the last put", || {
                let broken = lock(&watcher.broken).clone();
                assert_eq!(broken, None, "the watch of {:?} broke", watcher.scope);
                let seen = lock(&watcher.seen).last().map_or(0, |seen| seen.revision);
                (seen >= last).then_some(())
            });
            watcher.judge(&acknowledged, &lock(&self.shared.attempted));
        }
        self.runtime.shutdown_background();
    }
}

impl Shared {
    async fn put_on(&self, number: u64) {
        let mut kv = KvClient::new(self.channel.clone());
        let mut turn = number;
        while !self.are_resting.load(Ordering::SeqCst) {
            turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(number | 1);
            let key = key((turn >> 33) % KEYS);
            let value = self.values.fetch_add(1, Ordering::SeqCst) + 1;
            lock(&self.attempted).insert(value);
            let put = kv.put(put(&key, value.to_string(), 0));
            match tokio::time::timeout(PATIENCE, put).await {
                Ok(Ok(answer)) => {
                    let revision = answer.into_inner().header.expect("a header").revision;
                    let before = lock(&self.acknowledged).insert(revision, (key, value));
                    assert_eq!(before, None, "revision {revision} was given to two puts");
                    tokio::time::sleep(REST).await;
                }
                // Whether it was done is not known; an event may come of it or not.
                Ok(Err(_)) | Err(_) => tokio::time::sleep(5 * REST).await,
            }
        }
    }
}

fn key(number: u64) -> String {
    format!("{FOLDER}{number}")
}

/// A put of a key, on a lease if it is not zero.
pub(crate) fn put(key: &str, value: String, lease: i64) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.into(), lease, ..Default::default() }
}

impl Scope {
    fn has(self, name: &str) -> bool {
        match self {
            Self::All | Self::ComesAndGoes => name.starts_with(FOLDER),
            Self::One(number) => name == key(number),
        }
    }

    fn creation(self, start_revision: i64) -> pb::WatchRequest {
        use pb::watch_request::RequestUnion;
        let (key, range_end) = match self {
            Self::All | Self::ComesAndGoes => (FOLDER.to_owned(), FOLDER_END.to_owned()),
            Self::One(number) => (key(number), String::new()),
        };
        let creation = pb::WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision,
            prev_kv: self == Self::All,
            ..Default::default()
        };
        pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(creation)) }
    }
}

/// A watch stream with one watch on it.
pub(crate) async fn open(
    channel: Channel,
    creation: pb::WatchRequest,
) -> Result<(mpsc::UnboundedSender<pb::WatchRequest>, tonic::Streaming<pb::WatchResponse>), String>
{
    let (ask, asked) = mpsc::unbounded_channel();
    ask.send(creation).expect("its other end is here");
    let stream = WatchClient::new(channel).watch(UnboundedReceiverStream::new(asked)).await;
    Ok((ask, stream.map_err(|status| format!("it cannot be opened: {status}"))?.into_inner()))
}

impl Watcher {
    /// Takes in events until the stream ends, which it must not.
    async fn follow(
        &self,
        shared: &Shared,
        mut from: i64,
        confirmed: &std::sync::mpsc::Sender<()>,
    ) -> Result<(), String> {
        loop {
            let creation = self.scope.creation(from);
            let (ask, mut answers) = open(shared.channel.clone(), creation).await?;
            let mut here = 0;
            while self.scope != Scope::ComesAndGoes || here < RESUME {
                let answer = answers.message().await.map_err(|status| status.to_string())?;
                let answer = answer.ok_or("the server has ended the stream")?;
                if answer.canceled {
                    return Err(format!("it was cancelled: {}", answer.cancel_reason));
                }
                if answer.created {
                    let revision = answer.header.as_ref().expect("a header").revision;
                    from = if from == 0 { revision + 1 } else { from };
                    // The first confirmation is waited for, and no other.
                    let _ = confirmed.send(());
                }
                here += answer.events.len();
                from = self.take(&answer)?.max(from);
            }
            drop(ask);
        }
    }

    /// Takes in an answer's events, and gives the revision to go on from.
    fn take(&self, answer: &pb::WatchResponse) -> Result<i64, String> {
        let mut next = 0;
        for event in &answer.events {
            let kv = event.kv.as_ref().ok_or("an event without a key")?;
            if event.r#type != i32::from(EventType::Put) {
                return Err(format!("a deletion that nobody asked for: {kv:?}"));
            }
            let number = |bytes: &[u8]| -> Option<u64> {
                std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok())
            };
            let seen = Seen {
                revision: kv.mod_revision,
                key: String::from_utf8_lossy(&kv.key).into_owned(),
                value: number(&kv.value).ok_or_else(|| format!("nobody put this: {kv:?}"))?,
                before: event.prev_kv.as_ref().and_then(|kv| number(&kv.value)),
            };
            next = kv.mod_revision + 1;
            lock(&self.seen).push(seen);
        }
        Ok(next)
    }

    fn judge(&self, acknowledged: &BTreeMap<i64, (String, u64)>, attempted: &BTreeSet<u64>) {
        let scope = self.scope;
        let seen = lock(&self.seen);
        let mut values = BTreeSet::new();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for pair in seen.windows(2) {
            assert!(
                pair[0].revision < pair[1].revision,
                "{scope:?} saw these in this order: {pair:?}"
            );
        }
        for event in seen.iter() {
            assert!(scope.has(&event.key), "{scope:?} was told of another key: {event:?}");
            assert!(attempted.contains(&event.value), "nobody put this: {event:?}");
            assert!(values.insert(event.value), "{scope:?} saw this value before: {event:?}");
            let before = last.insert(&event.key, event.value);
            if scope == Scope::All && before.is_some() {
                assert_eq!(event.before, before, "the value before is another: {event:?}");
            }
        }
        let told: BTreeMap<i64, &Seen> = seen.iter().map(|event| (event.revision, event)).collect();
        for (revision, (key, value)) in acknowledged {
            if scope.has(key) {
                let event = told.get(revision);
                let event = event.unwrap_or_else(|| panic!("{scope:?} missed {revision}: {key}"));
                assert_eq!((&event.key, event.value), (key, *value), "at revision {revision}");
            }
        }
    }
}

/// What a watcher of all keys is judged to have seen, when three puts were acknowledged and one more was tried: nothing
/// if it is right, or what is wrong.
pub(crate) fn judged(seen: &[(i64, &str, u64, Option<u64>)]) -> Option<String> {
    let seen = seen.iter().map(|(revision, key, value, before)| Seen {
        revision: *revision,
        key: format!("{FOLDER}{key}"),
        value: *value,
        before: *before,
    });
    let seen = Mutex::new(seen.collect());
    let watcher = Watcher { scope: Scope::All, seen, broken: Mutex::default() };
    let acknowledged = [(2, ("a", 10)), (3, ("b", 11)), (5, ("a", 13))];
    let acknowledged = acknowledged
        .into_iter()
        .map(|(revision, (key, value))| (revision, (format!("{FOLDER}{key}"), value)))
        .collect();
    let attempted = BTreeSet::from([10, 11, 12, 13]);
    let verdict = std::panic::catch_unwind(move || watcher.judge(&acknowledged, &attempted));
    verdict.err().map(|how| how.downcast_ref::<String>().cloned().unwrap_or_default())
}

/// A lease with a key on it.
pub(crate) struct Lease {
    pub(crate) id: i64,
    pub(crate) key: String,
    pub(crate) ttl: Duration,
    /// Before it was asked for.
    pub(crate) since: Instant,
    /// When the deletion of its key was told to a watch that began before the lease did.
    ended: std::sync::mpsc::Receiver<Instant>,
}

impl Audience {
    /// Begins to watch a key, grants a lease and puts the key on it.
    pub(crate) fn grant(&self, name: &str, ttl: u64) -> Lease {
        let key = format!("leased/{name}");
        let ended = self.watch_end(&key);
        let mut leases = LeaseClient::new(self.channel());
        let mut kv = KvClient::new(self.channel());
        self.run(async {
            let since = Instant::now();
            let request = pb::LeaseGrantRequest { ttl: ttl as i64, id: 0 };
            let granted = leases.lease_grant(request).await.expect("a lease").into_inner();
            assert_eq!(granted.ttl, ttl as i64);
            kv.put(put(&key, "held".to_owned(), granted.id)).await.expect("its key is put");
            Lease { id: granted.id, key, ttl: Duration::from_secs(ttl), since, ended }
        })
    }

    /// Watches a key from now on, and says when its deletion came.
    fn watch_end(&self, key: &str) -> std::sync::mpsc::Receiver<Instant> {
        use pb::watch_request::RequestUnion;
        let creation = pb::WatchCreateRequest { key: key.to_owned().into(), ..Default::default() };
        let creation =
            pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(creation)) };
        let (tell, ended) = std::sync::mpsc::channel();
        let channel = self.channel();
        let (ask, mut answers) = self.run(async {
            let (ask, mut answers) = open(channel, creation).await.expect("a watch");
            let answer = answers.message().await.expect("no error").expect("no end");
            assert!(answer.created && !answer.canceled, "{answer:?}");
            (ask, answers)
        });
        self.runtime.spawn(async move {
            let is_deletion = |event: &testudo_etcd::proto::mvccpb::Event| {
                event.r#type == i32::from(EventType::Delete)
            };
            // A watch that breaks tells nothing, which whoever waits for it finds out.
            while let Ok(Some(answer)) = answers.message().await {
                if answer.events.iter().any(is_deletion) {
                    let _ = tell.send(Instant::now());
                    break;
                }
            }
            drop(ask);
        });
        ended
    }

    /// Keeps a lease alive from now on, as clients do: every third of its TTL, on another stream when one has ended.
    /// The number that is given counts the renewals that say that it lives; one that says otherwise panics.
    pub(crate) fn keep(&self, lease: &Lease) -> Arc<AtomicU64> {
        let renewals = Arc::new(AtomicU64::new(0));
        let (id, pause, count) = (lease.id, lease.ttl / 3, renewals.clone());
        let channel = self.channel();
        self.runtime.spawn(async move {
            loop {
                // A stream that cannot be opened or breaks is opened again.
                let _ = keep_alive(channel.clone(), id, pause, &count).await;
                tokio::time::sleep(REST).await;
            }
        });
        renewals
    }

    /// What is left of a lease's TTL in seconds; -1 when it is gone.
    pub(crate) fn left(&self, lease: &Lease) -> i64 {
        let mut leases = LeaseClient::new(self.channel());
        let request = pb::LeaseTimeToLiveRequest { id: lease.id, keys: false };
        let told = self.run(async { leases.lease_time_to_live(request).await });
        told.expect("it is answered").into_inner().ttl
    }

    /// Whether a lease's key is there.
    pub(crate) fn has_key(&self, lease: &Lease) -> bool {
        let mut kv = KvClient::new(self.channel());
        let request = pb::RangeRequest { key: lease.key.clone().into(), ..Default::default() };
        let told = self.run(async { kv.range(request).await });
        told.expect("it is answered").into_inner().count == 1
    }

    /// Waits until a watch was told that a lease's key is deleted, and says how long after the grant was asked for it
    /// was told.
    pub(crate) fn deletion(&self, lease: &Lease) -> Duration {
        let ended = lease.ended.recv_timeout(super::EVENTUALLY).expect("the lease expires");
        ended.saturating_duration_since(lease.since)
    }
}

async fn keep_alive(
    channel: Channel,
    id: i64,
    pause: Duration,
    renewals: &AtomicU64,
) -> Result<(), tonic::Status> {
    let (ask, asked) = mpsc::unbounded_channel();
    let mut leases = LeaseClient::new(channel);
    let stream = leases.lease_keep_alive(UnboundedReceiverStream::new(asked));
    // The answer begins when the first question is there.
    let _ = ask.send(pb::LeaseKeepAliveRequest { id });
    let mut answers = stream.await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if answer.ttl > 0 {
            renewals.fetch_add(1, Ordering::SeqCst);
        } else {
            renewals.store(LOST, Ordering::SeqCst);
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        let _ = ask.send(pb::LeaseKeepAliveRequest { id });
    }
    Ok(())
}

/// The count of renewals of a lease that a renewal has said to be gone.
pub(crate) const LOST: u64 = u64::MAX / 2;
