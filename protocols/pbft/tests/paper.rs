//! The paper, claim by claim. Sections are those of Castro and Liskov, "Practical Byzantine Fault Tolerance" (OSDI
//! 1999), unless another source is named.

mod harness;

use harness::{Cluster, batch};
use std::time::Duration;
use testudo_contracts::Waiting;
use testudo_contracts::{Batch, Freshness, OrderInput, Ordering, ReplyRule, ReplyVote, Verdict};
use testudo_core::{Digest, Message as _, ReplicaId, Slot, View};
use testudo_pbft::message::{
    Attested, Commit, Committed, NewView, PrePrepare, Prepare, Prepared, Slots, ViewChange,
};
use testudo_pbft::safety::{self, Rules as _};
use testudo_pbft::{Message, PROFILE, Reply, Standard, Standing, Timer};

type Pbft = Cluster<Standard>;

fn pre_prepare(view: u64, slot: u64, name: &str) -> Message {
    Message::PrePrepare(PrePrepare { view: View(view), slot: Slot(slot), batch: batch(name) })
}

fn prepare(view: u64, slot: u64, name: &str) -> Prepare {
    Prepare { view: View(view), slot: Slot(slot), digest: batch(name).digest() }
}

fn commit(view: u64, slot: u64, name: &str) -> Commit {
    Commit { view: View(view), slot: Slot(slot), digest: batch(name).digest() }
}

/// Sections 4.1 and 4.2: what the primary proposes is executed by all, in order, in three phases.
#[test]
fn normal_case_for_every_n() {
    for (n, f) in [(4, 1), (5, 1), (6, 1), (7, 2), (1, 0), (2, 0), (3, 0)] {
        let mut cluster = Pbft::new(n, f);
        let between = |cluster: &Pbft| cluster.wire.iter().filter(|l| l.from != l.to).count();
        cluster.propose(0, "a");
        let mut messages = 0;
        while !cluster.wire.is_empty() {
            let letter = cluster.wire.remove(0);
            messages += usize::from(letter.from != letter.to);
            assert!(cluster.deliver(letter));
        }
        assert_eq!(between(&cluster), 0);
        assert_eq!(messages, (PROFILE.messages)(usize::from(n)), "messages for n={n}");
        cluster.propose(0, "b");
        cluster.propose(0, "c");
        cluster.run();
        for id in 0..n {
            assert_eq!(cluster.executed(id), Pbft::names(&["a", "b", "c"]), "n={n}, replica {id}");
            assert_eq!(cluster.core(id).open_slots(), 0);
        }
        cluster.check();
    }
}

/// Section 4.2: whatever the order of arrival, execution is in the order of slots.
#[test]
fn executes_in_order_of_slots() {
    let mut cluster = Pbft::new(4, 1);
    for name in ["a", "b", "c"] {
        cluster.propose(0, name);
    }
    while let Some(letter) = cluster.wire.pop() {
        cluster.deliver(letter);
    }
    cluster.tick();
    (0..4).for_each(|id| assert_eq!(cluster.executed(id), Pbft::names(&["a", "b", "c"])));
    cluster.check();
}

/// Architecture, "ordering": the first fresh batch of a view is judged as such, later ones as later.
#[test]
fn freshness_is_told() {
    let mut cluster = Pbft::new(4, 1);
    cluster.propose(0, "a");
    cluster.propose(0, "b");
    cluster.run();
    for node in &cluster.nodes {
        let asked: Vec<_> = node.asked.iter().map(|(_, slot, _, fresh)| (slot.0, *fresh)).collect();
        assert_eq!(asked, [(1, Freshness::First), (2, Freshness::Later)]);
    }
}

/// A vote is cast only when the layer above has judged, and only once.
#[test]
fn votes_only_for_what_was_judged() {
    let mut cluster = Pbft::new(4, 1);
    cluster.nodes[1].judges = false;
    cluster.propose(0, "a");
    cluster.run();
    let prepares = |cluster: &Pbft| {
        let said = cluster.nodes[1].said.iter();
        said.filter(|message| matches!(message, Message::Prepare(_))).count()
    };
    assert_eq!(prepares(&cluster), 0);
    // The others are a quorum without it, and it learns what they decided.
    assert_eq!(cluster.executed(1), Pbft::names(&["a"]));
    let judged = |digest| OrderInput::Judged { view: View(0), slot: Slot(1), batch: digest };
    cluster.input(1, judged(batch("other").digest()));
    assert_eq!(prepares(&cluster), 0);
    cluster.input(1, judged(batch("a").digest()));
    cluster.input(1, judged(batch("a").digest()));
    assert_eq!(prepares(&cluster), 1);
    cluster.check();
}

