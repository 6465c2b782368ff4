//! What is believed and what is not.

extern crate alloc;

use std::collections::BTreeMap;
use testudo_core::digest::Hasher;
use testudo_core::{
    Base, Certificate, ClusterId, Context, Decode, DecodeError, Digest, Domain, Encode, Epoch,
    FaultModel, GroupId, Incarnation, Invalid, Kind, Member, Membership, Message, Peer, ProtocolId,
    PublicKey, Rejection, ReplicaId, Signature, Signed, Signer, Statement, Strength, Validity,
    Verified, Verifier, wire_struct,
};

const PROTOCOL: ProtocolId = ProtocolId(9);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Vote {
    value: u64,
}
wire_struct!(Vote { value });

impl Statement for Vote {
    const PROTOCOL: ProtocolId = PROTOCOL;
    const KIND: Kind = Kind(1);
}

#[derive(Clone, PartialEq, Debug)]
enum Word {
    Vote(Vote),
    Whisper(u64),
    Wrap(Signed<Word>),
    /// Signed with the long-lived key, and good in every epoch.
    Plea(u64),
}

impl Message for Word {
    fn protocol(&self) -> ProtocolId {
        PROTOCOL
    }
    fn kind(&self) -> Kind {
        match self {
            Self::Vote(_) => Kind(1),
            Self::Whisper(_) => Kind(2),
            Self::Wrap(_) => Kind(3),
            Self::Plea(_) => Kind(4),
        }
    }
    fn name(&self) -> &'static str {
        "word"
    }
    fn strength(&self) -> Strength {
        match self {
            Self::Vote(_) => Strength::Signature,
            Self::Whisper(_) | Self::Wrap(_) => Strength::Channel,
            Self::Plea(_) => Strength::Identity,
        }
    }
    fn validity(&self) -> Validity {
        match self {
            Self::Plea(_) => Validity::Group,
            Self::Whisper(epoch @ 100..) => Validity::Of(Epoch(epoch - 100)),
            _ => Validity::Epoch,
        }
    }
    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Vote(vote) => vote.encode(out),
            Self::Whisper(value) | Self::Plea(value) => value.encode(out),
            Self::Wrap(inner) => inner.encode(out),
        }
    }
    fn decode_body(protocol: ProtocolId, kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        match (protocol, kind) {
            (PROTOCOL, Kind(1)) => Vote::from_bytes(body).map(Self::Vote),
            (PROTOCOL, Kind(2)) => u64::from_bytes(body).map(Self::Whisper),
            (PROTOCOL, Kind(3)) => Signed::from_bytes(body).map(Self::Wrap),
            (PROTOCOL, Kind(4)) => u64::from_bytes(body).map(Self::Plea),
            _ => Err(DecodeError::Unknown("kind")),
        }
    }
    fn validate(&self, _: Peer, context: &Context<'_>) -> Result<(), Invalid> {
        match self {
            Self::Vote(Vote { value: 13 }) => Err(Invalid("thirteen")),
            Self::Wrap(inner) => inner.verify_embedded(context).map(drop),
            Self::Vote(_) | Self::Whisper(_) | Self::Plea(_) => Ok(()),
        }
    }
}

/// Keyed hashes: a key's secret is its name.
struct Hashes;

fn tag(key: &PublicKey, digest: &Digest) -> Signature {
    let mut hasher = Hasher::new();
    hasher.update(&key.0);
    hasher.update(&digest.0);
    let half = hasher.finish().0;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&half);
    Signature(signature)
}

impl Verifier for Hashes {
    fn check(&self, key: &PublicKey, digest: &Digest, signature: &Signature) -> bool {
        tag(key, digest) == *signature
    }
}

/// A voting key. Its node's identity is another one.
struct Key(PublicKey);

impl Signer for Key {
    fn sign(&self, digest: &Digest) -> Signature {
        tag(&self.0, digest)
    }
    fn certify(&self, digest: &Digest) -> Signature {
        tag(&PublicKey([self.0.0[0] + 199; 32]), digest)
    }
}

fn voting(id: u16) -> PublicKey {
    PublicKey([id as u8 + 1; 32])
}

fn domain() -> Domain {
    Domain { cluster: ClusterId([1; 16]), group: GroupId(2), epoch: Epoch(3) }
}

