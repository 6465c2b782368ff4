//! What a replica writes to its log, and the names of its timeouts.

use crate::executor::Replicated;
use crate::message::Bundle;
use crate::snapshot::Snapshot;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_contracts::{Checkpoint, StableCheckpoint};
use testudo_core::{
    Decode, DecodeError, Digest, Encode, Past, Position, Reader, Signed, Slot, Tag, Tagged,
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
}

impl<R: Tagged> Tagged for Record<R> {
    fn tag(&self) -> Tag {
        match self {
            Self::Order(record) => record.tag(),
            Self::Body(_) => Tag::Body,
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

/// The ordering's part of the past, this layer's own records, and what it starts from. A snapshot of another version of
/// the service is none: the log still has all that it stands for.
pub(crate) fn split<R, P>(
    past: Past<Snapshot<P>, Record<R>>,
    version: u32,
) -> (Past<P, R>, Records<Record<R>>, Option<Start>) {
    let Past { promise, snapshot, records, lost } = past;
    let snapshot = snapshot.filter(|snapshot| snapshot.head.version == version);
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
