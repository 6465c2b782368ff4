//! A protocol in the lab, whatever its type.

use crate::Coordination;
use crate::exploration::{self, Configuration};
use crate::plans::Rota;
use std::fmt;
use testudo_contracts::{Falsifiable, Profile, Tactic};
use testudo_core::{Decode, Encode};
use testudo_sim::conformance::{Seeds, film_seed, run_seed};
use testudo_sim::explore::{self, Explored};
use testudo_sim::oracle::Violation;
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::shrink::{Progress, shrink};
use testudo_sim::workload::Hosted;
use testudo_sim::{Film, Plan, Report, Summary, replay, script};

/// A whole replica of an ordering under the coordination service, with the clients and learners that production uses.
pub type System<O> = Replicated<O, Lore, Coordination>;

/// As many events of a run as a picture of its end shows.
const FILMED: usize = 400;

/// A protocol that can be put to the test.
pub trait Subject: Send + Sync {
    /// What it assumes and promises.
    fn profile(&self) -> Profile;

    /// The tactics that liars know to misuse it by.
    fn tactics(&self) -> &'static [Tactic];

    /// Runs one seed under a plan.
    fn run(&self, seed: u64, plan: &Plan) -> Report;

    /// Runs one seed and takes down every step; then does the steps again, one by one.
    fn replay(&self, seed: u64, plan: &Plan) -> Replayed;

    /// Runs one seed and draws how it ended: a page of HTML, complete in itself.
    fn draw(&self, seed: u64, plan: &Plan) -> (Report, String);

    /// Cuts a failing run down to what it takes to fail, by at most so many further runs. None if it does not fail.
    fn shrink(
        &self,
        seed: u64,
        plan: &Plan,
        runs: usize,
        progress: &mut dyn FnMut(&Progress),
    ) -> Option<Story>;

    /// Draws a story.
    fn draw_story(&self, story: &Story) -> String;

    /// Sees all that can happen in a small configuration of the ordering alone.
    fn explore(
        &self,
        configuration: &Configuration,
        progress: &mut dyn FnMut(&explore::Progress),
    ) -> Explored;
}

/// A run and its repetition from what was taken down.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The run.
    pub report: Report,
    /// How many steps it has.
    pub steps: usize,
    /// What the steps came to when they were done again.
    pub again: Report,
}

impl Replayed {
    /// Whether both were the same to the last event, and to whatever they panicked with after that.
    #[must_use]
    pub fn is_same(&self) -> bool {
        let panics = |report: &Report| {
            let found = report.violations.iter().find(|broken| broken.oracle == "no panic");
            found.map(|broken| broken.what.clone())
        };
        self.report.audit == self.again.audit && panics(&self.report) == panics(&self.again)
    }
}

/// What a failing run was cut down to.
#[derive(Clone, Debug)]
pub struct Story {
    /// The seed.
    pub seed: u64,
    /// How the rule is broken.
    pub violation: Violation,
    /// A golden script that tells it, with what it prints; or, where the rule is broken only by the end of a whole run, the
    /// plan that it takes, as comments.
    pub script: String,
    /// Whether there is something to play in the script.
    pub is_playable: bool,
    /// Whether whoever plays it finds that rule broken.
    pub is_told: bool,
    /// How many steps there were at first.
    pub steps_before: usize,
    /// How many steps are left.
    pub steps: usize,
    /// How many runs that took.
    pub runs: usize,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps_before, steps, runs, .. } = self;
        write!(f, "{steps} of {steps_before} steps are left after {runs} runs")
    }
}

/// An ordering that can be put to the test: its lies can be told, and its state can be copied and written down.
pub trait Testable:
    Falsifiable<Message: 'static, Record: Encode + Decode, Snapshot: Encode + Decode>
    + Clone
    + fmt::Debug
    + 'static
{
}

impl<
    O: Falsifiable<Message: 'static, Record: Encode + Decode, Snapshot: Encode + Decode>
        + Clone
        + fmt::Debug
        + 'static,
> Testable for O
{
}

/// A whole replica of an ordering under another service.
type Whole<O, W> = Replicated<O, Lore, W>;

struct Of<O, W> {
    make: fn() -> Whole<O, W>,
}

/// The protocol of this type.
#[must_use]
pub fn subject<O: Testable>() -> Box<dyn Subject> {
    subject_of(System::<O>::default)
}

/// The protocol of this type under whatever is made here: a service of a test's own, which may be broken, or a driver that is.
#[must_use]
pub fn subject_of<O: Testable, W: Hosted>(
    make: fn() -> Replicated<O, Lore, W>,
) -> Box<dyn Subject> {
    Box::new(Of { make })
}

impl<O: Testable, W: Hosted> Subject for Of<O, W> {
    fn profile(&self) -> Profile {
        O::PROFILE
    }

    fn tactics(&self) -> &'static [Tactic] {
        O::TACTICS
    }

    fn run(&self, seed: u64, plan: &Plan) -> Report {
        run_seed(self.make, seed, plan)
    }

    fn replay(&self, seed: u64, plan: &Plan) -> Replayed {
        let run = replay::record(self.make, seed, plan);
        let again = replay::replay(self.make, &run);
        Replayed { steps: run.steps.len(), report: run.report, again }
    }

    fn draw(&self, seed: u64, plan: &Plan) -> (Report, String) {
        let film = Film::reel(FILMED);
        let report = film_seed(self.make, seed, plan, &film);
        let (title, below) = (format!("Seed {seed} of {}", O::PROFILE.name), &report.title);
        let page = film.borrow().to_html(&title, below, &report.violations);
        (report, page)
    }

    fn shrink(
        &self,
        seed: u64,
        plan: &Plan,
        runs: usize,
        progress: &mut dyn FnMut(&Progress),
    ) -> Option<Story> {
        let run = replay::record(self.make, seed, plan);
        let shrunk = shrink(self.make, &run, runs, progress)?;
        let script = shrunk.story(self.make);
        Some(Story {
            seed,
            is_told: shrunk.is_story && shrunk.is_told_by(&script, self.make),
            script,
            is_playable: shrunk.is_story,
            steps_before: shrunk.steps_before,
            steps: shrunk.run.steps.len(),
            runs: shrunk.runs,
            violation: shrunk.violation,
        })
    }

    fn draw_story(&self, story: &Story) -> String {
        let film = Film::reel(FILMED);
        script::film(&story.script, self.make, &film);
        let title = format!("Seed {} of {}, shrunk", story.seed, O::PROFILE.name);
        let below = story.violation.oracle;
        film.borrow().to_html(&title, below, std::slice::from_ref(&story.violation))
    }

    fn explore(
        &self,
        configuration: &Configuration,
        progress: &mut dyn FnMut(&explore::Progress),
    ) -> Explored {
        exploration::explore::<O>(configuration, progress)
    }
}

/// Runs every seed under the plan that it has in the rota, and sums up. A failure does not stop the rest.
pub fn conform(subject: &dyn Subject, rota: &Rota, seeds: &Seeds) -> Summary {
    let mut summary = Summary::default();
    for seed in seeds.all() {
        if let Some((_, plan)) = rota.plan(*seed) {
            summary.add(subject.run(*seed, &plan));
        }
    }
    summary
}
