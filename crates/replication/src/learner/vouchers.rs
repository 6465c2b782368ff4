//! What replicas vouch for.

use crate::feed::Voucher;
use alloc::collections::BTreeMap;
use testudo_core::{Digest, ReplicaId, Slot, View};

/// Slots whose vouchers are kept of each replica: the lowest, which are needed first, and the latest. A voucher covers
/// all slots before it, so that others stand for those that are forgotten.
const KEPT: usize = 512;

/// Both chains at a slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Links {
    pub(crate) chain: Digest,
    pub(crate) outcome: Digest,
}

/// The vouchers of all replicas.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vouchers {
    /// Those for slots that are not shown yet: the first word of each replica on each slot.
    said: BTreeMap<ReplicaId, BTreeMap<Slot, Links>>,
    /// How far each replica says to be, and in which view.
    latest: BTreeMap<ReplicaId, (Slot, View)>,
    /// The slots among these on which enough replicas say the same.
    certain: BTreeMap<Slot, Links>,
}

impl Vouchers {
    /// A replica vouches. `enough` is how many must say the same.
    pub(crate) fn add(
        &mut self,
        replica: ReplicaId,
        voucher: &Voucher,
        shown: Slot,
        enough: usize,
    ) {
        let Voucher { slot, chain, outcome, view } = *voucher;
        let latest = self.latest.entry(replica).or_default();
        *latest = (latest.0.max(slot), latest.1.max(view));
        if slot <= shown {
            return;
        }
        let links = Links { chain, outcome };
        let said = self.said.entry(replica).or_default();
        let links = *said.entry(slot).or_insert(links);
        keep_few(said);
        let same = self.said.values().filter(|said| said.get(&slot) == Some(&links)).count();
        if same >= enough {
            self.certain.entry(slot).or_insert(links);
            keep_few(&mut self.certain);
        }
    }

    /// The highest slot up to this one that enough replicas vouch for in the same words, and these.
    pub(crate) fn up_to(&self, slot: Slot) -> Option<(Slot, Links)> {
        self.certain.range(..=slot).next_back().map(|(slot, links)| (*slot, *links))
    }

    /// Vouchers up to this slot matter no more.
    pub(crate) fn forget(&mut self, shown: Slot) {
        for said in self.said.values_mut() {
            *said = said.split_off(&shown.next());
        }
        self.certain = self.certain.split_off(&shown.next());
    }

    /// How many replicas have said anything.
    pub(crate) fn heard(&self) -> usize {
        self.latest.len()
    }

    /// How far at least one correct replica is: `enough` say to be there or further.
    pub(crate) fn known(&self, enough: usize) -> Option<Slot> {
        self.ranked(enough, |latest| latest.0)
    }

    /// The view that at least one correct replica is in, or a higher one.
    pub(crate) fn view(&self, enough: usize) -> View {
        self.ranked(enough, |latest| latest.1).unwrap_or_default()
    }

    fn ranked<T: Ord>(&self, enough: usize, of: impl Fn(&(Slot, View)) -> T) -> Option<T> {
        let mut all: alloc::vec::Vec<T> = self.latest.values().map(of).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.into_iter().nth(enough.saturating_sub(1))
    }
}

/// Lets go of what is beyond the limit: not the lowest, which is what a learner that lags is after, nor the latest.
fn keep_few(said: &mut BTreeMap<Slot, Links>) {
    while said.len() > KEPT
        && let Some(last_but_one) = said.keys().nth_back(1).copied()
    {
        said.remove(&last_but_one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voucher(slot: u64, outcome: u8) -> Voucher {
        let chain = Digest([u8::try_from(slot).expect("small"); 32]);
        Voucher { slot: Slot(slot), chain, outcome: Digest([outcome; 32]), view: View(slot) }
    }

    #[test]
    fn it_takes_enough_in_the_same_words() {
        let mut vouchers = Vouchers::default();
        vouchers.add(ReplicaId(0), &voucher(3, 1), Slot(0), 2);
        vouchers.add(ReplicaId(0), &voucher(3, 1), Slot(0), 2);
        vouchers.add(ReplicaId(1), &voucher(3, 2), Slot(0), 2);
        assert_eq!(vouchers.up_to(Slot(9)), None);
        // A replica that changes its mind is heard once.
        vouchers.add(ReplicaId(1), &voucher(3, 1), Slot(0), 2);
        assert_eq!(vouchers.up_to(Slot(9)), None);
        vouchers.add(ReplicaId(2), &voucher(3, 2), Slot(0), 2);
        assert_eq!(
            vouchers.up_to(Slot(9)).map(|(slot, links)| (slot, links.outcome.0[0])),
            Some((Slot(3), 2))
        );
    }

    #[test]
    fn how_far_is_what_enough_say() {
        let mut vouchers = Vouchers::default();
        assert_eq!(vouchers.known(2), None);
        for (replica, slot) in [(0, 90), (1, 4), (2, 6)] {
            vouchers.add(ReplicaId(replica), &voucher(slot, 0), Slot(0), 2);
        }
        assert_eq!(vouchers.known(2), Some(Slot(6)), "one may lie about the highest");
        assert_eq!(vouchers.view(2), View(6));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut vouchers = Vouchers::default();
        for slot in 1..=200 {
            vouchers.add(ReplicaId(0), &voucher(slot, 0), Slot(0), 2);
        }
        vouchers.forget(Slot(150));
        assert_eq!(vouchers.said[&ReplicaId(0)].len(), 50);
        for slot in 0..2000_u64 {
            let voucher = Voucher { slot: Slot(1000 + slot), ..voucher(1, 0) };
            vouchers.add(ReplicaId(0), &voucher, Slot(150), 2);
        }
        assert_eq!(vouchers.said[&ReplicaId(0)].len(), KEPT);
    }

    /// While a state is fetched vouchers for slots far ahead come in; those for the slots after it come later.
    #[test]
    fn low_slots_find_room_among_high_ones() {
        let mut vouchers = Vouchers::default();
        for slot in 5000..7000_u64 {
            for replica in 0..2 {
                let voucher = Voucher { slot: Slot(slot), ..voucher(1, 0) };
                vouchers.add(ReplicaId(replica), &voucher, Slot(0), 2);
            }
        }
        (0..2).for_each(|replica| vouchers.add(ReplicaId(replica), &voucher(64, 1), Slot(0), 2));
        assert_eq!(vouchers.up_to(Slot(100)).map(|(slot, _)| slot), Some(Slot(64)));
        assert!(vouchers.certain.contains_key(&Slot(6999)));
        assert!(vouchers.certain.len() <= KEPT);
    }
}
