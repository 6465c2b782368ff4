//! The explorer, on a toy small enough to be counted otherwise: one vote each for the first who asks, and whoever has the
//! votes of two of three has won.

mod ballot;

use ballot::{Ballot, counted};
use testudo_core::FaultModel;
use testudo_sim::explore::{Bounds, Explored, Stop, explore};
use testudo_sim::{Flaw, NodeId, Shape, World};

fn world(ballot: &Ballot) -> World<Ballot> {
    let shape = Shape {
        replicas: 3,
        clients: 0,
        learners: 0,
        model: FaultModel::crash(1),
        ..Shape::byzantine(0, 0)
    };
    World::new(ballot.clone(), &shape, 0)
}

fn run(ballot: &Ballot, bounds: &Bounds) -> Explored {
    let explored = explore(|| world(ballot), bounds, &mut |_| {});
    println!("{explored}\n");
    explored
}

fn one_crash() -> Bounds {
    Bounds { inputs: 2, crashes: 1, restarts: 1, ..Bounds::default() }
}

#[test]
fn every_state_is_reached_and_none_twice() {
    let small = [
        Bounds { inputs: 1, ..Bounds::default() },
        Bounds { inputs: 2, ..Bounds::default() },
        Bounds { inputs: 1, crashes: 1, restarts: 1, ..Bounds::default() },
        Bounds { inputs: 1, losses: 1, duplicates: 1, ..Bounds::default() },
    ];
    for bounds in small {
        let explored = run(&Ballot::default(), &bounds);
        assert!(explored.is_exhausted() && explored.violation.is_none());
        let (states, transitions) = counted(&bounds, false);
        assert_eq!((explored.states, explored.transitions), (states, transitions), "{bounds}");
    }
}

#[test]
fn worlds_that_cannot_be_copied_are_made_again() {
    let bounds = Bounds { inputs: 1, crashes: 1, restarts: 1, ..Bounds::default() };
    let copied = run(&Ballot::default(), &bounds);
    let made = run(&Ballot { is_unique: true, ..Ballot::default() }, &bounds);
    assert_eq!((made.states, made.transitions), (copied.states, copied.transitions));
}

#[test]
fn replicas_that_may_change_places_are_one() {
    let bounds = Bounds { inputs: 2, ..Bounds::default() };
    let ballot = Ballot { is_symmetric: true, ..Ballot::default() };
    let explored = run(&ballot, &bounds);
    assert!(explored.is_exhausted() && explored.violation.is_none());
    assert_eq!(explored.states, counted(&bounds, true).0);
}

#[test]
fn a_vote_that_is_written_down_is_not_given_twice() {
    let bounds = Bounds { prompt: true, ..one_crash() };
    let ballot = Ballot { is_symmetric: true, ..Ballot::default() };
    let explored = run(&ballot, &bounds);
    assert!(explored.is_exhausted() && explored.violation.is_none());
}

/// Two ask; 2 votes for one, forgets it in a crash, and votes for the other: eight steps where words to oneself take no
/// time, and four more where each candidate hears its own question and its own vote.
#[test]
fn a_vote_that_is_forgotten_is_found_by_the_shortest_way() {
    for (prompt, is_symmetric, steps) in [(true, false, 8), (true, true, 8), (false, false, 12)] {
        let forgets = Ballot { forgets: true, is_symmetric, ..Ballot::default() };
        let explored = run(&forgets, &Bounds { prompt, ..one_crash() });
        assert_eq!((explored.stop, explored.depth), (Stop::Violation, steps));
        let found = explored.violation.expect("it stopped there");
        assert_eq!(found.violation.oracle, "agreement");
        let told: Vec<&str> = found.steps.iter().map(|told| told.step.as_str()).collect();
        assert!(told.iter().any(|step| step.starts_with("crash ")), "{told:?}");
        assert!(told.iter().any(|step| step.ends_with(" vote/1")), "{told:?}");
    }
}

