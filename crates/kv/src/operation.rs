//! What clients ask of the service.
//!
//! The types follow etcd's requests field by field, so that a gateway translates without judging. Numbers that etcd
//! takes as they come stay as they come: an enumeration value that no version knows has an answer too, and that
//! answer is the service's to give. Every operation has one encoding, because it is signed and hashed on its way.

use crate::check::NESTING;
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_core::codec::encode_length;
use testudo_core::{Decode, DecodeError, Encode, Reader, wire_enum, wire_struct, wire_tuple};

/// A key or a value: bytes, shared by whoever holds them.
pub type Bytes = Arc<[u8]>;

/// What [`DecodeError`] says of transactions nested too deeply.
pub(crate) const TOO_DEEP: &str = "nesting of transactions";

/// One operation on the service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Reads keys.
    Range(Range),
    /// Sets one key.
    Put(Put),
    /// Deletes keys.
    DeleteRange(DeleteRange),
    /// Compares, then runs one of two lists of requests, all or nothing.
    Txn(Txn),
    /// Asks about the store as a whole.
    Status,
    /// Forgets history.
    Compact(Compact),
    /// Begins a lease.
    LeaseGrant(LeaseGrant),
    /// Ends a lease and deletes its keys.
    LeaseRevoke(LeaseRevoke),
    /// Lets a lease's time begin anew.
    LeaseKeepAlive(LeaseKeepAlive),
    /// Asks about one lease.
    LeaseTimeToLive(LeaseTimeToLive),
    /// Asks which leases there are.
    LeaseLeases,
}

wire_enum!(Operation {
    0 => Range(range),
    1 => Put(put),
    2 => DeleteRange(delete),
    3 => Txn(txn),
    4 => Status,
    5 => Compact(compact),
    6 => LeaseGrant(grant),
    7 => LeaseRevoke(revoke),
    8 => LeaseKeepAlive(keep_alive),
    9 => LeaseTimeToLive(time_to_live),
    10 => LeaseLeases,
});

impl Operation {
    /// True when the operation cannot change anything, whatever the state: etcd's own rule, by which a transaction is
    /// read-only when both of its branches hold ranges alone.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Range(_) | Self::Status | Self::LeaseTimeToLive(_) | Self::LeaseLeases => true,
            Self::Put(_)
            | Self::DeleteRange(_)
            | Self::Compact(_)
            | Self::LeaseGrant(_)
            | Self::LeaseRevoke(_)
            | Self::LeaseKeepAlive(_) => false,
            Self::Txn(txn) => {
                txn.success.iter().chain(&txn.failure).all(|op| matches!(op, RequestOp::Range(_)))
            }
        }
    }
}

