//! The replica: an ordering below, a service above, and what joins them.

use crate::accusing::Accusations;
use crate::budget::Budgets;
use crate::checkpoint::Checkpoints;
use crate::decree::Decree;
use crate::due::Due;
use crate::epochs::Epochs;
use crate::executor::Replicated;
use crate::followers::Followers;
use crate::forgetting::Snapshots;
use crate::healing::Healing;
use crate::intake::Extra;
use crate::judge::Judgements;
use crate::learner::rules::Standard;
use crate::message::{Bundle, ReplicaMessage};
use crate::recent::Recent;
use crate::record::{Record, Timer, keep};
use crate::rules::Rules;
use crate::serving::Serving;
use crate::snapshot::Snapshot;
use crate::status::{Event, Health, Status};
use crate::waiting::WaitingRoom;
use crate::work::{Work, Worked};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;
use core::marker::PhantomData;
use testudo_contracts::{
    Batch, Mode, OrderConfig, OrderInput, OrderOutput, Ordering, Service, Waiting,
};
use testudo_core::{
    Certificate, Digest, Done, Effects, Epoch, Lift, Message as _, Past, Peer, Position, Protocol,
    PublicKey, ReplicaId, Rot, Slot, Validity, Verified, View, limits,
};
use testudo_quorum::Dissemination;

/// What a replica is started with.
#[derive(Clone, Debug)]
pub struct Config<S> {
    /// For the ordering.
    pub order: OrderConfig,
    /// The client keys that are admitted from the start.
    pub clients: BTreeSet<PublicKey>,
    /// What is replicated.
    pub service: S,
    /// What people have decided after more had lost their promises than the cluster survives. Whoever hands it in has
    /// checked its signatures; one that is not about this replica's epoch, or not about its state, does nothing.
    pub decree: Option<Certificate<Decree>>,
}

/// State machine replication over one ordering and one service, by these rules.
pub struct Replica<O: Ordering, S: Service, R = Standard> {
    pub(crate) me: ReplicaId,
    pub(crate) config: OrderConfig,
    pub(crate) quorums: Dissemination,
    pub(crate) epochs: Epochs<O::Record>,
    pub(crate) order: O,
    pub(crate) service: S,
    pub(crate) state: Replicated,
    /// Bodies of bundles that are not executed, held durably or about to be. Invariant: all are `written`.
    pub(crate) bodies: BTreeMap<Digest, Verified<Bundle>>,
    /// Where the log has each body that was written and is not forgotten. Invariant: those that are neither in `bodies`
    /// nor `needed` were executed.
    pub(crate) written: BTreeMap<Digest, Position>,
    pub(crate) waiting: WaitingRoom,
    pub(crate) judgements: Judgements,
    /// Decided batches whose turn has not come: a body is missing. In order, gapless from `state.slot + 1`.
    pub(crate) decided: VecDeque<(Slot, Batch)>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) serving: Serving,
    pub(crate) recent: Recent,
    pub(crate) followers: Followers,
    pub(crate) snapshots: Snapshots,
    pub(crate) health: Health,
    pub(crate) healing: Healing<R>,
    /// The view whose first fresh batch this replica has proposed as its primary.
    pub(crate) opened_view: Option<View>,
    /// What the ordering was told last.
    pub(crate) told: Waiting,
    /// The oldest of the backlog that it was told last.
    pub(crate) told_backlog: Option<u64>,
    /// Up to where the primary was just handed what waits, until the ordering is told.
    pub(crate) handed_over: Option<u64>,
    pub(crate) due: Due,
    /// The newest arrival when the relay timer was set: what had waited by then is handed on when it fires.
    pub(crate) relay_mark: u64,
    /// Whether the relay timer runs.
    pub(crate) relaying: bool,
    /// Whether the past is executing again. Nobody is answered then: they were answered, or will ask again.
    pub(crate) replaying: bool,
    /// Who was asked last for bodies.
    pub(crate) asked: ReplicaId,
    /// Bodies that decided batches lack. Invariant: disjoint from `bodies`.
    pub(crate) needed: BTreeSet<Digest>,
    /// Bundles that were executed before and are decided again.
    pub(crate) repeated: BTreeSet<Digest>,
    /// Bodies taken for proposals' sake beyond their clients' share. Invariant: all are in `bodies`.
    pub(crate) extra: Extra,
    /// What peers may cost.
    pub(crate) budgets: Budgets,
    /// What it can prove against others.
    pub(crate) accusations: Accusations,
    pub(crate) rules: PhantomData<fn() -> R>,
}

