//! The whole of state machine replication as a system: replicas of any ordering under the small service of
//! [`crate::service`], and the clients that production uses.

use crate::conformance::Serving;
use crate::event::{Fact, NodeId};
use crate::liar::{Tamper, tamper_bytes};
use crate::rng::Chance;
use crate::service::KeyValues;
use crate::world::{Setup, System};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use testudo_contracts::{Checkpoint, OrderConfig, Ordering};
use testudo_core::{Context, Decode, Digest, Encode, Evidence, ReplicaId};
use testudo_replication::{
    Client, ClientConfig, ClientInput, ClientOutput, Config, Event, Outcome, Replica,
    ReplicaMessage, Reply, ReplyBody,
};

/// What a protocol's own tests know of it, for its liars and its judges.
pub trait Knowledge<O: Ordering>: 'static {
    /// A message of the same kind that says something plausible and else; none if there is nothing to change.
    fn corrupt(message: &O::Message, chance: &mut dyn Chance) -> Option<O::Message>;
    /// Whether evidence convinces a third party.
    fn convicts(evidence: &Evidence, context: &Context<'_>) -> bool;
}

/// Replication over an ordering.
pub struct Replicated<O, K> {
    interval: u64,
    ordering: PhantomData<fn() -> (O, K)>,
}

impl<O, K> Default for Replicated<O, K> {
    /// With checkpoints often enough that a short run meets many.
    fn default() -> Self {
        Self { interval: 8, ordering: PhantomData }
    }
}

impl<O, K> System for Replicated<O, K>
where
    O: Ordering<Message: 'static>,
    K: Knowledge<O>,
{
    type Message = ReplicaMessage<O::Message>;
    type Replica = Replica<O, KeyValues>;
    type Client = Client<O>;

    fn replica_config(&mut self, setup: &Setup, _: NodeId, _: ReplicaId) -> Config<KeyValues> {
        let order = OrderConfig {
            checkpoint_interval: self.interval,
            window: 2 * self.interval,
            ..OrderConfig::new(setup.domain, (*setup.membership).clone())
        };
        Config { order, clients: setup.clients.iter().copied().collect(), service: KeyValues }
    }

    fn client_config(&mut self, setup: &Setup, _: usize) -> ClientConfig {
        ClientConfig {
            domain: setup.domain,
            membership: (*setup.membership).clone(),
            resend: Duration::from_millis(500),
        }
    }

    fn replica_facts(&self, output: &Event, facts: &mut Vec<Fact>) {
        match output {
            Event::Executed { slot, batch, applied, .. } => {
                facts.push(Fact::Executed { slot: *slot, batch: batch.digest(), is_final: true });
                for (request, result) in applied {
                    facts.push(Fact::Applied { slot: *slot, request: *request, result: *result });
                }
            }
            Event::Stable(Checkpoint { slot, state }) => {
                facts.push(Fact::Checkpoint { slot: *slot, state: *state });
            }
            Event::View(view, primary) => facts.push(Fact::View(*view, *primary)),
            Event::Implausible { .. } | Event::Health(_) => {
                facts.push(Fact::Note(format!("{output:?}").into()));
            }
        }
    }

    fn client_facts(&self, output: &ClientOutput, facts: &mut Vec<Fact>) {
        let ClientOutput::Answer { ticket, outcome } = output;
        let answer = match outcome {
            Outcome::Done(_, result) => Digest::of(result),
            Outcome::Unknown | Outcome::NotAdmitted | Outcome::TooLarge => return,
        };
        facts.push(Fact::Answered { request: *ticket, answer });
    }

    fn convicts(&self, evidence: &Evidence, context: &Context<'_>) -> bool {
        K::convicts(evidence, context)
    }

    fn tamper(&self) -> Tamper<Self::Message> {
        |message, chance| {
            if chance.per_mille(800) {
                corrupt::<O, K>(message, chance).or_else(|| tamper_bytes(message, chance))
            } else {
                tamper_bytes(message, chance)
            }
        }
    }
}

impl<O, K> Serving for Replicated<O, K>
where
    O: Ordering<Message: 'static>,
    K: Knowledge<O>,
{
    fn submit(&mut self, _: usize, id: u64, operation: Vec<u8>) -> ClientInput {
        ClientInput::Submit { ticket: id, operation: operation.into() }
    }

    fn answered(&mut self, _: usize, output: ClientOutput) -> Vec<(u64, Vec<u8>)> {
        match output {
            ClientOutput::Answer { ticket, outcome: Outcome::Done(_, result) } => {
                vec![(ticket, result.to_vec())]
            }
            ClientOutput::Answer { .. } => Vec::new(),
        }
    }
}

/// Lies that know what a replica says: other results, properly described; another state.
fn corrupt<O: Ordering, K: Knowledge<O>>(
    message: &ReplicaMessage<O::Message>,
    chance: &mut dyn Chance,
) -> Option<ReplicaMessage<O::Message>> {
    match message {
        ReplicaMessage::Order(message) => K::corrupt(message, chance).map(ReplicaMessage::Order),
        ReplicaMessage::Checkpoint(checkpoint) => {
            let state = Digest::of(&checkpoint.state.0);
            Some(ReplicaMessage::Checkpoint(Checkpoint { state, ..checkpoint.clone() }))
        }
        ReplicaMessage::Reply(reply) => {
            let body = forged_results(reply);
            let results = Digest::of(&body);
            Some(ReplicaMessage::Reply(Reply { results, body: Some(body), ..reply.clone() }))
        }
        ReplicaMessage::Fetch(_)
        | ReplicaMessage::Bodies(_)
        | ReplicaMessage::Bundle(_)
        | ReplicaMessage::Stable(_) => None,
    }
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
