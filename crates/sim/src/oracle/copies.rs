//! What learners show is what replicas hold.
//!
//! Every state that correct replicas come to hold is remembered by its slot. What a learner publishes must be one of
//! those, never one that no correct replica has executed, and never older than what it published before in the same
//! life. A read of a published copy is then a read of some beginning of the one order, and reads do not go back.

use super::window::forget_old;
use crate::workload::Finding;
use std::collections::BTreeMap;
use testudo_core::{Digest, Slot};
use testudo_replication::Published;
use testudo_state::Map;

/// The states of replicas and of learners' copies.
#[derive(Default, Debug)]
pub struct Copies {
    /// What correct replicas held after each slot; the digests of those that were compared.
    held: BTreeMap<Slot, (Map, Option<Digest>)>,
    /// The highest slot that a correct replica ever held.
    highest: Slot,
    /// What each learner showed last in its present life.
    shown: BTreeMap<usize, Slot>,
    compared: u64,
}

impl Copies {
    /// A correct replica holds this state.
    pub fn held(&mut self, slot: Slot, state: &Map) {
        self.highest = self.highest.max(slot);
        self.held.entry(slot).or_insert_with(|| (state.clone(), None));
        forget_old(&mut self.held);
    }

    /// A learner crashed, and may begin anew from wherever others are.
    pub fn crashed(&mut self, learner: usize) {
        self.shown.remove(&learner);
    }

    /// A correct learner shows this state.
    pub fn published(&mut self, learner: usize, published: &Published) -> Option<Finding> {
        let slot = published.slot;
        let broken = |how: String| Some(("copies", format!("learner {learner} {how}")));
        if let Some(before) = self.shown.insert(learner, slot)
            && before > slot
        {
            return broken(format!("went back from {before:?} to {slot:?}"));
        }
        if slot > self.highest {
            return broken(format!("shows {slot:?}, which no correct replica has executed"));
        }
        let (state, digest) = self.held.get_mut(&slot)?;
        let expected = *digest.get_or_insert_with(|| state.digest());
        let found = published.state.digest();
        self.compared += 1;
        if found == expected {
            return None;
        }
        broken(format!("shows {found:?} after {slot:?}, where replicas hold {expected:?}"))
    }

    /// How many states and copies are remembered.
    #[must_use]
    pub fn size(&self) -> usize {
        self.held.len() + self.shown.len()
    }

    /// How many copies were compared with what replicas hold.
    #[must_use]
    pub const fn compared(&self) -> u64 {
        self.compared
    }
}
