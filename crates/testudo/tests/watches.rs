//! Watchers and holders of leases live through every fault of replicas and through every kind of liar: watchers miss
//! nothing and see nothing twice, leases that are kept alive do not expire, and abandoned ones do.

mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::audience::{Audience, LOST, judged};
use support::hosts::{self, Hosts, count, fill};
use support::{Cluster, alone, eventually, is_alive, signal};

/// Puts that are acknowledged before and after each fault.
const BETWEEN: usize = 60;

/// How much later than its TTL a lease may end on a machine that is busy.
const SLACK: Duration = Duration::from_secs(20);

/// How much later it may end when views change meanwhile, as the time of a change of view does not count.
const FAULTS_SLACK: Duration = Duration::from_secs(60);

/// Keys that a gateway has to catch up with, in so many slots that there is a checkpoint among them.
const KEYS: u64 = 20_000;
/// More slots than replicas remember for those who lag: whoever starts then has to fetch a state.
const _: () = assert!(
    KEYS / hosts::FILLED_AT_ONCE
        > testudo_core::limits::RECENT_SLOTS as u64 / 4
            + 2 * testudo_core::limits::CHECKPOINT_INTERVAL
);

/// How often a gateway was given the head of a state, or a part of one.
const STATE_PARTS: &str = "testudo_messages_heard_total{kind=\"state\"}";

/// How long a replica is stopped: longer than a view lasts without progress.
const STOPPED: Duration = Duration::from_secs(3);

/// The process of a replica that runs.
fn process(cluster: &Cluster, id: usize) -> u32 {
    eventually("a replica runs", || cluster.child_of(id).filter(|pid| is_alive(*pid)))
}

/// Kills a replica, and waits until it runs again.
fn kill(cluster: &Cluster, id: usize) {
    let pid = process(cluster, id);
    signal(pid, "KILL");
    eventually("the replica runs again", || {
        cluster.child_of(id).filter(|next| *next != pid && is_alive(*next))
    });
}

/// Every fault in turn, while clients put and watch. A replica that lies counts as the one fault that is survived, so
/// that the cluster may rest while another is gone; it goes on when it is back.
fn live_through_faults(liar: Option<(usize, &str)>) {
    let _alone = alone();
    let assignment = liar.map(|(id, kind)| format!("{id}={kind}"));
    let mut flags = vec!["--ephemeral"];
    if let Some(assignment) = &assignment {
        flags.extend(["--liar", assignment]);
    }
    let cluster = Cluster::up(&flags);
    let liars: Vec<usize> = liar.iter().map(|(id, _)| *id).collect();
    let audience = Audience::gather(&cluster.etcd);
    let kept = audience.grant("kept", 10);
    let renewals = audience.keep(&kept);
    // What becomes of such a lease when nobody renews it.
    let forgotten = audience.grant("forgotten", 10);
    audience.goes_on(BETWEEN);

    kill(&cluster, cluster.primary());
    audience.goes_on(BETWEEN);
    kill(&cluster, cluster.upstream());
    audience.goes_on(BETWEEN);

    for id in [cluster.upstream(), cluster.primary()] {
        let pid = process(&cluster, id);
        signal(pid, "STOP");
        std::thread::sleep(STOPPED);
        signal(pid, "CONT");
        audience.goes_on(BETWEEN);
    }

    let abandoned = audience.grant("abandoned", 3);
    for id in 0..4 {
        kill(&cluster, id);
        audience.goes_on(BETWEEN);
    }
    let expired = audience.deletion(&abandoned);
    assert!(expired >= abandoned.ttl, "a lease of {:?} ended after {expired:?}", abandoned.ttl);
    assert!(
        expired < abandoned.ttl + FAULTS_SLACK,
        "a lease of {:?} lasted {expired:?}",
        abandoned.ttl
    );
    // A lease that is as long and younger has ended: without renewals the one that was kept would have ended, too.
    let expired = audience.deletion(&forgotten);
    assert!(expired >= forgotten.ttl, "a lease of {:?} ended after {expired:?}", forgotten.ttl);
    audience.goes_on(BETWEEN);
    assert!(audience.has_key(&kept), "a lease that was kept alive has ended");
    assert!(audience.left(&kept) > 0);
    let count = renewals.load(Ordering::SeqCst);
    assert!((2..LOST).contains(&count), "{count} renewals");
    audience.judge();
    cluster.agree_but(&liars);
    let said = cluster.said();
    assert!(!said.contains("differs from what the replicas vouch for"), "{said}");
}

