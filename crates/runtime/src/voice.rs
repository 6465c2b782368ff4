//! As whom an automaton speaks: in which epoch, and with which key.
//!
//! A letter is sealed some time after it was written, and the members may change in between. What was written before is said
//! as it would have been said then: the voice that it is sealed with is the one of its effect's place in the list.
//!
//! A client has one key for all. A replica has an identity key, and the voting key that the membership names, if its keyring
//! holds it. One that does not hold it says nothing that a vote could be made of: its automaton knows that and does not ask
//! for it, and a letter that would need the key all the same is not sealed.

use crate::carrier::Scope;
use crate::letters::SharedSigner;
use std::sync::Arc;
use testudo_core::{Digest, Domain, Message, Peer, PublicKey, Signature, Strength};
use testudo_keys::{Keyring, KeyringError};

/// The keys of an automaton.
#[derive(Debug)]
pub(crate) enum Keys {
    /// A replica's, of which it makes some itself.
    Replica(Box<Keyring>),
    /// The one key of a client, which no membership names.
    Client,
}

impl Keys {
    /// Whether this node can sign with this voting key.
    pub(crate) fn holds(&self, voting: &PublicKey) -> bool {
        match self {
            Self::Replica(ring) => ring.holds(voting),
            Self::Client => true,
        }
    }

    /// A voting key that this node has never signed with.
    pub(crate) fn candidate(&self) -> Option<PublicKey> {
        match self {
            Self::Replica(ring) => ring.candidate(),
            Self::Client => None,
        }
    }

    /// That key's signature.
    pub(crate) fn vouch(&self, digest: &Digest) -> Option<Signature> {
        match self {
            Self::Replica(ring) => ring.vouch(digest),
            Self::Client => None,
        }
    }
}

/// What letters are sealed with between one change of members and the next.
#[derive(Clone)]
pub(crate) struct Voice {
    /// Where they count.
    pub(crate) domain: Domain,
    /// How many replicas there are.
    pub(crate) replicas: usize,
    pub(crate) signer: SharedSigner,
    /// Whether the signer has the voting key that the membership names.
    can_vote: bool,
}

impl Voice {
    /// A voice that signs everything with the same key.
    pub(crate) fn plain(scope: &Scope, signer: SharedSigner) -> Self {
        Self { domain: scope.domain, replicas: scope.membership.n(), signer, can_vote: true }
    }

    /// The voice among these members of whoever spoke with this one till now. Where a replica is named under its candidate,
    /// that is a voting key from now on, and another candidate is made.
    ///
    /// # Errors
    /// When that could not be made durable. Then the replica must stop.
    pub(crate) fn among(
        &self,
        scope: &Scope,
        me: Peer,
        keys: &mut Keys,
    ) -> Result<Self, KeyringError> {
        let mut voice =
            Self { domain: scope.domain, replicas: scope.membership.n(), ..self.clone() };
        let member = me.replica().and_then(|id| scope.membership.member(id));
        let (Keys::Replica(ring), Some(member)) = (keys, member) else { return Ok(voice) };
        let signer = ring.enter(member)?;
        voice.can_vote = signer.can_vote();
        voice.signer = Arc::new(signer);
        if let Err(error) = ring.renew() {
            tracing::error!(
                "no voting key can be made to come back under, should this replica ever have to: {error}"
            );
        }
        Ok(voice)
    }

    /// Whether it can say this as its kind demands.
    pub(crate) fn can_say(&self, message: &impl Message) -> bool {
        self.can_vote || message.strength() != Strength::Signature
    }
}
