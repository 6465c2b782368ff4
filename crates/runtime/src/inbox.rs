//! Where events wait for the automaton.
//!
//! Messages wait in one lane per sender and are taken in turn, one of each sender at a time: whoever floods the node
//! fills a lane of his own and delays nobody else. A full lane says so to whoever fills it ([`Inbox::room`]), and the
//! sender's channel is read no further until the automaton has caught up. What the node tells itself (durable marks,
//! finished work, input) goes before messages and is bounded by what the node has asked for.

use crate::carrier::Sink;
use crate::sync::{lock, wait};
use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;
use testudo_core::{Message, Peer, Verified, limits};
use tokio::sync::Notify;

/// Messages that are taken at once before timers and the disk are looked at again.
pub(crate) const BURST: usize = 256;

/// Bytes of messages of one sender that wait before his channel is read no further. A message may be as large as a frame.
const LANE_BYTES: usize = 16 << 20;

/// What was taken out at once.
pub(crate) struct Burst<M, C> {
    /// What the node tells itself, in order.
    pub(crate) control: Vec<C>,
    /// Messages, each sender's in order.
    pub(crate) messages: Vec<Verified<M>>,
    /// Senders whose lanes were full and have room again.
    pub(crate) relieved: Vec<Peer>,
}

impl<M, C> Default for Burst<M, C> {
    fn default() -> Self {
        Self { control: Vec::new(), messages: Vec::new(), relieved: Vec::new() }
    }
}

struct Lane<M> {
    /// Messages with their lengths.
    waiting: VecDeque<(usize, Verified<M>)>,
    bytes: usize,
    /// Somebody was told that there is no room, and is to be told when there is.
    is_blocked: bool,
}

impl<M> Default for Lane<M> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, is_blocked: false }
    }
}

impl<M: Message> Lane<M> {
    fn add(&mut self, message: Verified<M>) {
        let length = message.signed().len();
        self.bytes += length;
        self.waiting.push_back((length, message));
    }

    fn pop(&mut self) -> Option<Verified<M>> {
        let (length, message) = self.waiting.pop_front()?;
        self.bytes -= length;
        Some(message)
    }

    fn room(&self) -> usize {
        if self.bytes >= LANE_BYTES {
            return 0;
        }
        limits::INBOX_PER_PEER.saturating_sub(self.waiting.len())
    }

    fn is_half_empty(&self) -> bool {
        self.waiting.len() <= limits::INBOX_PER_PEER / 2 && self.bytes <= LANE_BYTES / 2
    }
}

struct State<M, C> {
    control: VecDeque<C>,
    /// Invariant: a lane that is empty and not blocked is not kept.
    lanes: HashMap<Peer, Lane<M>>,
    /// Senders with something waiting, in the order of their turns. Invariant: each once.
    turns: VecDeque<Peer>,
    messages: usize,
    /// The host found nothing and waits to be woken.
    asleep: Option<Sleeper>,
    is_closed: bool,
}

/// What kind of host waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sleeper {
    Thread,
    Task,
}

/// The bounded queue in front of one automaton. Many fill it, one empties it.
pub(crate) struct Inbox<M, C> {
    state: Mutex<State<M, C>>,
    /// Wakes a host that has a thread.
    thread: Condvar,
    /// Wakes a host that is a task.
    task: Notify,
}

