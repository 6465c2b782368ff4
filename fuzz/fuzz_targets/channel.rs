//! Any bytes, as the frames of a channel, in pieces. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("channel"),
    |input: &[u8]| testudo_decoders::run("channel", input)
);
