//! What a replica writes to its log, and the names of its timeouts.

use crate::executor::Replicated;
use crate::message::Bundle;
use crate::snapshot::Snapshot;
use crate::succession::Succession;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_contracts::{Checkpoint, Ordering, StableCheckpoint};
use testudo_core::{
    Decode, DecodeError, Digest, Encode, Epoch, Lost, Past, Position, Promise, Reader, Signed,
    Slot, Tag, Tagged, Verified,
};

/// What must survive a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<R> {
    /// The ordering's own, in this epoch.
    Order(Epoch, R),
    /// A client's bundle that this replica may vote for.
    Body(Signed<Bundle>),
    /// A checkpoint that this replica signed. No slot's digest is ever signed twice.
    Checkpointed(Checkpoint),
    /// A checkpoint of a slot that this replica has executed has become stable, whether or not its own state agrees.
    Stable(StableCheckpoint),
    /// No digest of this slot can reach a quorum: nothing is executed after it.
    Halted(Slot),
    /// An epoch is over, and this replica goes on in the next one.
    Succession(Box<Succession>),
    /// What is kept of a body at a start when the snapshot says that it was executed: its bundle's digest. It is never
    /// written.
    Executed(Digest),
}

impl<R: Tagged> Tagged for Record<R> {
    fn tag(&self) -> Tag {
        match self {
            Self::Order(_, record) => record.tag(),
            Self::Body(_) | Self::Executed(_) => Tag::Body,
            Self::Checkpointed(checkpoint) => Tag::Checkpointed(checkpoint.slot),
            Self::Stable(certificate) => Tag::Stable(certificate.statement().slot),
            Self::Halted(slot) => Tag::Halted(*slot),
            // Others show it again.
            Self::Succession(_) => Tag::Body,
        }
    }
}

impl<R: Encode> Encode for Record<R> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Order(epoch, record) => {
                out.push(0);
                epoch.encode(out);
                record.encode(out);
            }
            Self::Body(body) => {
                out.push(1);
                body.encode(out);
            }
            Self::Checkpointed(checkpoint) => {
                out.push(2);
                checkpoint.encode(out);
            }
            Self::Stable(certificate) => {
                out.push(3);
                certificate.encode(out);
            }
            Self::Halted(slot) => {
                out.push(4);
                slot.encode(out);
            }
            Self::Succession(succession) => {
                out.push(5);
                succession.encode(out);
            }
            Self::Executed(_) => unreachable!("a record that is never written"),
        }
    }
}

impl<R: Decode> Decode for Record<R> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::decode(reader)? {
            0 => Self::Order(Epoch::decode(reader)?, R::decode(reader)?),
            1 => Self::Body(Signed::decode(reader)?),
            2 => Self::Checkpointed(Checkpoint::decode(reader)?),
            3 => Self::Stable(StableCheckpoint::decode(reader)?),
            4 => Self::Halted(Slot::decode(reader)?),
            5 => Self::Succession(Box::new(Succession::decode(reader)?)),
            _ => return Err(DecodeError::Unknown("record")),
        })
    }
}

/// A replica's timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer<T> {
    /// The ordering's own.
    Order(T),
    /// Hand bundles that wait too long to the primary.
    Relay,
    /// Ask for missing bodies.
    Fetch,
    /// Say again what should have become stable.
    Checkpoint,
    /// The service wants a slot.
    Due,
    /// Forget learners that have not been heard of.
    Follow,
    /// Begin a new period of what peers may cost.
    Budget,
    /// Go on healing: ask again for what is missing.
    Heal,
    /// See whether the epoch is over without this replica.
    Epoch,
}

/// What this layer starts from, of a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) certificate: StableCheckpoint,
    pub(crate) state: Replicated,
    /// Bodies before this position were executed by then, but for those that are pending.
    pub(crate) logged: Position,
    pub(crate) pending: Arc<BTreeSet<Digest>>,
}

/// The records of one layer.
pub(crate) type Records<R> = Vec<(Position, R)>;

/// What is held of a record beside this snapshot.
pub(crate) fn keep<O: Ordering>(
    snapshot: Option<&Snapshot<O::Snapshot>>,
    position: Position,
    record: Record<O::Record>,
    version: u32,
) -> Option<Record<O::Record>> {
    let snapshot = snapshot.filter(|snapshot| snapshot.head.version == version);
    Some(match record {
        Record::Order(epoch, record) => {
            let start = snapshot.map_or(Epoch(0), |snapshot| snapshot.epoch);
            let order = snapshot.map(|snapshot| &snapshot.order).filter(|_| epoch == start);
            // Of an epoch that was over when the snapshot was taken nothing matters.
            let is_over = epoch < start;
            Record::Order(epoch, O::keep(order, position, record).filter(|_| !is_over)?)
        }
        Record::Body(body) => {
            let digest = Verified::replay(body.clone()).ok()?.digest();
            let covers = |snapshot: &Snapshot<_>| snapshot.covers(position, &digest);
            if snapshot.is_some_and(covers) { Record::Executed(digest) } else { Record::Body(body) }
        }
        record => record,
    })
}

