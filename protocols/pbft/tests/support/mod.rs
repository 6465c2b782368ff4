//! Another liar than the one that PBFT itself knows of.

use testudo_contracts::Batch;
use testudo_core::{Context, Evidence, View};
use testudo_pbft::message::{Commit, Message, Prepare};
use testudo_pbft::{Pbft, Rules, safety};
use testudo_sim::Chance;
use testudo_sim::replicated::Knowledge;

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
