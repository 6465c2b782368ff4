//! What rules have seen on the way to a state.

use super::model::Model;
use super::print::{Print, prints};
use super::rename::Renaming;
use crate::event::{Event, Fact, NodeId};
use crate::oracle::{Cast, Violation};
use crate::world::{Observer, World};
use std::rc::Rc;
use std::time::Duration;

/// Takes down what happens in a step, of all that rules look at.
#[derive(Default, Debug)]
pub(super) struct Recorder {
    pub(super) events: Vec<Event>,
}

impl Observer for Recorder {
    fn observe(&mut self, _: Duration, event: &Event) {
        match event {
            Event::Told(_, Fact::Note(_)) => {}
            Event::Told(..)
            | Event::Started(_)
            | Event::Crashed { .. }
            | Event::Blamed { .. }
            | Event::Harmed(..)
            | Event::Rejected(..) => self.events.push(event.clone()),
            _ => {}
        }
    }
}

#[derive(Debug)]
struct Link {
    before: Option<Rc<Link>>,
    events: Vec<Event>,
}

/// The events on the way to a state, shared with the ways that part from it.
#[derive(Clone, Debug)]
pub(super) struct History {
    last: Option<Rc<Link>>,
    /// For each node and renaming, what stands for the sequence of what that node told.
    chains: Vec<Vec<Print>>,
}

impl History {
    pub(super) fn new(nodes: usize, renamings: usize) -> Self {
        Self { last: None, chains: vec![vec![Print::default(); renamings]; nodes] }
    }

    /// What stands for all that a node told, under a renaming.
    pub(super) fn chain(&self, node: usize, renaming: usize) -> Print {
        self.chains[node][renaming]
    }

    /// These happened next.
    pub(super) fn add(&mut self, events: Vec<Event>, renamings: &[Renaming]) {
        for event in &events {
            if let Some((node, text)) = remembered(event) {
                let next = prints(renamings, |out| out.write_str(&text));
                for (chain, next) in self.chains[node.index()].iter_mut().zip(next) {
                    *chain = chain.then(next);
                }
            }
        }
        self.last = Some(Rc::new(Link { before: self.last.take(), events }));
    }

    /// The first rule that is broken on the way.
    pub(super) fn judge<S: Model>(&self, world: &World<S>, cast: &Cast) -> Option<Violation> {
        let mut jury = world.system.jury(cast.clone());
        let mut links = Vec::new();
        let mut next = self.last.as_deref();
        while let Some(link) = next {
            links.push(link);
            next = link.before.as_deref();
        }
        for event in links.into_iter().rev().flat_map(|link| &link.events) {
            jury.observe(world.now(), event);
        }
        jury.violations().first().cloned()
    }
}

/// What rules may remember of an event, and of which node it is. A refusal is judged at once or never; how much a crash
/// took is seen in what is left.
fn remembered(event: &Event) -> Option<(NodeId, String)> {
    match event {
        Event::Told(node, fact) => Some((*node, format!("{fact:?}"))),
        Event::Started(node) => Some((*node, "started".into())),
        Event::Crashed { node, .. } => Some((*node, "crashed".into())),
        Event::Harmed(node, harm) => Some((*node, format!("{harm:?}"))),
        Event::Blamed { by, accused, offence, .. } => Some((*by, format!("{accused:?} {offence}"))),
        _ => None,
    }
}
