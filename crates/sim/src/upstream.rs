//! A replica that orders honestly and lies to those who learn from it.
//!
//! To its fellow replicas it tells the truth, unless they heal and learn a state from it, so nothing slows its lies down:
//! whatever a learner hears from it may be false. It keeps to one strategy for a while, so that each gets its chance to do harm, and then takes another.
//!
//! What a forged word looks like does not need a world: [`other_outcome`], [`other_batch`], [`chain_after`], [`inflated`]
//! and [`other_state`] are for whoever lies to learners, production's demonstration of lying replicas included.

use crate::adversary::{Adversary, Saying, Words};
use crate::rng::{Chance, Rng};
use std::collections::BTreeMap;
use std::time::Duration;
use testudo_contracts::{Batch, StableCheckpoint};
use testudo_core::{Decode, Digest, Encode, Message, Peer, Signed, Slot, Verified};
use testudo_replication::{
    Bundle, Claim, Feed, ReplicaMessage, StateAnswer, StateAsk, Summaries, Voucher,
};
use testudo_state::Map;
use testudo_state::sync::Node;

/// A way of lying to learners.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Strategy {
    /// Feeds another batch than was decided, with the chain that follows from it.
    OtherBatch,
    /// Feeds bodies that are not those of the batch, or leaves some out.
    OtherBodies,
    /// Vouches for other results than its own.
    OtherOutcome,
    /// Keeps slots back, and vouches for what comes after them.
    Withhold,
    /// Vouches for what it vouched for long ago.
    Stale,
    /// Claims more than anybody can have decided.
    Inflate,
    /// Claims less than it has executed.
    Deflate,
    /// Hands out state that is not what its head says.
    BadState,
    /// Has no state, whoever asks, and says so before anybody does.
    Gone,
    /// Sends those who follow to fetch a checkpoint that they do not need.
    CutOver,
    /// Says nothing.
    Silent,
    /// Says everything late.
    Slow,
}

impl Strategy {
    /// Every way.
    pub const ALL: [Self; 12] = [
        Self::OtherBatch,
        Self::OtherBodies,
        Self::OtherOutcome,
        Self::Withhold,
        Self::Stale,
        Self::Inflate,
        Self::Deflate,
        Self::BadState,
        Self::Gone,
        Self::CutOver,
        Self::Silent,
        Self::Slow,
    ];

    /// Whether it lies about states. A learner fetches one once two replicas could not tell it what it lacks, and from
    /// the second: so that is where such a liar does harm.
    #[must_use]
    pub const fn is_about_states(self) -> bool {
        matches!(self, Self::BadState | Self::Gone)
    }

    /// Its name in traces and counts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OtherBatch => "other-batch",
            Self::OtherBodies => "other-bodies",
            Self::OtherOutcome => "other-outcome",
            Self::Withhold => "withheld-slots",
            Self::Stale => "stale-vouchers",
            Self::Inflate => "inflated-claims",
            Self::Deflate => "deflated-claims",
            Self::BadState => "bad-state",
            Self::Gone => "gone",
            Self::CutOver => "needless-cut-over",
            Self::Silent => "silent-upstream",
            Self::Slow => "slow-upstream",
        }
    }
}

/// Vouchers and feeds that it remembers.
const MEMORY: usize = 256;

/// A replica that lies to those who learn from it.
pub struct Upstream {
    /// What it does; drawn anew from time to time unless it is held to one way.
    strategy: Strategy,
    is_fixed: bool,
    until_change: u64,
    /// What it truly vouches for, by slot.
    vouchers: BTreeMap<Slot, Voucher>,
    /// The chains that it made up, by learner and slot.
    forks: BTreeMap<(Peer, Slot), Digest>,
    /// Some bodies of earlier slots.
    bodies: Vec<Signed<Bundle>>,
    stable: Option<StableCheckpoint>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            strategy: Strategy::OtherBatch,
            is_fixed: false,
            until_change: 0,
            vouchers: BTreeMap::new(),
            forks: BTreeMap::new(),
            bodies: Vec::new(),
            stable: None,
        }
    }
}

impl Upstream {
    /// One that lies in this way only, whenever it can; in all ways in turn if there is none.
    #[must_use]
    pub fn new(strategy: Option<Strategy>) -> Self {
        let is_fixed = strategy.is_some();
        let strategy = strategy.unwrap_or(Strategy::OtherBatch);
        Self { strategy, is_fixed, ..Self::default() }
    }

    fn remember<M>(&mut self, message: &ReplicaMessage<M>) {
        match message {
            ReplicaMessage::Voucher(voucher) => self.remember_voucher(voucher),
            ReplicaMessage::Feed(feed) => {
                self.remember_voucher(&feed.voucher);
                self.bodies.extend(feed.bodies.iter().cloned());
                let beyond = self.bodies.len().saturating_sub(MEMORY);
                self.bodies.drain(..beyond);
            }
            ReplicaMessage::Stable(stable)
            | ReplicaMessage::State(StateAnswer::Head(stable, ..)) => {
                // The oldest one does the most harm.
                self.stable.get_or_insert_with(|| stable.clone());
            }
            _ => {}
        }
    }

