//! What a start finds to be lost: it costs what it must, for as long as it must, and not once more.

mod cluster;

use cluster::{Cluster, Letter, Node, Record, Tape, Timer};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use testudo_contracts::{Ordering as _, Standing};
use testudo_core::{Effect, Peer, Position, Protocol as _, ReplicaId, Slot, View};
use testudo_pbft::Record as Order;
use testudo_pbft::message::ViewChange;
use testudo_replication::{Health, ReplicaMessage};

const INTERVAL: u64 = 4;

/// The replica whose disk is bad.
const BAD: u16 = 3;

/// Four replicas that write a snapshot of their own only when they have to.
fn busy(services: [Tape; 4]) -> (Cluster, u64) {
    let mut cluster = Cluster::with(INTERVAL, services);
    cluster.config.order.snapshot_bytes = u64::MAX;
    (0..4).for_each(|id| cluster.restart(id));
    let session = cluster.open(2);
    (cluster, session)
}

/// Time passes: what was lost is said again, and what is missing is asked for.
fn pass(cluster: &mut Cluster, ticks: usize) {
    for _ in 0..ticks {
        cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend));
        for timer in [Timer::Fetch, Timer::Heal, Timer::Checkpoint, Timer::Budget] {
            cluster.fire_all(timer);
        }
    }
}

fn lost(cluster: &Cluster, id: u16) -> usize {
    cluster.nodes[usize::from(id)].disk.lost.len()
}

fn first(cluster: &Cluster, id: u16) -> Position {
    cluster.nodes[usize::from(id)].disk.records.first().expect("a log is never empty").0
}

fn standing(cluster: &Cluster, id: u16) -> Standing {
    cluster.replica(id).order().standing()
}

fn is_to(letter: &Letter, id: u16) -> bool {
    letter.to == ReplicaId(id) && letter.from != Peer::Replica(ReplicaId(id))
}

const fn is_testimony(letter: &Letter) -> bool {
    matches!(letter.message, ReplicaMessage::Order(testudo_pbft::Message::Testimony(_)))
}

/// The vote of a slot.
fn vote(slot: u64) -> impl Fn(&Record) -> bool {
    move |record| matches!(record, Record::Order(_, Order::Prepared(one)) if one.slot() == Slot(slot))
}

/// In January a record rots on one replica, with all that says what it was, and it heals. In March another does on the next.
/// Neither matters any more when both start again.
#[test]
fn damage_that_was_found_at_a_start_is_let_go_of() {
    for restarts_within in [false, true] {
        let (mut cluster, session) = busy([Tape::default(); 4]);
        cluster.put(session, 1..10);
        let mut sequence = 10;
        for id in [1, 2] {
            cluster.stop(id);
            cluster.rot(id, false, vote(sequence));
            cluster.start(id);
            cluster.run();
            assert!(cluster.replica(id).status().lost_slots > 0 && cluster.replica(id).is_mute());
            // A window later nothing of it matters, and it is gone, though no snapshot was due; however often it starts till
            // then.
            for _ in 0..8 {
                cluster.put(session, sequence..sequence + 2);
                sequence += 2;
                pass(&mut cluster, 1);
                if restarts_within && lost(&cluster, id) > 0 {
                    cluster.restart(id);
                }
            }
            assert_eq!(lost(&cluster, id), 0, "replica {id} carries it along");
            assert!(!cluster.replica(id).is_mute());
        }
        // A rolling restart, and then power fails everywhere.
        (1..3).for_each(|id| cluster.restart(id));
        (0..4).for_each(|id| cluster.stop(id));
        (0..4).for_each(|id| cluster.start(id));
        cluster.run();
        for id in 0..4 {
            assert_eq!(cluster.replica(id).status().lost_slots, 0, "replica {id}");
            assert!(!cluster.replica(id).is_mute(), "replica {id}");
        }
        cluster.put(session, sequence..sequence + 2 * INTERVAL);
        pass(&mut cluster, 2);
        for _ in 0..4 {
            cluster.fire_all(Timer::Order(testudo_pbft::Timer::View));
            pass(&mut cluster, 2);
        }
        cluster.check(sequence + 2 * INTERVAL);
        assert!(cluster.replica(0).status().stable.is_some_and(|it| it.slot.0 > sequence));
    }
}

