//! Any bytes, as a sequence of operations on the coordination service: each is answered with a response in its one
//! encoding, what is refused leaves no trace, and the state stays consistent with itself.
//!
//! The input is a sequence of chunks, each of two bytes of length (little-endian) and so many bytes of operation. No
//! operation has four bytes: such a chunk is how many milliseconds pass (little-endian).
#![no_main]

#[path = "../../crates/kv/tests/support/instance.rs"]
mod instance;

use instance::Instance;
use libfuzzer_sys::fuzz_target;
use testudo_core::Decode;
use testudo_kv::Operation;

fuzz_target!(|input: &[u8]| {
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
});
