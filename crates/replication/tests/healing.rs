//! How replicas heal by themselves: whoever was left behind, whoever is wrong, and what becomes of them meanwhile.

mod cluster;

use cluster::{
    Cluster, Disk, Letter, Message, Record, Snapshot, Tape, Timer, client, events, health,
};
use std::cell::RefCell;
use std::rc::Rc;
use testudo_contracts::{Checkpoint, Ordering as _};
use testudo_core::{Decode, Digest, Encode, Peer, ReplicaId, Slot};
use testudo_replication::{
    Difference, Event, Health, ReplicaMessage, StateAnswer, StateAsk, Tree, Voucher, Work,
};

const LAGGARD: u16 = 3;

/// Time passes: what was lost is said again, and what is missing is asked for.
fn pass(cluster: &mut Cluster, ticks: usize) {
    for _ in 0..ticks {
        cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend));
        for timer in [Timer::Fetch, Timer::Heal, Timer::Checkpoint, Timer::Budget] {
            cluster.fire_all(timer);
        }
    }
}

fn is_to(letter: &Letter, id: u16) -> bool {
    letter.to == ReplicaId(id) && letter.from != Peer::Replica(ReplicaId(id))
}

const fn is_order(letter: &Letter) -> bool {
    matches!(letter.message, ReplicaMessage::Order(_))
}

const fn is_decision(letter: &Letter) -> bool {
    matches!(letter.message, ReplicaMessage::Order(testudo_pbft::Message::Committed(_)))
}

const fn has_nodes(letter: &Letter) -> bool {
    matches!(letter.message, ReplicaMessage::State(StateAnswer::Nodes { .. }))
}

const fn is_state(letter: &Letter) -> bool {
    matches!(letter.message, ReplicaMessage::State(_))
}

fn restored(cluster: &Cluster, id: u16) -> Vec<u64> {
    let slots = events(cluster, id).iter().filter_map(|event| match event {
        Event::Restored(slot) => Some(slot.0),
        _ => None,
    });
    slots.collect()
}

fn executed(cluster: &Cluster, id: u16) -> Vec<u64> {
    let slots = events(cluster, id).iter().filter_map(|event| match event {
        Event::Executed { slot, .. } => Some(slot.0),
        _ => None,
    });
    slots.collect()
}

/// What it found to have been wrong.
fn healed(cluster: &Cluster, id: u16) -> Vec<(u64, Option<Difference>)> {
    let reports = events(cluster, id).iter().filter_map(|event| match event {
        Event::Healed { slot, differing, .. } => Some((slot.0, differing.clone())),
        _ => None,
    });
    reports.collect()
}

/// What a replica's log says that it has signed, however often.
fn signed(cluster: &Cluster, id: u16) -> Vec<(u64, Digest)> {
    let records = cluster.nodes[usize::from(id)].disk.records.iter();
    let signed = records.filter_map(|(_, record)| match record {
        Record::Checkpointed(Checkpoint { slot, state }) => Some((slot.0, *state)),
        _ => None,
    });
    let mut signed: Vec<_> = signed.collect();
    signed.dedup();
    signed
}

fn suspects_nobody(cluster: &Cluster, id: u16) -> bool {
    let is_view = |event: &Event| matches!(event, Event::View(..));
    let is_running = cluster.nodes[usize::from(id)]
        .timers
        .contains_key(&Timer::Order(testudo_pbft::Timer::View));
    !events(cluster, id).iter().any(is_view)
        && !is_running
        && !cluster.replica(id).order().is_changing_view()
}

/// Long enough for one who hears nothing to say how far it is, and to hear how far the others are.
const LONG: usize = 10;

