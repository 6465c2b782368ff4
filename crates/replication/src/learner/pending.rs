//! Decided slots that an upstream has told of and that are not executed yet.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use testudo_contracts::Batch;
use testudo_core::{Digest, Slot, Verified};

use crate::executor::link;
use crate::message::Bundle;

/// Slots that are held at most. What an upstream tells beyond them is asked for again.
const SLOTS: usize = 1024;

/// Bytes of bodies that are held at most. Those beyond are fetched when their turn comes.
const BYTES: usize = 64 << 20;

#[derive(Clone, Debug)]
struct Told {
    batch: Batch,
    /// The chain up to this slot, if all of it is true.
    chain: Digest,
}

/// What the upstream has told, in order and without gaps.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The slot before the first one here, and the chain up to it.
    base: (Slot, Digest),
    told: VecDeque<Told>,
    /// Bodies, each with whether it was asked for: then a slot that was certainly decided needs it.
    bodies: BTreeMap<Digest, (Verified<Bundle>, bool)>,
    /// Bytes of the bodies.
    bytes: usize,
    /// Bodies that are asked for, and the slot before the one that they were asked for first.
    asked: (Slot, BTreeSet<Digest>),
    /// Bytes of bodies that came because they were asked for.
    received: usize,
}

impl Pending {
    /// Nothing is told yet of what follows this slot.
    pub(crate) fn after(slot: Slot, chain: Digest) -> Self {
        Self {
            base: (slot, chain),
            told: VecDeque::new(),
            bodies: BTreeMap::new(),
            bytes: 0,
            asked: (slot, BTreeSet::new()),
            received: 0,
        }
    }

    /// The first slot that is not told.
    pub(crate) fn next(&self) -> Slot {
        Slot(self.base.0.0 + self.told.len() as u64 + 1)
    }

    /// The upstream tells of a slot. False if it is not the next one, or if too many are here.
    pub(crate) fn tell(&mut self, slot: Slot, batch: &Batch) -> bool {
        if slot != self.next() || self.told.len() >= SLOTS {
            return false;
        }
        let before = self.told.back().map_or(self.base.1, |told| told.chain);
        let chain = link(before, slot, batch.digest());
        self.told.push_back(Told { batch: batch.clone(), chain });
        true
    }

    /// A body of the slot that was told last. Kept while there is room.
    pub(crate) fn keep(&mut self, body: Verified<Bundle>) {
        let digest = body.digest();
        let is_told = self.told.back().is_some_and(|told| told.batch.bundles.contains(&digest));
        if is_told && self.bytes + body.signed().len() <= BYTES {
            self.insert(body, false);
        }
    }

    /// A body that was asked for. Any other is left. What is asked for is certainly needed, so it is kept whatever there
    /// is room for; and no more is asked for than fits, but for the slot that is next.
    pub(crate) fn receive(&mut self, body: Verified<Bundle>) {
        if self.asked.1.remove(&body.digest()) {
            self.received += body.signed().len();
            self.insert(body, true);
        }
    }

    /// Bytes that came because they were asked for, since this was asked last.
    pub(crate) fn take_received(&mut self) -> usize {
        core::mem::take(&mut self.received)
    }

    fn insert(&mut self, body: Verified<Bundle>, was_asked: bool) {
        let bytes = body.signed().len();
        if self.bodies.insert(body.digest(), (body, was_asked)).is_none() {
            self.bytes += bytes;
        }
    }

    /// A body.
    pub(crate) fn body(&self, digest: &Digest) -> Option<&Verified<Bundle>> {
        self.bodies.get(digest).map(|(body, _)| body)
    }

    /// The chain up to a slot, as it was told.
    pub(crate) fn chain(&self, slot: Slot) -> Option<Digest> {
        if slot == self.base.0 {
            return Some(self.base.1);
        }
        let index = slot.0.checked_sub(self.base.0.0)?.checked_sub(1)?;
        self.told.get(usize::try_from(index).ok()?).map(|told| told.chain)
    }

    /// Forgets all that was told: it, or part of it, is not true. Bodies that came with it go, too; those that certain
    /// slots need stay.
    pub(crate) fn distrust(&mut self) {
        self.told.clear();
        self.asked.1.clear();
        self.bodies.retain(|_, (_, was_asked)| *was_asked);
        self.bytes = self.bodies.values().map(|(body, _)| body.signed().len()).sum();
    }

    /// The next slot to execute.
    pub(crate) fn first(&self) -> Option<(Slot, &Batch)> {
        self.told.front().map(|told| (self.base.0.next(), &told.batch))
    }

    /// Takes the first slot out. Its bodies stay until they are [dropped](Self::drop_bodies).
    pub(crate) fn take(&mut self) -> Option<Batch> {
        let Told { batch, chain } = self.told.pop_front()?;
        self.base = (self.base.0.next(), chain);
        Some(batch)
    }

    /// Drops the bodies of a batch.
    pub(crate) fn drop_bodies(&mut self, batch: &Batch) {
        for digest in &batch.bundles {
            if let Some((body, _)) = self.bodies.remove(digest) {
                self.bytes -= body.signed().len();
            }
        }
    }

    /// Whether what was asked for last is still on its way, and still what is needed first.
    pub(crate) fn is_asking(&self) -> bool {
        self.asked.0 == self.base.0 && !self.asked.1.is_empty()
    }

    /// Bodies that the slots up to `to`, which are certain, need and that are not here, in ascending order, at most
    /// `most`. They count as asked for.
    pub(crate) fn lacking(
        &mut self,
        to: Slot,
        most: usize,
        has: impl Fn(&Digest) -> bool,
    ) -> Vec<Digest> {
        let slots = usize::try_from(to.0.saturating_sub(self.base.0.0)).unwrap_or(usize::MAX);
        // Beyond what there is room for only the next slot may ask: it cannot be executed otherwise.
        let slots = if self.bytes < BYTES { slots } else { slots.min(1) };
        let mut lacking = BTreeSet::new();
        for digest in self.told.iter().take(slots).flat_map(|told| &told.batch.bundles) {
            if lacking.len() == most {
                break;
            }
            if !self.bodies.contains_key(digest) && !has(digest) {
                lacking.insert(*digest);
            }
        }
        self.asked = (self.base.0, lacking);
        self.asked.1.iter().copied().collect()
    }
}
