//! One node: an automaton with its gate, disk, timers and clock.
//!
//! This is the simulator's counterpart of production's host loop, with the same gate: what was said after a write
//! leaves when the write is durable. A host decides nothing; it keeps what a step asked for until the world says that
//! a flush, a timer, a snapshot or a piece of work is through.

mod fork;

use crate::disk::{Disk, Failure, Write};
use crate::event::Salvage;
use crate::keys::{Keyring, Pen, Purse};
use crate::rng::{Chance, Rng};
use crate::step;
use crate::watch::Watch;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;
use testudo_core::gate::Gate;
use testudo_core::{
    Digest, Domain, Done, Effect, Effects, Evidence, Host as Hand, Membership, Panicked, Peer,
    Position, Protocol, PublicKey, Rot, Signature, Stamp, Target, Time, Verified, Work,
};

/// A driver that breaks its promise to the automaton, for oracles to convict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// It says things before what they rest on is durable.
    SaysEarly,
    /// It lets go of records before the snapshot that stands for them is durable.
    ForgetsEarly,
    /// It takes a record that has rotted for one that was never written whole, and the log for ending there.
    Truncates,
    /// It believes whoever signs with a key that the sender has voted with once.
    AcceptsOldKeys,
    /// It takes what was said in an earlier epoch for said in its own.
    IgnoresEpochs,
    /// It takes its log's writes for durable without a flush.
    FlushesNothing,
    /// Where a flush fails it flushes again, and believes the second.
    FlushesAgain,
    /// It does not have the names of new files made durable.
    LosesNames,
    /// It keeps its superblock once, and writes it in place.
    KeepsOneSuperblock,
    /// It removes the old segments of its log when it begins a new one.
    RemovesEarly,
    /// It takes a record that was written in part for whole.
    AcceptsTorn,
}

/// Where what a node says counts, and who the members are there. Members may change between the moment at which something
/// is said and the one at which it leaves, so everything said has its own.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) domain: Domain,
    pub(crate) membership: Rc<Membership>,
}

/// All memberships that nodes have come to know, each once, so that who knows the same is told by its address.
pub(crate) type Rolls = Rc<RefCell<Vec<Rc<Membership>>>>;

/// What comes out of a host for the world to carry on.
#[derive(Debug)]
pub(crate) enum Emission<M, O> {
    Say(Target, M, Place),
    Output(O),
    Blame(Evidence, Place),
    /// A timer was set: its number, and how long it runs.
    Timer(u64, Duration),
    /// Writes up to this mark are on their way to the disk.
    Flush(u64),
    /// Something goes on in the background.
    Chore(u64),
}

pub(crate) type Emissions<P> = Vec<Emission<<P as Protocol>::Message, <P as Protocol>::Output>>;

#[derive(Clone)]
enum Held<P: Protocol> {
    Say(Target, P::Message, Place),
    Output(P::Output),
    Snapshot(u64, Box<P::Snapshot>),
    Blame(Evidence, Place),
}

#[derive(Clone)]
enum Chore<P: Protocol> {
    Work(Stamp, P::Work),
    Recall(Position),
    Snapshot(u64, Box<P::Snapshot>),
}

impl<P: Protocol> Chore<P> {
    /// Which kind it is, by number and by name.
    const fn kind(&self) -> (usize, &'static str) {
        match self {
            Self::Work(..) => (0, "work"),
            Self::Recall(_) => (1, "recall"),
            Self::Snapshot(..) => (2, "snapshot"),
        }
    }
}

/// What a finished chore was.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Finished {
    Worked,
    Snapshotted,
    Nothing,
    /// The disk failed.
    Failed(Failure),
}

/// A node that runs an automaton.
pub struct Host<P: Protocol> {
    pub(crate) peer: Peer,
    pub(crate) ring: Keyring,
    /// Where it starts.
    first: Place,
    /// Where it is.
    pub(crate) place: Place,
    rolls: Rolls,
    /// Its wall clock.
    pub(crate) watch: Watch,
    pub(crate) disk: Disk<P>,
    automaton: Option<P>,
    next: Position,
    gate: Gate<Held<P>>,
    /// What is wrong with the driver, if anything is.
    pub(crate) flaw: Option<Flaw>,
    /// What the first draw at every start comes to, where a run wants it to come to something.
    pub(crate) loaded: Option<u32>,
    /// Up to which mark a flush is on its way, if one is; one at a time, shared by all steps meanwhile.
    flushing: Option<u64>,
    /// The timers that run, with their numbers.
    timers: BTreeMap<P::Timer, u64>,
    /// What goes on in the background, by number, each with which of its kind it is.
    chores: BTreeMap<u64, (u32, Chore<P>)>,
    /// How much of each kind was ever begun.
    begun: [u32; 3],
    /// Numbers of timers and chores: never reused, so that what an earlier life asked for is told apart.
    numbers: u64,
    rng: Rng,
    scratch: Vec<Effect<P>>,
}

