//! Learners that break one rule each are convicted by the oracles, in seeds that those who keep the rules pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testudo_contracts::{Moment, Service, Store};
use testudo_core::Digest;
use testudo_pbft::Pbft;
use testudo_quorum::Dissemination;
use testudo_replication::learner::rules::{Rules, Standard};
use testudo_replication::sessions::System;
use testudo_replication::{Head, Replicated as State, Summaries};
use testudo_sim::conformance::run_seed;
use testudo_sim::linear::Operation;
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::service::{Answer, Ask, KeyValues};
use testudo_sim::upstream::Strategy;
use testudo_sim::workload::{Finding, Hosted, Nobody, Small, Workload};
use testudo_sim::{Climate, Misconduct, Plan, Rng, Trouble, Weather};
use testudo_state::Map;

const SEEDS: u64 = 100;

/// The first seed from here on in which learners with other rules break one of these. Those with the right rules pass every seed up
/// to it.
fn convict<W: Hosted, R: Rules>(first: u64, plan: &Plan, oracles: &[&str]) {
    for seed in first..first + SEEDS {
        let right = run_seed(Replicated::<Pbft, Lore, W, Standard>::default, seed, plan);
        assert!(right.is_clean(), "the right rules fail\n{right}");
        let report = run_seed(Replicated::<Pbft, Lore, W, R>::default, seed, plan);
        let Some(found) = report.violations.first() else { continue };
        assert!(oracles.contains(&found.oracle), "convicted of something else\n{report}");
        println!("seed {seed} convicts it: {found}");
        return;
    }
    panic!("{SEEDS} seeds do not convict it");
}

fn plan(strategy: Strategy) -> Plan {
    let plan = Plan { clients: 2, learners: 2, ..Plan::default() };
    plan.with_liar(Misconduct::Upstream(Some(strategy)))
}

/// One replica's word is enough.
enum TrustsOne {}

impl Rules for TrustsOne {
    fn vouchers(_: &Dissemination) -> usize {
        1
    }
}

#[test]
fn execution_without_enough_vouchers() {
    convict::<Small, TrustsOne>(0, &plan(Strategy::OtherBatch), &["copies", "unanimity"]);
}

/// One claim less than a quorum: the liar's and a laggard's are enough to read what is old.
enum ReadsEarly {}

impl Rules for ReadsEarly {
    fn claims(quorums: &Dissemination) -> usize {
        quorums.quorum() - 1
    }
}

#[test]
fn reads_at_a_smaller_claim() {
    let often = Duration::from_millis(250);
    let weather = Weather { slowest_link: 40, lost_per_mille: 100, ..Weather::calm() };
    let troubles = vec![(Trouble::Partition, often), (Trouble::OneWay, often)];
    let climate = Some(Climate { weather, troubles });
    let plan = Plan {
        clients: 2,
        learners: 5,
        keys: 1,
        operations: 600,
        climate,
        ..plan(Strategy::Deflate)
    };
    // Nothing comes of the forty before.
    convict::<Small, ReadsEarly>(40, &plan, &["linearizability"]);
}

/// What its own execution came to is shown whatever others came to.
enum ComparesNothing {}

impl Rules for ComparesNothing {
    fn may_show(_: Digest, _: Digest) -> bool {
        true
    }
}

/// The small service, on machines whose learners lose a write now and then.
enum Flawed {}

/// The small service, which loses every so-manieth operation where it is faulty.
#[derive(Clone)]
struct Forgetful {
    operations: Option<Arc<AtomicU64>>,
}

impl Service for Forgetful {
    const VERSION: u32 = KeyValues::VERSION;

    fn genesis(&self, store: &mut dyn Store) {
        KeyValues.genesis(store);
    }
    fn execute(&self, store: &mut dyn Store, operation: &[u8], moment: &Moment) -> Vec<u8> {
        if let Some(operations) = &self.operations
            && operations.fetch_add(1, Ordering::Relaxed) % 100 == 99
        {
            return self.internal_error();
        }
        KeyValues.execute(store, operation, moment)
    }
    fn internal_error(&self) -> Vec<u8> {
        KeyValues.internal_error()
    }
    fn too_large(&self) -> Vec<u8> {
        KeyValues.too_large()
    }
}

