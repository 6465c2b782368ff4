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
    ///
    /// # Panics
    /// When the environment names a number that is none: whoever asked for other seeds must not believe to have run them.
    #[must_use]
    pub fn for_tests(count: u64) -> Self {
        match Self::asked_for(count, |name| std::env::var(name).ok()) {
            Ok(seeds) => seeds,
            Err(wrong) => panic!("{wrong}"),
        }
    }

    /// The same, in the environment that these answers describe.
    fn asked_for(count: u64, said: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str| {
            let read = |text: String| {
                let wrong = |_| format!("{name}={text} is no number; write its digits alone");
                text.parse().map_err(wrong)
            };
            said(name).filter(|text| !text.is_empty()).map(read).transpose()
        };
        if let Some(seed) = number("TESTUDO_SEED")? {
            return Ok(Self { seeds: vec![seed] });
        }
        let count = number("TESTUDO_SEEDS")?.unwrap_or(count);
        let fixed = Self::fixed(count);
        Ok(match said("TESTUDO_COMMIT") {
            Some(word) => fixed.and_drawn(&word, count),
            None => fixed,
        })
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

#[cfg(test)]
mod tests {
    use super::Seeds;

    fn asked_for(name: &str, value: &str) -> Result<Vec<u64>, String> {
        let said = |of: &str| (of == name).then(|| value.to_string());
        Seeds::asked_for(3, said).map(|seeds| seeds.all().to_vec())
    }

    #[test]
    fn other_seeds_are_run_or_refused_and_never_forgotten() {
        assert_eq!(asked_for("", ""), Ok(vec![0, 1, 2]));
        assert_eq!(asked_for("TESTUDO_SEEDS", ""), Ok(vec![0, 1, 2]));
        assert_eq!(asked_for("TESTUDO_SEED", "17"), Ok(vec![17]));
        assert_eq!(asked_for("TESTUDO_SEEDS", "2"), Ok(vec![0, 1]));
        assert_eq!(asked_for("TESTUDO_COMMIT", "a").map(|seeds| seeds.len()), Ok(6));
        for (name, value) in [("TESTUDO_SEEDS", "1e6"), ("TESTUDO_SEED", "x")] {
            let wrong = asked_for(name, value).expect_err("that is no number");
            assert!(wrong.starts_with(&format!("{name}={value} is no number")), "{wrong}");
        }
    }
}
