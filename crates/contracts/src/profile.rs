//! What a protocol declares about itself: the planner reads it, and simulations hold it to it.

use testudo_core::fault::{Authentication, FaultKind, Timing};

/// What a protocol is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// Agreement on a sequence.
    Ordering,
}

/// What a protocol assumes, needs and costs.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Its name on the command line and in metrics.
    pub name: &'static str,
    /// What it is for.
    pub family: Family,
    /// Which faults it survives.
    pub faults: FaultKind,
    /// What it assumes of time for liveness. Its safety assumes nothing of time.
    pub timing: Timing,
    /// What it needs to be authenticated by.
    pub authentication: Authentication,
    /// How many replicas it needs to survive f faults.
    pub replicas: fn(f: usize) -> usize,
    /// One-way message delays from a client's request to its accepted reply, without faults.
    pub delays: u32,
    /// Messages between replicas for one slot among n of them, without faults; messages to oneself not counted.
    pub messages: fn(n: usize) -> usize,
    /// Whether it lets replicas execute before the order is final.
    pub speculative: bool,
    /// Its paper.
    pub source: &'static str,
}
