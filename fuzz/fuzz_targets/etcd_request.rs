//! Any bytes, as a request of etcd's clients. What must hold is in `testudo_decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: testudo_decoders::sow("etcd_request"),
    |input: &[u8]| testudo_decoders::run("etcd_request", input)
);
