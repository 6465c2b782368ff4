//! Nothing stays lost: votes are said again, laggards are shown what was decided, and whoever is too far behind is
//! told to take the state instead.
//!
//! A replica may be left out by a faulty primary, or miss messages; nobody else need notice, as a quorum goes on
//! without it (systems that let it stay behind lose liveness as soon as a client needs its answer too). So each
//! replica says how far it is ([`Status`]) whenever it lacks something, and now and then all the same, because one
//! that has heard nothing cannot know that it lacks something. Whoever is ahead answers likewise; whoever is behind
//! fetches decisions, which prove themselves, from one peer after the other. What a status claims is believed by
//! nobody: it costs its receiver a question or an answer, and both have budgets per peer and tick.

use crate::log::{Entry, Proposal};
use crate::message::{Commit, Committed, Fetch, Message, Prepare, Status};
use crate::recovery::Record;
use crate::safety::Rules;
use crate::{Pbft, Standing, Timer};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use testudo_contracts::OrderOutput;
use testudo_core::{Effects, Peer, Position, ReplicaId, Slot, Target, limits};

/// Items (decisions and proposals) that one peer is sent between two ticks. More questions go unanswered till then.
const ITEMS_PER_TICK: usize = 8 * limits::FETCH_ITEMS;

/// Testimonies that one peer is given between two ticks: it may start more than once.
const TESTIMONIES_PER_TICK: usize = 4;

/// A replica that seems to lack nothing says how far it is only at every so many ticks.
const IDLE_TICKS: u64 = 8;

/// Ticks without progress, though others have more, after which the state is to be taken instead.
const STALLED_TICKS: u32 = 4;

/// What one peer may still have before the next tick.
#[derive(Clone, Copy, Debug)]
struct Budget {
    status: bool,
    view: bool,
    testimonies: usize,
    items: usize,
}

impl Budget {
    const FULL: Self =
        Self { status: true, view: true, testimonies: TESTIMONIES_PER_TICK, items: ITEMS_PER_TICK };
}

/// A question that is under way.
#[derive(Clone, Copy, Debug)]
struct Fetching {
    peer: ReplicaId,
    /// The last slot that the answer may hold.
    until: Slot,
}

/// What a replica knows of how far others are.
#[derive(Clone, Debug, Default)]
pub(crate) struct CatchUp {
    /// How often the resend timer has run out.
    pub(crate) tick: u64,
    /// Whether something was heard of a view beyond this replica's.
    pub(crate) ahead: bool,
    /// The highest slot that some peer provably decided: it is certified, or f+1 say so. It never falls.
    pub(crate) known: Slot,
    /// The last slot that each peer says it executed.
    claims: BTreeMap<ReplicaId, Slot>,
    /// What each peer may still have. Full where there is no entry.
    budgets: BTreeMap<ReplicaId, Budget>,
    fetching: Option<Fetching>,
    /// Who waits for records that are being read back. Bounded by the budgets.
    recalls: BTreeMap<Position, BTreeSet<ReplicaId>>,
    /// The last slot executed at the last tick, and for how many ticks it has been that though more is known.
    executed: Slot,
    stalled: u32,
    /// The last slot that the layer above was told to take the state for.
    told: Slot,
}

impl CatchUp {
    /// Everybody is known to have decided up to here: the epoch begins with it.
    pub(crate) fn from(base: Slot) -> Self {
        Self { known: base, ..Self::default() }
    }

    fn budget(&mut self, peer: ReplicaId) -> &mut Budget {
        self.budgets.entry(peer).or_insert(Budget::FULL)
    }
    fn may_answer(&mut self, peer: ReplicaId) -> bool {
        core::mem::take(&mut self.budget(peer).status)
    }
    pub(crate) fn may_show_view(&mut self, peer: ReplicaId) -> bool {
        core::mem::take(&mut self.budget(peer).view)
    }
    pub(crate) fn may_testify(&mut self, peer: ReplicaId) -> bool {
        let budget = self.budget(peer);
        let may = budget.testimonies > 0;
        budget.testimonies = budget.testimonies.saturating_sub(1);
        may
    }
    fn may_send_item(&mut self, peer: ReplicaId) -> bool {
        let budget = self.budget(peer);
        let left = budget.items > 0;
        budget.items = budget.items.saturating_sub(1);
        left
    }
    /// The k-th largest claim: a slot that k peers say they have executed.
    fn claimed_by(&self, k: usize) -> Slot {
        let mut claims: Vec<Slot> = self.claims.values().copied().collect();
        claims.sort_unstable_by(|a, b| b.cmp(a));
        k.checked_sub(1).and_then(|index| claims.get(index)).copied().unwrap_or_default()
    }
}

