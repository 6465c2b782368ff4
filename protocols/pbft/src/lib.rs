//! Practical Byzantine fault tolerance (Castro and Liskov, OSDI 1999), with signatures.
//!
//! n replicas, of which f < n/3 may lie, agree on one sequence of batches. Safety needs no assumption about time;
//! liveness needs messages to arrive within some bound, in the end.
//!
//! In each view one replica, the *primary*, numbers batches. For each slot:
//!
//! 1. the primary says *pre-prepare*: this batch, here;
//! 2. everybody says *prepare*: I have accepted that, and will accept nothing else here in this view;
//! 3. whoever holds the votes of a quorum, the primary's among them, writes this certificate down and says *commit*;
//! 4. whoever holds the commits of a quorum knows that the batch is decided, in this and every later view.
//!
//! When the oldest waiting request is not executed in time, replicas *change the view*: each tells all that it holds
//! certificates for, and the next primary goes on from what a quorum has told. Everybody checks its reckoning.
//!
//! Read in this order: [`message`] (what is said), [`safety`] (why it is right), `normal` (the four steps), `view_change`
//! (who comes next, and when), `pace` (how slow a primary may be), `catchup` (how nothing stays lost), `recovery` (how
//! nothing is forgotten), `joining` (how it is found out what was forgotten all the same). What is known of each slot is in
//! `log`; what liars say instead is in `lies`, and when and to whom in `tactics`.
//!
//! One's own messages come back to one through the driver, after all that they rest on is durable, and count only then.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod catchup;
pub mod client;
mod forensics;
mod joining;
mod lies;
mod log;
pub mod message;
mod normal;
mod pace;
mod promises;
mod recovery;
pub mod safety;
mod slots;
mod tactics;
mod testimony;
mod view_change;

pub use client::Reply;
pub use message::{Message, PBFT};
pub use recovery::{Record, Snapshot};
pub use safety::{Rules, Standard};

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use catchup::CatchUp;
use core::marker::PhantomData;
use forensics::Overtaken;
use joining::{Joining, LastWords};
use log::{Decisions, Log};
use message::{Attested, NewView, PrePrepare, Slots, ViewChange, primary_of};
use pace::Pace;
pub use testudo_contracts::Standing;
use testudo_contracts::{
    Batch, Family, OrderConfig, OrderInput, OrderOutput, Ordering, Profile, StableCheckpoint,
    base_checkpoint,
};
use testudo_core::fault::{Authentication, FaultKind, Timing};
use testudo_core::{
    Digest, Effects, Evidence, Membership, NoWork, Past, Peer, Position, Protocol, ReplicaId, Slot,
    Verified, View, limits,
};
use testudo_quorum::Dissemination;
use view_change::Patience;

/// What PBFT costs and assumes.
pub const PROFILE: Profile = Profile {
    name: "pbft",
    family: Family::Ordering,
    faults: FaultKind::Byzantine,
    timing: Timing::PartiallySynchronous,
    authentication: Authentication::Signatures,
    replicas: |f| 3 * f + 1,
    delays: 5,
    messages: |n| {
        let backups = n.saturating_sub(1);
        backups + backups * backups + n * backups
    },
    speculative: false,
    source: "Castro and Liskov, Practical Byzantine Fault Tolerance, OSDI 1999",
};

/// The named timeouts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The view has lasted too long without what it is there for.
    View,
    /// It is time to say or ask for again what may have been lost.
    Resend,
    /// The primary takes longer to propose than it is allowed.
    Pace,
}

/// One replica.
#[derive(Clone, Debug)]
pub struct Pbft<R: Rules = Standard> {
    config: OrderConfig,
    me: ReplicaId,
    /// The quorums. They intersect in f+1 replicas, whatever n > 3f is.
    system: Dissemination,
    /// Invariant: from Joining to Voting or Forgotten, from each to Stopped, and no other way.
    standing: Standing,
    /// What it waits for. Invariant: there ⇒ Joining; Joining ⇒ there, once started.
    joining: Option<Joining>,
    /// Whether it has ever voted in this life, and so knows what it has voted for, but for slots that are lost.
    has_joined: bool,
    /// Slots of which its log has lost records. Invariants: all are above the stable checkpoint; it casts no vote on them.
    lost: Slots,
    /// What was heard last of each replica. At most n.
    heard: BTreeMap<ReplicaId, LastWords>,

