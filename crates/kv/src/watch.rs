//! Watches: what a gateway tells those who want to know of every change to some keys.
//!
//! [`Watchers`] holds all watches of one gateway. It does no I/O and has no clock: it is handed each published copy of
//! the store ([`Watchers::advance`]) and the requests of its streams, and it is asked what to send next
//! ([`Watchers::poll`]). It is a function of these calls, so it runs in the simulator as it runs in a gateway.
//!
//! # Pulling
//!
//! Nothing is queued for a watch but numbers. While a watch keeps up it holds a short list of the revisions that
//! concern it, each put there once, when the revision was published. Events are made when they are asked for: out of a
//! window of the latest changes ([`window`]), which all watches share, or out of the store's history. A stream whose
//! client reads slowly is simply polled rarely.
//!
//! A watch whose list is full, and one that starts in the past, is *behind*: it has a cursor, the next revision that
//! nobody has looked at on its behalf, and costs nothing while it is not polled. When it is, history is read from its
//! cursor in steps of bounded size, and a step serves every watch that is behind and whose cursor lies in it. So ten
//! thousand watches that come back after a restart read history once, not ten thousand times. A watch that reaches the
//! newest revision keeps up again.
//!
//! # What a put costs
//!
//! Two indices ([`index`]) say which watches a key concerns: one of those that keep up, one of those behind. A put
//! looks into the first one only, at a cost that is logarithmic in the number of watches for each watch it concerns.
//!
//! # What is promised
//!
//! Each watch is told every change of its keys from its start on, each once, in the order of revisions and within one
//! of operations, and all events of a revision in one answer, or, if the client has asked for fragments, in fragments that
//! directly follow each other. A watch that is behind and needs a revision which is compacted is canceled with the
//! revision of the compaction, and so is one that keeps up when new revisions are gone before they could be looked at
//! ([`mod@remains`]): nobody is told less than everything without being told so. Progress at revision R is said only when
//! everything up to R has been handed out.
//!
//! # What is limited
//!
//! All that streams and watches take up ([`Limits`]). etcd has no limits here and grows until it is killed, so it has no
//! answer of its own to them; the one given is in its shape, and its clients know it. A stream too many is not opened
//! ([`Full`]), which a gateway answers with the status `ResourceExhausted` and the text `etcdserver: too many requests`.
//! A watch too many is answered as etcd answers any watch that it refuses ([`Notice::Refused`]): `created` and
//! `canceled` at once, the number −1, and that text as the `cancel_reason`; the stream and its other watches live on. A
//! stream whose answers are not read is not read from ([`Watchers::has_room`]). And a watch of which too much waits is
//! told later, out of history: that costs time, but no limit makes anyone miss anything.
//!
//! What etcd makes of a key that one transaction touches twice depends on its inner order; here a revision changes each
//! key once, and its last change counts.

mod catch_up;
mod index;
mod notice;
mod poll;
mod remains;
mod requests;
mod stream;
#[cfg(test)]
mod tests;
mod tree;
mod window;

pub use notice::{Budget, Cause, Event, Notice, Refusal, Turn, WatchRequest};

use crate::history::{Change, changes};
use crate::layout::Meta;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use index::Index;
use remains::remains;
use stream::{Mark, Position, Stream};
use testudo_contracts::Reading;
use window::Window;

/// One gRPC stream, as this module names it. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StreamId(pub u64);

/// A watch's number within its stream: the client's choice, or the next free one.
pub type WatchId = i64;

/// The number under which progress is said for all watches of a stream.
const ALL: WatchId = -1;

/// One watch of the gateway.
type Name = (StreamId, WatchId);

/// What all watches together may cost. Past each limit something defined happens, said beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Streams that may be open. A further one is refused.
    pub streams: usize,
    /// Watches in all. A further one is refused.
    pub watches: usize,
    /// Watches of one stream. A further one is refused.
    pub watches_per_stream: usize,
    /// Bytes of all watches' keys and range ends. A watch beyond is refused.
    pub key_bytes: usize,
    /// Answers to requests that may wait in one stream. Beyond, [`Watchers::has_room`] says no, and a creation is not
    /// even answered: requests must not be read faster than their answers are.
    pub answers: usize,
    /// Revisions noted for one watch. A watch that needs more falls behind and reads history.
    pub pending: usize,
    /// Revisions in the window of the latest changes. The oldest beyond are read from the store again.
    pub window_revisions: usize,
    /// Bytes of keys and records in the window. The oldest revisions beyond are read from the store again.
    pub window_bytes: usize,
    /// Changes that one step through history looks at before it ends with the revision that it is in.
    pub step: usize,
}

