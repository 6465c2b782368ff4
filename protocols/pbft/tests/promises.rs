//! Lost promises: what a disk has lost or forgotten, and what comes of it. The rules by themselves, then replicas.

mod harness;

use harness::{Cluster, batch};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;
use testudo_contracts::{Batch, OrderInput, Ordering, Standing};
use testudo_core::{
    Decode as _, Encode as _, Message as _, Peer, Promise, ReplicaId, Slot, Tag, View, limits,
};
use testudo_pbft::message::{
    Attested, Commit, Inquiry, Nonce, PrePrepare, Prepare, Prepared, Slots, Testimony, ViewChange,
};
use testudo_pbft::safety::{self, Damage, Loss, Recollection, Rules as _};
use testudo_pbft::{Message, Record, Snapshot, Standard, Timer};

type Pbft = Cluster<Standard>;

const WINDOW: u64 = limits::WINDOW;

fn slots(ranges: &[(u64, u64)]) -> Slots {
    let mut slots = Slots::none();
    ranges.iter().for_each(|(first, last)| slots.insert(Slot(*first), Slot(*last)));
    slots
}

fn change(lost: &[(u64, u64)], prepared: Vec<Prepared>) -> ViewChange {
    ViewChange { view: View(1), stable: None, prepared, lost: slots(lost) }
}

fn prepared(cluster: &Pbft, slot: u64, name: &str) -> Prepared {
    let (view, slot, batch) = (View(0), Slot(slot), batch(name));
    let proposal = Message::PrePrepare(PrePrepare { view, slot, batch: batch.clone() });
    let proposal = cluster.seal(0, proposal).signature();
    let prepare = Prepare { view, slot, digest: batch.digest() };
    Prepared { prepares: cluster.prepares(&prepare, &[1, 2]), batch, proposal }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Sets of slots are sets, have one form, and that is what others are held to.
    #[test]
    fn slots_are_a_set(
        inserts in vec((1u64..60, 0u64..6), 0..12),
        floor in 0u64..60,
        probe in (0u64..70, 0u64..70),
    ) {
        let (mut set, mut model) = (Slots::none(), BTreeSet::new());
        for (first, more) in inserts {
            set.insert(Slot(first), Slot(first + more));
            model.extend(first..=first + more);
        }
        set.trim(Slot(floor));
        model.retain(|slot| *slot > floor);
        prop_assert_eq!(set.len(), model.len() as u64);
        prop_assert_eq!(set.is_empty(), model.is_empty());
        for slot in 0..70 {
            prop_assert_eq!(set.contains(Slot(slot)), model.contains(&slot));
            let last = model.range(..=slot).next_back().copied().map(Slot);
            prop_assert_eq!(set.last_until(Slot(slot)), last);
        }
        let (from, to) = probe;
        let meets = from <= to && model.range(from..=to).next().is_some();
        prop_assert_eq!(set.meets(Slot(from), Slot(to)), meets);
        prop_assert_eq!(set.validate(Slot(floor)), Ok(()));
        prop_assert_eq!(Slots::from_bytes(&set.to_bytes()), Ok(set));
    }

    /// Whatever somebody says is a set is refused, or is the one form of what it holds.
    #[test]
    fn said_sets_are_in_form(ranges in vec((0u64..12, 0u64..12), 0..4), base in 0u64..4) {
        let said: Vec<_> = ranges.iter().map(|(a, b)| (Slot(*a), Slot(*b))).collect();
        let said = Slots::from_bytes(&said.to_bytes()).expect("any ranges can be read");
        if said.validate(Slot(base)).is_ok() {
            let mut again = Slots::none();
            said.ranges().iter().for_each(|(first, last)| again.insert(*first, *last));
            prop_assert_eq!(&again, &said);
            prop_assert!((0..=base).all(|slot| !said.contains(Slot(slot))));
        }
    }
}

#[test]
fn sets_that_are_too_long_are_refused() {
    let many = |count: u64| (1..=count).map(|at| (2 * at, 2 * at)).collect::<Vec<_>>();
    assert!(slots(&many(WINDOW / 2)).validate(Slot(0)).is_ok());
    assert!(slots(&many(WINDOW / 2 + 1)).validate(Slot(0)).is_err());
}