/// Section 4.2: prepared needs 2f prepares from different backups beside the pre-prepare. Neither a second prepare of
/// one backup nor the primary's counts, nor one for another digest, view or slot.
#[test]
fn prepared_counts_different_backups() {
    let mut cluster = Pbft::new(7, 2);
    cluster.corrupt(0);
    cluster.corrupt(2);
    cluster.drop = Box::new(|letter| !matches!(letter.from.0, 0 | 2));
    let commits = |cluster: &Pbft| {
        let said = cluster.nodes[1].said.iter();
        said.filter(|message| matches!(message, Message::Commit(_))).count()
    };
    cluster.post(0, 1, pre_prepare(0, 1, "a"));
    cluster.post(0, 1, Message::Prepare(prepare(0, 1, "a")));
    cluster.run();
    let say = |cluster: &mut Pbft, from: u16, vote: Prepare| {
        let letter = {
            cluster.post(from, 1, Message::Prepare(vote));
            cluster.wire.pop().expect("it was posted")
        };
        assert!(cluster.deliver(letter));
    };
    // q = 5: the primary's pre-prepare and four prepares. Its own prepare does not come back to it here.
    say(&mut cluster, 2, prepare(0, 1, "a"));
    say(&mut cluster, 2, prepare(0, 1, "a"));
    say(&mut cluster, 3, prepare(0, 1, "b"));
    say(&mut cluster, 4, prepare(1, 1, "a"));
    say(&mut cluster, 4, prepare(0, 2, "a"));
    say(&mut cluster, 4, prepare(0, 1, "a"));
    say(&mut cluster, 5, prepare(0, 1, "a"));
    assert_eq!(commits(&cluster), 0);
    say(&mut cluster, 6, prepare(0, 1, "a"));
    assert_eq!(commits(&cluster), 1);
}

/// Section 4.2: a pre-prepare counts only from the primary of its view, in that view, within the watermarks.
#[test]
fn pre_prepare_outside_the_rules_is_refused() {
    let mut cluster = Pbft::new(4, 1);
    let letter = |cluster: &mut Pbft, from, message| {
        cluster.post(from, 1, message);
        cluster.wire.pop().expect("it was posted")
    };
    let wrong = letter(&mut cluster, 2, pre_prepare(0, 1, "a"));
    assert!(!cluster.deliver(wrong), "not from the primary");
    let zero = letter(&mut cluster, 0, pre_prepare(0, 0, "a"));
    assert!(!cluster.deliver(zero), "slots are counted from 1");
    for message in [pre_prepare(0, 17, "a"), pre_prepare(4, 1, "a"), pre_prepare(0, u64::MAX, "a")]
    {
        let letter = letter(&mut cluster, 0, message);
        assert!(cluster.deliver(letter), "it is well-formed");
    }
    assert!(cluster.nodes[1].asked.is_empty());
    let last = letter(&mut cluster, 0, pre_prepare(0, 16, "a"));
    assert!(cluster.deliver(last));
    assert_eq!(cluster.nodes[1].asked.len(), 1);
}

/// Section 4.3: a stable checkpoint moves the watermarks.
#[test]
fn window_moves_with_stable_checkpoints() {
    let mut cluster = Pbft::new(4, 1);
    for slot in 1..=20 {
        cluster.propose(0, &format!("{slot}"));
    }
    cluster.run();
    assert_eq!(cluster.core(0).executed(), Slot(16), "the window is full");
    assert!(!cluster.core(0).may_propose());
    for id in 0..4 {
        let stable = cluster.checkpoint(8);
        cluster.input(id, OrderInput::Stable(stable));
        assert_eq!(cluster.core(id).stable(), Slot(8));
    }
    for slot in 17..=30 {
        cluster.propose(0, &format!("{slot}"));
    }
    cluster.run();
    (0..4).for_each(|id| assert_eq!(cluster.core(id).executed(), Slot(24)));
    cluster.check();
}

/// Section 4.2: a primary that says different things to different backups gets none of them executed twice over, and
/// is convicted by what it signed.
#[test]
fn equivocating_primary_is_caught() {
    let mut cluster = Pbft::new(4, 1);
    cluster.corrupt(0);
    cluster.wait(&[1, 2, 3], 1);
    cluster.post(0, 1, pre_prepare(0, 1, "a"));
    cluster.post(0, 2, pre_prepare(0, 1, "a"));
    cluster.post(0, 3, pre_prepare(0, 1, "b"));
    cluster.post(0, 1, Message::Prepare(prepare(0, 1, "b")));
    cluster.run();
    assert!((1..4).all(|id| cluster.executed(id).is_empty()));
    let evidence = &cluster.nodes[1].evidence;
    assert_eq!(evidence.len(), 1);
    assert_eq!(evidence[0].offence, safety::EQUIVOCATION);
    // The slot stays open, so votes and pre-prepares go round again, and the request is waited for in the next view.
    (1..4).for_each(|id| cluster.fire(id, Timer::View));
    cluster.run();
    assert!((1..4).all(|id| cluster.core(id).view() == View(1)));
    cluster.propose(1, "c");
    cluster.run();
    assert!((1..4).all(|id| cluster.executed(id).last() == Some(&batch("c"))));
    cluster.check();
}

