//! Watchers: those that are judged, and idle ones that must only be there.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use prost::Message as _;
use testudo_etcd::proto::etcdserverpb::watch_request::RequestUnion;
use testudo_etcd::proto::etcdserverpb::{
    RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::args::BenchArgs;
use super::client::{Answers, Connection, Endpoint, Failure, Questions, UNREADABLE};
use super::histogram::Histogram;
use super::judge::{Seen, Tally};
use super::load::Load;

/// Creations that may be sent on one stream before the first of them is confirmed.
const CREATIONS: usize = 256;

/// What came of watching.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    /// How many watchers there were, on how many keys.
    pub(super) watchers: usize,
    /// How long it took until all were confirmed.
    pub(super) opening: Duration,
    /// From the beginning of a put to the arrival of its event, for events that arrived in the window.
    pub(super) delivery: Histogram,
    /// How all events came, in the window or not.
    pub(super) tally: Tally,
    /// Watchers that had not seen the last acknowledged put of their key in the end.
    pub(super) unfinished: usize,
    /// What ended a stream or a watch, if anything did.
    pub(super) broken: Option<Failure>,
}

impl Watched {
    /// Whether every watcher got what it had to get.
    pub(super) const fn is_well(&self) -> bool {
        self.tally.is_clean() && self.unfinished == 0 && self.broken.is_none()
    }
}

/// Watchers of the keys that a load puts.
pub(super) struct Watchers {
    shared: Rc<Shared>,
    readers: JoinSet<()>,
}

struct Shared {
    load: Load,
    watched: RefCell<Watched>,
    /// Watchers by stream, in the order in which they were created there.
    seen: RefCell<Vec<Vec<Seen>>>,
    confirmed: Cell<usize>,
    /// Told after each answer.
    progress: Notify,
}

impl Watchers {
    /// Opens them all, as one stream on each of as many connections as operations have, and waits until each is
    /// confirmed. Keys are set already, and nobody puts yet.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(super) async fn open(args: &BenchArgs, load: &Load) -> Result<Self, String> {
        let began = Instant::now();
        let states = states_of_keys(args, load).await?;
        let streams = args.connections().min(args.watchers);
        let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); streams];
        for index in 0..args.watchers {
            let key = index % args.keys;
            let (version, revision) = states.get(key).copied().unwrap_or_default();
            if let Some(stream) = seen.get_mut(index % streams) {
                stream.push(Seen::new(key, version, revision));
            }
        }
        let names: Vec<Vec<_>> = seen
            .iter()
            .map(|stream| stream.iter().map(|seen| load.key(seen.key)).collect())
            .collect();
        let shared = Rc::new(Shared {
            load: load.clone(),
            watched: RefCell::new(Watched { watchers: args.watchers, ..Watched::default() }),
            seen: RefCell::new(seen),
            confirmed: Cell::new(0),
            progress: Notify::new(),
        });
        let mut readers = JoinSet::new();
        for (stream, names) in names.into_iter().enumerate() {
            let endpoint = load.endpoint(stream).clone();
            let shared = shared.clone();
            readers.spawn_local(async move {
                let outcome = shared.follow(stream, &endpoint, &names).await;
                if let Err(failure) = outcome {
                    shared.watched.borrow_mut().broken.get_or_insert(failure);
                    shared.progress.notify_one();
                }
            });
        }
        let watchers = Self { shared, readers };
        watchers.confirmed(args).await?;
        watchers.shared.watched.borrow_mut().opening = began.elapsed();
        Ok(watchers)
    }

    async fn confirmed(&self, args: &BenchArgs) -> Result<(), String> {
        let all = async {
            while self.shared.confirmed.get() < args.watchers {
                if let Some(failure) = &self.shared.watched.borrow().broken {
                    return Err(format!("cannot open all watches: {failure}"));
                }
                self.shared.progress.notified().await;
            }
            Ok(())
        };
        // It takes as long as it takes, as long as one more is confirmed in the time of an operation.
        let mut all = std::pin::pin!(all);
        loop {
            let before = self.shared.confirmed.get();
            match timeout(args.timeout, &mut all).await {
                Ok(outcome) => return outcome,
                Err(_) if self.shared.confirmed.get() > before => {}
                Err(_) => return Err(format!("only {before} watches are confirmed, and no more")),
            }
        }
    }

    /// Waits until every watcher has seen the last acknowledged put of its key, but only as long as any goes on, and
    /// says what came of it all. Nobody puts any more.
    pub(super) async fn finish(mut self, patience: Duration) -> Watched {
        loop {
            let unfinished = self.shared.unfinished();
            if unfinished == 0 || timeout(patience, self.shared.progress.notified()).await.is_err()
            {
                break;
            }
        }
        self.readers.shutdown().await;
        let unfinished = self.shared.unfinished();
        Watched { unfinished, ..self.shared.watched.take() }
    }
}

impl Shared {
    /// One stream: creates its watches and takes in what comes, until it breaks.
    async fn follow(
        &self,
        stream: usize,
        endpoint: &Endpoint,
        names: &[bytes::Bytes],
    ) -> Result<(), Failure> {
        let mut connection = endpoint.connect().await?;
        let mut creations = names.iter().map(creation);
        let Some(first) = creations.next() else { return Ok(()) };
        let (mut questions, mut answers) = connection.stream(&endpoint.watch, &first).await?;
        for creation in creations.by_ref().take(CREATIONS) {
            questions.send(&creation)?;
        }
        let mut confirmed = 0;
        let mut numbers = std::collections::BTreeMap::new();
        while let Some(answer) = answers.next::<WatchResponse>().await? {
            refuse_end(&answer)?;
            if answer.created {
                numbers.insert(answer.watch_id, confirmed);
                confirmed += 1;
                self.confirmed.set(self.confirmed.get() + 1);
                if let Some(creation) = creations.next() {
                    questions.send(&creation)?;
                }
            }
            let place = numbers.get(&answer.watch_id).copied();
            let place = place.ok_or(Failure::Nonsense("an event of a watch that nobody opened"))?;
            self.take(stream, place, names, &answer);
            self.progress.notify_one();
        }
        Err(Failure::Nonsense("the server has ended a watch stream"))
    }

