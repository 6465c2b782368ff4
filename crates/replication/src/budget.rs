//! What one peer may cost between two ticks.
//!
//! Answers to questions are larger than the questions. So each peer is lent so many bytes of what was decided, be it
//! bodies, slots or state; its questions are answered so often; each client's bundle is answered from memory once; and
//! each peer is told of the stable checkpoint once, until the next tick. Whoever needs more asks again.

use alloc::collections::{BTreeMap, BTreeSet};
use testudo_core::{Digest, Peer, Position, limits};

/// What a peer has been given.
#[derive(Clone, Copy, Debug, Default)]
struct Lent {
    items: usize,
    bytes: usize,
    questions: usize,
    claims: usize,
}

/// What was given since the last tick.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budgets {
    /// Whether the tick is set.
    is_ticking: bool,
    lent: BTreeMap<Peer, Lent>,
    answered: BTreeSet<Digest>,
    told: BTreeSet<Peer>,
    /// Who waits for which record to be read back. Forgotten at the tick: a record that cannot be read is never given.
    pub(crate) lenders: BTreeMap<Position, BTreeSet<Peer>>,
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

    /// Whether one more body may be looked up for this peer.
    pub(crate) fn may_look_up(&mut self, peer: Peer) -> bool {
        let lent = self.lent.entry(peer).or_default();
        lent.items += 1;
        lent.items <= limits::LENT_ITEMS && lent.bytes <= limits::LENT_BYTES
    }

    /// Whether this peer may be lent so many bytes more. Something is lent to whoever has nothing yet, however large.
    pub(crate) fn may_lend(&mut self, peer: Peer, bytes: usize) -> bool {
        let lent = self.lent.entry(peer).or_default();
        let fits = lent.bytes == 0 || lent.bytes + bytes <= limits::LENT_BYTES;
        if fits {
            lent.bytes += bytes.max(1);
        }
        fits
    }

    /// Whether one more question of this peer, about what was decided or the state, is answered.
    pub(crate) fn may_ask(&mut self, peer: Peer) -> bool {
        let lent = self.lent.entry(peer).or_default();
        lent.questions += 1;
        lent.questions <= limits::QUESTIONS
    }

    /// Whether one more question of this peer for a claim is answered.
    pub(crate) fn may_ask_for_claim(&mut self, peer: Peer) -> bool {
        let lent = self.lent.entry(peer).or_default();
        lent.claims += 1;
        lent.claims <= limits::CLAIMS
    }

    /// Whether this bundle may be answered from memory.
    pub(crate) fn may_answer(&mut self, bundle: Digest) -> bool {
        self.answered.insert(bundle)
    }

    /// Whether this peer may be told of the stable checkpoint.
    pub(crate) fn may_tell(&mut self, peer: Peer) -> bool {
        self.told.insert(peer)
    }
}
