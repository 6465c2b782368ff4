//! The coordination service with one rule broken at a time, at every replica and learner alike: the judges of the workload
//! convict each in the very seeds that the service as it is passes.

#[path = "kv_mutants/stories.rs"]
mod stories;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use testudo_contracts::{Moment, Reading, Service, Store};
use testudo_core::{Decode, Encode};
use testudo_kv::{Kv, Operation, RequestOp, Response, ResponseOp, Txn, TxnResponse};
use testudo_lab::coordination::gateways::Gateways;
use testudo_lab::coordination::{Answer, Ask, Coordination};
use testudo_pbft::Pbft;
use testudo_sim::bytes::{drawn, run_bytes};
use testudo_sim::conformance::run_seed;
use testudo_sim::linear::Operation as Call;
use testudo_sim::replay::{record, replay};
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::workload::{Finding, Hosted, Workload};
use testudo_sim::{Climate, Harm, Plan, Report, Rng, Trouble, Verdict, Weather};
use testudo_state::Map;

/// Where conviction is sought.
const SEEDS: u64 = 50;

/// The service, with a rule broken.
trait Flaw: 'static {
    /// Executes an operation, which can be read.
    fn execute(store: &mut dyn Store, operation: &Operation, moment: &Moment) -> Vec<u8> {
        right(store, operation, moment)
    }

    /// Lets time pass. `instance` tells replicas and learners apart, which a service must not do.
    fn advance(store: &mut dyn Store, moment: &Moment, instance: u64) -> Vec<u8> {
        let _ = instance;
        Kv::default().advance(store, moment)
    }
}

/// What the service as it is would do.
fn right(store: &mut dyn Store, operation: &Operation, moment: &Moment) -> Vec<u8> {
    Kv::default().execute(store, &operation.to_bytes(), moment)
}

thread_local! {
    /// How many services have been made in this run.
    static INSTANCES: Cell<u64> = const { Cell::new(0) };
}

/// The broken service.
struct Broken<F> {
    instance: u64,
    flaw: PhantomData<fn() -> F>,
}

impl<F> Clone for Broken<F> {
    fn clone(&self) -> Self {
        Self { instance: self.instance, flaw: PhantomData }
    }
}

impl<F: Flaw> Service for Broken<F> {
    const VERSION: u32 = Kv::VERSION;

    fn genesis(&self, store: &mut dyn Store) {
        Kv::default().genesis(store);
    }
    fn execute(&self, store: &mut dyn Store, operation: &[u8], moment: &Moment) -> Vec<u8> {
        match Operation::from_bytes(operation) {
            Ok(operation) => F::execute(store, &operation, moment),
            Err(_) => Kv::default().execute(store, operation, moment),
        }
    }
    fn advance(&self, store: &mut dyn Store, moment: &Moment) -> Vec<u8> {
        F::advance(store, moment, self.instance)
    }
    fn due(&self, store: &dyn Reading) -> Option<u64> {
        Kv::default().due(store)
    }
    fn internal_error(&self) -> Vec<u8> {
        Kv::default().internal_error()
    }
    fn too_large(&self) -> Vec<u8> {
        Kv::default().too_large()
    }
}

/// The workload on the broken service.
struct Mutant<F>(PhantomData<fn() -> F>);

impl<F: Flaw> Workload for Mutant<F> {
    type Ask = Ask;
    type Answer = Answer;
    type Onlooker = Gateways;

    fn onlooker(seed: u64) -> Gateways {
        Coordination::onlooker(seed)
    }
    fn draw(keys: u64, token: u64, onlooker: &Gateways, rng: &mut Rng) -> Ask {
        Coordination::draw(keys, token, onlooker, rng)
    }
    fn last_reads(keys: u64) -> Vec<Ask> {
        Coordination::last_reads(keys)
    }
    fn encode(ask: &Ask) -> Vec<u8> {
        Coordination::encode(ask)
    }
    fn read_ask(operation: &[u8]) -> Option<Ask> {
        Coordination::read_ask(operation)
    }
    fn decode(ask: &Ask, result: &[u8]) -> Result<Answer, String> {
        Coordination::decode(ask, result)
    }
    fn judge(history: &[Call<Ask, Answer>], is_whole: bool) -> Vec<Finding> {
        Coordination::judge(history, is_whole)
    }
}

