//! Any bytes, as a snapshot's file. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("snapshot_file"),
    |input: &[u8]| testudo_decoders::run("snapshot_file", input)
);
