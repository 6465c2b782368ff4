//! The fault atlas: what may befall a replica, what a cluster of n = 3f+1 promises under it, and what counts among f.
//!
//! Throughout: no two correct replicas execute different batches in one slot, nothing that was acknowledged is lost,
//! nobody is convicted who has not lied, and once the network is timely everything is answered, as long as at most f
//! replicas are *faulty at a time*. A replica is faulty from the moment that something befalls it that it cannot hide
//! from the others, until it is again all that it was. Who has healed counts no more: the next may be struck.
//!
//! | trouble | what the replica knows of it | while it lasts | it counts |
//! |---|---|---|---|
//! | crash, whatever had not been flushed | everything that it has said | says nothing | until it votes again |
//! | power failure of all | the same, each | nothing is lost; all stand still until a quorum is back | beyond f for liveness, never for safety |
//! | crash between two effects of a step | the same | some have heard a broadcast, and others never will | from the moment it is bound to come |
//! | cut off, one-way, partly, on and off, slow, in bursts, out of order, withheld by an adversary that sees everything | nothing | nothing | not at all: the network is nobody's fault, and heals |
//! | long pause | that time has passed, once it goes on | says nothing; then hears all that has waited, with all timers due | not at all: nobody can tell it from a slow network |
//! | drift as far as crystals differ | nothing | its clock stays within what correct ones may differ by | not at all |
//! | wrong clock, clock that jumps forth and back or drifts further | nothing | its batches are judged implausible | until the run heals: what it judged by a wrong clock stays said |
//! | **rotten record** | which slot's, by the record's tag; at the next start, or when a scrub comes by | no vote on that slot and no read claim until a stable checkpoint covers it | until the log is let go that far |
//! | the same without its tag, **misdirected write**, **lost write** in the midst of the log | that something is missing, and not what | the same for the whole window | the same |
//! | **lost write** at the end of the log | nothing: the log looks whole | it asks the others at its start what it had said; if that is more than it knows it comes back as from a wiped disk | until it votes again and a stable checkpoint covers all that it can have said |
//! | **old disk image** | nothing: the disk looks whole | the same | the same |
//! | one **lost superblock copy** | it is written anew at the start | nothing | not at all |
//! | **lost superblock**, **wiped disk** | that it has forgotten, once the others have told it what it had said | it follows and serves, asks to be let in under a new voting key, and votes under that one in the next epoch | the same |
//! | **rotten snapshot** | at the next start, or when a scrub comes by | nothing, until it starts: then it executes the log from the one before it, or has the state transferred where that cannot be read either | until a new snapshot is durable and it is well |
//! | **rotten memory** | at the next checkpoint that is stable | its results and its digest may be wrong; from the checkpoint on it says nothing of its state | until the state is the others' again |
//! | **torn write**: power fails, and of what no flush had acknowledged any choice of sectors stays | everything that it has said; the rest is removed at the start | says nothing | as a crash |
//! | **flipped bit** anywhere on the disk | where it stands twice, it is written anew; else as a rotten record, snapshot or superblock copy | the same | the same |
//! | **lost sector** (noise), **zeroed run** | the same; zeros at the end of the log look as if nothing had been written there | as several rotten records, or as a lost write | as a lost write, and until a new snapshot is durable |
//! | **unreadable sector** (the disk says so of its whole page) | as a lost sector; until the page is written anew, at the next start, whoever reads it or writes a part of it stops | as a lost sector; where it was to be written, says nothing until it has started again | as a lost sector |
//! | **failed flush**, **full disk** | that it must stop: it says nothing that it may forget, and starts again | says nothing | from the moment that the disk would fail it until it votes again on a disk that does not |
//! | **slow disk** | nothing | nothing: what waits for a flush waits longer | not at all: it is as slow as a network may be, and ends |
//! | a liar | | anything | for ever |
//!
//! Voting keys that were made on a disk share its fate: an empty one has none, an old image those of its time. The first one
//! and the long-lived one lie elsewhere. Each return is an epoch, and a replica returns at most [`READMISSIONS`] times in
//! [`READMISSION_PERIOD`]; whoever forgets more often needs a person, and no run brings that about.
//!
//! [`READMISSIONS`]: testudo_core::limits::READMISSIONS
//! [`READMISSION_PERIOD`]: testudo_core::limits::READMISSION_PERIOD
//!
//! A missing record is counted for as long as it is missing, although its slot may be covered long before: who starts
//! again finds it missing again, and without its tag takes the window of that time for lost. So the log must be let go.
//!
//! A liar counts for ever, so with f = 1 it leaves no room for anything that counts: beside one liar of four replicas there
//! are only such troubles as count not at all, and what befalls all at once. Harm beside a liar takes f = 2, and is
//! in the plans with seven replicas, and in those that go beyond f.
//!
//! What is beyond f: more than f rotten records of *one* slot, none of them covered by a checkpoint; more than f
//! superblocks; more than f memories that rotted alike. Different records that rot on each replica are not
//! ([`crate::Trouble::Helical`]): for each slot at most f have lost anything, and each heals by itself.
//!
//! [`Ailment`] is the reckoning of the last column. It does not take a replica's word for being healed where there is
//! something to measure: what is on the disk, which life it is in, and how far the checkpoints of others are.

