//! Any bytes, as a file of evidence. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("evidence"),
    |input: &[u8]| testudo_decoders::run("evidence", input)
);