macro_rules! code {
    ($(#[$meta:meta])* $name:ident { $($(#[$item:meta])* $constant:ident = $value:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $name(pub i32);

        impl $name {
            $($(#[$item])* pub const $constant: Self = Self($value);)*

            /// True for the values that etcd gives a meaning.
            #[must_use]
            pub const fn is_known(self) -> bool {
                $(self.0 == $value)||*
            }
        }

        wire_tuple!($name);
    };
}

code!(/// The order of a range's results, by its number in etcd's protocol.
SortOrder {
    /// By key, or ascending when the target is another than the key.
    NONE = 0,
    /// Smallest first.
    ASCEND = 1,
    /// Largest first.
    DESCEND = 2,
});
code!(/// What a range's results are sorted by, by its number in etcd's protocol.
SortTarget {
    /// The key.
    KEY = 0,
    /// How often the key was put since its creation.
    VERSION = 1,
    /// The revision of the key's creation.
    CREATE = 2,
    /// The revision of the key's last put.
    MOD = 3,
    /// The value.
    VALUE = 4,
});
code!(/// The relation that a compare asks for, by its number in etcd's protocol.
Relation {
    /// The key's field equals the operand.
    EQUAL = 0,
    /// The key's field is greater than the operand.
    GREATER = 1,
    /// The key's field is less than the operand.
    LESS = 2,
    /// The key's field differs from the operand.
    NOT_EQUAL = 3,
});
code!(/// The field that a compare looks at, by its number in etcd's protocol.
CompareTarget {
    /// How often the key was put since its creation.
    VERSION = 0,
    /// The revision of the key's creation.
    CREATE = 1,
    /// The revision of the key's last put.
    MOD = 2,
    /// The value.
    VALUE = 3,
    /// The lease that the key hangs on.
    LEASE = 4,
});

/// Reads the keys from `key` up to, not including, `range_end`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// The first key. Empty is an error.
    pub key: Bytes,
    /// Where to stop: empty for `key` alone, a single zero byte for no end.
    pub range_end: Bytes,
    /// How many results at most; zero and less for all.
    pub limit: i64,
    /// The revision to read at; zero and less for the newest.
    pub revision: i64,
    /// The order of results.
    pub sort_order: SortOrder,
    /// What results are sorted by.
    pub sort_target: SortTarget,
    /// Whether one replica's state will do. The gateway acts on it; here it has no meaning.
    pub serializable: bool,
    /// Leave the values out.
    pub keys_only: bool,
    /// Give the count alone.
    pub count_only: bool,
    /// Leave out keys put last before this revision; zero for none.
    pub min_mod_revision: i64,
    /// Leave out keys put last after this revision; zero for none.
    pub max_mod_revision: i64,
    /// Leave out keys created before this revision; zero for none.
    pub min_create_revision: i64,
    /// Leave out keys created after this revision; zero for none.
    pub max_create_revision: i64,
}

wire_struct!(Range {
    key,
    range_end,
    limit,
    revision,
    sort_order,
    sort_target,
    serializable,
    keys_only,
    count_only,
    min_mod_revision,
    max_mod_revision,
    min_create_revision,
    max_create_revision,
});

/// Sets one key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Put {
    /// The key. Empty is an error.
    pub key: Bytes,
    /// Its value; may be empty.
    pub value: Bytes,
    /// The lease to hang the key on; zero for none.
    pub lease: i64,
    /// Give the key as it was before.
    pub prev_kv: bool,
    /// Keep the value that the key has.
    pub ignore_value: bool,
    /// Keep the lease that the key has.
    pub ignore_lease: bool,
}

wire_struct!(Put { key, value, lease, prev_kv, ignore_value, ignore_lease });

/// Deletes the keys from `key` up to, not including, `range_end`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteRange {
    /// The first key. Empty is an error.
    pub key: Bytes,
    /// Where to stop, as in [`Range`].
    pub range_end: Bytes,
    /// Give the keys as they were before.
    pub prev_kv: bool,
}

wire_struct!(DeleteRange { key, range_end, prev_kv });

/// Runs `success` when every compare holds, and `failure` otherwise, all or nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Txn {
    /// What must hold.
    pub compare: Vec<Compare>,
    /// What runs if it does.
    pub success: Vec<RequestOp>,
    /// What runs if it does not.
    pub failure: Vec<RequestOp>,
}

/// One request inside a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestOp {
    /// A request of no kind. etcd has an answer for it, so it can be asked.
    None,
    /// Reads keys.
    Range(Range),
    /// Sets one key.
    Put(Put),
    /// Deletes keys.
    DeleteRange(DeleteRange),
    /// A transaction inside the transaction.
    Txn(Txn),
}

/// A condition on one key, or on each key of a range.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Compare {
    /// The relation asked for. One that etcd does not know always holds.
    pub relation: Relation,
    /// The field looked at. One that etcd does not know counts as equal.
    pub target: CompareTarget,
    /// The first key. Empty is an error.
    pub key: Bytes,
    /// Where to stop, as in [`Range`].
    pub range_end: Bytes,
    /// What the field is held against.
    pub operand: Operand,
}

wire_struct!(Compare { relation, target, key, range_end, operand });

/// What a compare holds its field against. One that does not fit the compare's target counts as zero, or as the empty
/// value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Operand {
    /// Nothing was given.
    #[default]
    None,
    /// A version.
    Version(i64),
    /// A revision of creation.
    Create(i64),
    /// A revision of the last put.
    Mod(i64),
    /// A value.
    Value(Bytes),
    /// A lease.
    Lease(i64),
}

