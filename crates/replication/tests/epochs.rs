//! Epochs: how a replica that has lost its promises gets its vote back, and what becomes of everybody else meanwhile; and
//! what people can do where too many have lost theirs.

mod cluster;
mod people;

use cluster::{Cluster, Key, Tape, Timer, client, hash, public};
use people::{convict, equivocation, plan, sign};
use testudo_contracts::{Ordering as _, Standing};
use testudo_core::{
    Certificate, Domain, Epoch, Evidence, Incarnation, Peer, PublicKey, ReplicaId, Slot, Verified,
    View,
};
use testudo_replication::members::Refusal;
use testudo_replication::{
    Bundle, Comeback, Decree, Event, Health, Readmission, ReplicaMessage, Request, Returning,
};

const INTERVAL: u64 = 4;

/// Time passes: what was lost is said again, what is missing is asked for, and whoever lacks its vote asks for it.
fn pass(cluster: &mut Cluster, ticks: usize) {
    for _ in 0..ticks {
        cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend));
        cluster.fire_all(Timer::Order(testudo_pbft::Timer::View));
        for timer in [Timer::Fetch, Timer::Heal, Timer::Checkpoint, Timer::Budget, Timer::Epoch] {
            cluster.fire_all(timer);
        }
    }
}

/// Four replicas that have executed something.
fn busy() -> (Cluster, u64) {
    let mut cluster = Cluster::new(INTERVAL, Tape::default());
    let session = cluster.open(2);
    cluster.put(session, 1..8);
    (cluster, session)
}

fn wipe(cluster: &mut Cluster, id: u16) {
    cluster.stop(id);
    cluster.wipe(id);
    cluster.start(id);
    cluster.run();
}

fn standing(cluster: &Cluster, id: u16) -> (u64, u64, Standing) {
    let status = cluster.replica(id).status();
    (status.epoch.0, status.incarnation.0, status.standing)
}

fn all_stand_at(cluster: &Cluster, epoch: u64, incarnations: [u64; 4]) {
    for (id, incarnation) in (0..4).zip(incarnations) {
        let expected = (epoch, incarnation, Standing::Voting);
        assert_eq!(standing(cluster, id), expected, "replica {id}");
    }
}

#[test]
fn a_wiped_replica_comes_back_under_a_new_key_and_its_vote_counts() {
    let (mut cluster, session) = busy();
    wipe(&mut cluster, 3);
    assert_eq!(standing(&cluster, 3), (0, 0, Standing::Forgotten));
    let new_key = cluster.nodes[3].keys.candidate;
    pass(&mut cluster, 6);
    all_stand_at(&cluster, 1, [0, 0, 0, 1]);
    let member = cluster.context_of(0).membership.member(ReplicaId(3)).cloned().expect("a member");
    assert_eq!(Some(member.voting), new_key);
    assert_eq!(member.identity, public(Peer::Replica(ReplicaId(3))));

    // Without its vote the other two could not go on.
    cluster.stop(1);
    cluster.put(session, 8..12);
    pass(&mut cluster, 3);
    assert_eq!(cluster.replica(0).state().slot, cluster.replica(3).state().slot);
    let tape = |id| cluster.replica(id).state().head();
    assert_eq!(tape(3), tape(0));
    assert!(cluster.replica(0).state().slot > cluster.context_of(0).membership.base.slot);
}

#[test]
fn one_after_the_other_loses_its_disk_and_each_comes_back() {
    let (mut cluster, session) = busy();
    for (round, id) in (0..4_u16).enumerate() {
        let round = round as u64;
        wipe(&mut cluster, id);
        pass(&mut cluster, 8);
        let incarnations = std::array::from_fn(|other| u64::from(other as u16 <= id));
        all_stand_at(&cluster, round + 1, incarnations);
        cluster.put(session, 8 + 4 * round..12 + 4 * round);
    }
    let slot = cluster.replica(0).state().slot.0;
    cluster.check(slot);
    let operations = cluster.replica(0).state().system.opened();
    assert_eq!(operations, 1, "nobody had to open another session");
}

