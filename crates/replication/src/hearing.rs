//! Who was heard of, in one's own epoch, of late.

use alloc::collections::BTreeSet;
use testudo_core::ReplicaId;

/// Ticks over which one listens.
const PERIOD: u32 = 4;

/// Who was heard of since the last look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hearing {
    heard: BTreeSet<ReplicaId>,
    ticks: u32,
}

impl Hearing {
    /// This replica has said something in the epoch.
    pub(crate) fn hear(&mut self, from: ReplicaId) {
        self.heard.insert(from);
    }

    /// Time has passed. Whether a period is over in which fewer than so many have said anything: the epoch may be over.
    pub(crate) fn is_too_quiet(&mut self, enough: usize) -> bool {
        self.ticks += 1;
        if self.ticks < PERIOD {
            return false;
        }
        self.ticks = 0;
        core::mem::take(&mut self.heard).len() < enough
    }
}