impl<F: Flaw> Hosted for Mutant<F> {
    type Service = Broken<F>;

    fn service() -> Broken<F> {
        let instance = INSTANCES.replace(INSTANCES.get() + 1);
        Broken { instance, flaw: PhantomData }
    }
    fn parse(words: &[&str]) -> Result<Vec<u8>, String> {
        Coordination::parse(words)
    }
    fn show(operation: &[u8]) -> String {
        Coordination::show(operation)
    }
    fn show_result(result: &[u8]) -> String {
        Coordination::show_result(result)
    }
    fn is_read(operation: &[u8]) -> bool {
        Coordination::is_read(operation)
    }
    fn read(copy: &Map, operation: &[u8], moment: &Moment) -> Option<Vec<u8>> {
        Coordination::read(copy, operation, moment)
    }
}

/// Crashes of replicas and gateways, and a network that loses and delays a little: learners fall behind and come back, time
/// passes in gaps, and clients ask again.
fn plan() -> Plan {
    let weather = Weather { lost_per_mille: 20, doubled_per_mille: 20, ..Weather::calm() };
    let every = Duration::from_millis;
    let troubles = vec![(Trouble::Crash, every(4_000)), (Trouble::Learner, every(3_000))];
    let climate = Some(Climate { weather, troubles });
    Plan { operations: 300, clients: 3, learners: 2, climate, ..Plan::default() }
}

/// The first seed in which the mutant breaks one of these rules. The service as it is passes every seed up to it.
fn convict<F: Flaw>(oracles: &[&str]) {
    let plan = plan();
    for seed in 0..SEEDS {
        let right = run_seed(Replicated::<Pbft, Lore, Coordination>::default, seed, &plan);
        assert!(right.is_clean(), "the right service fails\n{right}");
        INSTANCES.set(0);
        let report = run_seed(Replicated::<Pbft, Lore, Mutant<F>>::default, seed, &plan);
        let Some(found) = report.violations.first() else { continue };
        assert!(oracles.contains(&found.oracle), "convicted of something else\n{report}");
        println!("seed {seed} convicts it: {found}");
        return;
    }
    panic!("{SEEDS} seeds do not convict it");
}

/// A store's entries, in a map of their own.
fn copied(store: &dyn Reading) -> Map {
    let mut map = Map::new();
    store.scan(Bound::Unbounded, Bound::Unbounded, false, &mut |key, value| {
        map.insert(key, value.clone());
        true
    });
    map
}

/// Makes a store what a map is.
fn replace(store: &mut dyn Store, map: &Map) {
    for (key, _) in copied(store).iter().filter(|(key, _)| map.get(key).is_none()) {
        store.delete(&key);
    }
    map.iter().for_each(|(key, value)| store.put(&key, value.clone()));
}

/// Leases run by the clock of the machine, which is a little faster or slower than the next one's.
enum LocalClock {}

impl Flaw for LocalClock {
    fn advance(store: &mut dyn Store, moment: &Moment, instance: u64) -> Vec<u8> {
        let elapsed = moment.elapsed * (100 + instance % 4) / 100;
        Kv::default().advance(store, &Moment { elapsed, ..*moment })
    }
}

#[test]
fn a_lease_that_expires_by_the_local_clock() {
    convict::<LocalClock>(&["equal states", "equal checkpoints", "copies", "unanimity"]);
}

/// Time that has passed is counted twice.
enum CountsTwice {}

