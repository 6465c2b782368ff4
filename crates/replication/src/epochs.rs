//! One epoch ends, and the next one begins.
//!
//! The slot that changes the members ends the epoch. From then on the ordering of that epoch signs nothing; what it has
//! decided beyond is void, and its bundles wait again. The state after the slot is a checkpoint; once that is stable it proves
//! who comes next ([`Succession`]), and a new instance of the ordering begins with that state. A replica that has missed it
//! finds out because nobody speaks its epoch any more: it asks, is shown the proof, and takes the state if it lacks it. Until
//! it has that it takes no part.
//!
//! Nothing of one epoch counts in the next: signed statements bear the epoch in their header, records in the log bear it, and
//! so does the promise. A replica that restarts goes through the epochs that its log knows of, as it did the first time.
//!
//! One that has lost its promises ([`Standing::Forgotten`]) is a witness until it comes back under a new voting key. It asks
//! for that by itself, once its state is as good as the others'.

use crate::decree::Decree;
use crate::executor::Replicated;
use crate::hearing::Hearing;
use crate::judge::Judgements;
use crate::message::{Bundle, Readmission, ReplicaMessage, Request};
use crate::recent::Recent;
use crate::record::{Record, Records, Timer};
use crate::replica::{Fx, Replica};
use crate::rules::Rules;
use crate::status::{Comeback, Event, Health};
use crate::succession::Succession;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_contracts::{
    OrderOutput, Ordering, Service, StableCheckpoint, Standing, Waiting, base_checkpoint,
};
use testudo_core::{
    Certificate, Digest, Epoch, Incarnation, Lost, Membership, Past, Peer, Position, Promise,
    ReplicaId, Slot, Target, Time, Verified, View,
};

/// Where the replica is among epochs.
#[derive(Debug)]
pub(crate) struct Epochs<R> {
    /// What led from each epoch to the next, by the epoch that it ended. Invariant: as many as the present epoch's number, or
    /// more while the log is read again.
    successions: Arc<Vec<Succession>>,
    /// The epoch of the ordering that is there. Invariant: at most the present epoch.
    ordered: Epoch,
    /// The slot that has ended the ordering's epoch, once it is executed.
    end: Option<Slot>,
    /// Whether the ordering is to be told that its epoch is over.
    is_stopping: bool,
    /// Whether it was told.
    is_stopped: bool,
    /// Whether it took part till then.
    has_voted: bool,
    /// Whether there was an earlier life, as far as the disk tells. It may have been in later epochs than this one knows.
    has_past: bool,
    /// What the ordering wrote in epochs that were not reached yet.
    later: BTreeMap<Epoch, Records<R>>,
    /// What the superblock said at the start.
    promise: Option<Promise>,
    /// What the log has lost.
    lost: Vec<Lost>,
    /// Who was heard of in this epoch.
    hearing: Hearing,
    /// When it asked to be readmitted, or why it did not.
    comeback: Comeback,
}

/// The members at the end of a chain of successions that were verified before. One that does not fit ends it.
pub(crate) fn last_of(first: &Membership, successions: &[Succession]) -> Membership {
    successions
        .iter()
        .fold(first.clone(), |before, succession| succession.membership(&before).unwrap_or(before))
}

impl<R> Epochs<R> {
    /// The replica starts in this epoch.
    pub(crate) fn start_in(
        epoch: Epoch,
        successions: Vec<Succession>,
        later: BTreeMap<Epoch, Records<R>>,
        (promise, has_past): (Option<Promise>, bool),
        lost: &[Lost],
    ) -> Self {
        let mut lost = lost.to_vec();
        if promise.is_none() && has_past {
            // The superblock is lost, so nobody knows what was said in any epoch.
            lost.push(Lost { position: Position(0), tag: None });
        }
        Self {
            successions: Arc::new(successions),
            ordered: epoch,
            end: None,
            // Whatever was promised since, nothing may be signed here any more.
            is_stopping: promise.is_some_and(|promise| promise.epoch > epoch),
            is_stopped: false,
            has_voted: false,
            has_past: has_past || promise.is_some(),
            later,
            promise,
            lost,
            hearing: Hearing::default(),
            comeback: Comeback::NotNeeded,
        }
    }