/// What is lost with each kind of record.
#[test]
fn each_record_loses_what_it_was_about() {
    let kept = Recollection {
        promised: View(5),
        installed: View(3),
        low: Slot(10),
        window: WINDOW,
        ..Recollection::default()
    };
    let lost = |tag| Standard::lost(&[Damage { tag, reached: Slot(20), stable: None }], &kept);
    let none = Loss::default();
    assert_eq!(lost(Some(Tag::Vote(Slot(12)))).slots, slots(&[(12, 12)]));
    assert_eq!(lost(Some(Tag::Vote(Slot(9)))), none, "a stable checkpoint covers it");
    let all = slots(&[(11, 20 + WINDOW)]);
    assert_eq!(lost(Some(Tag::NewView(View(4)))), Loss { slots: all.clone(), ..none.clone() });
    assert_eq!(lost(Some(Tag::NewView(View(3)))), none, "a later view has ended it");
    assert_eq!(lost(Some(Tag::ViewChange(View(5)))), Loss { change: true, ..none.clone() });
    assert_eq!(lost(Some(Tag::ViewChange(View(4)))), none, "it has moved on");
    assert_eq!(lost(Some(Tag::Decided(Slot(15)))), Loss { decided: Slot(15), ..none.clone() });
    assert_eq!(lost(Some(Tag::Stable(Slot(16)))), Loss { floor: Slot(16), ..none.clone() });
    assert_eq!(lost(Some(Tag::Other)), Loss { standing: true, ..none.clone() });
    for harmless in [Tag::Body, Tag::Checkpointed(Slot(16)), Tag::Halted(Slot(16))] {
        assert_eq!(lost(Some(harmless)), none);
    }
    let unknown = Loss { slots: all, change: true, decided: Slot(20 + WINDOW), ..none };
    assert_eq!(lost(None), unknown);
    // Votes so far beyond the checkpoint that there must have been another.
    let far = Damage { tag: Some(Tag::Vote(Slot(WINDOW + 17))), reached: Slot(0), stable: None };
    assert_eq!(Standard::lost(&[far], &kept).floor, Slot(17));
}

/// Damage is as old as what lies around it: what it was about lay in the window of its time.
#[test]
fn old_damage_loses_what_it_can_have_been_about() {
    let (low, view) = (Slot(20 + WINDOW), View(3));
    let kept = Recollection { promised: view, installed: view, low, ..Recollection::default() };
    let kept = Recollection { window: WINDOW, ..kept };
    let lost = |kept: &Recollection, reached, stable| {
        let damage = Damage { tag: None, reached: Slot(reached), stable };
        Standard::lost(&[damage], kept).slots
    };
    let wide = slots(&[(low.0 + 1, low.0 + WINDOW)]);
    assert_eq!(lost(&kept, 15, None), wide, "nothing after it says how old it is");
    assert_eq!(lost(&kept, 15, Some(Slot(20))), slots(&[]));
    assert_eq!(lost(&kept, 15, Some(Slot(25))), slots(&[(low.0 + 1, low.0 + 5)]));
    assert_eq!(lost(&kept, 25, Some(Slot(20))), slots(&[(low.0 + 1, low.0 + 5)]));
    // It may be the record of a view, all of which it may have voted for.
    let between = Recollection { installed: View(2), ..kept };
    assert_eq!(lost(&between, 15, Some(Slot(20))), wide);
}

/// For each slot a quorum must not have lost it; another one for each will do.
#[test]
fn a_new_view_needs_a_quorum_for_each_slot() {
    for (n, f) in [(4, 1), (5, 1), (6, 1), (7, 2), (10, 3)] {
        let cluster = Pbft::new(n, f);
        let system = cluster.system();
        let covers =
            |changes: &[ViewChange]| Standard::covers(&system, &changes.iter().collect::<Vec<_>>());
        let whole = change(&[], vec![]);
        let quorum = vec![whole.clone(); system.quorum()];
        assert!(covers(&quorum), "n={n}");
        assert!(!covers(&quorum[1..]));
        let mut short = quorum.clone();
        short[0] = change(&[(3, 3)], vec![]);
        assert!(!covers(&short), "one of a bare quorum has lost a slot");
        short.push(whole.clone());
        assert!(covers(&short), "another one makes up for it");
        let helical = (1..=usize::from(n)).map(|at| change(&[(at as u64, at as u64)], vec![]));
        assert!(covers(&helical.collect::<Vec<_>>()), "each has lost another slot");
        let mut same = vec![whole.clone(); usize::from(n)];
        let spare = usize::from(n) - system.quorum();
        same[..spare].fill(change(&[(3, 3)], vec![]));
        assert!(covers(&same));
        same[usize::from(n) - 1] = change(&[(1, 7)], vec![]);
        assert!(!covers(&same), "too many have lost the same one");
        // What the highest checkpoint covers, or what is beyond its window, need not be known.
        let stable = ViewChange { stable: Some(cluster.checkpoint(7)), ..whole };
        same[usize::from(n) - 2] = stable;
        assert!(covers(&same));
        same[usize::from(n) - 1] = change(&[(8 + WINDOW, u64::MAX)], vec![]);
        assert!(covers(&same));
    }
}

