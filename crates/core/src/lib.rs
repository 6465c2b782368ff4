//! The seam of Testudo.
//!
//! Every protocol here is a deterministic automaton: it does no I/O, spawns nothing, and knows no time and no chance
//! but what it is handed. A *driver* feeds it messages, timers and its own past, and carries out its effects. The same
//! code runs under a seeded simulator, golden scripts, a fuzzer and in production.
//!
//! Read in this order: [`protocol`] (the one trait), [`effects`] (the only way out of an automaton), [`gate`]
//! (durable before visible), [`auth`] (what makes a message believable), [`fault`] (what is survived, and at what
//! price), and then the words that they are written in: [`ids`], [`digest`], [`codec`], [`tag`], [`limits`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod auth;
pub mod codec;
pub mod digest;
pub mod effects;
pub mod fault;
pub mod gate;
pub mod ids;
pub mod limits;
pub mod protocol;
pub mod tag;

pub use auth::{
    Base, Certificate, Context, Domain, Evidence, Header, Invalid, Member, Membership, Message,
    Proof, Rejection, Signature, Signed, Signer, Statement, Strength, Validity, Verified, Verifier,
};
pub use codec::{Decode, DecodeError, Encode, Reader};
pub use digest::Digest;
pub use effects::{Effect, Effects, Host, Lift, Panicked, Target};
pub use fault::FaultModel;
pub use ids::{
    ClusterId, Epoch, GroupId, Incarnation, Kind, Peer, Position, ProtocolId, PublicKey, ReplicaId,
    Slot, Time, View,
};
pub use protocol::{Done, NoWork, Past, Promise, Protocol, Stamp, Work};
pub use tag::{Lost, Rot, Tag, Tagged};
