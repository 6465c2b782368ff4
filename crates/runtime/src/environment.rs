//! What a production driver hands in at every step: a clock, chance, secrets, and a guard around what may panic.

use crate::voice::Keys;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::{SystemTime, UNIX_EPOCH};
use testudo_core::{Digest, Host, Panicked, PublicKey, Signature, Time};

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the panic of a guarded operation from being printed as if the process were ill: it is undone and answered.
fn quiet_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let inner = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_GUARDED.get() {
                tracing::warn!(%panic, "an operation of the service panicked and is undone");
            } else {
                inner(panic);
            }
        }));
    });
}

/// The wall clock, chance from the operating system, unwinding, and the node's keys.
pub(crate) struct Environment {
    /// State of a SplitMix64 generator. It spreads choices; nothing secret is drawn from it.
    chance: u64,
    pub(crate) keys: Keys,
}

impl Environment {
    /// # Errors
    /// When the operating system has no randomness to give.
    pub(crate) fn new(keys: Keys) -> Result<Self, getrandom::Error> {
        quiet_guarded_panics();
        Ok(Self { chance: getrandom::u64()?, keys })
    }
}

impl Host for Environment {
    fn clock(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn choose(&mut self, bound: u32) -> u32 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The high half of a product is below the bound, and no remainder favours small numbers.
        ((u128::from(mixed) * u128::from(bound.max(1))) >> 64) as u32
    }

    fn secret(&mut self) -> [u8; 32] {
        let mut secret = [0; 32];
        // Key material that is not random would be worse than a replica that stops.
        getrandom::fill(&mut secret).expect("the operating system gave randomness at start");
        secret
    }

    fn holds(&self, voting: &PublicKey) -> bool {
        self.keys.holds(voting)
    }

    fn candidate(&self) -> Option<PublicKey> {
        self.keys.candidate()
    }

    fn vouch(&self, digest: &Digest) -> Option<Signature> {
        self.keys.vouch(digest)
    }

    fn guard(&mut self, operation: &mut dyn FnMut()) -> Result<(), Panicked> {
        let before = IS_GUARDED.replace(true);
        let outcome = catch_unwind(AssertUnwindSafe(operation));
        IS_GUARDED.set(before);
        outcome.map_err(|_| Panicked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_stay_below_their_bound_and_reach_all_of_it() {
        let mut environment = Environment::new(Keys::Client).unwrap();
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[environment.choose(5) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(environment.choose(1), 0);
        assert_ne!(environment.secret(), environment.secret());
    }

    #[test]
    fn a_guarded_panic_is_told_and_the_thread_goes_on() {
        let mut environment = Environment::new(Keys::Client).unwrap();
        assert_eq!(environment.guard(&mut || panic!("a service is wrong")), Err(Panicked));
        assert!(!IS_GUARDED.get());
        let mut ran = false;
        assert_eq!(environment.guard(&mut || ran = true), Ok(()));
        assert!(ran);
    }
}
