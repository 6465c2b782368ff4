//! Exactly once: what sessions admit, remember and forget.

use proptest::prelude::*;
use std::collections::BTreeMap;
use testudo_core::{Digest, PublicKey, Slot, limits};
use testudo_replication::ReplyBody;
use testudo_replication::sessions::{Admission, Remembered, Sessions};

fn client(name: u8) -> PublicKey {
    PublicKey([name; 32])
}

fn digest(name: u64) -> Digest {
    Digest::of(&name.to_le_bytes())
}

fn open(sessions: &mut Sessions, client: PublicKey, nonce: u64) -> u64 {
    let (opening, _) = sessions.register(client, nonce, digest(nonce), Slot(1));
    number(&opening)
}

fn number(opening: &Remembered) -> u64 {
    use testudo_core::Decode;
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
    let mut sessions = Sessions::default();
    let first = open(&mut sessions, client(1), 7);
    assert_eq!(open(&mut sessions, client(1), 7), first);
    assert_ne!(open(&mut sessions, client(2), 7), first, "a nonce is its client's own");
    assert_eq!(sessions.len(), 2);
}

#[test]
fn a_bundle_executes_once_and_its_retry_is_answered_from_memory() {
    let mut sessions = Sessions::default();
    let session = open(&mut sessions, client(1), 7);
    assert_eq!(sessions.admit(client(1), session, 1, digest(1)), Admission::Execute);
    sessions.remember(session, 1, done(1));
    assert_eq!(sessions.admit(client(1), session, 1, digest(1)), Admission::Repeat(done(1)));
}

#[test]
fn another_bundle_under_a_used_number_is_stale() {
    let mut sessions = Sessions::default();
    let session = open(&mut sessions, client(1), 7);
    sessions.remember(session, 1, done(1));
    assert_eq!(
        sessions.admit(client(1), session, 1, digest(2)),
        Admission::Refuse(ReplyBody::Stale)
    );
}

#[test]
fn a_session_is_its_clients_own() {
    let mut sessions = Sessions::default();
    let session = open(&mut sessions, client(1), 7);
    let refused = Admission::Refuse(ReplyBody::NoSession);
    assert_eq!(sessions.admit(client(2), session, 1, digest(1)), refused);
}

/// The rule that session tables without numbers break: after eviction no delayed request of the session executes,
/// not even when the same client opens one with the same nonce again.
#[test]
fn after_eviction_no_request_of_the_session_executes() {
    let mut sessions = Sessions::default();
    let evicted = open(&mut sessions, client(1), 0);
    for nonce in 1..=limits::SESSIONS_PER_CLIENT as u64 {
        open(&mut sessions, client(1), nonce);
    }
    assert_eq!(sessions.len(), limits::SESSIONS_PER_CLIENT);
    let refused = Admission::Refuse(ReplyBody::NoSession);
    assert_eq!(sessions.admit(client(1), evicted, 1, digest(1)), refused);
    let again = open(&mut sessions, client(1), 0);
    assert_ne!(again, evicted);
    assert_eq!(sessions.admit(client(1), evicted, 1, digest(1)), refused);
}

#[test]
fn eviction_takes_the_least_recently_used() {
    let mut sessions = Sessions::default();
    let oldest = open(&mut sessions, client(1), 0);
    let second = open(&mut sessions, client(1), 1);
    for nonce in 2..limits::SESSIONS_PER_CLIENT as u64 {
        open(&mut sessions, client(1), nonce);
    }
    sessions.remember(oldest, 1, done(1));
    open(&mut sessions, client(1), 99);
    assert_eq!(sessions.admit(client(1), oldest, 2, digest(2)), Admission::Execute);
    let refused = Admission::Refuse(ReplyBody::NoSession);
    assert_eq!(sessions.admit(client(1), second, 1, digest(1)), refused);
}

proptest! {
    /// Against a model that remembers everything: a number above the window's floor is executed exactly once.
    #[test]
    fn numbers_execute_once_within_the_window(numbers in prop::collection::vec(1_u64..30, 1..80)) {
        let mut sessions = Sessions::default();
        let session = open(&mut sessions, client(1), 7);
        let mut executed: BTreeMap<u64, Remembered> = BTreeMap::new();
        let mut highest = 0;
        for sequence in numbers {
            let floor = highest.max(sequence.min(highest)).saturating_sub(limits::SESSION_WINDOW);
            match sessions.admit(client(1), session, sequence, digest(sequence)) {
                Admission::Execute => {
                    prop_assert!(sequence > floor);
                    prop_assert!(executed.insert(sequence, done(sequence)).is_none(), "executed twice");
                    sessions.remember(session, sequence, done(sequence));
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
        let mut sessions = Sessions::default();
        let session = open(&mut sessions, client(1), 7);
        let before = sessions.digest();
        sessions.remember(session, sequence, done(sequence));
        prop_assert_ne!(sessions.digest(), before);
        prop_assert_eq!(sessions.clone().digest(), sessions.digest());
    }
}
