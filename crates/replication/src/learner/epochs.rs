//! How a learner goes from epoch to epoch: as it is shown, by whomever, once it has verified it.
//!
//! Its copy needs nothing of that: it executes one sequence of slots, whoever has ordered them. But what replicas say of
//! them counts in their epoch only, so a learner that has missed the end of one hears nothing any more that counts. Then it
//! says in which epoch it is, and whoever is further shows what came after it.

use super::rules::Rules;
use super::{Fx, Learner};
use crate::decree::Decree;
use crate::hearing::Hearing;
use crate::message::ReplicaMessage;
use crate::succession::Succession;
use testudo_contracts::{Ordering, Service};
use testudo_core::{Target, View};

impl<O: Ordering, S: Service + Clone, R: Rules> Learner<O, S, R> {
    /// Somebody shows how the epoch has ended. It was verified with its members.
    pub(super) fn on_succession(&mut self, succession: &Succession, fx: &mut Fx<'_, O, S, R>) {
        let Ok(next) = succession.membership(&self.config.membership) else { return };
        fx.members(next.clone());
        self.config.domain.epoch = next.epoch;
        self.config.membership = next;
        // What was said in the last epoch does not add up with what is said in this one.
        self.vouchers = super::Vouchers::default();
        self.goal = None;
        self.unable.clear();
        self.unlinked.clear();
        self.patience = super::Patience::default();
        self.hearing = Hearing::default();
        // Views are counted anew.
        self.view = View(0);
        if let Some(decree) = succession.decree() {
            self.obey(decree, fx);
        }
        // There may be another epoch after it.
        self.say_hello(fx);
        self.follow(fx);
        let round = self.reads.begin_again();
        self.ask_for_claims(round, fx);
    }

    /// The epoch begins with a state that no slot led to. It differs from the one that the learner has by its members at
    /// least, so it is taken up like any state that nobody can tell the way to.
    fn obey(&mut self, decree: &Decree, fx: &mut Fx<'_, O, S, R>) {
        let is_near = self.copy.slot == decree.base.slot && self.verified == self.copy.slot;
        let mut copy = self.copy.clone();
        let next = &self.config.membership;
        let is_there = is_near
            && copy.system.decree(&next.members, next.epoch)
            && copy.digest() == decree.base.state;
        if is_there {
            self.copy = copy;
        } else if self.transfer.is_none() {
            self.begin_transfer(fx);
        }
    }

    /// Asks whether its epoch is over, if too few have said anything in it of late.
    pub(super) fn look_at_epoch(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if self.hearing.is_too_quiet(self.quorums.quorum()) {
            self.say_hello(fx);
        }
    }

    fn say_hello(&self, fx: &mut Fx<'_, O, S, R>) {
        // EAGER: a learner writes no log; it asks.
        fx.send_eager(Target::Replicas, ReplicaMessage::Hello(self.config.membership.epoch));
    }
}
