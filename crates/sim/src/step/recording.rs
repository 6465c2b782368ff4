//! Taking down what is done to a world, and doing it again.

use super::{Cause, Injury, Step, Who};
use crate::event::{Loss, NodeId};
use crate::world::{System, World, each_host};
use std::time::Duration;
use testudo_core::Peer;

/// The steps that were taken down.
#[derive(Clone, Default, Debug)]
pub(crate) struct Recording {
    steps: Vec<Step>,
    /// The moment of the last one.
    at: Duration,
}

impl<S: System> World<S> {
    /// From now on every step is taken down. Done before anything else, so that the steps are the whole run.
    pub fn record_steps(&mut self) {
        *self.recording_mut() = Some(Box::new(Recording { steps: Vec::new(), at: self.now() }));
    }

    /// The steps that were taken down since they were asked for last; none where nobody had [`World::record_steps`].
    pub fn take_steps(&mut self) -> Vec<Step> {
        self.recording_mut()
            .as_mut()
            .map(|recording| std::mem::take(&mut recording.steps))
            .unwrap_or_default()
    }

    /// Takes down a step if that is wanted, and the moment of it.
    pub(crate) fn take_down(&mut self, step: impl FnOnce(&Self) -> Option<Step>) {
        if !self.is_recording() {
            return;
        }
        let (now, step) = (self.now(), step(self));
        let Some((recording, step)) = self.recording_mut().as_mut().zip(step) else { return };
        if recording.at != now {
            recording.at = now;
            recording.steps.push(Step::At(now));
        }
        recording.steps.push(step);
    }

    pub(crate) fn take_down_harm(&mut self, node: NodeId, injury: Injury) {
        self.take_down(|world| Some(Step::Harm(world.who(node), injury)));
    }

    pub(crate) fn take_down_sides(&mut self, peers: &[Peer]) {
        self.take_down(|world| {
            Some(Step::Sides(peers.iter().filter_map(|peer| world.first_named(*peer)).collect()))
        });
    }

    /// Does a step. False if what it is about is not there.
    pub fn apply(&mut self, step: &Step) -> bool {
        match step {
            Step::At(time) => {
                self.advance_to(*time);
                true
            }
            Step::Heal => {
                self.heal();
                true
            }
            Step::Relent => {
                self.relent();
                true
            }
            Step::Timely(bound) => {
                self.become_timely(*bound);
                true
            }
            Step::Join(from, to) => {
                let ends = self.named(*from).zip(self.named(*to));
                ends.is_some_and(|(from, to)| self.join(from, to))
            }
            Step::Upstream(draw) => {
                self.load_learners(*draw);
                true
            }
            Step::Sides(peers) => {
                let nodes = peers.iter().filter_map(|who| self.named(*who));
                let peers: Vec<Peer> = nodes.map(|node| self.peer(node)).collect();
                self.set_second_side(peers);
                true
            }
            Step::Cut(from, to) => {
                let ends = self.named(*from).zip(self.named(*to));
                ends.map(|(from, to)| self.cut(from, to)).is_some()
            }
            Step::Deliver(parcel)
            | Step::Lose(parcel, _)
            | Step::Duplicate(parcel)
            | Step::Spoil(parcel) => {
                let number = self.posted(parcel);
                number.is_some_and(|number| self.apply_to_message(number, step))
            }
            Step::Start(who)
            | Step::Crash(who, _)
            | Step::Fire(who, _)
            | Step::Flush(who)
            | Step::Finish(who, _)
            | Step::Serve(who)
            | Step::Harm(who, _)
            | Step::Scrub(who)
            | Step::Image(who)
            | Step::Clock(who, _)
            | Step::Rate(who, _)
            | Step::Pause(who)
            | Step::Resume(who, _)
            | Step::Doom(who, ..)
            | Step::Spare(who)
            | Step::Corrupt(who, _)
            | Step::Ask(who, ..)
            | Step::Input(who, _) => {
                let node = self.named(*who);
                node.is_some_and(|node| self.apply_to_node(node, *who, step))
            }
        }
    }

    fn apply_to_message(&mut self, number: u64, step: &Step) -> bool {
        match step {
            Step::Deliver(_) => return self.deliver(number),
            Step::Lose(_, Cause::Network) => return self.lose(number, Loss::Network),
            Step::Lose(_, Cause::Choice) => return self.lose(number, Loss::Script),
            Step::Duplicate(_) => self.duplicate(number),
            _ => self.spoil(number),
        }
        true
    }

