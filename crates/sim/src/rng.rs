//! Chance, from a seed and nothing else.
//!
//! Everything that happens by chance in a run is drawn from streams that are split from one seed by name, so that a
//! draw more in one place does not change what all others see.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
pub use testudo_contracts::Chance;

/// One step of SplitMix64 (Steele, Lea and Flood 2014): also a good mixer of 64 bits.
#[must_use]
pub const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// xoshiro256++ (Blackman and Vigna 2021), seeded by SplitMix64. Fast, and no good for secrets.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
    /// Who decides what draws below a bound come to, if chance does not.
    dictated: Option<Dictation>,
}

/// Draws that somebody else decides, so that what chance might do can be enumerated. Everybody who has a copy draws from
/// the same list.
#[derive(Clone, Default, Debug)]
pub struct Dictation(Arc<Mutex<Draws>>);

#[derive(Default, Debug)]
struct Draws {
    /// What the first draws come to; the first possibility where nothing is said.
    given: VecDeque<u32>,
    /// What was drawn: the possibility, and of how many.
    drawn: Vec<(u32, u32)>,
    /// How many possibilities of a draw are told apart.
    most: u32,
    /// Whether a draw had more of them.
    is_narrowed: bool,
}

impl Dictation {
    /// The next draws come to this, each to one of at most `most` possibilities that lie evenly below its bound.
    pub fn dictate(&self, given: &[u32], most: u32) {
        let given = given.iter().copied().collect();
        let most = most.max(1);
        *self.draws() = Draws { given, drawn: Vec::new(), most, is_narrowed: false };
    }

    /// What was drawn since, each with the number of its possibilities; and whether some had more than were told apart.
    #[must_use]
    pub fn drawn(&self) -> (Vec<(u32, u32)>, bool) {
        let draws = self.draws();
        (draws.drawn.clone(), draws.is_narrowed)
    }

    fn draws(&self) -> MutexGuard<'_, Draws> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn below(&self, bound: u64) -> u64 {
        let mut draws = self.draws();
        let bound = bound.max(1);
        let count = bound.min(u64::from(draws.most.max(1)));
        draws.is_narrowed |= count < bound;
        let choice = draws.given.pop_front().map_or(0, |given| u64::from(given) % count);
        draws.drawn.push((choice as u32, count as u32));
        (u128::from(choice) * u128::from(bound) / u128::from(count)) as u64
    }
}

impl Rng {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut word = seed;
        let state = core::array::from_fn(|_| {
            word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(word)
        });
        Self { state, dictated: None }
    }

    /// The stream of a seed that belongs to `name`.
    #[must_use]
    pub fn split(seed: u64, name: &str, index: u64) -> Self {
        let name = name.bytes().fold(0, |word, byte| mix(word ^ u64::from(byte)));
        Self::new(mix(seed ^ mix(name ^ mix(index))))
    }

    /// A stream for draws that this one must not notice: those to come from it stay what they are.
    #[must_use]
    pub fn aside(&self, name: &str) -> Self {
        Self::split(self.clone().next(), name, 0)
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// From now on somebody else decides what draws below a bound come to. Fresh bytes still come from the seed.
    pub fn obey(&mut self, dictation: Dictation) {
        self.dictated = Some(dictation);
    }

    /// Fresh bytes.
    pub fn bytes32(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }

    /// A place in a list that is not empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// Puts a list into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

impl Chance for Rng {
    fn below(&mut self, bound: u64) -> u64 {
        if let Some(dictation) = &self.dictated {
            return dictation.below(bound);
        }
        // Multiply and shift: the bias is below 2^-32 for every bound that a simulation uses.
        ((u128::from(self.next()) * u128::from(bound.max(1))) >> 64) as u64
    }

    fn per_mille(&mut self, times: u32) -> bool {
        match &self.dictated {
            // Whether it happens is all that matters of what may or may not.
            Some(dictation) if (1..1000).contains(&times) => dictation.below(2) == 1,
            Some(_) => times >= 1000,
            None => times > 0 && self.below(1000) < u64::from(times),
        }
    }
}
