//! Lanes, batches, room and credit, step by step: the test is the worker.

use super::*;
use crate::testing::{Note, key, verified};
use std::collections::BTreeMap;
use std::future::Future;
use std::task::{Context as TaskContext, Poll, Waker};
use testudo_core::fault::FaultModel;
use testudo_core::{ClusterId, Domain, Encode, Epoch, Incarnation, Member, Membership, ReplicaId};
use testudo_keys::Ed25519Verifier;

/// An inbox whose room a test sets.
struct Counter {
    room: Mutex<BTreeMap<Peer, usize>>,
    delivered: Mutex<Vec<(Peer, u64)>>,
}

impl Sink<Note> for Counter {
    fn room(&self, sender: Peer) -> usize {
        lock(&self.room).get(&sender).copied().unwrap_or(1000)
    }
    fn deliver(&self, via: Peer, messages: Vec<Verified<Note>>) {
        lock(&self.delivered).extend(messages.iter().map(|note| (via, note.message().0)));
    }
}

struct Fixture {
    sink: Arc<Counter>,
    metrics: Arc<Metrics>,
    verification: Arc<Verification<Note>>,
}

fn peer(id: u16) -> Peer {
    Peer::Replica(ReplicaId(id))
}

/// Four replicas, replica i with key i, and one worker that is never started.
fn fixture() -> Fixture {
    let member = |id: u8| Member {
        identity: key(id).public(),
        voting: key(id).public(),
        incarnation: Incarnation(0),
    };
    let membership = Membership::first((0..4).map(member).collect(), FaultModel::byzantine(1));
    let scope = Arc::new(CurrentScope::new(Scope { domain: Domain::default(), membership }));
    let sink = Arc::new(Counter { room: Mutex::default(), delivered: Mutex::default() });
    let metrics = Arc::new(Metrics::new());
    let memo = Memo::new(Arc::new(Ed25519Verifier::new([])), metrics.clone());
    let verification = Verification::new(1, sink.clone(), scope, memo, metrics.clone());
    for id in 0..4 {
        verification.open_channel(peer(id)).unwrap();
    }
    Fixture { sink, metrics, verification }
}

