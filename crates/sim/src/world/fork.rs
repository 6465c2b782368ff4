//! Worlds that go different ways from one moment on, for those who want to see all that may come of it.

use super::{Body, Node, Packet, Pending, System, World, each_host};
use crate::event::NodeId;
use crate::rng::Dictation;
use std::fmt;
use testudo_core::{Message, Protocol};

impl<M: Message> Clone for Packet<M> {
    fn clone(&self) -> Self {
        let (frame, own) = (self.frame.clone(), self.own.clone());
        Self { frame, letter: self.letter, ordinal: self.ordinal, own }
    }
}

impl<S> World<S>
where
    S: System + Clone,
    S::Replica: Clone,
    S::Client: Clone,
    <S::Replica as Protocol>::Output: Clone,
    <S::Client as Protocol>::Output: Clone,
{
    /// A second world in the same state. What goes on in one is not seen in the other, but for those who watch: they see both.
    /// Nodes are copied when they are about to change, so [`World::own`] comes before each step. None where a node has an
    /// adversary, which cannot be copied.
    pub(crate) fn fork(&self) -> Option<Self> {
        if self.nodes.iter().any(|node| node.adversary.is_some()) {
            return None;
        }
        Some(Self {
            system: self.system.clone(),
            setup: self.setup.clone(),
            keys: self.keys.clone(),
            rolls: self.rolls.clone(),
            now: self.now,
            began: self.began,
            nodes: self.nodes.iter().map(crate::shared::Shared::share).collect(),
            lives: self.lives.clone(),
            wrong: self.wrong.clone(),
            mended: self.mended.clone(),
            addresses: self.addresses.clone(),
            second_side: self.second_side.clone(),
            wire: self.wire.clone(),
            letters: self.letters,
            asked: self.asked,
            cuts: self.cuts.clone(),
            pending: self.pending.clone(),
            answers: self.answers.clone(),
            audit: self.audit,
            steps: self.steps,
            tally: None,
            observers: self.observers.clone(),
            rng: self.rng.clone(),
            load: self.load.clone(),
            twisted: self.twisted.clone(),
            // Without adversaries nobody plots.
            plot: None,
            paused: self.paused.clone(),
            doomed: self.doomed.clone(),
            ordinals: self.ordinals.clone(),
            // What happens in a copy is no part of what is taken down.
            recording: None,
        })
    }

    /// This world is about to change this node, and no other.
    pub(crate) fn own(&mut self, node: NodeId) {
        if let Some(node) = self.nodes.get_mut(node.index()) {
            node.own(|node| Node {
                body: match &node.body {
                    Body::Replica(host) => Body::Replica(host.copy()),
                    Body::Client(index, host) => Body::Client(*index, host.copy()),
                },
                peer: node.peer,
                adversary: None,
                side: node.side,
                is_correct: node.is_correct,
            });
        }
    }
}

impl<S: System> World<S> {
    /// Whatever nodes and adversaries draw below a bound from now on, somebody else decides.
    pub(crate) fn obey(&mut self, dictation: &Dictation) {
        self.rng.obey(dictation.clone());
        for node in &mut self.nodes {
            each_host!(&mut node.body, host => host.obey(dictation.clone()));
        }
    }

    /// Whether something stands between this node's automaton and the wire.
    pub(crate) fn has_adversary(&self, node: NodeId) -> bool {
        self.nodes[node.index()].adversary.is_some()
    }

    /// A node's running timers, by number and name.
    pub(crate) fn running(&self, node: NodeId) -> Vec<(u64, String)> {
        each_host!(&self.nodes[node.index()].body, host => host.running().collect())
    }

    /// Whether a node's timer of this number runs.
    pub(crate) fn is_running(&self, node: NodeId, number: u64) -> bool {
        each_host!(&self.nodes[node.index()].body, host => host.is_running(number))
    }

    /// Hands what a scheduler has not let happen to the next one.
    pub(crate) fn put_back(&mut self, pending: Vec<Pending>) {
        self.pending.extend(pending);
    }

    /// Runs the deep check of one node, if it is up and correct.
    pub(crate) fn audit_of(&self, node: NodeId) {
        let node = &self.nodes[node.index()];
        if node.is_correct {
            each_host!(&node.body, host => host.audit());
        }
    }

    /// Writes down all that a node's future depends on, its automaton as it is told.
    pub(crate) fn print_node(
        &self,
        node: NodeId,
        out: &mut dyn fmt::Write,
        replica: impl FnOnce(&S::Replica, &mut dyn fmt::Write) -> fmt::Result,
        client: impl FnOnce(&S::Client, &mut dyn fmt::Write) -> fmt::Result,
    ) -> fmt::Result {
        match &self.nodes[node.index()].body {
            Body::Replica(host) => host.print(out, replica),
            Body::Client(_, host) => host.print(out, client),
        }
    }
}
