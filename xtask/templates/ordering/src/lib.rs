//! __Type__: an ordering (the paper's authors, title and year go here).
//!
//! This is the skeleton that every ordering starts from, and it works: **one** replica orders batches, survives crashes
//! that lose nothing durable, and keeps the whole contract of [`Ordering`]. It refuses to start among several, because
//! what the paper is about is what is missing. Each place that the paper fills says which section belongs there; write
//! the claim (how many replicas, which faults, under which assumptions) into this essay first.
//!
//! In each view one replica, the *primary*, numbers batches. For each slot:
//!
//! 1. the primary says *proposal*: this batch, here;
//! 2. the layer above judges it, and whoever may vote writes its vote down and says *vote*;
//! 3. whoever holds the votes of a quorum knows that the batch is decided, and executes it when its turn comes.
//!
//! When the oldest waiting request is not executed in time, and after every restart, the *view changes*: the next one
//! repeats what was voted for, and goes on from there.
//!
//! Read in this order: [`message`] (what is said), [`safety`] (why it is right), `normal` (the steps), `view_change` (who
//! comes next, and when), `recovery` (how nothing is forgotten), [`client`] (when a client may believe replies), `lies`
//! (what liars say instead).
//!
//! One's own messages come back to one through the driver, after all that they rest on is durable, and count only then.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod client;
mod lies;
pub mod message;
mod normal;
mod recovery;
pub mod safety;
mod view_change;

pub use client::Reply;
pub use message::{Message, __CONST__};
pub use recovery::{Record, Snapshot};
pub use safety::{Rules, Standard};

use alloc::collections::BTreeMap;
use core::marker::PhantomData;
use message::{Proposal, primary_of};
pub use testudo_contracts::Standing;
use testudo_contracts::{
    Batch, Family, OrderConfig, OrderInput, OrderOutput, Ordering, Profile, StableCheckpoint,
};
use testudo_core::fault::{Authentication, FaultKind, Timing};
use testudo_core::{
    Digest, Effects, NoWork, Past, Peer, Protocol, ReplicaId, Slot, Verified, View, limits,
};
use testudo_quorum::Dissemination;
use view_change::Patience;

/// What __Type__ costs and assumes. The paper's figures go here once more than one replica can run it; until then no
/// number of replicas survives a fault, and this says so.
pub const PROFILE: Profile = Profile {
    name: "__snake__",
    family: Family::Ordering,
    faults: FaultKind::Byzantine,
    timing: Timing::PartiallySynchronous,
    authentication: Authentication::Signatures,
    replicas: |f| if f == 0 { 1 } else { usize::MAX },
    delays: 2,
    messages: |n| n.saturating_sub(1) * (n + 1),
    speculative: false,
    source: "the skeleton of an ordering for one replica",
};

/// The named timeouts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The view has lasted too long without what it is there for.
    View,
}

/// The batch that a replica accepted for a slot of its view.
#[derive(Clone, Debug)]
struct Accepted {
    digest: Digest,
    batch: Batch,
}

/// One slot of the window.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// What was accepted in the replica's view.
    accepted: Option<Accepted>,
    /// The digest of what the layer above has judged in this view.
    judged: Option<Digest>,
    /// What this replica voted for last, in whichever view. Invariant: its record is durable before the vote leaves, and
    /// it outlives its view.
    voted: Option<Proposal>,
    /// The votes of the replica's view, the first of each sender. Invariant: each is filed under its sender.
    votes: BTreeMap<ReplicaId, Verified<Message>>,
    /// The digest of what is decided. Invariant: once there it never changes.
    decided: Option<Digest>,
}

/// One replica.
#[derive(Clone, Debug)]
pub struct __Type__<R: Rules = Standard> {
    config: OrderConfig,
    me: ReplicaId,
    /// The quorums. Handlers ask it for sizes, and compute none themselves.
    system: Dissemination,
    /// Invariant: never Voting again once it was something else.
    standing: Standing,

    /// The view that it is in. Invariants: it never falls; the durable promise ≥ view before anything is said in it.
    view: View,
    /// The first slot that the view does not repeat from earlier ones.
    first_fresh: Slot,
    /// The slot of the next proposal. Invariants: next ≥ first_fresh; each slot is proposed once in a view.
    next: Slot,
    patience: Patience,

    /// The last stable checkpoint; none at the genesis.
    stable: Option<StableCheckpoint>,
    /// The slots of the window. Invariant: low < slot ≤ high for each, so there are at most `window` of them.
    entries: BTreeMap<Slot, Entry>,
    /// The last slot given out for execution. It never falls.
    executed: Slot,
    /// Decided, but a slot before it is not. Invariant: every slot > executed + 1.
    ready: BTreeMap<Slot, Batch>,
    rules: PhantomData<fn() -> R>,
}

impl<R: Rules> Protocol for __Type__<R> {
    type Config = OrderConfig;
    type Message = Message;
    type Record = Record;
    type Snapshot = Snapshot;
    type Timer = Timer;
    type Input = OrderInput;
    type Output = OrderOutput;
    type Work = NoWork;

