//! Stories of learners, told step by step: what they read, what they are told, and whom they leave.

mod kv;
mod support;

use kv::Coordination;
use support::Lore;
use testudo_pbft::Pbft;
use testudo_sim::replicated::Replicated;
use testudo_sim::script::check_all;

#[test]
fn stories() {
    check_all(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories"),
        Replicated::<Pbft, Lore, Coordination>::default,
    );
}
