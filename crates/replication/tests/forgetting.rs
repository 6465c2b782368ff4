//! The log stays short, and nothing that matters goes with what is forgotten.

mod cluster;

use cluster::{Cluster, Node, Record, Tape, Timer};
use testudo_core::{Peer, Position, Protocol as _, ReplicaId, Rot, Slot};
use testudo_pbft::Record as Order;
use testudo_replication::{Bundle, Health, ReplicaMessage};

/// A cluster that writes a snapshot at each stable checkpoint, every four slots.
fn snapshotting() -> (Cluster, u64) {
    let mut cluster = Cluster::new(4, Tape::default());
    cluster.config.order.snapshot_bytes = 0;
    (0..4).for_each(|id| cluster.restart(id));
    let session = cluster.open(2);
    (cluster, session)
}

fn put(cluster: &mut Cluster, session: u64, sequences: std::ops::Range<u64>) {
    for sequence in sequences {
        let bundle = Cluster::bundle(session, sequence, &sequence.to_le_bytes());
        cluster.say(2, ReplicaMessage::Bundle(bundle));
    }
}

fn first(cluster: &Cluster, id: usize) -> Position {
    cluster.nodes[id].disk.records.first().expect("a log is never empty").0
}

fn snapshot_slot(cluster: &Cluster, id: usize) -> u64 {
    cluster.nodes[id].disk.snapshot.as_ref().map_or(0, |snapshot| snapshot.slot().0)
}

/// The records of a log that say this, with their positions.
fn of(cluster: &Cluster, id: usize, wanted: fn(&Record) -> bool) -> Vec<Position> {
    let records = cluster.nodes[id].disk.records.iter();
    records.filter(|(_, record)| wanted(record)).map(|(position, _)| *position).collect()
}

fn is_body(record: &Record) -> bool {
    matches!(record, Record::Body(_))
}

fn is_decision(record: &Record) -> bool {
    matches!(record, Record::Order(_, Order::Decided(_)))
}

#[test]
fn two_stretches_of_the_log_lie_on_the_disk_at_most() {
    let (mut cluster, session) = snapshotting();
    let mut longest = 0;
    for sequence in 1..60 {
        put(&mut cluster, session, sequence..sequence + 1);
        for id in 0..4 {
            let disk = &cluster.nodes[id].disk;
            if let Some(older) = &disk.older {
                assert_eq!(disk.forgotten, Node::covered(older), "what the one before covers goes");
                assert!(first(&cluster, id) >= disk.forgotten);
            }
            longest = longest.max(disk.records.len());
            assert!(of(&cluster, id, is_decision).len() <= 13, "12 slots, and the next");
            assert!(of(&cluster, id, is_body).len() <= 13);
        }
    }
    cluster.check(60);
    assert!(longest < 100, "{longest} records");
    // What is left is enough to come back with, for each and for all.
    let head = cluster.replica(0).state().head();
    (0..4).for_each(|id| cluster.stop(id));
    (0..4).for_each(|id| cluster.start(id));
    cluster.run();
    assert_eq!(cluster.replica(3).state().head(), head);
    assert!((0..4).all(|id| cluster.replica(id).status().health == Health::Well));
}

#[test]
fn a_body_that_waits_is_written_again_before_its_place_is_forgotten() {
    let (mut cluster, session) = snapshotting();
    // What replica 3 says is lost, so what it alone has been told is not ordered.
    cluster.drop = Box::new(|letter| letter.from == Peer::Replica(ReplicaId(3)));
    let waiting = Cluster::bundle(session, 1, b"waits");
    cluster.say_to(2, 3, ReplicaMessage::Bundle(waiting));
    let place = *of(&cluster, 3, is_body).last().expect("it is on record");
    let others = cluster.open(1);
    for sequence in 1..30 {
        cluster.say(1, ReplicaMessage::Bundle(Cluster::bundle(others, sequence, b"x")));
    }
    assert!(cluster.nodes[3].disk.forgotten > place, "its first place is gone");
    assert!(snapshot_slot(&cluster, 3) >= 24);
    for _ in 0..3 {
        cluster.restart(3);
        assert_eq!(cluster.replica(3).status().waiting, 1, "it waits all the same");
    }
    cluster.drop = Box::new(|_| false);
    cluster.fire_all(Timer::Relay);
    (0..4).for_each(|_| cluster.fire_all(Timer::Fetch));
    assert!(cluster.replica(0).state().map.get(b"waits").is_some(), "handed on, it was executed");
}