impl Flaw for CountsTwice {
    fn advance(store: &mut dyn Store, moment: &Moment, _: u64) -> Vec<u8> {
        Kv::default().advance(store, &Moment { elapsed: 2 * moment.elapsed, ..*moment })
    }
}

#[test]
fn a_lease_that_ends_too_early() {
    convict::<CountsTwice>(&["leases"]);
}

/// Keeping a lease alive is answered, and does nothing.
enum KeepsNothingAlive {}

impl Flaw for KeepsNothingAlive {
    fn execute(store: &mut dyn Store, operation: &Operation, moment: &Moment) -> Vec<u8> {
        match operation {
            Operation::LeaseKeepAlive(_) => right(&mut copied(store), operation, moment),
            _ => right(store, operation, moment),
        }
    }
}

#[test]
fn a_keep_alive_that_is_not_kept() {
    convict::<KeepsNothingAlive>(&["leases"]);
}

/// A store whose newest records cannot be deleted, and say that they were.
struct Sticky<'a>(&'a mut dyn Store);

impl Reading for Sticky<'_> {
    fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        self.0.get(key)
    }
    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &Arc<[u8]>) -> bool,
    ) {
        self.0.scan(from, to, reverse, visit);
    }
}

impl Store for Sticky<'_> {
    fn put(&mut self, key: &[u8], value: Arc<[u8]>) {
        self.0.put(key, value);
    }
    fn delete(&mut self, key: &[u8]) -> bool {
        key.starts_with(b"k") || self.0.delete(key)
    }
}

/// A lease ends, and its keys stay.
enum LeavesKeys {}

impl Flaw for LeavesKeys {
    fn execute(store: &mut dyn Store, operation: &Operation, moment: &Moment) -> Vec<u8> {
        match operation {
            Operation::LeaseRevoke(_) => right(&mut Sticky(store), operation, moment),
            _ => right(store, operation, moment),
        }
    }
    fn advance(store: &mut dyn Store, moment: &Moment, _: u64) -> Vec<u8> {
        Kv::default().advance(&mut Sticky(store), moment)
    }
}

#[test]
fn keys_that_outlive_their_lease() {
    convict::<LeavesKeys>(&["leases"]);
}

/// A compaction also forgets what the oldest revisions that are left have changed.
enum ForgetsTooMuch {}

impl Flaw for ForgetsTooMuch {
    fn execute(store: &mut dyn Store, operation: &Operation, moment: &Moment) -> Vec<u8> {
        let result = right(store, operation, moment);
        let Operation::Compact(compact) = operation else { return result };
        if matches!(Response::from_bytes(&result), Ok(Response::Compact(_))) {
            let bound = |revision: i64| [&b"r"[..], &revision.to_be_bytes()].concat();
            let (from, to) = (bound(compact.revision), bound(compact.revision + 3));
            let mut gone: Vec<Vec<u8>> = Vec::new();
            store.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |key, _| {
                gone.push(key.to_vec());
                true
            });
            for key in gone {
                store.delete(&key);
            }
        }
        result
    }
}

#[test]
fn a_watch_that_drops_an_event_at_a_compaction() {
    convict::<ForgetsTooMuch>(&["watches"]);
}

/// A transaction's compares see what it is about to write.
enum ComparesTooLate {}

impl Flaw for ComparesTooLate {
    fn execute(store: &mut dyn Store, operation: &Operation, moment: &Moment) -> Vec<u8> {
        let Operation::Txn(txn) = operation else { return right(store, operation, moment) };
        let done = Txn { compare: Vec::new(), ..txn.clone() };
        let asked = Txn { success: Vec::new(), failure: Vec::new(), compare: txn.compare.clone() };
        let mut after = copied(store);
        let result = right(&mut after, &Operation::Txn(done.clone()), moment);
        let judged = right(&mut after.clone(), &Operation::Txn(asked), moment);
        if let Ok(Response::Txn(TxnResponse { succeeded: false, .. })) =
            Response::from_bytes(&judged)
        {
            let failed = Txn { success: txn.failure.clone(), ..done };
            let result = right(store, &Operation::Txn(failed), moment);
            return match Response::from_bytes(&result) {
                Ok(Response::Txn(answer)) => {
                    Response::Txn(TxnResponse { succeeded: false, ..answer }).to_bytes()
                }
                _ => result,
            };
        }
        replace(store, &after);
        result
    }
}

