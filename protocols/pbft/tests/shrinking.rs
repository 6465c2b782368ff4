//! Failing seeds of broken rules, shrunk to stories that a person can read.

mod broken;

use broken::{BlamesRepetition, DropsPrepared, RepliesEarly, ShortQuorum};
use std::path::PathBuf;
use std::time::Duration;
use testudo_pbft::message::ViewChange;
use testudo_pbft::safety::Adopted;
use testudo_pbft::{Pbft, Rules, Standard};
use testudo_quorum::Dissemination;
use testudo_sim::Report;
use testudo_sim::conformance::{Ask, run_seed};
use testudo_sim::replay::{Replay, record, replay, told};
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::script::{check, play};
use testudo_sim::shrink::{Shrunk, shrink};
use testudo_sim::{Climate, Misconduct, Plan, Trouble, Weather};

type Served<R> = Replicated<Pbft<R>, Lore>;

/// A network that loses so much that often one replica alone learns of a decision before its view ends.
fn lossy() -> Plan {
    let weather = Weather { lost_per_mille: 200, ..Weather::calm() };
    let often = Duration::from_millis(800);
    let troubles = vec![(Trouble::Partition, often), (Trouble::OneWay, often)];
    Plan { climate: Some(Climate { weather, troubles }), ..Plan::default() }
}

/// The first seed in which rules break this rule first.
fn failing<R: Rules>(plan: &Plan, oracle: &str) -> Replay<Ask<Served<R>>> {
    let fails = |run: &Replay<_>| {
        let first = run.report.violations.first();
        first.is_some_and(|violation| violation.oracle == oracle)
    };
    let mut runs = (0..200).map(|seed| record(Served::<R>::default, seed, plan));
    runs.find(fails).expect("a seed that fails")
}

fn shrunk<R: Rules>(plan: &Plan, oracle: &str, budget: usize) -> Shrunk<Ask<Served<R>>> {
    let run = failing::<R>(plan, oracle);
    let mut runs = 0;
    let shrunk = shrink(Served::<R>::default, &run, budget, &mut |progress| {
        runs += 1;
        assert_eq!((progress.runs, progress.budget), (runs, budget));
    });
    let shrunk = shrunk.expect("it fails");
    assert_eq!((shrunk.oracle, shrunk.runs), (oracle, runs));
    assert!(runs <= budget);
    shrunk
}

/// It is a story of a few steps, which convict the mutant whoever plays them, and nobody else.
fn is_told_in<R: Rules>(most: usize, shrunk: &Shrunk<Ask<Served<R>>>) {
    let (steps, before) = (shrunk.run.steps.len(), shrunk.steps_before);
    let story = shrunk.story(Served::<R>::default);
    println!("{steps} steps of {before} after {} runs\n{story}", shrunk.runs);
    assert!(shrunk.is_story && steps <= most && steps * 10 < before, "{story}");

    let again = replay(Served::<R>::default, &shrunk.run);
    assert!(again.violations.iter().any(|found| found.oracle == shrunk.oracle), "{again}");
    assert!(story.contains(&format!("{} is broken", shrunk.oracle)), "{story}");
    assert_eq!(play(&story, Served::<R>::default), story);
    assert!(shrunk.is_told_by(&story, Served::<R>::default));
    assert!(!shrunk.is_told_by(&story, Served::<Standard>::default));

    let right = replay(Served::<Standard>::default, &shrunk.run);
    assert!(right.is_clean(), "{right}");
    let played = play(&story, Served::<Standard>::default);
    assert!(played.ends_with("no rule is broken\n"), "{played}");

    // The story alone, without what it was shrunk from, comes to the same.
    let run = told(&Served::<R>::default(), &story).expect("it is told by steps");
    assert_eq!(replay(Served::<R>::default, &run).audit, again.audit);
}

#[test]
fn a_short_quorum_is_told_in_a_few_steps() {
    let plan = Plan { operations: 40, ..Plan::default() }.with_liar(Misconduct::Equivocate);
    is_told_in::<ShortQuorum>(60, &shrunk::<ShortQuorum>(&plan, "agreement", 600));
}

#[test]
fn evidence_for_a_retransmission_is_told_in_a_few_steps() {
    is_told_in::<BlamesRepetition>(40, &shrunk::<BlamesRepetition>(&lossy(), "justice", 1_000));
}

#[test]
fn a_reply_before_commit_is_told_in_a_few_steps() {
    is_told_in::<RepliesEarly>(40, &shrunk::<RepliesEarly>(&lossy(), "honesty", 1_000));
}

/// Nobody is prepared for a new view.
#[derive(Clone, Debug)]
enum PanicsInNewViews {}

impl Rules for PanicsInNewViews {
    fn adopt(_: &Dissemination, changes: &[&ViewChange]) -> Adopted {
        panic!("what to make of {} view changes?", changes.len());
    }
}

