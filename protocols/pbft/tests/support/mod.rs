//! What liars and judges know of PBFT.

use testudo_contracts::Batch;
use testudo_core::{Context, Digest, Evidence, View};
use testudo_pbft::message::{Commit, Message, PrePrepare, Prepare};
use testudo_pbft::{Pbft, Rules, safety};
use testudo_sim::Chance;
use testudo_sim::replicated::Knowledge;

/// PBFT's own.
pub(crate) enum Lore {}

impl<R: Rules> Knowledge<Pbft<R>> for Lore {
    fn corrupt(message: &Message, chance: &mut dyn Chance) -> Option<Message> {
        let other = |digest: &Digest| Digest::of(&digest.0);
        Some(match message.clone() {
            // Another batch for the same slot, which backups have all bodies for: the plainest equivocation.
            Message::PrePrepare(PrePrepare { view, slot, batch }) => {
                let time = testudo_core::Time(batch.time.0 + 1 + chance.below(50));
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
            Message::ViewChange(mut change) => {
                if change.prepared.pop().is_none() {
                    change.view = View(change.view.0 + 1);
                }
                Message::ViewChange(change)
            }
            Message::NewView(mut new_view) => {
                let (_, batch) = new_view.ordered.last_mut()?;
                *batch = Batch::null();
                Message::NewView(new_view)
            }
            Message::Status(mut status) => {
                status.executed = testudo_core::Slot(chance.below(1000));
                Message::Status(status)
            }
            Message::Fetch(_)
            | Message::Committed(_)
            | Message::Proposal(_)
            | Message::Installed(_) => {
                return None;
            }
        })
    }

    fn convicts(evidence: &Evidence, context: &Context<'_>) -> bool {
        safety::is_convicted(evidence, context)
    }
}
