//! Any bytes, as a snapshot of all that a replica holds. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("snapshot"),
    |input: &[u8]| testudo_decoders::run("snapshot", input)
);
