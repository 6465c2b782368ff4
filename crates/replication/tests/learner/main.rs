//! The learner among replicas that a test plays: what it believes, whom it leaves, what it shows.

mod stage;
#[path = "../still/mod.rs"]
mod still;

use stage::{INTERVAL, Stage, crooked};
use std::collections::BTreeSet;
use testudo_core::{Digest, ReplicaId, Slot};
use testudo_replication::feed::{StateAnswer, StateAsk, Tree};
use testudo_replication::{Difference, LearnerOutput, Repair, ReplicaMessage, Standing};
use testudo_state::Map;
use testudo_state::sync::Place;

/// Its own operation is answered from its own execution: once f+1 replicas vouch for it, and not before.
#[test]
fn it_answers_from_its_own_execution() {
    let mut stage = Stage::open();
    stage.answers();
    let bundle = stage.last_bundle();
    let slot = stage.truth.decide(&[bundle]);
    stage.tell(0, slot);
    assert!(stage.answers().is_empty(), "one replica is nobody");
    stage.tell(0, slot);
    assert!(stage.answers().is_empty(), "the same replica twice is one");
    stage.vouch(3, slot);
    assert_eq!(stage.answers(), [(1, "a".to_owned())]);
    assert_eq!(stage.learner.copy().digest(), stage.truth.state.digest());
}

/// Payload may come after the vouchers.
#[test]
fn vouchers_may_come_first() {
    let mut stage = Stage::open();
    stage.answers();
    let bundle = stage.last_bundle();
    let slot = stage.truth.decide(&[bundle]);
    (1..4).for_each(|replica| stage.vouch(replica, slot));
    assert!(stage.answers().is_empty());
    stage.tell(0, slot);
    assert_eq!(stage.answers(), [(1, "a".to_owned())]);
}

/// An upstream that tells another batch than was decided is left at once; nothing of what it told is executed.
#[test]
fn a_lying_upstream_is_left() {
    let mut stage = Stage::open();
    stage.answers();
    let bundle = stage.last_bundle();
    let slot = stage.truth.decide(&[bundle]);
    let mut lie = stage.truth.feed(slot);
    lie.batch.bundles.clear();
    stage.say(0, ReplicaMessage::Feed(lie));
    assert_eq!(stage.learner.upstream(), ReplicaId(0));
    stage.vouch(1, slot);
    assert_eq!(stage.learner.upstream(), ReplicaId(1));
    assert!(stage.answers().is_empty());
    let (to, follow) =
        stage.follows.iter().rev().find(|(_, follow)| follow.payload).expect("asked");
    assert_eq!((*to, follow.from), (ReplicaId(1), slot));
    stage.tell(1, slot);
    assert_eq!(stage.answers(), [(1, "a".to_owned())]);
}

/// An upstream that tells nothing while others go on is left after a while, and not before.
#[test]
fn a_silent_upstream_is_left() {
    let mut stage = Stage::open();
    stage.answers();
    (0..20).for_each(|_| stage.tick());
    assert_eq!(stage.learner.upstream(), ReplicaId(0), "nothing happens: nobody is to blame");
    let bundle = stage.last_bundle();
    let slot = stage.truth.decide(&[bundle]);
    stage.vouch(1, slot);
    (0..20).for_each(|_| stage.tick());
    assert_eq!(stage.learner.upstream(), ReplicaId(0), "one replica says that it is further");
    stage.vouch(2, slot);
    (0..3).for_each(|_| stage.tick());
    assert_eq!(stage.learner.upstream(), ReplicaId(1));
    stage.tell(1, slot);
    assert_eq!(stage.answers(), [(1, "a".to_owned())]);
}

