//! What a protocol knows of its own lies.
//!
//! A simulated liar runs the protocol's own automaton and has some of what it says replaced. Changed bytes make
//! messages that hardly anybody believes; the lies that hurt are well formed and plausible, and which those are only
//! the protocol can tell. So each brings its mutators, one for every kind of message. Nothing here is used by whoever tells
//! the truth. Who is convicted by a lie is for the message to say ([`testudo_core::Message::is_convicted`]).

use crate::{Batch, Ordering};
use alloc::vec::Vec;
use testudo_core::{Digest, Slot, View};

/// A source of chance. Liars and schedulers draw from it, so that a run can be repeated.
pub trait Chance {
    /// A number below `bound`, which is at least 1.
    fn below(&mut self, bound: u64) -> u64;

    /// True that many times in a thousand.
    fn per_mille(&mut self, times: u32) -> bool {
        times > 0 && self.below(1000) < u64::from(times)
    }

    /// A number from `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1).max(1))
    }
}

/// An ordering whose lies can be told, and told from the truth.
pub trait Falsifiable: Ordering {
    /// A message of the same kind that says something plausible and else; none if there is nothing to change.
    fn falsify(message: &Self::Message, chance: &mut dyn Chance) -> Option<Self::Message>;

    /// The digest by which votes name what a message proposes, if it proposes something: what liars put another in the
    /// place of who agree on a proposal of their own.
    fn proposes(message: &Self::Message) -> Option<Digest> {
        let _ = message;
        None
    }

    /// All that a replica of this protocol can say by itself in favour of a batch in a slot of a view, as if it led that
    /// view. A liar who says so about one batch to some and about another to others is the one whom quorums are made for.
    fn advocate(view: View, slot: Slot, batch: &Batch) -> Vec<Self::Message>;
}
