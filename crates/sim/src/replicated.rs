//! The whole of state machine replication as a system: replicas of any ordering under the small service of
//! [`crate::service`], and the clients that production uses.

use crate::adversary::{Adversary, Misconduct};
use crate::conformance::{Heard, Held, Serving};
use crate::event::{Fact, NodeId};
use crate::liar::{Tamper, tamper_bytes};
use crate::rng::Chance;
use crate::script::{Scripted, compact};
use crate::upstream::Upstream;
use crate::workload::{Hosted, Small};
use crate::world::{Setup, System};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use testudo_contracts::{Checkpoint, OrderConfig, Ordering};
use testudo_core::{Context, Decode, Digest, Encode, Evidence, Peer, ReplicaId, Slot};
use testudo_replication::{
    Claim, Client, ClientConfig, ClientInput, ClientOutput, Config, Event, Outcome, Replica,
    ReplicaMessage, Reply, ReplyBody, Request, Status, Voucher,
};

/// What a protocol's own tests know of it, for its liars and its judges.
pub trait Knowledge<O: Ordering>: 'static {
    /// Whether liars also change bytes that they know nothing of. Without it they lie by [`Knowledge::corrupt`] alone,
    /// and tell the truth where that has nothing to say.
    const BLINDLY: bool = true;
    /// A message of the same kind that says something plausible and else; none if there is nothing to change.
    fn corrupt(message: &O::Message, chance: &mut dyn Chance) -> Option<O::Message>;
    /// Whether evidence convinces a third party.
    fn convicts(evidence: &Evidence, context: &Context<'_>) -> bool;
    /// A message as scripts print it, without its name.
    fn show(message: &O::Message) -> String {
        compact(&format!("{message:?}"))
    }
}

/// Replication over an ordering, of the service that a workload is for.
pub struct Replicated<O, K, W = Small> {
    is_hasty: bool,
    interval: u64,
    /// Tickets given out to scripts' requests.
    tickets: u64,
    ordering: PhantomData<fn() -> (O, K, W)>,
}

impl<O, K, W> Default for Replicated<O, K, W> {
    /// With checkpoints often enough that a short run meets many.
    fn default() -> Self {
        Self { is_hasty: false, interval: 8, tickets: 0, ordering: PhantomData }
    }
}

impl<O, K, W> Replicated<O, K, W> {
    /// The same over a driver that does not wait for the disk.
    #[must_use]
    pub fn hasty() -> Self {
        Self { is_hasty: true, ..Self::default() }
    }
}

impl<O, K, W> System for Replicated<O, K, W>
where
    O: Ordering<Message: 'static>,
    K: Knowledge<O>,
    W: Hosted,
{
    type Message = ReplicaMessage<O::Message>;
    type Replica = Replica<O, W::Service>;
    type Client = Client<O>;

    fn replica_config(&mut self, setup: &Setup, _: NodeId, _: ReplicaId) -> Config<W::Service> {
        let order = OrderConfig {
            checkpoint_interval: self.interval,
            window: 2 * self.interval,
            ..OrderConfig::new(setup.domain, (*setup.membership).clone())
        };
        Config { order, clients: setup.clients.iter().copied().collect(), service: W::service() }
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
        let ClientOutput::Answer { ticket, outcome, .. } = output;
        let answer = match outcome {
            Outcome::Done(_, result) => Digest::of(result),
            Outcome::Unknown | Outcome::NotAdmitted | Outcome::TooLarge => return,
        };
        facts.push(Fact::Answered { request: *ticket, answer });
    }

    fn convicts(&self, evidence: &Evidence, context: &Context<'_>) -> bool {
        K::convicts(evidence, context)
    }

    fn is_hasty(&self) -> bool {
        self.is_hasty
    }

    fn adversary(
        &self,
        misconduct: Misconduct,
        me: Peer,
    ) -> Option<Box<dyn Adversary<Self::Message>>> {
        match misconduct {
            Misconduct::Upstream(strategy) => Some(Box::new(Upstream::new(strategy))),
            other => other.adversary(me, self.tamper()),
        }
    }

    fn tamper(&self) -> Tamper<Self::Message> {
        |message, chance| {
            if !K::BLINDLY {
                match message {
                    ReplicaMessage::Order(order) => {
                        K::corrupt(order, chance).map(ReplicaMessage::Order)
                    }
                    _ => None,
                }
            } else if chance.per_mille(800) {
                corrupt::<O, K>(message, chance).or_else(|| tamper_bytes(message, chance))
            } else {
                tamper_bytes(message, chance)
            }
        }
    }
}