/// It has signed a digest in a life in which its state was wrong, and has lost the record of that. It does not forget that it
/// may have.
#[test]
fn who_may_have_signed_a_checkpoint_does_not_forget_it_with_the_rot() {
    let mut services = [Tape::default(); 4];
    services[usize::from(BAD)].wrong_at = Some(6);
    let (mut cluster, session) = busy(services);
    let said: Rc<RefCell<BTreeSet<_>>> = Rc::default();
    let memory = said.clone();
    cluster.drop = Box::new(move |letter| {
        let ReplicaMessage::Checkpoint(checkpoint) = &letter.message else { return false };
        if letter.from == Peer::Replica(ReplicaId(BAD)) && checkpoint.slot == Slot(8) {
            memory.borrow_mut().insert(checkpoint.state);
        }
        checkpoint.slot > Slot(4)
    });
    cluster.put(session, 1..8);
    assert_eq!(cluster.replica(BAD).state().slot, Slot(8));
    assert_eq!(said.borrow().len(), 1);
    cluster.services[usize::from(BAD)].wrong_at = None;
    cluster.stop(BAD);
    cluster.rot(
        BAD,
        true,
        |record| matches!(record, Record::Checkpointed(it) if it.slot == Slot(8)),
    );
    cluster.start(BAD);
    cluster.run();
    pass(&mut cluster, 2);
    // More of the log is bad, and it is found.
    let position = first(&cluster, BAD);
    cluster.rot_while_it_runs(BAD, position);
    for _ in 0..2 {
        cluster.restart(BAD);
        pass(&mut cluster, 3);
        assert_eq!(said.borrow().len(), 1, "two digests of one slot are signed");
    }
    cluster.drop = Box::new(|_| false);
    cluster.put(session, 8..20);
    pass(&mut cluster, 3);
    cluster.check(20);
    assert_eq!(lost(&cluster, BAD), 0, "it goes as soon as it can");
}

/// It may have said a view change that is lost, and knows that until it has found out.
#[test]
fn who_may_have_said_a_view_change_does_not_forget_it_while_it_asks() {
    let (mut cluster, session) = busy([Tape::default(); 4]);
    cluster.put(session, 1..6);
    let said: Rc<RefCell<BTreeMap<View, BTreeSet<String>>>> = Rc::default();
    let memory = said.clone();
    cluster.writes = Box::new(move |id, effect| {
        if let Effect::Persist(_, Record::Order(_, Order::ViewChange(change))) = effect
            && id == BAD
        {
            let ViewChange { view, .. } = change;
            memory.borrow_mut().entry(*view).or_default().insert(format!("{change:?}"));
        }
    });
    // What it waits for nobody else has heard of.
    cluster.drop = Box::new(|letter| letter.from == Peer::Replica(ReplicaId(BAD)));
    cluster.say_to(1, BAD, ReplicaMessage::Bundle(Cluster::bundle(9, 1, b"waits")));
    cluster.say_to(2, BAD, ReplicaMessage::Bundle(Cluster::bundle(session, 6, b"waits")));
    assert!(cluster.fire(BAD, Timer::Order(testudo_pbft::Timer::View)), "it waits");
    cluster.run();
    assert_eq!(said.borrow().len(), 1);
    cluster.stop(BAD);
    cluster.rot(BAD, true, |record| matches!(record, Record::Order(_, Order::ViewChange(_))));
    // Nobody answers it for now, but it hears what is decided.
    cluster.drop = Box::new(|letter| is_to(letter, BAD) && is_testimony(letter));
    cluster.start(BAD);
    cluster.run();
    cluster.put(session, 6..12);
    pass(&mut cluster, 12);
    assert_eq!(standing(&cluster, BAD), Standing::Joining);
    assert!(cluster.replica(BAD).order().stable() > Slot(4), "its base is another");
    let position = first(&cluster, BAD);
    cluster.rot_while_it_runs(BAD, position);
    cluster.drop = Box::new(|_| false);
    cluster.restart(BAD);
    pass(&mut cluster, 3);
    assert_eq!(standing(&cluster, BAD), Standing::Voting);
    let said = said.borrow();
    assert!(said.values().all(|all| all.len() == 1), "two view changes to one view: {said:?}");
    drop(said);
    cluster.put(session, 12..20);
    pass(&mut cluster, 3);
    assert_eq!(lost(&cluster, BAD), 0, "it goes as soon as it can");
}

