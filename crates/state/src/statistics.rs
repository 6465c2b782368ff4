//! The shape of a map, for tests and operators.

use crate::Map;
use crate::node::Child;
use crate::walk::{Cut, Step, Walk};

/// The shape of a map. It is a function of its contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Nodes where keys part.
    pub inner: usize,
    /// Blocks of entries.
    pub blocks: usize,
    /// Nodes on the longest way from the root, both ends counted.
    pub depth: usize,
}

impl Map {
    /// The shape of the map. Visits all of it.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::default();
        let mut count = |child: &Child, depth: usize| {
            match child {
                Child::Inner(_) => statistics.inner += 1,
                Child::Block(..) => statistics.blocks += 1,
            }
            statistics.depth = statistics.depth.max(depth);
        };
        let mut walk = Walk::new(self.root.as_ref(), Cut::Start, false);
        if let Some(root) = &self.root {
            count(root, 1);
        }
        while let Some(step) = walk.step() {
            if let Step::Child(child) = step {
                walk.enter(child);
                count(child, walk.depth());
            }
        }
        statistics
    }
}
