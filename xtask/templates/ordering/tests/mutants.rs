//! Each broken rule is found out, by the same runs that the right rules stand.

mod support;

use __crate__::{__Type__, Rules, Standard};
use support::Stage;
use testudo_core::Digest;
use testudo_quorum::Dissemination;
use testudo_sim::bare::{Bare, conform};
use testudo_sim::conformance::Seeds;
use testudo_sim::{Plan, Summary};

/// A batch counts as decided before any vote for it has come back: it is executed before anything of it is durable.
#[derive(Clone, Debug)]
enum CountsNoVotes {}

impl Rules for CountsNoVotes {
    fn is_decided(_: &Dissemination, _: usize) -> bool {
        true
    }
}

fn storm<R: Rules>() -> Summary {
    let plan = Plan { f: 0, replicas: Some(1), ..Plan::default() }.beyond();
    conform(Bare::<__Type__<R>>::default, &Seeds::fixed(8), &[plan])
}

#[test]
fn executing_before_the_record_is_durable_is_found_out() {
    storm::<Standard>().assert_clean();
    let failures = storm::<CountsNoVotes>().failures;
    let found: Vec<&str> =
        failures.iter().flat_map(|report| &report.violations).map(|found| found.oracle).collect();
    assert!(found.contains(&"agreement"), "lost decisions go unpunished: {found:?}");
}

/// Whatever is accepted is voted for, whether the layer above holds its bodies or not.
#[derive(Clone, Debug)]
enum VotesUnjudged {}

impl Rules for VotesUnjudged {
    fn may_vote(_: Digest, _: Option<Digest>) -> bool {
        true
    }
}

/// How many batches are executed that nobody has judged.
fn unjudged<R: Rules>() -> usize {
    let mut stage = Stage::<R>::new();
    stage.world.system.judges = false;
    stage.propose("a");
    stage.executed().len()
}

#[test]
fn voting_without_bodies_is_found_out() {
    assert_eq!(unjudged::<Standard>(), 0);
    assert_eq!(unjudged::<VotesUnjudged>(), 1);
}
