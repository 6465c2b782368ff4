//! Whether runs met what they were for.
//!
//! A run in which nothing went wrong proves nothing, and a fault that never bites may as well not be there. Each fault
//! is counted when it bites, and what it leads to is counted where it happens. A [`Coverage`] puts the counts beside
//! what was asked for.

use crate::faults::{Fault, Group};
use std::collections::{BTreeMap, BTreeSet};

/// As many runs as it takes before a fault that never bit is a failure.
pub const ENOUGH: u64 = 1_000;

/// What happened in runs, held against what was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coverage {
    /// How often each fault bit that was asked for, by group, in the order of names.
    pub faults: BTreeMap<Group, Vec<(String, u64)>>,
    /// What it led to, and how often; last, what liars were convicted of.
    pub effects: Vec<(String, u64)>,
    /// What had to happen and never did, by name.
    pub missing: Vec<String>,
}

/// What runs must lead to when everything may go wrong that the standard plans know of.
pub const EFFECTS: [&str; 36] = [
    "view changes",
    "states transferred",
    "retries deduplicated",
    "crashes",
    "writes lost in crashes",
    "words lost in crashes",
    "messages to the dead",
    "messages cut off",
    "messages refused",
    "trouble: slow links",
    "trouble: crystal drift",
    "torn tails",
    "losses found at starts",
    "losses found by a scrub",
    "places mended on disks",
    "nodes that their disks stopped",
    "states found wrong",
    "states compared",
    "tables counted",
    "epochs begun",
    "snapshots",
    "upstreams chosen",
    "states asked for by learners",
    "copies compared",
    "leases expired",
    "leases kept alive",
    "compactions",
    "gateways that came back",
    "watch fragments",
    "watch progress notices",
    "watches that were compacted away",
    "answers held against their revisions",
    "runs with real signatures",
    "lies told",
    "lies convicted",
    "convicted of equivocation",
];

/// Which of these there are only where somebody lies.
const OF_LIARS: [&str; 3] = ["lies told", "lies convicted", "convicted of equivocation"];

/// What runs beyond what is survived must lead to: rules that were broken, and somebody who noticed.
pub const NOTICED: [&str; 4] =
    ["lies convicted", "alarms raised", "broken: agreement", "broken: liveness"];

/// What runs owe beside the faults that were asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing, as faults were left out.
    Faults,
    /// What all faults together lead to.
    Effects,
    /// That something broke, and that it was noticed.
    Notice,
}

/// How counts begin that say what liars were convicted of.
const CONVICTED: &str = "convicted of ";

impl Coverage {
    /// Holds counts against the faults that were asked for. What they lead to is due when nothing was left out.
    #[must_use]
    pub fn of(counts: &BTreeMap<String, u64>, asked: &BTreeSet<Fault>, due: Due) -> Self {
        let count = |name: &str| counts.get(name).copied().unwrap_or_default();
        let mut faults: BTreeMap<Group, Vec<(String, u64)>> = BTreeMap::new();
        let mut missing = Vec::new();
        for fault in asked {
            let bites = count(&fault.count());
            faults.entry(fault.group()).or_default().push((fault.name(), bites));
            if bites == 0 {
                missing.push(fault.name());
            }
        }
        faults.values_mut().for_each(|group| group.sort());
        let effects = EFFECTS.into_iter().map(|effect| (effect.to_owned(), count(effect)));
        let mut effects: Vec<(String, u64)> = effects.collect();
        let has_liars = asked.iter().any(|fault| fault.group() == Group::Liars);
        let is_due = |name: &str| due == Due::Effects && (has_liars || !OF_LIARS.contains(&name));
        let absent = effects.iter().filter(|(name, count)| *count == 0 && is_due(name));
        missing.extend(absent.map(|(effect, _)| effect.clone()));
        let unnoticed = NOTICED.into_iter().filter(|name| due == Due::Notice && count(name) == 0);
        missing.extend(unnoticed.map(str::to_owned));
        let is_new = |name: &str| name.starts_with(CONVICTED) && !EFFECTS.contains(&name);
        let offences = counts.iter().filter(|(name, _)| is_new(name));
        effects.extend(offences.map(|(offence, count)| (offence.clone(), *count)));
        Self { faults, effects, missing }
    }
}