/// A gap is asked for again, once.
#[test]
fn what_was_lost_is_asked_for_again() {
    let mut stage = Stage::open();
    for _ in 0..3 {
        stage.truth.decide(&[]);
    }
    let asked = |stage: &Stage| {
        stage.follows.iter().filter(|(to, follow)| to.0 == 0 && follow.from == Slot(3)).count()
    };
    stage.tell(0, Slot(2));
    stage.vouch(1, Slot(2));
    stage.tell(0, Slot(4));
    stage.tell(0, Slot(4));
    assert_eq!(asked(&stage), 1);
    stage.catch_up();
    assert_eq!(stage.learner.shown(), Slot(4));
}

/// A body that the upstream did not send is fetched, and only what was asked for is kept.
#[test]
fn a_missing_body_is_fetched() {
    let mut stage = Stage::open();
    let slot = stage.truth.decide(&[]);
    let mut feed = stage.truth.feed(slot);
    let bodies = std::mem::take(&mut feed.bodies);
    stage.say(0, ReplicaMessage::Feed(feed.clone()));
    assert!(stage.fetched.is_empty(), "nobody vouches yet");
    stage.vouch(1, slot);
    assert_eq!(stage.fetched, [(ReplicaId(0), feed.batch.bundles.clone())]);
    assert_ne!(stage.learner.shown(), slot);
    stage.say(2, ReplicaMessage::Bodies(bodies));
    assert_eq!(stage.learner.shown(), slot);
}

/// An upstream that keeps a body back is left, though it tells everything else.
#[test]
fn an_upstream_that_keeps_bodies_back_is_left() {
    let mut stage = Stage::open();
    for _ in 0..8 {
        let slot = stage.truth.decide(&[]);
        let mut feed = stage.truth.feed(slot);
        feed.bodies.clear();
        stage.say(0, ReplicaMessage::Feed(feed));
        stage.vouch(1, slot);
        stage.tick();
    }
    assert_ne!(stage.learner.upstream(), ReplicaId(0));
}

/// Its own execution differs from what f+1 vouch for: it answers nothing, says so, and fetches a certified state.
#[test]
fn it_does_not_show_what_it_alone_has_come_to() {
    let mut stage = Stage::open();
    stage.answers();
    let bundle = stage.last_bundle();
    let slot = stage.truth.decide(&[bundle]);
    let mut feed = stage.truth.feed(slot);
    feed.voucher.outcome = Digest::of(b"something else");
    stage.say(1, ReplicaMessage::Voucher(feed.voucher.clone()));
    stage.say(0, ReplicaMessage::Feed(feed));
    stage.work();
    assert_eq!(stage.learner.standing(), Standing::Diverged(slot));
    let standing = stage.outputs.iter().find_map(|output| match output {
        LearnerOutput::Standing(standing) => Some(*standing),
        _ => None,
    });
    assert_eq!(standing, Some(Standing::Diverged(slot)));
    stage.read(9);
    (0..4).for_each(|replica| stage.claim(replica, 0));
    assert!(stage.answers().is_empty());
    assert!(matches!(stage.asked.last(), Some((_, StateAsk::Head))));
    // The replicas have come to this in truth; it repairs, says what was wrong with its entries (nothing, in this story),
    // and its operation is answered out of the session's memory.
    stage.truth.stable = Some(stage.truth.state.clone());
    stage.serve_state();
    let repair = stage.outputs.iter().find_map(|output| match output {
        LearnerOutput::Repaired(Repair { slot, differing, .. }) => Some((*slot, differing.clone())),
        _ => None,
    });
    assert_eq!(repair, Some((slot, Some(Difference::default()))));
    (0..3).for_each(|replica| stage.vouch(replica, slot));
    assert!(matches!(stage.learner.standing(), Standing::Following(_)));
    assert_eq!(stage.answers(), [(1, "a".to_owned()), (9, "readable".to_owned())]);
    assert_eq!(stage.learner.copy().digest(), stage.truth.state.digest());
}

