//! What has to be known of a protocol by whoever lies in its name, and by whoever judges those who do.

use crate::rng::Chance;
use crate::script::compact;
use testudo_contracts::{Falsifiable, OrderConfig, Ordering, Tactic, Tactician};
use testudo_core::{Context, Digest, Evidence, Message as _, ReplicaId};

/// What is known of a protocol by its liars and its judges. [`Lore`] is what the protocol brings itself.
pub trait Knowledge<O: Ordering>: 'static {
    /// Whether liars also change bytes that they know nothing of. Without it they lie by [`Knowledge::corrupt`] alone,
    /// and tell the truth where that has nothing to say.
    const BLINDLY: bool = true;
    /// A message of the same kind that says something plausible and else; none if there is nothing to change.
    fn corrupt(message: &O::Message, chance: &mut dyn Chance) -> Option<O::Message>;
    /// Whether evidence convinces a third party.
    fn convicts(evidence: &Evidence, context: &Context<'_>) -> bool;
    /// The digest by which votes name what a message proposes, if it proposes something.
    fn proposes(message: &O::Message) -> Option<Digest> {
        let _ = message;
        None
    }
    /// All that a replica can say by itself in favour of what a message proposes, if it proposes something.
    fn advocate(message: &O::Message) -> Vec<O::Message> {
        let _ = message;
        Vec::new()
    }
    /// A replica that keeps to a tactic, if the protocol knows that.
    fn tactician(
        tactic: Tactic,
        me: ReplicaId,
        config: &OrderConfig,
    ) -> Option<Box<dyn Tactician<O::Message>>> {
        let _ = (tactic, me, config);
        None
    }
    /// A message as scripts print it, without its name.
    fn show(message: &O::Message) -> String {
        compact(&format!("{message:?}"))
    }
}

/// What a protocol itself brings of such knowledge.
#[derive(Clone, Copy, Debug)]
pub enum Lore {}

impl<O: Falsifiable> Knowledge<O> for Lore {
    fn corrupt(message: &O::Message, chance: &mut dyn Chance) -> Option<O::Message> {
        O::falsify(message, chance)
    }
    fn convicts(evidence: &Evidence, context: &Context<'_>) -> bool {
        O::Message::is_convicted(evidence, context)
    }
    fn proposes(message: &O::Message) -> Option<Digest> {
        O::proposes(message)
    }
    fn advocate(message: &O::Message) -> Vec<O::Message> {
        let proposal = O::proposal(message);
        proposal.map(|(view, slot, batch)| O::advocate(view, slot, &batch)).unwrap_or_default()
    }
    fn tactician(
        tactic: Tactic,
        me: ReplicaId,
        config: &OrderConfig,
    ) -> Option<Box<dyn Tactician<O::Message>>> {
        O::tactician(tactic, me, config)
    }
}
