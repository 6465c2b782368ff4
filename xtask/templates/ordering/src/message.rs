//! What replicas say to each other, how it travels, and what makes each message what its kind promises.
//!
//! Both kinds are signed: a vote enters certificates, and a proposal is what a vote is for. Kinds that no third party
//! need ever check (questions, answers that prove themselves) go by [`Strength::Channel`].
//!
//! [`validate`](testudo_core::Message::validate) checks every message completely, certificates included, so that no
//! handler ever checks a signature.

use alloc::vec::Vec;
use testudo_contracts::Batch;
use testudo_core::{
    Context, Decode, DecodeError, Digest, Encode, Evidence, Invalid, Kind, Membership, Peer,
    ProtocolId, ReplicaId, Slot, Statement, Strength, View, wire_struct,
};

/// The number of this protocol in every frame, record and signed statement.
pub const __CONST__: ProtocolId = ProtocolId(__ID__);

/// The primary of `view` among `n` replicas: they take turns.
#[must_use]
pub fn primary_of(view: View, n: usize) -> ReplicaId {
    ReplicaId((view.0 % n.max(1) as u64) as u16)
}

/// "I propose this batch for this slot of my view."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// The view, whose primary says it.
    pub view: View,
    /// The slot, from 1.
    pub slot: Slot,
    /// What is proposed.
    pub batch: Batch,
}
wire_struct!(Proposal { view, slot, batch });

/// "I have accepted the proposal with this digest, durably, and will accept no other for this slot of this view."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vote {
    /// The view.
    pub view: View,
    /// The slot.
    pub slot: Slot,
    /// The digest of the batch.
    pub digest: Digest,
}
wire_struct!(Vote { view, slot, digest });

impl Statement for Proposal {
    const PROTOCOL: ProtocolId = __CONST__;
    const KIND: Kind = Kind(1);
}

impl Statement for Vote {
    const PROTOCOL: ProtocolId = __CONST__;
    const KIND: Kind = Kind(2);
}

/// What replicas say. The paper's other messages (its later phases, its view change) become variants here, each with a
/// kind of its own, in the order in which the paper introduces them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// A primary's proposal.
    Proposal(Proposal),
    /// A vote for it.
    Vote(Vote),
}

impl testudo_core::Message for Message {
    fn protocol(&self) -> ProtocolId {
        __CONST__
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Proposal(_) => Proposal::KIND,
            Self::Vote(_) => Vote::KIND,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Proposal(_) => "proposal",
            Self::Vote(_) => "vote",
        }
    }

    fn strength(&self) -> Strength {
        match self {
            Self::Proposal(_) | Self::Vote(_) => Strength::Signature,
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Proposal(body) => body.encode(out),
            Self::Vote(body) => body.encode(out),
        }
    }

    fn decode_body(protocol: ProtocolId, kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        if protocol != __CONST__ {
            return Err(DecodeError::Unknown("protocol"));
        }
        Ok(match kind {
            Proposal::KIND => Self::Proposal(Decode::from_bytes(body)?),
            Vote::KIND => Self::Vote(Decode::from_bytes(body)?),
            _ => return Err(DecodeError::Unknown("kind")),
        })
    }

    fn is_convicted(evidence: &Evidence, context: &Context<'_>) -> bool {
        crate::safety::is_convicted(evidence, context)
    }

    fn validate(&self, sender: Peer, context: &Context<'_>) -> Result<(), Invalid> {
        let sender = sender.replica().ok_or(Invalid("only replicas speak this protocol"))?;
        require(context.membership.member(sender).is_some(), "its sender is no member")?;
        match self {
            Self::Proposal(body) => body.validate(sender, context.membership),
            Self::Vote(body) => slot_counts(body.slot),
        }
    }
}

impl Message {
    /// Where this binds its sender (view and slot), and the digest of the batch that it binds it to.
    #[must_use]
    pub fn binds(&self) -> (View, Slot, Digest) {
        match self {
            Self::Proposal(body) => (body.view, body.slot, body.batch.digest()),
            Self::Vote(body) => (body.view, body.slot, body.digest),
        }
    }
}

impl Proposal {
    fn validate(&self, sender: ReplicaId, membership: &Membership) -> Result<(), Invalid> {
        let primary = primary_of(self.view, membership.n());
        require(sender == primary, "its sender is not the view's primary")?;
        slot_counts(self.slot)?;
        require(self.batch.is_well_formed(), "its batch is malformed")
    }
}

const fn require(holds: bool, otherwise: &'static str) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid(otherwise)) }
}

fn slot_counts(slot: Slot) -> Result<(), Invalid> {
    require(slot > Slot(0), "slots are counted from 1")
}
