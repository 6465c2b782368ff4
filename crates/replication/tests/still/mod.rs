//! What a test hands an automaton that it plays everything around: no time, no chance, no signatures.

use testudo_core::{
    Digest, FaultModel, Host, Incarnation, Member, Membership, PublicKey, Signature, Signer, Time,
};

/// Knows no time and no chance.
pub(crate) struct Still;

impl Host for Still {
    fn clock(&self) -> Time {
        Time(0)
    }
    fn choose(&mut self, _: u32) -> u32 {
        0
    }
    fn secret(&mut self) -> [u8; 32] {
        [3; 32]
    }
}

/// Replies go by the channel, so nobody signs here.
pub(crate) struct Nobody;

impl Signer for Nobody {
    fn sign(&self, _: &Digest) -> Signature {
        Signature([0; 64])
    }
}

/// Four replicas, one of which may lie.
pub(crate) fn membership() -> Membership {
    let key = PublicKey([1; 32]);
    let member = Member { identity: key, voting: key, incarnation: Incarnation(0) };
    Membership::first(vec![member; 4], FaultModel::byzantine(1))
}
