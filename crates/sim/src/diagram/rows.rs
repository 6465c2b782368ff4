//! From events to rows: what happened at one node at one moment, because of one thing.

use super::markup::span;
use super::{Film, Meant, Scene};
use crate::event::{Event, Fact, Letter, Loss, NodeId};
use crate::script::{Names, fact_line};
use std::collections::BTreeMap;
use std::time::Duration;
use testudo_core::{Peer, ReplicaId};

/// What stands on a lane where a row crosses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    Step,
    Heard,
    Own,
    Timer,
    Flush,
    Snapshot,
    Work,
    Crash,
    Start,
    Harm,
    Scrub,
    Clock,
    Pause,
    Resume,
    Ask,
    Answer,
    /// Concerns the network and no node.
    Network,
}

/// How words are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    Plain,
    Faint,
    Done,
    View,
    Answer,
    Harm,
    Lie,
    Blame,
    Cut,
    Healed,
}

/// Words of a row.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) tone: Tone,
    pub(super) text: String,
}

/// How a message ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    Delivered,
    Rejected(String),
    Lost(Loss),
}

/// A message's way, as far as it was filmed. Rows are named by their numbers.
#[derive(Clone, Debug)]
pub(super) struct Arrow {
    pub(super) letter: Letter,
    /// Where it was sent, unless that was before.
    pub(super) from: Option<usize>,
    /// Where it ended, and how, unless it is under way.
    pub(super) to: Option<(usize, End)>,
    /// How long it was under way, if that is known and over.
    pub(super) took: Option<Duration>,
    pub(super) is_copy: bool,
    /// What it says, in a reader's names.
    pub(super) words: String,
}

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) at: Duration,
    /// At whom it happened; nobody, where the network is meant.
    pub(super) node: Option<NodeId>,
    pub(super) mark: Mark,
    pub(super) lines: Vec<Line>,
    /// The message that ends here.
    pub(super) ends: Option<usize>,
    /// Messages that begin here.
    pub(super) begins: Vec<usize>,
    /// Whom it accuses.
    pub(super) accuses: Vec<NodeId>,
    /// What its node is like afterwards, if that changed.
    pub(super) state: Option<String>,
    /// Sentences for those who look closer.
    pub(super) said: Vec<String>,
    /// The node holds itself for the primary from here on, or not any more.
    pub(super) leads: Option<bool>,
    /// How many timers ran out before it and since the row before, with nothing to do.
    pub(super) idle: usize,
}

/// All rows and arrows of a film, and what the short names in them stand for.
pub(super) struct Reading {
    pub(super) rows: Vec<Row>,
    pub(super) arrows: Vec<Arrow>,
    pub(super) names: Names,
    /// What each node was like at the beginning.
    pub(super) before: BTreeMap<NodeId, String>,
    /// How many timers ran out after the last row, with nothing to do.
    pub(super) idle: usize,
}

/// The nodes that an event may have changed.
pub(super) fn whose(event: &Event) -> Option<NodeId> {
    match event {
        Event::Delivered(letter) => Some(letter.to),
        Event::Sent(letter) => Some(letter.from),
        Event::Fired(node, _)
        | Event::Flushed(node, _)
        | Event::Snapshotted(node)
        | Event::Worked(node)
        | Event::Crashed { node, .. }
        | Event::Started(node)
        | Event::Harmed(node, _)
        | Event::Opened(node, _)
        | Event::Failed(node, _)
        | Event::Scrubbed(node)
        | Event::ClockSet(node, _)
        | Event::Drifts(node, _)
        | Event::Paused(node)
        | Event::Resumed(node)
        | Event::Asked(node, _)
        | Event::Told(node, _)
        | Event::Lied(node, _)
        | Event::Blamed { by: node, .. } => Some(*node),
        Event::Rejected(..)
        | Event::Dropped(..)
        | Event::Duplicated(_)
        | Event::Untimely(..)
        | Event::Cut(..)
        | Event::Joined(..)
        | Event::Timely(_)
        | Event::Healed => None,
    }
}

