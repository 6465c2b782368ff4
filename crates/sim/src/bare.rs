//! An ordering on its own, without replication around it.
//!
//! The layer above is played here in its simplest form: every body is at hand, so every well-formed batch with the
//! right mark is voted for; the state is a chain of digests; checkpoints are stable when a quorum has executed them;
//! and whoever has fallen behind is handed the newest stable one. What is then seen is the protocol's own doing.

mod run;

pub use run::{conform, run_seed};

use crate::event::{Fact, NodeId};
use crate::idle::{NoClient, Nothing};
use crate::script::Scripted;
use crate::world::{Setup, System};
use std::collections::VecDeque;
use std::marker::PhantomData;
use testudo_contracts::{
    Backlog, Batch, Freshness, Mode, OrderConfig, OrderInput, OrderOutput, Ordering, Waiting,
};
use testudo_core::{Digest, Domain, FaultModel, Membership, ReplicaId, Time};

/// The name that a request bears in a world of bare orderings: its bundle's digest.
#[must_use]
pub fn request(number: u64) -> Digest {
    Digest::of(&number.to_le_bytes())
}

/// What an ordering's output tells oracles.
pub(crate) fn facts_of(output: &OrderOutput, facts: &mut Vec<Fact>) {
    facts.push(match output {
        OrderOutput::Execute { slot, batch, mode } => {
            let is_final = *mode == Mode::Final;
            Fact::Executed { slot: *slot, batch: batch.digest(), is_final }
        }
        OrderOutput::Commit(slot) => Fact::Committed(*slot),
        OrderOutput::Rollback(slot) => Fact::RolledBack(*slot),
        OrderOutput::View(view, primary) => Fact::View(*view, *primary),
        OrderOutput::Judge { .. } | OrderOutput::Behind(_) | OrderOutput::Remind => return,
    });
}

/// The answer to the question whether to vote: a well-formed batch with the right mark is voted for.
pub(crate) fn judged(output: &OrderOutput) -> Vec<OrderInput> {
    let OrderOutput::Judge { view, slot, batch, freshness } = output else { return Vec::new() };
    let has_right_mark = match freshness {
        Freshness::Repeated => true,
        Freshness::First => batch.gap_not_counted,
        Freshness::Later => !batch.gap_not_counted,
    };
    if has_right_mark && batch.is_well_formed() {
        vec![OrderInput::Judged { view: *view, slot: *slot, batch: batch.digest() }]
    } else {
        Vec::new()
    }
}

/// What the player of the upper layers must know of a replica.
#[derive(Debug)]
pub enum Told {
    /// It said this.
    Output(OrderOutput),
    /// It crashed, and its upper layer with it.
    Crashed,
}

/// A system of replicas that order, and nobody else.
pub struct Bare<O> {
    /// Changes to the usual settings.
    settings: fn(&mut OrderConfig),
    /// What the replicas told their upper layers, for the runner that plays those.
    told: VecDeque<(NodeId, Told)>,
    ordering: PhantomData<fn() -> O>,
}

impl<O> Bare<O> {
    /// Replicas with these changes to the usual settings.
    #[must_use]
    pub const fn new(settings: fn(&mut OrderConfig)) -> Self {
        Self { settings, told: VecDeque::new(), ordering: PhantomData }
    }

    /// Slots between two checkpoints.
    fn interval(&self) -> u64 {
        let membership = Membership::first(Vec::new(), FaultModel::byzantine(0));
        let mut config = OrderConfig::new(Domain::default(), membership);
        (self.settings)(&mut config);
        config.checkpoint_interval.max(1)
    }

    /// The next thing that a replica told its upper layer, apart from questions whether it may vote.
    pub fn take_told(&mut self) -> Option<(NodeId, Told)> {
        self.told.pop_front()
    }
}

impl<O> Default for Bare<O> {
    /// Checkpoints every 8 slots and a window of 16, so that short runs see many.
    fn default() -> Self {
        Self::new(|config| {
            config.checkpoint_interval = 8;
            config.window = 16;
        })
    }
}

impl<O: Ordering> System for Bare<O>
where
    O::Message: 'static,
{
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
        let inputs = judged(&output);
        if !matches!(output, OrderOutput::Judge { .. }) {
            self.told.push_back((node, Told::Output(output)));
        }
        inputs
    }

    fn crashed(&mut self, node: NodeId) {
        self.told.push_back((node, Told::Crashed));
    }
}

impl<O: Ordering> Scripted for Bare<O>
where
    O::Message: 'static,
{
    fn request(&mut self, _: usize, words: &[&str]) -> Result<Nothing, String> {
        Err(format!("nobody here can be asked for {}", words.join(" ")))
    }

    /// `propose a b` (`propose! a b` for the first fresh batch of a view), `waiting 1`, `waiting nothing`,
    /// `backlog 1 3`, `backlog nothing`, `stop`.
    fn ask(&mut self, words: &[&str]) -> Result<OrderInput, String> {
        let batch = |names: &[&str], gap_not_counted: bool| Batch {
            bundles: names.iter().map(|name| Digest::of(name.as_bytes())).collect(),
            time: Time(0),
            gap_not_counted,
        };
        Ok(match words {
            ["propose", names @ ..] => OrderInput::Propose(batch(names, false)),
            ["propose!", names @ ..] => OrderInput::Propose(batch(names, true)),
            ["waiting", "nothing"] => OrderInput::Waiting(Waiting::Nothing),
            ["waiting", number] => {
                let number = number.parse().map_err(|_| format!("no number: {number}"))?;
                OrderInput::Waiting(Waiting::Oldest(number))
            }
            ["backlog", "nothing"] => OrderInput::Backlog(None),
            ["backlog", oldest, newest] => {
                let number = |word: &str| word.parse().map_err(|_| format!("no number: {word}"));
                let (oldest, newest) = (number(oldest)?, number(newest)?);
                OrderInput::Backlog(Some(Backlog { oldest, newest }))
            }
            ["stop"] => OrderInput::Stop,
            _ => return Err(format!("nothing to ask for: {}", words.join(" "))),
        })
    }

    fn show_status(&self, replica: &O) -> String {
        let changing = if replica.is_changing_view() { " (changing)" } else { "" };
        format!(
            "{:?} of {:?}{changing}, executed {:?}, stable {:?}, {} open",
            replica.view(),
            replica.primary(),
            replica.executed(),
            replica.stable(),
            replica.open_slots()
        )
    }
}