impl<M: Message, C> Inbox<M, C> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                control: VecDeque::new(),
                lanes: HashMap::new(),
                turns: VecDeque::new(),
                messages: 0,
                asleep: None,
                is_closed: false,
            }),
            thread: Condvar::new(),
            task: Notify::new(),
        }
    }

    /// One wake per burst: only a host that sleeps is woken, and only by the first that has something for it. It is woken
    /// when the lock is open, or it would run into it.
    fn wake(&self, mut state: MutexGuard<'_, State<M, C>>) {
        let asleep = state.asleep.take();
        drop(state);
        match asleep {
            None => {}
            Some(Sleeper::Thread) => self.thread.notify_one(),
            Some(Sleeper::Task) => self.task.notify_one(),
        }
    }

    /// Adds what the node tells itself. False when the host has gone.
    pub(crate) fn tell(&self, event: C) -> bool {
        let mut state = lock(&self.state);
        if state.is_closed {
            return false;
        }
        state.control.push_back(event);
        self.wake(state);
        true
    }

    /// How many more messages of this sender fit. When none do, the sender comes up in [`Burst::relieved`] later.
    pub(crate) fn room(&self, sender: Peer) -> usize {
        let mut state = lock(&self.state);
        let room = state.lanes.get(&sender).map_or(limits::INBOX_PER_PEER, Lane::room);
        if room == 0 {
            state.lanes.entry(sender).or_default().is_blocked = true;
        }
        room
    }

    /// Adds messages that came from this peer. Callers have asked for [`Inbox::room`]; what they add beyond is bounded
    /// by one read of theirs.
    pub(crate) fn deliver(&self, via: Peer, messages: impl IntoIterator<Item = Verified<M>>) {
        let mut guard = lock(&self.state);
        if guard.is_closed {
            return;
        }
        let state = &mut *guard;
        let lane = state.lanes.entry(via).or_default();
        let before = lane.waiting.len();
        messages.into_iter().for_each(|message| lane.add(message));
        let added = lane.waiting.len() - before;
        if added == 0 {
            if before == 0 && !lane.is_blocked {
                state.lanes.remove(&via);
            }
            return;
        }
        if before == 0 {
            state.turns.push_back(via);
        }
        state.messages += added;
        self.wake(guard);
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).messages
    }

    /// Takes what is there; at most [`BURST`] messages. False when nothing was.
    pub(crate) fn take(&self, burst: &mut Burst<M, C>) -> bool {
        Self::drain(&mut lock(&self.state), burst)
    }

    /// Waits until something is there or the deadline has passed, and takes it.
    pub(crate) fn wait(&self, burst: &mut Burst<M, C>, deadline: Option<Instant>) -> bool {
        let mut state = lock(&self.state);
        loop {
            if Self::drain(&mut state, burst) {
                return true;
            }
            let limit = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if limit.is_some_and(|limit| limit.is_zero()) {
                return false;
            }
            state.asleep = Some(Sleeper::Thread);
            state = wait(&self.thread, state, limit);
            state.asleep = None;
        }
    }

    /// As [`Inbox::wait`], for a host that is a task.
    pub(crate) async fn wait_as_task(
        &self,
        burst: &mut Burst<M, C>,
        deadline: Option<Instant>,
    ) -> bool {
        loop {
            {
                let mut state = lock(&self.state);
                if Self::drain(&mut state, burst) {
                    return true;
                }
                state.asleep = Some(Sleeper::Task);
            }
            match deadline {
                None => self.task.notified().await,
                Some(at) => {
                    let timeout = tokio::time::timeout_at(at.into(), self.task.notified());
                    if timeout.await.is_err() {
                        return self.take(burst);
                    }
                }
            }
        }
    }

    /// Lets go of everything and takes nothing more.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        let control = std::mem::take(&mut state.control);
        let lanes = std::mem::take(&mut state.lanes);
        state.turns.clear();
        state.messages = 0;
        drop(state);
        // What is dropped here may itself hold on to the inbox (an input's answer), so the lock is open by now.
        drop((control, lanes));
    }

    fn drain(state: &mut State<M, C>, burst: &mut Burst<M, C>) -> bool {
        burst.control.extend(state.control.drain(..));
        let room = BURST.saturating_sub(burst.messages.len());
        for _ in 0..room {
            let Some(sender) = state.turns.pop_front() else { break };
            let Some(lane) = state.lanes.get_mut(&sender) else { continue };
            if let Some(message) = lane.pop() {
                state.messages -= 1;
                burst.messages.push(message);
            }
            if lane.is_blocked && lane.is_half_empty() {
                lane.is_blocked = false;
                burst.relieved.push(sender);
            }
            if !lane.waiting.is_empty() {
                state.turns.push_back(sender);
            } else if !lane.is_blocked {
                state.lanes.remove(&sender);
            }
        }
        !(burst.control.is_empty() && burst.messages.is_empty())
    }
}

