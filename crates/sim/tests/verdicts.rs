//! What a run shows of the system in it, by what was broken and who noticed.

use std::collections::BTreeMap;
use std::time::Duration;
use testudo_sim::oracle::Violation;
use testudo_sim::report::REPEATABLE;
use testudo_sim::{Report, Summary, Verdict};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A run in which more was wrong than is promised to be survived, and these rules were broken after ten seconds.
fn beyond(rules: &[&'static str]) -> Report {
    let broken = |oracle: &&'static str| Violation { oracle, at: at(10), what: String::new() };
    let violations = rules.iter().map(broken).collect();
    Report { violations, exceeds: true, ..Report::default() }
}

fn lied(report: Report) -> Report {
    Report { liars: 2, ..report }
}

#[test]
fn within_what_is_promised_every_broken_rule_is_a_failure() {
    for rule in ["agreement", "liveness", "leases"] {
        let report = Report { exceeds: false, evidence: 1, ..lied(beyond(&[rule])) };
        assert_eq!(report.verdict(), Verdict::Failed, "{rule}");
    }
    assert_eq!(Report::default().verdict(), Verdict::Clean);
}

#[test]
fn beyond_it_what_breaks_must_be_noticed() {
    assert_eq!(beyond(&[]).verdict(), Verdict::Clean);
    assert_eq!(beyond(&["liveness", "recovery", "bounded memory"]).verdict(), Verdict::Stopped);
    assert_eq!(beyond(&["agreement"]).verdict(), Verdict::Failed);
    let convicted = Report { evidence: 1, ..beyond(&["agreement", "liveness"]) };
    assert_eq!(convicted.verdict(), Verdict::Noticed);
    let alarm = |seconds| Report { alarmed: Some(at(seconds)), ..beyond(&["equal states"]) };
    assert_eq!(alarm(9).verdict(), Verdict::Failed, "that alarm was about something else");
    assert_eq!(alarm(10).verdict(), Verdict::Noticed);
}

#[test]
fn what_liars_tell_clients_is_excused_and_nothing_else() {
    assert_eq!(beyond(&["linearizability"]).verdict(), Verdict::Failed, "nobody lied");
    assert_eq!(lied(beyond(&["linearizability", "liveness"])).verdict(), Verdict::Misled);
    assert_eq!(lied(beyond(&["linearizability", "total order"])).verdict(), Verdict::Failed);
}

#[test]
fn some_rules_hold_whatever_happens() {
    for rule in ["justice", "honesty", "no panic", REPEATABLE] {
        let report = Report { evidence: 5, alarmed: Some(at(20)), ..lied(beyond(&[rule])) };
        assert_eq!(report.verdict(), Verdict::Failed, "{rule}");
    }
}

#[test]
fn sums_keep_what_failed() {
    let mut summary = Summary::default();
    summary.add(beyond(&["liveness"]));
    summary.add(Report { evidence: 1, ..beyond(&["agreement"]) });
    summary.assert_clean();
    summary.add(beyond(&["agreement"]));
    assert_eq!(summary.failures.len(), 1);
    let verdicts = [Verdict::Stopped, Verdict::Noticed, Verdict::Failed].map(|one| (one, 1));
    assert_eq!(summary.verdicts, BTreeMap::from(verdicts));
}