/// It has signed a checkpoint after a slot whose decision it has lost. That it has is no sign of an old disk, however often it
/// starts before it has the decision again.
#[test]
fn who_has_lost_a_decision_does_not_take_itself_for_an_old_image() {
    let (mut cluster, session) = busy([Tape::default(); 4]);
    // The others' certificate bears its signature, as replica 2's is lost.
    cluster.drop = Box::new(|letter| {
        let ReplicaMessage::Checkpoint(checkpoint) = &letter.message else { return false };
        let is_missed = letter.to == ReplicaId(BAD) || letter.from == Peer::Replica(ReplicaId(2));
        is_missed && checkpoint.slot > Slot(4)
    });
    cluster.put(session, 1..8);
    assert_eq!(cluster.replica(0).order().stable(), Slot(8));
    assert_eq!(cluster.replica(BAD).order().stable(), Slot(4));
    cluster.stop(BAD);
    cluster.rot(
        BAD,
        true,
        |record| matches!(record, Record::Order(_, Order::Decided(one)) if one.slot() == Slot(8)),
    );
    cluster.drop = Box::new(|letter| is_to(letter, BAD) && !is_testimony(letter));
    cluster.start(BAD);
    cluster.run();
    assert_eq!(standing(&cluster, BAD), Standing::Voting);
    let position = first(&cluster, BAD);
    cluster.rot_while_it_runs(BAD, position);
    for _ in 0..2 {
        cluster.restart(BAD);
        assert_eq!(standing(&cluster, BAD), Standing::Voting);
    }
    cluster.drop = Box::new(|_| false);
    pass(&mut cluster, 12);
    cluster.put(session, 8..20);
    pass(&mut cluster, 3);
    cluster.check(20);
    assert_eq!(lost(&cluster, BAD), 0, "it goes as soon as it can");
    assert!((0..4).all(|id| cluster.replica(id).status().health == Health::Well));
}

/// It is found late. By then what it was about is long stable.
#[test]
fn old_damage_costs_nothing() {
    let (mut cluster, session) = busy([Tape::default(); 4]);
    cluster.put(session, 1..30);
    for id in [1, 2] {
        cluster.stop(id);
        cluster.rot(id, false, vote(5));
        cluster.start(id);
        cluster.run();
        assert_eq!(cluster.replica(id).status().lost_slots, 0);
        assert!(!cluster.replica(id).is_mute());
        pass(&mut cluster, 1);
        assert_eq!(lost(&cluster, id), 0);
    }
    cluster.put(session, 30..34);
    cluster.check(34);
}

/// What a snapshot stands for costs nothing, though the log goes back further.
#[test]
fn damage_before_the_snapshot_costs_nothing() {
    let (mut cluster, session) = busy([Tape::default(); 4]);
    cluster.config.order.snapshot_bytes = 0;
    cluster.restart(BAD);
    cluster.put(session, 1..15);
    let before = first(&cluster, BAD);
    let logged = cluster.nodes[usize::from(BAD)].disk.snapshot.as_ref().map(Node::covered);
    assert!(logged.is_some_and(|logged| before < logged), "two stretches lie on the disk");
    let records = &cluster.nodes[usize::from(BAD)].disk.records;
    let hit = records.first().map(|(_, record)| record.clone()).expect("a log is never empty");
    cluster.stop(BAD);
    cluster.rot(BAD, false, |record| *record == hit);
    cluster.start(BAD);
    cluster.run();
    assert_eq!(
        (standing(&cluster, BAD), cluster.replica(BAD).is_mute()),
        (Standing::Voting, false)
    );
    assert_eq!(cluster.replica(BAD).status().lost_slots, 0);
    cluster.put(session, 15..25);
    cluster.check(25);
    assert_eq!(lost(&cluster, BAD), 0);
}
