//! The normal case (the paper's section on it goes here): propose, judge, vote, decide, execute in order.

use crate::message::{Message, Proposal, Vote};
use crate::recovery::Record;
use crate::safety::{Ground, Rules};
use crate::{Accepted, __Type__, Standing};
use alloc::string::ToString;
use alloc::vec;
use testudo_contracts::{Batch, Freshness, Mode, OrderOutput, Ordering as _};
use testudo_core::{Digest, Effects, Encode, Evidence, Slot, Target, Verified, View};

impl<R: Rules> __Type__<R> {
    /// The primary proposes. Its proposal comes back to it like everybody's. It needs no record: a primary that
    /// restarts gives its view up, so no slot is ever proposed twice in one.
    pub(crate) fn on_propose(&mut self, batch: Batch, fx: &mut Effects<'_, Self>) {
        if !self.may_propose() || !batch.is_well_formed() {
            return;
        }
        let proposal = Proposal { view: self.view, slot: self.next, batch };
        self.next = self.next.next();
        fx.send(Target::Replicas, Message::Proposal(proposal));
    }

    /// A proposal of the view's primary: accepted when the rules allow it, and then to be judged by the layer above.
    pub(crate) fn on_proposal(&mut self, proposal: Proposal, fx: &mut Effects<'_, Self>) {
        let slot = proposal.slot;
        let ground = Ground {
            view: self.view,
            low: self.low(),
            high: self.high(),
            first_fresh: self.first_fresh,
            taken: self.entries.get(&slot).is_some_and(|entry| entry.accepted.is_some()),
        };
        if self.standing == Standing::Voting && R::may_accept(&proposal, &ground) {
            self.accept(slot, proposal.batch, fx);
        }
    }

    /// Takes a batch for its slot of this view and asks the layer above whether this may be voted for.
    pub(crate) fn accept(&mut self, slot: Slot, batch: Batch, fx: &mut Effects<'_, Self>) {
        let freshness = match slot.cmp(&self.first_fresh) {
            core::cmp::Ordering::Less => Freshness::Repeated,
            core::cmp::Ordering::Equal => Freshness::First,
            core::cmp::Ordering::Greater => Freshness::Later,
        };
        let accepted = Accepted { digest: batch.digest(), batch: batch.clone() };
        self.entries.entry(slot).or_default().accepted = Some(accepted);
        fx.output(OrderOutput::Judge { view: self.view, slot, batch, freshness });
        self.advance(slot, fx);
    }

    /// The layer above holds the bodies of this batch.
    pub(crate) fn on_judged(
        &mut self,
        view: View,
        slot: Slot,
        digest: Digest,
        fx: &mut Effects<'_, Self>,
    ) {
        if self.standing != Standing::Voting || view != self.view {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&slot) {
            entry.judged = Some(digest);
            self.advance(slot, fx);
        }
    }

    /// A vote, one's own among them. The first of each sender counts; what contradicts it convicts its signer.
    pub(crate) fn on_vote(
        &mut self,
        vote: &Vote,
        message: Verified<Message>,
        fx: &mut Effects<'_, Self>,
    ) {
        let Some(sender) = message.replica() else { return };
        let in_window = self.low() < vote.slot && vote.slot <= self.high();
        if self.standing == Standing::Stopped || vote.view != self.view || !in_window {
            return;
        }
        let entry = self.entries.entry(vote.slot).or_default();
        match entry.votes.get(&sender) {
            None => {
                entry.votes.insert(sender, message);
                self.advance(vote.slot, fx);
            }
            Some(first) => {
                if let Some(offence) = R::convicts(first.message(), message.message()) {
                    let statements = vec![first.signed().to_bytes(), message.signed().to_bytes()];
                    let (accused, protocol) = (sender, crate::__CONST__);
                    let offence = offence.to_string();
                    fx.blame(Evidence { accused, protocol, offence, statements });
                }
            }
        }
    }

    /// Goes on with a slot as far as its judgement and its votes allow. The phases of the paper follow one another
    /// here.
    fn advance(&mut self, slot: Slot, fx: &mut Effects<'_, Self>) {
        let view = self.view;
        let Some(entry) = self.entries.get_mut(&slot) else { return };
        let Some(Accepted { digest, batch }) = entry.accepted.clone() else { return };
        let has_voted = entry.voted.as_ref().is_some_and(|voted| voted.view == view);
        if !has_voted
            && self.standing == Standing::Voting
            && R::may_vote(digest, entry.judged)
        {
            let proposal = Proposal { view, slot, batch: batch.clone() };
            entry.voted = Some(proposal.clone());
            // Whoever counts this vote may execute: the next view must be able to repeat it, also after a crash.
            fx.persist(Record::Voted(proposal));
            fx.send(Target::Replicas, Message::Vote(Vote { view, slot, digest }));
        }
        let voters = entry.votes.values().filter(|vote| vote.message().binds().2 == digest).count();
        if entry.decided.is_none() && R::is_decided(&self.system, voters) {
            entry.decided = Some(digest);
            self.decide(slot, batch, fx);
        }
    }

    /// A slot is decided.
    fn decide(&mut self, slot: Slot, batch: Batch, fx: &mut Effects<'_, Self>) {
        if slot <= self.executed || self.ready.contains_key(&slot) {
            return;
        }
        self.patience.progress();
        self.ready.insert(slot, batch.clone());
        // The votes that decide are on their replicas' disks, so execution does not wait for this record.
        self.execute(fx);
        fx.persist(Record::Decided(slot, batch));
    }

    /// Gives out for execution what is decided, in the order of slots.
    pub(crate) fn execute(&mut self, fx: &mut Effects<'_, Self>) {
        while let Some(batch) = self.ready.remove(&self.executed.next()) {
            self.executed = self.executed.next();
            fx.output(OrderOutput::Execute { slot: self.executed, batch, mode: Mode::Final });
        }
    }
}
