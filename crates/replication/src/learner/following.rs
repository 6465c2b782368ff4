//! Following: from what is told and vouched for to what is shown.

use super::{Fx, Learner, LearnerOutput, Published, Standing};
use crate::executor::Decided;
use crate::feed::{Feed, Voucher};
use crate::learner::pending::Pending;
use crate::learner::rules::Rules;
use crate::learner::vouchers::Links;
use crate::message::{ReplicaMessage, ReplyBody, Request};
use crate::sessions::Admission;
use alloc::vec::Vec;
use testudo_contracts::{Batch, Ordering, Service};
use testudo_core::{Decode, Digest, Peer, ReplicaId, Slot, Verified, limits};

/// Ticks without progress after which an upstream is left for the next one. It takes two, as the first may come right
/// after it was asked.
const PATIENCE: u32 = 2;

/// Bytes of bodies in one tick that are progress, whatever is executed.
const PROGRESS_BYTES: usize = 1 << 20;

/// The longest rest before a learner that keeps on differing fetches a state again, in ticks.
const LONGEST_REST: u32 = 64;

impl<O: Ordering, S: Service + Clone, R: Rules> Learner<O, S, R> {
    /// A replica tells of a decided slot. Only the upstream is listened to, so that what is held is bounded; its voucher
    /// counts whoever it is.
    pub(super) fn on_feed(
        &mut self,
        from: ReplicaId,
        message: &Verified<ReplicaMessage<O::Message>>,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        let ReplicaMessage::Feed(feed) = message.message() else { return };
        let Feed { voucher, batch, bodies } = feed;
        if from == self.upstream && self.transfer.is_none() {
            if self.pending.tell(voucher.slot, batch) {
                for body in bodies {
                    if let Ok(body) = message.embedded(body) {
                        self.pending.keep(body);
                    }
                }
            } else if voucher.slot > self.pending.next() && self.followed < self.pending.next() {
                // Something between was lost, or was too much to be held.
                self.follow_upstream(fx);
            }
        }
        self.on_voucher(from, voucher, fx);
    }

    /// A replica vouches for a slot.
    pub(super) fn on_voucher(
        &mut self,
        from: ReplicaId,
        voucher: &Voucher,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        let enough = R::vouchers(&self.quorums);
        self.vouchers.add(from, voucher, self.verified, enough);
        self.view = self.view.max(self.vouchers.view(enough));
        self.advance(fx);
    }

    /// Executes what is certain and at hand, and shows it once it is certain what it came to.
    pub(super) fn advance(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if self.transfer.is_some() || matches!(self.standing, Standing::Diverged(_)) {
            return;
        }
        while let Some((slot, links)) = self.next_certain() {
            if self.pending.chain(slot) != Some(links.chain) {
                return self.on_wrong_chain(slot, fx);
            }
            if !self.execute_to(slot, fx) {
                // Whatever makes it look again does not make it ask again.
                if !self.pending.is_asking() {
                    self.fetch_bodies(fx);
                }
                return;
            }
            if !self.show(slot, links, fx) {
                return;
            }
        }
        self.catch_up(fx);
    }

    /// What the upstream told does not link to what was decided: it lies. But if a correct one is among those that
    /// seem to, it is this learner's own chain that is wrong.
    fn on_wrong_chain(&mut self, slot: Slot, fx: &mut Fx<'_, O, S, R>) {
        self.unlinked.insert(self.upstream);
        if self.unlinked.len() >= self.quorums.weak() {
            self.diverge(slot, fx);
        } else {
            self.change_upstream(fx);
        }
    }

    /// The highest slot that was told, is not compared yet, and is vouched for.
    fn next_certain(&self) -> Option<(Slot, Links)> {
        let (slot, links) = self.vouchers.up_to(self.pending.next().previous())?;
        (slot > self.verified && slot >= self.copy.slot).then_some((slot, links))
    }

    /// Executes up to a slot whose chain is certain. False if a body is missing.
    fn execute_to(&mut self, to: Slot, fx: &mut Fx<'_, O, S, R>) -> bool {
        while self.copy.slot < to {
            let Some((_, batch)) = self.pending.first() else { return false };
            let has = |digest: &Digest| {
                self.pending.body(digest).is_some() || self.asker.owns(digest).is_some()
            };
            if !batch.bundles.iter().all(has) {
                return false;
            }
            let Some(batch) = self.pending.take() else { return false };
            self.execute(&batch, fx);
            self.pending.drop_bodies(&batch);
        }
        true
    }

