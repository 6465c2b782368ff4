//! Verification, off the automaton's thread and before anything is buffered for it.
//!
//! Frames wait in one lane per sender. A worker takes a few frames of every lane that has some, checks their signatures
//! as one batch, and then verifies each frame; a lane is never with two workers, so each sender's order is kept. Lanes of
//! senders who lately sent what was wrong are checked on their own, so that they cannot spoil a batch for others.
//!
//! Everything that waits is bounded: a lane takes frames up to its limits, and whoever reads the sender's channel waits
//! until it has room; a lane whose messages fill the automaton's inbox rests until the automaton has caught up.
//!
//! A sender whose frames are wrong pays with his credit, which comes back slowly. When it is used up his channel ends.

use crate::carrier::{CurrentScope, Scope, Sink};
use crate::memo::Memo;
use crate::metrics::Metrics;
use crate::sync::{lock, wait};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;
use testudo_core::{
    Decode, DecodeError, Digest, Header, Message, Peer, Proof, PublicKey, Reader, Rejection,
    Signature, Signed, Validity, Verified, Verifier, limits,
};
use tokio::sync::Notify;

/// Frames that a worker takes of one lane at a time.
const QUANTUM: usize = 8;
/// Frames that a worker takes at a time.
const BATCH: usize = 48;
/// Frames that wait in one lane before its channel is read no further.
const LANE_FRAMES: usize = 512;
/// Bytes that wait in one lane before its channel is read no further.
const LANE_BYTES: usize = 8 << 20;
/// A channel-strength frame up to this length is verified on the spot, where it is read.
const SPOT_BYTES: usize = 64 << 10;
/// Wrong frames that a sender may send at once.
const CREDIT: f64 = 32.0;
/// How many of them are forgiven in a second.
const CREDIT_PER_SECOND: f64 = 1.0;

/// The sender has sent too much that was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condemned;

struct Credit {
    left: f64,
    counted: Instant,
}

impl Credit {
    fn full() -> Self {
        Self { left: CREDIT, counted: Instant::now() }
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let gained = now.duration_since(self.counted).as_secs_f64() * CREDIT_PER_SECOND;
        self.left = (self.left + gained).min(CREDIT);
        self.counted = now;
    }

    fn charge(&mut self, wrong: usize) {
        self.refill();
        self.left -= wrong as f64;
    }
}

struct Lane {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// A worker has frames of it.
    is_busy: bool,
    /// It stands among the turns.
    is_queued: bool,
    /// The inbox has no room for it.
    is_parked: bool,
    /// Wakes the readers that wait for room.
    space: Arc<Notify>,
    /// Wakes the channels when the credit is used up.
    doom: Arc<Notify>,
    credit: Credit,
    /// Channels that feed it.
    channels: usize,
}

impl Lane {
    fn new() -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            is_busy: false,
            is_queued: false,
            is_parked: false,
            space: Arc::new(Notify::new()),
            doom: Arc::new(Notify::new()),
            credit: Credit::full(),
            channels: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.frames.len() >= LANE_FRAMES || self.bytes >= LANE_BYTES
    }

    fn is_condemned(&self) -> bool {
        self.credit.left <= 0.0
    }

    fn wake_readers(&self) {
        self.space.notify_waiters();
    }

    /// Whether nothing would be forgotten with it.
    fn is_idle(&mut self) -> bool {
        self.credit.refill();
        self.channels == 0 && self.frames.is_empty() && !self.is_busy && self.credit.left >= CREDIT
    }
}

#[derive(Default)]
struct State {
    lanes: HashMap<Peer, Lane>,
    /// Lanes with frames that no worker has, in the order of their turns. Invariant: each once.
    turns: VecDeque<Peer>,
    idle_workers: usize,
    is_closed: bool,
}

/// Frames of one lane in a worker's hands.
struct Taken {
    via: Peer,
    frames: Vec<Bytes>,
    is_trusted: bool,
}

/// What verifying one lane's frames came to.
struct Outcome<M> {
    via: Peer,
    believed: Vec<Verified<M>>,
    wrong: usize,
}

/// Verifies frames and hands on what is to be believed.
pub(crate) struct Verification<M> {
    state: Mutex<State>,
    work: Condvar,
    workers: usize,
    sink: Arc<dyn Sink<M>>,
    scope: Arc<CurrentScope>,
    memo: Memo,
    metrics: Arc<Metrics>,
}

