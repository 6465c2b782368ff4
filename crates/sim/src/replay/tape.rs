//! Steps to be played, each with the company that it may have.

use crate::step::{Haste, Step};

/// Steps to be played.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tape {
    steps: Vec<(Step, Option<usize>)>,
    haste: Haste,
}

impl Tape {
    /// All steps of a run, whatever they do to it.
    #[must_use]
    pub fn whole(steps: &[Step], haste: Haste) -> Self {
        Self { steps: steps.iter().map(|step| (step.clone(), None)).collect(), haste }
    }

    /// The steps, each with how many other replicas may be faulty when it makes one so; any number where it does not say.
    #[must_use]
    pub fn steps(&self) -> &[(Step, Option<usize>)] {
        &self.steps
    }

    /// What happens without being a step.
    #[must_use]
    pub const fn haste(&self) -> Haste {
        self.haste
    }

    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The same steps, none of which may have more company than it had.
    pub(crate) fn in_company(mut self, company: &[Option<usize>]) -> Self {
        for ((_, may), had) in self.steps.iter_mut().zip(company) {
            *may = *had;
        }
        self
    }

    /// Those steps of it for which `keeps` says so, by index.
    pub(crate) fn only(&self, keeps: impl Fn(usize, &Step) -> bool) -> Self {
        let kept = self.steps.iter().enumerate().filter(|(index, (step, _))| keeps(*index, step));
        Self { steps: kept.map(|(_, step)| step.clone()).collect(), haste: self.haste }
    }

    /// The steps that a visitor keeps, changed as it changes them.
    pub(crate) fn each(&self, mut visit: impl FnMut(&mut Step) -> bool) -> Self {
        let mut visited = self.clone();
        visited.steps.retain_mut(|(step, _)| visit(step));
        visited
    }

    /// The same in other haste.
    pub(crate) fn hasty(mut self, haste: Haste) -> Self {
        self.haste = haste;
        self
    }
}
