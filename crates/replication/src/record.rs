//! What a replica writes to its log, and the names of its timeouts.

use crate::executor::Replicated;
use crate::message::Bundle;
use crate::snapshot::Snapshot;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_contracts::{Checkpoint, Ordering, StableCheckpoint};
use testudo_core::{
    Decode, DecodeError, Digest, Encode, Lost, Past, Position, Reader, Signed, Slot, Tag, Tagged,
    Verified,
};

/// What must survive a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<R> {
    /// The ordering's own.
    Order(R),
    /// A client's bundle that this replica may vote for.
    Body(Signed<Bundle>),
    /// A checkpoint that this replica signed. No slot's digest is ever signed twice.
    Checkpointed(Checkpoint),
    /// A checkpoint of a slot that this replica has executed has become stable, whether or not its own state agrees.
    Stable(StableCheckpoint),
    /// No digest of this slot can reach a quorum: nothing is executed after it.
    Halted(Slot),
    /// What is kept of a body at a start when the snapshot says that it was executed: its bundle's digest. It is never
    /// written.
    Executed(Digest),
}

impl<R: Tagged> Tagged for Record<R> {
    fn tag(&self) -> Tag {
        match self {
            Self::Order(record) => record.tag(),
            Self::Body(_) | Self::Executed(_) => Tag::Body,
            Self::Checkpointed(checkpoint) => Tag::Checkpointed(checkpoint.slot),
            Self::Stable(certificate) => Tag::Stable(certificate.statement().slot),
            Self::Halted(slot) => Tag::Halted(*slot),
        }
    }
}

impl<R: Encode> Encode for Record<R> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Order(record) => {
                out.push(0);
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
            Self::Executed(_) => unreachable!("a record that is never written"),
        }
    }
}

impl<R: Decode> Decode for Record<R> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::decode(reader)? {
            0 => Self::Order(R::decode(reader)?),
            1 => Self::Body(Signed::decode(reader)?),
            2 => Self::Checkpointed(Checkpoint::decode(reader)?),
            3 => Self::Stable(StableCheckpoint::decode(reader)?),
            4 => Self::Halted(Slot::decode(reader)?),
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
type Records<R> = Vec<(Position, R)>;

/// What is held of a record beside this snapshot.
pub(crate) fn keep<O: Ordering>(
    snapshot: Option<&Snapshot<O::Snapshot>>,
    position: Position,
    record: Record<O::Record>,
    version: u32,
) -> Option<Record<O::Record>> {
    let snapshot = snapshot.filter(|snapshot| snapshot.head.version == version);
    Some(match record {
        Record::Order(record) => {
            Record::Order(O::keep(snapshot.map(|snapshot| &snapshot.order), position, record)?)
        }
        Record::Body(body) => {
            let digest = Verified::replay(body.clone()).ok()?.digest();
            let covers = |snapshot: &Snapshot<_>| snapshot.covers(position, &digest);
            if snapshot.is_some_and(covers) { Record::Executed(digest) } else { Record::Body(body) }
        }
        record => record,
    })
}

/// The ordering's part of the past, this layer's own records, and what it starts from. A snapshot of another version of
/// the service is none. If the log has not all that it stands for, then something is lost.
pub(crate) fn split<R, P>(
    past: Past<Snapshot<P>, Record<R>>,
    version: u32,
) -> (Past<P, R>, Records<Record<R>>, Option<Start>) {
    let Past { promise, snapshot, records, mut lost } = past;
    let has_snapshot = snapshot.is_some();
    let snapshot = snapshot.filter(|snapshot| snapshot.head.version == version);
    if has_snapshot && snapshot.is_none() && records.first().is_none_or(|(at, _)| *at > Position(0))
    {
        let end = records.last().map_or(Position(0), |(last, _)| last.next());
        lost.push(Lost { position: end, tag: None });
    }
    let (mut start, mut order) = (None, None);
    if let Some(snapshot) = snapshot {
        let Snapshot { certificate, state, logged, pending, .. } = snapshot;
        start = Some(Start { certificate, state, logged, pending });
        order = Some(snapshot.order);
    }
    let (mut inner, mut own) = (Vec::new(), Vec::new());
    for (position, record) in records {
        match record {
            Record::Order(record) => inner.push((position, record)),
            record => own.push((position, record)),
        }
    }
    (Past { promise, snapshot: order, records: inner, lost }, own, start)
}
