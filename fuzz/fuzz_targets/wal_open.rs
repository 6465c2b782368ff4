//! Any bytes, as the files of a log. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("wal_open"),
    |input: &[u8]| testudo_decoders::run("wal_open", input)
);
