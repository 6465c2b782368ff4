//! State machine replication, once for all orderings.
//!
//! [`Replica`] wraps an [`testudo_contracts::Ordering`] and a [`testudo_contracts::Service`], and is itself a protocol,
//! so every driver can run it. The way of a request:
//!
//! 1. A client signs what it wants done as one [`Bundle`] and sends it to all replicas ([`asking`], [`client`]).
//! 2. A replica writes the body to its log and lets it wait ([`waiting`]); the primary proposes a batch of digests.
//! 3. The ordering asks whether it may vote; it may once every body is held durably and a fresh clock is plausible
//!    ([`judge`]).
//! 4. What is decided executes in slot order on the replicated state ([`executor`], [`sessions`]): exactly once, at
//!    agreed time, every operation on an overlay of its own.
//! 5. Each replica replies; the client believes what its protocol's reply rule accepts.
//! 6. When the service wants a slot though nobody asks, that is a waiting request at every replica (`due`).
//! 7. Every so often the digest of all replicated state is signed and compared (`checkpoint`). The states of stable
//!    checkpoints are served to whoever fetches them (`serving`), and now and then one is written down whole
//!    ([`Snapshot`]), so that a restart need not execute everything again; the log before is forgotten (`forgetting`).
//! 8. A replica that was left behind, or whose state is wrong, fetches a certified one by itself (`healing`,
//!    [`transfer`]); when no digest can be certified any more it stops, and says where results part (`inquiry`).
//! 9. Learners follow (`followers`): they execute on copies of their own ([`learner`]).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod accusing;
pub mod asking;
mod budget;
mod checkpoint;
pub mod client;
pub mod decree;
mod due;
mod epochs;
mod execution;
pub mod executor;
pub mod feed;
mod followers;
mod forgetting;
mod healing;
mod hearing;
mod inquiry;
mod intake;
mod judge;
pub mod learner;
pub mod members;
pub mod message;
mod recent;
mod record;
mod replica;
pub mod rules;
mod serving;
pub mod sessions;
mod snapshot;
mod start;
mod status;
pub mod succession;
mod tables;
pub mod transfer;
pub mod waiting;
mod work;

pub use asking::{Alarm, Asked, Asker, Outcome};
pub use client::{Client, ClientConfig, ClientInput, ClientOutput};
pub use decree::{Decree, Plan, Returning, Unplanned};
pub use executor::{Difference, Replicated};
pub use feed::{Claim, Feed, Follow, Head, StateAnswer, StateAsk, Summaries, Tree, Voucher};
pub use learner::{
    Learner, LearnerConfig, LearnerInput, LearnerOutput, LearnerTimer, Published, Repair, Standing,
};
pub use members::{Configuration, Refusal};
pub use message::{Bundle, Readmission, ReplicaMessage, Reply, ReplyBody, Request};
pub use record::{Record, Timer};
pub use replica::{Config, Replica};
pub use snapshot::Snapshot;
pub use status::{Comeback, Event, Halt, Health, Status};
pub use succession::{Ground, Succession};
pub use transfer::{Fetched, Progress, Transfer};
pub use work::{Stretch, Work, Worked};
