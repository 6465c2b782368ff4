//! How far back oracles remember.
//!
//! A run may go on for as long as one likes, so what an oracle knows of slots must not grow with it. Nobody executes a
//! slot that is so far behind the newest: whoever is has the state transferred.

use std::collections::BTreeMap;
use testudo_core::Slot;

/// Oracles remember so many slots up to the newest.
pub(crate) const REMEMBERED: u64 = 4096;

/// Forgets what was too long ago.
pub(crate) fn forget_old<V>(slots: &mut BTreeMap<Slot, V>) {
    while slots.len() as u64 > REMEMBERED {
        slots.pop_first();
    }
}

/// Forgets what was too long ago, where slots are not the order: now and then, so that it costs next to nothing.
pub(crate) fn forget_old_of<K: Ord, V>(
    things: &mut BTreeMap<K, V>,
    newest: Slot,
    slot: impl Fn(&V) -> Slot,
) {
    if things.len() as u64 > 2 * REMEMBERED {
        things.retain(|_, thing| slot(thing).0 + REMEMBERED > newest.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{REMEMBERED, forget_old, forget_old_of};
    use std::collections::BTreeMap;
    use testudo_core::Slot;

    #[test]
    fn the_newest_are_remembered_and_there_are_never_many() {
        let (mut slots, mut things) = (BTreeMap::new(), BTreeMap::new());
        for slot in 1..=5 * REMEMBERED {
            slots.insert(Slot(slot), ());
            forget_old(&mut slots);
            // Names without any order.
            things.insert(slot.wrapping_mul(0x9e37_79b9_7f4a_7c15), Slot(slot));
            forget_old_of(&mut things, Slot(slot), |slot| *slot);
            assert!(things.len() as u64 <= 2 * REMEMBERED);
        }
        assert_eq!(slots.len() as u64, REMEMBERED);
        assert_eq!(slots.first_key_value(), Some((&Slot(4 * REMEMBERED + 1), &())));
        let kept: std::collections::BTreeSet<Slot> = things.into_values().collect();
        assert!((4 * REMEMBERED + 1..=5 * REMEMBERED).all(|slot| kept.contains(&Slot(slot))));
    }
}