/// One who is too far behind to be told is offered a checkpoint; one replica alone cannot make it fetch.
#[test]
fn it_is_cut_over_to_a_certified_state() {
    let mut stage = Stage::new();
    for _ in 0..10 {
        stage.truth.decide(&[]);
    }
    stage.truth.stable = Some(stage.truth.state.clone());
    let last = stage.truth.decide(&[]);
    stage.offer(0);
    assert!(stage.asked.is_empty(), "it may be a lie that nobody can tell");
    assert_eq!(stage.learner.upstream(), ReplicaId(1));
    stage.offer(0);
    assert!(stage.asked.is_empty(), "it is not the upstream any more");
    stage.offer(1);
    let asked: Vec<_> = (0..4).map(|id| (ReplicaId(id), StateAsk::Head)).collect();
    assert_eq!(stage.asked, asked);
    stage.serve_state();
    assert_eq!(stage.learner.copy().slot, Slot(10));
    assert_eq!(stage.learner.standing(), Standing::Fetching, "it has to catch up yet");
    stage.catch_up();
    stage.tell(1, last);
    (2..4).for_each(|replica| stage.vouch(replica, last));
    assert_eq!(stage.learner.standing(), Standing::Following(ReplicaId(1)));
    assert_eq!(stage.learner.copy().digest(), stage.truth.state.digest());
}

/// The last question that is for nodes.
fn asked_for_nodes(stage: &mut Stage) -> (ReplicaId, Slot, Tree, Vec<Place>) {
    let is_about_nodes = |(_, ask): &(_, StateAsk)| *ask != StateAsk::Head;
    let index = stage.asked.iter().rposition(is_about_nodes).expect("nodes are asked for");
    match stage.asked.remove(index) {
        (to, StateAsk::Nodes { slot, tree, places }) => (to, slot, tree, places),
        other => panic!("{other:?}"),
    }
}

/// Nodes that prove nothing, and replicas that have nothing, change the source, not the state.
#[test]
fn a_state_is_taken_from_nobody_on_trust() {
    let mut stage = Stage::left_behind();
    stage.say(3, ReplicaMessage::State(StateAnswer::Gone(Slot(0))));
    stage.serve_head(1);
    let mut other = Map::new();
    (0..40_u8).for_each(|key| drop(other.insert([key], [key; 9].into())));
    let mut liars = BTreeSet::new();
    for wrong in [other.nodes(&[Place::root()], 1), Vec::new()] {
        let (to, slot, tree, _) = asked_for_nodes(&mut stage);
        assert!(liars.insert(to), "one that lied is asked again at once");
        stage.say(to.0, ReplicaMessage::State(StateAnswer::Nodes { slot, tree, nodes: wrong }));
    }
    assert_eq!(stage.learner.copy().slot, Slot(0));
    // A summary that is not what the head says is no better.
    let (certificate, head, mut summaries) = stage.stable();
    summaries.service = other.summary();
    stage.say(0, ReplicaMessage::State(StateAnswer::Head(certificate, head, summaries)));
    stage.serve_state();
    assert_eq!(stage.learner.copy().slot, Slot(10));
}

/// All sources are asked at once; each has a bounded number of questions open.
#[test]
fn many_give_one_state() {
    let mut stage = Stage::left_behind();
    stage.truth.fill(5000);
    stage.truth.stable = Some(stage.truth.state.clone());
    (0..4).for_each(|id| stage.serve_head(id));
    let mut givers = BTreeSet::new();
    while !stage.asked.is_empty() {
        for id in 0..4 {
            let open = stage.take_asked(id);
            assert!(open.len() <= 2, "{open:?}");
            for (to, ask) in open {
                givers.insert(to);
                stage.answer_state(to, ask, 4096);
            }
        }
        if stage.asked.is_empty() && stage.learner.copy().slot == Slot(0) {
            stage.tick();
        }
    }
    assert_eq!(givers.len(), 4);
    assert_eq!(stage.learner.copy().slot, Slot(10));
}

