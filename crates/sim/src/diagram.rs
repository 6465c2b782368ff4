//! What happened in a run, drawn: a message sequence diagram that a person can read.
//!
//! A [`Film`] listens to a world and keeps the last so many events, what messages said, and what replicas were like
//! whenever that changed. Developed ([`Film::to_html`]) it is one file of HTML that needs nothing else: no network, no
//! fonts, and no script either, though a small one makes it pleasanter.
//!
//! Each node has a lane, and time runs down. Every event has a row of its own, in the order in which things happened,
//! so that words never lie on words: a message's name stands where it arrives. Arrows slant from the moment of sending
//! to that of arrival. Distances say little of time (the margin says when), as a run is mostly waiting; where long
//! nothing happens the lanes are torn, and the tear says how long.
//!
//! The parts: this one records; `rows` makes rows of events; `layout` gives them their places; `paint` draws them, and
//! `tell` words them; `page` puts the page around the picture; `markup` is the only place that writes what others said
//! into it.

mod layout;
mod markup;
mod page;
mod paint;
mod rows;
mod tell;
#[cfg(test)]
mod tests;

use crate::event::{Event, Fact, Letter, NodeId};
use crate::oracle::{Cast, Violation};
use crate::world::{Observer, System, World};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use testudo_core::Peer;

/// A film that several hands share: the world's that it listens to, and the one that develops it.
pub type Reel = Rc<RefCell<Film>>;

/// How many letters of a message, a state or another long text are kept.
const LONGEST: usize = 600;

/// Something that was filmed.
#[derive(Clone, Debug)]
pub(crate) enum Scene {
    /// An event.
    Event(Event),
    /// What a node is like from now on.
    State(NodeId, Rc<str>),
}

/// What is known of a message whose end, if it has one yet, is still in the film.
#[derive(Clone, Debug)]
pub(crate) struct Meant {
    /// When it was sent.
    pub(crate) sent: Duration,
    /// What it says, once somebody has looked.
    pub(crate) words: Option<Rc<str>>,
    /// Whether it is the network's copy of another.
    pub(crate) is_copy: bool,
}

/// The last events of a run, with what it takes to draw them.
#[derive(Clone, Debug)]
pub struct Film {
    cast: Cast,
    limit: usize,
    scenes: VecDeque<(Duration, Scene)>,
    /// How many of these are events.
    kept: usize,
    /// How many events came before those that are kept.
    before: u64,
    letters: BTreeMap<u64, Meant>,
    /// Who ran, as far as events that are not kept any more told.
    were_up: BTreeMap<NodeId, bool>,
    /// Who held itself for the primary, as far as such events told.
    led: BTreeSet<NodeId>,
    /// What each node was like when the first event that is kept happened.
    were_like: BTreeMap<NodeId, Rc<str>>,
    /// What each node is like now.
    are_like: BTreeMap<NodeId, Rc<str>>,
    /// Messages that nobody has looked at yet.
    unread: VecDeque<u64>,
    /// Nodes to which something happened since somebody looked.
    touched: BTreeSet<NodeId>,
}

