//! Where results part: what a replica that has halted asks the others.
//!
//! It has halted as no digest of a slot can reach a quorum any more. So some replicas' results, or their states, are other
//! than others'; which are right no replica can know, but people will want to know where it began. So it asks the others
//! for their chains over results, slot by slot since the last stable checkpoint, and names the first slot at which not
//! all are equal. Answers are words on a channel: an alarm rests on them, and nothing else. It goes on asking now and then, for
//! as long as it is halted: who was silent may tell later, and whoever has a certified state of such a slot shows the
//! certificate.

use crate::feed::{Follow, Voucher};
use crate::message::ReplicaMessage;
use crate::replica::{Fx, Replica};
use crate::rules::Rules;
use crate::status::{Event, Halt, Health};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use testudo_contracts::{Ordering, Service};
use testudo_core::{Digest, Peer, ReplicaId, Slot, limits};

/// Ticks after which the answers that are there must do.
const PATIENCE: u32 = 16;

/// Ticks after which it asks again.
const REST: u32 = 64;

/// What is known of the others' results.
#[derive(Clone, Debug)]
pub(crate) struct Inquiry {
    /// The last slot before those that are asked for, and the last of them.
    after: Slot,
    halted: Slot,
    /// The chains over results that each has said. Invariant: of slots that are asked for.
    said: BTreeMap<ReplicaId, BTreeMap<Slot, Digest>>,
    ticks: u32,
}

impl Inquiry {
    /// The first slot that this replica has not said.
    fn next(&self, id: ReplicaId) -> Slot {
        let said = self.said.get(&id).and_then(|said| said.keys().next_back());
        said.map_or(self.after, |last| *last).next()
    }

    fn is_told_by(&self, id: ReplicaId) -> bool {
        self.next(id) > self.halted
    }
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// This replica has halted at `slot`.
    pub(crate) fn begin_inquiry(&mut self, slot: Slot, fx: &mut Fx<'_, O, S, R>) {
        let after = self.checkpoints.stable_slot();
        let said = BTreeMap::new();
        self.healing.inquiry = Some(Inquiry { after, halted: slot, said, ticks: 0 });
        self.healing.rested = 0;
        self.inquire(fx);
    }

    fn others(&self) -> Vec<ReplicaId> {
        self.config.membership.replicas().filter(|id| *id != self.me).collect()
    }

    /// Asks all who have not said everything for what comes next.
    fn inquire(&self, fx: &mut Fx<'_, O, S, R>) {
        let Some(inquiry) = &self.healing.inquiry else { return };
        for id in self.others() {
            if !inquiry.is_told_by(id) {
                let follow = Follow { from: inquiry.next(id), payload: false };
                // EAGER: a question promises nothing.
                fx.send_eager(id, ReplicaMessage::Follow(follow));
            }
        }
    }

    /// Time has passed: answers may be lost, or never come.
    pub(crate) fn inquire_again(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if let Some(inquiry) = &mut self.healing.inquiry {
            inquiry.ticks += 1;
            self.inquire(fx);
            return self.conclude(fx);
        }
        if let Health::Halted(slot) = self.health {
            self.healing.rested += 1;
            if self.healing.rested >= REST {
                self.begin_inquiry(slot, fx);
            }
        }
    }

    /// Another replica says what its results are.
    pub(crate) fn on_testimony(
        &mut self,
        from: ReplicaId,
        voucher: &Voucher,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        let Some(inquiry) = &mut self.healing.inquiry else { return };
        // In order, so that a gap is asked for again.
        if from == self.me || voucher.slot != inquiry.next(from) || voucher.slot > inquiry.halted {
            return;
        }
        inquiry.said.entry(from).or_default().insert(voucher.slot, voucher.outcome);
        let said = voucher.slot.0 - inquiry.after.0;
        if inquiry.is_told_by(from) {
            self.conclude(fx);
        } else if said.is_multiple_of(limits::FOLLOW_STEP) {
            let follow = Follow { from: voucher.slot.next(), payload: false };
            // EAGER: a question promises nothing.
            fx.send_eager(from, ReplicaMessage::Follow(follow));
        }
    }

    /// Says where results part, once everybody has told all, or has had time enough.
    fn conclude(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let others = self.others();
        let Some(inquiry) = &self.healing.inquiry else { return };
        let is_complete = others.iter().all(|id| inquiry.is_told_by(*id));
        if !is_complete && (inquiry.ticks < PATIENCE || inquiry.said.is_empty()) {
            return;
        }
        let Some(inquiry) = self.healing.inquiry.take() else { return };
        let slots = (inquiry.after.0 + 1..=inquiry.halted.0).map(Slot);
        let mut parted = None;
        for slot in slots {
            let Some(own) = self.recent.get(slot).map(|executed| executed.outcome) else {
                continue;
            };
            let said = inquiry.said.iter();
            let said = said.filter_map(|(id, said)| Some((*id, *said.get(&slot)?)));
            let others: Vec<(ReplicaId, Digest)> = said.collect();
            if others.iter().any(|(_, outcome)| *outcome != own) {
                parted = Some((slot, own, others));
                break;
            }
        }
        let slot = inquiry.halted;
        let halt = match parted {
            Some((first, own, others)) => Halt { slot, first: Some(first), own, others },
            None => Halt { slot, first: None, own: self.state.outcome, others: Vec::new() },
        };
        if self.healing.halt.as_ref() != Some(&halt) {
            self.healing.halt = Some(halt.clone());
            fx.output(Event::Halted(halt));
        }
    }

    /// Another replica asks what this one's results are, slot by slot.
    pub(crate) fn testify(&mut self, to: ReplicaId, follow: &Follow, fx: &mut Fx<'_, O, S, R>) {
        let peer = Peer::Replica(to);
        let may_say = matches!(self.health, Health::Well | Health::Halted(_));
        if !may_say || to == self.me || !self.budgets.may_ask(peer) {
            return;
        }
        self.keep_budget(fx);
        let stable = self.checkpoints.certificate().filter(|it| it.statement().slot >= follow.from);
        if let Some(stable) = stable {
            // EAGER: the certificate proves itself.
            fx.send_eager(to, ReplicaMessage::Stable(stable.clone()));
        }
        let view = self.order.view();
        for slot in (follow.from.0..follow.from.0.saturating_add(limits::FOLLOW_STEP)).map(Slot) {
            let Some(executed) = self.recent.get(slot) else { return };
            // EAGER: as to learners (`tell_followers`).
            fx.send_eager(to, ReplicaMessage::Voucher(executed.voucher(view)));
        }
    }
}
