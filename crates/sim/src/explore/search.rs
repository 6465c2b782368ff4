//! By the shortest way first, so that what is found is found by the shortest way.
//!
//! States wait in the order of their distance from the beginning. Where only one thing can happen next the way is followed
//! at once, to where it ends or parts: most states of an exploration lie on such stretches, and need neither wait nor a
//! copy of their world. That may reach a state by a longer way first; when the shorter one comes, it counts.

use super::Bounds;
use super::course::{Act, Course};
use super::model::Model;
use super::print::Print;
use super::report::{Counterexample, Explored, Progress, Stop};
use crate::oracle::Violation;
use crate::world::World;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// A step: what happened, and what draws of chance came to.
#[derive(Clone, Debug)]
struct Move {
    act: Act,
    draws: Box<[u32]>,
}

/// A state that was reached.
struct Reached {
    /// From which one, and how; of the first state that is nothing.
    by: Option<(u32, Move)>,
    depth: u32,
    /// Whether the steps from here are counted.
    is_counted: bool,
}

/// A state that waits; its world, where that is kept.
struct Open<S: Model> {
    state: u32,
    depth: u32,
    course: Option<Course<S>>,
}

/// A broken rule, and the way there.
struct Found {
    depth: u32,
    from: u32,
    by: Move,
    violation: Violation,
}

pub(super) struct Search<'a, S: Model, F> {
    make: F,
    bounds: &'a Bounds,
    seen: HashMap<Print, u32>,
    /// All states, in the order in which they were reached.
    reached: Vec<Reached>,
    /// By their distance from the beginning.
    open: BTreeMap<u32, VecDeque<Open<S>>>,
    /// How many wait, and how many of those with their worlds.
    waiting: usize,
    kept: usize,
    transitions: u64,
    found: Option<Found>,
    is_cut: bool,
    narrowed: bool,
}

/// After so many states progress is told.
const OFTEN: usize = 4096;

/// So many worlds are kept at a time. Those of further states are made again when their turn comes: a world of a few
/// replicas takes some tens of kilobytes.
const WORLDS: usize = 1 << 14;

impl<'a, S: Model, F: Fn() -> World<S>> Search<'a, S, F> {
    pub(super) fn new(make: F, bounds: &'a Bounds) -> Self {
        Self {
            make,
            bounds,
            seen: HashMap::new(),
            reached: Vec::new(),
            open: BTreeMap::new(),
            waiting: 0,
            kept: 0,
            transitions: 0,
            found: None,
            is_cut: false,
            narrowed: false,
        }
    }

    pub(super) fn run(mut self, progress: &mut dyn FnMut(&Progress)) -> Explored {
        let mut first = self.begin(false);
        if let Some(state) = self.reach(None, 0, &mut first) {
            self.follow(state, 0, first);
        }
        let mut told = 0;
        while let Some(Open { state, depth, course }) = self.next() {
            if self.seen.len() >= told + OFTEN {
                told = self.seen.len();
                progress(&self.progress(depth));
            }
            if self.found.as_ref().is_some_and(|found| found.depth <= depth + 1) {
                break;
            }
            if self.seen.len() >= self.bounds.states {
                return self.end(Stop::States);
            }
            if self.reached[state as usize].depth == depth {
                self.expand(state, depth, course);
            }
        }
        let stop = if self.is_cut { Stop::Depth } else { Stop::Exhausted };
        self.end(stop)
    }

    /// The state that is the nearest of those that wait.
    fn next(&mut self) -> Option<Open<S>> {
        let mut nearest = self.open.first_entry()?;
        let open = nearest.get_mut().pop_front();
        if nearest.get().is_empty() {
            nearest.remove();
        }
        let open = open?;
        self.waiting -= 1;
        self.kept -= usize::from(open.course.is_some());
        Some(open)
    }

    fn wait(&mut self, state: u32, depth: u32, course: Option<Course<S>>) {
        // A world that cannot be copied is of no use but for its first step.
        let course = course.filter(|course| course.scene.forks.is_some() && self.kept < WORLDS);
        self.waiting += 1;
        self.kept += usize::from(course.is_some());
        self.open.entry(depth).or_default().push_back(Open { state, depth, course });
    }

    fn progress(&self, depth: u32) -> Progress {
        let states = self.seen.len();
        Progress { states, transitions: self.transitions, depth, open: self.waiting }
    }

    fn end(mut self, stop: Stop) -> Explored {
        let depth = self.reached.iter().map(|reached| reached.depth).max().unwrap_or_default();
        let found = self.found.take();
        let depth = found.as_ref().map_or(depth, |found| found.depth);
        Explored {
            bounds: self.bounds.clone(),
            states: self.seen.len(),
            transitions: self.transitions,
            depth,
            stop: if found.is_some() { Stop::Violation } else { stop },
            narrowed: self.narrowed,
            violation: found.map(|found| self.tell(found)),
        }
    }

    fn begin(&self, tells: bool) -> Course<S> {
        Course::begin((self.make)(), self.bounds, tells)
    }

