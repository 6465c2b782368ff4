//! Whether the timing assumption that synchronous protocols rest on held in a run.
//!
//! A synchronous protocol promises nothing once a message between two correct nodes has taken longer than its bound. So
//! before an oracle blames the protocol it asks this monitor whether the assumption itself broke: [`Lateness`] watches
//! what is sent and delivered, and finds every message that missed its due moment or was lost on its way.
//!
//! Only messages between nodes that keep the model are held against the network: a liar may hold back what it says, and
//! who was down or paused between sending and due moment is itself at fault. What a node says to itself is never late.

use crate::event::{Event, Letter, NodeId};
use crate::oracle::Cast;
use crate::world::Observer;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// When a message is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// So long after it was sent (the bound Δ of synchrony).
    Transit(Duration),
    /// Before the round ends in which it was sent. All rounds are that long, and the first begins with the run.
    Round(Duration),
}

impl Bound {
    /// The last moment at which a message that is sent now is in time.
    #[must_use]
    pub fn due(self, sent: Duration) -> Duration {
        match self {
            Self::Transit(delay) => sent + delay,
            Self::Round(length) => {
                let length = length.as_nanos().max(1);
                let round = sent.as_nanos() / length + 1;
                Duration::from_nanos(u64::try_from(round * length - 1).unwrap_or(u64::MAX))
            }
        }
    }
}

/// How a message broke the assumption.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Breach {
    /// It arrived so long after its due moment.
    Late(Duration),
    /// It had not arrived by its due moment; nor has it since.
    Missing,
    /// It was lost.
    Lost,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(by) => write!(f, "late by {by:?}"),
            Self::Missing => f.write_str("not there in time"),
            Self::Lost => f.write_str("lost"),
        }
    }
}

/// A message that broke the assumption.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finding {
    /// When that came out.
    pub at: Duration,
    /// The message.
    pub letter: Letter,
    /// How.
    pub breach: Breach,
}

impl Finding {
    /// The same as an event, for whoever reads events only.
    #[must_use]
    pub const fn event(&self) -> Event {
        Event::Untimely(self.letter, self.breach)
    }
}

/// The monitor: an [`Observer`] of a world.
#[derive(Clone, Debug)]
pub struct Lateness {
    bound: Bound,
    cast: Cast,
    /// From when on the assumption is made.
    since: Duration,
    /// Messages under way: when each is due.
    under_way: BTreeMap<u64, (Duration, Letter)>,
    /// The same in the order of due moments.
    due: BTreeSet<(Duration, u64)>,
    /// Nodes that do not run now.
    stopped: BTreeSet<NodeId>,
    findings: Vec<Finding>,
    breaches: u64,
}

impl Lateness {
    /// Watches from `since` on, in a world with this cast.
    #[must_use]
    pub const fn new(bound: Bound, since: Duration, cast: Cast) -> Self {
        Self {
            bound,
            cast,
            since,
            under_way: BTreeMap::new(),
            due: BTreeSet::new(),
            stopped: BTreeSet::new(),
            findings: Vec::new(),
            breaches: 0,
        }
    }

    /// The bound.
    #[must_use]
    pub const fn bound(&self) -> Bound {
        self.bound
    }

    /// Whether the assumption held so far: where it did, what goes wrong is the protocol's fault.
    #[must_use]
    pub const fn held(&self) -> bool {
        self.breaches == 0
    }

    /// How many messages broke it.
    #[must_use]
    pub const fn breaches(&self) -> u64 {
        self.breaches
    }

    /// What was found since the last call.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// Time has come this far: what was due earlier and is not there is missing. A round driver asks at every round's end.
    pub fn advance(&mut self, now: Duration) {
        while let Some((due, number)) = self.due.first().copied()
            && due < now
        {
            self.due.pop_first();
            if let Some((_, letter)) = self.under_way.get(&number).copied() {
                self.find(now, letter, Breach::Missing);
            }
        }
    }

    fn find(&mut self, at: Duration, letter: Letter, breach: Breach) {
        self.breaches += 1;
        self.findings.push(Finding { at, letter, breach });
    }

    fn send(&mut self, now: Duration, letter: Letter) {
        let is_bound = letter.from != letter.to
            && now >= self.since
            && self.cast.is_correct(letter.from)
            && self.cast.is_correct(letter.to)
            && !self.stopped.contains(&letter.to);
        if is_bound {
            let due = self.bound.due(now);
            self.under_way.insert(letter.number, (due, letter));
            self.due.insert((due, letter.number));
        }
    }

    fn arrive(&mut self, now: Duration, number: u64) {
        let Some((due, letter)) = self.under_way.remove(&number) else { return };
        let was_missed = !self.due.remove(&(due, number));
        if was_missed {
            // It was found missing once; that it is late after all says how much.
            self.findings.push(Finding { at: now, letter, breach: Breach::Late(now - due) });
        } else if now > due {
            self.find(now, letter, Breach::Late(now - due));
        }
    }

    fn lose(&mut self, now: Duration, number: u64) {
        let Some((due, letter)) = self.under_way.remove(&number) else { return };
        if self.due.remove(&(due, number)) {
            self.find(now, letter, Breach::Lost);
        }
    }

    /// A node does not run, until an event says that it does: whatever is under way to it is its own fault.
    pub fn excuse(&mut self, node: NodeId) {
        self.stopped.insert(node);
        let due = &mut self.due;
        self.under_way.retain(|number, (at, letter)| {
            let stays = letter.to != node;
            if !stays {
                due.remove(&(*at, *number));
            }
            stays
        });
    }
}

impl Observer for Lateness {
    fn observe(&mut self, at: Duration, event: &Event) {
        self.advance(at);
        match event {
            Event::Sent(letter) => self.send(at, *letter),
            Event::Delivered(letter) | Event::Rejected(letter, _) => {
                self.arrive(at, letter.number);
            }
            Event::Dropped(letter, _) => self.lose(at, letter.number),
            Event::Crashed { node, .. } | Event::Paused(node) => self.excuse(*node),
            Event::Started(node) | Event::Resumed(node) => {
                self.stopped.remove(node);
            }
            _ => {}
        }
    }
}
