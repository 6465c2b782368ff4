//! What replicas tell learners.

mod cluster;

use cluster::{Cluster, Message, Tape, Timer, client};
use testudo_contracts::Ordering as _;
use testudo_core::{Digest, Peer, ReplicaId, Slot, Target, limits};
use testudo_replication::{
    Claim, Feed, Follow, ReplicaMessage, StateAnswer, StateAsk, Tree, Voucher,
};
use testudo_state::sync::Place;

const PAYLOAD: u16 = 1;

fn follow(from: u64, payload: bool) -> Message {
    ReplicaMessage::Follow(Follow { from: Slot(from), payload })
}

/// A learner with client 1's key follows all, and takes payload from one.
fn follow_all(cluster: &mut Cluster, from: u64) {
    for id in 0..4 {
        cluster.say_to(1, id, follow(from, id == PAYLOAD));
    }
}

fn feed((from, message): &(u16, Message)) -> Option<(u16, &Feed)> {
    match message {
        ReplicaMessage::Feed(feed) => Some((*from, feed)),
        _ => None,
    }
}

fn feeds(heard: &[(u16, Message)]) -> Vec<(u16, &Feed)> {
    heard.iter().filter_map(feed).collect()
}

fn vouchers(heard: &[(u16, Message)]) -> Vec<(u16, u64)> {
    let voucher = |(from, message): &(u16, Message)| match message {
        ReplicaMessage::Voucher(Voucher { slot, .. }) => Some((*from, slot.0)),
        _ => None,
    };
    heard.iter().filter_map(voucher).collect()
}

fn put(cluster: &mut Cluster, name: u8, session: u64, sequence: u64, operation: &[u8]) {
    let bundle = Cluster::bundle(session, sequence, operation);
    cluster.say(name, ReplicaMessage::Bundle(bundle));
}

/// Whatever is fed links to the genesis and is what the replicas executed.
fn assert_links(cluster: &Cluster, feeds: &[(u16, &Feed)]) {
    let mut chain = Digest::ZERO;
    for (_, Feed { voucher, batch, .. }) in feeds {
        let Voucher { slot, .. } = voucher;
        chain = Digest::of_parts(&[&chain.0, &slot.0.to_le_bytes(), &batch.digest().0]);
        assert_eq!(chain, voucher.chain);
    }
    assert_eq!(chain, cluster.replica(0).state().chain);
}

#[test]
fn a_follower_is_told_each_slot_when_it_executes() {
    let mut cluster = Cluster::new(100, Tape::default());
    follow_all(&mut cluster, 1);
    let heard = cluster.take_heard(1);
    assert_eq!(vouchers(&heard), [(0, 0), (1, 0), (2, 0), (3, 0)], "nothing is executed yet");
    let session = cluster.open(2);
    let own = cluster.open(1);
    put(&mut cluster, 2, session, 1, b"a");
    put(&mut cluster, 1, own, 1, b"b");
    cluster.check(4);
    let heard = cluster.take_heard(1);
    let feeds = feeds(&heard);
    assert_links(&cluster, &feeds);
    let fed: Vec<_> = feeds.iter().map(|(from, f)| (*from, f.voucher.slot.0)).collect();
    assert_eq!(fed, [(PAYLOAD, 1), (PAYLOAD, 2), (PAYLOAD, 3), (PAYLOAD, 4)]);
    let bodies: Vec<_> = feeds.iter().map(|(_, feed)| feed.bodies.len()).collect();
    assert_eq!(bodies, [1, 0, 1, 0], "it has its own bundles");
    let vouched = vouchers(&heard);
    for id in [0, 2, 3] {
        let of: Vec<u64> = vouched.iter().filter(|(from, _)| *from == id).map(|v| v.1).collect();
        assert_eq!(of, [1, 2, 3, 4]);
    }
}

#[test]
fn a_follower_gets_no_reply_until_it_asks_again() {
    let mut cluster = Cluster::new(100, Tape::default());
    follow_all(&mut cluster, 1);
    let session = cluster.open(1);
    put(&mut cluster, 1, session, 1, b"a");
    let is_reply = |(_, message): &(u16, Message)| matches!(message, ReplicaMessage::Reply(_));
    assert_eq!(cluster.take_heard(1).iter().filter(|heard| is_reply(heard)).count(), 0);
    put(&mut cluster, 1, session, 1, b"a");
    assert_eq!(cluster.take_heard(1).iter().filter(|heard| is_reply(heard)).count(), 4);
    let other = cluster.open(2);
    put(&mut cluster, 2, other, 1, b"b");
    assert_eq!(cluster.take_heard(2).iter().filter(|heard| is_reply(heard)).count(), 8);
}

