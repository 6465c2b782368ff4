//! Linearizable reads: one round of claims for all readers that wait.
//!
//! A round is asked after its last reader has come. Whatever was acknowledged, or shown to anybody, before that was
//! decided, so a quorum had voted for it; any quorum of claims has one of a correct replica among those voters, which
//! covers it. So the copy is fresh enough once it has reached the q-th smallest claim. Claims that come later can only
//! lower that: a liar's inflated claim binds no longer than until q correct replicas have answered.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use testudo_core::{ReplicaId, Slot};

/// Ticks after which a round that is not answered orders a barrier instead.
const PATIENCE: u32 = 4;

/// What is to be done after a tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Overdue {
    /// Nobody waits.
    Nothing,
    /// Ask all replicas again, in this round.
    Ask(u64),
    /// Claims do not come, or cannot be reached: have a barrier ordered, under this ticket. Told once in a round.
    Barrier(u64),
}

/// Readers that wait.
#[derive(Clone, Debug)]
pub(crate) struct Reads {
    /// The number of the round that is asked, or was asked last. The first one is drawn by chance, so that no claim that
    /// an earlier life of this learner asked for counts now.
    round: u64,
    /// Readers of the round that is asked. A round is open if there are some.
    asked: Vec<u64>,
    /// Readers that came after it was asked.
    gathering: Vec<u64>,
    claims: BTreeMap<ReplicaId, Slot>,
    /// Ticks since the round was asked.
    ticks: u32,
    /// The ticket of the open round's barrier, if it has one. A barrier of a round that is over frees nobody: the readers
    /// that came since came after it.
    barrier: Option<u64>,
    /// The next barrier's ticket.
    next_barrier: u64,
}

impl Reads {
    /// No readers yet. Rounds are numbered from `round` on, barriers' tickets from `barrier`.
    pub(crate) const fn new(round: u64, barrier: u64) -> Self {
        Self {
            round,
            asked: Vec::new(),
            gathering: Vec::new(),
            claims: BTreeMap::new(),
            ticks: 0,
            barrier: None,
            next_barrier: barrier,
        }
    }

    /// A reader comes. The round that is to be asked for now, if none is open.
    pub(crate) fn enter(&mut self, ticket: u64) -> Option<u64> {
        self.gathering.push(ticket);
        self.next_round()
    }

    /// Opens the next round if none is open and somebody waits.
    pub(crate) fn next_round(&mut self) -> Option<u64> {
        if !self.asked.is_empty() || self.gathering.is_empty() {
            return None;
        }
        self.asked = core::mem::take(&mut self.gathering);
        self.ticks = 0;
        self.round = self.round.wrapping_add(1);
        Some(self.round)
    }

    /// What was claimed so far counts no more: the open round is to be asked for again, under another number.
    pub(crate) fn begin_again(&mut self) -> Option<u64> {
        self.claims.clear();
        self.ticks = 0;
        if self.asked.is_empty() {
            return None;
        }
        self.round = self.round.wrapping_add(1);
        Some(self.round)
    }

    /// A replica claims. Each of its answers within a round is as good as another, so the lowest binds.
    pub(crate) fn claim(&mut self, replica: ReplicaId, round: u64, slot: Slot) {
        if round == self.round && !self.asked.is_empty() {
            let claim = self.claims.entry(replica).or_insert(slot);
            *claim = slot.min(*claim);
        }
    }

    /// How far the copy must be, if enough have answered.
    fn target(&self, enough: usize) -> Option<Slot> {
        let mut claims: Vec<Slot> = self.claims.values().copied().collect();
        claims.sort_unstable();
        claims.get(enough.checked_sub(1)?).copied()
    }

    /// The readers that may read now that the copy has reached `shown`. Their round is over.
    pub(crate) fn readable(&mut self, shown: Slot, enough: usize) -> Vec<u64> {
        match self.target(enough) {
            Some(target) if target <= shown => self.finish(),
            _ => Vec::new(),
        }
    }