/// A newer checkpoint in the middle becomes the target, and what was taken of the old one serves it.
#[test]
fn a_newer_checkpoint_takes_the_place_of_an_older_one() {
    let mut stage = Stage::left_behind();
    stage.truth.fill(5000);
    stage.truth.stable = Some(stage.truth.state.clone());
    stage.serve_head(0);
    for _ in 0..3 {
        (0..4).for_each(|id| stage.serve_little(id));
    }
    stage.truth.decide(&[]);
    stage.truth.stable = Some(stage.truth.state.clone());
    (0..4).for_each(|_| stage.tick());
    let progress = stage.learner.progress().expect("it is under way");
    assert!(progress.fetched.nodes > 5, "{progress:?}");
    for _ in 0..100 {
        stage.serve_state();
        stage.tick();
    }
    assert_eq!(stage.learner.copy().slot, Slot(11));
    assert_eq!(stage.learner.copy().digest(), stage.truth.state.digest());
}

/// All readers that wait share a round; one that comes later has the next.
#[test]
fn readers_share_a_round() {
    let mut stage = Stage::settled();
    stage.answers();
    stage.read(1);
    stage.read(2);
    stage.read(3);
    assert_eq!(stage.rounds.len(), 1);
    (1..4).for_each(|replica| stage.claim(replica, 0));
    assert_eq!(stage.answers(), [(1, "readable".to_owned())]);
    assert_eq!(stage.rounds.len(), 2);
    (1..4).for_each(|replica| stage.claim(replica, 0));
    let readable = |ticket| (ticket, "readable".to_owned());
    assert_eq!(stage.answers(), [readable(2), readable(3)]);
}

/// Claims that never come: a barrier is ordered, and its execution frees the readers.
#[test]
fn readers_without_claims_are_freed_by_a_barrier() {
    let mut stage = Stage::open();
    let first = stage.last_bundle();
    stage.truth.decide(&[first]);
    stage.catch_up();
    stage.answers();
    stage.read(7);
    (0..4).for_each(|_| stage.tick());
    let barrier = stage.last_bundle();
    stage.truth.decide(&[barrier]);
    stage.catch_up();
    assert_eq!(stage.answers(), [(7, "readable".to_owned())]);
}

/// A learner that the cluster does not admit says so once it knows.
#[test]
fn a_stranger_is_told_so() {
    let mut stage = Stage::admitting(BTreeSet::new());
    stage.submit(1, "a");
    assert!(stage.answers().is_empty());
    (1..4).for_each(|replica| stage.vouch(replica, Slot(0)));
    assert_eq!(stage.answers(), [(1, "NotAdmitted".to_owned())]);
}

/// A stranger whom nobody lets follow believes f+1 replicas that say so.
#[test]
fn a_stranger_that_cannot_follow_is_told_so() {
    let mut stage = Stage::new();
    stage.submit(1, "a");
    let bundle = stage.last_bundle();
    stage.refuse(2, &bundle);
    stage.refuse(2, &bundle);
    assert!(stage.answers().is_empty(), "one replica is nobody");
    stage.refuse(3, &bundle);
    assert_eq!(stage.answers(), [(1, "NotAdmitted".to_owned())]);
}

/// What is executed while it catches up is answered once it has caught up: then the published copy covers it.
#[test]
fn nothing_is_answered_before_it_is_published() {
    let mut stage = Stage::new();
    stage.submit(1, "a");
    let opening = stage.last_bundle();
    stage.truth.decide(&[opening]);
    for _ in 0..3 {
        stage.truth.decide(&[]);
    }
    let first = Slot(1);
    (1..4).for_each(|replica| stage.vouch(replica, Slot(4)));
    stage.tell(0, first);
    stage.vouch(1, first);
    assert_eq!(stage.learner.copy().slot, first);
    assert_eq!(stage.bundles.len(), 1, "its session is not known to be open");
    (2..5).for_each(|slot| stage.tell(0, Slot(slot)));
    assert!(matches!(stage.learner.standing(), Standing::Following(_)));
    assert_eq!(stage.bundles.len(), 2);
}

