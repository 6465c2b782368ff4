//! What work costs, and how a node that has too much of it chooses.
//!
//! A world by itself is infinitely fast: whatever arrives is done at once, and no flood delays anybody. With a [`Load`]
//! each node has one processor, in virtual time. What arrives waits in a lane per sender, as in production's inbox, and
//! the processor takes one message of each sender in turn: whoever floods a node fills a lane of his own. A message
//! costs what its bytes and the signatures that are checked for it cost, also when it is refused; what a node says to
//! itself, timers, signatures and executed bundles keep the processor busy too, but wait for nobody.
//!
//! A lane holds as many messages and bytes as production's. A sender whose lane is full is read no further until half of
//! it is gone; what he sends meanwhile waits at his end, whose queue drops its oldest when it is full. What production
//! does beyond that (to end the channels of senders whose frames are wrong) is left out: lanes must be enough.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use testudo_core::{Peer, limits};

/// Bytes of messages of one sender that wait before his channel is read no further.
const LANE_BYTES: usize = 16 << 20;

/// What work costs a node's processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Costs {
    /// A step of an automaton.
    pub step: Duration,
    /// A thousand bytes of a message, to be read or to be said to one peer.
    pub kilobyte: Duration,
    /// To check a signature.
    pub check: Duration,
    /// To make one.
    pub signature: Duration,
    /// To execute a bundle.
    pub bundle: Duration,
}

impl Costs {
    /// What one core of a server takes, about.
    #[must_use]
    pub const fn server() -> Self {
        Self {
            step: Duration::from_micros(5),
            kilobyte: Duration::from_micros(1),
            check: Duration::from_micros(50),
            signature: Duration::from_micros(20),
            bundle: Duration::from_micros(20),
        }
    }
}

/// Whose message is next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turns {
    /// One of each sender in turn, as in production.
    Fair,
    /// The one that came first, whoever sent it: a mutant that floods must convict.
    Shared,
}

/// The processors of all nodes.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) costs: Costs,
    turns: Turns,
    desks: BTreeMap<u16, Desk>,
}

impl Load {
    pub(crate) const fn new(costs: Costs, turns: Turns) -> Self {
        Self { costs, turns, desks: BTreeMap::new() }
    }

    pub(crate) fn desks(&self) -> impl Iterator<Item = &Desk> {
        self.desks.values()
    }

    pub(crate) fn desk(&mut self, node: u16) -> &mut Desk {
        self.desks.entry(node).or_default()
    }

    /// The lane that a sender's messages wait in.
    pub(crate) fn lane(&self, sender: Peer) -> Option<Peer> {
        (self.turns == Turns::Fair).then_some(sender)
    }
}

/// One node's processor and what waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desk {
    /// When it will have done what it has begun.
    pub(crate) busy_until: Duration,
    /// The message that it is at.
    pub(crate) current: Option<u64>,
    /// Whether the scheduler was told when to look at it again.
    pub(crate) is_expected: bool,
    lanes: BTreeMap<Option<Peer>, Lane>,
    /// Lanes with something waiting, in the order of their turns. Invariant: each once.
    turns: VecDeque<Option<Peer>>,
}

impl Desk {
    /// The processor has this much more to do.
    pub(crate) fn charge(&mut self, now: Duration, cost: Duration) {
        self.busy_until = self.busy_until.max(now) + cost;
    }

    /// A message has arrived. Gives back one that is dropped for it.
    pub(crate) fn add(&mut self, lane: Option<Peer>, number: u64, bytes: usize) -> Option<u64> {
        let waiting = self.lanes.entry(lane).or_default();
        if waiting.read.is_empty() {
            self.turns.push_back(lane);
        }
        waiting.add(number, bytes)
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        self.lanes.values().map(|lane| lane.read.len() + lane.unread.len()).sum()
    }

    /// The next message to be looked at.
    pub(crate) fn take(&mut self) -> Option<u64> {
        let lane = self.turns.pop_front()?;
        let waiting = self.lanes.get_mut(&lane)?;
        let number = waiting.take();
        if waiting.read.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.turns.push_back(lane);
        }
        number
    }

    /// The node has crashed: what waited is gone. What it was at is found out by [`Desk::current`] being none.
    pub(crate) fn clear(&mut self) -> Vec<u64> {
        self.turns.clear();
        let lanes = std::mem::take(&mut self.lanes).into_values();
        let waiting = lanes.flat_map(|lane| lane.read.into_iter().chain(lane.unread));
        waiting.map(|(number, _)| number).chain(self.current.take()).collect()
    }
}

