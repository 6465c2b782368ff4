//! Who said what, and whether enough said the same.

use alloc::collections::BTreeMap;
use testudo_core::ReplicaId;

/// What became of a vote that was [cast](Tally::cast).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cast {
    /// The replica's first: it counts.
    Counted,
    /// It said the same before.
    Repeated,
    /// It said something else before, and that stands. Two signed statements that differ are often evidence.
    Conflicting,
}

/// One vote of each replica, for values that are equal or not.
///
/// There are two policies, and each place in a protocol has one of them. Where a correct replica votes once (a phase
/// of a view), its first vote stands: [`Tally::cast`]. Where it may say more over time (a claim, a checkpoint, a view
/// that it moves to), its latest stands: [`Tally::revise`]. Either way no replica counts twice, and a replica that
/// says one thing to some and another to others cannot vote for both here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tally<T> {
    votes: BTreeMap<ReplicaId, T>,
}

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self { votes: BTreeMap::new() }
    }
}

impl<T: Ord> Tally<T> {
    /// Nobody voted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a vote; the replica's first stands.
    pub fn cast(&mut self, replica: ReplicaId, value: T) -> Cast {
        match self.votes.get(&replica) {
            None => {
                self.votes.insert(replica, value);
                Cast::Counted
            }
            Some(before) if *before == value => Cast::Repeated,
            Some(_) => Cast::Conflicting,
        }
    }

    /// Takes a vote in place of the replica's last one, which is given back.
    pub fn revise(&mut self, replica: ReplicaId, value: T) -> Option<T> {
        self.votes.insert(replica, value)
    }

    /// What a replica's vote is.
    #[must_use]
    pub fn vote(&self, replica: ReplicaId) -> Option<&T> {
        self.votes.get(&replica)
    }

    /// How many voted for this value.
    #[must_use]
    pub fn count(&self, value: &T) -> usize {
        self.voters(value).count()
    }

    /// Whether at least `size` voted for this value.
    #[must_use]
    pub fn reached(&self, value: &T, size: usize) -> bool {
        self.count(value) >= size
    }

    /// A value that at least `size` voted for: the one with the most votes, and among equals the least. With `size` a
    /// quorum there is only one that can have as many.
    #[must_use]
    pub fn winner(&self, size: usize) -> Option<&T> {
        let mut counts = BTreeMap::new();
        for value in self.votes.values() {
            *counts.entry(value).or_insert(0_usize) += 1;
        }
        let most = counts.iter().rev().max_by_key(|(_, count)| **count);
        most.filter(|(_, count)| **count >= size).map(|(value, _)| *value)
    }

    /// Who voted for this value, in order.
    pub fn voters<'a>(&'a self, value: &'a T) -> impl Iterator<Item = ReplicaId> + 'a {
        self.votes.iter().filter(move |(_, vote)| *vote == value).map(|(replica, _)| *replica)
    }

    /// All votes, by replica.
    pub fn votes(&self) -> impl Iterator<Item = (ReplicaId, &T)> {
        self.votes.iter().map(|(replica, value)| (*replica, value))
    }

    /// The `rank`-th smallest vote, counted from 1: with claims for votes, what at least `rank` replicas claim no more
    /// than. `None` until that many voted.
    #[must_use]
    pub fn smallest(&self, rank: usize) -> Option<&T> {
        let mut values: alloc::vec::Vec<_> = self.votes.values().collect();
        values.sort_unstable();
        values.get(rank.checked_sub(1)?).copied()
    }

    /// The `rank`-th largest vote, counted from 1: what at least `rank` replicas have reached. With `rank` = f+1 a
    /// correct one is among them. `None` until that many voted.
    #[must_use]
    pub fn largest(&self, rank: usize) -> Option<&T> {
        let above = self.votes.len().checked_sub(rank)?;
        self.smallest(above + 1)
    }

    /// How many voted at all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.votes.len()
    }

    /// Whether nobody voted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.votes.is_empty()
    }

    /// Forgets the votes that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(ReplicaId, &T) -> bool) {
        self.votes.retain(|replica, value| keep(*replica, value));
    }

    /// Forgets all votes.
    pub fn clear(&mut self) {
        self.votes.clear();
    }
}