    fn apply_to_node(&mut self, node: NodeId, who: Who, step: &Step) -> bool {
        match step {
            Step::Start(_) if self.is_up(node) => return false,
            Step::Start(_) => self.restart(node),
            Step::Crash(..) if !self.is_up(node) => return false,
            Step::Crash(_, keep) => self.crash(node, *keep),
            Step::Fire(_, timer) => {
                let number = self.timer_called(node, timer);
                return number.is_some_and(|number| self.fire(node, number));
            }
            Step::Flush(_) => {
                let mark = each_host!(self.body(node), host => host.flush_under_way());
                let life = self.life(node);
                return mark.map(|mark| self.flush(node, life, mark)).is_some();
            }
            Step::Finish(_, chore) => {
                let number = each_host!(self.body(node), host => host.chore_called(chore));
                return number.map(|number| self.finish(node, number)).is_some();
            }
            Step::Serve(_) => self.serve(node),
            Step::Harm(_, injury) => return self.injure(node, *injury),
            Step::Scrub(_) => return self.scrub(node) > 0,
            Step::Image(_) => self.keep_image(node),
            Step::Clock(_, offset) => self.set_clock(node, *offset),
            Step::Rate(_, rate) => self.set_rate(node, *rate),
            Step::Pause(_) => return self.pause(node),
            Step::Resume(_, timers_first) => return self.resume(node, *timers_first),
            Step::Doom(_, left, keep) => return self.doom(node, *left, *keep),
            Step::Spare(_) => return self.spare(node),
            Step::Corrupt(_, misconduct) => self.corrupt(node, *misconduct),
            Step::Ask(_, ticket, operation) => {
                return self.apply_ask(node, *ticket, operation);
            }
            Step::Input(_, input) => {
                let input = self.system.read_input(input);
                return input.map(|input| self.ask_replica(node, input)).is_some();
            }
            _ => unreachable!("{step} is not about {who} alone"),
        }
        true
    }

    fn apply_ask(&mut self, node: NodeId, ticket: u64, operation: &[u8]) -> bool {
        let Some(client) = self.client_index(node) else { return false };
        let input = self.system.asked(client, ticket, operation);
        let Some(input) = input else { return false };
        self.take_down_ask(client, ticket, operation);
        self.ask_client(client, input);
        true
    }

    /// Takes down that a client is about to be asked for an operation: what it is asked by, its system made of that.
    pub fn take_down_ask(&mut self, client: usize, ticket: u64, operation: &[u8]) {
        self.take_down(|world| {
            let who = world.who(world.client_node(client));
            Some(Step::Ask(who, ticket, operation.to_vec()))
        });
    }

    /// Does harm to a node's disk or memory. False if there is nothing to harm.
    pub fn injure(&mut self, node: NodeId, injury: Injury) -> bool {
        match injury {
            Injury::Record(position) => self.rot(node, position),
            Injury::RecordAndTag(position) => self.rot_wholly(node, position),
            Injury::Write(position) => self.lose_write(node, position),
            Injury::Misdirected(from, onto) => self.misdirect(node, from, onto),
            Injury::Snapshot => self.rot_snapshot(node),
            Injury::Memory(draw) => self.rot_memory(node, draw),
            Injury::SuperblockCopy(second) => self.lose_superblock_copy(node, second),
            Injury::Superblock => self.lose_superblock(node),
            Injury::Wiped => self.wipe(node),
            Injury::OldImage => self.restore_image(node),
            Injury::FlippedBit(draw) => self.flip_bit(node, draw),
            Injury::LostSector(draw) => self.lose_sector(node, draw),
            Injury::ZeroedRun(draw) => self.zero_run(node, draw),
            Injury::UnreadableSector(draw) => self.fail_sector(node, draw),
            Injury::FailedFlush(after) => self.fail_disk(node, after),
            Injury::FullDisk(lasts) => self.fill_disk(node, lasts),
            Injury::SlowDisk(times, lasts) => self.slow_disk(node, times, lasts),
        }
    }
}

/// How a loss is taken down.
pub(crate) const fn cause(loss: Loss) -> Cause {
    match loss {
        Loss::Script => Cause::Choice,
        _ => Cause::Network,
    }
}
