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

    /// How many slots are kept.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
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

    /// Bodies were forgotten of slots up to this one, all but those that `has` knows of. Lets go of what nobody can follow
    /// without them, and gives the last slot of which one is gone.
    pub(crate) fn forget(&mut self, last: Slot, has: impl Fn(&Digest) -> bool) -> Slot {
        let is_bare =
            |executed: &Executed| executed.slot <= last && !executed.batch.bundles.iter().all(&has);
        let bare = self.slots.iter().rposition(is_bare).map_or(0, |index| index + 1);
        let slot = bare.checked_sub(1).and_then(|index| self.slots.get(index));
        let slot = slot.map_or(Slot(0), |executed| executed.slot);
        (0..bare).for_each(|_| self.pop());
        slot
    }

    fn pop(&mut self) {
        if let Some(oldest) = self.slots.pop_front() {
            self.bytes -= oldest.bytes();
            self.bare = self.bare.saturating_sub(1);
        }
    }

    /// The chain over results after each slot that is known.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (Slot, Digest)> + '_ {
        self.slots.iter().map(|executed| (executed.slot, executed.outcome))
    }

    /// The oldest slot that is known.
    pub(crate) fn first(&self) -> Option<Slot> {
        self.slots.front().map(|oldest| oldest.slot)
    }

    /// The slots after one and up to another; none if they are not all known.
    pub(crate) fn after(&self, slot: Slot, to: Slot) -> Option<Vec<Executed>> {
        (slot.0 + 1..=to.0).map(|slot| self.get(Slot(slot)).cloned()).collect()
    }

    /// The slot, if it is still known.
    pub(crate) fn get(&self, slot: Slot) -> Option<&Executed> {
        let first = self.slots.front()?.slot;
        let index = usize::try_from(slot.0.checked_sub(first.0)?).ok()?;
        self.slots.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Request;
    use alloc::sync::Arc;
    use alloc::vec;
    use testudo_core::{Domain, PublicKey, Signature, Signer, Verified};

    struct Nobody;
    impl Signer for Nobody {
        fn sign(&self, _: &Digest) -> Signature {
            Signature([0; 64])
        }
    }

    fn client(name: u8) -> Peer {
        Peer::Client(PublicKey([name; 32]))
    }

    fn body(name: u8, bytes: usize) -> Signed<Bundle> {
        let operations = vec![Arc::from(vec![name; bytes])];
        let request = Request::Operations { session: 1, sequence: 1, operations };
        let bundle = Bundle { replier: testudo_core::ReplicaId(0), request };
        Verified::seal(bundle, client(name), Domain::default(), &Nobody).signed()
    }

    fn executed(slot: u64, bodies: Vec<Signed<Bundle>>) -> Executed {
        let (chain, outcome) = (Digest::of(&slot.to_le_bytes()), Digest::ZERO);
        Executed { slot: Slot(slot), batch: Batch::null(), chain, outcome, bodies }
    }

    #[test]
    fn bodies_are_bounded_in_bytes_and_the_newest_stay() {
        let mut recent = Recent::default();
        let large = limits::RECENT_BYTES / 4;
        for slot in 1..=20 {
            recent.push(executed(slot, vec![body(1, large)]));
            let kept = recent.slots.iter().map(Executed::bytes).sum::<usize>();
            assert_eq!(kept, recent.bytes);
            assert!(kept <= limits::RECENT_BYTES);
        }
        assert!(recent.get(Slot(17)).is_some_and(|executed| executed.bodies.is_empty()));
        assert!(recent.get(Slot(20)).is_some_and(|executed| executed.bodies.len() == 1));
        recent.push(executed(21, vec![body(1, 2 * limits::RECENT_BYTES)]));
        assert_eq!(recent.bytes, 0, "one that is too large for all of it is not kept");
        assert!(recent.get(Slot(21)).is_some());
    }

    #[test]
    fn slots_are_bounded_and_trimmed_behind_what_is_served() {
        let mut recent = Recent::default();
        let most = limits::RECENT_SLOTS as u64;
        (1..=most + 10).for_each(|slot| recent.push(executed(slot, vec![body(1, 8)])));
        assert!(recent.get(Slot(10)).is_none());
        assert_eq!(recent.get(Slot(11)).map(|executed| executed.slot), Some(Slot(11)));
        recent.trim(Slot(100));
        assert!(recent.get(Slot(100)).is_none());
        assert!(recent.get(Slot(101)).is_some());
        recent.trim(Slot(most + 10));
        assert_eq!(recent.slots.len(), limits::RECENT_SLOTS / 4);
        assert!(recent.get(Slot(most + 10)).is_some());
        assert!(recent.get(Slot(most + 11)).is_none());
        let kept = recent.slots.iter().map(Executed::bytes).sum::<usize>();
        assert_eq!((kept, recent.bare), (recent.bytes, 0));
    }

    #[test]
    fn what_nobody_can_follow_goes() {
        let mut recent = Recent::default();
        let batch = |name: u8| Batch { bundles: vec![Digest::of(&[name])], ..Batch::null() };
        for slot in 1..=9 {
            let batch = batch(slot);
            recent.push(Executed { batch, ..executed(u64::from(slot), vec![body(1, 8)]) });
        }
        let gone = [2, 4, 8].map(|name| Digest::of(&[name]));
        assert_eq!(recent.forget(Slot(7), |digest| !gone.contains(digest)), Slot(4));
        assert!(recent.get(Slot(4)).is_none());
        assert!(recent.get(Slot(5)).is_some() && recent.get(Slot(9)).is_some());
        assert_eq!(recent.forget(Slot(7), |_| true), Slot(0));
        assert_eq!(recent.slots.iter().map(Executed::bytes).sum::<usize>(), recent.bytes);
    }

    #[test]
    fn a_learner_is_spared_its_own_bodies_and_what_does_not_fit() {
        let large = limits::FEED_BYTES / 2;
        let executed = executed(1, vec![body(1, 8), body(2, large), body(3, large), body(4, 8)]);
        let senders = |peer| -> Vec<Peer> {
            executed.bodies_for(peer).iter().map(|body| body.header().sender).collect()
        };
        assert_eq!(senders(client(2)), [client(1), client(3), client(4)]);
        assert_eq!(senders(client(9)), [client(1), client(2)]);
    }
}
