//! Any bytes, as a sequence of operations on the coordination service: each is answered with a response in its one
//! encoding, what is refused leaves no trace, and the state stays consistent with itself.

#[allow(unreachable_pub, reason = "what tests share is public to them")]
#[path = "../../kv/tests/support/instance.rs"]
mod instance;

use instance::Instance;
use testudo_core::{Decode, Encode};
use testudo_kv::{LeaseGrant, Operation, Put, Range, RequestOp, Txn};

/// The input is a sequence of chunks, each of two bytes of length (little-endian) and so many bytes of operation. No
/// operation has four bytes: such a chunk is how many milliseconds pass (little-endian).
pub(crate) fn run(input: &[u8]) {
    let mut kv = Instance::new();
    let mut rest = input;
    while let Some((length, tail)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(tail.len());
        let (operation, tail) = tail.split_at(length);
        rest = tail;
        if let Ok(milliseconds) = operation.try_into().map(u32::from_le_bytes) {
            kv.pass(milliseconds.into());
            continue;
        }
        match Operation::from_bytes(operation) {
            Ok(operation) => kv.execute(&operation),
            Err(_) => kv.execute_bytes(operation),
        };
    }
}

/// A few operations, and time between them.
pub(crate) fn good() -> Vec<Vec<u8>> {
    let put = |key: &str, lease: i64| Put { key: key.as_bytes().into(), lease, ..Put::default() };
    let all = Range { key: [0][..].into(), range_end: [0][..].into(), ..Range::default() };
    let txn = Txn {
        success: vec![RequestOp::Put(put("b", 0)), RequestOp::Range(all.clone())],
        ..Txn::default()
    };
    let operations = [
        Operation::LeaseGrant(LeaseGrant { id: 7, ttl: 5 }),
        Operation::Put(put("a", 7)),
        Operation::Txn(txn),
        Operation::Range(all),
        Operation::LeaseLeases,
    ];
    let mut input = Vec::new();
    for operation in operations {
        let bytes = operation.to_bytes();
        input.extend((bytes.len() as u16).to_le_bytes());
        input.extend(bytes);
        input.extend([4, 0, 0x88, 0x13, 0, 0]);
    }
    vec![input]
}
