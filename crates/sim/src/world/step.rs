//! One thing happens: a message arrives, a timer fires, a flush is through, somebody asks.

use super::work::Counting;
use super::{Body, Frame, Packet, Pending, System, World, each_host};
use crate::event::{Event, Fact, Loss, NodeId};
use crate::host::{Emission, Emissions, Finished, Flaw, Place};
use crate::step::Step;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use testudo_core::{Context, Evidence, Peer, Protocol, Rejection, Rot, Time, Verified, Verifier};

/// Runs a step on whichever host a node has, then `$after` with its result, and carries on what the step gave out.
macro_rules! drive {
    ($world:ident, $node:expr, |$host:ident, $out:ident| $do:expr, $result:pat => $after:block) => {
        match &mut $world.nodes[$node.index()].body {
            Body::Replica($host) => {
                let mut out = Vec::new();
                let $out = &mut out;
                let $result = $do;
                $after
                $world.carry_replica($node, out);
            }
            Body::Client(_, $host) => {
                let mut out = Vec::new();
                let $out = &mut out;
                let $result = $do;
                $after
                $world.carry_client($node, out);
            }
        }
    };
}

impl<S: System> World<S> {
    /// The true time, which no node need know.
    #[must_use]
    pub fn time(&self) -> Time {
        Time(self.began + self.now.as_millis() as u64)
    }

    /// Delivers a message that is under way; false if there is none of that number. It is lost where its receiver is
    /// down or cut off, and
    /// waits where its receiver is paused.
    pub fn deliver(&mut self, number: u64) -> bool {
        self.take_down(|world| world.parcel(number).map(Step::Deliver));
        let to = self.letter(number).map(|letter| letter.to);
        if to.is_some_and(|to| self.waits(to, Pending::Packet(number, Duration::ZERO))) {
            return false;
        }
        self.queue(number) || self.receive(number)
    }

    /// A message's turn has come.
    pub(super) fn receive(&mut self, number: u64) -> bool {
        let Some(mut packet) = self.wire.remove(&number) else { return false };
        let letter = packet.letter;
        if self.cuts.contains(&(letter.from, letter.to)) {
            self.record(&Event::Dropped(letter, Loss::Partition));
        } else if !self.is_up(letter.to) {
            self.record(&Event::Dropped(letter, Loss::Down));
        } else {
            let heard = match packet.own.take() {
                Some(own) => Ok(Rc::unwrap_or_clone(own)),
                None => self.verify_now(&packet),
            };
            match heard {
                Err(why) => self.record(&Event::Rejected(letter, why.to_string().into())),
                Ok(message) => {
                    self.record(&Event::Delivered(letter));
                    self.hear(letter.to, message);
                }
            }
        }
        true
    }

    /// As production does, by [`testudo_core::Signed::verify`]; once for all receivers of one frame that know the same
    /// members.
    /// With the number of signatures that each receiver checks for it.
    pub(super) fn verify(
        &self,
        packet: &Packet<S::Message>,
    ) -> (Result<Verified<S::Message>, Rejection>, u32) {
        if let Some(own) = &packet.own {
            return (Ok(Verified::clone(own)), 0);
        }
        let (via, place) = self.ends_of(packet);
        let frame = &packet.frame;
        let is_direct = via == packet.letter.sender;
        let mut known = frame.verified.borrow_mut();
        if is_direct
            && let Some((by, result)) = &*known
            && Rc::ptr_eq(by, &place.membership)
        {
            return (result.clone(), frame.checks.get());
        }
        let (result, checks) = self.check(frame, via, &place);
        if is_direct {
            *known = Some((place.membership.clone(), result.clone()));
            frame.checks.set(checks);
        }
        (result, checks)
    }

    /// The same for whoever gets it now. The last of all who get a frame leaves nothing behind, and need not copy.
    fn verify_now(&self, packet: &Packet<S::Message>) -> Result<Verified<S::Message>, Rejection> {
        let frame = &packet.frame;
        if Rc::strong_count(frame) > 1 {
            return self.verify(packet).0;
        }
        let (via, place) = self.ends_of(packet);
        let known = frame
            .verified
            .take()
            .filter(|(by, _)| via == packet.letter.sender && Rc::ptr_eq(by, &place.membership));
        known.map_or_else(|| self.check(frame, via, &place).0, |(_, result)| result)
    }

