//! Snapshots: written at stable checkpoints, read back only if they prove themselves, and gone on from.

mod cluster;

use cluster::{Cluster, Snapshot, Tape, Timer, client};
use testudo_contracts::Batch;
use testudo_core::{Decode, Encode, Peer, Position, ReplicaId, Slot, Target, Time, View, limits};
use testudo_pbft::message::PrePrepare;
use testudo_replication::{Bundle, Event, Health, ReplicaMessage, Request};

fn put(cluster: &mut Cluster, session: u64, sequences: std::ops::Range<u64>) {
    for sequence in sequences {
        let bundle = Cluster::bundle(session, sequence, &sequence.to_le_bytes());
        cluster.say(2, ReplicaMessage::Bundle(bundle));
    }
}

/// A cluster that writes a snapshot at each stable checkpoint, as soon as the log is longer than the state.
fn snapshotting() -> Cluster {
    let mut cluster = Cluster::new(4, Tape::default());
    cluster.config.order.snapshot_bytes = 0;
    (0..4).for_each(|id| cluster.restart(id));
    cluster
}

/// After the checkpoint of slot 8, with slot 10 executed.
fn with_snapshot() -> (Cluster, u64) {
    let mut cluster = snapshotting();
    let session = cluster.open(2);
    put(&mut cluster, session, 1..10);
    cluster.check(10);
    for id in 0..4 {
        assert_eq!(cluster.replica(id).status().snapshot, Slot(8));
        let snapshot = cluster.nodes[usize::from(id)].disk.snapshot.as_ref();
        assert_eq!(snapshot.map(Snapshot::slot), Some(Slot(8)));
    }
    (cluster, session)
}

fn executed(cluster: &Cluster, id: u16) -> Vec<u64> {
    let slots = cluster.nodes[usize::from(id)].events.iter().filter_map(|event| match event {
        Event::Executed { slot, .. } => Some(slot.0),
        _ => None,
    });
    slots.collect()
}

fn pieces(snapshot: &Snapshot) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    snapshot.pieces(&mut |piece| {
        pieces.push(piece.to_vec());
        true
    });
    pieces
}

fn read(pieces: &[Vec<u8>]) -> Result<Snapshot, testudo_core::DecodeError> {
    let mut pieces = pieces.iter().cloned();
    Snapshot::from_pieces(&mut || pieces.next())
}

#[test]
fn a_replica_goes_on_from_its_snapshot() {
    let (mut cluster, session) = with_snapshot();
    for id in 0..4 {
        cluster.restart(id);
        assert_eq!(
            executed(&cluster, id),
            [9, 10],
            "nothing that the snapshot covers executes again"
        );
        assert_eq!(cluster.replica(id).status().waiting, 0);
        let stable = cluster.replica(id).status().stable.map(|checkpoint| checkpoint.slot);
        assert_eq!(stable, Some(Slot(8)));
    }
    cluster.check(10);
    put(&mut cluster, session, 10..20);
    // Replicas that restarted one after the other may have left for other views.
    (0..10).for_each(|_| cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend)));
    cluster.check(20);
    assert!(cluster.replica(1).status().snapshot > Slot(8));
}

#[test]
fn with_and_without_its_snapshot_a_replica_comes_to_the_same() {
    let (mut cluster, _) = with_snapshot();
    let head = cluster.replica(1).state().head();
    cluster.restart(1);
    assert_eq!(cluster.replica(1).state().head(), head);
    // The log is there for the one before it.
    cluster.nodes[1].disk.snapshot = cluster.nodes[1].disk.older.clone();
    cluster.restart(1);
    assert_eq!(executed(&cluster, 1), [5, 6, 7, 8, 9, 10]);
    assert_eq!(cluster.replica(1).state().head(), head);
}

