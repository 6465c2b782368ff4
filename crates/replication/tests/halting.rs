//! Where no digest of a slot can reach a quorum any more replicas stop, and how they go on: by themselves where others did, or
//! as people decide.

mod cluster;
mod people;

use cluster::{Cluster, Letter, Tape, Timer, events, health};
use people::{plan, sign};
use testudo_contracts::{Checkpoint, Ordering as _, Standing};
use testudo_core::{Digest, Epoch, Peer, ReplicaId, Slot};
use testudo_replication::{Event, Halt, Health, ReplicaMessage, Unplanned};

/// Time passes: what was lost is said again, and what is missing is asked for.
fn pass(cluster: &mut Cluster, ticks: usize) {
    for _ in 0..ticks {
        cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend));
        cluster.fire_all(Timer::Order(testudo_pbft::Timer::View));
        for timer in [Timer::Fetch, Timer::Heal, Timer::Checkpoint, Timer::Budget, Timer::Epoch] {
            cluster.fire_all(timer);
        }
    }
}

/// Two against two: no digest can reach a quorum, and more is decided than is executed.
fn halted() -> (Cluster, u64) {
    let mut services = [Tape::default(); 4];
    services[2].wrong_at = Some(6);
    services[3].wrong_at = Some(7);
    let mut cluster = Cluster::with(4, services);
    let session = cluster.open(2);
    cluster.put(session, 1..12);
    (cluster, session)
}

/// All stop, and say where results part, as long as they are stopped.
#[test]
fn replicas_that_halt_say_where_results_part() {
    let (mut cluster, _) = halted();
    for id in 0..4 {
        assert_eq!(health(&cluster, id), [Health::Halted(Slot(8))]);
        assert_eq!(cluster.replica(id).state().slot, Slot(8), "nothing is executed any more");
        let alarms = events(&cluster, id).iter().filter(|it| matches!(it, Event::Halted(_)));
        let [Event::Halted(halt @ Halt { slot: Slot(8), first: Some(Slot(6)), own, others })] =
            &alarms.collect::<Vec<_>>()[..]
        else {
            panic!("{id}: {:?}", events(&cluster, id))
        };
        assert_eq!(others.len(), 3);
        let shown = cluster.replica(id).status().halt;
        assert_eq!(shown.as_ref(), Some(halt), "whoever looks later sees it");
        let differing = others.iter().filter(|(_, outcome)| outcome != own);
        let differing: Vec<u16> = differing.map(|(id, _)| id.0).collect();
        let expected = if id == 2 { vec![0, 1, 3] } else { vec![2] };
        assert_eq!(differing, expected, "{id}");
    }
    // After a restart they stop there again, and say so again; even if one is gone.
    cluster.stop(0);
    cluster.restart(1);
    pass(&mut cluster, 20);
    assert_eq!(cluster.replica(1).status().health, Health::Halted(Slot(8)));
    let first = events(&cluster, 1).iter().find_map(|event| match event {
        Event::Halted(Halt { first, others, .. }) => Some((*first, others.len())),
        _ => None,
    });
    assert_eq!(first, Some((Some(Slot(6)), 2)));
    assert!(cluster.replica(1).status().halt.is_some_and(|halt| halt.others.len() == 2));
}

/// The same, but only the primary knows at first. The others go on without it, and it helps to decide what it does not execute.
fn halted_late() -> (Cluster, u64) {
    let mut services = [Tape::default(); 4];
    services[2].wrong_at = Some(6);
    services[3].wrong_at = Some(7);
    let mut cluster = Cluster::with(4, services);
    let session = cluster.open(2);
    cluster.drop = Box::new(|letter| {
        letter.to != ReplicaId(0) && matches!(letter.message, ReplicaMessage::Checkpoint(_))
    });
    cluster.put(session, 1..11);
    pass(&mut cluster, 4);
    cluster.drop = Box::new(|_| false);
    pass(&mut cluster, 2);
    assert_eq!(cluster.replica(0).state().slot, Slot(8));
    assert!(cluster.replica(0).order().executed() > Slot(8));
    assert_eq!(cluster.replica(2).state().slot, cluster.replica(0).order().executed());
    (cluster, session)
}

/// People choose whose state goes on. All that was decided is executed on it.
#[test]
fn people_decide_with_whose_state_halted_replicas_go_on() {
    for (from, is_late) in [(0, false), (2, false), (0, true), (2, true)] {
        let (mut cluster, session) = if is_late { halted_late() } else { halted() };
        let decided = cluster.replica(from).order().executed();
        assert!((0..4).all(|id| cluster.replica(id).status().health == Health::Halted(Slot(8))));
        let own = plan(&cluster, from, &[]).expect("it has a state of its own");
        assert_eq!((own.decree.from, own.decree.base.slot), (Epoch(0), decided));
        assert_eq!((own.known, own.carried()), (decided, 0), "it was decided");
        let other = plan(&cluster, 3, &[]).expect("so has every other");
        assert_ne!(own.decree.base.state, other.decree.base.state);
        cluster.config.decree = Some(sign(&own.decree, &[0, 1, 3]));
        cluster.restart(from);
        cluster.config.decree = None;
        pass(&mut cluster, 12);
        for id in 0..4 {
            let status = cluster.replica(id).status();
            assert_eq!((status.epoch, status.standing), (Epoch(1), Standing::Voting), "{id}");
            assert_eq!((status.health, status.halt), (Health::Well, None), "replica {id}");
        }
        // Whatever was wrong is over: checkpoints are stable again, and nobody halts where it did.
        cluster.services = [Tape::default(); 4];
        cluster.put(session, 14..24);
        pass(&mut cluster, 3);
        let slot = cluster.replica(0).state().slot;
        assert!(slot > Slot(decided.0 + 8));
        for _ in 0..2 {
            cluster.check(slot.0);
            (0..4).for_each(|id| cluster.stop(id));
            (0..4).for_each(|id| cluster.start(id));
            cluster.run();
            pass(&mut cluster, 6);
        }
        cluster.put(session, 24..26);
        pass(&mut cluster, 3);
        cluster.check(slot.0 + 2);
    }
}

