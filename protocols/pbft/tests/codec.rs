//! Every message and record has one form, and whatever bytes arrive, nothing panics and nothing forged is believed.

mod harness;

use harness::{Cluster, Letter, batch};
use proptest::collection::vec;
use proptest::prelude::*;
use testudo_contracts::{Batch, OrderInput};
use testudo_core::{
    Decode, Digest, Encode, Kind, Message as _, Peer, ReplicaId, Signed, Slot, Strength, Time, View,
};
use testudo_pbft::message::{
    Attested, Commit, Committed, Fetch, NewView, PrePrepare, Prepare, Slots, Status, Testimony,
    ViewChange,
};
use testudo_pbft::{Message, PBFT, Record, Timer};

fn any_batch() -> impl Strategy<Value = Batch> {
    (vec(any::<[u8; 32]>().prop_map(Digest), 0..4), any::<u64>(), any::<bool>()).prop_map(
        |(bundles, time, gap_not_counted)| Batch { bundles, time: Time(time), gap_not_counted },
    )
}

fn any_message() -> impl Strategy<Value = Message> {
    let place = || (any::<u64>().prop_map(View), any::<u64>().prop_map(Slot));
    let digest = || any::<[u8; 32]>().prop_map(Digest);
    prop_oneof![
        (place(), any_batch()).prop_map(|((view, slot), batch)| Message::PrePrepare(PrePrepare {
            view,
            slot,
            batch
        })),
        (place(), digest()).prop_map(|((view, slot), digest)| Message::Prepare(Prepare {
            view,
            slot,
            digest
        })),
        (place(), digest()).prop_map(|((view, slot), digest)| Message::Commit(Commit {
            view,
            slot,
            digest
        })),
        (place(), any::<u64>(), vec(any::<u64>().prop_map(Slot), 0..8), any::<bool>()).prop_map(
            |((view, executed), stable, lacks, is_slow)| {
                Message::Status(Status { view, executed, stable: Slot(stable), lacks, is_slow })
            }
        ),
        place().prop_map(|(_, from)| Message::Fetch(Fetch { from })),
    ]
}

/// What replicas really said to each other while a view changed and a laggard caught up: every kind there is.
fn overheard() -> Vec<Letter> {
    let mut cluster = Cluster::<testudo_pbft::Standard>::new(4, 1);
    let mut heard = Vec::new();
    let mut run = |cluster: &mut Cluster, lose: &dyn Fn(&Letter) -> bool| {
        while !cluster.wire.is_empty() {
            let letter = cluster.wire.remove(0);
            if !lose(&letter) {
                heard.push(letter.clone());
                assert!(cluster.deliver(letter));
            }
        }
    };
    let to_three = |kind: &'static str| {
        move |letter: &Letter| letter.message.name() == kind && letter.to == ReplicaId(3)
    };
    let tick = |cluster: &mut Cluster| (0..4).for_each(|id| cluster.fire(id, Timer::Resend));
    cluster.propose(0, "a");
    run(&mut cluster, &to_three("commit"));
    (0..4).for_each(|_| tick(&mut cluster));
    run(&mut cluster, &|_| false);
    cluster.propose(0, "b");
    run(&mut cluster, &to_three("pre-prepare"));
    (0..2).for_each(|_| tick(&mut cluster));
    run(&mut cluster, &|_| false);
    let stable = cluster.checkpoint(1);
    cluster.input(1, OrderInput::Stable(stable));
    cluster.wait(&[0, 1, 2, 3], 1);
    (0..4).for_each(|id| cluster.fire(id, Timer::View));
    run(&mut cluster, &to_three("new-view"));
    (0..2).for_each(|_| tick(&mut cluster));
    run(&mut cluster, &|_| false);
    cluster.crash(2);
    cluster.start(2);
    run(&mut cluster, &|_| false);
    cluster.check();
    heard
}

#[test]
fn every_kind_is_overheard_and_read_back() {
    let heard = overheard();
    let mut kinds: Vec<Kind> = heard.iter().map(|letter| letter.message.kind()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, (1..=12).map(Kind).collect::<Vec<_>>());
    for letter in heard {
        let mut body = Vec::new();
        letter.message.encode_body(&mut body);
        let again = Message::decode_body(PBFT, letter.message.kind(), &body);
        assert_eq!(again, Ok(letter.message));
    }
}

/// An embedded statement gives back the very frame that it came in, which is what evidence consists of.
#[test]
fn attested_statements_keep_their_frames() {
    let cluster = Cluster::<testudo_pbft::Standard>::new(4, 1);
    let body = PrePrepare { view: View(0), slot: Slot(1), batch: batch("a") };
    let sealed = cluster.seal(0, Message::PrePrepare(body.clone()));
    let attested = Attested::of(&sealed, body).expect("it is signed");
    assert_eq!(attested.frame(cluster.config.domain), sealed.signed().to_bytes());
    assert_eq!(attested.check(&cluster.context()), Ok(()));
    let other = Attested { signer: ReplicaId(1), ..attested };
    assert!(other.check(&cluster.context()).is_err());
}

