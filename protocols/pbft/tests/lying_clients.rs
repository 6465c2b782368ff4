//! Clients that lie: whatever they sign, and to whomever they say it, everybody else is served and all replicas agree.

use std::time::Duration;
use testudo_pbft::Pbft;
use testudo_sim::conformance::{Seeds, conform};
use testudo_sim::fraud::{LIES_OF_CLIENTS, Trick};
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::{Misconduct, Plan, Summary, replay};

type Cluster = Replicated<Pbft, Lore>;

fn plan(tricks: &[Option<Trick>]) -> Plan {
    Plan {
        lying_clients: tricks.to_vec(),
        operations: 60,
        clients: 2,
        learners: 1,
        storm: Duration::from_secs(6),
        ..Plan::default()
    }
}

fn run(plan: Plan, seeds: u64) -> Summary {
    let summary = conform(Cluster::default, &Seeds::for_tests(seeds), &[plan]);
    summary.assert_clean();
    summary
}

#[test]
fn one_that_lies_in_one_way_harms_nobody() {
    for trick in Trick::ALL {
        let summary = run(plan(&[Some(trick)]), 2);
        let name = format!("lies: {}", trick.name());
        assert!(summary.count(&name) > 0, "{name} were never told\n{summary}");
        assert_eq!(summary.count(&name), summary.count(LIES_OF_CLIENTS), "and no others");
    }
}

#[test]
fn two_that_lie_in_all_ways_harm_nobody() {
    let summary = run(plan(&[None, None]).beyond(), 4);
    for trick in Trick::ALL {
        let name = format!("lies: {}", trick.name());
        assert!(summary.count(&name) > 0, "{name} were never told\n{summary}");
    }
}

/// A replica of the same mind may be the primary, and knows whatever the client says to it alone.
#[test]
fn one_beside_a_replica_that_lies_harms_nobody() {
    for liar in [Misconduct::Replay, Misconduct::Selective, Misconduct::Corrupt] {
        let summary = run(plan(&[None]).with_liar(liar), 2);
        assert!(summary.count(LIES_OF_CLIENTS) > 0, "{summary}");
    }
}

/// What they said is taken down with all else, and says the same when it is done again.
#[test]
fn a_run_with_one_is_one_run() {
    let run = replay::record(Cluster::default, 5, &plan(&[None]));
    let again = replay::replay(Cluster::default, &run);
    assert!(run.report.is_clean(), "{}", run.report);
    assert_eq!(run.report.audit, again.audit);
    assert!(again.count(LIES_OF_CLIENTS) > 0);
}

#[test]
fn where_no_client_lies_none_is_counted() {
    assert_eq!(run(plan(&[]), 1).count(LIES_OF_CLIENTS), 0);
}