/// What is handed to an automaton at each step.
struct InHand<'a> {
    clock: Time,
    rng: &'a mut Rng,
    loaded: Option<u32>,
    ring: &'a Keyring,
    purse: &'a Purse,
}

impl Hand for InHand<'_> {
    fn clock(&self) -> Time {
        self.clock
    }
    fn choose(&mut self, bound: u32) -> u32 {
        match self.loaded.take() {
            Some(draw) => draw % bound.max(1),
            None => self.rng.below(u64::from(bound)) as u32,
        }
    }
    fn secret(&mut self) -> [u8; 32] {
        self.rng.bytes32()
    }
    fn holds(&self, voting: &PublicKey) -> bool {
        self.purse.held(self.ring, voting).is_some()
    }
    fn candidate(&self) -> Option<PublicKey> {
        self.purse.candidate()
    }
    fn vouch(&self, digest: &Digest) -> Option<Signature> {
        self.purse.vouch(digest)
    }
    fn guard(&mut self, operation: &mut dyn FnMut()) -> Result<(), Panicked> {
        quietly(|| catch_unwind(AssertUnwindSafe(operation))).map_err(|_| Panicked)
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs something whose panic is part of the test, without its message on the terminal.
pub(crate) fn quietly<R>(run: impl FnOnce() -> R) -> R {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = run();
    QUIET.set(before);
    result
}

impl<P: Protocol> Host<P> {
    pub(crate) fn new(peer: Peer, ring: Keyring, place: Place, rolls: Rolls, rng: Rng) -> Self {
        Self {
            peer,
            ring,
            first: place.clone(),
            place,
            rolls,
            watch: Watch::default(),
            disk: Disk::default(),
            automaton: None,
            next: Position(0),
            gate: Gate::new(),
            flaw: None,
            loaded: None,
            flushing: None,
            timers: BTreeMap::new(),
            chores: BTreeMap::new(),
            begun: [0; 3],
            numbers: 0,
            rng,
            scratch: Vec::new(),
        }
    }

    /// The automaton, if the node is up.
    #[must_use]
    pub const fn automaton(&self) -> Option<&P> {
        self.automaton.as_ref()
    }

    /// What the node has on disk.
    #[must_use]
    pub const fn disk(&self) -> &Disk<P> {
        &self.disk
    }

    /// Whether it runs.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.automaton.is_some()
    }

    /// The names of the timers that run.
    pub fn timers(&self) -> impl Iterator<Item = String> + '_ {
        self.timers.keys().map(|timer| format!("{timer:?}"))
    }

    /// Its wall clock.
    #[must_use]
    pub const fn watch(&self) -> Watch {
        self.watch
    }

    /// Starts it from what is on its disk. Says what a real log found there.
    pub(crate) fn start(
        &mut self,
        config: P::Config,
        now: Time,
        out: &mut Emissions<P>,
    ) -> Result<Option<Salvage>, Failure> {
        assert!(self.automaton.is_none(), "start: it runs already");
        let (past, end, salvage) = self.disk.open(self.disk.purse.last(), self.flaw)?;
        self.disk.purse.refill(&mut self.ring);
        self.place = self.first.clone();
        self.next = end;
        self.gate = Gate::new();
        let clock = self.watch.read(now);
        let mut effects = std::mem::take(&mut self.scratch);
        let (rng, loaded) = (&mut self.rng, self.loaded);
        let mut hand = InHand { clock, rng, loaded, ring: &self.ring, purse: &self.disk.purse };
        let mut fx = Effects::new(&mut effects, &mut self.next, &mut hand);
        self.automaton = Some(P::start(config, self.peer, past, &mut fx));
        self.carry_out(effects, out);
        Ok(salvage)
    }

    /// One step of the automaton, if it runs.
    fn step(
        &mut self,
        now: Time,
        out: &mut Emissions<P>,
        run: impl FnOnce(&mut P, &mut Effects<'_, P>),
    ) {
        let clock = self.watch.read(now);
        let Some(automaton) = &mut self.automaton else { return };
        let mut effects = std::mem::take(&mut self.scratch);
        let (rng, loaded) = (&mut self.rng, None);
        let mut hand = InHand { clock, rng, loaded, ring: &self.ring, purse: &self.disk.purse };
        run(automaton, &mut Effects::new(&mut effects, &mut self.next, &mut hand));
        automaton.invariants();
        self.carry_out(effects, out);
    }

    pub(crate) fn input(&mut self, input: P::Input, now: Time, out: &mut Emissions<P>) {
        self.step(now, out, |automaton, fx| automaton.on_input(input, fx));
    }

    pub(crate) fn message(
        &mut self,
        message: Verified<P::Message>,
        now: Time,
        out: &mut Emissions<P>,
    ) {
        self.step(now, out, |automaton, fx| automaton.on_message(message, fx));
    }

    pub(crate) fn rot(&mut self, rot: Rot, now: Time, out: &mut Emissions<P>) {
        self.step(now, out, |automaton, fx| automaton.on_rot(rot, fx));
    }

    /// The timer with this number runs out, if it still runs; its name is given back then.
    pub(crate) fn fire(
        &mut self,
        number: u64,
        now: Time,
        out: &mut Emissions<P>,
    ) -> Option<Rc<str>> {
        let timer = *self.timers.iter().find(|(_, running)| **running == number)?.0;
        self.timers.remove(&timer);
        self.step(now, out, |automaton, fx| automaton.on_timer(timer, fx));
        Some(format!("{timer:?}").into())
    }

    /// The name of a running timer by its number.
    pub(crate) fn timer_name(&self, number: u64) -> Option<String> {
        let timer = self.timers.iter().find(|(_, running)| **running == number);
        timer.map(|(timer, _)| format!("{timer:?}"))
    }

    /// The number of the running timer of exactly that name.
    pub(crate) fn timer_called(&self, name: &str) -> Option<u64> {
        let timer = self.timers.iter().find(|(timer, _)| format!("{timer:?}") == name);
        timer.map(|(_, number)| *number)
    }

    /// The name of something in the background.
    pub(crate) fn chore_name(&self, number: u64) -> Option<step::Chore> {
        let (ordinal, chore) = self.chores.get(&number)?;
        Some(step::Chore { kind: chore.kind().1.into(), ordinal: *ordinal })
    }

    /// The number of what goes on in the background under that name.
    pub(crate) fn chore_called(&self, name: &step::Chore) -> Option<u64> {
        let is_it = |(ordinal, chore): &(u32, Chore<P>)| {
            *ordinal == name.ordinal && chore.kind().1 == name.kind
        };
        self.chores.iter().find(|(_, chore)| is_it(chore)).map(|(number, _)| *number)
    }

    /// Up to which mark a flush is on its way, if one is.
    pub(crate) const fn flush_under_way(&self) -> Option<u64> {
        self.flushing
    }

    /// The number of the first running timer whose name begins like that, letter case aside.
    pub(crate) fn timer_named(&self, name: &str) -> Option<u64> {
        let wanted = name.to_lowercase();
        self.timers
            .iter()
            .find(|(timer, _)| format!("{timer:?}").to_lowercase().starts_with(&wanted))
            .map(|(_, number)| *number)
    }

    /// Writes up to `mark` are durable; what waited for them leaves. Says how many writes that were. Where the disk fails
    /// nothing leaves any more.
    pub(crate) fn flush(&mut self, mark: u64, out: &mut Emissions<P>) -> Result<usize, Failure> {
        let count = self.disk.flush(mark)?;
        self.flushing = None;
        let released: Vec<_> = self.gate.durable(mark).collect();
        for held in released {
            self.release(held, out);
        }
        self.begin_flush(out);
        Ok(count)
    }

    fn begin_flush(&mut self, out: &mut Emissions<P>) {
        if self.flushing.is_none() && self.disk.unflushed() > 0 {
            self.flushing = Some(self.gate.written());
            out.push(Emission::Flush(self.gate.written()));
        }
    }

    /// Something in the background is through, unless the node crashed meanwhile.
    pub(crate) fn finish(&mut self, number: u64, now: Time, out: &mut Emissions<P>) -> Finished {
        match self.chores.remove(&number).map(|(_, chore)| chore) {
            None => Finished::Nothing,
            Some(Chore::Snapshot(number, snapshot)) => {
                match self.disk.finish_snapshot(number, *snapshot) {
                    Ok(()) => Finished::Snapshotted,
                    Err(failure) => Finished::Failed(failure),
                }
            }
            Some(Chore::Work(stamp, work)) => {
                let done = Done { stamp, output: work.run() };
                self.step(now, out, |automaton, fx| automaton.on_work(done, fx));
                Finished::Worked
            }
            Some(Chore::Recall(position)) => {
                // What was forgotten meanwhile is not answered: the asker's peer asks again, of somebody else.
                let Some(record) = self.disk.recall(position) else { return Finished::Nothing };
                self.step(now, out, |automaton, fx| automaton.on_recalled(position, record, fx));
                Finished::Worked
            }
        }
    }

    /// The node stops. The first `keep` unflushed writes reached the disk all the same. Says how many writes and how
    /// many held effects are lost.
    pub(crate) fn crash(&mut self, keep: usize) -> (usize, usize) {
        self.automaton = None;
        self.timers.clear();
        let chores = std::mem::take(&mut self.chores);
        let snapshot = chores.values().find_map(|(_, chore)| match chore {
            Chore::Snapshot(_, snapshot) => Some(&**snapshot),
            _ => None,
        });
        self.flushing = None;
        let mut gate = std::mem::take(&mut self.gate);
        let held = gate.durable(gate.written()).count();
        (self.disk.crash(keep, snapshot), held)
    }

    /// How many timers, pieces of work and records it keeps.
    pub(crate) fn kept(&self) -> usize {
        self.timers.len() + self.chores.len() + self.disk.records() + self.disk.unflushed()
    }

    /// The deep check.
    pub(crate) fn audit(&self) {
        if let Some(automaton) = &self.automaton {
            automaton.audit();
        }
    }

    fn carry_out(&mut self, mut effects: Vec<Effect<P>>, out: &mut Emissions<P>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Promise(promise) => {
                    self.gate.write();
                    self.disk.append(Write::Promise(promise));
                }
                Effect::Persist(position, record) => {
                    self.gate.write();
                    self.disk.append(Write::Record(position, record));
                }
                Effect::Forget(before) => {
                    self.disk.forget(before, self.flaw == Some(Flaw::ForgetsEarly));
                }
                Effect::Snapshot(snapshot) => {
                    let number = self.disk.ask_snapshot();
                    self.pass(Held::Snapshot(number, snapshot), out);
                }
                Effect::Send(to, message) => {
                    self.pass(Held::Say(to, message, self.place.clone()), out);
                }
                Effect::SendEager(to, message) => {
                    out.push(Emission::Say(to, message, self.place.clone()));
                }
                Effect::SetTimer(timer, after) => {
                    let number = self.number();
                    self.timers.insert(timer, number);
                    out.push(Emission::Timer(number, after));
                }
                Effect::CancelTimer(timer) => {
                    self.timers.remove(&timer);
                }
                Effect::Output(output) => self.pass(Held::Output(output), out),
                Effect::Blame(evidence) => {
                    self.pass(Held::Blame(evidence, self.place.clone()), out);
                }
                Effect::Members(members) => self.go_on_with(members),
                Effect::Work(stamp, work) => self.chore(Chore::Work(stamp, work), out),
                Effect::Recall(position) => self.chore(Chore::Recall(position), out),
            }
        }
        self.scratch = effects;
        self.begin_flush(out);
    }

    /// From here on these are the members.
    fn go_on_with(&mut self, members: Membership) {
        if let Some(voting) = members.key(self.peer) {
            self.disk.purse.adopt(&voting, &mut self.ring);
            let incarnation = self.peer.replica().and_then(|id| members.member(id));
            if let Some(member) = incarnation
                && self.disk.purse.held(&self.ring, &voting).is_some()
            {
                self.disk.purse.speak(member.incarnation);
            }
        }
        self.place.domain.epoch = members.epoch;
        let mut rolls = self.rolls.borrow_mut();
        let known = rolls.iter().find(|known| ***known == members).cloned();
        self.place.membership = known.unwrap_or_else(|| {
            let members = Rc::new(members);
            rolls.push(members.clone());
            members
        });
    }

    /// What it signs with what counts there.
    pub(crate) fn pen(&self, place: &Place) -> Pen<'_> {
        let voting = place.membership.key(self.peer);
        let voting = voting.and_then(|key| self.disk.purse.held(&self.ring, &key));
        Pen { voting, identity: &self.ring.identity }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn chore(&mut self, chore: Chore<P>, out: &mut Emissions<P>) {
        let number = self.number();
        let (kind, _) = chore.kind();
        self.begun[kind] += 1;
        self.chores.insert(number, (self.begun[kind], chore));
        out.push(Emission::Chore(number));
    }

    fn pass(&mut self, held: Held<P>, out: &mut Emissions<P>) {
        let is_hasty = self.flaw == Some(Flaw::SaysEarly);
        let passed = if is_hasty { Some(held) } else { self.gate.pass(held) };
        if let Some(held) = passed {
            self.release(held, out);
        }
    }

    fn release(&mut self, held: Held<P>, out: &mut Emissions<P>) {
        match held {
            Held::Say(to, message, place) => out.push(Emission::Say(to, message, place)),
            Held::Output(output) => out.push(Emission::Output(output)),
            Held::Blame(evidence, place) => out.push(Emission::Blame(evidence, place)),
            Held::Snapshot(number, snapshot) => self.chore(Chore::Snapshot(number, snapshot), out),
        }
    }
}
