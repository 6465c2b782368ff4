//! Any bytes, as the body of a client's request, in pieces. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("etcd_body"),
    |input: &[u8]| testudo_decoders::run("etcd_body", input)
);
