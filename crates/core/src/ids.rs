//! The numbers that the field counts in, each a type of its own so that none is taken for another.

use crate::codec::{Decode, DecodeError, Encode, Reader};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

macro_rules! number {
    ($(#[$meta:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one. Counters of this width do not wrap in any life of a cluster; a peer's
            /// claim may be at the end of the range, and stays there.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
            /// The number before this one, or zero.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
        }
        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self(Decode::decode(reader)?))
            }
        }
    };
}

number!(/// A replica's place in its membership, from 0 to n−1.
    ReplicaId(u16), "r");
number!(/// A view: one reign of one primary (a ballot, a term).
    View(u64), "v");
number!(/// A place in the total order (a sequence number, an instance). The first one used is 1; 0 is the genesis.
    Slot(u64), "s");
number!(/// One configuration of a cluster: its members, their keys and its protocol.
    Epoch(u64), "e");
number!(/// One replicated service among those that a node hosts.
    GroupId(u32), "g");
number!(/// How often a replica has come back under a new voting key.
    Incarnation(u64), "i");
number!(/// The index of a record in a node's own log, counted from 0.
    Position(u64), "@");
number!(/// Which protocol a frame, record or statement belongs to. The catalog keeps them apart.
    ProtocolId(u8), "p");
number!(/// Which message of its protocol a frame or statement is.
    Kind(u8), "k");
number!(/// Milliseconds since the Unix epoch: what a clock showed, or what replicas agreed that it is.
    Time(u64), "t");

impl Time {
    /// The distance to `other`, whichever is later.
    #[must_use]
    pub const fn distance(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }
}

/// A cluster's random name. Everything signed or stored bears it, so that nothing of one cluster counts in another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClusterId(pub [u8; 16]);

/// A verifying key: 32 bytes of Ed25519 in production, of a keyed hash in the simulator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PublicKey(pub [u8; 32]);

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}
impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0[..4])
    }
}
impl Encode for ClusterId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}
impl Decode for ClusterId {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Decode::decode(reader)?))
    }
}
impl Encode for PublicKey {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}
impl Decode for PublicKey {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Decode::decode(reader)?))
    }
}

/// Who speaks, or is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Peer {
    /// A member of the current epoch.
    Replica(ReplicaId),
    /// A client, a gateway or a learner, known by its key.
    Client(PublicKey),
}

impl Peer {
    /// The replica that this peer is, if it is one.
    #[must_use]
    pub const fn replica(self) -> Option<ReplicaId> {
        match self {
            Self::Replica(id) => Some(id),
            Self::Client(_) => None,
        }
    }
}

impl From<ReplicaId> for Peer {
    fn from(id: ReplicaId) -> Self {
        Self::Replica(id)
    }
}

crate::wire_enum!(Peer { 0 => Replica(id), 1 => Client(key) });
