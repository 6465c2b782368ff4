//! A run again, step by step.
//!
//! [`record`] runs a seed as [`crate::conformance::run_seed`] does and takes down every step. [`replay`] does the steps
//! again, in a world of the same shape and seed and under the same judges: all of them come to the same run, to the last
//! event, and some of them to another one that is judged by the same rules. Only what is wrong at the end of a whole run
//! (liveness, what learners should have been told, the ledger) cannot be judged of a part.
//!
//! [`told`] reads the run back that a script tells, and [`judged`] says what all judges think of it.
//!
//! Where steps are left out, a cluster must not suffer more than it suffered in the whole run. A replica that in the
//! whole run had recovered before the next one was struck need not have recovered in a part of it, and then more are
//! faulty at once than anybody promised to survive. So each step that makes a replica faulty has a company, the number of
//! others that were faulty at that moment of the whole run, and is left out where there would be more.

mod budget;
mod tape;
mod told;

pub use tape::Tape;
pub use told::{judged, told};

use crate::conformance::Serving;
use crate::conformance::court::{Ask, Court, is_unjudged};
use crate::conformance::run::{Taken, run_and_record, shape_of};
use crate::host::quietly;
use crate::papers::{Papers, guarded};
use crate::plan::Plan;
use crate::report::Report;
use crate::step::{Haste, Parcel, Started, Step};
use crate::world::{Shape, World};
use budget::Budget;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Beyond this many things that happen at once something goes round in circles.
const MOST: usize = 100_000;

/// A run that can be played again. `A` is what its workload's clients ask for.
#[derive(Clone, Debug)]
pub struct Replay<A> {
    /// The seed: of keys, of what liars draw, and of all else in the world that is drawn.
    pub seed: u64,
    /// The plan.
    pub plan: Plan,
    /// The world's shape.
    pub shape: Shape,
    /// What happens without being a step.
    pub haste: Haste,
    /// The steps.
    pub steps: Vec<Step>,
    /// What the run came to.
    pub report: Report,
    /// What clients asked for, by ticket.
    pub asks: BTreeMap<u64, A>,
}

/// Runs one seed under a plan and takes down every step.
pub fn record<S: Serving>(make: impl FnOnce() -> S, seed: u64, plan: &Plan) -> Replay<Ask<S>> {
    let (report, Taken { steps, asks }) = run_and_record(make, seed, plan);
    let (plan, shape) = (plan.clone(), shape_of(seed, plan));
    Replay {
        seed,
        plan,
        shape,
        haste: Haste::NONE,
        steps,
        report,
        asks: asks.into_iter().collect(),
    }
}

/// Does the steps of a run again, all of them, and says what they come to. The system may be another one that serves the
/// same workload.
pub fn replay<S: Serving>(make: impl FnOnce() -> S, run: &Replay<Ask<S>>) -> Report {
    let tape = Tape::whole(&run.steps, run.haste);
    play(make, run, &tape, None).report
}

/// What playing a tape came to.
pub(crate) struct Played {
    /// What the judges found.
    pub(crate) report: Report,
    /// Of each step, whether it did anything.
    pub(crate) happened: Vec<bool>,
    /// Of each step that made a replica faulty, how many others were faulty then.
    pub(crate) company: Vec<Option<usize>>,
    /// Of each step, which messages were sent because of it.
    pub(crate) sent: Vec<Vec<Parcel>>,
}

/// Plays a tape in the world of a run. If a rule is named it ends where that is broken, or where it would have to be: a run
/// in which no more was wrong than is survived is over with the first broken rule, and another one goes on after those that
/// need not hold.
pub(crate) fn play<S: Serving>(
    make: impl FnOnce() -> S,
    run: &Replay<Ask<S>>,
    tape: &Tape,
    until: Option<&str>,
) -> Played {
    let papers = Papers::default();
    let count = tape.steps().len();
    let notes = RefCell::new((vec![false; count], vec![None; count], vec![Vec::new(); count]));
    let report = quietly(|| {
        guarded(&papers.clone(), run.seed, &run.plan, || {
            let mut player = Player::new(make(), run, tape, papers.clone());
            for (index, (step, company)) in tape.steps().iter().enumerate() {
                if is_casting(step) {
                    notes.borrow_mut().0[index] = true;
                    continue;
                }
                // What panics has happened.
                notes.borrow_mut().0[index] = true;
                let (happened, others) = player.step(step, *company);
                notes.borrow_mut().0[index] = happened;
                notes.borrow_mut().1[index] = others;
                notes.borrow_mut().2[index] = player.world.take_sent();
                if until.is_some_and(|rule| player.is_over() || papers.is_broken(rule)) {
                    break;
                }
            }
            player.close();
        })
    });
    let (happened, company, sent) = notes.into_inner();
    Played { report, happened, company, sent }
}