impl Default for Limits {
    /// Ten thousand watches on one gateway, several times over; at the worst some 150 MiB.
    fn default() -> Self {
        Self {
            streams: 32_768,
            watches: 65_536,
            watches_per_stream: 16_384,
            key_bytes: 32 << 20,
            answers: 256,
            pending: 128,
            window_revisions: 4096,
            window_bytes: 16 << 20,
            step: 1024,
        }
    }
}

/// No further stream may be opened ([`Limits::streams`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// All watches of one gateway, on the newest copy of the store that the gateway has published.
pub struct Watchers<S> {
    limits: Limits,
    store: S,
    /// The newest revision of the copy. Every watch that keeps up knows which revisions up to it concern it.
    revision: i64,
    /// The oldest revision of which the copy still holds everything.
    compacted: i64,
    window: Window,
    streams: BTreeMap<StreamId, Stream>,
    next_stream: u64,
    /// Watches in all streams, and bytes of their keys.
    watches: usize,
    key_bytes: usize,
    /// The watches that keep up.
    live: Index<Name>,
    /// The watches that are behind.
    behind: Index<Name>,
    /// Those behind that have room for more revisions, by their cursors.
    hungry: BTreeSet<(i64, Name)>,
    /// Streams that wait for progress to be said.
    waiting: BTreeSet<StreamId>,
    /// Streams that were given something to do since these were last taken.
    woken: BTreeSet<StreamId>,
}

impl<S: Reading> Watchers<S> {
    /// No stream yet, on a copy of the store.
    #[must_use]
    pub fn new(mut limits: Limits, store: S) -> Self {
        // Without room for one revision nothing would ever move.
        (limits.pending, limits.step) = (limits.pending.max(1), limits.step.max(1));
        let Meta { revision, compacted, .. } = Meta::read(&store);
        Self {
            limits,
            store,
            revision,
            compacted,
            window: Window::new(limits.window_revisions, limits.window_bytes),
            streams: BTreeMap::new(),
            next_stream: 0,
            watches: 0,
            key_bytes: 0,
            live: Index::default(),
            behind: Index::default(),
            hungry: BTreeSet::new(),
            waiting: BTreeSet::new(),
            woken: BTreeSet::new(),
        }
    }

