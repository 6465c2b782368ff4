//! Eight clients that put, get and run transactions on shared keys, and write down what they saw.

use super::eventually;
use super::history::{Answer, Ask, Key, Rules, Step, Value, acknowledged};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use testudo_etcd::proto::etcdserverpb as pb;
use testudo_etcd::proto::etcdserverpb::kv_client::KvClient;
use testudo_sim::linear::{Linearity, check};
use tonic::transport::{Channel, Endpoint};

/// How many clients there are.
pub(crate) const CLIENTS: usize = 8;

/// How many keys they share.
const KEYS: Key = 6;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until so many operations more are answered.
pub(crate) fn answers(workload: &Workload, count: usize) {
    let before = workload.answered();
    eventually("clients are answered", || (workload.answered() >= before + count).then_some(()));
}

/// What clients share, and what they have seen so far. Several rounds on one cluster make one history.
pub(crate) struct Workload {
    endpoint: Mutex<String>,
    history: Mutex<Vec<Step>>,
    clock: AtomicU64,
    values: AtomicU64,
    answered: AtomicUsize,
    /// When the last operation was answered, and the longest time without an answer since it was asked for.
    pauses: Mutex<(Instant, Duration)>,
    enough: AtomicBool,
    rounds: AtomicU64,
    /// The store's revision before the first operation.
    revision: i64,
    /// How long a client rests after each answer.
    rest: Duration,
}

impl Workload {
    /// A workload for the etcd endpoint, which serves an empty store.
    pub(crate) fn new(etcd: &str) -> Arc<Self> {
        Self::resting(etcd, 1, Duration::ZERO)
    }

    /// The same on a store of that revision, with clients that rest after each answer, so that a round that takes long
    /// asks for no more than can be judged.
    pub(crate) fn resting(etcd: &str, revision: i64, rest: Duration) -> Arc<Self> {
        Arc::new(Self {
            endpoint: Mutex::new(format!("http://{etcd}")),
            history: Mutex::default(),
            clock: AtomicU64::new(0),
            values: AtomicU64::new(0),
            answered: AtomicUsize::new(0),
            pauses: Mutex::new((Instant::now(), Duration::ZERO)),
            enough: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
            revision,
            rest,
        })
    }

    /// The same store is served there from now on.
    pub(crate) fn moved(&self, etcd: &str) {
        *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = format!("http://{etcd}");
    }

    /// Operations answered so far.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    fn note_answer(&self) {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        *pauses = (Instant::now(), pauses.1.max(pauses.0.elapsed()));
    }

    /// The longest time in which nobody was answered since this was asked last.
    pub(crate) fn longest_pause(&self) -> Duration {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = pauses.1.max(pauses.0.elapsed());
        *pauses = (Instant::now(), Duration::ZERO);
        longest
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Runs all clients while `meanwhile` happens and until at least `count` more operations are answered. `meanwhile`
    /// is told how many were answered since the round began, again and again, until it says that it is done.
    pub(crate) fn round(self: &Arc<Self>, count: usize, mut meanwhile: impl FnMut(usize) -> bool) {
        let before = self.answered();
        let round = self.rounds.fetch_add(1, Ordering::SeqCst);
        self.enough.store(false, Ordering::SeqCst);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("an event loop");
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let workload = self.clone();
                let seed = round * 1_000 + client as u64 + 1;
                runtime.spawn(async move { workload.client(client, Chance(seed)).await })
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(400);
        let mut is_done = false;
        while !is_done || self.answered() - before < count {
            is_done = is_done || meanwhile(self.answered() - before);
            let got = self.answered() - before;
            assert!(
                Instant::now() < deadline,
                "only {got} of {count} operations were answered in time"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        self.enough.store(true, Ordering::SeqCst);
        for client in clients {
            runtime.block_on(client).expect("a client does not panic");
        }
    }

    async fn client(&self, client: usize, mut chance: Chance) {
        let mut kv = self.connect();
        let mut seen = None;
        while !self.enough.load(Ordering::SeqCst) {
            let ask = self.next(&mut chance, seen);
            let called = self.tick();
            let answer = tokio::time::timeout(PATIENCE, perform(&mut kv, &ask)).await;
            let returned = self.tick();
            let returned = match answer {
                Ok(Ok(answer)) => {
                    if let Answer::Read(Some((value, _)), _) = answer {
                        seen = Some(value);
                    }
                    self.answered.fetch_add(1, Ordering::SeqCst);
                    self.note_answer();
                    Some((returned, answer))
                }
                // Whether it was done is not known. A read that was not answered says nothing.
                Ok(Err(_)) | Err(_) => None,
            };
            if returned.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if matches!(ask, Ask::Get(_)) {
                    continue;
                }
            }
            let step = Step { client, input: ask, called, returned };
            self.history.lock().unwrap_or_else(PoisonError::into_inner).push(step);
            if !self.rest.is_zero() {
                tokio::time::sleep(self.rest).await;
            }
        }
    }

    fn connect(&self) -> KvClient<Channel> {
        let endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let endpoint = Endpoint::from_shared(endpoint).expect("an address");
        KvClient::new(endpoint.connect_lazy())
    }

    fn next(&self, chance: &mut Chance, seen: Option<Value>) -> Ask {
        let key = chance.below(u64::from(KEYS)) as Key;
        let value = || self.values.fetch_add(1, Ordering::SeqCst) + 1;
        match chance.below(10) {
            0..4 => Ask::Put(key, value()),
            4..7 => Ask::Get(key),
            7 => Ask::Txn(key, None, vec![(key, value())]),
            // Two keys at once, if the first still has what was read last.
            _ => Ask::Txn(key, seen, vec![(key, value()), ((key + 1) % KEYS, value())]),
        }
    }

    /// Gives the writes that nobody answered what the store's own history says of them: the revision that has their
    /// value, or nothing, as no revision has it. A search need not guess then which of them took effect; and an order
    /// that is found so explains every answer all the same.
    async fn settle(
        &self,
        kv: &mut KvClient<Channel>,
        history: Vec<Step>,
        written: &BTreeMap<i64, Vec<(Key, Value)>>,
    ) -> Vec<Step> {
        let Answer::Read(_, last) = read(kv, 0, 0).await.expect("a last read is answered") else {
            panic!("a read is answered as one")
        };
        let mut unclaimed = BTreeMap::new();
        for revision in (self.revision + 1..=last).filter(|it| !written.contains_key(it)) {
            for key in 0..KEYS {
                let found = read(kv, key, revision).await.expect("a last read is answered");
                if let Answer::Read(Some((value, at)), _) = found
                    && at == revision
                {
                    unclaimed.insert(value, revision);
                }
            }
        }
        let settle = |mut step: Step| {
            if step.returned.is_none() {
                let value = match &step.input {
                    Ask::Put(_, value) => Some(value),
                    Ask::Txn(_, _, writes) => writes.first().map(|(_, value)| value),
                    Ask::Get(_) => None,
                };
                let revision = *unclaimed.get(value?)?;
                step.returned = Some((self.tick(), Answer::Written(revision)));
            }
            Some(step)
        };
        history.into_iter().filter_map(settle).collect()
    }

    /// Checks everything that was seen: the history is linearizable, the last reads included, and every acknowledged
    /// write is still there at its revision.
    pub(crate) fn verify(self: &Arc<Self>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("an event loop");
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let written = acknowledged(&history);
        assert!(written.len() > history.len() / 5, "hardly anything was written");
        let (history, reads) = runtime.block_on(async {
            let mut kv = self.connect();
            for (revision, writes) in &written {
                for (key, value) in writes {
                    let found =
                        read(&mut kv, *key, *revision).await.expect("a last read is answered");
                    let Answer::Read(found, _) = found else { panic!("a read is answered as one") };
                    assert_eq!(found, Some((*value, *revision)), "an acknowledged write is lost");
                }
            }
            let history = self.settle(&mut kv, history, &written).await;
            let mut reads = Vec::new();
            for key in 0..KEYS {
                let called = self.tick();
                let answer = read(&mut kv, key, 0).await.expect("a last read is answered");
                reads.push(Step {
                    client: CLIENTS,
                    input: Ask::Get(key),
                    called,
                    returned: Some((self.tick(), answer)),
                });
            }
            (history, reads)
        });
        let history: Vec<Step> = history.into_iter().chain(reads).collect();
        match check(&Rules { revision: self.revision }, &history) {
            Linearity::Holds => {}
            Linearity::Broken(how) => panic!("not linearizable: {how}"),
            Linearity::Unknown(steps) => panic!("no order was found in {steps} steps"),
        }
    }
}

fn name(key: Key) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}

