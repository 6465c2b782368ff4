//! Fetching a certified state: from everybody at once, trusting nobody.
//!
//! A head is worth its certificate, and a node of a map its digest, which the node above it names. So it matters not who
//! sends what. All sources are asked for their head; the highest that is certified is the *target*. What the target's maps
//! have in common with the maps at hand is not fetched; what is left is asked for in small questions, of all sources at
//! once, each of which has few questions open. A source that lies, is silent or late, or has let go of the target gives
//! its questions back to the others and rests, the longer the more often. What was taken stays, also when a newer
//! checkpoint becomes the target.
//!
//! The automaton has no effects: whoever runs it carries [`Transfer::asks`] to the sources, their answers to
//! [`Transfer::take`], and calls [`Transfer::tick`] as time passes. Replicas and learners share it.

use crate::executor::Replicated;
use crate::feed::{Head, PLACES, StateAnswer, StateAsk, Summaries, Tree};
use crate::learner::rules::{Rules, Standard};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use testudo_contracts::StableCheckpoint;
use testudo_core::{Digest, ReplicaId, Slot, limits};
use testudo_state::Map;
use testudo_state::sync::{Node, Place, Sync};

/// Questions that one source has open at most.
const QUESTIONS: usize = 2;

/// Questions that one source is asked between two ticks at most: well within what it answers ([`limits::QUESTIONS`]).
const PACE: usize = limits::QUESTIONS / 4;

/// Ticks without an answer after which a source is left. It takes two, as the first may come right after it was asked.
const PATIENCE: u32 = 2;

/// Ticks between two questions of all for a newer head, while there is one.
const RENEWAL: u32 = 4;

/// Ticks for which a checkpoint that nobody held stays given up. It may have been too new for most.
const GIVEN_UP: u32 = 64;

/// The longest rest of a source that was of no use, in ticks.
const LONGEST_REST: u32 = 64;

/// Places that are not worth being split among sources.
const FEW: usize = 16;

/// What a transfer is for.
#[derive(Clone, Debug)]
pub struct Need {
    /// The first checkpoint that is of any use.
    pub least: Slot,
    /// The version of the service that executes on from it.
    pub version: u32,
    /// How many sources must say that they have nothing, to be believed: among so many is a correct one, and all correct
    /// ones together are so many.
    pub enough: usize,
}

/// What a transfer has cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fetched {
    /// Nodes that were taken.
    pub nodes: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How far a transfer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// The checkpoint whose state is fetched; 0 while none is known.
    pub target: Slot,
    /// What was fetched so far.
    pub fetched: Fetched,
    /// Entries of the whole state, those at hand among them.
    pub entries: u64,
    /// Bytes of the whole state.
    pub bytes: u64,
}

/// A state that is whole, and is what its certificate says.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The certificate.
    pub certificate: StableCheckpoint,
    /// The state.
    pub state: Replicated,
    /// What was fetched for it.
    pub fetched: Fetched,
}

/// What an answer led to.
#[derive(Debug)]
pub enum Taken {
    /// There may be more to ask.
    More,
    /// No checkpoint was ever stable: all that was decided can still be told.
    Nothing,
    /// The state is there, and the transfer over.
    Whole(Box<Whole>),
}

/// A question for nodes that is not answered.
#[derive(Clone, Debug)]
struct Question {
    tree: Tree,
    places: Vec<Place>,
    /// Ticks since it was asked.
    ticks: u32,
}

/// Somebody who may have the state.
#[derive(Clone, Debug, Default)]
struct Source {
    /// Invariant: at most `QUESTIONS`, about the present target.
    open: Vec<Question>,
    /// Whether it is to be asked for its head.
    head_due: bool,
    /// Whether it was, and has not answered.
    head_asked: bool,
    /// Whether it has ever said anything.
    is_heard: bool,
    /// Whether it does not hold the target, or any checkpoint while there is no target.
    gone: bool,
    /// Ticks for which nothing is asked of it.
    rest: u32,
    /// How often it was of no use.
    strikes: u32,
    /// Questions for nodes since the last tick.
    asked: usize,
}

impl Source {
    fn is_free(&self) -> bool {
        self.rest == 0 && !self.gone && self.open.len() < QUESTIONS && self.asked < PACE
    }

    /// It was of no use: it rests, the longer the more often. Gives what it was asked for.
    fn strike(&mut self) -> Vec<Question> {
        self.strikes = self.strikes.saturating_add(1);
        let rest = 1_u32.checked_shl(self.strikes).unwrap_or(LONGEST_REST);
        self.rest = rest.min(LONGEST_REST);
        core::mem::take(&mut self.open)
    }
}

