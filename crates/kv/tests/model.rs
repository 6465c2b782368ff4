//! The service against a model that keeps a list of all versions and recomputes everything.

#[path = "support/instance.rs"]
mod instance;
#[path = "support/model.rs"]
mod model;
#[path = "support/strategy.rs"]
mod strategy;

use instance::{Instance, contents};
use model::Model;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use strategy::Step;
use testudo_core::{Decode, Time};
use testudo_kv::{Bytes, Change, CompactResponse, KeyValue, Response, changes, record_before};

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    }
}

/// An answer without what the model does not know: how far sweeps have come.
fn without_sweeps(response: Response) -> Response {
    match response {
        Response::Compact(compact) => Response::Compact(CompactResponse { swept: 0, ..compact }),
        other => other,
    }
}

/// Holds what watchers are told against the model.
fn watch(kv: &Instance, model: &Model) {
    let read = |record: Bytes| KeyValue::from_bytes(&record).expect("a record");
    let mut seen = Vec::new();
    changes(&kv.store, 0, i64::MAX, &mut |Change { revision, key, record }| {
        seen.push((revision, key, record.map(read)));
        true
    });
    assert_eq!(seen, model.changes());
    for (revision, key, _) in seen {
        let before = record_before(&kv.store, &key, revision).map(read);
        assert_eq!(before, model.before(&key, revision), "before revision {revision}");
    }
}

proptest! {
    #![proptest_config(config())]

    /// Every answer is the model's, and what must hold after every operation holds.
    #[test]
    fn answers_are_the_models(steps in prop::collection::vec(strategy::step(), 1..30)) {
        let (mut kv, mut model) = (Instance::new(), Model::new());
        for step in &steps {
            match step {
                Step::Operation(operation) => {
                    let answer = without_sweeps(kv.execute(operation));
                    prop_assert_eq!(answer, model.execute(operation), "{:?}", operation);
                }
                Step::Pass(milliseconds) => {
                    kv.pass(*milliseconds);
                    model.pass(*milliseconds);
                    watch(&kv, &model);
                }
            }
        }
        let status = kv.kv.status(&kv.store, Time(0));
        prop_assert_eq!((status.revision, status.keys), (model.revision(), model.keys()));
        watch(&kv, &model);
    }

    /// Two executions of the same operations end in the same state, byte for byte.
    #[test]
    fn execution_is_deterministic(steps in prop::collection::vec(strategy::step(), 1..10)) {
        let (mut one, mut other) = (Instance::new(), Instance::new());
        for step in &steps {
            match step {
                Step::Operation(operation) => {
                    prop_assert_eq!(one.execute(operation), other.execute(operation));
                }
                Step::Pass(milliseconds) => {
                    prop_assert_eq!(one.pass(*milliseconds), other.pass(*milliseconds));
                }
            }
        }
        prop_assert_eq!(contents(&one.store), contents(&other.store));
    }
}
