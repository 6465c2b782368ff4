//! Watches against a witness that keeps a list of everything: complete, in order, each once, and honest.

#[path = "support/instance.rs"]
mod instance;
#[path = "support/witness.rs"]
mod witness;

use instance::Instance;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::BTreeSet;
use testudo_kv::watch::{Budget, Limits, StreamId, Turn, WatchId, WatchRequest, Watchers};
use testudo_kv::{Bytes, Compact, DeleteRange, Operation, Put, Range, RequestOp, Response, Txn};
use testudo_state::Map;
use witness::{State, Witness};

/// One thing that somebody does. Streams and revisions are drawn as numbers and mean one of those that there are.
#[derive(Clone, Debug)]
enum Step {
    Operation(Operation),
    Compact(u8),
    /// A slot without operations, in which the store sweeps what is compacted.
    Sweep,
    Publish,
    /// A copy is published that does not follow from the one before.
    Replace,
    Open,
    Close(usize),
    Create(usize, WatchRequest),
    Cancel(usize, WatchId),
    Progress(usize),
    Tick(usize),
    Poll(usize, Budget, usize),
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(b'c'), Just(0xff)]
}

fn key() -> impl Strategy<Value = Bytes> {
    vec(byte(), 1..3).prop_map(Bytes::from)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![2 => Just(Vec::new()), 1 => Just(vec![0]), 3 => vec(byte(), 1..3)]
        .prop_map(Bytes::from)
}

fn put() -> impl Strategy<Value = Put> {
    (key(), 0..60_usize).prop_map(|(key, length)| Put {
        key,
        value: vec![b'v'; length].into(),
        ..Put::default()
    })
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (key(), range_end()).prop_map(|(key, range_end)| DeleteRange {
        key,
        range_end,
        ..DeleteRange::default()
    })
}

/// Transactions touch each key once: the service refuses others, but for what its own scripts tell of.
fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => put().prop_map(Operation::Put),
        2 => delete().prop_map(Operation::DeleteRange),
        3 => vec(put(), 2..8).prop_map(|puts| Operation::Txn(Txn {
            success: puts.into_iter().map(RequestOp::Put).collect(),
            ..Txn::default()
        })),
    ]
}

