//! What is decided when a store begins, and holds for all its replicas alike.

use testudo_core::{wire_enum, wire_struct};

/// How a store is kept. It is part of the replicated state: written at the beginning, and read from there ever after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Bytes that the store may hold, as [`crate::StatusResponse::bytes`] counts them; `u64::MAX` for no bound. Beyond
    /// it, what makes the store grow is refused with [`crate::Error::NoSpace`], until there are less again.
    pub quota: u64,
    /// What history the store forgets by itself.
    pub compaction: AutoCompaction,
}

wire_struct!(Settings { quota, compaction });

impl Settings {
    /// The quota where none is chosen: 2 GiB, as in etcd.
    pub const QUOTA: u64 = 2 << 30;
}

impl Default for Settings {
    fn default() -> Self {
        Self { quota: Self::QUOTA, compaction: AutoCompaction::Off }
    }
}

/// What history a store forgets by itself. A little more than asked for is kept, a sixteenth at most, so that history
/// is forgotten in pieces that are worth the while.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AutoCompaction {
    /// None: only what a client compacts is forgotten.
    #[default]
    Off,
    /// All but so many of the newest revisions.
    Revisions(u64),
    /// Whatever is older than so much agreed time.
    Period {
        /// The time, in milliseconds.
        milliseconds: u64,
    },
}

wire_enum!(AutoCompaction { 0 => Off, 1 => Revisions(revisions), 2 => Period { milliseconds } });
