//! Learners follow: each is told what executes, and what lags is told in steps.
//!
//! A follower with payload gets each slot as a [`Feed`] when it executes, as long as it has been told everything before;
//! one without gets a [`Voucher`]. Whoever lags, or has lost something, says from where, and gets one step for each time
//! that it asks, within a budget. So a follower costs bounded work and memory, however slow it is.
//!
//! Only admitted clients are followers, a bounded number, and one that does not repeat it is forgotten.
//!
//! A follower learns what its own bundles came to by its own execution, so it gets no [`crate::Reply`] when they
//! execute. If it sends a bundle that was executed again, it is answered like anybody else: then it does not know.

use crate::feed::{Claim, Feed, Follow, Voucher};
use crate::message::ReplicaMessage;
use crate::recent::Executed;
use crate::record::Timer;
use crate::replica::{Fx, Replica};
use crate::rules::Rules;
use crate::status::Health;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use testudo_contracts::{Ordering, Service};
use testudo_core::{Peer, PublicKey, Slot, limits};

/// Periods of the followers' timer after which one that was not heard of is forgotten.
const PATIENCE: u32 = 8;

/// A learner that follows.
#[derive(Clone, Copy, Debug)]
struct Follower {
    /// The next slot that it is to be told.
    next: Slot,
    payload: bool,
    /// Periods since it was heard of.
    silent: u32,
}

/// Who follows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Followers {
    known: BTreeMap<PublicKey, Follower>,
}

impl Followers {
    /// Whether this client follows.
    pub(crate) fn contains(&self, client: PublicKey) -> bool {
        self.known.contains_key(&client)
    }

    /// Who follows.
    pub(crate) fn clients(&self) -> Vec<PublicKey> {
        self.known.keys().copied().collect()
    }

    /// How many follow.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// A client follows, or repeats that it does.
    pub(crate) fn on_follow(&mut self, from: Peer, follow: &Follow, fx: &mut Fx<'_, O, S, R>) {
        let client = match from {
            Peer::Client(client) => client,
            Peer::Replica(replica) => return self.testify(replica, follow, fx),
        };
        if !self.is_heard(from, fx) {
            return;
        }
        let is_known = self.followers.contains(client);
        if !is_known && self.followers.len() >= limits::FOLLOWERS {
            return;
        }
        if self.followers.known.is_empty() {
            fx.set_timer(Timer::Follow, self.config.resend * 4);
        }
        let next = self.tell_step(client, follow, fx);
        let follower = Follower { next, payload: follow.payload, silent: 0 };
        self.followers.known.insert(client, follower);
    }

    /// Whether a question of this peer may be answered now: it is admitted, and has budget left. Nobody is told anything
    /// of a state that is not well.
    pub(crate) fn is_heard(&mut self, peer: Peer, fx: &mut Fx<'_, O, S, R>) -> bool {
        let is_heard =
            self.health == Health::Well && self.may_be_told(peer) && self.budgets.may_ask(peer);
        if is_heard {
            self.keep_budget(fx);
        }
        is_heard
    }

    /// Tells a step to a follower, and the last slot that is executed. Gives the slot that it is to be told next.
    fn tell_step(&mut self, client: PublicKey, follow: &Follow, fx: &mut Fx<'_, O, S, R>) -> Slot {
        let peer = Peer::Client(client);
        let (executed, mut next) = (self.state.slot, follow.from);
        if next <= executed {
            if self.recent.get(next).is_none() {
                self.offer_stable(peer, fx);
            } else if follow.payload {
                next = self.feed_step(client, next, fx);
            } else {
                let last = next.0.saturating_add(limits::FOLLOW_STEP - 1);
                if let Some(last) = self.recent.get(Slot(last)).filter(|e| e.slot < executed) {
                    let voucher = last.voucher(self.order.view());
                    self.vouch(client, voucher, fx);
                }
                next = executed.next();
            }
        }
        let view = self.order.view();
        let (slot, chain, outcome) = (executed, self.state.chain, self.state.outcome);
        self.vouch(client, Voucher { slot, chain, outcome, view }, fx);
        next
    }