/// Lets view 0 end at replicas 1 to n−1 and view 1 begin.
fn change_view(cluster: &mut Pbft) {
    let n = cluster.nodes.len() as u16;
    for id in 0..n {
        cluster.wait(&[id], 1_000);
        cluster.fire(id, Timer::View);
    }
    cluster.run();
}

/// Section 4.4 and 4.5.1: what was prepared at only f+1 correct replicas is preserved; what was only pre-prepared may
/// vanish; slots without a certificate below the last one are filled with null.
#[test]
fn new_view_preserves_what_was_prepared() {
    let mut cluster = Pbft::new(4, 1);
    // Slot 1 reaches nobody but the primary, slot 2 is prepared at 1 and 2, slot 3 is only pre-prepared.
    cluster.drop = Box::new(|letter| match &letter.message {
        Message::PrePrepare(body) => body.slot == Slot(1) && letter.to != ReplicaId(0),
        Message::Prepare(body) => body.slot != Slot(2) || !matches!(letter.to.0, 1 | 2),
        Message::Commit(_) => true,
        _ => false,
    });
    for name in ["a", "b", "c"] {
        cluster.propose(0, name);
    }
    cluster.run();
    cluster.corrupt(0);
    cluster.drop = Box::new(|_| false);
    change_view(&mut cluster);
    for id in 1..4 {
        assert_eq!(cluster.executed(id), [Batch::null(), batch("b")], "replica {id}");
        assert_eq!(cluster.core(id).view(), View(1));
    }
    cluster.propose(1, "d");
    cluster.run();
    for id in 1..4 {
        assert_eq!(cluster.executed(id), [Batch::null(), batch("b"), batch("d")]);
        let last = cluster.nodes[usize::from(id)].asked.last().expect("it was asked");
        assert_eq!((last.1, last.3), (Slot(3), Freshness::First));
        let repeated = |(view, slot, _, fresh): &(View, Slot, Batch, Freshness)| {
            *view == View(1) && *slot <= Slot(2) && *fresh == Freshness::Repeated
        };
        assert_eq!(cluster.nodes[usize::from(id)].asked.iter().filter(|a| repeated(a)).count(), 2);
    }
    cluster.check();
}

/// Section 4.4: what was executed is not executed again when a new view repeats it.
#[test]
fn new_view_executes_nothing_twice() {
    for (n, f) in [(4, 1), (5, 1), (6, 1), (7, 2)] {
        let mut cluster = Pbft::new(n, f);
        cluster.propose(0, "a");
        cluster.propose(0, "b");
        cluster.run();
        change_view(&mut cluster);
        cluster.propose(1, "c");
        cluster.run();
        for id in 0..n {
            assert_eq!(cluster.executed(id), Pbft::names(&["a", "b", "c"]));
            assert_eq!(cluster.core(id).view(), View(1));
        }
        cluster.check();
    }
}

fn attest(cluster: &Pbft, from: u16, change: &ViewChange) -> Attested<ViewChange> {
    let sealed = cluster.seal(from, Message::ViewChange(change.clone()));
    Attested::of(&sealed, change.clone()).expect("a view change is signed")
}

fn prepared(cluster: &Pbft, view: u64, slot: u64, name: &str, by: &[u16]) -> Prepared {
    let n = cluster.nodes.len() as u64;
    let primary = (view % n) as u16;
    let proposal = cluster.seal(primary, pre_prepare(view, slot, name)).signature();
    let prepares = cluster.prepares(&prepare(view, slot, name), by);
    Prepared { batch: batch(name), proposal, prepares }
}

fn change(view: u64, prepared: Vec<Prepared>) -> ViewChange {
    ViewChange { view: View(view), stable: None, prepared, lost: Slots::none() }
}

/// Section 4.4: backups compute O again, and refuse a new view that is not what follows from V. It convicts its sender.
#[test]
fn new_view_that_does_not_follow_is_refused() {
    let mut cluster = Pbft::new(4, 1);
    cluster.corrupt(1);
    let held = prepared(&cluster, 0, 1, "a", &[1, 2]);
    let changes = vec![
        attest(&cluster, 0, &change(1, vec![])),
        attest(&cluster, 1, &change(1, vec![held])),
        attest(&cluster, 2, &change(1, vec![])),
    ];
    let new_view =
        |ordered| Message::NewView(NewView { view: View(1), changes: changes.clone(), ordered });
    for ordered in [vec![], vec![(Slot(1), batch("b"))], vec![(Slot(1), Batch::null())]] {
        cluster.post(1, 3, new_view(ordered));
        cluster.run();
        assert_eq!(cluster.core(3).view(), View(0));
    }
    assert_eq!(cluster.nodes[3].evidence.len(), 1);
    assert_eq!(cluster.nodes[3].evidence[0].offence, safety::UNFOUNDED_NEW_VIEW);
    cluster.post(1, 3, new_view(vec![(Slot(1), batch("a"))]));
    cluster.run();
    assert_eq!(cluster.core(3).view(), View(1));
    cluster.check();
}