/// Certificates prove themselves, also those of replicas that have lost others. Where only liars may be free of lost slots
/// beyond the last prepared one, the view fills these with nothing, so that somebody can lead it.
#[test]
fn a_new_view_repeats_up_to_what_nobody_could_lead() {
    let cluster = Pbft::new(4, 1);
    let system = cluster.system();
    let held = || vec![prepared(&cluster, 1, "a")];
    let adopt = |changes: &[ViewChange]| {
        let ordered = Standard::adopt(&system, &changes.iter().collect::<Vec<_>>()).ordered;
        ordered.into_iter().map(|(slot, batch)| (slot.0, batch)).collect::<Vec<_>>()
    };
    let of = |lost: &[(u64, u64)]| change(lost, vec![]);
    let a = || (1, batch("a"));
    assert_eq!(adopt(&[change(&[(1, 1)], held()), of(&[]), of(&[])]), [a()]);
    // Two are free: one of them is correct, and can lead.
    assert_eq!(adopt(&[change(&[(3, 3)], held()), of(&[(2, 2)]), of(&[]), of(&[])]), [a()]);
    assert_eq!(adopt(&[change(&[(3, 3)], held()), of(&[(1, 1)]), of(&[])]), [a()]);
    // One is: that may be the liar.
    let filled = [a(), (2, Batch::null()), (3, Batch::null())];
    assert_eq!(adopt(&[change(&[(3, 3)], held()), of(&[(2, 2)]), of(&[(2, 3)]), of(&[])]), filled);
    // A liar who claims to have lost everything fills no more than a window.
    let all = adopt(&[of(&[(1, u64::MAX)]), of(&[(2, 2)]), of(&[])]);
    assert_eq!(all.len() as u64, WINDOW);
}

/// A replica that says which slot it has lost is not convicted of having forgotten it.
#[test]
fn an_avowed_loss_is_no_amnesia() {
    let commit = Commit { view: View(0), slot: Slot(2), digest: batch("a").digest() };
    let convicts = |change: ViewChange| {
        Standard::convicts(&Message::Commit(commit.clone()), &Message::ViewChange(change))
    };
    assert_eq!(convicts(change(&[], vec![])), Some(safety::AMNESIA));
    assert_eq!(convicts(change(&[(1, 1), (3, 9)], vec![])), Some(safety::AMNESIA));
    assert_eq!(convicts(change(&[(2, 2)], vec![])), None);
}

fn attest<T: testudo_core::Statement + Clone>(
    cluster: &Pbft,
    from: u16,
    statement: &T,
    message: Message,
) -> Attested<T> {
    Attested::of(&cluster.seal(from, message), statement.clone()).expect("it is signed")
}

fn commit_of(cluster: &Pbft, from: u16, view: u64, slot: u64, name: &str) -> Attested<Commit> {
    let digest = batch(name).digest();
    let commit = Commit { view: View(view), slot: Slot(slot), digest };
    attest(cluster, from, &commit, Message::Commit(commit.clone()))
}

fn prepare_of(cluster: &Pbft, from: u16, view: u64, slot: u64, name: &str) -> Attested<Prepare> {
    let digest = batch(name).digest();
    let prepare = Prepare { view: View(view), slot: Slot(slot), digest };
    attest(cluster, from, &prepare, Message::Prepare(prepare.clone()))
}

