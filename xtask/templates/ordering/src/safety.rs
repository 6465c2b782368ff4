//! The rules that agreement rests on, and nothing else: pure functions from what was said to what may be done.
//!
//! They are a trait whose methods all have their right bodies, so that a test can break one rule and watch what the
//! others cannot hold. [`Standard`] changes none. Everything else in this crate may be wrong without anything that was
//! executed ever being executed otherwise.
//!
//! Why they suffice for one replica (the paper's proof goes here, in its own words for its quorums):
//!
//! - *Within a view.* A slot is proposed once in a view, and nothing is decided but what a quorum voted for.
//! - *Across views and crashes.* A vote counts when it comes back through the gate, so its record is durable before
//!   anything is decided by it. The next view repeats what the record of the highest view says, slot by slot.

use crate::message::{Message, Proposal};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use testudo_contracts::Batch;
use testudo_core::{Context, Decode, Digest, Evidence, Signed, Slot, View};
use testudo_quorum::Dissemination;

/// The offence of proposing or voting for two batches in one slot of one view.
pub const EQUIVOCATION: &str = "equivocation";

/// Where a replica stands when it asks whether it may accept a proposal.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// The view that it is in.
    pub view: View,
    /// Its last stable checkpoint.
    pub low: Slot,
    /// The last slot of its window.
    pub high: Slot,
    /// The first slot that the view does not repeat from earlier ones.
    pub first_fresh: Slot,
    /// Whether it has accepted a proposal in this slot of this view.
    pub taken: bool,
}

/// The rules. Tests break one at a time; production uses [`Standard`].
pub trait Rules: Clone + fmt::Debug + 'static {
    /// q: how many replicas' votes decide.
    #[must_use]
    fn quorum(system: &Dissemination) -> usize {
        system.quorum()
    }

    /// May I accept this proposal? Only in my view, within the window, for a slot that the view does not repeat, and
    /// when I have accepted none there.
    #[must_use]
    fn may_accept(proposal: &Proposal, ground: &Ground) -> bool {
        proposal.view == ground.view
            && ground.low < proposal.slot
            && proposal.slot <= ground.high
            && ground.first_fresh <= proposal.slot
            && !ground.taken
    }

    /// May I vote for what I accepted? Only when the layer above has judged this very batch: it holds the bodies.
    #[must_use]
    fn may_vote(accepted: Digest, judged: Option<Digest>) -> bool {
        judged == Some(accepted)
    }

    /// Is it decided, when so many different replicas voted for it? My own vote is among them once it came back to me,
    /// and not before.
    #[must_use]
    fn is_decided(system: &Dissemination, voters: usize) -> bool {
        voters >= Self::quorum(system)
    }

    /// What must the next view repeat, after a checkpoint at `base`? For every slot up to the last that was voted for,
    /// the batch of the vote of the highest view, and the null batch where there is none. One replica's own votes are
    /// all there is to know; among several, this is computed from the view changes of a quorum (the paper's section on
    /// view changes).
    #[must_use]
    fn adopt(base: Slot, voted: &[Proposal]) -> Vec<(Slot, Batch)> {
        let mut chosen: BTreeMap<Slot, &Proposal> = BTreeMap::new();
        for vote in voted.iter().filter(|vote| vote.slot > base) {
            let best = chosen.entry(vote.slot).or_insert(vote);
            if best.view < vote.view {
                *best = vote;
            }
        }
        let last = chosen.keys().next_back().copied().unwrap_or(base);
        let batch = |slot| chosen.get(&slot).map_or_else(Batch::null, |vote| vote.batch.clone());
        (base.next().0..=last.0).map(|slot| (Slot(slot), batch(Slot(slot)))).collect()
    }

    /// What convicts the replica that signed both. Never true of a correct replica, whatever others do: in a view it
    /// proposes each slot once, it votes for what it accepted alone, and it gives its view up when it restarts.
    #[must_use]
    fn convicts(one: &Message, other: &Message) -> Option<&'static str> {
        let ((view, slot, digest), (other_view, other_slot, other_digest)) =
            (one.binds(), other.binds());
        let same_place = view == other_view && slot == other_slot;
        (same_place && digest != other_digest).then_some(EQUIVOCATION)
    }
}

/// The rules as they are.
#[derive(Clone, Copy, Debug)]
pub enum Standard {}

impl Rules for Standard {}

/// Judges evidence as a third party: with the members' keys, and nobody's word.
#[must_use]
pub fn is_convicted(evidence: &Evidence, context: &Context<'_>) -> bool {
    let accused = evidence.accused.into();
    let read = |frame: &Vec<u8>| {
        let signed = Signed::<Message>::from_bytes(frame).ok()?;
        let verified = signed.verify(accused, context).ok()?;
        (verified.sender() == accused && verified.signature().is_some())
            .then(|| verified.into_message())
    };
    let statements: Option<Vec<Message>> = evidence.statements.iter().map(read).collect();
    let offence = match statements.as_deref() {
        Some([one, other]) => Standard::convicts(one, other),
        _ => None,
    };
    evidence.protocol == crate::__CONST__ && offence == Some(evidence.offence.as_str())
}