/// Others go on to slot 25 while nothing of the order reaches replica 3; bundles do. Then it hears them again, but nobody
/// gives it decisions.
fn left_behind() -> (Cluster, u64) {
    let mut cluster = Cluster::new(4, Tape::default());
    let session = cluster.open(2);
    cluster.drop = Box::new(|letter| {
        is_to(letter, LAGGARD)
            && (is_order(letter) || matches!(letter.message, ReplicaMessage::Checkpoint(_)))
    });
    cluster.put(session, 1..25);
    assert_eq!(cluster.replica(0).state().slot, Slot(25));
    assert_eq!(cluster.replica(LAGGARD).state().slot, Slot(1));
    assert_eq!(cluster.replica(LAGGARD).status().waiting, 24);
    cluster.drop = Box::new(|letter| is_to(letter, LAGGARD) && is_decision(letter));
    (cluster, session)
}

#[test]
fn whoever_is_left_behind_gets_the_state_without_being_asked() {
    let (mut cluster, session) = left_behind();
    pass(&mut cluster, LONG);
    assert_eq!(restored(&cluster, LAGGARD), [24]);
    assert!(matches!(health(&cluster, LAGGARD)[..], [Health::Behind(_), Health::Well]));
    assert_eq!(healed(&cluster, LAGGARD), [(24, None)], "its state was old, not wrong");
    // What the state covers is settled; the last bundle is in a slot that it has yet to hear of.
    let waiting = cluster.replica(LAGGARD).status().waiting;
    assert!(waiting <= 1, "{waiting} wait");
    let snapshot = cluster.nodes[3].disk.snapshot.as_ref().map(Snapshot::slot);
    assert_eq!(snapshot, Some(Slot(24)), "it is written down at once");
    cluster.drop = Box::new(|_| false);
    pass(&mut cluster, 4);
    cluster.check(25);
    // It votes again: another one is down.
    cluster.stop(1);
    cluster.put(session, 25..30);
    assert_eq!(cluster.replica(0).state().slot, Slot(30));
    assert_eq!(cluster.replica(LAGGARD).state().slot, Slot(30));
    assert!(suspects_nobody(&cluster, LAGGARD));
}

#[test]
fn one_that_is_behind_suspects_nobody_and_says_nothing() {
    let (mut cluster, _) = left_behind();
    cluster.drop =
        Box::new(|letter| is_to(letter, LAGGARD) && (is_decision(letter) || has_nodes(letter)));
    pass(&mut cluster, LONG);
    assert_eq!(cluster.replica(LAGGARD).status().health, Health::Behind(Slot(24)));
    assert_eq!(cluster.replica(LAGGARD).status().waiting, 24);
    assert!(suspects_nobody(&cluster, LAGGARD));
    cluster.heard.clear();
    cluster.say_to(1, LAGGARD, ReplicaMessage::StateAsk(StateAsk::Head));
    assert!(cluster.take_heard(1).is_empty());
    assert!(signed(&cluster, LAGGARD).is_empty());
    // It catches up by decisions: that is as good.
    cluster.drop = Box::new(|letter| is_to(letter, LAGGARD) && has_nodes(letter));
    pass(&mut cluster, 6);
    assert!(restored(&cluster, LAGGARD).is_empty());
    cluster.check(25);
}

#[test]
fn one_that_lost_everything_gets_the_state_too() {
    let (mut cluster, session) = left_behind();
    cluster.stop(LAGGARD);
    cluster.nodes[3].disk = Disk::default();
    cluster.start(LAGGARD);
    pass(&mut cluster, LONG);
    assert_eq!(restored(&cluster, LAGGARD), [24]);
    cluster.drop = Box::new(|_| false);
    pass(&mut cluster, 4);
    cluster.put(session, 25..30);
    pass(&mut cluster, 4);
    cluster.check(30);
    cluster.restart(LAGGARD);
    assert_eq!(cluster.replica(LAGGARD).state().slot, Slot(30), "from its snapshot");
}

/// Replica 3 executes slot 6 wrongly, once.
fn one_wrong() -> (Cluster, u64) {
    let mut services = [Tape::default(); 4];
    services[3].wrong_at = Some(6);
    let mut cluster = Cluster::with(4, services);
    let session = cluster.open(2);
    (cluster, session)
}

