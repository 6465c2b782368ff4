//! What was shrunk, as a golden script.

use super::{Shrunk, broken};
use crate::adversary::Misconduct;
use crate::conformance::Serving;
use crate::replay::{is_casting, judged};
use crate::script::cluster::name_of;
use crate::script::{Scripted, play};
use crate::step::{Haste, Step, Who};
use std::fmt::Write as _;

impl<A> Shrunk<A> {
    /// The commands of a golden script that tells it, with comments that say what it is of. [`crate::script::play`] adds
    /// what they print. Where there is no story to tell, the comments alone: of which seed and plan the failing run is.
    #[must_use]
    pub fn script(&self) -> String {
        self.tell(|_, _| None)
    }

    /// The golden script with what it prints when it is played by this system, whose words it uses.
    pub fn story<S: Scripted>(&self, mut make: impl FnMut() -> S) -> String {
        let system = make();
        let words = |_: Who, operation: &[u8]| {
            let words = system.show_operation(operation)?;
            let read = system.read_operation(&words.split(' ').collect::<Vec<_>>());
            (read.ok().as_deref() == Some(operation)).then_some(words)
        };
        play(&self.tell(words), make)
    }

    /// Whether a script, such as [`Shrunk::story`] is, comes to a run that fails by the same rule, before the same judges.
    pub fn is_told_by<S: Serving + Scripted>(&self, script: &str, make: impl FnMut() -> S) -> bool {
        let mut make = make;
        let judged = judged(&mut make, script);
        judged.is_some_and(|report| broken(&report, self.oracle).is_some())
    }

    fn tell(&self, words: impl Fn(Who, &[u8]) -> Option<String>) -> String {
        let mut text = self.heading();
        if !self.is_story {
            return text;
        }
        let _ = writeln!(text, "\n{}", self.cluster());
        let Haste { words: hears, flushes, work } = self.run.haste;
        for (thing, is_at_once) in [("words", hears), ("disk", flushes), ("work", work)] {
            if !is_at_once {
                let _ = writeln!(text, "{thing} hold");
            }
        }
        let mut before = None;
        for step in self.run.steps.iter().filter(|step| !is_casting(step)) {
            // What happens of its own accord is told in one breath with what led to it.
            if begins(step)
                && before.is_some_and(|before| !begins(before) || !is_alike(before, step))
            {
                text.push('\n');
            }
            let line = match step {
                Step::Ask(who, ticket, operation) => words(*who, operation)
                    .map(|words| format!("request {who} ticket={ticket} {words}")),
                _ => None,
            };
            let _ = writeln!(text, "{}", line.unwrap_or_else(|| step.to_string()));
            before = Some(step);
        }
        text.push_str("\nverdict\n");
        text
    }

    fn heading(&self) -> String {
        let (seed, title) = (self.run.seed, &self.run.report.title);
        let mut text = format!("# Seed {seed} of {title}, shrunk: {} is broken.\n", self.oracle);
        let first = self.violation.what.lines().next().unwrap_or_default();
        let _ = writeln!(text, "# {first}");
        if !self.is_story {
            text.push_str(if self.ran_out {
                "# No more runs might be tried to cut its steps down. It is a run under this plan:\n"
            } else {
                "# It shows by the end of a run, under this plan:\n"
            });
            for line in format!("{:#?}", self.run.plan).lines() {
                let _ = writeln!(text, "# {line}");
            }
        }
        text
    }

    /// The command that makes the world.
    fn cluster(&self) -> String {
        let shape = &self.run.shape;
        let mut line = format!("cluster replicas={} clients={}", shape.replicas, shape.clients);
        if shape.learners > 0 {
            let _ = write!(line, " learners={}", shape.learners);
        }
        let _ = write!(line, " f={} seed={}", self.run.plan.f, self.run.seed);
        if let Some(signatures) = shape.signatures {
            let _ = write!(line, " signatures={}", name_of(signatures));
        }
        if self.run.plan.disks.are_logs(self.run.seed) {
            line.push_str(" disks=logs");
        }
        if let Some(most) = self.run.plan.most_records {
            let _ = write!(line, " most-records={most}");
        }
        for id in &shape.twins {
            let _ = write!(line, " liar={}:{}", id.0, Misconduct::Twins.name());
        }
        for step in &self.run.steps {
            let _ = match step {
                Step::Corrupt(who, misconduct) => write!(line, " liar={who}:{}", misconduct.name()),
                Step::Upstream(draw) => write!(line, " upstream={draw}"),
                _ => Ok(()),
            };
        }
        if self.run.plan.exceeds {
            line.push_str(" beyond");
        }
        line + " asleep"
    }
}

/// Whether something begins with a step.
const fn begins(step: &Step) -> bool {
    matches!(
        step,
        Step::Start(_)
            | Step::Crash(..)
            | Step::Ask(..)
            | Step::Input(..)
            | Step::Fire(..)
            | Step::Harm(..)
            | Step::Cut(..)
            | Step::Heal
            | Step::Clock(..)
            | Step::At(_)
    )
}

/// Whether two steps that begin something begin the same.
fn is_alike(one: &Step, other: &Step) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}
