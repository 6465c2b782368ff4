//! The service against a model that keeps a list of all versions and recomputes everything.

#[path = "support/model.rs"]
mod model;
#[path = "support/store.rs"]
mod store;
#[path = "support/strategy.rs"]
mod strategy;

use model::Model;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use store::Instance;
use testudo_kv::{Operation, Response};

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
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
    }

    /// Two executions of the same operations end in the same state, byte for byte.
    #[test]
    fn execution_is_deterministic(operations in prop::collection::vec(strategy::operation(), 1..10)) {
        let (mut one, mut other) = (Instance::new(), Instance::new());
        for operation in &operations {
            prop_assert_eq!(one.execute(operation), other.execute(operation));
        }
        prop_assert_eq!(one.store, other.store);
    }
}
