//! What was executed last, for learners that lag a little: they need not fetch the state for it.

use crate::feed::Voucher;
use crate::message::Bundle;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use testudo_contracts::Batch;
use testudo_core::{Digest, Peer, Signed, Slot, View, limits};

/// An executed slot.
#[derive(Clone, Debug)]
pub(crate) struct Executed {
    pub(crate) slot: Slot,
    pub(crate) batch: Batch,
    pub(crate) chain: Digest,
    pub(crate) outcome: Digest,
    /// The bodies of its bundles, as far as it executed them and they are kept.
    pub(crate) bodies: Vec<Signed<Bundle>>,
}

impl Executed {
    /// What a replica in this view says of it.
    pub(crate) const fn voucher(&self, view: View) -> Voucher {
        Voucher { slot: self.slot, chain: self.chain, outcome: self.outcome, view }
    }

    /// The bodies that somebody lacks, as many as fit one message.
    pub(crate) fn bodies_for(&self, peer: Peer) -> Vec<Signed<Bundle>> {
        let mut bytes = 0;
        let others = self.bodies.iter().filter(|body| body.header().sender != peer);
        let fitting = others.take_while(|body| {
            bytes += body.len();
            bytes <= limits::FEED_BYTES
        });
        fitting.cloned().collect()
    }

    fn bytes(&self) -> usize {
        self.bodies.iter().map(Signed::len).sum()
    }
}

/// The slots that were executed last. Invariant: in order, without gaps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    slots: VecDeque<Executed>,
    /// How many at the front have lost their bodies.
    bare: usize,
    /// Bytes of the bodies of the others.
    bytes: usize,
}

impl Recent {
    /// One more was executed.
    pub(crate) fn push(&mut self, executed: Executed) {
        self.bytes += executed.bytes();
        self.slots.push_back(executed);
        while self.bytes > limits::RECENT_BYTES
            && let Some(oldest) = self.slots.get_mut(self.bare)
        {
            self.bytes -= oldest.bytes();
            oldest.bodies = Vec::new();
            self.bare += 1;
        }
        while self.slots.len() > limits::RECENT_SLOTS {
            self.pop();
        }
    }

    /// Lets go of what nobody needs who fetches the state of this slot, beyond the few that are kept for those who
    /// hardly lag.
    pub(crate) fn trim(&mut self, served: Slot) {
        while self.slots.len() > limits::RECENT_SLOTS / 4
            && self.slots.front().is_some_and(|oldest| oldest.slot <= served)
        {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(oldest) = self.slots.pop_front() {
            self.bytes -= oldest.bytes();
            self.bare = self.bare.saturating_sub(1);
        }
    }

    /// The slot, if it is still known.
    pub(crate) fn get(&self, slot: Slot) -> Option<&Executed> {
        let first = self.slots.front()?.slot;
        let index = usize::try_from(slot.0.checked_sub(first.0)?).ok()?;
        self.slots.get(index)
    }
}
