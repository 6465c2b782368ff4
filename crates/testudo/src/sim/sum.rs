//! What runs came to.

use super::flags::{Shard, Span, rota, to_repeat};
use crate::failure::{Failure, Outcome, plain};
use crate::{protocols, words};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use testudo_core::Digest;
use testudo_lab::{Coverage, Due, coverage::ENOUGH, faults};
use testudo_sim::oracle::Violation;
use testudo_sim::shrink::culprit;
use testudo_sim::{Report, Verdict};

/// As many failures as are told in full.
const TOLD: usize = 50;

/// What was asked for, by which program. Only sums that agree in all of this can be joined.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    /// The program's version.
    pub(crate) version: String,
    /// The digest of the program's file: another program may have other runs for the same seeds.
    pub(crate) build: String,
    /// The protocol.
    pub(crate) protocol: String,
    /// What may go wrong: `all`, or names with commas between.
    pub(crate) faults: String,
    /// Whether more may go wrong than is promised to be survived.
    pub(crate) beyond: bool,
    /// Whether every seed was run twice.
    pub(crate) twice: bool,
}

/// A rule that was broken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Broken {
    /// Its name.
    pub(crate) rule: String,
    /// When, in virtual milliseconds.
    pub(crate) at_milliseconds: u64,
    /// How.
    pub(crate) what: String,
}

/// A run that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// Its seed.
    pub(crate) seed: u64,
    /// Who lied, in a word.
    pub(crate) title: String,
    /// The hash over all that happened.
    pub(crate) audit: String,
    /// The rules that were broken, the first first.
    pub(crate) broken: Vec<Broken>,
}

/// What runs came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Sum {
    /// What was asked for.
    #[serde(flatten)]
    pub(crate) question: Question,
    /// The seeds that were asked for, before they were divided; none where time ended it.
    pub(crate) seeds: Option<Span>,
    /// Which part of them this is; none for all.
    pub(crate) shard: Option<Shard>,
    /// The seeds that were run.
    pub(crate) done: Vec<Span>,
    /// Whether somebody ended it before its time.
    pub(crate) interrupted: bool,
    /// How many runs.
    pub(crate) runs: u64,
    /// Steps of automata.
    pub(crate) steps: u64,
    /// Virtual time.
    pub(crate) simulated_milliseconds: u64,
    /// Operations that were answered.
    pub(crate) answered: u64,
    /// The sum of all runs' hashes: equal sums, equal runs.
    pub(crate) audit: String,
    /// How many runs came to what.
    pub(crate) verdicts: BTreeMap<String, u64>,
    /// How many runs had which liars in which cluster.
    pub(crate) titles: BTreeMap<String, u64>,
    /// How often each thing happened.
    pub(crate) counts: BTreeMap<String, u64>,
    /// How many runs failed.
    pub(crate) failed: u64,
    /// Those of the lowest seeds.
    pub(crate) failures: Vec<Failed>,
    /// How long it took; of several parts, the longest.
    pub(crate) wall_milliseconds: u64,
    /// How many ran at a time.
    pub(crate) jobs: u64,
}

impl Sum {
    /// Nothing yet.
    pub(super) fn new(question: Question) -> Self {
        Self {
            question,
            seeds: None,
            shard: None,
            done: Vec::new(),
            interrupted: false,
            runs: 0,
            steps: 0,
            simulated_milliseconds: 0,
            answered: 0,
            audit: hex(0),
            verdicts: BTreeMap::new(),
            titles: BTreeMap::new(),
            counts: BTreeMap::new(),
            failed: 0,
            failures: Vec::new(),
            wall_milliseconds: 0,
            jobs: 0,
        }
    }

    /// Adds a run.
    pub(super) fn add(&mut self, report: &Report) {
        let verdict = report.verdict();
        self.runs += 1;
        self.steps += report.steps;
        self.simulated_milliseconds += milliseconds(report.time);
        self.answered += report.answered as u64;
        self.audit = hex(number(&self.audit).wrapping_add(hash(report)));
        *self.verdicts.entry(name(verdict).into()).or_default() += 1;
        *self.titles.entry(report.title.clone()).or_default() += 1;
        for (name, count) in &report.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
        self.done.push(Span { from: report.seed, to: report.seed.saturating_add(1) });
        self.done = joined(std::mem::take(&mut self.done));
        if verdict == Verdict::Failed {
            self.fail(Failed::of(report));
        }
    }

    /// Adds a failure.
    fn fail(&mut self, failure: Failed) {
        self.failed += 1;
        self.failures.push(failure);
        self.failures.sort_by_key(|failed| failed.seed);
        self.failures.truncate(TOLD);
    }

