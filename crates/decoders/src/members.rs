//! What says who the members are, and what a client's request came to: both lie inside of what is signed, or proved, and are
//! read only then.

use crate::one_form;
use std::ops::Range;
use std::sync::LazyLock;
use testudo_core::{
    Base, Certificate, Context, Digest, Domain, Encode, Epoch, FaultModel, Incarnation, Member,
    Membership, Peer, PublicKey, ReplicaId, Slot, Time, Verified,
};
use testudo_keys::{Ed25519Verifier, SigningKey};
use testudo_replication::members::Registered;
use testudo_replication::sessions::Remembered;
use testudo_replication::{Configuration, Decree, Refusal, ReplyBody, Returning, Succession};

/// Members whose keys everybody knows: what they are made to sign is good.
static MEMBERS: LazyLock<Membership> = LazyLock::new(|| {
    let voting = (0..4).map(|id| Member {
        identity: identity(id).public(),
        voting: SigningKey::from_secret(&[id + 100; 32]).public(),
        incarnation: Incarnation(0),
    });
    Membership::first(voting.collect(), FaultModel::byzantine(1))
});

fn identity(id: u8) -> SigningKey {
    SigningKey::from_secret(&[id + 1; 32])
}

/// What a request came to, alone and as sessions remember it.
pub(crate) fn reply(input: &[u8]) {
    one_form::<ReplyBody>(input);
    if let Some(remembered) = one_form::<Remembered>(input) {
        assert_eq!(remembered.results, Digest::of(&remembered.body));
        one_form::<ReplyBody>(&remembered.body);
    }
}

/// Members as a state names them, and what led to them, epoch by epoch: each is checked by the members before it, whose
/// next epoch it begins if they have signed it.
pub(crate) fn members(input: &[u8]) {
    one_form::<Configuration>(input);
    one_form::<Refusal>(input);
    let Some(lineage) = one_form::<Vec<Succession>>(input) else { return };
    let verifier = Ed25519Verifier::new(MEMBERS.members.iter().map(|member| member.voting));
    let mut membership = MEMBERS.clone();
    for succession in lineage {
        let domain = Domain { epoch: membership.epoch, ..Domain::default() };
        let context = Context { domain, membership: &membership, verifier: &verifier };
        if let Ok(next) = succession.check(&context) {
            assert_eq!((next.n(), next.epoch), (4, membership.epoch.next()));
            assert!(succession.from == membership.epoch && next.base != Base::GENESIS);
            membership = next;
        }
    }
}

pub(crate) fn good_replies() -> Vec<Vec<u8>> {
    let bodies = [
        ReplyBody::Registered(7),
        ReplyBody::Results(vec![b"a result"[..].into(), [][..].into()]),
        ReplyBody::NoSession,
        ReplyBody::Stale,
        ReplyBody::NotAdmitted,
    ];
    let remembered = bodies.iter().map(|body| Remembered::new(Digest::of(b"it"), Slot(9), body));
    let remembered: Vec<Vec<u8>> = remembered.map(|one| one.to_bytes()).collect();
    bodies.iter().map(Encode::to_bytes).chain(remembered).collect()
}

/// The end of an epoch, by decree, as these members have signed it.
fn decreed(epoch: u64, signers: Range<u8>) -> (Succession, Vec<u8>) {
    let returning = Returning { replica: ReplicaId(2), voting: PublicKey([epoch as u8 + 50; 32]) };
    let base = Base { slot: Slot(8 + epoch), state: Digest::of(b"a state") };
    let decree = Decree { from: Epoch(epoch), base, returning: vec![returning] };
    let domain = Domain { epoch: Epoch(epoch), ..Domain::default() };
    let mut certificate = Certificate::new(decree.clone());
    let mut frame = Vec::new();
    for id in signers {
        let sender = Peer::Replica(ReplicaId(id.into()));
        let vote = Verified::seal(decree.clone(), sender, domain, &identity(id));
        assert!(certificate.add(&vote), "it signs what it was given");
        frame = vote.signed().to_bytes();
    }
    (Succession::decreed(certificate), frame)
}

/// A decree as a frame, as members say it.
pub(crate) fn good_decree() -> Vec<u8> {
    decreed(0, 0..3).1
}

pub(crate) fn good_members() -> Vec<Vec<u8>> {
    let lineage = vec![decreed(0, 0..3).0, decreed(1, 1..4).0];
    let returns = vec![Time(5), Time(9)];
    let registered = MEMBERS.members.iter().map(|member| Registered {
        member: member.clone(),
        returns: returns.clone(),
        is_convicted: member.incarnation > Incarnation(1),
    });
    let configuration = Configuration { epoch: Epoch(3), members: registered.collect() };
    vec![
        lineage.to_bytes(),
        vec![decreed(0, 0..2).0].to_bytes(),
        configuration.to_bytes(),
        Refusal::Ration(Time(70)).to_bytes(),
    ]
}
