//! How much a world keeps, which must not grow with the time that passes in it.

use super::{System, World, each_host};

impl<S: System> World<S> {
    /// How many things it keeps, whatever they are: messages under way and in queues, what has been started and what was
    /// answered and nobody has taken yet, cuts, memberships, and all nodes' timers, work and records. What automata
    /// themselves hold is not among them.
    #[must_use]
    pub fn kept(&self) -> usize {
        let of_nodes: usize =
            self.nodes.iter().map(|node| each_host!(&node.body, host => host.kept())).sum();
        let of_wire = self.wire.len() + self.cuts.len() + self.waiting();
        let to_take = self.pending.len() + self.answers.len();
        of_nodes + of_wire + to_take + self.rolls.borrow().len() + self.mended.len()
    }
}
