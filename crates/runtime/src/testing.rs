//! What unit tests share: the smallest message there is.

use testudo_core::{
    Context, Decode, DecodeError, Domain, Encode, Invalid, Kind, Message, Peer, ProtocolId, Reader,
    Strength, Verified,
};
use testudo_keys::SigningKey;

/// A number, signed, and so many bytes of nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note(pub(crate) u64, pub(crate) usize);

impl Message for Note {
    fn protocol(&self) -> ProtocolId {
        ProtocolId(98)
    }
    fn kind(&self) -> Kind {
        Kind(1)
    }
    fn name(&self) -> &'static str {
        "note"
    }
    fn strength(&self) -> Strength {
        Strength::Signature
    }
    fn encode_body(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        out.resize(out.len() + self.1, 0);
    }
    fn decode_body(_: ProtocolId, _: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        Ok(Self(u64::decode(&mut reader)?, reader.remaining()))
    }
    fn validate(&self, _: Peer, _: &Context<'_>) -> Result<(), Invalid> {
        Ok(())
    }
}

/// A key that is always the same.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_secret(&[seed; 32])
}

/// A note that this peer has sealed.
pub(crate) fn verified(number: u64, sender: Peer, key: &SigningKey) -> Verified<Note> {
    Verified::seal(Note(number, 0), sender, Domain::default(), key)
}