#[test]
fn a_transaction_whose_compare_reads_the_new_value() {
    convict::<ComparesTooLate>(&["effects", "linearizability"]);
}

/// A transaction that fails takes its revision back, which it never had.
enum ReusesRevisions {}

impl Flaw for ReusesRevisions {
    fn execute(store: &mut dyn Store, operation: &Operation, moment: &Moment) -> Vec<u8> {
        let result = right(store, operation, moment);
        if let Ok(Response::Txn(TxnResponse { succeeded: false, revision: 2.., .. })) =
            Response::from_bytes(&result)
        {
            let before = Kv::default().revision(store);
            let meta = store.get(b"m").expect("genesis wrote it");
            let (_, rest) = meta.split_at(size_of::<i64>());
            store.put(b"m", [&(before - 1).to_bytes()[..], rest].concat().into());
            assert_eq!(Kv::default().revision(store), before - 1, "the revision comes first");
        }
        result
    }
}

#[test]
fn a_revision_that_is_reused_after_a_failed_transaction() {
    convict::<ReusesRevisions>(&["history", "effects", "revisions", "watches"]);
}

/// A deletion of a range deletes its first key.
enum IgnoresTheEnd {}

impl Flaw for IgnoresTheEnd {
    fn execute(store: &mut dyn Store, operation: &Operation, moment: &Moment) -> Vec<u8> {
        match operation {
            Operation::DeleteRange(delete) if !delete.range_end.is_empty() => {
                let mut delete = delete.clone();
                delete.range_end = [][..].into();
                right(store, &Operation::DeleteRange(delete), moment)
            }
            _ => right(store, operation, moment),
        }
    }
}

#[test]
fn a_deletion_that_ignores_the_end_of_its_range() {
    convict::<IgnoresTheEnd>(&["effects"]);
}

/// What a transaction puts is put one after the other, each in a revision of its own.
enum SplitsTransactions {}

impl Flaw for SplitsTransactions {
    fn execute(store: &mut dyn Store, operation: &Operation, moment: &Moment) -> Vec<u8> {
        let Operation::Txn(txn) = operation else { return right(store, operation, moment) };
        let puts: Vec<&RequestOp> = txn.success.iter().collect();
        if !txn.compare.is_empty() || puts.iter().any(|put| !matches!(put, RequestOp::Put(_))) {
            return right(store, operation, moment);
        }
        let mut responses = Vec::new();
        for put in txn.success.iter().filter_map(|one| match one {
            RequestOp::Put(put) => Some(put.clone()),
            _ => None,
        }) {
            match Response::from_bytes(&right(store, &Operation::Put(put), moment)) {
                Ok(Response::Put(put)) => responses.push(ResponseOp::Put(put)),
                Ok(refused) => return refused.to_bytes(),
                Err(_) => return Kv::default().internal_error(),
            }
        }
        let revision = Kv::default().revision(store);
        Response::Txn(TxnResponse { revision, succeeded: true, responses }).to_bytes()
    }
}

#[test]
fn a_transaction_that_is_not_one_revision() {
    convict::<SplitsTransactions>(&["effects"]);
}

/// What a transaction puts is filed in another order than it was put in.
enum MixesOrder {}

impl Flaw for MixesOrder {
    fn execute(store: &mut dyn Store, operation: &Operation, moment: &Moment) -> Vec<u8> {
        let Operation::Txn(txn) = operation else { return right(store, operation, moment) };
        let mut txn = txn.clone();
        txn.success.reverse();
        let result = right(store, &Operation::Txn(txn), moment);
        match Response::from_bytes(&result) {
            Ok(Response::Txn(mut answer)) => {
                answer.responses.reverse();
                Response::Txn(answer).to_bytes()
            }
            _ => result,
        }
    }
}

