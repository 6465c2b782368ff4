//! What the service answers.
//!
//! The types are for those who read results. The service writes the same encoding piece by piece ([`Reply`]), because
//! what it answers with is mostly records that already lie encoded in the store.

use crate::check::NESTING;
use crate::error::Error;
use crate::operation::{Bytes, TOO_DEEP, decode_list, encode_list, encode_tagged};
use alloc::vec::Vec;
use testudo_core::codec::encode_length;
use testudo_core::limits::RESULT_BYTES;
use testudo_core::{Decode, DecodeError, Encode, Reader, Time, wire_enum, wire_struct};

/// The answer to one operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// The keys that were read.
    Range(RangeResponse),
    /// A key was set.
    Put(PutResponse),
    /// Keys were deleted.
    DeleteRange(DeleteRangeResponse),
    /// A transaction ran.
    Txn(TxnResponse),
    /// The store as a whole.
    Status(StatusResponse),
    /// The operation was refused and changed nothing.
    Error(Error),
    /// History is forgotten.
    Compact(CompactResponse),
    /// A lease has begun.
    LeaseGrant(LeaseGrantResponse),
    /// A lease has ended.
    LeaseRevoke(LeaseRevokeResponse),
    /// A lease's time has begun anew, unless there is no such lease.
    LeaseKeepAlive(LeaseKeepAliveResponse),
    /// One lease.
    LeaseTimeToLive(LeaseTimeToLiveResponse),
    /// The leases that there are.
    LeaseLeases(LeaseLeasesResponse),
}

wire_enum!(Response {
    0 => Range(range),
    1 => Put(put),
    2 => DeleteRange(delete),
    3 => Txn(txn),
    4 => Status(status),
    5 => Error(error),
    6 => Compact(compact),
    7 => LeaseGrant(grant),
    8 => LeaseRevoke(revoke),
    9 => LeaseKeepAlive(keep_alive),
    10 => LeaseTimeToLive(time_to_live),
    11 => LeaseLeases(leases),
});

const RANGE: u8 = 0;
const PUT: u8 = 1;
const DELETE_RANGE: u8 = 2;
const TXN: u8 = 3;

/// A key with all that is known of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The revision that created it.
    pub create_revision: i64,
    /// The revision that put it last.
    pub mod_revision: i64,
    /// How often it was put since its creation: 1 after the first.
    pub version: i64,
    /// The lease that it hangs on; zero for none.
    pub lease: i64,
    /// Its value.
    pub value: Bytes,
}

wire_struct!(KeyValue { key, create_revision, mod_revision, version, lease, value });

/// The answer to [`crate::Range`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeResponse {
    /// The store's revision, whichever revision was read.
    pub revision: i64,
    /// The keys, in the order asked for; none if only the count was asked for.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut results off.
    pub more: bool,
    /// How many keys the range holds, before limit and filters.
    pub count: i64,
}

wire_struct!(RangeResponse { revision, kvs, more, count });

/// The answer to [`crate::Put`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PutResponse {
    /// The store's revision after the put.
    pub revision: i64,
    /// The key as it was before, if that was asked for and it existed.
    pub prev_kv: Option<KeyValue>,
}

wire_struct!(PutResponse { revision, prev_kv });

/// The answer to [`crate::DeleteRange`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteRangeResponse {
    /// The store's revision after the deletion.
    pub revision: i64,
    /// How many keys were deleted.
    pub deleted: i64,
    /// The keys as they were before, if that was asked for.
    pub prev_kvs: Vec<KeyValue>,
}

wire_struct!(DeleteRangeResponse { revision, deleted, prev_kvs });

/// The answer to [`crate::Txn`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TxnResponse {
    /// The store's revision after the transaction; zero for one inside another, as etcd leaves it.
    pub revision: i64,
    /// Whether every compare held.
    pub succeeded: bool,
    /// The answers to the requests that ran.
    pub responses: Vec<ResponseOp>,
}

/// The answer to one request inside a transaction. Its revision is the store's just after that request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResponseOp {
    /// The keys that were read.
    Range(RangeResponse),
    /// A key was set.
    Put(PutResponse),
    /// Keys were deleted.
    DeleteRange(DeleteRangeResponse),
    /// A transaction inside the transaction ran.
    Txn(TxnResponse),
}

