//! What nodes do takes time, where a world charges for it ([`crate::load`]).

use super::{Pending, System, World};
use crate::event::{Event, Loss, NodeId};
use crate::load::{Costs, Desk, Load, Turns};
use crate::step::Step;
use std::cell::Cell;
use std::time::Duration;
use testudo_core::{Digest, Message, PublicKey, Signature, Strength, Verified, Verifier};

/// A verifier that counts.
pub(super) struct Counting<'a, V: ?Sized> {
    pub(super) inner: &'a V,
    pub(super) checks: Cell<u32>,
}

impl<V: Verifier + ?Sized> Verifier for Counting<'_, V> {
    fn check(&self, key: &PublicKey, digest: &Digest, signature: &Signature) -> bool {
        self.checks.set(self.checks.get() + 1);
        self.inner.check(key, digest, signature)
    }
}

impl<S: System> World<S> {
    /// From now on work takes time.
    pub fn charge_for_work(&mut self, costs: Costs, turns: Turns) {
        self.load = Some(Load::new(costs, turns));
    }

    /// A node's processor has something to do that waits for nobody.
    pub(super) fn charge(&mut self, node: NodeId, cost: impl FnOnce(&Costs) -> Duration) {
        let now = self.now;
        if let Some(load) = &mut self.load {
            let cost = cost(&load.costs);
            load.desk(node.0).charge(now, cost);
        }
    }

    /// A node says something to so many.
    pub(super) fn charge_for_saying(
        &mut self,
        node: NodeId,
        message: &Verified<S::Message>,
        receivers: usize,
    ) {
        if self.load.is_none() {
            return;
        }
        let is_signed = message.message().strength() == Strength::Signature;
        let bytes = message.signed().len() * receivers;
        self.charge(node, |costs| {
            let signature = if is_signed { costs.signature } else { Duration::ZERO };
            signature + for_bytes(costs, bytes)
        });
    }

    /// A message arrives where it has to wait for its turn. False if there is nothing to wait for.
    pub(super) fn queue(&mut self, number: u64) -> bool {
        let (Some(load), Some(packet)) = (&mut self.load, self.wire.get(&number)) else {
            return false;
        };
        let node = packet.letter.to;
        if packet.own.is_some() {
            let step = load.costs.step;
            load.desk(node.0).charge(self.now, step);
            return false;
        }
        let via = self.nodes[packet.letter.from.index()].peer;
        let lane = load.lane(via);
        let dropped = load.desk(node.0).add(lane, number, packet.frame.signed.len());
        if let Some(packet) = dropped.and_then(|number| self.wire.remove(&number)) {
            self.record(&Event::Dropped(packet.letter, Loss::Overflow));
        }
        self.expect(node);
        true
    }

    /// Has the scheduler look at a node's processor when it is through with what it does.
    fn expect(&mut self, node: NodeId) {
        let now = self.now;
        let Some(load) = &mut self.load else { return };
        let desk = load.desk(node.0);
        if !std::mem::replace(&mut desk.is_expected, true) {
            self.pending.push(Pending::Serve(node, desk.busy_until.saturating_sub(now)));
        }
    }

    /// A node's processor is through with something, perhaps: it looks at the next message.
    pub fn serve(&mut self, node: NodeId) {
        self.take_down(|world| Some(Step::Serve(world.who(node))));
        if self.waits(node, Pending::Serve(node, Duration::ZERO)) {
            return;
        }
        let now = self.now;
        let Some(desk) = self.load.as_mut().map(|load| load.desk(node.0)) else { return };
        desk.is_expected = false;
        if desk.busy_until > now {
            return self.expect(node);
        }
        if let Some(number) = desk.current.take() {
            self.receive(number);
        }
        let Some(load) = &mut self.load else { return };
        if let Some(number) = load.desk(node.0).take() {
            let cost = self.cost(number);
            if let Some(load) = &mut self.load {
                let desk = load.desk(node.0);
                desk.current = Some(number);
                desk.charge(now, cost);
            }
            self.expect(node);
        }
    }

    /// What it costs to read, check and hear a message.
    fn cost(&self, number: u64) -> Duration {
        let (Some(load), Some(packet)) = (&self.load, self.wire.get(&number)) else {
            return Duration::ZERO;
        };
        let (_, checks) = self.verify(packet);
        let costs = &load.costs;
        costs.step + costs.check * checks + for_bytes(costs, packet.frame.signed.len())
    }

    /// A node has crashed: what waited for it is lost.
    pub(super) fn clear_desk(&mut self, node: NodeId) {
        let Some(load) = &mut self.load else { return };
        for number in load.desk(node.0).clear() {
            if let Some(packet) = self.wire.remove(&number) {
                self.record(&Event::Dropped(packet.letter, Loss::Down));
            }
        }
    }

    /// How many messages of all nodes wait for processors.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.load.as_ref().map_or(0, |load| load.desks().map(Desk::len).sum())
    }
}

fn for_bytes(costs: &Costs, bytes: usize) -> Duration {
    Duration::from_nanos(costs.kilobyte.as_nanos() as u64 * bytes as u64 / 1000)
}