impl<O, K, W> Serving for Replicated<O, K, W>
where
    O: Ordering<Message: 'static>,
    K: Knowledge<O>,
    W: Hosted,
{
    type Workload = W;

    fn submit(&mut self, _: usize, id: u64, operation: Vec<u8>) -> ClientInput {
        ClientInput::Submit { ticket: id, operation: operation.into() }
    }

    fn answered(&mut self, _: usize, output: ClientOutput) -> Vec<Heard> {
        match output {
            ClientOutput::Answer { ticket, outcome: Outcome::Done(_, result), .. } => {
                vec![Heard::Answer(ticket, result.to_vec())]
            }
            ClientOutput::Answer { .. } => Vec::new(),
        }
    }

    fn held(replica: &Self::Replica) -> Option<Held<'_>> {
        let state = replica.state();
        Some(Held { slot: state.slot, time: state.time, state: &state.map })
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
        ReplicaMessage::Voucher(voucher) => {
            let outcome = Digest::of(&voucher.outcome.0);
            Some(ReplicaMessage::Voucher(Voucher { outcome, ..voucher.clone() }))
        }
        ReplicaMessage::Feed(feed) => {
            let mut feed = feed.clone();
            feed.batch.time.0 += 1;
            Some(ReplicaMessage::Feed(feed))
        }
        ReplicaMessage::Claim(claim) => {
            let slot = Slot(claim.slot.0 / 2 + chance.below(1 << 20));
            Some(ReplicaMessage::Claim(Claim { slot, ..*claim }))
        }
        _ => None,
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

impl<O, K, W> Scripted for Replicated<O, K, W>
where
    O: Ordering<Message: 'static>,
    K: Knowledge<O>,
    W: Hosted,
{
    /// The words of [`Hosted::parse`].
    fn request(&mut self, _: usize, words: &[&str]) -> Result<ClientInput, String> {
        self.tickets += 1;
        let operation = W::parse(words)?.into();
        Ok(ClientInput::Submit { ticket: self.tickets, operation })
    }

    fn show_answer(&mut self, _: usize, output: ClientOutput) -> String {
        let ClientOutput::Answer { outcome, .. } = output;
        match outcome {
            Outcome::Done(slot, result) => format!("{} in {slot:?}", W::show_result(&result)),
            other => format!("{other:?}"),
        }
    }

    fn show_message(&self, message: &Self::Message) -> String {
        let list = |digests: &[Digest]| format!("{digests:?}");
        match message {
            ReplicaMessage::Order(message) => K::show(message),
            ReplicaMessage::Bundle(bundle) => show_request::<W>(&bundle.request),
            ReplicaMessage::Reply(reply) => {
                let body = if reply.body.is_some() { " in full" } else { "" };
                let Reply { bundle, view, slot, results, .. } = reply;
                format!("{bundle:?} {view:?} {slot:?} results {results:?}{body}")
            }
            ReplicaMessage::Checkpoint(Checkpoint { slot, state }) => format!("{slot:?} {state:?}"),
            ReplicaMessage::Fetch(digests) => list(digests),
            ReplicaMessage::Bodies(bodies) => format!("{} bodies", bodies.len()),
            ReplicaMessage::Stable(stable) => {
                let Checkpoint { slot, state } = stable.statement();
                let signers: Vec<ReplicaId> = stable.signers().collect();
                format!("{slot:?} {state:?} by {signers:?}")
            }
            ReplicaMessage::Follow(follow) => compact(&format!("{follow:?}")),
            ReplicaMessage::Feed(feed) => compact(&format!("{feed:?}")),
            ReplicaMessage::Voucher(voucher) => compact(&format!("{voucher:?}")),
            ReplicaMessage::ClaimAsk(round) => format!("round {round}"),
            ReplicaMessage::Claim(Claim { round, slot }) => format!("round {round} {slot:?}"),
            ReplicaMessage::StateAsk(ask) => compact(&format!("{ask:?}")),
            ReplicaMessage::State(answer) => compact(&format!("{answer:?}")),
        }
    }

    fn show_status(&self, replica: &Self::Replica) -> String {
        let Status { view, primary, changing_view, slot, chain, stable, waiting, health, .. } =
            replica.status();
        let changing = if changing_view { " (changing)" } else { "" };
        let stable = stable.map_or(Slot(0), |checkpoint| checkpoint.slot);
        format!(
            "{view:?} of {primary:?}{changing}, executed {slot:?} {chain:?}, stable {stable:?}, \
             {waiting} waiting, {health:?}"
        )
    }
}

fn show_request<W: Hosted>(request: &Request) -> String {
    match request {
        Request::Register { .. } => "register".into(),
        Request::Operations { sequence, operations, .. } => {
            let operations: Vec<String> = operations.iter().map(|bytes| W::show(bytes)).collect();
            format!("#{sequence} {}", operations.join(", "))
        }
    }
}