/// One replica's low word does not make an empty copy a caught-up one.
#[test]
fn a_liar_alone_does_not_make_it_caught_up() {
    let mut stage = Stage::new();
    for _ in 0..3 {
        stage.truth.decide(&[]);
    }
    stage.vouch(3, Slot(0));
    stage.vouch(1, Slot(3));
    assert_eq!(stage.learner.standing(), Standing::Fetching);
    stage.vouch(2, Slot(3));
    assert_eq!(stage.learner.standing(), Standing::Fetching);
    stage.catch_up();
    assert!(matches!(stage.learner.standing(), Standing::Following(_)));
}

/// It stops between two slots that can be compared, as a body is kept back, and its upstream is left: what lies between
/// them was compared with nothing, and nobody sees it.
#[test]
fn what_was_executed_and_not_compared_is_not_shown() {
    let mut stage = Stage::new();
    for _ in 0..4 {
        stage.truth.decide(&[]);
    }
    // The goal is low: three replicas were here when it began.
    (1..4).for_each(|replica| stage.vouch(replica, Slot(1)));
    for slot in 2..5 {
        let mut feed = stage.truth.feed(Slot(slot));
        if slot == 4 {
            feed.bodies.clear();
        }
        stage.say(0, ReplicaMessage::Feed(feed));
    }
    stage.tell(0, Slot(1));
    for slot in 2..5 {
        let mut feed = stage.truth.feed(Slot(slot));
        if slot == 3 {
            feed.bodies.clear();
        }
        stage.say(0, ReplicaMessage::Feed(feed));
    }
    (1..4).for_each(|replica| stage.vouch(replica, Slot(4)));
    assert_eq!(stage.learner.copy().slot, Slot(2), "executed up to the missing body");
    (0..8).for_each(|_| stage.tick());
    assert_ne!(stage.learner.upstream(), ReplicaId(0));
    (1..4).for_each(|replica| stage.vouch(replica, Slot(4)));
    assert_eq!(stage.learner.shown(), Slot(1));
    let upstream = stage.learner.upstream().0;
    (3..5).for_each(|slot| stage.tell(upstream, Slot(slot)));
    assert_eq!(stage.learner.shown(), Slot(4));
}

/// An upstream that tells one slot at a time, while the order goes on faster, is left.
#[test]
fn an_upstream_that_drips_is_left() {
    let mut stage = Stage::open();
    let mut told = stage.learner.shown();
    for _ in 0..20 {
        for _ in 0..10 {
            let slot = stage.truth.decide(&[]);
            (1..3).for_each(|replica| stage.vouch(replica, slot));
        }
        if stage.learner.upstream() == ReplicaId(0) {
            told = told.next();
            stage.tell(0, told);
        }
        stage.tick();
    }
    assert_ne!(stage.learner.upstream(), ReplicaId(0));
}

/// A source of state that gives little, and that late, is left for a while, and what it gave stays.
#[test]
fn a_source_that_drips_is_left() {
    let mut stage = Stage::left_behind();
    stage.truth.fill(5000);
    stage.truth.stable = Some(stage.truth.state.clone());
    (0..4).for_each(|id| stage.serve_head(id));
    let (mut ticks, mut dripped) = (0, 0);
    while stage.learner.copy().slot == Slot(0) {
        for id in [0, 2, 3] {
            for (to, ask) in stage.take_asked(id) {
                stage.answer_state(to, ask, 1 << 20);
            }
        }
        if stage.asked.iter().all(|(to, _)| to.0 == 1) {
            stage.tick();
            ticks += 1;
            dripped += stage.asked.len();
            stage.serve_little(1);
        }
    }
    assert!(ticks < 20 && dripped < 10, "{ticks} ticks, {dripped} questions");
}

