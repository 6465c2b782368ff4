//! Replicas that lie, for tests and demonstrations.
//!
//! A liar runs the same automaton as everybody else; what it says is changed on its way out and sealed with its own
//! key, so that it can lie about anything but who it is. Which lie is told to whom is the simulator's to say; what a
//! plausible wrong reply, checkpoint or body looks like is said here ([`tamper`]), and what gateways are told that learn
//! from it ([`learners`]).
//!
//! It exists on one's own machine only: no replica lies that is not named a liar in a cluster file that `up` marked
//! as a demonstration.

pub(crate) mod claims;
mod learners;
pub(crate) mod tamper;

pub(crate) use testudo_sim::Lie;

use crate::words;
use std::fmt;

/// The kind of liar of that name, or a sentence that names all.
pub(crate) fn read(name: &str) -> Result<Lie, String> {
    Lie::named(name).ok_or_else(|| {
        let all = words::list(&Lie::ALL.map(Lie::name));
        format!("there is no liar of the kind `{name}`; there are {all}")
    })
}

/// Which replica lies, and how: `ID=KIND`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Assignment {
    /// The replica.
    pub(crate) id: u16,
    /// How it lies.
    pub(crate) lie: Lie,
}

impl Assignment {
    /// Reads `ID=KIND`.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let (id, kind) =
            text.split_once('=').ok_or("a liar is named as ID=KIND, as in 0=equivocate")?;
        let id = id.parse().map_err(|_| format!("`{id}` is no number of a replica"))?;
        Ok(Self { id, lie: read(kind)? })
    }
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.id, self.lie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read() {
        let read = Assignment::read("3=stale");
        assert_eq!(read, Ok(Assignment { id: 3, lie: Lie::Stale }));
        for text in ["", "3", "=stale", "x=stale", "3=", "3=Stale", "-1=silent", "70000=silent"] {
            assert!(Assignment::read(text).is_err(), "{text}");
        }
    }
}
