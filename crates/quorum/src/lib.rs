//! Quorum systems as values.
//!
//! A protocol never computes `2f+1` in its handlers: it asks one of these for its size, and tests check that the
//! sizes intersect as the protocol needs, for any n and not only for 3f+1. [`tally`] counts who said what.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod tally;

pub use tally::{Cast, Tally};
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
        // n > 3f, in a form that no f overflows.
        if f < n.div_ceil(3) { Some(Self { n, f }) } else { None }
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

/// Quorums for replicas that crash and do not lie: any two intersect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Majority {
    n: usize,
    f: usize,
}

impl Majority {
    /// The system for n replicas of which f may crash; `None` if no quorum could be had without them (n < 2f+1).
    #[must_use]
    pub const fn new(n: usize, f: usize) -> Option<Self> {
        // n > 2f, in a form that no f overflows.
        if f < n.div_ceil(2) { Some(Self { n, f }) } else { None }
    }

    /// The system that a membership claims to be; `None` as for [`Majority::new`], and where replicas may lie.
    #[must_use]
    pub fn of(membership: &Membership) -> Option<Self> {
        match membership.model.liars() {
            0 => Self::new(membership.n(), usize::from(membership.model.f)),
            _ => None,
        }
    }

    /// n, the number of replicas.
    #[must_use]
    pub const fn n(&self) -> usize {
        self.n
    }

    /// f, the number of crashes survived.
    #[must_use]
    pub const fn f(&self) -> usize {
        self.f
    }

    /// q = ⌈(n+1)/2⌉: the size of a quorum, which can always be had from n−f replicas.
    #[must_use]
    pub const fn quorum(&self) -> usize {
        self.n / 2 + 1
    }
}

/// Whether any `a` and any `b` of n replicas have a correct one in common, while `liars` of the n lie: whatever all
/// correct ones among the first have done, one among the second tells of it.
///
/// So a read that asks for `b` claims sees every write that `a` replicas took. False if there are no `a` or no `b` to
/// be had among n.
#[must_use]
pub const fn intersect_in_correct(n: usize, liars: usize, a: usize, b: usize) -> bool {
    // a + b > n + liars, in a form that no size overflows.
    a <= n && b <= n && a > n - b && a - (n - b) > liars
}

/// Whether `size` of n replicas can be had while `faulty` of them are silent.
#[must_use]
pub const fn is_available(n: usize, faulty: usize, size: usize) -> bool {
    faulty <= n && size <= n - faulty
}
