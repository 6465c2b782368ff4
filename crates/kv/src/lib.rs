//! The coordination service: etcd's data model and exact answers, as a deterministic service.
//!
//! Keys and values are bytes. Each request that changes something makes one *revision*: a put; a deletion of at least
//! one key; a transaction with at least one change, however many it has. The first revision, that of the empty store,
//! is 1. A key bears the revision that created it, the revision that put it last, and its version, which counts its
//! puts since its creation. A range may be read at any revision that is not compacted, and reads what it would have read
//! then; and a watch may begin at any such revision, and sees what was changed since.
//!
//! # How an operation runs
//!
//! [`Kv`] has no state of its own; all lies in the [`Store`] that it is handed, laid out as [`layout`] says.
//!
//! 1. The bytes are decoded ([`operation`]) and checked by themselves ([`check`]). A gateway has done so already, but
//!    the service trusts none.
//! 2. The operation runs against a draft of the revision that it may make ([`draft`]): it reads the store through the
//!    draft, writes into the draft, and writes its answer as it goes. Reading is [`range`], writing is [`put`], and
//!    [`txn`] first judges all compares, then checks all that could fail, then runs.
//! 3. If everything has succeeded, the draft's changes are written to the store. Otherwise the draft is dropped, and
//!    with it every trace.
//!
//! So a put costs two gets (meta entry, current record) and three puts (current record, change, meta entry), and a
//! fourth where the key exists already, to file what it was. A range's answer is made of stored records as they lie.
//!
//! # What happens by itself
//!
//! At the beginning of each slot, before its operations, the service is told of the time that has passed
//! ([`Service::advance`]). Then leases expire ([`lease`]), and history is forgotten ([`compaction`]): a compaction, by a
//! client or by the settings, takes effect at once and is swept afterwards. All this is bounded in each slot, and while
//! something is left to do, or will be when its time comes, the service asks for a slot even if nobody else does
//! ([`Service::due`]). So all replicas do the same at the same place in the order, idle or busy.
//!
//! # What a store is to be like
//!
//! [`Settings`] are written when the store begins, and are part of its state: a quota, and how history is compacted
//! without anyone's asking. While there is more than the quota, whatever makes the store grow is refused, and nothing
//! else; deletions, compactions and the ends of leases go on, and once sweeps have freed enough, so does the rest.
//!
//! # Reading elsewhere
//!
//! Whoever has a copy of the store reads it without having anything ordered: [`Kv::read`] answers what only reads,
//! [`changes`] and [`record_before`] tell what happened, and [`watch`] tells it to many at once.
//!
//! # What is not here
//!
//! Users, and what they may do.
//!
//! # What is limited
//!
//! Requests to [`check::REQUEST_BYTES`], transactions to [`check::TXN_OPERATIONS`] and [`check::NESTING`], results that
//! are ordered, and what is said of leases, to [`testudo_core::limits::RESULT_BYTES`], what is read elsewhere to what its
//! reader has room for, what one operation looks at to [`WORK`], the store to [`Settings::quota`],
//! leases from [`MIN_TTL`] to [`MAX_TTL`], and what one slot does by itself to [`lease::EXPIRED_LEASES`],
//! [`lease::EXPIRED_KEYS`] and [`compaction::SWEPT_CHANGES`]. These decide answers and states, so they are part of
//! [`Service::VERSION`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod audit;
pub mod check;
mod compaction;
mod draft;
mod error;
mod history;
mod layout;
mod lease;
mod operation;
mod put;
mod range;
mod response;
mod settings;
mod txn;
pub mod watch;

pub use draft::WORK;
pub use error::Error;
pub use history::{Change, changes, record_before};
pub use lease::{LONGEST_STRETCH, MAX_TTL, MIN_TTL, SLACK};
pub use operation::{
    Bytes, Compact, Compare, CompareTarget, DeleteRange, LeaseGrant, LeaseKeepAlive, LeaseRevoke,
    LeaseTimeToLive, Operand, Operation, Put, Range, Relation, RequestOp, SortOrder, SortTarget,
    Txn,
};
pub use response::{
    CompactResponse, DeleteRangeResponse, KeyValue, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse, PutResponse, RangeResponse,
    Response, ResponseOp, StatusResponse, TxnResponse,
};
pub use settings::{AutoCompaction, Settings};

