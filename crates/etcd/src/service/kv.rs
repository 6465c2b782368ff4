//! `etcdserverpb.KV`: what a request asks for, and what its result answers. What lies between is
//! the same for all.

use bytes::Bytes;
use testudo_kv::check::{self, request_size};
use testudo_kv::{Operation, RequestOp, Response};
use tonic::Status;

use super::{Shared, understand};
use crate::budget::Charge;
use crate::cluster::Cluster;
use crate::etcd_error::{refused, too_many_requests, unreadable_result};
use crate::grpc::{self, ResponseBody};
use crate::translate;

/// What an operation's answer must rest on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Consistency {
    /// It may change something.
    Ordered,
    /// Everything acknowledged before it came.
    Linearizable,
    /// Whatever the gateway has.
    Serializable,
}

impl Consistency {
    /// A transaction is serializable when all its ranges are, as etcd judges it.
    pub(crate) fn of(operation: &Operation) -> Self {
        let is_serializable = match operation {
            _ if !operation.is_read_only() => return Self::Ordered,
            Operation::Range(range) => range.serializable,
            Operation::Txn(txn) => txn
                .success
                .iter()
                .chain(&txn.failure)
                .all(|op| matches!(op, RequestOp::Range(range) if range.serializable)),
            _ => false,
        };
        if is_serializable { Self::Serializable } else { Self::Linearizable }
    }
}

/// The methods that are one operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method {
    Range,
    Put,
    DeleteRange,
    Txn,
}

impl Method {
    /// The method at a path, if it is one of these.
    pub(crate) fn at(path: &str) -> Option<Self> {
        match path.strip_prefix("/etcdserverpb.KV/")? {
            "Range" => Some(Self::Range),
            "Put" => Some(Self::Put),
            "DeleteRange" => Some(Self::DeleteRange),
            "Txn" => Some(Self::Txn),
            _ => None,
        }
    }

    /// The operation that a message asks for, checked by itself.
    pub(crate) fn operation(
        self,
        message: Bytes,
        charge: &mut Charge,
    ) -> Result<Operation, Status> {
        let size = message.len();
        let operation = match self {
            Self::Range => Operation::Range(translate::range(&grpc::decode(message)?)),
            Self::Put => Operation::Put(translate::put(&grpc::decode(message)?)),
            Self::DeleteRange => {
                Operation::DeleteRange(translate::delete_range(&grpc::decode(message)?))
            }
            Self::Txn => {
                let operations = translate::operations(&message).map_err(refused)?;
                let bytes = operations.saturating_mul(translate::OPERATION_BYTES);
                charge.extend(bytes).ok_or_else(too_many_requests)?;
                Operation::Txn(translate::txn(&grpc::decode(message)?))
            }
        };
        check::operation(&operation).map_err(refused)?;
        // A message that may change something has a limit of its own, which comes last.
        if !operation.is_read_only() {
            request_size(size).map_err(refused)?;
        }
        Ok(operation)
    }

    /// The answer that a result makes.
    pub(crate) fn answer<C: Cluster>(
        self,
        shared: &Shared<C>,
        result: &[u8],
        charge: Charge,
    ) -> Result<http::Response<ResponseBody>, Status> {
        if self == Self::Range {
            let header = |revision| shared.header(revision);
            if let Some(message) = translate::range_message(result, header, grpc::frame) {
                return grpc::answer_framed(message.map_err(|_| unreadable_result())?, charge);
            }
        }
        match (self, understand(result)?) {
            (Self::Put, Response::Put(put)) => {
                let header = shared.header(put.revision);
                grpc::answer(&translate::put_response(header, put), charge)
            }
            (Self::DeleteRange, Response::DeleteRange(delete)) => {
                let header = shared.header(delete.revision);
                grpc::answer(&translate::delete_range_response(header, delete), charge)
            }
            (Self::Txn, Response::Txn(txn)) => {
                let header = shared.header(txn.revision);
                grpc::answer(&translate::txn_response(header, txn), charge)
            }
            _ => Err(unreadable_result()),
        }
    }
}