/// The answer to [`crate::Operation::Status`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StatusResponse {
    /// The store's revision.
    pub revision: i64,
    /// The oldest revision that can be read; −1 if nothing was ever compacted.
    pub compacted: i64,
    /// The revision before which nothing is left of history: less than `compacted` while there is something to sweep.
    pub swept: i64,
    /// How many keys exist now.
    pub keys: u64,
    /// Bytes of keys and values, history and leases included, with about what it costs in memory to hold each entry.
    /// It is both of etcd's sizes: nothing is held here that is not in use.
    pub bytes: u64,
    /// How many bytes there may be.
    pub quota: u64,
    /// Whether there are more, so that growth is refused: etcd's alarm `NOSPACE`. It ends by itself.
    pub alarm: bool,
    /// Agreed time when this was asked.
    pub time: Time,
}

wire_struct!(StatusResponse { revision, compacted, swept, keys, bytes, quota, alarm, time });

/// The answer to [`crate::Compact`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CompactResponse {
    /// The store's revision.
    pub revision: i64,
    /// The revision before which nothing was left of history when the request was executed. When [`crate::Kv::swept`]
    /// has reached the revision that was compacted, all of the work is done.
    pub swept: i64,
}

wire_struct!(CompactResponse { revision, swept });

/// The answer to [`crate::LeaseGrant`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeaseGrantResponse {
    /// The store's revision.
    pub revision: i64,
    /// The lease.
    pub id: i64,
    /// For how many seconds it lives.
    pub ttl: i64,
}

wire_struct!(LeaseGrantResponse { revision, id, ttl });

/// The answer to [`crate::LeaseRevoke`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeaseRevokeResponse {
    /// The store's revision after the lease's keys were deleted.
    pub revision: i64,
}

wire_struct!(LeaseRevokeResponse { revision });

/// The answer to [`crate::LeaseKeepAlive`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeaseKeepAliveResponse {
    /// The store's revision.
    pub revision: i64,
    /// The lease.
    pub id: i64,
    /// For how many seconds it lives from now on; zero if there is no such lease.
    pub ttl: i64,
}

wire_struct!(LeaseKeepAliveResponse { revision, id, ttl });

/// The answer to [`crate::LeaseTimeToLive`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaseTimeToLiveResponse {
    /// The store's revision.
    pub revision: i64,
    /// The lease.
    pub id: i64,
    /// Whole seconds that it has left; −1 if there is no such lease.
    pub ttl: i64,
    /// For how many seconds it was granted; zero if there is no such lease.
    pub granted_ttl: i64,
    /// Its keys in ascending order, if they were asked for.
    pub keys: Vec<Bytes>,
}

wire_struct!(LeaseTimeToLiveResponse { revision, id, ttl, granted_ttl, keys });

/// The answer to [`crate::Operation::LeaseLeases`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaseLeasesResponse {
    /// The store's revision.
    pub revision: i64,
    /// The leases, in the order in which they would expire.
    pub leases: Vec<i64>,
}

wire_struct!(LeaseLeasesResponse { revision, leases });

impl Encode for TxnResponse {
    fn encode(&self, out: &mut Vec<u8>) {
        let Self { revision, succeeded, responses } = self;
        revision.encode(out);
        succeeded.encode(out);
        encode_list(responses, out);
    }
}

impl Decode for TxnResponse {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_at(0, reader)
    }
}

impl TxnResponse {
    fn decode_at(depth: usize, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if depth > NESTING {
            return Err(DecodeError::TooLong(TOO_DEEP));
        }
        let revision = Decode::decode(reader)?;
        let succeeded = Decode::decode(reader)?;
        let responses = decode_list(reader, |reader| ResponseOp::decode_at(depth, reader))?;
        Ok(Self { revision, succeeded, responses })
    }
}

impl Encode for ResponseOp {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Range(range) => encode_tagged(RANGE, range, out),
            Self::Put(put) => encode_tagged(PUT, put, out),
            Self::DeleteRange(delete) => encode_tagged(DELETE_RANGE, delete, out),
            Self::Txn(txn) => encode_tagged(TXN, txn, out),
        }
    }
}

impl ResponseOp {
    fn decode_at(depth: usize, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::decode(reader)? {
            RANGE => Self::Range(Decode::decode(reader)?),
            PUT => Self::Put(Decode::decode(reader)?),
            DELETE_RANGE => Self::DeleteRange(Decode::decode(reader)?),
            TXN => Self::Txn(TxnResponse::decode_at(depth + 1, reader)?),
            _ => return Err(DecodeError::Unknown("response in a transaction")),
        })
    }
}

/// A result in the writing: the encoding of a [`Response`], with stored records taken over as they are.
pub(crate) struct Reply<'a> {
    bytes: Vec<u8>,
    /// Bytes for which there is room for sure.
    granted: usize,
    /// Asked for room for so many bytes more.
    room: &'a mut dyn FnMut(usize) -> bool,
}