    /// Feeds the slots of a step, as far as the budget goes. Gives the next one.
    fn feed_step(&mut self, client: PublicKey, from: Slot, fx: &mut Fx<'_, O, S, R>) -> Slot {
        let peer = Peer::Client(client);
        let end = Slot(from.0.saturating_add(limits::FOLLOW_STEP));
        let mut next = from;
        while next < end
            && let Some(executed) = self.recent.get(next)
        {
            let bodies = executed.bodies_for(peer);
            let bytes: usize = bodies.iter().map(testudo_core::Signed::len).sum();
            if !self.budgets.may_lend(peer, bytes + size_of_batch(executed)) {
                break;
            }
            let voucher = executed.voucher(self.order.view());
            let feed = Feed { voucher, batch: executed.batch.clone(), bodies };
            // EAGER: as when it was executed (`tell_followers`).
            fx.send_eager(peer, ReplicaMessage::Feed(feed));
            next = next.next();
        }
        next
    }

    /// Shows somebody the stable checkpoint, once in a while: what it asks for is known no more.
    fn offer_stable(&mut self, peer: Peer, fx: &mut Fx<'_, O, S, R>) {
        if let Some(certificate) = self.checkpoints.certificate().cloned()
            && self.budgets.may_tell(peer)
        {
            // EAGER: the certificate proves itself.
            fx.send_eager(peer, ReplicaMessage::Stable(certificate));
        }
    }

    fn vouch(&self, client: PublicKey, voucher: Voucher, fx: &mut Fx<'_, O, S, R>) {
        // EAGER: as when it was executed (`tell_followers`).
        fx.send_eager(Peer::Client(client), ReplicaMessage::Voucher(voucher));
    }

    /// A slot has executed: everybody who follows is told.
    pub(crate) fn tell_followers(&mut self, slot: Slot, fx: &mut Fx<'_, O, S, R>) {
        if self.replaying || self.health != Health::Well {
            return;
        }
        let Some(executed) = self.recent.get(slot) else { return };
        let view = self.order.view();
        for (client, follower) in &mut self.followers.known {
            let peer = Peer::Client(*client);
            // EAGER: the order is final, so a quorum holds the batch and its bodies durably. If we crash before our own
            // record of the decision is written, we execute the same again, and it comes to the same.
            if !follower.payload {
                fx.send_eager(peer, ReplicaMessage::Voucher(executed.voucher(view)));
            } else if follower.next == slot {
                follower.next = slot.next();
                let (voucher, batch) = (executed.voucher(view), executed.batch.clone());
                let feed = Feed { voucher, batch, bodies: executed.bodies_for(peer) };
                fx.send_eager(peer, ReplicaMessage::Feed(feed));
            }
        }
    }

    /// Forgets followers that have not been heard of for long.
    pub(crate) fn on_follow_timer(&mut self, fx: &mut Fx<'_, O, S, R>) {
        self.followers.known.retain(|_, follower| {
            follower.silent += 1;
            follower.silent <= PATIENCE
        });
        if !self.followers.known.is_empty() {
            fx.set_timer(Timer::Follow, self.config.resend * 4);
        }
    }

    /// A learner asks how far this replica may have helped to decide.
    pub(crate) fn on_claim_ask(&mut self, from: Peer, round: u64, fx: &mut Fx<'_, O, S, R>) {
        // What it may have helped to decide a replica knows whatever its state is. One that has halted would have readers
        // wait for what will never come.
        // Between two epochs it does not know what it has voted for in the next.
        if matches!(self.health, Health::Halted(_))
            || self.is_between_epochs()
            || !self.may_be_told(from)
            || !self.budgets.may_ask_for_claim(from)
        {
            return;
        }
        self.keep_budget(fx);
        if let Some(claim) = self.order.read_claim() {
            let is_well = self.health == Health::Well;
            let slot = if is_well { claim.max(self.state.slot) } else { claim };
            // EAGER: a claim is about votes that were cast before it was asked for. Votes leave when their records are
            // durable; those that have not left decide nothing yet, and a crash takes back none that has.
            fx.send_eager(from, ReplicaMessage::Claim(Claim { round, slot }));
        }
    }
}

/// What a batch takes in a message, about.
fn size_of_batch(executed: &Executed) -> usize {
    size_of::<Voucher>() + executed.batch.bundles.len() * 32
}
