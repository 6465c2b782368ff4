//! One way through what can happen: a world, what is under way in it, and what may still go wrong.

use super::Bounds;
use super::history::{History, Recorder};
use super::model::{Ask, Forks, Model};
use super::print::{Hash, Print, prints};
use super::rename::Renaming;
use super::report::Told;
use super::story::Story;
use crate::adversary::Saying;
use crate::event::{Letter, Loss, NodeId};
use crate::host::quietly;
use crate::oracle::{Cast, Violation};
use crate::papers::panic_text;
use crate::rng::Dictation;
use crate::world::{Pending, System, World};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use testudo_core::Digest;

/// Something that has begun and will end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Item {
    /// A message is under way.
    Packet(u64),
    /// A flush: node, life, mark.
    Flush(NodeId, u32, u64),
    /// Something in the background of a node, by number.
    Chore(NodeId, u64),
}

/// Something that can happen next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Act {
    /// What has begun ends.
    End(Item),
    /// What would end next is late.
    Delay,
    /// A timer fires.
    Fire(NodeId, u64),
    /// A replica crashes; so many of its unflushed writes reach the disk.
    Crash(NodeId, usize),
    /// A replica starts again.
    Restart(NodeId),
    /// A message is lost.
    Lose(u64),
    /// A message is doubled.
    Double(u64),
    /// A layer above asks for something, by its place among what can be asked for.
    Ask(usize),
    /// A liar says something, by its place among what it can say.
    Lie(NodeId, usize),
}

/// What all ways through one world have in common.
pub(crate) struct Scene<S: System> {
    pub(super) bounds: Bounds,
    pub(super) forks: Option<Forks<S>>,
    pub(super) renamings: Vec<Renaming>,
    cast: Cast,
    has_adversaries: bool,
    recorder: Rc<RefCell<Recorder>>,
    pub(super) dictation: Dictation,
    /// What stands for each message that was ever under way.
    letters: RefCell<BTreeMap<Digest, Vec<Print>>>,
}

/// A way through a world, up to some state.
pub(crate) struct Course<S: System> {
    pub(crate) world: World<S>,
    pub(super) scene: Rc<Scene<S>>,
    /// What ends in the order in which it began.
    queue: VecDeque<Item>,
    /// What may end at any time.
    loose: Vec<Item>,
    /// What ends before anything else happens.
    prompt: VecDeque<Item>,
    /// How long each timer was to run.
    timers: BTreeMap<(NodeId, u64), Duration>,
    /// What is left of the budgets.
    left: Bounds,
    history: History,
    /// What stands for each node under each renaming; nothing where that has changed.
    prints: Vec<Option<Vec<Print>>>,
    /// What stands for all that nodes with an adversary went through.
    deeds: BTreeMap<NodeId, Print>,
    /// What is told of the way, if somebody wants to hear it.
    story: Option<Story>,
}

/// Beyond this many steps of the beginning something goes round in circles.
const MOST: usize = 100_000;

impl<S: Model> Course<S> {
    /// The beginning.
    pub(crate) fn begin(mut world: World<S>, bounds: &Bounds, tells: bool) -> Self {
        let recorder = Rc::new(RefCell::new(Recorder::default()));
        let dictation = Dictation::default();
        dictation.dictate(&[], bounds.draws);
        world.watch(recorder.clone());
        world.obey(&dictation);
        let nodes = world.all().count();
        let has_adversaries = world.all().any(|node| world.has_adversary(node));
        let forks = S::forks().filter(|_| !has_adversaries && world.system.may_fork());
        let alike = if has_adversaries { Vec::new() } else { S::interchangeable(&world) };
        let renamings = Renaming::all(&alike);
        let scene = Scene {
            bounds: bounds.clone(),
            forks,
            cast: Cast::of(&world),
            has_adversaries,
            recorder,
            dictation,
            letters: RefCell::default(),
            renamings,
        };
        let mut course = Self {
            world,
            queue: VecDeque::new(),
            loose: Vec::new(),
            prompt: VecDeque::new(),
            timers: BTreeMap::new(),
            left: bounds.clone(),
            history: History::new(nodes, scene.renamings.len()),
            prints: vec![None; nodes],
            deeds: BTreeMap::new(),
            story: tells.then(Story::default),
            scene: Rc::new(scene),
        };
        course.settle();
        course
    }

