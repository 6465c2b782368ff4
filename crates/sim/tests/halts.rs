//! Nodes that stop in the midst of things, and clocks that run wrong.

extern crate alloc;

mod common;

use common::{Ask, Register};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use testudo_core::Time;
use testudo_sim::lateness::{Bound, Breach, Lateness};
use testudo_sim::oracle::Cast;
use testudo_sim::{Event, Letter, Loss, NodeId, Observer, Shape, World};

#[derive(Default)]
struct Seen(Vec<Event>);

impl Observer for Seen {
    fn observe(&mut self, _: Duration, event: &Event) {
        self.0.push(event.clone());
    }
}

fn world() -> (World<Register>, Rc<RefCell<Seen>>) {
    let mut world = World::new(Register::default(), &Shape::byzantine(1, 1), 1);
    let seen = Rc::new(RefCell::new(Seen::default()));
    world.watch(seen.clone());
    (world, seen)
}

fn ask(world: &mut World<Register>, write: Option<&str>) {
    world.ask_client(0, Ask { id: 1, key: "k".into(), write: write.map(Into::into) });
}

fn letters(world: &World<Register>, is_wanted: impl Fn(&Letter) -> bool) -> Vec<u64> {
    world.letters().filter(|letter| is_wanted(letter)).map(|letter| letter.number).collect()
}

#[test]
fn what_comes_due_for_a_paused_node_waits() {
    let (mut world, seen) = world();
    ask(&mut world, None);
    let (node, client) = (NodeId(0), world.client_node(0));
    assert!(world.pause(node) && !world.pause(node), "one that is paused is not paused again");
    for number in letters(&world, |letter| letter.to == node) {
        assert!(!world.deliver(number));
    }
    let answers = |world: &World<Register>| letters(world, |letter| letter.from == node).len();
    assert_eq!(answers(&world), 0);
    assert!(world.is_up(node) && world.is_paused(node));
    assert!(world.resume(node, false) && !world.resume(node, false));
    assert_eq!(answers(&world), 1, "the query had waited");
    // A client's timers come first, if that is wanted: it asks again before it hears the answers.
    for number in letters(&world, |letter| letter.to != client) {
        world.deliver(number);
    }
    world.pause(client);
    let waiting = letters(&world, |letter| letter.to == client);
    waiting.iter().for_each(|number| assert!(!world.deliver(*number)));
    let timer = world.timer_named(client, "resend").unwrap();
    assert!(!world.fire(client, timer));
    world.resume(client, true);
    let seen = seen.borrow();
    let fired = seen.0.iter().position(|event| matches!(event, Event::Fired(..))).unwrap();
    let heard = seen
        .0
        .iter()
        .position(|event| matches!(event, Event::Delivered(letter) if letter.to == client));
    assert!(heard.unwrap() > fired);
}

#[test]
fn a_paused_node_may_be_killed() {
    let (mut world, seen) = world();
    ask(&mut world, None);
    world.pause(NodeId(0));
    letters(&world, |letter| letter.to == NodeId(0)).iter().for_each(|number| {
        world.deliver(*number);
    });
    world.crash(NodeId(0), 0);
    assert!(!world.is_paused(NodeId(0)) && !world.resume(NodeId(0), true));
    let is_lost = |event: &Event| matches!(event, Event::Dropped(_, Loss::Down));
    assert_eq!(seen.borrow().0.iter().filter(|event| is_lost(event)).count(), 1);
    world.restart(NodeId(0));
    assert!(world.is_up(NodeId(0)));
}

#[test]
fn a_crash_cuts_a_broadcast_in_two() {
    for left in 0..4 {
        let (mut world, seen) = world();
        let client = world.client_node(0);
        // A step's first effect is the broadcast itself, whose first receiver hears it with that.
        assert!(world.doom(client, left, 0) && world.is_doomed(client));
        ask(&mut world, None);
        assert_eq!(letters(&world, |letter| letter.from == client).len(), left as usize);
        assert!(!world.is_up(client) && !world.is_doomed(client));
        let crashes = |event: &Event| matches!(event, Event::Crashed { .. });
        assert_eq!(seen.borrow().0.iter().filter(|event| crashes(event)).count(), 1);
    }
}

#[test]
fn a_crash_between_effects_may_keep_what_was_written() {
    for keep in 0..2 {
        let (mut world, _) = world();
        ask(&mut world, Some("text"));
        let mut all = letters(&world, |_| true);
        while letters(&world, |letter| letter.name == "value").is_empty() {
            let number = all.remove(0);
            world.deliver(number);
            all = letters(&world, |_| true);
        }
        world.doom(NodeId(0), 0, keep);
        for number in letters(&world, |letter| letter.name == "value" && letter.to == NodeId(0)) {
            world.deliver(number);
        }
        assert!(!world.is_up(NodeId(0)), "it crashed before its flush began");
        world.restart(NodeId(0));
        let disk = world.replica(NodeId(0)).unwrap().disk();
        assert_eq!(disk.records(), keep);
        assert!(letters(&world, |letter| letter.name == "stored").is_empty());
    }
}