impl Fixture {
    /// Pushes frames; `None` when the reader has to wait.
    fn push(&self, via: Peer, frames: Vec<Bytes>) -> Option<Result<(), Condemned>> {
        let mut frames = frames;
        let mut push = pin!(self.verification.push(via, &mut frames));
        match push.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    /// One round of a worker. False when there is nothing for it.
    fn work(&self) -> bool {
        let taken = self.verification.take_some(&mut lock(&self.verification.state));
        if taken.is_empty() {
            return false;
        }
        for outcome in self.verification.verify(&taken) {
            self.sink.deliver(outcome.via, outcome.believed);
            self.verification.give_back(outcome.via, outcome.wrong);
        }
        true
    }

    fn delivered(&self) -> Vec<(Peer, u64)> {
        std::mem::take(&mut *lock(&self.sink.delivered))
    }
}

fn note(number: u64, from: u16) -> Bytes {
    verified(number, peer(from), &key(from as u8)).signed().to_bytes().into()
}

fn wrong(from: u16) -> Bytes {
    verified(9, peer(from), &key(77)).signed().to_bytes().into()
}

#[test]
fn lanes_take_turns_by_small_portions_and_a_batch_is_checked_at_once() {
    let fixture = fixture();
    let many = 3 * QUANTUM as u64;
    fixture.push(peer(1), (0..many).map(|number| note(number, 1)).collect()).unwrap().unwrap();
    fixture.push(peer(2), vec![note(1, 2)]).unwrap().unwrap();
    assert!(fixture.work());
    let delivered = fixture.delivered();
    assert_eq!(delivered.len(), QUANTUM + 1);
    assert_eq!(delivered.last(), Some(&(peer(2), 1)), "the second lane came up in the first round");
    assert_eq!(fixture.metrics.batches_verified.get(), 1);
    while fixture.work() {}
    let rest: Vec<u64> = fixture.delivered().into_iter().map(|(_, number)| number).collect();
    assert_eq!(rest, (QUANTUM as u64..many).collect::<Vec<_>>(), "in order");
}

#[test]
fn one_wrong_signature_spoils_a_batch_for_nobody() {
    let fixture = fixture();
    fixture.push(peer(1), vec![note(1, 1), wrong(1), note(2, 1)]).unwrap().unwrap();
    fixture.push(peer(2), vec![note(3, 2), note(4, 2)]).unwrap().unwrap();
    while fixture.work() {}
    let delivered = fixture.delivered();
    assert_eq!(delivered, [(peer(1), 1), (peer(1), 2), (peer(2), 3), (peer(2), 4)]);
    assert_eq!(fixture.metrics.rejections("proof"), 1);
    // From now on his frames are checked apart from the others'.
    fixture.push(peer(1), vec![note(5, 1), note(6, 1)]).unwrap().unwrap();
    let batches = fixture.metrics.batches_verified.get();
    while fixture.work() {}
    assert_eq!(fixture.metrics.batches_verified.get(), batches);
    assert_eq!(fixture.delivered().len(), 2);
}

#[test]
fn a_reader_waits_while_its_lane_is_full() {
    let fixture = fixture();
    let fill: Vec<Bytes> = (0..LANE_FRAMES as u64).map(|number| note(number, 1)).collect();
    assert!(fixture.push(peer(1), fill).is_none(), "the lane is full");
    assert!(fixture.push(peer(2), vec![note(1, 2)]).is_some(), "another's is not");
    assert!(fixture.work());
    assert!(fixture.push(peer(1), Vec::new()).is_some(), "there is room again");
}

#[test]
fn a_lane_rests_while_the_inbox_has_no_room_for_it() {
    let fixture = fixture();
    lock(&fixture.sink.room).insert(peer(1), 0);
    fixture.push(peer(1), vec![note(1, 1)]).unwrap().unwrap();
    fixture.push(peer(2), vec![note(2, 2)]).unwrap().unwrap();
    while fixture.work() {}
    assert_eq!(fixture.delivered(), [(peer(2), 2)]);
    fixture.push(peer(1), vec![note(3, 1)]).unwrap().unwrap();
    assert!(!fixture.work(), "it does not come up meanwhile");
    lock(&fixture.sink.room).remove(&peer(1));
    fixture.verification.relieve(&[peer(1)]);
    while fixture.work() {}
    assert_eq!(fixture.delivered(), [(peer(1), 1), (peer(1), 3)]);
}

#[test]
fn whoever_sends_too_much_that_is_wrong_is_shut_out() {
    let fixture = fixture();
    let wrongs: Vec<Bytes> = (0..=CREDIT as usize).map(|_| wrong(1)).collect();
    fixture.push(peer(1), wrongs).unwrap().unwrap();
    while fixture.work() {}
    assert_eq!(fixture.push(peer(1), vec![note(1, 1)]), Some(Err(Condemned)));
    fixture.verification.close_channel(peer(1));
    assert_eq!(fixture.verification.open_channel(peer(1)), Err(Condemned));
    assert!(fixture.verification.open_channel(peer(2)).is_ok());
    assert!(lock(&fixture.verification.state).lanes.contains_key(&peer(1)), "it is remembered");
}

/// A note that counts in another domain.
fn elsewhere(from: u16, domain: Domain) -> Bytes {
    Verified::seal(Note(9, 0), peer(from), domain, &key(from as u8)).signed().to_bytes().into()
}

#[test]
fn frames_of_another_epoch_are_dropped_and_are_nobodys_fault() {
    let fixture = fixture();
    let later = Domain { epoch: Epoch(1), ..Domain::default() };
    let early = (0..10 * CREDIT as usize).map(|_| elsewhere(1, later)).collect();
    fixture.push(peer(1), early).unwrap().unwrap();
    while fixture.work() {}
    assert_eq!(fixture.metrics.rejections("epoch"), 10 * CREDIT as u64);
    fixture.push(peer(1), vec![note(1, 1)]).unwrap().unwrap();
    while fixture.work() {}
    assert_eq!(fixture.delivered(), [(peer(1), 1)]);
    // Another cluster's are not sent here by mistake.
    let foreign = Domain { cluster: ClusterId([1; 16]), ..Domain::default() };
    let wrongs = (0..=CREDIT as usize).map(|_| elsewhere(1, foreign)).collect();
    fixture.push(peer(1), wrongs).unwrap().unwrap();
    while fixture.work() {}
    assert!(fixture.metrics.rejections("domain") > 0);
    assert_eq!(fixture.push(peer(1), vec![note(1, 1)]), Some(Err(Condemned)));
}

#[test]
fn what_is_verified_follows_the_members() {
    let fixture = fixture();
    let scope = fixture.verification.scope.get();
    let mut next = (*scope).clone();
    next.domain.epoch = Epoch(1);
    next.membership.epoch = Epoch(1);
    next.membership.members[1].voting = key(21).public();
    fixture.verification.scope.set(next.clone());
    let say = |seed: u8, domain| -> Bytes {
        Verified::seal(Note(seed.into(), 0), peer(1), domain, &key(seed)).signed().to_bytes().into()
    };
    let frames = vec![
        say(1, scope.domain),
        say(1, next.domain),
        say(21, scope.domain),
        say(21, next.domain),
        say(21, next.domain),
    ];
    fixture.push(peer(1), frames).unwrap().unwrap();
    while fixture.work() {}
    assert_eq!(fixture.delivered(), [(peer(1), 21), (peer(1), 21)]);
    assert_eq!(fixture.metrics.rejections("epoch"), 2);
    assert_eq!(fixture.metrics.rejections("proof"), 1);
}

#[test]
fn lanes_of_strangers_who_have_gone_are_not_kept() {
    let fixture = fixture();
    for number in 0..100 {
        let stranger = Peer::Client(key(number).public());
        fixture.verification.open_channel(stranger).unwrap();
        fixture.verification.close_channel(stranger);
    }
    assert_eq!(lock(&fixture.verification.state).lanes.len(), 4);
}