    /// # Panics
    /// When `me` is no member, the membership is too small for what it claims, or it has more than one member: the
    /// skeleton has no view change among several replicas, and must not pretend to.
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
            // Primaries are not measured here.
            OrderInput::Backlog(_) => {}
            OrderInput::Stable(stable) => self.on_stable(stable, fx),
            OrderInput::Restored(stable) => self.on_restored(stable, fx),
            OrderInput::Stop => self.on_stop(fx),
        }
    }

    fn on_message(&mut self, message: Verified<Message>, fx: &mut Effects<'_, Self>) {
        match message.message().clone() {
            Message::Proposal(body) => self.on_proposal(body, fx),
            Message::Vote(body) => self.on_vote(&body, message, fx),
        }
    }

    fn on_timer(&mut self, timer: Timer, fx: &mut Effects<'_, Self>) {
        match timer {
            Timer::View => self.on_view_timer(fx),
        }
    }

    fn invariants(&self) {
        assert!(self.next >= self.first_fresh, "would propose what the view repeats");
        let first = self.entries.keys().next();
        assert!(first.is_none_or(|slot| self.low() < *slot), "remembers a stable slot");
        let last = self.entries.keys().next_back();
        assert!(last.is_none_or(|slot| *slot <= self.high()), "remembers a slot past the window");
        let ready = self.ready.keys().next();
        let next = self.executed.next();
        assert!(ready.is_none_or(|slot| next < *slot), "does not execute what is decided");
    }

    fn audit(&self) {
        self.invariants();
        for (slot, entry) in &self.entries {
            for (sender, vote) in &entry.votes {
                assert_eq!(vote.replica(), Some(*sender), "a vote under another name");
                let (view, place, _) = vote.message().binds();
                assert_eq!((view, place), (self.view, *slot), "a vote for another place");
            }
            if let Some(voted) = &entry.voted {
                assert_eq!(voted.slot, *slot, "voted in another slot");
                assert!(voted.view <= self.view, "voted in a view that never was");
            }
        }
    }
}

impl<R: Rules> Ordering for __Type__<R> {
    const PROFILE: Profile = PROFILE;
    type Reply = Reply;

    fn view(&self) -> View {
        self.view
    }
    fn primary(&self) -> ReplicaId {
        primary_of(self.view, self.system.n())
    }
    fn may_propose(&self) -> bool {
        self.standing == Standing::Voting
            && self.primary() == self.me
            && self.low() < self.next
            && self.next <= self.high()
    }
    fn open_slots(&self) -> u64 {
        self.next.previous().0.saturating_sub(self.executed.0)
    }
    fn executed(&self) -> Slot {
        self.executed
    }
    fn stable(&self) -> Slot {
        self.low()
    }
    /// Never: one replica is in the next view as soon as it leaves this one.
    fn is_changing_view(&self) -> bool {
        false
    }
    fn known(&self) -> Slot {
        let last = self.ready.keys().next_back().copied().unwrap_or_default();
        self.executed.max(last).max(self.low())
    }
    fn read_claim(&self) -> Option<Slot> {
        let claim = self.next.previous().max(self.executed).max(self.low());
        (self.standing != Standing::Forgotten).then_some(claim)
    }
    fn standing(&self) -> Standing {
        self.standing
    }
    fn snapshot(&self, executed: Slot) -> Snapshot {
        self.remember_from(executed)
    }
}

impl<R: Rules> __Type__<R> {
    fn new(config: OrderConfig, me: Peer) -> Self {
        let system = Dissemination::of(&config.membership);
        let system = system.expect("a membership is checked against the bounds before it is used");
        let me = me.replica().filter(|me| config.membership.member(*me).is_some());
        let me = me.expect("only members order");
        let n = system.n();
        assert!(n == 1, "__name__ is a skeleton and orders with one replica only: it cannot run {n}");
        Self {
            config,
            me,
            system,
            standing: Standing::Voting,
            view: View(0),
            first_fresh: Slot(1),
            next: Slot(1),
            patience: Patience::default(),
            stable: None,
            entries: BTreeMap::new(),
            executed: Slot(0),
            ready: BTreeMap::new(),
            rules: PhantomData,
        }
    }

    /// The slot of the last stable checkpoint, 0 at the genesis.
    fn low(&self) -> Slot {
        self.stable.as_ref().map_or(Slot(0), |stable| stable.statement().slot)
    }

    /// The last slot of the window.
    fn high(&self) -> Slot {
        Slot(self.low().0.saturating_add(self.config.window.clamp(1, limits::WINDOW)))
    }

    /// A checkpoint is stable: the window moves, and what lies below it is let go.
    fn on_stable(&mut self, stable: StableCheckpoint, fx: &mut Effects<'_, Self>) {
        let slot = stable.statement().slot;
        if slot <= self.low() {
            return;
        }
        self.entries = self.entries.split_off(&slot.next());
        self.first_fresh = self.first_fresh.max(slot.next());
        self.next = self.next.max(slot.next());
        self.stable = Some(stable.clone());
        fx.persist(Record::Stable(stable));
        self.tell_behind(slot, fx);
    }

    /// The layer above has taken the state: execution goes on after it.
    fn on_restored(&mut self, stable: StableCheckpoint, fx: &mut Effects<'_, Self>) {
        self.executed = self.executed.max(stable.statement().slot);
        self.ready = self.ready.split_off(&self.executed.next());
        self.on_stable(stable, fx);
        self.execute(fx);
    }

    fn on_stop(&mut self, fx: &mut Effects<'_, Self>) {
        self.standing = Standing::Stopped;
        self.stop_view_timer(fx);
    }

    /// What was decided up to `slot` and is missing here is had only with the state.
    fn tell_behind(&self, slot: Slot, fx: &mut Effects<'_, Self>) {
        if slot > self.executed {
            fx.output(OrderOutput::Behind(slot));
        }
    }
}
