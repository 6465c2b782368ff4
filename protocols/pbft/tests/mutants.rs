//! Each broken rule is found out by an attack that the right rules stand. An attack is a trace, the same for both.

mod broken;
mod harness;

use broken::{DropsPrepared, LowestView, ShortQuorum, TrustsPrimary};
use harness::{Cluster, Letter, batch};
use std::collections::BTreeSet;
use testudo_contracts::{Batch, Ordering as _};
use testudo_core::{ReplicaId, Slot, View};
use testudo_pbft::message::{Attested, Commit, NewView, PrePrepare, Prepare, Slots, ViewChange};
use testudo_pbft::{Message, Pbft, Rules, Standard, Timer};
use testudo_sim::conformance::{Seeds, conform};
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::{Misconduct, Plan};

/// What correct replicas executed in the first slot: more than one batch is a violation of agreement.
fn first_slots<R: Rules>(cluster: &Cluster<R>) -> usize {
    let correct = cluster.nodes.iter().filter(|node| !node.is_faulty);
    let first = correct.filter_map(|node| node.executed.get(&Slot(1)));
    first.map(Batch::digest).collect::<BTreeSet<_>>().len()
}

fn say_all<R: Rules>(cluster: &mut Cluster<R>, from: u16, to: u16, view: u64, name: &str) {
    let (view, slot, batch) = (View(view), Slot(1), batch(name));
    let digest = batch.digest();
    cluster.post(from, to, Message::PrePrepare(PrePrepare { view, slot, batch }));
    cluster.post(from, to, Message::Prepare(Prepare { view, slot, digest }));
    cluster.post(from, to, Message::Commit(Commit { view, slot, digest }));
}

/// A primary says one thing to one replica, another to the next.
fn two_faces<R: Rules>() -> usize {
    let mut cluster = Cluster::<R>::new(4, 1);
    cluster.corrupt(0);
    say_all(&mut cluster, 0, 1, 0, "a");
    say_all(&mut cluster, 0, 2, 0, "b");
    cluster.run();
    first_slots(&cluster)
}

#[test]
fn a_short_quorum_is_found_out() {
    assert_eq!(two_faces::<ShortQuorum>(), 2);
    assert!(two_faces::<Standard>() <= 1);
}

fn isolate<R: Rules>(cluster: &mut Cluster<R>, whom: u16) {
    cluster.drop = Box::new(move |letter: &Letter| {
        letter.from != letter.to && (letter.from == ReplicaId(whom) || letter.to == ReplicaId(whom))
    });
}

/// Only one replica learns that the first slot is decided, and is cut off; the others change the view.
fn forgotten_decision<R: Rules>() -> usize {
    let mut cluster = Cluster::<R>::new(4, 1);
    cluster.drop = Box::new(|letter: &Letter| {
        matches!(letter.message, Message::Commit(_)) && letter.to != ReplicaId(3)
    });
    cluster.propose(0, "a");
    cluster.run();
    assert_eq!(cluster.executed(3), [batch("a")]);
    isolate(&mut cluster, 3);
    cluster.wait(&[0, 1, 2], 1);
    (0..3).for_each(|id| cluster.fire(id, Timer::View));
    cluster.run();
    cluster.propose(1, "b");
    cluster.run();
    assert!(!cluster.executed(0).is_empty());
    first_slots(&cluster)
}

#[test]
fn dropping_prepared_certificates_is_found_out() {
    assert_eq!(forgotten_decision::<DropsPrepared>(), 2);
    assert_eq!(forgotten_decision::<Standard>(), 1);
}

/// The primary of the next view is the adversary's, and leaves out what the view changes hold.
fn lying_new_view<R: Rules>() -> usize {
    let mut cluster = Cluster::<R>::new(4, 1);
    cluster.drop = Box::new(|letter: &Letter| {
        matches!(letter.message, Message::Commit(_)) && letter.to != ReplicaId(3)
    });
    cluster.propose(0, "a");
    cluster.run();
    assert_eq!(cluster.executed(3), [batch("a")]);
    cluster.corrupt(1);
    isolate(&mut cluster, 3);
    cluster.wait(&[0, 2], 1);
    [0, 2].into_iter().for_each(|id| cluster.fire(id, Timer::View));
    let change = |cluster: &Cluster<R>, id: u16| {
        let mut said = cluster.nodes[usize::from(id)].said.iter();
        let found = said.find_map(|message| match message {
            Message::ViewChange(change) => Some(change.clone()),
            _ => None,
        });
        let change = found.unwrap_or(ViewChange {
            view: View(1),
            stable: None,
            prepared: Vec::new(),
            lost: Slots::none(),
        });
        let sealed = cluster.seal(id, Message::ViewChange(change.clone()));
        Attested::of(&sealed, change).expect("a view change is signed")
    };
    let changes = [0, 1, 2].map(|id| change(&cluster, id)).to_vec();
    let ordered = vec![(Slot(1), batch("b"))];
    let new_view = NewView { view: View(1), changes, ordered };
    for to in [0, 2] {
        cluster.post(1, to, Message::NewView(new_view.clone()));
        let digest = batch("b").digest();
        let (view, slot) = (View(1), Slot(1));
        cluster.post(1, to, Message::Prepare(Prepare { view, slot, digest }));
        cluster.post(1, to, Message::Commit(Commit { view, slot, digest }));
    }
    cluster.run();
    first_slots(&cluster)
}

