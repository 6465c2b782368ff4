//! The asker by itself: barriers, pauses, and what it says is out.

use std::sync::Arc;
use std::time::Duration;
use testudo_core::{
    Domain, FaultModel, Incarnation, Member, Membership, Peer, PublicKey, ReplicaId, Slot, Time,
};
use testudo_replication::asking::{Alarm, Asked, Asker, Outcome, first_nonce};
use testudo_replication::{Bundle, ReplyBody, Request};

const ME: Peer = Peer::Client(PublicKey([7; 32]));
const RESEND: Duration = Duration::from_millis(100);

fn asker() -> Asker {
    let key = PublicKey([1; 32]);
    let member = Member { identity: key, voting: key, incarnation: Incarnation(0) };
    let membership = Membership::first(vec![member; 4], FaultModel::byzantine(1));
    Asker::new(ME, Domain::default(), &membership, RESEND, 3, ReplicaId(0))
}

fn answer(asker: &mut Asker, bundle: &Bundle, slot: u64, body: ReplyBody) -> Asked {
    asker.accept(&bundle.digest(ME, Domain::default()), Slot(slot), body)
}

/// With a session open, and nothing out.
fn open() -> Asker {
    let mut asker = asker();
    let opening = asker.barrier(0).bundles.remove(0);
    let barrier = answer(&mut asker, &opening, 1, ReplyBody::Registered(4)).bundles.remove(0);
    let done = answer(&mut asker, &barrier, 2, ReplyBody::Results(vec![]));
    assert_eq!(done.answers, [(0, Outcome::Done(Slot(2), Arc::from([])))]);
    assert_eq!((done.alarm, asker.unanswered()), (Alarm::Cancel, 0));
    asker
}

fn operations(bundle: &Bundle) -> usize {
    match &bundle.request {
        Request::Operations { operations, .. } => operations.len(),
        Request::Register { .. } | Request::Readmit(..) | Request::Convict(_) => {
            panic!("an opening")
        }
    }
}

#[test]
fn a_barrier_alone_is_an_empty_bundle() {
    let mut asker = open();
    let asked = asker.barrier(1);
    assert_eq!(asked.bundles.iter().map(operations).collect::<Vec<_>>(), [0]);
    assert_eq!(asked.alarm, Alarm::Set(RESEND));
}

#[test]
fn barriers_share_a_bundle_with_operations_and_get_no_result_of_theirs() {
    let mut asker = open();
    let much: Arc<[u8]> = vec![0; 128 << 10].into();
    let first = asker.submit(1, much.clone()).bundles.remove(0);
    let second = asker.submit(2, much).bundles.remove(0);
    assert!(asker.barrier(3).bundles.is_empty(), "the pipeline is full");
    assert!(asker.submit(4, Arc::from([4])).bundles.is_empty());
    assert!(asker.barrier(5).bundles.is_empty());
    let results =
        |bytes: &[u8]| ReplyBody::Results(bytes.iter().map(|b| Arc::from([*b])).collect());
    assert!(answer(&mut asker, &first, 3, results(b"a")).bundles.is_empty(), "it is little");
    let third = answer(&mut asker, &second, 4, results(b"b")).bundles.remove(0);
    assert_eq!(operations(&third), 1);
    let out: Vec<Bundle> = asker.outstanding().map(|(_, bundle)| bundle.clone()).collect();
    assert_eq!(out, std::slice::from_ref(&third));
    let asked = answer(&mut asker, &third, 5, results(b"d"));
    let done = |result: &[u8]| Outcome::Done(Slot(5), Arc::from(result));
    assert_eq!(asked.answers, [(3, done(b"")), (4, done(b"d")), (5, done(b""))]);
}

#[test]
fn results_that_are_too_few_are_nobodys() {
    let mut asker = open();
    let bundle = asker.submit(1, Arc::from([1])).bundles.remove(0);
    let asked = answer(&mut asker, &bundle, 3, ReplyBody::Results(vec![]));
    assert_eq!(asked.answers, [(1, Outcome::Unknown)]);
}

#[test]
fn pauses_grow_up_to_two_seconds() {
    let mut asker = open();
    let bundle = asker.submit(1, Arc::from(vec![0; 1 << 20])).bundles.remove(0);
    let mut said = Vec::new();
    for tick in 1..=100 {
        let asked = asker.tick();
        assert_eq!(asked.alarm, Alarm::Set(RESEND));
        if !asked.bundles.is_empty() {
            assert_eq!(asked.bundles, std::slice::from_ref(&bundle));
            said.push(tick);
        }
    }
    assert_eq!(said, [2, 3, 5, 9, 17, 33, 53, 73, 93]);
}

#[test]
fn a_bundle_is_owned_while_it_is_out() {
    let mut asker = open();
    let bundle = asker.submit(1, Arc::from([1])).bundles.remove(0);
    let digest = bundle.digest(ME, Domain::default());
    assert_eq!(asker.owns(&digest), Some(&bundle));
    let done = answer(&mut asker, &bundle, 3, ReplyBody::Results(vec![Arc::from([])]));
    assert_eq!(done.answers.len(), 1);
    assert_eq!(asker.owns(&digest), None);
    assert_eq!(answer(&mut asker, &bundle, 4, ReplyBody::Stale), Asked::default());
}

fn nonce(bundle: &Bundle) -> u64 {
    match bundle.request {
        Request::Register { nonce } => nonce,
        _ => panic!("no opening"),
    }
}

/// Its clock was ahead in an earlier life, or another process under its key has opened a session since.
#[test]
fn who_is_told_that_its_opening_comes_too_late_opens_a_later_one() {
    let mut asker = asker();
    let opening = asker.submit(1, Arc::from([1])).bundles.remove(0);
    let later = answer(&mut asker, &opening, 1, ReplyBody::Superseded(90)).bundles.remove(0);
    assert!(nonce(&opening) < 90 && nonce(&later) == 91);
    let bundle = answer(&mut asker, &later, 2, ReplyBody::Registered(4)).bundles.remove(0);
    assert_eq!(operations(&bundle), 1, "what waits goes out");
    // After an eviction the next is later still.
    let evicted = answer(&mut asker, &bundle, 3, ReplyBody::NoSession);
    assert_eq!(evicted.answers, [(1, Outcome::Unknown)]);
    assert_eq!(nonce(&asker.submit(2, Arc::from([2])).bundles[0]), 92);
}

#[test]
fn after_the_last_nonce_of_all_nothing_is_opened() {
    let mut asker = asker();
    let opening = asker.submit(1, Arc::from([1])).bundles.remove(0);
    let refused = answer(&mut asker, &opening, 1, ReplyBody::Superseded(u64::MAX));
    assert_eq!(refused.answers, [(1, Outcome::NotAdmitted)]);
    assert!(refused.bundles.is_empty());
    assert_eq!((refused.alarm, asker.unanswered()), (Alarm::Cancel, 0));
}

#[test]
fn a_later_life_begins_with_a_later_nonce_whatever_is_drawn() {
    let nonces = [(0, [255; 32]), (1, [0; 32]), (1, [255; 32]), (1_700_000_000_000, [0; 32])];
    let nonces = nonces.map(|(now, secret)| first_nonce(Time(now), &secret));
    assert!(nonces.is_sorted_by(|earlier, later| earlier < later), "{nonces:?}");
    assert!(first_nonce(Time(u64::MAX), &[255; 32]) > nonces[3]);
}