use std::fmt;
use testudo_core::Slot;

/// What befalls the disk or the memory of a replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Harm {
    /// A durable record cannot be read any more; its tag can.
    Record,
    /// A durable record and its tag cannot be read any more.
    RecordAndTag,
    /// A write that a flush acknowledged never reached the disk.
    LostWrite,
    /// A write went to the place of another record.
    Misdirected,
    /// The newest snapshot cannot be read any more.
    Snapshot,
    /// A value of the service's state becomes another one.
    Memory,
    /// One copy of the superblock cannot be read any more.
    SuperblockCopy,
    /// Neither copy of the superblock can be read any more.
    Superblock,
    /// The disk is replaced by an empty one.
    Wiped,
    /// The disk is as it was some time ago.
    OldImage,
    /// One bit somewhere on the disk becomes another.
    FlippedBit,
    /// A whole sector somewhere on the disk becomes noise.
    LostSector,
    /// A run of bytes somewhere on the disk becomes zeros.
    ZeroedRun,
    /// A page somewhere on the disk cannot be read any more, and the disk says so.
    UnreadableSector,
    /// One of the next changes to the disk fails.
    FailedFlush,
    /// There is no space on the disk for a while.
    FullDisk,
    /// The disk takes very long for a while.
    SlowDisk,
}