    /// Executes the next slot. Every body is here.
    fn execute(&mut self, batch: &Batch, fx: &mut Fx<'_, O, S, R>) {
        let slot = self.copy.slot.next();
        let moment = self.copy.begin(&self.config.service, slot, batch, &mut |run| fx.guard(run));
        for digest in &batch.bundles {
            let (client, bundle) = match self.pending.body(digest) {
                Some(body) => match body.sender() {
                    Peer::Client(client) => (client, body.message()),
                    Peer::Replica(replica) => {
                        self.copy.administer(replica, body.message(), &moment);
                        continue;
                    }
                },
                None => match self.asker.owns(digest) {
                    Some(bundle) => (self.key, bundle),
                    None => continue,
                },
            };
            let decided = Decided { client, digest: *digest, bundle };
            let service = &self.config.service;
            let remembered = self.copy.execute(service, decided, &moment, &mut |run| fx.guard(run));
            if client == self.key
                && self.asker.owns(digest).is_some()
                && let Ok(body) = ReplyBody::from_bytes(&remembered.body)
            {
                self.unshown.push((*digest, remembered.slot, body));
            }
        }
        self.compare_wrong();
        self.hold_if_due(fx);
        if R::answers_unseen() {
            self.answer_own(fx);
        }
    }

    /// Shows what was executed up to here, if it came to what is vouched for. False if it did not.
    fn show(&mut self, slot: Slot, links: Links, fx: &mut Fx<'_, O, S, R>) -> bool {
        if !R::may_show(self.copy.outcome, links.outcome) {
            self.diverge(slot, fx);
            return false;
        }
        self.verified = slot;
        self.setbacks.go_right(slot);
        self.vouchers.forget(slot);
        self.unable.clear();
        self.unlinked.clear();
        self.tell_repair(fx);
        self.publish(fx);
        if let Standing::Following(_) = self.standing {
            self.answer_own(fx);
        }
        true
    }

    /// Answers the tickets of its own bundles that were executed. What was published covers them.
    fn answer_own(&mut self, fx: &mut Fx<'_, O, S, R>) {
        for (digest, slot, body) in core::mem::take(&mut self.unshown) {
            let asked = self.asker.accept(&digest, slot, body);
            self.carry_out(asked, fx);
        }
    }

    /// Publishes the copy. Never one that is older than what was published before: nobody is shown time running back.
    pub(super) fn publish(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if self.copy.slot < self.shown {
            return;
        }
        self.shown = self.copy.slot;
        if matches!(self.standing, Standing::Following(_)) {
            self.output_copy(fx);
        }
    }

    fn output_copy(&self, fx: &mut Fx<'_, O, S, R>) {
        let Self { shown: slot, view, .. } = *self;
        let (time, state) = (self.copy.time, self.copy.map.clone());
        let epoch = self.config.membership.epoch;
        fx.output(LearnerOutput::Published(Published { slot, time, epoch, view, state }));
    }

    /// Whether it has caught up, and what follows from that.
    ///
    /// It has when it has come to where a correct replica was when it began. Linearizable reads need no more than that, as
    /// each asks by itself how far it must wait.
    fn catch_up(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let Some(known) = self.vouchers.known(R::vouchers(&self.quorums)) else { return };
        if !matches!(self.standing, Standing::Following(_)) {
            // What was known when it began: the replicas may go on faster than it can ever find them at rest. Of a
            // quorum so many are correct that liars cannot make it low.
            if self.goal.is_none() && self.vouchers.heard() >= self.quorums.quorum() {
                self.goal = Some(known);
            }
            let has_arrived = self.goal.is_some_and(|goal| goal.max(self.shown) <= self.verified);
            // It may have stopped between two slots that can be compared. What lies between is nobody's to see.
            if !has_arrived || self.copy.slot != self.verified {
                return self.ask_for_more(known, fx);
            }
            self.shown = self.copy.slot;
            self.stand(Standing::Following(self.upstream), fx);
            self.output_copy(fx);
            self.answer_own(fx);
            self.settle_own(fx);
            self.refuse_if_not_admitted(fx);
        }
        self.ask_for_more(known, fx);
        self.serve_readers(fx);
    }

    /// Asks on when the upstream has told a whole step since it was asked, and there is more.
    fn ask_for_more(&mut self, known: Slot, fx: &mut Fx<'_, O, S, R>) {
        let next = self.pending.next();
        if known >= next && next.0 >= self.followed.0 + limits::FOLLOW_STEP {
            self.follow(fx);
        }
    }

    /// Its own execution is wrong. Nothing of it is shown, now or later. A flipped bit is mended at once; but a learner that
    /// is wrong by itself, such as one of another version, would fetch the same state for ever.
    pub(super) fn diverge(&mut self, slot: Slot, fx: &mut Fx<'_, O, S, R>) {
        self.unshown.clear();
        self.stand(Standing::Diverged(slot), fx);
        let rest = self.setbacks.suffer(slot);
        self.mend(rest, fx);
    }

    /// Takes up a certified state in place of its own.
    pub(super) fn install(&mut self, copy: crate::executor::Replicated, fx: &mut Fx<'_, O, S, R>) {
        self.pending = Pending::after(copy.slot, copy.chain);
        self.copy = copy;
        self.unshown.clear();
        self.unable.clear();
        self.unlinked.clear();
        self.has_skipped = true;
        self.comparing.begin_anew(self.copy.slot);
        self.patience = Patience::default();
        // What was shown may be ahead of it still: then it shows nothing until it has caught up with itself.
        if !matches!(self.standing, Standing::Fetching) {
            self.stand(Standing::Fetching, fx);
        }
        self.verified = self.copy.slot;
        self.compare_wrong();
        self.tell_repair(fx);
        self.vouchers.forget(self.verified);
        self.follow(fx);
        self.advance(fx);
    }

