//! How a replica heals by itself: one that was left too far behind, and one whose state is wrong.
//!
//! It votes on order as ever, as votes rest on bodies and not on state. But it tells nobody anything of its state: no
//! replies, no vouchers, no checkpoints, no parts of it. Meanwhile it fetches a certified state ([`crate::transfer`]):
//!
//! - One that may be behind asks the others for their heads. One that *is* behind knows a certified state that is newer
//!   than its own, which is right all the same: it goes on executing what it learns of. If that takes it as far, it is
//!   well again without a transfer. It suspects no primary: what waits here may have been executed long ago. But that
//!   others seem to have decided more is no reason to suspect nobody: they may all lack the same slot.
//! - One that has *diverged* executes nothing more. What is decided meanwhile leaves the waiting room all the same, so
//!   that no innocent primary is suspected. Its state is made anew from its entries before it is used for what it has in
//!   common with the right one: what the memory has garbled may bear digests from before.
//!
//! - One that has *halted*, as no digest of a slot could reach a quorum, executes nothing more either. If a later checkpoint is
//!   stable all the same, somebody had lied to it, or it was wrong itself: it is behind then, and finds out which.
//!
//! When the state of a certified slot is whole, it takes the place of its own. Slots that were executed after it on the
//! wrong state execute again, what it covers is done, and a snapshot is asked for at once. A digest that was signed
//! before stays signed: no slot gets a second one (`checkpoint`). In the end it says what was wrong.

use crate::executor::{Difference, Replicated};
use crate::feed::StateAnswer;
use crate::inquiry::Inquiry;
use crate::message::{Bundle, ReplicaMessage, Request};
use crate::recent::Recent;
use crate::record::{Record, Timer};
use crate::replica::{Fx, Replica};
use crate::rules::Rules;
use crate::serving::Serving;
use crate::sessions::{Admission, System};
use crate::status::{Event, Halt, Health};
use crate::transfer::{Fetched, Need, Progress, Taken, Transfer, Whole};
use crate::work::{Stretch, Work};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use testudo_contracts::{Batch, Ordering, Service, StableCheckpoint};
use testudo_core::{Digest, Peer, ReplicaId, Signed, Slot, Stamp, Verified};
use testudo_state::Map;

/// Periods of asking for bodies in vain after which a decided slot is taken for one that cannot be executed any more:
/// nobody has its bodies.
const STARVED: u32 = 16;

/// The longest rest of one that keeps on diverging, before it fetches a state again, in ticks.
const LONGEST_REST: u32 = 256;

/// What a replica does to heal.
pub(crate) struct Healing<R> {
    transfer: Option<Transfer<R>>,
    /// The others are said to have decided up to here.
    goal: Slot,
    /// How often a state has taken the place of another. What was computed of an earlier one is of no use.
    pub(crate) generation: u64,
    /// What the ordering is to be told.
    pub(crate) restored: Option<StableCheckpoint>,
    /// The state that was wrong, made anew, until it is compared.
    wrong: Option<Replicated>,
    /// What was fetched for the state that took its place.
    fetched: Fetched,
    /// Bundles of decided slots that are not executed as the state is wrong. They wait for nothing.
    settled: BTreeSet<Digest>,
    /// The slot up to which bodies were let go of, as a state that is fetched covers them.
    covered: Slot,
    /// Bundles of slots after the state that was taken up: their bodies may have been let go of.
    again: BTreeSet<Digest>,
    /// What the others' results are, if the replica has halted.
    pub(crate) inquiry: Option<Inquiry>,
    /// What came of asking for them.
    pub(crate) halt: Option<Halt>,
    /// Ticks since they were asked last.
    pub(crate) rested: u32,
    is_ticking: bool,
    /// What is looked through next for what the memory has garbled.
    pub(crate) stretch: Stretch,
    /// The slot that lacks bodies, and for how many periods.
    starved: (Slot, u32),
    /// How often it has diverged without having been right for a whole interval since.
    setbacks: u32,
}

impl<R> Default for Healing<R> {
    fn default() -> Self {
        Self {
            transfer: None,
            goal: Slot::default(),
            generation: 0,
            restored: None,
            wrong: None,
            fetched: Fetched::default(),
            settled: BTreeSet::new(),
            covered: Slot::default(),
            again: BTreeSet::new(),
            inquiry: None,
            halt: None,
            rested: 0,
            is_ticking: false,
            stretch: Stretch::default(),
            starved: (Slot::default(), 0),
            setbacks: 0,
        }
    }
}

