//! The rules that agreement rests on, and nothing else: pure functions from what was said to what may be done.
//!
//! They are a trait whose methods all have their right bodies, so that a test can break one rule and watch what the
//! others cannot hold. [`Standard`] changes none. Everything else in this crate (timers, resending, catching up) may
//! be wrong without two replicas ever executing different batches in one slot.
//!
//! Why they suffice (OSDI'99, section 4.5.1; Castro's thesis, chapter 3), for any n > 3f and q = ⌈(n+f+1)/2⌉:
//!
//! - *Within a view.* Two batches prepared in one slot of one view would each have the votes of q replicas. Two such
//!   sets share f+1, hence a correct one, which votes once.
//! - *Across views.* What is decided in view v was prepared by q replicas, who keep the certificate until a stable
//!   checkpoint covers its slot. A new view is drawn from the view changes of q, among whom is a correct one of the
//!   former, with that certificate or one of a higher view for that slot, which by induction is for the same batch.
//!   The certificate of the highest view wins. If the sender's checkpoint already covers the slot, so does that from
//!   which the new view goes on.

use crate::message::{Commit, Message, NewView, PrePrepare, ViewChange};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use testudo_contracts::{Batch, StableCheckpoint};
use testudo_core::{Context, Decode, Digest, Evidence, Signed, Slot, View};
use testudo_quorum::Dissemination;

/// The offence of voting for two batches in one slot of one view.
pub const EQUIVOCATION: &str = "equivocation";
/// The offence of sending two view changes for one view.
pub const TWO_VIEW_CHANGES: &str = "two-view-changes";
/// The offence of sending two new-view messages for one view.
pub const TWO_NEW_VIEWS: &str = "two-new-views";
/// The offence of beginning a view with what does not follow from its view changes.
pub const UNFOUNDED_NEW_VIEW: &str = "unfounded-new-view";
/// The offence of keeping a certificate, for which a commit was sent, out of a later view change.
pub const AMNESIA: &str = "amnesia";

/// Where a replica stands when it asks whether it may accept a pre-prepare.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// The view that it is in, or is changing to.
    pub view: View,
    /// Whether that view is installed.
    pub active: bool,
    /// h: its last stable checkpoint.
    pub low: Slot,
    /// H: the last slot of its window.
    pub high: Slot,
    /// The first slot that the view does not repeat from earlier ones.
    pub first_fresh: Slot,
    /// The digest that it is bound to in this slot: of what it accepted in this view, or knows to be decided.
    pub bound: Option<Digest>,
}

/// What a new view goes on from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Adopted {
    /// The highest stable checkpoint of its view changes; none at the genesis.
    pub stable: Option<StableCheckpoint>,
    /// What it repeats: every slot from that checkpoint to the last prepared one.
    pub ordered: Vec<(Slot, Batch)>,
}

impl Adopted {
    /// The slot of the checkpoint.
    #[must_use]
    pub fn base(&self) -> Slot {
        self.stable.as_ref().map_or(Slot(0), |stable| stable.statement().slot)
    }
    /// The first slot that is free for fresh batches.
    #[must_use]
    pub fn first_fresh(&self) -> Slot {
        self.ordered.last().map_or_else(|| self.base(), |(slot, _)| *slot).next()
    }
}