fn nothing(of: u16) -> Testimony {
    Testimony {
        of: ReplicaId(of),
        nonce: Nonce(0),
        proposals: vec![],
        prepares: vec![],
        commits: vec![],
        change: None,
        checkpoint: None,
    }
}

fn answer(testimony: Testimony) -> Message {
    Message::Testimony(Box::new(testimony))
}

/// Everything in a testimony bears the asker's own signature, whoever brings it.
#[test]
fn testimonies_hold_the_askers_own_statements() {
    let cluster = Pbft::new(4, 1);
    let is_refused = |testimony: Testimony| {
        let message = Message::Testimony(Box::new(testimony));
        let mut body = Vec::new();
        message.encode_body(&mut body);
        let again = Message::decode_body(message.protocol(), message.kind(), &body);
        assert_eq!(again.as_ref(), Ok(&message));
        message.validate(Peer::Replica(ReplicaId(1)), &cluster.context()).is_err()
    };
    let good = |slot| commit_of(&cluster, 3, 0, slot, "a");
    let commits = |commits| Testimony { commits, ..nothing(3) };
    assert!(!is_refused(nothing(3)));
    assert!(!is_refused(commits(vec![good(1), good(2)])));
    assert!(is_refused(commits(vec![good(2), good(1)])), "out of order");
    assert!(is_refused(commits(vec![good(1), good(1)])), "twice");
    assert!(is_refused(commits(vec![commit_of(&cluster, 2, 0, 1, "a")])), "another's");
    let mut forged = good(1);
    forged.statement.slot = Slot(2);
    assert!(is_refused(commits(vec![forged])));
    assert!(is_refused(nothing(9)), "of a stranger");
    let (view, slot, batch) = (View(0), Slot(1), batch("a"));
    let proposal = PrePrepare { view, slot, batch };
    let proposal = attest(&cluster, 3, &proposal, Message::PrePrepare(proposal.clone()));
    assert!(is_refused(Testimony { proposals: vec![proposal], ..nothing(3) }), "not the primary");
    let said = change(&[], vec![]);
    let said = attest(&cluster, 2, &said, Message::ViewChange(said.clone()));
    assert!(is_refused(Testimony { change: Some(said), ..nothing(3) }), "another's view change");
    let inquiry = Message::Inquiry(Inquiry { nonce: Nonce(7) });
    assert!(inquiry.validate(Peer::Replica(ReplicaId(1)), &cluster.context()).is_ok());
}

/// What a replica ought to know of what it is told that it said.
#[test]
fn what_was_said_is_on_record_or_lost() {
    let cluster = Pbft::new(4, 1);
    let digest = |name: &str| batch(name).digest();
    let said = ViewChange { view: View(2), ..change(&[], vec![]) };
    let kept = Recollection {
        promised: View(2),
        installed: View(1),
        low: Slot(4),
        executed: Slot(6),
        change: Some(said.clone()),
        voted: [(Slot(6), (View(2), digest("a")))].into(),
        prepared: [(Slot(6), (View(1), digest("a")))].into(),
        loss: Loss { slots: slots(&[(8, 8)]), ..Loss::default() },
        ..Recollection::default()
    };
    let commit = |view, slot, name| Testimony {
        commits: vec![commit_of(&cluster, 3, view, slot, name)],
        ..nothing(3)
    };
    let prepare = |view, slot, name| Testimony {
        prepares: vec![prepare_of(&cluster, 3, view, slot, name)],
        ..nothing(3)
    };
    let knows = |testimony: Testimony| Standard::knows(&kept, &testimony);
    assert!(knows(nothing(3)));
    assert!(knows(commit(1, 6, "a")));
    assert!(knows(commit(0, 6, "b")), "a certificate of a higher view took its place");
    assert!(!knows(commit(1, 6, "b")), "another certificate");
    assert!(!knows(commit(1, 7, "a")), "no certificate");
    assert!(knows(commit(1, 8, "a")), "it is known to be lost");
    assert!(knows(commit(2, 4, "a")), "a checkpoint covers it");
    assert!(!knows(commit(3, 4, "a")), "in a view beyond the promise");
    assert!(knows(prepare(2, 6, "a")));
    assert!(!knows(prepare(2, 6, "b")));
    assert!(!knows(prepare(2, 7, "a")));
    assert!(knows(prepare(1, 7, "a")), "the promise of view 2 came after it");
    assert!(!knows(prepare(3, 8, "a")), "in a view beyond the promise");
    let changed = |view: u64, lost: &[(u64, u64)]| {
        let said = ViewChange { view: View(view), ..change(lost, vec![]) };
        let said = attest(&cluster, 3, &said, Message::ViewChange(said.clone()));
        Testimony { change: Some(said), ..nothing(3) }
    };
    assert!(knows(changed(2, &[])));
    assert!(!knows(changed(2, &[(9, 9)])), "another view change");
    assert!(knows(changed(1, &[])) && !knows(changed(3, &[])));
    let blank = Recollection { is_blank: true, ..Recollection::default() };
    assert!(Standard::knows(&blank, &nothing(3)));
    assert!(!Standard::knows(&blank, &commit(0, 1, "a")), "it was wiped");
}

