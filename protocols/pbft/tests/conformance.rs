//! PBFT under replication in the simulator, with every kind of liar.

mod support;

use support::Lore;
use testudo_pbft::Pbft;
use testudo_sim::replicated::Replicated;

testudo_sim::conformance!(pbft: Replicated::<Pbft, Lore>::default(), seeds: 4);
