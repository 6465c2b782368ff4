//! What the simulator puts to the test.
pub mod coordination;
pub use coordination::Coordination;
