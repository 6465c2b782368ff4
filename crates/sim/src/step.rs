//! Everything that can be done to a world, one step at a time, as words.
//!
//! A run is the list of its steps: a world of the same shape and seed to which they are done again is the same world
//! again. So that a run can be cut down to what matters, a step names its object by what stays the same when other steps
//! are left out: a node by its name, a message by its link, its kind and how many of that kind had been put on that link
//! before, a timer by its node and name, work in the background by its node, its kind and its number among those. A step
//! whose object is not there does nothing.
//!
//! Each step is one line of a golden script ([`crate::script`]), and is read back from it.

mod haste;
mod naming;
mod recording;
mod text;

pub use haste::{Haste, Started};
pub(crate) use naming::Ordinals;
pub(crate) use recording::{Recording, cause};
pub(crate) use text::{numbered, read_bytes, read_duration};

use crate::adversary::Misconduct;
use std::borrow::Cow;
use std::time::Duration;
use testudo_core::Position;

/// A node by its name, which says what it is and does not depend on how many others there are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Who {
    /// `2`: a replica by its number; the first copy, if it is run as twins.
    Replica(u16),
    /// `2'`: the second copy of a replica that is run as twins.
    Twin(u16),
    /// `c1`: a client that keeps nothing, counted from 1.
    Client(u16),
    /// `l1`: a learner, counted from 1.
    Learner(u16),
}

/// A message by its name: `0->1 prepare/3` is the third PREPARE ever put on that link by its sender, and
/// `0->1 copy of prepare/1` the first copy that the network made of any of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Parcel {
    /// Who sent it.
    pub from: Who,
    /// Who is to get it.
    pub to: Who,
    /// The short name of its kind.
    pub kind: Cow<'static, str>,
    /// Whether the network made it.
    pub is_copy: bool,
    /// Which of that kind on that link it is, counted from 1.
    pub ordinal: u32,
}

/// Work in the background by its name: `work/2` is the second piece of work that its node ever began.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Chore {
    /// `work`, `recall` or `snapshot`.
    pub kind: Cow<'static, str>,
    /// Which of that kind of its node it is, counted from 1.
    pub ordinal: u32,
}

/// What befalls a disk or a memory, with everything that chance had left open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Injury {
    /// The record at this position rots.
    Record(Position),
    /// The record at this position rots, and its tag with it.
    RecordAndTag(Position),
    /// The write at this position never reached the disk.
    Write(Position),
    /// The write at the first position went to the place of the second.
    Misdirected(Position, Position),
    /// The newest snapshot that can be read rots.
    Snapshot,
    /// A value in memory becomes another one, chosen by this number.
    Memory(u64),
    /// A copy of the superblock is lost: the second, or the first.
    SuperblockCopy(bool),
    /// Both copies of the superblock are lost.
    Superblock,
    /// An empty disk takes the place of the one that was there.
    Wiped,
    /// The disk is what it was when it was kept.
    OldImage,
    /// A bit on the disk becomes another one, chosen by this number.
    FlippedBit(u64),
    /// A sector of the disk becomes noise, chosen by this number.
    LostSector(u64),
    /// A run of bytes on the disk becomes zeros, chosen by this number.
    ZeroedRun(u64),
    /// A page of the disk cannot be read any more, chosen by this number.
    UnreadableSector(u64),
    /// After so many more changes to the disk one fails.
    FailedFlush(u64),
    /// For so long the disk has no space.
    FullDisk(Duration),
    /// Flushes take so many times as long, for so long.
    SlowDisk(u32, Duration),
}

/// How a message is lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cause {
    /// The network lost it.
    Network,
    /// A script, or any other scheduler that chooses, dropped it.
    Choice,
}

/// One thing that is done to a world.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Step {
    /// It is that long since the start; nothing else happens.
    At(Duration),
    /// A node that is down starts, for the first time or again.
    Start(Who),
    /// A node stops; of its unflushed writes the first few are durable all the same.
    Crash(Who, usize),
    /// A message arrives.
    Deliver(Parcel),
    /// A message is lost.
    Lose(Parcel, Cause),
    /// The network copies a message.
    Duplicate(Parcel),
    /// A message's signature is made wrong.
    Spoil(Parcel),
    /// The timer of that name runs out.
    Fire(Who, Cow<'static, str>),
    /// The flush that is under way at a node is through.
    Flush(Who),
    /// Something in the background is through.
    Finish(Who, Chore),
    /// A node's processor looks at the next message.
    Serve(Who),
    /// A node's disk or memory comes to harm.
    Harm(Who, Injury),
    /// A scrub comes by a node's disk.
    Scrub(Who),
    /// What is on a node's disk is kept, for [`Injury::OldImage`].
    Image(Who),
    /// Messages from the first to the second are lost from now on.
    Cut(Who, Who),
    /// Messages from the first to the second are lost no more.
    Join(Who, Who),
    /// All cuts are gone.
    Heal,
    /// All disks do again what they are asked.
    Relent,
    /// From now on each message arrives within this time: the scheduler says so, and sees to it.
    Timely(Duration),
    /// A node's wall clock is that many milliseconds off.
    Clock(Who, i64),
    /// A node's wall clock and its timers run that many millionths too fast.
    Rate(Who, i32),
    /// A node stops running, and keeps its memory.
    Pause(Who),
    /// A paused node goes on, with its timers first or not.
    Resume(Who, bool),
    /// A node will crash when it has given out so much more; of its unflushed writes the first few are durable then.
    Doom(Who, u32, usize),
    /// A node will not crash in the midst of a step after all.
    Spare(Who),
    /// These talk to the second copies of twins from now on, and nobody else does.
    Sides(Vec<Who>),
    /// A node misbehaves like that from now on.
    Corrupt(Who, Misconduct),
    /// The first number that a learner draws when it starts: whom it takes what is decided from.
    Upstream(u32),
    /// The layer above a client asks for an operation, whose answer is known by the number.
    Ask(Who, u64, Vec<u8>),
    /// The layer above a replica asks for something.
    Input(Who, Vec<u8>),
}

impl Step {
    /// The nodes that it is about.
    #[must_use]
    pub fn nodes(&self) -> Vec<Who> {
        match self {
            Self::At(_)
            | Self::Heal
            | Self::Relent
            | Self::Timely(_)
            | Self::Upstream(_)
            | Self::Sides(_) => Vec::new(),
            Self::Deliver(parcel)
            | Self::Lose(parcel, _)
            | Self::Duplicate(parcel)
            | Self::Spoil(parcel) => vec![parcel.from, parcel.to],
            Self::Cut(from, to) | Self::Join(from, to) => vec![*from, *to],
            Self::Start(who)
            | Self::Crash(who, _)
            | Self::Fire(who, _)
            | Self::Flush(who)
            | Self::Finish(who, _)
            | Self::Serve(who)
            | Self::Harm(who, _)
            | Self::Scrub(who)
            | Self::Image(who)
            | Self::Clock(who, _)
            | Self::Rate(who, _)
            | Self::Pause(who)
            | Self::Resume(who, _)
            | Self::Doom(who, ..)
            | Self::Spare(who)
            | Self::Corrupt(who, _)
            | Self::Ask(who, ..)
            | Self::Input(who, _) => vec![*who],
        }
    }
}
