//! What a run, and many runs, came to.

use crate::oracle::{Alarm, Violation};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;
use testudo_core::{ProtocolId, ReplicaId, Slot};

/// What one seed came to.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// In a word, who lied.
    pub title: String,
    /// The hash over all events: the same for the same seed and code.
    pub audit: String,
    /// Steps of automata.
    pub steps: u64,
    /// Virtual time that passed.
    pub time: Duration,
    /// Operations that were answered.
    pub answered: usize,
    /// How often everything happened that is counted.
    pub counts: BTreeMap<String, u64>,
    /// Rules that were broken.
    pub violations: Vec<Violation>,
    /// Whether more was wrong than is promised to be survived.
    pub exceeds: bool,
    /// How many faulty replicas are promised to be survived.
    pub f: u16,
    /// How many replicas lied.
    pub liars: usize,
    /// How often correct nodes handed over evidence that convicts a liar.
    pub evidence: u64,
    /// Whom that convicts.
    pub convicted: BTreeSet<ReplicaId>,
    /// When correct nodes found their own state wrong, or stopped as no state can be agreed upon: the alarms that no
    /// later one covers.
    pub alarms: Vec<Alarm>,
    /// In which slot each rule was broken first, where that can be told.
    pub places: BTreeMap<&'static str, Slot>,
    /// The last events before the end, where a rule was broken.
    pub trace: Vec<String>,
}

impl Report {
    /// Whether no rule was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// A count by name; none of it is zero of it.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// What the run shows of the system.
    ///
    /// Where no more was wrong than is promised to be survived, every broken rule is a failure. Where more was, only
    /// what nobody noticed is: a system that merely stands still breaks no promise, and one whose rules were broken
    /// must have said so. Some rules hold whoever lies and whatever breaks ([`ALWAYS`]), and some cannot hold when more
    /// than f replicas lie, nor can anybody notice ([`WORD_OF_LIARS`]).
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let worst = self.violations.iter().map(|broken| self.weigh(broken));
        worst.max().unwrap_or(Verdict::Clean)
    }

    /// What one broken rule shows.
    fn weigh(&self, broken: &Violation) -> Verdict {
        match broken.oracle {
            rule if !self.exceeds || ALWAYS.contains(&rule) => Verdict::Failed,
            rule if NO_HARM.contains(&rule) => Verdict::Stopped,
            _ if self.is_noticed(broken) => Verdict::Noticed,
            rule if self.has_too_many_liars() && WORD_OF_LIARS.contains(&rule) => Verdict::Misled,
            _ => Verdict::Failed,
        }
    }

    /// Whether more replicas lied than are promised to be survived.
    fn has_too_many_liars(&self) -> bool {
        self.liars > usize::from(self.f)
    }

    /// Whether correct nodes know that this may have happened.
    ///
    /// Evidence says so when it convicts more than f replicas, whenever it was found: that few are convicted tells nobody
    /// that anything was broken, as it is what the system is there for. An alarm says so that is not older than the
    /// breach, nor about an earlier slot.
    fn is_noticed(&self, broken: &Violation) -> bool {
        let place = self.places.get(broken.oracle).copied().unwrap_or_default();
        let tells = |alarm: &Alarm| alarm.at >= broken.at && alarm.slot >= place;
        self.convicted.len() > usize::from(self.f) || self.alarms.iter().any(tells)
    }
}

/// What a run shows of the system in it, from the best to the worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// No rule was broken.
    Clean,
    /// More was wrong than is promised to be survived, and the system stood still, or kept more than it should.
    Stopped,
    /// More was wrong than is promised to be survived, a rule of safety was broken, and somebody noticed.
    Noticed,
    /// More replicas lied than is promised to be survived, and clients were told what liars say.
    Misled,
    /// A rule was broken that had to hold, or in silence.
    Failed,
}

