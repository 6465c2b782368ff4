//! What a replica writes down, and how it takes its work up again.
//!
//! Records are facts that only grow: whatever order they are read in, and however often, the state is the same. So a
//! [`Snapshot`] is nothing but a short list of records that stands for a longer one.
//!
//! A replica that restarts has promised all that it has said. It is in no lower view than its promise; where that view
//! was not installed it goes on changing to it and never falls back to the last one that was. It votes for nothing
//! else where it has voted, and says the same again where that may have been lost. A primary gives its view up, so
//! that no slot is ever proposed twice. One that has lost records no longer knows what it has promised, and never
//! votes again ([`Standing::Damaged`]): it follows what the others decide.

use crate::log::Proposal;
use crate::message::{Attested, Committed, Message, NewView, PrePrepare, Prepared, ViewChange};
use crate::safety::Rules;
use crate::{Pbft, Standing, Timer};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_contracts::{OrderOutput, Ordering as _, StableCheckpoint};
use testudo_core::{
    Decode, DecodeError, Effects, Encode, Past, Position, Reader, Slot, Tag, Tagged, Target, View,
    wire_enum,
};

/// What must survive a crash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A proposal of one's own, before it leaves.
    Proposed(PrePrepare),
    /// A primary's pre-prepare, before one's prepare for it leaves.
    Voted(Attested<PrePrepare>),
    /// A prepared certificate, before one's commit for it leaves.
    Prepared(Prepared),
    /// A decision, after it was given out for execution.
    Decided(Committed),
    /// A view change of one's own, before it leaves.
    ViewChange(ViewChange),
    /// A new view, before anything is said in it.
    NewView(Attested<NewView>),
    /// A stable checkpoint.
    Stable(StableCheckpoint),
}
wire_enum!(Record {
    0 => Proposed(body),
    1 => Voted(body),
    2 => Prepared(body),
    3 => Decided(body),
    4 => ViewChange(body),
    5 => NewView(body),
    6 => Stable(body),
});

impl Tagged for Record {
    fn tag(&self) -> Tag {
        match self {
            Self::Proposed(one) => Tag::Vote(one.slot),
            Self::Voted(one) => Tag::Vote(one.statement.slot),
            Self::Prepared(one) => Tag::Vote(one.slot()),
            Self::Decided(one) => Tag::Decided(one.slot()),
            Self::ViewChange(one) => Tag::ViewChange(one.view),
            Self::NewView(one) => Tag::NewView(one.statement.view),
            Self::Stable(one) => Tag::Stable(one.statement().slot),
        }
    }
}

/// All that records say, in short. Whoever stores it may let go of every record before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The last slot that was given out for execution. A replica started from this goes on after it.
    pub executed: Slot,
    /// The records that still matter.
    pub records: Arc<Vec<Record>>,
}

impl Encode for Snapshot {
    fn encode(&self, out: &mut Vec<u8>) {
        self.executed.encode(out);
        self.records.encode(out);
    }
}
impl Decode for Snapshot {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let executed = Slot::decode(reader)?;
        Ok(Self { executed, records: Arc::new(Vec::decode(reader)?) })
    }
}

/// What the records come to: of everything the latest.
#[derive(Default)]
struct Memory {
    stable: Option<StableCheckpoint>,
    installed: Option<Attested<NewView>>,
    own_change: Option<ViewChange>,
    voted: BTreeMap<Slot, Attested<PrePrepare>>,
    prepared: BTreeMap<Slot, Prepared>,
    decided: BTreeMap<Slot, Committed>,
    positions: BTreeMap<Slot, Position>,
}

/// Keeps the one of the highest rank.
fn keep<T>(best: &mut Option<T>, one: T, rank: impl Fn(&T) -> u64) {
    if best.as_ref().is_none_or(|held| rank(held) < rank(&one)) {
        *best = Some(one);
    }
}

impl Memory {
    fn take(&mut self, position: Option<Position>, record: Record) {
        match record {
            // A primary that restarts gives its view up: what it had proposed binds it no more than its promise does.
            Record::Proposed(_) => {}
            Record::Voted(one) => {
                let slot = one.statement.slot;
                let mut best = self.voted.remove(&slot);
                keep(&mut best, one, |one| one.statement.view.0);
                self.voted.extend(best.map(|best| (slot, best)));
            }
            Record::Prepared(one) => {
                let slot = one.slot();
                let mut best = self.prepared.remove(&slot);
                keep(&mut best, one, |one| one.view().0);
                self.prepared.extend(best.map(|best| (slot, best)));
            }
            Record::Decided(one) => {
                self.positions.extend(position.map(|position| (one.slot(), position)));
                self.decided.insert(one.slot(), one);
            }
            Record::ViewChange(one) => keep(&mut self.own_change, one, |one| one.view.0),
            Record::NewView(one) => keep(&mut self.installed, one, |one| one.statement.view.0),
            Record::Stable(one) => keep(&mut self.stable, one, |one| one.statement().slot.0),
        }
    }
}