#[test]
fn whoever_diverged_heals_and_says_what_was_wrong() {
    let (mut cluster, session) = one_wrong();
    cluster.put(session, 1..10);
    assert_eq!(health(&cluster, 3), [Health::Diverged(Slot(8)), Health::Well]);
    assert_eq!(restored(&cluster, 3), [8]);
    let [(8, Some(Difference { entries, first: Some((tree, key)) }))] = &healed(&cluster, 3)[..]
    else {
        panic!("{:?}", healed(&cluster, 3))
    };
    // Its session remembers what it was wrongly told, and so does the tape.
    assert_eq!((*tree, key[0]), (Tree::System, b'r'));
    assert!((2..=6).contains(entries), "{entries}");
    cluster.check(10);
    assert_eq!(cluster.nodes[3].disk.snapshot.as_ref().map(Snapshot::slot), Some(Slot(8)));
    cluster.put(session, 10..20);
    cluster.check(20);
    cluster.restart(3);
    cluster.check(20);
}

/// It has executed beyond the checkpoint, and past the next, when it learns that it was wrong. What came after is executed
/// again, and what it has signed wrongly is never signed otherwise.
#[test]
fn slots_after_the_checkpoint_execute_again_and_no_digest_is_signed_twice() {
    let (mut cluster, session) = one_wrong();
    let said: Rc<RefCell<Vec<Checkpoint>>> = Rc::default();
    let memory = said.clone();
    cluster.drop = Box::new(move |letter| {
        let ReplicaMessage::Checkpoint(checkpoint) = &letter.message else { return false };
        if letter.from == Peer::Replica(ReplicaId(3)) {
            memory.borrow_mut().push(checkpoint.clone());
        }
        checkpoint.slot > Slot(8) || is_to(letter, 3)
    });
    cluster.put(session, 1..8);
    assert_eq!(cluster.replica(0).status().stable.map(|stable| stable.slot), Some(Slot(8)));
    cluster.put(session, 8..14);
    for _ in 0..LONG {
        cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend));
    }
    assert_eq!(cluster.replica(3).state().slot, Slot(14));
    let before = signed(&cluster, 3);
    assert_eq!(before.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [4, 8, 12]);
    // It is shown the certificate.
    cluster.say_to(1, 0, ReplicaMessage::StateAsk(StateAsk::Head));
    let Some((0, ReplicaMessage::State(StateAnswer::Head(certificate, ..)))) =
        cluster.take_heard(1).pop()
    else {
        panic!("no head")
    };
    let from = Peer::Replica(ReplicaId(0));
    cluster.post(from, Peer::Replica(ReplicaId(3)).into(), ReplicaMessage::Stable(certificate));
    cluster.run();
    assert_eq!(restored(&cluster, 3), [8]);
    let again = executed(&cluster, 3);
    assert_eq!(again[again.len() - 6..], [9, 10, 11, 12, 13, 14]);
    assert!(matches!(healed(&cluster, 3)[..], [(14, Some(Difference { entries: 2.., .. }))]));
    cluster.check(14);
    pass(&mut cluster, 3);
    assert_eq!(signed(&cluster, 3), before, "what was signed stays signed");
    let said = said.borrow();
    assert!(said.iter().all(|said| before.contains(&(said.slot.0, said.state))));
    drop(said);
    cluster.restart(3);
    assert_eq!(signed(&cluster, 3), before);
    cluster.drop = Box::new(|_| false);
    pass(&mut cluster, 3);
    assert_eq!(cluster.replica(3).status().stable.map(|stable| stable.slot), Some(Slot(12)));
    cluster.put(session, 14..20);
    pass(&mut cluster, 3);
    cluster.check(20);
}