    fn take(&self, stream: usize, place: usize, names: &[bytes::Bytes], answer: &WatchResponse) {
        let mut seen = self.seen.borrow_mut();
        let Some(seen) = seen.get_mut(stream).and_then(|stream| stream.get_mut(place)) else {
            return;
        };
        let name = names.get(place).map_or(&b""[..], |name| name);
        let stamps = self.load.stamps();
        let mut watched = self.watched.borrow_mut();
        for event in &answer.events {
            let tally = seen.take(name, event, stamps);
            watched.tally += tally;
            if tally.events > 0
                && self.load.is_measuring()
                && let Some(age) = event.kv.as_ref().and_then(|kv| stamps.age(&kv.value))
            {
                watched.delivery.add(age);
            }
        }
    }

    fn unfinished(&self) -> usize {
        let seen = self.seen.borrow();
        let is_behind = |seen: &&Seen| seen.revision < self.load.last_revision(seen.key);
        seen.iter().flatten().filter(is_behind).count()
    }
}

/// Version and revision of every key that a load puts.
async fn states_of_keys(args: &BenchArgs, load: &Load) -> Result<Vec<(i64, i64)>, String> {
    let request = RangeRequest {
        key: load.key(0),
        range_end: load.end_of_keys(),
        keys_only: true,
        ..RangeRequest::default()
    };
    let failed = |failure: Failure| format!("cannot read the keys to be watched: {failure}");
    let endpoint = load.endpoint(0);
    let mut connection = endpoint.connect().await.map_err(failed)?;
    let answer = timeout(args.timeout, connection.call(&endpoint.range, &request)).await;
    let answer = answer.unwrap_or(Err(Failure::TimedOut)).map_err(failed)?;
    let range = RangeResponse::decode(answer).map_err(|_| failed(Failure::Nonsense(UNREADABLE)))?;
    if range.kvs.len() != args.keys {
        return Err(format!("{} keys were set, and {} are there", args.keys, range.kvs.len()));
    }
    Ok(range.kvs.iter().map(|kv| (kv.version, kv.mod_revision)).collect())
}

fn creation(key: &bytes::Bytes) -> WatchRequest {
    let creation = WatchCreateRequest { key: key.clone(), ..WatchCreateRequest::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(creation)) }
}

fn refuse_end(answer: &WatchResponse) -> Result<(), Failure> {
    if answer.canceled {
        let text = format!("a watch was cancelled: {}", answer.cancel_reason);
        return Err(Failure::Refused { code: 0, text });
    }
    Ok(())
}

/// Watches on keys that nobody puts.
pub(super) struct Idle {
    streams: Vec<(Questions, Answers, Connection)>,
}

impl Idle {
    /// Opens so many on connections of their own.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(super) async fn open(args: &BenchArgs, load: &Load) -> Result<Self, String> {
        let connections = args.connections().min(args.idle_watchers);
        let mut streams = Vec::with_capacity(connections);
        for index in 0..connections {
            let names = (index..args.idle_watchers).step_by(connections);
            let opening = Self::stream(load.endpoint(index), names, args.timeout);
            let stream = opening.await;
            streams.push(stream.map_err(|failure| format!("cannot open all watches: {failure}"))?);
        }
        Ok(Self { streams })
    }

    async fn stream(
        endpoint: &Endpoint,
        names: impl Iterator<Item = usize>,
        patience: Duration,
    ) -> Result<(Questions, Answers, Connection), Failure> {
        let mut creations = names.map(|name| creation(&format!("bench-idle/{name:09}").into()));
        let mut connection = endpoint.connect().await?;
        let first = creations.next().ok_or(Failure::Nonsense("there is nothing to watch"))?;
        let (mut questions, mut answers) = connection.stream(&endpoint.watch, &first).await?;
        let mut unconfirmed = 1;
        while unconfirmed > 0 {
            while unconfirmed < CREATIONS
                && let Some(creation) = creations.next()
            {
                questions.send(&creation)?;
                unconfirmed += 1;
            }
            let answer = timeout(patience, answers.next::<WatchResponse>()).await;
            match answer.unwrap_or(Err(Failure::TimedOut))? {
                Some(answer) if answer.created && !answer.canceled => unconfirmed -= 1,
                Some(answer) => refuse_end(&answer)?,
                None => return Err(Failure::Nonsense("the server has ended a watch stream")),
            }
        }
        Ok((questions, answers, connection))
    }

    /// Looks at what came meanwhile, which must be nothing, and ends them.
    ///
    /// # Errors
    /// The first that was sent an event or ended early.
    pub(super) async fn close(mut self) -> Result<(), String> {
        for (_, answers, _) in &mut self.streams {
            // Whatever was sent is here already, as all that goes on is on this thread.
            match timeout(Duration::from_millis(1), answers.next::<WatchResponse>()).await {
                Err(_) => {}
                Ok(Ok(Some(answer))) if answer.events.is_empty() && !answer.canceled => {}
                Ok(Ok(Some(_))) => return Err("an idle watch was sent an event".to_owned()),
                Ok(Ok(None)) => return Err("an idle watch was ended".to_owned()),
                Ok(Err(failure)) => return Err(format!("an idle watch broke: {failure}")),
            }
        }
        Ok(())
    }
}
