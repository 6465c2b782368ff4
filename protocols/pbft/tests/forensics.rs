//! Two of four replicas lie, which is one too many: the other two decide different things. As soon as one of these is shown
//! what the other holds, it convicts both liars.

mod harness;

use harness::{Cluster, batch};
use std::collections::BTreeSet;
use testudo_contracts::{OrderInput, Ordering as _};
use testudo_core::{ReplicaId, Slot, View};
use testudo_pbft::message::{Commit, Committed, PrePrepare, Prepare};
use testudo_pbft::{Message, Timer};

/// The liars, of which the first is the primary of view 0.
const LIARS: [u16; 2] = [0, 3];

/// Replica 1 has decided "a" in the first slot, and replica 2 "b". Neither has heard what the other was told.
fn forked() -> Cluster {
    let mut cluster = Cluster::new(4, 1);
    LIARS.into_iter().for_each(|liar| cluster.corrupt(liar));
    for (to, name) in [(1, "a"), (2, "b")] {
        let (view, slot, batch) = (View(0), Slot(1), batch(name));
        let digest = batch.digest();
        cluster.post(0, to, Message::PrePrepare(PrePrepare { view, slot, batch }));
        cluster.post(3, to, Message::Prepare(Prepare { view, slot, digest }));
        for liar in LIARS {
            cluster.post(liar, to, Message::Commit(Commit { view, slot, digest }));
        }
    }
    cluster.run();
    assert_eq!((cluster.executed(1), cluster.executed(2)), (vec![batch("a")], vec![batch("b")]));
    assert!((1..3).all(|id| convicted(&cluster, id).is_empty()));
    cluster
}

/// Whom a replica has evidence against. That each set convinces a third party, the harness sees to.
fn convicted(cluster: &Cluster, by: usize) -> BTreeSet<ReplicaId> {
    cluster.nodes[by].evidence.iter().map(|evidence| evidence.accused).collect()
}

fn liars() -> BTreeSet<ReplicaId> {
    LIARS.map(ReplicaId).into()
}

#[test]
fn a_view_change_shows_who_signed_both() {
    let mut cluster = forked();
    cluster.wait(&[1, 2], 1);
    (1..3).for_each(|id| cluster.fire(id, Timer::View));
    cluster.run();
    assert_eq!((convicted(&cluster, 1), convicted(&cluster, 2)), (liars(), liars()));
}

#[test]
fn a_decision_shows_who_signed_both() {
    let mut cluster = forked();
    let (view, slot, digest) = (View(0), Slot(1), batch("a").digest());
    let certificate = cluster.commits(&Commit { view, slot, digest }, &[0, 1, 3]);
    let decided = Committed { batch: batch("a"), certificate };
    cluster.post(1, 2, Message::Committed(decided));
    cluster.run();
    assert_eq!(convicted(&cluster, 2), liars());
}

/// The others go on without it, and it takes their state: what it had decided is gone from its log. It asks what they have
/// decided there all the same, one after the other.
#[test]
fn who_is_overtaken_asks_what_the_others_decided() {
    let mut cluster = forked();
    let stable = cluster.checkpoint(8);
    cluster.input(2, OrderInput::Stable(stable.clone()));
    cluster.input(2, OrderInput::Restored(stable));
    cluster.run();
    assert!(convicted(&cluster, 2).is_empty());
    assert!(cluster.core(2).tables().contains(&("slots overtaken in", 1)));
    (0..4 * 8).for_each(|_| cluster.tick());
    assert_eq!(convicted(&cluster, 2), liars());
}

/// Whoever is behind and has decided nothing else convicts nobody by asking.
#[test]
fn who_was_merely_slow_convicts_nobody() {
    let mut cluster = Cluster::new(4, 1);
    cluster.propose(0, "a");
    cluster.run();
    let stable = cluster.checkpoint(8);
    cluster.input(2, OrderInput::Stable(stable.clone()));
    cluster.input(2, OrderInput::Restored(stable));
    (0..4 * 8).for_each(|_| cluster.tick());
    assert!(cluster.core(2).tables().contains(&("slots overtaken in", 1)));
    assert!((0..4).all(|id| convicted(&cluster, id).is_empty()));
}