/// As long as nobody gives it a state it says nothing of its own, but votes on order: the others cannot do without.
#[test]
fn while_it_is_wrong_it_votes_and_is_silent() {
    let (mut cluster, session) = one_wrong();
    cluster.drop = Box::new(is_state);
    cluster.put(session, 1..10);
    assert_eq!(cluster.replica(3).status().health, Health::Diverged(Slot(8)));
    let (slot, before) = (cluster.replica(3).state().slot, signed(&cluster, 3));
    cluster.heard.clear();
    cluster.stop(1);
    cluster.put(session, 10..15);
    assert_eq!(cluster.replica(0).state().slot, Slot(15), "its votes are needed");
    assert_eq!(cluster.replica(3).state().slot, slot, "and it executes nothing");
    assert_eq!(cluster.replica(3).status().waiting, 0, "nobody waits for what is decided");
    assert!(suspects_nobody(&cluster, 3));
    assert_eq!(signed(&cluster, 3), before);
    assert!(cluster.heard.iter().all(|(from, ..)| *from != ReplicaId(3)));
    for question in [
        ReplicaMessage::StateAsk(StateAsk::Head),
        ReplicaMessage::Follow(testudo_replication::Follow { from: Slot(1), payload: false }),
    ] {
        cluster.say_to(1, 3, question);
    }
    assert!(cluster.take_heard(1).is_empty());
    // A client that asks again is answered by nobody who does not know.
    let again = Cluster::bundle(session, 14, &14_u64.to_le_bytes());
    cluster.say_to(2, 3, ReplicaMessage::Bundle(again));
    assert!(suspects_nobody(&cluster, 3));
    cluster.start(1);
    cluster.drop = Box::new(|_| false);
    pass(&mut cluster, 8);
    assert_eq!(health(&cluster, 3), [Health::Diverged(Slot(8)), Health::Well]);
    cluster.check(15);
}

/// The others go on so far meanwhile that what it had executed is covered by a newer state.
#[test]
fn one_that_heals_late_takes_a_newer_state() {
    let (mut cluster, session) = one_wrong();
    cluster.drop = Box::new(is_state);
    cluster.put(session, 1..30);
    assert_eq!(cluster.replica(0).state().slot, Slot(30));
    assert_eq!(cluster.replica(3).order().executed(), Slot(30), "its window moves on");
    cluster.drop = Box::new(|_| false);
    pass(&mut cluster, 8);
    assert_eq!(restored(&cluster, 3), [28]);
    assert_eq!(healed(&cluster, 3), [(28, None)], "the two states cannot be compared");
    cluster.check(30);
    assert!(suspects_nobody(&cluster, 3));
}

/// A node with a byte changed; none if it could not even be read.
fn forged(answer: &StateAnswer) -> Option<StateAnswer> {
    let StateAnswer::Nodes { slot, tree, nodes } = answer else { return None };
    let forge = |node: &testudo_state::sync::Node| {
        let bytes = node.to_bytes();
        (0..bytes.len()).rev().find_map(|at| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            Decode::from_bytes(&bytes).ok()
        })
    };
    let nodes: Option<Vec<_>> = nodes.iter().map(forge).collect();
    Some(StateAnswer::Nodes { slot: *slot, tree: *tree, nodes: nodes? })
}

#[test]
fn a_source_that_lies_delays_and_does_no_more() {
    let (mut cluster, _) = left_behind();
    let lies: Rc<RefCell<usize>> = Rc::default();
    let count = lies.clone();
    cluster.twist = Box::new(move |letter| {
        let ReplicaMessage::State(answer) = &letter.message else { return None };
        let forged = forged(answer).filter(|_| letter.from == Peer::Replica(ReplicaId(0)))?;
        *count.borrow_mut() += 1;
        Some(ReplicaMessage::State(forged))
    });
    pass(&mut cluster, 8);
    assert!(*lies.borrow() > 0, "it was asked");
    assert_eq!(restored(&cluster, LAGGARD), [24]);
    cluster.drop = Box::new(|_| false);
    pass(&mut cluster, 4);
    cluster.check(25);
}

