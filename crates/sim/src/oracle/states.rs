//! Who has executed the same slots holds the same state.
//!
//! Digests of what replicas hold are compared here directly, slot by slot, and not by what replicas say of checkpoints:
//! one that believes a certificate and holds something else is found out.

use super::window::forget_old;
use crate::event::NodeId;
use crate::workload::Finding;
use std::collections::BTreeMap;
use testudo_core::{Digest, Slot};

/// The digests of the states that correct replicas held, whose memories had not come to harm.
#[derive(Default, Debug)]
pub struct States {
    held: BTreeMap<Slot, (Digest, NodeId)>,
    compared: u64,
}

impl States {
    /// A replica holds a state of this digest after that slot.
    pub fn held(&mut self, node: NodeId, slot: Slot, state: Digest) -> Option<Finding> {
        let (first, by) = *self.held.entry(slot).or_insert((state, node));
        forget_old(&mut self.held);
        self.compared += u64::from(by != node);
        let NodeId(node) = node;
        (first != state).then(|| {
            let what = format!("replica {node} holds {state:?} after {slot:?}");
            ("equal states", format!("{what}, but replica {} {first:?}", by.0))
        })
    }

    /// How many states are remembered.
    #[must_use]
    pub fn size(&self) -> usize {
        self.held.len()
    }

    /// How many states were compared with another replica's.
    #[must_use]
    pub const fn compared(&self) -> u64 {
        self.compared
    }
}