    fn remember_voucher(&mut self, voucher: &Voucher) {
        self.vouchers.insert(voucher.slot, voucher.clone());
        while self.vouchers.len() > MEMORY {
            self.vouchers.pop_first();
        }
    }

    fn change(&mut self, chance: &mut Rng) {
        if self.until_change == 0 && !self.is_fixed {
            self.until_change = chance.between(10, 120);
            self.strategy = *chance.pick(&Strategy::ALL);
        }
        self.until_change = self.until_change.saturating_sub(1);
    }

    /// What it says instead; none where its way of lying has nothing to say about this.
    fn twist<M: Message>(
        &mut self,
        to: Peer,
        message: &ReplicaMessage<M>,
        chance: &mut Rng,
    ) -> Option<Vec<ReplicaMessage<M>>> {
        use ReplicaMessage as Word;
        let one = |word| Some(vec![word]);
        match (self.strategy, message) {
            (Strategy::OtherBatch, Word::Feed(feed)) => {
                one(Word::Feed(self.fork(to, feed, chance)))
            }
            (Strategy::OtherBodies, Word::Feed(feed)) => {
                one(Word::Feed(self.other_bodies(feed, chance)))
            }
            (Strategy::OtherOutcome, Word::Feed(feed)) => {
                let voucher = other_outcome(&feed.voucher);
                one(Word::Feed(Feed { voucher, ..feed.clone() }))
            }
            (Strategy::OtherOutcome, Word::Voucher(voucher)) => {
                one(Word::Voucher(other_outcome(voucher)))
            }
            (Strategy::Withhold, Word::Feed(feed)) => {
                let voucher = Word::Voucher(feed.voucher.clone());
                (self.is_fixed || chance.per_mille(700)).then(|| vec![voucher])
            }
            (Strategy::Withhold, Word::Bodies(_)) => chance.per_mille(500).then(Vec::new),
            (Strategy::Stale, Word::Feed(Feed { voucher, .. }) | Word::Voucher(voucher)) => {
                let old = self.vouchers.range(..voucher.slot).next()?.1.clone();
                // The old chains under the new slot's number, or the old word as it was.
                let slot = if chance.per_mille(500) { voucher.slot } else { old.slot };
                one(Word::Voucher(Voucher { slot, ..old }))
            }
            (Strategy::Inflate, Word::Claim(claim)) => one(Word::Claim(inflated(claim, chance))),
            (Strategy::Deflate, Word::Claim(claim)) => {
                let slot = Slot(if self.is_fixed { 0 } else { chance.below(claim.slot.0 + 1) });
                one(Word::Claim(Claim { slot, ..*claim }))
            }
            // Who never gives a head that is right is asked for no nodes.
            (Strategy::BadState, Word::State(StateAnswer::Head(..))) if chance.per_mille(500) => {
                None
            }
            (Strategy::BadState, Word::State(answer)) => {
                one(Word::State(other_state(answer, chance)?))
            }
            (Strategy::Gone, Word::State(answer)) => {
                one(Word::State(StateAnswer::Gone(slot_of(answer))))
            }
            (Strategy::CutOver, Word::Feed(_)) => {
                let stable = self.stable.clone()?;
                chance.per_mille(500).then(|| vec![Word::Stable(stable)])
            }
            (Strategy::Silent, _) => Some(Vec::new()),
            _ => None,
        }
    }

    /// Another batch for the slot, with a chain that is right for the lie, and for those before.
    fn fork(&mut self, to: Peer, feed: &Feed, chance: &mut Rng) -> Feed {
        let (mut feed, slot) = (feed.clone(), feed.voucher.slot);
        feed.batch = other_batch(&feed.batch, chance);
        let told = self.forks.get(&(to, slot.previous())).copied();
        let truth = self.vouchers.get(&slot.previous()).map(|voucher| voucher.chain);
        let genesis = (slot == Slot(1)).then_some(Digest::ZERO);
        if let Some(before) = told.or(truth).or(genesis) {
            feed.voucher.chain = chain_after(before, slot, &feed.batch);
            self.forks.insert((to, slot), feed.voucher.chain);
            while self.forks.len() > MEMORY {
                self.forks.pop_first();
            }
        }
        feed
    }

    fn other_bodies(&self, feed: &Feed, chance: &mut Rng) -> Feed {
        let mut feed = feed.clone();
        if chance.per_mille(500) || self.bodies.is_empty() {
            feed.bodies.pop();
        } else {
            let other = self.bodies[chance.below(self.bodies.len() as u64) as usize].clone();
            match feed.bodies.first_mut() {
                Some(first) => *first = other,
                None => feed.bodies.push(other),
            }
        }
        feed
    }
}

/// The voucher with another outcome than its sender's.
#[must_use]
pub fn other_outcome(voucher: &Voucher) -> Voucher {
    Voucher { outcome: Digest::of(&voucher.outcome.0), ..voucher.clone() }
}