/// One of the two maps.
struct Part {
    sync: Sync,
    /// The map, once it is whole.
    map: Option<Map>,
}

impl Part {
    fn new(target: Digest, local: Map) -> Self {
        Self { sync: Sync::new(target, local), map: None }
    }

    fn retarget(&mut self, target: Digest) {
        match self.map.take() {
            Some(map) => self.sync = Sync::new(target, map),
            None => self.sync.retarget(target),
        }
    }

    fn is_whole(&mut self) -> bool {
        if self.map.is_none() {
            self.map = self.sync.finish();
        }
        self.map.is_some()
    }
}

/// The checkpoint whose state is fetched.
struct Target {
    certificate: StableCheckpoint,
    head: Head,
    summaries: Summaries,
    system: Part,
    service: Part,
    /// Nobody holds it any more. What was taken of it serves for the next.
    is_given_up: bool,
}

impl Target {
    const fn part(&mut self, tree: Tree) -> &mut Part {
        match tree {
            Tree::System => &mut self.system,
            Tree::Service => &mut self.service,
        }
    }

    fn give_back(&mut self, questions: &[Question]) {
        for question in questions {
            self.part(question.tree).sync.give_back(&question.places);
        }
    }
}

/// A transfer under way.
pub struct Transfer<R = Standard> {
    need: Need,
    sources: BTreeMap<ReplicaId, Source>,
    /// What the state may have much in common with: sessions, and the service's map.
    local: (Map, Map),
    /// The highest checkpoint that nobody held, and for how many ticks more it is not asked for. An older one is of no use
    /// either: a liar could offer it again and again.
    given_up: (Slot, u32),
    /// Ticks before it begins.
    rest: u32,
    /// Ticks since it began.
    ticks: u32,
    target: Option<Target>,
    fetched: Fetched,
    rules: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for Transfer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target.as_ref().map(|target| target.head.slot);
        write!(f, "Transfer({target:?}, {:?})", self.fetched)
    }
}

impl<R: Rules> Transfer<R> {
    /// Begins to fetch a state from these sources, after so many ticks. `local` is what it may have much in common with:
    /// sessions, and the service's map. Their digests must be what they hold: what the memory may have garbled is to be
    /// made anew first ([`Replicated::made_anew`]).
    #[must_use]
    pub fn new(
        need: Need,
        sources: impl IntoIterator<Item = ReplicaId>,
        local: (Map, Map),
        rest: u32,
    ) -> Self {
        let source = |id| (id, Source { head_due: true, ..Source::default() });
        Self {
            need,
            sources: sources.into_iter().map(source).collect(),
            local,
            given_up: (Slot(0), 0),
            rest,
            ticks: 0,
            target: None,
            fetched: Fetched::default(),
            rules: PhantomData,
        }
    }

    /// The checkpoint whose state is fetched.
    #[must_use]
    pub fn target(&self) -> Option<Slot> {
        self.target.as_ref().map(|target| target.head.slot)
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let mut progress = Progress { fetched: self.fetched, ..Progress::default() };
        if let Some(Target { head, summaries, .. }) = &self.target {
            progress.target = head.slot;
            progress.entries = summaries.system.entries + summaries.service.entries;
            progress.bytes = summaries.system.bytes.saturating_add(summaries.service.bytes);
        }
        progress
    }

    /// What is to be asked now, and of whom. It counts as asked.
    pub fn asks(&mut self) -> Vec<(ReplicaId, StateAsk)> {
        let mut asks = Vec::new();
        if self.rest > 0 {
            return asks;
        }
        for (id, source) in &mut self.sources {
            if core::mem::take(&mut source.head_due) {
                source.head_asked = true;
                asks.push((*id, StateAsk::Head));
            }
        }
        let mut free = self.free();
        let Some(target) = self.target.as_mut().filter(|target| !target.is_given_up) else {
            return asks;
        };
        let slot = target.head.slot;
        for tree in [Tree::System, Tree::Service] {
            let wanted = target.part(tree).sync.wants(free.len() * PLACES);
            let share = wanted.len().div_ceil(free.len().max(1)).clamp(FEW, PLACES);
            for places in wanted.chunks(share) {
                let source = free.pop().and_then(|id| Some((id, self.sources.get_mut(&id)?)));
                let Some((id, source)) = source else {
                    target.part(tree).sync.give_back(places);
                    continue;
                };
                source.asked += 1;
                source.open.push(Question { tree, places: places.to_vec(), ticks: 0 });
                asks.push((id, StateAsk::Nodes { slot, tree, places: places.to_vec() }));
            }
        }
        asks
    }