/// The log is forgotten, and the snapshots that stood for it are gone: the replica starts, and knows that it is behind.
#[test]
fn without_any_snapshot_nothing_is_executed_on_a_state_that_is_not_there() {
    let (mut cluster, _) = with_snapshot();
    assert!(cluster.nodes[1].disk.forgotten > Position(0));
    cluster.nodes[1].disk.snapshot = None;
    cluster.restart(1);
    assert!(executed(&cluster, 1).iter().all(|slot| *slot > 8), "{:?}", executed(&cluster, 1));
    assert!(cluster.replica(1).status().known >= Slot(8));
    // The same where a snapshot is older than what is left of the log.
    let old = cluster.nodes[2].disk.snapshot.clone();
    put(&mut cluster, 1, 10..30);
    cluster.nodes[2].disk.snapshot = old;
    cluster.restart(2);
    assert!(executed(&cluster, 2).iter().all(|slot| *slot > 16), "{:?}", executed(&cluster, 2));
}

#[test]
fn what_was_not_executed_still_waits_and_what_was_is_answered() {
    let (mut cluster, session) = with_snapshot();
    // A bundle that reaches replica 3 alone, and cannot be ordered.
    cluster.drop = Box::new(|letter| letter.from == Peer::Replica(ReplicaId(3)));
    let waiting = Cluster::bundle(session, 10, b"waits");
    cluster.say_to(2, 3, ReplicaMessage::Bundle(waiting.clone()));
    assert_eq!(cluster.replica(3).status().waiting, 1);
    let others = cluster.open(1);
    for sequence in 1..8 {
        let bundle = Cluster::bundle(others, sequence, b"x");
        cluster.say(1, ReplicaMessage::Bundle(bundle));
    }
    assert_eq!(cluster.replica(3).status().snapshot, Slot(16));
    cluster.restart(3);
    assert_eq!(cluster.replica(3).status().waiting, 1, "it is older than the snapshot");
    cluster.drop = Box::new(|_| false);
    cluster.take_heard(2);
    cluster.say_to(2, 3, ReplicaMessage::Bundle(Cluster::bundle(session, 9, &9_u64.to_le_bytes())));
    let heard = cluster.take_heard(2);
    assert!(
        matches!(heard.as_slice(), [(3, ReplicaMessage::Reply(reply))] if reply.slot == Slot(10))
    );
    cluster.fire_all(Timer::Relay);
    (0..4).for_each(|_| cluster.fire_all(Timer::Fetch));
    assert_eq!(cluster.replica(0).status().waiting, 0);
    assert!(cluster.replica(0).state().map.get(b"waits").is_some(), "handed on, it was executed");
}

#[test]
fn a_body_that_a_snapshot_covers_is_still_lent() {
    let (mut cluster, session) = with_snapshot();
    cluster.restart(3);
    let domain = cluster.config.order.domain;
    let forgotten = Cluster::bundle(session, 1, &1_u64.to_le_bytes());
    let digest = forgotten.digest(Peer::Client(client(2)), domain);
    cluster.say_to(1, 3, ReplicaMessage::Fetch(vec![digest]));
    assert!(cluster.take_heard(1).is_empty(), "the snapshot before covers it");
    let bundle = Cluster::bundle(session, 6, &6_u64.to_le_bytes());
    let digest = bundle.digest(Peer::Client(client(2)), domain);
    cluster.say_to(1, 3, ReplicaMessage::Fetch(vec![digest]));
    assert!(matches!(cluster.take_heard(1).as_slice(), [(3, ReplicaMessage::Bodies(_))]));
    // And it is not taken for one that waits.
    let body = ReplicaMessage::Bundle(bundle);
    cluster.post(Peer::Client(client(2)), Target::Peer(ReplicaId(3).into()), body);
    cluster.run();
    assert_eq!(cluster.replica(3).status().waiting, 0);
}

#[test]
fn a_snapshot_is_read_back_as_it_was() {
    let (cluster, _) = with_snapshot();
    let snapshot = cluster.nodes[0].disk.snapshot.as_ref().expect("it was written");
    let bytes = snapshot.to_bytes();
    assert_eq!(Snapshot::from_bytes(&bytes).expect("whole").to_bytes(), bytes);
    let pieces = pieces(snapshot);
    assert_eq!(read(&pieces).expect("whole").to_bytes(), bytes);
    let mut stopped = 0;
    snapshot.pieces(&mut |_| {
        stopped += 1;
        false
    });
    assert_eq!(stopped, 1, "nothing is handed out that nobody takes");
}

