//! `etcdserverpb.KV`.

use testudo_kv::check::request_size;
use testudo_kv::{Operation, Response};
use tonic::Status;

use super::{Patience, Shared};
use crate::etcd_error::{refused, unreadable_result};
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    TxnRequest, TxnResponse,
};
use crate::submit::Submit;
use crate::translate;

pub(crate) async fn range<S: Submit>(
    shared: &Shared<S>,
    request: &RangeRequest,
    patience: Patience,
) -> Result<RangeResponse, Status> {
    let operation = Operation::Range(translate::range(request));
    match shared.execute(&operation, patience).await? {
        Response::Range(range) => {
            Ok(translate::range_response(shared.header(range.revision), range))
        }
        _ => Err(unreadable_result()),
    }
}

pub(crate) async fn put<S: Submit>(
    shared: &Shared<S>,
    request: &PutRequest,
    size: usize,
    patience: Patience,
) -> Result<PutResponse, Status> {
    let operation = Operation::Put(translate::put(request));
    match write(shared, &operation, size, patience).await? {
        Response::Put(put) => Ok(translate::put_response(shared.header(put.revision), put)),
        _ => Err(unreadable_result()),
    }
}

pub(crate) async fn delete_range<S: Submit>(
    shared: &Shared<S>,
    request: &DeleteRangeRequest,
    size: usize,
    patience: Patience,
) -> Result<DeleteRangeResponse, Status> {
    let operation = Operation::DeleteRange(translate::delete_range(request));
    match write(shared, &operation, size, patience).await? {
        Response::DeleteRange(delete) => {
            Ok(translate::delete_range_response(shared.header(delete.revision), delete))
        }
        _ => Err(unreadable_result()),
    }
}

pub(crate) async fn txn<S: Submit>(
    shared: &Shared<S>,
    request: &TxnRequest,
    size: usize,
    patience: Patience,
) -> Result<TxnResponse, Status> {
    let operation = Operation::Txn(translate::txn(request));
    match write(shared, &operation, size, patience).await? {
        Response::Txn(txn) => Ok(translate::txn_response(shared.header(txn.revision), txn)),
        _ => Err(unreadable_result()),
    }
}

/// Executes an operation that may change something: its message has a limit of its own, which etcd
/// looks at after everything else.
async fn write<S: Submit>(
    shared: &Shared<S>,
    operation: &Operation,
    size: usize,
    patience: Patience,
) -> Result<Response, Status> {
    if !operation.is_read_only() && request_size(size).is_err() {
        testudo_kv::check::operation(operation).and(request_size(size)).map_err(refused)?;
    }
    shared.execute(operation, patience).await
}
