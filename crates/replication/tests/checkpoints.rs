//! Checkpoints whose digests are computed while the order goes on.

mod cluster;

use cluster::{Cluster, Record, Tape, Timer, client};
use testudo_contracts::Checkpoint;
use testudo_core::{Digest, Slot};
use testudo_replication::{Health, ReplicaMessage, Replicated, StateAnswer, StateAsk, Tree};
use testudo_state::Map;
use testudo_state::sync::{Place, Summary, Sync};

fn put(cluster: &mut Cluster, session: u64, sequences: std::ops::Range<u64>) {
    for sequence in sequences {
        let bundle = Cluster::bundle(session, sequence, &sequence.to_le_bytes());
        cluster.say(2, ReplicaMessage::Bundle(bundle));
    }
}

fn stable(cluster: &Cluster, id: u16) -> Slot {
    cluster.replica(id).status().stable.map_or(Slot(0), |checkpoint| checkpoint.slot)
}

/// What a replica's log says that it has signed.
fn signed(cluster: &Cluster, id: u16) -> Vec<(u64, Digest)> {
    let records = cluster.nodes[usize::from(id)].disk.records.iter();
    let signed = records.filter_map(|(_, record)| match record {
        Record::Checkpointed(Checkpoint { slot, state }) => Some((slot.0, *state)),
        _ => None,
    });
    signed.collect()
}

#[test]
fn the_order_goes_on_while_digests_are_computed() {
    let mut cluster = Cluster::new(4, Tape::default());
    let session = cluster.open(2);
    cluster.holds_work = true;
    put(&mut cluster, session, 1..8);
    cluster.check(8);
    assert_eq!(stable(&cluster, 0), Slot(0));
    assert_eq!(cluster.nodes[0].work.len(), 2, "one for each checkpoint");
    put(&mut cluster, session, 8..9);
    assert_eq!(cluster.replica(0).state().slot, Slot(8), "the window is full");
    for id in 0..4 {
        cluster.work(id);
    }
    assert!((0..4).all(|id| stable(&cluster, id) == Slot(8)));
    // Whose window moved last has missed the votes for the next slot, and asks for the decision.
    (0..10).for_each(|_| cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend)));
    cluster.check(9);
}

/// A certificate that comes before a replica has computed its own digest waits for it.
#[test]
fn what_is_stable_before_the_own_digest_is_known_is_compared_then() {
    let mut cluster = Cluster::new(4, Tape::default());
    let session = cluster.open(2);
    cluster.holds_work = true;
    put(&mut cluster, session, 1..4);
    (1..4).for_each(|id| cluster.work(id));
    assert_eq!((stable(&cluster, 0), stable(&cluster, 1)), (Slot(0), Slot(4)));
    cluster.work(0);
    assert_eq!(stable(&cluster, 0), Slot(4));
}

#[test]
fn a_replica_that_restarts_before_its_digest_is_known_signs_it_once() {
    let mut cluster = Cluster::new(4, Tape::default());
    let session = cluster.open(2);
    cluster.holds_work = true;
    put(&mut cluster, session, 1..4);
    assert_eq!(signed(&cluster, 0), []);
    cluster.restart(0);
    let state = cluster.replica(0).state().digest();
    assert_eq!(signed(&cluster, 0), [(4, state)], "the past is hashed at once");
    cluster.restart(0);
    assert_eq!(signed(&cluster, 0), [(4, state)], "and never signed twice");
    (1..4).for_each(|id| cluster.work(id));
    cluster.fire_all(Timer::Checkpoint);
    assert!((0..4).all(|id| stable(&cluster, id) == Slot(4)));
    cluster.check(4);
}

/// What a replica executes differently after a restart is not signed: it had signed something else.
#[test]
fn no_slot_is_signed_twice_though_its_state_is_another() {
    let mut cluster = Cluster::new(4, Tape::default());
    let session = cluster.open(2);
    put(&mut cluster, session, 1..4);
    let before = signed(&cluster, 3);
    cluster.services[3].wrong_from = Some(2);
    cluster.drop = Box::new(|letter| matches!(letter.message, ReplicaMessage::State(_)));
    cluster.restart(3);
    assert_eq!(signed(&cluster, 3), before);
    assert_eq!(cluster.replica(3).status().health, Health::Diverged(Slot(4)));
    put(&mut cluster, session, 4..8);
    assert_eq!(signed(&cluster, 3), before);
    assert_eq!(stable(&cluster, 0), Slot(8), "the others go on");
}

/// What may have been signed for a slot, and is lost, is not signed again. For others it is.
#[test]
fn a_slot_whose_record_is_lost_is_not_signed_again() {
    for keeps_tag in [true, false] {
        let mut cluster = Cluster::new(4, Tape::default());
        let session = cluster.open(2);
        cluster.drop = Box::new(|letter| matches!(letter.message, ReplicaMessage::Checkpoint(_)));
        put(&mut cluster, session, 1..4);
        assert_eq!(signed(&cluster, 3).len(), 1);
        cluster.stop(3);
        cluster.rot(3, keeps_tag, |record| matches!(record, Record::Checkpointed(_)));
        cluster.start(3);
        cluster.run();
        cluster.drop = Box::new(|_| false);
        cluster.fire_all(Timer::Checkpoint);
        assert!((0..4).all(|id| stable(&cluster, id) == Slot(4)), "the others are a quorum");
        assert_eq!(signed(&cluster, 3), []);
        put(&mut cluster, session, 4..8);
        let slots: Vec<u64> = signed(&cluster, 3).iter().map(|(slot, _)| *slot).collect();
        let others: &[u64] = if keeps_tag { &[8] } else { &[] };
        assert_eq!(slots, others, "its tag was left: {keeps_tag}");
        assert!((0..4).all(|id| stable(&cluster, id) == Slot(8)));
        cluster.check(8);
    }
}

