//! Named timers of one automaton.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Instant;

/// Timers by name. Setting one that runs restarts it.
///
/// Invariant: `running` says when each timer is due; the heap holds that moment for each, and moments that no longer
/// count, which are passed over.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    running: BTreeMap<T, (Instant, u64)>,
    heap: BinaryHeap<Reverse<(Instant, u64, T)>>,
    settings: u64,
}

impl<T: Copy + Ord> Timers<T> {
    pub(crate) fn new() -> Self {
        Self { running: BTreeMap::new(), heap: BinaryHeap::new(), settings: 0 }
    }

    /// Lets the timer fire then, and at no other time.
    pub(crate) fn set(&mut self, timer: T, due: Instant) {
        self.settings += 1;
        self.running.insert(timer, (due, self.settings));
        self.heap.push(Reverse((due, self.settings, timer)));
        // Timers that are restarted with every message leave a moment behind each time.
        if self.heap.len() > 64 + 2 * self.running.len() {
            self.heap = self
                .running
                .iter()
                .map(|(timer, (due, setting))| Reverse((*due, *setting, *timer)))
                .collect();
        }
    }

    /// Lets the timer not fire.
    pub(crate) fn cancel(&mut self, timer: T) {
        self.running.remove(&timer);
    }

    /// When the next one is due.
    pub(crate) fn next(&mut self) -> Option<Instant> {
        while let Some(Reverse((due, setting, timer))) = self.heap.peek() {
            if self.running.get(timer) == Some(&(*due, *setting)) {
                return Some(*due);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes out one that is due by now.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, _, timer)) = self.heap.pop()?;
        self.running.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timers_fire_in_order_restart_and_stop() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::new();
        timers.set('a', at(10));
        timers.set('b', at(5));
        timers.set('c', at(7));
        timers.set('b', at(20));
        timers.cancel('c');
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.expire(at(9)), None);
        assert_eq!(timers.expire(at(30)), Some('a'));
        assert_eq!(timers.expire(at(30)), Some('b'));
        assert_eq!(timers.expire(at(30)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn restarting_for_ever_takes_no_memory() {
        let start = Instant::now();
        let mut timers = Timers::new();
        for step in 0..10_000 {
            timers.set(step % 3, start + Duration::from_millis(step));
        }
        assert!(timers.heap.len() < 100);
        assert_eq!(timers.next(), Some(start + Duration::from_millis(9_997)));
    }
}
