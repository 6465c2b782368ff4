//! What liars say in PBFT's name.
//!
//! Each kind of message has a lie of its own that reads as a message and that a naive receiver would act upon.

use crate::message::{
    Commit, Fetch, Inquiry, Message, Nonce, PrePrepare, Prepare, Slots, ViewChange,
};
use crate::{Pbft, Rules, tactics};
use alloc::boxed::Box;
use alloc::vec::Vec;
use testudo_contracts::{Batch, Chance, Falsifiable, OrderConfig, Tactic, Tactician};
use testudo_core::{Digest, ReplicaId, Slot, Time, View};

impl<R: Rules> Falsifiable for Pbft<R> {
    fn falsify(message: &Message, chance: &mut dyn Chance) -> Option<Message> {
        let other = |digest: &Digest| Digest::of(&digest.0);
        Some(match message.clone() {
            // Another batch for the same slot, which backups have all bodies for: the plainest equivocation.
            Message::PrePrepare(PrePrepare { view, slot, batch }) => {
                let time = Time(batch.time.0 + 1 + chance.below(50));
                let bundles = if chance.per_mille(300) { Vec::new() } else { batch.bundles };
                Message::PrePrepare(PrePrepare {
                    view,
                    slot,
                    batch: Batch { bundles, time, ..batch },
                })
            }
            Message::Prepare(Prepare { view, slot, digest }) => {
                Message::Prepare(Prepare { view, slot, digest: other(&digest) })
            }
            Message::Commit(Commit { view, slot, digest }) => {
                Message::Commit(Commit { view, slot, digest: other(&digest) })
            }
            Message::ViewChange(change) => Message::ViewChange(forgetful(change, chance)),
            Message::NewView(mut new_view) => {
                // What was prepared, and perhaps decided, is left out.
                new_view.ordered.iter_mut().for_each(|(_, batch)| *batch = Batch::null());
                Message::NewView(new_view)
            }
            Message::Status(mut status) => {
                status.executed = Slot(chance.below(1000));
                Message::Status(status)
            }
            // It is asked, and says that it has never heard of the asker.
            Message::Testimony(mut testimony) => {
                testimony.proposals.clear();
                testimony.prepares.clear();
                testimony.commits.clear();
                (testimony.change, testimony.checkpoint) = (None, None);
                Message::Testimony(testimony)
            }
            Message::Fetch(Fetch { from }) => {
                let other = chance.below(2 * from.0.saturating_add(1));
                Message::Fetch(Fetch { from: Slot(if other == from.0 { 0 } else { other }) })
            }
            // The answer will be to a question that it has not asked.
            Message::Inquiry(Inquiry { nonce }) => {
                Message::Inquiry(Inquiry { nonce: Nonce(nonce.0 ^ 1) })
            }
            // What is handed on proves itself, and this does not any more.
            Message::Committed(mut committed) => {
                committed.batch.time.0 = committed.batch.time.0.saturating_add(1);
                Message::Committed(committed)
            }
            Message::Proposal(mut proposal) => {
                let time = &mut proposal.statement.batch.time;
                time.0 = time.0.saturating_add(1);
                Message::Proposal(proposal)
            }
            Message::Installed(mut installed) => {
                installed.statement.ordered.pop()?;
                Message::Installed(installed)
            }
        })
    }

    fn proposes(message: &Message) -> Option<Digest> {
        match message {
            Message::PrePrepare(proposal) => Some(proposal.batch.digest()),
            _ => None,
        }
    }

    fn proposal(message: &Message) -> Option<(View, Slot, Batch)> {
        match message {
            Message::PrePrepare(PrePrepare { view, slot, batch }) => {
                Some((*view, *slot, batch.clone()))
            }
            _ => None,
        }
    }

    const TACTICS: &'static [Tactic] = &Tactic::ALL;

    fn tactician(
        tactic: Tactic,
        me: ReplicaId,
        config: &OrderConfig,
    ) -> Option<Box<dyn Tactician<Message>>> {
        Some(tactics::tactician(tactic, me, config))
    }

    fn advocate(view: View, slot: Slot, batch: &Batch) -> Vec<Message> {
        let digest = batch.digest();
        [
            Message::PrePrepare(PrePrepare { view, slot, batch: batch.clone() }),
            Message::Prepare(Prepare { view, slot, digest }),
            Message::Commit(Commit { view, slot, digest }),
        ]
        .into()
    }
}

/// A view change that tells less than its sender knows; now and then that it knows nothing.
fn forgetful(mut change: ViewChange, chance: &mut dyn Chance) -> ViewChange {
    if chance.per_mille(200) {
        change.lost = Slots::none();
        change.lost.insert(change.base().next(), Slot(u64::MAX));
    } else if change.prepared.pop().is_none() {
        change.view = View(change.view.0 + 1);
    }
    change
}