    /// The view that it is in, or is changing to. Invariants: it never falls; the durable promise ≥ view before
    /// anything is said in it; view ≥ installed view; active ⇔ view = installed view.
    view: View,
    /// What began the installed view; none in view 0, which needs no beginning.
    installed: Option<Attested<NewView>>,
    /// The first slot that the installed view does not repeat. Slots before it are taken from `installed` alone.
    first_fresh: Slot,
    /// The slot of the next proposal, should this replica be the primary. Invariant: next ≥ first_fresh; each slot is
    /// proposed once in a view.
    next: Slot,
    /// What it has proposed in `view`, on record, until it has come back to it. Invariant: all are above the stable checkpoint.
    proposing: BTreeMap<Slot, PrePrepare>,

    /// Its own view change for `view`, on record. Invariants: own_change.view = view; changing and Voting ⇒ there;
    /// active ⇒ none.
    own_change: Option<ViewChange>,
    /// The latest view change of each replica. Invariant: each is for a view > installed view and is filed under its
    /// signer, so there are at most n.
    changes: BTreeMap<ReplicaId, Attested<ViewChange>>,
    /// Whether it has announced `view` as its primary.
    announced: bool,
    patience: Patience,
    pace: Pace,

    log: Log,
    decisions: Decisions,
    catchup: CatchUp,
    /// What it had decided when it was overtaken last.
    overtaken: Overtaken,
    /// Whom it has blamed for what. At most n times the number of offences.
    blamed: BTreeSet<(ReplicaId, &'static str)>,
    /// What the layer above has not taken of it.
    accusations: Vec<Evidence>,
    rules: PhantomData<fn() -> R>,
}

impl<R: Rules> Protocol for Pbft<R> {
    type Config = OrderConfig;
    type Message = Message;
    type Record = Record;
    type Snapshot = Snapshot;
    type Timer = Timer;
    type Input = OrderInput;
    type Output = OrderOutput;
    type Work = NoWork;

    /// What a snapshot has executed is decided: of how it came to that nothing matters but where the decisions lie.
    fn keep(snapshot: Option<&Snapshot>, _: Position, record: Record) -> Option<Record> {
        let executed = snapshot.map_or(Slot(0), |snapshot| snapshot.executed);
        let is_over = match &record {
            Record::Proposed(one) => one.slot <= executed,
            Record::Voted(one) => one.statement.slot <= executed,
            Record::Prepared(one) => one.slot() <= executed,
            Record::Decided(_)
            | Record::ViewChange(_)
            | Record::NewView(_)
            | Record::Stable(_)
            | Record::Lost(_)
            | Record::Forgotten => false,
        };
        (!is_over).then_some(record)
    }

    /// # Panics
    /// When `me` is no member, or the membership is too small for what it claims: whoever makes a membership checks it
    /// against the bounds first.
    fn start(
        config: OrderConfig,
        me: Peer,
        past: Past<Snapshot, Record>,
        fx: &mut Effects<'_, Self>,
    ) -> Self {
        Self::new(config, me).recover(past, fx)
    }

    fn on_input(&mut self, input: OrderInput, fx: &mut Effects<'_, Self>) {
        match input {
            OrderInput::Propose(batch) => self.on_propose(batch, fx),
            OrderInput::Judged { view, slot, batch } => self.on_judged(view, slot, batch, fx),
            OrderInput::Waiting(waiting) => self.on_waiting(waiting, fx),
            OrderInput::Backlog(backlog) => self.on_backlog(backlog, fx),
            OrderInput::Stable(stable) => self.on_stable(stable, fx),
            OrderInput::Restored(stable) => self.on_restored(stable, fx),
            OrderInput::Stop => self.on_stop(fx),
        }
    }

    fn on_message(&mut self, message: Verified<Message>, fx: &mut Effects<'_, Self>) {
        let Some(from) = message.replica() else { return };
        match message.message().clone() {
            Message::PrePrepare(body) => {
                if let Some(attested) = Attested::of(&message, body) {
                    self.on_pre_prepare(attested, fx);
                }
            }
            Message::Prepare(body) => self.on_vote(body.vote(), message, fx),
            Message::Commit(body) => self.on_vote(body.vote(), message, fx),
            Message::ViewChange(body) => {
                if let Some(attested) = Attested::of(&message, body) {
                    self.on_view_change(attested, fx);
                }
            }
            Message::NewView(body) => {
                if let Some(attested) = Attested::of(&message, body) {
                    self.on_new_view(attested, fx);
                }
            }
            Message::Status(body) => self.on_status(from, &body, fx),
            Message::Fetch(body) => self.on_fetch(from, body, fx),
            Message::Committed(body) => self.on_committed(body, fx),
            Message::Proposal(body) => self.on_pre_prepare(body, fx),
            Message::Installed(body) => self.on_new_view(body, fx),
            Message::Inquiry(body) => self.on_inquiry(from, body, fx),
            Message::Testimony(body) => self.on_testimony(from, &body, fx),
        }
    }

