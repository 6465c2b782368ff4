//! Under replication in the simulator, with crashes at bad moments and power failures: what every ordering must stand.
//!
//! `TESTUDO_SEEDS=500` runs as many seeds, `TESTUDO_SEED=N` one. The skeleton runs alone and survives no liar; with a
//! view change for several replicas this file becomes one line, `testudo_sim::conformance!`, which adds every kind of
//! liar.

use __crate__::__Type__;
use testudo_sim::Plan;
use testudo_sim::bare::{self, Bare};
use testudo_sim::conformance::{Seeds, conform, run_seed};
use testudo_sim::replicated::{Lore, Replicated};

type One = Replicated<__Type__, Lore>;

/// One replica, which may be down for a while.
fn plan() -> Plan {
    Plan { f: 0, replicas: Some(1), ..Plan::default() }.beyond()
}

#[test]
fn replicated() {
    let seeds = Seeds::for_tests(8);
    let summary = conform(One::default, &seeds, &[plan()]);
    println!("{summary}");
    summary.assert_clean();
    let runs = seeds.all().len() as u64;
    assert!(summary.answered >= runs * 200, "every run answers at least 200 operations");
    if runs < 8 {
        return;
    }
    // Trouble that was asked for and never came proves nothing.
    for name in ["crashes", "view changes", "words lost in crashes", "writes lost in crashes"] {
        assert!(summary.count(name) > 0, "{name} never happened");
    }
}

#[test]
fn bare() {
    bare::conform(Bare::<__Type__>::default, &Seeds::for_tests(8), &[plan()]).assert_clean();
}

#[test]
fn one_seed_is_one_run() {
    let run = || run_seed(One::default, 1, &plan()).audit;
    assert_eq!(run(), run());
}