impl<R: Rules> Pbft<R> {
    /// First boot and recovery.
    pub(crate) fn recover(
        mut self,
        past: Past<Snapshot, Record>,
        fx: &mut Effects<'_, Self>,
    ) -> Self {
        let is_blank = past.snapshot.is_none() && past.records.is_empty();
        let is_first_boot = is_blank && past.promise.is_none() && past.lost.is_empty();
        if !past.lost.is_empty() || (past.promise.is_none() && !is_blank) {
            self.standing = Standing::Damaged;
        }
        let promised = past.promise.map_or(View(0), |promise| promise.view);
        let mut memory = Memory::default();
        if let Some(snapshot) = past.snapshot {
            self.decisions.executed = snapshot.executed;
            snapshot.records.iter().for_each(|record| memory.take(None, record.clone()));
        }
        for (position, record) in past.records {
            memory.take(Some(position), record);
        }
        self.take_up(promised, memory);
        if past.promise.is_none() || self.view > promised {
            self.promise(fx);
        }
        if self.is_active() && self.view > View(0) {
            fx.output(OrderOutput::View(self.view, self.primary()));
        }
        self.execute(fx);
        let last = self.decisions.ready.keys().next_back().copied().unwrap_or_default();
        self.learn(self.decisions.executed.max(self.log.low()).max(last), fx);
        self.resume(is_blank, fx);
        if !is_first_boot {
            fx.send(Target::Others, Message::Status(self.status()));
        }
        fx.set_timer(Timer::Resend, self.config.resend);
        self
    }

    /// Makes the state of what was remembered.
    fn take_up(&mut self, promised: View, memory: Memory) {
        self.log.stable = memory.stable;
        let low = self.log.low();
        for (slot, committed) in memory.decided {
            if slot > self.decisions.executed {
                self.decisions.ready.insert(slot, committed.batch.clone());
            }
            if slot > low {
                self.log.entries.entry(slot).or_default().decided = Some(committed);
            }
        }
        self.decisions.positions = memory.positions;
        self.decisions.trim(low);
        for (slot, prepared) in memory.prepared.into_iter().filter(|(slot, _)| *slot > low) {
            self.log.entries.entry(slot).or_default().prepared = Some(prepared);
        }
        self.installed = memory.installed;
        let changing = memory.own_change.as_ref().map_or(View(0), |change| change.view);
        self.view = promised.max(changing).max(self.installed_view());
        self.own_change = memory.own_change.filter(|change| change.view == self.view);
        self.take_up_installed();
        if self.is_active() {
            self.take_up_view(memory.voted);
        }
    }

    /// What the installed view began with may have been decided before it, so it is covered by read claims until the next
    /// view is installed, also while this replica is changing to that.
    fn take_up_installed(&mut self) {
        let Some(installed) = &self.installed else { return };
        match R::derive(&installed.statement) {
            Some(adopted) if self.is_active() => self.begin(&adopted),
            Some(adopted) => self.go_on_after(&adopted),
            // It was right when it was recorded, so this log is not what was written.
            None => self.standing = Standing::Damaged,
        }
    }

    /// Binds itself to what it accepted in the view that it is in.
    fn take_up_view(&mut self, voted: BTreeMap<Slot, Attested<PrePrepare>>) {
        self.own_change = None;
        let (view, n) = (self.view, self.system.n());
        for (slot, attested) in voted {
            if attested.statement.view == view
                && let Some(entry) = self.log.open(slot, 0)
            {
                entry.proposal = Some(Proposal::fresh(attested));
                entry.voted = true;
            }
        }
        for entry in self.log.entries.values_mut() {
            let prepared = entry.prepared.as_ref().filter(|prepared| prepared.view() == view);
            let Some(prepared) = prepared.filter(|_| entry.proposal.is_none()) else { continue };
            let attested = prepared.attested(n).map(Proposal::fresh);
            let repeated = || Proposal::repeated(prepared.batch.clone());
            entry.proposal = Some(attested.unwrap_or_else(repeated));
        }
    }

    /// Goes on where it stopped.
    fn resume(&mut self, is_blank: bool, fx: &mut Effects<'_, Self>) {
        if self.standing == Standing::Damaged {
            self.tell_behind(fx);
        } else if self.primary() == self.me && !is_blank {
            // Also of a view that it was about to begin: it may have announced that already.
            self.change_to(self.view.next(), fx);
        } else if !self.is_active() {
            match self.own_change.clone() {
                Some(change) => fx.send(Target::Replicas, Message::ViewChange(change)),
                None => self.say_change(fx),
            }
        } else {
            let open: Vec<Slot> = self.log.entries.keys().copied().collect();
            for slot in open {
                let Some(entry) = self.log.entries.get(&slot).filter(|e| e.is_open()) else {
                    continue;
                };
                self.say_votes(slot, entry, fx);
                let unasked = entry.proposal.as_ref().filter(|_| !entry.voted);
                if let Some(batch) = unasked.map(|proposal| proposal.batch().clone()) {
                    self.ask(slot, batch, fx);
                }
            }
        }
    }

    /// All that must survive, in short. What was decided after `executed` and lies above the window's foot is in it; what
    /// lies below it is in the log.
    pub(crate) fn remember_from(&self, executed: Slot) -> Snapshot {
        let mut records = Vec::new();
        records.extend(self.log.stable.clone().map(Record::Stable));
        records.extend(self.installed.clone().map(Record::NewView));
        records.extend(self.own_change.clone().map(Record::ViewChange));
        for entry in self.log.entries.values() {
            let attested = entry.proposal.as_ref().and_then(Proposal::attested);
            let voted = attested.filter(|attested| entry.voted && attested.signer != self.me);
            records.extend(voted.cloned().map(Record::Voted));
            records.extend(entry.prepared.clone().map(Record::Prepared));
            records.extend(entry.decided.clone().map(Record::Decided));
        }
        Snapshot { executed, records: Arc::new(records) }
    }
}