impl<R: Rules> Pbft<R> {
    /// The resend timer has run out.
    pub(crate) fn on_tick(&mut self, fx: &mut Effects<'_, Self>) {
        self.catchup.tick += 1;
        self.catchup.budgets.clear();
        self.catchup.fetching = None;
        let is_idle_tick = self.catchup.tick.is_multiple_of(IDLE_TICKS);
        if is_idle_tick {
            // Records that were let go of are never read back; whoever waits for them asks again.
            self.catchup.recalls.clear();
        }
        self.ask_overtakers(fx);
        if self.standing == Standing::Voting {
            self.say_again(fx);
        }
        self.pace.forgive(self.config.resend);
        self.ask_again(fx);
        if is_idle_tick || (self.standing != Standing::Stopped && self.lacks_something()) {
            fx.send(Target::Others, Message::Status(self.status()));
        }
        self.catchup.ahead = false;
        self.fetch(fx);
        self.notice_stall(fx);
        fx.set_timer(Timer::Resend, self.config.resend);
    }

    pub(crate) fn status(&self) -> Status {
        let executed = self.decisions.executed;
        let (first, last) = (executed.max(self.log.low()).next(), self.log.last());
        let is_lacking = |slot: &Slot| {
            let entry = self.log.entries.get(slot);
            entry.is_none_or(|entry| entry.proposal.is_none() && entry.decided.is_none())
        };
        let lacks = (first.0..=last.0).map(Slot).filter(is_lacking);
        // Between views nothing can be accepted, so nothing is asked for.
        let limit = if self.is_active() { limits::FETCH_ITEMS } else { 0 };
        let lacks = lacks.take(limit).collect();
        let is_slow = self.pace.complains();
        Status { view: self.installed_view(), executed, stable: self.log.low(), lacks, is_slow }
    }

    /// A slot of this view that has been open for a whole period, and the one before it.
    fn is_overdue(&self, slot: Slot, entry: &Entry) -> bool {
        slot > self.decisions.executed && entry.is_open() && entry.opened + 2 <= self.catchup.tick
    }

    fn lacks_something(&self) -> bool {
        let executed = self.decisions.executed;
        !self.is_active()
            || self.standing == Standing::Forgotten
            || self.catchup.ahead
            || self.pace.complains()
            || self.catchup.known > executed
            || self.log.entries.iter().any(|(slot, entry)| self.is_overdue(*slot, entry))
    }

    /// Says again what others may have missed: a view change that is pending, or the votes of slots that stay open.
    fn say_again(&mut self, fx: &mut Effects<'_, Self>) {
        if !self.is_active() {
            if let Some(change) = &self.own_change {
                // To all, as it may have been one's own copy that was lost.
                fx.send(Target::Replicas, Message::ViewChange(change.clone()));
            }
            return;
        }
        let overdue = self.log.entries.iter().filter(|(slot, e)| self.is_overdue(**slot, e));
        for (slot, entry) in overdue.take(limits::FETCH_ITEMS) {
            self.say_votes(*slot, entry, fx);
        }
    }

    /// Says one's own votes for a slot: nothing that was not said before, or could not be said now.
    pub(crate) fn say_votes(&self, slot: Slot, entry: &Entry, fx: &mut Effects<'_, Self>) {
        let (view, Some(proposal)) = (self.view, &entry.proposal) else { return };
        if self.lost.contains(slot) {
            return;
        }
        let digest = proposal.digest;
        match proposal.attested() {
            Some(attested) if attested.signer == self.me => {
                fx.send(Target::Others, Message::PrePrepare(attested.statement.clone()));
            }
            _ if entry.voted => {
                fx.send(Target::Replicas, Message::Prepare(Prepare { view, slot, digest }));
            }
            _ => {}
        }
        if entry.is_prepared_in(view) {
            fx.send(Target::Replicas, Message::Commit(Commit { view, slot, digest }));
        }
    }

    /// Others have decided up to this slot, and that is proven.
    pub(crate) fn learn(&mut self, slot: Slot, fx: &mut Effects<'_, Self>) {
        self.catchup.known = self.catchup.known.max(slot);
        let distance = |from: Slot| self.catchup.known.0.saturating_sub(from.0);
        let is_far = distance(self.decisions.executed) > self.log.window;
        if is_far && distance(self.catchup.told) > self.log.window {
            self.tell_behind(fx);
        }
    }

    pub(crate) fn tell_behind(&mut self, fx: &mut Effects<'_, Self>) {
        self.catchup.told = self.catchup.known;
        fx.output(OrderOutput::Behind(self.catchup.known));
    }

    fn notice_stall(&mut self, fx: &mut Effects<'_, Self>) {
        let executed = self.decisions.executed;
        let is_stalled = executed == self.catchup.executed && self.catchup.known > executed;
        self.catchup.stalled = if is_stalled { self.catchup.stalled + 1 } else { 0 };
        self.catchup.executed = executed;
        if self.catchup.stalled >= STALLED_TICKS && self.standing != Standing::Stopped {
            self.catchup.stalled = 0;
            self.tell_behind(fx);
        }
    }