use alloc::vec::Vec;
use draft::{Changes, Draft};
use layout::{Ledger, Meta};
use response::Reply;
use testudo_contracts::{Moment, Reading, Service, Store};
use testudo_core::limits::OPERATION_BYTES;
use testudo_core::{Decode, DecodeError, Encode, Time};

/// The coordination service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kv {
    /// What the store that this service writes at the beginning is to be like. A store that has begun knows it itself,
    /// whatever stands here.
    pub settings: Settings,
}

impl Service for Kv {
    const VERSION: u32 = 3;

    fn genesis(&self, store: &mut dyn Store) {
        Meta::genesis(self.settings).write(store);
    }

    fn execute(&self, store: &mut dyn Store, operation: &[u8], moment: &Moment) -> Vec<u8> {
        let meta = Meta::read(store);
        let run = decode(operation).and_then(|operation| {
            run(store, meta, &operation, (moment.time, 0), &mut response::ordered())
        });
        match run {
            Ok((reply, changes)) => {
                let mut ledger = Ledger::new(store, meta);
                changes.write(&mut ledger);
                ledger.finish();
                reply
            }
            Err(error) => refusal(error),
        }
    }

    fn advance(&self, store: &mut dyn Store, moment: &Moment) -> Vec<u8> {
        let meta = Meta::read(store);
        let mut ledger = Ledger::new(store, meta);
        let meta = &mut ledger.meta;
        meta.clock = meta.clock.saturating_add(moment.elapsed);
        meta.time = meta.time.max(moment.time);
        let before = *meta;
        lease::expire(&mut ledger);
        compaction::compact_by_itself(&mut ledger);
        compaction::sweep(&mut ledger);
        let after = ledger.meta;
        ledger.finish();
        // The meta entry counts all that can have happened. Time's passing is no event.
        if after == before { Vec::new() } else { after.to_bytes() }
    }

    fn due(&self, store: &dyn Reading) -> Option<u64> {
        let meta = Meta::read(store);
        let due = [lease::due(store, &meta), compaction::due(store, &meta)];
        let first = due.into_iter().flatten().min()?;
        Some(if first == 0 { 0 } else { first.max(PATIENCE) })
    }

    fn internal_error(&self) -> Vec<u8> {
        refusal(Error::Internal)
    }

    fn too_large(&self) -> Vec<u8> {
        refusal(Error::ResultTooLarge)
    }
}

/// Milliseconds that pass before a slot is ordered for what is not due yet: much falls due meanwhile, and goes in one.
const PATIENCE: u64 = 100;

impl Kv {
    /// The service whose stores begin with these settings.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Answers an operation that [is read-only](Operation::is_read_only) from a store that cannot be changed: a
    /// snapshot, or a learner's copy. The answer is that of [`Service::execute`], but for `moment`, which is here what
    /// the reader's own clock says: agreed time as it should be by now, and the time that has passed since the slot
    /// executed last. None if the operation is not read-only.
    #[must_use]
    pub fn read(
        &self,
        store: &dyn Reading,
        operation: &Operation,
        moment: &Moment,
    ) -> Option<Vec<u8>> {
        self.read_within(store, operation, moment, &mut response::ordered())
    }

    /// Answers like [`Kv::read`], as largely as its reader has room for. Every replica holds an ordered result, so that
    /// has a limit; what a read may take up is for whoever reads to say: `room` is asked for so many bytes more before
    /// they are written, and where it says no the answer is [`Error::ResultTooLarge`].
    #[must_use]
    pub fn read_within(
        &self,
        store: &dyn Reading,
        operation: &Operation,
        moment: &Moment,
        room: &mut dyn FnMut(usize) -> bool,
    ) -> Option<Vec<u8>> {
        operation.is_read_only().then(|| {
            let now = (moment.time, moment.elapsed);
            match run(store, Meta::read(store), operation, now, room) {
                Ok((reply, _)) => reply,
                Err(error) => refusal(error),
            }
        })
    }