fn membership() -> Membership {
    let member = |id| Member {
        identity: PublicKey([200 + id as u8; 32]),
        voting: voting(id),
        incarnation: Incarnation(0),
    };
    Membership {
        epoch: Epoch(3),
        members: (0..4).map(member).collect(),
        model: FaultModel::byzantine(1),
        base: Base::GENESIS,
        before: None,
    }
}

fn replica(id: u16) -> Peer {
    Peer::Replica(ReplicaId(id))
}

fn say(id: u16, word: Word) -> Verified<Word> {
    Verified::seal(word, replica(id), domain(), &Key(voting(id)))
}

fn hear(signed: Signed<Word>, via: Peer) -> Result<Verified<Word>, Rejection> {
    let membership = membership();
    signed.verify(via, &Context { domain: domain(), membership: &membership, verifier: &Hashes })
}

fn travel(verified: &Verified<Word>) -> Signed<Word> {
    Signed::from_bytes(&verified.signed().to_bytes()).expect("a frame that was sealed can be read")
}

#[test]
fn a_signed_message_is_believed_whoever_brings_it() {
    let said = say(1, Word::Vote(Vote { value: 7 }));
    let heard = hear(travel(&said), replica(3)).expect("rightly signed");
    assert_eq!(heard.message(), said.message());
    assert_eq!(heard.sender(), replica(1), "the sender is who signed");
    assert_eq!(heard.via(), replica(3));
    assert_eq!(heard.digest(), said.digest());
}

#[test]
fn a_message_of_channel_strength_is_believed_from_its_channel_only() {
    let said = say(1, Word::Whisper(7));
    assert!(hear(travel(&said), replica(1)).is_ok());
    assert_eq!(hear(travel(&said), replica(3)).err(), Some(Rejection::Sender));
}

#[test]
fn another_domain_counts_for_nothing() {
    let foreign = [
        Domain { cluster: ClusterId([2; 16]), ..domain() },
        Domain { group: GroupId(9), ..domain() },
        Domain { epoch: Epoch(2), ..domain() },
    ];
    for domain in foreign {
        let said = Verified::seal(Word::Whisper(7), replica(1), domain, &Key(voting(1)));
        assert_eq!(hear(travel(&said), replica(1)).err(), Some(Rejection::Domain));
    }
}

/// What counts in every epoch is the same frame in each, digest and all; nothing else is carried over.
#[test]
fn what_outlives_epochs_says_so_by_its_kind() {
    let later = Domain { epoch: Epoch(4), ..domain() };
    let (membership, plea) = (membership(), say(1, Word::Plea(7)));
    for domain in [domain(), later] {
        let context = Context { domain, membership: &membership, verifier: &Hashes };
        let heard = travel(&plea).verify(replica(3), &context).expect("good in every epoch");
        assert_eq!(heard.digest(), plea.digest());
    }
    let vote = say(1, Word::Vote(Vote { value: 7 }));
    let context = Context { domain: later, membership: &membership, verifier: &Hashes };
    assert_eq!(travel(&vote).verify(replica(1), &context).err(), Some(Rejection::Domain));
    let elsewhere = Domain { group: GroupId(9), ..domain() };
    let foreign = Verified::seal(Word::Plea(7), replica(1), elsewhere, &Key(voting(1)));
    assert_eq!(hear(travel(&foreign), replica(1)).err(), Some(Rejection::Domain));
}

/// What is said of an epoch that is over is for those who are still there, and bears its number.
#[test]
fn what_is_said_of_an_epoch_is_heard_in_that_epoch_alone() {
    let (membership, later) = (membership(), Domain { epoch: Epoch(9), ..domain() });
    let said = Verified::seal(Word::Whisper(103), replica(1), later, &Key(voting(1)));
    assert_eq!(said.header().domain, domain());
    assert!(hear(travel(&said), replica(1)).is_ok());
    let context = Context { domain: later, membership: &membership, verifier: &Hashes };
    assert_eq!(travel(&said).verify(replica(1), &context).err(), Some(Rejection::Domain));
    // One that bears another number than it speaks of is nobody's.
    let twisted = Verified::seal(Word::Whisper(7), replica(1), later, &Key(voting(1)));
    assert_eq!(hear(travel(&twisted), replica(1)).err(), Some(Rejection::Domain));
}

