//! A second node just like this one, and all that a node's future depends on, as text.

use super::{Chore, Held, Host};
use crate::rng::Dictation;
use std::fmt;
use testudo_core::Protocol;

impl<P: Protocol> Host<P> {
    /// A node in the same state, that goes its own way from here.
    pub(crate) fn copy(&self) -> Self
    where
        P: Clone,
        P::Output: Clone,
    {
        Self {
            peer: self.peer,
            ring: self.ring.clone(),
            first: self.first.clone(),
            place: self.place.clone(),
            // A list of all memberships that there are, which only grows: who else knows one makes no difference.
            rolls: self.rolls.clone(),
            watch: self.watch,
            disk: self.disk.clone(),
            automaton: self.automaton.clone(),
            next: self.next,
            gate: self.gate.clone(),
            flaw: self.flaw,
            loaded: self.loaded,
            flushing: self.flushing,
            timers: self.timers.clone(),
            chores: self.chores.clone(),
            numbers: self.numbers,
            begun: self.begun,
            rng: self.rng.clone(),
            scratch: Vec::new(),
        }
    }

    /// Whatever the node draws below a bound, somebody else decides.
    pub(crate) fn obey(&mut self, dictation: Dictation) {
        self.rng.obey(dictation);
    }

    /// The running timers, by number and name.
    pub(crate) fn running(&self) -> impl Iterator<Item = (u64, String)> + '_ {
        self.timers.iter().map(|(timer, number)| (*number, format!("{timer:?}")))
    }

    /// Whether the timer of this number runs.
    pub(crate) fn is_running(&self, number: u64) -> bool {
        self.timers.values().any(|running| *running == number)
    }

    /// Writes down all that what the node does next depends on, the automaton as `print` says. Numbers of timers and chores
    /// are left out: they only tell apart what earlier lives asked for.
    pub(crate) fn print(
        &self,
        out: &mut dyn fmt::Write,
        print: impl FnOnce(&P, &mut dyn fmt::Write) -> fmt::Result,
    ) -> fmt::Result {
        match &self.automaton {
            Some(automaton) => {
                print(automaton, out)?;
                write!(out, " {:?} {:?}", self.next, self.place.domain.epoch)?;
            }
            // Where it goes on it learns from its disk.
            None => out.write_str("down")?,
        }
        write!(out, " {:?}", self.disk)?;
        let unmade = self.ring.unmade.len();
        write!(out, " {} {:?} {unmade}", self.flushing.is_some(), self.watch)?;
        for timer in self.timers.keys() {
            write!(out, " {timer:?}")?;
        }
        for (_, chore) in self.chores.values() {
            match chore {
                Chore::Work(stamp, work) => write!(out, " {stamp:?} {work:?}")?,
                Chore::Recall(position) => write!(out, " {position:?}")?,
                Chore::Snapshot(number, snapshot) => write!(out, " {number} {snapshot:?}")?,
            }
        }
        for (needs, held) in self.gate.held() {
            match held {
                Held::Say(to, message, _) => write!(out, " {needs} {to:?} {message:?}")?,
                Held::Output(output) => write!(out, " {needs} {output:?}")?,
                Held::Snapshot(number, snapshot) => {
                    write!(out, " {needs} {number} {snapshot:?}")?;
                }
                Held::Blame(evidence, _) => write!(out, " {needs} {evidence:?}")?,
            }
        }
        Ok(())
    }
}
