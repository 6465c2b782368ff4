//! How one epoch leads to the next.
//!
//! The slot that changes the members ends its epoch: nothing that was decided after it in that epoch is executed, and the
//! state after it is a checkpoint, whatever the interval. Once that is stable, signed by a quorum of those who ordered till
//! then, it proves who orders from then on: its digest is that of a head, the head names the digest of the sessions' map,
//! and that holds the members. Whoever knows the members of the first epoch, and nothing else, is led by such proofs from
//! each epoch to the next, whoever shows them.
//!
//! In the new epoch the same state needs no certificate: it is in the membership as its [`Base`].

use crate::executor::Replicated;
use crate::feed::Head;
use crate::members::{Configuration, MEMBERS};
use testudo_contracts::{Checkpoint, StableCheckpoint};
use testudo_core::{Base, Context, Decode as _, Epoch, Invalid, Membership, wire_struct};
use testudo_quorum::Dissemination;
use testudo_state::RangeProof;

/// The proof that an epoch is over, and who orders in the next one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Succession {
    /// The epoch that is over.
    pub from: Epoch,
    /// What its members have signed of the state after its last slot.
    pub certificate: StableCheckpoint,
    /// The head of that state.
    pub head: Head,
    /// That the members are among its sessions.
    pub members: RangeProof,
}
wire_struct!(Succession { from, certificate, head, members });

impl Succession {
    /// The proof that this state has ended its epoch, if its certificate is one.
    #[must_use]
    pub fn of(from: Epoch, certificate: StableCheckpoint, state: &Replicated) -> Self {
        let members = state.system.map().prove_key(MEMBERS);
        Self { from, certificate, head: state.head(), members }
    }

    /// Who orders next, if those before have signed this as it says.
    ///
    /// # Errors
    /// When it does not say so of the epoch of these members.
    pub fn membership(&self, before: &Membership) -> Result<Membership, Invalid> {
        if self.from != before.epoch {
            return Err(Invalid::EPOCH);
        }
        let Checkpoint { slot, state } = *self.certificate.statement();
        if (self.head.slot, self.head.digest()) != (slot, state) {
            return Err(Invalid("a head is not what its certificate says"));
        }
        let entry = self.members.verify_key(&self.head.system, MEMBERS);
        let entry = entry.map_err(|_| Invalid("a proof of the members proves nothing"))?;
        let configuration = entry.and_then(|entry| Configuration::from_bytes(entry).ok());
        let configuration = configuration.ok_or(Invalid("a state names no members"))?;
        if configuration.epoch != self.from.next() {
            return Err(Invalid("a state does not end its epoch"));
        }
        let next = configuration.after(before, Base { slot, state });
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
        self.certificate.check(quorums.quorum(), context)?;
        Ok(next)
    }
}
