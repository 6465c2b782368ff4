//! A way as people read it: steps in the notation of scripts, and what came of each.
//!
//! A message is named by its link, its kind, and which of that kind it is on that link, in the order of sending: so its
//! name does not change where steps before it are left out.

use super::course::{Act, Item};
use super::model::{Ask, Model};
use super::report::Told;
use crate::event::{Event, Letter, NodeId};
use crate::oracle::{Cast, Trace};
use crate::world::{Observer, World};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is told of a way.
#[derive(Default)]
pub(super) struct Story {
    steps: Vec<Told>,
    /// The last message that it has heard of.
    last: u64,
    /// How many messages of a kind were sent on each link.
    sent: BTreeMap<(NodeId, NodeId, &'static str), u64>,
    /// Which of its kind on its link each message is.
    ordinals: BTreeMap<u64, u64>,
}

impl Story {
    /// These are under way.
    pub(super) fn sent<'a>(&mut self, letters: impl Iterator<Item = &'a Letter>) {
        for letter in letters {
            if letter.number > self.last {
                self.last = letter.number;
                let count = self.sent.entry((letter.from, letter.to, letter.name)).or_default();
                *count += 1;
                self.ordinals.insert(letter.number, *count);
            }
        }
    }

    /// The network has made a copy, which bears the name of what it is a copy of.
    pub(super) fn copied(&mut self, of: u64, copy: u64) {
        self.last = self.last.max(copy);
        if let Some(ordinal) = self.ordinals.get(&of).copied() {
            self.ordinals.insert(copy, ordinal);
        }
    }

    /// The beginning is over; what happened up to here is one step.
    pub(super) fn begin(&mut self, is_settled: bool) {
        self.steps.clear();
        if is_settled {
            self.add("stabilize".into());
        }
    }

    fn add(&mut self, step: String) {
        self.steps.push(Told { step, told: Vec::new() });
    }

    /// Something is about to happen that was chosen.
    pub(super) fn step<S: Model>(
        &mut self,
        world: &World<S>,
        act: Act,
        asks: &dyn Fn(&World<S>) -> Vec<Ask>,
    ) {
        let name = |node| world.name(node);
        let step = match act {
            // Told when it ends.
            Act::End(_) | Act::Delay => return,
            Act::Fire(node, number) => {
                let running = world.running(node);
                let timer = running.into_iter().find(|(running, _)| *running == number);
                format!("fire {} {}", name(node), timer.map(|(_, name)| name).unwrap_or_default())
            }
            Act::Crash(node, 0) => format!("crash {}", name(node)),
            Act::Crash(node, keep) => format!("crash {} keep={keep}", name(node)),
            Act::Restart(node) => format!("restart {}", name(node)),
            Act::Lose(number) => format!("drop {}", self.letter(world, number)),
            Act::Double(number) => format!("duplicate {}", self.letter(world, number)),
            Act::Ask(at) => {
                let Some(Ask { node, words }) = asks(world).into_iter().nth(at) else { return };
                let verb = if world.is_replica(node) { "ask" } else { "request" };
                format!("{verb} {} {words}", name(node))
            }
            Act::Lie(node, at) => {
                let lie = S::falsehoods(world, node).into_iter().nth(at);
                format!("lie {} {}", name(node), lie.map(|lie| lie.words).unwrap_or_default())
            }
        };
        self.add(step);
    }

    /// Something that had begun is about to end.
    pub(super) fn end<S: Model>(&mut self, world: &World<S>, item: Item) {
        let step = match item {
            Item::Packet(number) => format!("deliver {}", self.letter(world, number)),
            Item::Flush(node, ..) => format!("flush {}", world.name(node)),
            Item::Chore(node, _) => format!("finish {}", world.name(node)),
        };
        self.add(step);
    }

    fn letter<S: Model>(&self, world: &World<S>, number: u64) -> String {
        let Some(letter) = world.letter(number) else { return format!("#{number}") };
        let (from, to) = (world.name(letter.from), world.name(letter.to));
        let ordinal = self.ordinals.get(&number).copied().unwrap_or_default();
        format!("{from}->{to} {}/{ordinal}", letter.name.replace(' ', "-"))
    }

    /// What came of the last step.
    pub(super) fn tell(&mut self, events: &[Event], cast: &Cast) {
        let mut trace = Trace::new(cast.clone(), events.len());
        events.iter().for_each(|event| trace.observe(Duration::ZERO, event));
        let lines = trace.lines();
        // The time, which stands still, comes first.
        let lines = lines
            .iter()
            .map(|line| line.trim_start().split_once(' ').map_or(line.as_str(), |(_, rest)| rest));
        if let Some(step) = self.steps.last_mut() {
            step.told.extend(lines.map(str::to_string));
        }
    }

    /// All steps.
    pub(super) fn into_steps(self) -> Vec<Told> {
        self.steps
    }
}
