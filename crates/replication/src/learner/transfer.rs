//! Fetching a certified state, and saying what was wrong with one's own.

use super::{Fx, Learner, LearnerOutput, Repair, Standing};
use crate::executor::Replicated;
use crate::feed::StateAnswer;
use crate::learner::rules::Rules;
use crate::message::ReplicaMessage;
use crate::transfer::{Fetched, Need, Progress, Taken, Transfer, Whole};
use crate::work::Work;
use testudo_contracts::{Ordering, Service};
use testudo_core::{ReplicaId, Slot, Stamp};

/// A copy that was found to be wrong, made anew. It is compared when the right one comes to the same slot.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    state: Replicated,
    fetched: Fetched,
    /// What is to be told once the right copy is shown.
    repair: Option<Repair>,
}

impl<O: Ordering, S: Service + Clone, R: Rules> Learner<O, S, R> {
    /// Its own copy is wrong. It is made anew, off this thread, before a state is fetched after so many ticks: whatever the
    /// memory has garbled in it, what it has in common with the right one need not be fetched, and what is wrong will be
    /// known.
    pub(super) fn mend(&mut self, rest: u32, fx: &mut Fx<'_, O, S, R>) {
        self.wrong = None;
        // Nothing is executed meanwhile.
        self.transfer = Some(self.transfer_from(&self.copy, u32::MAX));
        let stamp = self.stamp();
        fx.work(stamp, Work::MakeAnew(self.copy.clone()));
        self.rest = rest;
    }

    /// The wrong copy was made anew.
    pub(super) fn on_made_anew(
        &mut self,
        stamp: Stamp,
        state: Replicated,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        if stamp == self.stamp() && matches!(self.standing, Standing::Diverged(_)) {
            self.transfer = Some(self.transfer_from(&state, self.rest));
            self.wrong = Some(Wrong { state, fetched: Fetched::default(), repair: None });
            self.ask_for_state(fx);
        }
    }

    /// Begins to fetch a state. Until it is there nothing is executed.
    pub(super) fn begin_transfer(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if let Standing::Following(_) = self.standing {
            self.stand(Standing::Fetching, fx);
        }
        self.transfer = Some(self.transfer_from(&self.copy, 0));
        self.ask_for_state(fx);
    }

    /// A transfer of what is not in this state.
    fn transfer_from(&self, local: &Replicated, rest: u32) -> Transfer<R> {
        let lacks_copy = matches!(self.standing, Standing::Diverged(_));
        let need = Need {
            least: if lacks_copy { Slot(0) } else { self.copy.slot.next() },
            version: S::VERSION,
            enough: self.quorums.quorum(),
        };
        let maps = (local.system.map().clone(), local.map.clone());
        Transfer::new(need, self.config.membership.replicas(), maps, rest)
    }

    /// How far the transfer of a state is, if one is under way.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        self.transfer.as_ref().map(Transfer::progress)
    }

    fn ask_for_state(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let Some(transfer) = &mut self.transfer else { return };
        for (source, ask) in transfer.asks() {
            // EAGER: a learner writes no log; it asks.
            fx.send_eager(source, ReplicaMessage::StateAsk(ask));
        }
    }

    /// A replica answers. Its certificate was verified.
    pub(super) fn on_state(
        &mut self,
        from: ReplicaId,
        answer: &StateAnswer,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        let Some(transfer) = &mut self.transfer else { return };
        match transfer.take(from, answer) {
            Taken::More => self.ask_for_state(fx),
            Taken::Whole(whole) => {
                let Whole { state, fetched, .. } = *whole;
                self.transfer = None;
                if let Some(wrong) = &mut self.wrong {
                    wrong.fetched = fetched;
                }
                self.install(state, fx);
            }
            // No checkpoint was ever stable, so everything that was decided can still be told.
            Taken::Nothing => {
                self.transfer = None;
                let genesis = self.genesis.clone();
                self.install(genesis, fx);
            }
        }
    }

    /// Time has passed: what was asked may be lost, or its source of no use.
    pub(super) fn transfer_again(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if let Some(transfer) = &mut self.transfer {
            transfer.tick();
            self.ask_for_state(fx);
        }
    }

    /// The copy has come to a slot. If it is the one at which the wrong copy was, or lies beyond, what was wrong is known,
    /// or never will be.
    pub(super) fn compare_wrong(&mut self) {
        let copy = &self.copy;
        if let Some(wrong) = &mut self.wrong
            && wrong.repair.is_none()
            && wrong.state.slot <= copy.slot
        {
            let is_same_slot = wrong.state.slot == copy.slot;
            let differing = is_same_slot.then(|| wrong.state.difference(copy));
            wrong.repair = Some(Repair { slot: copy.slot, fetched: wrong.fetched, differing });
        }
    }

    /// Tells what was wrong, once what is right is known to be so.
    pub(super) fn tell_repair(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let verified = self.verified;
        let repair = self.wrong.as_ref().and_then(|wrong| wrong.repair.as_ref());
        if let Some(repair) = repair.filter(|repair| repair.slot <= verified).cloned() {
            self.wrong = None;
            fx.output(LearnerOutput::Repaired(repair));
        }
    }
}