    /// Starts all, and lets what that sets off come to its end.
    fn settle(&mut self) {
        self.hear_of_letters();
        for node in self.world.all() {
            if !self.world.is_up(node) && self.world.is_correct(node) {
                self.world.restart(node);
            }
            if self.world.is_up(node) {
                S::settle(&mut self.world, node);
            }
        }
        self.absorb();
        if S::begins_settled() {
            for _ in 0..MOST {
                let next = self.prompt.pop_front().or_else(|| self.queue.pop_front());
                let next = next.or_else(|| (!self.loose.is_empty()).then(|| self.loose.remove(0)));
                let Some(item) = next else { break };
                self.end(item);
            }
        }
        self.run_prompt();
        let events = std::mem::take(&mut self.scene.recorder.borrow_mut().events);
        self.history.add(events, &self.scene.renamings);
        if let Some(story) = &mut self.story {
            story.begin(S::begins_settled());
        }
    }

    /// The same way, to go on otherwise; none if worlds cannot be copied.
    pub(super) fn fork(&self) -> Option<Self> {
        let world = (self.scene.forks?.fork)(&self.world)?;
        Some(Self {
            world,
            scene: self.scene.clone(),
            queue: self.queue.clone(),
            loose: self.loose.clone(),
            prompt: self.prompt.clone(),
            timers: self.timers.clone(),
            left: self.left.clone(),
            history: self.history.clone(),
            prints: self.prints.clone(),
            deeds: self.deeds.clone(),
            story: None,
        })
    }