    /// The way to a state, gone again.
    fn go(&self, state: u32, tells: bool) -> Course<S> {
        let mut moves = Vec::new();
        let mut at = state;
        while let Some((from, by)) = &self.reached[at as usize].by {
            moves.push(by);
            at = *from;
        }
        let mut course = self.begin(tells);
        for step in moves.into_iter().rev() {
            // It broke no rule when it was gone first.
            let _ = course.perform(step.act, &step.draws, false);
        }
        course
    }

    /// Takes every step from a state.
    fn expand(&mut self, state: u32, depth: u32, course: Option<Course<S>>) {
        let mut course = Some(course.unwrap_or_else(|| self.go(state, false)));
        let acts = course.as_ref().map(Course::acts).unwrap_or_default();
        let counts = !std::mem::replace(&mut self.reached[state as usize].is_counted, true);
        for act in acts {
            let mut draws: Vec<u32> = Vec::new();
            loop {
                let forked = course.as_ref().and_then(Course::fork);
                let mut next = match forked.or_else(|| course.take()) {
                    Some(next) => next,
                    None => self.go(state, false),
                };
                self.transitions += u64::from(counts);
                let drawn = self.step(state, depth, act, &draws, &mut next);
                if let Some(reached) = drawn.1 {
                    self.follow(reached, depth + 1, next);
                }
                match following(&drawn.0) {
                    Some(other) => draws = other,
                    None => break,
                }
            }
        }
    }

    /// Takes one step. Gives back what was drawn in it, and the state that it leads to if that was not known, or not known
    /// to be that near.
    fn step(
        &mut self,
        state: u32,
        depth: u32,
        act: Act,
        draws: &[u32],
        next: &mut Course<S>,
    ) -> (Vec<(u32, u32)>, Option<u32>) {
        let result = next.perform(act, draws, true);
        let (drawn, is_narrowed) = next.scene.dictation.drawn();
        self.narrowed |= is_narrowed;
        let taken: Vec<u32> = drawn.iter().map(|(choice, _)| *choice).collect();
        let by = Move { act, draws: taken.into() };
        let reached = match result {
            Ok(()) => self.reach(Some((state, by)), depth + 1, next),
            Err(violation) => {
                if self.found.as_ref().is_none_or(|found| depth + 1 < found.depth) {
                    self.found = Some(Found { depth: depth + 1, from: state, by, violation });
                }
                None
            }
        };
        (drawn, reached)
    }

    /// Follows the only way there is, and has the state that it ends at wait if ways part there.
    fn follow(&mut self, mut state: u32, mut depth: u32, mut course: Course<S>) {
        loop {
            let acts = course.acts();
            if acts.is_empty() {
                return;
            }
            if depth >= self.bounds.depth {
                self.is_cut = true;
                return;
            }
            let [only] = acts[..] else { return self.wait(state, depth, Some(course)) };
            let (drawn, reached) = self.step(state, depth, only, &[], &mut course);
            if drawn.is_empty() {
                let is_counted = &mut self.reached[state as usize].is_counted;
                self.transitions += u64::from(!std::mem::replace(is_counted, true));
            } else {
                // Chance has other ways from here.
                self.wait(state, depth, None);
            }
            let Some(next) = reached else { return };
            (state, depth) = (next, depth + 1);
        }
    }

    /// A state is reached. Gives it back if it was not known, or not known to be that near.
    fn reach(
        &mut self,
        by: Option<(u32, Move)>,
        depth: u32,
        course: &mut Course<S>,
    ) -> Option<u32> {
        let print = course.print();
        if let Some(state) = self.seen.get(&print).copied() {
            let known = &mut self.reached[state as usize];
            if known.depth <= depth {
                return None;
            }
            (known.by, known.depth) = (by, depth);
            return Some(state);
        }
        let state = self.reached.len() as u32;
        self.seen.insert(print, state);
        self.reached.push(Reached { by, depth, is_counted: false });
        Some(state)
    }

    /// The way to a state and the step that breaks a rule there, as people read it.
    fn tell(&self, found: Found) -> Counterexample {
        let mut course = self.go(found.from, true);
        // It breaks the rule again, which is known.
        let _ = course.perform(found.by.act, &found.by.draws, false);
        Counterexample { steps: course.into_story(), violation: found.violation }
    }
}

/// What the draws come to after these, if they are enumerated as digits of a number are.
fn following(drawn: &[(u32, u32)]) -> Option<Vec<u32>> {
    let at = drawn.iter().rposition(|(choice, count)| choice + 1 < *count)?;
    let mut next: Vec<u32> = drawn[..=at].iter().map(|(choice, _)| *choice).collect();
    next[at] += 1;
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::following;

    #[test]
    fn draws_are_enumerated_to_the_last() {
        let mut all = Vec::new();
        let mut next = Some(Vec::new());
        // The second draw is made only if the first comes to 1.
        while let Some(given) = next {
            let choice = |at: usize| given.get(at).copied().unwrap_or(0);
            let mut drawn = vec![(choice(0), 3)];
            if drawn[0].0 == 1 {
                drawn.push((choice(1), 2));
            }
            next = following(&drawn);
            all.push(drawn.iter().map(|(choice, _)| *choice).collect::<Vec<_>>());
        }
        assert_eq!(all, [vec![0], vec![1, 0], vec![1, 1], vec![2]]);
        assert_eq!(following(&[]), None);
    }
}
