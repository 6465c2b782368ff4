//! All that can happen to four replicas that order one request or two, with one of them crashing or lying.
//!
//! What is sought is printed with its bounds. `TESTUDO_EXPLORE=1` in the environment widens them: that takes minutes, and
//! wants `--release`.

mod broken;

use broken::{BlamesRepetition, DropsPrepared, RepliesEarly, ShortQuorum};
use std::fmt::Debug;
use testudo_contracts::Batch;
use testudo_core::{Peer, ReplicaId, Slot, View};
use testudo_pbft::message::{Commit, PrePrepare, Prepare, Slots, ViewChange};
use testudo_pbft::{Message, Pbft, Rules, Standard, safety};
use testudo_sim::explore::ordering::{Falsehoods, Ordered, batch};
use testudo_sim::explore::{Bounds, Explored, Falsehood, Stop, explore};
use testudo_sim::{NodeId, Shape, World};

/// The rules of a replica that can be copied.
trait Explorable: Rules + Clone + Debug + 'static {}
impl<R: Rules + Clone + Debug + 'static> Explorable for R {}

/// A liar, by its number, and what it may say. Its automaton does not run.
type Liar<R> = Option<(u16, Falsehoods<Pbft<R>>)>;

fn is_thorough() -> bool {
    std::env::var("TESTUDO_EXPLORE").is_ok_and(|value| value == "1")
}

/// Explores and prints what came of it.
fn run<R: Explorable>(requests: u8, liar: Liar<R>, bounds: &Bounds) -> Explored {
    run_alike(requests, liar, &[], bounds)
}

/// The same, where these replicas may change places.
fn run_alike<R: Explorable>(
    requests: u8,
    liar: Liar<R>,
    alike: &[NodeId],
    bounds: &Bounds,
) -> Explored {
    let make = || {
        let mut ordered = Ordered::<Pbft<R>>::new(requests);
        ordered.convicts = safety::is_convicted;
        ordered.alike = alike.to_vec();
        if let Some((_, falsehoods)) = liar {
            ordered.falsehoods = falsehoods;
        }
        let mut world = World::asleep(ordered, &Shape::byzantine(1, 0), 0);
        if let Some((liar, _)) = liar {
            world.suborn(NodeId(liar));
        }
        world
    };
    let explored = explore(make, bounds, &mut |progress| {
        if is_thorough() {
            println!("{progress:?}");
        }
    });
    println!("{explored}\n");
    explored
}

/// Everything within the bounds is seen, and right.
fn passes<R: Explorable>(requests: u8, liar: Liar<R>, bounds: &Bounds) {
    let explored = run(requests, liar, bounds);
    assert!(explored.violation.is_none() && explored.is_exhausted(), "{explored}");
}

/// The rule that a mutant breaks, and by how many steps it is found.
fn convicted<R: Explorable>(requests: u8, liar: Liar<R>, bounds: &Bounds) -> (&'static str, u32) {
    let explored = run(requests, liar, bounds);
    let found = explored.violation.expect("a mutant is convicted");
    (found.violation.oracle, explored.depth)
}

/// One request, disks that take no time, and everything in order but for what is late.
fn in_order(late: u32) -> Bounds {
    Bounds { late: Some(late), prompt: true, timers: vec!["View".into()], ..Bounds::default() }
}

fn peer(id: u16) -> Peer {
    Peer::Replica(ReplicaId(id))
}

const SLOT: Slot = Slot(1);

fn votes(view: u64, batch: &Batch) -> [Message; 2] {
    let (view, slot, digest) = (View(view), SLOT, batch.digest());
    [
        Message::Prepare(Prepare { view, slot, digest }),
        Message::Commit(Commit { view, slot, digest }),
    ]
}

/// A primary of view 0 that wants one batch of one replica, and another of the next, and votes for both.
fn two_faces<R: Explorable>(_: &World<Ordered<Pbft<R>>>, _: NodeId) -> Vec<Falsehood<Message>> {
    let mut all = Vec::new();
    for name in ["a", "b"] {
        for to in 1..4 {
            let batch = batch(name, true);
            let view = View(0);
            let proposal = PrePrepare { view, slot: SLOT, batch: batch.clone() };
            let said = [vec![Message::PrePrepare(proposal)], votes(0, &batch).to_vec()].concat();
            let messages = said.into_iter().map(|said| (peer(to), said)).collect();
            all.push(Falsehood { words: format!("wants {name} of {to}"), messages });
        }
    }
    all
}

/// A backup that stands for b with everybody in the second view.
fn backer<R: Explorable>(_: &World<Ordered<Pbft<R>>>, _: NodeId) -> Vec<Falsehood<Message>> {
    let b = votes(1, &batch("b", true));
    let messages = (0..3).flat_map(|to| b.clone().map(|vote| (peer(to), vote))).collect();
    vec![Falsehood { words: "votes for b in v1".into(), messages }]
}