    /// The state is one from before the last slot: that is executed again.
    pub(crate) const fn reopen(&mut self) {
        self.end = None;
    }

    /// Whether the ordering was told that its epoch is over: what it decides after that is void.
    pub(crate) const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// The epoch of the ordering.
    pub(crate) const fn ordered(&self) -> Epoch {
        self.ordered
    }

    /// The slot that has ended the epoch.
    pub(crate) const fn end(&self) -> Option<Slot> {
        self.end
    }

    /// Whether the ordering's epoch is over: what it says now is void.
    pub(crate) const fn is_over(&self, epoch: Epoch) -> bool {
        self.end.is_some() || self.ordered.0 < epoch.0
    }

    /// Whether it signs the state that its epoch ends with, though its ordering signs nothing any more.
    pub(crate) fn signs_the_end(&self, epoch: Epoch) -> bool {
        self.has_voted && self.ordered == epoch && self.end.is_some()
    }

    /// Whether the ordering of this epoch has not begun.
    pub(crate) fn awaits(&self, epoch: Epoch) -> bool {
        self.ordered < epoch
    }

    /// What led from the first epoch to this one, as far as it is known.
    pub(crate) fn lineage(&self, epoch: Epoch) -> &[Succession] {
        let count = usize::try_from(epoch.0).unwrap_or(usize::MAX).min(self.successions.len());
        &self.successions[..count]
    }

    /// It orders under a key from now on that was never signed with. That has promised nothing but this, and nothing of what it
    /// has said is lost, whatever those before it had said.
    fn be_reborn(&mut self, promise: Promise) {
        self.promise = Some(promise);
        self.lost.clear();
    }

    /// What led to the present epoch.
    pub(crate) fn successions(&self, epoch: Epoch) -> Arc<Vec<Succession>> {
        let known = self.lineage(epoch);
        if known.len() == self.successions.len() {
            self.successions.clone()
        } else {
            Arc::new(known.to_vec())
        }
    }

    /// What its comeback waits for, if it has lost its promises.
    pub(crate) const fn comeback(&self) -> Comeback {
        self.comeback
    }

    /// A replica was heard of in this epoch.
    pub(crate) fn hear(&mut self, from: ReplicaId) {
        self.hearing.hear(from);
    }

    /// Takes what the ordering is to be told: that its epoch is over. After a start it first finds out what it has said: as
    /// long as nobody is in the next epoch all must sign the state that this one has ended with, and perhaps all have started.
    pub(crate) fn take_stop(&mut self, standing: Standing, epoch: Epoch) -> bool {
        let is_beyond = self.promise.is_some_and(|promise| promise.epoch > epoch);
        let has_ended_here = self.end.is_some() && self.ordered == epoch && !is_beyond;
        let is_early = standing == Standing::Joining && has_ended_here;
        let is_due = self.is_stopping && !self.is_stopped && !is_early;
        if is_due {
            self.is_stopped = true;
            self.has_voted = standing == Standing::Voting;
        }
        is_due
    }

    /// Whether it may have signed something in this epoch of which the log says nothing. What is lost is of epochs that the
    /// superblock knows of.
    fn may_have_lost(&self, epoch: Epoch) -> bool {
        let is_known = self.promise.is_none_or(|promise| promise.epoch >= epoch);
        is_known && self.lost.iter().any(|lost| lost.tag.is_none())
    }

    /// What the ordering of this epoch is started with, given the promise; none if it has promised nothing there yet.
    pub(crate) fn past<P>(&mut self, epoch: Epoch, order: Option<P>) -> Past<P, R> {
        let records = self.later.remove(&epoch).unwrap_or_default();
        let mut past = Past { promise: None, snapshot: order, records, lost: Vec::new() };
        match self.promise {
            // If it is over, what was promised in it matters no more, but what was decided does.
            Some(promise) if promise.epoch >= epoch => {
                past.promise = Some(promise);
                past.lost.clone_from(&self.lost);
            }
            // It has promised nothing in this epoch, or the superblock is older than the rest.
            Some(_) => {}
            None => past.lost.clone_from(&self.lost),
        }
        past
    }
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// The epoch that it belongs to.
    pub(crate) const fn epoch(&self) -> Epoch {
        self.config.membership.epoch
    }

