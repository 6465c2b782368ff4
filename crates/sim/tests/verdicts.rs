//! What a run shows of the system in it, by what was broken and who noticed.

use std::collections::BTreeMap;
use std::time::Duration;
use testudo_core::{ReplicaId, Slot};
use testudo_sim::oracle::{Alarm, Alarms, Cast, Jury, Violation};
use testudo_sim::report::{REPEATABLE, WORD_OF_LIARS};
use testudo_sim::{Event, Fact, NodeId, Observer, Report, Summary, Verdict};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A run in which more was wrong than is promised to be survived, and these rules were broken after ten seconds.
fn beyond(rules: &[&'static str]) -> Report {
    let broken = |oracle: &&'static str| Violation { oracle, at: at(10), what: String::new() };
    let violations = rules.iter().map(broken).collect();
    Report { violations, exceeds: true, f: 1, ..Report::default() }
}

fn lied(liars: usize, report: Report) -> Report {
    Report { liars, ..report }
}

/// These replicas were convicted.
fn convicted(ids: &[u16], report: Report) -> Report {
    let convicted = ids.iter().copied().map(ReplicaId).collect();
    Report { convicted, evidence: ids.len() as u64, ..report }
}

/// Somebody found its state wrong.
fn alarmed(seconds: u64, slot: u64, report: Report) -> Report {
    Report { alarms: vec![Alarm { at: at(seconds), slot: Slot(slot) }], ..report }
}

#[test]
fn within_what_is_promised_every_broken_rule_is_a_failure() {
    for rule in ["agreement", "liveness", "leases"] {
        let report = convicted(&[0, 1], lied(2, beyond(&[rule])));
        let report = Report { exceeds: false, ..report };
        assert_eq!(report.verdict(), Verdict::Failed, "{rule}");
    }
    assert_eq!(Report::default().verdict(), Verdict::Clean);
}

#[test]
fn beyond_it_what_breaks_must_be_noticed() {
    assert_eq!(beyond(&[]).verdict(), Verdict::Clean);
    assert_eq!(beyond(&["liveness", "recovery", "bounded memory"]).verdict(), Verdict::Stopped);
    assert_eq!(beyond(&["agreement"]).verdict(), Verdict::Failed);
    let alarm = |seconds| alarmed(seconds, 8, beyond(&["equal states"]));
    assert_eq!(alarm(9).verdict(), Verdict::Failed, "that alarm was about something else");
    assert_eq!(alarm(10).verdict(), Verdict::Noticed);
}

/// That no more than f liars are known is what the system is there for: it tells nobody that something is broken.
#[test]
fn evidence_counts_when_it_convicts_more_than_are_survived() {
    let broken = || lied(2, beyond(&["agreement", "liveness"]));
    assert_eq!(convicted(&[0], broken()).verdict(), Verdict::Failed);
    assert_eq!(convicted(&[0, 3], broken()).verdict(), Verdict::Noticed);
    let often = Report { evidence: 9, ..convicted(&[0], broken()) };
    assert_eq!(often.verdict(), Verdict::Failed, "one liar is one, however often it is convicted");
}

#[test]
fn an_alarm_is_about_what_comes_before_it() {
    let broken = || Report { places: [("agreement", Slot(9))].into(), ..beyond(&["agreement"]) };
    assert_eq!(alarmed(20, 8, broken()).verdict(), Verdict::Failed, "of an earlier slot");
    assert_eq!(alarmed(20, 16, broken()).verdict(), Verdict::Noticed);
}

#[test]
fn alarms_that_later_ones_cover_are_forgotten() {
    let mut cast = Cast::default();
    for id in 0..4 {
        cast.add(ReplicaId(id).into(), id != 3, id.to_string());
    }
    let mut alarms = Alarms::new(cast);
    let told = |node, slot| Event::Told(NodeId(node), Fact::Wrong(Slot(slot)));
    for (seconds, node, slot) in [(1, 0, 24), (2, 1, 8), (3, 3, 99), (4, 2, 16)] {
        alarms.observe(at(seconds), &told(node, slot));
    }
    let standing =
        [(1, 24), (4, 16)].map(|(seconds, slot)| Alarm { at: at(seconds), slot: Slot(slot) });
    assert_eq!((alarms.raised, alarms.standing()), (3, &standing[..]), "a liar's word is none");
    alarms.observe(at(5), &told(0, 24));
    assert_eq!(alarms.standing(), [Alarm { at: at(5), slot: Slot(24) }]);
}

#[test]
fn what_liars_tell_clients_is_excused_where_there_are_too_many_and_nothing_else() {
    for rule in WORD_OF_LIARS {
        assert_eq!(
            beyond(&[rule]).verdict(),
            Verdict::Failed,
            "nobody lied, and {rule} was broken"
        );
        let one = convicted(&[0], lied(1, beyond(&[rule])));
        assert_eq!(one.verdict(), Verdict::Failed, "f replicas cannot break {rule} by a word");
        assert_eq!(lied(2, beyond(&[rule, "liveness"])).verdict(), Verdict::Misled, "{rule}");
    }
    let more = lied(2, beyond(&["linearizability", "agreement"]));
    assert_eq!(more.verdict(), Verdict::Failed);
}

/// What is broken at every look must not hide what is broken once.
#[test]
fn no_rule_hides_another() {
    let mut jury = Jury::new(Cast::default());
    let mut violate = |oracle, times: u64| {
        let broken = |second| Violation { oracle, at: at(second), what: format!("at {second}") };
        (0..times).for_each(|second| jury.violate(broken(second)));
    };
    violate("bounded memory", 8);
    violate("equal states", 1_000);
    violate("no panic", 1);
    let found: Vec<(&str, Duration)> =
        jury.violations().iter().map(|broken| (broken.oracle, broken.at)).collect();
    assert_eq!(found, [("bounded memory", at(0)), ("equal states", at(0)), ("no panic", at(0))]);
    assert_eq!(jury.times()["equal states"], 1_000);
    let violations = jury.violations().to_vec();
    let report = Report { violations, ..convicted(&[0, 1], lied(2, beyond(&[]))) };
    assert_eq!(report.verdict(), Verdict::Failed);
}

/// The slot is that of the first breach, whatever is broken later.
#[test]
fn a_jury_says_where_a_rule_was_broken() {
    let mut cast = Cast::default();
    (0..2).for_each(|id| cast.add(ReplicaId(id).into(), true, id.to_string()));
    let mut jury = Jury::new(cast);
    for (slot, node, batch) in [(1, 0, "a"), (1, 1, "b"), (2, 0, "a"), (2, 1, "b")] {
        let batch = testudo_core::Digest::of(batch.as_bytes());
        let fact = Fact::Executed { slot: Slot(slot), batch, is_final: true };
        jury.observe(at(slot), &Event::Told(NodeId(node), fact));
    }
    assert_eq!(jury.places().get("agreement"), Some(&Slot(1)));
    assert_eq!(jury.times().get("agreement"), Some(&2));
}

#[test]
fn some_rules_hold_whatever_happens() {
    let own = ["keeping", "validity", "total order", "views"];
    for rule in ["justice", "honesty", "no panic", REPEATABLE].into_iter().chain(own) {
        let report = alarmed(20, 99, convicted(&[0, 1], lied(2, beyond(&[rule]))));
        assert_eq!(report.verdict(), Verdict::Failed, "{rule}");
    }
}

#[test]
fn sums_keep_what_failed() {
    let mut summary = Summary::default();
    summary.add(beyond(&["liveness"]));
    summary.add(convicted(&[0, 1], lied(2, beyond(&["agreement"]))));
    summary.assert_clean();
    summary.add(beyond(&["agreement"]));
    assert_eq!(summary.failures.len(), 1);
    let verdicts = [Verdict::Stopped, Verdict::Noticed, Verdict::Failed].map(|one| (one, 1));
    assert_eq!(summary.verdicts, BTreeMap::from(verdicts));
}
