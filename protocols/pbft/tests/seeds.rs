//! Many seeds over the real coordination service, each with one Byzantine replica, which every learner hears first, under
//! everything else that goes wrong at once. Watches and leases go on all the while.
//!
//! `TESTUDO_SEEDS=500 TESTUDO_COMMIT=$(git rev-parse HEAD)` runs 500 fixed seeds and as many drawn from the commit.
//! `TESTUDO_SEED=N` runs one.

use std::time::Duration;
use testudo_lab::Coordination;
use testudo_pbft::Pbft;
use testudo_sim::conformance::{Seeds, conform};
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::upstream::Strategy;
use testudo_sim::{Climate, Harm, Misconduct, Plan, Trouble, Weather};

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
    let rotten =
        vec![Trouble::Clock, Trouble::Harm(Harm::Record), Trouble::Crash, Trouble::Learner];
    let two = |liar: &Misconduct| Plan { f: 2, troubles: rotten.clone(), ..of(liar) };
    let seven = liars.iter().map(two);
    let plans = four.zip(five).zip(crashing).zip(seven);
    let plans = plans.flat_map(|(((four, five), crashing), seven)| [four, crashing, five, seven]);
    // Every way of lying to learners, each by itself, while replicas start from snapshots again and again.
    let alone = |strategy| Misconduct::Upstream(Some(strategy));
    let upstream = Strategy::ALL
        .map(|strategy| Plan { climate: Some(restless()), ..of(&alone(strategy)).beyond() });
    plans.chain(upstream).collect()
}

/// Replicas and learners come and go, and the network does little else.
fn restless() -> Climate {
    let weather = Weather { lost_per_mille: 20, doubled_per_mille: 20, ..Weather::calm() };
    let every = Duration::from_millis;
    let troubles = vec![
        (Trouble::Blackout, every(3_000)),
        (Trouble::Crash, every(2_000)),
        (Trouble::Learner, every(1_500)),
        (Trouble::OneWay, every(5_000)),
    ];
    Climate { weather, troubles }
}

#[test]
fn seeds_with_one_liar() {
    let seeds = Seeds::for_tests(52);
    let summary = conform(Replicated::<Pbft, Lore, Coordination>::default, &seeds, &plans());
    let drawn: Vec<String> = seeds.all().iter().map(ToString::to_string).collect();
    println!("seeds: {}\n{summary}", drawn.join(" "));
    summary.assert_clean();
    let runs = seeds.all().len() as u64;
    assert!(summary.fewest >= Some(200), "every run answers at least 200 operations");
    if runs < 52 {
        return;
    }
    // Trouble that was asked for and never came proves nothing.
    for strategy in Strategy::ALL {
        let name = format!("lies: {}", strategy.name());
        assert!(summary.count(&name) > 0, "{name} were never told");
    }
    for name in [
        "compactions",
        "copies compared",
        "crashes",
        "gateways that came back",
        "leases expired",
        "leases kept alive",
        "lies convicted",
        "lies told",
        "messages cut off",
        "messages doubled",
        "messages lost",
        "messages refused",
        "messages to the dead",
        "rotten record",
        "snapshots",
        "states asked for by learners",
        "states shown by learners",
        "trouble: blackout",
        "trouble: clock",
        "trouble: crash",
        "trouble: one-way",
        "trouble: partition",
        "trouble: rotten record",
        "trouble: learner crash",
        "upstreams chosen",
        "view changes",
        "watch answers",
        "watch fragments",
        "watch progress notices",
        "watches that were compacted away",
        "words lost in crashes",
        "writes lost in crashes",
    ] {
        assert!(summary.count(name) > 0, "{name} never happened");
    }
}
