//! What befalls nodes and wire: crashes, rot, wrong clocks, partitions, loss, lies.

use super::{Body, Packet, Pending, System, World, each_host};
use crate::adversary::{Adversary, Misconduct, Saying};
use crate::disk::Failure;
use crate::event::{Event, Loss, NodeId, Salvage};
use std::time::Duration;
use testudo_core::Peer;

impl<S: System> World<S> {
    /// A node stops. Of its unflushed writes the first `keep` reach the disk all the same; what waited behind the gate
    /// is never said.
    pub fn crash(&mut self, node: NodeId, keep: usize) {
        if !self.is_up(node) {
            return;
        }
        let (writes, held) =
            each_host!(&mut self.nodes[node.index()].body, host => host.crash(keep));
        self.system.crashed(node);
        self.wrong.remove(&node);
        if let Body::Client(index, _) = self.nodes[node.index()].body {
            self.system.client_crashed(index);
            // What it had told its upper layer went down with that.
            self.answers.retain(|(client, _)| *client != index);
        }
        self.clear_desk(node);
        // Its word to itself was in its memory.
        self.wire.retain(|_, packet| !(packet.own.is_some() && packet.letter.from == node));
        self.record(&Event::Crashed { node, writes, held });
    }

    /// A node that is down starts again from its disk.
    pub fn restart(&mut self, node: NodeId) {
        if self.is_up(node) {
            return;
        }
        self.lives[node.index()] += 1;
        self.record(&Event::Started(node));
        self.steps += 1;
        let now = self.time();
        self.settle_disk(node);
        match &mut self.nodes[node.index()].body {
            Body::Replica(host) => {
                let id = host.peer.replica().unwrap_or_default();
                let config = self.system.replica_config(&self.setup, node, id);
                let mut out = Vec::new();
                let opened = host.start(config, now, &mut out);
                self.note_opening(node, opened);
                self.carry_replica(node, out);
            }
            Body::Client(index, host) => {
                let config = self.system.client_config(&self.setup, *index);
                let mut out = Vec::new();
                let opened = host.start(config, now, &mut out);
                self.note_opening(node, opened);
                self.carry_client(node, out);
            }
        }
    }

    fn note_opening(&mut self, node: NodeId, opened: Result<Option<Salvage>, Failure>) {
        match opened {
            Ok(None) => {}
            Ok(Some(salvage)) => self.record(&Event::Opened(node, salvage)),
            Err(failure) => self.record(&Event::Failed(node, failure)),
        }
    }

    /// Whenever a learner starts, the first number that it draws is this one: whom it takes what is decided from.
    pub fn load_learners(&mut self, draw: u32) {
        for node in &mut self.nodes {
            if let Body::Client(index, host) = &mut node.body
                && self.setup.is_learner(*index)
            {
                host.loaded = Some(draw);
            }
        }
    }

    /// How many writes of a node are not durable yet.
    #[must_use]
    pub fn unflushed(&self, node: NodeId) -> usize {
        each_host!(&self.nodes[node.index()].body, host => host.disk().unflushed())
    }

    /// Sets a node's wall clock that many milliseconds off.
    pub fn set_clock(&mut self, node: NodeId, offset: i64) {
        each_host!(&mut self.nodes[node.index()].body, host => host.clock_offset = offset);
        self.record(&Event::ClockSet(node, offset));
    }

    /// From now on messages from one node to the other are lost, in this direction.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        if from != to && self.cuts.insert((from, to)) {
            self.record(&Event::Cut(from, to));
        }
    }

    /// From now on messages between the groups are lost; nodes in no group keep all their connections.
    pub fn partition(&mut self, groups: &[Vec<NodeId>]) {
        for (index, group) in groups.iter().enumerate() {
            let others = groups.iter().enumerate().filter(|(other, _)| *other != index);
            for to in others.flat_map(|(_, other)| other) {
                for from in group {
                    self.cut(*from, *to);
                }
            }
        }
    }

    /// All cuts are gone.
    pub fn heal(&mut self) {
        if !self.cuts.is_empty() {
            self.cuts.clear();
            self.record(&Event::Healed);
        }
    }

    /// Whether messages from one node to the other are lost.
    #[must_use]
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// A message under way is lost. False if there is none of that number, or it is a node's word to itself.
    pub fn lose(&mut self, number: u64, why: Loss) -> bool {
        if self.is_own(number) {
            return false;
        }
        let Some(packet) = self.wire.remove(&number) else { return false };
        self.record(&Event::Dropped(packet.letter, why));
        true
    }

    /// The network makes a copy of a message under way. A node's word to itself never sees the network.
    pub fn duplicate(&mut self, number: u64) {
        let Some(packet) = self.wire.get(&number) else { return };
        if packet.own.is_some() {
            return;
        }
        let frame = packet.frame.clone();
        let mut letter = packet.letter;
        self.letters += 1;
        letter.number = self.letters;
        self.wire.insert(letter.number, Packet { frame, letter, own: None });
        self.record(&Event::Duplicated(letter));
        self.pending.push(Pending::Packet(letter.number, Duration::ZERO));
    }

    /// From now on a node lies, by an adversary of one's own making.
    pub fn corrupt_by(&mut self, node: NodeId, adversary: Box<dyn Adversary<S::Message>>) {
        self.nodes[node.index()].adversary = Some(adversary);
        self.nodes[node.index()].is_correct = false;
    }

    /// From now on a node misbehaves like that. Twins are part of the world's [`super::Shape`] and not made here.
    pub fn corrupt(&mut self, node: NodeId, misconduct: Misconduct) {
        let me = self.peer(node);
        if let Some(adversary) = self.system.adversary(misconduct, me) {
            self.corrupt_by(node, adversary);
        }
    }

    /// From now on a node may say what its automaton does not, and does so when it is told to.
    pub fn suborn(&mut self, node: NodeId) {
        self.nodes[node.index()].is_correct = false;
    }

    /// The signature on a message under way is wrong, as a sender may make it for some of its receivers.
    pub fn spoil(&mut self, number: u64) {
        let Some(packet) = self.wire.get_mut(&number) else { return };
        if let Some(frame) = packet.frame.spoilt().filter(|_| packet.own.is_none()) {
            packet.frame = frame;
            let from = packet.letter.from;
            self.record(&Event::Lied(from, "spoils its signature"));
        }
    }

    /// A node that lies says something of its own accord.
    pub fn have_lie(&mut self, node: NodeId, saying: Saying<S::Message>) {
        assert!(!self.is_correct(node), "only liars say what their automata do not");
        self.say_falsely(node, saying);
    }

    /// Which peers talk to the second copies of twins from now on.
    pub fn set_second_side(&mut self, peers: impl IntoIterator<Item = Peer>) {
        self.second_side = peers.into_iter().collect();
    }
}
