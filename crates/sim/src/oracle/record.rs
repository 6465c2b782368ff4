//! What a run leaves on paper: counts of what really happened, and the last events before the end.

use super::Cast;
use super::window::Distinct;
use crate::event::{Event, Fact, Letter, Loss, NodeId};
use crate::world::{Observer, STOLEN};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use testudo_core::{Epoch, Slot, View};

/// How often each thing happened. A fault counts when it bites: a message lost, not a message that might have been.
#[derive(Clone, Default, Debug)]
pub struct Counts {
    /// By names as they stand in the code, which are told apart by where they stand: one name may be there twice. Each
    /// event is counted, so nothing here may take long.
    counts: Vec<(&'static str, u64)>,
    /// How often each way of lying was used.
    lies: BTreeMap<&'static str, u64>,
    /// Views that were installed, but for each epoch's first.
    views: Distinct<(Epoch, View)>,
    /// The epoch that each node is in.
    epochs: BTreeMap<NodeId, Epoch>,
    /// Epochs that were begun, but for the first.
    begun: Distinct<Epoch>,
    /// Who was convicted of what; many accuse one.
    convicted: BTreeSet<(u16, String)>,
    /// The highest slot that each node executed or restored.
    reached: BTreeMap<NodeId, Slot>,
    /// The newest message that arrived on each link.
    arrived: BTreeMap<(NodeId, NodeId), u64>,
}

impl Counts {
    /// The counts by name.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, u64> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for (name, count) in &self.counts {
            *counts.entry((*name).to_string()).or_default() += count;
        }
        counts.extend(self.lies.iter().map(|(how, count)| (format!("lies: {how}"), *count)));
        counts.insert("view changes".into(), self.views.count());
        counts.insert("epochs begun".into(), self.begun.count());
        counts.insert("lies convicted".into(), self.convicted.len() as u64);
        for (_, offence) in &self.convicted {
            *counts.entry(format!("convicted of {offence}")).or_default() += 1;
        }
        counts
    }

    /// The highest slot that a node executed or restored.
    #[must_use]
    pub fn reached(&self, node: NodeId) -> Slot {
        self.reached.get(&node).copied().unwrap_or_default()
    }

    /// How many things are remembered for counting. How often each was is a number, however often it was.
    #[must_use]
    pub fn size(&self) -> usize {
        let of_names = self.counts.len() + self.lies.len() + self.convicted.len();
        let of_nodes = self.epochs.len() + self.reached.len() + self.arrived.len();
        of_names + of_nodes + self.views.len() + self.begun.len()
    }

    fn name(event: &Event) -> Option<&'static str> {
        Some(match event {
            Event::Sent(letter) if letter.name == "state ask" => "states asked for by learners",
            Event::Sent(letter) if letter.name == STOLEN => "words under stolen keys",
            Event::Sent(_) => "messages sent",
            Event::Delivered(_) => "messages delivered",
            Event::Rejected(..) => "messages refused",
            Event::Paused(_) => "pauses",
            Event::Untimely(..) => "messages too late for a round",
            Event::Dropped(_, Loss::Network) => "messages lost",
            Event::Dropped(_, Loss::Partition) => "messages cut off",
            Event::Dropped(_, Loss::Down) => "messages to the dead",
            Event::Dropped(_, Loss::Script) => "messages dropped",
            Event::Duplicated(_) => "messages doubled",
            Event::Fired(..) => "timers fired",
            Event::Flushed(..) => "flushes",
            Event::Snapshotted(_) => "snapshots",
            Event::Crashed { .. } => "crashes",
            Event::Scrubbed(_) => "losses found by a scrub",
            Event::Harmed(_, harm) => return Some(harm.name()),
            Event::Failed(..) => "nodes that their disks stopped",
            Event::Opened(..) => "logs opened",
            Event::Lied(..) => "lies told",
            Event::Told(_, Fact::Executed { .. }) => "slots executed",
            Event::Told(_, Fact::Repeated { .. }) => "retries deduplicated",
            Event::Told(_, Fact::RolledBack(_)) => "rollbacks",
            Event::Told(_, Fact::Wrong(_)) => "states found wrong",
            Event::Told(_, Fact::Halted(_)) => "replicas that halted",
            Event::Told(_, Fact::Restored(_)) => "states transferred",
            Event::Told(_, Fact::Answered { .. }) => "requests answered",
            Event::Told(_, Fact::Published(_)) => "states shown by learners",
            Event::Told(_, Fact::Follows(_)) => "upstreams chosen",
            Event::Told(_, Fact::Fetches) => "states fetched by learners",
            Event::Told(_, Fact::Diverged(_)) => "learners diverged",
            _ => return None,
        })
    }

    fn add(&mut self, name: &'static str, count: u64) {
        if count == 0 {
            return;
        }
        match self.counts.iter_mut().find(|(known, _)| std::ptr::eq(*known, name)) {
            Some((_, sum)) => *sum += count,
            None => self.counts.push((name, count)),
        }
    }
}

