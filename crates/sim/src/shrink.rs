//! From a failing seed to the shortest story that still fails.
//!
//! First the plan is cut down: fewer operations, clients, liars and troubles, a shorter storm, calmer weather, as long as
//! the same oracle convicts. That is all that can be done about what is wrong only at the end of a whole run, such as an
//! operation that is never answered. What is wrong at some moment is then cut down step by step: the run is recorded, and
//! steps are left out (Zeller and Hildebrandt's delta debugging, 2002) for as long as the same oracle still convicts what
//! the rest comes to. The rest is a counterexample that a person can read, and a script.
//!
//! What is left must fail, and not only break the rule: where more was wrong than is promised to be survived many a broken
//! rule is excused ([`Report::verdict`]), and only one that is not is worth a story.
//!
//! Everything is deterministic, and bounded by a number of runs that the caller states.

mod causes;
mod plans;
mod story;
mod tapes;

use crate::conformance::{Ask, Serving};
use crate::oracle::Violation;
use crate::replay::{Replay, Tape, play, record};
use crate::report::{Report, Verdict};
use crate::step::Step;
use std::fmt;

/// How far a shrinking has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is tried to make smaller.
    pub stage: Stage,
    /// Runs so far.
    pub runs: usize,
    /// Runs that may be used.
    pub budget: usize,
    /// How many steps the smallest run that still fails has.
    pub steps: usize,
}

/// What is tried to make smaller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The plan.
    Plan,
    /// The list of steps.
    Steps,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, runs, budget, steps } = self;
        let stage = match stage {
            Stage::Plan => "plan",
            Stage::Steps => "steps",
        };
        write!(f, "shrinking the {stage}: {steps} steps left after {runs} of {budget} runs")
    }
}

/// What a failing run was shrunk to.
#[derive(Clone, Debug)]
pub struct Shrunk<A> {
    /// The rule that the run broke, and that what is left of it breaks.
    pub oracle: &'static str,
    /// How it breaks it.
    pub violation: Violation,
    /// What is left. Its plan and seed are of a whole run that breaks the rule, its steps are a part of that one.
    pub run: Replay<A>,
    /// Whether the steps were cut down too. They are not where the rule is broken only by the end of a whole run: then
    /// the plan and the seed are what was found.
    pub is_story: bool,
    /// Whether the steps were not cut down as there were no runs left to try that.
    pub ran_out: bool,
    /// How many steps there were at first.
    pub steps_before: usize,
    /// How many runs it took.
    pub runs: usize,
}

/// The runs that may still be tried, and who hears of them.
pub(crate) struct Patience<'a> {
    runs: usize,
    /// How many there may be for what is done now.
    limit: usize,
    budget: usize,
    stage: Stage,
    steps: usize,
    progress: &'a mut dyn FnMut(&Progress),
}

impl Patience<'_> {
    /// One more run, if there may be one.
    fn takes(&mut self) -> bool {
        if self.runs >= self.limit {
            return false;
        }
        self.runs += 1;
        let Self { stage, runs, budget, steps, .. } = *self;
        (self.progress)(&Progress { stage, runs, budget, steps });
        true
    }
}

/// How much of the budget is for plans: one run in so many.
const FOR_PLANS: usize = 4;

/// The first broken rule for which a run has failed; none if it has not. Where more was wrong than is promised to be survived
/// others may have been broken before it that need not hold.
#[must_use]
pub fn culprit(report: &Report) -> Option<&Violation> {
    report.violations.iter().find(|violation| fails(report, violation))
}

/// Whether a run would have failed if this were all that was broken.
fn fails(report: &Report, violation: &Violation) -> bool {
    if !report.exceeds {
        return true;
    }
    let (violations, trace) = (vec![violation.clone()], Vec::new());
    Report { violations, trace, ..report.clone() }.verdict() == Verdict::Failed
}

/// Shrinks a failing run by at most `budget` further runs. What is left fails by the same rule ([`culprit`]); `None` if the run
/// has not failed.
///
/// The system must be made the same each time: with another one, the run is not the run that failed.
pub fn shrink<S: Serving>(
    make: impl Fn() -> S,
    run: &Replay<Ask<S>>,
    budget: usize,
    progress: &mut dyn FnMut(&Progress),
) -> Option<Shrunk<Ask<S>>> {
    let violation = culprit(&run.report)?.clone();
    let oracle = violation.oracle;
    let steps_before = run.steps.len();
    let mut patience = Patience {
        runs: 0,
        limit: budget / FOR_PLANS,
        budget,
        stage: Stage::Plan,
        steps: steps_before,
        progress,
    };
    let mut run = plans::shrink(&make, run.clone(), oracle, &mut patience);
    if tapes::breaks(&make, &run, oracle, &mut patience) {
        run = plans::soonest(&make, run, oracle, &mut patience);
    }
    (patience.limit, patience.stage) = (budget, Stage::Steps);
    let mut shrunk = Shrunk {
        oracle,
        violation: broken(&run.report, oracle).cloned().unwrap_or(violation),
        run: run.clone(),
        is_story: false,
        ran_out: patience.runs >= budget,
        steps_before,
        runs: patience.runs,
    };
    if let Some(tape) = tapes::shrink(&make, &mut run, oracle, &mut patience) {
        run.haste = tape.haste();
        run.steps = tape.steps().iter().map(|(step, _)| step.clone()).collect();
        run.asks.retain(|ticket, _| {
            run.steps.iter().any(|step| matches!(step, Step::Ask(_, of, _) if of == ticket))
        });
        run.report = play(&make, &run, &Tape::whole(&run.steps, run.haste), Some(oracle)).report;
        if let Some(violation) = broken(&run.report, oracle).cloned() {
            shrunk = Shrunk { violation, run, is_story: true, ..shrunk };
        }
    }
    shrunk.runs = patience.runs;
    Some(shrunk)
}

/// How a run failed by a rule, if it did.
fn broken<'a>(report: &'a Report, oracle: &str) -> Option<&'a Violation> {
    let found = report.violations.iter().find(|violation| violation.oracle == oracle)?;
    fails(report, found).then_some(found)
}

/// Records a run and shrinks it, if it fails.
pub fn record_and_shrink<S: Serving>(
    make: impl Fn() -> S,
    seed: u64,
    plan: &crate::Plan,
    budget: usize,
    progress: &mut dyn FnMut(&Progress),
) -> Option<Shrunk<Ask<S>>> {
    let run = record(&make, seed, plan);
    shrink(make, &run, budget, progress)
}

#[cfg(test)]
mod tests {
    use super::culprit;
    use crate::oracle::Violation;
    use crate::report::Report;
    use std::time::Duration;

    fn report(exceeds: bool, oracles: &[&'static str]) -> Report {
        let at = Duration::from_secs(1);
        let violations =
            oracles.iter().map(|oracle| Violation { oracle, at, what: String::new() }).collect();
        Report { exceeds, violations, ..Report::default() }
    }

    #[test]
    fn a_run_fails_by_what_had_to_hold() {
        let by = |exceeds: bool, oracles: &[&'static str]| {
            culprit(&report(exceeds, oracles)).map(|broken| broken.oracle)
        };
        assert_eq!(by(false, &["liveness", "justice"]), Some("liveness"));
        assert_eq!(by(true, &["liveness", "justice"]), Some("justice"));
        assert_eq!(by(true, &["liveness"]), None);
        assert_eq!(by(true, &["liveness", "agreement"]), Some("agreement"), "nobody noticed");
        assert_eq!(by(false, &[]), None);
    }
}