impl<M: Message + Send + Sync + 'static> Verification<M> {
    /// With no workers, frames are verified where they are read: that thread is not the automaton's either, and on a
    /// machine of few cores a hop costs more than it brings.
    pub(crate) fn new(
        workers: usize,
        sink: Arc<dyn Sink<M>>,
        scope: Arc<CurrentScope>,
        memo: Memo,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let (state, work) = (Mutex::default(), Condvar::new());
        Arc::new(Self { state, work, workers, sink, scope, memo, metrics })
    }

    /// Starts the workers. They end after [`Verification::close`].
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(self: &Arc<Self>, name: &str) -> std::io::Result<Vec<JoinHandle<()>>> {
        let start = |number| {
            let this = self.clone();
            let name = format!("{name}-ver{number}");
            std::thread::Builder::new().name(name).spawn(move || this.run_worker())
        };
        (0..self.workers).map(start).collect()
    }

    /// Lets the workers end.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.turns.clear();
        state.lanes.values().for_each(Lane::wake_readers);
        self.work.notify_all();
    }

    /// A channel of this sender is up. Refused while his credit is used up.
    pub(crate) fn open_channel(&self, via: Peer) -> Result<(), Condemned> {
        let mut state = lock(&self.state);
        let lane = state.lanes.entry(via).or_insert_with(Lane::new);
        lane.credit.refill();
        // Half the credit must have come back, or a channel would end with the next wrong frame.
        if lane.is_condemned() || (lane.channels == 0 && lane.credit.left < CREDIT / 2.0) {
            return Err(Condemned);
        }
        lane.channels += 1;
        Ok(())
    }

    /// A channel of this sender is gone. What it brought is still verified.
    pub(crate) fn close_channel(&self, via: Peer) {
        let mut state = lock(&self.state);
        if let Some(lane) = state.lanes.get_mut(&via) {
            lane.channels = lane.channels.saturating_sub(1);
        }
        // Strangers with new keys come and go: their lanes are not kept. Amortised, as channels end one at a time.
        state.lanes.retain(|_, lane| !lane.is_idle());
    }

    /// The inbox has room again for these senders.
    pub(crate) fn relieve(&self, senders: &[Peer]) {
        let mut state = lock(&self.state);
        for sender in senders {
            let Some(lane) = state.lanes.get_mut(sender) else { continue };
            lane.is_parked = false;
            lane.wake_readers();
            Self::queue(&mut state, *sender);
        }
        if state.idle_workers > 0 && !state.turns.is_empty() {
            self.work.notify_one();
        }
    }

    /// Takes frames that came by this peer's channel, and waits while there is no room for more.
    ///
    /// # Errors
    /// When the sender has sent too much that was wrong.
    pub(crate) async fn push(&self, via: Peer, frames: &mut Vec<Bytes>) -> Result<(), Condemned> {
        if self.workers == 0 || self.may_verify_on_the_spot(via, frames) {
            return self.verify_here(via, frames).await;
        }
        let space = {
            let mut state = lock(&self.state);
            let Some(lane) = state.lanes.get_mut(&via) else { return Ok(()) };
            if lane.is_condemned() {
                return Err(Condemned);
            }
            lane.bytes += frames.iter().map(Bytes::len).sum::<usize>();
            lane.frames.extend(frames.drain(..));
            let space = lane.is_full().then(|| lane.space.clone());
            Self::queue(&mut state, via);
            if state.idle_workers > 0 {
                self.work.notify_one();
            }
            space
        };
        let Some(space) = space else { return Ok(()) };
        self.wait_for(via, &space, |lane| !lane.is_full()).await
    }

    /// Waits until a lane is as it should be, or is gone.
    async fn wait_for(
        &self,
        via: Peer,
        space: &Notify,
        is_ready: impl Fn(&Lane) -> bool,
    ) -> Result<(), Condemned> {
        loop {
            // Listening begins before looking, so that no wake falls between the two.
            let mut woken = pin!(space.notified());
            woken.as_mut().enable();
            {
                let state = lock(&self.state);
                match state.lanes.get(&via) {
                    _ if state.is_closed => return Ok(()),
                    None => return Ok(()),
                    Some(lane) if lane.is_condemned() => return Err(Condemned),
                    Some(lane) if is_ready(lane) => return Ok(()),
                    Some(_) => {}
                }
            }
            woken.await;
        }
    }

    /// Waits until this sender's credit is used up, though he sends nothing more.
    pub(crate) async fn doomed(&self, via: Peer) -> Condemned {
        let doom = lock(&self.state).lanes.get(&via).map(|lane| lane.doom.clone());
        let Some(doom) = doom else { return Condemned };
        loop {
            let mut woken = pin!(doom.notified());
            woken.as_mut().enable();
            if lock(&self.state).lanes.get(&via).is_none_or(Lane::is_condemned) {
                return Condemned;
            }
            woken.await;
        }
    }

    /// Small frames without a signature, of a lane that is empty: no order can be broken and no time is lost.
    fn may_verify_on_the_spot(&self, via: Peer, frames: &[Bytes]) -> bool {
        let is_light = |frame: &Bytes| {
            frame.len() <= SPOT_BYTES
                && matches!(Parts::read(frame), Ok(Parts { proof: Proof::Channel, .. }))
        };
        if frames.len() > QUANTUM || !frames.iter().all(is_light) {
            return false;
        }
        let state = lock(&self.state);
        state.lanes.get(&via).is_some_and(|lane| lane.frames.is_empty() && !lane.is_busy)
    }

    /// Verifies where it is read, as much at a time as the inbox has room for.
    async fn verify_here(&self, via: Peer, frames: &mut Vec<Bytes>) -> Result<(), Condemned> {
        let mut frames = frames.drain(..).peekable();
        while frames.peek().is_some() {
            let (room, space) = {
                let mut state = lock(&self.state);
                let Some(lane) = state.lanes.get_mut(&via) else { return Ok(()) };
                let room = self.sink.room(via);
                lane.is_parked = room == 0;
                (room, lane.space.clone())
            };
            if room == 0 {
                self.wait_for(via, &space, |lane| !lane.is_parked).await?;
                continue;
            }
            let taken = Taken {
                via,
                frames: frames.by_ref().take(room.min(QUANTUM)).collect(),
                is_trusted: true,
            };
            let outcomes = self.verify(std::slice::from_ref(&taken));
            for outcome in outcomes {
                let wrong = outcome.wrong;
                self.sink.deliver(via, outcome.believed);
                if wrong > 0 {
                    let mut state = lock(&self.state);
                    if let Some(lane) = state.lanes.get_mut(&via) {
                        lane.credit.charge(wrong);
                        if lane.is_condemned() {
                            return Err(Condemned);
                        }
                    }
                }
            }
            if frames.peek().is_some() {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn run_worker(&self) {
        loop {
            let Some(taken) = self.take() else { return };
            let outcomes = self.verify(&taken);
            for outcome in outcomes {
                self.sink.deliver(outcome.via, outcome.believed);
                self.give_back(outcome.via, outcome.wrong);
            }
        }
    }

    /// Waits for frames and takes a few of every lane. `None` when all is over.
    fn take(&self) -> Option<Vec<Taken>> {
        let mut state = lock(&self.state);
        loop {
            if state.is_closed {
                return None;
            }
            let taken = self.take_some(&mut state);
            if !taken.is_empty() {
                if state.idle_workers > 0 && !state.turns.is_empty() {
                    self.work.notify_one();
                }
                return Some(taken);
            }
            state.idle_workers += 1;
            state = wait(&self.work, state, None);
            state.idle_workers -= 1;
        }
    }

    /// Takes a few frames of every lane whose turn it is, up to a batch.
    fn take_some(&self, state: &mut State) -> Vec<Taken> {
        let mut taken: Vec<Taken> = Vec::new();
        let mut count = 0;
        for _ in 0..state.turns.len() {
            if count >= BATCH {
                break;
            }
            let Some(via) = state.turns.pop_front() else { break };
            if let Some(some) = self.take_of(state, via) {
                count += some.frames.len();
                taken.push(some);
            }
        }
        taken
    }

    fn take_of(&self, state: &mut State, via: Peer) -> Option<Taken> {
        let lane = state.lanes.get_mut(&via)?;
        lane.is_queued = false;
        // Asked under this lock: the inbox's answer to "none" comes by `relieve`, which waits for the lock.
        let room = self.sink.room(via);
        if room == 0 {
            lane.is_parked = true;
            return None;
        }
        let count = room.min(QUANTUM).min(lane.frames.len());
        let frames: Vec<Bytes> = lane.frames.drain(..count).collect();
        lane.bytes -= frames.iter().map(Bytes::len).sum::<usize>();
        lane.is_busy = true;
        if !lane.is_full() {
            lane.wake_readers();
        }
        Some(Taken { via, frames, is_trusted: lane.credit.left >= CREDIT - 0.5 })
    }

    fn give_back(&self, via: Peer, wrong: usize) {
        let mut state = lock(&self.state);
        let Some(lane) = state.lanes.get_mut(&via) else { return };
        lane.is_busy = false;
        if wrong > 0 {
            lane.credit.charge(wrong);
        } else if lane.credit.left < CREDIT {
            lane.credit.refill();
        }
        if lane.is_condemned() {
            lane.frames.clear();
            lane.bytes = 0;
            lane.wake_readers();
            lane.doom.notify_waiters();
        }
        Self::queue(&mut state, via);
    }

    /// Puts a lane among the turns if it can have one.
    fn queue(state: &mut State, via: Peer) {
        let Some(lane) = state.lanes.get_mut(&via) else { return };
        if !(lane.is_busy || lane.is_queued || lane.is_parked || lane.frames.is_empty()) {
            lane.is_queued = true;
            state.turns.push_back(via);
        }
    }

    fn verify(&self, taken: &[Taken]) -> Vec<Outcome<M>> {
        let start = Instant::now();
        let scope = self.scope.get();
        self.check_as_batch(&scope, taken);
        let outcomes = taken
            .iter()
            .map(|taken| {
                let via = taken.via;
                let mut outcome =
                    Outcome { via, believed: Vec::with_capacity(taken.frames.len()), wrong: 0 };
                for frame in &taken.frames {
                    match self.verify_frame(&scope, via, frame) {
                        Ok(verified) => outcome.believed.push(verified),
                        Err(rejection) => outcome.wrong += self.reject(via, frame, &rejection),
                    }
                }
                outcome
            })
            .collect();
        self.metrics.verification.inc_by(start.elapsed().as_secs_f64());
        outcomes
    }

    /// Checks the signatures of several frames at once. Those that are right are remembered by the memo; if one is wrong,
    /// the frames are checked one by one all the same.
    fn check_as_batch(&self, scope: &Scope, taken: &[Taken]) {
        let mut checks = Vec::new();
        for frame in taken.iter().filter(|taken| taken.is_trusted).flat_map(|taken| &taken.frames) {
            if let Ok(parts) = Parts::read(frame) {
                checks.extend(parts.check(scope));
            }
        }
        if checks.len() > 1 {
            self.metrics.batches_verified.inc();
            self.memo.check_all(&checks);
        }
    }

    fn verify_frame(
        &self,
        scope: &Scope,
        via: Peer,
        frame: &Bytes,
    ) -> Result<Verified<M>, Rejection> {
        let signed = Signed::<M>::from_bytes(frame).map_err(Rejection::Malformed)?;
        signed.verify(via, &scope.context(&self.memo))
    }

    /// Counts and logs a rejection, and gives what it costs.
    fn reject(&self, via: Peer, frame: &Bytes, rejection: &Rejection) -> usize {
        let (reason, cost) = match rejection {
            // Around a change of epoch honest peers' frames arrive too early or too late.
            Rejection::Domain if self.is_of_this_group(frame) => ("epoch", 0),
            Rejection::Domain => ("domain", 1),
            Rejection::Malformed(_) => ("malformed", 1),
            Rejection::Sender => ("sender", 1),
            Rejection::Proof => ("proof", 1),
            Rejection::Invalid(_) => ("invalid", 1),
        };
        self.metrics.rejected(reason);
        tracing::debug!(?via, bytes = frame.len(), "a frame is not believed: {rejection}");
        cost
    }

    /// Whether a frame says of itself that it is of the cluster and group that this node belongs to, in whatever epoch.
    fn is_of_this_group(&self, frame: &Bytes) -> bool {
        let domain = self.scope.get().domain.of(Validity::Group);
        Parts::read(frame).is_ok_and(|parts| parts.header.domain.of(Validity::Group) == domain)
    }
}

/// A frame, taken apart without being believed.
struct Parts<'a> {
    header: Header,
    proof: Proof,
    body: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(frame: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        if u8::decode(&mut reader)? != limits::FORMAT_VERSION {
            return Err(DecodeError::Unknown("format version"));
        }
        let header = Header::decode(&mut reader)?;
        let proof = Proof::decode(&mut reader)?;
        let body = reader.bytes()?;
        reader.finish()?;
        Ok(Self { header, proof, body })
    }

    /// What its signature claims, if it has one that can be checked.
    fn check(&self, scope: &Scope) -> Option<(PublicKey, Digest, Signature)> {
        let Proof::Signature(signature) = self.proof else { return None };
        let is_of_group = self.header.domain == scope.domain.of(Validity::Group);
        if self.header.domain != scope.domain && !is_of_group {
            return None;
        }
        let key = scope.membership.key(self.header.sender)?;
        Some((key, self.header.digest(self.body), signature))
    }
}

#[cfg(test)]
mod tests;