#[test]
fn a_snapshot_that_does_not_prove_itself_is_refused() {
    let (cluster, _) = with_snapshot();
    let snapshot = cluster.nodes[0].disk.snapshot.as_ref().expect("it was written");
    let whole = pieces(snapshot);
    for index in 1..whole.len() {
        let mut fewer = whole.clone();
        fewer.remove(index);
        assert!(read(&fewer).is_err(), "piece {index} is missing");
        for byte in 0..whole[index].len() {
            let mut flipped = whole.clone();
            flipped[index][byte] ^= 1;
            assert!(read(&flipped).is_err(), "byte {byte} of piece {index} is flipped");
        }
    }
    for length in 0..whole[0].len() {
        let mut cut = whole.clone();
        cut[0].truncate(length);
        assert!(read(&cut).is_err(), "the preface is cut");
    }
    let bytes = snapshot.to_bytes();
    for length in 0..bytes.len() {
        assert!(Snapshot::from_bytes(&bytes[..length]).is_err());
    }
}

#[test]
fn no_snapshot_is_written_before_the_log_is_long() {
    let mut cluster = Cluster::new(4, Tape::default());
    let session = cluster.open(2);
    put(&mut cluster, session, 1..20);
    cluster.check(20);
    assert!(cluster.nodes.iter().all(|node| node.disk.snapshot.is_none()));
    assert_eq!(cluster.replica(0).status().snapshot, Slot(0));
    assert_eq!(cluster.replica(0).status().health, Health::Well);
}

/// A primary that lies has bundles decided again that were executed long ago. What becomes of that must not depend on
/// what a replica happens to remember.
#[test]
fn what_is_decided_twice_comes_to_the_same_whoever_remembers_it() {
    let mut cluster = snapshotting();
    // One of them writes no snapshots, and forgets nothing.
    cluster.config.order.snapshot_bytes = u64::MAX;
    cluster.restart(3);
    cluster.config.order.snapshot_bytes = 0;
    let session = cluster.open(2);
    put(&mut cluster, session, 1..10);
    let register = |nonce| {
        let request = Request::Register { nonce };
        Bundle { replier: ReplicaId(0), request }
    };
    for nonce in 100..100 + limits::SESSIONS_PER_CLIENT as u64 {
        cluster.say(2, ReplicaMessage::Bundle(register(nonce)));
    }
    let evicted = cluster.replica(0).state().system.opening(client(2), 7);
    assert_eq!(evicted, None, "the first session is evicted");
    let slot = cluster.replica(0).state().slot.next();
    cluster.check(slot.previous().0);
    cluster.restart(2);
    cluster.stop(0);
    let domain = cluster.config.order.domain;
    let again = [register(7), Cluster::bundle(session, 1, &1_u64.to_le_bytes())];
    let bundles = again.map(|bundle| bundle.digest(Peer::Client(client(2)), domain)).to_vec();
    let batch = Batch { bundles, time: Time(cluster.now), gap_not_counted: false };
    let proposal = PrePrepare { view: View(0), slot, batch };
    let message = ReplicaMessage::Order(testudo_pbft::Message::PrePrepare(proposal));
    cluster.post(Peer::Replica(ReplicaId(0)), Target::Others, message);
    cluster.run();
    // Those who have forgotten ask the one who has not.
    (0..4).for_each(|_| cluster.fire_all(Timer::Fetch));
    let heads = [1, 2, 3].map(|id| cluster.replica(id).state().head());
    assert_eq!(heads[0].slot, slot);
    assert!(heads.iter().all(|head| *head == heads[0]));
    for id in 1..4 {
        let opened = cluster.replica(id).state().system.opening(client(2), 7);
        assert_eq!(opened, None, "a session that was evicted is not opened again");
        let is_of_slot =
            |event: &&Event| matches!(event, Event::Executed { slot: of, .. } if *of == slot);
        let event = cluster.nodes[usize::from(id)].events.iter().find(is_of_slot);
        let Some(Event::Executed { applied, .. }) = event else { panic!("it was executed") };
        assert!(applied.is_empty(), "nothing has an effect twice");
    }
}
