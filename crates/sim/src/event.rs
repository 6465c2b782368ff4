//! What happened, as oracles and readers see it.
//!
//! Events are all that oracles read. They say nothing of a protocol's own predicates: who sent what digest to whom,
//! what was executed in which slot, what a client was answered. Every event enters the audit hash, so two runs with one
//! hash are one run.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;
use testudo_core::{Digest, Epoch, Peer, ReplicaId, Slot, View};

use crate::atlas::Harm;
use crate::lateness::Breach;
use crate::rng::mix;

/// A node of the world: replicas first, then clients, then the second copies of twins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u16);

impl NodeId {
    /// Its place in lists.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why a message was not delivered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Loss {
    /// The network lost it.
    Network,
    /// Sender and receiver were on different sides of a partition.
    Partition,
    /// The receiver was down.
    Down,
    /// A script dropped it.
    Script,
    /// Too much waited for its receiver.
    Overflow,
}

/// Something about the protocol's work that oracles judge, told by the system's own reading of its outputs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Fact {
    /// A replica executed a batch.
    Executed {
        /// In this slot.
        slot: Slot,
        /// The batch's digest.
        batch: Digest,
        /// Whether it is final.
        is_final: bool,
    },
    /// A replica gave one request its effect (not merely its remembered answer).
    Applied {
        /// In this slot.
        slot: Slot,
        /// What names the request, everywhere the same.
        request: Digest,
        /// The digest of its result.
        result: Digest,
    },
    /// A request that a replica executed had no effect: it had had it before, or may have none.
    Repeated {
        /// In this slot.
        slot: Slot,
        /// What names the request, everywhere the same.
        request: Digest,
    },
    /// What was executed up to this slot is final.
    Committed(Slot),
    /// What was executed after this slot is undone.
    RolledBack(Slot),
    /// A replica has found that its state after this slot is wrong.
    Wrong(Slot),
    /// A replica has stopped, as no digest of the state after this slot can reach a quorum any more.
    Halted(Slot),
    /// The state after this slot was installed by transfer.
    Restored(Slot),
    /// The digest of all replicated state after a slot.
    Checkpoint {
        /// The slot.
        slot: Slot,
        /// The digest.
        state: Digest,
    },
    /// A replica's ordering has begun this epoch, in which so many replicas are there under another voting key than at first.
    Epoch(Epoch, usize),
    /// A view was installed.
    View(View, ReplicaId),
    /// A learner shows the state after a slot.
    Published(Slot),
    /// A learner takes what was decided from this replica.
    Follows(ReplicaId),
    /// A learner has no state, or is too far behind to follow, and fetches one.
    Fetches,
    /// A learner's own execution came to something else than is vouched for.
    Diverged(Slot),
    /// A client was answered.
    Answered {
        /// Which of its requests.
        request: u64,
        /// The digest of the answer.
        answer: Digest,
    },
    /// Anything else worth a line in a trace.
    Note(Rc<str>),
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// A node put a message on the wire.
    Sent(Letter),
    /// A verified message was handed to a node.
    Delivered(Letter),
    /// A message did not verify.
    Rejected(Letter, Rc<str>),
    /// A message was lost.
    Dropped(Letter, Loss),
    /// The network copied a message.
    Duplicated(Letter),
    /// A timer fired.
    Fired(NodeId, Rc<str>),
    /// That many writes became durable.
    Flushed(NodeId, usize),
    /// A snapshot became durable.
    Snapshotted(NodeId),
    /// Work was done or a record was read back.
    Worked(NodeId),
    /// A node stopped.
    Crashed {
        /// Which.
        node: NodeId,
        /// Writes lost.
        writes: usize,
        /// Messages and outputs that waited behind the gate, lost.
        held: usize,
    },
    /// A node started, for the first time or again.
    Started(NodeId),
    /// A node's disk or memory came to harm.
    Harmed(NodeId, Harm),
    /// A node that starts has opened its log, and found this.
    Opened(NodeId, Salvage),
    /// A node stops, or does not start, because its disk has failed it, which says why.
    Failed(NodeId, Rc<str>),
    /// A node was told of something that it had lost.
    Scrubbed(NodeId),
    /// A node's wall clock was set off by that many milliseconds.
    ClockSet(NodeId, i64),
    /// A node's clock gains that many microseconds a second from now on; below zero it loses them.
    Drifts(NodeId, i32),
    /// A node stops running, and keeps its memory.
    Paused(NodeId),
    /// A node that had stopped running goes on where it was.
    Resumed(NodeId),
    /// Messages from the first to the second are lost from now on.
    Cut(NodeId, NodeId),
    /// Messages from the first to the second are lost no more.
    Joined(NodeId, NodeId),
    /// The network has become timely: from now on each message arrives within this time.
    Timely(Duration),
    /// A message broke the timing assumption that a synchronous protocol rests on.
    Untimely(Letter, Breach),
    /// All cuts are gone.
    Healed,
    /// A client or upper layer asked for something.
    Asked(NodeId, u64),
    /// The system reads this from an output.
    Told(NodeId, Fact),
    /// A node accuses a replica.
    Blamed {
        /// Who accuses.
        by: NodeId,
        /// Whom.
        accused: ReplicaId,
        /// Of what.
        offence: Rc<str>,
        /// Whether a third party would be convinced.
        convincing: bool,
    },
    /// A liar did something that a correct node would not have done.
    Lied(NodeId, &'static str),
}