#[test]
fn who_restarts_goes_through_the_epochs_again() {
    let (mut cluster, session) = busy();
    wipe(&mut cluster, 3);
    pass(&mut cluster, 8);
    // One that has said nothing in an epoch has nothing to forget.
    cluster.put(session, 8..10);
    wipe(&mut cluster, 2);
    pass(&mut cluster, 8);
    cluster.put(session, 10..13);
    all_stand_at(&cluster, 2, [0, 0, 1, 1]);
    let slot = cluster.replica(0).state().slot.0;
    // All lose power, and come back by themselves.
    (0..4).for_each(|id| cluster.stop(id));
    (0..4).for_each(|id| cluster.start(id));
    cluster.run();
    pass(&mut cluster, 4);
    all_stand_at(&cluster, 2, [0, 0, 1, 1]);
    cluster.check(slot);
    // And so does each alone, from what is only in its log.
    for id in 0..4 {
        cluster.restart(id);
        pass(&mut cluster, 2);
        all_stand_at(&cluster, 2, [0, 0, 1, 1]);
    }
}

#[test]
fn who_was_cut_off_while_the_epoch_ended_finds_out_and_takes_the_state() {
    let (mut cluster, session) = busy();
    wipe(&mut cluster, 3);
    // Replica 1 hears nothing any more; the wiped one cannot vote, so nothing is decided.
    cluster.drop =
        Box::new(|letter| letter.to == ReplicaId(1) || letter.from == Peer::Replica(ReplicaId(1)));
    pass(&mut cluster, 4);
    assert_eq!(standing(&cluster, 0).0, 0, "two of four decide nothing");
    // It hears and helps until the members have changed, but nothing of how the epoch ends.
    cluster.drop = Box::new(|letter| {
        letter.to == ReplicaId(1)
            && matches!(
                letter.message,
                ReplicaMessage::Checkpoint(_) | ReplicaMessage::Succession(_)
            )
    });
    pass(&mut cluster, 6);
    assert_eq!(standing(&cluster, 0).0, 1);
    assert_eq!(standing(&cluster, 1).0, 0);
    cluster.put(session, 8..30);
    cluster.drop = Box::new(|_| false);
    pass(&mut cluster, 12);
    all_stand_at(&cluster, 1, [0, 0, 0, 1]);
    let slot = cluster.replica(0).state().slot.0;
    cluster.check(slot);
}

#[test]
fn nothing_of_one_epoch_counts_in_the_next() {
    let (mut cluster, session) = busy();
    wipe(&mut cluster, 3);
    // What the old key signs as the member that it was, in either epoch.
    let old = Key::of(Peer::Replica(ReplicaId(3)));
    pass(&mut cluster, 7);
    all_stand_at(&cluster, 1, [0, 0, 0, 1]);
    let context = cluster.context_of(0);
    let vote = testudo_pbft::message::Prepare {
        view: testudo_core::View(0),
        slot: Slot(9),
        digest: testudo_core::Digest::ZERO,
    };
    let vote = ReplicaMessage::Order(testudo_pbft::Message::Prepare(vote));
    let from = Peer::Replica(ReplicaId(3));
    for domain in [Domain::default(), context.domain] {
        let sealed = Verified::seal(vote.clone(), from, domain, &old);
        assert!(sealed.signed().verify(from, &context).is_err(), "in {domain:?}");
    }
    // What clients ask for outlives it: the same bundle, said again, executes once.
    let before = cluster.replica(0).state().map.digest();
    cluster.put(session, 7..8);
    assert_eq!(cluster.replica(0).state().map.digest(), before);
}

#[test]
fn whoever_comes_back_too_often_is_refused_and_says_so() {
    let (mut cluster, _) = busy();
    for round in 1..=4 {
        wipe(&mut cluster, 3);
        pass(&mut cluster, 8);
        assert_eq!(standing(&cluster, 3), (round, round, Standing::Voting));
    }
    wipe(&mut cluster, 3);
    pass(&mut cluster, 8);
    assert_eq!(standing(&cluster, 3), (4, 4, Standing::Forgotten));
    let status = cluster.replica(3).status();
    assert!(matches!(status.comeback, Comeback::Refused(Refusal::Ration(_))), "{status:?}");
    let told = |event: &Event| matches!(event, Event::Comeback(Comeback::Refused(_)));
    assert!(cluster.nodes[3].events.iter().any(told));
    assert_eq!(status.health, Health::Well, "it follows all the same");
}

#[test]
fn a_convicted_replica_never_gets_its_vote_back() {
    let (mut cluster, _) = busy();
    convict(&mut cluster, &equivocation(3, 0));
    for id in 0..4 {
        assert!(cluster.replica(id).state().system.is_convicted(ReplicaId(3)), "replica {id}");
    }
    wipe(&mut cluster, 3);
    pass(&mut cluster, 8);
    assert_eq!(standing(&cluster, 3), (0, 0, Standing::Forgotten));
    let comeback = cluster.replica(3).status().comeback;
    assert_eq!(comeback, Comeback::Refused(Refusal::Convicted));
}