    /// Who may be asked, once for each question that it may be asked; the best comes last.
    fn free(&self) -> Vec<ReplicaId> {
        let is_able = |source: &&Source| source.rest == 0 && !source.gone;
        // Who has not even told its head is asked for no nodes as long as there is another.
        let must_be_heard = self.sources.values().filter(is_able).any(|source| source.is_heard);
        let may_ask = |source: &Source| source.is_free() && (source.is_heard || !must_be_heard);
        let mut free = Vec::new();
        for (id, source) in self.sources.iter().filter(|(_, source)| may_ask(source)) {
            let room = (QUESTIONS - source.open.len()).min(PACE - source.asked);
            free.extend((0..room).map(|at| (source.open.len() + at, source.strikes, *id)));
        }
        free.sort_unstable_by(|a, b| b.cmp(a));
        free.into_iter().map(|(.., id)| id).collect()
    }

    /// A source answers. A head's certificate was verified with the message. What nobody asked for is left.
    pub fn take(&mut self, from: ReplicaId, answer: &StateAnswer) -> Taken {
        if self.rest > 0 {
            return Taken::More;
        }
        if let Some(source) = self.sources.get_mut(&from) {
            source.is_heard = true;
        }
        match answer {
            StateAnswer::Head(certificate, head, summaries) => {
                self.take_head(from, certificate, head, summaries);
            }
            StateAnswer::Nodes { slot, tree, nodes } => self.take_nodes(from, *slot, *tree, nodes),
            StateAnswer::Gone(slot) => return self.take_gone(from, *slot),
        }
        self.whole()
    }

    fn take_head(
        &mut self,
        from: ReplicaId,
        certificate: &StableCheckpoint,
        head: &Head,
        summaries: &Summaries,
    ) {
        let Some(source) = self.sources.get_mut(&from) else { return };
        if !core::mem::take(&mut source.head_asked) {
            return;
        }
        let target = self.target.as_ref().filter(|target| !target.is_given_up);
        let known = target.map(|target| target.head.slot);
        if known.is_none_or(|known| known == head.slot) {
            source.gone = false;
        }
        let is_new = known.is_none_or(|known| known < head.slot);
        // It is further back than what is needed, or nobody serves it, or nobody here could execute on from it: of no use.
        let is_useful = head.slot >= self.need.least
            && (head.slot > self.given_up.0 || self.given_up.1 == 0)
            && head.version == self.need.version;
        if !is_new || !is_useful {
            return;
        }
        let [system, service] = R::digests(head, summaries);
        if summaries.system.digest() != system || summaries.service.digest() != service {
            let questions = source.strike();
            if let Some(target) = &mut self.target {
                target.give_back(&questions);
            }
            return;
        }
        self.aim(certificate, head, summaries, [system, service]);
    }

    /// Makes this the target. What was fetched for another, and what is at hand, serve it.
    fn aim(
        &mut self,
        certificate: &StableCheckpoint,
        head: &Head,
        summaries: &Summaries,
        [system, service]: [Digest; 2],
    ) {
        self.close_questions();
        let (certificate, head, summaries) = (certificate.clone(), *head, *summaries);
        let mut target = match self.target.take() {
            Some(mut target) => {
                target.system.retarget(system);
                target.service.retarget(service);
                Target { certificate, head, summaries, is_given_up: false, ..target }
            }
            None => Target {
                certificate,
                head,
                summaries,
                system: Part::new(system, self.local.0.clone()),
                service: Part::new(service, self.local.1.clone()),
                is_given_up: false,
            },
        };
        // They have the digests that they must have, so they are taken.
        let _ = target.system.sync.take_summary(&target.summaries.system);
        let _ = target.service.sync.take_summary(&target.summaries.service);
        self.target = Some(target);
    }

    /// Whatever is asked is of the old target. What is wanted of it may be wanted of the next: maps that two checkpoints
    /// have in common are not begun anew.
    fn close_questions(&mut self) {
        for source in self.sources.values_mut() {
            source.gone = false;
            let questions = core::mem::take(&mut source.open);
            if let Some(target) = &mut self.target {
                target.give_back(&questions);
            }
        }
    }