    fn on_timer(&mut self, timer: Timer, fx: &mut Effects<'_, Self>) {
        match timer {
            Timer::View => self.on_view_timer(fx),
            Timer::Resend => self.on_tick(fx),
            Timer::Pace => self.on_pace_timer(fx),
        }
    }

    fn on_recalled(&mut self, position: Position, record: Record, fx: &mut Effects<'_, Self>) {
        self.on_record(position, record, fx);
    }

    fn invariants(&self) {
        assert!(self.view >= self.installed_view(), "installed a view beyond its own");
        assert!(self.next >= self.first_fresh, "would propose what the view repeats");
        if self.is_active() {
            assert!(self.own_change.is_none(), "active with a view change pending");
        } else if self.standing == Standing::Voting {
            let pending = self.own_change.as_ref().map(|change| change.view);
            assert_eq!(pending, Some(self.view), "changes the view without having said so");
        }
        assert!(
            self.joining.is_none() || self.standing == Standing::Joining,
            "waits for answers though it needs none"
        );
        assert!(self.has_joined || self.standing != Standing::Voting, "votes without having asked");
        assert!(!self.lost.contains(self.log.low()), "a stable slot is lost");
        let first = self.log.entries.keys().next();
        assert!(first.is_none_or(|slot| self.log.low() < *slot), "remembers a stable slot");
        let ready = self.decisions.ready.keys().next();
        let next = self.decisions.executed.next();
        assert!(ready.is_none_or(|slot| next < *slot), "does not execute what is decided");
        assert!(self.changes.len() <= self.system.n(), "more view changes than replicas");
        assert!(self.catchup.known >= self.decisions.executed, "knows less than it executed");
    }

    fn audit(&self) {
        self.invariants();
        for (slot, entry) in &self.log.entries {
            entry.audit(*slot, self.view, self.is_active());
        }
        for (signer, change) in &self.changes {
            assert_eq!(*signer, change.signer, "a view change under another name");
            assert!(change.statement.view > self.installed_view(), "an outdated view change");
        }
    }
}

impl<R: Rules> Ordering for Pbft<R> {
    const PROFILE: Profile = PROFILE;
    type Reply = Reply;

    fn begin(config: OrderConfig, me: Peer, fx: &mut Effects<'_, Self>) -> Self {
        Self::new(config, me).open(fx)
    }
    fn undecided(&self) -> Vec<(Slot, Batch)> {
        let executed = self.decisions.executed;
        let entries = self.log.entries.range(executed.next()..).zip(executed.0 + 1..);
        let held = entries.map_while(|((slot, entry), next)| {
            let prepared = entry.prepared.as_ref().filter(|_| slot.0 == next)?;
            Some((*slot, prepared.batch.clone()))
        });
        held.collect()
    }
    fn certified(&self) -> Vec<(Slot, View, Digest)> {
        let entries = self.log.entries.range(self.decisions.executed.next()..);
        let prepared = entries.filter_map(|(_, entry)| entry.prepared.as_ref());
        prepared.map(|it| (it.slot(), it.view(), it.digest())).collect()
    }
    fn take_accusations(&mut self) -> Vec<Evidence> {
        core::mem::take(&mut self.accusations)
    }
    fn view(&self) -> View {
        self.view
    }
    fn primary(&self) -> ReplicaId {
        primary_of(self.view, self.system.n())
    }
    fn primary_of(view: View, membership: &Membership) -> ReplicaId {
        primary_of(view, membership.n())
    }
    fn checkpoint_quorum(system: &Dissemination) -> usize {
        R::checkpoint(system)
    }
    fn may_propose(&self) -> bool {
        self.is_active()
            && self.is_primary()
            && self.may_vote(self.next)
            && self.log.contains(self.next)
    }
    fn tables(&self) -> Vec<(&'static str, usize)> {
        Vec::from([
            ("slots in the window", self.log.entries.len()),
            ("batches to execute", self.decisions.ready.len()),
            ("view changes", self.changes.len()),
            ("last words", self.heard.len()),
            ("slots overtaken in", self.overtaken.len()),
        ])
    }