/// With so many slots executed, and nobody following.
fn with_slots(interval: u64, slots: u64) -> (Cluster, u64) {
    let mut cluster = Cluster::new(interval, Tape::default());
    let session = cluster.open(2);
    for sequence in 1..slots {
        put(&mut cluster, 2, session, sequence, &sequence.to_le_bytes());
    }
    cluster.check(slots);
    cluster.heard.clear();
    (cluster, session)
}

#[test]
fn whoever_lags_is_told_in_steps() {
    let slots = limits::FOLLOW_STEP + 10;
    let (mut cluster, session) = with_slots(1000, slots);
    follow_all(&mut cluster, 1);
    let heard = cluster.take_heard(1);
    let first = feeds(&heard);
    assert_eq!(first.len() as u64, limits::FOLLOW_STEP);
    assert_eq!(
        vouchers(&heard),
        [(0, limits::FOLLOW_STEP), (0, slots), (1, slots), (2, limits::FOLLOW_STEP), (2, slots)]
            .into_iter()
            .chain([(3, limits::FOLLOW_STEP), (3, slots)])
            .collect::<Vec<_>>()
    );
    // What executes meanwhile is not fed: it would not link.
    put(&mut cluster, 2, session, slots, b"x");
    let meanwhile = cluster.take_heard(1);
    assert!(feeds(&meanwhile).is_empty());
    assert_eq!(vouchers(&meanwhile).len(), 3);
    follow_all(&mut cluster, limits::FOLLOW_STEP + 1);
    put(&mut cluster, 2, session, slots + 1, b"y");
    let rest = cluster.take_heard(1);
    let all: Vec<_> = first.into_iter().chain(feeds(&rest)).collect();
    assert_links(&cluster, &all);
    assert!(all.iter().all(|(_, feed)| feed.bodies.len() == 1));
}

#[test]
fn whoever_does_not_repeat_it_is_forgotten() {
    let mut cluster = Cluster::new(100, Tape::default());
    follow_all(&mut cluster, 1);
    (0..8).for_each(|_| cluster.fire_all(Timer::Follow));
    assert_eq!(cluster.replica(0).status().followers, 1);
    follow_all(&mut cluster, 1);
    (0..9).for_each(|_| cluster.fire_all(Timer::Follow));
    assert_eq!(cluster.replica(0).status().followers, 0);
    assert!(!cluster.fire(0, Timer::Follow), "nobody is left to be forgotten");
    cluster.take_heard(1);
    cluster.open(2);
    assert!(cluster.take_heard(1).is_empty());
}

#[test]
fn a_stranger_is_told_nothing() {
    let mut cluster = Cluster::new(100, Tape::default());
    cluster.open(2);
    for message in [
        follow(1, true),
        ReplicaMessage::ClaimAsk(1),
        ReplicaMessage::StateAsk(StateAsk::Head),
        ReplicaMessage::Fetch(vec![Digest::of(b"a body")]),
    ] {
        cluster.say(9, message);
    }
    assert!(cluster.take_heard(9).is_empty());
    assert_eq!(cluster.replica(0).status().followers, 0);
}

#[test]
fn a_flood_of_questions_is_answered_within_its_budget() {
    let (mut cluster, _) = with_slots(1000, 4);
    for _ in 0..2 * limits::QUESTIONS {
        cluster.say_to(1, PAYLOAD, follow(1, true));
    }
    let told = feeds(&cluster.take_heard(1)).len();
    assert_eq!(told, 4 * limits::QUESTIONS);
    cluster.say_to(3, PAYLOAD, follow(1, true));
    assert_eq!(feeds(&cluster.take_heard(3)).len(), 4, "others have budgets of their own");
    cluster.fire_all(Timer::Budget);
    cluster.say_to(1, PAYLOAD, follow(1, true));
    assert_eq!(feeds(&cluster.take_heard(1)).len(), 4);
    for round in 0..2 * limits::CLAIMS as u64 {
        cluster.say_to(1, 0, ReplicaMessage::ClaimAsk(round));
    }
    assert_eq!(cluster.take_heard(1).len(), limits::CLAIMS);
}

#[test]
fn bodies_are_lent_to_learners() {
    let (mut cluster, session) = with_slots(1000, 2);
    let bundle = Cluster::bundle(session, 1, &1_u64.to_le_bytes());
    let digest = bundle.digest(Peer::Client(client(2)), cluster.config.order.domain);
    cluster.say_to(1, 3, ReplicaMessage::Fetch(vec![digest]));
    let heard = cluster.take_heard(1);
    let [(3, ReplicaMessage::Bodies(bodies))] = heard.as_slice() else { panic!("{heard:?}") };
    let body = bodies[0].verify_embedded(&cluster.context()).expect("its client signed it");
    assert_eq!(body, bundle);
}

