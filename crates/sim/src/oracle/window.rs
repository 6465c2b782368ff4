//! How far back oracles remember.
//!
//! A run may go on for as long as one likes, so what an oracle knows must not grow with it: neither with slots, nor with
//! views, nor with requests. Nobody executes a slot that is so far behind the newest: whoever is has the state
//! transferred. Only a replica that was down for all that time comes by such slots, when it reads its own log again; what
//! it comes to from there is compared as soon as it is back among the others.
//!
//! The runs of the standard plans are shorter than what is remembered, so nothing at all is forgotten in them.

use std::collections::{BTreeMap, BTreeSet};
use testudo_core::Slot;

/// Oracles remember so many slots up to the newest, and so many views: 64 times what the replicas of a run have in
/// flight.
pub const REMEMBERED: u64 = 1024;

/// Forgets the lowest, which were too long ago.
pub(crate) fn forget_old<K: Ord, V>(things: &mut BTreeMap<K, V>) {
    while things.len() as u64 > REMEMBERED {
        things.pop_first();
    }
}

/// Things whose names have no order in time. Each is remembered for at least [`REMEMBERED`] slots after it was said last,
/// and for less than twice as many, if slots go by at all.
///
/// There are two generations of them. When a generation has lasted long enough the one before it is forgotten, so that
/// forgetting costs nothing while there is nothing to forget.
#[derive(Clone, Debug)]
pub(crate) struct Recent<K, V> {
    young: BTreeMap<K, V>,
    old: BTreeMap<K, V>,
    /// The newest slot when the young generation began.
    began: Slot,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { young: BTreeMap::new(), old: BTreeMap::new(), began: Slot(0) }
    }
}

impl<K: Ord, V> Recent<K, V> {
    /// Something is said when `newest` is the newest slot. What was known of it before is given back.
    pub(crate) fn insert(&mut self, newest: Slot, key: K, value: V) -> Option<V> {
        if newest.0 >= self.began.0 + REMEMBERED {
            self.turn(newest);
        }
        let before = self.old.remove(&key);
        self.young.insert(key, value).or(before)
    }

    /// What was said last of something.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Forgets all but these.
    pub(crate) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.young.retain(|_, value| keep(value));
        self.old.retain(|_, value| keep(value));
    }

    /// How many things were said in the young generation.
    pub(crate) fn young(&self) -> usize {
        self.young.len()
    }

    /// A generation ends.
    pub(crate) fn turn(&mut self, newest: Slot) {
        self.old = std::mem::take(&mut self.young);
        self.began = newest;
    }

    /// How many things are remembered.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// How many different things there were. Of those that have an order in time the newest alone are remembered: what is
/// older than all of them has been counted.
#[derive(Clone, Debug)]
pub(crate) struct Distinct<K> {
    newest: BTreeSet<K>,
    /// The newest of those that are forgotten.
    upto: Option<K>,
    forgotten: u64,
}

impl<K> Default for Distinct<K> {
    fn default() -> Self {
        Self { newest: BTreeSet::new(), upto: None, forgotten: 0 }
    }
}

impl<K: Ord> Distinct<K> {
    /// Here is one, perhaps once more.
    pub(crate) fn note(&mut self, thing: K) {
        if self.upto.as_ref().is_some_and(|upto| thing <= *upto) {
            return;
        }
        self.newest.insert(thing);
        if self.newest.len() as u64 > REMEMBERED {
            self.upto = self.newest.pop_first();
            self.forgotten += 1;
        }
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.forgotten + self.newest.len() as u64
    }

    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.newest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Distinct, REMEMBERED, Recent, forget_old};
    use std::collections::BTreeMap;
    use testudo_core::Slot;

    /// Names without any order.
    const fn name(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn the_newest_slots_are_remembered() {
        let mut slots = BTreeMap::new();
        for slot in 1..=5 * REMEMBERED {
            slots.insert(Slot(slot), ());
            forget_old(&mut slots);
        }
        assert_eq!(slots.len() as u64, REMEMBERED);
        assert_eq!(slots.first_key_value(), Some((&Slot(4 * REMEMBERED + 1), &())));
    }

    #[test]
    fn what_is_said_is_remembered_for_a_while_however_much_is_said_in_a_slot() {
        const EACH: u64 = 3;
        let mut things = Recent::default();
        for slot in 1..=5 * REMEMBERED {
            for number in EACH * slot..EACH * (slot + 1) {
                assert_eq!(things.insert(Slot(slot), name(number), slot), None);
            }
            let oldest = slot.saturating_sub(REMEMBERED).max(1);
            assert_eq!(things.get(&name(EACH * oldest)), Some(&oldest), "{slot}");
            assert!(things.len() as u64 <= 2 * EACH * REMEMBERED);
        }
        assert_eq!(things.get(&name(EACH)), None);
    }

    #[test]
    fn what_is_said_again_is_remembered_from_then_on() {
        let mut things = Recent::default();
        for slot in 0..5 * REMEMBERED {
            let before = things.insert(Slot(slot), "again", slot);
            assert_eq!(before, slot.checked_sub(1));
            things.insert(Slot(slot), "other", slot);
        }
        assert_eq!(things.len(), 2);
        things.retain(|slot| *slot == 0);
        assert_eq!((things.len(), things.young()), (0, 0));
    }

    #[test]
    fn what_comes_again_is_counted_once_though_few_are_remembered() {
        let mut distinct = Distinct::default();
        for number in 0..5 * REMEMBERED {
            distinct.note(number);
            distinct.note(number.saturating_sub(7));
            distinct.note(0);
            assert_eq!(distinct.count(), number + 1);
        }
        assert_eq!(distinct.len() as u64, REMEMBERED);
    }
}