    /// All that can happen next, the same for the same state. What is to be expected comes first.
    pub(crate) fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.left.inputs > 0 {
            acts.extend((0..S::asks(&self.world).len()).map(Act::Ask));
        }
        if let Some(next) = self.queue.front() {
            acts.push(Act::End(*next));
            if self.left.late.is_some_and(|late| late > 0) {
                acts.push(Act::Delay);
            }
        }
        let mut seen = BTreeSet::new();
        let is_new = |item: &&Item| match self.letter(**item) {
            Some(letter) => seen.insert((letter.from, letter.to, letter.digest)),
            None => true,
        };
        let loose: Vec<Item> = self.loose.iter().filter(is_new).copied().collect();
        let can_end = |item: &&Item| self.letter(**item).is_none_or(|to| self.world.is_up(to.to));
        acts.extend(loose.iter().filter(can_end).map(|item| Act::End(*item)));
        self.add_timers(&mut acts);
        self.add_crashes(&mut acts);
        self.add_network(&mut acts);
        self.add_lies(&mut acts);
        acts
    }

    fn letter(&self, item: Item) -> Option<&Letter> {
        match item {
            Item::Packet(number) => self.world.letter(number),
            _ => None,
        }
    }

    fn add_timers(&self, acts: &mut Vec<Act>) {
        if self.left.timeouts == 0 {
            return;
        }
        let wanted = &self.left.timers;
        for node in self.world.all() {
            for (number, name) in self.world.running(node) {
                let whole = format!("{} {name}", self.world.name(node));
                let is_wanted =
                    |prefix: &&str| name.starts_with(*prefix) || whole.starts_with(*prefix);
                if wanted.is_empty() || wanted.iter().any(is_wanted) {
                    acts.push(Act::Fire(node, number));
                }
            }
        }
    }

    fn add_crashes(&self, acts: &mut Vec<Act>) {
        for node in self.world.replicas().filter(|node| self.world.is_correct(*node)) {
            if !self.world.is_up(node) {
                if self.left.restarts > 0 {
                    acts.push(Act::Restart(node));
                }
            } else if self.left.crashes > 0 {
                let all = self.world.unflushed(node);
                acts.extend((0..=all).map(|keep| Act::Crash(node, keep)));
            }
        }
    }

    fn add_network(&self, acts: &mut Vec<Act>) {
        if self.left.losses == 0 && self.left.duplicates == 0 {
            return;
        }
        let mut seen = BTreeSet::new();
        for letter in self.world.letters() {
            let is_new = seen.insert((letter.from, letter.to, letter.digest));
            if is_new && !self.world.is_own(letter.number) {
                if self.left.losses > 0 {
                    acts.push(Act::Lose(letter.number));
                }
                if self.left.duplicates > 0 {
                    acts.push(Act::Double(letter.number));
                }
            }
        }
    }

    fn add_lies(&self, acts: &mut Vec<Act>) {
        if self.left.lies > 0 {
            for liar in self.world.replicas().filter(|node| !self.world.is_correct(*node)) {
                let count = S::falsehoods(&self.world, liar).len();
                acts.extend((0..count).map(|index| Act::Lie(liar, index)));
            }
        }
    }

    /// Something happens, and draws come to this.
    ///
    /// # Errors
    /// When a rule is broken by it.
    pub(crate) fn perform(
        &mut self,
        act: Act,
        draws: &[u32],
        judges: bool,
    ) -> Result<(), Violation> {
        let scene = self.scene.clone();
        scene.dictation.dictate(draws, scene.bounds.draws);
        self.note_deed(act, draws);
        let run = AssertUnwindSafe(|| {
            self.run(act);
            self.run_prompt();
        });
        let panic = quietly(|| catch_unwind(run)).err();
        let events = std::mem::take(&mut scene.recorder.borrow_mut().events);
        if let Some(story) = &mut self.story {
            story.tell(&events, &scene.cast);
        }
        let at = self.world.now();
        if let Some(panic) = panic {
            let what = panic_text(panic.as_ref());
            return Err(Violation { oracle: "no panic", at, what });
        }
        if !events.is_empty() {
            self.history.add(events, &scene.renamings);
            let broken = if judges { self.history.judge(&self.world, &scene.cast) } else { None };
            if let Some(violation) = broken {
                return Err(violation);
            }
        }
        if judges {
            S::check(&self.world).map_err(|(oracle, what)| Violation { oracle, at, what })?;
        }
        Ok(())
    }

    /// What a node with an adversary goes through stands for what that has in mind.
    fn note_deed(&mut self, act: Act, draws: &[u32]) {
        if !self.scene.has_adversaries {
            return;
        }
        let node = match act {
            Act::End(Item::Packet(number)) => self.world.letter(number).map(|letter| letter.to),
            Act::End(Item::Flush(node, ..) | Item::Chore(node, _))
            | Act::Fire(node, _)
            | Act::Crash(node, _)
            | Act::Restart(node)
            | Act::Lie(node, _) => Some(node),
            Act::Ask(at) => S::asks(&self.world).get(at).map(|ask| ask.node),
            Act::Delay | Act::Lose(_) | Act::Double(_) => None,
        };
        let Some(node) = node.filter(|node| self.world.has_adversary(*node)) else { return };
        let what = match act {
            Act::End(item) => self.item_print(item, 0),
            other => prints(&self.scene.renamings, |out| write!(out, "{other:?}"))[0],
        };
        let deed = draws.iter().fold(what, |deed, draw| deed.then(Print::of(u64::from(*draw))));
        let before = self.deeds.entry(node).or_default();
        *before = before.then(deed);
    }

    fn run(&mut self, act: Act) {
        if let Some(story) = &mut self.story {
            story.step(&self.world, act, &S::asks);
        }
        match act {
            Act::End(item) => {
                if self.queue.front() == Some(&item) {
                    self.queue.pop_front();
                } else {
                    self.loose.retain(|other| *other != item);
                }
                self.end(item);
            }
            Act::Delay => {
                self.left.late = self.left.late.map(|late| late.saturating_sub(1));
                self.loose.extend(self.queue.pop_front());
            }
            Act::Fire(node, number) => {
                self.left.timeouts -= 1;
                self.own(node);
                self.world.fire(node, number);
                self.touched(node);
            }
            Act::Crash(node, keep) => {
                self.left.crashes -= 1;
                self.own(node);
                self.world.crash(node, keep);
                self.prints[node.index()] = None;
                self.sweep(Some(node));
            }
            Act::Restart(node) => {
                self.left.restarts -= 1;
                self.own(node);
                self.world.restart(node);
                self.touched(node);
                self.sweep(None);
            }
            Act::Lose(number) => {
                self.left.losses -= 1;
                self.world.lose(number, Loss::Network);
                self.sweep(None);
            }
            Act::Double(number) => {
                self.left.duplicates -= 1;
                self.double(number);
            }
            Act::Ask(at) => {
                self.left.inputs -= 1;
                let ask: Option<Ask> = S::asks(&self.world).into_iter().nth(at);
                if let Some(ask) = ask {
                    self.own(ask.node);
                    S::ask(&mut self.world, &ask);
                    self.touched(ask.node);
                }
            }
            Act::Lie(liar, at) => self.lie(liar, at),
        }
    }

    fn double(&mut self, number: u64) {
        self.world.duplicate(number);
        for pending in self.world.take_pending() {
            if let Pending::Packet(copy, _) = pending {
                if let Some(story) = &mut self.story {
                    story.copied(number, copy);
                }
                // A copy may come at any time, as it is no message of anybody's.
                self.loose.push(Item::Packet(copy));
            }
        }
    }

    /// A liar says something, and it arrives.
    fn lie(&mut self, liar: NodeId, at: usize) {
        self.left.lies -= 1;
        let Some(lie) = S::falsehoods(&self.world, liar).into_iter().nth(at) else { return };
        for (to, message) in lie.messages {
            self.world.have_lie(liar, Saying::now(to, message));
            self.hear_of_letters();
            for pending in self.world.take_pending() {
                if let Pending::Packet(number, _) = pending {
                    self.end(Item::Packet(number));
                }
            }
        }
    }

    /// What has begun ends.
    fn end(&mut self, item: Item) {
        if let Some(story) = &mut self.story {
            story.end(&self.world, item);
        }
        let node = match item {
            Item::Packet(number) => {
                let Some(to) = self.world.letter(number).map(|letter| letter.to) else { return };
                self.own(to);
                self.world.deliver(number);
                to
            }
            Item::Flush(node, life, mark) => {
                self.own(node);
                self.world.flush(node, life, mark);
                node
            }
            Item::Chore(node, number) => {
                self.own(node);
                self.world.finish(node, number);
                node
            }
        };
        self.touched(node);
    }

    fn own(&mut self, node: NodeId) {
        if let Some(forks) = &self.scene.forks {
            (forks.own)(&mut self.world, node);
        }
    }

    /// A node has taken a step.
    fn touched(&mut self, node: NodeId) {
        self.prints[node.index()] = None;
        if self.world.is_up(node) {
            S::settle(&mut self.world, node);
            self.world.audit_of(node);
        }
        self.absorb();
        let running: BTreeSet<u64> =
            self.world.running(node).into_iter().map(|(number, _)| number).collect();
        self.timers.retain(|(of, number), _| *of != node || running.contains(number));
    }

    /// Takes up what has begun.
    fn absorb(&mut self) {
        self.hear_of_letters();
        for pending in self.world.take_pending() {
            let item = match pending {
                Pending::Packet(number, _) => Item::Packet(number),
                Pending::Flush(node, life, mark) => Item::Flush(node, life, mark),
                Pending::Chore(node, number) => Item::Chore(node, number),
                Pending::Timer(node, number, after) => {
                    self.timers.insert((node, number), after);
                    continue;
                }
                // Work takes no time here.
                Pending::Serve(node, _) => {
                    self.world.serve(node);
                    continue;
                }
            };
            if self.is_hopeless(item) {
                self.forget(item);
            } else if self.left.prompt && self.is_prompt(item) {
                self.prompt.push_back(item);
            } else if self.left.late.is_some() {
                self.queue.push_back(item);
            } else {
                self.loose.push(item);
            }
        }
    }

    fn hear_of_letters(&mut self) {
        if let Some(story) = &mut self.story {
            story.sent(self.world.letters());
        }
    }

    fn run_prompt(&mut self) {
        while let Some(item) = self.prompt.pop_front() {
            self.end(item);
        }
    }

    fn is_prompt(&self, item: Item) -> bool {
        match item {
            Item::Packet(number) => self.world.is_own(number),
            Item::Flush(..) | Item::Chore(..) => true,
        }
    }

    /// Whether a message is for somebody who will never hear again.
    fn is_hopeless(&self, item: Item) -> bool {
        let Some(to) = self.letter(item).map(|letter| letter.to) else { return false };
        let may_return = self.left.restarts > 0 && self.world.is_correct(to);
        !self.world.is_up(to) && !(may_return && self.world.is_replica(to))
    }

    fn forget(&mut self, item: Item) {
        if let Item::Packet(number) = item {
            self.world.lose(number, Loss::Down);
        }
    }

    /// Lets go of what will not end any more: what a node that crashed had begun, what is lost, what nobody will hear.
    fn sweep(&mut self, crashed: Option<NodeId>) {
        let all = self.queue.iter().chain(&self.loose).copied();
        let gone: Vec<Item> = all
            .filter(|item| match item {
                Item::Packet(number) => {
                    self.world.letter(*number).is_none() || self.is_hopeless(*item)
                }
                Item::Flush(node, ..) | Item::Chore(node, _) => crashed == Some(*node),
            })
            .collect();
        gone.iter().for_each(|item| self.forget(*item));
        self.queue.retain(|item| !gone.contains(item));
        self.loose.retain(|item| !gone.contains(item));
        self.timers.retain(|(node, _), _| crashed != Some(*node));
    }

    /// What stands for this state.
    pub(super) fn print(&mut self) -> Print {
        for node in self.world.all() {
            if self.prints[node.index()].is_none() {
                let (world, renamings) = (&self.world, &self.scene.renamings);
                let new = prints(renamings, |out| {
                    world.print_node(node, out, S::print_replica, S::print_client)
                });
                self.prints[node.index()] = Some(new);
            }
        }
        let above = prints(&self.scene.renamings, |out| self.world.system.print_above(out));
        let under = |renaming| self.print_under(renaming, above[renaming]);
        (0..self.scene.renamings.len()).map(under).min().unwrap_or_default()
    }

    fn print_under(&self, renaming: usize, above: Print) -> Print {
        let names = &self.scene.renamings[renaming];
        let mut hash = Hash::default();
        let mut nodes: Vec<(NodeId, NodeId)> =
            self.world.all().map(|node| (names.of(node), node)).collect();
        nodes.sort_unstable();
        for (_, node) in nodes {
            let own = self.prints[node.index()].as_ref().map(|prints| prints[renaming]);
            hash.print(own.unwrap_or_default());
            hash.print(self.history.chain(node.index(), renaming));
            hash.print(self.deeds.get(&node).copied().unwrap_or_default());
        }
        hash.print(above);
        for item in &self.queue {
            hash.print(self.item_print(*item, renaming));
        }
        let loose = self.loose.iter().map(|item| self.item_print(*item, renaming));
        hash.print(loose.fold(Print::default(), Print::and));
        let Bounds { crashes, restarts, losses, duplicates, timeouts, inputs, lies, late, .. } =
            self.left;
        let late = late.map_or(0, |late| late + 1);
        for left in [crashes, restarts, losses, duplicates, timeouts, inputs, lies, late] {
            hash.word(u64::from(left));
        }
        hash.end()
    }

    fn item_print(&self, item: Item, renaming: usize) -> Print {
        let names = &self.scene.renamings[renaming];
        let at = |node: NodeId| u64::from(names.of(node).0);
        let mut hash = Hash::default();
        match item {
            Item::Packet(number) => {
                let Some(letter) = self.world.letter(number) else { return Print::default() };
                hash.word(1 << 32 | at(letter.from) << 16 | at(letter.to));
                hash.print(self.letter_print(letter, renaming));
            }
            Item::Flush(node, _, mark) => {
                hash.word(2 << 32 | at(node));
                hash.word(mark);
            }
            Item::Chore(node, number) => {
                // Which of its chores it is; their numbers count what does not matter.
                let of_node = |other: &&Item| matches!(other, Item::Chore(of, before) if *of == node && *before < number);
                let rank = self.queue.iter().chain(&self.loose).filter(of_node).count();
                hash.word(3 << 32 | at(node));
                hash.word(rank as u64);
            }
        }
        hash.end()
    }

    /// What stands for a message, whoever gets it.
    fn letter_print(&self, letter: &Letter, renaming: usize) -> Print {
        if self.scene.renamings.len() == 1 {
            let mut hash = Hash::default();
            for chunk in letter.digest.0.chunks_exact(8) {
                let word = chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
                hash.word(word);
            }
            return hash.end();
        }
        let mut known = self.scene.letters.borrow_mut();
        let all = known.entry(letter.digest).or_insert_with(|| {
            let message = self.world.message(letter.number);
            prints(&self.scene.renamings, |out| write!(out, "{:?} {message:?}", letter.sender))
        });
        all[renaming]
    }

    /// What was told of the way.
    pub(super) fn into_story(self) -> Vec<Told> {
        self.story.map(Story::into_steps).unwrap_or_default()
    }
}
