//! What a replica keeps in memory, for whoever sees to it that nothing grows without end.

use crate::replica::Replica;
use crate::rules::Rules;
use alloc::vec::Vec;
use testudo_contracts::{Ordering, Service};

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// What it keeps beside the service's own state, by name, and how many of each; what its ordering keeps is among it.
    #[must_use]
    pub fn tables(&self) -> Vec<(&'static str, usize)> {
        let mut tables = self.order.tables();
        tables.extend([
            ("bodies", self.bodies.len()),
            ("batches without bodies", self.decided.len()),
            ("bodies that are lacking", self.needed.len()),
            ("bundles that wait", self.waiting.len()),
            ("slots of checkpoints", self.checkpoints.len()),
            ("states served", self.serving.len()),
            ("slots for learners", self.recent.len()),
            ("learners", self.followers.len()),
            ("sessions", self.state.system.len()),
            ("entries of sessions", self.state.system.map().len()),
        ]);
        tables
    }
}