wire_enum!(Operand {
    0 => None,
    1 => Version(version),
    2 => Create(revision),
    3 => Mod(revision),
    4 => Value(value),
    5 => Lease(lease),
});

/// Forgets the history before a revision, which itself can still be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Compact {
    /// The revision.
    pub revision: i64,
    /// Whether the client waits until nothing is left of what is forgotten. The gateway acts on it
    /// ([`crate::Kv::swept`]); here it has no meaning.
    pub physical: bool,
}

wire_struct!(Compact { revision, physical });

/// Begins a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeaseGrant {
    /// Its number. A client that leaves it to etcd gives zero; its gateway then chooses one before it has the request
    /// ordered, because the service knows no chance. So zero is an error here.
    pub id: i64,
    /// For how many seconds it lives unless it is kept alive. Less than [`crate::MIN_TTL`] is raised to that, more than
    /// [`crate::MAX_TTL`] is an error.
    pub ttl: i64,
}

wire_struct!(LeaseGrant { id, ttl });

/// Ends a lease and deletes its keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeaseRevoke {
    /// The lease.
    pub id: i64,
}

wire_struct!(LeaseRevoke { id });

/// Lets a lease's time begin anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeaseKeepAlive {
    /// The lease.
    pub id: i64,
}

wire_struct!(LeaseKeepAlive { id });

/// Asks about one lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeaseTimeToLive {
    /// The lease.
    pub id: i64,
    /// Whether its keys are asked for, too.
    pub keys: bool,
}

wire_struct!(LeaseTimeToLive { id, keys });

// A transaction may hold transactions. Decoding counts how deep it is and refuses before it goes deeper than allowed,
// so that no input can exhaust the stack; the macros have no place for that count.

impl Encode for Txn {
    fn encode(&self, out: &mut Vec<u8>) {
        let Self { compare, success, failure } = self;
        compare.encode(out);
        success.encode(out);
        failure.encode(out);
    }
}

impl Decode for Txn {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_at(0, reader)
    }
}

impl Txn {
    fn decode_at(depth: usize, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if depth > NESTING {
            return Err(DecodeError::TooLong(TOO_DEEP));
        }
        let compare = Decode::decode(reader)?;
        let success = decode_list(reader, |reader| RequestOp::decode_at(depth, reader))?;
        let failure = decode_list(reader, |reader| RequestOp::decode_at(depth, reader))?;
        Ok(Self { compare, success, failure })
    }
}

impl Encode for RequestOp {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.push(0),
            Self::Range(range) => encode_tagged(1, range, out),
            Self::Put(put) => encode_tagged(2, put, out),
            Self::DeleteRange(delete) => encode_tagged(3, delete, out),
            Self::Txn(txn) => encode_tagged(4, txn, out),
        }
    }
}

impl RequestOp {
    fn decode_at(depth: usize, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::decode(reader)? {
            0 => Self::None,
            1 => Self::Range(Decode::decode(reader)?),
            2 => Self::Put(Decode::decode(reader)?),
            3 => Self::DeleteRange(Decode::decode(reader)?),
            4 => Self::Txn(Txn::decode_at(depth + 1, reader)?),
            _ => return Err(DecodeError::Unknown("request in a transaction")),
        })
    }
}

/// Appends a tag and what it announces.
pub(crate) fn encode_tagged(tag: u8, value: &impl Encode, out: &mut Vec<u8>) {
    out.push(tag);
    value.encode(out);
}

/// Reads a list whose items need to know more than the reader.
pub(crate) fn decode_list<T>(
    reader: &mut Reader<'_>,
    mut item: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let length = reader.length()?;
    let mut items = Vec::new();
    for _ in 0..length {
        items.push(item(reader)?);
    }
    Ok(items)
}

/// Appends a list with its length before it.
pub(crate) fn encode_list<T: Encode>(items: &[T], out: &mut Vec<u8>) {
    encode_length(items.len(), out);
    items.iter().for_each(|item| item.encode(out));
}
