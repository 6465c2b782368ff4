//! What a stream says next.
//!
//! First the rest of a revision of which a fragment has gone out, because clients put fragments together as they come;
//! then answers to requests; then the events of its watches, each in its turn; then progress.

use super::notice::{Budget, Cause, Event, Notice, Turn};
use super::stream::{Position, Rest, Stream};
use super::window::Changes;
use super::{ALL, Name, StreamId, Watchers};
use crate::history::{Change, changes};
use alloc::vec::Vec;
use testudo_contracts::Reading;

/// An answer in the making.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    bytes: usize,
}

impl Batch {
    const fn is_full(&self, budget: Budget) -> bool {
        self.events.len() >= budget.events || self.bytes >= budget.bytes
    }

    fn push(&mut self, event: Event) {
        self.bytes += event.size();
        self.events.push(event);
    }
}

impl<S: Reading> Watchers<S> {
    /// What the stream is to send next. A stream that has nothing to say is to be polled again when it is woken
    /// ([`Watchers::take_woken`]); one that is closed has nothing to say.
    pub fn poll(&mut self, stream_id: StreamId, budget: Budget) -> Turn {
        let Some(stream) = self.streams.get_mut(&stream_id) else { return Turn::Nothing };
        if let Some(rest) = stream.rest.take() {
            return Turn::Notice(self.fragment((stream_id, rest.watch_id), rest, budget));
        }
        if let Some(answer) = stream.answers.pop_front() {
            return Turn::Notice(answer);
        }
        if let Some(watch_id) = stream.turn() {
            stream.served = watch_id;
            return self.serve((stream_id, watch_id), budget);
        }
        if stream.progress && stream.has_caught_up(self.revision) {
            stream.progress = false;
            self.waiting.remove(&stream_id);
            return Turn::Notice(Notice::Progress { watch_id: ALL, revision: self.revision });
        }
        Turn::Nothing
    }

    /// The turn of one watch that has something to say or to read.
    fn serve(&mut self, name: Name, budget: Budget) -> Turn {
        let (_, watch_id) = name;
        if let Some(turn) = self.hand_out(name, budget) {
            return turn;
        }
        let Some(watch) = self.watch(name) else { return Turn::Again };
        if let Position::Hungry(next) = watch.position {
            if next < self.compacted {
                return self.cancel_compacted(name);
            }
            self.step(next);
            return self.hand_out(name, budget).unwrap_or(Turn::Again);
        }
        // It keeps up and has nothing else to say: what remains is to say that.
        let (due, revision) = (core::mem::take(&mut watch.due), self.revision);
        let honest = self.watch(name).is_some_and(|watch| watch.start <= revision + 1);
        self.settle(name);
        if due && honest {
            return Turn::Notice(Notice::Progress { watch_id, revision });
        }
        Turn::Again
    }

    /// Hands out what is noted for a watch, as far as the budget goes. None if nothing is.
    fn hand_out(&mut self, name: Name, budget: Budget) -> Option<Turn> {
        let mut batch = Batch::default();
        let mut last = 0;
        while let Some(revision) = self.watch(name)?.pending.front().copied() {
            if batch.is_full(budget) {
                break;
            }
            let Some(changes) = self.changes_of(revision) else {
                if batch.events.is_empty() {
                    return Some(self.cancel_compacted(name));
                }
                break;
            };
            let watch = self.watch(name)?;
            let (mut within, fragment) = (watch.within(&changes), watch.fragment);
            let before = batch.events.len();
            while let Some(index) = within.next() {
                let Some(event) = self.event(name, &changes, index) else { continue };
                if fragment && !batch.events.is_empty() && batch.bytes + event.size() > budget.bytes
                {
                    if before > 0 {
                        // The revision does not fit beside those before it; alone it may.
                        batch.events.truncate(before);
                        return Some(self.events(name, batch, last));
                    }
                    self.take_off(name);
                    let header = self.header(name, revision);
                    within.put_back();
                    let rest = Rest::new(name.1, changes, within, header);
                    return Some(self.first_fragment(name, batch, rest));
                }
                batch.push(event);
            }
            last = revision;
            self.take_off(name);
        }
        (!batch.events.is_empty()).then(|| self.events(name, batch, last))
    }

