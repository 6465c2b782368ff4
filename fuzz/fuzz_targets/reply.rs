//! Any bytes, as what a request came to. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("reply"),
    |input: &[u8]| testudo_decoders::run("reply", input)
);
