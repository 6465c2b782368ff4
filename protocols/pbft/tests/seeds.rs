//! Many seeds over the real coordination service, each with one Byzantine replica, which every learner hears first, under
//! everything else that goes wrong at once. Watches and leases go on all the while.
//!
//! `TESTUDO_SEEDS=500 TESTUDO_COMMIT=$(git rev-parse HEAD)` runs 500 fixed seeds and as many drawn from the commit.
//! `TESTUDO_SEED=N` runs one.

mod kv;
mod support;

use kv::Coordination;
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
        Misconduct::Upstream(None),
    ];
    let troubles =
        vec![Trouble::Crash, Trouble::Partition, Trouble::OneWay, Trouble::Clock, Trouble::Learner];
    let of = |liar: &Misconduct| {
        let plan = Plan { operations: 210, clients: 2, learners: 2, ..Plan::default() };
        Plan { troubles: troubles.clone(), ..plan }.with_liar(*liar)
    };
    let four = liars.iter().map(of);
    let five = liars.iter().map(|liar| Plan { replicas: Some(5), ..of(liar) });
    // Correct replicas with intact disks may be down in any number for a while: nothing may be lost by it.
    let crashing = liars.iter().map(|liar| of(liar).beyond());
    // Two faults of seven: a liar, and besides it a clock that is years off, a crash, or rot in a log.
    let rotten = vec![Trouble::Clock, Trouble::Rot, Trouble::Crash, Trouble::Learner];
    let two = |liar: &Misconduct| Plan { f: 2, troubles: rotten.clone(), ..of(liar) };
    let seven = liars.iter().map(two);
    let plans = four.zip(five).zip(crashing).zip(seven);
    plans.flat_map(|(((four, five), crashing), seven)| [four, crashing, five, seven]).collect()
}

#[test]
fn seeds_with_one_liar() {
    let seeds = Seeds::for_tests(40);
    let summary = conform(Replicated::<Pbft, Lore, Coordination>::default, &seeds, &plans());
    let drawn: Vec<String> = seeds.all().iter().map(ToString::to_string).collect();
    println!("seeds: {}\n{summary}", drawn.join(" "));
    summary.assert_clean();
    let runs = seeds.all().len() as u64;
    assert!(summary.fewest >= Some(200), "every run answers at least 200 operations");
    if runs < 40 {
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
        "trouble: learner crash",
        "view changes",
        "words lost in crashes",
        "writes lost in crashes",
    ] {
        assert!(summary.count(name) > 0, "{name} never happened");
    }
}