#[test]
fn coming_back_at_once_does_not_escape_a_conviction() {
    let (mut cluster, _) = busy();
    wipe(&mut cluster, 3);
    pass(&mut cluster, 8);
    all_stand_at(&cluster, 1, [0, 0, 0, 1]);
    // What it had signed before it came back comes to light in the next epoch.
    convict(&mut cluster, &equivocation(3, 0));
    assert!(cluster.replica(1).state().system.is_convicted(ReplicaId(3)));
    let comeback = cluster.replica(3).status();
    assert_eq!(comeback.standing, Standing::Voting, "it votes on, and does not come back again");
    // And as long as the cluster lives.
    let (mut later, session) = busy();
    for round in 0..3 {
        wipe(&mut later, 3);
        pass(&mut later, 8);
        later.put(session, 8 + 2 * round..10 + 2 * round);
    }
    assert_eq!(standing(&later, 3).0, 3);
    convict(&mut later, &equivocation(3, 0));
    assert!(later.replica(1).state().system.is_convicted(ReplicaId(3)));
}

#[test]
fn what_is_no_evidence_convicts_nobody() {
    let (cluster, _) = busy();
    let context = cluster.context_of(1);
    let right = equivocation(3, 0);
    let wrong = [
        Evidence { accused: ReplicaId(2), ..right.clone() },
        Evidence { statements: vec![right.statements[0].clone(); 2], ..right.clone() },
        Evidence { statements: right.statements[..1].to_vec(), ..right.clone() },
        Evidence { offence: "rudeness".into(), ..right.clone() },
        equivocation(3, 1),
    ];
    let says = |evidence: &Evidence| {
        let bundle = Bundle { replier: ReplicaId(0), request: Request::Convict(evidence.clone()) };
        let from = Peer::Replica(ReplicaId(0));
        let sealed: Verified<cluster::Message> =
            Verified::seal(ReplicaMessage::Bundle(bundle), from, context.domain, &Key::of(from));
        sealed.signed().verify(from, &context).map(drop)
    };
    assert!(says(&right).is_ok());
    for evidence in &wrong {
        assert!(says(evidence).is_err(), "{evidence:?}");
    }
}

/// Clients cannot ask for what only replicas may, nor replicas for each other.
#[test]
fn only_a_replica_itself_asks_to_come_back() {
    let (cluster, _) = busy();
    let context = cluster.context_of(0);
    let readmission = |epoch| Readmission {
        epoch: Epoch(epoch),
        incarnation: Incarnation(1),
        voting: PublicKey([9; 32]),
    };
    let ask = |from: Peer, key: &Key, epoch: u64| {
        let asked = readmission(epoch);
        let proof = hash(&asked.voting, &asked.digest(ReplicaId(3), context.domain));
        let request = Request::Readmit(asked, proof);
        let bundle = ReplicaMessage::Bundle(Bundle { replier: ReplicaId(0), request });
        let sealed: Verified<cluster::Message> = Verified::seal(bundle, from, context.domain, key);
        sealed.signed().verify(from, &context).is_ok()
    };
    let (three, two) = (Peer::Replica(ReplicaId(3)), Peer::Replica(ReplicaId(2)));
    assert!(ask(three, &Key::of(three), 0));
    assert!(!ask(three, &Key::of(two), 0), "another's key");
    assert!(!ask(two, &Key::of(two), 0), "a key that another has shown to be its own");
    assert!(
        ask(three, &Key::of(three), 1),
        "in another epoch it is heard, and refused when it executes"
    );
    let one = Peer::Client(client(1));
    assert!(!ask(one, &Key::of(one), 0), "a client");
}

// What people decide.

/// Two of four have lost their disks: nobody can be sure of anything any more.
fn stranded() -> (Cluster, u64) {
    let (mut cluster, session) = busy();
    for id in [2, 3] {
        cluster.stop(id);
        cluster.wipe(id);
        cluster.start(id);
    }
    cluster.run();
    pass(&mut cluster, 4);
    (cluster, session)
}

