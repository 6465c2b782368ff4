//! Whether the standard runs meet what they are for: every fault bites, and leads to all that it should lead to.
//!
//! `TESTUDO_SEEDS=1000 cargo test --release -p testudo-lab --test coverage` judges it, as that many seeds of `testudo sim`
//! would. Fewer seeds are judged by the rules alone.

use std::collections::BTreeMap;
use testudo_lab::coverage::ENOUGH;
use testudo_lab::{Coverage, Due, Rota, conform, subject};
use testudo_pbft::Pbft;
use testudo_sim::conformance::Seeds;

#[test]
fn every_fault_bites_and_has_its_effects() {
    let rota = Rota::standard();
    let seeds = Seeds::for_tests(8);
    let summary = conform(&*subject::<Pbft>(), &rota, &seeds);
    let counts: BTreeMap<String, u64> = summary.counts.clone();
    let coverage = Coverage::of(&counts, &rota.faults(), Due::Effects);
    for (name, count) in coverage.faults.values().flatten().chain(&coverage.effects) {
        println!("{name:>44} {count}");
    }
    summary.assert_clean();
    if summary.seeds.len() as u64 >= ENOUGH {
        assert_eq!(coverage.missing, Vec::<String>::new(), "these never happened");
    }
}
