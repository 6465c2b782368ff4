//! What a protocol knows of its own lies.
//!
//! A simulated liar runs the protocol's own automaton and has some of what it says replaced. Changed bytes make
//! messages that hardly anybody believes; the lies that hurt are well formed and plausible, and which those are only
//! the protocol can tell. So each brings its mutators, one for every kind of message. Nothing here is used by whoever tells
//! the truth.
//!
//! Some misconduct is in no message: who proposes just before anybody loses patience says nothing that is false. For that
//! a protocol brings tacticians, one for each [`Tactic`] that makes sense in it. Who is convicted by a lie is for the message to say ([`testudo_core::Message::is_convicted`]).

use crate::{Batch, OrderConfig, Ordering};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;
use testudo_core::{Digest, ReplicaId, Slot, View};

/// A source of chance. Liars and schedulers draw from it, so that a run can be repeated.
pub trait Chance {
    /// A number below `bound`, which is at least 1.
    fn below(&mut self, bound: u64) -> u64;

    /// True that many times in a thousand.
    fn per_mille(&mut self, times: u32) -> bool {
        times > 0 && self.below(1000) < u64::from(times)
    }

    /// A number from `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1).max(1))
    }
}

/// A way of misbehaving that takes knowledge of what a protocol waits for, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tactic {
    /// As primary it proposes just before anybody would give it up.
    SlowPrimary,
    /// It lets a view begin for some, and not for others.
    WithheldView,
    /// As primary it keeps a replica out of all that it proposes.
    LeftOut,
    /// It gives views up though nothing is wrong with them.
    Unrest,
    /// It votes before it can know anything, and for what it has kept others from seeing.
    EarlyVotes,
}

impl Tactic {
    /// Every tactic.
    pub const ALL: [Self; 5] =
        [Self::SlowPrimary, Self::WithheldView, Self::LeftOut, Self::Unrest, Self::EarlyVotes];

    /// Its name in plans, traces and counts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowPrimary => "slow-primary",
            Self::WithheldView => "withheld-new-view",
            Self::LeftOut => "left-out-replica",
            Self::Unrest => "unprompted-view-changes",
            Self::EarlyVotes => "early-votes",
        }
    }
}

/// Something that a tactician has said to another replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remark<M> {
    /// To whom.
    pub to: ReplicaId,
    /// What.
    pub message: M,
    /// How long it is held back first.
    pub after: Duration,
}

impl<M> Remark<M> {
    /// Something that is said at once.
    pub const fn now(to: ReplicaId, message: M) -> Self {
        Self { to, message, after: Duration::ZERO }
    }
}

/// A replica that keeps to a tactic. It stands between an automaton that behaves and the other replicas.
pub trait Tactician<M> {
    /// The automaton wants to say this to another replica. What is returned is said instead.
    fn outgoing(&mut self, to: ReplicaId, message: M, chance: &mut dyn Chance) -> Vec<Remark<M>>;

    /// Another replica has said this, and the automaton will hear of it. What is returned is said of the replica's own
    /// accord.
    fn incoming(
        &mut self,
        from: ReplicaId,
        message: &M,
        chance: &mut dyn Chance,
    ) -> Vec<Remark<M>> {
        let _ = (from, message, chance);
        Vec::new()
    }
}

/// An ordering whose lies can be told, and told from the truth.
pub trait Falsifiable: Ordering {
    /// A message of the same kind that says something plausible and else; none if there is nothing to change.
    fn falsify(message: &Self::Message, chance: &mut dyn Chance) -> Option<Self::Message>;

    /// The digest by which votes name what a message proposes, if it proposes something: what liars put another in the
    /// place of who agree on a proposal of their own.
    fn proposes(message: &Self::Message) -> Option<Digest> {
        let _ = message;
        None
    }

    /// What a message proposes, and where, if it proposes something.
    fn proposal(message: &Self::Message) -> Option<(View, Slot, Batch)> {
        let _ = message;
        None
    }

    /// The tactics that this protocol knows.
    const TACTICS: &'static [Tactic] = &[];

    /// One of its replicas that keeps to a tactic; none where the protocol does not know it.
    fn tactician(
        tactic: Tactic,
        me: ReplicaId,
        config: &OrderConfig,
    ) -> Option<Box<dyn Tactician<Self::Message>>> {
        let _ = (tactic, me, config);
        None
    }

    /// All that a replica of this protocol can say by itself in favour of a batch in a slot of a view, as if it led that
    /// view. A liar who says so about one batch to some and about another to others is the one whom quorums are made for.
    fn advocate(view: View, slot: Slot, batch: &Batch) -> Vec<Self::Message>;
}
