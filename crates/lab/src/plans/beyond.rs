//! More at a time than is promised to be survived.
//!
//! One replica too many lies, has come to harm, or both. Nobody promises an answer then, and rules may be broken; but
//! not in silence ([`testudo_sim::Report::verdict`]). What is within the promise is there all the same: crashes,
//! partitions, and a network that loses, doubles and delays.

use std::time::Duration;
use testudo_sim::conspiracy::Scheme;
use testudo_sim::{Climate, Harm, Misconduct, Plan, Trouble, Weather};

/// Liars that do harm to each other's victims: pairs of one kind, and pairs of two. Those that act together are the ones
/// who can have correct replicas decide different things.
const PAIRS: [[Misconduct; 2]; 12] = [
    [Misconduct::Conspire(Some(Scheme::Fork)), Misconduct::Conspire(Some(Scheme::Fork))],
    [Misconduct::Conspire(None), Misconduct::Conspire(None)],
    [Misconduct::Equivocate, Misconduct::Equivocate],
    [Misconduct::Corrupt, Misconduct::Corrupt],
    [Misconduct::Consistent, Misconduct::Consistent],
    [Misconduct::Random, Misconduct::Random],
    [Misconduct::Stale, Misconduct::Stale],
    [Misconduct::Twins, Misconduct::Twins],
    [Misconduct::Twins, Misconduct::Equivocate],
    [Misconduct::Silent, Misconduct::Silent],
    [Misconduct::Selective, Misconduct::Corrupt],
    [Misconduct::Replay, Misconduct::Random],
];

/// Harm that a replica counts as faulty by.
const HARMS: [Harm; 9] = [
    Harm::Record,
    Harm::RecordAndTag,
    Harm::LostWrite,
    Harm::Misdirected,
    Harm::Snapshot,
    Harm::Memory,
    Harm::Superblock,
    Harm::Wiped,
    Harm::OldImage,
];

fn base() -> Plan {
    Plan {
        operations: 150,
        clients: 2,
        learners: 2,
        exceeds: true,
        // Most of them never answer again.
        patience: Duration::from_secs(60),
        ..Plan::default()
    }
}

/// One liar too many.
pub(super) fn liars() -> Vec<Plan> {
    let troubles = vec![Trouble::Crash, Trouble::Partition, Trouble::OneWay, Trouble::Learner];
    let pairs =
        PAIRS.map(|pair| Plan { liars: pair.to_vec(), troubles: troubles.clone(), ..base() });
    pairs.into()
}

/// One replica too many has come to harm at a time, alone and beside a liar.
pub(super) fn harms() -> Vec<Plan> {
    let every = Duration::from_millis;
    let weather = Weather { lost_per_mille: 20, doubled_per_mille: 20, ..Weather::calm() };
    let again_and_again = |harm: Harm| Climate {
        weather,
        troubles: vec![
            (Trouble::Harm(harm), every(700)),
            (Trouble::Crash, every(3_000)),
            (Trouble::Clock, every(6_000)),
        ],
    };
    let alone = HARMS.map(|harm| Plan { climate: Some(again_and_again(harm)), ..base() });
    let beside = HARMS.map(|harm| {
        let plan = Plan { climate: Some(again_and_again(harm)), ..base() };
        plan.with_liar(Misconduct::Equivocate)
    });
    alone.into_iter().zip(beside).flat_map(<[Plan; 2]>::from).collect()
}