/// Another batch than was decided: with a bundle less, in another order, or of another time.
pub fn other_batch(batch: &Batch, chance: &mut dyn Chance) -> Batch {
    let mut batch = batch.clone();
    match chance.below(4) {
        0 | 1 if !batch.bundles.is_empty() => {
            batch.bundles.pop();
        }
        2 if batch.bundles.len() > 1 => batch.bundles.reverse(),
        _ => batch.time.0 = batch.time.0.saturating_add(1 + chance.below(50)),
    }
    batch
}

/// The chain over all batches up to `slot`, when that of the slot before is `before`: what makes a forged batch fit.
#[must_use]
pub fn chain_after(before: Digest, slot: Slot, batch: &Batch) -> Digest {
    Digest::of_parts(&[&before.0, &slot.0.to_le_bytes(), &batch.digest().0])
}

/// A claim of more than anybody can have decided: whoever believed it would wait for ever.
pub fn inflated(claim: &Claim, chance: &mut dyn Chance) -> Claim {
    let more = chance.between(1, 1 << 20);
    Claim { slot: Slot(claim.slot.0.saturating_add(more)), ..*claim }
}

fn slot_of(answer: &StateAnswer) -> Slot {
    match answer {
        StateAnswer::Head(_, head, _) => head.slot,
        StateAnswer::Nodes { slot, .. } | StateAnswer::Gone(slot) => *slot,
    }
}

/// The node with these bits changed in the last of its bytes that can be so that it can be read.
fn forged(node: &Node, bits: u8) -> Option<Node> {
    let truth = node.to_bytes();
    (0..truth.len()).rev().find_map(|at| {
        let mut bytes = truth.clone();
        *bytes.get_mut(at)? ^= bits;
        Node::from_bytes(&bytes).ok()
    })
}

/// A head under which there is nothing; or nodes with a byte changed, or fewer than were asked for, or in another order.
/// None of an answer that has nothing to be changed, and of one whose changed bytes nobody could read.
pub fn other_state(answer: &StateAnswer, chance: &mut dyn Chance) -> Option<StateAnswer> {
    let (slot, tree, mut nodes) = match answer {
        StateAnswer::Nodes { slot, tree, nodes } => (slot, tree, nodes.clone()),
        StateAnswer::Head(certificate, head, summaries) => {
            let service = Map::new().summary();
            let summaries = Box::new(Summaries { service, ..**summaries });
            return Some(StateAnswer::Head(certificate.clone(), *head, summaries));
        }
        StateAnswer::Gone(_) => return None,
    };
    match chance.below(4) {
        0 => nodes.truncate(chance.below(nodes.len().max(1) as u64) as usize),
        1 if nodes.len() > 1 => nodes.reverse(),
        _ => {
            let node = chance.below(nodes.len().max(1) as u64) as usize;
            let node = nodes.get_mut(node)?;
            *node = forged(node, 1 << chance.below(8))?;
        }
    }
    Some(StateAnswer::Nodes { slot: *slot, tree: *tree, nodes })
}

impl<M: Message> Adversary<ReplicaMessage<M>> for Upstream {
    fn name(&self) -> &'static str {
        self.strategy.name()
    }

    fn outgoing(
        &mut self,
        to: Peer,
        message: ReplicaMessage<M>,
        chance: &mut Rng,
    ) -> Vec<Saying<ReplicaMessage<M>>> {
        // A replica that heals learns, too, and hears nothing else of this than the state that it asked for.
        let is_learned = to.replica().is_none() || matches!(message, ReplicaMessage::State(_));
        if !is_learned {
            return vec![Saying::now(to, message)];
        }
        self.change(chance);
        let is_certain = self.is_fixed || self.strategy == Strategy::Silent;
        let said = if is_certain || chance.per_mille(700) {
            self.twist(to, &message, chance)
        } else {
            None
        };
        let after = match self.strategy {
            Strategy::Slow => Duration::from_millis(chance.between(50, 3_000)),
            _ => Duration::ZERO,
        };
        self.remember(&message);
        let said = said.unwrap_or_else(|| vec![message]);
        said.into_iter().map(|word| Saying { to, words: Words::Own(word), after }).collect()
    }

    fn incoming(
        &mut self,
        message: &Verified<ReplicaMessage<M>>,
        chance: &mut Rng,
        say: &mut Vec<Saying<ReplicaMessage<M>>>,
    ) -> bool {
        self.remember(message.message());
        let asker = message.via();
        if self.strategy != Strategy::Gone {
            return true;
        }
        match message.message() {
            ReplicaMessage::StateAsk(StateAsk::Nodes { slot, .. }) => {
                let gone = || ReplicaMessage::State(StateAnswer::Gone(*slot));
                say.extend((0..chance.between(1, 4)).map(|_| Saying::now(asker, gone())));
                false
            }
            ReplicaMessage::Follow(follow) => {
                say.push(Saying::now(asker, ReplicaMessage::State(StateAnswer::Gone(follow.from))));
                true
            }
            _ => true,
        }
    }
}