    /// Whether its ordering's epoch is over, and the next has not begun here.
    pub(crate) const fn is_between_epochs(&self) -> bool {
        self.epochs.is_over(self.epoch())
    }

    /// A slot has executed that asks for others to order: it was the last of its epoch.
    pub(crate) fn end_if_over(&mut self) {
        if !self.is_between_epochs() && self.state.system.epoch() > self.epoch() {
            self.epochs.end = Some(self.state.slot);
            self.epochs.is_stopping = true;
            self.void_decided();
        }
    }

    /// What was decided after the last slot of an epoch is void. Its bundles wait again.
    fn void_decided(&mut self) {
        self.decided.clear();
        self.needed.clear();
        self.repeated.clear();
        self.judgements = Judgements::default();
    }

    /// The last checkpoint of the epoch is stable, and this replica's own state is what it says.
    pub(crate) fn succeed(&mut self, certificate: StableCheckpoint, fx: &mut Fx<'_, O, S, R>) {
        let succession = Succession::of(self.epoch(), certificate, &self.state);
        let Ok(next) = succession.membership(&self.config.membership) else { return };
        if !self.replaying {
            // EAGER: it proves itself.
            let shown = || ReplicaMessage::Succession(Box::new(succession.clone()));
            fx.send_eager(Target::Others, shown());
            for client in self.followers.clients() {
                fx.send_eager(Peer::Client(client), shown());
            }
        }
        self.adopt(succession, next, fx);
    }

    /// Somebody shows how an epoch has ended. It was verified with that epoch's members.
    pub(crate) fn on_succession(&mut self, succession: &Succession, fx: &mut Fx<'_, O, S, R>) {
        if let Ok(next) = succession.membership(&self.config.membership) {
            self.adopt(succession.clone(), next, fx);
            if self.health != Health::Well {
                // It is far behind, so there may be another epoch after this one.
                self.say_hello(fx);
            }
        }
    }

    /// These order from now on. Their ordering begins here once the state is there that the epoch begins with.
    fn adopt(&mut self, succession: Succession, next: Membership, fx: &mut Fx<'_, O, S, R>) {
        let planned = self.planned(&succession, fx);
        let index = succession.from.0 as usize;
        if self.epochs.successions.get(index).is_none() {
            fx.persist(Record::Succession(Box::new(succession.clone())));
            Arc::make_mut(&mut self.epochs.successions).push(succession);
        }
        self.come_back(&next, fx);
        fx.members(next.clone());
        self.config.domain.epoch = next.epoch;
        self.config.membership = next;
        self.epochs.is_stopping = true;
        self.epochs.hearing = Hearing::default();
        if !self.replaying {
            // There may be another epoch after it.
            self.say_hello(fx);
        }
        self.void_decided();
        if let Some(state) = planned {
            self.state = state;
            self.recent = Recent::default();
            self.settle_bodies();
            self.healing.generation += 1;
            self.snapshots.demand();
        }
        let Some(base) = base_checkpoint(&self.config.membership) else { return };
        let slot = base.statement().slot;
        let is_there = self.state.slot == slot && self.state.digest() == base.statement().state;
        self.checkpoints.begin_epoch(base.clone());
        self.serving.begin_epoch(is_there.then_some(base), &self.state);
        self.healing.begin_epoch();
        if is_there {
            if self.health != Health::Well {
                self.recover(fx);
            }
        } else if self.state.slot < slot && !matches!(self.health, Health::Diverged(_)) {
            self.health = Health::Well;
            self.fall_ill(Health::Behind(slot), fx);
        } else {
            // It went on where all others have ended, or has ended otherwise: nothing of it is right.
            self.health = Health::Well;
            self.fall_ill(Health::Diverged(slot), fx);
        }
    }

    /// If these members name the key that this replica has asked to come back under, it has forgotten nothing any more.
    fn come_back(&mut self, next: &Membership, fx: &mut Fx<'_, O, S, R>) {
        let Some(member) = next.member(self.me) else { return };
        if fx.candidate() == Some(member.voting) {
            let (epoch, incarnation) = (next.epoch, member.incarnation);
            let promise = Promise { epoch, view: View(0), incarnation };
            self.epochs.be_reborn(promise);
            self.checkpoints.sign_anew();
            // Before anything is signed with the key: a replica that has lost its promises knows by this that it has one again.
            fx.promise(promise);
        }
    }