    /// Who hands a message over, and where its receiver is.
    fn ends_of(&self, packet: &Packet<S::Message>) -> (Peer, Place) {
        let receiver = &self.nodes[packet.letter.to.index()].body;
        let place = each_host!(receiver, host => host.place.clone());
        (self.nodes[packet.letter.from.index()].peer, place)
    }

    fn check(
        &self,
        frame: &Frame<S::Message>,
        via: Peer,
        place: &Place,
    ) -> (Result<Verified<S::Message>, Rejection>, u32) {
        let lenient = self.lenient();
        let is_lenient = self.system.flaw() == Some(Flaw::AcceptsOldKeys);
        let inner: &dyn Verifier = if is_lenient { &lenient } else { &self.keys };
        let verifier = Counting { inner, checks: Cell::new(0) };
        let Place { domain, membership } = place;
        let context = Context { domain: *domain, membership, verifier: &verifier };
        let result = self.judge(place, &frame.signed, via, &context);
        (result, verifier.checks.get())
    }

    fn hear(&mut self, node: NodeId, message: Verified<S::Message>) {
        if let Some(mut adversary) = self.nodes[node.index()].adversary.take() {
            let mut sayings = Vec::new();
            let passes = adversary.incoming(&message, &mut self.rng, &mut sayings);
            if !sayings.is_empty() {
                self.record(&Event::Lied(node, adversary.name()));
            }
            self.nodes[node.index()].adversary = Some(adversary);
            for saying in sayings {
                self.say_falsely(node, saying);
            }
            if !passes {
                return;
            }
        }
        let now = self.time();
        self.steps += 1;
        drive!(self, node, |host, out| host.message(message, now, out), () => {});
    }

    /// A timer runs out. False if it was stopped or set anew meanwhile.
    pub fn fire(&mut self, node: NodeId, number: u64) -> bool {
        self.take_down(|world| {
            let name = each_host!(world.body(node), host => host.timer_name(number))?;
            Some(Step::Fire(world.who(node), name.into()))
        });
        if self.waits(node, Pending::Timer(node, number, Duration::ZERO)) {
            return false;
        }
        let now = self.time();
        let mut is_running = false;
        drive!(self, node, |host, out| host.fire(number, now, out), name => {
            if let Some(name) = name {
                is_running = true;
                self.charge(node, |costs| costs.step);
                self.steps += 1;
                self.record(&Event::Fired(node, name));
            }
        });
        is_running
    }

    /// The number of a node's running timer whose name begins like that, letter case aside.
    #[must_use]
    pub fn timer_named(&self, node: NodeId, name: &str) -> Option<u64> {
        each_host!(&self.nodes[node.index()].body, host => host.timer_named(name))
    }

    /// The names of a node's running timers.
    #[must_use]
    pub fn timers(&self, node: NodeId) -> Vec<String> {
        each_host!(&self.nodes[node.index()].body, host => host.timers().collect())
    }

    /// A flush is through, if the node still lives the life that began it.
    pub fn flush(&mut self, node: NodeId, life: u32, mark: u64) {
        if self.lives[node.index()] != life || !self.is_up(node) {
            return;
        }
        self.take_down(|world| Some(Step::Flush(world.who(node))));
        if self.waits(node, Pending::Flush(node, life, mark)) {
            return;
        }
        self.settle_disk(node);
        let mut failure = None;
        drive!(self, node, |host, out| host.flush(mark, out), flushed => {
            match flushed {
                Ok(count) => self.record(&Event::Flushed(node, count)),
                Err(why) => failure = Some(why),
            }
        });
        if let Some(failure) = failure {
            self.stop(node, failure);
        }
    }

    /// Something in the background is through, unless the node crashed meanwhile.
    pub fn finish(&mut self, node: NodeId, number: u64) {
        self.take_down(|world| {
            let chore = each_host!(world.body(node), host => host.chore_name(number))?;
            Some(Step::Finish(world.who(node), chore))
        });
        if self.waits(node, Pending::Chore(node, number)) {
            return;
        }
        let now = self.time();
        self.settle_disk(node);
        let mut failure = None;
        drive!(self, node, |host, out| host.finish(number, now, out), finished => {
            match finished {
                Finished::Nothing => {}
                Finished::Failed(why) => failure = Some(why),
                Finished::Snapshotted => self.record(&Event::Snapshotted(node)),
                Finished::Worked => {
                    self.steps += 1;
                    self.record(&Event::Worked(node));
                }
            }
        });
        if let Some(failure) = failure {
            self.stop(node, failure);
        }
    }

