//! What peers may cost between two ticks.
//!
//! Answers to questions are larger than the questions. So each peer is lent so many bytes of what was decided, be it
//! bodies, slots or state; its questions are answered so often; each client's bundle is answered from memory once; and
//! each peer is told of the stable checkpoint once, until the next tick. Whoever needs more asks again.
//!
//! To find a part of the state is work, and there may be many clients. So parts have a budget for all peers as well, of
//! which some is left for those who have had none: they go on, if slowly, whatever others ask.

use alloc::collections::{BTreeMap, BTreeSet};
use testudo_core::{Digest, Peer, Position, limits};

/// Bytes of parts of the state that all peers are lent together.
const PARTS_BYTES: usize = 2 * limits::LENT_BYTES;

/// Bytes beyond these for those who have had no part yet.
const FIRST_PARTS_BYTES: usize = limits::LENT_BYTES;

/// What a peer has been given.
#[derive(Clone, Copy, Debug, Default)]
struct Lent {
    items: usize,
    bytes: usize,
    questions: usize,
    claims: usize,
    /// Whether a part of the state was among it.
    has_part: bool,
}

/// What was given since the last tick.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budgets {
    /// Whether the tick is set.
    is_ticking: bool,
    lent: BTreeMap<Peer, Lent>,
    /// Bytes of parts of the state that were lent to all.
    parts: usize,
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

    /// Whether this peer may be lent one more part of the state. What that takes is known only when it is found, so there
    /// must be room for one as large as they get.
    pub(crate) fn may_lend_part(&self, peer: Peer) -> bool {
        let lent = self.lent.get(&peer).copied().unwrap_or_default();
        let limit = PARTS_BYTES + if lent.has_part { 0 } else { FIRST_PARTS_BYTES };
        let fits = lent.bytes == 0 || lent.bytes + limits::CHUNK_BYTES <= limits::LENT_BYTES;
        fits && self.parts + limits::CHUNK_BYTES <= limit
    }

    /// This peer was lent a part of the state that took so much.
    pub(crate) fn lent_part(&mut self, peer: Peer, bytes: usize) {
        let lent = self.lent.entry(peer).or_default();
        lent.has_part = true;
        lent.bytes = lent.bytes.saturating_add(bytes.max(1));
        self.parts = self.parts.saturating_add(bytes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use testudo_core::{PublicKey, ReplicaId};

    fn client(name: u8) -> Peer {
        Peer::Client(PublicKey([name; 32]))
    }

    /// How many parts of the state a peer is lent that asks for as many as it can get.
    fn drain(budgets: &mut Budgets, peer: Peer) -> usize {
        let mut parts = 0;
        while parts < 1000 && budgets.may_lend_part(peer) {
            budgets.lent_part(peer, limits::CHUNK_BYTES);
            parts += 1;
        }
        parts
    }

    #[test]
    fn small_parts_cost_little() {
        let mut budgets = Budgets::default();
        for _ in 0..1000 {
            assert!(budgets.may_lend_part(client(0)));
            budgets.lent_part(client(0), 1000);
        }
        assert!(budgets.may_lend(client(0), limits::CHUNK_BYTES));
    }

    #[test]
    fn parts_are_bounded_over_all_peers_and_one_does_not_take_all() {
        let share = limits::LENT_BYTES / limits::CHUNK_BYTES;
        let mut budgets = Budgets::default();
        assert_eq!(drain(&mut budgets, client(0)), share);
        assert_eq!(drain(&mut budgets, client(1)), share, "another has as much");
        // Those who come after two such get something each, until nothing is left.
        let later: Vec<usize> = (2..200).map(|name| drain(&mut budgets, client(name))).collect();
        assert_eq!(later.iter().filter(|parts| **parts == 1).count(), share);
        assert_eq!(later.iter().sum::<usize>(), share);
        assert_eq!(drain(&mut budgets, Peer::Replica(ReplicaId(1))), 0);
        budgets.tick();
        assert_eq!(drain(&mut budgets, Peer::Replica(ReplicaId(1))), share);
    }

    #[test]
    fn what_else_is_lent_counts_for_its_peer_alone() {
        let mut budgets = Budgets::default();
        (0..200).for_each(|name| assert!(budgets.may_lend(client(name), limits::LENT_BYTES)));
        assert!(!budgets.may_lend_part(client(0)), "it has had enough");
        assert!(budgets.may_lend_part(client(200)));
    }
}
