//! `etcdserverpb.KV`: what a request asks for, and what its result answers. What lies between is
//! the same for all.

use bytes::Bytes;
use testudo_kv::Kv;
use testudo_kv::check::{self, request_size};
use testudo_kv::{Operation, RequestOp, Response};
use tonic::Status;

use super::{Patience, Shared, understand};
use crate::budget::Charge;
use crate::cluster::Cluster;
use crate::etcd_error::{refused, stopped, too_many_requests, unreadable_result};
use crate::grpc::{self, ResponseBody};
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, LeaseLeasesRequest, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseStatus,
};
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
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseLeases,
}

impl Method {
    /// The method at a path, if it is one of these.
    pub(crate) fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/etcdserverpb.KV/Range" => Self::Range,
            "/etcdserverpb.KV/Put" => Self::Put,
            "/etcdserverpb.KV/DeleteRange" => Self::DeleteRange,
            "/etcdserverpb.KV/Txn" => Self::Txn,
            "/etcdserverpb.Lease/LeaseRevoke" => Self::LeaseRevoke,
            "/etcdserverpb.Lease/LeaseTimeToLive" => Self::LeaseTimeToLive,
            "/etcdserverpb.Lease/LeaseLeases" => Self::LeaseLeases,
            _ => return None,
        })
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
            Self::LeaseRevoke => {
                Operation::LeaseRevoke(translate::lease_revoke(&grpc::decode(message)?))
            }
            Self::LeaseTimeToLive => {
                Operation::LeaseTimeToLive(translate::lease_time_to_live(&grpc::decode(message)?))
            }
            Self::LeaseLeases => {
                let LeaseLeasesRequest {} = grpc::decode(message)?;
                Operation::LeaseLeases
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
            if let Some(message) = translate::range_message(result, header) {
                let message = message.map_err(|_| unreadable_result())?;
                return grpc::answer_with(message.length(), charge, |out| message.write(out));
            }
        }
        // Taken apart, a large one takes up as much again.
        let _parts = match result.len() {
            0..=grpc::OVERHEAD => None,
            length => Some(charge.account().charge(length).ok_or_else(too_many_requests)?),
        };
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
            (Self::LeaseRevoke, Response::LeaseRevoke(revoked)) => {
                let header = Some(shared.header(revoked.revision));
                grpc::answer(&LeaseRevokeResponse { header }, charge)
            }
            (Self::LeaseTimeToLive, Response::LeaseTimeToLive(lease)) => {
                let header = shared.header(lease.revision);
                grpc::answer(&translate::lease_response(header, lease), charge)
            }
            (Self::LeaseLeases, Response::LeaseLeases(leases)) => {
                let header = Some(shared.header(leases.revision));
                let leases = leases.leases.into_iter().map(|id| LeaseStatus { id }).collect();
                grpc::answer(&LeaseLeasesResponse { header, leases }, charge)
            }
            _ => Err(unreadable_result()),
        }
    }
}

/// Bytes of a compaction, about.
const COMPACTION_BYTES: usize = 16;

/// Forgets history. A client that wants to may wait until nothing of it is left, which the cluster
/// sees to bit by bit.
pub(crate) async fn compact<C: Cluster>(
    shared: &Shared<C>,
    request: &CompactionRequest,
    patience: Patience,
    sweep: Patience,
) -> Result<CompactionResponse, Status> {
    let CompactionRequest { revision, physical } = *request;
    let operation = Operation::Compact(translate::compact(request));
    check::operation(&operation).map_err(refused)?;
    let result = shared.execute(super::encode(&operation, COMPACTION_BYTES), patience).await?;
    let Response::Compact(compacted) = understand(&result)? else {
        return Err(unreadable_result());
    };
    if physical && compacted.swept < revision {
        let mut updates = shared.cluster.updates();
        let swept = updates.wait_for(|copy| {
            copy.as_ref().is_some_and(|copy| Kv::default().swept(&copy.state) >= revision)
        });
        match sweep.wait(swept).await? {
            Ok(_) => {}
            Err(_) => return Err(stopped()),
        }
    }
    Ok(CompactionResponse { header: Some(shared.header(compacted.revision)) })
}