    /// A barrier is executed and shown: the readers that may read now, if it stood for the open round.
    pub(crate) fn passed(&mut self, barrier: u64) -> Vec<u64> {
        if self.barrier == Some(barrier) { self.finish() } else { Vec::new() }
    }

    fn finish(&mut self) -> Vec<u64> {
        self.claims.clear();
        self.barrier = None;
        core::mem::take(&mut self.asked)
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) -> Overdue {
        if self.asked.is_empty() {
            return Overdue::Nothing;
        }
        self.ticks = self.ticks.saturating_add(1);
        if self.ticks != PATIENCE {
            return Overdue::Ask(self.round);
        }
        let ticket = self.next_barrier;
        self.next_barrier += 1;
        self.barrier = Some(ticket);
        Overdue::Barrier(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four replicas, one of which may lie: three claims are needed.
    const ENOUGH: usize = 3;

    fn round(claims: &[(u16, u64)]) -> Reads {
        let mut reads = Reads::new(7, 100);
        assert_eq!(reads.enter(1), Some(8));
        claims.iter().for_each(|(replica, slot)| reads.claim(ReplicaId(*replica), 8, Slot(*slot)));
        reads
    }

    #[test]
    fn the_copy_reaches_the_third_smallest_claim() {
        let mut reads = round(&[(0, 5), (1, 7)]);
        assert!(reads.readable(Slot(100), ENOUGH).is_empty(), "two claims are no quorum");
        reads.claim(ReplicaId(2), 8, Slot(6));
        assert!(reads.readable(Slot(6), ENOUGH).is_empty());
        assert_eq!(reads.readable(Slot(7), ENOUGH), [1]);
    }

    #[test]
    fn an_inflated_claim_binds_until_a_quorum_has_answered_honestly() {
        let mut reads = round(&[(0, u64::MAX), (1, 7), (2, 6)]);
        assert!(reads.readable(Slot(7), ENOUGH).is_empty());
        reads.claim(ReplicaId(3), 8, Slot(7));
        assert_eq!(reads.readable(Slot(7), ENOUGH), [1]);
    }

    #[test]
    fn a_reader_that_comes_later_waits_for_the_next_round() {
        let mut reads = round(&[(0, 1), (1, 1)]);
        assert_eq!(reads.enter(2), None);
        reads.claim(ReplicaId(2), 8, Slot(1));
        assert_eq!(reads.readable(Slot(1), ENOUGH), [1]);
        assert_eq!(reads.next_round(), Some(9));
        (0..4).for_each(|replica| reads.claim(ReplicaId(replica), 8, Slot(1)));
        assert!(
            reads.readable(Slot(1), ENOUGH).is_empty(),
            "claims of the round before count for nothing"
        );
        (0..4).for_each(|replica| reads.claim(ReplicaId(replica), 9, Slot(1)));
        assert_eq!(reads.readable(Slot(1), ENOUGH), [2]);
        assert_eq!(reads.tick(), Overdue::Nothing);
    }

    #[test]
    fn a_round_without_answers_is_asked_again_and_then_ordered() {
        let mut reads = round(&[]);
        let overdue: Vec<Overdue> = (0..6).map(|_| reads.tick()).collect();
        let ask = Overdue::Ask(8);
        assert_eq!(overdue, [ask, ask, ask, Overdue::Barrier(100), ask, ask]);
        assert_eq!(reads.passed(100), [1]);
        assert_eq!(reads.tick(), Overdue::Nothing);
    }

    #[test]
    fn a_barrier_frees_nobody_who_came_after_it() {
        let mut reads = round(&[]);
        while reads.tick() != Overdue::Barrier(100) {}
        (0..4).for_each(|replica| reads.claim(ReplicaId(replica), 8, Slot(0)));
        assert_eq!(reads.readable(Slot(0), ENOUGH), [1]);
        assert_eq!(reads.enter(2), Some(9));
        assert!(reads.passed(100).is_empty());
    }
}