/// All whom it asks are cut off in the middle, and come back: what was taken is not fetched again.
#[test]
fn a_transfer_goes_on_after_a_break() {
    let mut cluster = Cluster::new(4, Tape::default());
    let session = cluster.open(2);
    let fill = |cluster: &mut Cluster, sequence: u64| {
        let operations =
            (0..200_u64).map(|at| Digest::of_value(&(sequence, at)).0[..].into()).collect();
        let request = testudo_replication::Request::Operations { session, sequence, operations };
        let bundle = testudo_replication::Bundle { replier: ReplicaId(0), request };
        cluster.say(2, ReplicaMessage::Bundle(bundle));
    };
    cluster.drop = Box::new(|letter| is_to(letter, LAGGARD));
    (1..26).for_each(|sequence| fill(&mut cluster, sequence));
    let given: Rc<RefCell<usize>> = Rc::default();
    let count = given.clone();
    let most = Rc::new(RefCell::new(6));
    let limit = most.clone();
    cluster.drop = Box::new(move |letter| {
        let to = is_to(letter, LAGGARD);
        if to && matches!(&letter.message, ReplicaMessage::State(StateAnswer::Nodes { .. })) {
            *count.borrow_mut() += 1;
            return *count.borrow() > *limit.borrow();
        }
        to && is_decision(letter)
    });
    pass(&mut cluster, LONG);
    let before = cluster.replica(LAGGARD).status().transfer.expect("under way");
    assert!(before.target == Slot(24) && before.fetched.nodes > 10, "{before:?}");
    *most.borrow_mut() = usize::MAX;
    pass(&mut cluster, 40);
    assert_eq!(restored(&cluster, LAGGARD), [24]);
    let fetched = events(&cluster, LAGGARD).iter().find_map(|event| match event {
        Event::Healed { fetched, .. } => Some(*fetched),
        _ => None,
    });
    let fetched = fetched.expect("it has healed");
    let bytes =
        cluster.replica(0).state().map.bytes() + cluster.replica(0).state().system.map().bytes();
    assert!(fetched.nodes > before.fetched.nodes);
    assert!(fetched.bytes < bytes * 3 / 2, "{fetched:?} for {bytes} bytes");
}

/// While the state is fetched the others go on to newer checkpoints: the newest becomes the target.
#[test]
fn a_newer_checkpoint_in_the_middle_becomes_the_target() {
    let (mut cluster, session) = left_behind();
    cluster.drop = Box::new(|letter| {
        let is_nodes = matches!(
            &letter.message,
            ReplicaMessage::State(StateAnswer::Nodes { tree: Tree::Service, .. })
        );
        is_to(letter, LAGGARD) && (is_decision(letter) || is_nodes)
    });
    pass(&mut cluster, LONG);
    let target = |cluster: &Cluster| cluster.replica(LAGGARD).status().transfer.map(|it| it.target);
    assert_eq!(target(&cluster), Some(Slot(24)));
    cluster.put(session, 25..33);
    pass(&mut cluster, 4);
    assert_eq!(target(&cluster), Some(Slot(32)));
    cluster.drop = Box::new(|letter| is_to(letter, LAGGARD) && is_decision(letter));
    pass(&mut cluster, 20);
    assert_eq!(restored(&cluster, LAGGARD), [32]);
}

/// A crash in the middle: it begins again with what it has.
#[test]
fn a_crash_in_the_middle_begins_it_again() {
    let (mut cluster, _) = left_behind();
    let drop =
        |letter: &Letter| is_to(letter, LAGGARD) && (is_decision(letter) || is_state(letter));
    cluster.drop = Box::new(drop);
    pass(&mut cluster, LONG);
    cluster.restart(LAGGARD);
    cluster.drop = Box::new(|letter| is_to(letter, LAGGARD) && is_decision(letter));
    pass(&mut cluster, LONG);
    assert_eq!(restored(&cluster, LAGGARD), [24]);
}

