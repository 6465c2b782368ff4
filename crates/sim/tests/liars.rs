//! Liars lie as they say, with their own key only, and a world's signatures cannot be had by guessing.

extern crate alloc;

mod common;

use common::{Ask, Register, Said};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use testudo_core::{
    Context, Digest, Domain, FaultModel, Membership, Message, Peer, ReplicaId, Signature, Signer,
    Verified, Verifier,
};
use testudo_sim::liar::{Liar, Lie, tamper_bytes};
use testudo_sim::{
    Climate, Misconduct, NodeId, Rng, Seeded, Shape, Signatures, SimKeys, World, adversary::Saying,
};

fn peer(id: u16) -> Peer {
    Peer::Replica(ReplicaId(id))
}

fn query(round: u64) -> Said {
    Said::Query { key: "key".into(), round }
}

fn body(message: &Said) -> Vec<u8> {
    let mut body = Vec::new();
    message.encode_body(&mut body);
    body
}

/// What a liar says to replicas 1 to 3 in a hundred rounds.
fn speech(lie: Lie, seed: u64) -> Vec<(u64, Peer, Peer, Said)> {
    let mut liar = Liar::new(lie, peer(0), tamper_bytes::<Said>);
    let mut rng = Rng::new(seed);
    let mut said = Vec::new();
    for round in 0..100 {
        for to in 1..4 {
            for (receiver, message) in liar.outgoing(peer(to), query(round), &mut rng) {
                said.push((round, peer(to), receiver, message));
            }
        }
    }
    said
}

#[test]
fn each_lie_is_its_own() {
    assert!(speech(Lie::Silent, 1).is_empty());
    let changed = |lie| {
        let differs =
            |(round, _, _, said): &&(u64, Peer, Peer, Said)| body(said) != body(&query(*round));
        speech(lie, 1).iter().filter(differs).count()
    };
    for lie in [Lie::Equivocate, Lie::Corrupt, Lie::Stale, Lie::Random] {
        assert!(changed(lie) > 20, "{lie:?} tells the truth");
    }
    assert!(speech(Lie::Random, 1).iter().any(|(_, to, receiver, _)| to != receiver));
}

#[test]
fn an_equivocator_tells_each_half_one_story() {
    let said = speech(Lie::Equivocate, 7);
    for round in 0..100 {
        let of: Vec<_> = said.iter().filter(|(of, ..)| *of == round).collect();
        let stories: BTreeSet<Vec<u8>> = of.iter().map(|(.., said)| body(said)).collect();
        assert_eq!(of.len(), 3);
        assert!(stories.len() <= 2, "three stories in round {round}");
    }
}

#[test]
fn a_liar_is_honest_with_itself_and_repeatable() {
    for lie in Lie::ALL {
        let mut liar = Liar::new(lie, peer(0), tamper_bytes::<Said>);
        let said = liar.outgoing(peer(0), query(1), &mut Rng::new(1));
        assert_eq!(said.len(), 1);
        assert_eq!(body(&said[0].1), body(&query(1)));
        assert_eq!(Lie::named(lie.name()), Some(lie));
        let bodies = |seed| -> Vec<_> {
            speech(lie, seed).iter().map(|(_, _, to, said)| (*to, body(said))).collect()
        };
        assert_eq!(bodies(3), bodies(3));
    }
}

#[test]
fn only_the_key_signs() {
    only_the_key_signs_with(Signatures::Hashed);
    only_the_key_signs_with(Signatures::Ed25519);
    let real: Vec<u64> =
        (0..10_000).filter(|s| Signatures::of(*s) == Signatures::Ed25519).collect();
    assert!((50..200).contains(&real.len()), "about one of a hundred: {}", real.len());
    assert!((0..4).all(|rest| real.iter().any(|seed| seed % 4 == rest)), "of any numbers");
}

fn only_the_key_signs_with(signatures: Signatures) {
    let mut keys = SimKeys::with(1, signatures);
    assert_eq!(keys.signatures(), signatures);
    let (one, other) = (keys.mint(), keys.mint());
    let digest = Digest::of(b"said");
    let signature = one.sign(&digest);
    assert!(keys.check(&one.public(), &digest, &signature));
    assert!(!keys.check(&other.public(), &digest, &signature));
    assert!(!keys.check(&one.public(), &Digest::of(b"not said"), &signature));
    assert!(!keys.check(&one.public(), &digest, &Signature([0; 64])));
    assert_eq!(one.sign(&digest), signature);
    for bit in 0..512 {
        let mut forged = signature;
        forged.0[bit / 8] ^= 1 << (bit % 8);
        assert!(!keys.check(&one.public(), &digest, &forged));
    }
}

