//! The automaton behind a handle, whatever protocol's it is.

use std::sync::Arc;
use testudo_runtime::caller::CallerHandle;
use testudo_runtime::{Driven, Metrics};

/// A running automaton that takes inputs of this kind.
pub(crate) trait Automaton<I>: Send + Sync {
    /// Asks it for something. False when it has stopped.
    fn ask(&self, input: I) -> bool;
    /// How many replicas it is connected to.
    fn connections(&self) -> usize;
    /// What it counts and measures.
    fn metrics(&self) -> &Arc<Metrics>;
}

impl<P: Driven> Automaton<P::Input> for CallerHandle<P> {
    fn ask(&self, input: P::Input) -> bool {
        self.input(input)
    }
    fn connections(&self) -> usize {
        Self::connections(self)
    }
    fn metrics(&self) -> &Arc<Metrics> {
        Self::metrics(self)
    }
}