#[test]
fn what_was_signed_of_checkpoints_is_written_again_while_they_are_not_stable() {
    let (mut cluster, session) = snapshotting();
    put(&mut cluster, session, 1..5);
    // From here on nobody hears of the next checkpoint.
    cluster.drop = Box::new(
        |letter| matches!(&letter.message, ReplicaMessage::Checkpoint(checkpoint) if checkpoint.slot > Slot(4)),
    );
    put(&mut cluster, session, 5..9);
    let is_signed = |record: &Record| matches!(record, Record::Checkpointed(checkpoint) if checkpoint.slot == Slot(8));
    let places = of(&cluster, 1, is_signed);
    assert_eq!(places.len(), 1);
    // Damage makes replica 1 let go of all before the snapshot that it writes now.
    let position = first(&cluster, 1);
    cluster.rot_while_it_runs(1, position);
    let again = of(&cluster, 1, is_signed);
    assert!(again.len() == 1 && again[0] > places[0], "{again:?}");
    // And once more, after a restart has read it from there.
    cluster.restart(1);
    cluster.rot_while_it_runs(1, first(&cluster, 1));
    assert_eq!(of(&cluster, 1, is_signed).len(), 1);
}

#[test]
fn rot_in_the_log_goes_as_soon_as_a_snapshot_covers_it() {
    for nth in 0..8 {
        let (mut cluster, session) = snapshotting();
        put(&mut cluster, session, 1..10);
        let head = cluster.replica(1).state().head();
        let records = &cluster.nodes[1].disk.records;
        let Some((position, _)) = records.iter().rev().nth(nth * 3) else { continue };
        let position = *position;
        cluster.rot_while_it_runs(1, position);
        assert_eq!(cluster.nodes[1].disk.lost, [], "a fresh snapshot, and the rot is gone");
        assert!(cluster.nodes[1].disk.forgotten > position);
        cluster.restart(1);
        assert_eq!(cluster.replica(1).state().head(), head, "nothing went with it");
        assert!(cluster.replica(1).status().health == Health::Well);
        put(&mut cluster, session, 10..14);
        (0..10).for_each(|_| cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend)));
        cluster.check(14);
    }
}

#[test]
fn rot_before_the_first_checkpoint_goes_with_that() {
    let (mut cluster, session) = snapshotting();
    let position = first(&cluster, 1);
    cluster.rot_while_it_runs(1, position);
    assert_eq!(cluster.nodes[1].disk.lost.len(), 1, "there is no checkpoint yet");
    put(&mut cluster, session, 1..4);
    assert_eq!(cluster.nodes[1].disk.lost, []);
    assert_eq!(snapshot_slot(&cluster, 1), 4);
    cluster.check(4);
}

#[test]
fn a_waiting_body_whose_record_rots_is_written_again_at_once() {
    let (mut cluster, session) = snapshotting();
    cluster.drop = Box::new(|letter| letter.from == Peer::Replica(ReplicaId(3)));
    let waiting = Cluster::bundle(session, 1, b"waits");
    cluster.say_to(2, 3, ReplicaMessage::Bundle(waiting));
    let place = *of(&cluster, 3, is_body).last().expect("it is on record");
    cluster.rot_while_it_runs(3, place);
    assert!(of(&cluster, 3, is_body).last() > Some(&place));
    cluster.nodes[3].disk.lost.clear();
    cluster.restart(3);
    assert_eq!(cluster.replica(3).status().waiting, 1);
}

