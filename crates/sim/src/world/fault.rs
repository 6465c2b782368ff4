//! What befalls nodes and wire: crashes, rot, wrong clocks, partitions, loss, lies.

use super::{Body, Packet, Pending, System, World, each_host};
use crate::adversary::{Adversary, Misconduct, Saying};
use crate::conspiracy::{Conspirator, Plot};
use crate::disk::Failure;
use crate::event::{Event, Loss, NodeId, Salvage};
use crate::step::{Step, cause};
use std::time::Duration;
use testudo_core::Peer;

impl<S: System> World<S> {
    /// A node stops. Of its unflushed writes the first `keep` reach the disk all the same; what waited behind the gate
    /// is never said.
    pub fn crash(&mut self, node: NodeId, keep: usize) {
        if !self.is_up(node) {
            return;
        }
        self.take_down(|world| Some(Step::Crash(world.who(node), keep)));
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
        self.forget_halts(node);
        // Its word to itself was in its memory.
        self.wire.retain(|_, packet| !(packet.own.is_some() && packet.letter.from == node));
        self.record(&Event::Crashed { node, writes, held });
    }

    /// A node that is down starts again from its disk.
    pub fn restart(&mut self, node: NodeId) {
        if self.is_up(node) {
            return;
        }
        self.take_down(|world| Some(Step::Start(world.who(node))));
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
            Ok(Some(salvage)) => {
                let may_refuse = !self.findings(node).is_disk_sound;
                self.record(&Event::Opened(node, Salvage { may_refuse, ..salvage }));
            }
            Err(failure) => self.record(&Event::Failed(node, failure)),
        }
    }

    /// Whenever a learner starts, the first number that it draws is this one: whom it takes what is decided from.
    pub fn load_learners(&mut self, draw: u32) {
        self.take_down(|_| Some(Step::Upstream(draw)));
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

    /// Sets a node's wall clock that many milliseconds off. Its rate stays what it is.
    pub fn set_clock(&mut self, node: NodeId, offset: i64) {
        self.take_down(|world| Some(Step::Clock(world.who(node), offset)));
        let now = self.time();
        each_host!(&mut self.nodes[node.index()].body, host => host.watch.set(offset, now));
        self.record(&Event::ClockSet(node, offset));
    }

    /// From now on a node's wall clock and its timers run that many millionths too fast; below zero, too slowly.
    pub fn set_rate(&mut self, node: NodeId, rate: i32) {
        let now = self.time();
        let watch = each_host!(&mut self.nodes[node.index()].body, host => &mut host.watch);
        if watch.rate() != rate {
            watch.pace(rate, now);
            self.take_down(|world| Some(Step::Rate(world.who(node), rate)));
            self.record(&Event::Drifts(node, rate));
        }
    }

    /// Milliseconds that a node's wall clock is ahead of the true time now.
    #[must_use]
    pub fn clock_error(&self, node: NodeId) -> i64 {
        each_host!(&self.nodes[node.index()].body, host => host.watch.error(self.time()))
    }

    /// From now on messages from one node to the other are lost, in this direction.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        if from != to && self.cuts.insert((from, to)) {
            self.take_down(|world| Some(Step::Cut(world.who(from), world.who(to))));
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

    /// From now on messages from one node to the other arrive again, in this direction.
    /// False if they were not lost.
    pub fn join(&mut self, from: NodeId, to: NodeId) -> bool {
        let was_cut = self.cuts.remove(&(from, to));
        if was_cut {
            self.take_down(|world| Some(Step::Join(world.who(from), world.who(to))));
            self.record(&Event::Joined(from, to));
        }
        was_cut
    }

    /// Whoever schedules says that from now on each message arrives within this time, and sees to it.
    pub fn become_timely(&mut self, bound: Duration) {
        self.take_down(|_| Some(Step::Timely(bound)));
        self.record(&Event::Timely(bound));
    }

    /// All cuts are gone.
    pub fn heal(&mut self) {
        if !self.cuts.is_empty() {
            self.take_down(|_| Some(Step::Heal));
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
        self.take_down(|world| Some(Step::Lose(world.parcel(number)?, cause(why))));
        let Some(packet) = self.wire.remove(&number) else { return false };
        self.record(&Event::Dropped(packet.letter, why));
        true
    }

    /// The network makes a copy of a message under way. A node's word to itself never sees the network.
    pub fn duplicate(&mut self, number: u64) {
        if self.is_own(number) {
            return;
        }
        self.take_down(|world| world.parcel(number).map(Step::Duplicate));
        let Some(packet) = self.wire.get(&number) else { return };
        let frame = packet.frame.clone();
        let mut letter = packet.letter;
        self.letters += 1;
        letter.number = self.letters;
        let link = (letter.from, letter.to);
        let ordinal = (true, self.ordinals.next(link, letter.name, true));
        self.ordinals.posts(&letter, ordinal);
        self.wire.insert(letter.number, Packet { frame, letter, own: None, ordinal });
        self.record(&Event::Duplicated(letter));
        self.pending.push(Pending::Packet(letter.number, Duration::ZERO));
    }

    /// From now on a node lies, by an adversary of one's own making.
    pub fn corrupt_by(&mut self, node: NodeId, adversary: Box<dyn Adversary<S::Message>>) {
        self.nodes[node.index()].adversary = Some(adversary);
        self.nodes[node.index()].is_correct = false;
    }

    /// From now on a node misbehaves like that. Twins are part of the world's [`super::Shape`] and not made here. All that
    /// conspire share one plot, and do what the first of them is up to.
    pub fn corrupt(&mut self, node: NodeId, misconduct: Misconduct) {
        self.take_down(|world| Some(Step::Corrupt(world.who(node), misconduct)));
        let me = self.peer(node);
        if let Misconduct::Conspire(scheme) = misconduct {
            let plot = self.plot.get_or_insert_with(|| Plot::new(scheme));
            let (tamper, proposes) = (self.system.tamper(), self.system.proposes());
            let conspirator =
                Conspirator::join(me, plot, tamper, proposes, self.system.advocates());
            return self.corrupt_by(node, Box::new(conspirator));
        }
        if let (Misconduct::Tactic(tactic), Some(id)) = (misconduct, me.replica())
            && let Some(adversary) = self.system.tactician(tactic, id, &self.setup)
        {
            return self.corrupt_by(node, adversary);
        }
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
        self.take_down(|world| world.parcel(number).map(Step::Spoil));
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
        let peers: Vec<Peer> = peers.into_iter().collect();
        self.take_down_sides(&peers);
        self.second_side = peers.into_iter().collect();
    }
}