#[test]
fn claims_cover_what_was_executed_and_what_was_voted_for() {
    let (mut cluster, session) = with_slots(1000, 3);
    cluster.say(1, ReplicaMessage::ClaimAsk(7));
    let claim = |slot| Claim { round: 7, slot: Slot(slot) };
    let claims = |heard: Vec<(u16, Message)>| -> Vec<(u16, Claim)> {
        let claim = |(from, message)| match message {
            ReplicaMessage::Claim(claim) => (from, claim),
            other => panic!("{other:?}"),
        };
        heard.into_iter().map(claim).collect()
    };
    assert_eq!(
        claims(cluster.take_heard(1)),
        [(0, claim(3)), (1, claim(3)), (2, claim(3)), (3, claim(3))]
    );
    // Somebody may have decided it: all have voted, and the votes that they sent reach nobody else.
    cluster.drop = Box::new(|letter| {
        let ReplicaMessage::Order(message) = &letter.message else { return false };
        matches!(message, testudo_pbft::Message::Commit(_))
            && letter.from != Peer::Replica(letter.to)
    });
    put(&mut cluster, 2, session, 3, b"x");
    cluster.heard.clear();
    cluster.say(1, ReplicaMessage::ClaimAsk(7));
    assert_eq!(cluster.replica(0).state().slot, Slot(3));
    assert_eq!(
        claims(cluster.take_heard(1)),
        [(0, claim(4)), (1, claim(4)), (2, claim(4)), (3, claim(4))]
    );
    assert_eq!(cluster.replica(0).order().read_claim(), Some(Slot(4)));
}

#[test]
fn a_replica_that_is_not_well_says_nothing_of_its_state() {
    let wrong = Tape { wrong_from: Some(6), ..Tape::default() };
    let right = Tape::default();
    let mut cluster = Cluster::with(4, [right, right, right, wrong]);
    let session = cluster.open(2);
    for sequence in 1..4 {
        put(&mut cluster, 2, session, sequence, &[sequence as u8]);
    }
    cluster.check(4);
    // Nobody gives it a state to heal with.
    cluster.drop = Box::new(|letter| matches!(letter.message, ReplicaMessage::State(_)));
    for sequence in 4..8 {
        put(&mut cluster, 2, session, sequence, &[sequence as u8]);
    }
    assert_eq!(cluster.replica(3).status().health, testudo_replication::Health::Diverged(Slot(8)));
    cluster.take_heard(1);
    cluster.say_to(1, 3, follow(1, true));
    cluster.say_to(1, 3, ReplicaMessage::ClaimAsk(1));
    put(&mut cluster, 2, session, 8, b"x");
    // What it has voted for is no matter of its state.
    let heard = cluster.take_heard(1);
    let [(3, ReplicaMessage::Claim(Claim { round: 1, slot: Slot(8) }))] = heard.as_slice() else {
        panic!("{heard:?}")
    };
}

#[test]
fn the_newest_stable_state_is_served_and_what_is_too_old_is_gone() {
    let (mut cluster, _) = with_slots(4, 9);
    cluster.say_to(1, 2, ReplicaMessage::StateAsk(StateAsk::Head));
    let heard = cluster.take_heard(1);
    let [(2, ReplicaMessage::State(StateAnswer::Head(certificate, head, _)))] = heard.as_slice()
    else {
        panic!("{heard:?}")
    };
    assert_eq!((head.slot, head.digest()), (Slot(8), certificate.statement().state));
    let ask = StateAsk::Nodes { slot: Slot(3), tree: Tree::Service, places: root() };
    cluster.say_to(1, 2, ReplicaMessage::StateAsk(ask));
    let heard = cluster.take_heard(1);
    assert!(matches!(heard.as_slice(), [(2, ReplicaMessage::State(StateAnswer::Gone(Slot(3))))]));
}

fn root() -> Vec<Place> {
    vec![Place::root()]
}

fn ask(cluster: &mut Cluster, name: u8, ask: StateAsk) -> StateAnswer {
    cluster.take_heard(name);
    cluster.say_to(name, 2, ReplicaMessage::StateAsk(ask));
    match cluster.take_heard(name).pop() {
        Some((2, ReplicaMessage::State(answer))) => answer,
        other => panic!("{other:?}"),
    }
}

fn head_slot(cluster: &mut Cluster, name: u8) -> Slot {
    match ask(cluster, name, StateAsk::Head) {
        StateAnswer::Head(_, head, _) => head.slot,
        other => panic!("{other:?}"),
    }
}

