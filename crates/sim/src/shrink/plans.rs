//! A smaller plan that fails in the same way.

use super::{Patience, broken};
use crate::conformance::run::climate_of;
use crate::conformance::{Ask, Serving};
use crate::host::quietly;
use crate::plan::{Climate, Plan};
use crate::replay::{Replay, record};
use crate::weather::Weather;

/// Another plan changes all that is drawn, so that the same seed may be another run by luck alone: as many more are tried.
const SEEDS: u64 = 3;

/// Among so many seeds the one is taken that fails soonest.
const SOONEST: u64 = 12;

/// Cuts the plan down for as long as a run under it breaks the same rule.
pub(super) fn shrink<S: Serving>(
    make: &impl Fn() -> S,
    mut run: Replay<Ask<S>>,
    oracle: &'static str,
    patience: &mut Patience<'_>,
) -> Replay<Ask<S>> {
    // The same run, whose climate can now be changed.
    run.plan.climate = Some(climate_of(run.seed, &run.plan));
    run.plan.troubles.clear();
    let tries = |patience: &mut Patience<'_>, seed: u64, plan: &Plan| {
        let found = patience.takes().then(|| quietly(|| record(make, seed, plan)));
        found.filter(|found| broken(&found.report, oracle).is_some())
    };
    loop {
        let mut has_shrunk = false;
        for plan in smaller(&run.plan) {
            let seeds = std::iter::once(run.seed).chain(0..SEEDS);
            let found = seeds.into_iter().find_map(|seed| tries(patience, seed, &plan));
            if let Some(found) = found {
                patience.steps = found.steps.len();
                (run, has_shrunk) = (found, true);
                break;
            }
        }
        if !has_shrunk {
            break;
        }
    }
    run
}

/// Of some seeds, the run that breaks the rule soonest.
pub(super) fn soonest<S: Serving>(
    make: &impl Fn() -> S,
    run: Replay<Ask<S>>,
    oracle: &'static str,
    patience: &mut Patience<'_>,
) -> Replay<Ask<S>> {
    let mut run = run;
    for seed in 0..SOONEST {
        if !patience.takes() {
            break;
        }
        let found = quietly(|| record(make, seed, &run.plan));
        if broken(&found.report, oracle).is_some() && found.steps.len() < run.steps.len() {
            patience.steps = found.steps.len();
            run = found;
        }
    }
    run
}

/// Plans that are smaller in one respect each, the smallest first.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        plans.push(smaller);
    };
    for part in [16, 4, 2] {
        if plan.operations / part > 0 {
            with(&|plan| plan.operations /= part);
        }
    }
    for left_out in 0..plan.liars.len() {
        with(&|plan| {
            plan.liars.remove(left_out);
        });
    }
    if !plan.lying_clients.is_empty() {
        with(&|plan| plan.lying_clients.truncate(plan.lying_clients.len() - 1));
    }
    let climate = plan.climate.clone().unwrap_or(Climate::calm());
    for left_out in 0..climate.troubles.len() {
        with(&|plan| {
            if let Some(climate) = &mut plan.climate {
                climate.troubles.remove(left_out);
            }
        });
    }
    for weather in calmer(climate.weather) {
        with(&|plan| plan.climate.iter_mut().for_each(|climate| climate.weather = weather));
    }
    if plan.learners > 0 && plan.clients > 0 {
        with(&|plan| plan.learners = 0);
    }
    if plan.clients > 1 {
        with(&|plan| plan.clients = 1);
    }
    if plan.clients > 2 {
        with(&|plan| plan.clients = 2);
    }
    if plan.keys > 1 {
        with(&|plan| plan.keys = 1);
    }
    if plan.storm.as_secs() >= 2 {
        with(&|plan| plan.storm /= 4);
    }
    if plan.operations > 1 {
        with(&|plan| plan.operations -= 1);
    }
    plans
}

/// Weather that is calm in one more respect each, and first in all of them.
fn calmer(weather: Weather) -> Vec<Weather> {
    let calm = Weather::calm();
    let all = [
        calm,
        Weather { lost_per_mille: 0, ..weather },
        Weather { doubled_per_mille: 0, ..weather },
        Weather { delayed_per_mille: 0, ..weather },
        Weather { slowest_link: 1, ..weather },
        Weather { reordered_per_mille: 0, ..weather },
        Weather { keeps_order: false, ..weather },
        Weather { courier: None, ..weather },
        Weather { stabilises: None, ..weather },
        Weather { spread: calm.spread, ..weather },
        Weather { flush: calm.flush, ..weather },
        Weather { chore: calm.chore, ..weather },
    ];
    all.into_iter().filter(|calmer| *calmer != weather).collect()
}

#[cfg(test)]
mod tests {
    use super::{Plan, smaller};
    use crate::plan::Climate;
    use crate::rng::Rng;

    /// Following any path of smaller plans comes to an end, so that shrinking does.
    #[test]
    fn smaller_plans_are_smaller() {
        let plan = Plan::default();
        let climate = Climate::drawn(&plan.troubles, &mut Rng::new(3));
        let mut plan = Plan { climate: Some(climate), learners: 1, ..plan };
        let mut taken = 0;
        while let Some(last) = smaller(&plan).pop() {
            assert_ne!(format!("{last:?}"), format!("{plan:?}"));
            plan = last;
            taken += 1;
            assert!(taken < 1_000, "this never ends: {plan:?}");
        }
        assert_eq!((plan.operations, plan.keys, plan.clients, plan.learners), (1, 1, 1, 0));
    }
}
