//! All that can happen in a small world, to the last.
//!
//! A seed shows one run, and a million seeds a million. Where a configuration is small (few replicas, one operation or two,
//! a fault or two) every run can be seen instead: from each state that is reached, everything is done that can be done
//! there, and a state that was reached before is not looked at again. What is found so is found by the shortest way, and
//! what is not found within the [`Bounds`] is not there.
//!
//! **What can happen next** ([`course`]): any message under way arrives, is lost or doubled; any flush or piece of
//! background work is through; any timer that runs fires, whatever its length: time stands still, and no clock moves; a
//! replica crashes, with or without what it had written and nobody had flushed, and starts again; a layer above asks for
//! something; a liar says anything that its [`Model`] has it say. What may happen only so often has a budget.
//!
//! Deciding that a message is *lost* adds no run that violates a safety rule: whatever follows could follow while it is
//! still under way. So no losses need be asked for but to see their ends. What a liar says arrives at once, as it could
//! have said it that late.
//!
//! **In which order.** With [`Bounds::late`] unset, in any. That is the most that a network can do, and soon too much: four
//! replicas that order one request by three rounds of voting have billions of states. With [`Bounds::late`] set, what has
//! begun ends in the order in which it began, but for so many things that are late, and end at any later moment. This is
//! the delay bound of Emmi, Qadeer and Rakamarić (POPL 2011): few delays find most of what any number of them finds, and
//! the number of runs is a polynomial of the length whose degree is the bound.
//!
//! **What is one state** ([`print`]): 128 bits of a hash over all nodes (automata, disks, what waits behind gates, timers,
//! chores), what is under way (a multiset where order does not matter), what upper layers remember, what budgets are
//! left, and for each node the sequence of what it has told, as rules remember that. Two states of one hash are taken for
//! one; at 10⁸ states the odds that two differ are below 10⁻²².
//!
//! **Replicas that may change places.** Where [`Model::interchangeable`] names replicas, states that differ in nothing but
//! their names are one ([`rename`]). That is sound where no rule of the protocol treats them otherwise: none of them leads a
//! view within the bounds, and none is picked by number. It is off where nothing is named.
//!
//! **Reductions of order** there are no others: deliveries to different nodes commute, but any of them may have sent the
//! next message to the other, so no subset of what can happen is safe to choose without knowing the protocol.

mod course;
mod history;
mod model;
pub mod ordering;
mod print;
mod rename;
mod report;
mod search;
mod story;

pub use model::{Ask, Falsehood, Forks, Model};
pub use report::{Counterexample, Explored, Progress, Stop, Told};

use crate::world::World;
use std::fmt;

/// How far an exploration goes. Each budget counts what happens on one way from the beginning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// How often replicas may crash.
    pub crashes: u32,
    /// How often one that has crashed may start again.
    pub restarts: u32,
    /// How many messages may be lost.
    pub losses: u32,
    /// How many messages may be doubled.
    pub duplicates: u32,
    /// How many timers may fire.
    pub timeouts: u32,
    /// Those that may: how their names begin, or the names of their nodes and theirs (`1 View`). All may where there is none.
    pub timers: Vec<String>,
    /// How often upper layers may ask for something.
    pub inputs: u32,
    /// How often liars may say what their automata do not.
    pub lies: u32,
    /// How many things may be late, where all others end in the order in which they began; any number where nothing is said.
    pub late: Option<u32>,
    /// Whether disks, background work and a node's words to itself take no time: they come before anything else.
    pub prompt: bool,
    /// How many possibilities of a draw of chance are told apart.
    pub draws: u32,
    /// The number of steps after which a way is not followed.
    pub depth: u32,
    /// The number of states after which the exploration ends.
    pub states: usize,
}

impl Default for Bounds {
    /// One operation, in any order, without a fault.
    fn default() -> Self {
        Self {
            crashes: 0,
            restarts: 0,
            losses: 0,
            duplicates: 0,
            timeouts: 0,
            timers: Vec::new(),
            inputs: 1,
            lies: 0,
            late: None,
            prompt: false,
            draws: 4,
            depth: u32::MAX,
            states: 1_000_000,
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crashes, restarts, losses, duplicates, timeouts, inputs, lies, .. } = self;
        write!(f, "{inputs} inputs, {crashes} crashes, {restarts} restarts, {losses} losses, ")?;
        write!(f, "{duplicates} duplicates, {timeouts} timeouts")?;
        if !self.timers.is_empty() {
            write!(f, " of {}", self.timers.join(" and "))?;
        }
        write!(f, ", {lies} lies, ")?;
        match self.late {
            None => f.write_str("any order")?,
            Some(late) => write!(f, "{late} late")?,
        }
        if self.prompt {
            f.write_str(", prompt disks")?;
        }
        if self.depth != u32::MAX {
            write!(f, ", depth {}", self.depth)?;
        }
        write!(f, ", at most {} states", self.states)
    }
}

/// Explores all that can happen in a world within these bounds, breadth first. The world that `make` makes (the same each
/// time) has its liars, and has its nodes started or not; exploration begins when all have been started and, if the
/// model says so, have settled. `progress` is told now and then.
pub fn explore<S: Model>(
    make: impl Fn() -> World<S>,
    bounds: &Bounds,
    progress: &mut dyn FnMut(&Progress),
) -> Explored {
    search::Search::new(make, bounds).run(progress)
}