impl Film {
    /// Room for the last `limit` events.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            cast: Cast::default(),
            limit: limit.max(1),
            scenes: VecDeque::new(),
            kept: 0,
            before: 0,
            letters: BTreeMap::new(),
            were_up: BTreeMap::new(),
            led: BTreeSet::new(),
            were_like: BTreeMap::new(),
            are_like: BTreeMap::new(),
            unread: VecDeque::new(),
            touched: BTreeSet::new(),
        }
    }

    /// The same, to be shared.
    #[must_use]
    pub fn reel(limit: usize) -> Reel {
        Rc::new(RefCell::new(Self::new(limit)))
    }

    /// Begins to film a world, best before anything happens in it. What was filmed before is forgotten.
    pub fn roll<S: System>(reel: &Reel, world: &mut World<S>) {
        let limit = reel.borrow().limit;
        let film = Self { cast: Cast::of(world), ..Self::new(limit) };
        reel.replace(film);
        world.watch(reel.clone());
    }

    /// Who is who, for films of something else than a [`World`].
    pub fn bill(&mut self, cast: Cast) {
        self.cast = cast;
    }

    /// Some events at one moment, and what the nodes are like whose state they changed.
    pub fn frame(&mut self, at: Duration, events: &[Event], states: &[(NodeId, String)]) {
        for event in events {
            self.observe(at, event);
        }
        for (node, state) in states {
            self.state(at, *node, state);
        }
    }

    /// Looks at what has changed: what messages under way say, and what the replicas are like to which something
    /// happened. To be called after each step; without it the film has events alone.
    pub fn look<S: System>(&mut self, world: &World<S>) {
        for number in std::mem::take(&mut self.unread) {
            let Some(message) = world.message(number) else { continue };
            if let Some(letter) = self.letters.get_mut(&number) {
                letter.words = Some(clipped(&world.system.show(&message)));
            }
        }
        let touched = std::mem::take(&mut self.touched);
        if touched.iter().any(|node| world.is_correct(*node) != self.cast.is_correct(*node)) {
            self.cast = Cast::of(world);
        }
        for node in touched {
            let Some(host) = world.replica(node) else { continue };
            let state = host.automaton().map(|replica| world.system.describe(replica));
            self.state(world.now(), node, state.as_deref().unwrap_or("down"));
        }
    }

    /// What a message says, by its number, for films of something else than a [`World`].
    pub fn read(&mut self, number: u64, words: &str) {
        if let Some(letter) = self.letters.get_mut(&number) {
            letter.words = Some(clipped(words));
        }
    }

    /// The picture: a page of HTML, complete in itself. The violations are drawn at the end.
    #[must_use]
    pub fn to_html(&self, title: &str, subtitle: &str, violations: &[Violation]) -> String {
        page::page(self, title, subtitle, violations)
    }

    fn state(&mut self, at: Duration, node: NodeId, state: &str) {
        let state = clipped(state);
        if self.are_like.get(&node) != Some(&state) {
            self.are_like.insert(node, state.clone());
            self.push(at, Scene::State(node, state));
        }
    }

    fn push(&mut self, at: Duration, scene: Scene) {
        self.kept += usize::from(matches!(scene, Scene::Event(_)));
        self.scenes.push_back((at, scene));
        // Nobody's state changes without an event, so there are rarely more states than events.
        while self.kept > self.limit || self.scenes.len() > 2 * self.limit {
            let Some((_, scene)) = self.scenes.pop_front() else { return };
            self.leave_out(&scene);
        }
    }

    /// The oldest scene goes; what later ones need of it stays.
    fn leave_out(&mut self, scene: &Scene) {
        let event = match scene {
            Scene::State(node, state) => {
                self.were_like.insert(*node, state.clone());
                return;
            }
            Scene::Event(event) => event,
        };
        self.before += 1;
        self.kept -= 1;
        match event {
            Event::Delivered(letter) | Event::Rejected(letter, _) | Event::Dropped(letter, _) => {
                self.letters.remove(&letter.number);
            }
            Event::Crashed { node, .. } => {
                self.were_up.insert(*node, false);
                self.led.remove(node);
            }
            Event::Told(node, Fact::View(_, primary)) => {
                if self.cast.peer(*node) == Some(Peer::Replica(*primary)) {
                    self.led.insert(*node);
                } else {
                    self.led.remove(node);
                }
            }
            Event::Paused(node) => drop(self.were_up.insert(*node, false)),
            Event::Started(node) | Event::Resumed(node) => {
                self.were_up.insert(*node, true);
            }
            _ => {}
        }
    }

    fn begin(&mut self, at: Duration, letter: &Letter, is_copy: bool) {
        self.letters.insert(letter.number, Meant { sent: at, words: None, is_copy });
        self.unread.push_back(letter.number);
        // Neither grows with the run, whoever forgets to look, and whatever never arrives.
        if self.unread.len() > self.limit {
            self.unread.pop_front();
        }
        if self.letters.len() > 2 * self.limit {
            self.letters.pop_first();
        }
    }
}

impl Observer for Film {
    fn observe(&mut self, at: Duration, event: &Event) {
        match event {
            Event::Sent(letter) => self.begin(at, letter, false),
            Event::Duplicated(letter) => self.begin(at, letter, true),
            _ => {}
        }
        self.touched.extend(rows::whose(event));
        self.push(at, Scene::Event(event.clone()));
    }
}

/// A text, or as much of it as a film keeps.
fn clipped(text: &str) -> Rc<str> {
    match text.char_indices().nth(LONGEST) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}
