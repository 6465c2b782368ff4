//! The gateway that makes a Testudo cluster look like etcd: the v3 gRPC services, and what etcd
//! answers to plain HTTP, on one port.
//!
//! It stands on the client's side of the trust boundary and holds nothing that the cluster relies
//! on: whoever runs it, or breaks into it, can do what its users may do and no more. What it keeps is
//! a copy of the state that it has executed itself, so any number of gateways may stand in front of
//! one cluster.
//!
//! # The way of a request
//!
//! 1. `gateway` accepts a connection, looks at its first bytes, and speaks HTTP/2 or HTTP/1.1.
//! 2. `route` finds the method by its path; `grpc` reads the one message of the request.
//! 3. `service` has the method: `translate` turns the message into an operation of the
//!    coordination service, whose own checks refuse nonsense before it costs an agreement.
//! 4. Whatever may change something is ordered by the [`Cluster`], which gives the result that the
//!    gateway's own execution came to and the replicas vouch for.
//! 5. `translate` turns the result back, and `grpc` frames the answer.
//!
//! Nothing that only reads is ordered. A read is answered from the gateway's own [`Copy`] of the
//! state: a serializable one from the newest that there is, any other from one that covers all that
//! was acknowledged before it came ([`Cluster::read`]), for which all who wait at a time share one
//! round of questions.
//!
//! # What a stranger can cost
//!
//! Connections, streams and bytes are limited ([`Limits`]). A request is charged to a budget
//! before its bytes are read, and an answer until its last byte is gone (`budget`); who exceeds
//! it hears `etcdserver: too many requests`. Whatever comes in on the port, nothing panics.
//!
//! # Why not a generated server
//!
//! Messages and clients are generated ([`proto`]). The server's side is not, for two reasons. Its
//! texts are part of the protocol here: clients compare them byte for byte, those for unknown
//! methods and messages too large included, and a library answers those with its own. And a call
//! costs less than half when its one message goes from the frame to the operation in one step.

mod budget;
mod cluster;
mod etcd_error;
mod gateway;
mod grpc;
mod hub;
mod info;
mod leadership;
mod metrics;
mod plain;
pub mod proto;
mod pulse;
mod route;
mod service;
mod translate;

pub use cluster::{Cluster, Copy, Position, SubmitError};
pub use gateway::{Gateway, Limits};
pub use info::{GatewayInfo, VERSION};