/// Reads a film.
pub(super) fn read(film: &Film) -> Reading {
    let mut reader = Reader {
        film,
        reading: Reading {
            rows: Vec::new(),
            arrows: Vec::new(),
            names: Names::default(),
            before: BTreeMap::new(),
            idle: 0,
        },
        under_way: BTreeMap::new(),
        cuts: Vec::new(),
        is_joining: false,
    };
    for (node, state) in &film.were_like {
        let state = reader.reading.names.apply(state);
        reader.reading.before.insert(*node, state);
    }
    for (at, scene) in &film.scenes {
        match scene {
            Scene::Event(Event::Cut(..)) if !reader.is_joining => {}
            Scene::Event(Event::Joined(..)) if reader.is_joining => {}
            _ => reader.close_cuts(),
        }
        match scene {
            Scene::Event(event) => reader.event(*at, event),
            Scene::State(node, state) => reader.state(*at, *node, state),
        }
    }
    reader.close_cuts();
    reader.tidy();
    reader.reading
}

struct Reader<'a> {
    film: &'a Film,
    reading: Reading,
    /// Messages under way, by number: which arrow.
    under_way: BTreeMap<u64, usize>,
    /// Cuts that came one after the other, for one row, or ends of such.
    cuts: Vec<(NodeId, NodeId)>,
    is_joining: bool,
}