/// A genuine head that nobody serves any more, from a liar that is silent then: it is given up once all correct replicas
/// have said so, and not taken again.
#[test]
fn a_checkpoint_that_nobody_serves_is_given_up() {
    let mut stage = Stage::left_behind();
    stage.serve_head(1);
    for _ in 0..40 {
        for (to, ask) in std::mem::take(&mut stage.asked) {
            if let StateAsk::Nodes { slot, .. } = ask
                && to != ReplicaId(1)
            {
                stage.say(to.0, ReplicaMessage::State(StateAnswer::Gone(slot)));
            }
        }
        stage.tick();
    }
    let is_for_a_head = |(_, ask): &(ReplicaId, StateAsk)| *ask == StateAsk::Head;
    assert!(!stage.asked.is_empty() && stage.asked.iter().all(is_for_a_head), "{:?}", stage.asked);
    // The same head is of no use now; a newer one is.
    stage.serve_head(1);
    assert!(stage.asked.iter().all(is_for_a_head));
    for _ in 0..10 {
        stage.truth.decide(&[]);
    }
    stage.truth.stable = Some(stage.truth.state.clone());
    stage.serve_state();
    assert_eq!(stage.learner.copy().slot, Slot(20));
}

/// It differs before any checkpoint was stable: there is no state to be fetched, and it begins again.
#[test]
fn without_a_checkpoint_it_begins_again() {
    let mut stage = Stage::open();
    let slot = stage.truth.decide(&[]);
    let mut feed = stage.truth.feed(slot);
    feed.voucher.outcome = Digest::of(b"something else");
    stage.say(1, ReplicaMessage::Voucher(feed.voucher.clone()));
    stage.say(0, ReplicaMessage::Feed(feed));
    assert_eq!(stage.learner.standing(), Standing::Diverged(slot));
    stage.work();
    for _ in 0..3 {
        let (to, _) = stage.asked.pop().expect("asked");
        stage.say(to.0, ReplicaMessage::State(StateAnswer::Gone(Slot(0))));
    }
    assert_eq!(stage.learner.copy().slot, Slot(0));
    assert_eq!(stage.learner.standing(), Standing::Fetching);
}

/// What a liar tells is not fetched for it, and what it sends with its lies does not stay.
#[test]
fn a_lie_is_not_fetched() {
    let mut stage = Stage::open();
    let slot = stage.truth.decide(&[]);
    let mut lie = stage.truth.feed(slot);
    lie.batch.bundles = vec![Digest::of(b"anything"), Digest::of(b"anything else")];
    lie.bodies.clear();
    stage.say(0, ReplicaMessage::Feed(lie));
    let later = stage.truth.decide(&[]);
    (1..3).for_each(|replica| stage.vouch(replica, later));
    (0..2).for_each(|_| stage.tick());
    assert!(stage.fetched.is_empty());
}

/// Whatever two upstreams tell does not link to what is vouched for: one of them is correct, so what is wrong is the
/// learner's own chain.
#[test]
fn a_chain_that_nobody_can_continue_is_its_own_fault() {
    let mut stage = Stage::open();
    let slot = stage.truth.decide(&[]);
    let mut other = stage.truth.feed(slot);
    other.voucher.chain = Digest::of(b"what the others have");
    let tell = |stage: &mut Stage, upstream: u16| {
        stage.say(upstream, ReplicaMessage::Feed(other.clone()));
        stage.say(3, ReplicaMessage::Voucher(other.voucher.clone()));
    };
    tell(&mut stage, 0);
    assert_eq!(stage.learner.upstream(), ReplicaId(1));
    assert!(matches!(stage.learner.standing(), Standing::Following(_)), "one may lie");
    tell(&mut stage, 1);
    assert_eq!(stage.learner.standing(), Standing::Diverged(slot));
    stage.work();
    assert!(matches!(stage.asked.last(), Some((_, StateAsk::Head))));
}

