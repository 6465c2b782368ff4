//! What a replica writes down, and how it takes its work up again.
//!
//! Records are facts that only grow: whatever order they are read in, and however often, the state is the same. So a
//! [`Snapshot`] is nothing but a short list of records that stands for a longer one.
//!
//! A replica that restarts has promised all that it has said. It is in no lower view than its promise; where that view
//! was not installed it goes on changing to it and never falls back to the last one that was. It votes for nothing
//! else where it has voted, and says the same again where that may have been lost. A primary gives its view up, so
//! that no slot is ever proposed twice. What records say that were lost is gone, but not that they were: slots that they
//! may have been about are not voted on. And as a disk may forget without knowing it, others are asked before anything is
//! said (`joining`). One that finds that it has said what it does not know never votes again ([`Standing::Forgotten`]): it
//! follows what the others decide.

use crate::log::Proposal;
use crate::message::{
    Attested, Committed, Message, NewView, PrePrepare, Prepared, Slots, ViewChange,
};
use crate::promises::{Damage, Recollection};
use crate::safety::{Adopted, Rules};
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
    /// Slots of which records were lost. Only in snapshots, which may outlive the damage in the log.
    Lost(Slots),
    /// It has signed what it knows nothing of, and votes no more.
    Forgotten,
}
wire_enum!(Record {
    0 => Proposed(body),
    1 => Voted(body),
    2 => Prepared(body),
    3 => Decided(body),
    4 => ViewChange(body),
    5 => NewView(body),
    6 => Stable(body),
    7 => Lost(body),
    8 => Forgotten,
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
            // Whoever loses a record without a class takes it for this.
            Self::Lost(_) | Self::Forgotten => Tag::Other,
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

impl Record {
    /// The slot of the stable checkpoint that it holds.
    fn stable(&self) -> Option<Slot> {
        match self {
            Self::Stable(one) => Some(one.statement().slot),
            _ => None,
        }
    }

    /// The slot that it is about.
    const fn slot(&self) -> Option<Slot> {
        match self {
            Self::Proposed(one) => Some(one.slot),
            Self::Voted(one) => Some(one.statement.slot),
            Self::Prepared(one) => Some(one.slot()),
            Self::Decided(one) => Some(one.slot()),
            Self::Stable(one) => Some(one.statement().slot),
            Self::ViewChange(_) | Self::NewView(_) | Self::Lost(_) | Self::Forgotten => None,
        }
    }
}

/// What the records come to: of everything the latest.
#[derive(Default)]
struct Memory {
    proposed: BTreeMap<Slot, PrePrepare>,
    lost: Slots,
    has_forgotten: bool,
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
    /// What it says that was signed. Promise and losses are not in it.
    fn recollect(&self, executed: Slot) -> Recollection {
        let changing = self.own_change.as_ref().map_or(View(0), |change| change.view);
        let installed = self.installed.as_ref().map_or(View(0), |view| view.statement.view);
        let low = self.stable.as_ref().map_or(Slot(0), |stable| stable.statement().slot);
        let decided = self.decided.keys().next_back().copied().unwrap_or_default();
        let fresh = |one: &PrePrepare| (one.slot, (one.view, one.batch.digest()));
        Recollection {
            promised: changing.max(installed),
            installed,
            low,
            executed: executed.max(decided),
            change: self.own_change.clone(),
            proposed: self.proposed.values().map(fresh).collect(),
            voted: self.voted.values().map(|one| fresh(&one.statement)).collect(),
            prepared: {
                let held = self.prepared.iter();
                held.map(|(slot, one)| (*slot, (one.view(), one.digest()))).collect()
            },
            ..Recollection::default()
        }
    }

    fn take(&mut self, position: Option<Position>, record: Record) {
        match record {
            // A primary that restarts gives its view up: what it had proposed binds it no more than its promise does.
            // But it ought to know of it.
            Record::Proposed(one) => {
                let slot = one.slot;
                let mut best = self.proposed.remove(&slot);
                keep(&mut best, one, |one| one.view.0);
                self.proposed.extend(best.map(|best| (slot, best)));
            }
            Record::Lost(slots) => {
                slots.ranges().iter().for_each(|(first, last)| self.lost.insert(*first, *last));
            }
            Record::Forgotten => self.has_forgotten = true,
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

/// What is lost, each with the highest slot that comes before it in the log, and the first stable checkpoint after it.
fn damage(past: &Past<Snapshot, Record>) -> Vec<Damage> {
    let snapshot = past.snapshot.as_ref();
    let covered = snapshot.into_iter().flat_map(|snapshot| snapshot.records.iter());
    let mut reached = covered.filter_map(Record::slot).max().unwrap_or_default();
    reached = reached.max(snapshot.map_or(Slot(0), |snapshot| snapshot.executed));
    let mut records = past.records.iter().peekable();
    let mut damage = Vec::with_capacity(past.lost.len());
    for lost in &past.lost {
        while let Some((_, record)) = records.next_if(|(at, _)| *at < lost.position) {
            reached = reached.max(record.slot().unwrap_or_default());
        }
        let later = past.records.iter().skip_while(|(at, _)| *at < lost.position);
        let stable = later.filter_map(|(_, record)| record.stable()).next();
        damage.push(Damage { tag: lost.tag, reached, stable });
        if let Some(Tag::Vote(slot) | Tag::Decided(slot) | Tag::Stable(slot)) = lost.tag {
            reached = reached.max(slot);
        }
    }
    damage
}

impl<R: Rules> Pbft<R> {
    /// First boot and recovery.
    pub(crate) fn recover(
        mut self,
        past: Past<Snapshot, Record>,
        fx: &mut Effects<'_, Self>,
    ) -> Self {
        let is_blank = past.snapshot.is_none() && past.records.is_empty() && past.lost.is_empty();
        let is_first_boot = is_blank && past.promise.is_none();
        let is_unpromised = past.promise.is_none() && !is_blank;
        // It has promised something in a later epoch: in this one it will sign nothing, and must not take that back.
        let is_over = past.promise.is_some_and(|promise| promise.epoch > self.config.domain.epoch);
        let promised = past.promise.filter(|_| !is_over).map_or(View(0), |promise| promise.view);
        let damage = damage(&past);
        let mut memory = Memory::default();
        if let Some(snapshot) = past.snapshot {
            self.decisions.executed = snapshot.executed;
            snapshot.records.iter().for_each(|record| memory.take(None, record.clone()));
        }
        for (position, record) in past.records {
            memory.take(Some(position), record);
        }
        let mut kept = memory.recollect(self.decisions.executed);
        (kept.is_blank, kept.promised) = (is_blank, kept.promised.max(promised));
        kept.low = kept.low.max(self.log.low());
        kept.window = self.log.window;
        kept.loss = R::lost(&damage, &kept);
        self.lost = kept.loss.slots.clone();
        let was_forgotten = memory.has_forgotten || kept.loss.standing || is_unpromised;
        let is_sound = self.take_up(promised, memory, &mut kept);
        if past.promise.is_none() || (self.view > promised && !is_over) {
            self.promise(fx);
        }
        if self.is_active() && self.view > View(0) {
            fx.output(OrderOutput::View(self.view, self.primary()));
        }
        self.execute(fx);
        let last = self.decisions.ready.keys().next_back().copied().unwrap_or_default();
        self.learn(self.decisions.executed.max(self.log.low()).max(last), fx);
        if !self.has_key(fx) {
            self.standing = Standing::Forgotten;
        } else if was_forgotten || !is_sound {
            self.have_forgotten(fx);
        } else {
            self.knock(kept, fx);
        }
        if !is_first_boot {
            fx.send(Target::Others, Message::Status(self.status()));
        }
        fx.set_timer(Timer::Resend, self.config.resend);
        self
    }

    /// An epoch begins that it comes to as a voter. It has said nothing in it, so there is nobody to ask what.
    pub(crate) fn open(mut self, fx: &mut Effects<'_, Self>) -> Self {
        self.promise(fx);
        if self.has_key(fx) {
            self.standing = Standing::Voting;
            self.has_joined = true;
            self.watch_primary(fx);
            self.begin_turn(fx);
        } else {
            self.standing = Standing::Forgotten;
        }
        fx.set_timer(Timer::Resend, self.config.resend);
        self
    }

    /// Whether this node can sign as the member that it is. The key of one that was wiped since it came back under it was
    /// wiped too.
    fn has_key(&self, fx: &Effects<'_, Self>) -> bool {
        self.config.membership.member(self.me).is_some_and(|member| fx.holds(&member.voting))
    }

    /// Makes the state of what was remembered. False when the log is not what was written.
    fn take_up(&mut self, promised: View, memory: Memory, kept: &mut Recollection) -> bool {
        let lost = memory.lost.ranges().iter();
        lost.for_each(|(first, last)| self.lost.insert(*first, *last));
        let base = self.log.stable.take();
        self.log.stable = memory.stable.or(base);
        let low = self.log.low();
        for (slot, committed) in memory.decided {
            if slot > self.decisions.executed {
                self.decisions.ready.insert(slot, committed.batch.clone());
            }
            // What is decided beyond the window is read back from the log when somebody asks for it.
            if self.log.contains(slot) {
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
        self.lost.trim(low);
        kept.loss.slots = self.lost.clone();
        let Some(adopted) = self.take_up_installed() else { return false };
        let repeated = adopted.ordered.iter().map(|(slot, batch)| (*slot, batch.digest()));
        kept.repeated.extend(repeated);
        if self.is_active() {
            self.take_up_view(memory.voted);
        }
        true
    }

    /// What the installed view began with may have been decided before it, so it is covered by read claims until the next
    /// view is installed, also while this replica is changing to that. `None` where the record of the view is not right, as it
    /// was when it was made.
    fn take_up_installed(&mut self) -> Option<Adopted> {
        let Some(installed) = &self.installed else {
            return Some(Adopted { stable: None, ordered: Vec::new() });
        };
        let adopted = R::derive(&self.system, &installed.statement)?;
        if self.is_active() {
            self.begin(&adopted);
        } else {
            self.go_on_after(&adopted);
        }
        Some(adopted)
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

    /// Goes on where it stopped, once it has joined.
    pub(crate) fn resume(&mut self, kept: &Recollection, fx: &mut Effects<'_, Self>) {
        let is_silenced = !self.is_active() && self.own_change.is_none() && kept.loss.change;
        if is_silenced || (self.is_primary() && !kept.is_blank) {
            // Also of a view that it was about to begin: it may have announced that already. And where it may have said
            // a view change that is lost it must not say another.
            self.change_to(self.view.next(), fx);
        } else if !self.is_active() {
            match self.own_change.clone() {
                Some(change) => fx.send(Target::Replicas, Message::ViewChange(change)),
                None => self.say_change(fx),
            }
        } else {
            self.watch_primary(fx);
            self.begin_turn(fx);
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
                self.advance(slot, fx);
            }
        }
        self.join(fx);
        self.review_changes(fx);
    }

    /// All that must survive, in short. What was decided after `executed` and lies above the window's foot is in it; what
    /// lies below it is in the log.
    pub(crate) fn remember_from(&self, executed: Slot) -> Snapshot {
        let mut records = Vec::new();
        records.extend(self.log.stable.clone().map(Record::Stable));
        records.extend(self.installed.clone().map(Record::NewView));
        records.extend(self.own_change.clone().map(Record::ViewChange));
        records.extend((!self.lost.is_empty()).then(|| Record::Lost(self.lost.clone())));
        records.extend((self.standing == Standing::Forgotten).then_some(Record::Forgotten));
        records.extend(self.proposing.values().cloned().map(Record::Proposed));
        for entry in self.log.entries.values() {
            let attested = entry.proposal.as_ref().and_then(Proposal::attested);
            let (own, others): (Vec<_>, Vec<_>) =
                attested.into_iter().partition(|attested| attested.signer == self.me);
            records.extend(own.into_iter().map(|own| Record::Proposed(own.statement.clone())));
            let voted = others.into_iter().filter(|_| entry.voted);
            records.extend(voted.cloned().map(Record::Voted));
            records.extend(entry.prepared.clone().map(Record::Prepared));
            records.extend(entry.decided.clone().map(Record::Decided));
        }
        Snapshot { executed, records: Arc::new(records) }
    }
}
