//! A seeded world for Testudo's protocols.
//!
//! Protocols are deterministic automata, so a whole cluster with its network, disks, clocks and liars fits into one
//! thread, and a run into one number. Read in this order: [`world`] (what there is, and what may happen), [`event`]
//! (what is seen of it), [`atlas`] (what may befall a replica, and what is promised all the same), [`seeded`] (who
//! decides what happens next), [`adversary`] and [`liar`] (who lies, and how),
//! [`upstream`] (who lies to learners), [`workload`] (what is asked of a service, and who judges its answers).
#![forbid(unsafe_code)]

extern crate alloc;

pub mod adversary;
pub mod atlas;
pub mod bare;
pub mod conformance;
pub mod disk;
pub mod either;
pub mod event;
pub mod host;
pub mod idle;
pub mod keys;
pub mod liar;
pub mod linear;
pub mod load;
pub mod memory;
pub mod oracle;
mod papers;
pub mod plan;
pub mod replicated;
pub mod report;
pub mod rng;
pub mod script;
pub mod seeded;
pub mod service;
pub mod upstream;
pub mod workload;
pub mod world;

pub use adversary::{Adversary, Misconduct, Saying};
pub use atlas::{Ailment, Condition, Findings, Harm};
pub use disk::Codec;
pub use event::{Audit, Event, Fact, Letter, Loss, NodeId, Salvage};
pub use host::Flaw;
pub use idle::NoClient;
pub use keys::{SimKeys, SimSigner};
pub use liar::{Corrupt, Liar, Lie};
pub use plan::{Climate, Disks, Plan, Trouble, Weather};
pub use report::{Report, Summary};
pub use rng::{Chance, Rng};
pub use seeded::{Outcome, Seeded};
pub use world::{Observer, Pending, Setup, Shape, System, World};
