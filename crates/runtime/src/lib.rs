//! The production driver.
#![forbid(unsafe_code)]

extern crate alloc;

mod carrier;
pub mod disk;
mod durable;
mod environment;
mod host;
mod inbox;
mod journal;
mod letters;
mod memo;
mod net;
pub mod metrics;
pub mod storage;
mod sync;
mod timers;
mod verify;
mod work;