    /// Adds what other runs came to that are no part of this.
    pub(super) fn join(&mut self, other: &Self) {
        let add = |to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>| {
            for (name, count) in from {
                *to.entry(name.clone()).or_default() += count;
            }
        };
        self.interrupted |= other.interrupted;
        self.runs += other.runs;
        self.steps += other.steps;
        self.simulated_milliseconds += other.simulated_milliseconds;
        self.answered += other.answered;
        self.audit = hex(number(&self.audit).wrapping_add(number(&other.audit)));
        add(&mut self.verdicts, &other.verdicts);
        add(&mut self.titles, &other.titles);
        add(&mut self.counts, &other.counts);
        self.done.extend(&other.done);
        self.done = joined(std::mem::take(&mut self.done));
        self.failed += other.failed;
        self.failures.extend(other.failures.iter().cloned());
        self.failures.sort_by_key(|failed| failed.seed);
        self.failures.truncate(TOLD);
        self.wall_milliseconds = self.wall_milliseconds.max(other.wall_milliseconds);
        self.jobs += other.jobs;
    }

    /// Whether these are runs enough, and all of them, to say that a fault which never bit should have.
    pub(super) fn is_enough(&self) -> bool {
        self.runs >= ENOUGH && self.shard.is_none()
    }

    /// The counts beside what was asked for.
    pub(super) fn coverage(&self) -> Outcome<Coverage> {
        let subject = protocols::subject(&self.question.protocol)?;
        let all = rota(&*subject, self.question.beyond).faults();
        let asked = faults::read(&self.question.faults, &all)
            .map_err(|name| Failure::refused(format!("there is no fault `{name}`")))?;
        let due = match (asked == all, self.question.beyond) {
            (false, _) => Due::Faults,
            (true, false) => Due::Effects,
            (true, true) => Due::Notice,
        };
        Ok(Coverage::of(&self.counts, &asked, due))
    }

    /// What is wrong with these runs, in a sentence; none if nothing is.
    pub(super) fn complaint(&self, coverage: &Coverage) -> Option<String> {
        if let Some(Failed { seed, broken, .. }) = self.failures.first() {
            let what = broken.first().map(|broken| format!("{}: {}", broken.rule, broken.what));
            let what = what.unwrap_or_default();
            let repeat = self.to_repeat(*seed);
            let (failed, runs) = (self.failed, self.runs);
            return Some(format!(
                "{failed} of {runs} runs failed; seed {seed} broke {what}; `testudo sim {repeat}` repeats it"
            ));
        }
        let missing: Vec<&str> = coverage.missing.iter().map(String::as_str).collect();
        (self.is_enough() && !missing.is_empty()).then(|| {
            let (runs, missing) = (self.runs, words::list(&missing));
            format!(
                "in {runs} runs these never happened, so nothing is proven about them: {missing}"
            )
        })
    }

    /// The flags that repeat one of these runs, after `testudo sim`.
    pub(super) fn to_repeat(&self, seed: u64) -> String {
        let Question { protocol, faults, beyond, .. } = &self.question;
        to_repeat(protocol, faults, *beyond, seed)
    }

    /// The sum as one JSON object, which [`super::merge`] reads again.
    pub(super) fn json(&self, coverage: &Coverage) -> Value {
        let faults: BTreeMap<&str, BTreeMap<&str, u64>> = coverage
            .faults
            .iter()
            .map(|(group, faults)| {
                let faults = faults.iter().map(|(name, count)| (name.as_str(), *count));
                (group.name(), faults.collect())
            })
            .collect();
        let effects: BTreeMap<&str, u64> =
            coverage.effects.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        let mut value = json!(self);
        value["coverage"] = json!({
            "faults": faults,
            "effects": effects,
            "missing": coverage.missing,
            "judged": self.is_enough(),
        });
        value
    }
}

impl Failed {
    fn of(report: &Report) -> Self {
        // First the rule by which it failed: where more was wrong than is survived, others need not hold.
        let first = culprit(report).map(|broken| broken.oracle);
        let mut violations: Vec<&Violation> = report.violations.iter().collect();
        violations.sort_by_key(|broken| Some(broken.oracle) != first);
        let broken = violations.into_iter().map(|broken| Broken {
            rule: broken.oracle.to_owned(),
            at_milliseconds: milliseconds(broken.at),
            what: broken.what.clone(),
        });
        Self {
            seed: report.seed,
            title: report.title.clone(),
            audit: report.audit.clone(),
            broken: broken.collect(),
        }
    }
}