    fn open_slots(&self) -> u64 {
        let executed = self.decisions.executed;
        if self.is_active() && self.primary() == self.me {
            return self.next.previous().0.saturating_sub(executed.0);
        }
        let beyond = self.log.entries.range(executed.next()..);
        beyond.filter(|(_, entry)| entry.proposal.is_some()).count() as u64
    }
    fn executed(&self) -> Slot {
        self.decisions.executed
    }
    fn stable(&self) -> Slot {
        self.log.low()
    }
    fn is_changing_view(&self) -> bool {
        !self.is_active()
    }
    fn known(&self) -> Slot {
        self.catchup.known
    }
    fn read_claim(&self) -> Option<Slot> {
        if !self.has_joined || !self.lost.is_empty() {
            return None;
        }
        let view = self.installed_view();
        let voted = self.log.entries.iter().rev().find(|(_, entry)| entry.is_prepared_in(view));
        let voted = voted.map_or(Slot(0), |(slot, _)| *slot);
        Some(
            voted.max(self.first_fresh.previous()).max(self.decisions.executed).max(self.log.low()),
        )
    }
    fn snapshot(&self, executed: Slot) -> Snapshot {
        self.remember_from(executed)
    }
    fn forget(&mut self, before: Position, bare: Slot) {
        self.decisions.forget(before, bare);
    }
    fn standing(&self) -> Standing {
        self.standing
    }
    fn lost_ranges(&self) -> Vec<(Slot, Slot)> {
        self.lost.ranges().to_vec()
    }
}

impl<R: Rules> Pbft<R> {
    fn new(config: OrderConfig, me: Peer) -> Self {
        let system = Dissemination::of(&config.membership);
        let system = system.expect("a membership is checked against the bounds before it is used");
        let me = me.replica().filter(|me| config.membership.member(*me).is_some());
        let me = me.expect("only members order");
        let mut log = Log::new(config.window.clamp(1, limits::WINDOW));
        log.stable = base_checkpoint(&config.membership);
        let base = log.low();
        let decisions = Decisions { executed: base, ..Decisions::default() };
        let catchup = CatchUp::from(base);
        Self {
            config,
            me,
            system,
            standing: Standing::Joining,
            joining: None,
            has_joined: false,
            lost: Slots::none(),
            heard: BTreeMap::new(),
            view: View(0),
            installed: None,
            first_fresh: base.next(),
            next: base.next(),
            proposing: BTreeMap::new(),
            own_change: None,
            changes: BTreeMap::new(),
            announced: false,
            patience: Patience::new(),
            pace: Pace::default(),
            log,
            decisions,
            catchup,
            overtaken: Overtaken::default(),
            blamed: BTreeSet::new(),
            accusations: Vec::new(),
            rules: PhantomData,
        }
    }

    /// The slots above the stable checkpoint of which its log has lost records.
    #[must_use]
    pub const fn lost(&self) -> &Slots {
        &self.lost
    }

    /// The last view that it installed. It is changing the view while this is lower than [`Ordering::view`].
    #[must_use]
    pub fn installed_view(&self) -> View {
        self.installed.as_ref().map_or(View(0), |installed| installed.statement.view)
    }

    fn is_active(&self) -> bool {
        self.view == self.installed_view()
    }

    /// A checkpoint is stable: what it covers is let go.
    fn on_stable(&mut self, stable: StableCheckpoint, fx: &mut Effects<'_, Self>) {
        let slot = stable.statement().slot;
        self.note_overtaking(slot);
        if self.log.advance(stable.clone()) {
            fx.persist(Record::Stable(stable));
            self.lost.trim(slot);
            self.proposing.retain(|proposed, _| *proposed > slot);
            self.decisions.trim(slot);
            self.learn(slot, fx);
            self.run_turn(fx);
            self.join_if_answered(fx);
        }
    }

    /// The layer above has taken the state: execution goes on after it.
    fn on_restored(&mut self, stable: StableCheckpoint, fx: &mut Effects<'_, Self>) {
        let slot = stable.statement().slot;
        self.note_overtaking(slot);
        self.decisions.skip_to(slot);
        self.on_stable(stable, fx);
        self.learn(slot, fx);
        self.execute(fx);
    }

    fn on_stop(&mut self, fx: &mut Effects<'_, Self>) {
        self.standing = Standing::Stopped;
        self.pace.leave_view();
        self.joining = None;
        self.stop_view_timer(fx);
        fx.cancel_timer(Timer::Pace);
    }
}
