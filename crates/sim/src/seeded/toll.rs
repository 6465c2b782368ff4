//! What befell nodes, counted when it bites and not when it is appointed.
//!
//! Twins that say the same are one honest replica, and a liar that never gets to lie is one too. A disk that is to fail
//! may never be asked, and a value in memory never rots where there is no value. A run that counted such things at their
//! appointment would prove what it never met.

use super::Seeded;
use crate::adversary::Misconduct;
use crate::atlas::Harm;
use crate::event::{Event, NodeId};
use crate::world::{Observer, System};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use testudo_core::{Digest, Message as _, Strength};

/// Statements that are remembered of twins. Whatever comes after them counts no more.
const MEMORY: usize = 1 << 16;

/// What the copies of twins have signed, by the names of messages.
#[derive(Default, Debug)]
pub(super) struct Doubles {
    /// The copies, and which of the two each is.
    copies: BTreeMap<NodeId, usize>,
    /// By kind of message: what only the first copy has signed, only the second, and both.
    said: BTreeMap<&'static str, [BTreeSet<Digest>; 3]>,
    remembered: usize,
}

impl Doubles {
    /// These are the copies of one identity.
    pub(super) fn expect(&mut self, copies: impl Iterator<Item = NodeId>) {
        self.copies.extend(copies.enumerate().map(|(index, node)| (node, index.min(1))));
    }

    fn hear(&mut self, from: NodeId, name: &'static str, statement: Digest) {
        let Some(side) = self.copies.get(&from).copied() else { return };
        if self.remembered >= MEMORY {
            return;
        }
        let said = self.said.entry(name).or_default();
        if said[2].contains(&statement) {
            return;
        }
        if said[1 - side].remove(&statement) {
            said[2].insert(statement);
        } else if said[side].insert(statement) {
            self.remembered += 1;
        }
    }

    /// How many statements each copy has signed that the other has not, kind by kind. One that is merely behind the other
    /// has none.
    fn differences(&self) -> u64 {
        self.said.values().map(|[one, other, _]| one.len().min(other.len()) as u64).sum()
    }
}

/// Who lies in all ways in turn: each way has a count of its own, and whether there was any is counted here.
#[derive(Default, Debug)]
pub(super) struct Ways {
    liars: BTreeMap<NodeId, &'static str>,
    told: BTreeMap<&'static str, u64>,
}

impl Observer for Ways {
    fn observe(&mut self, _: Duration, event: &Event) {
        if let Event::Lied(node, _) = event
            && let Some(name) = self.liars.get(node)
        {
            *self.told.entry(name).or_default() += 1;
        }
    }
}

impl<S: System> Seeded<S> {
    /// What befell nodes so far, by name, and how often it bit.
    #[must_use]
    pub fn befallen(&self) -> BTreeMap<&'static str, u64> {
        let mut befallen = self.befallen.clone();
        befallen.extend(self.ways.borrow().told.iter().map(|(name, count)| (*name, *count)));
        befallen.insert(Misconduct::Twins.name(), self.doubles.differences());
        befallen.insert(Harm::Memory.name(), self.world.system.memories_rotted());
        let refusals = Harm::ALL.into_iter().filter(|harm| harm.stops());
        befallen.extend(refusals.map(|harm| (harm.name(), self.world.refused(harm))));
        befallen.retain(|_, count| *count > 0);
        befallen
    }

    pub(super) fn expect_ways(&mut self, node: NodeId, misconduct: Misconduct) {
        if matches!(misconduct, Misconduct::Upstream(None) | Misconduct::Conspire(None)) {
            if self.ways.borrow().liars.is_empty() {
                self.world.watch(self.ways.clone());
            }
            self.ways.borrow_mut().liars.insert(node, misconduct.name());
        }
    }

    /// What one of two copies says to another replica or a client is held against what the other one says.
    pub(super) fn compare_twins(&mut self, number: u64) {
        if self.doubles.copies.is_empty() {
            return;
        }
        let Some(letter) = self.world.letter(number).copied() else { return };
        let is_signed = self.doubles.copies.contains_key(&letter.from)
            && self.world.message(number).is_some_and(|it| it.strength() == Strength::Signature);
        if is_signed {
            self.doubles.hear(letter.from, letter.name, letter.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(of: &[(u16, u8)]) -> u64 {
        let mut doubles = Doubles::default();
        doubles.expect([NodeId(1), NodeId(4)].into_iter());
        for (from, what) in of {
            doubles.hear(NodeId(*from), "vote", Digest::of(&[*what]));
        }
        doubles.differences()
    }

    #[test]
    fn twins_that_say_the_same_are_one() {
        assert_eq!(heard(&[(1, 1), (4, 1), (4, 2), (1, 2), (1, 1), (4, 2)]), 0);
        assert_eq!(heard(&[(1, 1), (1, 2), (1, 3), (4, 1)]), 0, "one is behind");
        assert_eq!(heard(&[(1, 1), (4, 2), (0, 3)]), 1);
        assert_eq!(heard(&[(1, 1), (4, 2), (1, 2), (4, 1)]), 0, "each says both in the end");
    }
}
