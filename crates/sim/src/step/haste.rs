//! What happens at once where nobody says when.
//!
//! A scheduler that chooses every moment also chooses when a flush is through. A story is told more shortly: what a node
//! says to itself it hears at once, what it writes is durable at once, and what goes on in the background is over at
//! once, unless the story is about that. Scripts and replays mean the same by it, as both do it here.

use crate::event::NodeId;
use crate::world::{Pending, System, World};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// What happens as soon as it can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Haste {
    /// A node hears its words to itself.
    pub words: bool,
    /// Flushes are through.
    pub flushes: bool,
    /// Work in the background is through.
    pub work: bool,
}

impl Haste {
    /// All of it: how scripts begin.
    pub const ALL: Self = Self { words: true, flushes: true, work: true };
    /// None of it: every moment is a step, as in what was recorded.
    pub const NONE: Self = Self { words: false, flushes: false, work: false };
}

/// What has been started in a world and is not over.
#[derive(Clone, Default, Debug)]
pub struct Started {
    /// Timers: when they run out, and which. Some may have been stopped.
    pub timers: BTreeSet<(Duration, NodeId, u64)>,
    /// What nodes say to themselves.
    words: VecDeque<u64>,
    /// Flushes: node, its life, mark.
    flushes: VecDeque<(NodeId, u32, u64)>,
    /// Work in the background: node, number.
    work: VecDeque<(NodeId, u64)>,
}

impl Started {
    /// Takes note of what a world has started, and lets one thing that happens at once happen, or all work that does.
    /// False if there was nothing to let happen.
    pub fn settle<S: System>(&mut self, world: &mut World<S>, haste: Haste) -> bool {
        for item in world.take_pending() {
            match item {
                Pending::Timer(node, number, after) => {
                    self.timers.insert((world.now() + after, node, number));
                }
                Pending::Flush(node, life, mark) => self.flushes.push_back((node, life, mark)),
                Pending::Chore(node, number) => self.work.push_back((node, number)),
                // Messages arrive when somebody delivers them; processors are looked at when somebody says so.
                Pending::Packet(number, _) if world.is_own(number) => self.words.push_back(number),
                Pending::Packet(..) | Pending::Serve(..) => {}
            }
        }
        let mut is_done = false;
        while haste.work
            && let Some((node, number)) = self.work.pop_front()
        {
            world.finish(node, number);
            is_done = true;
        }
        while haste.words
            && let Some(number) = self.words.pop_front()
        {
            if world.deliver(number) {
                return true;
            }
        }
        if haste.flushes
            && let Some((node, life, mark)) = self.flushes.pop_front()
        {
            world.flush(node, life, mark);
            return true;
        }
        is_done
    }

    /// Forgets of a node what ended when it stopped, and of all nodes what is over.
    pub fn forget<S: System>(&mut self, world: &World<S>) {
        self.flushes.retain(|(node, life, _)| world.is_up(*node) && world.life(*node) == *life);
        self.words.retain(|number| world.is_own(*number));
        self.work.retain(|(node, number)| world.is_at_work(*node, *number));
    }
}
