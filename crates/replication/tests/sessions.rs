//! Exactly once: what sessions admit, remember and forget.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use testudo_core::{Decode, Digest, FaultModel, Membership, PublicKey, Slot, limits};
use testudo_replication::ReplyBody;
use testudo_replication::sessions::{Admission, Remembered, System};

fn nobody() -> System {
    System::genesis(&BTreeSet::new(), &Membership::first(Vec::new(), FaultModel::byzantine(0)))
}

fn client(name: u8) -> PublicKey {
    PublicKey([name; 32])
}

fn digest(name: u64) -> Digest {
    Digest::of(&name.to_le_bytes())
}

fn open(sessions: &mut System, client: PublicKey, nonce: u64) -> u64 {
    let (opening, _) = sessions.register(client, nonce, digest(nonce), Slot(1));
    number(&opening)
}

fn number(opening: &Remembered) -> u64 {
    match ReplyBody::from_bytes(&opening.body) {
        Ok(ReplyBody::Registered(number)) => number,
        other => panic!("an opening came to {other:?}"),
    }
}

fn done(name: u64) -> Remembered {
    Remembered::new(digest(name), Slot(name), &ReplyBody::Results(vec![]))
}

#[test]
fn a_retried_opening_gives_the_same_session() {
    let mut sessions = nobody();
    let first = open(&mut sessions, client(1), 7);
    assert_eq!(open(&mut sessions, client(1), 7), first);
    assert_ne!(open(&mut sessions, client(2), 7), first, "a nonce is its client's own");
    assert_eq!(sessions.len(), 2);
}

#[test]
fn a_bundle_executes_once_and_its_retry_is_answered_from_memory() {
    let mut sessions = nobody();
    let session = open(&mut sessions, client(1), 7);
    assert_eq!(sessions.admit(client(1), session, 1, digest(1)), Admission::Execute);
    sessions.remember(session, 1, &done(1));
    assert_eq!(sessions.admit(client(1), session, 1, digest(1)), Admission::Repeat(done(1)));
}

#[test]
fn another_bundle_under_a_used_number_is_stale() {
    let mut sessions = nobody();
    let session = open(&mut sessions, client(1), 7);
    sessions.remember(session, 1, &done(1));
    assert_eq!(
        sessions.admit(client(1), session, 1, digest(2)),
        Admission::Refuse(ReplyBody::Stale)
    );
}

#[test]
fn a_session_is_its_clients_own() {
    let mut sessions = nobody();
    let session = open(&mut sessions, client(1), 7);
    let refused = Admission::Refuse(ReplyBody::NoSession);
    assert_eq!(sessions.admit(client(2), session, 1, digest(1)), refused);
}

/// The rule that session tables without numbers break: after eviction no delayed request of the session executes,
/// not even when the same client opens one with the same nonce again.
#[test]
fn after_eviction_no_request_of_the_session_executes() {
    let mut sessions = nobody();
    let evicted = open(&mut sessions, client(1), 0);
    for nonce in 1..=limits::SESSIONS_PER_CLIENT as u64 {
        open(&mut sessions, client(1), nonce);
    }
    assert_eq!(sessions.len(), limits::SESSIONS_PER_CLIENT);
    let refused = Admission::Refuse(ReplyBody::NoSession);
    assert_eq!(sessions.admit(client(1), evicted, 1, digest(1)), refused);
    open(&mut sessions, client(1), 100);
    assert_eq!(sessions.admit(client(1), evicted, 1, digest(1)), refused);
}

/// A liar that brings up all openings of a client again takes no session from it.
#[test]
fn an_opening_whose_session_was_evicted_opens_nothing_again() {
    let mut sessions = nobody();
    let all = 0..2 * limits::SESSIONS_PER_CLIENT as u64;
    for nonce in all.clone() {
        open(&mut sessions, client(1), nonce);
    }
    let (before, live) = (sessions.digest(), limits::SESSIONS_PER_CLIENT as u64);
    for nonce in all {
        let (came_to, is_new) = sessions.register(client(1), nonce, digest(nonce), Slot(9));
        assert!(!is_new);
        match ReplyBody::from_bytes(&came_to.body) {
            Ok(ReplyBody::Superseded(highest)) => {
                assert_eq!(highest, 2 * live - 1);
                assert!(nonce < live, "its session is evicted");
            }
            Ok(ReplyBody::Registered(number)) => {
                assert!(nonce >= live, "its session is open");
                assert_eq!(sessions.admit(client(1), number, 1, digest(1)), Admission::Execute);
            }
            other => panic!("an opening came to {other:?}"),
        }
    }
    assert_eq!(sessions.digest(), before);
    open(&mut sessions, client(2), 0);
}

