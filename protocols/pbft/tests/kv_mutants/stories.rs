//! Stories of the broken services: what convicts them is found again by whoever plays the script.

use super::*;
use testudo_lab::subject_of;
use testudo_sim::replay::{Replay, judged};
use testudo_sim::script::play;
use testudo_sim::shrink::{Shrunk, culprit};

/// A run in which the mutant breaks this rule. The service as it is broken has the same instances each time.
fn broken<F: Flaw>(oracle: &str) -> Replay<Ask> {
    let plan = Plan { operations: 120, ..plan() };
    let mut runs = (0..SEEDS).map(|seed| record(made::<F>, seed, &plan));
    let breaks = |run: &Replay<Ask>| run.report.violations.iter().any(|it| it.oracle == oracle);
    runs.find(breaks).expect("a seed that fails")
}

fn made<F: Flaw>() -> Replicated<Pbft, Lore, Mutant<F>> {
    INSTANCES.set(0);
    Replicated::default()
}

/// Whoever reads the script of a run in which the mutant breaks this rule finds it broken, and the service as it is not.
fn tells<F: Flaw>(oracle: &'static str) {
    let run = broken::<F>(oracle);
    let found = run.report.violations.iter().find(|violation| violation.oracle == oracle);
    let (violation, steps_before) = (found.expect("it fails").clone(), run.steps.len());
    let (is_story, ran_out, runs) = (true, false, 0);
    let whole = Shrunk { oracle, violation, run, is_story, ran_out, steps_before, runs };
    let script = whole.script();
    assert!(whole.is_told_by(&script, made::<F>), "nobody finds {oracle} broken");
    let right = judged(&mut Replicated::<Pbft, Lore, Coordination>::default, &script);
    let right = right.expect("it is told by steps");
    assert!(right.is_clean() && right.answered > 10, "{right}");
}

#[test]
fn stories_of_leases_states_and_registers() {
    tells::<CountsTwice>("leases");
    tells::<LocalClock>("equal states");
    tells::<ForgetsWrites>("linearizability");
}

/// A write to a register is answered, and now and then forgotten, with its revision.
enum ForgetsWrites {}

impl Flaw for ForgetsWrites {
    fn execute(store: &mut dyn Store, operation: &Operation, moment: &Moment) -> Vec<u8> {
        match operation {
            Operation::Put(put) if put.lease == 0 && moment.slot.0.is_multiple_of(3) => {
                right(&mut copied(store), operation, moment)
            }
            _ => right(store, operation, moment),
        }
    }
}

/// A seed in which the mutant fails by this rule is cut down to a script that breaks it when it is played, and says so. The
/// service as it is plays it, and the script says that no rule is broken.
fn is_told<F: Flaw>(oracle: &str) {
    let subject = subject_of::<Pbft, Mutant<F>>(made::<F>);
    let plan = Plan { operations: 60, clients: 2, learners: 1, ..plan() };
    let fails = |seed: &u64| {
        let report = subject.run(*seed, &plan);
        culprit(&report).is_some_and(|broken| broken.oracle == oracle)
    };
    let seed = (0..SEEDS).find(fails).expect("a seed that fails");
    let story = subject.shrink(seed, &plan, 40, &mut |_| {}).expect("it fails");
    println!("seed {seed}: {story}; {}", story.violation);
    let script = &story.script;
    assert_eq!(story.violation.oracle, oracle);
    assert!(story.is_playable && story.is_told, "{script}");
    assert!(script.contains(&format!("\nverdict\n---\n{oracle} is broken: ")), "{script}");
    let right = play(script, Replicated::<Pbft, Lore, Coordination>::default);
    assert!(right.ends_with("no rule is broken\n"), "{right}");
}

#[test]
fn a_story_of_effects() {
    is_told::<IgnoresTheEnd>("effects");
}

#[test]
fn a_story_of_watches() {
    is_told::<MixesOrder>("watches");
}