    /// A peer says how far it is.
    pub(crate) fn on_status(
        &mut self,
        from: ReplicaId,
        status: &Status,
        fx: &mut Effects<'_, Self>,
    ) {
        if from == self.me {
            return;
        }
        self.catchup.claims.insert(from, status.executed);
        let claimed = self.catchup.claimed_by(self.system.weak());
        if claimed > self.catchup.known {
            self.learn(claimed, fx);
        }
        let (view, installed) = (status.view, self.installed_view());
        if view < installed {
            self.show_new_view(from, fx);
        }
        let needs_view = view > installed && view >= self.view;
        let is_behind = status.executed < self.decisions.executed;
        if (needs_view || is_behind) && self.catchup.may_answer(from) {
            fx.send(Peer::from(from), Message::Status(self.status()));
        }
        if view == installed && self.is_active() {
            for slot in &status.lacks {
                self.hand_on(*slot, from, fx);
            }
        }
        self.fetch_from(from, fx);
        self.hear_complaint(from, status, fx);
    }

    /// Hands a primary's pre-prepare on to one who lacks it. What a new view repeats is in its new-view message.
    fn hand_on(&mut self, slot: Slot, to: ReplicaId, fx: &mut Effects<'_, Self>) {
        let proposal = self.log.entries.get(&slot).and_then(|entry| entry.proposal.as_ref());
        if let Some(attested) = proposal.and_then(Proposal::attested)
            && self.catchup.may_send_item(to)
        {
            fx.send(Peer::from(to), Message::Proposal(attested.clone()));
        }
    }

    /// Asks somebody who says that he has more: another one at each tick, as any of them may lie.
    fn fetch(&mut self, fx: &mut Effects<'_, Self>) {
        let executed = self.decisions.executed;
        let ahead = self.catchup.claims.iter().filter(|(_, claim)| **claim > executed);
        let ahead: Vec<ReplicaId> = ahead.map(|(peer, _)| *peer).collect();
        let turn = self.catchup.tick.checked_rem(ahead.len() as u64).unwrap_or(0) as usize;
        if let Some(peer) = ahead.get(turn) {
            self.fetch_from(*peer, fx);
        }
    }

    fn fetch_from(&mut self, peer: ReplicaId, fx: &mut Effects<'_, Self>) {
        let executed = self.decisions.executed;
        let claim = self.catchup.claims.get(&peer).copied().unwrap_or_default();
        let may = self.standing != Standing::Stopped && self.catchup.fetching.is_none();
        if may && claim > executed {
            let until = claim.min(Slot(executed.0.saturating_add(limits::FETCH_ITEMS as u64)));
            self.catchup.fetching = Some(Fetching { peer, until });
            fx.send(Peer::from(peer), Message::Fetch(Fetch { from: executed.next() }));
        }
    }

    /// A peer asks for decisions: from the window they are sent at once, older ones when they have been read back.
    pub(crate) fn on_fetch(&mut self, from: ReplicaId, fetch: Fetch, fx: &mut Effects<'_, Self>) {
        let end = fetch.from.0.saturating_add(limits::FETCH_ITEMS as u64);
        let end = end.min(self.decisions.executed.0.saturating_add(1));
        for slot in (fetch.from.0..end).map(Slot) {
            let entry = self.log.entries.get(&slot);
            let decided = entry.and_then(|entry| entry.decided.clone());
            let position = self.decisions.positions.get(&slot).copied();
            if (decided.is_none() && position.is_none()) || !self.catchup.may_send_item(from) {
                return;
            }
            if let Some(committed) = decided {
                fx.send(Peer::from(from), Message::Committed(committed));
            } else if let Some(position) = position {
                let waiting = self.catchup.recalls.entry(position).or_default();
                if waiting.is_empty() {
                    fx.recall(position);
                }
                waiting.insert(from);
            }
        }
    }

    /// An old decision was read back.
    pub(crate) fn on_record(
        &mut self,
        position: Position,
        record: Record,
        fx: &mut Effects<'_, Self>,
    ) {
        let waiting = self.catchup.recalls.remove(&position).unwrap_or_default();
        if let Record::Decided(committed) = record {
            for peer in waiting {
                fx.send(Peer::from(peer), Message::Committed(committed.clone()));
            }
        }
    }

    /// A decision, with its proof. Those too far ahead are not kept: they are asked for again in their turn.
    pub(crate) fn on_committed(&mut self, committed: Committed, fx: &mut Effects<'_, Self>) {
        self.compare_decided(&committed, fx);
        let from = self.decisions.executed.max(self.log.low());
        if committed.slot().0 > from.0.saturating_add(self.log.window) {
            self.learn(committed.slot(), fx);
            return;
        }
        self.decide(committed, fx);
        let executed = self.decisions.executed;
        if let Some(fetching) = self.catchup.fetching.filter(|f| f.until <= executed) {
            self.catchup.fetching = None;
            self.fetch_from(fetching.peer, fx);
        }
    }
}
