//! A bare ordering to explore: a few requests that everybody knows, and the plainest layer above.
//!
//! It is [`crate::bare`]'s, without chance and without a clock: every well-formed batch with the right mark is voted for;
//! a replica says that something waits as long as there is a request that it has not executed; and whoever may propose
//! may be asked to propose any request that it has neither executed nor proposed in its view, in a batch of its own.
//! Checkpoints are not taken: bounds end long before a window is full.

use super::model::{Ask, Falsehood, Forks, Model};
use crate::bare::{facts_of, judged};
use crate::event::{Fact, NodeId};
use crate::idle::NoClient;
use crate::world::{Setup, System, World};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use testudo_contracts::{Batch, OrderConfig, OrderInput, OrderOutput, Ordering, Waiting};
use testudo_core::{Context, Digest, Evidence, ReplicaId, Time};

/// What a liar may say in a world of bare orderings.
pub type Falsehoods<O> =
    fn(&World<Ordered<O>>, NodeId) -> Vec<Falsehood<<O as testudo_core::Protocol>::Message>>;

/// A system of replicas that order a few requests.
#[derive(Clone)]
pub struct Ordered<O: Ordering<Message: 'static>> {
    /// How many requests there are. They are called a, b, c and on.
    pub requests: u8,
    /// Changes to the usual settings.
    pub settings: fn(&mut OrderConfig),
    /// What liars may say.
    pub falsehoods: Falsehoods<O>,
    /// Whether evidence convinces a third party.
    pub convicts: fn(&Evidence, &Context<'_>) -> bool,
    /// Replicas that may change places within the bounds ([`Model::interchangeable`]).
    pub alike: Vec<NodeId>,
    uppers: BTreeMap<NodeId, Upper>,
    ordering: PhantomData<fn() -> O>,
}

/// What the layer above a replica remembers.
#[derive(Clone, Debug)]
struct Upper {
    /// Requests that were executed.
    executed: BTreeSet<u8>,
    /// Requests that it has proposed in this view as its primary.
    proposed: BTreeSet<u8>,
    /// Whether it has proposed nothing in this view.
    is_first: bool,
    /// What it last said about waiting requests.
    waiting: Option<Waiting>,
}

impl Default for Upper {
    fn default() -> Self {
        let (executed, proposed) = (BTreeSet::new(), BTreeSet::new());
        Self { executed, proposed, is_first: true, waiting: None }
    }
}

/// A request's name.
fn name(number: u8) -> String {
    char::from(b'a' + number.min(25)).to_string()
}

/// A request as it stands in batches: the digest of its name.
#[must_use]
pub fn bundle(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// A batch of one request of this name, with the mark of the first of a view or without.
#[must_use]
pub fn batch(name: &str, gap_not_counted: bool) -> Batch {
    Batch { bundles: vec![bundle(name)], time: Time(0), gap_not_counted }
}

impl<O: Ordering<Message: 'static>> Ordered<O> {
    /// This many requests, and no liar that says anything.
    #[must_use]
    pub fn new(requests: u8) -> Self {
        Self {
            requests,
            settings: |_| {},
            falsehoods: |_, _| Vec::new(),
            convicts: |_, _| true,
            alike: Vec::new(),
            uppers: BTreeMap::new(),
            ordering: PhantomData,
        }
    }

    fn upper(&mut self, node: NodeId) -> &mut Upper {
        self.uppers.entry(node).or_default()
    }

    /// The requests that it has neither executed nor proposed in its view.
    fn open(&self, node: NodeId) -> impl Iterator<Item = u8> + use<'_, O> {
        let upper = self.uppers.get(&node);
        (0..self.requests).filter(move |number| {
            upper.is_none_or(|upper| {
                !upper.executed.contains(number) && !upper.proposed.contains(number)
            })
        })
    }
}

impl<O: Ordering<Message: 'static>> System for Ordered<O> {
    type Message = O::Message;
    type Replica = O;
    type Client = NoClient<O::Message>;

    fn replica_config(&mut self, setup: &Setup, _: NodeId, _: ReplicaId) -> OrderConfig {
        let mut config = OrderConfig::new(setup.domain, (*setup.membership).clone());
        (self.settings)(&mut config);
        config
    }

    fn client_config(&mut self, _: &Setup, _: usize) {}

    fn replica_facts(&self, output: &OrderOutput, facts: &mut Vec<Fact>) {
        facts_of(output, facts);
    }

    fn above(&mut self, node: NodeId, output: OrderOutput) -> Vec<OrderInput> {
        match &output {
            OrderOutput::Execute { batch, .. } => {
                let all = 0..self.requests;
                let executed = all.filter(|number| batch.bundles.contains(&bundle(&name(*number))));
                let executed: Vec<u8> = executed.collect();
                self.upper(node).executed.extend(executed);
            }
            OrderOutput::View(..) => {
                let upper = self.upper(node);
                upper.proposed.clear();
                upper.is_first = true;
            }
            _ => {}
        }
        judged(&output)
    }

    fn crashed(&mut self, node: NodeId) {
        self.uppers.remove(&node);
    }

    fn convicts(&self, evidence: &Evidence, context: &Context<'_>) -> bool {
        (self.convicts)(evidence, context)
    }
}

impl<O: Ordering<Message: 'static> + Clone + Debug> Model for Ordered<O> {
    fn forks() -> Option<Forks<Self>> {
        Some(Forks::by_clone())
    }

    fn print_replica(replica: &O, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{replica:?}")
    }

    fn print_client(_: &NoClient<O::Message>, _: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }

    fn print_above(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{:?}", self.uppers)
    }

    fn asks(world: &World<Self>) -> Vec<Ask> {
        let may_propose = |node: &NodeId| {
            let automaton = world.replica(*node).and_then(|host| host.automaton());
            automaton.is_some_and(Ordering::may_propose)
        };
        let all = |node| {
            let ask = move |number| Ask { node, words: format!("propose {}", name(number)) };
            world.system.open(node).map(ask)
        };
        world.replicas().filter(may_propose).flat_map(all).collect()
    }

    fn ask(world: &mut World<Self>, ask: &Ask) {
        let is_meant = |number: &u8| ask.words == format!("propose {}", name(*number));
        let Some(number) = world.system.open(ask.node).find(is_meant) else { return };
        let upper = world.system.upper(ask.node);
        upper.proposed.insert(number);
        let is_first = std::mem::take(&mut upper.is_first);
        world.ask_replica(ask.node, OrderInput::Propose(batch(&name(number), is_first)));
    }

    fn falsehoods(world: &World<Self>, liar: NodeId) -> Vec<Falsehood<O::Message>> {
        (world.system.falsehoods)(world, liar)
    }

    /// Says what waits, where that has changed.
    fn settle(world: &mut World<Self>, node: NodeId) {
        let requests = world.system.requests;
        let upper = world.system.upper(node);
        let oldest = (0..requests).find(|number| !upper.executed.contains(number));
        let waiting = oldest.map_or(Waiting::Nothing, |number| Waiting::Oldest(u64::from(number)));
        if upper.waiting != Some(waiting) {
            upper.waiting = Some(waiting);
            world.ask_replica(node, OrderInput::Waiting(waiting));
        }
    }

    fn interchangeable(world: &World<Self>) -> Vec<NodeId> {
        world.system.alike.clone()
    }
}
