//! Any bytes, as a record of a replica's log. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("record"),
    |input: &[u8]| testudo_decoders::run("record", input)
);
