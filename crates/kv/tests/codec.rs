//! Operations and responses have one encoding, and any bytes get an answer.

#[path = "support/instance.rs"]
mod instance;
#[path = "support/strategy.rs"]
mod strategy;

use instance::Instance;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use testudo_contracts::Service;
use testudo_core::limits::OPERATION_BYTES;
use testudo_core::{Decode, Encode};
use testudo_kv::{
    Bytes, Error, Kv, Operation, Put, RequestOp, Response, ResponseOp, Txn, TxnResponse, check,
};

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 400,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(2),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn operations_come_back_from_their_encoding(operation in strategy::operation()) {
        let bytes = operation.to_bytes();
        prop_assert_eq!(Operation::from_bytes(&bytes), Ok(operation));
        for end in 0..bytes.len() {
            prop_assert!(Operation::from_bytes(&bytes[..end]).is_err(), "cut at {}", end);
        }
    }

    /// What decodes encodes to the same bytes: there is no second spelling of anything.
    #[test]
    fn no_operation_has_two_encodings(
        operation in strategy::operation(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = operation.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(decoded) = Operation::from_bytes(&bytes) {
            prop_assert_eq!(decoded.to_bytes(), bytes);
        }
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut kv = Instance::new();
        kv.execute_bytes(&bytes);
        drop(Response::from_bytes(&bytes));
    }

    #[test]
    fn damaged_operations_get_an_answer(
        operations in prop::collection::vec(strategy::operation(), 1..8),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 8),
    ) {
        let mut kv = Instance::new();
        for (operation, (at, byte)) in operations.iter().zip(damage) {
            let mut bytes = operation.to_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            kv.execute_bytes(&bytes);
        }
    }
}

/// The bytes are signed by clients and stored in logs: they change only with the service's version.
#[test]
fn encodings_stay_what_they_are() {
    let put = Operation::Put(Put {
        key: Bytes::from(*b"key"),
        value: Bytes::from(*b"value"),
        prev_kv: true,
        ..Put::default()
    });
    let expected = b"\x01\x03\0\0\0key\x05\0\0\0value\0\0\0\0\0\0\0\0\x01\0\0";
    assert_eq!(put.to_bytes(), expected);
    let mut kv = Instance::new();
    let response = kv.execute(&put).to_bytes();
    assert_eq!(response, b"\x01\x02\0\0\0\0\0\0\0\0");
    let response = kv.execute(&put).to_bytes();
    let expected = b"\x01\x03\0\0\0\0\0\0\0\x01\x03\0\0\0key\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\
        \x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0value";
    assert_eq!(response, expected);
}

#[test]
fn bytes_that_are_no_operation_are_refused() {
    let mut kv = Instance::new();
    let trailing = [Operation::Status.to_bytes(), vec![0]].concat();
    for bytes in [&[][..], &[5], &[0xff; 64], &trailing] {
        assert_eq!(kv.execute_bytes(bytes), Response::Error(Error::Undecodable), "{bytes:?}");
    }
    let huge = vec![1; OPERATION_BYTES + 1];
    assert_eq!(kv.execute_bytes(&huge), Response::Error(Error::RequestTooLarge));
}

fn nested(depth: usize) -> Txn {
    let mut txn = Txn::default();
    for _ in 0..depth {
        txn = Txn { success: vec![RequestOp::Txn(txn)], ..Txn::default() };
    }
    txn
}

#[test]
fn transactions_nest_so_deep_and_no_deeper() {
    let mut kv = Instance::new();
    let deepest = Operation::Txn(nested(check::NESTING));
    assert_eq!(check::operation(&deepest), Ok(()));
    assert!(matches!(kv.execute(&deepest), Response::Txn(_)));
    let deeper = Operation::Txn(nested(check::NESTING + 1));
    assert_eq!(check::operation(&deeper), Err(Error::TooManyOperations));
    assert_eq!(kv.execute(&deeper), Response::Error(Error::TooManyOperations));
}

/// The smallest bytes that open one level each: as many as fit, on a stack that would not hold them.
#[test]
fn a_tower_of_transactions_does_not_fall_on_the_stack() {
    let level = [&[0; 4][..], &[1, 0, 0, 0], &[4]].concat();
    let mut bytes = vec![3];
    bytes.extend(level.repeat(OPERATION_BYTES / level.len() - 1));
    let answer = std::thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(move || Instance::new().execute_bytes(&bytes))
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(answer, Response::Error(Error::TooManyOperations));
    // What replicas say is bounded in the same way.
    let mut response = TxnResponse::default();
    for _ in 0..=check::NESTING {
        response =
            TxnResponse { responses: vec![ResponseOp::Txn(response)], ..TxnResponse::default() };
    }
    assert!(Response::from_bytes(&Response::Txn(response).to_bytes()).is_err());
}

#[test]
fn the_services_own_errors_are_responses() {
    let error = |bytes: &[u8]| Response::from_bytes(bytes);
    assert_eq!(error(&Kv::default().internal_error()), Ok(Response::Error(Error::Internal)));
    assert_eq!(error(&Kv::default().too_large()), Ok(Response::Error(Error::ResultTooLarge)));
    assert_eq!((Error::Internal.code(), Error::ResultTooLarge.code()), (13, 8));
}

#[test]
fn errors_come_back_from_their_encoding_and_have_texts_of_their_own() {
    let mut texts = std::collections::BTreeSet::new();
    for error in Error::ALL {
        assert_eq!(Error::from_bytes(&error.to_bytes()), Ok(error));
        assert!(texts.insert(error.to_string()), "{error:?}");
    }
}