impl Harm {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::Record,
        Self::RecordAndTag,
        Self::LostWrite,
        Self::Misdirected,
        Self::Snapshot,
        Self::Memory,
        Self::SuperblockCopy,
        Self::Superblock,
        Self::Wiped,
        Self::OldImage,
        Self::FlippedBit,
        Self::LostSector,
        Self::ZeroedRun,
        Self::FailedFlush,
        Self::FullDisk,
        Self::SlowDisk,
        Self::UnreadableSector,
    ];

    /// Its name in traces, reports and scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Record => "rotten record",
            Self::RecordAndTag => "rotten record and tag",
            Self::LostWrite => "lost write",
            Self::Misdirected => "misdirected write",
            Self::Snapshot => "rotten snapshot",
            Self::Memory => "rotten memory",
            Self::SuperblockCopy => "lost superblock copy",
            Self::Superblock => "lost superblock",
            Self::Wiped => "wiped disk",
            Self::OldImage => "old disk image",
            Self::FlippedBit => "flipped bit",
            Self::LostSector => "lost sector",
            Self::ZeroedRun => "zeroed run",
            Self::UnreadableSector => "unreadable sector",
            Self::FailedFlush => "failed flush",
            Self::FullDisk => "full disk",
            Self::SlowDisk => "slow disk",
        }
    }

    /// Whether the disk must not be in use when it happens.
    #[must_use]
    pub const fn takes_a_crash(self) -> bool {
        matches!(self, Self::Wiped | Self::OldImage | Self::Superblock | Self::LostWrite)
    }

    /// Whether a replica counts as faulty because of it.
    #[must_use]
    pub const fn counts(self) -> bool {
        !matches!(self, Self::SuperblockCopy | Self::SlowDisk)
    }

    /// Whether it befalls a disk that is in use, and no other.
    #[must_use]
    pub const fn is_of_use(self) -> bool {
        matches!(self, Self::Memory | Self::FailedFlush | Self::FullDisk | Self::SlowDisk)
    }

    /// Whether the node is told by its disk, at once, that something is wrong, and stops.
    #[must_use]
    pub const fn stops(self) -> bool {
        matches!(self, Self::FailedFlush | Self::FullDisk)
    }

    /// Whether nothing happens yet when it is done: it bites when the disk or the memory is next used that way, if it is.
    #[must_use]
    pub const fn bites_later(self) -> bool {
        self.stops() || matches!(self, Self::Memory | Self::SlowDisk)
    }

    /// Whether a replica may not know any more what it has said, and come back under another voting key.
    #[must_use]
    pub const fn may_forget(self) -> bool {
        matches!(
            self,
            Self::LostWrite
                | Self::OldImage
                | Self::Wiped
                | Self::Superblock
                | Self::LostSector
                | Self::ZeroedRun
                | Self::UnreadableSector
        )
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a replica says it is, as its system reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Condition {
    /// Whether it votes, and knows of every vote that it has cast.
    pub votes: bool,
    /// Whether its state is, as far as it knows, what it ought to be.
    pub is_well: bool,
    /// The last stable checkpoint that it has reached.
    pub stable: Slot,
    /// The last slot of its window: nobody has voted on a higher one, as far as it can tell.
    pub horizon: Slot,
}

impl Default for Condition {
    /// A replica of a system that knows no illness.
    fn default() -> Self {
        Self { votes: true, is_well: true, stable: Slot(0), horizon: Slot(0) }
    }
}

/// Where a replica stands when an [`Ailment`] is reckoned with.
#[derive(Clone, Copy, Debug)]
pub struct Findings {
    /// How it says it is; none while it is down.
    pub condition: Option<Condition>,
    /// How often it has been started.
    pub life: u32,
    /// How often another state has taken the place of one that it had found wrong.
    pub mended: u64,
    /// Whether no record is missing in its log.
    pub is_log_whole: bool,
    /// Whether a snapshot of it can be read, or it needs none.
    pub is_snapshot_whole: bool,
    /// Whether nothing waits to spoil its memory.
    pub is_memory_settled: bool,
    /// Whether its disk refuses it nothing.
    pub is_disk_sound: bool,
}

/// Something that befell a replica and may not be over.
#[derive(Clone, Copy, Debug)]
pub struct Ailment {
    /// What.
    pub harm: Harm,
    /// The life in which it happened, or that ended with it.
    pub life: u32,
    /// How often another state had taken the place of its wrong one.
    pub mended: u64,
    /// The highest slot that anybody can have voted on by then.
    pub horizon: Slot,
}

impl Ailment {
    /// Whether it is over, so that the replica counts no more.
    #[must_use]
    pub fn is_over(&self, now: &Findings) -> bool {
        let Some(condition) = now.condition else { return false };
        if !condition.votes || !condition.is_well {
            return false;
        }
        let has_started = now.life > self.life;
        match self.harm {
            Harm::SuperblockCopy | Harm::SlowDisk => true,
            Harm::FailedFlush | Harm::FullDisk => now.is_disk_sound,
            // What is still missing is found again at every start, and the whole window with it where nobody knows what
            // it was.
            Harm::Record | Harm::RecordAndTag | Harm::Misdirected => now.is_log_whole,
            Harm::LostWrite | Harm::OldImage | Harm::Wiped | Harm::Superblock => {
                now.is_log_whole && has_started && condition.stable >= self.horizon
            }
            Harm::FlippedBit => now.is_log_whole && now.is_snapshot_whole,
            Harm::LostSector | Harm::ZeroedRun | Harm::UnreadableSector => {
                let is_caught_up = has_started && condition.stable >= self.horizon;
                now.is_log_whole && now.is_snapshot_whole && is_caught_up
            }
            Harm::Snapshot => now.is_snapshot_whole,
            // One that was merely behind takes over what it has in common with the right state, and what has rotted with
            // it. It is mended once it has found that it is wrong.
            Harm::Memory => now.is_memory_settled && (has_started || now.mended > self.mended),
        }
    }
}
