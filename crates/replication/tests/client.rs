//! The client against repliers that a test plays: what it believes, how it retries, and when it gives up.

mod still;

use std::sync::Arc;
use std::time::Duration;
use still::{Nobody, Still, membership};
use testudo_core::{
    Digest, Domain, Effect, Effects, Encode, Past, Peer, Position, Protocol, PublicKey, ReplicaId,
    Slot, Verified, View, limits,
};
use testudo_pbft::Pbft;
use testudo_replication::client::ClientTimer;
use testudo_replication::{
    Bundle, Client, ClientConfig, ClientInput, ClientOutput, Outcome, ReplicaMessage, Reply,
    ReplyBody, Request,
};

const ME: Peer = Peer::Client(PublicKey([7; 32]));

struct Stage {
    client: Client<Pbft>,
    sent: Vec<Bundle>,
    answers: Vec<(u64, Outcome)>,
}

impl Stage {
    fn new() -> Self {
        let config = ClientConfig {
            domain: Domain::default(),
            membership: membership(),
            resend: Duration::from_millis(100),
        };
        let (mut list, mut next) = (Vec::new(), Position(0));
        let client = Client::start(
            config,
            ME,
            Past::none(),
            &mut Effects::new(&mut list, &mut next, &mut Still),
        );
        Self { client, sent: Vec::new(), answers: Vec::new() }
    }

