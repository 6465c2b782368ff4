//! Sets of slots that are said and stored as what they mostly are: a few ranges.

use alloc::vec::Vec;
use core::fmt;
use testudo_core::{Invalid, Slot, limits, wire_struct};

/// A set of slots.
///
/// Invariants, which [`Slots::validate`] holds others' sets to: each range is (first, last) with first ≤ last, ranges
/// ascend, and at least one slot lies between two of them. So a set has one form.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Slots {
    ranges: Vec<(Slot, Slot)>,
}
wire_struct!(Slots { ranges });

/// Ranges in a set that is said: as many as there can be in a window, with a slot between each two.
const RANGES: usize = (limits::WINDOW / 2) as usize;

impl Slots {
    /// No slot.
    #[must_use]
    pub const fn none() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        let lengths = self.ranges.iter().map(|(first, last)| last.0 - first.0 + 1);
        lengths.fold(0, u64::saturating_add)
    }

    /// The ranges, as first and last slot.
    #[must_use]
    pub fn ranges(&self) -> &[(Slot, Slot)] {
        &self.ranges
    }

    /// Whether `slot` is one of them.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= slot);
        let before = after.checked_sub(1).and_then(|index| self.ranges.get(index));
        before.is_some_and(|(_, last)| slot <= *last)
    }

    /// Whether one of them lies from `first` to `last`.
    #[must_use]
    pub fn meets(&self, first: Slot, last: Slot) -> bool {
        first <= last && self.last_until(last).is_some_and(|slot| first <= slot)
    }

    /// The last of them that is not beyond `end`.
    #[must_use]
    pub fn last_until(&self, end: Slot) -> Option<Slot> {
        let (_, last) = self.ranges.iter().rev().find(|(first, _)| *first <= end)?;
        Some(end.min(*last))
    }

    /// Adds all from `first` to `last`; none if that is backwards.
    pub fn insert(&mut self, mut first: Slot, mut last: Slot) {
        if first > last {
            return;
        }
        // What overlaps or touches becomes one range.
        self.ranges.retain(|(from, to)| {
            let is_apart = *to < first.previous() || last.next() < *from;
            if !is_apart {
                (first, last) = (first.min(*from), last.max(*to));
            }
            is_apart
        });
        let at = self.ranges.partition_point(|(from, _)| *from < first);
        self.ranges.insert(at, (first, last));
    }

    /// Lets go of all up to `slot`.
    pub fn trim(&mut self, slot: Slot) {
        self.ranges.retain(|(_, last)| *last > slot);
        if let Some((first, _)) = self.ranges.first_mut() {
            *first = slot.next().max(*first);
        }
    }

    /// Holds somebody's set to its form: not too many ranges, in order, apart from each other, and all above `base`.
    ///
    /// # Errors
    /// When it is not in that form.
    pub fn validate(&self, base: Slot) -> Result<(), Invalid> {
        if self.ranges.len() > RANGES {
            return Err(Invalid("a set of slots has too many ranges"));
        }
        let mut end = base;
        for (at, (first, last)) in self.ranges.iter().enumerate() {
            let is_apart = if at == 0 { *first > end } else { *first > end.next() };
            if !is_apart || last < first {
                return Err(Invalid("a set of slots is not in order"));
            }
            end = *last;
        }
        Ok(())
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (first, last)) in self.ranges.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            if first == last {
                write!(f, "{space}{first:?}")?;
            } else {
                write!(f, "{space}{first:?}–{last}")?;
            }
        }
        f.write_str("}")
    }
}