    /// What led from the first epoch to this one: it shows who ordered then to whoever knows who did at first.
    pub fn lineage(&self, epoch: Epoch) -> &[Succession] {
        self.epochs.lineage(epoch)
    }

    /// The state that a decree says the next epoch begins with, if it is this replica's own that was meant.
    fn planned(&self, succession: &Succession, fx: &mut Fx<'_, O, S, R>) -> Option<Replicated> {
        let decree = succession.decree()?;
        let plan = self.plan(&decree.returning, &mut |run| fx.guard(run)).ok()?;
        (plan.decree == *decree).then_some(plan.state)
    }

    /// People have decided that the epoch is over. Does nothing if they meant another epoch, or another state than this
    /// replica has.
    pub(crate) fn obey(&mut self, decree: Certificate<Decree>, fx: &mut Fx<'_, O, S, R>) {
        let succession = Succession::decreed(decree);
        if let Ok(next) = succession.membership(&self.config.membership)
            && self.planned(&succession, fx).is_some()
        {
            self.adopt(succession, next, fx);
        }
    }

    /// Whether the state is there that the epoch begins with, and its ordering is not.
    fn may_begin_epoch(&self) -> bool {
        let is_awaited = self.epochs.ordered < self.epoch() && self.epochs.is_stopped;
        is_awaited
            && self.health == Health::Well
            && self.state.slot >= self.config.membership.base.slot
    }

    /// Begins the epoch's ordering if it can. Gives what that says.
    pub(crate) fn begin_epoch(&mut self, fx: &mut Fx<'_, O, S, R>) -> Option<Vec<OrderOutput>> {
        if !self.may_begin_epoch() {
            return None;
        }
        let epoch = self.epoch();
        let (config, me) = (self.config.clone(), Peer::Replica(self.me));
        let past = self.epochs.past(epoch, None);
        let is_new = past.promise.is_none() && past.records.is_empty() && past.lost.is_empty();
        // Whoever has started from an old disk may have been here before, and asks.
        let goes_on = self.epochs.has_voted && is_new && !self.epochs.has_past;
        let (order, outputs) = fx.nest(&crate::replica::lift(epoch), |fx| {
            if goes_on { O::begin(config, me, fx) } else { O::start(config, me, past, fx) }
        });
        self.order = order;
        self.epochs.ordered = epoch;
        self.epochs.end = None;
        self.epochs.is_stopping = self.epochs.promise.is_some_and(|said| said.epoch > epoch);
        self.epochs.is_stopped = false;
        let base = self.config.membership.base.slot;
        if self.state.slot > base && self.healing.restored.is_none() {
            // It begins with a later state than all others, which the ordering must know of.
            self.healing.restored = self.checkpoints.certificate().cloned();
        }
        self.enter_epoch();
        fx.output(Event::epoch_of(&self.config.membership));
        Some(outputs)
    }

    /// What waits, waits to be proposed in another epoch. What replicas asked for in the last one is over.
    fn enter_epoch(&mut self) {
        let epoch = self.epoch();
        let is_over = |body: &Verified<Bundle>| match &body.message().request {
            Request::Readmit(readmission, _) => readmission.epoch < epoch,
            _ => false,
        };
        let over = self.bodies.iter().filter(|(_, body)| is_over(body));
        let over: Vec<Digest> = over.map(|(digest, _)| *digest).collect();
        for digest in over {
            self.bodies.remove(&digest);
            self.waiting.leave(&digest);
            self.extra.let_go(&digest);
        }
        self.void_decided();
        self.opened_view = None;
        self.told = Waiting::Nothing;
        self.told_backlog = None;
        self.handed_over = None;
        self.waiting.begin_epoch();
        if !self.replaying {
            self.let_in_the_unexecuted();
        }
        if self.epochs.may_have_lost(epoch) {
            let end = self.order.known().0.saturating_add(self.config.window);
            self.checkpoints.mute_up_to(Slot(end));
        }
    }

    /// The log is read again, and the epoch is over: the log says what came after it, unless that was never known.
    pub(crate) fn go_on_as_before(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if !self.epochs.awaits(self.epoch())
            && let Some(known) = self.epochs.successions.get(self.epoch().0 as usize).cloned()
            && let Ok(next) = known.membership(&self.config.membership)
        {
            self.adopt(known, next, fx);
        }
    }

