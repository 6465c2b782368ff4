//! PBFT under replication in the simulator, with every kind of liar.

use testudo_pbft::Pbft;
use testudo_sim::replicated::{Lore, Replicated};

testudo_sim::conformance!(pbft: Replicated::<Pbft, Lore>::default(), seeds: 4);
