//! Any bytes, as the members of an epoch, and what led to them. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("members"),
    |input: &[u8]| testudo_decoders::run("members", input)
);