impl Observer for Counts {
    fn observe(&mut self, _: Duration, event: &Event) {
        if let Some(name) = Self::name(event) {
            self.add(name, 1);
        }
        match event {
            Event::Delivered(Letter { number, from, to, .. }) => {
                let newest = self.arrived.entry((*from, *to)).or_default();
                if number < newest {
                    self.add("messages overtaken", 1);
                } else {
                    *newest = *number;
                }
            }
            Event::Started(node) => drop(self.epochs.remove(node)),
            Event::Told(node, Fact::Epoch(epoch, _)) => {
                self.epochs.insert(*node, *epoch);
                self.begun.note(*epoch);
            }
            Event::Told(node, Fact::View(view, _)) if view.0 > 0 => {
                let epoch = self.epochs.get(node).copied().unwrap_or_default();
                self.views.note((epoch, *view));
            }
            Event::Told(node, Fact::Executed { slot, .. } | Fact::Restored(slot)) => {
                let reached = self.reached.entry(*node).or_default();
                *reached = (*reached).max(*slot);
            }
            Event::Lied(_, how) => *self.lies.entry(how).or_default() += 1,
            Event::Blamed { accused, offence, convincing: true, .. } => {
                self.convicted.insert((accused.0, offence.to_string()));
            }
            Event::Crashed { writes, held, .. } => {
                self.add("writes lost in crashes", *writes as u64);
                self.add("words lost in crashes", *held as u64);
            }
            Event::Opened(_, salvage) => {
                self.add("torn tails", u64::from(salvage.torn > 0));
                self.add("places mended on disks", salvage.mended);
                self.add("losses found at starts", salvage.lost);
            }
            _ => {}
        }
    }
}

/// The last events of a run, as lines.
#[derive(Debug)]
pub struct Trace {
    cast: Cast,
    most: usize,
    /// The last events; once there are as many as are kept, a new one takes the place of the oldest.
    events: Vec<(Duration, Event)>,
    /// Where the oldest is.
    oldest: usize,
}

impl Trace {
    /// Keeps the last `most` events.
    #[must_use]
    pub const fn new(cast: Cast, most: usize) -> Self {
        Self { cast, most, events: Vec::new(), oldest: 0 }
    }

    /// The events as lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let (newer, older) = self.events.split_at(self.oldest);
        older
            .iter()
            .chain(newer)
            .map(|(at, event)| format!("{:>12.6} {}", at.as_secs_f64(), self.line(event)))
            .collect()
    }

    fn letter(&self, arrow: &str, letter: &Letter) -> String {
        let (from, to) = (self.cast.name(letter.from), self.cast.name(letter.to));
        format!("{from}{arrow}{to} {} {:?}", letter.name, letter.digest)
    }

    fn line(&self, event: &Event) -> String {
        let name = |node| self.cast.name(node);
        match event {
            Event::Sent(letter) => self.letter("->", letter),
            Event::Delivered(letter) => self.letter("=>", letter),
            Event::Rejected(letter, why) => format!("{}: {why}", self.letter("=|", letter)),
            Event::Dropped(letter, why) => format!("{} {why:?}", self.letter("-x", letter)),
            Event::Duplicated(letter) => self.letter("-=", letter),
            Event::Fired(node, timer) => format!("{} timer {timer}", name(*node)),
            Event::Flushed(node, writes) => format!("{} flushed {writes}", name(*node)),
            Event::Snapshotted(node) => format!("{} snapshot durable", name(*node)),
            Event::Worked(node) => format!("{} work done", name(*node)),
            Event::Crashed { node, writes, held } => {
                format!("{} crashed, lost {writes} writes and {held} words", name(*node))
            }
            Event::Started(node) => format!("{} started", name(*node)),
            Event::Scrubbed(node) => format!("{}: a scrub came by", name(*node)),
            Event::Harmed(node, harm) => format!("{}: {harm}", name(*node)),
            Event::Opened(node, salvage) => format!("{} opened its log: {salvage}", name(*node)),
            Event::Failed(node, why) => format!("{}: its disk fails it: {why}", name(*node)),
            Event::ClockSet(node, offset) => format!("{} clock off by {offset} ms", name(*node)),
            Event::Drifts(node, rate) => format!("{} clock drifts by {rate} ppm", name(*node)),
            Event::Paused(node) => format!("{} stops running", name(*node)),
            Event::Resumed(node) => format!("{} goes on", name(*node)),
            Event::Joined(from, to) => format!("{}---{}", name(*from), name(*to)),
            Event::Timely(bound) => format!("the network is timely: within {bound:?}"),
            Event::Untimely(letter, breach) => format!("{}: {breach}", self.letter("=?", letter)),
            Event::Cut(from, to) => format!("{}-/->{}", name(*from), name(*to)),
            Event::Healed => "the network is whole".into(),
            Event::Asked(node, number) => format!("{} asked #{number}", name(*node)),
            Event::Told(node, fact) => format!("{} {fact:?}", name(*node)),
            Event::Blamed { by, accused, offence, .. } => {
                format!("{} blames {accused:?}: {offence}", name(*by))
            }
            Event::Lied(node, how) => format!("{} lied: {how}", name(*node)),
        }
    }
}

impl Observer for Trace {
    fn observe(&mut self, at: Duration, event: &Event) {
        if self.events.len() < self.most {
            self.events.push((at, event.clone()));
        } else if let Some(oldest) = self.events.get_mut(self.oldest) {
            *oldest = (at, event.clone());
            self.oldest = (self.oldest + 1) % self.most;
        }
    }
}