impl<R: Rules> Healing<R> {
    /// Whether a bundle is decided, though not executed.
    pub(crate) fn is_settled(&self, digest: &Digest) -> bool {
        self.settled.contains(digest)
    }

    /// Whether a bundle is to be executed on a state that was taken up, whatever became of it on another.
    pub(crate) fn executes_again(&self, digest: &Digest) -> bool {
        self.again.contains(digest)
    }

    /// A bundle was executed.
    pub(crate) fn executed(&mut self, digest: &Digest) {
        self.again.remove(digest);
    }

    /// A checkpoint that this replica came to by itself is what a quorum has signed.
    pub(crate) const fn go_right(&mut self) {
        self.setbacks = 0;
    }

    /// An epoch begins: nobody is asked any more for what only its beginning can be held against, and what was to be executed
    /// again is void.
    pub(crate) fn begin_epoch(&mut self) {
        self.end_halt();
        self.transfer = None;
        self.restored = None;
        self.goal = Slot(0);
        self.settled.clear();
        self.again.clear();
        self.covered = Slot(0);
    }

    /// The replica goes on after a halt: where results part matters no more.
    pub(crate) fn end_halt(&mut self) {
        self.inquiry = None;
        self.halt = None;
    }

    /// How far the transfer is, if there is one.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.transfer.as_ref().map(Transfer::progress)
    }
}