#[test]
fn a_tampered_frame_does_not_verify() {
    let mut keys = SimKeys::new(1);
    let (writer, membership) =
        (keys.mint(), Membership::first(Vec::new(), FaultModel::byzantine(0)));
    let me = Peer::Client(writer.public());
    let tag = common::Tag { number: 1, writer: writer.public() };
    let value = common::Value { key: "k".into(), tag, text: "text".into() };
    let sealed = Verified::seal(Said::Value(value), me, Domain::default(), &writer);
    let context = Context { domain: Domain::default(), membership: &membership, verifier: &keys };
    assert!(sealed.signed().verify(me, &context).is_ok());
    let mut rng = Rng::new(1);
    let changed = tamper_bytes(sealed.message(), &mut rng).expect("a byte can be changed");
    let other = keys.mint();
    let context = Context { domain: Domain::default(), membership: &membership, verifier: &keys };
    let forged = Verified::seal(changed, me, Domain::default(), &other);
    assert!(forged.signed().verify(me, &context).is_err());
}

/// An adversary of one's own making: it answers every query with silence, and everything else twice.
struct Stammerer;

impl testudo_sim::Adversary<Said> for Stammerer {
    fn name(&self) -> &'static str {
        "stammer"
    }
    fn outgoing(&mut self, to: Peer, message: Said, _: &mut Rng) -> Vec<Saying<Said>> {
        vec![Saying::now(to, message.clone()), Saying::now(to, message)]
    }
    fn incoming(
        &mut self,
        message: &Verified<Said>,
        _: &mut Rng,
        _: &mut Vec<Saying<Said>>,
    ) -> bool {
        !matches!(message.message(), Said::Query { .. })
    }
}

#[test]
fn adversaries_can_be_written_for_a_test() {
    let mut world = World::new(Register::default(), &Shape::byzantine(1, 1), 1);
    world.corrupt_by(NodeId(1), Box::new(Stammerer));
    assert!(!world.is_correct(NodeId(1)));
    let mut seeded = Seeded::new(world, 1, Climate::calm(), 1, false);
    seeded.world.ask_client(0, Ask { id: 7, key: "k".into(), write: Some("text".into()) });
    let mut answer = None;
    seeded.run_until(Duration::from_secs(5), |world| {
        answer = answer.take().or_else(|| world.take_answer());
        answer.is_some()
    });
    assert_eq!(answer, Some((0, (7, "ok".into()))));
}

#[test]
fn twins_split_the_cluster() {
    let shape = Shape { twins: vec![ReplicaId(1)], ..Shape::byzantine(1, 1) };
    let mut world = World::new(Register::default(), &shape, 1);
    let (first, second) = (NodeId(1), NodeId(5));
    assert_eq!((world.name(first), world.name(second)), ("1".into(), "1'".into()));
    assert_eq!(world.peer(first), world.peer(second));
    world.ask_client(0, Ask { id: 1, key: "k".into(), write: None });
    let receivers = |world: &World<Register>| -> Vec<NodeId> {
        world.letters().map(|letter| letter.to).collect()
    };
    assert_eq!(receivers(&world), [0, 1, 2, 3].map(NodeId), "the client talks to the first copy");
    let client = world.peer(world.client_node(0));
    world.set_second_side([client]);
    for letter in world.letters().map(|letter| letter.number).collect::<Vec<_>>() {
        world.deliver(letter);
    }
    let answers: Vec<NodeId> = world.letters().map(|letter| letter.from).collect();
    assert_eq!(answers, [0, 2, 3].map(NodeId), "the first copy no longer talks to the client");
    assert_eq!(Misconduct::Twins.name(), "twins");
}

#[test]
fn a_spoilt_signature_is_refused_whatever_signatures_are() {
    for signatures in [Signatures::Hashed, Signatures::Ed25519] {
        let shape = Shape { signatures: Some(signatures), ..Shape::byzantine(1, 1) };
        let mut world = World::asleep(Register::default(), &shape, 1);
        let refused = Rc::new(RefCell::new(Refused(Vec::new())));
        world.watch(refused.clone());
        world.start_all();
        world.ask_client(0, Ask { id: 1, key: "k".into(), write: Some("text".into()) });
        let kind = |name: &'static str, world: &World<Register>| -> Vec<u64> {
            let named = world.letters().filter(|letter| letter.name == name);
            named.map(|letter| letter.number).collect()
        };
        for name in ["query", "answer"] {
            kind(name, &world).into_iter().for_each(|number| {
                world.deliver(number);
            });
        }
        let values = kind("value", &world);
        assert_eq!(values.len(), 4);
        world.spoil(values[0]);
        values.iter().for_each(|number| {
            world.deliver(*number);
        });
        assert_eq!(refused.borrow().0, [values[0]], "{signatures:?}");
    }
}

struct Refused(Vec<u64>);

impl testudo_sim::Observer for Refused {
    fn observe(&mut self, _: Duration, event: &testudo_sim::Event) {
        if let testudo_sim::Event::Rejected(letter, _) = event {
            self.0.push(letter.number);
        }
    }
}
