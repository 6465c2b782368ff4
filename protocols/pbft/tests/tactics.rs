//! Replicas that know what PBFT waits for, and for how long: each tactic by itself, and that it is really kept to.

use std::time::Duration;
use testudo_contracts::{Falsifiable, Tactic};
use testudo_pbft::Pbft;
use testudo_sim::conformance::{Seeds, conform};
use testudo_sim::conspiracy::Scheme;
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::{Climate, Misconduct, Plan, Summary, Trouble, Weather};

type Cluster = Replicated<Pbft, Lore>;

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Somebody is cut off or stops again and again, so that views come and go.
fn plan(liars: &[Misconduct], f: u16) -> Plan {
    let troubles = vec![(Trouble::Crash, millis(1_500)), (Trouble::Partial, millis(2_500))];
    Plan {
        f,
        liars: liars.to_vec(),
        climate: Some(Climate { weather: Weather::calm(), troubles }),
        operations: 80,
        clients: 3,
        storm: Duration::from_secs(8),
        ..Plan::default()
    }
}

fn run(plan: Plan, seeds: u64) -> Summary {
    let summary = conform(Cluster::default, &Seeds::for_tests(seeds), &[plan]);
    summary.assert_clean();
    summary
}

#[test]
fn every_tactic_is_kept_to_in_vain() {
    assert_eq!(Pbft::<testudo_pbft::Standard>::TACTICS, Tactic::ALL);
    for tactic in Tactic::ALL {
        let liar = Misconduct::Tactic(tactic);
        let one = run(plan(&[liar], 1).beyond(), 5);
        let name = format!("lies: {}", tactic.name());
        assert!(one.count(&name) > 0, "{name} were never told\n{one}");
        let two = run(plan(&[liar, liar], 2), 1);
        println!(
            "{name}: {} and {}, {} view changes, {} convicted",
            one.count(&name),
            two.count(&name),
            one.count("view changes"),
            one.count("lies convicted")
        );
    }
}

/// Two tactics at once, of which one helps the other.
#[test]
fn two_tactics_at_once_are_kept_to_in_vain() {
    let pairs = [
        [Tactic::Unrest, Tactic::WithheldView],
        [Tactic::LeftOut, Tactic::EarlyVotes],
        [Tactic::SlowPrimary, Tactic::Unrest],
    ];
    for pair in pairs {
        run(plan(&pair.map(Misconduct::Tactic), 2), 2);
    }
}

#[test]
fn conspirators_who_speak_up_of_their_own_accord_do_so_in_vain() {
    let liar = Misconduct::Conspire(Some(Scheme::Early));
    let summary = run(plan(&[liar, liar], 2), 3);
    assert!(summary.count("lies: conspire-early") > 0, "{summary}");
    assert!(summary.count("lies convicted") > 0, "{summary}");
}
