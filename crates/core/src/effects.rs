//! The only way out of an automaton: an ordered list of effects.
//!
//! Order is program order. What is sent or output leaves the node only when everything that was promised or persisted
//! *before it in this list* is durable; [`crate::gate::Gate`] holds it until then. The core never waits.

use crate::auth::{Evidence, Membership, Signature};
use crate::digest::Digest;
use crate::ids::{Epoch, Peer, Position, PublicKey, Time};
use crate::protocol::{Promise, Protocol, Stamp};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// To whom a message goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// One peer, perhaps oneself.
    Peer(Peer),
    /// Every replica, oneself included: one's own vote is a message to oneself, and passes the same gate.
    Replicas,
    /// Every replica but oneself.
    Others,
}

impl<P: Into<Peer>> From<P> for Target {
    fn from(peer: P) -> Self {
        Self::Peer(peer.into())
    }
}

/// Something that an automaton wants done.
pub enum Effect<P: Protocol> {
    /// Store this in the superblock; what follows waits until both copies are durable.
    Promise(Promise),
    /// Append this to the log, at this position; what follows waits until it is durable.
    Persist(Position, P::Record),
    /// Records before this position matter no more, once the last snapshot asked for before this is durable.
    Forget(Position),
    /// Write this in the background. Boxed, so that it does not make every effect large.
    Snapshot(Box<P::Snapshot>),
    /// Say this, once everything before it is durable.
    Send(Target, P::Message),
    /// Say this at once. The call site says why a crash cannot turn it into a lie.
    SendEager(Target, P::Message),
    /// Let this timer fire after that long; restart it if it runs.
    SetTimer(P::Timer, Duration),
    /// Let this timer not fire.
    CancelTimer(P::Timer),
    /// Tell the layer above, once everything before it is durable.
    Output(P::Output),
    /// Keep this evidence and show it.
    Blame(Evidence),
    /// From here on these are the members: verify by their keys, connect to them.
    Members(Membership),
    /// Do this off the core's thread.
    Work(Stamp, P::Work),
    /// Read this record of one's own log back.
    Recall(Position),
}

impl<P: Protocol> fmt::Debug for Effect<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promise(promise) => write!(f, "promise {promise:?}"),
            Self::Persist(position, record) => write!(f, "persist {position:?} {record:?}"),
            Self::Forget(before) => write!(f, "forget before {before:?}"),
            Self::Snapshot(_) => f.write_str("snapshot"),
            Self::Send(to, message) => write!(f, "send {to:?} {message:?}"),
            Self::SendEager(to, message) => write!(f, "send eagerly {to:?} {message:?}"),
            Self::SetTimer(timer, after) => write!(f, "set {timer:?} {after:?}"),
            Self::CancelTimer(timer) => write!(f, "cancel {timer:?}"),
            Self::Output(output) => write!(f, "output {output:?}"),
            Self::Blame(evidence) => write!(f, "blame {:?}", evidence.accused),
            Self::Members(members) => write!(f, "members of {:?}", members.epoch),
            Self::Work(_, work) => write!(f, "work {work:?}"),
            Self::Recall(position) => write!(f, "recall {position:?}"),
        }
    }
}

/// A service operation panicked. What it had changed is to be thrown away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Panicked;

/// What a driver hands in at every step.
pub trait Host {
    /// The node's wall clock at this step, recorded with the trace. It may be wrong by years. It enters state only
    /// through a message or a record.
    fn clock(&self) -> Time;
    /// Chance that a checker may enumerate: a number below `bound`, which is at least 1.
    fn choose(&mut self, bound: u32) -> u32;
    /// Fresh key material that no trace shows.
    fn secret(&mut self) -> [u8; 32];
    /// Whether this node can sign with this voting key. One whose disk was wiped has lost those that were made on it.
    fn holds(&self, voting: &PublicKey) -> bool {
        let _ = voting;
        true
    }
    /// A voting key that this node has made, stored beside its log, and never signed with: what it asks to come back
    /// under. None where keys are given from outside.
    fn candidate(&self) -> Option<PublicKey> {
        None
    }
    /// The candidate's signature: it shows that whoever names the key has it.
    fn vouch(&self, digest: &Digest) -> Option<Signature> {
        let _ = digest;
        None
    }
    /// Runs `operation` and says whether it panicked. Without an unwinding runtime a panic is a crash.
    fn guard(&mut self, operation: &mut dyn FnMut()) -> Result<(), Panicked> {
        operation();
        Ok(())
    }
}