impl Reader<'_> {
    fn event(&mut self, at: Duration, event: &Event) {
        match event {
            Event::Sent(letter) => {
                let row = self.row_of(at, letter.from);
                self.begin(row, letter);
            }
            Event::Duplicated(letter) => self.duplicated(at, letter),
            Event::Delivered(letter) if letter.from == letter.to => {
                let row = self.open(at, Some(letter.to), Mark::Own);
                self.end(row, letter, End::Delivered);
            }
            Event::Delivered(letter) => {
                let row = self.open(at, Some(letter.to), Mark::Heard);
                self.end(row, letter, End::Delivered);
            }
            Event::Rejected(letter, why) => {
                let row = self.open(at, Some(letter.to), Mark::Heard);
                let why = self.reading.names.apply(why);
                self.end(row, letter, End::Rejected(why));
            }
            Event::Dropped(letter, why) => {
                let row = self.open(at, None, Mark::Network);
                self.end(row, letter, End::Lost(*why));
            }
            Event::Told(node, fact) => self.told(at, *node, fact),
            Event::Lied(node, how) => {
                let row = self.row_of(at, *node);
                self.line(row, Tone::Lie, &format!("lies: {how}"));
            }
            Event::Blamed { by, accused, offence, convincing } => {
                self.blamed(at, *by, *accused, offence, *convincing);
            }
            Event::Cut(from, to) => self.cut(at, *from, *to, false),
            Event::Joined(from, to) => self.cut(at, *from, *to, true),
            Event::Timely(bound) => {
                let row = self.open(at, None, Mark::Network);
                let text = format!("the network is timely from here on: within {}", span(*bound));
                self.line(row, Tone::Healed, &text);
            }
            Event::Untimely(letter, breach) => {
                let row = self.open(at, Some(letter.to), Mark::Step);
                let from = self.film.cast.name(letter.from);
                self.line(row, Tone::Harm, &format!("{} of {from}: {breach}", letter.name));
            }
            Event::Healed => {
                let row = self.open(at, None, Mark::Network);
                self.line(row, Tone::Healed, "the network is whole again");
            }
            Event::Asked(node, number) => self.asked(at, *node, *number),
            other => self.befell(at, other),
        }
    }

    fn cut(&mut self, at: Duration, from: NodeId, to: NodeId, is_joining: bool) {
        self.is_joining = is_joining;
        if self.cuts.is_empty() {
            self.open(at, None, Mark::Network);
        }
        self.cuts.push((from, to));
    }

    /// What befalls a node, and is its row's beginning.
    fn befell(&mut self, at: Duration, event: &Event) {
        let (node, mark, tone, text) = match event {
            Event::Fired(node, timer) => (*node, Mark::Timer, Tone::Plain, timer.to_string()),
            Event::Flushed(node, writes) => {
                (*node, Mark::Flush, Tone::Faint, format!("flushed {writes}"))
            }
            Event::Snapshotted(node) => {
                (*node, Mark::Snapshot, Tone::Faint, "snapshot durable".into())
            }
            Event::Worked(node) => (*node, Mark::Work, Tone::Faint, "work done".into()),
            Event::Crashed { node, writes: 0, held: 0 } => {
                (*node, Mark::Crash, Tone::Harm, "crashed".into())
            }
            Event::Crashed { node, writes, held } => {
                let lost = format!("crashed: lost {writes} writes, {held} words");
                (*node, Mark::Crash, Tone::Harm, lost)
            }
            Event::Started(node) => (*node, Mark::Start, Tone::Plain, "started".into()),
            Event::Opened(node, salvage) => {
                (*node, Mark::Scrub, Tone::Plain, format!("opened its log: {salvage}"))
            }
            Event::Failed(node, why) => (*node, Mark::Harm, Tone::Harm, why.to_string()),
            Event::Harmed(node, harm) => (*node, Mark::Harm, Tone::Harm, format!("harm: {harm}")),
            Event::Scrubbed(node) => {
                (*node, Mark::Scrub, Tone::Harm, "a scrub finds losses".into())
            }
            Event::ClockSet(node, offset) => {
                (*node, Mark::Clock, Tone::Faint, format!("clock {offset:+} ms"))
            }
            Event::Drifts(node, rate) => {
                (*node, Mark::Clock, Tone::Faint, format!("clock drifts {rate:+} ppm"))
            }
            Event::Paused(node) => (*node, Mark::Pause, Tone::Harm, "stops running".into()),
            Event::Resumed(node) => (*node, Mark::Resume, Tone::Plain, "goes on".into()),
            // Whatever has no sign of its own is at least told.
            other => {
                let node = whose(other);
                let mark = if node.is_some() { Mark::Step } else { Mark::Network };
                let row = self.open(at, node, mark);
                return self.line(row, Tone::Plain, &format!("{other:?}"));
            }
        };
        let row = self.open(at, Some(node), mark);
        // Its sign says enough; how many writes it was, those see who look closer.
        if matches!(mark, Mark::Flush | Mark::Work) {
            self.reading.rows[row].said.push(text);
        } else {
            self.line(row, tone, &text);
        }
        if matches!(event, Event::Crashed { .. }) {
            self.reading.rows[row].leads = Some(false);
        }
    }

    fn told(&mut self, at: Duration, node: NodeId, fact: &Fact) {
        let row = self.row_of(at, node);
        let text = fact_line(fact);
        let tone = match fact {
            Fact::Executed { .. } | Fact::Restored(_) | Fact::Committed(_) => Tone::Done,
            Fact::View(_, primary) => {
                let is_self = self.film.cast.peer(node) == Some(Peer::Replica(*primary));
                self.reading.rows[row].leads = Some(is_self);
                Tone::View
            }
            Fact::Epoch(..) => Tone::View,
            Fact::Answered { .. } => {
                if self.reading.rows[row].mark == Mark::Step {
                    self.reading.rows[row].mark = Mark::Answer;
                }
                Tone::Answer
            }
            Fact::Wrong(_) | Fact::RolledBack(_) | Fact::Diverged(_) => Tone::Harm,
            // Each request of a batch: its slot's line says enough.
            Fact::Applied { .. } => {
                let text = self.reading.names.apply(&text);
                self.reading.rows[row].said.push(text);
                return;
            }
            _ => Tone::Plain,
        };
        self.line(row, tone, &text);
    }

    fn blamed(&mut self, at: Duration, by: NodeId, whom: ReplicaId, why: &str, convincing: bool) {
        let row = self.row_of(at, by);
        let proof = if convincing { "" } else { " (convinces nobody)" };
        self.line(row, Tone::Blame, &format!("accuses {whom:?}: {why}{proof}"));
        let accused = self.film.cast.nodes_of(Peer::Replica(whom));
        self.reading.rows[row].accuses.extend(accused);
    }

    fn asked(&mut self, at: Duration, node: NodeId, number: u64) {
        let noted = self.reading.rows.len().checked_sub(1).filter(|last| {
            let last = &self.reading.rows[*last];
            last.node == Some(node) && last.at == at && last.mark == Mark::Step
        });
        match noted {
            Some(row) => self.reading.rows[row].mark = Mark::Ask,
            None => {
                let row = self.open(at, Some(node), Mark::Ask);
                self.line(row, Tone::Answer, &format!("is asked #{number}"));
            }
        }
    }

    fn state(&mut self, at: Duration, node: NodeId, state: &str) {
        let state = self.reading.names.apply(state);
        let row = self.reading.rows.iter().rposition(|row| row.node == Some(node));
        let row = row.unwrap_or_else(|| self.open(at, Some(node), Mark::Step));
        self.reading.rows[row].state = Some(state);
    }

    /// A copy begins where its original did.
    fn duplicated(&mut self, at: Duration, letter: &Letter) {
        let is_original = |arrow: &Arrow| {
            let Letter { from, to, digest, .. } = arrow.letter;
            (from, to, digest) == (letter.from, letter.to, letter.digest)
        };
        let original = self.reading.arrows.iter().rev().find(|arrow| is_original(arrow));
        match original.and_then(|arrow| arrow.from) {
            Some(row) => self.begin(row, letter),
            None => {
                let row = self.row_of(at, letter.from);
                self.begin(row, letter);
            }
        }
    }

    fn begin(&mut self, row: usize, letter: &Letter) {
        let arrow = self.arrow(letter, Some(row));
        self.reading.rows[row].begins.push(arrow);
        self.under_way.insert(letter.number, arrow);
    }

    fn end(&mut self, row: usize, letter: &Letter, end: End) {
        let known = self.under_way.remove(&letter.number);
        let arrow = known.unwrap_or_else(|| self.arrow(letter, None));
        let at = self.reading.rows[row].at;
        let sent = self.film.letters.get(&letter.number).map(|meant| meant.sent);
        self.reading.arrows[arrow].took = sent.map(|sent| at.saturating_sub(sent));
        self.reading.arrows[arrow].to = Some((row, end));
        self.reading.rows[row].ends = Some(arrow);
    }

    fn arrow(&mut self, letter: &Letter, from: Option<usize>) -> usize {
        let meant = self.film.letters.get(&letter.number);
        let words = meant.and_then(|Meant { words, .. }| words.clone()).unwrap_or_default();
        self.reading.arrows.push(Arrow {
            letter: *letter,
            from,
            to: None,
            took: None,
            is_copy: meant.is_some_and(|meant| meant.is_copy),
            words: self.reading.names.apply(&words),
        });
        self.reading.arrows.len() - 1
    }

    fn open(&mut self, at: Duration, node: Option<NodeId>, mark: Mark) -> usize {
        self.reading.rows.push(Row {
            at,
            node,
            mark,
            lines: Vec::new(),
            ends: None,
            begins: Vec::new(),
            accuses: Vec::new(),
            state: None,
            said: Vec::new(),
            leads: None,
            idle: 0,
        });
        self.reading.rows.len() - 1
    }

    /// The row that this moment at this node belongs to.
    fn row_of(&mut self, at: Duration, node: NodeId) -> usize {
        let last = self.reading.rows.len().checked_sub(1);
        let is_same = |row: &usize| {
            let row = &self.reading.rows[*row];
            row.node == Some(node) && row.at == at
        };
        last.filter(is_same).unwrap_or_else(|| self.open(at, Some(node), Mark::Step))
    }

    fn line(&mut self, row: usize, tone: Tone, text: &str) {
        let text = self.reading.names.apply(text);
        let row = &mut self.reading.rows[row];
        row.said.push(text.clone());
        if !row.lines.iter().any(|line| line.text == text) {
            row.lines.push(Line { tone, text });
        }
    }

    fn close_cuts(&mut self) {
        let cuts = std::mem::take(&mut self.cuts);
        let Some(last) = self.reading.rows.len().checked_sub(1) else { return };
        let tone = if std::mem::take(&mut self.is_joining) { Tone::Healed } else { Tone::Cut };
        for text in tell_cuts(&cuts, tone, |node| self.film.cast.name(node).to_string()) {
            self.line(last, tone, &text);
        }
    }

    /// Rows of which nothing came go: a word to oneself, a timer that only sets itself again. Timers are counted.
    fn tidy(&mut self) {
        let sends =
            |row: &Row| row.begins.iter().any(|arrow| !is_own(&self.reading.arrows[*arrow]));
        let is_seen = |row: &Row| match row.mark {
            Mark::Own => !row.lines.is_empty() || sends(row),
            Mark::Timer => row.lines.len() > 1 || row.state.is_some() || sends(row),
            _ => true,
        };
        let seen: Vec<bool> = self.reading.rows.iter().map(is_seen).collect();
        let mut places = Vec::with_capacity(seen.len());
        let (mut rows, mut idle): (Vec<Row>, usize) = (Vec::new(), 0);
        for (mut row, is_seen) in std::mem::take(&mut self.reading.rows).into_iter().zip(seen) {
            places.push(is_seen.then_some(rows.len()));
            if is_seen {
                row.idle = std::mem::take(&mut idle);
                rows.push(row);
                continue;
            }
            idle += usize::from(row.mark == Mark::Timer);
            // It changed something inside all the same: the node's row before shows that.
            let before = rows.iter_mut().rev().find(|before| before.node == row.node);
            if let (Some(before), Some(state)) = (before, row.state) {
                before.state = Some(state);
            }
        }
        self.reading.rows = rows;
        self.reading.idle = idle;
        for arrow in &mut self.reading.arrows {
            arrow.from = arrow.from.and_then(|row| places[row]);
            arrow.to = arrow.to.take().and_then(|(row, end)| Some((places[row]?, end)));
        }
    }
}

