//! Logs that are not right are convicted, each in the very seeds that the right one passes.
//!
//! What is wrong is done between the log and its disk, or by whoever opens it; production has no code for it. Most is seen at
//! the next start, when what the log gives back is held against what it was given.

use std::ops::Range;
use std::time::Duration;
use testudo_lab::subject_of;
use testudo_pbft::Pbft;
use testudo_sim::conformance::run_seed;
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::script::play;
use testudo_sim::shrink::culprit;
use testudo_sim::workload::Small;
use testudo_sim::{Climate, Disks, Flaw, Harm, Plan, Trouble, Weather};

/// Where conviction is sought.
const SEEDS: Range<u64> = 0..200;

/// Crashes and power failures, and this harm beside them.
fn plan(harm: Option<Harm>) -> Plan {
    let harm = harm.map(|harm| (Trouble::Harm(harm), Duration::from_millis(1_000)));
    let crashes = [
        (Trouble::Crash, Duration::from_millis(1_000)),
        (Trouble::Blackout, Duration::from_millis(3_000)),
    ];
    let weather = Weather { lost_per_mille: 50, ..Weather::calm() };
    let climate = Climate { weather, troubles: crashes.into_iter().chain(harm).collect() };
    let plan = Plan { disks: Disks::Logs, operations: 150, ..Plan::default() };
    Plan { climate: Some(climate), heals: true, ..plan }.beyond()
}

/// The first seed in which the log breaks one of these rules. The right one passes every seed up to it.
fn convict(flaw: Flaw, plan: &Plan, oracles: &[&str]) {
    for seed in SEEDS {
        let right = run_seed(Replicated::<Pbft, Lore>::default, seed, plan);
        assert!(right.is_clean(), "the right log fails\n{right}");
        let report = run_seed(|| Replicated::<Pbft, Lore>::over(flaw), seed, plan);
        let Some(found) = report.violations.first() else { continue };
        assert!(oracles.contains(&found.oracle), "convicted of something else\n{report}");
        println!("seed {seed} convicts {flaw:?}: {found}");
        return;
    }
    panic!("the seeds {SEEDS:?} do not convict {flaw:?}");
}

/// The write has returned, and nobody has asked the disk to keep it.
#[test]
fn a_flush_that_returns_before_the_data_is_durable() {
    convict(Flaw::FlushesNothing, &plan(None), &["keeping"]);
}

/// A flush that failed has forgotten what it should have written; the next one succeeds, and says nothing of it.
#[test]
fn a_failed_flush_that_is_tried_again() {
    convict(Flaw::FlushesAgain, &plan(Some(Harm::FailedFlush)), &["keeping"]);
}

/// A file that is full of durable records is gone with its name.
#[test]
fn a_segment_whose_name_is_not_durable() {
    convict(Flaw::LosesNames, &plan(None), &["keeping"]);
}

/// Power fails while the only copy is overwritten.
#[test]
fn a_superblock_written_in_place_without_its_twin() {
    let mut plan = plan(None);
    // It is written seldom, so power fails often.
    let troubles = vec![(Trouble::Blackout, Duration::from_millis(250))];
    plan.climate = Some(Climate { weather: Weather::calm(), troubles });
    convict(Flaw::KeepsOneSuperblock, &plan, &["keeping"]);
}

/// Space is made for the next segment before anything says that what the old ones hold is done with.
#[test]
fn a_segment_removed_before_its_successor_is_durable() {
    convict(Flaw::RemovesEarly, &plan(None), &["keeping"]);
}

/// What comes back was never written; mostly it cannot even be read, and nobody can start from it.
#[test]
fn a_torn_record_accepted_without_its_check() {
    convict(Flaw::AcceptsTorn, &plan(None), &["keeping"]);
}

/// Rot in the midst of the log is no unfinished write: durable records stand behind it.
#[test]
fn a_log_cut_off_at_a_record_that_has_rotted() {
    convict(Flaw::Truncates, &plan(Some(Harm::Record)), &["keeping"]);
}

/// A story of a run over real logs is told over real logs: on books of what is durable nothing of this could be seen.
#[test]
fn a_log_that_cuts_itself_off_is_told_over_real_logs() {
    let plan = plan(Some(Harm::Record));
    let subject = subject_of::<Pbft, Small>(|| Replicated::over(Flaw::Truncates));
    let fails = |seed: &u64| {
        let report = subject.run(*seed, &plan);
        culprit(&report).is_some_and(|broken| broken.oracle == "keeping")
    };
    let seed = SEEDS.into_iter().find(fails).expect("a seed that fails");
    let story = subject.shrink(seed, &plan, 60, &mut |_| {}).expect("it fails");
    println!("seed {seed}: {story}");
    let script = &story.script;
    assert!(story.is_playable && story.is_told, "{script}");
    assert!(script.contains(" disks=logs ") && script.contains("\nharm "), "{script}");
    assert!(script.contains("\nverdict\n---\nkeeping is broken: "), "{script}");
    let right = play(script, Replicated::<Pbft, Lore>::default);
    assert!(right.ends_with("no rule is broken\n"), "{right}");
}