    /// The store's revision.
    #[must_use]
    pub fn revision(&self, store: &dyn Reading) -> i64 {
        Meta::read(store).revision
    }

    /// The oldest revision that can be read or watched; −1 if nothing was ever compacted.
    #[must_use]
    pub fn compacted(&self, store: &dyn Reading) -> i64 {
        Meta::read(store).compacted
    }

    /// The revision before which nothing is left of history. Who waits for a compaction to be physical waits until
    /// this has reached the compaction's revision.
    #[must_use]
    pub fn swept(&self, store: &dyn Reading) -> i64 {
        Meta::read(store).swept
    }

    /// Whether the store holds more than its quota, so that growth is refused: etcd's alarm `NOSPACE`. It ends by
    /// itself when there is less again.
    #[must_use]
    pub fn alarm(&self, store: &dyn Reading) -> bool {
        Meta::read(store).is_full()
    }

    /// What there is to say of the store as a whole; `time` is agreed time.
    #[must_use]
    pub fn status(&self, store: &dyn Reading, time: Time) -> StatusResponse {
        status(&Meta::read(store), time)
    }

    /// Checks all of the store against itself. It visits everything: for tests and simulators.
    ///
    /// # Panics
    /// When the state is not one that this service can have written.
    pub fn audit(&self, store: &dyn Reading) {
        audit::audit(store);
    }
}

fn refusal(error: Error) -> Vec<u8> {
    Response::Error(error).to_bytes()
}

fn status(meta: &Meta, time: Time) -> StatusResponse {
    let Meta { revision, compacted, swept, keys, bytes, settings, .. } = *meta;
    let (quota, alarm) = (settings.quota, meta.is_full());
    StatusResponse { revision, compacted, swept, keys, bytes, quota, alarm, time }
}

fn decode(bytes: &[u8]) -> Result<Operation, Error> {
    if bytes.len() > OPERATION_BYTES {
        return Err(Error::RequestTooLarge);
    }
    Operation::from_bytes(bytes).map_err(|error| match error {
        DecodeError::TooLong(operation::TOO_DEEP) => Error::TooManyOperations,
        _ => Error::Undecodable,
    })
}

/// Runs an operation as far as it goes without touching the store: its result, for whose bytes `room` is asked, and what
/// is left to write. `meta` is the store's; `since` is how long ago, in milliseconds, its lease clock was set.
fn run(
    store: &dyn Reading,
    meta: Meta,
    operation: &Operation,
    (time, since): (Time, u64),
    room: &mut dyn FnMut(usize) -> bool,
) -> Result<(Vec<u8>, Changes), Error> {
    check::operation(operation)?;
    if meta.is_full() && check::grows(operation) {
        return Err(Error::NoSpace);
    }
    let mut draft = Draft::new(store, meta);
    let mut reply = Reply::new(room);
    match operation {
        Operation::Range(range) => range::answer(range, &draft, &mut reply)?,
        Operation::Put(put) => put::apply(put, &mut draft, &mut reply)?,
        Operation::DeleteRange(delete) => put::delete_range(delete, &mut draft, &mut reply)?,
        Operation::Txn(txn) => txn::run(txn, &mut draft, &mut reply)?,
        Operation::Status => reply.whole(&Response::Status(status(&meta, time))),
        Operation::Compact(request) => {
            reply.whole(&Response::Compact(compaction::compact(request, &mut draft)?));
        }
        Operation::LeaseGrant(request) => {
            reply.whole(&Response::LeaseGrant(lease::grant(request, &mut draft)?));
        }
        Operation::LeaseRevoke(request) => {
            reply.whole(&Response::LeaseRevoke(lease::revoke(request.id, &mut draft)?));
        }
        Operation::LeaseKeepAlive(request) => {
            reply.whole(&Response::LeaseKeepAlive(lease::keep_alive(request, &mut draft)));
        }
        Operation::LeaseTimeToLive(request) => {
            let answer = lease::time_to_live(request, &draft, since)?;
            reply.whole(&Response::LeaseTimeToLive(answer));
        }
        Operation::LeaseLeases => {
            reply.whole(&Response::LeaseLeases(lease::leases(&draft)?));
        }
    }
    Ok((reply.finish()?, draft.finish()))
}