/// Whether a bundle was executed in slots that were not executed here, or never will have an effect.
fn is_over(system: &System, body: &Verified<Bundle>) -> bool {
    let Peer::Client(client) = body.sender() else { return true };
    if !system.admits(client) {
        return true;
    }
    match body.message().request {
        Request::Readmit(..) | Request::Convict(_) => true,
        Request::Register { nonce } => system.newest_opening(client) >= Some(nonce),
        // Its session may be opened in a slot that executes yet.
        Request::Operations { session, .. } if session > system.opened() => false,
        Request::Operations { session, sequence, .. } => {
            system.admit(client, session, sequence, body.digest()) != Admission::Execute
        }
    }
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// The ordering cannot have from others what was decided up to this slot, or not soon.
    pub(crate) fn on_behind(&mut self, slot: Slot, fx: &mut Fx<'_, O, S, R>) {
        self.healing.goal = self.healing.goal.max(slot);
        if self.health == Health::Well {
            self.heal(fx);
        }
    }

    /// A state that is newer than its own is known to be certified: it is behind.
    fn notice_target(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let target = self.healing.transfer.as_ref().and_then(Transfer::target);
        let Some(target) = target.filter(|target| *target > self.state.slot) else { return };
        match self.health {
            Health::Well => self.fall_ill(Health::Behind(target), fx),
            Health::Behind(_) => self.health = Health::Behind(target),
            Health::Diverged(_) | Health::Halted(_) => {}
        }
    }

    /// Bodies of decided slots were asked for, and have not come.
    pub(crate) fn starve(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let slot = self.state.slot;
        let (since, periods) = self.healing.starved;
        let periods = if since == slot { periods + 1 } else { 1 };
        self.healing.starved = (slot, periods);
        // There is a state that covers the slot, or others are asked for one: they may have let go of what that covers.
        if periods >= STARVED {
            self.healing.starved = (slot, 0);
            let goal = self.checkpoints.ahead_slot().unwrap_or_else(|| self.order.known());
            self.on_behind(goal, fx);
        }
    }

    /// Does what this replica's health asks for. Nothing while the past executes: that comes when it is over.
    pub(crate) fn heal(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if self.replaying {
            return;
        }
        match self.health {
            Health::Well | Health::Behind(_) if self.healing.transfer.is_some() => {}
            Health::Well if self.healing.goal <= self.state.slot => return,
            Health::Well | Health::Behind(_) => {
                let (system, service) = (self.state.system.map().clone(), self.state.map.clone());
                self.begin_transfer((system, service), 0, fx);
            }
            Health::Diverged(_) => {
                self.healing.transfer = None;
                self.settle_decided();
                let stamp = self.stamp();
                fx.work(stamp, Work::MakeAnew(self.state.clone()));
            }
            Health::Halted(slot) => {
                self.healing.transfer = None;
                self.begin_inquiry(slot, fx);
            }
        }
        self.keep_healing(fx);
    }

    /// What is computed of the state as it is now bears this.
    pub(crate) const fn stamp(&self) -> Stamp {
        Stamp { epoch: self.config.domain.epoch, generation: self.healing.generation }
    }

    /// The wrong state was made anew: what it has in common with the right one need not be fetched.
    pub(crate) fn on_made_anew(&mut self, state: Replicated, fx: &mut Fx<'_, O, S, R>) {
        if !matches!(self.health, Health::Diverged(_)) {
            return;
        }
        let maps = (state.system.map().clone(), state.map.clone());
        self.healing.wrong = Some(state);
        // A flipped bit is mended at once. But one that is wrong by itself, such as one of other hardware, would fetch the
        // same state for ever.
        let setbacks = self.healing.setbacks;
        self.healing.setbacks = setbacks.saturating_add(1);
        let rest = match setbacks {
            0 => 0,
            more => 1_u32.checked_shl(more).map_or(LONGEST_REST, |rest| rest.min(LONGEST_REST)),
        };
        self.begin_transfer(maps, rest, fx);
    }

    fn begin_transfer(&mut self, local: (Map, Map), rest: u32, fx: &mut Fx<'_, O, S, R>) {
        let least = match self.health {
            // What was executed on it is void: nothing is to be executed again.
            Health::Diverged(_) if self.epochs.awaits(self.epoch()) => {
                self.config.membership.base.slot
            }
            // Every slot after the state that is taken up must be there to be executed again.
            Health::Diverged(_) => {
                let known = self.recent.first().map_or(self.state.slot, Slot::previous);
                self.checkpoints.stable_slot().max(known)
            }
            _ => self.state.slot.next(),
        };
        // Of a quorum that has nothing this replica is one.
        let enough = self.quorums.quorum().saturating_sub(1).max(1);
        let need = Need { least, version: S::VERSION, enough };
        let me = self.me;
        let others = self.config.membership.replicas().filter(|id| *id != me);
        self.healing.transfer = Some(Transfer::new(need, others, local, rest));
        self.ask_for_state(fx);
    }

    fn ask_for_state(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let Some(transfer) = &mut self.healing.transfer else { return };
        for (source, ask) in transfer.asks() {
            // EAGER: a question promises nothing.
            fx.send_eager(source, ReplicaMessage::StateAsk(ask));
        }
    }

    /// Another replica answers. Its certificate was verified.
    pub(crate) fn on_state(
        &mut self,
        from: ReplicaId,
        answer: &StateAnswer,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        let Some(transfer) = &mut self.healing.transfer else { return };
        match transfer.take(from, answer) {
            Taken::More => {
                self.notice_target(fx);
                self.let_go_of_covered();
                self.ask_for_state(fx);
            }
            // Nothing was ever stable: what was decided can be had from the others, and a checkpoint will come.
            Taken::Nothing => {}
            Taken::Whole(whole) => {
                self.healing.transfer = None;
                self.take_whole(*whole, fx);
            }
        }
    }

    /// Time has passed.
    pub(crate) fn on_heal_timer(&mut self, fx: &mut Fx<'_, O, S, R>) {
        self.healing.is_ticking = false;
        if let Some(transfer) = &mut self.healing.transfer {
            transfer.tick();
        }
        self.ask_for_state(fx);
        self.inquire_again(fx);
        self.keep_healing(fx);
    }

    fn keep_healing(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let is_at_work = self.healing.transfer.is_some() || self.healing.inquiry.is_some();
        if (is_at_work || self.health != Health::Well) && !self.healing.is_ticking {
            self.healing.is_ticking = true;
            fx.set_timer(Timer::Heal, self.config.resend / 2);
        }
    }

    /// A slot is decided that cannot be executed as the state is wrong: nobody here waits for its bundles any more.
    pub(crate) fn settle_batch(&mut self, batch: &Batch) {
        for digest in &batch.bundles {
            self.waiting.leave(digest);
            self.healing.settled.insert(*digest);
        }
    }

    fn settle_decided(&mut self) {
        let decided = core::mem::take(&mut self.decided);
        decided.iter().for_each(|(_, batch)| self.settle_batch(batch));
        self.decided = decided;
    }

    /// Bodies of decided slots that the state which is fetched covers are not needed any more. They are in the log.
    fn let_go_of_covered(&mut self) {
        let Some(target) = self.healing.transfer.as_ref().and_then(Transfer::target) else {
            return;
        };
        if !matches!(self.health, Health::Diverged(_)) || self.healing.covered == target {
            return;
        }
        self.healing.covered = target;
        let later = self.decided.iter().filter(|(slot, _)| *slot > target);
        let kept: BTreeSet<Digest> = later.flat_map(|(_, batch)| &batch.bundles).copied().collect();
        let covered = self.decided.iter().take_while(|(slot, _)| *slot <= target);
        for digest in covered.flat_map(|(_, batch)| &batch.bundles) {
            if !kept.contains(digest) {
                self.bodies.remove(digest);
                self.extra.let_go(digest);
                self.needed.remove(digest);
            }
        }
    }

    /// One that was behind, or may have been, has come to where the others were.
    pub(crate) fn notice_recovery(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let slot = self.state.slot;
        match self.health {
            Health::Behind(target) if slot >= target => self.recover(fx),
            Health::Well if slot >= self.healing.goal => self.healing.transfer = None,
            _ => {}
        }
    }

    pub(crate) fn recover(&mut self, fx: &mut Fx<'_, O, S, R>) {
        self.healing.transfer = None;
        if self.health != Health::Well {
            self.health = Health::Well;
            fx.output(Event::Health(Health::Well));
        }
        self.plan_due(fx);
        self.say_checkpoint_again(fx);
    }

    /// A certified state is whole: it takes the place of this replica's own.
    fn take_whole(&mut self, whole: Whole, fx: &mut Fx<'_, O, S, R>) {
        let Whole { certificate, state, fetched } = whole;
        let (slot, own) = (state.slot, self.state.slot);
        let is_wrong = matches!(self.health, Health::Diverged(_));
        if !is_wrong && slot <= own {
            // It has come as far by itself meanwhile.
            return self.notice_recovery(fx);
        }
        let goes_back = is_wrong && !self.epochs.awaits(self.epoch());
        let again = if goes_back { self.recent.after(slot, own) } else { Some(Vec::new()) };
        let Some(again) = again else { return self.heal(fx) };
        fx.persist(Record::Stable(certificate.clone()));
        self.checkpoints.restart_from(certificate.clone());
        let head = state.head();
        self.serving = Serving::default();
        self.serving.serve(certificate.clone(), head, state.clone());
        self.recent = Recent::default();
        self.state = state;
        if self.epochs.end().is_some_and(|end| slot < end) {
            self.epochs.reopen();
        }
        self.decided.retain(|(decided, _)| *decided > slot);
        for executed in again.into_iter().rev() {
            for body in executed.bodies {
                self.hold_again(body, fx);
            }
            self.decided.push_front((executed.slot, executed.batch));
        }
        self.settle_bodies();
        self.healing.generation += 1;
        self.healing.restored = Some(certificate.clone());
        self.healing.fetched = fetched;
        self.snapshots.demand();
        fx.output(Event::Restored(slot));
        if !is_wrong {
            fx.output(Event::Healed { slot, fetched, differing: None });
        }
        self.compare_wrong(fx);
        self.recover(fx);
        self.end_if_over();
        if self.epochs.end() == Some(slot) {
            self.succeed(certificate, fx);
        }
    }

    /// A body of a slot that executes again.
    fn hold_again(&mut self, signed: Signed<Bundle>, fx: &mut Fx<'_, O, S, R>) {
        let Ok(body) = Verified::replay(signed) else { return };
        let digest = body.digest();
        let write = || fx.persist(Record::Body(body.signed()));
        self.written.entry(digest).or_insert_with(write);
        self.bodies.insert(digest, body);
    }

    /// What the new state has executed is done: it waits no more. What is decided after it will be executed; all else
    /// waits on.
    pub(crate) fn settle_bodies(&mut self) {
        self.healing.settled.clear();
        self.repeated.clear();
        let decided: BTreeSet<Digest> =
            self.decided.iter().flat_map(|(_, batch)| &batch.bundles).copied().collect();
        let others = self.bodies.iter().filter(|(digest, _)| !decided.contains(*digest));
        let over = others.filter(|(_, body)| is_over(&self.state.system, body));
        let over: Vec<Digest> = over.map(|(digest, _)| *digest).collect();
        for digest in over {
            self.bodies.remove(&digest);
            self.extra.let_go(&digest);
            self.waiting.leave(&digest);
        }
        let unwritten = decided.iter().filter(|digest| !self.written.contains_key(*digest));
        self.needed = unwritten.copied().collect();
        self.healing.again = decided;
    }

    /// The state has come to a slot. If it is the one at which the wrong state was, or lies beyond, it is known what was
    /// wrong, or never will be.
    pub(crate) fn compare_wrong(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let slot = self.state.slot;
        if let Some(wrong) = self.healing.wrong.take_if(|wrong| wrong.slot <= slot) {
            let differing: Option<Difference> =
                (wrong.slot == slot).then(|| wrong.difference(&self.state));
            fx.output(Event::Healed { slot, fetched: self.healing.fetched, differing });
        }
    }
}
