//! The normal case (OSDI'99, section 4.2): propose, prepare, commit, execute in order.

use crate::log::{Proposal, Source};
use crate::message::{Attested, Commit, Committed, Message, PrePrepare, Prepare, Vote};
use crate::recovery::Record;
use crate::safety::{Ground, Rules};
use crate::{Pbft, Standing};
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use testudo_contracts::{Batch, Freshness, Mode, OrderOutput, Ordering as _};
use testudo_core::{Digest, Effects, Encode, Evidence, ReplicaId, Slot, Target, Verified, View};

impl<R: Rules> Pbft<R> {
    /// The primary proposes. Its proposal is on record before it leaves, and comes back to it like everybody's.
    pub(crate) fn on_propose(&mut self, batch: Batch, fx: &mut Effects<'_, Self>) {
        if !self.may_propose() || !batch.is_well_formed() {
            return;
        }
        let proposal = PrePrepare { view: self.view, slot: self.next, batch };
        self.next = self.next.next();
        fx.persist(Record::Proposed(proposal.clone()));
        self.proposing.insert(proposal.slot, proposal.clone());
        fx.send(Target::Replicas, Message::PrePrepare(proposal));
    }

    /// A pre-prepare, from the primary or handed on by somebody: accepted when the rules allow it, and then to be
    /// judged by the layer above.
    pub(crate) fn on_pre_prepare(
        &mut self,
        attested: Attested<PrePrepare>,
        fx: &mut Effects<'_, Self>,
    ) {
        let PrePrepare { view, slot, .. } = attested.statement;
        self.catchup.ahead |= view > self.view;
        if self.standing == Standing::Stopped || view != self.view || !self.log.contains(slot) {
            return;
        }
        let message = Message::PrePrepare(attested.statement.clone());
        let domain = self.config.domain;
        self.compare(slot, attested.signer, &message, || attested.frame(domain), fx);
        let ground = self.ground(slot);
        let tick = self.catchup.tick;
        let Some(entry) = self.log.open(slot, tick) else { return };
        if entry.proposal.is_some() || !R::may_accept(&attested.statement, &ground) {
            return;
        }
        let proposal = entry.proposal.insert(Proposal::fresh(attested));
        let batch = proposal.batch().clone();
        self.proposing.remove(&slot);
        self.note_proposal(slot, &batch);
        self.ask(slot, batch, fx);
        self.advance(slot, fx);
    }

    fn ground(&self, slot: Slot) -> Ground {
        Ground {
            view: self.view,
            active: self.is_active(),
            low: self.log.low(),
            high: self.log.high(),
            first_fresh: self.first_fresh,
            bound: self.log.entries.get(&slot).and_then(crate::log::Entry::bound),
        }
    }

    /// Asks the layer above whether this may be voted for.
    pub(crate) fn ask(&mut self, slot: Slot, batch: Batch, fx: &mut Effects<'_, Self>) {
        if !self.may_vote(slot) {
            return;
        }
        let freshness = match slot.cmp(&self.first_fresh) {
            core::cmp::Ordering::Less => Freshness::Repeated,
            core::cmp::Ordering::Equal => Freshness::First,
            core::cmp::Ordering::Greater => Freshness::Later,
        };
        fx.output(OrderOutput::Judge { view: self.view, slot, batch, freshness });
    }

    /// The layer above holds the bodies: the vote is cast, once it is on record.
    pub(crate) fn on_judged(
        &mut self,
        view: View,
        slot: Slot,
        digest: Digest,
        fx: &mut Effects<'_, Self>,
    ) {
        if !self.may_vote(slot) || !self.is_active() || view != self.view {
            return;
        }
        let Some(entry) = self.log.entries.get_mut(&slot) else { return };
        let Some(proposal) = &entry.proposal else { return };
        if entry.voted || proposal.digest != digest {
            return;
        }
        entry.voted = true;
        match &proposal.source {
            // The pre-prepare was the primary's own vote.
            Source::Fresh(attested) if attested.signer == self.me => {
                return self.note_judgement(slot, fx);
            }
            Source::Fresh(attested) => {
                fx.persist(Record::Voted(attested.clone()));
            }
            // The record of the new view binds this vote: there is nothing else to vote for.
            Source::Repeated(_) => {}
        }
        fx.send(Target::Replicas, Message::Prepare(Prepare { view, slot, digest }));
        self.note_judgement(slot, fx);
    }

