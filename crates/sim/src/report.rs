//! What a run, and many runs, came to.

use crate::oracle::Violation;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use testudo_core::ProtocolId;

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
    /// How many replicas lied.
    pub liars: usize,
    /// How often correct nodes handed over evidence that convicts a liar.
    pub evidence: u64,
    /// When a correct node last found its own state wrong, or stopped as no state can be agreed upon.
    pub alarmed: Option<Duration>,
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
    /// must have said so: by evidence against a liar, whenever it was found, or by an alarm that is not older. Some rules hold whoever lies and whatever breaks
    /// ([`ALWAYS`]), and some cannot hold when f+1 replicas lie, nor can anybody notice ([`WORD_OF_LIARS`]).
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let broken = |rules: &[&str]| {
            self.violations.iter().any(|violation| rules.contains(&violation.oracle))
        };
        if self.is_clean() {
            return Verdict::Clean;
        }
        if !self.exceeds || broken(&ALWAYS) {
            return Verdict::Failed;
        }
        let worst = self.violations.iter().map(|broken| match broken.oracle {
            rule if NO_HARM.contains(&rule) => Verdict::Stopped,
            _ if self.evidence > 0 || self.alarmed >= Some(broken.at) => Verdict::Noticed,
            rule if self.liars > 0 && WORD_OF_LIARS.contains(&rule) => Verdict::Misled,
            _ => Verdict::Failed,
        });
        worst.max().unwrap_or(Verdict::Clean)
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

/// Rules that hold however many lie and whatever breaks: nobody who is honest is convicted, refused or made to panic, and
/// a seed is one run.
pub const ALWAYS: [&str; 4] = ["justice", "honesty", "no panic", REPEATABLE];

/// The rule that a seed is one run, whenever it is run.
pub const REPEATABLE: &str = "one seed, one run";

/// Rules that say that something happens at all, and what it costs: nothing wrong is decided where they are broken.
pub const NO_HARM: [&str; 4] = ["liveness", "recovery", "bounded memory", "bounded log"];

/// Rules about what clients and learners are told. They believe f+1 replicas; when these lie, they are told lies that
/// leave no trace at those who are honest.
pub const WORD_OF_LIARS: [&str; 7] =
    ["linearizability", "ledger", "clients", "watches", "leases", "learners", "copies"];

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