fn put(key: Key, value: Value) -> pb::PutRequest {
    pb::PutRequest {
        key: name(key).into(),
        value: value.to_string().into_bytes().into(),
        ..Default::default()
    }
}

async fn read(
    kv: &mut KvClient<Channel>,
    key: Key,
    revision: i64,
) -> Result<Answer, tonic::Status> {
    let request = pb::RangeRequest { key: name(key).into(), revision, ..Default::default() };
    let response = kv.range(request).await?.into_inner();
    Ok(as_read(&response.kvs, revision_of(response.header)))
}

async fn perform(kv: &mut KvClient<Channel>, ask: &Ask) -> Result<Answer, tonic::Status> {
    match ask {
        Ask::Get(key) => read(kv, *key, 0).await,
        Ask::Put(key, value) => {
            let response = kv.put(put(*key, *value)).await?.into_inner();
            Ok(Answer::Written(revision_of(response.header)))
        }
        Ask::Txn(key, expected, writes) => {
            let response = kv.txn(txn(*key, *expected, writes)).await?.into_inner();
            let revision = revision_of(response.header);
            if response.succeeded {
                return Ok(Answer::Written(revision));
            }
            let read = response.responses.into_iter().next().and_then(|it| it.response);
            match read {
                Some(pb::response_op::Response::ResponseRange(range)) => {
                    Ok(as_read(&range.kvs, revision))
                }
                other => panic!("a transaction that reads answered {other:?}"),
            }
        }
    }
}

fn txn(key: Key, expected: Option<Value>, writes: &[(Key, Value)]) -> pb::TxnRequest {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    use pb::request_op::Request;
    let (target, union) = match expected {
        Some(value) => {
            let value = value.to_string().into_bytes().into();
            (CompareTarget::Value, TargetUnion::Value(value))
        }
        None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
    };
    let compare = pb::Compare {
        result: CompareResult::Equal as i32,
        target: target as i32,
        key: name(key).into(),
        target_union: Some(union),
        ..Default::default()
    };
    let operation = |request| pb::RequestOp { request: Some(request) };
    let range = pb::RangeRequest { key: name(key).into(), ..Default::default() };
    pb::TxnRequest {
        compare: vec![compare],
        success: writes
            .iter()
            .map(|(key, value)| operation(Request::RequestPut(put(*key, *value))))
            .collect(),
        failure: vec![operation(Request::RequestRange(range))],
    }
}

fn as_read(kvs: &[testudo_etcd::proto::mvccpb::KeyValue], revision: i64) -> Answer {
    let found = kvs.first().map(|kv| {
        let value = std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok());
        (value.expect("a value that a client wrote"), kv.mod_revision)
    });
    Answer::Read(found, revision)
}

fn revision_of(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("every answer has a header").revision
}

/// SplitMix64, so that a failing round can be asked for again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound
    }
}