impl<O: Ordering, S: Service, R: Rules> fmt::Debug for Replica<O, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("status", &self.status()).finish_non_exhaustive()
    }
}

pub(crate) type Fx<'a, O, S, R> = Effects<'a, Replica<O, S, R>>;

/// How what the ordering of this epoch wants becomes what the replica wants.
pub(crate) fn lift<O: Ordering, S: Service, R: Rules>(epoch: Epoch) -> Lift<O, Replica<O, S, R>> {
    Lift {
        epoch,
        message: ReplicaMessage::Order,
        record: Record::Order,
        snapshot: |_| panic!("an ordering leaves snapshots to the layer above"),
        timer: Timer::Order,
        work: Work::Order,
    }
}

impl<O: Ordering, S: Service, R: Rules> Protocol for Replica<O, S, R> {
    type Config = Config<S>;
    type Message = ReplicaMessage<O::Message>;
    type Record = Record<O::Record>;
    type Snapshot = Snapshot<O::Snapshot>;
    type Timer = Timer<O::Timer>;
    type Input = Infallible;
    type Output = Event;
    type Work = Work<O::Work>;

    fn covered(snapshot: &Self::Snapshot) -> Position {
        snapshot.logged
    }

    fn keep(
        snapshot: Option<&Self::Snapshot>,
        position: Position,
        record: Self::Record,
    ) -> Option<Self::Record> {
        keep::<O>(snapshot, position, record, S::VERSION)
    }

    fn start(
        config: Config<S>,
        me: Peer,
        past: Past<Self::Snapshot, Self::Record>,
        fx: &mut Fx<'_, O, S, R>,
    ) -> Self {
        Self::begin(config, me, past, fx)
    }

    fn on_input(&mut self, input: Infallible, _: &mut Fx<'_, O, S, R>) {
        match input {}
    }

    fn on_message(&mut self, message: Verified<Self::Message>, fx: &mut Fx<'_, O, S, R>) {
        // It may have been verified, or said, before the epoch ended that it belongs to.
        let (said_in, validity) = (message.header().domain.epoch, message.message().validity());
        if validity != Validity::Group && said_in != self.epoch() {
            return;
        }
        if let Some(from) = message.replica().filter(|from| *from != self.me)
            && validity == Validity::Epoch
        {
            self.epochs.hear(from);
        }
        let message = match message.narrow(|message| match message {
            ReplicaMessage::Order(inner) => Ok(inner),
            other => Err(other),
        }) {
            // The ordering of an epoch that is over has nothing to say in the next one, and hears nothing of it.
            Ok(_) if self.epochs.awaits(said_in) => return,
            Ok(inner) => {
                let lift = lift(said_in);
                let ((), outputs) = fx.nest(&lift, |fx| self.order.on_message(inner, fx));
                return self.settle(outputs, fx);
            }
            Err(message) => message,
        };
        match message.message() {
            ReplicaMessage::Order(_)
            | ReplicaMessage::Reply(_)
            | ReplicaMessage::Feed(_)
            | ReplicaMessage::Claim(_) => {}
            ReplicaMessage::Voucher(voucher) => {
                if let Some(from) = message.replica() {
                    self.on_testimony(from, voucher, fx);
                }
            }
            ReplicaMessage::State(answer) => {
                if let Some(from) = message.replica() {
                    self.on_state(from, answer, fx);
                }
            }
            ReplicaMessage::Bundle(_) => {
                // Only its client is answered, and only on its own channel: anybody can bring a signed bundle.
                let from_client = message.via() == message.sender();
                if let Ok(bundle) = message.narrow(|message| match message {
                    ReplicaMessage::Bundle(bundle) => Ok(bundle),
                    other => Err(other),
                }) {
                    self.on_bundle(bundle, from_client, fx);
                }
            }
            ReplicaMessage::Bodies(bodies) => {
                for body in bodies {
                    if let Ok(bundle) = message.embedded(body) {
                        self.on_bundle(bundle, false, fx);
                    }
                }
            }
            ReplicaMessage::Checkpoint(_) => self.on_checkpoint(&message, fx),
            ReplicaMessage::Stable(certificate) => self.on_stable(certificate.clone(), fx),
            ReplicaMessage::Fetch(digests) => self.on_fetch(message.sender(), digests, fx),
            ReplicaMessage::Follow(follow) => self.on_follow(message.sender(), follow, fx),
            ReplicaMessage::ClaimAsk(round) => self.on_claim_ask(message.sender(), *round, fx),
            ReplicaMessage::StateAsk(ask) => self.on_state_ask(message.sender(), ask, fx),
            ReplicaMessage::Hello(epoch) => self.on_hello(message.sender(), *epoch, fx),
            ReplicaMessage::Succession(succession) => self.on_succession(succession, fx),
        }
        self.settle(Vec::new(), fx);
    }

