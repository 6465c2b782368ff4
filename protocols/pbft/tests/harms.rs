//! Disks and memories that come to harm, one replica after the other: each heals before the next is struck, and in the end
//! all are well, with equal states. `testudo_sim::atlas` says what is promised under which trouble.
//!
//! `TESTUDO_SEEDS=500` runs 500 seeds. `TESTUDO_SEED=N` runs one.

mod kv;
mod support;

use kv::Coordination;
use std::time::Duration;
use support::Lore;
use testudo_pbft::Pbft;
use testudo_sim::conformance::{Seeds, conform};
use testudo_sim::replicated::Replicated;
use testudo_sim::upstream::Strategy;
use testudo_sim::workload::Hosted;
use testudo_sim::{Climate, Harm, Misconduct, Plan, Summary, Trouble, Weather};

/// Whether a state that differs is replaced by transfer.
const STATES_HEAL: bool = true;
/// Whether a replica that has lost votes, or its whole disk, finds out what it may say and what not.
const PROMISES_HEAL: bool = true;

/// What heals by itself.
fn harms() -> Vec<Harm> {
    let always = [Harm::SuperblockCopy, Harm::Snapshot];
    let states = [Harm::Memory].into_iter().filter(|_| STATES_HEAL);
    let promises = [Harm::Record, Harm::RecordAndTag, Harm::Misdirected];
    always.into_iter().chain(states).chain(promises.into_iter().filter(|_| PROMISES_HEAL)).collect()
}

/// What leaves a replica without its vote for the rest of a run, or may.
const LASTING: [Harm; 4] = [Harm::LostWrite, Harm::Superblock, Harm::Wiped, Harm::OldImage];

/// More records than two intervals between snapshots take.
const MOST_RECORDS: usize = 1_000;

/// Ways of lying to whoever fetches a state.
const LIARS: [Option<Strategy>; 4] =
    [Some(Strategy::BadState), Some(Strategy::Gone), Some(Strategy::Slow), None];

/// A little loss, and this harm again and again, among crashes.
fn again_and_again(harms: &[Harm]) -> Climate {
    let weather = Weather { lost_per_mille: 20, doubled_per_mille: 20, ..Weather::calm() };
    let harms = harms.iter().map(|harm| (Trouble::Harm(*harm), Duration::from_millis(1_500)));
    let crashes = [(Trouble::Crash, Duration::from_millis(3_000))];
    Climate { weather, troubles: harms.chain(crashes).collect() }
}

/// Half of the plans say what happens; in the other half it is drawn, with everything else that goes wrong.
fn plans() -> Vec<Plan> {
    let base = Plan { operations: 250, clients: 3, learners: 1, heals: true, ..Plan::default() };
    let mut plans = Vec::new();
    let every = |harms: &[Harm]| -> Vec<Trouble> {
        let others = [Trouble::Crash, Trouble::Partition, Trouble::OneWay, Trouble::Learner];
        harms.iter().map(|harm| Trouble::Harm(*harm)).chain(others).collect()
    };
    for harm in harms() {
        plans.push(Plan { climate: Some(again_and_again(&[harm])), ..base.clone() });
        plans.push(Plan { troubles: every(&harms()), ..base.clone() });
        // Two faults of seven: harm beside a liar.
        let liar = Plan { f: 2, troubles: every(&[harm]), ..base.clone() };
        plans.push(liar.with_liar(Misconduct::Random));
    }
    if STATES_HEAL {
        // Who heals is told lies about the state.
        let climate = Some(again_and_again(&[Harm::Memory]));
        let learned = Plan { f: 2, climate, ..base.clone() };
        plans.extend(LIARS.map(|liar| learned.clone().with_liar(Misconduct::Upstream(liar))));
    }
    if PROMISES_HEAL {
        let weather = Weather { lost_per_mille: 20, ..Weather::calm() };
        let troubles = vec![(Trouble::Helical, Duration::from_millis(4_000))];
        let climate = Some(Climate { weather, troubles });
        plans.push(Plan { climate: climate.clone(), ..base.clone() });
        let two = Plan { f: 2, climate, ..base.clone() };
        plans.push(two.with_liar(Misconduct::Equivocate));
    }
    for harm in LASTING.into_iter().filter(|_| PROMISES_HEAL) {
        plans.push(Plan { climate: Some(again_and_again(&[harm])), ..base.clone() });
        plans.push(Plan { troubles: every(&[harm]), f: 2, ..base.clone() });
    }
    plans
}

fn run<W: Hosted>(seeds: u64, plans: &[Plan]) -> Summary {
    let seeds = Seeds::for_tests(seeds);
    let summary = conform(Replicated::<Pbft, Lore, W>::default, &seeds, plans);
    println!("{summary}");
    summary.assert_clean();
    summary
}

#[test]
fn whoever_comes_to_harm_heals() {
    let seeds = 2 * plans().len() as u64;
    let summary = run::<Coordination>(seeds, &plans());
    if summary.seeds.len() as u64 >= seeds {
        for harm in harms() {
            assert!(summary.count(harm.name()) > 0, "{harm} never happened");
        }
        assert!(summary.count("trouble: helical rot") > 0, "no records rotted everywhere");
        assert!(summary.count("states compared") > 0);
    }
}

/// What snapshots cover is let go of: a log is as long after many operations as after a few.
#[test]
fn logs_stay_bounded() {
    let climate = Some(again_and_again(&[]));
    let plan = Plan { operations: 1_200, climate, heals: true, ..Plan::default() };
    let plan = Plan { most_records: Some(MOST_RECORDS), ..plan };
    let summary = conform(Replicated::<Pbft, Lore>::default, &Seeds::fixed(3), &[plan]);
    println!("{summary}");
    summary.assert_clean();
    // Without forgetting there would be several records of each slot.
    assert!(summary.count("slots executed") > 3 * 4 * MOST_RECORDS as u64);
}