/// The room of a result that is ordered: every replica holds it for its client.
pub(crate) fn ordered() -> impl FnMut(usize) -> bool {
    let mut left = RESULT_BYTES;
    move |bytes| {
        let rest = left.checked_sub(bytes);
        left = rest.unwrap_or(left);
        rest.is_some()
    }
}

/// Bytes of an encoded length.
const LENGTH: usize = size_of::<u32>();
/// Bytes after the records of a range: whether there are more, and how many. They are asked for with the records, so
/// that a large answer need not move to grow by these.
const RANGE_END: usize = size_of::<bool>() + size_of::<i64>();

/// Where a revision stands in a reply that is not known until later.
#[derive(Debug)]
pub(crate) struct RevisionMark(usize);

impl<'a> Reply<'a> {
    /// Begins a result, which is refused where `room` says that there is none for so many bytes more.
    pub(crate) const fn new(room: &'a mut dyn FnMut(usize) -> bool) -> Self {
        Self { bytes: Vec::new(), granted: 0, room }
    }

    /// A range's answer, `records` being stored records of which the values are left out if `keys_only`.
    pub(crate) fn range(
        &mut self,
        revision: i64,
        records: &[Bytes],
        keys_only: bool,
        more: bool,
        count: i64,
    ) -> Result<(), Error> {
        self.bytes.push(RANGE);
        revision.encode(&mut self.bytes);
        if keys_only {
            let heads = records.iter().map(|record| crate::layout::without_value(record));
            let bytes = heads.clone().map(|head| head.len() + LENGTH).sum::<usize>();
            self.reserve(LENGTH + bytes + RANGE_END)?;
            encode_length(records.len(), &mut self.bytes);
            for head in heads {
                self.bytes.extend_from_slice(head);
                encode_length(0, &mut self.bytes);
            }
        } else {
            self.records(records, RANGE_END)?;
        }
        more.encode(&mut self.bytes);
        count.encode(&mut self.bytes);
        Ok(())
    }

    /// A put's answer.
    pub(crate) fn put(&mut self, revision: i64, previous: Option<&Bytes>) -> Result<(), Error> {
        self.bytes.push(PUT);
        revision.encode(&mut self.bytes);
        self.bytes.push(u8::from(previous.is_some()));
        if let Some(record) = previous {
            self.reserve(record.len())?;
            self.bytes.extend_from_slice(record);
        }
        Ok(())
    }

    /// A deletion's answer.
    pub(crate) fn delete_range(
        &mut self,
        revision: i64,
        deleted: i64,
        previous: &[Bytes],
    ) -> Result<(), Error> {
        self.bytes.push(DELETE_RANGE);
        revision.encode(&mut self.bytes);
        deleted.encode(&mut self.bytes);
        self.records(previous, 0)
    }

    /// The beginning of a transaction's answer; `responses` answers must follow.
    pub(crate) fn txn(&mut self, succeeded: bool, responses: usize) -> RevisionMark {
        self.bytes.push(TXN);
        let mark = RevisionMark(self.bytes.len());
        0_i64.encode(&mut self.bytes);
        succeeded.encode(&mut self.bytes);
        encode_length(responses, &mut self.bytes);
        mark
    }

    /// Writes the revision that a transaction made, once it is known.
    pub(crate) fn set_revision(&mut self, mark: &RevisionMark, revision: i64) {
        let bytes = revision.to_le_bytes();
        self.bytes[mark.0..mark.0 + bytes.len()].copy_from_slice(&bytes);
    }

    /// An answer that needs no stored records.
    pub(crate) fn whole(&mut self, response: &Response) {
        response.encode(&mut self.bytes);
    }

    /// The finished result.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, Error> {
        self.reserve(0)?;
        Ok(self.bytes)
    }

    /// Records, and room for so many bytes after them.
    fn records(&mut self, records: &[Bytes], after: usize) -> Result<(), Error> {
        let bytes = records.iter().map(|record| record.len()).sum::<usize>();
        self.reserve(LENGTH + bytes + after)?;
        encode_length(records.len(), &mut self.bytes);
        for record in records {
            self.bytes.extend_from_slice(record);
        }
        Ok(())
    }

    /// Makes room for `more` bytes, unless there is none: that must show before anything is copied, or a small request
    /// could make a replica copy its whole store.
    fn reserve(&mut self, more: usize) -> Result<(), Error> {
        let length = self.bytes.len().saturating_add(more);
        if length > self.granted {
            if !(self.room)(length - self.granted) {
                return Err(Error::ResultTooLarge);
            }
            self.granted = length;
        }
        self.bytes.reserve(more);
        Ok(())
    }
}