/// Whether this client is given the first part of the state of that slot.
fn is_given(cluster: &mut Cluster, name: u8, slot: Slot) -> bool {
    let part = StateAsk::Nodes { slot, tree: Tree::Service, places: root() };
    match ask(cluster, name, part) {
        StateAnswer::Nodes { .. } => true,
        StateAnswer::Gone(_) => false,
        other => panic!("{other:?}"),
    }
}

/// Orders until there is another checkpoint, and lets some time pass.
fn another_checkpoint(cluster: &mut Cluster, session: u64) {
    let slot = cluster.replica(2).state().slot.0;
    for sequence in slot..slot + 4 {
        put(cluster, 2, session, sequence, &sequence.to_le_bytes());
    }
    cluster.fire_all(Timer::Budget);
}

#[test]
fn a_transfer_goes_on_however_often_others_ask_for_heads() {
    let (mut cluster, session) = with_slots(4, 4);
    let slot = head_slot(&mut cluster, 1);
    assert!(is_given(&mut cluster, 1, slot));
    for round in 1..=10 {
        another_checkpoint(&mut cluster, session);
        assert_eq!(head_slot(&mut cluster, 3), Slot(slot.0 + 4 * round));
        assert!(is_given(&mut cluster, 1, slot), "gone after {round} checkpoints");
    }
}

#[test]
fn a_transfer_goes_on_however_many_others_begin_and_leave() {
    let (mut cluster, session) = with_slots(4, 4);
    let slot = head_slot(&mut cluster, 1);
    assert!(is_given(&mut cluster, 1, slot));
    for round in 1..=10 {
        another_checkpoint(&mut cluster, session);
        let newest = head_slot(&mut cluster, 3);
        assert!(is_given(&mut cluster, 3, newest));
        assert!(is_given(&mut cluster, 1, slot), "gone after {round} checkpoints");
        let before = Slot(newest.0 - 4);
        assert_eq!(is_given(&mut cluster, 3, before), round == 1, "each holds one state");
        assert!(is_given(&mut cluster, 3, newest));
    }
    // What nobody asks for is let go.
    for _ in 0..100 {
        cluster.fire_all(Timer::Budget);
    }
    assert!(!cluster.fire(2, Timer::Budget), "there is nothing left to wait for");
    another_checkpoint(&mut cluster, session);
    assert!(!is_given(&mut cluster, 1, slot));
}

/// Finding a part is work, so there is a bound for all peers together, and whoever has had nothing is still given one.
#[test]
fn parts_of_the_state_are_given_within_a_budget_for_all() {
    let (mut cluster, session) = with_slots(4, 2);
    // A key that takes as much as a part may, so that whatever node it is in takes as much.
    put(&mut cluster, 2, session, 2, &vec![7; limits::CHUNK_BYTES]);
    put(&mut cluster, 2, session, 3, b"x");
    cluster.take_heard(2);
    let part = StateAsk::Nodes { slot: Slot(4), tree: Tree::Service, places: root() };
    let mut given = Vec::new();
    for name in 1..=3 {
        for _ in 0..100 {
            cluster.say_to(name, 2, ReplicaMessage::StateAsk(part.clone()));
        }
        given.push(cluster.take_heard(name).len());
    }
    let share = limits::LENT_BYTES / limits::CHUNK_BYTES - 1;
    assert_eq!(given, [share, share, 1]);
    cluster.fire_all(Timer::Budget);
    assert!(is_given(&mut cluster, 3, Slot(4)));
}

/// The memory of recent slots ends somewhere; whoever lags further is offered the checkpoint.
#[test]
fn whoever_lags_too_far_is_offered_the_checkpoint() {
    let mut cluster = Cluster::new(256, Tape::default());
    let session = cluster.open(2);
    let many = limits::RECENT_SLOTS as u64 / 4 + 300;
    for sequence in 1..many {
        let bundle = ReplicaMessage::Bundle(Cluster::bundle(session, sequence, b"x"));
        cluster.post(Peer::Client(client(2)), Target::Replicas, bundle);
        cluster.run();
        cluster.heard.clear();
    }
    cluster.say_to(1, 2, follow(1, true));
    let heard = cluster.take_heard(1);
    let [(2, ReplicaMessage::Stable(stable)), (2, ReplicaMessage::Voucher(_))] = heard.as_slice()
    else {
        panic!("{heard:?}")
    };
    assert!(stable.statement().slot.0 >= many / 256 * 256);
    cluster.say_to(1, 2, follow(stable.statement().slot.0 + 1, true));
    assert!(!feeds(&cluster.take_heard(1)).is_empty());
    assert_eq!(ReplicaId(2), cluster.replica(2).status().id);
}
