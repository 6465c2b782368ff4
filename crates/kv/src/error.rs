//! Why an operation was refused: etcd's own codes and texts, which its clients match byte for byte.

use core::fmt;
use testudo_core::wire_enum;

/// Why an operation was refused. It then changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// A key, or a compare's key, is empty.
    EmptyKey,
    /// `ignore_value` or `ignore_lease` for a key that does not exist; a request of no kind in a transaction.
    KeyNotFound,
    /// A value beside `ignore_value`.
    ValueProvided,
    /// A lease beside `ignore_lease`.
    LeaseProvided,
    /// More compares or requests than a transaction may hold, or transactions nested too deeply.
    TooManyOperations,
    /// A transaction that puts a key twice, or puts a key that it deletes.
    DuplicateKey,
    /// A sort order or target that does not exist.
    InvalidSortOption,
    /// More bytes than one request may have.
    RequestTooLarge,
    /// A read at a revision that compaction has dropped.
    Compacted,
    /// A read at a revision that does not exist yet.
    FutureRevision,
    /// A put on a lease that does not exist, or the end of one.
    LeaseNotFound,
    /// The result would be larger than one reply may be: [`testudo_core::limits::RESULT_BYTES`] if it is ordered, and
    /// otherwise what its reader has room for ([`crate::Kv::read_within`]).
    ResultTooLarge,
    /// More keys and versions to look at than one operation may ([`crate::WORK`]).
    TooMuchWork,
    /// Bytes that are no operation of this version.
    Undecodable,
    /// The operation panicked and was undone.
    Internal,
    /// A lease whose number another one has.
    LeaseExists,
    /// A lease for longer than there may be one ([`crate::MAX_TTL`]).
    LeaseTtlTooLarge,
    /// A lease without a number: its gateway should have chosen one.
    LeaseWithoutId,
    /// Something that makes the store grow, while it holds more than its quota.
    NoSpace,
}

wire_enum!(Error {
    0 => EmptyKey,
    1 => KeyNotFound,
    2 => ValueProvided,
    3 => LeaseProvided,
    4 => TooManyOperations,
    5 => DuplicateKey,
    6 => InvalidSortOption,
    7 => RequestTooLarge,
    8 => Compacted,
    9 => FutureRevision,
    10 => LeaseNotFound,
    11 => ResultTooLarge,
    12 => TooMuchWork,
    13 => Undecodable,
    14 => Internal,
    15 => LeaseExists,
    16 => LeaseTtlTooLarge,
    17 => LeaseWithoutId,
    18 => NoSpace,
});

/// gRPC's `INVALID_ARGUMENT`.
const INVALID_ARGUMENT: u8 = 3;
/// gRPC's `NOT_FOUND`.
const NOT_FOUND: u8 = 5;
/// gRPC's `RESOURCE_EXHAUSTED`.
const RESOURCE_EXHAUSTED: u8 = 8;
/// gRPC's `FAILED_PRECONDITION`.
const FAILED_PRECONDITION: u8 = 9;
/// gRPC's `OUT_OF_RANGE`.
const OUT_OF_RANGE: u8 = 11;
/// gRPC's `INTERNAL`.
const INTERNAL: u8 = 13;

impl Error {
    /// Every error there is.
    pub const ALL: [Self; 19] = [
        Self::EmptyKey,
        Self::KeyNotFound,
        Self::ValueProvided,
        Self::LeaseProvided,
        Self::TooManyOperations,
        Self::DuplicateKey,
        Self::InvalidSortOption,
        Self::RequestTooLarge,
        Self::Compacted,
        Self::FutureRevision,
        Self::LeaseNotFound,
        Self::ResultTooLarge,
        Self::TooMuchWork,
        Self::Undecodable,
        Self::Internal,
        Self::LeaseExists,
        Self::LeaseTtlTooLarge,
        Self::LeaseWithoutId,
        Self::NoSpace,
    ];

    /// The number of the gRPC status that etcd answers with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::EmptyKey
            | Self::KeyNotFound
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOperations
            | Self::DuplicateKey
            | Self::InvalidSortOption
            | Self::RequestTooLarge
            | Self::LeaseWithoutId
            | Self::Undecodable => INVALID_ARGUMENT,
            Self::LeaseNotFound => NOT_FOUND,
            Self::ResultTooLarge | Self::TooMuchWork | Self::NoSpace => RESOURCE_EXHAUSTED,
            Self::LeaseExists => FAILED_PRECONDITION,
            Self::Compacted | Self::FutureRevision | Self::LeaseTtlTooLarge => OUT_OF_RANGE,
            Self::Internal => INTERNAL,
        }
    }

    /// The text that etcd answers with; for what etcd does not know, our own.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::EmptyKey => "etcdserver: key is not provided",
            Self::KeyNotFound => "etcdserver: key not found",
            Self::ValueProvided => "etcdserver: value is provided",
            Self::LeaseProvided => "etcdserver: lease is provided",
            Self::TooManyOperations => "etcdserver: too many operations in txn request",
            Self::DuplicateKey => "etcdserver: duplicate key given in txn request",
            Self::InvalidSortOption => "etcdserver: invalid sort option",
            Self::RequestTooLarge => "etcdserver: request is too large",
            Self::Compacted => "etcdserver: mvcc: required revision has been compacted",
            Self::FutureRevision => "etcdserver: mvcc: required revision is a future revision",
            Self::LeaseNotFound => "etcdserver: requested lease not found",
            Self::LeaseExists => "etcdserver: lease already exists",
            Self::LeaseTtlTooLarge => "etcdserver: too large lease TTL",
            Self::NoSpace => "etcdserver: mvcc: database space exceeded",
            Self::LeaseWithoutId => "testudo: the lease has no number",
            Self::ResultTooLarge => {
                "testudo: the result is larger than one reply may be; ask for less with limit, keys_only or a \
                 narrower range"
            }
            Self::TooMuchWork => {
                "testudo: the request looks at more keys and versions than one request may; ask for narrower ranges"
            }
            Self::Undecodable => "testudo: the operation cannot be decoded",
            Self::Internal => "testudo: the operation failed inside the service and was undone",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Error {}