/// Section 4.4: of several certificates for a slot the one of the highest view counts, and a checkpoint covers what is
/// below it.
#[test]
fn new_view_takes_the_highest_view() {
    let cluster = Pbft::new(4, 1);
    let old = prepared(&cluster, 0, 1, "old", &[1, 2]);
    let new = prepared(&cluster, 2, 1, "new", &[0, 1]);
    let far = prepared(&cluster, 1, 3, "far", &[0, 2]);
    let one = change(3, vec![old, far]);
    let two = change(3, vec![new]);
    let adopted = Standard::adopt(&cluster.system(), &[&one, &two, &change(3, vec![])]);
    let expected = [(Slot(1), batch("new")), (Slot(2), Batch::null()), (Slot(3), batch("far"))];
    assert_eq!(adopted.ordered, expected);
    assert_eq!(adopted.first_fresh(), Slot(4));
    let stable = ViewChange { stable: Some(cluster.checkpoint(2)), ..change(3, vec![]) };
    let adopted = Standard::adopt(&cluster.system(), &[&one, &two, &stable]);
    assert_eq!(adopted.ordered, [(Slot(3), batch("far"))]);
    assert_eq!(adopted.base(), Slot(2));
}

/// Section 4.4: certificates within view changes and new views are checked whole.
#[test]
fn malformed_certificates_are_refused() {
    let mut cluster = Pbft::new(4, 1);
    let good = prepared(&cluster, 0, 1, "a", &[1, 2]);
    let good2 = prepared(&cluster, 0, 2, "b", &[2, 3]);
    let mut refused = |message: Message| {
        cluster.post(1, 2, message);
        let letter = cluster.wire.pop().expect("it was posted");
        !cluster.deliver(letter)
    };
    assert!(!refused(Message::ViewChange(change(1, vec![good.clone(), good2.clone()]))));
    assert!(refused(Message::ViewChange(change(1, vec![good2.clone(), good.clone()]))), "order");
    assert!(refused(Message::ViewChange(change(0, vec![]))), "view 0");
    let mut other = good.clone();
    other.batch = batch("b");
    assert!(refused(Message::ViewChange(change(1, vec![other]))), "another batch");
    let mut forged = good.clone();
    forged.proposal = good2.proposal;
    assert!(refused(Message::ViewChange(change(1, vec![forged]))), "another pre-prepare");
    let mut bare = good;
    bare.proposal = None;
    assert!(refused(Message::ViewChange(change(1, vec![bare]))), "one vote short");
}

#[test]
fn prepared_certificates_need_a_quorum() {
    let mut cluster = Pbft::new(4, 1);
    let mut refused = |prepared: Prepared| {
        cluster.post(1, 2, Message::ViewChange(change(5, vec![prepared])));
        let letter = cluster.wire.pop().expect("it was posted");
        !cluster.deliver(letter)
    };
    let made = Pbft::new(4, 1);
    assert!(refused(prepared(&made, 0, 1, "a", &[1])), "one prepare short");
    assert!(refused(prepared(&made, 0, 1, "a", &[0, 1])), "the primary counted twice");
    assert!(refused(prepared(&made, 5, 1, "a", &[0, 2])), "not of a lower view");
    // Where a new view repeats a batch, the primary votes by a prepare.
    let repeated = |by: &[u16]| Prepared { proposal: None, ..prepared(&made, 1, 1, "a", by) };
    assert!(refused(repeated(&[0, 1])));
    assert!(!refused(repeated(&[0, 1, 2])));
}

/// Section 4.4, liveness: the timer runs while a request waits, starts afresh for another one only, and stops when
/// nothing waits.
#[test]
fn view_timer_runs_while_something_waits() {
    let mut cluster = Pbft::new(4, 1);
    let runs = |cluster: &Pbft| cluster.nodes[1].timers.contains_key(&Timer::View);
    assert!(!runs(&cluster));
    cluster.wait(&[1], 7);
    assert!(runs(&cluster));
    cluster.nodes[1].timers.remove(&Timer::View);
    cluster.wait(&[1], 7);
    assert!(!runs(&cluster), "the same request does not start it again");
    cluster.wait(&[1], 8);
    assert!(runs(&cluster));
    cluster.input(1, OrderInput::Waiting(Waiting::Nothing));
    assert!(!runs(&cluster));
}

