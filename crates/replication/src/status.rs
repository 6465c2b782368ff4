//! What a replica tells its driver, and what it shows of itself.

use crate::executor::Difference;
use crate::members::Refusal;
use crate::transfer::{Fetched, Progress};
use alloc::vec::Vec;
use core::time::Duration;
use testudo_contracts::{Batch, Checkpoint, Standing};
use testudo_core::{
    Digest, Epoch, Incarnation, Membership, ReplicaId, Slot, Time, View, wire_enum,
};

/// How a replica is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// As it should be.
    Well,
    /// Its state after this slot differs from what a quorum signed, or was garbled by the memory. It orders on, says nothing of its state, and fetches a
    /// right one.
    Diverged(Slot),
    /// No digest of this slot can reach a quorum any more. It has stopped there.
    Halted(Slot),
    /// The others have a certified state of this slot, and it has not come so far. It votes on, says nothing of its state,
    /// and fetches that one.
    Behind(Slot),
}
wire_enum!(Health { 0 => Well, 1 => Diverged(slot), 2 => Halted(slot), 3 => Behind(slot) });

/// What a replica does to get its vote back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comeback {
    /// It votes, or has only just started.
    NotNeeded,
    /// It has lost its promises, and fetches what it must know first.
    Follows,
    /// It asks to be let in as this incarnation.
    Asks(Incarnation),
    /// It would be refused.
    Refused(Refusal),
    /// It has no voting key to come back under.
    NoKey,
}
wire_enum!(Comeback {
    0 => NotNeeded,
    1 => Follows,
    2 => Asks(incarnation),
    3 => Refused(refusal),
    4 => NoKey,
});

/// What a replica tells its driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It executed a slot.
    Executed {
        /// The slot.
        slot: Slot,
        /// What was decided for it.
        batch: Batch,
        /// The bundles that had their effect now, with the digests of what they came to. Repetitions are not among
        /// them.
        applied: Vec<(Digest, Digest)>,
        /// The chain over order after it.
        chain: Digest,
        /// The chain over results after it.
        outcome: Digest,
    },
    /// A checkpoint is stable, and this replica's state is what it says.
    Stable(Checkpoint),
    /// A view was installed.
    View(View, ReplicaId),
    /// A fresh proposal's clock or mark was not plausible; no vote was cast.
    Implausible {
        /// Whose proposal it was.
        proposer: ReplicaId,
        /// Its slot.
        slot: Slot,
        /// How far its clock was from this replica's.
        off: Duration,
    },
    /// An epoch has begun, and this replica orders in it, or follows.
    Epoch {
        /// The epoch.
        epoch: Epoch,
        /// How often each member has come back so far.
        incarnations: Vec<Incarnation>,
    },
    /// What it does to get its vote back has changed.
    Comeback(Comeback),
    /// Its health changed.
    Health(Health),
    /// It has taken up the certified state of this slot. What it executes next is the slot after it, whatever it had
    /// executed before.
    Restored(Slot),
    /// It has healed: its state is what a quorum has signed.
    Healed {
        /// The slot of its state by now.
        slot: Slot,
        /// What was fetched.
        fetched: Fetched,
        /// Where its own state was wrong. None if it was not wrong but old, or of a slot before the state that replaced it,
        /// so that the two cannot be compared.
        differing: Option<Difference>,
    },
    /// It has halted, and others have told what their results are.
    Halted(Halt),
}

/// Where results part, as far as others told one that has halted. Words, not proofs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Halt {
    /// The slot of which no digest can reach a quorum.
    pub slot: Slot,
    /// The first slot since the last stable checkpoint whose results are not the same everywhere; none if all
    /// results are the same as far as others told, and only states differ.
    pub first: Option<Slot>,
    /// The chain over results of this replica after it.
    pub own: Digest,
    /// Those of the others, as far as they told.
    pub others: Vec<(ReplicaId, Digest)>,
}

impl Event {
    /// The epoch of these members has begun.
    pub(crate) fn epoch_of(membership: &Membership) -> Self {
        let incarnations = membership.members.iter().map(|one| one.incarnation).collect();
        Self::Epoch { epoch: membership.epoch, incarnations }
    }
}

/// What a replica shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its id.
    pub id: ReplicaId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The view that it is in, or moves to.
    pub view: View,
    /// That view's primary.
    pub primary: ReplicaId,
    /// Whether it is between views.
    pub changing_view: bool,
    /// The last slot executed.
    pub slot: Slot,
    /// The highest slot that somebody is known to have decided.
    pub known: Slot,
    /// The chain over order after that slot.
    pub chain: Digest,
    /// The chain over results after that slot.
    pub outcome: Digest,
    /// The last checkpoint that is stable and that this replica has executed. Its state agrees, unless its health says
    /// otherwise.
    pub stable: Option<Checkpoint>,
    /// Agreed time.
    pub time: Time,
    /// Bundles that wait.
    pub waiting: u64,
    /// Sessions that are open.
    pub sessions: u64,
    /// The slot of the last snapshot that was asked for or started from; 0 if none was.
    pub snapshot: Slot,
    /// Learners that follow.
    pub followers: u64,
    /// Entries and bytes of the service's state.
    pub state: (u64, u64),
    /// How it is.
    pub health: Health,
    /// Where results part, once others have told, if it has halted.
    pub halt: Option<Halt>,
    /// How far the transfer of a state is, if one is under way.
    pub transfer: Option<Progress>,
    /// What part it takes in ordering.
    pub standing: Standing,
    /// Slots above the last stable checkpoint that it does not vote on, as its log has lost records of them.
    pub lost_slots: u64,
    /// The same, as ranges: the first and the last of each, in ascending order.
    pub lost: Vec<(Slot, Slot)>,
    /// How often it has come back under a new voting key.
    pub incarnation: Incarnation,
    /// What it does to get its vote back, if it has lost it.
    pub comeback: Comeback,
}