/// The sink that handlers push their effects into.
pub struct Effects<'a, P: Protocol> {
    list: &'a mut Vec<Effect<P>>,
    next: &'a mut Position,
    host: &'a mut dyn Host,
}

impl<P: Protocol> fmt::Debug for Effects<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list.iter()).finish()
    }
}

impl<'a, P: Protocol> Effects<'a, P> {
    /// A sink for one step. `next` is the position that the next record gets; it moves with each.
    pub fn new(
        list: &'a mut Vec<Effect<P>>,
        next: &'a mut Position,
        host: &'a mut dyn Host,
    ) -> Self {
        Self { list, next, host }
    }

    /// Stores what must never be lost.
    pub fn promise(&mut self, promise: Promise) {
        self.list.push(Effect::Promise(promise));
    }

    /// Appends a record to the log. Its position is good for [`Effects::recall`] and [`Effects::forget`].
    pub fn persist(&mut self, record: P::Record) -> Position {
        let position = *self.next;
        *self.next = position.next();
        self.list.push(Effect::Persist(position, record));
        position
    }

    /// The position that the next record gets: what a snapshot that is asked for now can cover lies before it.
    #[must_use]
    pub const fn position(&self) -> Position {
        *self.next
    }

    /// Lets go of the records before `before`, once the last snapshot asked for is durable.
    pub fn forget(&mut self, before: Position) {
        self.list.push(Effect::Forget(before));
    }

    /// Has a snapshot written in the background.
    pub fn snapshot(&mut self, snapshot: P::Snapshot) {
        self.list.push(Effect::Snapshot(Box::new(snapshot)));
    }

    /// Says something once all that was persisted before is durable.
    pub fn send(&mut self, to: impl Into<Target>, message: P::Message) {
        self.list.push(Effect::Send(to.into(), message));
    }

    /// Says something at once. Each call site bears a comment `EAGER:` that says why a crash cannot make it a lie.
    pub fn send_eager(&mut self, to: impl Into<Target>, message: P::Message) {
        self.list.push(Effect::SendEager(to.into(), message));
    }

    /// Sets or restarts a timer.
    pub fn set_timer(&mut self, timer: P::Timer, after: Duration) {
        self.list.push(Effect::SetTimer(timer, after));
    }

    /// Stops a timer.
    pub fn cancel_timer(&mut self, timer: P::Timer) {
        self.list.push(Effect::CancelTimer(timer));
    }

    /// Tells the layer above.
    pub fn output(&mut self, output: P::Output) {
        self.list.push(Effect::Output(output));
    }

    /// Hands over evidence against a replica.
    pub fn blame(&mut self, evidence: Evidence) {
        self.list.push(Effect::Blame(evidence));
    }

    /// Changes the members.
    pub fn members(&mut self, members: Membership) {
        self.list.push(Effect::Members(members));
    }

    /// Has something computed off this thread.
    pub fn work(&mut self, stamp: Stamp, work: P::Work) {
        self.list.push(Effect::Work(stamp, work));
    }

    /// Has a record of one's own read back from the log, for a peer that lags: what is decided need not stay in
    /// memory. [`Protocol::on_recalled`] gets it.
    pub fn recall(&mut self, position: Position) {
        self.list.push(Effect::Recall(position));
    }

