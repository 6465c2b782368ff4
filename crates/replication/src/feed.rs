//! What replicas tell learners: what was decided, and that they have executed it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use testudo_contracts::{Batch, StableCheckpoint};
use testudo_core::{
    Context, Decode, DecodeError, Digest, Encode, Invalid, Message, Reader, Signed, Slot, Time,
    View, limits, wire_enum, wire_struct,
};

use crate::message::{Bundle, check_body};
use testudo_state::sync::{Node, Place, Summary};

/// "In this epoch I have finally executed this slot." The chains bind every slot before it, too, so that a voucher
/// covers all that its replica has executed so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Voucher {
    /// The slot.
    pub slot: Slot,
    /// The chain over slots and batches up to it.
    pub chain: Digest,
    /// The chain over slots and results up to it.
    pub outcome: Digest,
    /// The view that the replica is in.
    pub view: View,
}
wire_struct!(Voucher { slot, chain, outcome, view });

/// "Tell me what you execute, from this slot on." Said to every replica, and again from time to time: a replica forgets
/// whoever does not.
///
/// It is answered by the next [`limits::FOLLOW_STEP`] slots from `from` on, if payload is asked for, as far as they are
/// executed and still known, and otherwise by a voucher for the last slot of that step, so that a learner which lags can
/// find enough replicas that vouch for the same slot; and in any case by a voucher for the last slot that is executed,
/// be it slot 0. If `from` is not known any more the stable checkpoint is offered. A follower that has been told all gets
/// each further slot when it executes; one that lags asks on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Follow {
    /// The first slot that the learner lacks.
    pub from: Slot,
    /// Whether it wants the batches and their bodies too, or vouchers alone.
    pub payload: bool,
}
wire_struct!(Follow { from, payload });

/// One decided slot, for a learner that asked for payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feed {
    /// The sender's own word on the slot.
    pub voucher: Voucher,
    /// What was decided.
    pub batch: Batch,
    /// Bodies that are at hand and that the learner did not sign itself. It fetches the others by digest.
    pub bodies: Vec<Signed<Bundle>>,
}
wire_struct!(Feed { voucher, batch, bodies });

impl Feed {
    /// Checks the bodies' signatures and the limits.
    pub(crate) fn validate<M: Message>(&self, context: &Context<'_>) -> Result<(), Invalid> {
        if !self.batch.is_well_formed() || self.bodies.len() > limits::BATCH_BUNDLES {
            return Err(Invalid("a decided slot is malformed"));
        }
        self.bodies.iter().try_for_each(|body| check_body::<M>(body, context))
    }
}

/// A replica's claim in a round of linearizable reads ([`testudo_contracts::Ordering::read_claim`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The round, as the learner numbered it.
    pub round: u64,
    /// The highest slot that it may have helped to decide.
    pub slot: Slot,
}
wire_struct!(Claim { round, slot });

/// Which of the two maps of the replicated state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tree {
    /// Sessions and admitted keys.
    System,
    /// The service's own.
    Service,
}
wire_enum!(Tree { 0 => System, 1 => Service });

/// All of the replicated state but its maps, which stand for themselves by their digests. Its own digest is what a
/// checkpoint signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The last slot executed.
    pub slot: Slot,
    /// The chain over slots and batches.
    pub chain: Digest,
    /// The chain over slots and results.
    pub outcome: Digest,
    /// Agreed time.
    pub time: Time,
    /// The version of the service.
    pub version: u32,
    /// The digest of [`Tree::System`].
    pub system: Digest,
    /// The digest of [`Tree::Service`].
    pub service: Digest,
}
wire_struct!(Head { slot, chain, outcome, time, version, system, service });

impl Head {
    /// What a checkpoint of this state signs.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_value(self)
    }
}

/// Places that one question may name. A longer list is malformed.
pub const PLACES: usize = 256;

/// What a learner, or a replica that heals, asks of a stable checkpoint's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StateAsk {
    /// The newest stable checkpoint's head.
    Head,
    /// Nodes of one map of the checkpoint at `slot`; as many as fit a chunk, in this order.
    Nodes {
        /// The checkpoint.
        slot: Slot,
        /// The map.
        tree: Tree,
        /// Where the nodes lie.
        places: Vec<Place>,
    },
    /// The newest stable checkpoint's certificate, and nothing more. It comes as a message of its own.
    Certificate,
}
wire_enum!(StateAsk { 0 => Head, 1 => Nodes { slot, tree, places }, 2 => Certificate });

/// What is at the top of the two maps of a state: each has the digest that the state's head says, or is a lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summaries {
    /// Of [`Tree::System`].
    pub system: Summary,
    /// Of [`Tree::Service`].
    pub service: Summary,
}
wire_struct!(Summaries { system, service });

impl Encode for Box<Summaries> {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}
impl Decode for Box<Summaries> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Summaries::decode(reader).map(Self::new)
    }
}

/// The answer. It proves itself: a head by its certificate, a node by its digest, which the node above it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StateAnswer {
    /// The newest stable checkpoint, its head, and what its maps begin with.
    Head(StableCheckpoint, Head, Box<Summaries>),
    /// Nodes of one map of the checkpoint at `slot`: those asked for, as many of the first of them as fit.
    Nodes {
        /// The checkpoint.
        slot: Slot,
        /// The map.
        tree: Tree,
        /// The nodes, each with its place.
        nodes: Vec<Node>,
    },
    /// That checkpoint is not held any more, or none is: ask for the head again.
    Gone(Slot),
}
wire_enum!(StateAnswer {
    0 => Head(certificate, head, summaries),
    1 => Nodes { slot, tree, nodes },
    2 => Gone(slot),
});