/// Nothing need be late for it: who asks when, and who crashes when, is enough. Every way on which something ends in
/// the order in which it began is one on which it ends in any order.
#[test]
fn few_delays_are_enough() {
    let forgets = Ballot { forgets: true, ..Ballot::default() };
    let bounds = Bounds { prompt: true, ..one_crash() };
    let found = run(&forgets, &Bounds { late: Some(0), ..bounds.clone() });
    let any = run(&forgets, &bounds);
    assert!(found.violation.is_some() && found.states < any.states);
    assert!(found.depth >= any.depth);
    let right = |late| run(&Ballot::default(), &Bounds { late, ..bounds.clone() });
    let (none, one) = (right(Some(0)), right(Some(1)));
    assert!(none.is_exhausted() && one.is_exhausted());
    assert!(none.violation.is_none() && one.violation.is_none());
    assert!(none.states < one.states);
}

/// A driver that lets votes out before they are durable: a crash in between takes the vote back.
#[test]
fn a_vote_that_is_said_before_it_is_durable() {
    let hasty = Ballot { flaw: Some(Flaw::SaysEarly), ..Ballot::default() };
    let bounds = Bounds { late: Some(1), ..one_crash() };
    let explored = run(&hasty, &bounds);
    let found = explored.violation.expect("it is found");
    assert_eq!(found.violation.oracle, "agreement");
    let crash = found.steps.iter().flat_map(|step| &step.told).find(|told| told.contains("lost"));
    assert!(crash.is_some_and(|told| told.contains("lost 1 writes")), "{crash:?}");
    let right = run(&Ballot::default(), &bounds);
    assert!(right.is_exhausted() && right.violation.is_none());
}

#[test]
fn bounds_that_cut_ways_off_are_told() {
    let all = counted(&Bounds { inputs: 1, ..Bounds::default() }, false).0;
    let shallow = run(&Ballot::default(), &Bounds { depth: 3, ..Bounds::default() });
    assert_eq!((shallow.stop, shallow.depth), (Stop::Depth, 3));
    let few = run(&Ballot::default(), &Bounds { states: 10, ..Bounds::default() });
    assert_eq!(few.stop, Stop::States);
    assert!(shallow.states < all && (10..all).contains(&few.states));
}

/// A liar votes for whoever asks, and tells each that it has its vote alone.
#[test]
fn a_liar_says_what_its_model_has_it_say() {
    let ballot = Ballot::default();
    let make = || {
        let mut world = world(&ballot);
        world.crash(NodeId(2), 0);
        world.suborn(NodeId(2));
        world
    };
    let bounds = Bounds { inputs: 2, lies: 2, prompt: true, ..Bounds::default() };
    let explored = explore(make, &bounds, &mut |_| {});
    println!("{explored}");
    let found = explored.violation.as_ref().expect("one liar of three decides for both");
    // Two ask, each hears itself, writes its vote, and has it; the liar votes for both.
    assert_eq!((found.violation.oracle, explored.depth), ("agreement", 4));
    assert_eq!(found.steps.len(), 1 + 2 * 4 + 2 * 2);
    let honest = explore(make, &Bounds { lies: 1, ..bounds }, &mut |_| {});
    assert!(honest.is_exhausted() && honest.violation.is_none());
}

/// A draw of chance is followed to each of its ends.
#[test]
fn chance_is_enumerated() {
    let ballot = Ballot { hesitates: true, ..Ballot::default() };
    let bounds = Bounds { inputs: 1, prompt: true, ..Bounds::default() };
    let sure = run(&Ballot::default(), &bounds);
    let explored = run(&ballot, &bounds);
    assert!(explored.is_exhausted() && explored.states > sure.states);
    let narrow = run(&ballot, &Bounds { draws: 1, ..bounds });
    assert_eq!((narrow.states, narrow.stop), (sure.states, Stop::Exhausted));
    assert!(narrow.narrowed && !narrow.is_exhausted());
}