/// Section 4.4, liveness: after its view change a replica waits for 2f+1 of them before its timer runs, and waits
/// twice as long for each view that fails.
#[test]
fn timeout_doubles_only_once_a_quorum_has_moved() {
    let mut cluster = Pbft::new(4, 1);
    cluster.corrupt(1);
    cluster.corrupt(2);
    cluster.drop = Box::new(|letter| letter.from != letter.to);
    let base = cluster.config.view_timeout;
    let timer = |cluster: &Pbft| cluster.nodes[3].timers.get(&Timer::View).copied();
    cluster.wait(&[3], 1);
    assert_eq!(timer(&cluster), Some(base));
    cluster.fire(3, Timer::View);
    cluster.run();
    assert_eq!(cluster.core(3).view(), View(1));
    assert!(cluster.core(3).is_changing_view());
    for (failures, view) in (1..12).enumerate() {
        assert_eq!(timer(&cluster), None, "nobody has come along to view {view}");
        for from in [1, 2] {
            cluster.post(from, 3, Message::ViewChange(change(view, vec![])));
            let letter = cluster.wire.pop().expect("it was posted");
            assert!(cluster.deliver(letter));
        }
        let expected = base * 2u32.pow(failures.min(6) as u32);
        assert_eq!(timer(&cluster), Some(expected), "view {view}");
        cluster.fire(3, Timer::View);
        cluster.run();
        assert_eq!(cluster.core(3).view(), View(view + 1));
    }
    cluster.check();
}

/// The doubled timeout falls back when the new view decides something.
#[test]
fn timeout_falls_back_after_progress() {
    let mut cluster = Pbft::new(4, 1);
    // Two views fail because their primaries' announcements are lost.
    cluster.drop =
        Box::new(|letter| matches!(&letter.message, Message::NewView(body) if body.view < View(3)));
    cluster.wait(&[0, 1, 2, 3], 1);
    let timer = |cluster: &Pbft| cluster.nodes[0].timers.get(&Timer::View).copied();
    for _ in 0..3 {
        (0..4).for_each(|id| cluster.fire(id, Timer::View));
        cluster.run();
    }
    assert_eq!(cluster.core(0).view(), View(3));
    assert_eq!(timer(&cluster), Some(cluster.config.view_timeout * 4));
    for name in ["a", "b"] {
        cluster.propose(3, name);
        cluster.run();
    }
    cluster.wait(&[0], 2);
    assert_eq!(timer(&cluster), Some(cluster.config.view_timeout));
    cluster.check();
}

/// Section 4.4, liveness: f+1 view changes for higher views make a replica join the smallest of them, though nothing
/// waits; f do not.
#[test]
fn joins_the_smallest_of_f_plus_one() {
    let mut cluster = Pbft::new(7, 2);
    for id in [3, 4, 5] {
        cluster.corrupt(id);
    }
    let say = |cluster: &mut Pbft, from: u16, view: u64| {
        cluster.post(from, 6, Message::ViewChange(change(view, vec![])));
        let letter = cluster.wire.pop().expect("it was posted");
        assert!(cluster.deliver(letter));
    };
    say(&mut cluster, 3, 9);
    say(&mut cluster, 3, 12);
    say(&mut cluster, 4, 5);
    assert_eq!(cluster.core(6).view(), View(0), "f do not suffice, however often they say it");
    say(&mut cluster, 5, 7);
    assert_eq!(cluster.core(6).view(), View(5));
    assert!(cluster.core(6).is_changing_view());
    assert!(!cluster.nodes[6].timers.contains_key(&Timer::View), "no quorum has moved");
}

/// A primary that gives its view up is not waited for.
#[test]
fn a_primary_that_gives_up_is_followed() {
    let mut cluster = Pbft::new(4, 1);
    cluster.propose(0, "a");
    cluster.run();
    cluster.crash(0);
    cluster.start(0);
    cluster.run();
    (0..4).for_each(|id| assert_eq!(cluster.core(id).view(), View(1), "replica {id}"));
    cluster.propose(1, "b");
    cluster.run();
    (0..4).for_each(|id| assert_eq!(cluster.executed(id), Pbft::names(&["a", "b"])));
    cluster.check();
}

/// Lost view changes and new views are said again, and whoever missed them comes along.
#[test]
fn lost_view_changes_and_new_views_are_made_good() {
    let mut cluster = Pbft::new(4, 1);
    cluster.wait(&[0, 1, 2, 3], 1);
    cluster.drop = Box::new(|letter| letter.from != letter.to);
    (0..4).for_each(|id| cluster.fire(id, Timer::View));
    cluster.run();
    assert!((0..4).all(|id| cluster.core(id).is_changing_view()));
    cluster.drop = Box::new(|letter| {
        matches!(letter.message, Message::NewView(_)) && letter.to == ReplicaId(3)
    });
    cluster.tick();
    assert_eq!(cluster.core(3).installed_view(), View(0));
    assert!((0..3).all(|id| cluster.core(id).installed_view() == View(1)));
    cluster.tick();
    assert_eq!(cluster.core(3).installed_view(), View(1), "somebody else shows it");
    cluster.check();
}

