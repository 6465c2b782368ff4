//! The standard plans, and which seed runs under which.
//!
//! A [`Rota`] has several series of plans. Seeds go through the series in turn, and within each through its plans, so
//! that every stretch of seeds has some of everything and a seed's number alone says what its run is. A rota that is
//! limited to some faults is another rota: whatever else goes wrong in its plans is left out, and so is a plan of which
//! nothing would be left.

mod beyond;
mod harms;
mod liars;

use crate::faults::Fault;
use std::collections::BTreeSet;
use testudo_contracts::{Profile, Tactic};
use testudo_core::fault::FaultKind;
use testudo_sim::conformance::Seeds;
use testudo_sim::rng::{Chance as _, Rng};
use testudo_sim::{Climate, Misconduct, Plan, Weather};

/// Plans that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name.
    pub name: &'static str,
    /// The plans, in the order in which they take turns.
    pub plans: Vec<Plan>,
}

/// Who lies: every kind of liar, in clusters of several sizes, under everything else that goes wrong at once.
pub const LIARS: &str = "liars";

/// Disks and memories that come to harm, one replica after the other, and must all heal.
pub const HARMS: &str = "harms";

/// How many records a correct replica's log may hold in a standard run, whatever goes wrong. Snapshots are taken after few
/// slots there, and what they cover is let go.
pub const MOST_RECORDS: usize = 1_000;

/// Which seed runs under which plan.
#[derive(Clone, Debug)]
pub struct Rota {
    series: Vec<Series>,
    /// What may go wrong; everything if nothing is said.
    limits: Option<BTreeSet<Fault>>,
}

impl Rota {
    /// The standard one.
    #[must_use]
    pub fn standard() -> Self {
        let series = vec![
            Series { name: LIARS, plans: liars::plans() },
            Series { name: HARMS, plans: harms::plans() },
        ];
        Self { series, limits: None }
    }

    /// One replica too many lies, or has come to harm.
    #[must_use]
    pub fn beyond() -> Self {
        let series = vec![
            Series { name: LIARS, plans: beyond::liars() },
            Series { name: HARMS, plans: beyond::harms() },
        ];
        Self { series, limits: None }
    }

    /// One of its own making.
    #[must_use]
    pub const fn new(series: Vec<Series>) -> Self {
        Self { series, limits: None }
    }

    /// The same for a protocol that needs other numbers of replicas, or survives no lies: then nobody lies.
    #[must_use]
    pub fn for_protocol(mut self, profile: &Profile) -> Self {
        for plan in self.series.iter_mut().flat_map(|series| &mut series.plans) {
            let spare = plan.n().saturating_sub(3 * plan.f + 1);
            let needed = u16::try_from((profile.replicas)(usize::from(plan.f)));
            plan.replicas = Some(needed.unwrap_or(u16::MAX).saturating_add(spare));
            plan.kind = profile.faults;
            if profile.faults != FaultKind::Byzantine {
                plan.liars.clear();
                plan.lying_clients.clear();
            }
        }
        self
    }

    /// The same for a protocol that knows these tactics and no others.
    #[must_use]
    pub fn knowing(mut self, tactics: &[Tactic]) -> Self {
        let is_known = |liar: &Misconduct| match liar {
            Misconduct::Tactic(tactic) => tactics.contains(tactic),
            _ => true,
        };
        for series in &mut self.series {
            series.plans.retain(|plan| plan.liars.iter().all(is_known));
        }
        self
    }

    /// The same with these faults and no others. Series and plans of which nothing is left are left out; without any
    /// fault there is one plan, in which nothing goes wrong.
    #[must_use]
    pub fn limited_to(self, faults: &BTreeSet<Fault>) -> Self {
        if self.faults().is_subset(faults) {
            return self;
        }
        let mut series = self.series;
        for one in &mut series {
            let mut seen = BTreeSet::new();
            one.plans = std::mem::take(&mut one.plans)
                .into_iter()
                .map(|plan| limited(plan, faults))
                .filter(|plan| faults.is_empty() || !of_plan(plan).is_disjoint(faults))
                .filter(|plan| seen.insert(format!("{plan:?}")))
                .collect();
        }
        series.retain(|one| !one.plans.is_empty());
        if faults.is_empty() {
            series.truncate(1);
        }
        Self { series, limits: Some(faults.clone()) }
    }

