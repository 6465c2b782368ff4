//! What a replica writes down, and how it takes its work up again.
//!
//! Records are facts that only grow: whatever order they are read in, and however often, the state is the same. So a
//! [`Snapshot`] is nothing but a short list of records that stands for a longer one.
//!
//! A replica that restarts has promised all that it has said. It is in no lower view than its promise, and as a primary
//! it gives that view up. It executes again what it had decided, and the next view repeats what it had voted for. One
//! that has lost records no longer knows what it has promised, and never votes again ([`Standing::Forgotten`]).
//!
//! The paper's own words on recovery (which messages are logged, when, and what a restarted replica asks others) go
//! here; the records of its further phases join [`Record`].

use crate::message::Proposal;
use crate::safety::Rules;
use crate::{__Type__, Standing};
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_contracts::{Batch, Ordering as _, StableCheckpoint};
use testudo_core::{
    Decode, DecodeError, Effects, Encode, Past, Reader, Slot, Tag, Tagged, View, wire_enum,
};

/// What must survive a crash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A proposal that one votes for, before the vote leaves.
    Voted(Proposal),
    /// A decision, after it was given out for execution.
    Decided(Slot, Batch),
    /// A stable checkpoint.
    Stable(StableCheckpoint),
}
wire_enum!(Record {
    0 => Voted(body),
    1 => Decided(slot, batch),
    2 => Stable(body),
});

impl Tagged for Record {
    fn tag(&self) -> Tag {
        match self {
            Self::Voted(proposal) => Tag::Vote(proposal.slot),
            Self::Decided(slot, _) => Tag::Decided(*slot),
            Self::Stable(certificate) => Tag::Stable(certificate.statement().slot),
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

impl<R: Rules> __Type__<R> {
    /// First boot and recovery.
    pub(crate) fn recover(
        mut self,
        past: Past<Snapshot, Record>,
        fx: &mut Effects<'_, Self>,
    ) -> Self {
        let is_blank = past.snapshot.is_none() && past.records.is_empty();
        if !past.lost.is_empty() || (past.promise.is_none() && !is_blank) {
            self.standing = Standing::Forgotten;
        }
        self.view = past.promise.map_or(View(0), |promise| promise.view);
        if let Some(snapshot) = past.snapshot {
            self.executed = snapshot.executed;
            snapshot.records.iter().for_each(|record| self.remember(record.clone()));
        }
        past.records.into_iter().for_each(|(_, record)| self.remember(record));
        self.forget_stable();
        self.execute(fx);
        if self.standing == Standing::Forgotten {
            self.tell_behind(self.known(), fx);
        } else if past.promise.is_some() {
            self.change_view(fx);
        } else {
            self.promise(fx);
        }
        self
    }

    /// Takes up one record: of everything the latest counts.
    fn remember(&mut self, record: Record) {
        match record {
            Record::Voted(vote) => {
                let entry = self.entries.entry(vote.slot).or_default();
                if entry.voted.as_ref().is_none_or(|voted| voted.view < vote.view) {
                    entry.voted = Some(vote);
                }
            }
            Record::Decided(slot, batch) => {
                self.entries.entry(slot).or_default().decided = Some(batch.digest());
                if slot > self.executed {
                    self.ready.insert(slot, batch);
                }
            }
            Record::Stable(stable) => {
                if stable.statement().slot > self.low() {
                    self.stable = Some(stable);
                }
            }
        }
    }

    /// Records may be older than the last stable checkpoint among them, which stands for what lies below it.
    fn forget_stable(&mut self) {
        let above = self.low().next();
        self.entries = self.entries.split_off(&above);
        self.entries.split_off(&self.high().next());
        self.first_fresh = above;
        self.next = above;
    }

    /// All that must survive, in short.
    pub(crate) fn remember_from(&self, executed: Slot) -> Snapshot {
        let mut records = Vec::new();
        records.extend(self.stable.clone().map(Record::Stable));
        records.extend(self.entries.values().filter_map(|entry| entry.voted.clone()).map(Record::Voted));
        let ready = self.ready.iter();
        records.extend(ready.map(|(slot, batch)| Record::Decided(*slot, batch.clone())));
        Snapshot { executed, records: Arc::new(records) }
    }
}