#[test]
fn the_judge_tells_wrong_from_right() {
    let (first, second, third) = ((2, "a", 10, None), (3, "b", 11, None), (5, "a", 13, Some(10)));
    assert_eq!(judged(&[first, second, third]), None);
    // A put that nobody knows the outcome of may have been done.
    assert_eq!(judged(&[first, second, (4, "b", 12, Some(11)), third]), None);
    for (seen, what) in [
        (&[first, third][..], "missed 3"),
        (&[first, second], "missed 5"),
        (&[first, second, second, third], "in this order"),
        (&[first, third, second], "in this order"),
        (&[first, second, (4, "b", 11, None), third], "saw this value before"),
        (&[first, second, (4, "b", 99, None), third], "nobody put this"),
        (&[first, second, (5, "a", 13, Some(11))], "the value before is another"),
        (&[first, (3, "a", 11, Some(10)), third], "the value before is another"),
        (&[first, (3, "b", 12, None), third], "at revision 3"),
    ] {
        let verdict = judged(seen).unwrap_or_default();
        assert!(verdict.contains(what), "{seen:?}: {verdict}");
    }
}

#[test]
fn without_a_liar() {
    live_through_faults(None);
}

macro_rules! liars {
    ($($name:ident: $kind:literal at $id:literal;)*) => {$(
        #[test]
        fn $name() {
            live_through_faults(Some(($id, $kind)));
        }
    )*};
}

// Replica 0 is the first primary, and 1 the next.
liars! {
    beside_a_silent_replica: "silent" at 3;
    beside_an_equivocating_replica: "equivocate" at 1;
    beside_a_corrupt_replica: "corrupt" at 0;
    beside_a_stale_replica: "stale" at 2;
    beside_a_random_replica: "random" at 1;
}

#[test]
fn leases_end_on_an_idle_cluster() {
    let _alone = alone();
    let cluster = Cluster::up(&["--ephemeral"]);
    let mut audience = Audience::gather(&cluster.etcd);
    let kept = audience.grant("kept", 60);
    let (short, long) = (audience.grant("short", 2), audience.grant("long", 5));
    audience.goes_on(BETWEEN);
    audience.rest();
    // Nobody asks for anything now but these questions, which are not ordered.
    for lease in [&short, &long] {
        let expired = audience.deletion(lease);
        assert!(expired >= lease.ttl, "a lease of {:?} ended after {expired:?}", lease.ttl);
        assert!(expired < lease.ttl + SLACK, "a lease of {:?} lasted {expired:?}", lease.ttl);
        assert_eq!(audience.left(lease), -1);
        assert!(!audience.has_key(lease));
    }
    assert!(audience.has_key(&kept));
    audience.judge();
    cluster.agree_but(&[]);
}

/// A gateway that starts with much to catch up serves soon.
#[test]
fn a_gateway_catches_up() {
    let _alone = alone();
    let hosts = Hosts::start();
    let gateway = hosts.gateway();
    fill(&hosts.etcd, KEYS);
    assert_eq!(hosts.gateway_metric(STATE_PARTS), 0, "there was nothing to fetch");
    assert_eq!(gateway.stop(), Some(0));
    let started = Instant::now();
    let gateway = hosts.gateway();
    eventually("the gateway serves all keys", || (count(&hosts.etcd)? == KEYS).then_some(()));
    let took = started.elapsed();
    println!("a gateway with {KEYS} keys serves {took:?} after its start");
    // It has not executed all of history, but fetched a state.
    assert!(hosts.gateway_metric(STATE_PARTS) > 0);
    // In an optimized program it is far less.
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(gateway.stop(), Some(0));
}
