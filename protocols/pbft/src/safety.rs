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
//!
//! # Lost promises
//!
//! Both arguments lean on what correct replicas remember, and disks forget. What a log has lost it tells
//! ([`Rules::lost`]): a slot for each record about one slot that cannot be read, and every slot that a record without a
//! readable tag may have been about. A replica whose disk owns up to its losses is correct; any number of replicas may be in
//! this case, each with other slots, at the same time (helical faults).
//!
//! - *A quorum per slot of those that have not lost it suffices.* Nothing in the argument across views ties the slots to each
//!   other: for the slot at hand it needs view changes of a quorum whose word on this slot is complete. So the new view is
//!   drawn from as many view changes as it takes until each slot of the window has such a quorum ([`Rules::covers`]); the
//!   quorum may be another one for each slot. A decision was prepared by q; q complete words share f+1 with them, hence
//!   a correct replica, which has the certificate, as it says it has lost nothing there. Certificates count whoever brings
//!   them: they prove themselves. What lies beyond the window of the highest checkpoint of V cannot be decided: one of those
//!   who committed it is among each quorum of V, and its own checkpoint, which it shows, is then higher. A replica whose log
//!   has lost that checkpoint itself says nothing until it has one as high again ([`Loss::floor`]). To count the
//!   slots as if nothing had been lost there is to take "I do not know" for "there was nothing", and loses decisions.
//! - *A replica with lost slots may vote on others.* The arguments use one vote per view and slot, and one certificate per
//!   slot; where a slot's records are all there, both hold for it. On a lost slot it casts no vote, as it may have
//!   cast another in that view, and answers no reads, as its claim might be too small. When a stable checkpoint
//!   covers the slot nobody asks for either any more.
//! - *Lost records of views.* A view change that may have been said is never said again otherwise: the replica goes one
//!   view further. What a view repeats is voted for on the strength of the record of the new view alone, so where that is
//!   lost, the whole window is.
//! - *Somebody can lead.* Whoever has lost slots that the view would leave to fresh batches passes the view on, as it may
//!   not vote on them. If at most f of V are free of that, perhaps only liars are, and the view repeats, with nothing, up to the
//!   last lost slot ([`Rules::adopt`]): nothing is decided there, as the slots are covered, and whoever leads it has
//!   nothing to propose there.
//!
//! # Old images
//!
//! A disk may also give back an old image of itself, whole and sound. Its owner would vote again where it has voted. So
//! whoever starts asks all for its own latest statements, and takes part only when a quorum, itself counted, has answered and
//! each statement is on record or known to be lost, in a view no higher than was promised ([`Rules::knows`],
//! [`Rules::answers`]); otherwise it only follows ([`Standing::Forgotten`](crate::Standing::Forgotten)), from then on.
//!
//! - *No correct replica is turned away.* Whatever it signed was on record, durably, before it left. Records are let
//!   go of only when a later promise, certificate or checkpoint makes them needless, and those are on record then.
//! - *What is found out.* Every statement since the image that one of q−1 others still holds: they keep all votes above
//!   their stable checkpoint, view changes, and the last votes of each replica. A statement that n−q+f+1 others have
//!   had reached a correct one among any q−1 that answer.
//! - *What is not* counts among the f, as a replica that forgets is one that lies: what reached too few, or answers that came
//!   only from liars and from those who have forgotten it too. So it is enough to join at q answers as long as at most f are
//!   faulty or were started from an image whose age was not found out. Waiting for more would give each silent replica
//!   the power to keep the others out.
//! - *First boot and power cuts go through the same door.* Those who have not joined answer too, from their logs. At first
//!   boot nobody has anything to tell, and q such answers are as good as any. After a power cut of all, everybody's statements
//!   are on everybody's disks. One round trip, and all are back. A disk that was wiped is told from a new one in the same way,
//!   and only in this way.
//! - *A lost promise.* The view in the superblock is what tells statements from before the image from later ones. Where there
//!   is a log and no superblock, nothing else does, so its owner only follows.
//!
//! Not covered: rot that no checksum shows; an old image of which too few know; a wiped replica none of whose statements is
//! remembered; a stretch of log so damaged that neither what it said nor that the window had moved on within it is left; and
//! slots that more than n−q replicas have lost: no view can begin until a stable checkpoint covers them. The last breaks no
//! promise, but may stop the cluster; then an operator has to begin a new epoch.