#[test]
fn whoever_has_diverged_has_nothing_to_go_on_from() {
    let mut services = [Tape::default(); 4];
    services[3].wrong_at = Some(6);
    let mut cluster = Cluster::with(4, services);
    let session = cluster.open(2);
    cluster.drop = Box::new(|letter| matches!(letter.message, ReplicaMessage::State(_)));
    cluster.put(session, 1..10);
    assert_eq!(plan(&cluster, 3, &[]).map(|_| ()), Err(Unplanned::Ill));
}

/// Replica 0 sees more digests of slot 8 than can be: replica 3 lies to it, and another is wrong. The others go on.
fn misled(wrong: usize) -> (Cluster, u64) {
    let mut services = [Tape::default(); 4];
    services[wrong].wrong_at = Some(6);
    let mut cluster = Cluster::with(4, services);
    cluster.twist = Box::new(|letter: &Letter| {
        let ReplicaMessage::Checkpoint(checkpoint) = &letter.message else { return None };
        let is_lie = letter.from == Peer::Replica(ReplicaId(3)) && letter.to == ReplicaId(0);
        (is_lie && checkpoint.slot == Slot(8)).then(|| {
            let state = Digest::of(b"nobody's");
            ReplicaMessage::Checkpoint(Checkpoint { slot: Slot(8), state })
        })
    });
    let session = cluster.open(2);
    // What the others have certified it hears of late.
    cluster.drop = Box::new(|letter| {
        letter.to == ReplicaId(0) && matches!(&letter.message, ReplicaMessage::Stable(_))
    });
    cluster.put(session, 1..9);
    assert_eq!(cluster.replica(0).status().health, Health::Halted(Slot(8)));
    assert_eq!(cluster.replica(1).status().stable.map(|it| it.slot), Some(Slot(8)));
    pass(&mut cluster, 4);
    (cluster, session)
}

#[test]
fn a_halt_ends_where_the_others_go_on() {
    for wrong in [0, 2] {
        for restarts in [false, true] {
            let (mut cluster, session) = misled(wrong);
            if restarts {
                cluster.restart(0);
                pass(&mut cluster, 2);
                assert_eq!(cluster.replica(0).status().health, Health::Halted(Slot(8)));
            }
            cluster.put(session, 9..14);
            pass(&mut cluster, 6);
            assert_eq!(cluster.replica(1).state().slot, Slot(14));
            assert_eq!(cluster.replica(0).status().halt, None);
            assert_eq!(
                health(&cluster, 0)[..2],
                [Health::Halted(Slot(8)), Health::Behind(Slot(12))]
            );
            cluster.check(14);
            // And stays ended.
            cluster.restart(0);
            pass(&mut cluster, 3);
            cluster.check(14);
            cluster.put(session, 14..20);
            pass(&mut cluster, 3);
            cluster.check(20);
        }
    }
}

/// It goes on asking what the others' results are: whoever knows better shows it, though nothing is ordered any more.
#[test]
fn a_halt_ends_with_what_the_others_know() {
    for wrong in [0, 2] {
        let (mut cluster, session) = misled(wrong);
        pass(&mut cluster, 70);
        assert_eq!(cluster.replica(0).status().health, Health::Halted(Slot(8)), "nobody tells it");
        cluster.drop = Box::new(|_| false);
        pass(&mut cluster, 70);
        assert_eq!(cluster.replica(0).status().health, Health::Well);
        assert_eq!(cluster.replica(0).status().stable.map(|it| it.slot), Some(Slot(8)));
        // And all without the one that lied.
        cluster.stop(3);
        cluster.put(session, 9..14);
        pass(&mut cluster, 9);
        for id in 0..3 {
            let state = cluster.replica(id).state();
            assert!(state.map.get(&13_u64.to_le_bytes()).is_some(), "replica {id} is at {state:?}");
            assert_eq!(state.head(), cluster.replica(0).state().head());
            assert_eq!(cluster.replica(id).status().health, Health::Well);
        }
    }
}

/// The very slot turns out to be stable.
#[test]
fn a_halt_ends_with_the_certificate_of_its_slot() {
    for wrong in [0, 2] {
        let (mut cluster, session) = misled(wrong);
        cluster.drop = Box::new(|_| false);
        let ask = ReplicaMessage::StateAsk(testudo_replication::StateAsk::Head);
        cluster.say_to(1, 1, ask);
        let told = cluster.take_heard(1).into_iter().find_map(|(_, message)| match message {
            ReplicaMessage::State(testudo_replication::StateAnswer::Head(certificate, ..)) => {
                Some(certificate)
            }
            _ => None,
        });
        let stable = ReplicaMessage::Stable(told.expect("it has one"));
        cluster.post(Peer::Replica(ReplicaId(1)), Peer::Replica(ReplicaId(0)).into(), stable);
        cluster.run();
        pass(&mut cluster, 4);
        assert_eq!(cluster.replica(0).status().health, Health::Well);
        let diverged = health(&cluster, 0).contains(&Health::Diverged(Slot(8)));
        assert_eq!(diverged, wrong == 0);
        cluster.put(session, 9..14);
        pass(&mut cluster, 3);
        cluster.check(14);
    }
}
