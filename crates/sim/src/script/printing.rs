//! What a script's reader is shown of what happens.

use super::stage::{Scripted, Stage};
use super::words::fact_line;
use crate::event::{Event, Fact, Letter, Loss, NodeId};
use crate::world::World;

impl<S: Scripted, F: FnMut() -> S> Stage<S, F> {
    pub(super) fn print_events(&mut self) {
        let events = std::mem::take(&mut self.listener.borrow_mut().events);
        // A timer that only sets itself again is not worth a line, unless somebody fired it.
        let is_tick = matches!(events[..], [Event::Fired(..)]) && self.is_passing;
        let is_silent = self.is_passing && self.is_quiet;
        let is_told = |event: &Event| !(is_tick || is_silent && matches!(event, Event::Fired(..)));
        let mut events = events.into_iter().filter(is_told).peekable();
        while let Some(event) = events.next() {
            let Event::Sent(letter) = event else {
                let line = self.line(&event);
                self.printed.extend(line);
                continue;
            };
            if letter.from == letter.to {
                continue;
            }
            // What is said to many is one line.
            let mut receivers = vec![self.name(letter.to)];
            let said = self.said(&letter);
            while let Some(Event::Sent(next)) = events.peek().cloned() {
                let is_own = next.from == next.to;
                if next.from != letter.from || (!is_own && self.said(&next) != said) {
                    break;
                }
                if !is_own {
                    receivers.push(self.name(next.to));
                }
                events.next();
            }
            if !self.is_quiet {
                let (from, receivers) = (self.name(letter.from), receivers.join(" "));
                self.printed.push(format!("  {from} → {receivers} {said}"));
            }
        }
        self.print_answers();
    }

    fn print_answers(&mut self) {
        while let Some((client, output)) = self.world.as_mut().and_then(World::take_answer) {
            let Some(world) = &mut self.world else { return };
            let name = world.name(world.client_node(client));
            if let Some(line) = world.system.show_answer(client, output) {
                let line = self.names.apply(&format!("{name} ← {line}"));
                self.printed.push(line);
            }
        }
    }

    pub(super) fn name(&self, node: NodeId) -> String {
        self.world.as_ref().map(|world| world.name(node)).unwrap_or_default()
    }

    /// What a message says, as it was when it was first seen under way.
    fn said(&mut self, letter: &Letter) -> String {
        let Some(world) = &self.world else { return String::new() };
        if let Some(said) = self.said.get(&letter.number) {
            return said.clone();
        }
        let said = world
            .message(letter.number)
            .map(|message| format!("{} {}", letter.name, world.system.show_message(&message)))
            .map_or_else(|| letter.name.to_string(), |said| self.names.apply(&said));
        self.said.insert(letter.number, said.clone());
        said
    }

    pub(super) fn letter(&mut self, arrow: &str, letter: &Letter) -> String {
        let (from, to) = (self.name(letter.from), self.name(letter.to));
        format!("{from} {arrow} {to} {}", self.said(letter))
    }

    fn line(&mut self, event: &Event) -> Option<String> {
        let line = match event {
            // One's word to oneself is heard at once, and says nothing new.
            Event::Delivered(letter) if letter.from == letter.to => return None,
            Event::Delivered(letter) => {
                let line = self.letter("⇒", letter);
                return (!self.is_quiet).then_some(line);
            }
            Event::Rejected(letter, why) => format!("{}: {why}", self.letter("⇏", letter)),
            Event::Dropped(_, Loss::Partition | Loss::Down) if self.is_quiet => return None,
            Event::Dropped(letter, why) => {
                let why = format!("{why:?}").to_lowercase();
                format!("{} ({why})", self.letter("⇥", letter))
            }
            Event::Duplicated(letter) => self.letter("⇉", letter),
            Event::Fired(node, timer) => format!("{} timer {timer}", self.name(*node)),
            Event::Flushed(node, writes) if !self.haste.flushes => {
                format!("{} flushed {writes}", self.name(*node))
            }
            Event::Crashed { node, writes, held } => {
                format!("{} crashed, lost writes: {writes}, words: {held}", self.name(*node))
            }
            Event::Started(node) => format!("{} started", self.name(*node)),
            Event::ClockSet(node, offset) => {
                format!("{} clock off by {offset} ms", self.name(*node))
            }
            Event::Drifts(node, rate) => {
                format!("{} clock drifts by {rate} ppm", self.name(*node))
            }
            Event::Paused(node) => format!("{} stops running", self.name(*node)),
            Event::Resumed(node) => format!("{} goes on", self.name(*node)),
            Event::Timely(bound) => format!("the network is timely: within {bound:?}"),
            Event::Untimely(letter, breach) => format!("{}: {breach}", self.letter("⇢", letter)),
            Event::Harmed(node, harm) => format!("{} has come to harm: {harm}", self.name(*node)),
            Event::Opened(node, salvage) => {
                format!("{} opens its log: {salvage}", self.name(*node))
            }
            Event::Failed(node, why) => format!("{} stops: {why}", self.name(*node)),
            Event::Scrubbed(node) => format!("{} finds out what it has lost", self.name(*node)),
            // What there is to say of it stands in other lines.
            Event::Told(_, Fact::Answered { .. } | Fact::Repeated { .. } | Fact::Halted(_)) => {
                return None;
            }
            Event::Told(node, fact) => format!("  {} {}", self.name(*node), fact_line(fact)),
            Event::Blamed { by, accused, offence, .. } => {
                format!("  {} blames {accused}: {offence}", self.name(*by))
            }
            Event::Lied(node, how) => format!("  {} lies: {how}", self.name(*node)),
            Event::Sent(_)
            | Event::Flushed(..)
            | Event::Snapshotted(_)
            | Event::Worked(_)
            | Event::Cut(..)
            | Event::Joined(..)
            | Event::Healed
            | Event::Asked(..) => return None,
        };
        Some(self.names.apply(&line))
    }
}
