//! The gateway that makes a Testudo cluster look like etcd: the v3 gRPC services and their JSON
//! mirror, on one port.
//!
//! It stands on the client's side of the trust boundary and holds nothing that the cluster relies
//! on. What it says to its users it has computed itself, on its own copy of the service, and
//! compared with what a quorum of replicas vouches for.

pub mod proto;
