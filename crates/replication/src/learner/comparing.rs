//! Comparing the whole state, and not what operations came to alone.
//!
//! Vouchers bind results. A value that has rotted in memory, or was stored wrongly by an operation that answered rightly,
//! would show in no result until somebody overwrites it. So the learner works out the digest of all its state at each
//! checkpoint's slot, off its thread, as replicas do, and holds it against what a quorum has signed for that slot. The
//! certificate proves itself, so it is asked of one replica after the other until somebody has it.

use super::{Fx, Learner};
use crate::executor::Replicated;
use crate::feed::{Head, StateAsk};
use crate::learner::rules::Rules;
use crate::message::ReplicaMessage;
use crate::work::{Stretch, Work};
use alloc::collections::BTreeMap;
use testudo_contracts::{Ordering, Service};
use testudo_core::{Digest, Epoch, ReplicaId, Slot, Stamp};

/// Checkpoints of which the learner remembers its own digest at most. The oldest goes: a later one binds as much.
const HELD: usize = 3;

/// The learner's own digests of checkpoints.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparing {
    /// Those that are not compared yet; none where it is being worked out.
    own: BTreeMap<Slot, Option<Digest>>,
    /// The newest that a quorum has signed, as far as it was asked for.
    certified: Option<(Slot, Digest)>,
    /// How often a state was taken up. Digests of a state that was thrown away are nobody's.
    generation: u64,
    /// Who is asked next.
    turn: u16,
    /// The last slot whose state was found to be right.
    right: Slot,
    /// What is looked through next for what the memory has garbled.
    stretch: Stretch,
}

impl Comparing {
    /// Another state is taken up in place of the learner's own. It was checked as a whole.
    pub(super) fn begin_anew(&mut self, slot: Slot) {
        self.own.clear();
        self.generation += 1;
        self.right = slot;
    }

    /// Whether the learner's own state and what a quorum has signed are both known of one slot, and if so whether they
    /// are the same.
    fn verdict(&self) -> Option<(Slot, bool)> {
        let (slot, certified) = self.certified?;
        let own = (*self.own.get(&slot)?)?;
        Some((slot, own == certified))
    }
}

impl<O: Ordering, S: Service + Clone, R: Rules> Learner<O, S, R> {
    /// The last slot at which all of the state was found to be what a quorum has signed.
    #[must_use]
    pub const fn compared(&self) -> Slot {
        self.comparing.right
    }

    /// A slot has executed: if it is a checkpoint's, the digest of the state is worked out, of a copy.
    pub(super) fn hold_if_due(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let slot = self.copy.slot;
        if !slot.0.is_multiple_of(self.config.checkpoint_interval.max(1)) {
            return;
        }
        let own = &mut self.comparing.own;
        own.insert(slot, None);
        while own.len() > HELD {
            own.pop_first();
        }
        let stamp = self.stamp();
        let state: Replicated = self.copy.clone();
        let stretch = self.comparing.stretch.clone();
        fx.work(stamp, Work::Digest(state, stretch));
    }

    /// What is computed of the copy as it is now bears this.
    pub(super) const fn stamp(&self) -> Stamp {
        Stamp { epoch: Epoch(0), generation: self.comparing.generation }
    }

    /// The digest of one's own state is known.
    pub(super) fn on_own_digest(
        &mut self,
        stamp: Stamp,
        (head, is_whole, next): (&Head, bool, Stretch),
        fx: &mut Fx<'_, O, S, R>,
    ) {
        self.comparing.stretch = next;
        if !is_whole && stamp == self.stamp() && self.transfer.is_none() {
            return self.diverge(head.slot, fx);
        }
        if stamp.generation == self.comparing.generation
            && let Some(own) = self.comparing.own.get_mut(&head.slot)
        {
            *own = Some(head.digest());
            self.compare(fx);
        }
    }

    /// A quorum has signed this state.
    pub(super) fn on_certified(&mut self, slot: Slot, state: Digest, fx: &mut Fx<'_, O, S, R>) {
        if self.comparing.certified.is_none_or(|(known, _)| known < slot) {
            self.comparing.certified = Some((slot, state));
            self.compare(fx);
        }
    }

    fn compare(&mut self, fx: &mut Fx<'_, O, S, R>) {
        match self.comparing.verdict() {
            None => {}
            Some((slot, true)) => {
                self.comparing.own = self.comparing.own.split_off(&slot.next());
                self.comparing.right = self.comparing.right.max(slot);
            }
            Some((slot, false)) if self.transfer.is_none() => self.diverge(slot, fx),
            // It is being mended already.
            Some((_, false)) => {}
        }
    }

    /// Asks for the newest certificate while there is something to compare with it.
    pub(super) fn ask_for_certificate(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if self.transfer.is_some() || self.comparing.own.is_empty() {
            return;
        }
        let n = self.quorums.n().max(1) as u16;
        // From the upstream a certificate means that it cannot tell what comes next.
        if self.comparing.turn == self.upstream.0 {
            self.comparing.turn = (self.comparing.turn + 1) % n;
        }
        let asked = ReplicaId(self.comparing.turn);
        self.comparing.turn = (self.comparing.turn + 1) % n;
        // EAGER: a learner writes no log; it asks.
        fx.send_eager(asked, ReplicaMessage::StateAsk(StateAsk::Certificate));
    }
}
