//! What one peer may cost between two ticks.
//!
//! Answers to questions are larger than the questions. So each peer is lent so many bodies, each client's bundle is
//! answered from memory once, and each replica is told of the stable checkpoint once, until the next tick. Whoever
//! needs more asks again.

use alloc::collections::{BTreeMap, BTreeSet};
use testudo_core::{Digest, Position, ReplicaId, limits};

#[derive(Clone, Copy, Debug, Default)]
struct Lent {
    items: usize,
    bytes: usize,
}

/// What was given since the last tick.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budgets {
    /// Whether the tick is set.
    is_ticking: bool,
    lent: BTreeMap<ReplicaId, Lent>,
    answered: BTreeSet<Digest>,
    told: BTreeSet<ReplicaId>,
    /// Who waits for which record to be read back. Forgotten at the tick: a record that cannot be read is never given.
    pub(crate) lenders: BTreeMap<Position, BTreeSet<ReplicaId>>,
}

impl Budgets {
    /// True once after each tick: the next one is to be set.
    pub(crate) fn must_set_tick(&mut self) -> bool {
        !core::mem::replace(&mut self.is_ticking, true)
    }

    /// A new period begins.
    pub(crate) fn tick(&mut self) {
        *self = Self::default();
    }

    /// Whether one more body may be looked up for this replica.
    pub(crate) fn may_look_up(&mut self, peer: ReplicaId) -> bool {
        let lent = self.lent.entry(peer).or_default();
        lent.items += 1;
        lent.items <= limits::LENT_ITEMS && lent.bytes <= limits::LENT_BYTES
    }

    /// Whether this replica may be lent so many bytes more.
    pub(crate) fn may_lend(&mut self, peer: ReplicaId, bytes: usize) -> bool {
        let lent = self.lent.entry(peer).or_default();
        let fits = lent.bytes + bytes <= limits::LENT_BYTES;
        if fits {
            lent.bytes += bytes;
        }
        fits
    }

    /// Whether this bundle may be answered from memory.
    pub(crate) fn may_answer(&mut self, bundle: Digest) -> bool {
        self.answered.insert(bundle)
    }

    /// Whether this replica may be told of the stable checkpoint.
    pub(crate) fn may_tell(&mut self, peer: ReplicaId) -> bool {
        self.told.insert(peer)
    }
}
