//! The rules by which a replica keeps what it replicates. Tests break them one at a time.
//!
//! Those by which a state is taken from others are the learners' ([`crate::learner::rules`]): whoever fetches one believes the
//! same.

use crate::executor::Replicated;
use crate::learner::rules::{Rules as Fetching, Standard};
use crate::sessions::{Remembered, System};

/// What a replica remembers, as far as safety hangs on it.
pub trait Rules: Fetching {
    /// A session remembers what a bundle came to, so that the same bundle, decided again, has no second effect.
    fn remember(system: &mut System, session: u64, sequence: u64, remembered: &Remembered) {
        system.remember(session, sequence, remembered);
    }

    /// What a start takes up of the state that a snapshot stands for: all of it, sessions included. `genesis` is the state
    /// that everything starts from.
    #[must_use]
    fn take_up(state: Replicated, genesis: &Replicated) -> Replicated {
        let _ = genesis;
        state
    }
}

impl Rules for Standard {}
