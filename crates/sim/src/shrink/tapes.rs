//! Fewer steps that fail in the same way.

use super::{Patience, broken, causes};
use crate::conformance::{Ask, Serving};
use crate::replay::{Played, Replay, Tape, is_casting, play};
use crate::step::{Haste, Parcel, Step, Who};
use std::collections::BTreeSet;

/// Whether the steps of a run break the rule without the end of it.
pub(super) fn breaks<S: Serving>(
    make: &impl Fn() -> S,
    run: &Replay<Ask<S>>,
    oracle: &'static str,
    patience: &mut Patience<'_>,
) -> bool {
    let whole = Tape::whole(&run.steps, run.haste);
    patience.takes() && broken(&play(make, run, &whole, Some(oracle)).report, oracle).is_some()
}

/// Leaves out as many steps of a run as it can; none if all of them do not break the rule.
pub(super) fn shrink<S: Serving>(
    make: &impl Fn() -> S,
    run: &mut Replay<Ask<S>>,
    oracle: &'static str,
    patience: &mut Patience<'_>,
) -> Option<Tape> {
    let whole = Tape::whole(&run.steps, run.haste);
    if !patience.takes() {
        return None;
    }
    let played = play(make, run, &whole, Some(oracle));
    broken(&played.report, oracle)?;
    let (tape, sent) = effective(&whole.in_company(&played.company), played);
    let mut search = Search { make, run, oracle, tape, sent, patience };
    loop {
        let before = search.tape.clone();
        search.leave_out_kinds();
        search.leave_out_nodes();
        search.hurry();
        search.leave_out_causes();
        search.leave_out_chunks();
        search.take_the_first();
        if search.tape == before {
            break;
        }
    }
    let tape = search.tape;
    narrow(make, run, oracle, &tape, patience);
    Some(tape)
}

/// What of a tape did anything, up to where it broke a rule, and what was sent because of each step.
fn effective(tape: &Tape, played: Played) -> (Tape, Vec<Vec<Parcel>>) {
    let Played { happened, sent, .. } = played;
    let did = |index: usize| happened.get(index).copied().unwrap_or_default();
    let kept = sent.into_iter().enumerate().filter(|(index, _)| did(*index));
    (tape.only(|index, _| did(index)), kept.map(|(_, sent)| sent).collect())
}

struct Search<'a, 'b, S: Serving, F> {
    make: &'a F,
    run: &'a Replay<Ask<S>>,
    oracle: &'static str,
    /// The shortest that still breaks the rule.
    tape: Tape,
    /// Of each of its steps, what was sent because of it.
    sent: Vec<Vec<Parcel>>,
    patience: &'a mut Patience<'b>,
}

impl<S: Serving, F: Fn() -> S> Search<'_, '_, S, F> {
    /// Takes a tape for the shortest one if it breaks the rule.
    fn takes(&mut self, tape: &Tape) -> bool {
        if *tape == self.tape || !self.patience.takes() {
            return false;
        }
        let played = play(self.make, self.run, tape, Some(self.oracle));
        if broken(&played.report, self.oracle).is_none() {
            return false;
        }
        (self.tape, self.sent) = effective(tape, played);
        self.patience.steps = self.tape.len();
        true
    }

    /// All steps of one kind at once.
    fn leave_out_kinds(&mut self) {
        let kinds: [fn(&Step) -> bool; 16] = [
            |step| matches!(step, Step::At(_)),
            |step| matches!(step, Step::Lose(..)),
            |step| matches!(step, Step::Duplicate(_)),
            |step| matches!(step, Step::Cut(..) | Step::Join(..) | Step::Heal),
            |step| matches!(step, Step::Timely(_)),
            |step| matches!(step, Step::Pause(_) | Step::Resume(..)),
            |step| matches!(step, Step::Doom(..) | Step::Spare(_)),
            |step| matches!(step, Step::Clock(..) | Step::Rate(..)),
            |step| matches!(step, Step::Scrub(_)),
            |step| matches!(step, Step::Harm(..) | Step::Image(_)),
            |step| matches!(step, Step::Finish(..)),
            |step| matches!(step, Step::Flush(_)),
            |step| matches!(step, Step::Sides(_)),
            |step| matches!(step, Step::Corrupt(..)),
            |step| matches!(step, Step::Upstream(_)),
            |step| matches!(step, Step::Fire(..)),
        ];
        for is_one in kinds {
            let without = self.tape.only(|_, step| !is_one(step));
            self.takes(&without);
        }
        // Whoever crashes stays up instead.
        let mut up = BTreeSet::new();
        let steps = self.tape.steps().iter();
        let firsts: Vec<bool> = steps
            .map(|(step, _)| match step {
                Step::Crash(..) => false,
                Step::Start(who) => up.insert(*who),
                _ => true,
            })
            .collect();
        let without = self.tape.only(|index, _| firsts[index]);
        self.takes(&without);
    }

