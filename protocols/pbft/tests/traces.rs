//! Attacks from the literature, step by step: each brings down an engine that is built in the obvious way, and leaves this
//! one as it was. The obvious engine is this one, with what stands against the attack taken away.
//!
//! Slow primaries are in `slow_primary`, fenced locks in the coordination service's own tests.

mod harness;

use harness::{Cluster, Letter, batch};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use testudo_contracts::Ordering as _;
use testudo_core::{Message as _, Peer, ReplicaId, Slot, View};
use testudo_lab::Coordination;
use testudo_pbft::message::{Commit, PrePrepare};
use testudo_pbft::{Message, Pbft, Standard, Timer};
use testudo_quorum::Dissemination;
use testudo_replication::learner::rules::{Rules as Learning, Standard as Careful};
use testudo_replication::{Bundle, ReplicaMessage, Request};
use testudo_sim::adversary::Adversary;
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::script::play;
use testudo_sim::seeded::Outcome;
use testudo_sim::world::{Observer, Shape, World};
use testudo_sim::{Climate, Event, Fact, NodeId, Rng, Saying, Seeded};

/// What is left of a replica that the primary leaves out.
struct LeftOut {
    /// What replica 3 has executed.
    executed: usize,
    /// How many correct replicas can answer a client.
    answers: usize,
    /// The views that correct replicas are in.
    views: Vec<View>,
}

/// A lying primary orders with two replicas, and says nothing to the third, nor to the client (Berger, Reiser and Bessani,
/// "Making reads in BFT state machine replication fast, linearizable, and live", SRDS 2021). The third complains alone.
fn left_out(hands_on: bool) -> LeftOut {
    let mut cluster = Cluster::<Standard>::new(4, 1);
    cluster.corrupt(0);
    let is_handed_on = |message: &Message| matches!(message.name(), "committed" | "proposal");
    cluster.drop = Box::new(move |letter: &Letter| !hands_on && is_handed_on(&letter.message));
    let (view, slot, proposed) = (View(0), Slot(1), batch("a"));
    for to in [1, 2] {
        let batch = proposed.clone();
        cluster.post(0, to, Message::PrePrepare(PrePrepare { view, slot, batch }));
        cluster.post(0, to, Message::Commit(Commit { view, slot, digest: proposed.digest() }));
    }
    cluster.wait(&[1, 2, 3], 1);
    cluster.run();
    (0..8).for_each(|_| cluster.tick());
    // Those who have executed it wait for nothing any more. Only who has not complains.
    let lacks = (1..4).filter(|id| cluster.executed(*id).is_empty()).collect::<Vec<u16>>();
    for id in &lacks {
        cluster.fire(*id, Timer::View);
    }
    cluster.run();
    (0..8).for_each(|_| cluster.tick());
    LeftOut {
        executed: cluster.executed(3).len(),
        answers: (1..4).filter(|id| !cluster.executed(*id).is_empty()).count(),
        views: (1..3).map(|id| cluster.core(id).view()).collect(),
    }
}

/// Trace C6. Where nobody hands on what the primary proposed, the replica that is left out stays behind for ever: its word
/// alone changes no view, and a client that wants 2f+1 equal answers gets two.
#[test]
fn a_replica_that_is_left_out_catches_up() {
    let naive = left_out(false);
    assert_eq!((naive.executed, naive.answers), (0, 2), "it has nothing to execute");
    assert_eq!(naive.views, [View(0); 2], "one complaint changes no view");
    let ours = left_out(true);
    assert_eq!((ours.executed, ours.answers), (1, 3));
    assert_eq!(ours.views, [View(0); 2], "no view change was needed");
}

/// A read is answered when f+1 replicas have said how far they are.
enum ReadsEarly {}

impl Learning for ReadsEarly {
    fn claims(quorums: &Dissemination) -> usize {
        quorums.weak()
    }
}

/// The write of `new` is acknowledged by replicas of which 0 lies, while 3 and the learner lag. The learner is asked to read.
/// What it answers once 0 and 3 have told it how far they are, and in the end.
fn stale_read<R: Learning>() -> [Vec<String>; 2] {
    let story = include_str!("stories/stale_read.txt");
    let (first, last) =
        story.split_once("# The third claim is new").expect("the story tells of it");
    let answers = |story: &str| -> Vec<String> {
        let played = play(story, Replicated::<Pbft, Lore, Coordination, R>::default);
        played.lines().filter(|line| line.starts_with("l1 ←")).map(String::from).collect()
    };
    // The learner answers as soon as it may.
    let early = format!("{first}\nquiet\nrun 0ms\n");
    [answers(&early), answers(&format!("{first}# The third claim is new{last}"))]
}