    /// A node is told what has rotted on its disk.
    pub(super) fn tell_of_rot(&mut self, node: NodeId, rot: Rot) {
        let now = self.time();
        self.steps += 1;
        self.record(&Event::Scrubbed(node));
        drive!(self, node, |host, out| host.rot(rot, now, out), () => {});
    }

    /// The layer above asks a replica for something.
    pub fn ask_replica(&mut self, node: NodeId, input: <S::Replica as Protocol>::Input) {
        self.take_down(|world| {
            Some(Step::Input(world.who(node), world.system.write_input(&input)?))
        });
        assert!(!self.is_paused(node), "what asks a paused node is paused with it");
        let now = self.time();
        let Body::Replica(host) = &mut self.nodes[node.index()].body else { return };
        let mut out = Vec::new();
        host.input(input, now, &mut out);
        self.asked_something(node);
        self.carry_replica(node, out);
    }

    /// The layer above asks a client, by index, for something.
    pub fn ask_client(&mut self, client: usize, input: <S::Client as Protocol>::Input) {
        let now = self.time();
        let node = self.client_node(client);
        assert!(!self.is_paused(node), "what asks a paused node is paused with it");
        let Some(Body::Client(_, host)) =
            self.nodes.get_mut(node.index()).map(|node| &mut node.body)
        else {
            return;
        };
        let mut out = Vec::new();
        host.input(input, now, &mut out);
        self.asked_something(node);
        self.carry_client(node, out);
    }

    fn asked_something(&mut self, node: NodeId) {
        self.steps += 1;
        self.asked += 1;
        self.record(&Event::Asked(node, self.asked));
    }

    pub(super) fn carry_replica(&mut self, node: NodeId, out: Emissions<S::Replica>) {
        let mut inputs = Vec::new();
        for emission in out {
            if self.is_cut_short(node) {
                return;
            }
            if let Emission::Output(output) = emission {
                let mut facts = Vec::new();
                self.system.replica_facts(&output, &mut facts);
                self.tell(node, facts);
                inputs.extend(self.system.above(node, output));
            } else {
                self.carry_on(node, emission);
            }
        }
        let now = self.time();
        for input in inputs {
            let Body::Replica(host) = &mut self.nodes[node.index()].body else { return };
            let mut out = Vec::new();
            host.input(input, now, &mut out);
            self.steps += 1;
            self.carry_replica(node, out);
        }
    }

    pub(super) fn carry_client(&mut self, node: NodeId, out: Emissions<S::Client>) {
        for emission in out {
            if self.is_cut_short(node) {
                return;
            }
            if let Emission::Output(output) = emission {
                let mut facts = Vec::new();
                self.system.client_facts(&output, &mut facts);
                self.tell(node, facts);
                if let Body::Client(index, _) = self.nodes[node.index()].body {
                    self.answers.push_back((index, output));
                }
            } else {
                self.carry_on(node, emission);
            }
        }
    }

    fn tell(&mut self, node: NodeId, facts: Vec<Fact>) {
        for fact in facts {
            if matches!(fact, Fact::Applied { .. }) {
                self.charge(node, |costs| costs.bundle);
            }
            match fact {
                Fact::Wrong(_) => drop(self.wrong.insert(node)),
                Fact::Restored(_) if self.wrong.remove(&node) => {
                    *self.mended.entry(node).or_default() += 1;
                }
                _ => {}
            }
            self.record(&Event::Told(node, fact));
        }
    }

    fn carry_on<O>(&mut self, node: NodeId, emission: Emission<S::Message, O>) {
        match emission {
            Emission::Say(to, message, place) => self.say(node, to, message, &place),
            Emission::Timer(number, after) => {
                let watch = each_host!(&self.nodes[node.index()].body, host => host.watch);
                let after = watch.true_time(after);
                self.pending.push(Pending::Timer(node, number, after));
            }
            Emission::Flush(mark) => {
                let life = self.lives[node.index()];
                self.pending.push(Pending::Flush(node, life, mark));
            }
            Emission::Chore(number) => self.pending.push(Pending::Chore(node, number)),
            Emission::Blame(evidence, place) => self.blame(node, &evidence, &place),
            Emission::Output(_) => {}
        }
    }

    fn blame(&mut self, by: NodeId, evidence: &Evidence, place: &Place) {
        let Place { domain, membership } = place;
        let context = Context { domain: *domain, membership, verifier: &self.keys };
        let convincing = self.system.convicts(evidence, &context);
        let offence = evidence.offence.as_str().into();
        self.record(&Event::Blamed { by, accused: evidence.accused, offence, convincing });
    }
}