    /// The newest revision that watches know of.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// How many watches there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.watches
    }

    /// Whether there is no watch.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.watches == 0
    }

    /// How many watches are behind: they are read history for, because they started in the past, or because their
    /// clients did not take what they were to be told.
    #[must_use]
    pub const fn behind(&self) -> usize {
        self.behind.len()
    }

    /// Takes the next published copy, and notes for each watch that keeps up which of the new revisions concern it.
    /// The copy may be any number of revisions ahead of the last one. One that is older is ignored.
    ///
    /// Call it before any write is answered out of the same copy: a watch created after that answer starts after it.
    /// Then wake the streams that [`Watchers::take_woken`] names.
    pub fn advance(&mut self, store: S) {
        let Meta { revision, compacted, .. } = Meta::read(&store);
        if revision < self.revision {
            return;
        }
        let first = self.revision + 1;
        self.store = store;
        self.revision = revision;
        self.compacted = compacted;
        if revision >= first {
            match self.news(first) {
                Some(news) => self.note(&news),
                // Whoever kept up is behind now, and is told everything, or that it cannot be.
                None => self.fall_behind(first),
            }
        }
        let Self { streams, waiting, .. } = self;
        let said = waiting.iter().filter(|stream_id| {
            streams.get(stream_id).is_some_and(|stream| stream.has_caught_up(revision))
        });
        self.woken.extend(said);
    }

    /// Takes a copy that does not follow from the one before, of which nothing is to be believed any more. Every watch
    /// goes on in it where it was: what has been told stays told, and everything after is read again.
    pub fn replace(&mut self, store: S) {
        let Meta { revision, compacted, .. } = Meta::read(&store);
        let next = self.revision + 1;
        self.window.clear();
        (self.store, self.revision, self.compacted) = (store, revision, compacted);
        let mut names: Vec<Name> = Vec::with_capacity(self.watches);
        for (stream_id, stream) in &self.streams {
            names.extend(stream.watches.keys().map(|watch_id| (*stream_id, *watch_id)));
        }
        for name in names {
            self.look_again(name, next);
        }
        self.woken.extend(&self.waiting);
    }

    /// Has everything looked at again that a watch was not told. A watch that kept up, with nothing noted, was told all
    /// before `next`.
    fn look_again(&mut self, name: Name, next: i64) {
        let Some(stream) = self.streams.get_mut(&name.0) else { return };
        let Some(watch) = stream.watches.get_mut(&name.1) else { return };
        let looked = match watch.position {
            Position::Live => {
                self.live.remove(&watch.span, &name);
                next
            }
            Position::Hungry(cursor) | Position::Full(cursor) => {
                self.behind.remove(&watch.span, &name);
                self.hungry.remove(&(cursor, name));
                cursor
            }
        };
        let cursor = watch.pending.front().copied().unwrap_or(looked).max(watch.start);
        watch.pending = VecDeque::new();
        watch.seen = watch.seen.min(cursor - 1);
        if cursor > self.revision {
            watch.position = Position::Live;
            self.live.insert(&watch.span, name);
            stream.settle(name.1);
        } else {
            watch.position = Position::Hungry(cursor);
            self.behind.insert(&watch.span, name);
            self.hungry.insert((cursor, name));
            stream.busy.insert(name.1);
            self.woken.insert(name.0);
        }
    }

    /// The streams that were given something to do since this was last asked, in ascending order. Each is to be polled
    /// until it has nothing to say.
    pub fn take_woken(&mut self) -> BTreeSet<StreamId> {
        core::mem::take(&mut self.woken)
    }

    /// All changes from `first` on; none if some are not there any more, or if there are too many to look at in one go.
    fn news(&self, first: i64) -> Option<Vec<Change>> {
        if self.revision - first >= self.limits.window_revisions as i64 {
            return None;
        }
        if self.compacted > first {
            return remains(&self.store, first, self.revision);
        }
        let mut news: Vec<Change> = Vec::new();
        changes(&self.store, first, self.revision, &mut |change| {
            news.push(change);
            true
        });
        Some(news)
    }

    /// Notes new changes in the window and in the lists of the watches that they concern.
    fn note(&mut self, news: &[Change]) {
        for revision in news.chunk_by(|a, b| a.revision == b.revision) {
            for change in revision {
                self.note_change(change);
            }
            self.window.push(revision);
        }
    }

    fn note_change(&mut self, change: &Change) {
        let mut fallen: Vec<Name> = Vec::new();
        let Self { live, streams, woken, limits, .. } = self;
        live.visit(&change.key, &mut |name: Name| {
            let Some(stream) = streams.get_mut(&name.0) else { return };
            match stream.mark(name.1, change, limits.pending) {
                Mark::Passed => {}
                Mark::Noted => {
                    woken.insert(name.0);
                }
                Mark::Full => fallen.push(name),
            }
        });
        for name in fallen {
            self.leave_behind(name, change.revision);
        }
    }

    /// Leaves every watch that keeps up behind, with nothing looked at from `next` on.
    fn fall_behind(&mut self, next: i64) {
        let mut names: Vec<Name> = Vec::with_capacity(self.watches);
        for (stream_id, stream) in &self.streams {
            names.extend(stream.live().map(|watch_id| (*stream_id, watch_id)));
        }
        for name in names {
            self.leave_behind(name, next);
        }
    }

    /// Moves a watch that kept up to those behind, with nothing looked at from `next` on.
    fn leave_behind(&mut self, name: Name, next: i64) {
        let Some(stream) = self.streams.get_mut(&name.0) else { return };
        let Some(watch) = stream.watches.get_mut(&name.1) else { return };
        // A watch whose start is yet to come has nothing to look at before it, and keeps up.
        let next = next.max(watch.start);
        if next > self.revision {
            return;
        }
        let room = watch.pending.len() < self.limits.pending;
        watch.position = if room { Position::Hungry(next) } else { Position::Full(next) };
        self.live.remove(&watch.span, &name);
        self.behind.insert(&watch.span, name);
        stream.busy.insert(name.1);
        if room {
            self.hungry.insert((next, name));
        }
        self.woken.insert(name.0);
    }
}