/// The rules. Tests break one at a time; production uses [`Standard`].
pub trait Rules: Clone + fmt::Debug + 'static {
    /// q: how many replicas prepare, commit, and change the view.
    #[must_use]
    fn quorum(system: &Dissemination) -> usize {
        system.quorum()
    }

    /// May I accept this pre-prepare? Only in an installed view of this number, within the window, for a slot that the
    /// view does not repeat, and when I have accepted no other there (OSDI'99, section 4.2).
    #[must_use]
    fn may_accept(proposal: &PrePrepare, ground: &Ground) -> bool {
        ground.active
            && proposal.view == ground.view
            && ground.low < proposal.slot
            && proposal.slot <= ground.high
            && ground.first_fresh <= proposal.slot
            && ground.bound.is_none_or(|digest| digest == proposal.batch.digest())
    }

    /// Is it prepared, when so many different replicas voted for it? The primary is one of them, once: by its
    /// pre-prepare, or by its prepare where the view repeats a batch.
    #[must_use]
    fn is_prepared(system: &Dissemination, voters: usize) -> bool {
        voters >= Self::quorum(system)
    }

    /// Is it committed, when so many different replicas, myself perhaps among them, sent commits for it?
    #[must_use]
    fn is_committed(system: &Dissemination, voters: usize) -> bool {
        voters >= Self::quorum(system)
    }

    /// Has the primary been late for longer, all in all, than replicas bear with? Liveness alone rests on this.
    #[must_use]
    fn is_too_slow(late: Duration, patience: Duration) -> bool {
        late > patience
    }

    /// What must the new view adopt? From the highest stable checkpoint on, for every slot up to the last prepared one,
    /// the batch of the prepared certificate with the highest view, and the null batch where there is none (OSDI'99,
    /// section 4.4).
    #[must_use]
    fn adopt(changes: &[&ViewChange]) -> Adopted {
        let stable = changes.iter().max_by_key(|change| change.base());
        let stable = stable.and_then(|change| change.stable.clone());
        let base = stable.as_ref().map_or(Slot(0), |stable| stable.statement().slot);
        let mut chosen = BTreeMap::new();
        for prepared in changes.iter().flat_map(|change| &change.prepared) {
            // The digest only settles what cannot be: two certificates of one view for one slot.
            let rank = (prepared.view(), prepared.digest());
            let best = chosen.entry(prepared.slot()).or_insert((rank, prepared));
            if best.0 < rank {
                *best = (rank, prepared);
            }
        }
        let last = chosen.keys().next_back().copied().unwrap_or(base);
        let ordered = (base.0.saturating_add(1)..=last.0)
            .map(Slot)
            .map(|slot| {
                let null = Batch::null;
                (slot, chosen.get(&slot).map_or_else(null, |(_, found)| found.batch.clone()))
            })
            .collect();
        Adopted { stable, ordered }
    }

    /// Is this new view right? What it adopts, if what it says is what follows from its view changes; `None` if not.
    #[must_use]
    fn derive(new_view: &NewView) -> Option<Adopted> {
        let changes: Vec<_> = new_view.changes.iter().map(|change| &change.statement).collect();
        let adopted = Self::adopt(&changes);
        (adopted.ordered == new_view.ordered).then_some(adopted)
    }

    /// What convicts the replica that signed this alone: a new view that does not follow from its view changes. A
    /// correct primary sends what it computed from those very changes, by the same function.
    #[must_use]
    fn convicts_alone(statement: &Message) -> Option<&'static str> {
        match statement {
            Message::NewView(new_view) => {
                Self::derive(new_view).is_none().then_some(UNFOUNDED_NEW_VIEW)
            }
            _ => None,
        }
    }

    /// What convicts the replica that signed both. Never true of a correct replica, whatever others do, also of one
    /// that restarts or says things again:
    ///
    /// - *Equivocation.* A correct replica is bound to one digest per view and slot, whether it speaks by pre-prepare,
    ///   prepare or commit: a primary numbers its proposals once and gives the view up when it restarts; whoever
    ///   prepares has accepted one proposal, whose record is durable before the vote leaves and is taken up again at a
    ///   restart; whoever commits holds, likewise durably, the certificate for the proposal that it accepted.
    /// - *Two view changes, two new views.* A view change is recorded before it leaves and repeated from the record. A
    ///   primary sends one new view per view and gives the view up when it restarts.
    /// - *Amnesia.* Before a commit leaves, its prepared certificate is durable. It is kept, or replaced by one of a
    ///   higher view, until a stable checkpoint covers the slot, and every view change names all that are kept and
    ///   the checkpoint. No commit of a lower view is sent after a view change.
    #[must_use]
    fn convicts(one: &Message, other: &Message) -> Option<&'static str> {
        if let (Some(one), Some(other)) = (one.vote(), other.vote()) {
            let same_place = one.view == other.view && one.slot == other.slot;
            return (same_place && one.digest != other.digest).then_some(EQUIVOCATION);
        }
        match (one, other) {
            (Message::ViewChange(one), Message::ViewChange(other)) => {
                (one.view == other.view && one != other).then_some(TWO_VIEW_CHANGES)
            }
            (Message::NewView(one), Message::NewView(other)) => {
                (one.view == other.view && one != other).then_some(TWO_NEW_VIEWS)
            }
            (Message::Commit(commit), Message::ViewChange(change))
            | (Message::ViewChange(change), Message::Commit(commit)) => {
                forgets(change, commit).then_some(AMNESIA)
            }
            _ => None,
        }
    }
}

/// Whether a view change leaves out what an earlier commit of its sender promised to remember.
fn forgets(change: &ViewChange, commit: &Commit) -> bool {
    let remembers = |prepared: &crate::message::Prepared| {
        prepared.slot() == commit.slot && prepared.view() >= commit.view
    };
    commit.view < change.view
        && change.base() < commit.slot
        && !change.prepared.iter().any(remembers)
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
        Some([alone]) => Standard::convicts_alone(alone),
        Some([one, other]) => Standard::convicts(one, other),
        _ => None,
    };
    evidence.protocol == crate::PBFT && offence == Some(evidence.offence.as_str())
}