/// Berger, Reiser and Bessani 2021 (trace C6): a primary that leaves a correct replica out cannot keep it from
/// executing, though it alone would complain.
#[test]
fn a_replica_that_is_left_out_executes_too() {
    let mut cluster = Pbft::new(4, 1);
    cluster.corrupt(0);
    let silent = |letter: &harness::Letter| {
        let votes = matches!(
            letter.message,
            Message::PrePrepare(_) | Message::Prepare(_) | Message::Commit(_)
        );
        letter.to == ReplicaId(3) && votes
    };
    cluster.drop = Box::new(silent);
    for to in 1..3 {
        cluster.post(0, to, pre_prepare(0, 1, "a"));
        cluster.post(0, to, Message::Commit(commit(0, 1, "a")));
    }
    cluster.wait(&[1, 2, 3], 1);
    cluster.run();
    assert_eq!(cluster.executed(1), Pbft::names(&["a"]));
    assert!(cluster.executed(3).is_empty());
    (0..8).for_each(|_| cluster.tick());
    assert_eq!(cluster.executed(3), Pbft::names(&["a"]));
    assert_eq!(cluster.core(3).view(), View(0), "no view change was needed");
    cluster.check();
}

/// Messages of every kind may be lost once: what is proposed is decided all the same.
#[test]
fn lost_messages_are_said_again() {
    let kinds = ["pre-prepare", "prepare", "commit"];
    for kind in kinds {
        for to in 0..4 {
            let mut cluster = Pbft::new(4, 1);
            cluster.drop = Box::new(move |letter| {
                letter.message.name() == kind
                    && (letter.to == ReplicaId(to) || kind != "pre-prepare")
                    && letter.from != letter.to
            });
            cluster.propose(0, "a");
            cluster.run();
            cluster.drop = Box::new(|_| false);
            (0..12).for_each(|_| cluster.tick());
            (0..4).for_each(|id| {
                assert_eq!(cluster.executed(id), Pbft::names(&["a"]), "{kind} to {to}, at {id}");
            });
            cluster.check();
        }
    }
}

/// A laggard fetches what it missed, old decisions from the logs of others, and is told to take the state when it is
/// further behind than the window.
#[test]
fn laggards_catch_up() {
    let mut cluster = Pbft::new(4, 1);
    cluster.crash(3);
    for round in 1..=12 {
        for slot in 0..10 {
            cluster.propose(0, &format!("{round}/{slot}"));
        }
        cluster.run();
        let stable = cluster.checkpoint(round * 10);
        (0..3).for_each(|id| cluster.input(id, OrderInput::Stable(stable.clone())));
    }
    assert_eq!(cluster.core(0).executed(), Slot(120));
    cluster.start(3);
    (0..8).for_each(|_| cluster.tick());
    assert_eq!(cluster.executed(3), cluster.executed(0));
    assert_eq!(cluster.nodes[3].behind.first(), Some(&Slot(120)), "it was told how far");
    assert_eq!(cluster.core(3).known(), Slot(120));
    cluster.check();
}

/// The layer above may jump: nothing at or below the checkpoint is executed any more.
#[test]
fn restored_state_is_gone_on_from() {
    let mut cluster = Pbft::new(4, 1);
    cluster.crash(3);
    for slot in 1..=12 {
        cluster.propose(0, &format!("{slot}"));
    }
    cluster.run();
    cluster.start(3);
    let stable = cluster.checkpoint(10);
    cluster.input(3, OrderInput::Restored(stable));
    assert_eq!(cluster.core(3).executed(), Slot(10));
    (0..8).for_each(|_| cluster.tick());
    let slots: Vec<_> = cluster.nodes[3].executed.keys().copied().collect();
    assert_eq!(slots, [Slot(11), Slot(12)]);
    cluster.check();
}

/// After its epoch has ended a replica orders nothing, and still shows what was decided.
#[test]
fn a_stopped_replica_still_answers() {
    let mut cluster = Pbft::new(4, 1);
    cluster.crash(3);
    cluster.propose(0, "a");
    cluster.run();
    (0..3).for_each(|id| cluster.input(id, OrderInput::Stop));
    assert!(!cluster.core(0).may_propose());
    cluster.propose(0, "b");
    cluster.start(3);
    (0..8).for_each(|_| cluster.tick());
    (0..4).for_each(|id| assert_eq!(cluster.executed(id), Pbft::names(&["a"])));
    assert_eq!(cluster.core(0).standing(), Standing::Stopped);
    cluster.check();
}

/// Sections 4.2 and 4.4 with crashes: whatever prefix of its writes a replica finds again, it never contradicts what it
/// said, though a faulty primary offers it another batch.
#[test]
fn restarts_at_any_point_contradict_nothing() {
    for replica in 1..4 {
        for writes in 0..14 {
            let mut cluster = Pbft::new(4, 1);
            cluster.corrupt(0);
            cluster.nodes[usize::from(replica)].writes_left = Some(writes);
            let run = |cluster: &mut Pbft, names: [&str; 2]| {
                for (slot, name) in names.iter().enumerate() {
                    let slot = slot as u64 + 1;
                    for to in 1..4 {
                        cluster.post(0, to, pre_prepare(0, slot, name));
                        cluster.post(0, to, Message::Prepare(prepare(0, slot, name)));
                        cluster.post(0, to, Message::Commit(commit(0, slot, name)));
                    }
                }
                cluster.run();
            };
            run(&mut cluster, ["a", "b"]);
            cluster.wait(&[1, 2, 3], 1);
            (1..4).for_each(|id| cluster.fire(id, Timer::View));
            cluster.run();
            cluster.crash(replica);
            cluster.start(replica);
            cluster.run();
            run(&mut cluster, ["x", "y"]);
            cluster.wait(&[replica], 2);
            (0..10).for_each(|_| cluster.tick());
            for id in 1..4 {
                cluster.fire(id, Timer::View);
            }
            (0..10).for_each(|_| cluster.tick());
            cluster.check();
            let executed: Vec<_> = (1..4).map(|id| cluster.core(id).executed()).collect();
            assert!(executed.iter().all(|slot| *slot >= Slot(2)), "{executed:?} after {writes}");
        }
    }
}

