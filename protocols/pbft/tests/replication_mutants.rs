//! Replicas that keep what they replicate by a broken rule are convicted by the oracles, in seeds that those who keep the
//! rules pass.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;
use testudo_contracts::Batch;
use testudo_core::{Context, Digest, Evidence, Slot};
use testudo_pbft::message::{Message, PrePrepare};
use testudo_pbft::{Pbft, safety};
use testudo_replication::learner::rules::{Rules as Fetching, Standard};
use testudo_replication::rules::Rules;
use testudo_replication::sessions::{Remembered, System};
use testudo_replication::{Head, Replicated as State, Summaries};
use testudo_sim::conformance::run_seed;
use testudo_sim::replicated::{Knowledge, Lore, Replicated};
use testudo_sim::upstream::Strategy;
use testudo_sim::workload::Small;
use testudo_sim::{Chance, Climate, Harm, Misconduct, Plan, Trouble, Weather};
use testudo_state::Map;

/// Where conviction is sought.
const SEEDS: u64 = 50;

/// The first seed in which replicas with another rule break one of these. Those with the right rules pass every seed up to
/// it.
fn convict<R: Rules, K: Knowledge<Pbft>>(plan: &Plan, oracles: &[&str]) {
    for seed in 0..SEEDS {
        PROPOSED.take();
        let right = run_seed(Replicated::<Pbft, K>::default, seed, plan);
        assert!(right.is_clean(), "the right rules fail\n{right}");
        PROPOSED.take();
        let report = run_seed(Replicated::<Pbft, K, Small, Standard, R>::default, seed, plan);
        let Some(found) = report.violations.first() else { continue };
        assert!(oracles.contains(&found.oracle), "convicted of something else\n{report}");
        println!("seed {seed} convicts it: {found}");
        return;
    }
    panic!("{SEEDS} seeds do not convict it");
}

fn every(millis: u64, troubles: &[Trouble]) -> Option<Climate> {
    let weather = Weather { lost_per_mille: 20, doubled_per_mille: 20, ..Weather::calm() };
    let mean = Duration::from_millis(millis);
    Some(Climate { weather, troubles: troubles.iter().map(|trouble| (*trouble, mean)).collect() })
}

/// Memories rot one after the other, so that states are fetched; of seven replicas one lies about them.
fn rotting() -> Plan {
    let climate = every(1_000, &[Trouble::Harm(Harm::Memory)]);
    let plan = Plan { f: 2, climate, operations: 300, heals: true, ..Plan::default() };
    plan.with_liar(Misconduct::Upstream(Some(Strategy::BadState)))
}

fn unchecked(head: &Head, system: Map, map: Map) -> State {
    let Head { slot, chain, outcome, time, version, .. } = *head;
    State { slot, chain, outcome, time, version, system: System::from(system), map }
}

/// What a source says of the maps is held against what it says itself, and against no certificate.
enum TrustsSource {}

impl Fetching for TrustsSource {
    fn digests(_: &Head, summaries: &Summaries) -> [Digest; 2] {
        [summaries.system.digest(), summaries.service.digest()]
    }
    fn assemble(head: &Head, system: Map, service: Map, _: &Map) -> Option<State> {
        Some(unchecked(head, system, service))
    }
}

impl Rules for TrustsSource {}

#[test]
fn a_transfer_that_trusts_its_source() {
    let oracles = ["exactly once", "equal states", "equal checkpoints", "recovery"];
    convict::<TrustsSource, Lore>(&rotting(), &oracles);
}

/// A state is fetched without its sessions: they stay what they were here.
enum FetchesNoSessions {}

impl Fetching for FetchesNoSessions {
    fn assemble(head: &Head, _: Map, service: Map, own: &Map) -> Option<State> {
        Some(unchecked(head, own.clone(), service))
    }
}

impl Rules for FetchesNoSessions {}

#[test]
fn a_transfer_that_leaves_sessions_out() {
    let oracles = ["exactly once", "equal states", "equal checkpoints", "recovery"];
    convict::<FetchesNoSessions, Lore>(&rotting(), &oracles);
}

/// A snapshot stands for the service's state alone: whoever starts from it knows of no session.
enum SavesNoSessions {}

impl Fetching for SavesNoSessions {}

impl Rules for SavesNoSessions {
    fn take_up(state: State, genesis: &State) -> State {
        State { system: genesis.system.clone(), ..state }
    }
}

#[test]
fn a_snapshot_without_sessions() {
    let climate = every(1_500, &[Trouble::Crash, Trouble::Blackout]);
    let plan = Plan { climate, operations: 300, ..Plan::default() }.beyond();
    let oracles = ["exactly once", "equal states", "equal checkpoints", "total order", "liveness"];
    convict::<SavesNoSessions, Lore>(&plan, &oracles);
}

/// A session forgets what a bundle came to as soon as it is done, and takes it for one that it has not seen.
enum ForgetsAtOnce {}

impl Fetching for ForgetsAtOnce {}

impl Rules for ForgetsAtOnce {
    fn remember(system: &mut System, session: u64, sequence: u64, remembered: &Remembered) {
        system.remember(session, sequence, remembered);
        let mut map = system.map().clone();
        map.remove(&[&b"r"[..], &session.to_be_bytes(), &sequence.to_be_bytes()].concat());
        *system = System::from(map);
    }
}

/// Nothing that a session remembers is ever let go of.
enum ForgetsNothing {}

impl Fetching for ForgetsNothing {}

impl Rules for ForgetsNothing {
    fn remember(system: &mut System, session: u64, sequence: u64, remembered: &Remembered) {
        let before = system.map().clone();
        system.remember(session, sequence, remembered);
        let mut map = system.map().clone();
        for (key, reply) in before.iter().filter(|(key, _)| key.starts_with(b"r")) {
            map.insert(key, reply.clone());
        }
        *system = System::from(map);
    }
}

#[test]
fn sessions_that_never_forget() {
    let plan = Plan { climate: Some(Climate::calm()), ..Plan::default() };
    convict::<ForgetsNothing, Lore>(&plan, &["bounded memory"]);
}

thread_local! {
    /// What a lying primary has proposed in this run.
    static PROPOSED: RefCell<BTreeMap<Slot, Vec<Digest>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Proposes what it had proposed in the slot before once more, with what is new.
enum ProposesAgain {}

impl Knowledge<Pbft> for ProposesAgain {
    const BLINDLY: bool = false;

    fn corrupt(message: &Message, _: &mut dyn Chance) -> Option<Message> {
        let Message::PrePrepare(PrePrepare { view, slot, batch }) = message.clone() else {
            return None;
        };
        PROPOSED.with_borrow_mut(|proposed| {
            proposed.entry(slot).or_insert_with(|| batch.bundles.clone());
            let before = proposed.get(&Slot(slot.0.checked_sub(1)?))?;
            let again = before.iter().filter(|bundle| !batch.bundles.contains(bundle));
            let bundles = batch.bundles.iter().chain(again).copied().collect();
            Some(Message::PrePrepare(PrePrepare { view, slot, batch: Batch { bundles, ..batch } }))
        })
    }

    fn convicts(evidence: &Evidence, context: &Context<'_>) -> bool {
        safety::is_convicted(evidence, context)
    }
}

#[test]
fn sessions_that_forget_too_early() {
    let plan = Plan { climate: Some(Climate::calm()), ..Plan::default() };
    let plan = plan.with_liar(Misconduct::Consistent);
    convict::<ForgetsAtOnce, ProposesAgain>(&plan, &["exactly once"]);
}
