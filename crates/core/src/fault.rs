//! The fault model is data: what is assumed of time, of faults and of authentication, how many faults are survived,
//! and (in [`bounds`]) how many replicas that takes, with the source of each bound.

pub mod bounds;

use core::fmt;

/// What is assumed of message delay and processor speed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timing {
    /// Bounds are known and always hold.
    Synchronous,
    /// Bounds hold from an unknown moment on (Dwork, Lynch and Stockmeyer 1988).
    PartiallySynchronous,
    /// There are no bounds.
    Asynchronous,
}

/// What a faulty replica may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FaultKind {
    /// It stops, and others can tell.
    FailStop,
    /// It stops.
    Crash,
    /// It loses messages that it sends or receives.
    Omission,
    /// It does anything: it lies.
    Byzantine,
}

/// What binds a message to its sender.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Authentication {
    /// The channel that it came by: a receiver knows the sender, and can convince nobody else.
    Channels,
    /// A signature, which convinces third parties.
    Signatures,
}

/// What a configuration claims to survive, and under which assumptions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FaultModel {
    /// What is assumed of time.
    pub timing: Timing,
    /// What faulty replicas may do.
    pub kind: FaultKind,
    /// What binds messages to senders.
    pub authentication: Authentication,
    /// f: how many faulty replicas are survived.
    pub f: u16,
}

impl FaultModel {
    /// f replicas that lie, under partial synchrony, with signatures: what PBFT is built for.
    #[must_use]
    pub const fn byzantine(f: u16) -> Self {
        Self {
            timing: Timing::PartiallySynchronous,
            kind: FaultKind::Byzantine,
            authentication: Authentication::Signatures,
            f,
        }
    }

    /// f replicas that crash, under partial synchrony.
    #[must_use]
    pub const fn crash(f: u16) -> Self {
        Self {
            timing: Timing::PartiallySynchronous,
            kind: FaultKind::Crash,
            authentication: Authentication::Channels,
            f,
        }
    }

    /// How many replicas may lie and still be survived: f, or none where only crashes are.
    #[must_use]
    pub const fn liars(&self) -> u16 {
        match self.kind {
            FaultKind::Byzantine => self.f,
            _ => 0,
        }
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Synchronous => "synchrony",
            Self::PartiallySynchronous => "partial synchrony",
            Self::Asynchronous => "asynchrony",
        })
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FailStop => "fail-stop",
            Self::Crash => "crash",
            Self::Omission => "omission",
            Self::Byzantine => "Byzantine",
        })
    }
}

crate::wire_enum!(Timing { 0 => Synchronous, 1 => PartiallySynchronous, 2 => Asynchronous });
crate::wire_enum!(FaultKind { 0 => FailStop, 1 => Crash, 2 => Omission, 3 => Byzantine });
crate::wire_enum!(Authentication { 0 => Channels, 1 => Signatures });
crate::wire_struct!(FaultModel { timing, kind, authentication, f });
