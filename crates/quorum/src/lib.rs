//! Quorum systems as values.
//!
//! A protocol never computes `2f+1` in its handlers: it asks one of these for its size, and tests check that the
//! sizes intersect as the protocol needs, for any n and not only for 3f+1.
#![no_std]
#![forbid(unsafe_code)]

use testudo_core::Membership;

/// Quorums for statements that prove themselves (signed ones), while up to f replicas lie: any two intersect in at
/// least f+1 replicas, hence in a correct one (Malkhi and Reiter 1998, dissemination quorums).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dissemination {
    n: usize,
    f: usize,
}

impl Dissemination {
    /// The system for n replicas of which f may lie; `None` if no quorum could be had without them (n < 3f+1).
    #[must_use]
    pub const fn new(n: usize, f: usize) -> Option<Self> {
        if n > 3 * f { Some(Self { n, f }) } else { None }
    }

    /// The system that a membership claims to be; `None` as for [`Dissemination::new`].
    #[must_use]
    pub fn of(membership: &Membership) -> Option<Self> {
        Self::new(membership.n(), usize::from(membership.model.liars()))
    }

    /// n, the number of replicas.
    #[must_use]
    pub const fn n(&self) -> usize {
        self.n
    }

    /// f, the number of liars survived.
    #[must_use]
    pub const fn f(&self) -> usize {
        self.f
    }

    /// q = ⌈(n+f+1)/2⌉: the size of a quorum. It is 2f+1 where n = 3f+1, and can always be had from n−f replicas.
    #[must_use]
    pub const fn quorum(&self) -> usize {
        (self.n + self.f + 1).div_ceil(2)
    }

    /// f+1: the size of a weak certificate, which holds at least one correct replica.
    #[must_use]
    pub const fn weak(&self) -> usize {
        self.f + 1
    }
}
