//! The production driver of Testudo's automata.
//!
//! A protocol does no I/O. Here is what does it, in the order in which a frame passes:
//!
//! ```text
//!   net ──► verify ──► inbox ──► host ──► journal ──► (the gate opens) ──► net
//!   TLS,    off the    a lane    one       log and     what was said is
//!   frames  core's     for each  thread    superblock, sealed meanwhile
//!           thread     sender    steps     one flush
//! ```
//!
//! - `net` carries frames on mutually authenticated channels, one lane for each direction between two replicas.
//! - `verify` believes nothing that is not proved, remembers what it has proved, and ends the channel of whoever sends
//!   too much that is wrong.
//! - `inbox` is fair: one sender's flood fills that sender's lane.
//! - `host` owns the automaton. It steps, hands records over, seals what is said, and lets go of what is durable.
//! - `journal` writes and flushes; many steps share a flush. Beside it, snapshots are written piece by piece.
//! - [`peek`] looks at the folder of a node that is stopped, and changes nothing.
//! - `past` is where all begins: the newest snapshot that proves itself, and the log.
//!
//! Nothing waits without a bound, and no thread waits for another that waits for it. [`node::start`] puts it together
//! for a replica, [`caller::call`] for a client or a learner, which has neither disk nor thread.
#![forbid(unsafe_code)]

pub mod caller;
mod carrier;
pub mod disk;
mod durable;
mod environment;
mod evidence;
mod host;
mod http;
mod identity;
mod inbox;
mod journal;
mod letters;
mod memo;
pub mod metrics;
mod net;
pub mod node;
mod overlay;
mod past;
pub mod peek;
mod ports;
pub mod storage;
mod sync;
#[cfg(test)]
mod testing;
mod timers;
mod verify;
mod visitors;
mod voice;
mod work;

pub use durable::DurableStorage;
pub use evidence::{EVIDENCE_FOLDER, KeptEvidence, parse_evidence, read_evidence};
pub use host::{Driven, Fatal};
pub use http::Probe;
pub use identity::FolderError;
pub use letters::Outgoing;
pub use metrics::Metrics;
pub use net::Addresses;
pub use net::channel::{TooLong, split_frames};
pub use net::hello::{Answer, Hello};
pub use node::{Lie, NodeConfig, NodeHandle, StartError};
pub use visitors::serve_visitors;