    fn step(&mut self, step: impl FnOnce(&mut Client<Pbft>, &mut Effects<'_, Client<Pbft>>)) {
        let (mut list, mut next) = (Vec::new(), Position(0));
        step(&mut self.client, &mut Effects::new(&mut list, &mut next, &mut Still));
        for effect in list {
            match effect {
                Effect::SendEager(_, ReplicaMessage::Bundle(bundle)) => self.sent.push(bundle),
                Effect::Output(ClientOutput::Answer { ticket, outcome, .. }) => {
                    self.answers.push((ticket, outcome));
                }
                // It asks whether the epoch is over whenever it says something again.
                Effect::SendEager(_, ReplicaMessage::Hello(_)) => {}
                Effect::SetTimer(..) | Effect::CancelTimer(_) => {}
                other => panic!("a client does not {other:?}"),
            }
        }
    }

    fn ask(&mut self, ticket: u64) {
        let operation = Arc::from(ticket.to_le_bytes().as_slice());
        self.step(|client, fx| client.on_input(ClientInput::Submit { ticket, operation }, fx));
    }

    /// Asks for so much that a bundle goes out beside another.
    fn ask_much(&mut self, ticket: u64) {
        let operation = vec![0; 128 << 10].into();
        self.step(|client, fx| client.on_input(ClientInput::Submit { ticket, operation }, fx));
    }

    fn tick(&mut self) {
        self.step(|client, fx| client.on_timer(ClientTimer::Resend, fx));
    }

    /// A replica answers a bundle with what it came to, whole or by its digest.
    fn answer(&mut self, replica: u16, bundle: &Bundle, slot: u64, body: &ReplyBody, whole: bool) {
        let body: Arc<[u8]> = body.to_bytes().into();
        let reply = Reply {
            bundle: bundle.digest(ME, Domain::default()),
            view: View(0),
            slot: Slot(slot),
            results: Digest::of(&body),
            is_final: true,
            body: whole.then_some(body),
        };
        let from = Peer::Replica(ReplicaId(replica));
        let message =
            Verified::seal(ReplicaMessage::Reply(reply), from, Domain::default(), &Nobody);
        self.step(|client, fx| client.on_message(message, fx));
    }

    /// Two replicas, enough for f = 1, answer the last bundle that was sent.
    fn agree(&mut self, bundle: &Bundle, slot: u64, body: &ReplyBody) {
        self.answer(0, bundle, slot, body, true);
        self.answer(1, bundle, slot, body, false);
    }

    fn last(&self) -> Bundle {
        self.sent.last().expect("something was sent").clone()
    }

    /// With a session open.
    fn open() -> Self {
        let mut stage = Self::new();
        stage.ask(1000);
        let opening = stage.last();
        assert!(matches!(opening.request, Request::Register { .. }));
        stage.agree(&opening, 1, &ReplyBody::Registered(5));
        let first = stage.last();
        stage.agree(&first, 2, &results(&["first"]));
        stage.answers.clear();
        stage
    }
}

fn results(results: &[&str]) -> ReplyBody {
    ReplyBody::Results(results.iter().map(|result| Arc::from(result.as_bytes())).collect())
}

fn done(slot: u64, result: &str) -> Outcome {
    Outcome::Done(Slot(slot), Arc::from(result.as_bytes()))
}

#[test]
fn one_replica_is_not_believed_and_two_that_agree_are() {
    let mut stage = Stage::open();
    stage.ask(1);
    let bundle = stage.last();
    stage.answer(3, &bundle, 9, &results(&["a lie"]), true);
    stage.answer(3, &bundle, 9, &results(&["another lie"]), true);
    stage.answer(0, &bundle, 3, &results(&["truth"]), true);
    assert!(stage.answers.is_empty());
    stage.answer(1, &bundle, 3, &results(&["truth"]), false);
    assert_eq!(stage.answers, [(1, done(3, "truth"))]);
}

#[test]
fn equal_results_of_different_slots_do_not_agree() {
    let mut stage = Stage::open();
    stage.ask(1);
    let bundle = stage.last();
    stage.answer(0, &bundle, 3, &results(&["same"]), true);
    stage.answer(1, &bundle, 4, &results(&["same"]), true);
    assert!(stage.answers.is_empty());
}

#[test]
fn when_the_replier_keeps_the_results_back_everybody_is_asked_again() {
    let mut stage = Stage::open();
    stage.ask(1);
    let bundle = stage.last();
    stage.answer(1, &bundle, 3, &results(&["truth"]), false);
    stage.answer(2, &bundle, 3, &results(&["truth"]), false);
    assert!(stage.answers.is_empty(), "the digest is certain, but nobody sent what it is of");
    let before = stage.sent.len();
    stage.tick();
    stage.tick();
    assert_eq!(stage.sent[before..], *std::slice::from_ref(&bundle), "the same bytes again");
    stage.answer(2, &bundle, 3, &results(&["truth"]), true);
    assert_eq!(stage.answers, [(1, done(3, "truth"))]);
    stage.ask(2);
    assert_ne!(stage.last().replier, bundle.replier, "another one is asked from now on");
}

/// A replica forgets replies that fall out of the session's window, so no number is used that would push one out which
/// is not answered.
#[test]
fn a_bundle_that_is_not_answered_holds_the_window() {
    let mut stage = Stage::open();
    stage.ask(1);
    let stuck = stage.last();
    let mut ticket = 2;
    loop {
        let before = stage.sent.len();
        stage.ask_much(ticket);
        if stage.sent.len() == before {
            break;
        }
        let bundle = stage.last();
        stage.agree(&bundle, 10 + ticket, &results(&["x"]));
        ticket += 1;
    }
    let (oldest, newest) = (stuck.sequence(), stage.last().sequence());
    assert_eq!(newest, oldest.map(|oldest| oldest + limits::SESSION_WINDOW - 1));
    stage.agree(&stuck, 99, &results(&["late"]));
    assert!(stage.answers.contains(&(1, done(99, "late"))));
    assert_eq!(stage.last().sequence(), newest.map(|newest| newest + 1), "what waited goes on");
}

#[test]
fn an_evicted_session_leaves_its_operations_unknown_and_another_is_opened() {
    let mut stage = Stage::open();
    stage.ask(1);
    let bundle = stage.last();
    stage.agree(&bundle, 0, &ReplyBody::NoSession);
    assert_eq!(stage.answers, [(1, Outcome::Unknown)]);
    stage.ask(2);
    let opening = stage.last();
    assert!(matches!(opening.request, Request::Register { .. }));
    stage.agree(&opening, 20, &ReplyBody::Registered(6));
    let bundle = stage.last();
    assert!(matches!(bundle.request, Request::Operations { session: 6, sequence: 1, .. }));
    stage.agree(&bundle, 21, &results(&["again"]));
    assert_eq!(stage.answers.last(), Some(&(2, done(21, "again"))));
}

#[test]
fn who_is_not_admitted_is_told_for_everything_that_waits() {
    let mut stage = Stage::new();
    stage.ask(1);
    stage.ask(2);
    let opening = stage.last();
    stage.agree(&opening, 0, &ReplyBody::NotAdmitted);
    assert_eq!(stage.answers, [(1, Outcome::NotAdmitted), (2, Outcome::NotAdmitted)]);
    assert_eq!(stage.client.unanswered(), 0);
}

#[test]
fn an_operation_that_is_too_large_is_not_sent() {
    let mut stage = Stage::open();
    let before = stage.sent.len();
    let operation = vec![0; limits::OPERATION_BYTES + 1].into();
    stage.step(|client, fx| client.on_input(ClientInput::Submit { ticket: 1, operation }, fx));
    assert_eq!(
        (stage.sent.len(), stage.answers.as_slice()),
        (before, &[(1, Outcome::TooLarge)][..])
    );
}

#[test]
fn what_comes_while_a_bundle_is_out_gathers_into_the_next() {
    let mut stage = Stage::open();
    (1..=6).for_each(|ticket| stage.ask(ticket));
    let first = stage.last();
    let operations = |stage: &Stage| match stage.last().request {
        Request::Operations { operations, .. } => operations.len(),
        Request::Register { .. } | Request::Readmit(..) | Request::Convict(_) => {
            panic!("the session is open")
        }
    };
    assert_eq!(operations(&stage), 1);
    stage.agree(&first, 3, &results(&["1"]));
    assert_eq!(operations(&stage), 5);
    assert_eq!(stage.answers, [(1, done(3, "1"))]);
}

/// A slot has its price whatever is in it: little waits for the next one, much goes out beside the first, and nothing
/// makes a third.
#[test]
fn much_goes_out_beside_another_bundle() {
    let mut stage = Stage::open();
    let before = stage.sent.len();
    let out = |stage: &Stage| stage.sent.len() - before;
    stage.ask(1);
    (2..129).for_each(|ticket| stage.ask(ticket));
    assert_eq!(out(&stage), 1);
    stage.ask(129);
    assert_eq!(out(&stage), 2);
    stage.ask_much(130);
    assert_eq!(out(&stage), 2, "two are out");
}

/// A bundle that has to be said again holds nobody up.
#[test]
fn a_late_bundle_does_not_hold_up_what_waits() {
    let mut stage = Stage::open();
    stage.ask(1);
    let late = stage.last();
    (0..2).for_each(|_| stage.tick());
    assert_eq!(stage.last(), late);
    stage.ask(2);
    assert_ne!(stage.last(), late);
}
