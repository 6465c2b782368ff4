//! What learners show is what replicas hold.
//!
//! Every state that correct replicas come to hold is remembered by its slot. What a learner publishes must be one of
//! those, never one that no correct replica has executed, and never older than what it published before in the same
//! life. A read of a published copy is then a read of some beginning of the one order, and reads do not go back.
//!
//! Replicas that execute several slots at once are seen at the last of them alone, and one that crashes in the midst of a step
//! has told others of a slot at which nobody has seen it. What learners show there waits until a replica comes by, and
//! meanwhile all learners must show the same. In the end some replica must have gone as far.

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
    /// What learners showed after slots at which no replica was seen, and who was the first.
    unseen: BTreeMap<Slot, (Digest, usize)>,
    /// What each learner showed last in its present life.
    shown: BTreeMap<usize, Slot>,
    compared: u64,
    /// How many copies there was nothing to compare with when they were shown.
    alone: u64,
}

impl Copies {
    /// A correct replica holds this state. What a learner showed of it before is compared with it.
    pub fn held(&mut self, slot: Slot, state: &Map) -> Option<Finding> {
        self.highest = self.highest.max(slot);
        let unseen = self.unseen.remove(&slot);
        let expected = unseen.map(|_| state.digest());
        self.held.entry(slot).or_insert_with(|| (state.clone(), expected));
        forget_old(&mut self.held);
        let (shown, learner) = unseen?;
        self.compared += 1;
        let expected = expected?;
        (shown != expected).then(|| {
            let what = format!("learner {learner} showed {shown:?} after {slot:?}");
            ("copies", format!("{what}, where a replica holds {expected:?}"))
        })
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
        let found = published.state.digest();
        let (expected, who) = match self.held.get_mut(&slot) {
            Some((state, digest)) => {
                self.compared += 1;
                (*digest.get_or_insert_with(|| state.digest()), "replicas hold".into())
            }
            None => {
                let (first, by) = *self.unseen.entry(slot).or_insert((found, learner));
                forget_old(&mut self.unseen);
                self.alone += u64::from(by == learner);
                self.compared += u64::from(by != learner);
                (first, format!("learner {by} showed"))
            }
        };
        if found == expected {
            return None;
        }
        broken(format!("shows {found:?} after {slot:?}, where {who} {expected:?}"))
    }

    /// Whether no correct replica was seen to have come so far.
    #[must_use]
    pub fn is_ahead(&self, slot: Slot) -> bool {
        slot > self.highest
    }

    /// A whole run has ended: what learners show some replica has executed.
    #[must_use]
    pub fn finish(&self) -> Option<Finding> {
        let (slot, (_, learner)) = self.unseen.last_key_value()?;
        self.is_ahead(*slot).then(|| {
            let what = format!("shows {slot:?}, which no correct replica has executed");
            ("copies", format!("learner {learner} {what}"))
        })
    }

    /// How many states and copies are remembered.
    #[must_use]
    pub fn size(&self) -> usize {
        self.held.len() + self.unseen.len() + self.shown.len()
    }

    /// How many copies were of slots after which nobody else had been seen, whether they were compared later or not.
    #[must_use]
    pub const fn alone(&self) -> u64 {
        self.alone
    }

    /// How many copies were compared with what replicas hold.
    #[must_use]
    pub const fn compared(&self) -> u64 {
        self.compared
    }
}
