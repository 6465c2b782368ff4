//! A protocol in the lab, whatever its type.

use crate::Coordination;
use crate::plans::Rota;
use std::marker::PhantomData;
use testudo_contracts::{Falsifiable, Profile};
use testudo_sim::conformance::{Seeds, run_seed};
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::{Plan, Report, Summary};

/// A whole replica of an ordering under the coordination service, with the clients and learners that production uses.
pub type System<O> = Replicated<O, Lore, Coordination>;

/// A protocol that can be put to the test.
pub trait Subject: Send + Sync {
    /// What it assumes and promises.
    fn profile(&self) -> Profile;

    /// Runs one seed under a plan.
    fn run(&self, seed: u64, plan: &Plan) -> Report;
}

struct Of<O>(PhantomData<fn() -> O>);

/// The protocol of this type.
#[must_use]
pub fn subject<O: Falsifiable<Message: 'static> + 'static>() -> Box<dyn Subject> {
    Box::new(Of::<O>(PhantomData))
}

impl<O: Falsifiable<Message: 'static> + 'static> Subject for Of<O> {
    fn profile(&self) -> Profile {
        O::PROFILE
    }

    fn run(&self, seed: u64, plan: &Plan) -> Report {
        run_seed(System::<O>::default, seed, plan)
    }
}

/// Runs every seed under the plan that it has in the rota, and sums up. A failure does not stop the rest.
pub fn conform(subject: &dyn Subject, rota: &Rota, seeds: &Seeds) -> Summary {
    let mut summary = Summary::default();
    for seed in seeds.all() {
        if let Some((_, plan)) = rota.plan(*seed) {
            summary.add(subject.run(*seed, &plan));
        }
    }
    summary
}