#[test]
fn records_are_read_back() {
    let mut cluster = Cluster::<testudo_pbft::Standard>::new(4, 1);
    cluster.propose(0, "a");
    cluster.run();
    cluster.wait(&[0, 1, 2, 3], 1);
    (0..4).for_each(|id| cluster.fire(id, Timer::View));
    cluster.run();
    let stable = cluster.checkpoint(1);
    (0..4).for_each(|id| cluster.input(id, OrderInput::Stable(stable.clone())));
    let records = cluster.nodes.iter().flat_map(|node| &node.disk.records);
    let mut tags = std::collections::BTreeSet::new();
    for (_, record) in records {
        let bytes = record.to_bytes();
        tags.insert(bytes[0]);
        assert_eq!(Record::from_bytes(&bytes).as_ref(), Ok(record));
    }
    assert_eq!(tags.into_iter().collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_have_one_form(message in any_message()) {
        let mut body = Vec::new();
        message.encode_body(&mut body);
        let again = Message::decode_body(PBFT, message.kind(), &body);
        prop_assert_eq!(again, Ok(message));
    }

    #[test]
    fn any_bytes_are_read_or_refused(kind in 0u8..14, body in vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::decode_body(PBFT, Kind(kind), &body) {
            let mut again = Vec::new();
            message.encode_body(&mut again);
            prop_assert_eq!(again, body);
            let cluster = Cluster::<testudo_pbft::Standard>::new(4, 1);
            let _ = message.validate(Peer::Replica(ReplicaId(1)), &cluster.context());
        }
    }

    #[test]
    fn any_bytes_are_a_record_or_none(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(record) = Record::from_bytes(&bytes) {
            prop_assert_eq!(record.to_bytes(), bytes);
        }
    }
}

/// One flipped bit anywhere, in what is signed or proves itself, and nobody believes it.
#[test]
fn forged_frames_are_refused() {
    let heard = overheard();
    let cluster = Cluster::<testudo_pbft::Standard>::new(4, 1);
    let mut seen = std::collections::BTreeSet::new();
    for letter in heard {
        let claims =
            matches!(letter.message, Message::Status(_) | Message::Fetch(_) | Message::Inquiry(_));
        if claims || !seen.insert(letter.message.kind()) {
            continue;
        }
        let frame = letter.signed.to_bytes();
        for at in 0..frame.len() {
            let mut forged = frame.clone();
            forged[at] ^= 1 << (at % 8);
            let Ok(signed) = Signed::<Message>::from_bytes(&forged) else { continue };
            let verdict = signed.verify(Peer::Replica(letter.from), &cluster.context());
            if let (Ok(read), Message::Testimony(said)) = (&verdict, &letter.message) {
                // Which question it answers is nobody's statement.
                let Message::Testimony(read) = read.message() else { panic!("another kind") };
                assert_eq!(**read, Testimony { nonce: read.nonce, ..(**said).clone() });
                continue;
            }
            assert!(verdict.is_err(), "{} with byte {at} flipped", letter.message.name());
        }
        let stolen = letter.signed.verify(Peer::Replica(ReplicaId(2)), &cluster.context());
        let may = letter.message.strength() == Strength::Signature || letter.from == ReplicaId(2);
        assert_eq!(stolen.is_ok(), may, "{} brought by another", letter.message.name());
    }
}

/// Messages that are too long or out of order are refused, whoever signs them.
#[test]
fn limits_are_kept() {
    let cluster = Cluster::<testudo_pbft::Standard>::new(4, 1);
    let refused = |from: u16, message: Message| {
        message.validate(Peer::Replica(ReplicaId(from)), &cluster.context()).is_err()
    };
    let lacks = |slots: &[u64]| {
        let lacks = slots.iter().copied().map(Slot).collect();
        Message::Status(Status {
            view: View(0),
            executed: Slot(0),
            stable: Slot(0),
            lacks,
            is_slow: false,
        })
    };
    assert!(!refused(1, lacks(&[1, 2])));
    assert!(refused(1, lacks(&[2, 1])));
    assert!(refused(1, lacks(&[1, 1])));
    assert!(refused(1, lacks(&(1..=65).collect::<Vec<_>>())));
    let twice = Batch { bundles: vec![Digest::ZERO, Digest::ZERO], ..Batch::default() };
    let proposal = PrePrepare { view: View(0), slot: Slot(1), batch: twice };
    assert!(refused(0, Message::PrePrepare(proposal)));
    assert!(refused(9, lacks(&[])), "a stranger");
    let change =
        ViewChange { view: View(1), stable: None, prepared: Vec::new(), lost: Slots::none() };
    let sealed = |from| cluster.seal(from, Message::ViewChange(change.clone()));
    let attested = |from| Attested::of(&sealed(from), change.clone()).expect("it is signed");
    let new_view = |from: &[u16], ordered: &[u64]| {
        let changes = from.iter().map(|id| attested(*id)).collect();
        let ordered = ordered.iter().map(|slot| (Slot(*slot), Batch::null())).collect();
        Message::NewView(NewView { view: View(1), changes, ordered })
    };
    assert!(!refused(1, new_view(&[0, 1, 2], &[])));
    assert!(refused(2, new_view(&[0, 1, 2], &[])), "not the primary");
    assert!(refused(1, new_view(&[0, 1], &[])), "no quorum");
    assert!(refused(1, new_view(&[0, 1, 1], &[])), "one counted twice");
    assert!(refused(1, new_view(&[1, 0, 2], &[])), "out of order");
    assert!(refused(1, new_view(&[0, 1, 2], &[1, 3])), "a gap");
    let digest = batch("a").digest();
    let commit = Commit { view: View(0), slot: Slot(1), digest };
    let certificate = cluster.commits(&commit, &[0, 1, 2]);
    let decided = |name: &str| {
        Message::Committed(Committed { batch: batch(name), certificate: certificate.clone() })
    };
    assert!(!refused(3, decided("a")));
    assert!(refused(3, decided("b")), "another batch");
}