#[test]
fn clocks_drift_and_timers_with_them() {
    let (mut world, seen) = world();
    let client = world.client_node(0);
    let began = world.time();
    world.set_clock(client, 40);
    world.set_rate(client, 500_000);
    world.advance_to(Duration::from_secs(10));
    assert_eq!(world.clock_error(client), 5_040);
    let watch = world.client(0).unwrap().watch();
    assert_eq!(watch.read(world.time()), Time(began.0 + 15_040));
    world.take_pending();
    ask(&mut world, None);
    let timers = world.take_pending().into_iter().filter_map(|pending| match pending {
        testudo_sim::Pending::Timer(_, _, after) => Some(after),
        _ => None,
    });
    let waits: Vec<Duration> = timers.collect();
    assert_eq!(waits.len(), 1);
    assert_eq!(
        waits[0].as_micros(),
        66_666,
        "a tenth of a second by a clock that runs half as fast again"
    );
    world.set_rate(client, 0);
    world.set_rate(client, 0);
    assert_eq!(world.clock_error(client), 5_040, "what it has gained stays");
    let drifts = |event: &&Event| matches!(event, Event::Drifts(..));
    assert_eq!(seen.borrow().0.iter().filter(drifts).count(), 2);
}

#[test]
fn cuts_can_be_undone_one_by_one() {
    let (mut world, _) = world();
    world.cut(NodeId(0), NodeId(1));
    world.cut(NodeId(1), NodeId(0));
    world.join(NodeId(0), NodeId(1));
    assert!(!world.is_cut(NodeId(0), NodeId(1)) && world.is_cut(NodeId(1), NodeId(0)));
}

/// A monitor of a world, and the numbers of what its client asked of each replica.
fn monitored(bound: Bound, since: Duration) -> (World<Register>, Rc<RefCell<Lateness>>, Vec<u64>) {
    let (mut world, _) = world();
    let lateness = Rc::new(RefCell::new(Lateness::new(bound, since, Cast::of(&world))));
    world.watch(lateness.clone());
    ask(&mut world, None);
    let asked = letters(&world, |_| true);
    (world, lateness, asked)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn what_is_in_time_is_no_breach() {
    let (mut world, lateness, asked) = monitored(Bound::Transit(millis(10)), Duration::ZERO);
    world.advance_to(millis(10));
    world.deliver(asked[0]);
    assert!(lateness.borrow().held());
    assert_eq!(lateness.borrow_mut().take_findings(), []);
}

#[test]
fn late_missing_and_lost_messages_are_found() {
    let (mut world, lateness, asked) = monitored(Bound::Transit(millis(10)), Duration::ZERO);
    world.lose(asked[0], Loss::Network);
    world.advance_to(millis(11));
    world.deliver(asked[1]);
    world.advance_to(millis(15));
    world.deliver(asked[2]);
    lateness.borrow_mut().advance(world.now());
    let findings = lateness.borrow_mut().take_findings();
    let found: Vec<(u64, Breach)> =
        findings.iter().map(|found| (found.letter.number, found.breach)).collect();
    let first = [(asked[0], Breach::Lost)];
    // Whoever is missing is found when time passes, and how late it was when it comes.
    let missing = asked[1..].iter().map(|number| (*number, Breach::Missing));
    let late = [(asked[1], Breach::Late(millis(1))), (asked[2], Breach::Late(millis(5)))];
    let expected: Vec<_> = first.into_iter().chain(missing).chain(late).collect();
    assert_eq!(found, expected);
    assert!(!lateness.borrow().held());
    assert_eq!(lateness.borrow().breaches(), 4, "each message breaks the assumption once");
    assert!(matches!(findings[0].event(), Event::Untimely(_, Breach::Lost)));
}

#[test]
fn a_round_ends_for_all_at_once() {
    let bound = Bound::Round(millis(10));
    assert_eq!(bound.due(Duration::ZERO), millis(10) - Duration::from_nanos(1));
    assert_eq!(bound.due(millis(10)), millis(20) - Duration::from_nanos(1));
    assert_eq!(bound.due(millis(19)), millis(20) - Duration::from_nanos(1));
    let (mut world, lateness, asked) = monitored(bound, Duration::ZERO);
    world.advance_to(millis(9));
    world.deliver(asked[0]);
    world.advance_to(millis(10));
    world.deliver(asked[1]);
    let findings = lateness.borrow_mut().take_findings();
    assert!(findings.iter().all(|found| found.letter.number != asked[0]));
    let late = "three queries and an answer were not there at the end of the round";
    assert_eq!(lateness.borrow().breaches(), 4, "{late}");
}

#[test]
fn nobody_is_late_for_whoever_does_not_keep_the_model() {
    let (mut world, lateness, asked) = monitored(Bound::Transit(millis(10)), Duration::ZERO);
    world.crash(NodeId(0), 0);
    world.pause(NodeId(1));
    world.advance_to(millis(30));
    world.deliver(asked[0]);
    world.resume(NodeId(1), false);
    world.deliver(asked[1]);
    let findings = lateness.borrow_mut().take_findings();
    let blamed = |number| findings.iter().any(|found| found.letter.number == number);
    assert!(!blamed(asked[0]), "who is down hears nothing in time");
    assert!(!blamed(asked[1]), "nor does who is paused");
    assert!(blamed(asked[2]) && blamed(asked[3]), "the others had a right to hear");
    // Before its moment nothing is asked of the network, and of liars nothing ever is.
    let (mut world, lateness, asked) = monitored(Bound::Transit(millis(10)), millis(1));
    world.advance_to(millis(30));
    world.deliver(asked[2]);
    assert!(lateness.borrow().held());
    let (mut world, _) = self::world();
    world.suborn(world.client_node(0));
    let lateness = Lateness::new(Bound::Transit(millis(10)), Duration::ZERO, Cast::of(&world));
    let lateness = Rc::new(RefCell::new(lateness));
    world.watch(lateness.clone());
    ask(&mut world, None);
    world.advance_to(millis(30));
    letters(&world, |_| true).iter().for_each(|number| {
        world.deliver(*number);
    });
    let of_client = |found: &testudo_sim::lateness::Finding| found.letter.from.0 == 4;
    assert!(!lateness.borrow_mut().take_findings().iter().any(of_client));
}