/// A past, sorted by whose it is.
pub(crate) struct Parts<P, R> {
    /// What the snapshot says of the ordering, and the epoch that it is of: the one that the replica starts in.
    pub(crate) order: Option<P>,
    pub(crate) epoch: Epoch,
    /// What the ordering wrote in each epoch.
    pub(crate) records: BTreeMap<Epoch, Records<R>>,
    /// What led from epoch to epoch, as the snapshot and then the log tell it.
    pub(crate) successions: Vec<Succession>,
    /// This layer's own records, but for the successions.
    pub(crate) own: Records<Record<R>>,
    /// What this layer starts from.
    pub(crate) start: Option<Start>,
    pub(crate) promise: Option<Promise>,
    /// What is lost, and the snapshot does not stand for.
    pub(crate) lost: Vec<Lost>,
    /// The last slot that any of it can be about that has lost its tag; none if nothing says when that was written.
    pub(crate) doubtful: Option<Slot>,
    /// All that is lost.
    pub(crate) found: Vec<Lost>,
}

/// The last slot that untagged losses can be about. What a record is about lay in the window of its time, and whatever became
/// stable after it was at least what that window began with.
fn doubtful<R: Tagged>(
    records: &[(Position, Record<R>)],
    start: Slot,
    lost: &[Lost],
    window: u64,
) -> Option<Slot> {
    let slot = |record: &Record<R>| match record.tag() {
        Tag::Vote(slot) | Tag::Decided(slot) | Tag::Stable(slot) | Tag::Checkpointed(slot) => slot,
        _ => Slot(0),
    };
    let mut last = Slot(0);
    for lost in lost.iter().filter(|lost| lost.tag.is_none()) {
        let (before, after) =
            records.split_at(records.partition_point(|(at, _)| *at < lost.position));
        let reached = before.iter().map(|(_, record)| slot(record)).max().unwrap_or_default();
        let stable = after.iter().find_map(|(_, record)| match record.tag() {
            Tag::Stable(slot) => Some(slot),
            _ => None,
        });
        let low = reached.max(start).max(stable?);
        last = last.max(Slot(low.0.saturating_add(window)));
    }
    Some(last)
}

/// Sorts a past. A snapshot of another version of the service is none. If the log has not all that it stands for, then
/// something is lost.
pub(crate) fn split<R: Tagged, P>(
    past: Past<Snapshot<P>, Record<R>>,
    version: u32,
    window: u64,
) -> Parts<P, R> {
    let Past { promise, snapshot, records, mut lost } = past;
    let has_snapshot = snapshot.is_some();
    let snapshot = snapshot.filter(|snapshot| snapshot.head.version == version);
    if has_snapshot && snapshot.is_none() && records.first().is_none_or(|(at, _)| *at > Position(0))
    {
        let end = records.last().map_or(Position(0), |(last, _)| last.next());
        lost.push(Lost { position: end, tag: None });
    }
    // What lies before the snapshot's place it stands for, whatever has become of it.
    let covered = snapshot.as_ref().map_or(Position(0), |snapshot| snapshot.logged);
    let found = lost.clone();
    lost.retain(|lost| lost.position >= covered);
    let slot = snapshot.as_ref().map_or(Slot(0), Snapshot::slot);
    let mut parts = Parts {
        doubtful: doubtful(&records, slot, &lost, window),
        found,
        order: None,
        epoch: Epoch(0),
        records: BTreeMap::new(),
        successions: Vec::new(),
        own: Vec::new(),
        start: None,
        promise,
        lost,
    };
    if let Some(snapshot) = snapshot {
        let Snapshot { certificate, state, logged, pending, .. } = snapshot;
        parts.start = Some(Start { certificate, state, logged, pending });
        parts.successions = snapshot.successions.to_vec();
        (parts.order, parts.epoch) = (Some(snapshot.order), snapshot.epoch);
    }
    for (position, record) in records {
        match record {
            Record::Order(epoch, record) => {
                parts.records.entry(epoch).or_default().push((position, record));
            }
            Record::Succession(succession) => {
                if succession.from.0 == parts.successions.len() as u64 {
                    parts.successions.push(*succession);
                }
            }
            record => parts.own.push((position, record)),
        }
    }
    parts
}