    fn events(&mut self, name: Name, batch: Batch, last: i64) -> Turn {
        let revision = self.header(name, last);
        self.told(name);
        let (watch_id, events) = (name.1, batch.events);
        Turn::Notice(Notice::Events { watch_id, revision, events, fragment: false })
    }

    fn first_fragment(&mut self, name: Name, batch: Batch, rest: Rest) -> Turn {
        self.told(name);
        let (watch_id, revision, events) = (name.1, rest.header, batch.events);
        if let Some(stream) = self.streams.get_mut(&name.0) {
            stream.rest = Some(rest);
        }
        Turn::Notice(Notice::Events { watch_id, revision, events, fragment: true })
    }

    /// The next fragment of a revision.
    fn fragment(&mut self, name: Name, mut rest: Rest, budget: Budget) -> Notice {
        let mut batch = Batch::default();
        while let Some(index) = rest.left.next() {
            let Some(event) = self.event(name, &rest.changes, index) else { continue };
            if !batch.events.is_empty() && batch.bytes + event.size() > budget.bytes {
                rest.left.put_back();
                break;
            }
            batch.push(event);
        }
        let (watch_id, revision, fragment) = (name.1, rest.header, !rest.left.is_empty());
        if let Some(stream) = self.streams.get_mut(&name.0) {
            stream.rest = Some(rest).filter(|_| fragment);
        }
        Notice::Events { watch_id, revision, events: batch.events, fragment }
    }

    /// One change as the watch is told of it; none if its filters leave it out.
    fn event(&mut self, name: Name, changes: &Changes, index: usize) -> Option<Event> {
        let change = changes.all().get(index)?;
        let watch = self.watch(name).filter(|watch| watch.wants(change))?;
        // What was before the oldest revision that is kept cannot be known, whether or not it still lies there.
        let previous = if watch.prev_kv && change.revision > self.compacted {
            self.window.previous(&self.store, change, index)
        } else {
            None
        };
        Some(Event { change: change.clone(), previous })
    }

    /// What a revision has changed; none if it is compacted.
    fn changes_of(&self, revision: i64) -> Option<Changes> {
        if let Some(changes) = self.window.get(revision) {
            return Some(changes.clone());
        }
        if revision < self.compacted {
            return None;
        }
        let mut found: Vec<Change> = Vec::new();
        changes(&self.store, revision, revision, &mut |change| {
            found.push(change);
            true
        });
        Some(Changes::new(&found))
    }

    /// The revision up to which a watch has been told everything once it has been told of `last`.
    fn header(&mut self, name: Name, last: i64) -> i64 {
        self.watch(name)
            .filter(|watch| watch.pending.is_empty())
            .map_or(last, |watch| last.max(watch.seen))
    }

    /// Takes the first noted revision off a watch's list. One that is behind has room for another then.
    fn take_off(&mut self, name: Name) {
        let Some(watch) = self.watch(name) else { return };
        watch.pop();
        if let Position::Full(next) = watch.position {
            watch.position = Position::Hungry(next);
            self.hungry.insert((next, name));
        }
    }

    /// A watch has been told something.
    fn told(&mut self, name: Name) {
        if let Some(watch) = self.watch(name) {
            (watch.quiet, watch.due) = (false, false);
        }
        self.settle(name);
    }

    fn settle(&mut self, name: Name) {
        if let Some(stream) = self.streams.get_mut(&name.0) {
            stream.settle(name.1);
        }
    }

    /// Ends a watch that needs what compaction has swallowed.
    fn cancel_compacted(&mut self, name: Name) -> Turn {
        self.end(name);
        let (watch_id, cause) = (name.1, Cause::Compacted(self.compacted));
        Turn::Notice(Notice::Canceled { watch_id, revision: 0, cause })
    }

    fn watch(&mut self, name: Name) -> Option<&mut super::stream::Watch> {
        let Stream { watches, .. } = self.streams.get_mut(&name.0)?;
        watches.get_mut(&name.1)
    }
}
