//! The whole seam between a protocol and whatever runs it.

use crate::auth::{Message, Verified};
use crate::effects::Effects;
use crate::ids::{Epoch, Incarnation, Peer, Position, View};
use crate::tag::{Lost, Rot, Tagged};
use alloc::vec::Vec;
use core::fmt;

/// A deterministic automaton. It does no I/O and knows no time and no chance but what its driver hands it; all that it
/// wants done goes, in order, into [`Effects`].
///
/// Nothing that a peer or client says may make a handler panic. What it asserts is its own state.
pub trait Protocol: Sized {
    /// What it is started with: membership, limits, timeouts.
    type Config;
    /// What it says to peers.
    type Message: Message;
    /// What must survive a crash, one record at a time.
    type Record: Clone + fmt::Debug + Tagged;
    /// What must survive a crash, whole: an O(1) clone that is written from time to time instead of records.
    type Snapshot: Clone + fmt::Debug;
    /// The names of its timeouts. Setting a timer that runs restarts it.
    type Timer: Copy + Ord + fmt::Debug;
    /// What the layer above asks for.
    type Input: fmt::Debug;
    /// What the layer above is told.
    type Output: fmt::Debug;
    /// Pure computation that it has done off its thread. [`NoWork`] for those that need none.
    type Work: Work;

    /// The position before which a snapshot stands for every record: those at and after it must be read beside it. Where a
    /// driver finds that records after this are forgotten, it adds a loss without a tag to the past.
    fn covered(snapshot: &Self::Snapshot) -> Position {
        let _ = snapshot;
        Position(u64::MAX)
    }
    /// What is to be held of a record until [`Protocol::start`] gets it: all of it, or less, or nothing, where the snapshot
    /// says as much. A driver asks it of each record as that is read, so that a long log is never in memory whole.
    fn keep(
        snapshot: Option<&Self::Snapshot>,
        position: Position,
        record: Self::Record,
    ) -> Option<Self::Record> {
        let _ = (snapshot, position);
        Some(record)
    }
    /// First boot and recovery are one path: an empty past is a first boot. May have effects like any step.
    fn start(
        config: Self::Config,
        me: Peer,
        past: Past<Self::Snapshot, Self::Record>,
        fx: &mut Effects<'_, Self>,
    ) -> Self;
    /// The layer above asks for something.
    fn on_input(&mut self, input: Self::Input, fx: &mut Effects<'_, Self>);
    /// A peer, perhaps oneself, said something, and it was verified.
    fn on_message(&mut self, message: Verified<Self::Message>, fx: &mut Effects<'_, Self>);
    /// A timer that was set has run out.
    fn on_timer(&mut self, timer: Self::Timer, fx: &mut Effects<'_, Self>);
    /// Work that was asked for is done.
    fn on_work(&mut self, done: Done<Self>, fx: &mut Effects<'_, Self>) {
        let _ = (done, fx);
    }
    /// A record of one's own that [`Effects::recall`] asked for was read back.
    fn on_recalled(
        &mut self,
        position: Position,
        record: Self::Record,
        fx: &mut Effects<'_, Self>,
    ) {
        let _ = (position, record, fx);
    }
    /// Something on its disk was found to have rotted while it runs. What it holds in memory is right; what it would find at
    /// its next start is not, until it has had that written anew.
    fn on_rot(&mut self, rot: Rot, fx: &mut Effects<'_, Self>) {
        let _ = (rot, fx);
    }
    /// Asserts what always holds, in O(1). Every driver calls it after every step.
    fn invariants(&self) {}
    /// Asserts what always holds, however long it takes. For simulators and tests.
    fn audit(&self) {}
}

/// The little that must never be lost. It lives in a duplicated superblock, both copies durable before anything that
/// rests on them leaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Promise {
    /// The epoch that it takes part in.
    pub epoch: Epoch,
    /// The highest view of that epoch that the node has said anything in, or moved to.
    pub view: View,
    /// Under which voting key it speaks.
    pub incarnation: Incarnation,
}
crate::wire_struct!(Promise { epoch, view, incarnation });

/// What a node remembers when it starts. Empty at first boot.
#[derive(Clone, Debug)]
pub struct Past<S, R> {
    /// The superblock.
    pub promise: Option<Promise>,
    /// The newest snapshot that was read back whole.
    pub snapshot: Option<S>,
    /// Every record that is durable and not forgotten, with its position, in order: what [`Protocol::keep`] kept of them.
    pub records: Vec<(Position, R)>,
    /// Records that were durable and are lost, in order.
    pub lost: Vec<Lost>,
}

impl<S, R> Past<S, R> {
    /// The past of a node that never ran.
    #[must_use]
    pub const fn none() -> Self {
        Self { promise: None, snapshot: None, records: Vec::new(), lost: Vec::new() }
    }
}

impl<S, R> Default for Past<S, R> {
    fn default() -> Self {
        Self::none()
    }
}

/// Pure computation, done off the core's thread. Its completion is an event that the driver places.
pub trait Work: Clone + fmt::Debug + Send + 'static {
    /// What it comes to.
    type Output: Clone + fmt::Debug + Send + 'static;
    /// Does it. A function of `self` alone.
    fn run(self) -> Self::Output;
}

/// The work of protocols that need none.
#[derive(Clone, Copy, Debug)]
pub enum NoWork {}

impl Work for NoWork {
    type Output = Self;
    fn run(self) -> Self {
        self
    }
}

/// What work belongs to. A protocol drops what comes back with an older stamp than its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Stamp {
    /// The epoch that it was asked for in.
    pub epoch: Epoch,
    /// How often the protocol had rolled back or restored its state by then.
    pub generation: u64,
}

/// Work that is done. Drivers drop what an earlier life of the process had asked for.
#[derive(Clone, Debug)]
pub struct Done<P: Protocol> {
    /// What it belongs to.
    pub stamp: Stamp,
    /// What it came to.
    pub output: <P::Work as Work>::Output,
}
