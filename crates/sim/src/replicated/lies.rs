//! What liars say in replication's name: each kind of message has a lie of its own, which reads as a message and means
//! something else.

use super::Knowledge;
use crate::rng::Chance;
use crate::upstream::other_state;
use std::sync::Arc;
use testudo_contracts::{Checkpoint, Ordering};
use testudo_core::{Certificate, Decode, Digest, Encode, Epoch, Evidence, ReplicaId, Slot};
use testudo_replication::{
    Bundle, Claim, Follow, Readmission, ReplicaMessage, Reply, ReplyBody, Request, StateAsk,
    Voucher,
};

/// Lies that know what a replica says: other results, properly described; another state; a false accusation.
pub(super) fn corrupt<O: Ordering, K: Knowledge<O>>(
    message: &ReplicaMessage<O::Message>,
    chance: &mut dyn Chance,
) -> Option<ReplicaMessage<O::Message>> {
    Some(match message {
        ReplicaMessage::Order(message) => ReplicaMessage::Order(K::corrupt(message, chance)?),
        ReplicaMessage::Checkpoint(checkpoint) => {
            ReplicaMessage::Checkpoint(other_checkpoint(checkpoint))
        }
        ReplicaMessage::Bundle(bundle) => ReplicaMessage::Bundle(other_bundle(bundle, chance)),
        ReplicaMessage::Reply(reply) => {
            let body = forged_results(reply);
            let results = Digest::of(&body);
            ReplicaMessage::Reply(Reply { results, body: Some(body), ..reply.clone() })
        }
        // It asks for what nobody has.
        ReplicaMessage::Fetch(digests) => {
            let digest = digests.first().copied().unwrap_or_default();
            ReplicaMessage::Fetch(vec![Digest::of(&digest.0)])
        }
        // It keeps one back.
        ReplicaMessage::Bodies(bodies) => {
            let mut bodies = bodies.clone();
            bodies.pop()?;
            ReplicaMessage::Bodies(bodies)
        }
        // It says so without any proof.
        ReplicaMessage::Stable(stable) => {
            let statement = other_checkpoint(stable.statement());
            ReplicaMessage::Stable(Certificate::new(statement))
        }
        ReplicaMessage::Follow(Follow { from, payload }) => {
            let from = Slot(from.0.saturating_add(1 + chance.below(100)));
            ReplicaMessage::Follow(Follow { from, payload: *payload })
        }
        ReplicaMessage::Voucher(voucher) => {
            let outcome = Digest::of(&voucher.outcome.0);
            ReplicaMessage::Voucher(Voucher { outcome, ..voucher.clone() })
        }
        ReplicaMessage::Feed(feed) => {
            let mut feed = feed.clone();
            feed.batch.time.0 += 1;
            ReplicaMessage::Feed(feed)
        }
        ReplicaMessage::ClaimAsk(round) => ReplicaMessage::ClaimAsk(round ^ 1),
        ReplicaMessage::Claim(claim) => {
            let slot = Slot(claim.slot.0 / 2 + chance.below(1 << 20));
            ReplicaMessage::Claim(Claim { slot, ..*claim })
        }
        ReplicaMessage::StateAsk(ask) => ReplicaMessage::StateAsk(other_ask(ask)),
        ReplicaMessage::State(answer) => ReplicaMessage::State(other_state(answer, chance)?),
        ReplicaMessage::Hello(epoch) => ReplicaMessage::Hello(Epoch(epoch.0.saturating_add(1))),
        ReplicaMessage::Succession(succession) => {
            let mut succession = succession.clone();
            succession.from = Epoch(succession.from.0.saturating_add(1));
            ReplicaMessage::Succession(succession)
        }
    })
}

fn other_checkpoint(checkpoint: &Checkpoint) -> Checkpoint {
    Checkpoint { state: Digest::of(&checkpoint.state.0), ..checkpoint.clone() }
}

fn other_ask(ask: &StateAsk) -> StateAsk {
    match ask {
        StateAsk::Head => StateAsk::Certificate,
        StateAsk::Certificate => StateAsk::Head,
        StateAsk::Nodes { slot, tree, places } => {
            StateAsk::Nodes { slot: slot.next(), tree: *tree, places: places.clone() }
        }
    }
}

/// Somebody else is accused, or somebody comes back once more than he has.
fn other_bundle(bundle: &Bundle, chance: &mut dyn Chance) -> Bundle {
    let mut bundle = bundle.clone();
    match &mut bundle.request {
        Request::Convict(Evidence { accused, .. }) => accused.0 ^= 1,
        Request::Readmit(Readmission { incarnation, .. }, _) => {
            incarnation.0 = incarnation.0.saturating_add(1);
        }
        Request::Register { nonce } => *nonce ^= 1,
        Request::Operations { .. } => {
            bundle.replier = ReplicaId(bundle.replier.0 ^ (1 + chance.below(2) as u16));
        }
    }
    bundle
}

/// Results that a client would take for true if it believed one replica.
fn forged_results(reply: &Reply) -> Arc<[u8]> {
    let truth = reply.body.as_deref().map(ReplyBody::from_bytes);
    let forged = match truth {
        Some(Ok(ReplyBody::Results(results))) => {
            let forge = |result: &Arc<[u8]>| {
                let mut bytes = result.to_vec();
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
                bytes.into()
            };
            ReplyBody::Results(results.iter().map(forge).collect())
        }
        Some(Ok(ReplyBody::Registered(session))) => ReplyBody::Registered(session ^ 1),
        _ => ReplyBody::Results(vec![Arc::from(&b"forged"[..])]),
    };
    forged.to_bytes().into()
}