impl<M: Message + Send + Sync, C: Send> Sink<M> for Inbox<M, C> {
    fn room(&self, sender: Peer) -> usize {
        self.room(sender)
    }
    fn deliver(&self, via: Peer, messages: Vec<Verified<M>>) {
        self.deliver(via, messages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Note, key, verified};
    use std::sync::Arc;
    use std::time::Duration;
    use testudo_core::ReplicaId;

    fn peer(id: u16) -> Peer {
        Peer::Replica(ReplicaId(id))
    }

    fn notes(from: u16, count: u64) -> Vec<Verified<Note>> {
        (0..count).map(|number| verified(number, peer(from), &key(1))).collect()
    }

    #[test]
    fn senders_take_turns_and_control_goes_first() {
        let inbox: Inbox<Note, u8> = Inbox::new();
        inbox.deliver(peer(1), notes(1, 5));
        inbox.deliver(peer(2), notes(2, 2));
        inbox.tell(7);
        let mut burst = Burst::default();
        assert!(inbox.take(&mut burst));
        assert_eq!(burst.control, [7]);
        let order: Vec<(u16, u64)> = burst
            .messages
            .iter()
            .map(|note| (note.replica().unwrap().0, note.message().0))
            .collect();
        assert_eq!(order, [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (1, 3), (1, 4)]);
        assert_eq!(inbox.len(), 0);
        assert!(lock(&inbox.state).lanes.is_empty(), "an empty lane is not kept");
        assert!(!inbox.take(&mut Burst::default()));
    }

    #[test]
    fn a_full_lane_says_so_and_is_relieved_when_half_of_it_is_gone() {
        let inbox: Inbox<Note, u8> = Inbox::new();
        let limit = limits::INBOX_PER_PEER;
        inbox.deliver(peer(1), notes(1, limit as u64 - 1));
        assert_eq!(inbox.room(peer(1)), 1);
        inbox.deliver(peer(1), notes(1, 1));
        assert_eq!(inbox.room(peer(1)), 0);
        assert_eq!(inbox.room(peer(2)), limit, "others have room");
        let mut taken = 0;
        loop {
            let mut burst = Burst::default();
            assert!(inbox.take(&mut burst));
            assert!(burst.messages.len() <= BURST);
            taken += burst.messages.len();
            if !burst.relieved.is_empty() {
                assert_eq!(burst.relieved, [peer(1)]);
                break;
            }
        }
        assert!((limit / 2..=limit / 2 + BURST).contains(&taken), "relieved after {taken}");
    }

    #[test]
    fn a_lane_of_few_large_messages_is_full_too() {
        let inbox: Inbox<Note, u8> = Inbox::new();
        let large = |number| {
            Verified::seal(
                Note(number, LANE_BYTES / 4),
                peer(1),
                testudo_core::Domain::default(),
                &key(1),
            )
        };
        inbox.deliver(peer(1), (0..4).map(large));
        assert_eq!(inbox.room(peer(1)), 0);
        assert_eq!(inbox.room(peer(2)), limits::INBOX_PER_PEER);
        let mut burst = Burst::default();
        assert!(inbox.take(&mut burst));
        assert_eq!((burst.messages.len(), burst.relieved), (4, vec![peer(1)]));
        assert_eq!(inbox.room(peer(1)), limits::INBOX_PER_PEER);
    }

    #[test]
    fn a_sleeping_host_is_woken_and_a_closed_inbox_takes_nothing() {
        let inbox: Arc<Inbox<Note, u8>> = Arc::new(Inbox::new());
        let host = std::thread::spawn({
            let inbox = inbox.clone();
            move || {
                let mut burst = Burst::default();
                assert!(inbox.wait(&mut burst, None));
                burst.control
            }
        });
        assert!(inbox.tell(1));
        assert_eq!(host.join().unwrap(), [1]);
        let mut burst = Burst::default();
        assert!(!inbox.wait(&mut burst, Some(Instant::now() + Duration::from_millis(1))));
        inbox.close();
        assert!(!inbox.tell(2));
        inbox.deliver(peer(1), notes(1, 1));
        assert_eq!(inbox.len(), 0);
    }
}