#[test]
fn without_a_quorum_the_cluster_stops_and_a_decree_lets_it_go_on() {
    let (mut cluster, session) = stranded();
    let slot = cluster.replica(0).state().slot;
    cluster.put(session, 8..9);
    pass(&mut cluster, 6);
    assert_eq!(cluster.replica(0).state().slot, slot, "two of four decide nothing");
    for id in [2, 3] {
        assert_ne!(standing(&cluster, id).2, Standing::Voting);
    }
    let plan = plan(&cluster, 0, &[2, 3]).expect("it has all there is");
    assert_eq!((plan.decree.from, plan.known), (Epoch(0), slot));
    cluster.config.decree = Some(sign(&plan.decree, &[0, 2, 3]));
    cluster.restart(0);
    cluster.config.decree = None;
    pass(&mut cluster, 12);
    all_stand_at(&cluster, 1, [0, 0, 1, 1]);
    cluster.put(session, 9..12);
    pass(&mut cluster, 2);
    let reached = cluster.replica(0).state().slot;
    assert!(reached > slot, "{reached:?}");
    cluster.check(reached.0);
    // A restart of all goes through the decree again.
    (0..4).for_each(|id| cluster.stop(id));
    (0..4).for_each(|id| cluster.start(id));
    cluster.run();
    pass(&mut cluster, 6);
    all_stand_at(&cluster, 1, [0, 0, 1, 1]);
    cluster.check(reached.0);
}

/// Whatever may have been acknowledged is carried: a survivor holds a certificate for it, if it does not know more.
#[test]
fn what_was_certified_and_not_known_to_be_decided_is_not_lost() {
    let (mut cluster, session) = busy();
    // Nobody hears a commit of the last slot but those that will lose their disks. They answer the client.
    cluster.drop = Box::new(|letter| {
        let is_commit =
            matches!(letter.message, ReplicaMessage::Order(testudo_pbft::Message::Commit(_)));
        is_commit && letter.to.0 < 2
    });
    cluster.put(session, 8..9);
    cluster.drop = Box::new(|_| false);
    let acknowledged = cluster.replica(3).state().clone();
    assert!(cluster.replica(0).state().slot < acknowledged.slot);
    for id in [2, 3] {
        cluster.stop(id);
        cluster.wipe(id);
        cluster.start(id);
    }
    let plan = plan(&cluster, 0, &[2, 3]).expect("it has all there is");
    assert_eq!((plan.carried(), plan.decree.base.slot), (1, acknowledged.slot));
    cluster.config.decree = Some(sign(&plan.decree, &[0, 1, 3]));
    cluster.restart(0);
    cluster.config.decree = None;
    pass(&mut cluster, 12);
    all_stand_at(&cluster, 1, [0, 0, 1, 1]);
    for id in 0..4 {
        assert_eq!(cluster.replica(id).state().map.digest(), acknowledged.map.digest());
        assert_eq!(cluster.replica(id).state().outcome, acknowledged.outcome);
    }
}

#[test]
fn a_decree_takes_a_quorum_and_the_state_that_it_names() {
    let (mut cluster, session) = stranded();
    let plan = plan(&cluster, 0, &[2, 3]).expect("it has all there is");
    let next = |certificate: Certificate<Decree>| {
        let succession = testudo_replication::Succession::decreed(certificate);
        succession.check(&cluster.context_of(1)).map(|next| next.epoch).map_err(|invalid| invalid.0)
    };
    assert_eq!(next(sign(&plan.decree, &[0, 1, 2])), Ok(Epoch(1)));
    let few = "a certificate has too few signatures";
    assert_eq!(next(sign(&plan.decree, &[0, 1])), Err(few));
    let again = Decree { from: Epoch(1), ..plan.decree.clone() };
    assert_eq!(next(sign(&again, &[0, 1, 2])), Err("it is about another epoch"));
    let first = public(Peer::Replica(ReplicaId(0)));
    let stolen = Returning { replica: ReplicaId(2), voting: first };
    let stolen = Decree { returning: vec![stolen], ..plan.decree.clone() };
    assert_eq!(next(sign(&stolen, &[0, 1, 2])), Err("a decree names a key that is in use"));

    // One that is about another state than the replica has does nothing.
    let mut other = plan.decree.clone();
    other.base.state = testudo_core::Digest::ZERO;
    cluster.config.decree = Some(sign(&other, &[0, 1, 2]));
    cluster.restart(0);
    assert_eq!(standing(&cluster, 0).0, 0);
    let _ = session;
}