/// Trace C7. A liar and a laggard know nothing of what was acknowledged: two claims are no quorum.
#[test]
fn what_was_acknowledged_is_read() {
    let [early, last] = stale_read::<Careful>();
    assert_eq!(early, [""; 0], "it waits for a third claim");
    assert_eq!(last, ["l1 ← new of revision 3 as of s3"]);
    let [early, last] = stale_read::<ReadsEarly>();
    let stale = ["l1 ← old of revision 2 as of s2"];
    assert_eq!((early, last), (stale.map(String::from).to_vec(), stale.map(String::from).to_vec()));
}

/// Believes the body of a bundle from its client alone, as whoever checks an authenticator of his own must: it hands none on.
struct HandsNothingOn;

impl Adversary<ReplicaMessage<Message>> for HandsNothingOn {
    fn name(&self) -> &'static str {
        "hands nothing on"
    }
    fn outgoing(
        &mut self,
        to: Peer,
        message: ReplicaMessage<Message>,
        _: &mut Rng,
    ) -> Vec<Saying<ReplicaMessage<Message>>> {
        match message {
            ReplicaMessage::Bodies(_) => Vec::new(),
            message => vec![Saying::now(to, message)],
        }
    }
}

/// Counts changes of the view, and slots that were executed.
#[derive(Default)]
struct Course {
    view: View,
    slot: Slot,
}

impl Observer for Course {
    fn observe(&mut self, _: Duration, event: &Event) {
        match event {
            Event::Told(_, Fact::View(view, _)) => self.view = self.view.max(*view),
            Event::Told(_, Fact::Executed { slot, .. }) => self.slot = self.slot.max(*slot),
            _ => {}
        }
    }
}

/// A client signs each bundle rightly for the primary of the moment and wrongly for everybody else, ten times in a minute.
/// How often the view changes, and how much is executed.
fn garbage_for_backups(hands_on: bool) -> (View, Slot) {
    let system = Replicated::<Pbft, Lore>::default();
    let mut world = World::asleep(system, &Shape::byzantine(1, 1), 3);
    let course = Rc::new(RefCell::new(Course::default()));
    world.watch(course.clone());
    let client = world.client_node(0);
    world.suborn(client);
    if !hands_on {
        (0..4).for_each(|id| world.corrupt_by(NodeId(id), Box::new(HandsNothingOn)));
    }
    let mut seeded = Seeded::new(world, 3, Climate::calm(), 1, false);
    seeded.world.start_all();
    for number in 1..=10 {
        seeded.call(Duration::from_secs(6 * number), number);
    }
    while seeded.world.now() < Duration::from_secs(66) {
        match seeded.step() {
            Outcome::Idle => break,
            Outcome::Happened => {}
            Outcome::Call(number) => {
                let primary = (course.borrow().view.0 % 4) as u16;
                for to in 0..4 {
                    let bundle = Bundle {
                        replier: ReplicaId(to),
                        request: Request::Register { nonce: number },
                    };
                    let said = ReplicaMessage::Bundle(bundle);
                    let to = Peer::Replica(ReplicaId(to));
                    seeded.world.have_lie(client, Saying::now(to, said));
                }
                let letters = seeded.world.letters().copied();
                let garbled: Vec<u64> = letters
                    .filter(|letter| letter.from == client && letter.to != NodeId(primary))
                    .map(|letter| letter.number)
                    .collect();
                garbled.into_iter().for_each(|number| seeded.world.spoil(number));
            }
        }
    }
    let course = course.borrow();
    (course.view, course.slot)
}

/// Trace C9 (Clement and others, "Making Byzantine fault tolerant systems tolerate Byzantine faults", NSDI 2009, section 3).
/// The primary does nothing wrong, and cannot show that to backups who know only what the client has said to them.
#[test]
fn garbage_for_backups_changes_no_view() {
    let (view, slot) = garbage_for_backups(true);
    assert_eq!(view, View(0), "a correct primary was given up");
    assert!(slot >= Slot(10), "every bundle is a client's word, whoever brings it: {slot:?}");
    let (view, _) = garbage_for_backups(false);
    assert!(view >= View(5), "the obvious engine gives up its primaries: {view:?}");
}
