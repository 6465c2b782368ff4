//! Any bytes, as a frame of each kind that is signed. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("frame"),
    |input: &[u8]| testudo_decoders::run("frame", input)
);
