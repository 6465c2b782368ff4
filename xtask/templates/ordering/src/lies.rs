//! What liars say in this protocol's name.
//!
//! Each kind of message has a lie of its own that reads as a message and that a naive receiver would act upon.

use crate::message::{Message, Proposal, Vote};
use crate::{Rules, __Type__};
use alloc::vec::Vec;
use testudo_contracts::{Batch, Chance, Falsifiable};
use testudo_core::{Digest, Slot, Time, View};

impl<R: Rules> Falsifiable for __Type__<R> {
    fn falsify(message: &Message, chance: &mut dyn Chance) -> Option<Message> {
        Some(match message.clone() {
            // Another batch for the same slot, which others have all bodies for: the plainest equivocation.
            Message::Proposal(Proposal { view, slot, batch }) => {
                let time = Time(batch.time.0 + 1 + chance.below(50));
                Message::Proposal(Proposal { view, slot, batch: Batch { time, ..batch } })
            }
            Message::Vote(Vote { view, slot, digest }) => {
                Message::Vote(Vote { view, slot, digest: Digest::of(&digest.0) })
            }
        })
    }

    fn advocate(view: View, slot: Slot, batch: &Batch) -> Vec<Message> {
        let digest = batch.digest();
        [
            Message::Proposal(Proposal { view, slot, batch: batch.clone() }),
            Message::Vote(Vote { view, slot, digest }),
        ]
        .into()
    }
}
