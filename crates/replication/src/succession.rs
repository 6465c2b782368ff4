//! How one epoch leads to the next.
//!
//! The slot that changes the members ends its epoch: nothing that was decided after it in that epoch is executed, and the
//! state after it is a checkpoint, whatever the interval. Once that is stable, signed by a quorum of those who ordered till
//! then, it proves who orders from then on: its digest is that of a head, the head names the digest of the sessions' map,
//! and that holds the members. Whoever knows the members of the first epoch, and nothing else, is led by such proofs from
//! each epoch to the next, whoever shows them.
//!
//! Where no quorum is left that could sign anything, people decide instead ([`Decree`]).
//!
//! In the new epoch its first state needs no certificate: it is in the membership as its [`Base`].

use crate::decree::Decree;
use crate::executor::Replicated;
use crate::feed::Head;
use crate::members::{Configuration, MEMBERS};
use alloc::vec::Vec;
use testudo_contracts::{Checkpoint, StableCheckpoint};
use testudo_core::{
    Base, Certificate, Context, Decode as _, Epoch, Invalid, Member, Membership, wire_enum,
    wire_struct,
};
use testudo_quorum::Dissemination;
use testudo_state::RangeProof;

/// The proof that an epoch is over, and who orders in the next one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Succession {
    /// The epoch that is over.
    pub from: Epoch,
    /// What proves it.
    pub ground: Ground,
}
wire_struct!(Succession { from, ground });

/// Why an epoch is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ground {
    /// An operation was executed that changes the members.
    Executed {
        /// What the members have signed of the state after the slot.
        certificate: StableCheckpoint,
        /// The head of that state.
        head: Head,
        /// That the next members are among its sessions.
        members: RangeProof,
    },
    /// Those who run the replicas have decided so.
    Decreed(Certificate<Decree>),
}
wire_enum!(Ground {
    0 => Executed { certificate, head, members },
    1 => Decreed(certificate),
});

impl Succession {
    /// The proof that this state has ended its epoch, if its certificate is one.
    #[must_use]
    pub fn of(from: Epoch, certificate: StableCheckpoint, state: &Replicated) -> Self {
        let (head, members) = (state.head(), state.system.map().prove_key(MEMBERS));
        Self { from, ground: Ground::Executed { certificate, head, members } }
    }

    /// What a decree leads to.
    #[must_use]
    pub const fn decreed(certificate: Certificate<Decree>) -> Self {
        Self { from: certificate.statement().from, ground: Ground::Decreed(certificate) }
    }

    /// The decree, if it is one.
    #[must_use]
    pub const fn decree(&self) -> Option<&Decree> {
        match &self.ground {
            Ground::Decreed(certificate) => Some(certificate.statement()),
            Ground::Executed { .. } => None,
        }
    }

    /// The last slot of the epoch.
    #[must_use]
    pub const fn slot(&self) -> testudo_core::Slot {
        match &self.ground {
            Ground::Decreed(certificate) => certificate.statement().base.slot,
            Ground::Executed { certificate, .. } => certificate.statement().slot,
        }
    }

    /// Who orders next, if those before have signed this as it says.
    ///
    /// # Errors
    /// When it does not say so of the epoch of these members.
    pub fn membership(&self, before: &Membership) -> Result<Membership, Invalid> {
        if self.from != before.epoch {
            return Err(Invalid("it is about another epoch"));
        }
        let (members, base) = match &self.ground {
            Ground::Executed { certificate, head, members } => {
                executed(self.from, certificate.statement(), head, members)?
            }
            Ground::Decreed(certificate) => {
                let decree = certificate.statement();
                if decree.from != self.from || decree.base == Base::GENESIS {
                    return Err(Invalid("a decree is about another epoch"));
                }
                (decree.members(&before.members)?, decree.base)
            }
        };
        let next = before.next(members, base);
        if next.n() != before.n() || Dissemination::of(&next).is_none() {
            return Err(Invalid("the members of the next epoch are too few or too many"));
        }
        Ok(next)
    }

    /// Who orders next.
    ///
    /// # Errors
    /// When the members of this epoch have not signed it, or it does not say so.
    pub fn check(&self, context: &Context<'_>) -> Result<Membership, Invalid> {
        let quorums = Dissemination::of(context.membership)
            .ok_or(Invalid("this membership has no quorums"))?;
        let next = self.membership(context.membership)?;
        match &self.ground {
            Ground::Executed { certificate, .. } => certificate.check(quorums.quorum(), context)?,
            Ground::Decreed(certificate) => certificate.check(quorums.quorum(), context)?,
        }
        Ok(next)
    }
}

/// The members that a state names, and that state, if it ends its epoch.
fn executed(
    from: Epoch,
    checkpoint: &Checkpoint,
    head: &Head,
    members: &RangeProof,
) -> Result<(Vec<Member>, Base), Invalid> {
    let Checkpoint { slot, state } = *checkpoint;
    if (head.slot, head.digest()) != (slot, state) {
        return Err(Invalid("a head is not what its certificate says"));
    }
    let entry = members.verify_key(&head.system, MEMBERS);
    let entry = entry.map_err(|_| Invalid("a proof of the members proves nothing"))?;
    let configuration = entry.and_then(|entry| Configuration::from_bytes(entry).ok());
    let configuration = configuration.ok_or(Invalid("a state names no members"))?;
    if configuration.epoch != from.next() {
        return Err(Invalid("a state does not end its epoch"));
    }
    Ok((configuration.members.into_iter().map(|one| one.member).collect(), Base { slot, state }))
}
