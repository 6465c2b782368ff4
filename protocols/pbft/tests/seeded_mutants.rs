//! Each broken rule is convicted by the oracles in the very seeds that the right rules pass.

mod broken;
mod support;

use broken::{
    BlamesRepetition, DropsPrepared, HastyCheckpoints, RepliesEarly, ShortQuorum, TrustsPrimary,
};
use std::ops::Range;
use std::time::Duration;
use support::LiesAboutViews;
use testudo_pbft::{Pbft, Rules};
use testudo_sim::conformance::run_seed;
use testudo_sim::replicated::{Knowledge, Lore, Replicated};
use testudo_sim::{Climate, Flaw, Harm, Misconduct, Plan, Trouble, Weather};

/// Where conviction is sought.
const SEEDS: Range<u64> = 0..200;

/// The first seed in which the mutant breaks one of these rules. The right protocol passes every seed up to it.
fn convict<R: Rules, K: Knowledge<Pbft<R>> + Knowledge<Pbft>>(
    mutant: fn() -> Replicated<Pbft<R>, K>,
    plan: &Plan,
    oracles: &[&str],
) {
    for seed in SEEDS {
        let right = run_seed(Replicated::<Pbft, K>::default, seed, plan);
        assert!(right.is_clean(), "the right rules fail\n{right}");
        let report = run_seed(mutant, seed, plan);
        let Some(found) = report.violations.first() else { continue };
        assert!(oracles.contains(&found.oracle), "convicted of something else\n{report}");
        println!("seed {seed} convicts it: {found}");
        return;
    }
    panic!("the seeds {SEEDS:?} do not convict it");
}

/// A network that loses so much that often one replica alone learns of a decision before its view ends.
fn lossy() -> Climate {
    let weather = Weather { lost_per_mille: 200, ..Weather::calm() };
    let often = Duration::from_millis(800);
    Climate { weather, troubles: vec![(Trouble::Partition, often), (Trouble::OneWay, often)] }
}

/// Two halves decide apart; a certificate that says so is refused by those who count rightly.
#[test]
fn a_quorum_one_short() {
    let plan = Plan::default().with_liar(Misconduct::Equivocate);
    convict(Replicated::<Pbft<ShortQuorum>, Lore>::default, &plan, &["agreement", "honesty"]);
}

/// Either others decide again, or whoever knows of the first decision refuses every view that forgets it.
#[test]
fn a_view_change_that_drops_a_prepared_certificate() {
    let plan = Plan { climate: Some(lossy()), ..Plan::default() };
    convict(Replicated::<Pbft<DropsPrepared>, Lore>::default, &plan, &["agreement", "liveness"]);
}

/// A liar begins a view with nothing where somebody who is cut off alone knows of a decision, and tells so to all
/// (`mutants` has the trace of it).
#[test]
fn a_new_view_that_is_not_recomputed() {
    let plan = Plan { climate: Some(lossy()), ..Plan::default() };
    convict(
        Replicated::<Pbft<TrustsPrimary>, LiesAboutViews>::default,
        &plan.with_liar(Misconduct::Consistent),
        &["agreement", "liveness"],
    );
}

#[test]
fn a_reply_before_commit() {
    let plan = Plan { climate: Some(lossy()), ..Plan::default() };
    convict(Replicated::<Pbft<RepliesEarly>, Lore>::default, &plan, &["agreement", "honesty"]);
}

/// A driver that says votes before they are on disk. Power fails everywhere at once, and what was acknowledged is gone; or
/// too many are told that they have said what they know nothing of, and vote no more.
#[test]
fn a_vote_before_it_is_durable() {
    let plan =
        Plan { troubles: vec![Trouble::Blackout, Trouble::Crash], ..Plan::default() }.beyond();
    let oracles = ["agreement", "linearizability", "ledger", "justice", "liveness"];
    convict(|| Replicated::<Pbft, Lore>::over(Flaw::SaysEarly), &plan, &oracles);
}

