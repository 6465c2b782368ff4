//! Any bytes, as a proof and as a chunk of a map. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("state_proof"),
    |input: &[u8]| testudo_decoders::run("state_proof", input)
);
