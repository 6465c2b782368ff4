//! Replicas over the log that production uses, on disks that do all that disks do: they tear writes, lose and misdirect
//! them, rot, fail, fill up and dawdle. Books beside each log say what it must give back; `testudo_sim::atlas` says what is
//! promised under which trouble.
//!
//! `TESTUDO_SEEDS=500` runs 500 seeds. `TESTUDO_SEED=N` runs one.

use std::time::{Duration, Instant};
use testudo_lab::Coordination;
use testudo_pbft::Pbft;
use testudo_sim::conformance::{Seeds, conform, run_seed};
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::{Climate, Disks, Harm, Misconduct, Plan, Trouble, Weather};

/// What a real log knows more of than books do.
const BYTES: [Harm; 6] = [
    Harm::FlippedBit,
    Harm::LostSector,
    Harm::ZeroedRun,
    Harm::FailedFlush,
    Harm::FullDisk,
    Harm::SlowDisk,
];

/// This harm again and again, among crashes.
fn again_and_again(harms: &[Harm]) -> Climate {
    let weather = Weather { lost_per_mille: 20, ..Weather::calm() };
    let harms = harms.iter().map(|harm| (Trouble::Harm(*harm), Duration::from_millis(1_000)));
    let crashes = [(Trouble::Crash, Duration::from_millis(1_500))];
    Climate { weather, troubles: harms.chain(crashes).collect() }
}

fn plans() -> Vec<Plan> {
    let base = Plan {
        operations: 250,
        clients: 3,
        learners: 1,
        heals: true,
        disks: Disks::Logs,
        ..Plan::default()
    };
    let mut plans = Vec::new();
    for harm in Harm::ALL {
        let climate = again_and_again(&[harm]);
        plans.push(Plan { climate: Some(climate.clone()), ..base.clone() });
        // Everybody loses power at once, at moments chosen to be bad.
        let blackouts = [(Trouble::Blackout, Duration::from_millis(1_500))];
        let troubles = climate.troubles.iter().copied().chain(blackouts).collect();
        let dark = Climate { troubles, ..climate };
        plans.push(Plan { climate: Some(dark), ..base.clone() }.beyond());
    }
    // Nobody starts again by accident: what rots is found by a scrub, or when it is too late.
    let rot = [Harm::Record, Harm::RecordAndTag, Harm::Misdirected, Harm::Snapshot];
    let harms = rot.map(|harm| (Trouble::Harm(harm), Duration::from_millis(2_000)));
    let quiet = Climate { weather: Weather::calm(), troubles: harms.to_vec() };
    let quiet = Plan { climate: Some(quiet), operations: 600, ..base.clone() };
    plans.extend([quiet.clone(), quiet.clone(), quiet]);
    let troubles = BYTES.map(Trouble::Harm).to_vec();
    let two = Plan { f: 2, troubles: [troubles, vec![Trouble::Crash]].concat(), ..base.clone() };
    plans.push(two.clone());
    plans.push(two.with_liar(Misconduct::Random));
    let troubles = vec![(Trouble::Helical, Duration::from_millis(4_000))];
    let climate = Some(Climate { weather: Weather::calm(), troubles });
    plans.push(Plan { climate, ..base });
    plans
}

#[test]
fn real_logs_keep_what_they_are_given() {
    let plans = plans();
    let seeds = Seeds::for_tests(plans.len() as u64);
    let summary = conform(Replicated::<Pbft, Lore, Coordination>::default, &seeds, &plans);
    println!("{summary}");
    summary.assert_clean();
    if seeds.all().len() < plans.len() {
        return;
    }
    // Trouble that was asked for and never came proves nothing.
    for harm in Harm::ALL {
        assert!(summary.count(harm.name()) > 0, "{harm} never happened");
    }
    for name in [
        "losses found at starts",
        "losses found by a scrub",
        "nodes that their disks stopped",
        "places mended on disks",
        "torn tails",
        "trouble: helical rot",
        "trouble: slow disk",
    ] {
        assert!(summary.count(name) > 0, "{name}: none");
    }
}

/// A seed is one run, over a real log as over books.
#[test]
fn one_seed_is_one_run() {
    let plan = Plan { troubles: BYTES.map(Trouble::Harm).to_vec(), ..Plan::default() };
    for disks in [Disks::Books, Disks::Logs] {
        let plan = Plan { disks, ..plan.clone() };
        let run = || run_seed(Replicated::<Pbft, Lore>::default, 3, &plan).audit;
        assert_eq!(run(), run());
    }
}

/// Where nothing befalls the disks it comes to the same, over books and over logs.
#[test]
fn logs_change_nothing_but_what_is_on_the_disk() {
    let climate = Some(Climate { weather: Weather::calm(), troubles: Vec::new() });
    let plan = Plan { climate, operations: 400, ..Plan::default() };
    for seed in 0..3 {
        let run = |disks| {
            let begun = Instant::now();
            let plan = Plan { disks, storm: Duration::from_secs(60), ..plan.clone() };
            let report = run_seed(Replicated::<Pbft, Lore, Coordination>::default, seed, &plan);
            println!("{disks:?}: {} steps in {:?}", report.steps, begun.elapsed());
            assert!(report.is_clean(), "{report}");
            report
        };
        let (books, logs) = (run(Disks::Books), run(Disks::Logs));
        assert!(logs.count("logs opened") > 0 && books.count("logs opened") == 0);
        assert_eq!(books.answered, logs.answered);
    }
}
