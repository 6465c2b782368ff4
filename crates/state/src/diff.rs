//! What two versions of a map do not have in common.
//!
//! Both are walked through at once. A subtree that both share, or whose digests are known and equal, is passed over; so
//! the work follows from what differs, not from how much there is.

use crate::Map;
use crate::node::Child;
use crate::path::{agreement, nibble};
use crate::tally;
use crate::walk::{Cut, Step, Walk};
use alloc::sync::Arc;
use core::cmp::Ordering;

/// One of the two, and what comes next in it.
struct Side<'a> {
    walk: Walk<'a>,
    next: Option<Step<'a>>,
}

/// Which of the two is to go on.
enum Turn {
    Here,
    There,
    Both,
}

impl<'a> Side<'a> {
    fn new(map: &'a Map) -> Self {
        let walk = Walk::new(None, Cut::Start, false);
        Self { walk, next: map.root.as_ref().map(Step::Child) }
    }

    fn pass(&mut self) {
        self.next = self.walk.step();
    }

    fn enter(&mut self, child: &'a Child) {
        tally::visited();
        self.walk.enter(child);
        self.pass();
    }

    /// Goes into a subtree, or past an entry, whose value it gives.
    fn go_on(&mut self) -> Option<&'a Arc<[u8]>> {
        match self.next? {
            Step::Child(child) => {
                self.enter(child);
                None
            }
            Step::Entry(slot) => Some(&slot.value),
        }
    }
}

impl Map {
    /// Visits the keys, in ascending order, at which this map and another one differ, with the value here and the value
    /// there, until `visit` says false.
    pub fn diff(
        &self,
        other: &Self,
        mut visit: impl FnMut(&[u8], Option<&Arc<[u8]>>, Option<&Arc<[u8]>>) -> bool,
    ) {
        let (mut here, mut there) = (Side::new(self), Side::new(other));
        while let Some(turn) = turn(&here, &there) {
            match (turn, here.next, there.next) {
                (Turn::Both, Some(Step::Child(ours)), Some(Step::Child(theirs))) => {
                    if is_same(ours, theirs) {
                        here.pass();
                        there.pass();
                    } else {
                        here.enter(ours);
                        there.enter(theirs);
                    }
                }
                (Turn::Both, Some(Step::Entry(ours)), Some(Step::Entry(theirs))) => {
                    let (ours, theirs) = (&ours.value, &theirs.value);
                    let is_equal = Arc::ptr_eq(ours, theirs) || ours == theirs;
                    if !is_equal && !visit(here.walk.key(), Some(ours), Some(theirs)) {
                        return;
                    }
                    here.pass();
                    there.pass();
                }
                (Turn::There, ..) => {
                    if let Some(value) = there.go_on() {
                        if !visit(there.walk.key(), None, Some(value)) {
                            return;
                        }
                        there.pass();
                    }
                }
                (Turn::Here | Turn::Both, ..) => {
                    if let Some(value) = here.go_on() {
                        if !visit(here.walk.key(), Some(value), None) {
                            return;
                        }
                        here.pass();
                    }
                }
            }
        }
    }
}

/// Which of the two goes on: the one that lies before the other, or around it; both if they came to the same place.
fn turn(here: &Side<'_>, there: &Side<'_>) -> Option<Turn> {
    let (ours, theirs) = match (here.next, there.next) {
        (None, None) => return None,
        (Some(_), None) => return Some(Turn::Here),
        (None, Some(_)) => return Some(Turn::There),
        (Some(ours), Some(theirs)) => (ours, theirs),
    };
    let lengths = (here.walk.nibbles(), there.walk.nibbles());
    let common = agreement(here.walk.key(), there.walk.key(), false);
    let order = if common < lengths.0.min(lengths.1) {
        nibble(here.walk.key(), common).cmp(&nibble(there.walk.key(), common))
    } else {
        lengths.0.cmp(&lengths.1)
    };
    Some(match (order, ours, theirs) {
        (Ordering::Less, ..) => Turn::Here,
        (Ordering::Greater, ..) => Turn::There,
        // The entry may lie in the subtree.
        (Ordering::Equal, Step::Child(_), Step::Entry(_)) => Turn::Here,
        (Ordering::Equal, Step::Entry(_), Step::Child(_)) => Turn::There,
        (Ordering::Equal, ..) => Turn::Both,
    })
}

/// Whether two subtrees are known to be the same. That they are not known to be is no matter: they are looked into.
fn is_same(ours: &Child, theirs: &Child) -> bool {
    ours.is_same(theirs)
        || ours.known_digest().is_some_and(|digest| Some(digest) == theirs.known_digest())
}
