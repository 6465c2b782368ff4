//! The whole of state machine replication as a system: replicas of any ordering under the small service of
//! [`crate::service`], and the clients that production uses.

mod bounds;
mod knowledge;
mod lies;
mod tactical;

pub use self::knowledge::{Knowledge, Lore};

use self::lies::corrupt;
use self::tactical::Tactical;
use crate::adversary::{Adversary, Misconduct};
use crate::atlas::Condition;
use crate::conformance::{Heard, Held, Serving};
use crate::conspiracy::{Advocates, Proposes};
use crate::disk::Codec;
use crate::either::{Either, OneOf};
use crate::event::{Fact, NodeId};
use crate::fraud::Fraud;
use crate::host::Flaw;
use crate::liar::{Tamper, tamper_bytes};
use crate::memory::{Rot, Unsound};
use crate::oracle::Table;
use crate::replay;
use crate::report::Report;
use crate::script::{Scripted, compact};
use crate::upstream::Upstream;
use crate::workload::{Hosted, Small};
use crate::world::{Setup, System};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;
use testudo_contracts::{Checkpoint, Moment, OrderConfig, Ordering, Tactic};
use testudo_core::{Context, Decode, Digest, Encode, Evidence, Peer, ReplicaId, Slot};
use testudo_replication::learner::rules::{Rules, Standard};
use testudo_replication::rules;
use testudo_replication::{
    Claim, Client, ClientConfig, ClientInput, ClientOutput, Comeback, Config, Event, Health,
    Learner, LearnerConfig, LearnerInput, LearnerOutput, Outcome, Published, Readmission, Replica,
    ReplicaMessage, Reply, Request, Standing, StateAnswer, StateAsk, Status,
};

/// What a client's automaton is asked for.
type Asked = Either<ClientInput, LearnerInput>;
/// What a client's automaton tells.
type Told = Either<ClientOutput, LearnerOutput>;

/// Replication over an ordering, of the service that a workload is for, with learners that keep the rules `R` and replicas
/// that keep the rules `Q`.
pub struct Replicated<O, K, W = Small, R = Standard, Q = Standard> {
    flaw: Option<Flaw>,
    interval: u64,
    /// Tickets given out to scripts' requests.
    tickets: u64,
    /// What learners' upper layers hold, by client.
    readers: BTreeMap<usize, Reader>,
    /// What may spoil the memory of each replica that runs.
    rots: BTreeMap<NodeId, Rot>,
    /// How many replicas and clients there are.
    people: (usize, usize),
    ordering: PhantomData<fn() -> (O, K, W, R, Q)>,
}

/// The layer above a learner: it reads from what was published last.
#[derive(Default)]
struct Reader {
    published: Option<Published>,
    /// Operations that wait until they may be read, by ticket.
    reads: BTreeMap<u64, Vec<u8>>,
}

impl<O, K, W, R, Q> Default for Replicated<O, K, W, R, Q> {
    /// With checkpoints often enough that a short run meets many.
    fn default() -> Self {
        Self {
            flaw: None,
            interval: 8,
            tickets: 0,
            readers: BTreeMap::new(),
            rots: BTreeMap::new(),
            people: (0, 0),
            ordering: PhantomData,
        }
    }
}

impl<O, K, W, R, Q> Replicated<O, K, W, R, Q> {
    /// The same over a driver that is not right.
    #[must_use]
    pub fn over(flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..Self::default() }
    }
}

impl<O, K, W, R, Q> Replicated<O, K, W, R, Q> {
    fn order_config(&self, setup: &Setup) -> OrderConfig {
        OrderConfig {
            checkpoint_interval: self.interval,
            window: 2 * self.interval,
            // As often as the size of the state allows, so that replicas start from them.
            snapshot_bytes: 0,
            ..OrderConfig::new(setup.domain, (*setup.membership).clone())
        }
    }
}

impl<O, K, W: Hosted, R, Q> Replicated<O, K, W, R, Q> {
    /// A learner is asked to read this: from its own copy, as soon as that covers all that was acknowledged before.
    fn read_later(&mut self, client: usize, ticket: u64, operation: Vec<u8>) -> LearnerInput {
        self.readers.entry(client).or_default().reads.insert(ticket, operation);
        LearnerInput::Read { ticket }
    }

