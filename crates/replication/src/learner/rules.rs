//! The rules that make a learner right. Tests break them one at a time.

use crate::executor::Replicated;
use crate::feed::{Head, Summaries};
use testudo_core::Digest;
use testudo_quorum::Dissemination;
use testudo_state::Map;

/// When a learner believes what, as far as safety hangs on it.
pub trait Rules: 'static {
    /// How many replicas must vouch for the same chain before a slot is executed: one of them is correct.
    #[must_use]
    fn vouchers(quorums: &Dissemination) -> usize {
        quorums.weak()
    }

    /// How many claims a round of reads needs; the copy must reach the greatest of the least so many. A decided slot has
    /// a quorum's commit votes, so among any quorum of claims is one, of a correct replica, that covers it.
    #[must_use]
    fn claims(quorums: &Dissemination) -> usize {
        quorums.quorum()
    }

    /// Whether what the copy came to is shown, given what is vouched for.
    #[must_use]
    fn may_show(own: Digest, vouched: Digest) -> bool {
        own == vouched
    }

    /// Whether it tells what its own bundles came to as soon as it has executed them, before that is compared.
    #[must_use]
    fn answers_unseen() -> bool {
        false
    }

    /// What the two maps of a state that is fetched are held against: what its certified head says, not what a source
    /// says of them.
    #[must_use]
    fn digests(head: &Head, summaries: &Summaries) -> [Digest; 2] {
        let _ = summaries;
        [head.system, head.service]
    }

    /// The state that was fetched: all of it, sessions included, and none if it is not what its head says. `own` are the
    /// sessions that were here before.
    #[must_use]
    fn assemble(head: &Head, system: Map, service: Map, own: &Map) -> Option<Replicated> {
        let _ = own;
        Replicated::from_parts(head, system, service)
    }
}

/// The rules as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standard {}

impl Rules for Standard {}