/// Crashes a replica, lets records rot, and starts it again.
fn break_and_start(cluster: &mut Pbft, id: u16, is_hit: impl Fn(&Record) -> bool) {
    cluster.crash(id);
    assert!(cluster.rot(id, true, is_hit) > 0, "there is no such record");
    cluster.start(id);
    cluster.run();
}

fn votes_of(cluster: &Pbft, id: u16) -> Vec<(Slot, &'static str)> {
    let said = cluster.nodes[usize::from(id)].said.iter();
    said.filter_map(|message| Some((message.vote()?.slot, message.name()))).collect()
}

/// A replica votes on what it has not lost, and on what it has lost once a checkpoint covers it; till then its read claim
/// would be a guess.
#[test]
fn lost_slots_are_not_voted_on_until_they_are_stable() {
    let mut cluster = Pbft::new(4, 1);
    cluster.drop = Box::new(|letter| matches!(letter.message, Message::Commit(_)));
    ["a", "b"].iter().for_each(|name| cluster.propose(0, name));
    cluster.run();
    cluster.drop = Box::new(|_| false);
    let is_second = |r: &Record| matches!(r, Record::Prepared(one) if one.slot() == Slot(2));
    break_and_start(&mut cluster, 3, is_second);
    cluster.nodes[3].said.clear();
    assert_eq!((cluster.core(3).standing(), cluster.core(3).lost_slots()), (Standing::Voting, 1));
    assert_eq!(cluster.core(3).read_claim(), None);
    cluster.propose(0, "c");
    (0..3).for_each(|_| cluster.tick());
    assert_eq!(cluster.executed(3), Pbft::names(&["a", "b", "c"]));
    assert!(votes_of(&cluster, 3).iter().all(|(slot, _)| *slot != Slot(2)));
    assert!(votes_of(&cluster, 3).contains(&(Slot(3), "commit")));
    let stable = cluster.checkpoint(2);
    (0..4).for_each(|id| cluster.input(id, OrderInput::Stable(stable.clone())));
    assert_eq!(cluster.core(3).lost_slots(), 0);
    assert_eq!(cluster.core(3).read_claim(), Some(Slot(3)));
    cluster.check();
}

fn change_view(cluster: &mut Pbft, ids: &[u16]) {
    for id in ids {
        cluster.wait(&[*id], 1_000 + cluster.core(*id).view().0);
        cluster.fire(*id, Timer::View);
    }
    cluster.run();
}

/// The record of a new view binds every vote for what it repeats.
#[test]
fn a_lost_view_loses_the_window() {
    let mut cluster = Pbft::new(4, 1);
    cluster.propose(0, "a");
    cluster.run();
    change_view(&mut cluster, &[0, 1, 2, 3]);
    break_and_start(&mut cluster, 3, |record| matches!(record, Record::NewView(_)));
    assert_eq!(cluster.core(3).lost(), &slots(&[(1, 1 + cluster.config.window)]));
    assert_eq!(cluster.core(3).view(), View(1));
    cluster.nodes[3].said.clear();
    cluster.propose(1, "b");
    cluster.run();
    (0..8).for_each(|_| cluster.tick());
    assert_eq!(cluster.executed(3), Pbft::names(&["a", "b"]));
    assert_eq!(votes_of(&cluster, 3), []);
    cluster.check();
}