    /// Everything about a node at once, and everything that it sends, or gets.
    fn leave_out_nodes(&mut self) {
        let steps = self.tape.steps().iter();
        let nodes: BTreeSet<Who> = steps.flat_map(|(step, _)| step.nodes()).collect();
        for node in nodes {
            let without = self.tape.only(|_, step| !step.nodes().contains(&node));
            if self.takes(&without) {
                continue;
            }
            for is_sender in [true, false] {
                let without = self.tape.only(|_, step| match step {
                    Step::Deliver(parcel) => {
                        *(if is_sender { &parcel.from } else { &parcel.to }) != node
                    }
                    _ => true,
                });
                self.takes(&without);
            }
        }
    }

    /// What need not be a step happens by itself.
    fn hurry(&mut self) {
        let manners: [(fn(Haste) -> Haste, fn(&Step) -> bool); 3] = [
            (
                |haste| Haste { words: true, ..haste },
                |step| matches!(step, Step::Deliver(parcel) if parcel.from == parcel.to),
            ),
            (|haste| Haste { work: true, ..haste }, |step| matches!(step, Step::Finish(..))),
            (|haste| Haste { flushes: true, ..haste }, |step| matches!(step, Step::Flush(_))),
        ];
        let all = self.tape.only(|_, step| !manners.iter().any(|(_, is_one)| is_one(step)));
        if self.takes(&all.hasty(Haste::ALL)) {
            return;
        }
        for (hastier, is_one) in manners {
            let haste = hastier(self.tape.haste());
            let without = self.tape.only(|_, step| !is_one(step));
            self.takes(&without.hasty(haste));
        }
    }

    /// Everything that came of one thing that nobody had sent: of a request, a timer, a start.
    fn leave_out_causes(&mut self) {
        let mut index = self.tape.len();
        while index > 0 {
            index = (index - 1).min(self.tape.len().saturating_sub(1));
            let is_cause = self.tape.steps().get(index).is_some_and(|(step, _)| {
                matches!(step, Step::Ask(..) | Step::Fire(..) | Step::Start(_) | Step::Crash(..))
            });
            if is_cause {
                self.takes(&causes::without(&self.tape, &self.sent, |place| place == index));
            }
        }
    }

    /// The first message of its kind instead of a later one: then nobody need say it again.
    fn take_the_first(&mut self) {
        for index in 0..self.tape.len() {
            let mut place = 0;
            let earlier = self.tape.each(|step| {
                if let Step::Deliver(parcel) = step
                    && place == index
                {
                    parcel.ordinal = 1;
                }
                place += 1;
                true
            });
            self.takes(&earlier);
        }
    }

    /// Halves, then quarters, then ever smaller parts down to single steps, the last ones first: what comes later rests
    /// on what comes earlier.
    fn leave_out_chunks(&mut self) {
        let mut size = (self.tape.len() / 2).max(1);
        loop {
            let mut end = self.tape.len();
            while end > 0 {
                let start = end.saturating_sub(size);
                let is_left_out = |index: usize| (start..end).contains(&index);
                let alone = self.tape.only(|index, _| !is_left_out(index));
                if !self.takes(&alone) {
                    self.takes(&causes::without(&self.tape, &self.sent, is_left_out));
                }
                end = start.min(self.tape.len());
            }
            if size == 1 {
                return;
            }
            size /= 2;
        }
    }
}

/// A world of fewer clients, where what is left is about fewer.
fn narrow<S: Serving>(
    make: &impl Fn() -> S,
    run: &mut Replay<Ask<S>>,
    oracle: &'static str,
    tape: &Tape,
    patience: &mut Patience<'_>,
) {
    let steps = tape.steps().iter().filter(|(step, _)| !is_casting(step));
    let nodes: BTreeSet<Who> = steps.flat_map(|(step, _)| step.nodes()).collect();
    let most = |number: &dyn Fn(&Who) -> Option<u16>| {
        nodes.iter().filter_map(number).max().unwrap_or_default()
    };
    let clients = most(&|who| if let Who::Client(number) = who { Some(*number) } else { None });
    let learners = most(&|who| if let Who::Learner(number) = who { Some(*number) } else { None });
    let mut narrower = run.clone();
    (narrower.shape.clients, narrower.shape.learners) = (clients, learners);
    let is_narrower = (clients, learners) != (run.shape.clients, run.shape.learners);
    if is_narrower && patience.takes() {
        let played = play(make, &narrower, tape, Some(oracle));
        if broken(&played.report, oracle).is_some() && played.happened.iter().all(|did| *did) {
            *run = narrower;
        }
    }
}
