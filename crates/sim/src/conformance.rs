//! What every replicated service must stand: clients fight over a few keys through a storm, then everybody loses power,
//! and then everything that was acknowledged must still be there.
//!
//! A run has five acts. In the storm things go wrong as drawn from the seed, with liars from the first moment. Then
//! trouble ends, as partial synchrony promises, and every operation must be answered. Then all replicas lose power at
//! once and start again from their disks. Where a plan wants all to heal, work goes on until they have: each correct
//! replica must be well, and with the others. Last, every key is read. All oracles watch all along; at the end the
//! history must be linearizable and the ledger of tokens must balance.

pub(crate) mod court;
mod recovery;
pub(crate) mod run;
mod seeds;

pub use court::Ask;
pub use run::{film_seed, run_seed};
pub use seeds::{Seeds, conform};

use crate::workload::Workload;
use crate::world::System;
use testudo_core::{Digest, Protocol, Slot, Time};
use testudo_replication::Published;
use testudo_state::Map;

/// A system that serves a [`Workload`] to its clients.
pub trait Serving: System {
    /// What its clients ask for.
    type Workload: Workload;

    /// Asks a client's automaton for one operation. Its answer is told apart from others by `id`.
    fn submit(
        &mut self,
        client: usize,
        id: u64,
        operation: Vec<u8>,
    ) -> <Self::Client as Protocol>::Input;

    /// What a client's automaton gave out. An operation that was refused or whose fate is unknown stays unanswered here.
    fn answered(&mut self, client: usize, output: <Self::Client as Protocol>::Output)
    -> Vec<Heard>;

    /// The digest of all that a replica must agree on with others, and after which slot, for systems that can say so.
    fn digest(replica: &Self::Replica) -> Option<(Slot, Digest)> {
        let _ = replica;
        None
    }

    /// The service's state that a replica holds, for systems that can say so.
    fn held(replica: &Self::Replica) -> Option<Held<'_>> {
        let _ = replica;
        None
    }
}

/// What a client's automaton gave out.
#[derive(Debug)]
pub enum Heard {
    /// The answer to the operation of this number.
    Answer(u64, Vec<u8>),
    /// A learner's copy has moved.
    Published(Published),
}

/// The service's state at a replica.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The last slot executed.
    pub slot: Slot,
    /// Agreed time after it.
    pub time: Time,
    /// The state.
    pub state: &'a Map,
}

/// Makes a test of each standard plan for a system: one without liars, one per kind of liar, one beyond f.
///
/// `conformance!(pbft: MySystem::new(), seeds: 5);`
#[macro_export]
macro_rules! conformance {
    ($name:ident: $make:expr, seeds: $seeds:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::conformance!(@each $make, $seeds;
                without_liars: None, silent: Some(Silent), slow: Some(Slow),
                selective: Some(Selective), replaying: Some(Replay), twins: Some(Twins),
                corrupting: Some(Corrupt), equivocating: Some(Equivocate), stale: Some(Stale),
                random: Some(Random));

            #[test]
            fn beyond_the_budget_it_stays_safe() {
                let plan = $crate::Plan::default().beyond();
                let seeds = $crate::conformance::Seeds::for_tests($seeds);
                $crate::conformance::conform(|| $make, &seeds, &[plan]).assert_clean();
            }

            #[test]
            fn one_seed_is_one_run() {
                let plan = $crate::Plan::default().with_liar($crate::Misconduct::Random);
                let run = || $crate::conformance::run_seed(|| $make, 1, &plan).audit;
                assert_eq!(run(), run());
            }
        }
    };
    (@each $make:expr, $seeds:expr; $($test:ident: $liar:expr),*) => {
        $(
            #[test]
            fn $test() {
                #[allow(unused_imports)]
                use $crate::Misconduct::*;
                let liar: Option<$crate::Misconduct> = $liar;
                let plan = $crate::Plan { liars: liar.into_iter().collect(), ..Default::default() };
                let plans = [plan.clone(), plan.beyond()];
                let seeds = $crate::conformance::Seeds::for_tests($seeds);
                $crate::conformance::conform(|| $make, &seeds, &plans).assert_clean();
            }
        )*
    };
}