/// Rules that hold however many lie and whatever breaks. Nobody who is honest is convicted, refused or made to panic, and a
/// seed is one run. A log gives back what it was given. And whoever is honest follows its own steps, whatever it is told:
/// it executes what clients have signed, slot after slot, and never goes back to a view that it has left.
pub const ALWAYS: [&str; 8] =
    ["justice", "honesty", "no panic", REPEATABLE, "keeping", "validity", "total order", "views"];

/// The rule that a seed is one run, whenever it is run.
pub const REPEATABLE: &str = "one seed, one run";

/// Rules that say that something happens at all, and what it costs: nothing wrong is decided where they are broken.
pub const NO_HARM: [&str; 4] = ["liveness", "recovery", "bounded memory", "bounded log"];

/// Rules about what clients and learners are told. They believe f+1 replicas; when these lie, they are told lies that
/// leave no trace at those who are honest.
pub const WORD_OF_LIARS: [&str; 9] = [
    "linearizability",
    "revisions",
    "effects",
    "ledger",
    "clients",
    "watches",
    "leases",
    "learners",
    "copies",
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, title, audit, steps, time, answered, .. } = self;
        writeln!(
            f,
            "seed {seed} ({title}): {answered} answered, {steps} steps, {time:.1?}, {audit}"
        )?;
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        for violation in &self.violations {
            writeln!(f, "  VIOLATED {violation}")?;
        }
        Ok(())
    }
}

/// The name of the count of how often a rule was broken.
#[must_use]
pub fn broken(rule: &str) -> String {
    format!("broken: {rule}")
}

/// The name of the count of what liars said instead of a kind of message of a protocol.
#[must_use]
pub fn twisted(protocol: ProtocolId, kind: &str) -> String {
    format!("twisted: {kind} of protocol {}", protocol.0)
}

/// What many seeds came to.
#[derive(Clone, Default, Debug)]
pub struct Summary {
    /// Runs per title.
    pub runs: BTreeMap<String, u64>,
    /// Sums of all counts.
    pub counts: BTreeMap<String, u64>,
    /// Operations answered.
    pub answered: u64,
    /// Operations answered in the run that answered fewest; none before the first run.
    pub fewest: Option<usize>,
    /// Steps of automata.
    pub steps: u64,
    /// Virtual time.
    pub time: Duration,
    /// How many runs came to what.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// The reports of runs that broke a rule which had to hold.
    pub failures: Vec<Report>,
    /// The seeds, in the order of running.
    pub seeds: Vec<u64>,
}

impl Summary {
    /// Adds one run.
    pub fn add(&mut self, report: Report) {
        *self.runs.entry(report.title.clone()).or_default() += 1;
        for (name, count) in &report.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
        self.answered += report.answered as u64;
        let fewest = self.fewest.map_or(report.answered, |fewest| fewest.min(report.answered));
        self.fewest = Some(fewest);
        self.steps += report.steps;
        self.time += report.time;
        self.seeds.push(report.seed);
        *self.verdicts.entry(report.verdict()).or_default() += 1;
        if report.verdict() == Verdict::Failed {
            self.failures.push(report);
        }
    }

    /// A count by name; none of it is zero of it.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// Panics with every failure, if there is one.
    pub fn assert_clean(&self) {
        let failures: String = self.failures.iter().map(ToString::to_string).collect();
        assert!(self.failures.is_empty(), "{self}\n{failures}");
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u64 = self.runs.values().sum();
        writeln!(f, "{total} runs, {} failed", self.failures.len())?;
        writeln!(f, "  {} operations answered, {} steps", self.answered, self.steps)?;
        writeln!(f, "  {:.0?} of virtual time", self.time)?;
        for (title, runs) in &self.runs {
            writeln!(f, "  {runs:>8} runs: {title}")?;
        }
        for (name, count) in &self.counts {
            writeln!(f, "  {count:>8} {name}")?;
        }
        let seeds: Vec<String> = self.seeds.iter().map(ToString::to_string).collect();
        writeln!(f, "  seeds {}", seeds.join(" "))
    }
}
