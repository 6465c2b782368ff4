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
use testudo_core::Decode;
use testudo_kv::{Bytes, Change, KeyValue, Operation, Response, changes, record_before};

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
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
    fn answers_are_the_models(operations in prop::collection::vec(strategy::operation(), 1..25)) {
        let (mut kv, mut model) = (Instance::new(), Model::new());
        for operation in &operations {
            prop_assert_eq!(kv.execute(operation), model.execute(operation), "{:?}", operation);
        }
        let Response::Status(status) = kv.execute(&Operation::Status) else {
            panic!("a status is answered by a status");
        };
        prop_assert_eq!((status.revision, status.keys), (model.revision(), model.keys()));
        watch(&kv, &model);
    }

    /// Two executions of the same operations end in the same state, byte for byte.
    #[test]
    fn execution_is_deterministic(operations in prop::collection::vec(strategy::operation(), 1..10)) {
        let (mut one, mut other) = (Instance::new(), Instance::new());
        for operation in &operations {
            prop_assert_eq!(one.execute(operation), other.execute(operation));
        }
        prop_assert_eq!(contents(&one.store), contents(&other.store));
    }
}