/// What may have been said of a view is never said otherwise: the replica goes one view further.
#[test]
fn a_lost_view_change_is_not_said_again() {
    let mut cluster = Pbft::new(4, 1);
    cluster.propose(0, "a");
    cluster.run();
    cluster.wait(&[3], 1);
    cluster.fire(3, Timer::View);
    cluster.run();
    assert!(cluster.core(3).is_changing_view());
    break_and_start(&mut cluster, 3, |record| matches!(record, Record::ViewChange(_)));
    assert_eq!(cluster.core(3).view(), View(2));
    // The others follow when they leave view 1 in turn, and it takes part.
    change_view(&mut cluster, &[0, 1, 2]);
    change_view(&mut cluster, &[0, 1, 2]);
    assert!((0..4).all(|id| cluster.core(id).installed_view() == View(2)));
    cluster.propose(2, "b");
    cluster.run();
    assert!(votes_of(&cluster, 3).contains(&(Slot(2), "commit")));
    cluster.check();
}

/// A log without a promise tells nothing of the views that its owner has left.
#[test]
fn a_lost_promise_ends_voting() {
    let mut cluster = Pbft::new(4, 1);
    cluster.propose(0, "a");
    cluster.run();
    cluster.crash(3);
    cluster.nodes[3].disk.promise = None;
    cluster.nodes[3].said.clear();
    for _ in 0..2 {
        cluster.start(3);
        cluster.run();
        assert_eq!(cluster.core(3).standing(), Standing::Forgotten);
        assert_eq!(cluster.core(3).read_claim(), None);
        cluster.crash(3);
    }
    cluster.start(3);
    cluster.propose(0, "b");
    cluster.run();
    change_view(&mut cluster, &[0, 1, 2]);
    cluster.propose(1, "c");
    (0..8).for_each(|_| cluster.tick());
    assert_eq!(cluster.executed(3), Pbft::names(&["a", "b", "c"]));
    let views = cluster.nodes[3].said.iter().filter(|m| matches!(m, Message::ViewChange(_)));
    assert_eq!((votes_of(&cluster, 3).len(), views.count()), (0, 0));
    cluster.check();
}

/// A superblock from before a view change, over a log from before it.
#[test]
fn statements_beyond_the_promise_are_found_out() {
    let mut cluster = Pbft::new(4, 1);
    let image = cluster.image(3);
    assert_eq!(image.promise, Some(Promise::default()));
    change_view(&mut cluster, &[0, 1, 2, 3]);
    cluster.crash(3);
    cluster.restore(3, image);
    cluster.start(3);
    cluster.run();
    assert_eq!(cluster.core(3).standing(), Standing::Forgotten);
    cluster.check();
}

/// One that boots for the first time when the others have long been at work takes part.
#[test]
fn a_late_first_boot_joins() {
    let mut cluster = Pbft::new(4, 1);
    let empty = harness::Disk::default();
    cluster.corrupt(3);
    cluster.nodes[3].is_faulty = false;
    cluster.restore(3, empty);
    ["a", "b"].iter().for_each(|name| cluster.propose(0, name));
    cluster.run();
    change_view(&mut cluster, &[0, 1, 2]);
    cluster.start(3);
    (0..9).for_each(|_| cluster.tick());
    assert_eq!(cluster.core(3).standing(), Standing::Voting);
    assert_eq!(cluster.core(3).installed_view(), View(1));
    cluster.crash(2);
    cluster.propose(1, "c");
    cluster.run();
    assert_eq!(cluster.executed(3), Pbft::names(&["a", "b", "c"]));
    cluster.check();
}

/// Answers to another life's question do not count, nor do those of fewer than a quorum.
#[test]
fn only_answers_to_this_question_count() {
    let mut cluster = Pbft::new(4, 1);
    cluster.crash(3);
    cluster.drop = Box::new(|letter| matches!(letter.message, Message::Inquiry(_)));
    cluster.start(3);
    cluster.run();
    for from in [0, 1, 2] {
        cluster.post(from, 3, answer(nothing(3)));
        cluster.post(from, 3, answer(Testimony { nonce: Nonce(5), ..nothing(2) }));
    }
    cluster.run();
    assert_eq!(cluster.core(3).standing(), Standing::Joining);
    let nonce = Nonce(5); // It is the fifth start.
    cluster.post(0, 3, answer(Testimony { nonce, ..nothing(3) }));
    cluster.post(0, 3, answer(Testimony { nonce, ..nothing(3) }));
    cluster.run();
    assert_eq!(cluster.core(3).standing(), Standing::Joining, "one answer, twice");
    cluster.post(1, 3, answer(Testimony { nonce, ..nothing(3) }));
    cluster.run();
    assert_eq!(cluster.core(3).standing(), Standing::Voting);
}

