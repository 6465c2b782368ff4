//! Floods: one client, or one replica, sends as much as the network takes. Work takes time in these worlds, and what waits
//! is taken in turn; others' puts must hardly notice.

mod broken;
mod course;

use course::{Course, OWN, Said};
use std::time::Duration;
use testudo_core::codec::encode_bytes;
use testudo_core::{
    Decode, Digest, Encode, Header, Message as _, Peer, Proof, ReplicaId, Signature, Signed, Slot,
    View, limits,
};
use testudo_pbft::message::{Commit, Fetch, Prepare};
use testudo_pbft::{Message, Pbft, Standard};
use testudo_replication::{Bundle, ReplicaMessage, Request};
use testudo_sim::adversary::{Dawdler, Words};
use testudo_sim::load::Turns;
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::{NodeId, Saying, Seeded, Weather};

type World = Seeded<Replicated<Pbft<Standard>, Lore>>;

/// When puts are looked at: after time to open sessions, and to ask others for results than a replica that floods.
const FROM: Duration = Duration::from_millis(700);
const UNTIL: Duration = Duration::from_millis(1200);

/// A flood comes in waves.
const WAVE: Duration = Duration::from_millis(5);

/// Messages of one wave to each replica: more than a replica can read and check in that time.
const MESSAGES: u64 = 140;

/// What one wave of a flood brings: the flooder's word number so and so, to one replica.
type Word = fn(&World, NodeId, Peer, u64) -> Words<Said>;

/// What 99 of 100 puts take at most while this goes on.
fn p99(turns: Turns, flood: Option<(Source, Word)>) -> Duration {
    let mut course = Course::<Standard>::new(11, 6, Weather::calm()).charge(turns);
    if let Some((source, word)) = flood {
        let node = match source {
            Source::Client => course.idler(),
            Source::Replica => NodeId(3),
        };
        course.seeded.world.corrupt_by(node, Box::new(Dawdler(|_, _: &Said| Duration::ZERO)));
        course.seeded.call(Duration::from_millis(50), OWN);
        let mut number = 0;
        course.run(UNTIL, |seeded, _| {
            for _ in 0..MESSAGES {
                number += 1;
                for id in (0..4).filter(|id| NodeId(*id) != node) {
                    let to = Peer::Replica(ReplicaId(id));
                    let words = word(seeded, node, to, number);
                    let after = WAVE * (number % MESSAGES) as u32 / MESSAGES as u32;
                    seeded.world.have_lie(node, Saying { to, words, after });
                }
            }
            seeded.call(WAVE, OWN);
        });
        println!("{} messages wait at the end", course.seeded.world.waiting());
    } else {
        course.run(UNTIL, |_, _| {});
    }
    // A client's garbage and a client's flood are no fault of the primary's.
    if matches!(turns, Turns::Fair) && !matches!(flood, Some((Source::Replica, _))) {
        assert_eq!(course.last_view().0, View(0), "a correct primary was given up");
    }
    course.p99(FROM)
}

#[derive(Clone, Copy)]
enum Source {
    Client,
    Replica,
}

/// Bundles that are admitted: each opens another session.
fn bundles(_: &World, _: NodeId, _: Peer, number: u64) -> Words<Said> {
    let request = Request::Register { nonce: number };
    Words::Own(ReplicaMessage::Bundle(Bundle { replier: ReplicaId(0), request }))
}

/// Bundles of which each replica gets others, so that nobody has what the primary proposes of them.
fn torn_bundles(world: &World, node: NodeId, to: Peer, number: u64) -> Words<Said> {
    let to = to.replica().map_or(0, |id| u64::from(id.0));
    bundles(world, node, Peer::Replica(ReplicaId(0)), 4 * number + to)
}

/// Votes for slots that may come, each properly signed.
fn votes(_: &World, _: NodeId, _: Peer, number: u64) -> Words<Said> {
    let (view, slot) = (View(0), Slot(1 + number / 8));
    let digest = Digest::of(&number.to_le_bytes());
    Words::Own(ReplicaMessage::Order(if number.is_multiple_of(2) {
        Message::Prepare(Prepare { view, slot, digest })
    } else {
        Message::Commit(Commit { view, slot, digest })
    }))
}

/// Questions, which cost the asker nothing.
fn questions(_: &World, _: NodeId, _: Peer, number: u64) -> Words<Said> {
    Words::Own(ReplicaMessage::Order(Message::Fetch(Fetch { from: Slot(number % 8) })))
}

/// Frames that look like votes, with signatures that are none.
fn garbage(world: &World, node: NodeId, _: Peer, number: u64) -> Words<Said> {
    let digest = Digest::of(&number.to_le_bytes());
    let vote = Message::Prepare(Prepare { view: View(0), slot: Slot(number), digest });
    let said = ReplicaMessage::Order(vote);
    let domain = world.world.setup().domain;
    let sender = world.world.peer(node);
    let header = Header { domain, protocol: said.protocol(), kind: said.kind(), sender };
    let mut frame = vec![limits::FORMAT_VERSION];
    header.encode(&mut frame);
    Proof::Signature(Signature([7; 64])).encode(&mut frame);
    let mut body = Vec::new();
    said.encode_body(&mut body);
    encode_bytes(&body, &mut frame);
    Words::Frame(Signed::from_bytes(&frame).expect("it is a frame"))
}

/// Trace C9: bundles that are right for the primary and garbage for the backups.
fn garbage_for_backups(world: &World, node: NodeId, to: Peer, number: u64) -> Words<Said> {
    match to {
        Peer::Replica(ReplicaId(0)) => bundles(world, node, to, number),
        _ => garbage(world, node, to, number),
    }
}

/// Whoever floods delays others to three times of a quiet run's p99 at most; in one shared queue they wait for ever.
fn starves_nobody(name: &str, source: Source, word: Word) {
    let quiet = p99(Turns::Fair, None);
    let flooded = p99(Turns::Fair, Some((source, word)));
    println!("{name}: p99 {quiet:?} quiet, {flooded:?} flooded");
    assert!(flooded <= 3 * quiet, "{name}: p99 {flooded:?}, {quiet:?} when it is quiet");
}

#[test]
fn a_client_that_floods_with_bundles() {
    starves_nobody("bundles", Source::Client, bundles);
}

#[test]
fn a_client_that_sends_each_replica_other_bundles() {
    starves_nobody("torn bundles", Source::Client, torn_bundles);
}

#[test]
fn a_client_whose_signatures_are_garbage_for_backups() {
    starves_nobody("garbage for backups", Source::Client, garbage_for_backups);
}

#[test]
fn a_replica_that_floods_with_votes() {
    starves_nobody("votes", Source::Replica, votes);
}

#[test]
fn a_replica_that_floods_with_questions() {
    starves_nobody("questions", Source::Replica, questions);
}

#[test]
fn a_replica_that_floods_with_garbage() {
    starves_nobody("garbage", Source::Replica, garbage);
}

/// The mutant: one queue for all senders. The quiet run is as good as ever; no flood is borne.
#[test]
fn one_shared_queue_is_convicted() {
    let quiet = p99(Turns::Shared, None);
    let floods: [(&str, Source, Word); 3] = [
        ("bundles", Source::Client, bundles),
        ("votes", Source::Replica, votes),
        ("garbage", Source::Replica, garbage),
    ];
    for (name, source, word) in floods {
        let flooded = p99(Turns::Shared, Some((source, word)));
        println!("{name}: p99 {quiet:?} quiet, {flooded:?} flooded, in one queue");
        assert!(flooded > 3 * quiet, "{name}: one queue for all is not noticed");
    }
}
