//! Any bytes, as what a superblock holds, beside a log. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("store_open"),
    |input: &[u8]| testudo_decoders::run("store_open", input)
);
