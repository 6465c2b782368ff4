//! What came of an exploration.

use super::Bounds;
use crate::oracle::Violation;
use std::fmt;

/// How far an exploration has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Different states that were reached.
    pub states: usize,
    /// Steps that were taken, also to states that were known.
    pub transitions: u64,
    /// Steps from the beginning to the states that are looked at now.
    pub depth: u32,
    /// States that were reached and not looked at yet.
    pub open: usize,
}

/// Why an exploration ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// There is nothing more to see.
    Exhausted,
    /// Everything was seen that is no more steps away than the bound says; there is more beyond.
    Depth,
    /// As many states were reached as the bound says; there are more.
    States,
    /// A rule was broken.
    Violation,
}

/// What came of an exploration.
#[derive(Clone, Debug)]
pub struct Explored {
    /// How far it was to go.
    pub bounds: Bounds,
    /// Different states that were reached.
    pub states: usize,
    /// Steps that were taken, also to states that were known.
    pub transitions: u64,
    /// Steps from the beginning to the farthest state.
    pub depth: u32,
    /// Why it ended.
    pub stop: Stop,
    /// Whether some draw of chance had more possibilities than were told apart.
    pub narrowed: bool,
    /// The first way to a broken rule, and no other is shorter.
    pub violation: Option<Counterexample>,
}

impl Explored {
    /// Whether everything within the bounds was seen. A depth that cuts ways off is no bound in this sense.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.stop == Stop::Exhausted && !self.narrowed
    }
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bounds: {}", self.bounds)?;
        let Self { states, transitions, depth, .. } = self;
        write!(f, "{states} states, {transitions} transitions, depth {depth}: ")?;
        f.write_str(match self.stop {
            Stop::Exhausted if self.narrowed => "all seen, but for draws that were narrowed",
            Stop::Exhausted => "exhausted",
            Stop::Depth => "all seen to this depth, not beyond",
            Stop::States => "stopped at the bound on states",
            Stop::Violation => "a rule is broken",
        })?;
        match &self.violation {
            Some(violation) => write!(f, "\n{violation}"),
            None => Ok(()),
        }
    }
}

/// One step of a way, and what nodes told then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// The step, as scripts write it.
    pub step: String,
    /// What came of it that rules look at, a line each.
    pub told: Vec<String>,
}

/// The shortest way to a broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counterexample {
    /// What happened, step by step. Messages are named by link, kind and how many of that kind had been sent on that link.
    pub steps: Vec<Told>,
    /// Which rule is broken, and how.
    pub violation: Violation,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.violation.oracle, self.violation.what)?;
        for (number, Told { step, told }) in self.steps.iter().enumerate() {
            writeln!(f, "{:>4}  {step}", number + 1)?;
            for line in told {
                writeln!(f, "          {line}")?;
            }
        }
        Ok(())
    }
}