/// A replica that has lost its checkpoint, and whose votes show that it had one, waits until it has one again.
#[test]
fn a_lost_checkpoint_is_waited_for() {
    let mut cluster = Pbft::new(4, 1);
    for slot in 1..=12 {
        cluster.propose(0, &format!("{slot}"));
    }
    cluster.run();
    let stable = cluster.checkpoint(8);
    (0..4).for_each(|id| cluster.input(id, OrderInput::Stable(stable.clone())));
    break_and_start(&mut cluster, 3, |record| matches!(record, Record::Stable(_)));
    assert_eq!(cluster.core(3).standing(), Standing::Joining);
    cluster.input(3, OrderInput::Stable(stable));
    assert_eq!(cluster.core(3).standing(), Standing::Voting);
    cluster.check();
}

/// A snapshot keeps what the damage in the log meant, when the log has long been let go of; and what this replica
/// proposed, so that it knows its own words.
#[test]
fn snapshots_keep_losses_and_standing() {
    let mut cluster = Pbft::new(4, 1);
    ["a", "b"].iter().for_each(|name| cluster.propose(0, name));
    cluster.run();
    break_and_start(&mut cluster, 3, |r| matches!(r, Record::Voted(o) if o.statement.slot.0 == 2));
    let restart = |cluster: &mut Pbft, id: u16| {
        let core = cluster.core(id);
        let snapshot = core.snapshot(core.executed());
        assert_eq!(Snapshot::from_bytes(&snapshot.to_bytes()), Ok(snapshot.clone()));
        cluster.crash(id);
        let disk = &mut cluster.nodes[usize::from(id)].disk;
        (disk.records, disk.lost, disk.snapshot) = (vec![], vec![], Some(snapshot));
        cluster.start(id);
        cluster.run();
    };
    restart(&mut cluster, 3);
    assert_eq!(cluster.core(3).lost(), &slots(&[(2, 2)]));
    assert_eq!(cluster.core(3).standing(), Standing::Voting);
    restart(&mut cluster, 0);
    assert_eq!(cluster.core(0).standing(), Standing::Voting, "it knows its own proposals");
    cluster.crash(2);
    cluster.nodes[2].disk.promise = None;
    cluster.start(2);
    restart(&mut cluster, 2);
    assert_eq!(cluster.core(2).standing(), Standing::Forgotten);
    cluster.check();
}

/// A primary's proposal is on record before it comes back to it. A snapshot that is taken in between keeps it.
#[test]
fn snapshots_keep_proposals_that_are_on_their_way() {
    let mut cluster = Pbft::new(4, 1);
    cluster.propose(0, "a");
    cluster.run();
    cluster.drop = Box::new(|letter| letter.to == ReplicaId(0));
    cluster.propose(0, "b");
    let snapshot = cluster.core(0).snapshot(Slot(1));
    cluster.run();
    cluster.crash(0);
    let disk = &mut cluster.nodes[0].disk;
    (disk.records, disk.snapshot) = (vec![], Some(snapshot));
    cluster.drop = Box::new(|_| false);
    cluster.start(0);
    cluster.run();
    assert_eq!(cluster.core(0).standing(), Standing::Voting, "it knows its own proposals");
    cluster.check();
    // What has come back to it, or is stable, is not kept twice, nor for ever.
    let mut cluster = Pbft::new(4, 1);
    cluster.propose(0, "a");
    cluster.run();
    let proposed = |cluster: &Pbft| {
        let records = cluster.core(0).snapshot(Slot(1)).records;
        records.iter().filter(|record| matches!(record, Record::Proposed(_))).count()
    };
    assert_eq!(proposed(&cluster), 1);
    cluster.drop = Box::new(|letter| letter.to == ReplicaId(0));
    cluster.propose(0, "b");
    assert_eq!(proposed(&cluster), 2);
    let stable = cluster.checkpoint(2);
    cluster.input(0, OrderInput::Stable(stable));
    assert_eq!(proposed(&cluster), 0);
}
