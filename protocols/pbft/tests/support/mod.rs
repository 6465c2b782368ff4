//! What liars and judges know of PBFT.

use testudo_contracts::Batch;
use testudo_core::{Context, Digest, Evidence, Slot, View};
use testudo_pbft::message::{Commit, Message, PrePrepare, Prepare, Slots};
use testudo_pbft::{Pbft, Rules, safety};
use testudo_sim::Chance;
use testudo_sim::replicated::Knowledge;

/// Lies about everything.
pub(crate) enum Lore {}

/// Begins views with nothing where something was prepared last, and votes as if that were right. Its commits for nothing
/// keep decisions from others meanwhile.
#[allow(dead_code)]
pub(crate) enum LiesAboutViews {}

impl<R: Rules> Knowledge<Pbft<R>> for LiesAboutViews {
    const BLINDLY: bool = false;

    fn corrupt(message: &Message, chance: &mut dyn Chance) -> Option<Message> {
        let null = Batch::null().digest();
        Some(match message.clone() {
            Message::NewView(mut new_view) => {
                // More than the last few would be noticed by everybody who has executed some of it.
                let last = chance.below(3) as usize + 1;
                let spoilt = new_view.ordered.iter_mut().rev().take(last);
                spoilt.for_each(|(_, batch)| *batch = Batch::null());
                Message::NewView(new_view)
            }
            Message::Prepare(vote) if vote.view > View(0) => {
                Message::Prepare(Prepare { digest: null, ..vote })
            }
            Message::Commit(vote) => Message::Commit(Commit { digest: null, ..vote }),
            _ => return None,
        })
    }

    fn convicts(evidence: &Evidence, context: &Context<'_>) -> bool {
        safety::is_convicted(evidence, context)
    }
}

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
            Message::ViewChange(mut change) if chance.per_mille(200) => {
                // It says that it knows nothing.
                change.lost = Slots::none();
                change.lost.insert(change.base().next(), Slot(u64::MAX));
                Message::ViewChange(change)
            }
            Message::ViewChange(mut change) => {
                if change.prepared.pop().is_none() {
                    change.view = View(change.view.0 + 1);
                }
                Message::ViewChange(change)
            }
            Message::NewView(mut new_view) => {
                // What was prepared, and perhaps decided, is left out.
                new_view.ordered.iter_mut().for_each(|(_, batch)| *batch = Batch::null());
                Message::NewView(new_view)
            }
            Message::Status(mut status) => {
                status.executed = testudo_core::Slot(chance.below(1000));
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
            Message::Fetch(_)
            | Message::Inquiry(_)
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
