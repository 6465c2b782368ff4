//! When a client that keeps no state may believe what replicas tell it.

use alloc::collections::BTreeMap;
use testudo_contracts::{ReplyRule, ReplyVote, Verdict};
use testudo_core::{Membership, ReplicaId};
use testudo_quorum::Dissemination;

/// f+1 equal final replies: one of them is a correct replica's, and what that has executed finally never changes. The
/// paper's own rule goes here, with its section; a speculative one also looks at views.
#[derive(Clone, Copy, Debug)]
pub enum Reply {}

impl ReplyRule for Reply {
    fn judge(membership: &Membership, votes: &BTreeMap<ReplicaId, ReplyVote>) -> Verdict {
        let Some(system) = Dissemination::of(membership) else { return Verdict::Wait };
        let mut tallies = BTreeMap::new();
        for (replica, vote) in votes {
            if !vote.is_final || membership.member(*replica).is_none() {
                continue;
            }
            // The view is left out: replicas may execute one slot in different views.
            let count = tallies.entry((vote.slot, vote.results)).or_insert(0);
            *count += 1;
            if *count >= system.weak() {
                return Verdict::Accept(vote.slot, vote.results);
            }
        }
        Verdict::Wait
    }
}