/// What runs come to, in a word.
pub(super) const fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clean => "clean",
        Verdict::Stopped => "stopped",
        Verdict::Noticed => "noticed",
        Verdict::Misled => "misled",
        Verdict::Failed => "failed",
    }
}

/// This program: its version and its file.
pub(super) fn build() -> Outcome<String> {
    let fail = |error: std::io::Error| {
        Failure::failed(format!("cannot read this program's own file: {}", plain(&error)))
    };
    let path = std::env::current_exe().map_err(fail)?;
    let bytes = std::fs::read(path).map_err(fail)?;
    Ok(words::hex(&Digest::of(&bytes).0[..8]))
}

/// Stretches of numbers in order, as few as possible.
pub(super) fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if last.to >= span.from => last.to = last.to.max(span.to),
            _ => joined.push(span),
        }
    }
    joined
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A run in a number: its seed and its hash.
fn hash(report: &Report) -> u128 {
    let digest = Digest::of_parts(&[&report.seed.to_le_bytes(), report.audit.as_bytes()]);
    digest.0.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

fn hex(number: u128) -> String {
    format!("{number:032x}")
}

/// What is no number counts as none; a report that was written by hand has no claim to more.
fn number(hex: &str) -> u128 {
    u128::from_str_radix(hex, 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn question() -> Question {
        Question {
            version: "1".into(),
            build: "b".into(),
            protocol: "pbft".into(),
            faults: "all".into(),
            beyond: false,
            twice: false,
        }
    }

    fn report(seed: u64) -> Report {
        let counts = BTreeMap::from([("crashes".to_owned(), seed)]);
        Report { seed, audit: format!("{seed:x}"), steps: 3, counts, ..Report::default() }
    }

    #[test]
    fn the_order_of_runs_does_not_show() {
        let sum = |seeds: &[u64]| {
            let mut sum = Sum::new(question());
            seeds.iter().for_each(|seed| sum.add(&report(*seed)));
            sum
        };
        let whole = sum(&[0, 1, 2, 3, 4, 5]);
        assert_eq!(whole.done, [Span { from: 0, to: 6 }]);
        assert_eq!(sum(&[5, 0, 3, 1, 4, 2]), whole);
        let mut parts = sum(&[4, 5, 0]);
        assert_eq!(parts.done, [Span { from: 0, to: 1 }, Span { from: 4, to: 6 }]);
        parts.join(&sum(&[1, 3, 2]));
        assert_eq!(parts, whole);
        let mut other = sum(&[0, 1, 2, 3, 4]);
        let mut changed = report(5);
        changed.audit.push('x');
        other.add(&changed);
        assert_ne!(other.audit, whole.audit);
    }

    #[test]
    fn what_never_happened_is_a_complaint_in_many_runs_and_not_in_few() {
        let mut sum = Sum::new(question());
        sum.runs = ENOUGH - 1;
        let coverage = sum.coverage().unwrap();
        assert_eq!(sum.complaint(&coverage), None);
        sum.runs = ENOUGH;
        let complaint = sum.complaint(&coverage).unwrap();
        assert!(complaint.contains("view changes") && complaint.contains("twins"), "{complaint}");
        for group in coverage.faults.values() {
            for (name, _) in group {
                assert!(complaint.contains(name.as_str()), "{name}");
            }
        }
        sum.shard = Some(Shard { index: 0, of: 2 });
        assert_eq!(sum.complaint(&coverage), None, "a part proves nothing by itself");
    }

    #[test]
    fn a_broken_rule_is_a_complaint_that_says_how_to_see_it_again() {
        let what = "two batches in one slot".to_owned();
        let broken = Violation { oracle: "agreement", at: Duration::from_millis(7), what };
        let mut sum = Sum::new(Question { faults: "crash,loss".into(), ..question() });
        sum.add(&report(3));
        for seed in [9, 5] {
            sum.add(&Report { violations: vec![broken.clone()], ..report(seed) });
        }
        assert_eq!((sum.runs, sum.failed), (3, 2));
        let complaint = sum.complaint(&sum.coverage().unwrap()).unwrap();
        assert!(complaint.starts_with("2 of 3 runs failed; seed 5 broke agreement"), "{complaint}");
        let repeat = "`testudo sim --protocol pbft --replay 5 --faults crash,loss` repeats it";
        assert!(complaint.ends_with(repeat), "{complaint}");
        let text = sum.json(&sum.coverage().unwrap()).to_string();
        assert_eq!(serde_json::from_str::<Sum>(&text).unwrap(), sum, "it can be read again");
    }
}