/// A replica that restarts in the middle of a view change stays in it: it never falls back to the view that it left.
#[test]
fn restart_stays_in_the_pending_view() {
    let mut cluster = Pbft::new(4, 1);
    cluster.propose(0, "a");
    cluster.run();
    cluster.wait(&[3], 1);
    cluster.fire(3, Timer::View);
    cluster.drop = Box::new(|letter| matches!(letter.message, Message::ViewChange(_)));
    cluster.run();
    let said = |cluster: &Pbft| {
        let is_change = |message: &&Message| matches!(message, Message::ViewChange(_));
        cluster.nodes[3].said.iter().filter(is_change).cloned().collect::<Vec<_>>()
    };
    let before = said(&cluster);
    cluster.crash(3);
    cluster.start(3);
    cluster.run();
    assert_eq!(cluster.core(3).view(), View(1));
    assert!(cluster.core(3).is_changing_view());
    let after = said(&cluster);
    assert_eq!(after.len(), before.len() + 1);
    assert!(after.iter().all(|message| *message == before[0]), "the same view change");
    cluster.check();
}

/// Architecture, "reads" (the read rule): a claim covers what the last installed view began with, because that may have
/// been decided in an earlier view. A restart between two views must not make the claim smaller: a liar and whoever
/// never installed that view would be a quorum for a stale read.
#[test]
fn a_claim_outlives_a_restart_between_views() {
    let mut cluster = Pbft::new(4, 1);
    // Decided everywhere but at 3, which has only prepared it.
    cluster.drop = Box::new(|letter| {
        matches!(letter.message, Message::Commit(_)) && letter.to == ReplicaId(3)
    });
    cluster.propose(0, "a");
    cluster.run();
    assert_eq!(cluster.core(0).executed(), Slot(1));
    // View 1 repeats it, and nobody prepares it there.
    cluster.drop =
        Box::new(|letter| matches!(letter.message, Message::Prepare(_) | Message::Commit(_)));
    change_view(&mut cluster);
    assert_eq!(cluster.core(3).installed_view(), View(1));
    assert_eq!(cluster.core(3).executed(), Slot(0));
    assert_eq!(cluster.core(3).read_claim(), Some(Slot(1)));
    cluster.drop = Box::new(|letter| {
        let joins = matches!(letter.message, Message::Inquiry(_) | Message::Testimony(_));
        letter.from != letter.to && !joins
    });
    cluster.fire(3, Timer::View);
    cluster.run();
    assert!(cluster.core(3).is_changing_view());
    assert_eq!(cluster.core(3).read_claim(), Some(Slot(1)));
    cluster.crash(3);
    cluster.start(3);
    assert_eq!(cluster.core(3).read_claim(), None, "it may have forgotten");
    cluster.run();
    assert!(cluster.core(3).is_changing_view());
    assert_eq!(cluster.core(3).installed_view(), View(1));
    assert_eq!(cluster.core(3).read_claim(), Some(Slot(1)), "it may have been decided in view 0");
    cluster.drop = Box::new(|_| false);
    (0..8).for_each(|_| cluster.tick());
    assert_eq!(cluster.executed(3), Pbft::names(&["a"]));
    cluster.check();
}

/// What was said before a restart in which nothing was lost is said again, and nothing is executed twice.
#[test]
fn everybody_restarts() {
    for (n, f) in [(4, 1), (5, 1), (7, 2), (1, 0)] {
        let mut cluster = Pbft::new(n, f);
        cluster.propose(0, "a");
        cluster.run();
        cluster.drop = Box::new(|letter| matches!(letter.message, Message::Commit(_)));
        cluster.propose(0, "b");
        cluster.run();
        cluster.drop = Box::new(|_| false);
        (0..n).for_each(|id| cluster.crash(id));
        (0..n).for_each(|id| cluster.nodes[usize::from(id)].executed.clear());
        (0..n).for_each(|id| cluster.start(id));
        cluster.run();
        (0..8).for_each(|_| cluster.tick());
        for id in 0..n {
            assert_eq!(cluster.executed(id), Pbft::names(&["a", "b"]), "n={n}, replica {id}");
            assert_eq!(cluster.core(id).view(), View(1), "its primary had restarted");
        }
        cluster.check();
    }
}

