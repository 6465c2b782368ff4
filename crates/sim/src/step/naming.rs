//! What things are called, and what bears a name.

use super::{Parcel, Who};
use crate::event::{Letter, NodeId};
use crate::world::{Body, System, World, each_host};
use std::borrow::Cow;
use std::collections::BTreeMap;
use testudo_core::Peer;

/// How many messages of each kind have been put on each link.
#[derive(Clone, Default, Debug)]
pub(crate) struct Ordinals {
    /// By sender, then by receiver: kinds, and how many messages and copies of them there were.
    links: Vec<Vec<Vec<(&'static str, u32, u32)>>>,
    /// Where many messages are looked for.
    index: Option<Index>,
}

#[derive(Clone, Default, Debug)]
struct Index {
    /// The numbers of messages by their names: also of those that are under way no more.
    numbers: BTreeMap<Place, u64>,
    /// What was sent since somebody asked.
    sent: Vec<Place>,
}

/// A message by its link, its kind, and which of that kind it is.
type Place = (NodeId, NodeId, Cow<'static, str>, bool, u32);

impl Ordinals {
    /// The number of the next message of a kind on a link, counted from 1; or of the next copy of one.
    pub(crate) fn next(
        &mut self,
        (from, to): (NodeId, NodeId),
        kind: &'static str,
        is_copy: bool,
    ) -> u32 {
        let links = grown(&mut self.links, from.index());
        let kinds = grown(links, to.index());
        let place = kinds.iter().position(|(known, ..)| *known == kind);
        let place = place.unwrap_or_else(|| {
            kinds.push((kind, 0, 0));
            kinds.len() - 1
        });
        let (_, messages, copies) = &mut kinds[place];
        let count = if is_copy { copies } else { messages };
        *count += 1;
        *count
    }

    /// A message is put on its link.
    pub(crate) fn posts(&mut self, letter: &Letter, (is_copy, ordinal): (bool, u32)) {
        if let Some(index) = &mut self.index {
            let place = (letter.from, letter.to, letter.name.into(), is_copy, ordinal);
            index.sent.push(place.clone());
            index.numbers.insert(place, letter.number);
        }
    }
}

/// The element at an index, of a list that is made long enough.
fn grown<T: Default>(list: &mut Vec<T>, index: usize) -> &mut T {
    if list.len() <= index {
        list.resize_with(index + 1, T::default);
    }
    &mut list[index]
}

impl<S: System> World<S> {
    /// A node's name.
    #[must_use]
    pub fn who(&self, node: NodeId) -> Who {
        let setup = self.setup();
        match &self.body(node) {
            Body::Client(index, _) if setup.is_learner(*index) => {
                Who::Learner((index + 1 + setup.learners - setup.clients.len()) as u16)
            }
            Body::Client(index, _) => Who::Client(*index as u16 + 1),
            Body::Replica(host) => {
                let id = host.peer.replica().unwrap_or_default().0;
                if self.is_second_copy(node) { Who::Twin(id) } else { Who::Replica(id) }
            }
        }
    }

    /// The node of that name.
    #[must_use]
    pub fn named(&self, who: Who) -> Option<NodeId> {
        let setup = self.setup();
        let callers = setup.clients.len();
        let is_there = |node: &NodeId| node.index() < self.all().len() && self.who(*node) == who;
        let place = match who {
            Who::Replica(id) => usize::from(id),
            Who::Client(number) => setup.membership.n() + usize::from(number).checked_sub(1)?,
            Who::Learner(number) => {
                setup.membership.n() + callers - setup.learners
                    + usize::from(number).checked_sub(1)?
            }
            Who::Twin(_) => return self.all().find(is_there),
        };
        Some(NodeId(u16::try_from(place).ok()?)).filter(is_there)
    }

    /// The nodes of a peer: two, if it is run as twins.
    pub(crate) fn first_named(&self, peer: Peer) -> Option<Who> {
        self.all().find(|node| self.peer(*node) == peer).map(|node| self.who(node))
    }

    /// The name of a message under way.
    #[must_use]
    pub fn parcel(&self, number: u64) -> Option<Parcel> {
        let letter = self.letter(number)?;
        let (is_copy, ordinal) = self.ordinal(number)?;
        let (from, to) = (self.who(letter.from), self.who(letter.to));
        Some(Parcel { from, to, kind: letter.name.into(), is_copy, ordinal })
    }

    /// From now on messages are found by their names without looking through all.
    pub(crate) fn index_messages(&mut self) {
        self.ordinals_mut().index = Some(Index::default());
    }

    /// The names of the messages that were put on the wire since this was asked last, of an indexed world.
    pub(crate) fn take_sent(&mut self) -> Vec<Parcel> {
        let index = self.ordinals_mut().index.as_mut();
        let sent = index.map(|index| std::mem::take(&mut index.sent)).unwrap_or_default();
        let named = |(from, to, kind, is_copy, ordinal): Place| {
            let (from, to) = (self.who(from), self.who(to));
            Parcel { from, to, kind, is_copy, ordinal }
        };
        sent.into_iter().map(named).collect()
    }

    /// The number of the message of that name, if it is under way.
    #[must_use]
    pub fn posted(&self, parcel: &Parcel) -> Option<u64> {
        let (from, to) = (self.named(parcel.from)?, self.named(parcel.to)?);
        if let Some(index) = &self.ordinals().index {
            let place = (from, to, parcel.kind.clone(), parcel.is_copy, parcel.ordinal);
            let number = index.numbers.get(&place).copied();
            return number.filter(|number| self.letter(*number).is_some());
        }
        let is_it = |number: u64| self.ordinal(number) == Some((parcel.is_copy, parcel.ordinal));
        self.letters()
            .filter(|letter| letter.from == from && letter.to == to && letter.name == parcel.kind)
            .map(|letter| letter.number)
            .find(|number| is_it(*number))
    }

    /// The number of the running timer of exactly that name.
    pub(crate) fn timer_called(&self, node: NodeId, name: &str) -> Option<u64> {
        each_host!(self.body(node), host => host.timer_called(name))
    }
}
