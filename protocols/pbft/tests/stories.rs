//! Stories, told step by step: of learners, what they read, what they are told, and whom they leave; of replicas that come
//! to harm, and how they come back.

use testudo_lab::Coordination;
use testudo_pbft::Pbft;
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::script::check_all;

#[test]
fn stories() {
    check_all(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories"),
        Replicated::<Pbft, Lore, Coordination>::default,
    );
}
