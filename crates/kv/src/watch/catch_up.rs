//! Reading history for the watches that are behind.
//!
//! A step begins at the cursor of the watch that is polled and ends some changes later. Every hungry watch whose cursor
//! lies in the step is served by it and stands at the step's end thereafter, so those that are behind gather, and the
//! history that they share is read once.

use super::stream::{Mark, Position};
use super::{Name, Watchers};
use crate::history::{Change, changes};
use alloc::vec::Vec;
use testudo_contracts::Reading;

impl<S: Reading> Watchers<S> {
    /// Reads history from `first` on, which is not compacted, and notes for each watch in reach what concerns it.
    pub(super) fn step(&mut self, first: i64) {
        let (found, last) = self.read(first);
        for change in &found {
            self.note_behind(change, first);
        }
        self.move_up(first, last);
    }

    /// Changes from `first` on, as many as one step may look at but whole revisions, and the revision of the last.
    fn read(&self, first: i64) -> (Vec<Change>, i64) {
        let mut found: Vec<Change> = Vec::new();
        let mut next = first;
        while let Some(changes) = self.window.get(next) {
            found.extend_from_slice(changes.all());
            next += 1;
            if found.len() >= self.limits.step {
                return (found, next - 1);
            }
        }
        if next > self.revision {
            return (found, self.revision);
        }
        let mut last = self.revision;
        changes(&self.store, next, self.revision, &mut |change| {
            let enough = found.len() >= self.limits.step;
            if let Some(before) =
                found.last().filter(|before| enough && before.revision != change.revision)
            {
                last = before.revision;
                return false;
            }
            found.push(change);
            true
        });
        (found, last)
    }

    /// Notes a change for the hungry watches that it concerns and whose cursors are at or after `first` and not after
    /// it.
    fn note_behind(&mut self, change: &Change, first: i64) {
        let Self { behind, streams, hungry, limits, .. } = self;
        behind.visit(&change.key, &mut |name: Name| {
            let watch = streams.get_mut(&name.0).and_then(|stream| stream.watches.get_mut(&name.1));
            let Some(watch) = watch else { return };
            let Position::Hungry(next) = watch.position else { return };
            if (first..=change.revision).contains(&next)
                && watch.mark(change, limits.pending) == Mark::Full
            {
                watch.position = Position::Full(change.revision);
                hungry.remove(&(next, name));
            }
        });
    }

    /// Moves the hungry watches with cursors in `first..=last` behind `last`.
    fn move_up(&mut self, first: i64, last: i64) {
        let lowest: Name = (super::StreamId(0), super::WatchId::MIN);
        let mut moved = self.hungry.split_off(&(first, lowest));
        self.hungry.append(&mut moved.split_off(&(last + 1, lowest)));
        for (_, name) in moved {
            let Some(stream) = self.streams.get_mut(&name.0) else { continue };
            let Some(watch) = stream.watches.get_mut(&name.1) else { continue };
            watch.seen = last;
            if last < self.revision {
                watch.position = Position::Hungry(last + 1);
                self.hungry.insert((last + 1, name));
            } else {
                watch.position = Position::Live;
                self.behind.remove(&watch.span, &name);
                self.live.insert(&watch.span, name);
                stream.settle(name.1);
            }
        }
    }
}