/// A replica that has not been told what it said signs no checkpoint; once it takes part it signs what it has held back.
#[test]
fn nothing_is_signed_before_a_replica_takes_part() {
    let mut cluster = Cluster::new(4, Tape::default());
    let session = cluster.open(2);
    put(&mut cluster, session, 1..3);
    cluster.stop(3);
    let is_question = |letter: &cluster::Letter| {
        let ReplicaMessage::Order(message) = &letter.message else { return false };
        matches!(message, testudo_pbft::Message::Inquiry(_))
    };
    cluster.drop = Box::new(is_question);
    cluster.start(3);
    cluster.run();
    put(&mut cluster, session, 3..4);
    (0..10).for_each(|_| cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend)));
    assert_eq!(cluster.replica(3).state().slot, Slot(4), "it follows");
    cluster.fire_all(Timer::Checkpoint);
    assert_eq!(signed(&cluster, 3), []);
    cluster.drop = Box::new(|_| false);
    cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend));
    put(&mut cluster, session, 4..8);
    assert_eq!(signed(&cluster, 3).last().map(|(slot, _)| *slot), Some(8));
    cluster.check(8);
}

fn served(cluster: &mut Cluster, slot: Option<u64>) -> StateAnswer {
    let ask = slot.map_or(StateAsk::Head, |slot| StateAsk::Nodes {
        slot: Slot(slot),
        tree: Tree::System,
        places: vec![Place::root()],
    });
    cluster.take_heard(1);
    cluster.say_to(1, 0, ReplicaMessage::StateAsk(ask));
    match cluster.take_heard(1).pop() {
        Some((0, ReplicaMessage::State(answer))) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn before_there_is_a_stable_checkpoint_nothing_is_served() {
    let mut cluster = Cluster::new(4, Tape::default());
    assert_eq!(served(&mut cluster, None), StateAnswer::Gone(Slot(0)));
    assert!(cluster.replica(0).state().system.admits(client(1)));
}

/// One map of the state of a slot, node by node.
fn fetch(cluster: &mut Cluster, slot: Slot, tree: Tree, root: Digest, top: &Summary) -> Map {
    let mut sync = Sync::new(root, Map::new());
    sync.take_summary(top).expect("what the head says");
    loop {
        let places = sync.wants(3);
        if places.is_empty() {
            return sync.finish().expect("all is there");
        }
        cluster.say_to(1, 2, ReplicaMessage::StateAsk(StateAsk::Nodes { slot, tree, places }));
        let Some((2, ReplicaMessage::State(StateAnswer::Nodes { nodes, .. }))) =
            cluster.take_heard(1).pop()
        else {
            panic!("no nodes")
        };
        nodes.iter().for_each(|node| sync.take(node).expect("a node that is right"));
    }
}

#[test]
fn a_state_is_fetched_whole_while_the_order_goes_on() {
    let mut cluster = Cluster::new(4, Tape::default());
    let session = cluster.open(2);
    put(&mut cluster, session, 1..5);
    let StateAnswer::Head(certificate, head, summaries) = served(&mut cluster, None) else {
        panic!("a head")
    };
    assert_eq!(certificate.statement(), &Checkpoint { slot: Slot(4), state: head.digest() });
    // Only replica 2 knows that somebody is fetching it.
    cluster.say_to(1, 2, ReplicaMessage::StateAsk(StateAsk::Head));
    put(&mut cluster, session, 5..8);
    assert_eq!(stable(&cluster, 2), Slot(8));
    assert_eq!(served(&mut cluster, Some(3)), StateAnswer::Gone(Slot(3)));
    let system = fetch(&mut cluster, Slot(4), Tree::System, head.system, &summaries.system);
    let service = fetch(&mut cluster, Slot(4), Tree::Service, head.service, &summaries.service);
    let state = Replicated::from_parts(&head, system, service).expect("the parts of the head");
    assert_eq!(state.slot, Slot(4));
    // Nobody asks for it any more.
    (0..65).for_each(|_| cluster.fire_all(Timer::Budget));
    cluster.say_to(
        1,
        2,
        ReplicaMessage::StateAsk(StateAsk::Nodes {
            slot: Slot(4),
            tree: Tree::System,
            places: vec![Place::root()],
        }),
    );
    let Some((2, ReplicaMessage::State(answer))) = cluster.take_heard(1).pop() else {
        panic!("no answer")
    };
    assert_eq!(answer, StateAnswer::Gone(Slot(4)));
    assert!(
        !cluster.fire(2, Timer::Budget) || !cluster.fire(2, Timer::Budget),
        "time stands still"
    );
}