    /// A prepare or commit, one's own among them. The first of each sender counts; those of the view that is being
    /// changed to are kept, so that nothing need be said twice when the new view arrives here last. Those of later
    /// views are dropped: their senders say them again.
    pub(crate) fn on_vote(
        &mut self,
        vote: Vote,
        message: Verified<Message>,
        fx: &mut Effects<'_, Self>,
    ) {
        let Some(sender) = message.replica() else { return };
        self.catchup.ahead |= vote.view > self.view;
        self.remember_words(sender, &message);
        if self.standing == Standing::Stopped || vote.view != self.view {
            return;
        }
        let frame = || message.signed().to_bytes();
        self.compare(vote.slot, sender, message.message(), frame, fx);
        let tick = self.catchup.tick;
        let Some(entry) = self.log.open(vote.slot, tick) else { return };
        let votes = match message.message() {
            Message::Prepare(_) => &mut entry.prepares,
            Message::Commit(_) => &mut entry.commits,
            _ => return,
        };
        votes.entry(sender).or_insert(message);
        self.advance(vote.slot, fx);
    }

    /// Keeps the last votes of everybody, should it start again and ask for them.
    fn remember_words(&mut self, sender: ReplicaId, message: &Verified<Message>) {
        let words = self.heard.entry(sender).or_default();
        match message.message() {
            Message::Prepare(prepare) => {
                Attested::of(message, prepare.clone()).into_iter().for_each(|s| words.prepared(s));
            }
            Message::Commit(commit) => {
                Attested::of(message, commit.clone()).into_iter().for_each(|s| words.committed(s));
            }
            _ => {}
        }
    }

    /// Goes on with a slot as far as its votes allow: prepared, then committed. Whether this replica has voted itself
    /// does not matter: a quorum vouches for the batch and its bodies.
    pub(crate) fn advance(&mut self, slot: Slot, fx: &mut Effects<'_, Self>) {
        if !self.is_active() {
            return;
        }
        let (view, primary) = (self.view, self.primary());
        let may_vote = self.may_vote(slot);
        let Some(entry) = self.log.entries.get_mut(&slot) else { return };
        let is_new = may_vote && !entry.is_prepared_in(view);
        if is_new
            && R::is_prepared(&self.system, entry.preparers(primary))
            && let Some(prepared) = entry.certify_prepared(view, slot)
        {
            let digest = prepared.digest();
            entry.prepared = Some(prepared.clone());
            // A view change must be able to show this certificate once anybody may count the commit.
            fx.persist(Record::Prepared(prepared));
            fx.send(Target::Replicas, Message::Commit(Commit { view, slot, digest }));
        }
        if entry.decided.is_none()
            && R::is_committed(&self.system, entry.committers())
            && let Some(committed) = entry.certify_committed(view, slot)
        {
            self.decide(committed, fx);
        }
    }

    /// A slot is decided, here or by a certificate from elsewhere.
    pub(crate) fn decide(&mut self, committed: Committed, fx: &mut Effects<'_, Self>) {
        let slot = committed.slot();
        if self.standing == Standing::Stopped {
            return;
        }
        let tick = self.catchup.tick;
        if let Some(entry) = self.log.open(slot, tick) {
            entry.decided.get_or_insert_with(|| committed.clone());
        }
        self.learn(slot, fx);
        if self.decisions.contains(slot) {
            return;
        }
        if committed.view() == self.view && self.is_active() {
            self.patience.progress();
        }
        self.decisions.ready.insert(slot, committed.batch.clone());
        // The decision is final whether or not this disk knows of it, so execution does not wait for its record.
        self.execute(fx);
        let position = fx.persist(Record::Decided(committed));
        self.decisions.positions.insert(slot, position);
        self.note_decision(slot, fx);
    }

    /// Gives out for execution what is decided, in the order of slots.
    pub(crate) fn execute(&mut self, fx: &mut Effects<'_, Self>) {
        while let Some((slot, batch)) = self.decisions.take_next() {
            fx.output(OrderOutput::Execute { slot, batch, mode: Mode::Final });
        }
    }

    /// Holds a statement against all that its signer has said for this slot of this view.
    pub(crate) fn compare(
        &mut self,
        slot: Slot,
        signer: ReplicaId,
        message: &Message,
        frame: impl Fn() -> Vec<u8>,
        fx: &mut Effects<'_, Self>,
    ) {
        let Some(entry) = self.known(slot) else { return };
        let found =
            entry.contradiction::<R>(signer, message, (self.config.domain, self.system.n()));
        if let Some((offence, proof)) = found {
            self.accuse(signer, offence, vec![proof, frame()], fx);
        }
    }

    /// Hands over evidence, once for each accused and offence.
    pub(crate) fn accuse(
        &mut self,
        accused: ReplicaId,
        offence: &'static str,
        statements: Vec<Vec<u8>>,
        fx: &mut Effects<'_, Self>,
    ) {
        if self.blamed.insert((accused, offence)) {
            let offence = offence.to_string();
            let evidence = Evidence { accused, protocol: crate::PBFT, offence, statements };
            self.accusations.push(evidence.clone());
            fx.blame(evidence);
        }
    }
}
