//! Any bytes, as what happens to a map that becomes another one. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("state_sync"),
    |input: &[u8]| testudo_decoders::run("state_sync", input)
);
