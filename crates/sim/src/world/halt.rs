//! Nodes that stop in the midst of things: paused for a time, or crashing between two effects of one step.

use super::{Pending, System, World};
use crate::event::{Event, NodeId};
use crate::step::Step;

/// When a node is to crash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Doom {
    /// How much more it gives out first: messages, each receiver's apart, and whatever else a step gives out.
    left: u32,
    /// How many of its unflushed writes reach the disk all the same.
    keep: usize,
}

impl<S: System> World<S> {
    /// A node stops running and keeps its memory, as under SIGSTOP or while its machine is moved. What comes due for it
    /// waits: messages, timers, flushes, work. False if it does not run.
    pub fn pause(&mut self, node: NodeId) -> bool {
        if !self.is_up(node) || self.is_paused(node) {
            return false;
        }
        self.take_down(|world| Some(Step::Pause(world.who(node))));
        self.paused.insert(node, Vec::new());
        self.record(&Event::Paused(node));
        true
    }

    /// A paused node goes on: everything that has waited for it happens now, in the order in which it came due, but that
    /// its timers come first if that is wanted. False if it is not paused.
    pub fn resume(&mut self, node: NodeId, timers_first: bool) -> bool {
        let Some(mut waiting) = self.paused.remove(&node) else { return false };
        self.take_down(|world| Some(Step::Resume(world.who(node), timers_first)));
        self.record(&Event::Resumed(node));
        // What happens now is part of this step.
        let recording = self.recording.take();
        if timers_first {
            waiting.sort_by_key(|due| !matches!(due, Pending::Timer(..)));
        }
        for due in waiting {
            match due {
                Pending::Packet(number, _) => drop(self.deliver(number)),
                Pending::Timer(node, number, _) => drop(self.fire(node, number)),
                Pending::Flush(node, life, mark) => self.flush(node, life, mark),
                Pending::Chore(node, number) => self.finish(node, number),
                Pending::Serve(node, _) => self.serve(node),
            }
        }
        self.recording = recording;
        true
    }

    /// Whether a node has stopped running, and will go on.
    #[must_use]
    pub fn is_paused(&self, node: NodeId) -> bool {
        self.paused.contains_key(&node)
    }

    /// Puts off what has come due for a node that is paused. False if it is not.
    pub(super) fn waits(&mut self, node: NodeId, due: Pending) -> bool {
        let Some(waiting) = self.paused.get_mut(&node) else { return false };
        waiting.push(due);
        true
    }

    /// A node will crash when it has given out so much more: in the midst of a step as a rule, and often of a broadcast,
    /// of which some have heard then and others never will. Of its unflushed writes the first `keep` reach the disk all
    /// the same. False if it does not run.
    pub fn doom(&mut self, node: NodeId, left: u32, keep: usize) -> bool {
        let is_up = self.is_up(node);
        if is_up {
            self.take_down(|world| Some(Step::Doom(world.who(node), left, keep)));
            self.doomed.insert(node, Doom { left, keep });
        }
        is_up
    }

    /// A node will not crash between two effects after all. False if it would not have anyway.
    pub fn spare(&mut self, node: NodeId) -> bool {
        let was_doomed = self.doomed.remove(&node).is_some();
        if was_doomed {
            self.take_down(|world| Some(Step::Spare(world.who(node))));
        }
        was_doomed
    }

    /// Whether a node is going to crash between two effects.
    #[must_use]
    pub fn is_doomed(&self, node: NodeId) -> bool {
        self.doomed.contains_key(&node)
    }

    /// A node is about to give out something more. True if it crashes instead, or has already.
    pub(super) fn is_cut_short(&mut self, node: NodeId) -> bool {
        let Some(doom) = self.doomed.get_mut(&node) else { return !self.is_up(node) };
        if let Some(left) = doom.left.checked_sub(1) {
            doom.left = left;
            return false;
        }
        let keep = doom.keep.min(self.unflushed(node));
        self.crash(node, keep);
        true
    }

    /// A node has crashed: it is neither paused nor doomed any more, and what had come due for it finds it down.
    pub(super) fn forget_halts(&mut self, node: NodeId) {
        self.doomed.remove(&node);
        for due in self.paused.remove(&node).unwrap_or_default() {
            if let Pending::Packet(number, _) = due
                && self.wire.get(&number).is_some_and(|packet| packet.own.is_none())
            {
                self.receive(number);
            }
        }
    }
}
