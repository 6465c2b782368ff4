//! One stream and its watches: what they have been noted for, and what is still to be said.

use super::WatchId;
use super::index::Span;
use super::notice::{Notice, WatchRequest};
use super::window::{Changes, Places};
use crate::history::Change;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

/// Where a watch stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Position {
    /// It keeps up: every revision has been looked at.
    Live,
    /// It is behind: from this revision on none has been looked at, and there is room to note more.
    Hungry(i64),
    /// It is behind, and its list is full.
    Full(i64),
}

/// What became of a change that might concern a watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    /// It does not.
    Passed,
    /// Its revision is in the watch's list.
    Noted,
    /// There is no room for its revision in the list.
    Full,
}

/// One watch.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) span: Span,
    /// The first revision that concerns it.
    pub(super) start: i64,
    no_put: bool,
    no_delete: bool,
    pub(super) prev_kv: bool,
    pub(super) progress_notify: bool,
    pub(super) fragment: bool,
    pub(super) position: Position,
    /// Revisions that hold events for it and are not handed out, in ascending order. Each has been looked at, that is
    /// they are before the position.
    pub(super) pending: VecDeque<i64>,
    /// Up to here everything has been looked at on its behalf while it was behind.
    pub(super) seen: i64,
    /// Whether it has been told nothing since the last tick.
    pub(super) quiet: bool,
    /// Whether it is to be told its progress, if it has nothing else to be told.
    pub(super) due: bool,
}

impl Watch {
    pub(super) fn new(request: &WatchRequest, span: Span, revision: i64) -> Self {
        let past = (1..=revision).contains(&request.start_revision);
        Self {
            span,
            start: if request.start_revision > 0 { request.start_revision } else { revision + 1 },
            no_put: request.no_put,
            no_delete: request.no_delete,
            prev_kv: request.prev_kv,
            progress_notify: request.progress_notify,
            fragment: request.fragment,
            position: if past { Position::Hungry(request.start_revision) } else { Position::Live },
            pending: VecDeque::new(),
            seen: 0,
            quiet: true,
            due: false,
        }
    }

    /// Notes the revision of a change of one of its keys, if it does concern it. Changes come in order of revisions.
    pub(super) fn mark(&mut self, change: &Change, room: usize) -> Mark {
        if change.revision < self.start || !self.wants(change) {
            Mark::Passed
        } else if self.pending.back() == Some(&change.revision) {
            Mark::Noted
        } else if self.pending.len() >= room {
            Mark::Full
        } else {
            self.pending.push_back(change.revision);
            Mark::Noted
        }
    }

    /// Whether the filters let a change pass.
    pub(super) const fn wants(&self, change: &Change) -> bool {
        if change.record.is_some() { !self.no_put } else { !self.no_delete }
    }

    /// Where the changes of its keys lie among those of a revision.
    pub(super) fn within(&self, changes: &Changes) -> Places {
        changes.within(&self.span)
    }

    /// Whether it has anything to say or to read.
    pub(super) fn is_busy(&self) -> bool {
        self.due || !self.pending.is_empty() || self.position != Position::Live
    }

    /// Takes the first noted revision off the list.
    pub(super) fn pop(&mut self) {
        self.pending.pop_front();
        // Ten thousand idle watches must not keep the room that they once needed.
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
    }
}

/// A revision of which some events have been handed out and some have not.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    pub(super) watch_id: WatchId,
    pub(super) changes: Changes,
    /// The changes of the revision that the watch may still want.
    pub(super) left: Places,
    /// The revision in the header of all fragments.
    pub(super) header: i64,
}

impl Rest {
    pub(super) const fn new(
        watch_id: WatchId,
        changes: Changes,
        left: Places,
        header: i64,
    ) -> Self {
        Self { watch_id, changes, left, header }
    }
}

/// One gRPC stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) watches: BTreeMap<WatchId, Watch>,
    /// The next number to give to a watch whose client leaves that to us.
    pub(super) next_id: WatchId,
    /// Answers to requests, in order.
    pub(super) answers: VecDeque<Notice>,
    /// The watches that have something to say or to read ([`Watch::is_busy`]).
    pub(super) busy: BTreeSet<WatchId>,
    /// The watch that had its turn last.
    pub(super) served: WatchId,
    /// What comes before anything else: clients put fragments together as they come.
    pub(super) rest: Option<Rest>,
    /// Whether progress is to be said for all watches together.
    pub(super) progress: bool,
    /// The watches that were created with a start in the future, by their starts.
    future: BTreeSet<(i64, WatchId)>,
}

impl Stream {
    /// Notes a change for a watch that keeps up.
    pub(super) fn mark(&mut self, watch_id: WatchId, change: &Change, room: usize) -> Mark {
        let Some(watch) = self.watches.get_mut(&watch_id) else { return Mark::Passed };
        let mark = watch.mark(change, room);
        if mark == Mark::Noted {
            self.busy.insert(watch_id);
        }
        mark
    }

    /// Adds a watch, at a revision.
    pub(super) fn add(&mut self, watch_id: WatchId, watch: Watch, revision: i64) {
        if watch.start > revision + 1 {
            self.future.insert((watch.start, watch_id));
        }
        if watch.is_busy() {
            self.busy.insert(watch_id);
        }
        self.watches.insert(watch_id, watch);
    }

    /// Removes a watch and all that is kept for it.
    pub(super) fn remove(&mut self, watch_id: WatchId) -> Option<Watch> {
        let watch = self.watches.remove(&watch_id)?;
        self.future.remove(&(watch.start, watch_id));
        self.busy.remove(&watch_id);
        self.rest.take_if(|rest| rest.watch_id == watch_id);
        self.progress &= !self.watches.is_empty();
        Some(watch)
    }

    /// The watches that keep up.
    pub(super) fn live(&self) -> impl Iterator<Item = WatchId> {
        let live = self.watches.iter().filter(|(_, watch)| watch.position == Position::Live);
        live.map(|(watch_id, _)| *watch_id)
    }

    /// The number of a new watch: the one asked for, or the next free one. None if that is in use.
    pub(super) fn number(&mut self, asked: WatchId) -> Option<WatchId> {
        if asked != 0 {
            return (!self.watches.contains_key(&asked)).then_some(asked);
        }
        while self.watches.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let number = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        Some(number)
    }

    /// The busy watch whose turn it is: the one after the one that was served last, going round.
    pub(super) fn turn(&self) -> Option<WatchId> {
        let after = (core::ops::Bound::Excluded(self.served), core::ops::Bound::Unbounded);
        self.busy.range(after).next().or_else(|| self.busy.first()).copied()
    }

    /// Forgets that a watch is busy, if it is not any more.
    pub(super) fn settle(&mut self, watch_id: WatchId) {
        if !self.watches.get(&watch_id).is_some_and(Watch::is_busy) {
            self.busy.remove(&watch_id);
        }
    }

    /// Whether progress at `revision` can be said for all watches together: all have caught up, and none is told of a
    /// revision before those that it has asked for, which it may have seen already.
    pub(super) fn has_caught_up(&self, revision: i64) -> bool {
        self.rest.is_none()
            && self.busy.is_empty()
            && self.future.last().is_none_or(|(start, _)| *start <= revision + 1)
    }
}
