//! Any bytes, as both copies of a superblock. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("superblock"),
    |input: &[u8]| testudo_decoders::run("superblock", input)
);