fn request() -> impl Strategy<Value = WatchRequest> {
    let start = prop_oneof![4 => Just(0), 5 => 1..30_i64, 1 => -2..60_i64];
    let watch_id = prop_oneof![4 => Just(0), 1 => -3..6_i64];
    let rarely = || (0..5).prop_map(|draw| draw == 0);
    let key = prop_oneof![9 => key(), 1 => Just(Bytes::default())];
    let flags = (rarely(), rarely(), any::<bool>(), any::<bool>(), any::<bool>());
    (key, range_end(), start, watch_id, flags).prop_map(
        |(key, range_end, start_revision, watch_id, flags)| WatchRequest {
            key,
            range_end,
            start_revision,
            no_put: flags.0,
            no_delete: flags.1,
            prev_kv: flags.2,
            progress_notify: flags.3,
            fragment: flags.4,
            watch_id,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || 0..5_usize;
    let budget = (1..6_usize, prop_oneof![1..400_usize, Just(1 << 20)])
        .prop_map(|(events, bytes)| Budget { events, bytes });
    prop_oneof![
        24 => operation().prop_map(Step::Operation),
        2 => any::<u8>().prop_map(Step::Compact),
        3 => Just(Step::Sweep),
        10 => Just(Step::Publish),
        2 => Just(Step::Replace),
        3 => Just(Step::Open),
        1 => stream().prop_map(Step::Close),
        9 => (stream(), request()).prop_map(|(at, request)| Step::Create(at, request)),
        2 => (stream(), -3..6_i64).prop_map(|(at, watch_id)| Step::Cancel(at, watch_id)),
        4 => stream().prop_map(Step::Progress),
        3 => stream().prop_map(Step::Tick),
        24 => (stream(), budget, 1..12_usize)
            .prop_map(|(at, budget, times)| Step::Poll(at, budget, times)),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (0..6_usize, 1..9_usize, 1..6_usize, 100..3000_usize).prop_map(
        |(pending, window_revisions, step, window_bytes)| Limits {
            pending,
            window_revisions,
            window_bytes,
            step,
            ..Limits::default()
        },
    )
}

/// Which of an operation's requests touches a key: events come in the order of requests.
fn place(operation: &Operation, key: &[u8]) -> usize {
    let Operation::Txn(txn) = operation else { return 0 };
    let touches = |request: &RequestOp| match request {
        RequestOp::Put(put) => put.key[..] == *key,
        RequestOp::DeleteRange(delete) => match &delete.range_end[..] {
            [] => delete.key[..] == *key,
            [0] => delete.key[..] <= *key,
            end => delete.key[..] <= *key && *key < *end,
        },
        RequestOp::None | RequestOp::Range(_) | RequestOp::Txn(_) => false,
    };
    txn.success.iter().position(touches).unwrap_or(usize::MAX)
}

/// The service, its watches, and the witness of both.
struct World {
    kv: Instance,
    watchers: Watchers<Map>,
    witness: Witness,
    streams: Vec<StreamId>,
    /// Streams that have said that they have nothing to say, and were not woken since.
    silent: BTreeSet<StreamId>,
    compacted: i64,
}

impl World {
    fn new(limits: Limits) -> Self {
        let kv = Instance::new();
        let watchers = Watchers::new(limits, kv.store.clone());
        let witness = Witness::new(watchers.revision());
        let (streams, silent) = (Vec::new(), BTreeSet::new());
        let mut world = Self { kv, watchers, witness, streams, silent, compacted: -1 };
        world.step(&Step::Open);
        world
    }

    fn state(&mut self) -> (State, i64) {
        let all = Range { key: [0].into(), range_end: [0].into(), ..Range::default() };
        let Response::Range(range) = self.kv.execute(&Operation::Range(all)) else {
            panic!("everything can be read");
        };
        (range.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect(), range.revision)
    }

    fn step(&mut self, step: &Step) {
        let stream = match step {
            Step::Close(at)
            | Step::Create(at, _)
            | Step::Cancel(at, _)
            | Step::Progress(at)
            | Step::Tick(at)
            | Step::Poll(at, _, _) => {
                if self.streams.is_empty() {
                    return;
                }
                self.streams[at % self.streams.len()]
            }
            _ => StreamId(u64::MAX),
        };
        match step {
            Step::Operation(operation) => {
                let (before, _) = self.state();
                self.kv.execute(operation);
                let (after, revision) = self.state();
                self.witness.operation(&before, &after, revision, |key| place(operation, key));
            }
            Step::Compact(share) => self.compact(*share),
            Step::Sweep => drop(self.kv.pass(1)),
            Step::Publish => self.publish(Watchers::advance),
            Step::Replace => self.publish(Watchers::replace),
            Step::Open => {
                let stream = self.watchers.open().expect("there is room for some streams");
                self.streams.push(stream);
                self.witness.open(stream);
            }
            Step::Close(_) => {
                self.watchers.close(stream);
                self.streams.retain(|other| *other != stream);
                self.witness.close(stream);
                assert_eq!(self.watchers.poll(stream, Budget::default()), Turn::Nothing);
            }
            Step::Create(_, request) => {
                let given = self.watchers.create(stream, request);
                assert_eq!(given, self.witness.create(stream, request));
            }
            Step::Cancel(_, watch_id) => {
                let given = self.watchers.cancel(stream, *watch_id);
                assert_eq!(given, self.witness.cancel(stream, *watch_id));
            }
            Step::Progress(_) => {
                self.watchers.request_progress(stream);
                self.witness.request_progress(stream);
            }
            Step::Tick(_) => {
                self.watchers.tick(stream);
                self.witness.tick(stream);
            }
            Step::Poll(_, budget, times) => self.poll(stream, *budget, *times),
        }
        for stream in self.watchers.take_woken() {
            assert!(self.streams.contains(&stream), "a closed stream is woken");
            self.silent.remove(&stream);
        }
    }

    fn compact(&mut self, share: u8) {
        let (_, now) = self.state();
        let revision = 1 + (now - 1) * i64::from(share) / 255;
        let compact = Operation::Compact(Compact { revision, physical: false });
        if matches!(self.kv.execute(&compact), Response::Compact(_)) {
            self.compacted = revision;
        }
    }

    fn publish(&mut self, take: fn(&mut Watchers<Map>, Map)) {
        let (_, revision) = self.state();
        self.witness.revision = revision;
        self.witness.compacted = self.compacted;
        take(&mut self.watchers, self.kv.store.clone());
        assert_eq!(self.watchers.revision(), revision);
    }

    fn poll(&mut self, stream: StreamId, budget: Budget, times: usize) {
        for _ in 0..times {
            match self.watchers.poll(stream, budget) {
                Turn::Notice(notice) => {
                    assert!(!self.silent.contains(&stream), "not woken for {notice:?}");
                    self.witness.notice(stream, &notice);
                }
                Turn::Again => assert!(!self.silent.contains(&stream), "not woken to read history"),
                Turn::Nothing => {
                    self.witness.nothing(stream);
                    self.silent.insert(stream);
                    return;
                }
            }
        }
    }

    /// Lets everybody be told everything.
    fn finish(&mut self) {
        self.publish(Watchers::advance);
        for stream in self.watchers.take_woken() {
            self.silent.remove(&stream);
        }
        for stream in self.streams.clone() {
            self.poll(stream, Budget { events: 3, bytes: 200 }, 100_000);
            assert!(self.silent.contains(&stream), "a stream comes to no end");
        }
        for stream in self.streams.clone() {
            self.step(&Step::Close(0));
            assert!(!self.streams.contains(&stream));
        }
        assert!(self.watchers.is_empty());
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(3),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn every_watch_is_told_everything_in_order_and_once(
        limits in limits(),
        steps in vec(step(), 1..140),
    ) {
        let mut world = World::new(limits);
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }
}

/// The schedules above come to everything that watches say.
#[test]
fn the_witness_sees_every_kind_of_answer() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::new(config(1));
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    for _ in 0..60 {
        let (limits, steps) = (limits(), vec(step(), 140)).new_tree(&mut runner).unwrap().current();
        let mut world = World::new(limits);
        steps.iter().for_each(|step| world.step(step));
        world.finish();
        for (what, count) in world.witness.seen {
            *seen.entry(what).or_default() += count;
        }
    }
    for what in ["answer", "events", "fragment", "compacted", "progress", "notification"] {
        assert!(seen.get(what).is_some_and(|count| *count >= 20), "{what} is rare: {seen:?}");
    }
}