    fn on_timer(&mut self, timer: Self::Timer, fx: &mut Fx<'_, O, S, R>) {
        let outputs = match timer {
            Timer::Order(_) if self.epochs.awaits(self.epoch()) => Vec::new(),
            Timer::Order(timer) => {
                fx.nest(&lift(self.epoch()), |fx| self.order.on_timer(timer, fx)).1
            }
            Timer::Epoch => {
                self.on_epoch_timer(fx);
                Vec::new()
            }
            Timer::Relay => {
                self.relay(fx);
                Vec::new()
            }
            Timer::Fetch => {
                self.fetch(fx);
                Vec::new()
            }
            Timer::Checkpoint => {
                self.say_checkpoint_again(fx);
                Vec::new()
            }
            Timer::Follow => {
                self.on_follow_timer(fx);
                Vec::new()
            }
            Timer::Due => {
                self.on_due(fx);
                Vec::new()
            }
            Timer::Budget => {
                self.on_budget_timer(fx);
                Vec::new()
            }
            Timer::Heal => {
                self.on_heal_timer(fx);
                Vec::new()
            }
        };
        self.settle(outputs, fx);
    }

    fn on_work(&mut self, done: Done<Self>, fx: &mut Fx<'_, O, S, R>) {
        let Done { stamp, output } = done;
        let outputs = match output {
            Worked::Order(_) if stamp.epoch != self.epoch() => Vec::new(),
            Worked::Order(output) => {
                let lift = lift(self.epoch());
                fx.nest(&lift, |fx| self.order.on_work(Done { stamp, output }, fx)).1
            }
            // A state that another has taken the place of is nobody's.
            _ if stamp != self.stamp() => Vec::new(),
            Worked::Digest(head, is_whole, next) => {
                self.healing.stretch = next;
                if !is_whole {
                    self.fall_ill(Health::Diverged(head.slot), fx);
                }
                self.on_digest(head, fx);
                Vec::new()
            }
            Worked::MadeAnew(state) => {
                self.on_made_anew(state, fx);
                Vec::new()
            }
        };
        self.settle(outputs, fx);
    }

    fn on_recalled(&mut self, position: Position, record: Self::Record, fx: &mut Fx<'_, O, S, R>) {
        match record {
            Record::Order(epoch, _) if epoch != self.epoch() || self.epochs.awaits(epoch) => {}
            Record::Order(epoch, record) => {
                let ((), outputs) =
                    fx.nest(&lift(epoch), |fx| self.order.on_recalled(position, record, fx));
                self.settle(outputs, fx);
            }
            Record::Body(body) => {
                self.on_body(position, &body, fx);
                self.settle(Vec::new(), fx);
            }
            Record::Checkpointed(_)
            | Record::Stable(_)
            | Record::Halted(_)
            | Record::Succession(_)
            | Record::Executed(_) => {}
        }
    }

