//! From etcd's messages to the coordination service's operations, and back.
//!
//! Nothing is judged here. The service's types follow etcd's field by field, and its checks and
//! answers are etcd's.

mod record;
mod request;
mod response;
mod shape;
mod watch;

pub(crate) use record::range_message;
pub(crate) use request::{delete_range, lease_revoke, lease_time_to_live, put, range, txn};
pub(crate) use response::{delete_range_response, lease_response, put_response, txn_response};
pub(crate) use shape::{OPERATION_BYTES, operations};
pub(crate) use watch::{watch_message, watch_request};