/// A panic is told like any other broken rule. It does not take with it how far the run had got.
#[test]
fn a_panic_is_told_in_a_few_steps() {
    let run = failing::<PanicsInNewViews>(&lossy(), "no panic");
    let Report { audit, steps, time, violations, .. } = &run.report;
    assert!(audit.len() == 32 && audit.bytes().any(|digit| digit != b'0') && *steps > 0);
    assert!(violations[0].at == *time && *time > Duration::ZERO, "{:?}", violations[0]);
    let again = replay(Served::<PanicsInNewViews>::default, &run);
    assert_eq!((&again.audit, again.time, again.steps), (audit, *time, *steps));
    let shrunk = shrunk::<PanicsInNewViews>(&lossy(), "no panic", 400);
    is_told_in::<PanicsInNewViews>(60, &shrunk);
    let story = shrunk.story(Served::<PanicsInNewViews>::default);
    assert!(story.contains("error: it panicked: what to make of "), "{story}");
}

/// Where more is wrong than is survived, a story is of what must hold all the same, and says that it is of such a run.
#[test]
fn beyond_f_a_story_is_of_what_must_hold_all_the_same() {
    // Such a run goes on when a rule is broken, so it had better be a short one.
    let (operations, patience) = (40, Duration::from_secs(20));
    let plan = Plan { exceeds: true, operations, patience, ..lossy() };
    let shrunk = shrunk::<BlamesRepetition>(&plan, "justice", 300);
    let story = shrunk.story(Served::<BlamesRepetition>::default);
    assert!(story.contains(" beyond asleep\n"), "{story}");
    assert!(story.ends_with("more was wrong than is survived: failed\n"), "{story}");
    is_told_in::<BlamesRepetition>(40, &shrunk);
}

/// What shows only when nothing happens any more has no story. A smaller plan is what is found.
#[test]
fn what_is_never_answered_is_cut_down_to_a_small_plan() {
    let plan = Plan { patience: Duration::from_secs(20), ..lossy() };
    let shrunk = shrunk::<DropsPrepared>(&plan, "liveness", 200);
    let Replay { seed, plan, .. } = &shrunk.run;
    assert!(!shrunk.is_story && !shrunk.ran_out);
    assert!(plan.operations <= 12 && plan.clients == 1, "{plan:?}");
    let again = run_seed(Served::<DropsPrepared>::default, *seed, plan);
    assert!(again.violations.iter().any(|found| found.oracle == "liveness"), "{again}");
    let right = run_seed(Served::<Standard>::default, *seed, plan);
    assert!(right.is_clean(), "{right}");
    let script = shrunk.script();
    assert!(script.contains("# It shows by the end of a run"), "{script}");
    assert!(script.contains("operations: ") && script.lines().all(|line| line.starts_with('#')));
}

#[test]
fn the_same_run_is_shrunk_to_the_same_story() {
    let tell = || {
        let run = failing::<BlamesRepetition>(&lossy(), "justice");
        let shrunk = shrink(Served::<BlamesRepetition>::default, &run, 60, &mut |_| {});
        shrunk.expect("it fails").script()
    };
    assert_eq!(tell(), tell());
}

#[test]
fn whoever_has_no_patience_keeps_the_run_that_failed() {
    let run = failing::<BlamesRepetition>(&lossy(), "justice");
    let kept = shrink(Served::<BlamesRepetition>::default, &run, 0, &mut |_| {});
    let kept = kept.expect("it fails");
    assert_eq!((kept.runs, kept.is_story, &kept.run.steps), (0, false, &run.steps));
    let heading = kept.story(Served::<BlamesRepetition>::default);
    assert!(kept.ran_out && heading.contains("No more runs might be tried"), "{heading}");

    let clean = record(Served::<Standard>::default, run.seed, &lossy());
    assert!(shrink(Served::<Standard>::default, &clean, 100, &mut |_| {}).is_none());
}

/// What was shrunk once is kept, and told of the mutant and of the right rules: here how a view that drops what was
/// prepared decides a slot again that one replica alone knew to be decided.
#[test]
fn stories_that_were_found_are_told_again() {
    let story = |name: &str| {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shrunk");
        PathBuf::from(directory).join(format!("{name}.txt"))
    };
    check(story("drops_prepared"), Served::<DropsPrepared>::default);
    check(story("drops_prepared_sound"), Served::<Standard>::default);
    let read = |name: &str| std::fs::read_to_string(story(name)).expect("it was checked");
    let commands = |text: &str| {
        let blocks = text.split("\n\n").map(|block| block.trim_matches('\n').to_string());
        let told = blocks.map(|block| {
            block.lines().take_while(|line| *line != "---").map(String::from).collect::<Vec<_>>()
        });
        told.flatten().filter(|line| !line.starts_with('#')).collect::<Vec<_>>()
    };
    let (mutant, right) = (read("drops_prepared"), read("drops_prepared_sound"));
    assert_eq!(commands(&mutant), commands(&right));
    assert!(mutant.contains("agreement is broken") && right.ends_with("no rule is broken\n"));
    let run = told(&Served::<Standard>::default(), &mutant).expect("it is told by steps");
    let report = replay(Served::<DropsPrepared>::default, &run);
    assert!(report.violations.iter().any(|found| found.oracle == "agreement"), "{report}");
    let report = replay(Served::<Standard>::default, &run);
    assert!(report.is_clean(), "{report}");
}
