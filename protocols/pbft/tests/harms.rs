//! Disks and memories that come to harm, one replica after the other: each heals before the next is struck, and in the end
//! all are well and vote, with equal states. Some come back under another voting key, each in an epoch of its own. `testudo_sim::atlas` says what is promised under which trouble.
//!
//! `TESTUDO_SEEDS=500` runs those of 500 seeds that are about harm. `TESTUDO_SEED=N` runs one.

use std::time::Duration;
use testudo_lab::plans::HARMS;
use testudo_lab::{Rota, conform, subject};
use testudo_pbft::Pbft;
use testudo_sim::conformance::{self, Seeds};
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::{Climate, Harm, Plan, Trouble, Weather};

/// More records than two intervals between snapshots take.
const MOST_RECORDS: usize = 1_000;

#[test]
fn whoever_comes_to_harm_heals() {
    let rota = Rota::standard();
    let seeds = rota.seeds_of(HARMS, &Seeds::for_tests(rota.round() / 3));
    let summary = conform(&*subject::<Pbft>(), &rota, &seeds);
    println!("{summary}");
    summary.assert_clean();
    if seeds.all().len() < 52 {
        return;
    }
    // Trouble that was asked for and never came proves nothing.
    for harm in Harm::ALL {
        assert!(summary.count(harm.name()) > 0, "{harm} never happened");
    }
    for name in ["epochs begun", "losses found by a scrub", "states compared", "states transferred"]
    {
        assert!(summary.count(name) > 0, "{name}: none");
    }
    assert!(summary.count("trouble: helical rot") > 0, "no helical rot");
}

/// What snapshots cover is let go of: a log is as long after many operations as after a few.
#[test]
fn logs_stay_bounded() {
    let weather = Weather { lost_per_mille: 20, doubled_per_mille: 20, ..Weather::calm() };
    let troubles = vec![(Trouble::Crash, Duration::from_millis(3_000))];
    let climate = Some(Climate { weather, troubles });
    let plan = Plan { operations: 1_200, climate, heals: true, ..Plan::default() };
    let plan = Plan { most_records: Some(MOST_RECORDS), ..plan };
    let make = Replicated::<Pbft, Lore>::default;
    let summary = conformance::conform(make, &Seeds::fixed(3), &[plan]);
    println!("{summary}");
    summary.assert_clean();
    // Without forgetting there would be several records of each slot.
    assert!(summary.count("slots executed") > 3 * 4 * MOST_RECORDS as u64);
}
