//! What befalls links: partial partitions, flapping, messages that overtake others; and the moment at which it ends.

use super::{Act, Seeded};
use crate::event::NodeId;
use crate::lateness::{Bound, Lateness};
use crate::oracle::Cast;
use crate::rng::Chance;
use crate::weather::{Spread, Weather};
use crate::world::System;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::rc::Rc;
use std::time::Duration;

/// Links that go down and come up together.
#[derive(Clone, Debug)]
pub(super) struct Flap {
    links: Vec<(NodeId, NodeId)>,
    /// How many changes are still to come. Invariant: after the last they are up.
    left: u32,
    is_down: bool,
    /// Whether nothing more is to come, so that others may take its place.
    is_over: bool,
}

/// A link of at least this pace, against the fastest, is counted as a slow one when it carries something.
const SLOW: u32 = 8;

impl<S: System> Seeded<S> {
    /// Plans what the weather has in store.
    pub(super) fn prepare_network(&mut self, seed: u64) {
        let weather = self.climate.weather;
        if let Some(stabilises) = weather.stabilises {
            self.plan(stabilises.at, Act::Stabilise);
        }
        if let Some(courier) = weather.courier {
            self.engage(courier, seed);
        }
    }

    pub(super) fn count(&mut self, name: &'static str) {
        *self.befallen.entry(name).or_default() += 1;
    }

    /// How long a message will truly be on its way that would take so long by itself.
    pub(super) fn on_the_way(&mut self, number: u64, mut after: Duration) -> Duration {
        let weather = self.climate.weather;
        if weather.reordered_per_mille > 0 && self.odds.per_mille(weather.reordered_per_mille) {
            after += weather.overtaken(&mut self.odds);
            if !weather.keeps_order {
                self.count("reordering");
            }
        }
        let Some(letter) = self.world.letter(number) else { return after };
        let link = (letter.from, letter.to);
        if weather.keeps_order {
            let now = self.world.now();
            let last = self.carried.entry(link).or_default();
            *last = (*last).max(now + after);
            after = *last - now;
        }
        after
    }

    /// A message has come to the end of its link: it is delivered, or falls into the adversary's hands.
    pub(super) fn arrive(&mut self, number: u64) {
        if !self.seize(number) {
            self.hand_over(number);
        }
    }

    /// A message is delivered.
    pub(super) fn hand_over(&mut self, number: u64) {
        let is_counted = !self.is_calm && !self.world.is_own(number);
        if is_counted {
            let weather = self.climate.weather;
            if weather.slowest_link >= SLOW && weather.pace(self.link(number)) >= SLOW {
                self.count("slow links");
            }
            // A burst is counted when a link stalls.
            if !matches!(weather.spread, Spread::Hump | Spread::Bursts) {
                self.count(weather.spread.name());
            }
        }
        self.world.deliver(number);
    }

    /// Some pairs do not hear each other.
    pub(super) fn partial(&mut self) -> bool {
        let all: Vec<NodeId> = self.world.all().collect();
        let mut has_cut = false;
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                if self.odds.below(4) == 0 {
                    self.world.cut(*one, *other);
                    self.world.cut(*other, *one);
                    has_cut = true;
                }
            }
        }
        if has_cut {
            self.heal_later();
        }
        has_cut
    }

    /// Some links begin to go down and come up.
    pub(super) fn begin_flapping(&mut self) -> bool {
        let all: Vec<NodeId> = self.world.all().collect();
        let mut links = Vec::new();
        for from in &all {
            for to in &all {
                if from != to && self.odds.below(6) == 0 {
                    links.push((*from, *to));
                    if self.odds.below(2) == 0 {
                        links.push((*to, *from));
                    }
                }
            }
        }
        let has_links = !links.is_empty();
        let left = 2 * self.odds.between(2, 8) as u32;
        let flap = Flap { links, left, is_down: false, is_over: false };
        let index = match self.flaps.iter_mut().enumerate().find(|(_, flap)| flap.is_over) {
            Some((index, free)) => {
                *free = flap;
                index
            }
            None => {
                self.flaps.push(flap);
                self.flaps.len() - 1
            }
        };
        self.flap(index);
        has_links
    }

    /// How many sets of links there may be that flap, or did last.
    #[must_use]
    pub fn flapping(&self) -> usize {
        self.flaps.len()
    }

    /// Flapping links change, if trouble goes on.
    pub(super) fn flap(&mut self, index: usize) {
        let Some(flap) = self.flaps.get_mut(index) else { return };
        if self.is_calm || self.is_timely || flap.left == 0 {
            // Nothing is planned for it any more.
            flap.is_over = true;
            return;
        }
        flap.left -= 1;
        flap.is_down = !flap.is_down;
        for (from, to) in &flap.links {
            if flap.is_down {
                self.world.cut(*from, *to);
            } else {
                self.world.join(*from, *to);
            }
        }
        let most = if self.odds.below(4) == 0 { 1_500 } else { 60 };
        let after = Duration::from_millis(self.odds.between(1, most));
        self.plan(after, Act::Flap(index));
    }

    /// The moment of stabilisation has come, if trouble has not ended before.
    pub(super) fn stabilise(&mut self) {
        if let Some(stabilises) = self.climate.weather.stabilises
            && !self.is_calm
        {
            self.become_timely(stabilises.bound);
            self.count("stabilisation");
        }
    }

    /// From now on each message arrives within this bound, also what is under way.
    pub(super) fn become_timely(&mut self, bound: Duration) {
        if self.is_timely {
            return;
        }
        self.settle(self.climate.weather.timely(bound));
        self.is_timely = true;
        let latest = self.world.now() + bound;
        for Reverse((due, sequence, act)) in std::mem::take(&mut self.queue) {
            let is_late = due > latest && matches!(act, Act::Deliver(_));
            let due = if is_late && self.climate.weather.keeps_order {
                latest
            } else if is_late {
                let early = Duration::from_nanos(self.odds.below(bound.as_nanos() as u64 + 1));
                latest - early
            } else {
                due
            };
            self.queue.push(Reverse((due, sequence, act)));
        }
        self.carried.values_mut().for_each(|last| *last = (*last).min(latest));
        self.world.become_timely(bound);
    }

    /// From now on the weather is this, and nobody is cut off.
    pub(super) fn settle(&mut self, weather: Weather) {
        self.climate.weather = weather;
        self.partition += 1;
        self.flaps.clear();
        self.world.heal();
        self.let_go();
    }

    /// Has a monitor watch from now on whether messages between correct nodes keep a bound. What it finds is an event:
    /// whoever judges a synchronous protocol can tell its faults from those of its network. Who lies must be known.
    pub fn monitor(&mut self, bound: Bound) -> Rc<RefCell<Lateness>> {
        let cast = Cast::of(&self.world);
        let mut lateness = Lateness::new(bound, self.world.now(), cast);
        let stands = |node: &NodeId| !self.world.is_up(*node) || self.world.is_paused(*node);
        self.world.all().filter(stands).for_each(|node| lateness.excuse(node));
        let lateness = Rc::new(RefCell::new(lateness));
        self.world.watch(lateness.clone());
        self.lateness = Some(lateness.clone());
        lateness
    }

    /// What the monitor found in this step becomes events.
    pub(super) fn tell_of_lateness(&mut self) {
        let Some(lateness) = &self.lateness else { return };
        let findings = {
            let mut lateness = lateness.borrow_mut();
            lateness.advance(self.world.now());
            lateness.take_findings()
        };
        for finding in findings {
            self.world.note(&finding.event());
        }
    }
}
