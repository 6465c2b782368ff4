//! What etcd says when something cannot be done. Clients compare these texts byte for byte.

use testudo_kv::Error;
use tonic::{Code, Status};

use crate::cluster::SubmitError;

/// No quorum answered in time.
pub(crate) fn timed_out() -> Status {
    Status::unavailable("etcdserver: request timed out")
}

/// No quorum answers, and the client would rather fail than wait.
pub(crate) fn no_leader() -> Status {
    Status::unavailable("etcdserver: no leader")
}

/// The gateway is stopping.
pub(crate) fn stopped() -> Status {
    Status::unavailable("etcdserver: server stopped")
}

/// The client's own deadline has passed.
pub(crate) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// The budget is spent.
pub(crate) fn too_many_requests() -> Status {
    Status::resource_exhausted("etcdserver: too many requests")
}

/// A method that etcd has and the gateway has not yet.
pub(crate) fn not_implemented(service: &str, method: &str) -> Status {
    Status::unimplemented(format!("testudo: {service}/{method} is not implemented yet"))
}

/// The cluster's result is not what the operation asked for. A quorum vouches for results, so this
/// is a gateway of another version than the service.
pub(crate) fn unreadable_result() -> Status {
    Status::internal("testudo: the gateway cannot read the cluster's result")
}

/// The coordination service refused.
pub(crate) fn refused(error: Error) -> Status {
    Status::new(Code::from_i32(i32::from(error.code())), error.text())
}

/// The cluster gave no result.
///
/// What may have been executed is answered like a timeout: the text after which etcd's clients
/// repeat reads and never writes.
pub(crate) fn not_executed(error: SubmitError) -> Status {
    match error {
        SubmitError::Unavailable | SubmitError::Unknown => timed_out(),
        SubmitError::NotReady => Status::unavailable("etcdserver: unhealthy cluster"),
        SubmitError::NotAdmitted => {
            Status::unavailable("testudo: the cluster does not admit this gateway")
        }
        SubmitError::TooLarge => refused(Error::RequestTooLarge),
        SubmitError::Overloaded => too_many_requests(),
        SubmitError::Stopped => stopped(),
    }
}