/// A snapshot stands for the records before it.
#[test]
fn a_snapshot_stands_for_records() {
    let mut cluster = Pbft::new(4, 1);
    for name in ["a", "b", "c"] {
        cluster.propose(0, name);
    }
    cluster.run();
    change_view(&mut cluster);
    cluster.drop = Box::new(|letter| matches!(letter.message, Message::Commit(_)));
    cluster.propose(1, "d");
    cluster.run();
    for id in 0..4 {
        let core = cluster.core(id);
        let snapshot = core.snapshot(core.executed());
        let bytes = testudo_core::Encode::to_bytes(&snapshot);
        let again: testudo_pbft::Snapshot =
            testudo_core::Decode::from_bytes(&bytes).expect("it is what was written");
        assert_eq!(again, snapshot);
        cluster.crash(id);
        let node = &mut cluster.nodes[usize::from(id)];
        node.disk.records.clear();
        node.disk.snapshot = Some(snapshot);
        node.executed.clear();
    }
    cluster.drop = Box::new(|_| false);
    (0..4).for_each(|id| cluster.start(id));
    (0..8).for_each(|_| cluster.tick());
    (0..4).for_each(|id| {
        assert_eq!(cluster.executed(id), Pbft::names(&["d"]), "replica {id}");
        assert_eq!(cluster.core(id).executed(), Slot(4));
    });
    cluster.check();
}

/// Decisions prove themselves, whoever brings them; a commit certificate one short proves nothing.
#[test]
fn decisions_prove_themselves() {
    let mut cluster = Pbft::new(4, 1);
    cluster.corrupt(0);
    let decided = |cluster: &Pbft, by: &[u16]| {
        let certificate = cluster.commits(&commit(0, 1, "a"), by);
        Message::Committed(Committed { batch: batch("a"), certificate })
    };
    for by in [vec![0, 1], vec![0, 1, 2]] {
        let message = decided(&cluster, &by);
        cluster.post(0, 3, message);
        let letter = cluster.wire.pop().expect("it was posted");
        assert_eq!(cluster.deliver(letter), by.len() == 3);
    }
    assert_eq!(cluster.executed(3), Pbft::names(&["a"]));
    cluster.check();
}

/// A commit that its sender later keeps out of a view change convicts it (trace C20).
#[test]
fn amnesia_is_an_offence() {
    let mut cluster = Pbft::new(4, 1);
    cluster.corrupt(2);
    cluster.post(2, 1, Message::Commit(commit(0, 1, "a")));
    cluster.post(2, 1, Message::ViewChange(change(1, vec![])));
    cluster.run();
    let evidence = &cluster.nodes[1].evidence;
    assert_eq!(evidence.iter().map(|e| e.offence.as_str()).collect::<Vec<_>>(), [safety::AMNESIA]);
    let mut forged = evidence[0].clone();
    forged.accused = ReplicaId(3);
    assert!(!safety::is_convicted(&forged, &cluster.context()));
    cluster.post(
        2,
        1,
        Message::ViewChange(change(1, vec![prepared(&cluster, 0, 2, "b", &[1, 3])])),
    );
    cluster.run();
    assert_eq!(cluster.nodes[1].evidence[1].offence, safety::TWO_VIEW_CHANGES);
    cluster.check();
}

/// Section 4.1: a client believes f+1 equal replies.
#[test]
fn clients_believe_f_plus_one_equal_replies() {
    let membership = harness::membership(7, 2);
    let vote = |slot, results: &str, is_final| ReplyVote {
        view: View(slot),
        slot: Slot(slot),
        results: Digest::of(results.as_bytes()),
        is_final,
    };
    let judge = |votes: &[(u16, ReplyVote)]| {
        let votes = votes.iter().map(|(id, vote)| (ReplicaId(*id), *vote)).collect();
        Reply::judge(&membership, &votes)
    };
    let good = vote(3, "yes", true);
    let split = [(0, good), (1, good), (2, vote(3, "no", true)), (3, vote(4, "yes", true))];
    assert_eq!(judge(&split), Verdict::Wait);
    assert_eq!(judge(&[(0, good), (1, good), (2, vote(3, "yes", false))]), Verdict::Wait);
    assert_eq!(judge(&[(0, good), (1, good), (9, good)]), Verdict::Wait);
    let verdict = judge(&[(0, good), (4, ReplyVote { view: View(9), ..good }), (6, good)]);
    assert_eq!(verdict, Verdict::Accept(Slot(3), Digest::of(b"yes")));
}

/// The timeouts of a cluster are never nothing.
#[test]
fn the_resend_timer_always_runs() {
    let mut cluster = Pbft::new(4, 1);
    for _ in 0..20 {
        cluster.tick();
        for node in &cluster.nodes {
            assert!(node.timers[&Timer::Resend] > Duration::ZERO);
        }
    }
}
