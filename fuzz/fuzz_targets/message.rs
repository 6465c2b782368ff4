//! Any bytes, as the body of a message between replicas, clients and learners. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("message"),
    |input: &[u8]| testudo_decoders::run("message", input)
);
