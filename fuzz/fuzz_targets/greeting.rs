//! Any bytes, as the first words on a channel. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("greeting"),
    |input: &[u8]| testudo_decoders::run("greeting", input)
);