/// Whether a step says who somebody is, and not what happens: those come first wherever they stand.
pub(crate) const fn is_casting(step: &Step) -> bool {
    matches!(step, Step::Corrupt(..) | Step::Upstream(_))
}

/// A world in which steps are done again, and its judges.
struct Player<'a, S: Serving> {
    run: &'a Replay<Ask<S>>,
    world: World<S>,
    haste: Haste,
    started: Started,
    court: Court<S>,
    papers: Papers,
    budget: Budget,
}

impl<'a, S: Serving> Player<'a, S> {
    fn new(system: S, run: &'a Replay<Ask<S>>, tape: &Tape, papers: Papers) -> Self {
        let mut world = World::asleep(system, &run.shape, run.seed);
        world.index_messages();
        if run.plan.disks.are_logs(run.seed) {
            world.keep_logs(run.seed);
        }
        for (step, _) in tape.steps().iter().filter(|(step, _)| is_casting(step)) {
            world.apply(step);
        }
        papers.open(&mut world, &run.plan);
        let court = Court::new(run.seed, &run.plan, papers.clone());
        let (haste, started, budget) = (tape.haste(), Started::default(), Budget::default());
        Self { run, world, haste, started, court, papers, budget }
    }

    /// Whether there is nothing more to learn.
    fn is_over(&self) -> bool {
        self.papers.is_violated() && !self.run.plan.exceeds
    }

    /// Does a step, and what happens at once after it. Says whether the step did anything, and how many replicas were
    /// faulty besides the one that it struck.
    fn step(&mut self, step: &Step, company: Option<usize>) -> (bool, Option<usize>) {
        let others = self.budget.company(&self.world, step);
        if others.zip(company).is_some_and(|(others, most)| others > most) {
            return (false, others);
        }
        self.budget.brace(&self.world, step);
        let happened = match step {
            Step::Ask(who, ticket, _) if self.run.asks.contains_key(ticket) => {
                self.ask(*who, *ticket)
            }
            Step::Ask(_, ticket, _) => {
                if !is_unjudged(*ticket) {
                    self.court.disregard(*ticket);
                }
                self.world.apply(step)
            }
            _ => self.world.apply(step),
        };
        self.budget.reckon(happened);
        self.attend();
        for _ in 0..MOST {
            if self.is_over() || !self.started.settle(&mut self.world, self.haste) {
                break;
            }
            self.attend();
        }
        self.started.forget(&self.world);
        (happened, others)
    }

    /// A client asks again what it asked then, unless it is down or still waits.
    fn ask(&mut self, who: crate::Who, ticket: u64) -> bool {
        let node = self.world.named(who);
        let client = node.filter(|node| self.world.is_up(*node));
        let client = client.and_then(|node| self.world.client_index(node));
        let Some((client, ask)) = client.zip(self.run.asks.get(&ticket)) else { return false };
        if self.court.is_waiting(client) || self.court.has_issued(ticket) {
            return false;
        }
        self.court.submit(&mut self.world, client, ticket, ask.clone());
        true
    }

    fn attend(&mut self) {
        let Self { court, world, budget, .. } = self;
        court.look(world, |node| budget.is_spoilt(world, node));
        court.hear(world);
    }

    fn close(&mut self) {
        let Self { court, world, budget, .. } = self;
        court.judge(world, false, |node| budget.is_spoilt(world, node));
        self.papers.close_world(&self.world, self.court.answered());
    }
}
