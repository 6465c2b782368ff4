//! Verification that is not right, for oracles to convict the drivers that do it.

use super::{System, World};
use crate::host::{Flaw, Place, Rolls};
use crate::keys::SimKeys;
use testudo_core::{
    Context, Digest, Message, Peer, PublicKey, Rejection, Signature, Signed, Validity, Verified,
    Verifier,
};

/// Believes a member by any voting key that it ever had.
pub(super) struct Lenient<'a> {
    keys: &'a SimKeys,
    rolls: &'a Rolls,
}

impl Verifier for Lenient<'_> {
    fn check(&self, key: &PublicKey, digest: &Digest, signature: &Signature) -> bool {
        let rolls = self.rolls.borrow();
        let all = || rolls.iter().flat_map(|roll| roll.members.iter().enumerate());
        let whose = all().find(|(_, member)| member.voting == *key).map(|(index, _)| index);
        let had = all().filter(|(index, _)| Some(*index) == whose);
        self.keys.check(key, digest, signature)
            || had.into_iter().any(|(_, one)| self.keys.check(&one.voting, digest, signature))
    }
}

impl<S: System> World<S> {
    pub(super) const fn lenient(&self) -> Lenient<'_> {
        Lenient { keys: &self.keys, rolls: &self.rolls }
    }

    /// What verification comes to. A frame of an earlier epoch is taken, if the driver is that wrong, for what it would be if
    /// signatures did not say of which epoch they are, as far as that holds together.
    pub(super) fn judge(
        &self,
        place: &Place,
        frame: &Signed<S::Message>,
        via: Peer,
        context: &Context<'_>,
    ) -> Result<Verified<S::Message>, Rejection> {
        let moved = self.moved(place, frame).and_then(|moved| moved.verify(via, context).ok());
        moved.map_or_else(|| frame.clone().verify(via, context), Ok)
    }

    fn moved(&self, place: &Place, frame: &Signed<S::Message>) -> Option<Signed<S::Message>> {
        let header = frame.header();
        let is_flawed = self.system.flaw() == Some(Flaw::IgnoresEpochs);
        if !is_flawed || header.domain.epoch >= place.domain.epoch {
            return None;
        }
        let message = Verified::replay(frame.clone()).ok()?.into_message();
        let Peer::Replica(_) = header.sender else { return None };
        if message.validity() == Validity::Group {
            return None;
        }
        let signer = self.keys.signer(&place.membership.key(header.sender)?)?;
        Some(Verified::seal(message, header.sender, place.domain, &signer).signed())
    }
}