#[test]
fn a_transaction_whose_events_are_told_out_of_order() {
    convict::<MixesOrder>(&["watches"]);
}

/// The service as it is, through the same wrapping: it is the flaw that convicts, and not the wrapping.
enum NoFlaw {}

impl Flaw for NoFlaw {}

#[test]
fn the_wrapping_alone_is_not_convicted() {
    let plan = plan();
    let mut counts: BTreeSet<&str> = BTreeSet::new();
    for seed in 0..3 {
        INSTANCES.set(0);
        let report = run_seed(Replicated::<Pbft, Lore, Mutant<NoFlaw>>::default, seed, &plan);
        assert!(report.is_clean(), "{report}");
        let names = ["answers held against their revisions", "compactions", "leases expired"];
        counts.extend(names.into_iter().filter(|name| report.counts[*name] > 0));
    }
    assert_eq!(counts.len(), 3, "what the judges judge has happened: {counts:?}");
}

/// What was answered wrongly is found out wherever the run ends: here nothing moves on any more, as two replicas of four
/// lose their disks. It is found out as well when the steps are done again.
#[test]
fn what_was_wrong_before_everything_stood_still() {
    let troubles = vec![(Trouble::Harm(Harm::Wiped), Duration::from_millis(2_500))];
    let climate = Some(Climate { troubles, ..Climate::calm() });
    let patience = Duration::from_secs(20);
    let plan = Plan { exceeds: true, operations: 1_000, patience, climate, ..plan() };
    let names = |report: &Report| -> BTreeSet<&str> {
        report.violations.iter().map(|found| found.oracle).collect()
    };
    let mut stood_still = 0;
    for seed in 0..SEEDS {
        let right = run_seed(Replicated::<Pbft, Lore, Coordination>::default, seed, &plan);
        assert!(right.verdict() <= Verdict::Stopped, "the right service fails\n{right}");
        if right.verdict() == Verdict::Clean {
            continue;
        }
        stood_still += 1;
        INSTANCES.set(0);
        let run = record(Replicated::<Pbft, Lore, Mutant<IgnoresTheEnd>>::default, seed, &plan);
        let found = names(&run.report);
        if found.contains("liveness") && found.contains("effects") {
            assert_eq!(run.report.verdict(), Verdict::Failed, "nobody noticed");
            INSTANCES.set(0);
            let make = Replicated::<Pbft, Lore, Mutant<IgnoresTheEnd>>::default;
            let again = replay(make, &run);
            assert!(names(&again).contains("effects"), "{again}");
            return;
        }
    }
    panic!("{stood_still} runs that stood still did not convict it");
}

/// A run that bytes decide is judged by whoever looks on, too.
#[test]
fn bytes_convict_what_only_an_onlooker_sees() {
    let plan = Plan { clients: 2, learners: 1, operations: 200, keys: 2, ..Plan::default() };
    for seed in 0..SEEDS {
        // Those that let nothing go wrong, so that much gets done.
        let bytes: Vec<u8> = drawn(seed, 4_000).iter().map(|byte| byte % 194).collect();
        let right = run_bytes(Replicated::<Pbft, Lore, Coordination>::default, &bytes, &plan);
        assert!(right.is_clean(), "the right service fails\n{right}");
        assert!(right.count("states compared") > 0);
        INSTANCES.set(0);
        let make = Replicated::<Pbft, Lore, Mutant<LeavesKeys>>::default;
        let report = run_bytes(make, &bytes, &plan);
        let Some(found) = report.violations.first() else { continue };
        assert_eq!(found.oracle, "leases", "convicted of something else\n{report}");
        return;
    }
    panic!("no string convicts it");
}