/// One that is wrong by itself fetches a state again and again, but ever more seldom.
#[test]
fn one_that_is_always_wrong_keeps_nobody_busy() {
    let mut stage = Stage::new();
    stage.truth.decide(&[]);
    stage.outputs.clear();
    for _ in 0..200 {
        // The network is as fast as it can be: a hundred answers between two ticks.
        for _ in 0..100 {
            while let Some((to, _)) = stage.asked.pop() {
                stage.say(to.0, ReplicaMessage::State(StateAnswer::Gone(Slot(0))));
            }
            let mut feed = stage.truth.feed(Slot(1));
            feed.voucher.outcome = Digest::of(b"something else");
            let upstream = stage.learner.upstream().0;
            stage.say((upstream + 1) % 4, ReplicaMessage::Voucher(feed.voucher.clone()));
            stage.say(upstream, ReplicaMessage::Feed(feed));
            stage.work();
        }
        stage.tick();
    }
    let is_divergence =
        |output: &&LearnerOutput| matches!(output, LearnerOutput::Standing(Standing::Diverged(_)));
    let times = stage.outputs.iter().filter(is_divergence).count();
    assert!((5..=12).contains(&times), "{times} times");
}

/// A whole checkpoint interval in the life of a learner, with its upstream's and another's word for each slot; then the
/// checkpoint is stable, and its certificate is asked for.
fn to_a_checkpoint(stage: &mut Stage) {
    (1..4).for_each(|replica| stage.vouch(replica, Slot(0)));
    stage.submit(1, "a");
    let opening = stage.last_bundle();
    stage.truth.decide(&[opening]);
    stage.catch_up();
    let operation = stage.last_bundle();
    stage.truth.decide(&[operation]);
    while stage.truth.state.slot < Slot(INTERVAL) {
        stage.truth.decide(&[]);
    }
    stage.truth.stable = Some(stage.truth.state.clone());
    stage.catch_up();
    assert_eq!(stage.answers(), [(1, "a".to_owned())]);
    stage.work();
    stage.asked.clear();
    stage.tick();
    let [(asked, StateAsk::Certificate)] = stage.asked[..] else { panic!("{:?}", stage.asked) };
    assert_ne!(asked, stage.learner.upstream());
}

/// All of its state is what a quorum has signed, and nobody is asked any more.
#[test]
fn the_whole_state_is_compared_at_checkpoints() {
    let mut stage = Stage::new();
    to_a_checkpoint(&mut stage);
    stage.serve_state();
    assert_eq!(stage.learner.compared(), Slot(INTERVAL));
    stage.tick();
    assert!(stage.asked.is_empty());
    assert!(matches!(stage.learner.standing(), Standing::Following(_)));
}

/// What it answers is right, and what it holds is not: no voucher shows that, but the checkpoint does.
#[test]
fn a_state_that_is_wrong_behind_right_answers_is_found_out() {
    let mut stage = Stage::with(crooked());
    to_a_checkpoint(&mut stage);
    let (asked, _) = stage.asked.pop().expect("a certificate is asked for");
    stage.offer(asked.0);
    assert_eq!(stage.learner.standing(), Standing::Diverged(Slot(INTERVAL)));
    stage.work();
    stage.serve_state();
    let repair = stage.outputs.iter().find_map(|output| match output {
        LearnerOutput::Repaired(repair) => Some(repair.clone()),
        _ => None,
    });
    let Some(Repair { slot: Slot(INTERVAL), fetched, differing: Some(differing) }) = repair else {
        panic!("{repair:?}")
    };
    let first = Some((Tree::Service, b"stray".to_vec().into()));
    assert_eq!(differing, Difference { entries: 1, first });
    assert!(fetched.nodes <= 2, "what is right is not fetched: {fetched:?}");
    (1..4).for_each(|replica| stage.vouch(replica, Slot(INTERVAL)));
    assert!(matches!(stage.learner.standing(), Standing::Following(_)));
    assert_eq!(stage.learner.copy().digest(), stage.truth.state.digest());
}
