//! Runs that byte strings decide, as a fuzzer makes them: always the same ones, and where `TESTUDO_COMMIT` is set as many more,
//! drawn from that word.

mod broken;

use broken::{DropsPrepared, ShortQuorum};
use testudo_pbft::{Pbft, Rules};
use testudo_sim::bytes::{drawn, run_bytes};
use testudo_sim::conformance::Seeds;
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::{Misconduct, Plan, Report, Summary};

/// How many strings are tried, and how long each is.
const STRINGS: u64 = if cfg!(debug_assertions) { 200 } else { 2_000 };
const LENGTH: usize = 600;

fn plan() -> Plan {
    Plan { clients: 2, operations: 12, keys: 2, ..Plan::default() }
}

fn run<R: Rules>(bytes: &[u8], plan: &Plan) -> Report {
    run_bytes(Replicated::<Pbft<R>, Lore>::default, bytes, plan)
}

fn number(name: &str, otherwise: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(otherwise, |value| value.parse().expect("it is a number"))
}

/// Without a liar more replicas than f may crash, as their disks are good; with one, none may.
#[test]
fn any_bytes_are_a_run_that_is_right() {
    let plans = [
        plan().beyond(),
        plan().with_liar(Misconduct::Equivocate),
        plan().with_liar(Misconduct::Random),
        plan(),
    ];
    let mut summary = Summary::default();
    let count = number("TESTUDO_STRINGS", STRINGS);
    let mut seeds = Seeds::fixed(count);
    if let Ok(word) = std::env::var("TESTUDO_COMMIT") {
        seeds = seeds.and_drawn(&word, count);
    }
    for &seed in seeds.all() {
        let plan = &plans[(seed % 4) as usize];
        let report = run::<testudo_pbft::Standard>(&drawn(seed, LENGTH), plan);
        if !report.is_clean() {
            println!("string {seed} fails");
        }
        summary.add(report);
    }
    summary.assert_clean();
    println!("{summary}");
    for name in ["crashes", "timers fired", "messages lost", "messages doubled", "lies told"] {
        assert!(summary.count(name) > 0, "no {name}");
    }
    assert!(summary.count("messages cut off") > 0 && summary.count("view changes") > 0);
    assert!(summary.answered > 0);
}

/// Nothing happens, one thing happens over and over, and every byte there is.
#[test]
fn dull_bytes_are_runs_too() {
    let all: Vec<u8> = (0..=255).collect();
    let mut strings = vec![Vec::new(), vec![0], all.clone(), all.into_iter().rev().collect()];
    strings.extend([0, 159, 160, 192, 216, 246, 255].map(|byte| vec![byte; 200]));
    for bytes in strings {
        let report = run::<testudo_pbft::Standard>(&bytes, &plan().beyond());
        assert!(report.is_clean(), "{bytes:?}\n{report}");
    }
}

#[test]
fn one_string_is_one_run() {
    let bytes = drawn(7, LENGTH);
    let audit = || run::<testudo_pbft::Standard>(&bytes, &plan()).audit;
    assert_eq!(audit(), audit());
    let other = run::<testudo_pbft::Standard>(&drawn(8, LENGTH), &plan());
    assert_ne!(other.audit, audit());
}

/// Bytes convict a mutant, whose strings the right rules pass.
fn convict<R: Rules>(plan: &Plan, oracles: &[&str]) {
    for seed in 0..2_000 {
        let bytes = drawn(seed, LENGTH);
        let report = run::<R>(&bytes, plan);
        let Some(found) = report.violations.first() else { continue };
        assert!(oracles.contains(&found.oracle), "convicted of something else\n{report}");
        let right = run::<testudo_pbft::Standard>(&bytes, plan);
        assert!(right.is_clean(), "the right rules fail\n{right}");
        println!("string {seed} convicts it: {found}");
        return;
    }
    panic!("no string convicts it");
}

#[test]
fn bytes_find_a_quorum_one_short() {
    let plan = plan().with_liar(Misconduct::Equivocate);
    convict::<ShortQuorum>(&plan, &["agreement", "honesty"]);
}

#[test]
fn bytes_find_a_forgotten_certificate() {
    convict::<DropsPrepared>(&plan(), &["agreement", "exactly once", "liveness"]);
}