/// What a node's log found when it was opened, held against what it should have found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Salvage {
    /// Bytes of an unfinished write, which are gone now.
    pub torn: u64,
    /// Places that were written again from their twins.
    pub mended: u64,
    /// Losses that are told.
    pub lost: u64,
    /// What stands there whole, as the bytes say, or was promised, and does not come back, and no word of it.
    pub missing: u64,
    /// Records that stand there whole, and are told to be lost.
    pub condemned: u64,
    /// Records that come back as they never were.
    pub altered: u64,
    /// Whether the disk may refuse something all the same, as it has no space or a change to it is going to fail.
    pub may_refuse: bool,
}

impl fmt::Display for Salvage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { torn, mended, lost, missing, condemned, altered, .. } = self;
        let parts = [
            (torn, "bytes torn"),
            (mended, "places mended"),
            (lost, "losses told"),
            (missing, "missing"),
            (condemned, "wrongly given up"),
            (altered, "altered"),
        ];
        let parts = parts.iter().filter(|(count, _)| **count > 0);
        let parts: Vec<String> = parts.map(|(count, what)| format!("{count} {what}")).collect();
        f.write_str(if parts.is_empty() { "whole" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// A message on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Letter {
    /// Its number, in the order of sending.
    pub number: u64,
    /// Who sent it.
    pub from: NodeId,
    /// Who is to get it.
    pub to: NodeId,
    /// Who says it, which is another than the sender where it is handed on.
    pub sender: Peer,
    /// The short name of its kind.
    pub name: &'static str,
    /// The digest that its signature covers.
    pub digest: Digest,
}

/// A running hash over all events. Not for secrets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Audit {
    low: u64,
    high: u64,
}

impl Audit {
    /// Takes in an event and its time.
    pub fn add(&mut self, at: Duration, event: &Event) {
        self.write_u64(at.as_nanos() as u64);
        match event {
            // All about it was taken in when it was sent.
            Event::Delivered(letter) => {
                std::mem::discriminant(event).hash(self);
                self.write_u64(letter.number);
            }
            _ => event.hash(self),
        }
    }

    /// Both halves of the hash as text.
    #[must_use]
    pub fn hex(&self) -> String {
        format!("{:016x}{:016x}", self.high, self.low)
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl Hasher for Audit {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word) ^ ((chunk.len() as u64) << 56));
        }
    }
    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
    fn write_u64(&mut self, word: u64) {
        self.low = mix(self.low ^ word);
        self.high = mix(self.high.rotate_left(7) ^ self.low);
    }
    fn finish(&self) -> u64 {
        self.low ^ self.high
    }
}
