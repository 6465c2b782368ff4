//! What a plausible lie looks like, by the kind of thing that is said.

use super::Lie;
use super::learners::ToLearners;
use crate::failure::{Failure, Outcome};
use std::sync::Arc;
use testudo_core::{Decode, Digest, Encode, Message, Peer, ReplicaId};
use testudo_replication::{ReplicaMessage, Reply, ReplyBody};
use testudo_runtime::Outgoing;
use testudo_sim::liar::{self, Liar};
use testudo_sim::rng::{Chance, Rng};

/// Bytes at the beginning of an ordering's message that say where it counts (view and slot, as a rule), not what it
/// says. A vote that counts nowhere is a weak lie.
const PLACE_BYTES: u64 = 16;

/// What messages are called by which a replica that starts asks what it has said.
const INQUIRY: &str = "inquiry";

/// What the replica `me` of `n` says instead of the truth, to peers and clients.
pub(crate) fn outgoing<M: Message + Send + 'static>(
    lie: Lie,
    me: ReplicaId,
    n: usize,
) -> Outcome<Outgoing<ReplicaMessage<M>>> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| {
        Failure::failed(format!("the operating system gives no randomness: {error}"))
    })?;
    let mut chance = Rng::new(u64::from_le_bytes(seed));
    let mut to_peers = Liar::new(lie, me.into(), tamper::<M>);
    let mut two_faces = TwoFaces { me, n, last: None };
    let mut to_learners = ToLearners::new(lie);
    let mut earlier = None;
    Ok(Box::new(move |to, message| match (to, message) {
        (Peer::Client(_), ReplicaMessage::Reply(reply)) => {
            let told = to_client(lie, reply, &mut earlier, &mut chance);
            told.into_iter().map(|reply| (to, ReplicaMessage::Reply(reply))).collect()
        }
        (Peer::Client(_), message) if ToLearners::concerns(&message) => {
            let told = to_learners.say(&message, &mut chance);
            told.into_iter().map(|word| (to, word)).collect()
        }
        (Peer::Replica(peer), message) if lie == Lie::Equivocate => {
            vec![(to, two_faces.show(peer, message, &mut chance))]
        }
        (_, message) => to_peers.outgoing(to, message, &mut chance),
    }))
}

/// One face for some peers and another for the rest, as near to halves as they come: neither side is a quorum, so that
/// the most is made of the lie.
struct TwoFaces<M> {
    me: ReplicaId,
    n: usize,
    /// The last message's body, and what the second half is told instead.
    last: Option<(Vec<u8>, ReplicaMessage<M>)>,
}

impl<M: Message> TwoFaces<M> {
    fn show(
        &mut self,
        to: ReplicaId,
        message: ReplicaMessage<M>,
        chance: &mut dyn Chance,
    ) -> ReplicaMessage<M> {
        let place = usize::from(to.0) - usize::from(to > self.me);
        // Whoever asks to be let in says the same to all: it would have no vote to lie with.
        let asks = message.name() == INQUIRY;
        if to == self.me || asks || place < self.n.saturating_sub(1) / 2 {
            return message;
        }
        let mut body = vec![message.protocol().0, message.kind().0];
        message.encode_body(&mut body);
        match &self.last {
            Some((last, other)) if *last == body => other.clone(),
            _ => {
                let other = tamper(&message, chance).unwrap_or(message);
                self.last = Some((body, other.clone()));
                other
            }
        }
    }
}

/// What a client is told instead of this reply. Clients hear no truth from a liar but by chance.
fn to_client(
    lie: Lie,
    reply: Reply,
    earlier: &mut Option<Reply>,
    chance: &mut dyn Chance,
) -> Option<Reply> {
    match lie {
        Lie::Silent => None,
        Lie::Corrupt | Lie::Equivocate => Some(forge(&reply)),
        // What was asked earlier is answered again, as if nothing had happened since.
        Lie::Stale => match earlier {
            None => {
                *earlier = Some(reply.clone());
                Some(reply)
            }
            Some(old) => Some(Reply { bundle: reply.bundle, ..old.clone() }),
        },
        Lie::Random => match chance.below(4) {
            0 => None,
            1 | 2 => Some(forge(&reply)),
            _ => Some(reply),
        },
    }
}