#[test]
fn not_computing_the_new_view_again_is_found_out() {
    assert_eq!(lying_new_view::<TrustsPrimary>(), 2);
    assert_eq!(lying_new_view::<Standard>(), 1);
}

/// Replica 1 holds a certificate of view 0 for a batch that was not decided; in view 2 another is, and only replica 3
/// learns it. View 3 sees both certificates.
fn two_certificates<R: Rules>() -> usize {
    let mut cluster = Cluster::<R>::new(4, 1);
    cluster.corrupt(0);
    cluster.drop = Box::new(|letter: &Letter| match letter.message {
        Message::Prepare(_) => letter.to != ReplicaId(1),
        Message::Commit(_) => true,
        _ => false,
    });
    say_all(&mut cluster, 0, 1, 0, "a");
    say_all(&mut cluster, 0, 2, 0, "a");
    cluster.run();
    // View 1 is skipped; view 2 begins from the changes of 0, 2 and 3, none of whom holds a certificate.
    let empty = |view| ViewChange {
        view: View(view),
        stable: None,
        prepared: Vec::new(),
        lost: Slots::none(),
    };
    isolate(&mut cluster, 1);
    for view in [1, 2] {
        for to in [2, 3] {
            cluster.post(0, to, Message::ViewChange(empty(view)));
        }
        cluster.wait(&[2, 3], view);
        [2, 3].into_iter().for_each(|id| cluster.fire(id, Timer::View));
        cluster.run();
    }
    assert!(!cluster.core(2).is_changing_view() && cluster.core(2).view() == View(2));
    cluster.drop = Box::new(|letter: &Letter| {
        let cut = letter.from == ReplicaId(1) || letter.to == ReplicaId(1);
        let commit = matches!(letter.message, Message::Commit(_));
        letter.from != letter.to && (cut || (commit && letter.to == ReplicaId(2)))
    });
    cluster.propose(2, "b");
    let digest = batch("b").digest();
    for to in [2, 3] {
        let (view, slot) = (View(2), Slot(1));
        cluster.post(0, to, Message::Prepare(Prepare { view, slot, digest }));
        cluster.post(0, to, Message::Commit(Commit { view, slot, digest }));
    }
    cluster.run();
    assert_eq!((cluster.executed(2).len(), cluster.executed(3)), (0, vec![batch("b")]));
    // View 3: replica 3 leads from the changes of 0, 1 and itself, and from its own knows the certificate of view 2.
    cluster.drop = Box::new(|letter: &Letter| {
        let change = matches!(letter.message, Message::ViewChange(_));
        change && (letter.from, letter.to) == (ReplicaId(2), ReplicaId(3))
    });
    for to in [1, 2, 3] {
        cluster.post(0, to, Message::ViewChange(empty(3)));
    }
    cluster.wait(&[2, 3], 3);
    [2, 3].into_iter().for_each(|id| cluster.fire(id, Timer::View));
    cluster.run();
    assert!([1, 2].iter().all(|id| cluster.core(*id).installed_view() == View(3)));
    for to in [1, 2] {
        let (view, slot, digest) = (View(3), Slot(1), batch("a").digest());
        cluster.post(0, to, Message::Prepare(Prepare { view, slot, digest }));
        cluster.post(0, to, Message::Commit(Commit { view, slot, digest }));
    }
    cluster.run();
    first_slots(&cluster)
}

#[test]
fn taking_the_lowest_view_is_found_out() {
    assert_eq!(two_certificates::<Standard>(), 1);
    assert_eq!(two_certificates::<LowestView>(), 2);
}

/// The rule that is broken first in each of some runs of the simulator, which knows no traces.
fn broken_in_the_simulator<R: Rules>() -> Vec<&'static str> {
    let plan = Plan::default().with_liar(Misconduct::Equivocate);
    let make = Replicated::<Pbft<R>, Lore>::default;
    let failures = conform(make, &Seeds::fixed(3), &[plan]).failures;
    let first = failures.iter().filter_map(|report| report.violations.first());
    first.map(|violation| violation.oracle).collect()
}

/// The simulator finds out those that need no conspiracy of a liar with the network, by what each does wrong: a certificate
/// of a short quorum is refused by everybody who counts its signatures, and a new view that drops what was prepared by
/// everybody who computes it again, so that no view begins any more.
#[test]
fn the_simulator_finds_the_plain_ones() {
    assert_eq!(broken_in_the_simulator::<ShortQuorum>(), ["honesty"; 3]);
    assert_eq!(broken_in_the_simulator::<DropsPrepared>(), ["liveness"; 3]);
    assert_eq!(broken_in_the_simulator::<Standard>(), [""; 0]);
}
