//! A service that wants a slot gets one, though nobody asks for anything.

mod cluster;

use cluster::{Cluster, Tape, Timer, client};
use std::time::Duration;
use testudo_contracts::{Moment, Ordering as _};
use testudo_core::{ReplicaId, Slot, View};
use testudo_replication::{Event, ReplicaMessage};

const TICKING: Tape =
    Tape { period: Some(500), panics: false, is_shelf: false, wrong_from: None, wrong_at: None };

fn ticks(cluster: &Cluster, id: u16) -> u64 {
    let ticks = cluster.replica(id).state().map.get(b"ticks");
    ticks.map_or(0, |ticks| u64::from_le_bytes((**ticks).try_into().expect("eight bytes")))
}

/// With a slot executed, so that time has begun.
fn begun() -> Cluster {
    let mut cluster = Cluster::new(100, TICKING);
    cluster.open(1);
    cluster.now += 10;
    cluster.say(
        2,
        ReplicaMessage::Bundle(testudo_replication::Bundle {
            replier: ReplicaId(0),
            request: testudo_replication::Request::Register { nonce: 7 },
        }),
    );
    cluster.check(2);
    cluster
}

#[test]
fn an_idle_cluster_orders_an_empty_batch_when_the_service_is_due() {
    let mut cluster = begun();
    for node in &cluster.nodes {
        let wait = node.timers.get(&Timer::Due);
        assert_eq!(wait, Some(&Duration::from_millis(490)), "counted from the last slot");
    }
    cluster.now += 490;
    cluster.fire_all(Timer::Due);
    cluster.check(3);
    assert!((0..4).all(|id| ticks(&cluster, id) == 1));
    let Some(Event::Executed { batch, .. }) = cluster.nodes[1].events.last() else {
        panic!("nothing was executed")
    };
    assert!(batch.bundles.is_empty());
    let wait = cluster.nodes[0].timers.get(&Timer::Due);
    assert_eq!(wait, Some(&Duration::from_millis(500)), "and so on");
}

#[test]
fn a_primary_that_does_not_order_what_is_due_is_removed() {
    let mut cluster = begun();
    cluster.drop =
        Box::new(|letter| letter.from == ReplicaId(0).into() && letter.to != ReplicaId(0));
    cluster.now += 490;
    cluster.fire_all(Timer::Due);
    assert!((0..4).all(|id| cluster.replica(id).state().slot == Slot(2)));
    (1..4).for_each(|id| assert!(cluster.fire(id, Timer::Order(testudo_pbft::Timer::View))));
    cluster.run();
    for id in 1..4 {
        assert_eq!(cluster.replica(id).order().view(), View(1));
        assert_eq!(cluster.replica(id).state().slot, Slot(3), "the new primary orders it");
    }
    cluster.now += 500;
    cluster.fire_all(Timer::Due);
    assert!((1..4).all(|id| ticks(&cluster, id) == 1), "across the change no time was counted");
}

#[test]
fn whoever_asks_meanwhile_makes_the_slot() {
    let mut cluster = begun();
    cluster.now += 495;
    cluster.say(
        3,
        ReplicaMessage::Bundle(testudo_replication::Bundle {
            replier: ReplicaId(0),
            request: testudo_replication::Request::Register { nonce: 7 },
        }),
    );
    cluster.check(3);
    assert_eq!(ticks(&cluster, 0), 1);
    let wait = cluster.nodes[0].timers.get(&Timer::Due);
    assert_eq!(wait, Some(&Duration::from_millis(495)));
    assert!(cluster.replica(2).state().system.opening(client(3), 7).is_some());
}

#[test]
fn a_service_that_panics_when_asked_is_never_due() {
    let mut cluster = Cluster::new(100, Tape { panics: true, ..TICKING });
    cluster.open(1);
    assert_eq!(cluster.nodes[0].timers.get(&Timer::Due), None);
    cluster.check(1);
}

#[test]
fn time_passes_by_slots_alone() {
    let cluster = begun();
    let mut state = cluster.replica(0).state().clone();
    let guard = &mut |run: &mut dyn FnMut()| {
        run();
        Ok(())
    };
    let batch = testudo_contracts::Batch::null();
    let Moment { elapsed, .. } = state.begin(&TICKING, Slot(3), &batch, guard);
    assert_eq!(elapsed, 0, "a null batch bears no time");
}