    /// What a reader's operation comes to on the copy that was published last.
    fn read_now(&mut self, client: usize, ticket: u64) -> Option<(Slot, Vec<u8>)> {
        let reader = self.readers.get_mut(&client)?;
        let operation = reader.reads.remove(&ticket)?;
        let Published { slot, time, state, .. } = reader.published.as_ref()?;
        let moment = Moment { slot: *slot, time: *time, elapsed: 0 };
        Some((*slot, W::read(state, &operation, &moment)?))
    }
}

impl<O, K, W, R, Q> System for Replicated<O, K, W, R, Q>
where
    O: Ordering<Message: 'static, Record: Encode + Decode, Snapshot: Encode + Decode>,
    K: Knowledge<O>,
    W: Hosted,
    R: Rules,
    Q: rules::Rules,
{
    type Message = ReplicaMessage<O::Message>;
    type Replica = Replica<O, Unsound<W::Service>, Q>;
    type Client = OneOf<Client<O>, Learner<O, W::Service, R>>;

    fn replica_config(
        &mut self,
        setup: &Setup,
        node: NodeId,
        _: ReplicaId,
    ) -> Config<Unsound<W::Service>> {
        self.people = (setup.membership.n(), setup.clients.len());
        let rot = self.rots.get(&node).map(Rot::of_next_life).unwrap_or_default();
        self.rots.insert(node, rot.clone());
        let service = Unsound::new(W::service(), rot);
        let order = self.order_config(setup);
        let clients = setup.clients.iter().copied().collect();
        Config { order, clients, service, decree: None }
    }

    fn client_config(
        &mut self,
        setup: &Setup,
        client: usize,
    ) -> Either<ClientConfig, LearnerConfig<W::Service>> {
        let (domain, membership) = (setup.domain, (*setup.membership).clone());
        let resend = Duration::from_millis(500);
        if !setup.is_learner(client) {
            return Either::One(ClientConfig { domain, membership, resend });
        }
        self.readers.insert(client, Reader::default());
        let clients = setup.clients.iter().copied().collect();
        let service = W::flawed().unwrap_or_else(W::service);
        let checkpoint_interval = self.interval;
        Either::Other(LearnerConfig {
            domain,
            membership,
            clients,
            service,
            resend,
            checkpoint_interval,
        })
    }

    fn replica_facts(&self, output: &Event, facts: &mut Vec<Fact>) {
        match output {
            Event::Executed { slot, batch, applied, .. } => {
                facts.push(Fact::Executed { slot: *slot, batch: batch.digest(), is_final: true });
                for (request, result) in applied {
                    facts.push(Fact::Applied { slot: *slot, request: *request, result: *result });
                }
                let has_effect = |bundle: &Digest| applied.iter().any(|(one, _)| one == bundle);
                for request in batch.bundles.iter().filter(|bundle| !has_effect(bundle)) {
                    facts.push(Fact::Repeated { slot: *slot, request: *request });
                }
            }
            Event::Stable(Checkpoint { slot, state }) => {
                facts.push(Fact::Checkpoint { slot: *slot, state: *state });
            }
            Event::View(view, primary) => facts.push(Fact::View(*view, *primary)),
            Event::Epoch { epoch, incarnations } => {
                let returned = incarnations.iter().filter(|one| one.0 > 0).count();
                facts.push(Fact::Epoch(*epoch, returned));
            }
            Event::Restored(slot) => facts.push(Fact::Restored(*slot)),
            Event::Healed { slot, differing: Some(differing), .. } => {
                facts.push(Fact::Note(format!("healed in {slot:?}: {differing}").into()));
            }
            Event::Health(Health::Diverged(slot)) => facts.push(Fact::Wrong(*slot)),
            Event::Health(Health::Halted(slot)) => {
                facts.push(Fact::Note(format!("{output:?}").into()));
                facts.push(Fact::Halted(*slot));
            }
            Event::Implausible { .. }
            | Event::Health(_)
            | Event::Comeback(_)
            | Event::Healed { .. }
            | Event::Halted { .. } => {
                facts.push(Fact::Note(format!("{output:?}").into()));
            }
        }
    }

    fn client_facts(&self, output: &Told, facts: &mut Vec<Fact>) {
        facts.push(match output {
            Either::One(ClientOutput::Answer { ticket, outcome, .. })
            | Either::Other(LearnerOutput::Answer { ticket, outcome, .. }) => {
                let Outcome::Done(_, result) = outcome else { return };
                Fact::Answered { request: *ticket, answer: Digest::of(result) }
            }
            Either::Other(LearnerOutput::Published(published)) => Fact::Published(published.slot),
            Either::Other(LearnerOutput::Readable { ticket }) => {
                Fact::Note(format!("may read #{ticket}").into())
            }
            Either::Other(LearnerOutput::Standing(standing)) => match standing {
                Standing::Fetching => Fact::Fetches,
                Standing::Following(upstream) => Fact::Follows(*upstream),
                Standing::Diverged(slot) if W::flawed().is_some() => {
                    Fact::Note(format!("diverged in {slot:?}").into())
                }
                Standing::Diverged(slot) => Fact::Diverged(*slot),
            },
            Either::Other(LearnerOutput::Repaired(repair)) => {
                Fact::Note(format!("{repair:?}").into())
            }
        });
    }

    fn client_crashed(&mut self, client: usize) {
        self.readers.remove(&client);
    }

    fn condition(&self, replica: &Self::Replica) -> Condition {
        let Status { stable, health, .. } = replica.status();
        let stable = stable.map_or(Slot(0), |checkpoint| checkpoint.slot);
        Condition {
            votes: votes(replica.order()) && !replica.is_mute(),
            is_well: health == Health::Well,
            stable,
            horizon: Slot(replica.order().stable().max(stable).0 + 2 * self.interval),
        }
    }

    fn tables(&self, replica: &Self::Replica) -> Vec<Table> {
        let open = replica.state().system.len();
        let counted = replica.tables().into_iter();
        counted.map(|(name, count)| (name, count, self.most(name, open))).collect()
    }

    fn describe(&self, replica: &Self::Replica) -> String {
        format!("votes {}, {:?}", votes(replica.order()), replica.status())
    }

    fn show(&self, message: &Self::Message) -> String {
        self.show_message(message)
    }

    fn rot_memory(&mut self, node: NodeId, draw: u64) -> bool {
        let Some(rot) = self.rots.get(&node) else { return false };
        rot.spoil(draw);
        true
    }

    fn is_memory_settled(&self, node: NodeId) -> bool {
        self.rots.get(&node).is_none_or(Rot::is_done)
    }

    fn memories_rotted(&self) -> u64 {
        self.rots.values().map(Rot::bitten).sum()
    }

    fn convicts(&self, evidence: &Evidence, context: &Context<'_>) -> bool {
        K::convicts(evidence, context)
    }

    fn asked(&mut self, client: usize, ticket: u64, operation: &[u8]) -> Option<Asked> {
        Some(self.submit(client, ticket, operation.to_vec()))
    }

    fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    fn codec(&self) -> Option<Codec<Self::Replica>> {
        Some(Codec::new())
    }

    fn adversary(
        &self,
        misconduct: Misconduct,
        me: Peer,
    ) -> Option<Box<dyn Adversary<Self::Message>>> {
        match misconduct {
            Misconduct::Upstream(strategy) => Some(Box::new(Upstream::new(strategy))),
            Misconduct::Client(trick) if me.replica().is_none() => {
                Some(Box::new(Fraud::new(trick, W::foreign)))
            }
            other => other.adversary(me, self.tamper()),
        }
    }

    fn proposes(&self) -> Proposes<Self::Message> {
        |message| match message {
            ReplicaMessage::Order(order) => K::proposes(order),
            _ => None,
        }
    }

    fn advocates(&self) -> Advocates<Self::Message> {
        |message| match message {
            ReplicaMessage::Order(order) => {
                K::advocate(order).into_iter().map(ReplicaMessage::Order).collect()
            }
            _ => Vec::new(),
        }
    }

    fn tactician(
        &self,
        tactic: Tactic,
        me: ReplicaId,
        setup: &Setup,
    ) -> Option<Box<dyn Adversary<Self::Message>>> {
        let tactician = K::tactician(tactic, me, &self.order_config(setup))?;
        Some(Box::new(Tactical { tactic, tactician }))
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

impl<O, K, W, R, Q> Serving for Replicated<O, K, W, R, Q>
where
    O: Ordering<Message: 'static, Record: Encode + Decode, Snapshot: Encode + Decode>,
    K: Knowledge<O>,
    W: Hosted,
    R: Rules,
    Q: rules::Rules,
{
    type Workload = W;

    /// A learner reads most of what only reads from its own copy. Some of it is ordered all the same, as clients that
    /// keep nothing have it ordered.
    fn submit(&mut self, client: usize, id: u64, operation: Vec<u8>) -> Asked {
        let is_learner = self.readers.contains_key(&client);
        if is_learner && !id.is_multiple_of(4) && W::is_read(&operation) {
            Either::Other(self.read_later(client, id, operation))
        } else if is_learner {
            Either::Other(LearnerInput::Submit { ticket: id, operation: operation.into() })
        } else {
            Either::One(ClientInput::Submit { ticket: id, operation: operation.into() })
        }
    }

    fn answered(&mut self, client: usize, output: Told) -> Vec<Heard> {
        match output {
            Either::One(ClientOutput::Answer { ticket, outcome, .. })
            | Either::Other(LearnerOutput::Answer { ticket, outcome, .. }) => match outcome {
                Outcome::Done(_, result) => vec![Heard::Answer(ticket, result.to_vec())],
                _ => Vec::new(),
            },
            Either::Other(LearnerOutput::Published(published)) => {
                self.readers.entry(client).or_default().published = Some(published.clone());
                vec![Heard::Published(published)]
            }
            Either::Other(LearnerOutput::Readable { ticket }) => {
                let read = self.read_now(client, ticket);
                read.map(|(_, result)| Heard::Answer(ticket, result)).into_iter().collect()
            }
            Either::Other(LearnerOutput::Standing(_) | LearnerOutput::Repaired(_)) => Vec::new(),
        }
    }

    fn digest(replica: &Self::Replica) -> Option<(Slot, Digest)> {
        let state = replica.state();
        Some((state.slot, state.digest()))
    }

    fn held(replica: &Self::Replica) -> Option<Held<'_>> {
        let state = replica.state();
        Some(Held { slot: state.slot, time: state.time, state: &state.map })
    }
}

/// Whether a replica votes, and knows of every vote that it has cast.
fn votes<O: Ordering>(order: &O) -> bool {
    order.standing() == testudo_contracts::Standing::Voting && order.lost_slots() == 0
}

impl<O, K, W, R, Q> Scripted for Replicated<O, K, W, R, Q>
where
    O: Ordering<Message: 'static, Record: Encode + Decode, Snapshot: Encode + Decode>,
    K: Knowledge<O>,
    W: Hosted,
    R: Rules,
    Q: rules::Rules,
{
    /// The words of [`Hosted::parse`] have it ordered; after `read` a learner answers it from its own copy.
    fn request(&mut self, client: usize, words: &[&str]) -> Result<Asked, String> {
        self.tickets += 1;
        let ticket = self.tickets;
        if let ["read", words @ ..] = words {
            let operation = W::parse(words)?;
            return Ok(Either::Other(self.read_later(client, ticket, operation)));
        }
        let operation = W::parse(words)?.into();
        Ok(if self.readers.contains_key(&client) {
            Either::Other(LearnerInput::Submit { ticket, operation })
        } else {
            Either::One(ClientInput::Submit { ticket, operation })
        })
    }

    fn read_operation(&self, words: &[&str]) -> Result<Vec<u8>, String> {
        W::parse(words)
    }

    fn show_operation(&self, operation: &[u8]) -> Option<String> {
        Some(W::show(operation))
    }

    fn show_answer(&mut self, client: usize, output: Told) -> Option<String> {
        match output {
            Either::One(ClientOutput::Answer { outcome, .. })
            | Either::Other(LearnerOutput::Answer { outcome, .. }) => Some(match outcome {
                Outcome::Done(slot, result) => format!("{} in {slot:?}", W::show_result(&result)),
                other => format!("{other:?}"),
            }),
            Either::Other(LearnerOutput::Published(published)) => {
                self.readers.entry(client).or_default().published = Some(published);
                None
            }
            Either::Other(LearnerOutput::Readable { ticket }) => {
                let (slot, result) = self.read_now(client, ticket)?;
                Some(format!("{} as of {slot:?}", W::show_result(&result)))
            }
            Either::Other(LearnerOutput::Standing(_) | LearnerOutput::Repaired(_)) => None,
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
            // Rounds are numbered from a random one on.
            ReplicaMessage::ClaimAsk(round) => format!("round …{:03}", round % 1000),
            ReplicaMessage::Claim(Claim { round, slot }) => {
                format!("round …{:03} {slot:?}", round % 1000)
            }
            ReplicaMessage::StateAsk(StateAsk::Head) => "head".into(),
            ReplicaMessage::StateAsk(StateAsk::Certificate) => "certificate".into(),
            ReplicaMessage::StateAsk(StateAsk::Nodes { slot, tree, places }) => {
                format!("{} nodes of {tree:?} of {slot:?}", places.len())
            }
            ReplicaMessage::State(answer) => show_state(answer),
            ReplicaMessage::Hello(epoch) => format!("in {epoch:?}"),
            ReplicaMessage::Succession(succession) => {
                format!("{:?} ended with {:?}", succession.from, succession.slot())
            }
        }
    }

    fn judged(make: &mut dyn FnMut() -> Self, script: &str) -> Option<Report> {
        replay::judged(make, script)
    }

    fn show_status(&self, replica: &Self::Replica) -> String {
        let status = replica.status();
        let place = show_place(&status);
        let Status { view, primary, changing_view, slot, chain, stable, waiting, health, .. } =
            status;
        let changing = if changing_view { " (changing)" } else { "" };
        let stable = stable.map_or(Slot(0), |checkpoint| checkpoint.slot);
        format!(
            "{view:?} of {primary:?}{changing}, executed {slot:?} {chain:?}, stable {stable:?}, \
             {waiting} waiting, {health:?}{place}"
        )
    }

    fn show_client(&self, client: &Self::Client) -> Option<String> {
        let OneOf::Other(learner) = client else { return None };
        let (shown, executed) = (learner.shown(), learner.copy().slot);
        Some(format!("{:?}, shown {shown:?}, executed {executed:?}", learner.standing()))
    }
}

/// Where a replica is among epochs, and what part it takes, if that is not what it was at first.
fn show_place(status: &Status) -> String {
    let Status { epoch, incarnation, standing, comeback, .. } = status;
    let mut words = Vec::new();
    if epoch.0 > 0 {
        words.push(format!("{epoch:?} as {incarnation:?}"));
    }
    match standing {
        testudo_contracts::Standing::Voting => {}
        other => words.push(format!("{other:?}")),
    }
    if *comeback != Comeback::NotNeeded {
        words.push(format!("{comeback:?}"));
    }
    words.iter().map(|word| format!(", {word}")).collect()
}

/// State as a script's reader wants it: what it is, and not what is in it.
fn show_state(answer: &StateAnswer) -> String {
    match answer {
        StateAnswer::Head(_, head, _) => format!("head of {:?} {:?}", head.slot, head.digest()),
        StateAnswer::Nodes { slot, tree, nodes } => {
            format!("{} nodes of {tree:?} of {slot:?}", nodes.len())
        }
        StateAnswer::Gone(slot) => format!("no state of {slot:?}"),
    }
}

fn show_request<W: Hosted>(request: &Request) -> String {
    match request {
        Request::Register { .. } => "register".into(),
        Request::Operations { sequence, operations, .. } => {
            let operations: Vec<String> = operations.iter().map(|bytes| W::show(bytes)).collect();
            format!("#{sequence} {}", operations.join(", "))
        }
        Request::Readmit(Readmission { incarnation, .. }, _) => {
            format!("readmit as {incarnation:?}")
        }
        Request::Convict(evidence) => format!("convict {:?}", evidence.accused),
    }
}
