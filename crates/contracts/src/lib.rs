//! What each family of protocols promises to the layers around it.
//!
//! Drivers need not know what a protocol is for; users need not know how it is driven. So there is one trait for
//! drivers ([`testudo_core::Protocol`]), and per family a fixed pair of input and output, with a profile that says
//! what it costs and what it assumes: [`ordering`]. What replication replicates is a [`service`]. What liars say, each
//! protocol knows best: [`falsifiable`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod falsifiable;
pub mod ordering;
pub mod profile;
pub mod service;

pub use falsifiable::{Chance, Falsifiable, Remark, Tactic, Tactician};
pub use ordering::{
    Backlog, Batch, Checkpoint, Freshness, Mode, OrderConfig, OrderInput, OrderOutput, Ordering,
    ReplyRule, ReplyVote, StableCheckpoint, Standing, Verdict, Waiting, base_checkpoint,
    check_stable,
};
pub use profile::{Family, Profile};
pub use service::{Moment, Reading, Service, Store};