    /// After the log was read: goes as far as it tells, wherever the state is.
    pub(crate) fn catch_up_with_epochs(&mut self, fx: &mut Fx<'_, O, S, R>) {
        while let Some(known) = self.epochs.successions.get(self.epoch().0 as usize).cloned() {
            let Ok(next) = known.membership(&self.config.membership) else { return };
            self.adopt(known, next, fx);
        }
    }

    /// Somebody says in which epoch it is. Whoever is behind is shown how that one ended; whoever is ahead is asked.
    pub(crate) fn on_hello(&mut self, from: Peer, epoch: Epoch, fx: &mut Fx<'_, O, S, R>) {
        if epoch > self.epoch() && from.replica().is_some() && self.budgets.may_ask(from) {
            self.keep_budget(fx);
            // EAGER: a question promises nothing.
            fx.send_eager(from, ReplicaMessage::Hello(self.epoch()));
        }
        let Some(succession) = self.epochs.successions.get(epoch.0 as usize) else { return };
        if epoch < self.epoch() && self.may_be_told(from) && self.budgets.may_ask(from) {
            let succession = Box::new(succession.clone());
            self.keep_budget(fx);
            // EAGER: it proves itself.
            fx.send_eager(from, ReplicaMessage::Succession(succession));
        }
    }

    /// How often this replica has come back.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.config.membership.member(self.me).map_or(Incarnation(0), |member| member.incarnation)
    }

    /// Says in which epoch it is.
    pub(crate) fn say_hello(&self, fx: &mut Fx<'_, O, S, R>) {
        // EAGER: a question promises nothing.
        fx.send_eager(Target::Others, ReplicaMessage::Hello(self.epoch()));
    }

    pub(crate) fn watch_epoch(&self, fx: &mut Fx<'_, O, S, R>) {
        fx.set_timer(Timer::Epoch, self.config.resend * 2);
    }

    /// Looks whether so many speak its epoch as must, if it goes on; and whether it is to come back.
    pub(crate) fn on_epoch_timer(&mut self, fx: &mut Fx<'_, O, S, R>) {
        // Its own word does not count.
        if self.epochs.hearing.is_too_quiet(self.quorums.quorum() - 1) {
            self.say_hello(fx);
        }
        self.ask_to_come_back(fx);
        self.accuse_again(fx);
        self.watch_epoch(fx);
    }

    /// One that has lost its promises asks for a new voting key to be let in.
    fn ask_to_come_back(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let before = self.epochs.comeback;
        self.epochs.comeback = self.comeback_now(fx);
        if let Comeback::Asks(incarnation) = self.epochs.comeback
            && let Some(voting) = fx.candidate()
        {
            let readmission = Readmission { epoch: self.epoch(), incarnation, voting };
            let Some(proof) = fx.vouch(&readmission.digest(self.me, self.config.domain)) else {
                return;
            };
            let request = Request::Readmit(readmission, proof);
            let bundle = Bundle { replier: self.me, request };
            // EAGER: what it asks for is signed with its long-lived key, and promises nothing of its votes.
            fx.send_eager(Target::Others, ReplicaMessage::Bundle(bundle));
        }
        if before != self.epochs.comeback {
            fx.output(Event::Comeback(self.epochs.comeback));
        }
    }

    fn comeback_now(&self, fx: &Fx<'_, O, S, R>) -> Comeback {
        if self.order.standing() != Standing::Forgotten || self.is_between_epochs() {
            return Comeback::NotNeeded;
        }
        let (Some(member), Some(voting)) = (self.config.membership.member(self.me), fx.candidate())
        else {
            return Comeback::NoKey;
        };
        if self.health != Health::Well
            || self.state.slot.0 + self.config.checkpoint_interval < self.order.known().0
        {
            return Comeback::Follows;
        }
        let incarnation = member.incarnation.next();
        let asked = Readmission { epoch: self.epoch(), incarnation, voting };
        let now: Time = self.state.time;
        match self.state.system.may_readmit(self.me, &asked, now) {
            Ok(()) => Comeback::Asks(incarnation),
            Err(refusal) => Comeback::Refused(refusal),
        }
    }
}
