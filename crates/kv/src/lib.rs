//! The coordination service: etcd's data model and exact answers, as a deterministic service.
//!
//! Keys and values are bytes. Each request that changes something makes one *revision*: a put; a deletion of at least
//! one key; a transaction with at least one change, however many it has. The first revision, that of the empty store,
//! is 1. A key bears the revision that created it, the revision that put it last, and its version, which counts its
//! puts since its creation. Nothing is forgotten: a range may be read at any revision, and reads what it would have
//! read then.
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
//! # What is here
//!
//! Ranges, puts, deletions, transactions and the status. Leases, compaction, watches and users are not: no lease
//! exists, so a put on one answers that it is not found.
//!
//! # What is limited
//!
//! Requests to [`check::REQUEST_BYTES`], transactions to [`check::TXN_OPERATIONS`] and [`check::NESTING`], answers to
//! [`testudo_core::limits::RESULT_BYTES`], and what one operation looks at to [`WORK`]. These decide answers, so they
//! are part of [`Service::VERSION`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod audit;
pub mod check;
mod draft;
mod error;
mod history;
mod layout;
mod operation;
mod put;
mod range;
mod response;
mod txn;
pub mod watch;

pub use draft::WORK;
pub use error::Error;
pub use history::{Change, changes, record_before};
pub use operation::{
    Bytes, Compare, CompareTarget, DeleteRange, Operand, Operation, Put, Range, Relation,
    RequestOp, SortOrder, SortTarget, Txn,
};
pub use response::{
    DeleteRangeResponse, KeyValue, PutResponse, RangeResponse, Response, ResponseOp,
    StatusResponse, TxnResponse,
};

use alloc::vec::Vec;
use draft::{Changes, Draft};
use layout::Meta;
use response::Reply;
use testudo_contracts::{Moment, Reading, Service, Store};
use testudo_core::limits::OPERATION_BYTES;
use testudo_core::{Decode, DecodeError, Encode};

/// The coordination service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kv;

impl Service for Kv {
    const VERSION: u32 = 1;

    fn genesis(&self, store: &mut dyn Store) {
        Meta::GENESIS.write(store);
    }

    fn execute(&self, store: &mut dyn Store, operation: &[u8], moment: &Moment) -> Vec<u8> {
        let run = decode(operation).and_then(|operation| run(store, &operation, moment));
        match run {
            Ok((reply, changes)) => {
                changes.write(store);
                reply
            }
            Err(error) => refusal(error),
        }
    }

    fn internal_error(&self) -> Vec<u8> {
        refusal(Error::Internal)
    }

    fn too_large(&self) -> Vec<u8> {
        refusal(Error::ResultTooLarge)
    }
}

impl Kv {
    /// Answers an operation that [is read-only](Operation::is_read_only), exactly as [`Service::execute`] would, from a
    /// store that cannot be changed: a snapshot, or a learner's copy. None if the operation is not read-only.
    #[must_use]
    pub fn read(
        &self,
        store: &dyn Reading,
        operation: &Operation,
        moment: &Moment,
    ) -> Option<Vec<u8>> {
        operation.is_read_only().then(|| match run(store, operation, moment) {
            Ok((reply, _)) => reply,
            Err(error) => refusal(error),
        })
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

fn decode(bytes: &[u8]) -> Result<Operation, Error> {
    if bytes.len() > OPERATION_BYTES {
        return Err(Error::RequestTooLarge);
    }
    Operation::from_bytes(bytes).map_err(|error| match error {
        DecodeError::TooLong(operation::TOO_DEEP) => Error::TooManyOperations,
        _ => Error::Undecodable,
    })
}

/// Runs an operation as far as it goes without touching the store: its result, and what is left to write.
fn run(
    store: &dyn Reading,
    operation: &Operation,
    moment: &Moment,
) -> Result<(Vec<u8>, Changes), Error> {
    check::operation(operation)?;
    let mut draft = Draft::new(store);
    let mut reply = Reply::default();
    match operation {
        Operation::Range(range) => range::answer(range, &draft, &mut reply)?,
        Operation::Put(put) => put::apply(put, &mut draft, &mut reply)?,
        Operation::DeleteRange(delete) => put::delete_range(delete, &mut draft, &mut reply)?,
        Operation::Txn(txn) => txn::run(txn, &mut draft, &mut reply)?,
        Operation::Status => {
            let Meta { revision, keys, bytes, .. } = *draft.meta();
            let status = StatusResponse { revision, keys, bytes, time: moment.time };
            return Ok((Response::Status(status).to_bytes(), draft.finish()));
        }
    }
    Ok((reply.finish()?, draft.finish()))
}
