//! What was recorded is played again, to the last event.

use std::time::Duration;
use testudo_lab::Coordination;
use testudo_pbft::Pbft;
use testudo_sim::replay::{record, replay};
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::{Climate, Harm, Misconduct, Plan, Trouble, Weather};

type Served = Replicated<Pbft, Lore, Coordination>;

/// A short run in which everything may go wrong.
fn rough() -> Plan {
    let harms = Harm::ALL.map(Trouble::Harm);
    let others = [Trouble::Helical, Trouble::Learner];
    let troubles = Plan::default().troubles.into_iter().chain(harms).chain(others).collect();
    Plan { operations: 40, clients: 2, learners: 1, troubles, ..Plan::default() }
}

fn plays_again(seed: u64, plan: &Plan) {
    let run = record(Served::default, seed, plan);
    assert!(run.report.is_clean(), "{}", run.report);
    assert!(run.report.answered >= plan.operations && run.steps.len() > 1_000);
    let again = replay(Served::default, &run);
    assert!(again.is_clean(), "{again}");
    assert_eq!(again.audit, run.report.audit, "seed {seed}");
    assert_eq!(
        (again.steps, again.time, again.answered),
        (run.report.steps, run.report.time, run.report.answered)
    );
}

#[test]
fn a_recorded_run_is_played_again_to_the_last_event() {
    for (seed, liar) in [
        (0, None),
        (1, Some(Misconduct::Random)),
        (2, Some(Misconduct::Twins)),
        (3, Some(Misconduct::Equivocate)),
        (4, Some(Misconduct::Upstream(None))),
        (5, Some(Misconduct::Replay)),
    ] {
        plays_again(seed, &Plan { liars: liar.into_iter().collect(), ..rough() });
    }
    plays_again(6, &rough().beyond());
}

/// Every kind of harm, so that each way of taking it down is tried.
#[test]
fn harm_is_played_again() {
    let every = |harm| (Trouble::Harm(harm), Duration::from_millis(900));
    for (seed, harms) in Harm::ALL.chunks(2).enumerate() {
        let troubles = harms.iter().copied().map(every).collect();
        let climate = Some(Climate { weather: Weather::calm(), troubles });
        let plan = Plan { climate, heals: true, operations: 60, ..rough() };
        plays_again(seed as u64, &plan);
    }
}

#[test]
fn whoever_records_runs_the_same_run() {
    let plan = rough().with_liar(Misconduct::Random);
    let run = record(Served::default, 7, &plan);
    let unrecorded = testudo_sim::conformance::run_seed(Served::default, 7, &plan);
    assert_eq!(run.report.audit, unrecorded.audit);
}