/// The same, and when the view changes it knows of nothing.
fn forgetful<R: Explorable>(
    world: &World<Ordered<Pbft<R>>>,
    liar: NodeId,
) -> Vec<Falsehood<Message>> {
    let nothing =
        ViewChange { view: View(1), stable: None, prepared: Vec::new(), lost: Slots::none() };
    let change = Message::ViewChange(nothing);
    let mut all = backer(world, liar);
    all.push(Falsehood { words: "knows nothing".into(), messages: vec![(peer(1), change)] });
    all
}

#[test]
fn one_request_and_one_late_message() {
    passes::<Standard>(1, None, &in_order(1));
}

#[test]
fn one_request_and_a_view_change() {
    let bounds = Bounds { timeouts: 1, inputs: 2, ..in_order(0) };
    passes::<Standard>(2, None, &bounds);
}

#[test]
fn one_request_and_a_crash() {
    let bounds = Bounds { crashes: 1, restarts: 1, prompt: false, ..in_order(0) };
    passes::<Standard>(1, None, &bounds);
}

#[test]
fn a_primary_with_two_faces() {
    let bounds = Bounds { inputs: 0, lies: 3, timeouts: 1, ..in_order(0) };
    passes::<Standard>(1, Some((0, two_faces)), &bounds);
}

/// Backups that lead no view within the bounds may change places. Then there are fewer states, and the same to be said of
/// them: nothing is wrong, or the same rule is broken after as many steps. What has begun may end in any order: where it ends
/// as it began, the order of sending tells backups apart.
#[test]
fn backups_that_lead_nothing_are_alike() {
    let backups = [NodeId(1), NodeId(2), NodeId(3)];
    let bounds = Bounds { late: None, depth: 6, ..in_order(0) };
    let all = run::<Standard>(1, None, &bounds);
    let reduced = run_alike::<Standard>(1, None, &backups, &bounds);
    for explored in [&all, &reduced] {
        assert!(explored.violation.is_none() && explored.stop == Stop::Depth, "{explored}");
    }
    assert_eq!(reduced.depth, all.depth);
    assert!(reduced.states * 3 < all.states, "{} of {} states", reduced.states, all.states);

    let liar: Liar<ShortQuorum> = Some((0, two_faces));
    let bounds = Bounds { inputs: 0, lies: 2, late: None, ..in_order(0) };
    let all = run::<ShortQuorum>(1, liar, &bounds);
    let reduced = run_alike::<ShortQuorum>(1, liar, &backups, &bounds);
    let broken = |explored: &Explored| {
        let found = explored.violation.as_ref().expect("a mutant is convicted");
        (found.violation.oracle, explored.depth)
    };
    assert_eq!(broken(&reduced), broken(&all));
    assert!(reduced.states < all.states, "{} of {} states", reduced.states, all.states);
}

#[test]
fn more_of_all_that() {
    if !is_thorough() {
        return;
    }
    let wide = Bounds { states: 20_000_000, ..in_order(0) };
    passes::<Standard>(2, None, &Bounds { inputs: 2, late: Some(1), ..wide.clone() });
    passes::<Standard>(1, None, &Bounds { late: Some(3), ..wide.clone() });
    passes::<Standard>(2, None, &Bounds { timeouts: 2, inputs: 2, ..wide });
}

/// A quorum that is one short: a primary with two faces has two halves decide apart, by one face each.
#[test]
fn a_quorum_one_short() {
    let bounds = Bounds { inputs: 0, lies: 2, ..in_order(0) };
    assert_eq!(convicted::<ShortQuorum>(1, Some((0, two_faces)), &bounds), ("agreement", 2));
    passes::<Standard>(1, Some((0, two_faces)), &bounds);
}

/// Repetition is no offence: the network doubles a proposal.
#[test]
fn blame_for_repetition() {
    let bounds = Bounds { duplicates: 1, ..in_order(0) };
    let (oracle, depth) = convicted::<BlamesRepetition>(1, None, &bounds);
    assert_eq!((oracle, depth), ("justice", 4));
    passes::<Standard>(1, None, &bounds);
}

/// Two requests, each proposed once, and the first primaries lose patience.
fn impatient(wide: &Bounds, timers: &[&str], lies: u32) -> Bounds {
    let timeouts = timers.len() as u32;
    let timers = timers.iter().map(|timer| (*timer).to_owned()).collect();
    Bounds { inputs: 2, lies, timeouts, timers, ..wide.clone() }
}

/// What was decided is forgotten when the view changes: 2 alone learns of it, and the others go on without. It takes a minute
/// where nothing is optimized, so it runs where something is, or when asked for.
#[test]
fn dropped_certificates() {
    if cfg!(debug_assertions) && !is_thorough() {
        return;
    }
    let bounds = impatient(&in_order(0), &["0 View", "1 View"], 1);
    let convicted = convicted::<DropsPrepared>(2, Some((3, backer)), &bounds);
    assert_eq!(convicted, ("agreement", 30));
}

/// What one replica has committed counts as decided, though nobody else can know.
#[test]
fn early_replies() {
    let bounds = impatient(&in_order(0), &["0 View"], 2);
    let convicted = convicted::<RepliesEarly>(2, Some((3, forgetful)), &bounds);
    assert_eq!(convicted, ("agreement", 10));
}