/// Bodies of a decided slot that nobody gives: the state covers it.
#[test]
fn a_slot_whose_bodies_nobody_has_is_covered_by_a_state() {
    let mut cluster = Cluster::new(4, Tape::default());
    let session = cluster.open(2);
    cluster.drop = Box::new(|letter| {
        let is_body =
            matches!(letter.message, ReplicaMessage::Bundle(_) | ReplicaMessage::Bodies(_));
        is_to(letter, LAGGARD) && is_body
    });
    cluster.put(session, 1..8);
    pass(&mut cluster, 3);
    assert_eq!(cluster.replica(LAGGARD).state().slot, Slot(1));
    pass(&mut cluster, 30);
    assert_eq!(restored(&cluster, LAGGARD), [8]);
    cluster.check(8);
}

/// One that is always wrong heals again and again, but ever more seldom.
#[test]
fn one_that_is_always_wrong_keeps_nobody_busy() {
    let mut services = [Tape::default(); 4];
    services[3].wrong_from = Some(2);
    let mut cluster = Cluster::with(4, services);
    let session = cluster.open(2);
    for round in 0..100 {
        cluster.put(session, 1 + round * 4..5 + round * 4);
        pass(&mut cluster, 1);
    }
    let times = restored(&cluster, 3).len();
    assert!((4..=9).contains(&times), "{times} times");
    assert_eq!(cluster.replica(0).state().slot, Slot(401));
    assert!(suspects_nobody(&cluster, 3));
}

/// What replicas tell each other when one asks is not for clients' ears, and costs no more than questions do.
#[test]
fn results_are_told_to_fellow_replicas_slot_by_slot() {
    let mut cluster = Cluster::new(4, Tape::default());
    let session = cluster.open(2);
    cluster.put(session, 1..7);
    let heard: Rc<RefCell<Vec<u64>>> = Rc::default();
    let memory = heard.clone();
    cluster.drop = Box::new(move |letter| {
        if let ReplicaMessage::Voucher(Voucher { slot, .. }) = &letter.message {
            memory.borrow_mut().push(slot.0);
        }
        false
    });
    let ask: Message =
        ReplicaMessage::Follow(testudo_replication::Follow { from: Slot(3), payload: true });
    for _ in 0..1000 {
        cluster.post(Peer::Replica(ReplicaId(1)), Peer::Replica(ReplicaId(0)).into(), ask.clone());
    }
    cluster.run();
    let heard = heard.borrow();
    assert_eq!(heard[..6], [3, 4, 5, 6, 7, 3]);
    assert!(heard.len() < 1000);
    assert!(cluster.replica(0).state().system.admits(client(1)));
}

/// A bit flips in the memory. No digest shows it, as they were worked out before; but state is looked through bit by bit.
#[test]
fn what_the_memory_has_garbled_is_found_and_mended() {
    let mut cluster = Cluster::new(4, Tape::default());
    let session = cluster.open(2);
    cluster.put(session, 1..4);
    cluster.holds_work = true;
    cluster.put(session, 4..8);
    let digest = cluster.replica(3).state().digest();
    for (_, work) in &mut cluster.nodes[3].work {
        let Work::Digest(state, _) = work else { panic!("{work:?}") };
        assert!(state.map.garble(b"tape", 3));
        assert_eq!(state.digest(), digest, "no digest shows it");
    }
    cluster.holds_work = false;
    (0..4).for_each(|id| cluster.work(id));
    pass(&mut cluster, 2);
    assert_eq!(health(&cluster, 3), [Health::Diverged(Slot(8)), Health::Well]);
    assert!(suspects_nobody(&cluster, 3));
    cluster.put(session, 8..12);
    pass(&mut cluster, 2);
    cluster.check(12);
    assert!((0..3).all(|id| health(&cluster, id).is_empty()), "nobody else is wrong");
}
