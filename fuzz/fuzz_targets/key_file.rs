//! Any bytes, as a key file. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("key_file"),
    |input: &[u8]| testudo_decoders::run("key_file", input)
);
