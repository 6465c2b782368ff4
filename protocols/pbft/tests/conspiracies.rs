//! Liars that conspire, an adversary that picks deliveries, and whether every kind of message is really lied about.

use std::time::Duration;
use testudo_core::ProtocolId;
use testudo_pbft::Pbft;
use testudo_sim::conformance::{Seeds, conform, run_seed};
use testudo_sim::conspiracy::Scheme;
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::report::twisted;
use testudo_sim::weather::{Courier, Ploy};
use testudo_sim::{Climate, Harm, Misconduct, Plan, Report, Signatures, Summary, Trouble, Weather};

type Cluster = Replicated<Pbft, Lore>;

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn run(plan: &Plan, seed: u64) -> Report {
    run_seed(Cluster::default, seed, plan)
}

/// Two of seven that are up to something together.
fn pair(scheme: Option<Scheme>) -> Plan {
    Plan {
        f: 2,
        liars: vec![Misconduct::Conspire(scheme); 2],
        operations: 80,
        storm: Duration::from_secs(6),
        ..Plan::default()
    }
}

#[test]
fn two_of_seven_conspire_in_vain() {
    for scheme in Scheme::ALL {
        let troubles = vec![(Trouble::Pause, millis(1_500)), (Trouble::Partial, millis(1_500))];
        let climate = Some(Climate { weather: Weather::calm(), troubles });
        let plan = Plan { climate, ..pair(Some(scheme)) };
        let summary = conform(Cluster::default, &Seeds::for_tests(2), &[plan]);
        summary.assert_clean();
        let name = format!("lies: {}", scheme.name());
        assert!(summary.count(&name) > 0, "{name} were never told\n{summary}");
    }
    let summary = conform(Cluster::default, &Seeds::for_tests(3), &[pair(None)]);
    summary.assert_clean();
}

#[test]
fn whoever_forges_a_proposal_is_convicted() {
    let climate = Some(Climate::calm());
    let plan = Plan { climate, ..pair(Some(Scheme::Fork)) };
    let summary = conform(Cluster::default, &Seeds::for_tests(3), &[plan]);
    summary.assert_clean();
    assert!(summary.count("lies convicted") > 0, "{summary}");
}

/// Two of four are more than the cluster can stand: that they succeed shows that they try.
#[test]
fn two_of_four_break_agreement_together() {
    let plan = Plan {
        f: 1,
        climate: Some(Climate::calm()),
        patience: Duration::from_secs(20),
        ..pair(Some(Scheme::Fork))
    };
    let broken = |report: &Report| {
        let mut oracles = report.violations.iter().map(|violation| violation.oracle);
        oracles.any(|oracle| oracle == "agreement" || oracle == "total order")
    };
    let seed = (0..40).find(|seed| broken(&run(&plan, *seed)));
    assert!(seed.is_some(), "no two replicas ever executed different batches");
}

#[test]
fn an_adversary_that_picks_deliveries_delays_and_does_no_more() {
    for ploy in Ploy::ALL {
        let courier = Some(Courier { ploy, patience: millis(700) });
        let weather = Weather { courier, ..Weather::calm() };
        let climate = Some(Climate { weather, troubles: vec![(Trouble::Crash, millis(2_000))] });
        let storm = Duration::from_secs(4);
        let plan = Plan { climate, storm, operations: 60, ..Plan::default() };
        let plan = plan.with_liar(Misconduct::Equivocate);
        let summary = conform(Cluster::default, &Seeds::for_tests(2), &[plan]);
        summary.assert_clean();
        let name = format!("trouble: {}", ploy.name());
        assert!(summary.count(&name) > 0, "{name} never\n{summary}");
    }
}

#[test]
fn real_signatures_carry_a_run() {
    let plan = Plan {
        operations: 25,
        storm: Duration::from_secs(2),
        signatures: Some(Signatures::Ed25519),
        ..Plan::default()
    };
    // Noise, replays and words under stolen keys are refused by production's rule as by the simulator's.
    let report = run(&plan.with_liar(Misconduct::Random), 7);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.count("runs with real signatures"), 1);
    assert!(report.count("messages refused") > 0);
}

/// Every kind of message that a replica sends, by protocol.
const SAID: [(ProtocolId, &str); 25] = {
    const PBFT: ProtocolId = ProtocolId(2);
    const REPLICATION: ProtocolId = ProtocolId(1);
    [
        (PBFT, "pre-prepare"),
        (PBFT, "prepare"),
        (PBFT, "commit"),
        (PBFT, "view-change"),
        (PBFT, "new-view"),
        (PBFT, "status"),
        (PBFT, "fetch"),
        (PBFT, "committed"),
        (PBFT, "proposal"),
        (PBFT, "installed"),
        (PBFT, "inquiry"),
        (PBFT, "testimony"),
        (REPLICATION, "checkpoint"),
        (REPLICATION, "bundle"),
        (REPLICATION, "reply"),
        (REPLICATION, "fetch"),
        (REPLICATION, "bodies"),
        (REPLICATION, "stable"),
        (REPLICATION, "feed"),
        (REPLICATION, "voucher"),
        (REPLICATION, "claim"),
        (REPLICATION, "state ask"),
        (REPLICATION, "state"),
        (REPLICATION, "hello"),
        (REPLICATION, "succession"),
    ]
};

#[test]
fn every_kind_of_message_is_lied_about() {
    let storm = Plan {
        operations: 120,
        storm: Duration::from_secs(8),
        learners: 1,
        clients: 3,
        ..Plan::default()
    };
    let restless = vec![
        (Trouble::Blackout, millis(2_500)),
        (Trouble::Partition, millis(1_200)),
        (Trouble::Learner, millis(2_500)),
    ];
    let weather = Weather { lost_per_mille: 80, ..Weather::calm() };
    let climate = Some(Climate { weather, troubles: restless });
    let corrupts = Plan { climate, ..storm.clone().with_liar(Misconduct::Corrupt).beyond() };
    // One that is wiped comes back in another epoch, and one liar accuses another.
    let troubles = vec![(Trouble::Harm(Harm::Wiped), millis(2_000))];
    let climate = Some(Climate { weather: Weather::calm(), troubles });
    let returns =
        Plan { f: 2, climate, heals: true, ..storm.clone().with_liar(Misconduct::Corrupt) };
    let accuses = Plan {
        f: 2,
        liars: vec![Misconduct::Equivocate, Misconduct::Corrupt],
        climate: Some(Climate::calm()),
        ..storm
    };
    let mut summary = Summary::default();
    let missing = |summary: &Summary| -> Vec<(ProtocolId, &str)> {
        let is_missing =
            |(protocol, kind): &&(ProtocolId, &str)| summary.count(&twisted(*protocol, kind)) == 0;
        SAID.iter().filter(is_missing).copied().collect()
    };
    for seed in 0..20 {
        for plan in [&corrupts, &returns, &accuses] {
            summary.add(run(plan, seed));
        }
        if missing(&summary).is_empty() {
            break;
        }
    }
    summary.assert_clean();
    assert_eq!(missing(&summary), [], "{summary}");
}