#[test]
fn eviction_takes_the_least_recently_used() {
    let mut sessions = nobody();
    let oldest = open(&mut sessions, client(1), 0);
    let second = open(&mut sessions, client(1), 1);
    for nonce in 2..limits::SESSIONS_PER_CLIENT as u64 {
        open(&mut sessions, client(1), nonce);
    }
    sessions.remember(oldest, 1, &done(1));
    open(&mut sessions, client(1), 99);
    assert_eq!(sessions.admit(client(1), oldest, 2, digest(2)), Admission::Execute);
    let refused = Admission::Refuse(ReplyBody::NoSession);
    assert_eq!(sessions.admit(client(1), second, 1, digest(1)), refused);
}

proptest! {
    /// Against a model that remembers everything: a number above the window's floor is executed exactly once.
    #[test]
    fn numbers_execute_once_within_the_window(numbers in prop::collection::vec(1_u64..30, 1..80)) {
        let mut sessions = nobody();
        let session = open(&mut sessions, client(1), 7);
        let mut executed: BTreeMap<u64, Remembered> = BTreeMap::new();
        let mut highest = 0;
        for sequence in numbers {
            let floor = highest.max(sequence.min(highest)).saturating_sub(limits::SESSION_WINDOW);
            match sessions.admit(client(1), session, sequence, digest(sequence)) {
                Admission::Execute => {
                    prop_assert!(sequence > floor);
                    prop_assert!(executed.insert(sequence, done(sequence)).is_none(), "executed twice");
                    sessions.remember(session, sequence, &done(sequence));
                    highest = highest.max(sequence);
                }
                Admission::Repeat(remembered) => prop_assert_eq!(Some(&remembered), executed.get(&sequence)),
                Admission::Refuse(body) => {
                    prop_assert_eq!(body, ReplyBody::Stale);
                    prop_assert!(sequence <= floor);
                }
            }
        }
    }

    /// The table is part of the replicated state, so whatever changes it changes its digest.
    #[test]
    fn every_change_shows_in_the_digest(sequence in 1_u64..100) {
        let mut sessions = nobody();
        let session = open(&mut sessions, client(1), 7);
        let before = sessions.digest();
        sessions.remember(session, sequence, &done(sequence));
        prop_assert_ne!(sessions.digest(), before);
        prop_assert_eq!(sessions.clone().digest(), sessions.digest());
    }
}

/// An evicted session leaves nothing behind, so that what sessions take is bounded.
#[test]
fn eviction_leaves_nothing_behind() {
    let mut sessions = nobody();
    let evicted = open(&mut sessions, client(1), 0);
    (1..=20).for_each(|sequence| sessions.remember(evicted, sequence, &done(sequence)));
    let mut kept = nobody();
    for nonce in 1..=limits::SESSIONS_PER_CLIENT as u64 {
        open(&mut sessions, client(1), nonce);
        open(&mut kept, client(1), nonce);
    }
    assert_eq!(sessions.len(), limits::SESSIONS_PER_CLIENT);
    assert_eq!(sessions.map().len(), kept.map().len());
}

/// Whoever opens one session too many for all pushes out the one that was used least recently, whosever it is.
#[test]
fn sessions_are_bounded_in_all() {
    let mut sessions = nobody();
    let key = |name: u64| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&name.to_le_bytes());
        PublicKey(key)
    };
    for name in 0..limits::SESSIONS as u64 {
        assert_eq!(open(&mut sessions, key(name), 0), name + 1);
    }
    sessions.remember(1, 1, &done(1));
    open(&mut sessions, key(1 << 40), 0);
    assert_eq!(sessions.len(), limits::SESSIONS);
    assert_eq!(sessions.admit(key(0), 1, 2, digest(2)), Admission::Execute);
    let refused = Admission::Refuse(ReplyBody::NoSession);
    assert_eq!(sessions.admit(key(1), 2, 1, digest(2)), refused);
}

/// Replies that are large are forgotten before the window is full, the latest excepted.
#[test]
fn replies_are_bounded_in_bytes() {
    let large = |name: u64| {
        let result = vec![0; limits::SESSION_REPLY_BYTES / 2].into();
        Remembered::new(digest(name), Slot(name), &ReplyBody::Results(vec![result]))
    };
    let mut sessions = nobody();
    let session = open(&mut sessions, client(1), 7);
    (1..=3).for_each(|sequence| sessions.remember(session, sequence, &large(sequence)));
    let stale = Admission::Refuse(ReplyBody::Stale);
    assert_eq!(sessions.admit(client(1), session, 1, digest(1)), stale);
    assert_eq!(sessions.admit(client(1), session, 2, digest(2)), stale);
    assert_eq!(sessions.admit(client(1), session, 3, digest(3)), Admission::Repeat(large(3)));
}