    /// After slots were skipped: what its own bundles came to meanwhile stands in their session, or cannot be known.
    fn settle_own(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let mut known = Vec::new();
        for (digest, bundle) in self.asker.outstanding() {
            let came_to = self.copy.remembered(self.key, *digest, bundle);
            if let Some(remembered) = came_to {
                let body = ReplyBody::from_bytes(&remembered.body);
                known.extend(body.ok().map(|body| (*digest, remembered.slot, body)));
            } else if let Request::Operations { session, sequence, .. } = bundle.request
                && let Admission::Refuse(body) =
                    self.copy.system.admit(self.key, session, sequence, *digest)
            {
                known.push((*digest, self.copy.slot, body));
            } else if self.has_skipped && bundle.sequence().is_none() {
                // Whether it was executed, and its session evicted since, nobody can tell. Another one is opened.
                known.push((*digest, self.copy.slot, ReplyBody::NoSession));
            }
        }
        self.has_skipped = false;
        for (digest, slot, body) in known {
            let asked = self.asker.accept(&digest, slot, body);
            self.carry_out(asked, fx);
        }
    }

    /// A replica cannot tell from where this learner stands: it offers a stable checkpoint instead. Once a correct one
    /// says so, a state is fetched.
    pub(super) fn on_stable(&mut self, from: ReplicaId, slot: Slot, fx: &mut Fx<'_, O, S, R>) {
        if from != self.upstream || self.transfer.is_some() || slot < self.pending.next() {
            return;
        }
        self.unable.insert(from);
        if self.unable.len() >= self.quorums.weak() {
            self.begin_transfer(fx);
        } else {
            self.change_upstream(fx);
        }
    }

    /// Leaves an upstream that has not told what others vouch for: at each tick it must have come to where the others
    /// were some ticks ago, or have told a good deal, so that it cannot keep a learner behind by telling a little.
    pub(super) fn leave_useless_upstream(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let known = self.known();
        let is_behind = known > self.verified || self.standing == Standing::Fetching;
        if !is_behind || self.transfer.is_some() {
            self.patience = Patience::default();
            return;
        }
        let Patience { goal, at, ticks } = self.patience;
        let told = self.verified.0.saturating_sub(at.0) >= limits::FOLLOW_STEP
            || self.pending.take_received() >= PROGRESS_BYTES;
        let has_arrived = goal.is_none_or(|goal| goal <= self.verified);
        self.patience = Patience {
            goal: if has_arrived { Some(known) } else { goal },
            at: self.verified,
            ticks: if has_arrived || told { 1 } else { ticks + 1 },
        };
        if self.patience.ticks > PATIENCE {
            self.change_upstream(fx);
        }
    }

    /// Follows the next replica. What the last one told is not believed any more; what it sent in bodies is signed.
    fn change_upstream(&mut self, fx: &mut Fx<'_, O, S, R>) {
        self.patience = Patience::default();
        self.pending.distrust();
        let n = self.quorums.n().max(1) as u16;
        self.upstream = ReplicaId((self.upstream.0 + 1) % n);
        if let Standing::Following(_) = self.standing {
            self.stand(Standing::Following(self.upstream), fx);
        }
        self.follow(fx);
    }

    /// Asks for bodies that certain slots lack: the upstream has them, and every other correct replica. Of what is only
    /// told nothing is asked for: a liar could have anything fetched.
    pub(super) fn fetch_bodies(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let Some((slot, links)) = self.next_certain() else { return };
        if self.pending.chain(slot) != Some(links.chain) {
            return;
        }
        let owns = |digest: &Digest| self.asker.owns(digest).is_some();
        let lacking = self.pending.lacking(slot, limits::FETCH_ITEMS, owns);
        if !lacking.is_empty() {
            // EAGER: a learner writes no log; it asks.
            fx.send_eager(self.upstream, ReplicaMessage::Fetch(lacking));
        }
    }
}

/// How long an upstream may take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    /// Where a correct replica was when the time began to run.
    goal: Option<Slot>,
    /// Where the learner was at the last tick.
    at: Slot,
    /// Ticks that were not of much use.
    ticks: u32,
}

/// How often it was found to be wrong without having been right for long.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Setbacks {
    count: u32,
    /// Where it was wrong last.
    at: Slot,
}

impl Setbacks {
    /// What it executed itself, as far as this slot, was right.
    const fn go_right(&mut self, slot: Slot) {
        if slot.0 >= self.at.0.saturating_add(limits::FOLLOW_STEP) {
            self.count = 0;
        }
    }

    /// It was wrong in this slot. For how many ticks it rests now: none the first time, and twice as many each time after.
    pub(super) fn suffer(&mut self, slot: Slot) -> u32 {
        self.at = slot;
        self.count = self.count.saturating_add(1);
        match self.count {
            1 => 0,
            count => {
                1_u32.checked_shl(count - 2).map_or(LONGEST_REST, |rest| rest.min(LONGEST_REST))
            }
        }
    }
}