    fn take_nodes(&mut self, from: ReplicaId, slot: Slot, tree: Tree, nodes: &[Node]) {
        let (Some(source), Some(target)) = (self.sources.get_mut(&from), self.target.as_mut())
        else {
            return;
        };
        // One that answers nothing answers the oldest question.
        let is_answered = |question: &Question| {
            let first = nodes.first().map(Node::place);
            question.tree == tree
                && first.is_none_or(|first| question.places.first() == Some(first))
        };
        let Some(index) = source.open.iter().position(is_answered) else { return };
        if target.head.slot != slot {
            return;
        }
        let question = source.open.remove(index);
        let sync = &mut target.part(tree).sync;
        let mut taken = 0;
        for (place, node) in question.places.iter().zip(nodes) {
            if place != node.place() || sync.take(node).is_err() {
                break;
            }
            taken += 1;
            self.fetched.nodes += 1;
            self.fetched.bytes += node.size() as u64;
        }
        sync.give_back(&question.places[taken..]);
        // What it gave was right. But who gives little, and that late, keeps what it was asked for from others.
        let is_short = taken < question.places.len();
        if taken < nodes.len() || taken == 0 || (is_short && question.ticks > 0) {
            let questions = source.strike();
            target.give_back(&questions);
        }
    }

    fn take_gone(&mut self, from: ReplicaId, slot: Slot) -> Taken {
        let Some(source) = self.sources.get_mut(&from) else { return Taken::More };
        match &mut self.target {
            Some(target) if target.head.slot == slot && !source.open.is_empty() => {
                source.gone = true;
                let questions = core::mem::take(&mut source.open);
                target.give_back(&questions);
                if self.are_gone() {
                    self.give_up(slot);
                }
                Taken::More
            }
            None if core::mem::take(&mut source.head_asked) => {
                source.gone = true;
                if self.are_gone() { Taken::Nothing } else { Taken::More }
            }
            _ => {
                source.head_asked = false;
                Taken::More
            }
        }
    }

    /// Nobody holds the target any more.
    fn give_up(&mut self, slot: Slot) {
        self.given_up = (slot, GIVEN_UP);
        self.close_questions();
        self.ask_heads();
        if let Some(target) = &mut self.target {
            target.is_given_up = true;
        }
    }

    /// Whether so many have let go of what is wanted that nobody who is correct has it.
    fn are_gone(&self) -> bool {
        self.sources.values().filter(|source| source.gone).count() >= self.need.enough
    }

    /// The state, once both maps are whole.
    fn whole(&mut self) -> Taken {
        let Some(target) = &mut self.target else { return Taken::More };
        if !(target.system.is_whole() && target.service.is_whole()) {
            return Taken::More;
        }
        let Some(Target { certificate, head, system, service, .. }) = self.target.take() else {
            return Taken::More;
        };
        let maps = system.map.zip(service.map);
        let state =
            maps.and_then(|(system, service)| R::assemble(&head, system, service, &self.local.0));
        match state {
            Some(state) => {
                Taken::Whole(Box::new(Whole { certificate, state, fetched: self.fetched }))
            }
            None => {
                // Each node was right, so the whole is: what was at hand is not what its digests say. It begins anew
                // with nothing at hand.
                self.local = (Map::new(), Map::new());
                self.ask_heads();
                Taken::More
            }
        }
    }

    fn ask_heads(&mut self) {
        self.sources.values_mut().for_each(|source| source.head_due = true);
    }

    /// Time has passed: what was asked may be lost, or its source of no use.
    pub fn tick(&mut self) {
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        self.ticks = self.ticks.wrapping_add(1);
        self.given_up.1 = self.given_up.1.saturating_sub(1);
        let has_target = self.target.as_ref().is_some_and(|target| !target.is_given_up);
        let is_renewal = self.ticks.is_multiple_of(RENEWAL);
        for source in self.sources.values_mut() {
            source.asked = 0;
            source.rest = source.rest.saturating_sub(1);
            source.head_due |= !has_target || is_renewal || source.gone;
            source.open.iter_mut().for_each(|question| question.ticks += 1);
            if source.open.iter().any(|question| question.ticks > PATIENCE) {
                let questions = source.strike();
                if let Some(target) = &mut self.target {
                    target.give_back(&questions);
                }
            }
        }
        // When all rest, whoever rests is as good as any other.
        if self.sources.values().all(|source| source.rest > 0 || source.gone) {
            self.sources.values_mut().for_each(|source| source.rest = 0);
        }
    }
}