/// Another result, with the digest that belongs to it.
fn forge(reply: &Reply) -> Reply {
    let mut forged = reply.clone();
    let body = reply.body.as_ref().and_then(|body| ReplyBody::from_bytes(body).ok());
    match body {
        Some(ReplyBody::Results(results)) => {
            let results = results.iter().map(|result| twisted(result)).collect();
            let body = ReplyBody::Results(results).to_bytes();
            forged.results = Digest::of(&body);
            forged.body = Some(body.into());
        }
        Some(ReplyBody::Registered(session)) => {
            let body = ReplyBody::Registered(session.wrapping_add(1)).to_bytes();
            forged.results = Digest::of(&body);
            forged.body = Some(body.into());
        }
        _ => forged.results = Digest::of(&reply.results.0),
    }
    forged
}

/// The same bytes but for the last.
fn twisted(bytes: &[u8]) -> Arc<[u8]> {
    let mut bytes = bytes.to_vec();
    match bytes.last_mut() {
        Some(last) => *last ^= 1,
        None => bytes.push(1),
    }
    bytes.into()
}

/// A message of the same kind that says something else.
fn tamper<M: Message>(
    message: &ReplicaMessage<M>,
    chance: &mut dyn Chance,
) -> Option<ReplicaMessage<M>> {
    match message {
        ReplicaMessage::Reply(reply) => Some(ReplicaMessage::Reply(forge(reply))),
        ReplicaMessage::Checkpoint(checkpoint) => {
            let mut checkpoint = checkpoint.clone();
            checkpoint.state = Digest::of(&checkpoint.state.0);
            Some(ReplicaMessage::Checkpoint(checkpoint))
        }
        ReplicaMessage::Order(order) => {
            let twisted = if chance.per_mille(800) { twist(order, chance) } else { None };
            twisted.or_else(|| liar::tamper_bytes(order, chance)).map(ReplicaMessage::Order)
        }
        other => liar::tamper_bytes(other, chance),
    }
}

/// Changes what an ordering's message says and leaves where it counts.
fn twist<M: Message>(message: &M, chance: &mut dyn Chance) -> Option<M> {
    let mut body = Vec::new();
    message.encode_body(&mut body);
    let length = body.len() as u64;
    if length <= PLACE_BYTES {
        return None;
    }
    for _ in 0..8 {
        let place = chance.between(PLACE_BYTES, length - 1) as usize;
        let byte = body.get_mut(place)?;
        let before = *byte;
        *byte ^= 1 << chance.below(8);
        let read = M::decode_body(message.protocol(), message.kind(), &body);
        if let Ok(changed) = read {
            return Some(changed);
        }
        *body.get_mut(place)? = before;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_core::{Slot, View};

    fn reply(results: &[&[u8]]) -> Reply {
        let body = ReplyBody::Results(results.iter().map(|it| (*it).into()).collect()).to_bytes();
        Reply {
            bundle: Digest::of(b"bundle"),
            view: View(1),
            slot: Slot(2),
            results: Digest::of(&body),
            is_final: true,
            body: Some(body.into()),
        }
    }

    #[test]
    fn a_forged_reply_is_whole_and_wrong() {
        for results in [&[b"one".as_slice(), b""][..], &[]] {
            let honest = reply(results);
            let forged = forge(&honest);
            let body = forged.body.clone().unwrap();
            assert_eq!(forged.results, Digest::of(&body), "its digest belongs to its body");
            let Ok(ReplyBody::Results(told)) = ReplyBody::from_bytes(&body) else {
                panic!("a forged reply still reads as results");
            };
            assert_eq!(told.len(), results.len());
            assert!(told.iter().zip(results).all(|(told, truth)| **told != **truth));
        }
        let mut bare = reply(&[b"one"]);
        bare.body = None;
        assert_ne!(forge(&bare).results, bare.results);
    }

    #[test]
    fn a_stale_liar_answers_new_questions_with_old_results() {
        let mut earlier = None;
        let mut chance = Rng::new(1);
        let first = reply(&[b"old"]);
        assert_eq!(
            to_client(Lie::Stale, first.clone(), &mut earlier, &mut chance),
            Some(first.clone())
        );
        let mut second = reply(&[b"new"]);
        second.bundle = Digest::of(b"another bundle");
        let told = to_client(Lie::Stale, second.clone(), &mut earlier, &mut chance).unwrap();
        assert_eq!(told.bundle, second.bundle);
        assert_eq!(told.results, first.results);
        assert_eq!(to_client(Lie::Silent, second, &mut earlier, &mut chance), None);
    }
}