/// What waits of one sender.
#[derive(Clone, Debug, Default)]
struct Lane {
    /// At the node. Empty only when `unread` is.
    read: VecDeque<(u64, usize)>,
    bytes: usize,
    /// Whether it was full and half of it has not gone since.
    is_blocked: bool,
    /// At the sender's end.
    unread: VecDeque<(u64, usize)>,
}

impl Lane {
    fn is_full(&self) -> bool {
        self.read.len() >= limits::INBOX_PER_PEER || self.bytes >= LANE_BYTES
    }

    fn is_half_empty(&self) -> bool {
        self.read.len() <= limits::INBOX_PER_PEER / 2 && self.bytes <= LANE_BYTES / 2
    }

    fn add(&mut self, number: u64, bytes: usize) -> Option<u64> {
        self.unread.push_back((number, bytes));
        self.read_on();
        let is_too_much = self.unread.len() > limits::PEER_QUEUE_FRAMES;
        if is_too_much { self.unread.pop_front().map(|(number, _)| number) } else { None }
    }

    fn take(&mut self) -> Option<u64> {
        let (number, bytes) = self.read.pop_front()?;
        self.bytes -= bytes;
        self.read_on();
        Some(number)
    }

    fn read_on(&mut self) {
        self.is_blocked &= !self.is_half_empty();
        while !self.is_blocked {
            let Some((number, bytes)) = self.unread.pop_front() else { return };
            self.bytes += bytes;
            self.read.push_back((number, bytes));
            self.is_blocked = self.is_full();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_core::ReplicaId;

    fn peer(id: u16) -> Option<Peer> {
        Some(Peer::Replica(ReplicaId(id)))
    }

    #[test]
    fn senders_take_turns() {
        let mut desk = Desk::default();
        (1..=5).for_each(|number| assert_eq!(desk.add(peer(1), number, 10), None));
        (6..=7).for_each(|number| assert_eq!(desk.add(peer(2), number, 10), None));
        let order: Vec<u64> = std::iter::from_fn(|| desk.take()).collect();
        assert_eq!(order, [1, 6, 2, 7, 3, 4, 5]);
        assert!(desk.lanes.is_empty(), "an empty lane is not kept");
    }

    #[test]
    fn a_shared_queue_serves_whoever_came_first() {
        let mut desk = Desk::default();
        (1..=5).for_each(|number| assert_eq!(desk.add(None, number, 10), None));
        assert_eq!(desk.add(None, 6, 10), None);
        assert_eq!(std::iter::from_fn(|| desk.take()).last(), Some(6));
    }

    #[test]
    fn a_flood_waits_at_its_own_end_and_loses_its_oldest_there() {
        let mut desk = Desk::default();
        let (inbox, outbox) = (limits::INBOX_PER_PEER as u64, limits::PEER_QUEUE_FRAMES as u64);
        for number in 0..inbox + outbox {
            assert_eq!(desk.add(peer(1), number, 1), None);
        }
        assert_eq!(desk.add(peer(1), inbox + outbox, 1), Some(inbox), "the oldest that is unread");
        let lane = desk.lanes.get(&peer(1)).unwrap();
        assert_eq!(lane.read.len() as u64, inbox);
        // He is read on when half of his lane is gone, and not before.
        (0..inbox / 2 - 1).for_each(|number| assert_eq!(desk.take(), Some(number)));
        assert_eq!(desk.lanes.get(&peer(1)).unwrap().unread.len() as u64, outbox);
        assert_eq!(desk.take(), Some(inbox / 2 - 1));
        assert_eq!(desk.lanes.get(&peer(1)).unwrap().read.len() as u64, inbox);
        assert_eq!(desk.clear().len() as u64, inbox / 2 + outbox);
    }

    #[test]
    fn a_lane_of_few_large_messages_is_full_too() {
        let mut lane = Lane::default();
        (0..6).for_each(|number| assert_eq!(lane.add(number, LANE_BYTES / 4), None));
        assert_eq!((lane.read.len(), lane.unread.len()), (4, 2));
    }
}
