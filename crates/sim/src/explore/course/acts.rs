//! What can happen next.

use super::{Act, Course, Item};
use crate::explore::model::Model;
use std::collections::BTreeSet;

impl<S: Model> Course<S> {
    /// All that can happen next, the same for the same state. What is to be expected comes first.
    pub(crate) fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.left.inputs > 0 {
            acts.extend((0..S::asks(&self.world).len()).map(Act::Ask));
        }
        if let Some(next) = self.queue.front() {
            acts.push(Act::End(*next));
            if self.left.late.is_some_and(|late| late > 0) {
                acts.push(Act::Delay);
            }
        }
        let mut seen = BTreeSet::new();
        let is_new = |item: &&Item| match self.letter(**item) {
            Some(letter) => seen.insert((letter.from, letter.to, letter.digest)),
            None => true,
        };
        let loose: Vec<Item> = self.loose.iter().filter(is_new).copied().collect();
        let can_end = |item: &&Item| self.letter(**item).is_none_or(|to| self.world.is_up(to.to));
        acts.extend(loose.iter().filter(can_end).map(|item| Act::End(*item)));
        self.add_timers(&mut acts);
        self.add_crashes(&mut acts);
        self.add_network(&mut acts);
        self.add_lies(&mut acts);
        acts
    }

    fn add_timers(&self, acts: &mut Vec<Act>) {
        if self.left.timeouts == 0 {
            return;
        }
        let wanted = &self.left.timers;
        for node in self.world.all() {
            for (number, name) in self.world.running(node) {
                let whole = format!("{} {name}", self.world.name(node));
                let is_wanted = |prefix: &String| {
                    name.starts_with(prefix.as_str()) || whole.starts_with(prefix.as_str())
                };
                if wanted.is_empty() || wanted.iter().any(is_wanted) {
                    acts.push(Act::Fire(node, number));
                }
            }
        }
    }

    fn add_crashes(&self, acts: &mut Vec<Act>) {
        for node in self.world.replicas().filter(|node| self.world.is_correct(*node)) {
            if !self.world.is_up(node) {
                if self.left.restarts > 0 {
                    acts.push(Act::Restart(node));
                }
            } else if self.left.crashes > 0 {
                let all = self.world.unflushed(node);
                acts.extend((0..=all).map(|keep| Act::Crash(node, keep)));
            }
        }
    }

    fn add_network(&self, acts: &mut Vec<Act>) {
        if self.left.losses == 0 && self.left.duplicates == 0 {
            return;
        }
        let mut seen = BTreeSet::new();
        for letter in self.world.letters() {
            let is_new = seen.insert((letter.from, letter.to, letter.digest));
            if is_new && !self.world.is_own(letter.number) {
                if self.left.losses > 0 {
                    acts.push(Act::Lose(letter.number));
                }
                if self.left.duplicates > 0 {
                    acts.push(Act::Double(letter.number));
                }
            }
        }
    }

    fn add_lies(&self, acts: &mut Vec<Act>) {
        if self.left.lies > 0 {
            for liar in self.world.replicas().filter(|node| !self.world.is_correct(*node)) {
                let count = S::falsehoods(&self.world, liar).len();
                acts.extend((0..count).map(|index| Act::Lie(liar, index)));
            }
        }
    }
}