use crate::message::{Commit, Message, NewView, PrePrepare, Testimony, ViewChange};
pub use crate::promises::{Damage, Loss, Recollection};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use testudo_contracts::{Batch, StableCheckpoint};
use testudo_core::{Context, Decode, Digest, Evidence, Signed, Slot, View, limits};
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

    /// How many replicas must have signed a checkpoint for it to be stable (OSDI'99, section 4.3; a quorum and not f+1,
    /// so that those who go on from it find its state with a correct replica whatever happens to the others).
    #[must_use]
    fn checkpoint(system: &Dissemination) -> usize {
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

    /// Do these view changes tell all that a new view must know? For each slot of the window above their highest stable
    /// checkpoint a quorum of them must not have lost it.
    #[must_use]
    fn covers(system: &Dissemination, changes: &[&ViewChange]) -> bool {
        let quorum = Self::quorum(system);
        let base = changes.iter().map(|change| change.base()).max().unwrap_or_default();
        let knows =
            |slot: Slot| changes.iter().filter(|change| !change.lost.contains(slot)).count();
        // Where one range of lost slots begins, fewer may know; only there, and above the base.
        let first = changes.iter().flat_map(|change| change.lost.ranges()).map(|(first, _)| *first);
        let end = horizon(base);
        let mut places = first.filter(|slot| base < *slot && *slot <= end);
        knows(base.next()) >= quorum && places.all(|slot| knows(slot) >= quorum)
    }

    /// What must the new view adopt? From the highest stable checkpoint on, for every slot up to the last prepared one,
    /// the batch of the prepared certificate with the highest view, and the null batch where there is none (OSDI'99,
    /// section 4.4). Where at most f of the view changes have lost no slot of the window beyond that, the null batch also
    /// up to the last lost one.
    #[must_use]
    fn adopt(system: &Dissemination, changes: &[&ViewChange]) -> Adopted {
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
        let last = chosen.keys().next_back().copied().unwrap_or(base).max(base);
        let lost = changes.iter().filter_map(|change| change.lost.last_until(horizon(base)));
        let (beyond, until) = lost
            .filter(|slot| *slot > last)
            .fold((0, last), |(count, end), slot| (count + 1, end.max(slot)));
        let last = if changes.len() - beyond < system.weak() { until } else { last };
        let ordered = (base.0.saturating_add(1)..=last.0)
            .map(Slot)
            .map(|slot| {
                let null = Batch::null;
                (slot, chosen.get(&slot).map_or_else(null, |(_, found)| found.batch.clone()))
            })
            .collect();
        Adopted { stable, ordered }
    }

    /// Is this new view right? What it adopts, if its view changes tell enough and what it says is what follows from them;
    /// `None` if not.
    #[must_use]
    fn derive(system: &Dissemination, new_view: &NewView) -> Option<Adopted> {
        let changes: Vec<_> = new_view.changes.iter().map(|change| &change.statement).collect();
        let adopted = Self::adopt(system, &changes);
        (Self::covers(system, &changes) && adopted.ordered == new_view.ordered).then_some(adopted)
    }

    /// What does a replica that starts no longer know, as so much of its log is lost and the rest says this?
    #[must_use]
    fn lost(damage: &[Damage], kept: &Recollection) -> Loss {
        crate::promises::lost(damage, kept)
    }

    /// Does a replica that starts know of all these statements of its own?
    #[must_use]
    fn knows(kept: &Recollection, testimony: &Testimony) -> bool {
        kept.knows(testimony)
    }

    /// How many replicas must have answered one that starts before it votes, itself counted.
    #[must_use]
    fn answers(system: &Dissemination) -> usize {
        system.quorum()
    }

    /// What convicts the replica that signed this alone: a new view that does not follow from its view changes. A
    /// correct primary sends what it computed from those very changes, by the same function.
    #[must_use]
    fn convicts_alone(system: &Dissemination, statement: &Message) -> Option<&'static str> {
        match statement {
            Message::NewView(new_view) => {
                Self::derive(system, new_view).is_none().then_some(UNFOUNDED_NEW_VIEW)
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
    ///   the checkpoint. Where its disk has lost one, the view change says that the slot is lost. No commit of a lower view
    ///   is sent after a view change.
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
        && !change.lost.contains(commit.slot)
        && !change.prepared.iter().any(remembers)
}

/// The last slot that may be agreed on above a stable checkpoint.
fn horizon(base: Slot) -> Slot {
    Slot(base.0.saturating_add(limits::WINDOW))
}

/// The rules as they are.
#[derive(Clone, Copy, Debug)]
pub enum Standard {}

impl Rules for Standard {}

/// Judges evidence as a third party: with the members' keys, and nobody's word.
#[must_use]
pub fn is_convicted(evidence: &Evidence, context: &Context<'_>) -> bool {
    // No offence takes more; nobody need verify what a liar adds.
    if evidence.protocol != crate::PBFT || evidence.statements.len() > 2 {
        return false;
    }
    let accused = evidence.accused.into();
    let read = |frame: &Vec<u8>| {
        let signed = Signed::<Message>::from_bytes(frame).ok()?;
        let verified = signed.verify(accused, context).ok()?;
        (verified.sender() == accused && verified.signature().is_some())
            .then(|| verified.into_message())
    };
    let Some(system) = Dissemination::of(context.membership) else { return false };
    let statements: Option<Vec<Message>> = evidence.statements.iter().map(read).collect();
    let offence = match statements.as_deref() {
        Some([alone]) => Standard::convicts_alone(&system, alone),
        Some([one, other]) => Standard::convicts(one, other),
        _ => None,
    };
    offence == Some(evidence.offence.as_str())
}
