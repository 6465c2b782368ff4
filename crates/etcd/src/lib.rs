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
//! Nothing that only reads is ordered. A read is answered from the gateway's own [`struct@Copy`] of the
//! state: a serializable one from the newest that there is, any other from one that covers all that
//! was acknowledged before it came ([`Cluster::read`]), for which all who wait at a time share one
//! round of questions.
//!
//! # Streams
//!
//! Watches, lease keep-alives and health are streams, each served by a *script*, an asynchronous
//! function that runs inside the answer's body: only when its client has room for more, without a
//! task or a queue of its own (`grpc::stream`).
//!
//! Watches read the same copy. One task hands each new copy to the `hub`, which wakes the streams
//! whose watches the changes concern; each of them makes its answers when it can send them. Whoever
//! reads slowly is behind by a number, not by a queue, and slows nobody.
//!
//! Keep-alives are ordered like writes, because the time of a lease is agreed, and many of one stream
//! are under way at once. A lease expires when the replicas agree that its time has passed, so a
//! gateway has no part in that but to show it.
//!
//! # Without a quorum, or without a copy
//!
//! Whatever needs a quorum ends with `etcdserver: request timed out`, and with `etcdserver: no
//! leader` if it has asked for that (`leadership`). Serializable reads and watches go on from the copy
//! as it is. A gateway that is catching up, or whose own execution came to something else than the
//! replicas vouch for, has no copy: then serializable reads end with `etcdserver: unhealthy cluster`,
//! new watches wait, and `/health` says so.
//!
//! # What a stranger can cost
//!
//! Connections, streams, watches and bytes are limited ([`Limits`]). A request is charged to a budget
//! before its bytes are read, and an answer until its last byte is gone (`budget`); who exceeds
//! it hears `etcdserver: too many requests`, or waits if it is a stream. What a read answers is charged
//! before it is made, however large it is; only what a connection could not hold even if nothing else
//! waited is refused as too large.
//!
//! Streams have limits of their own. HTTP/2 keeps a client from opening more on one connection than
//! [`Limits::streams`]. A watch stream beyond [`Limits::watches`] ends at once with the status
//! `ResourceExhausted` and `etcdserver: too many requests`; a watch beyond them is answered in its stream,
//! `created` and `canceled` at once under the number -1, with the same text as its `cancel_reason`, and
//! everything else in the stream goes on. Of a client that does not read its answers no requests are
//! read either. Of one lease that is to be kept alive many times over one keep-alive is under way at a
//! time, and what was asked meanwhile is answered by the next.
//!
//! Requests that etcd's members die of are refused before they are ordered. Whatever comes in on the
//! port, nothing panics.
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
pub use grpc::{Unframed, unframe};
pub use info::{GatewayInfo, VERSION};
pub use translate::readings;
