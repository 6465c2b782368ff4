//! Where things are that bear names: messages under way, nodes, what goes on in their background.

use super::{Body, System, World, each_host};
use crate::event::{Letter, NodeId};
use crate::step::{Ordinals, Recording};
use testudo_core::{Signed, Verified};

impl<S: System> World<S> {
    /// The messages under way, in the order of sending.
    pub fn letters(&self) -> impl Iterator<Item = &Letter> + '_ {
        self.wire.values().map(|packet| &packet.letter)
    }

    /// A message under way.
    #[must_use]
    pub fn letter(&self, number: u64) -> Option<&Letter> {
        self.wire.get(&number).map(|packet| &packet.letter)
    }

    /// What a message under way says, as far as it reads as one: for people, who may look where no node may.
    #[must_use]
    pub fn message(&self, number: u64) -> Option<S::Message> {
        let packet = self.wire.get(&number)?;
        Verified::replay(packet.frame.signed.clone()).ok().map(Verified::into_message)
    }

    /// The frame of a message under way.
    #[must_use]
    pub fn frame(&self, number: u64) -> Option<Signed<S::Message>> {
        self.wire.get(&number).map(|packet| packet.frame.signed.clone())
    }

    /// Whether a message under way is a node's word to itself.
    #[must_use]
    pub fn is_own(&self, number: u64) -> bool {
        self.wire.get(&number).is_some_and(|packet| packet.own.is_some())
    }

    /// Its life: how often it has been started.
    #[must_use]
    pub fn life(&self, node: NodeId) -> u32 {
        self.lives[node.index()]
    }

    pub(crate) fn body(&self, node: NodeId) -> &Body<S> {
        &self.nodes[node.index()].body
    }

    /// Whether it is the second copy of a twin.
    pub(crate) fn is_second_copy(&self, node: NodeId) -> bool {
        self.nodes[node.index()].side == Some(true)
    }

    /// The index of a client by its node.
    pub(crate) fn client_index(&self, node: NodeId) -> Option<usize> {
        match self.body(node) {
            Body::Client(index, _) => Some(*index),
            Body::Replica(_) => None,
        }
    }

    /// Whether something of that number goes on in a node's background.
    pub(crate) fn is_at_work(&self, node: NodeId, number: u64) -> bool {
        each_host!(self.body(node), host => host.chore_name(number).is_some())
    }

    /// Whether the network made a message under way, and which of its kind on its link it is.
    pub(crate) fn ordinal(&self, number: u64) -> Option<(bool, u32)> {
        self.wire.get(&number).map(|packet| packet.ordinal)
    }

    pub(crate) const fn ordinals(&self) -> &Ordinals {
        &self.ordinals
    }

    pub(crate) const fn ordinals_mut(&mut self) -> &mut Ordinals {
        &mut self.ordinals
    }

    pub(crate) const fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    pub(crate) const fn recording_mut(&mut self) -> &mut Option<Box<Recording>> {
        &mut self.recording
    }
}
