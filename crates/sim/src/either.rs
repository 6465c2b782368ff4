//! One automaton that is either of two, over the same messages.
//!
//! A cluster serves callers of more than one kind: clients that keep nothing, and learners. A world knows only that they
//! are callers, each by its index; which kind one is, its configuration says.

use std::fmt;
use testudo_core::{
    Done, Effects, Epoch, Lift, Past, Peer, Position, Protocol, Rot, Tag, Tagged, Verified,
    Work as Task,
};

/// Either of two things: of configurations, inputs, outputs, names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Either<A, B> {
    /// What belongs to the first kind.
    One(A),
    /// What belongs to the second kind.
    Other(B),
}

impl<A: Tagged, B: Tagged> Tagged for Either<A, B> {
    fn tag(&self) -> Tag {
        match self {
            Self::One(one) => one.tag(),
            Self::Other(other) => other.tag(),
        }
    }
}

impl<A: fmt::Debug, B: fmt::Debug> fmt::Debug for Either<A, B> {
    /// Shows what it is, and not which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(one) => one.fmt(f),
            Self::Other(other) => other.fmt(f),
        }
    }
}

impl<A: Task, B: Task> Task for Either<A, B> {
    type Output = Either<A::Output, B::Output>;
    fn run(self) -> Self::Output {
        match self {
            Self::One(work) => Either::One(work.run()),
            Self::Other(work) => Either::Other(work.run()),
        }
    }
}

/// An automaton that is one of two.
#[derive(Debug)]
pub enum OneOf<A, B> {
    /// It is the first.
    One(A),
    /// It is the second.
    Other(B),
}

/// How an automaton's words become those of either.
macro_rules! lift {
    ($of:ident) => {
        Lift {
            message: std::convert::identity,
            epoch: Epoch(0),
            record: |_, record| Either::$of(record),
            snapshot: Either::$of,
            timer: Either::$of,
            work: Either::$of,
        }
    };
}

/// Runs a step of whichever automaton it is. What is meant for the other kind is dropped: nobody sends it.
macro_rules! step {
    ($self:ident, $fx:ident, $given:expr, |$automaton:ident, $item:ident, $inner:ident| $run:expr) => {
        match ($self, $given) {
            (OneOf::One($automaton), Either::One($item)) => {
                let ((), told) = $fx.nest(&lift!(One), |$inner| $run);
                told.into_iter().for_each(|output| $fx.output(Either::One(output)));
            }
            (OneOf::Other($automaton), Either::Other($item)) => {
                let ((), told) = $fx.nest(&lift!(Other), |$inner| $run);
                told.into_iter().for_each(|output| $fx.output(Either::Other(output)));
            }
            _ => {}
        }
    };
}

impl<A, B> Protocol for OneOf<A, B>
where
    A: Protocol,
    B: Protocol<Message = A::Message>,
{
    type Config = Either<A::Config, B::Config>;
    type Message = A::Message;
    type Record = Either<A::Record, B::Record>;
    type Snapshot = Either<A::Snapshot, B::Snapshot>;
    type Timer = Either<A::Timer, B::Timer>;
    type Input = Either<A::Input, B::Input>;
    type Output = Either<A::Output, B::Output>;
    type Work = Either<A::Work, B::Work>;

    fn start(
        config: Self::Config,
        me: Peer,
        past: Past<Self::Snapshot, Self::Record>,
        fx: &mut Effects<'_, Self>,
    ) -> Self {
        match config {
            Either::One(config) => {
                let past = narrow(
                    past,
                    |either| match either {
                        Either::One(snapshot) => Some(snapshot),
                        Either::Other(_) => None,
                    },
                    |either| match either {
                        Either::One(record) => Some(record),
                        Either::Other(_) => None,
                    },
                );
                let (automaton, told) = fx.nest(&lift!(One), |fx| A::start(config, me, past, fx));
                told.into_iter().for_each(|output| fx.output(Either::One(output)));
                Self::One(automaton)
            }
            Either::Other(config) => {
                let past = narrow(
                    past,
                    |either| match either {
                        Either::Other(snapshot) => Some(snapshot),
                        Either::One(_) => None,
                    },
                    |either| match either {
                        Either::Other(record) => Some(record),
                        Either::One(_) => None,
                    },
                );
                let (automaton, told) = fx.nest(&lift!(Other), |fx| B::start(config, me, past, fx));
                told.into_iter().for_each(|output| fx.output(Either::Other(output)));
                Self::Other(automaton)
            }
        }
    }

    fn on_input(&mut self, input: Self::Input, fx: &mut Effects<'_, Self>) {
        step!(self, fx, input, |automaton, input, fx| automaton.on_input(input, fx));
    }

    fn on_message(&mut self, message: Verified<A::Message>, fx: &mut Effects<'_, Self>) {
        match self {
            Self::One(automaton) => {
                let ((), told) = fx.nest(&lift!(One), |fx| automaton.on_message(message, fx));
                told.into_iter().for_each(|output| fx.output(Either::One(output)));
            }
            Self::Other(automaton) => {
                let ((), told) = fx.nest(&lift!(Other), |fx| automaton.on_message(message, fx));
                told.into_iter().for_each(|output| fx.output(Either::Other(output)));
            }
        }
    }

    fn on_timer(&mut self, timer: Self::Timer, fx: &mut Effects<'_, Self>) {
        step!(self, fx, timer, |automaton, timer, fx| automaton.on_timer(timer, fx));
    }

    fn on_work(&mut self, done: Done<Self>, fx: &mut Effects<'_, Self>) {
        let Done { stamp, output } = done;
        step!(self, fx, output, |automaton, output, fx| {
            automaton.on_work(Done { stamp, output }, fx);
        });
    }

    fn on_recalled(&mut self, at: Position, record: Self::Record, fx: &mut Effects<'_, Self>) {
        step!(self, fx, record, |automaton, record, fx| automaton.on_recalled(at, record, fx));
    }

    fn on_rot(&mut self, rot: Rot, fx: &mut Effects<'_, Self>) {
        match self {
            Self::One(automaton) => {
                let ((), told) = fx.nest(&lift!(One), |fx| automaton.on_rot(rot, fx));
                told.into_iter().for_each(|output| fx.output(Either::One(output)));
            }
            Self::Other(automaton) => {
                let ((), told) = fx.nest(&lift!(Other), |fx| automaton.on_rot(rot, fx));
                told.into_iter().for_each(|output| fx.output(Either::Other(output)));
            }
        }
    }

    fn invariants(&self) {
        match self {
            Self::One(automaton) => automaton.invariants(),
            Self::Other(automaton) => automaton.invariants(),
        }
    }

    fn audit(&self) {
        match self {
            Self::One(automaton) => automaton.audit(),
            Self::Other(automaton) => automaton.audit(),
        }
    }
}

/// The past of the kind that a node is. It never was of the other.
fn narrow<S, R, T, Q>(
    past: Past<S, R>,
    snapshot: impl FnOnce(S) -> Option<T>,
    record: impl Fn(R) -> Option<Q>,
) -> Past<T, Q> {
    let Past { promise, snapshot: of, records, lost } = past;
    let records = records.into_iter().filter_map(|(at, of)| Some((at, record(of)?))).collect();
    Past { promise, snapshot: of.and_then(snapshot), records, lost }
}
