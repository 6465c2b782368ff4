//! When a vote is cast: the bodies are there, and the clock is plausible at that moment.

mod cluster;

use cluster::{Cluster, Message, Tape, Timer, client};
use std::time::Duration;
use testudo_contracts::Ordering as _;
use testudo_core::{Peer, ReplicaId, Slot, View, limits};
use testudo_replication::{Bundle, Event, ReplicaMessage, Request};

const WITHHELD: u8 = 2;

fn opening() -> Message {
    let request = Request::Register { nonce: 7 };
    ReplicaMessage::Bundle(Bundle { replier: ReplicaId(0), request })
}

/// The primary has proposed a bundle whose body it and its client keep from everybody else.
fn with_a_body_withheld() -> Cluster {
    let mut cluster = Cluster::new(100, Tape::default());
    cluster.open(1);
    cluster.drop = Box::new(|letter| matches!(letter.message, ReplicaMessage::Bodies(_)));
    cluster.say_to(WITHHELD, 0, opening());
    assert!(cluster.nodes.iter().all(|node| offs(&node.events).is_empty()));
    cluster
}

fn offs(events: &[Event]) -> Vec<(Slot, Duration)> {
    let off = |event: &Event| match event {
        Event::Implausible { slot, off, .. } => Some((*slot, *off)),
        _ => None,
    };
    events.iter().filter_map(off).collect()
}

/// The body comes at last, and not from the primary.
fn release(cluster: &mut Cluster) {
    for id in 1..4 {
        cluster.say_to(WITHHELD, id, opening());
    }
}

#[test]
fn a_late_body_is_voted_for_while_the_clock_is_plausible() {
    let mut cluster = with_a_body_withheld();
    cluster.now += limits::CLOCK_BOUND.as_millis() as u64;
    release(&mut cluster);
    cluster.check(2);
    assert!(cluster.nodes.iter().all(|node| offs(&node.events).is_empty()));
}

/// A primary and a client that keeps a body back cannot have a time agreed on long after it was over.
#[test]
fn the_clock_is_judged_when_the_vote_is_cast() {
    let mut cluster = with_a_body_withheld();
    cluster.now += 60_000;
    release(&mut cluster);
    for id in 1..4 {
        let events = &cluster.nodes[id].events;
        assert_eq!(offs(events), [(Slot(2), Duration::from_millis(60_000))], "replica {id}");
    }
    assert!((0..4).all(|id| cluster.replica(id).state().slot == Slot(1)), "nobody voted");
    // The bundle waits, so that primary is removed, and the next one's time is right.
    (1..4).for_each(|id| assert!(cluster.fire(id, Timer::Order(testudo_pbft::Timer::View))));
    cluster.run();
    assert_eq!(cluster.replica(1).order().view(), View(1));
    cluster.check(2);
    assert_eq!(cluster.replica(1).state().time.0, cluster.now);
    assert!(cluster.replica(3).state().system.opening(client(WITHHELD), 7).is_some());
}

/// What a new view repeats was judged before, and is voted for however late it is.
#[test]
fn a_repeated_batch_is_not_judged_by_its_clock() {
    let mut cluster = Cluster::new(100, Tape::default());
    cluster.open(1);
    // It is prepared and goes no further.
    cluster.drop = Box::new(|letter| {
        let ReplicaMessage::Order(message) = &letter.message else { return false };
        matches!(message, testudo_pbft::Message::Commit(_))
            && letter.from != Peer::Replica(letter.to)
    });
    cluster.say(WITHHELD, opening());
    assert!((0..4).all(|id| cluster.replica(id).state().slot == Slot(1)));
    cluster.drop = Box::new(|_| false);
    let proposed = cluster.now;
    cluster.now += 60_000;
    (0..4).for_each(|id| assert!(cluster.fire(id, Timer::Order(testudo_pbft::Timer::View))));
    cluster.run();
    cluster.check(2);
    assert_eq!(cluster.replica(1).state().time.0, proposed);
    assert!(cluster.nodes.iter().all(|node| offs(&node.events).is_empty()));
}
