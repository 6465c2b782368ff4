//! Many seeds, each with one Byzantine replica, under everything else that goes wrong at once.
//!
//! `TESTUDO_SEEDS=500 TESTUDO_COMMIT=$(git rev-parse HEAD)` runs 500 fixed seeds and as many drawn from the commit.
//! `TESTUDO_SEED=N` runs one.

mod support;

use support::Lore;
use testudo_pbft::Pbft;
use testudo_sim::conformance::{Seeds, conform};
use testudo_sim::replicated::Replicated;
use testudo_sim::{Misconduct, Plan, Trouble};

/// Every kind of liar among four replicas, and each again among five, where a quorum is four and not 2f+1.
fn plans() -> Vec<Plan> {
    let liars = [
        Misconduct::Equivocate,
        Misconduct::Silent,
        Misconduct::Twins,
        Misconduct::Corrupt,
        Misconduct::Selective,
        Misconduct::Random,
        Misconduct::Stale,
        Misconduct::Slow,
        Misconduct::Replay,
    ];
    let of = |liar: &Misconduct| Plan { operations: 210, ..Plan::default() }.with_liar(*liar);
    let four = liars.iter().map(of);
    let five = liars.iter().map(|liar| Plan { replicas: Some(5), ..of(liar) });
    // Correct replicas with intact disks may be down in any number for a while: nothing may be lost by it.
    let crashing = liars.iter().map(|liar| of(liar).beyond());
    // Two faults of seven: a liar, and besides it a clock that is years off, a crash, or rot in a log.
    let troubles = vec![Trouble::Clock, Trouble::Rot, Trouble::Crash];
    let two = |liar: &Misconduct| Plan { f: 2, troubles: troubles.clone(), ..of(liar) };
    let seven = liars.iter().map(two);
    let plans = four.zip(five).zip(crashing).zip(seven);
    plans.flat_map(|(((four, five), crashing), seven)| [four, crashing, five, seven]).collect()
}

#[test]
fn seeds_with_one_liar() {
    let seeds = Seeds::for_tests(36);
    let summary = conform(Replicated::<Pbft, Lore>::default, &seeds, &plans());
    let drawn: Vec<String> = seeds.all().iter().map(ToString::to_string).collect();
    println!("seeds: {}\n{summary}", drawn.join(" "));
    summary.assert_clean();
    let runs = seeds.all().len() as u64;
    assert!(summary.fewest >= Some(200), "every run answers at least 200 operations");
    if runs < 36 {
        return;
    }
    // Trouble that was asked for and never came proves nothing.
    for name in [
        "crashes",
        "lies convicted",
        "lies told",
        "messages cut off",
        "messages doubled",
        "messages lost",
        "messages refused",
        "messages to the dead",
        "records rotted",
        "trouble: blackout",
        "trouble: clock",
        "trouble: crash",
        "trouble: one-way",
        "trouble: partition",
        "trouble: rot",
        "view changes",
        "words lost in crashes",
        "writes lost in crashes",
    ] {
        assert!(summary.count(name) > 0, "{name} never happened");
    }
}