    /// The series and the plan of a seed. None where there is no plan at all.
    #[must_use]
    pub fn plan(&self, seed: u64) -> Option<(&'static str, Plan)> {
        let turns = self.series.len() as u64;
        let series = self.series.get(seed.checked_rem(turns)? as usize)?;
        let turn = (seed / turns).checked_rem(series.plans.len() as u64)?;
        let plan = swarm(series.plans.get(turn as usize)?.clone(), seed);
        Some((series.name, self.under_limits(plan, seed)))
    }

    /// What is drawn from the seed where a plan leaves it open is drawn here where some of it must not be.
    fn under_limits(&self, plan: Plan, seed: u64) -> Plan {
        let Some(faults) = &self.limits else { return plan };
        if plan.climate.is_some() {
            return plan;
        }
        let mut climate = Climate::drawn(&plan.troubles, &mut Rng::split(seed, "climate", 0));
        climate.weather = milder(climate.weather, faults);
        Plan { climate: Some(climate), ..plan }
    }

    /// Seeds that belong to a series.
    #[must_use]
    pub fn seeds_of(&self, series: &str, seeds: &Seeds) -> Seeds {
        let belongs = |seed: &u64| self.plan(*seed).is_some_and(|(name, _)| name == series);
        let seeds: Vec<u64> = seeds.all().iter().copied().filter(belongs).collect();
        Seeds::these(&seeds)
    }

    /// After so many seeds in a row every plan has had its turn.
    #[must_use]
    pub fn round(&self) -> u64 {
        let longest = self.series.iter().map(|series| series.plans.len()).max().unwrap_or_default();
        (self.series.len() * longest) as u64
    }

    /// Everything that may go wrong in these plans.
    #[must_use]
    pub fn faults(&self) -> BTreeSet<Fault> {
        let plans = self.series.iter().flat_map(|series| &series.plans);
        let all: BTreeSet<Fault> = plans.flat_map(of_plan).collect();
        match &self.limits {
            None => all,
            Some(faults) => all.intersection(faults).copied().collect(),
        }
    }
}

/// In one run of four, other people than the plan says fight over other numbers of keys: few and many sessions, one key and
/// a dozen, learners that outnumber clients. A run's faults do not hang on that, and stay as they are.
fn swarm(plan: Plan, seed: u64) -> Plan {
    let mut rng = Rng::split(seed, "people", 0);
    if rng.below(4) > 0 {
        return plan;
    }
    let clients = rng.between(1, 6) as u16;
    let learners = rng.between(1, 4) as u16;
    let keys = *rng.pick(&[1, 2, 5, 12]);
    Plan { clients, learners, keys, ..plan }
}

/// Everything that may go wrong in a plan.
fn of_plan(plan: &Plan) -> BTreeSet<Fault> {
    let liars = plan.liars.iter().copied().map(Fault::Liar);
    let clients = plan.lying_clients.iter().map(|_| Fault::LyingClient);
    let mut faults: BTreeSet<Fault> = liars.chain(clients).collect();
    match &plan.climate {
        Some(climate) => {
            faults.extend(climate.troubles.iter().map(|(trouble, _)| Fault::Trouble(*trouble)));
            let has =
                |fault: &Fault| matches!(fault, Fault::Weather(one) if one.is_in(&climate.weather));
            faults.extend(Fault::weather().filter(has));
        }
        None => {
            faults.extend(plan.troubles.iter().copied().map(Fault::Trouble));
            faults.extend(Fault::weather());
        }
    }
    faults
}

fn limited(mut plan: Plan, faults: &BTreeSet<Fault>) -> Plan {
    plan.liars.retain(|liar| faults.contains(&Fault::Liar(*liar)));
    plan.lying_clients.retain(|_| faults.contains(&Fault::LyingClient));
    plan.troubles.retain(|trouble| faults.contains(&Fault::Trouble(*trouble)));
    if let Some(climate) = &mut plan.climate {
        climate.troubles.retain(|(trouble, _)| faults.contains(&Fault::Trouble(*trouble)));
        climate.weather = milder(climate.weather, faults);
    }
    plan
}

/// The same weather without what is not among the faults.
fn milder(mut weather: Weather, faults: &BTreeSet<Fault>) -> Weather {
    for fault in Fault::weather().filter(|fault| !faults.contains(fault)) {
        if let Fault::Weather(element) = fault {
            element.calm(&mut weather);
        }
    }
    weather
}
