//! How slow a primary may be, rule by rule (`pace` in the sources). That the rules together do what they are for is shown in
//! `slow_primary`.

mod harness;

use harness::Cluster;
use std::time::Duration;
use testudo_contracts::{Backlog, OrderInput, Ordering};
use testudo_core::{Message as _, Slot, View};
use testudo_pbft::message::Status;
use testudo_pbft::{Message, Standard, Timer};

type Pbft = Cluster<Standard>;

/// One client waits at these replicas.
fn wait(cluster: &mut Pbft, ids: &[u16], moment: u64) {
    let backlog = Some(Backlog { oldest: moment, newest: moment });
    ids.iter().for_each(|id| cluster.input(*id, OrderInput::Backlog(backlog)));
}

/// The pace timer runs out at these replicas: for a reminder, and again because that did not help.
fn be_late(cluster: &mut Pbft, ids: &[u16]) {
    for _ in 0..2 {
        ids.iter().for_each(|id| cluster.fire(*id, Timer::Pace));
    }
}

fn complaint(view: u64, is_slow: bool) -> Message {
    let (executed, stable, lacks) = (Slot(0), Slot(0), Vec::new());
    Message::Status(Status { view: View(view), executed, stable, lacks, is_slow })
}

fn views(cluster: &Pbft) -> Vec<View> {
    let running = cluster.nodes.iter().filter_map(|node| node.core.as_ref());
    running.map(Ordering::view).collect()
}

/// f complaints end no view, and who complains goes on voting: the other three need it when one is down.
#[test]
fn one_that_complains_alone_goes_on_voting() {
    let mut cluster = Pbft::new(4, 1);
    cluster.crash(3);
    wait(&mut cluster, &[1], 1);
    be_late(&mut cluster, &[1]);
    cluster.run();
    assert_eq!(views(&cluster), [View(0); 3], "f complaints are nothing");
    cluster.propose(0, "a");
    cluster.run();
    (0..3).for_each(|id| assert_eq!(cluster.executed(id), Pbft::names(&["a"])));
    cluster.check();
}

/// f+1 complaints end it for all, those who have no reason to complain among them.
#[test]
fn a_correct_replica_among_those_who_complain_is_enough() {
    let mut cluster = Pbft::new(4, 1);
    wait(&mut cluster, &[1, 2], 1);
    be_late(&mut cluster, &[1, 2]);
    cluster.run();
    assert_eq!(views(&cluster), [View(1); 4]);
    cluster.propose(1, "a");
    cluster.run();
    (0..4).for_each(|id| assert_eq!(cluster.executed(id), Pbft::names(&["a"])));
    cluster.check();
}

/// Liars complain of everybody, of other views too, and again and again: f of them are never enough.
#[test]
fn liars_alone_end_no_view() {
    let mut cluster = Pbft::new(7, 2);
    for liar in [5, 6] {
        cluster.corrupt(liar);
        for to in 0..5 {
            for view in [0, 0, 1, 9] {
                cluster.post(liar, to, complaint(view, true));
            }
        }
    }
    cluster.run();
    assert_eq!(views(&cluster), [View(0); 5]);
    // One correct replica's complaint makes theirs count; it takes that one.
    wait(&mut cluster, &[1], 1);
    be_late(&mut cluster, &[1]);
    cluster.run();
    assert_eq!(views(&cluster), [View(1); 5]);
}

#[test]
fn a_complaint_that_was_taken_back_does_not_count() {
    let mut cluster = Pbft::new(4, 1);
    cluster.corrupt(3);
    (0..3).for_each(|to| cluster.post(3, to, complaint(0, true)));
    (0..3).for_each(|to| cluster.post(3, to, complaint(0, false)));
    cluster.run();
    wait(&mut cluster, &[1], 1);
    be_late(&mut cluster, &[1]);
    cluster.run();
    assert_eq!(views(&cluster), [View(0); 3]);
}

/// A turn that is answered is over, and its timer with it; and a primary has no turn of its own.
#[test]
fn a_primary_that_proposes_is_not_complained_of() {
    let mut cluster = Pbft::new(4, 1);
    let waits = |cluster: &Pbft, id: usize| cluster.nodes[id].timers.contains_key(&Timer::Pace);
    wait(&mut cluster, &[0, 1, 2, 3], 1);
    assert!(!waits(&cluster, 0), "the primary measured itself");
    assert!((1..4).all(|id| waits(&cluster, id)));
    cluster.propose(0, "a");
    cluster.run();
    (1..4).for_each(|id| cluster.input(id, OrderInput::Backlog(None)));
    assert!((1..4).all(|id| !waits(&cluster, id)), "the turn is over");
    cluster.check();
}

/// While two slots are open a primary need not propose more. What it proposes after a turn has begun is no excuse.
#[test]
fn the_clock_waits_for_what_was_proposed_before() {
    let mut cluster = Pbft::new(4, 1);
    let waits = |cluster: &Pbft, id: usize| cluster.nodes[id].timers.contains_key(&Timer::Pace);
    // Nobody hears a commit, so both stay open.
    cluster.drop = Box::new(|letter| letter.message.name() == "commit");
    cluster.propose(0, "a");
    cluster.propose(0, "b");
    cluster.run();
    wait(&mut cluster, &[1], 7);
    assert!(!waits(&cluster, 1), "two are open");

    let mut cluster = Pbft::new(4, 1);
    wait(&mut cluster, &[1], 7);
    cluster.drop = Box::new(|letter| letter.message.name() == "commit");
    cluster.propose(0, "a");
    cluster.propose(0, "b");
    cluster.run();
    assert!(waits(&cluster, 1), "neither was there when the turn began");
}

/// Each view that ends though one complained of it doubles what that one allows the next primary, up to a limit.
#[test]
fn what_was_in_vain_is_not_tried_at_once_again() {
    let mut cluster = Pbft::new(4, 1);
    let mut allowed = Vec::new();
    for view in 0..8_u16 {
        let backups: Vec<u16> = (0..4).filter(|id| *id != view % 4).collect();
        cluster.run();
        wait(&mut cluster, &backups, u64::from(view) + 1);
        allowed.push(cluster.nodes[usize::from(backups[0])].timers[&Timer::Pace]);
        be_late(&mut cluster, &backups);
        cluster.run();
        assert_eq!(views(&cluster), [View(u64::from(view) + 1); 4]);
    }
    let eighth = Duration::from_millis(125);
    assert_eq!(allowed[0], eighth, "nothing is known of rounds");
    assert!(allowed.is_sorted(), "{allowed:?}");
    assert!(allowed[3] >= 4 * eighth, "{allowed:?}");
}
