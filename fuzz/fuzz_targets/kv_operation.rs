//! Any bytes, as a sequence of operations on the coordination service. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("kv_operation"),
    |input: &[u8]| testudo_decoders::run("kv_operation", input)
);
