//! The conformance suite on the toy: the sound one passes, and each flaw is convicted.

extern crate alloc;

mod common;

use common::{Flaws, Register};
use std::time::Duration;
use testudo_sim::conformance::{Seeds, conform, run_seed};
use testudo_sim::{Climate, Misconduct, Plan, Signatures, Summary, Trouble, Weather};

testudo_sim::conformance!(register: Register::default(), seeds: 6);

fn convict(flaws: Flaws, plan: &Plan, oracles: &[&str]) -> Summary {
    let summary = conform(|| Register { flaws }, &Seeds::fixed(100), std::slice::from_ref(plan));
    let found: Vec<&str> = summary
        .failures
        .iter()
        .flat_map(|report| report.violations.iter().map(|violation| violation.oracle))
        .collect();
    assert!(
        found.iter().any(|oracle| oracles.contains(oracle)),
        "{flaws:?} goes unpunished: {found:?}\n{summary}"
    );
    summary
}

#[test]
fn readers_that_do_not_write_back_are_convicted() {
    let flaws = Flaws { no_write_back: true, ..Flaws::default() };
    // Half-done writes must linger for readers to disagree on them.
    let weather =
        Weather { lost_per_mille: 350, jitter: Duration::from_millis(1), ..Weather::calm() };
    let climate = Some(Climate { weather, troubles: Vec::new() });
    let plan = Plan { keys: 1, clients: 6, climate, ..Plan::default() };
    convict(flaws, &plan, &["linearizability"]);
}

#[test]
fn acknowledging_before_the_disk_has_it_is_convicted() {
    let flaws = Flaws { eager_acknowledgement: true, ..Flaws::default() };
    let plan = Plan { troubles: vec![Trouble::Blackout], ..Plan::default() }.beyond();
    convict(flaws, &plan, &["linearizability"]);
}

#[test]
fn quorums_that_meet_in_liars_are_convicted() {
    let flaws = Flaws { small_quorum: true, ..Flaws::default() };
    convict(flaws, &Plan::default().with_liar(Misconduct::Stale), &["linearizability"]);
}

/// This system never says how far its replicas have executed: what they keep is counted all the same.
#[test]
fn what_grows_while_nothing_is_executed_is_convicted() {
    let flaws = Flaws { hoards: true, ..Flaws::default() };
    let report = run_seed(|| Register { flaws }, 1, &Plan::default());
    let found: Vec<&str> = report.violations.iter().map(|found| found.oracle).collect();
    assert_eq!(found, ["bounded memory"], "{report}");
    let sound = run_seed(Register::default, 1, &Plan::default());
    assert!(sound.is_clean(), "{sound}");
}

#[test]
fn more_liars_than_f_break_liveness() {
    let plan = Plan {
        liars: vec![Misconduct::Silent; 2],
        operations: 20,
        patience: Duration::from_secs(20),
        ..Plan::default()
    };
    let report = run_seed(Register::default, 3, &plan);
    let oracles: Vec<&str> = report.violations.iter().map(|found| found.oracle).collect();
    assert_eq!(oracles, ["liveness"], "{report}");
    assert!(!report.trace.is_empty());
}

#[test]
fn faults_that_bite_are_counted() {
    let plan = Plan::default().with_liar(Misconduct::Equivocate).beyond();
    let summary = conform(Register::default, &Seeds::fixed(12).and_drawn("a word", 3), &[plan]);
    summary.assert_clean();
    for name in ["crashes", "messages lost", "messages cut off", "lies told", "trouble: blackout"] {
        assert!(summary.count(name) > 0, "{name}\n{summary}");
    }
    assert_eq!(summary.seeds.len(), 15);
}

#[test]
fn one_seed_of_a_hundred_has_real_signatures() {
    let plan = Plan { operations: 40, storm: Duration::from_secs(2), ..Plan::default() };
    let real = plan.clone().with_liar(Misconduct::Replay);
    let seed = (0..).find(|seed| Signatures::of(*seed) == Signatures::Ed25519).expect("some are");
    let report = run_seed(Register::default, seed, &real);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.count("runs with real signatures"), 1);
    assert_eq!(report.audit, run_seed(Register::default, seed, &real).audit);
    // What signatures are is the plan's to say, and changes nothing else.
    let hashed = Plan { signatures: Some(Signatures::Hashed), ..real };
    let other = run_seed(Register::default, seed, &hashed);
    assert_eq!(other.count("runs with real signatures"), 0);
    assert_eq!((other.steps, other.time), (report.steps, report.time));
}
