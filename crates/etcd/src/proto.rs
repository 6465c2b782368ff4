//! The messages and services of the etcd v3 API, one module per protobuf package.
//!
//! The code under `generated/` is written by `cargo xtask codegen` from the files under `proto/`,
//! which hold no more than names, numbers and types: what every client of etcd already speaks.
//! Byte fields are [`bytes::Bytes`], so that a key or value is a view into the frame it came in
//! and is never copied on its way to the cluster.
//!
//! The modules are siblings because generated code reaches another package as `super::package`.

macro_rules! generated {
    ($($module:ident from $file:literal: $about:literal)+) => {$(
        #[doc = $about]
        #[allow(missing_docs, unreachable_pub, rustdoc::all, clippy::all, clippy::pedantic)]
        pub mod $module {
            include!(concat!("../generated/", $file));
        }
    )+};
}

generated! {
    mvccpb from "mvccpb.rs": "Keys, values and events."
    authpb from "authpb.rs": "Users, roles and permissions."
    etcdserverpb from "etcdserverpb.rs": "Key-value store, watches, leases, cluster, maintenance and authentication."
    v3lockpb from "v3lockpb.rs": "Locks kept on the server's side."
    v3electionpb from "v3electionpb.rs": "Elections kept on the server's side."
    health from "grpc.health.v1.rs": "The gRPC health protocol (package `grpc.health.v1`)."
}