    fn on_rot(&mut self, rot: Rot, fx: &mut Fx<'_, O, S, R>) {
        self.write_anew(rot, fx);
        self.settle(Vec::new(), fx);
    }

    fn invariants(&self) {
        self.order.invariants();
        assert_eq!(self.config.domain.epoch, self.epoch(), "speaks in another epoch");
        if self.is_between_epochs() || self.epochs.is_stopped() {
            return;
        }
        assert!(self.state.slot <= self.order.executed(), "executed more than was decided");
        assert_eq!(
            self.state.slot.0 + self.decided.len() as u64,
            self.order.executed().0,
            "a decided slot is neither executed nor queued"
        );
        assert_eq!(self.oldest_wish(), self.told, "the ordering was not told who waits");
    }

    fn audit(&self) {
        self.order.audit();
        self.waiting.audit();
        for digest in self.bodies.keys() {
            assert!(self.written.contains_key(digest), "a body is held that was not written");
            assert!(!self.needed.contains(digest), "a body is held and needed");
        }
    }
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// Carries out what the ordering said, tells it what that leads to, and so on until there is nothing left to say.
    pub(crate) fn settle(&mut self, outputs: Vec<OrderOutput>, fx: &mut Fx<'_, O, S, R>) {
        let mut outputs = VecDeque::from(outputs);
        loop {
            while let Some(output) = outputs.pop_front() {
                self.on_output(output, fx);
            }
            self.execute_decided(fx);
            self.notice_recovery(fx);
            self.look_at_standing(fx);
            self.accuse(fx);
            if self.replaying && self.epochs.end().is_some() {
                self.go_on_as_before(fx);
            }
            if let Some(begun) = self.begin_epoch(fx) {
                outputs.extend(begun);
                continue;
            }
            let Some(input) = self.next_input(fx) else { return };
            let is_stable = matches!(input, OrderInput::Stable(_) | OrderInput::Restored(_));
            let lift = lift(self.epochs.ordered());
            let ((), more) = fx.nest(&lift, |fx| self.order.on_input(input, fx));
            outputs.extend(more);
            if is_stable && !matches!(self.health, Health::Diverged(_)) {
                self.snapshot_if_due(fx);
            }
        }
    }

    fn on_output(&mut self, output: OrderOutput, fx: &mut Fx<'_, O, S, R>) {
        if self.is_between_epochs() || self.epochs.is_stopped() {
            return;
        }
        match output {
            OrderOutput::Judge { view, slot, batch, freshness } => {
                self.judge(view, slot, batch, freshness, fx);
            }
            OrderOutput::Execute { slot, batch, mode } => {
                assert_eq!(mode, Mode::Final, "an ordering that does not speculate speculates");
                // The state that the epoch was begun with may be a later one.
                if slot <= self.state.slot {
                    return;
                }
                let unwritten = |digest: &&Digest| !self.written.contains_key(*digest);
                self.needed.extend(batch.bundles.iter().filter(unwritten));
                if matches!(self.health, Health::Diverged(_)) {
                    self.settle_batch(&batch);
                }
                self.decided.push_back((slot, batch));
            }
            OrderOutput::Remind => self.remind(fx),
            OrderOutput::View(view, primary) => {
                self.waiting.enter_view(view);
                self.judgements.enter_view(view);
                fx.output(Event::View(view, primary));
            }
            OrderOutput::Behind(slot) => self.on_behind(slot, fx),
            // Nothing is to be undone without speculation.
            OrderOutput::Commit(_) | OrderOutput::Rollback(_) => {}
        }
    }