#[test]
fn a_rotten_snapshot_is_written_again() {
    let (mut cluster, session) = snapshotting();
    cluster.tell_rot(1, Rot::Snapshot);
    assert!(cluster.nodes[1].disk.snapshot.is_none(), "there is no checkpoint yet");
    put(&mut cluster, session, 1..10);
    cluster.nodes[1].disk.snapshot = None;
    cluster.tell_rot(1, Rot::Snapshot);
    assert_eq!(snapshot_slot(&cluster, 1), 8, "of the same checkpoint, without waiting for more");
    cluster.restart(1);
    cluster.check(10);
}

/// A bundle that was executed and forgotten comes again, from somebody who has kept it.
#[test]
fn what_is_forgotten_has_no_effect_twice() {
    let (mut cluster, session) = snapshotting();
    put(&mut cluster, session, 1..30);
    let outcome = cluster.replica(0).state().outcome;
    let old: Bundle = Cluster::bundle(session, 2, &2_u64.to_le_bytes());
    cluster.say(2, ReplicaMessage::Bundle(old));
    (0..4).for_each(|_| cluster.fire_all(Timer::Relay));
    for id in 0..4 {
        assert_eq!(cluster.replica(id).state().outcome, outcome, "it links nothing");
        assert_eq!(cluster.replica(id).status().waiting, 0);
    }
}

/// Five checkpoints, each of which is stable, and its snapshot taken, only when so many later slots are executed, as states
/// are hashed while the order goes on; and perhaps when another bundle waits everywhere, to be ordered after that. The last
/// slot.
fn with_late_snapshots(cluster: &mut Cluster, session: u64, late: u64, waits: bool) -> u64 {
    let mut sequence = 1;
    for checkpoint in 1..6 {
        cluster.holds_work = true;
        let end = 4 * checkpoint + late;
        put(cluster, session, sequence..end);
        sequence = end;
        if waits {
            cluster.drop = Box::new(|letter| {
                let is_own = letter.from == Peer::Replica(letter.to);
                !is_own && matches!(letter.message, ReplicaMessage::Order(_))
            });
            put(cluster, session, sequence..sequence + 1);
            sequence += 1;
            cluster.drop = Box::new(|_| false);
        }
        cluster.holds_work = false;
        (0..4).for_each(|id| cluster.work(id));
        (0..6).for_each(|_| cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend)));
    }
    cluster.check(sequence);
    sequence
}

/// What the older snapshots need must not be forgotten: nobody could lend it.
#[test]
fn when_every_newest_snapshot_rots_the_older_ones_and_the_log_stand_for_them() {
    for (late, waits) in [(0, false), (1, false), (3, false), (0, true), (2, true)] {
        let (mut cluster, session) = snapshotting();
        let slot = with_late_snapshots(&mut cluster, session, late, waits);
        let head = cluster.replica(0).state().head();
        // After a start from an older one, the next ones stand in for each other again.
        for round in 0..2 {
            for id in 0..4 {
                cluster.stop(id);
                let newest = snapshot_slot(&cluster, id.into());
                let disk = &mut cluster.nodes[usize::from(id)].disk;
                let older = disk.older.take().expect("the last two are kept");
                assert!(older.slot().0 < newest || round > 0);
                let has_later_bodies = !format!("{older:?}").contains(", 0 pending");
                assert!(has_later_bodies == (late > 0 || waits) || round > 0, "{older:?}");
                assert!(disk.forgotten > Position(0), "there is less of the log than there was");
                disk.snapshot = Some(older);
            }
            (0..4).for_each(|id| cluster.start(id));
            cluster.run();
            (0..10).for_each(|_| cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend)));
            cluster.check(slot);
            assert_eq!(cluster.replica(0).state().head(), head, "{late} {waits}");
        }
        put(&mut cluster, session, slot..slot + 10);
        (0..10).for_each(|_| cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend)));
        cluster.check(slot + 10);
    }
}
