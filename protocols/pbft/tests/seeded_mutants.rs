//! Each broken rule is convicted by the oracles in the very seeds that the right rules pass.

mod broken;
mod support;

use broken::{DropsPrepared, RepliesEarly, ShortQuorum, TrustsPrimary};
use std::time::Duration;
use support::{LiesAboutViews, Lore};
use testudo_pbft::{Pbft, Rules, Standard};
use testudo_sim::conformance::run_seed;
use testudo_sim::replicated::{Knowledge, Replicated};
use testudo_sim::{Climate, Misconduct, Plan, Report, Trouble, Weather};

/// What may be broken at most before the oracles find it.
const SEEDS: u64 = 200;

fn run<R: Rules, K: Knowledge<Pbft<R>>>(seed: u64, plan: &Plan) -> Report {
    run_seed(Replicated::<Pbft<R>, K>::default, seed, plan)
}

/// The first seed in which the mutant breaks one of these rules. The right protocol passes every seed up to it.
fn convict<R: Rules, K: Knowledge<Pbft<R>> + Knowledge<Pbft>>(plan: &Plan, oracles: &[&str]) {
    for seed in 0..SEEDS {
        let right = run::<Standard, K>(seed, plan);
        assert!(right.is_clean(), "the right rules fail\n{right}");
        let report = run::<R, K>(seed, plan);
        let Some(found) = report.violations.first() else { continue };
        assert!(oracles.contains(&found.oracle), "convicted of something else\n{report}");
        println!("seed {seed} convicts it: {found}");
        return;
    }
    panic!("{SEEDS} seeds do not convict it");
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
    convict::<ShortQuorum, Lore>(&plan, &["agreement", "honesty"]);
}

/// Either others decide again, or whoever knows of the first decision refuses every view that forgets it.
#[test]
fn a_view_change_that_drops_a_prepared_certificate() {
    let plan = Plan { climate: Some(lossy()), ..Plan::default() };
    convict::<DropsPrepared, Lore>(&plan, &["agreement", "liveness"]);
}

#[test]
fn a_new_view_that_is_not_recomputed() {
    let plan = Plan { climate: Some(lossy()), ..Plan::default() }.with_liar(Misconduct::Corrupt);
    convict::<TrustsPrimary, LiesAboutViews>(&plan, &["agreement", "liveness"]);
}

#[test]
fn a_reply_before_commit() {
    let plan = Plan { climate: Some(lossy()), ..Plan::default() };
    convict::<RepliesEarly, Lore>(&plan, &["agreement", "honesty"]);
}