    /// The node's wall clock at this step.
    #[must_use]
    pub fn clock(&self) -> Time {
        self.host.clock()
    }

    /// A number below `bound` that a checker may enumerate.
    pub fn choose(&mut self, bound: u32) -> u32 {
        self.host.choose(bound.max(1))
    }

    /// Fresh key material.
    pub fn secret(&mut self) -> [u8; 32] {
        self.host.secret()
    }

    /// Whether this node can sign with this voting key. So it can with its candidate, as soon as the membership names it.
    #[must_use]
    pub fn holds(&self, voting: &PublicKey) -> bool {
        self.host.holds(voting) || self.host.candidate().as_ref() == Some(voting)
    }

    /// A voting key of this node that it has never signed with.
    #[must_use]
    pub fn candidate(&self) -> Option<PublicKey> {
        self.host.candidate()
    }

    /// The signature of that key.
    #[must_use]
    pub fn vouch(&self, digest: &Digest) -> Option<Signature> {
        self.host.vouch(digest)
    }

    /// Runs an operation of a service that may panic.
    ///
    /// # Errors
    /// When it panicked. The caller undoes what it had changed.
    pub fn guard(&mut self, operation: &mut dyn FnMut()) -> Result<(), Panicked> {
        self.host.guard(operation)
    }

    /// Runs a step of an automaton inside this one. Its effects take their places here, in order and lifted; what it
    /// tells its upper layer is handed back, as the upper layer is the caller.
    pub fn nest<Q: Protocol, R>(
        &mut self,
        lift: &Lift<Q, P>,
        step: impl FnOnce(&mut Effects<'_, Q>) -> R,
    ) -> (R, Vec<Q::Output>) {
        let mut inner = Vec::new();
        let result = step(&mut Effects::new(&mut inner, self.next, self.host));
        let mut outputs = Vec::new();
        for effect in inner {
            self.list.push(match effect {
                Effect::Promise(promise) => Effect::Promise(promise),
                Effect::Persist(position, record) => {
                    Effect::Persist(position, (lift.record)(lift.epoch, record))
                }
                Effect::Forget(before) => Effect::Forget(before),
                Effect::Snapshot(snapshot) => {
                    Effect::Snapshot(Box::new((lift.snapshot)(*snapshot)))
                }
                Effect::Send(to, message) => Effect::Send(to, (lift.message)(message)),
                Effect::SendEager(to, message) => Effect::SendEager(to, (lift.message)(message)),
                Effect::SetTimer(timer, after) => Effect::SetTimer((lift.timer)(timer), after),
                Effect::CancelTimer(timer) => Effect::CancelTimer((lift.timer)(timer)),
                Effect::Blame(evidence) => Effect::Blame(evidence),
                Effect::Members(members) => Effect::Members(members),
                Effect::Work(stamp, work) => Effect::Work(stamp, (lift.work)(work)),
                Effect::Recall(position) => Effect::Recall(position),
                Effect::Output(output) => {
                    outputs.push(output);
                    continue;
                }
            });
        }
        (result, outputs)
    }
}

/// How an inner automaton's words become those of the one around it. Constructors of enum variants are such functions.
pub struct Lift<Q: Protocol, P: Protocol> {
    /// Messages.
    pub message: fn(Q::Message) -> P::Message,
    /// The epoch that the inner automaton is in. Its records bear it, so that another epoch's does not take them for its own.
    pub epoch: Epoch,
    /// Records.
    pub record: fn(Epoch, Q::Record) -> P::Record,
    /// Snapshots.
    pub snapshot: fn(Q::Snapshot) -> P::Snapshot,
    /// Timers.
    pub timer: fn(Q::Timer) -> P::Timer,
    /// Work.
    pub work: fn(Q::Work) -> P::Work,
}

impl<Q: Protocol, P: Protocol> fmt::Debug for Lift<Q, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lift")
    }
}
