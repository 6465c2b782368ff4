//! Which seeds are run: fixed ones that never change, and ones drawn from a word that does.

use super::{Serving, run_seed};
use crate::plan::Plan;
use crate::report::Summary;
use crate::rng::Rng;

/// Seeds to run.
#[derive(Clone, Debug, Default)]
pub struct Seeds {
    seeds: Vec<u64>,
}

impl Seeds {
    /// The seeds 0 to `count` − 1: the same for ever, so that a change of behaviour shows.
    #[must_use]
    pub fn fixed(count: u64) -> Self {
        Self { seeds: (0..count).collect() }
    }

    /// These, and no others.
    #[must_use]
    pub fn these(seeds: &[u64]) -> Self {
        Self { seeds: seeds.to_vec() }
    }

    /// The same and `count` more, drawn from a word such as a commit's name: new ones with every commit.
    #[must_use]
    pub fn and_drawn(mut self, word: &str, count: u64) -> Self {
        let mut rng = Rng::split(0, word, 0);
        // Short enough to be read out and typed in again.
        self.seeds.extend((0..count).map(|_| rng.next() >> 24));
        self
    }

    /// `count` fixed ones, unless the environment says otherwise: `TESTUDO_SEED` names a single one, `TESTUDO_SEEDS`
    /// another number of fixed ones, and `TESTUDO_COMMIT` a word from which as many more are drawn.
    #[must_use]
    pub fn for_tests(count: u64) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        if let Some(seed) = number("TESTUDO_SEED") {
            return Self { seeds: vec![seed] };
        }
        let count = number("TESTUDO_SEEDS").unwrap_or(count);
        match std::env::var("TESTUDO_COMMIT") {
            Ok(word) => Self::fixed(count).and_drawn(&word, count),
            Err(_) => Self::fixed(count),
        }
    }

    /// The seeds, in the order of running.
    #[must_use]
    pub fn all(&self) -> &[u64] {
        &self.seeds
    }
}

/// Runs every seed under one of the plans, which the seed alone decides, and sums up. A failure does not stop the rest.
pub fn conform<S: Serving>(make: impl Fn() -> S, seeds: &Seeds, plans: &[Plan]) -> Summary {
    let mut summary = Summary::default();
    for seed in seeds.all() {
        if let Some(plan) = plans.get((seed % plans.len().max(1) as u64) as usize) {
            summary.add(run_seed(&make, *seed, plan));
        }
    }
    summary
}