impl Workload for Flawed {
    type Ask = Ask;
    type Answer = Answer;
    type Onlooker = Nobody;

    fn onlooker(seed: u64) -> Nobody {
        Small::onlooker(seed)
    }
    fn draw(keys: u64, token: u64, onlooker: &Nobody, rng: &mut Rng) -> Ask {
        Small::draw(keys, token, onlooker, rng)
    }
    fn last_reads(keys: u64) -> Vec<Ask> {
        Small::last_reads(keys)
    }
    fn encode(ask: &Ask) -> Vec<u8> {
        Small::encode(ask)
    }
    fn decode(ask: &Ask, result: &[u8]) -> Result<Answer, String> {
        Small::decode(ask, result)
    }
    fn judge(history: &[Operation<Ask, Answer>], is_whole: bool) -> Vec<Finding> {
        Small::judge(history, is_whole)
    }
}

impl Hosted for Flawed {
    type Service = Forgetful;

    fn service() -> Forgetful {
        Forgetful { operations: None }
    }
    fn flawed() -> Option<Forgetful> {
        Some(Forgetful { operations: Some(Arc::default()) })
    }
    fn parse(words: &[&str]) -> Result<Vec<u8>, String> {
        Small::parse(words)
    }
    fn show(operation: &[u8]) -> String {
        Small::show(operation)
    }
    fn show_result(result: &[u8]) -> String {
        Small::show_result(result)
    }
    fn is_read(operation: &[u8]) -> bool {
        Small::is_read(operation)
    }
    fn read(copy: &Map, operation: &[u8], moment: &Moment) -> Option<Vec<u8>> {
        Small::read(copy, operation, moment)
    }
}

/// The machine is faulty, not the code: whoever compares finds out, fetches a certified state and goes on.
#[test]
fn results_that_are_not_compared() {
    convict::<Flawed, ComparesNothing>(0, &plan(Strategy::Stale), &["copies", "linearizability"]);
}

/// What its own bundles came to is told before it is compared.
enum AnswersUnseen {}

impl Rules for AnswersUnseen {
    fn answers_unseen() -> bool {
        true
    }
}

#[test]
fn answers_before_verification() {
    convict::<Flawed, AnswersUnseen>(0, &plan(Strategy::Stale), &["linearizability"]);
}

/// Learners come and go, and so do replicas: states are fetched again and again, of all replicas, the liar among them.
fn fetching() -> Plan {
    let every = Duration::from_millis;
    let troubles = vec![
        (Trouble::Blackout, every(2_000)),
        (Trouble::Learner, every(700)),
        (Trouble::Crash, every(2_000)),
    ];
    let climate = Some(Climate { weather: Weather::calm(), troubles });
    Plan { climate, operations: 400, ..plan(Strategy::BadState) }.beyond()
}

/// What a source says of the maps is held against what it says itself, and against no certificate.
enum TrustsSource {}

impl Rules for TrustsSource {
    fn digests(_: &Head, summaries: &Summaries) -> [Digest; 2] {
        [summaries.system.digest(), summaries.service.digest()]
    }
    fn assemble(head: &Head, system: Map, service: Map, _: &Map) -> Option<State> {
        Some(unchecked(head, system, service))
    }
}

fn unchecked(head: &Head, system: Map, map: Map) -> State {
    let Head { slot, chain, outcome, time, version, .. } = *head;
    State { slot, chain, outcome, time, version, system: System::from(system), map }
}

#[test]
fn a_transfer_that_trusts_its_source() {
    convict::<Small, TrustsSource>(0, &fetching(), &["copies", "linearizability", "unanimity"]);
}

/// The state is the service's alone: sessions are what they were here before.
enum LeavesSessionsOut {}

impl Rules for LeavesSessionsOut {
    fn assemble(head: &Head, _: Map, service: Map, own: &Map) -> Option<State> {
        Some(unchecked(head, own.clone(), service))
    }
}

#[test]
fn a_transfer_that_leaves_sessions_out() {
    convict::<Small, LeavesSessionsOut>(
        0,
        &fetching(),
        &["copies", "linearizability", "unanimity"],
    );
}
