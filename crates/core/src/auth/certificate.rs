//! What convinces somebody who trusts no replica alone: a quorum's signatures, or a liar's own.

use super::{Context, Header, Invalid, Signature, Statement, Strength, Verified};
use crate::ids::{Peer, ProtocolId, ReplicaId};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// A statement with the signatures of replicas that made it: what convinces somebody who trusts none of them alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate<T> {
    statement: T,
    proofs: BTreeMap<ReplicaId, Signature>,
}
crate::wire_struct!(Certificate<T> { statement, proofs });

impl<T: Statement> Certificate<T> {
    /// The statement, nobody's yet.
    #[must_use]
    pub const fn new(statement: T) -> Self {
        Self { statement, proofs: BTreeMap::new() }
    }

    /// Adds a replica's signature from its verified message. False, and nothing changes, when that message does not
    /// make exactly this statement, bears no signature, or is not a replica's.
    pub fn add<M>(&mut self, vote: &Verified<M>) -> bool {
        let header = vote.header();
        let same = header.protocol == T::PROTOCOL
            && header.kind == T::KIND
            && vote.body() == self.statement.to_bytes();
        let (true, Some(replica), Some(signature)) = (same, vote.replica(), vote.signature())
        else {
            return false;
        };
        self.proofs.insert(replica, signature);
        true
    }

    /// Adds the signatures of another certificate of the same statement. False, and nothing changes, for another one.
    pub fn join(&mut self, other: &Self) -> bool {
        let same = self.statement == other.statement;
        if same {
            self.proofs.extend(&other.proofs);
        }
        same
    }

    /// What is certified.
    #[must_use]
    pub const fn statement(&self) -> &T {
        &self.statement
    }
    /// Who certifies it.
    pub fn signers(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.proofs.keys().copied()
    }
    /// A replica's signature, if it is one of those who certify it.
    #[must_use]
    pub fn signature(&self, of: ReplicaId) -> Option<Signature> {
        self.proofs.get(&of).copied()
    }
    /// How many replicas certify it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.proofs.len()
    }
    /// Whether nobody certifies it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.proofs.is_empty()
    }

    /// Checks that at least `quorum` members signed it and that every signature in it is right.
    ///
    /// # Errors
    /// When signers are too few or unknown, or a signature is wrong.
    pub fn check(&self, quorum: usize, context: &Context<'_>) -> Result<(), Invalid> {
        if self.proofs.len() < quorum {
            return Err(Invalid("a certificate has too few signatures"));
        }
        if self.proofs.len() > context.membership.n() {
            return Err(Invalid("a certificate has more signatures than there are members"));
        }
        let body = self.statement.to_bytes();
        let mut items = Vec::with_capacity(self.proofs.len());
        for (replica, signature) in &self.proofs {
            let sender = Peer::Replica(*replica);
            let key = match T::STRENGTH {
                Strength::Identity => context.membership.identity(sender),
                Strength::Channel | Strength::Signature => context.membership.key(sender),
            };
            let key = key.ok_or(Invalid("a certificate names a stranger"))?;
            let header =
                Header { domain: context.domain, protocol: T::PROTOCOL, kind: T::KIND, sender };
            items.push((key, header.digest(&body), *signature));
        }
        if context.verifier.check_all(&items) {
            Ok(())
        } else {
            Err(Invalid("a certificate holds a wrong signature"))
        }
    }
}

/// Signed statements that no correct replica makes together, whatever others do. A third party checks them with the
/// public keys alone, by the protocol's `convicts`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// Who is accused.
    pub accused: ReplicaId,
    /// The protocol whose rule was broken.
    pub protocol: ProtocolId,
    /// Which rule, in a word.
    pub offence: String,
    /// The statements, each a whole signed frame.
    pub statements: Vec<Vec<u8>>,
}
crate::wire_struct!(Evidence { accused, protocol, offence, statements });