    /// The next thing that the ordering ought to be told, if there is one.
    fn next_input(&mut self, fx: &mut Fx<'_, O, S, R>) -> Option<OrderInput> {
        if self.epochs.take_stop(self.order.standing(), self.epoch()) {
            return Some(OrderInput::Stop);
        }
        if self.is_between_epochs() {
            return None;
        }
        if let Some(certificate) = self.healing.restored.take() {
            return Some(OrderInput::Restored(certificate));
        }
        if self.replaying {
            return self.checkpoints.next_stable(self.state.slot).map(OrderInput::Stable);
        }
        if let Some(certificate) = self.checkpoints.next_stable(self.state.slot) {
            return Some(OrderInput::Stable(certificate));
        }
        if matches!(self.health, Health::Diverged(_))
            && let Some(certificate) = self.checkpoints.next_ahead(self.order.executed())
        {
            return Some(OrderInput::Stable(certificate));
        }
        while let Some(judged) = self.judgements.next_judged() {
            if self.is_fair(&judged.bundles) && self.is_timely(&judged, fx) {
                let (view, slot, batch) = (judged.view, judged.slot, judged.batch);
                return Some(OrderInput::Judged { view, slot, batch });
            }
        }
        let waiting = self.oldest_wish();
        if waiting != self.told {
            self.told = waiting;
            self.watch(fx);
            return Some(OrderInput::Waiting(waiting));
        }
        if let Some(backlog) = self.news_of_backlog() {
            return Some(OrderInput::Backlog(backlog));
        }
        self.next_proposal(fx).map(OrderInput::Propose)
    }

    /// The primary's next batch: at once while few slots are open, so that batches grow with the load and not before.
    fn next_proposal(&mut self, fx: &mut Fx<'_, O, S, R>) -> Option<Batch> {
        let ready = self.order.primary() == self.me
            && self.order.may_propose()
            && self.order.open_slots() < limits::OPEN_SLOTS
            && !matches!(self.health, Health::Halted(_));
        // A slot that is open already is the slot that the service wants, as far as anybody can tell yet.
        let is_due = self.is_due() && self.order.open_slots() == 0;
        if !ready || !(is_due || self.waiting.has_unproposed()) {
            return None;
        }
        let bundles = self.waiting.take(limits::BATCH_BUNDLES);
        let view = self.order.view();
        let gap_not_counted = self.opened_view != Some(view);
        self.opened_view = Some(view);
        Some(Batch { bundles, time: fx.clock(), gap_not_counted })
    }

    /// What this replica shows of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            id: self.me,
            epoch: self.epoch(),
            view: self.order.view(),
            primary: self.order.primary(),
            changing_view: self.order.is_changing_view(),
            slot: self.state.slot,
            known: self.order.known().max(self.state.slot),
            chain: self.state.chain,
            outcome: self.state.outcome,
            stable: self.checkpoints.latest().cloned(),
            time: self.state.time,
            waiting: self.waiting.len() as u64,
            sessions: self.state.system.len() as u64,
            followers: self.followers.len() as u64,
            snapshot: self.snapshots.slot,
            state: (self.state.map.len() as u64, self.state.map.bytes()),
            health: self.health,
            halt: self.healing.halt.clone(),
            transfer: self.healing.progress(),
            standing: self.order.standing(),
            lost_slots: self.order.lost_slots(),
            lost: self.order.lost_ranges(),
            incarnation: self.incarnation(),
            comeback: self.epochs.comeback(),
        }
    }

    /// Whether it signs no checkpoint for a while, as its log may have lost what it has signed.
    #[must_use]
    pub fn is_mute(&self) -> bool {
        self.checkpoints.is_mute_after(self.checkpoints.stable_slot())
    }

    /// The chain over results after each slot that it has executed of late.
    pub fn outcomes(&self) -> impl Iterator<Item = (Slot, Digest)> + '_ {
        self.recent.outcomes()
    }

    /// The ordering below.
    pub const fn order(&self) -> &O {
        &self.order
    }

    /// The replicated state.
    pub const fn state(&self) -> &Replicated {
        &self.state
    }
}