/// What a replica says again because it may have been lost is no offence.
#[test]
fn evidence_for_a_retransmission() {
    let plan = Plan { climate: Some(lossy()), ..Plan::default() };
    convict(Replicated::<Pbft<BlamesRepetition>, Lore>::default, &plan, &["justice"]);
}

/// Harm of these kinds, again and again.
fn harmful(harms: &[(Harm, u64)]) -> Plan {
    let trouble =
        |(harm, every): &(Harm, u64)| (Trouble::Harm(*harm), Duration::from_millis(*every));
    let weather = Weather { lost_per_mille: 100, ..Weather::calm() };
    let troubles = harms.iter().map(trouble).collect();
    Plan { climate: Some(Climate { weather, troubles }), heals: true, ..Plan::default() }
}

/// One replica whose memory has rotted certifies what it holds all by itself.
#[test]
fn a_checkpoint_that_is_stable_at_f_votes() {
    let plan = harmful(&[(Harm::Memory, 1_000)]);
    let oracles = ["honesty", "equal states", "equal checkpoints", "recovery", "liveness"];
    convict(Replicated::<Pbft<HastyCheckpoints>, Lore>::default, &plan, &oracles);
}

/// A driver that takes rot for a write that never ended: the replica does not know that it has forgotten votes. Others tell
/// it, if they hold them, and it has to come back under another key, as often as it may; one that knows what it has lost
/// goes on voting on all else.
#[test]
fn a_corrupt_record_that_is_truncated() {
    let plan = Plan { heals: true, ..harmful(&[(Harm::Record, 1_000)]) };
    let oracles = ["justice", "agreement", "recovery", "total order", "liveness", "keeping"];
    convict(|| Replicated::<Pbft, Lore>::over(Flaw::Truncates), &plan, &oracles);
}

/// A driver that lets go of the log before the snapshot that stands for it is written: a crash between the two leaves
/// neither.
#[test]
fn a_log_that_is_dropped_before_its_snapshot_is_durable() {
    let weather = Weather { chore: Duration::from_millis(80), ..Weather::calm() };
    let often = Duration::from_millis(700);
    let troubles = vec![(Trouble::Blackout, often), (Trouble::Crash, often)];
    let climate = Some(Climate { weather, troubles });
    let plan = Plan { climate, heals: true, operations: 400, ..Plan::default() }.beyond();
    let oracles = ["agreement", "recovery", "liveness", "total order", "linearizability", "ledger"];
    convict(|| Replicated::<Pbft, Lore>::over(Flaw::ForgetsEarly), &plan, &oracles);
}

/// Two faults of seven: disks are wiped, one after the other, and somebody lies.
fn coming_back(liar: Misconduct) -> Plan {
    Plan { f: 2, ..harmful(&[(Harm::Wiped, 1_000)]) }.with_liar(liar)
}

/// A driver that believes a replica by the key that it had before it came back. Somebody else has that.
#[test]
fn an_old_voting_key_that_is_accepted() {
    let plan = coming_back(Misconduct::Thief);
    let oracles = ["justice", "agreement", "recovery", "liveness"];
    convict(|| Replicated::<Pbft, Lore>::over(Flaw::AcceptsOldKeys), &plan, &oracles);
}

/// A driver that takes what was said in an earlier epoch for said in this one. What was ordered after the last slot of that
/// is void, and the same slots are ordered again.
#[test]
fn a_statement_of_an_earlier_epoch_that_counts_in_the_next() {
    let plan = coming_back(Misconduct::Replay);
    let oracles = ["justice", "agreement"];
    convict(|| Replicated::<Pbft, Lore>::over(Flaw::IgnoresEpochs), &plan, &oracles);
}

/// What f replicas have signed ends an epoch. Whoever counts rightly is not led into the next.
#[test]
fn an_epoch_that_begins_on_an_unstable_slot() {
    let plan = harmful(&[(Harm::Wiped, 1_000)]);
    let oracles = ["honesty", "equal states", "recovery", "liveness"];
    convict(Replicated::<Pbft<HastyCheckpoints>, Lore>::default, &plan, &oracles);
}
