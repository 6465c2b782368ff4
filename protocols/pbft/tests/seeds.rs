//! Many seeds over the real coordination service, each with one Byzantine replica, which every learner hears first, under
//! everything else that goes wrong at once. Watches and leases go on all the while. These are seeds of the standard rota,
//! and so the runs of `testudo sim` with the same seeds.
//!
//! `TESTUDO_SEEDS=500 TESTUDO_COMMIT=$(git rev-parse HEAD)` runs those with liars of 500 fixed seeds and of as many drawn
//! from the commit. `TESTUDO_SEED=N` runs one.

use testudo_lab::plans::LIARS;
use testudo_lab::{Rota, conform, subject};
use testudo_pbft::Pbft;
use testudo_sim::conformance::Seeds;
use testudo_sim::upstream::Strategy;

#[test]
fn seeds_with_one_liar() {
    let rota = Rota::standard();
    let seeds = rota.seeds_of(LIARS, &Seeds::for_tests(rota.round() / 3));
    let summary = conform(&*subject::<Pbft>(), &rota, &seeds);
    let drawn: Vec<String> = seeds.all().iter().map(ToString::to_string).collect();
    println!("seeds: {}\n{summary}", drawn.join(" "));
    summary.assert_clean();
    let fewest = summary.fewest.unwrap_or(usize::MAX);
    assert!(fewest >= 200, "every run answers at least 200 operations, one {fewest}");
    if seeds.all().len() < 52 {
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