/// Replica 3 is let in again, so that the epoch is over; and before anybody knows that its end is stable another disk is lost.
#[test]
fn what_has_come_to_an_end_and_not_to_a_beginning_goes_on_by_a_decree() {
    for returns_again in [false, true] {
        let (mut cluster, session) = busy();
        wipe(&mut cluster, 3);
        cluster.drop = Box::new(
            |letter| matches!(&letter.message, ReplicaMessage::Checkpoint(it) if it.slot > Slot(8)),
        );
        pass(&mut cluster, 6);
        for id in [2, 3] {
            if id == 2 || returns_again {
                cluster.stop(id);
                cluster.wipe(id);
                cluster.start(id);
            }
        }
        cluster.run();
        cluster.drop = Box::new(|_| false);
        cluster.put(session, 8..10);
        pass(&mut cluster, 6);
        assert!((0..4).all(|id| standing(&cluster, id).0 == 0), "two of four end nothing");
        let end = cluster.replica(0).state().slot;
        assert!(cluster.replica(0).state().system.epoch() == Epoch(1) && end > Slot(8));

        // Whether or not people name the one that the cluster has let in itself.
        let named: &[u16] = if returns_again { &[2, 3] } else { &[2] };
        let plan = plan(&cluster, 0, named).expect("it has all there is");
        assert_eq!((plan.decree.from, plan.decree.base.slot, plan.carried()), (Epoch(0), end, 0));
        let returning: Vec<u16> = plan.decree.returning.iter().map(|it| it.replica.0).collect();
        assert_eq!(returning, [2, 3], "what the cluster has decided itself holds");
        cluster.config.decree = Some(sign(&plan.decree, &[0, 1, 3]));
        cluster.restart(0);
        cluster.config.decree = None;
        pass(&mut cluster, 12);
        all_stand_at(&cluster, 1, [0, 0, 1, 1]);
        cluster.put(session, 10..14);
        pass(&mut cluster, 2);
        let reached = cluster.replica(0).state().slot;
        assert!(reached >= Slot(end.0 + 4));
        cluster.check(reached.0);
        (0..4).for_each(|id| cluster.stop(id));
        (0..4).for_each(|id| cluster.start(id));
        cluster.run();
        pass(&mut cluster, 4);
        all_stand_at(&cluster, 1, [0, 0, 1, 1]);
        cluster.check(reached.0);
    }
}

/// What clients asked for is carried, whatever else its slot holds.
#[test]
fn what_was_certified_beside_a_conviction_is_not_lost() {
    let (mut cluster, session) = busy();
    let slot = cluster.replica(0).state().slot.next();
    // Both wait while nothing is ordered, so that the next view proposes them at once. What it orders replica 3 does not hear
    // of, and replica 0 not that it is decided.
    cluster.drop = Box::new(|letter| {
        use testudo_pbft::Message as Order;
        let ReplicaMessage::Order(order) = &letter.message else { return false };
        let is_vote = |view| view == View(0) || letter.to == ReplicaId(3);
        match order {
            Order::PrePrepare(it) => is_vote(it.view),
            Order::Prepare(it) => is_vote(it.view),
            Order::Commit(it) => is_vote(it.view) || letter.to == ReplicaId(0),
            _ => false,
        }
    });
    cluster.put(session, 8..9);
    convict(&mut cluster, &equivocation(3, 0));
    for _ in 0..2 {
        cluster.fire_all(Timer::Order(testudo_pbft::Timer::View));
    }
    let acknowledged = cluster.replica(1).state().clone();
    assert_eq!((acknowledged.slot, cluster.replica(2).state().slot), (slot, slot));
    assert!(acknowledged.system.is_convicted(ReplicaId(3)), "both in one slot");
    assert!(acknowledged.map.get(&8_u64.to_le_bytes()).is_some(), "both in one slot");
    assert!([0, 3].iter().all(|id| cluster.replica(*id).state().slot < slot));
    let plan = plan(&cluster, 0, &[1, 2]).expect("it has all there is");
    assert_eq!((plan.carried(), plan.decree.base.slot), (1, slot));
    for id in [1, 2] {
        cluster.stop(id);
        cluster.wipe(id);
    }
    cluster.drop = Box::new(|_| false);
    cluster.config.decree = Some(sign(&plan.decree, &[0, 1, 3]));
    cluster.restart(0);
    cluster.config.decree = None;
    [1, 2].iter().for_each(|id| cluster.start(*id));
    pass(&mut cluster, 12);
    for id in 0..4 {
        let state = cluster.replica(id).state();
        assert_eq!(state.map.digest(), acknowledged.map.digest(), "replica {id}");
        assert!(state.system.is_convicted(ReplicaId(3)), "nobody comes out of it unconvicted");
    }
    assert_eq!(cluster.replica(0).order().standing(), Standing::Voting);
}