/// Whether a message is a node's word to itself.
pub(super) fn is_own(arrow: &Arrow) -> bool {
    arrow.letter.from == arrow.letter.to
}

/// Cuts in a few words: who is not heard by whom, and whether that is mutual.
fn tell_cuts(
    cuts: &[(NodeId, NodeId)],
    tone: Tone,
    name: impl Fn(NodeId) -> String,
) -> Vec<String> {
    let mut deaf: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for (from, to) in cuts {
        deaf.entry(*from).or_default().push(*to);
    }
    let mut groups: BTreeMap<Vec<NodeId>, Vec<NodeId>> = BTreeMap::new();
    for (from, mut to) in deaf {
        to.sort_unstable();
        groups.entry(to).or_default().push(from);
    }
    let list = |nodes: &[NodeId]| nodes.iter().map(|n| name(*n)).collect::<Vec<_>>().join(" ");
    let mut told = Vec::new();
    for (to, from) in &groups {
        let is_mutual = groups.get(from) == Some(to);
        if is_mutual && from > to {
            continue;
        }
        let (from, to) = (list(from), list(to));
        told.push(match (tone, is_mutual) {
            (Tone::Healed, true) => format!("joined: {from} and {to} hear each other again"),
            (Tone::Healed, false) => format!("joined: {to} can hear {from} again"),
            (_, true) => format!("cut: {from} and {to} do not hear each other"),
            (_, false) => format!("cut: {to} cannot hear {from}"),
        });
    }
    told
}