/// A voting key does not certify, and a long-lived key does not vote.
#[test]
fn the_two_keys_of_a_replica_are_not_mistaken_for_each_other() {
    struct Swapped;
    impl Signer for Swapped {
        fn sign(&self, digest: &Digest) -> Signature {
            Key(voting(1)).certify(digest)
        }
        fn certify(&self, digest: &Digest) -> Signature {
            Key(voting(1)).sign(digest)
        }
    }
    for word in [Word::Plea(7), Word::Vote(Vote { value: 7 })] {
        assert!(hear(travel(&say(1, word.clone())), replica(1)).is_ok());
        let swapped = Verified::seal(word, replica(1), domain(), &Swapped);
        assert_eq!(hear(travel(&swapped), replica(1)).err(), Some(Rejection::Proof));
    }
}

#[test]
fn another_ones_key_a_stranger_and_bad_content_are_refused() {
    let vote = |value| Word::Vote(Vote { value });
    let forged = Verified::seal(vote(7), replica(1), domain(), &Key(voting(2)));
    assert_eq!(hear(travel(&forged), replica(2)).err(), Some(Rejection::Proof));
    let stranger = Verified::seal(vote(7), replica(9), domain(), &Key(voting(9)));
    assert_eq!(hear(travel(&stranger), replica(9)).err(), Some(Rejection::Sender));
    let invalid = Rejection::Invalid(Invalid("thirteen"));
    assert_eq!(hear(travel(&say(1, vote(13))), replica(1)).err(), Some(invalid));
}

/// Every bit counts: no frame with a flipped bit is believed as a signed message.
#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let bytes = say(1, Word::Vote(Vote { value: 7 })).signed().to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(signed) = Signed::from_bytes(&flipped) {
            assert!(hear(signed, replica(1)).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn a_signature_cannot_be_left_out() {
    let mut bytes = say(1, Word::Vote(Vote { value: 7 })).signed().to_bytes();
    let body = 8 + 4;
    let proof = bytes.len() - body - 64 - 1;
    assert_eq!(bytes[proof], 1, "the proof's tag");
    bytes[proof] = 0;
    bytes.drain(proof + 1..proof + 65);
    let signed = Signed::from_bytes(&bytes).expect("well-formed");
    assert_eq!(hear(signed, replica(1)).err(), Some(Rejection::Proof));
}

#[test]
fn an_embedded_message_is_verified_with_what_embeds_it() {
    let inner = say(2, Word::Vote(Vote { value: 7 }));
    let outer = hear(travel(&say(1, Word::Wrap(inner.signed()))), replica(1)).expect("both right");
    let Word::Wrap(embedded) = outer.message() else { panic!("another word") };
    assert_eq!(outer.embedded(embedded).expect("a word").sender(), replica(2));

    let forged =
        Verified::seal(Word::Vote(Vote { value: 7 }), replica(2), domain(), &Key(voting(1)));
    assert!(hear(travel(&say(1, Word::Wrap(forged.signed()))), replica(1)).is_err());
    let whispered = say(2, Word::Whisper(7));
    assert!(hear(travel(&say(1, Word::Wrap(whispered.signed()))), replica(1)).is_err());
}

#[test]
fn a_certificate_takes_only_its_own_statement_and_checks_every_signature() {
    let membership = membership();
    let context = Context { domain: domain(), membership: &membership, verifier: &Hashes };
    let mut certificate = Certificate::new(Vote { value: 7 });
    assert!(!certificate.add(&say(0, Word::Vote(Vote { value: 8 }))), "another statement");
    assert!(!certificate.add(&say(0, Word::Whisper(7))), "the same bytes, another kind");
    for id in [0, 1, 1] {
        assert!(certificate.add(&say(id, Word::Vote(Vote { value: 7 }))));
    }
    assert_eq!(certificate.len(), 2, "a replica counts once");
    assert!(certificate.check(3, &context).is_err());
    assert!(certificate.add(&say(3, Word::Vote(Vote { value: 7 }))));
    assert!(certificate.check(3, &context).is_ok());
    assert_eq!(Certificate::from_bytes(&certificate.to_bytes()), Ok(certificate.clone()));

    let elsewhere = Domain { epoch: Epoch(4), ..domain() };
    assert!(certificate.check(3, &Context { domain: elsewhere, ..context }).is_err());
    let proofs =
        certificate.signers().map(|id| (id, Signature([0; 64]))).collect::<BTreeMap<_, _>>();
    let hollow = [certificate.statement().to_bytes(), proofs.to_bytes()].concat();
    let hollow = Certificate::<Vote>::from_bytes(&hollow).expect("well-formed");
    assert!(hollow.check(3, &context).is_err());
}
