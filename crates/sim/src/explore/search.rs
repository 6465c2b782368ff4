//! Breadth first, so that what is found is found by the shortest way.

use super::Bounds;
use super::course::{Act, Course};
use super::model::Model;
use super::print::Print;
use super::report::{Counterexample, Explored, Progress, Stop};
use crate::oracle::Violation;
use crate::world::World;
use std::collections::{HashSet, VecDeque};

/// A step: what happened, and what draws of chance came to.
#[derive(Clone, Debug)]
struct Move {
    act: Act,
    draws: Box<[u32]>,
}

/// A state that was reached: from which one, and how.
struct Reached {
    from: u32,
    by: Move,
}

/// A state that is not looked at yet; its world, where worlds can be copied.
struct Open<S: Model> {
    state: u32,
    depth: u32,
    course: Option<Course<S>>,
}

pub(super) struct Search<'a, S: Model, F> {
    make: F,
    bounds: &'a Bounds,
    seen: HashSet<Print>,
    /// All states but the first, which is number 0, in the order in which they were reached.
    reached: Vec<Reached>,
    open: VecDeque<Open<S>>,
    transitions: u64,
    depth: u32,
    is_cut: bool,
    narrowed: bool,
}

/// After so many states progress is told.
const OFTEN: usize = 4096;

impl<'a, S: Model, F: Fn() -> World<S>> Search<'a, S, F> {
    pub(super) fn new(make: F, bounds: &'a Bounds) -> Self {
        Self {
            make,
            bounds,
            seen: HashSet::new(),
            reached: Vec::new(),
            open: VecDeque::new(),
            transitions: 0,
            depth: 0,
            is_cut: false,
            narrowed: false,
        }
    }

    pub(super) fn run(mut self, progress: &mut dyn FnMut(&Progress)) -> Explored {
        let mut first = self.begin(false);
        self.seen.insert(first.print());
        self.open.push_back(Open { state: 0, depth: 0, course: Some(first) });
        let mut told = 0;
        while let Some(Open { state, depth, course }) = self.open.pop_front() {
            if self.seen.len() >= told + OFTEN {
                told = self.seen.len();
                progress(&self.progress(depth));
            }
            if self.seen.len() >= self.bounds.states {
                return self.end(Stop::States, None);
            }
            if depth >= self.bounds.depth {
                let course = course.unwrap_or_else(|| self.go(state, false));
                self.is_cut |= !course.acts().is_empty();
                continue;
            }
            if let Err((by, violation)) = self.expand(state, depth, course) {
                let counterexample = self.tell(state, &by, violation);
                return self.end(Stop::Violation, Some(counterexample));
            }
        }
        let stop = if self.is_cut { Stop::Depth } else { Stop::Exhausted };
        self.end(stop, None)
    }

    fn progress(&self, depth: u32) -> Progress {
        let (states, open) = (self.seen.len(), self.open.len());
        Progress { states, transitions: self.transitions, depth, open }
    }

    fn end(self, stop: Stop, violation: Option<Counterexample>) -> Explored {
        Explored {
            bounds: self.bounds.clone(),
            states: self.seen.len(),
            transitions: self.transitions,
            depth: self.depth,
            stop,
            narrowed: self.narrowed,
            violation,
        }
    }

    fn begin(&self, tells: bool) -> Course<S> {
        Course::begin((self.make)(), self.bounds, tells)
    }

    /// The way to a state, gone again.
    fn go(&self, state: u32, tells: bool) -> Course<S> {
        let mut moves = Vec::new();
        let mut at = state;
        while let Some(reached) = at.checked_sub(1).and_then(|at| self.reached.get(at as usize)) {
            moves.push(&reached.by);
            at = reached.from;
        }
        let mut course = self.begin(tells);
        for step in moves.into_iter().rev() {
            // It broke no rule when it was gone first.
            let _ = course.perform(step.act, &step.draws, false);
        }
        course
    }

    /// Takes every step from a state.
    fn expand(
        &mut self,
        state: u32,
        depth: u32,
        course: Option<Course<S>>,
    ) -> Result<(), (Move, Violation)> {
        let mut course = Some(course.unwrap_or_else(|| self.go(state, false)));
        let acts = course.as_ref().map(Course::acts).unwrap_or_default();
        for act in acts {
            let mut draws: Vec<u32> = Vec::new();
            loop {
                let forked = course.as_ref().and_then(Course::fork);
                let mut next = match forked.or_else(|| course.take()) {
                    Some(next) => next,
                    None => self.go(state, false),
                };
                self.transitions += 1;
                let result = next.perform(act, &draws, true);
                let (drawn, is_narrowed) = next.scene.dictation.drawn();
                self.narrowed |= is_narrowed;
                let taken: Vec<u32> = drawn.iter().map(|(choice, _)| *choice).collect();
                let by = Move { act, draws: taken.into() };
                if let Err(violation) = result {
                    self.depth = self.depth.max(depth + 1);
                    return Err((by, violation));
                }
                self.reach(state, depth + 1, by, next);
                match following(&drawn) {
                    Some(other) => draws = other,
                    None => break,
                }
            }
        }
        Ok(())
    }

    fn reach(&mut self, from: u32, depth: u32, by: Move, mut course: Course<S>) {
        if !self.seen.insert(course.print()) {
            return;
        }
        self.depth = self.depth.max(depth);
        self.reached.push(Reached { from, by });
        let state = self.reached.len() as u32;
        // A world that cannot be copied is made again when its turn comes: it would only fill memory until then.
        let course = course.scene.forks.is_some().then_some(course);
        self.open.push_back(Open { state, depth, course });
    }

    /// The way to a state and the step that breaks a rule there, as people read it.
    fn tell(&self, state: u32, last: &Move, violation: Violation) -> Counterexample {
        let mut course = self.go(state, true);
        // It breaks the rule again, which is known.
        let _ = course.perform(last.act, &last.draws, false);
        Counterexample { steps: course.into_story(), violation }
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
