//! A seeded world for Testudo's protocols.
//!
//! Protocols are deterministic automata, so a whole cluster with its network, disks, clocks and liars fits into one
//! thread, and a run into one number. Read in this order: [`world`] (what there is, and what may happen), [`event`]
//! (what is seen of it), [`step`] (what is done to it, in words), [`atlas`] (what may befall a replica, and what is
//! promised all the same), [`seeded`] (who decides what happens next), [`weather`] (what the network is like),
//! [`lateness`] (whether it kept its bound), [`adversary`], [`liar`], [`conspiracy`] and [`fraud`] (who lies, and how),
//! [`explore`] (all that can happen, where that is not too much) and [`bytes`] (what a fuzzer has happen),
//! [`upstream`] (who lies to learners), [`workload`] (what is asked of a service, and who judges its answers).
#![forbid(unsafe_code)]

extern crate alloc;

pub mod adversary;
pub mod atlas;
pub mod bare;
pub mod bytes;
pub mod conformance;
pub mod conspiracy;
pub mod diagram;
pub mod disk;
pub mod either;
pub mod event;
pub mod explore;
pub mod fraud;
pub mod host;
pub mod idle;
pub mod keys;
pub mod lateness;
pub mod liar;
pub mod linear;
pub mod load;
pub mod memory;
pub mod oracle;
mod papers;
pub mod plan;
pub mod replay;
pub mod replicated;
pub mod report;
pub mod rng;
pub mod script;
pub mod seeded;
pub mod service;
mod shared;
pub mod shrink;
pub mod step;
pub mod upstream;
pub mod watch;
pub mod weather;
pub mod workload;
pub mod world;

pub use adversary::{Adversary, Misconduct, Saying};
pub use atlas::{Ailment, Condition, Findings, Harm};
pub use diagram::Film;
pub use disk::Codec;
pub use event::{Audit, Event, Fact, Letter, Loss, NodeId, Salvage};
pub use host::Flaw;
pub use idle::NoClient;
pub use keys::{Signatures, SimKeys, SimSigner};
pub use liar::{Corrupt, Liar, Lie};
pub use plan::{Climate, Disks, Plan, Trouble};
pub use report::{Report, Summary, Verdict};
pub use rng::{Chance, Rng};
pub use seeded::{Outcome, Seeded};
pub use step::{Haste, Step, Who};
pub use weather::Weather;
pub use world::{Observer, Pending, Setup, Shape, System, World};
