//! What the simulator puts to the test, and under what.
//!
//! The simulator knows worlds, faults and judges, and no service and no protocol. Here they come together:
//! [`coordination`] is the real service with everything that judges its answers, watches and leases; [`plans`] are the
//! runs that everything must stand, so arranged that a seed's number alone says what a run is; [`faults`] gives each
//! thing that can go wrong a name that can be asked for, and says by which count it is proven to have happened;
//! [`coverage`] holds a sum of runs against what was asked for. [`Configuration`] is for
//! what is small enough to be seen to the last. A [`Subject`] is a protocol in the lab, whatever its
//! type: tests and the command run the same seeds through it, and see the same runs.
#![forbid(unsafe_code)]

pub mod coordination;
pub mod coverage;
mod exploration;
pub mod faults;
pub mod plans;
mod subject;

pub use coordination::Coordination;
pub use coverage::{Coverage, Due};
pub use exploration::Configuration;
pub use faults::{Fault, Group};
pub use plans::{Rota, Series};
pub use subject::{Replayed, Story, Subject, System, Testable, conform, subject, subject_of};
