//! What streams ask for and what they are told, in etcd's terms.

use super::WatchId;
use crate::history::Change;
use crate::operation::Bytes;
use alloc::vec::Vec;

/// Asks for a watch, field by field as in etcd's protocol.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WatchRequest {
    /// The first key. Empty stands for the smallest key, a single zero byte.
    pub key: Bytes,
    /// Where to stop: empty for `key` alone, a single zero byte for no end.
    pub range_end: Bytes,
    /// The revision to begin with; zero for the one after that of the answer.
    pub start_revision: i64,
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletions out.
    pub no_delete: bool,
    /// Give each key as it was before.
    pub prev_kv: bool,
    /// Say something now and then even if nothing happens ([`super::Watchers::tick`]).
    pub progress_notify: bool,
    /// Split the events of a revision that pass the size of a message.
    pub fragment: bool,
    /// The number that the watch shall have; zero for the next free one.
    pub watch_id: WatchId,
}

/// One change, as a watch is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What happened: revision, key, and the key's record, encoded as a [`crate::KeyValue`], unless it was deleted.
    pub change: Change,
    /// The key's record before the revision, if that was asked for, and it existed and is not compacted.
    pub previous: Option<Bytes>,
}

impl Event {
    /// About how many bytes the event takes up in a message, rather more than fewer.
    #[must_use]
    pub fn size(&self) -> usize {
        let record =
            self.change.record.as_ref().map_or(self.change.key.len(), |record| record.len());
        record + self.previous.as_ref().map_or(0, |record| record.len()) + FRAMING
    }
}

/// Bytes of tags and lengths around an event's records, and what numbers of ten bytes take beyond a record's eight.
const FRAMING: usize = 48;

/// How much one answer may hold. Without fragments it passes both rather than split a revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// How many events.
    pub events: usize,
    /// How many bytes of events; also where fragments are cut.
    pub bytes: usize,
}

impl Default for Budget {
    /// A message that every gRPC client accepts: somewhat under 2 MiB.
    fn default() -> Self {
        Self { events: 1024, bytes: (2 << 20) - (64 << 10) }
    }
}

/// What a stream has to say next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// To be sent.
    Notice(Notice),
    /// History was read and held nothing to send yet. Let others have their turn, then poll again.
    Again,
    /// Nothing until the stream is woken.
    Nothing,
}

/// One answer of a stream. `revision` is the answer's header's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A watch was created.
    Created {
        /// Its number.
        watch_id: WatchId,
        /// The newest revision. A watch without a start begins after it.
        revision: i64,
    },
    /// A watch was not created: `created` and `canceled` at once, with the number −1.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The newest revision.
        revision: i64,
    },
    /// Something happened.
    Events {
        /// To which watch.
        watch_id: WatchId,
        /// Everything up to this revision that concerns the watch is in this answer, its other fragments, or earlier
        /// ones.
        revision: i64,
        /// In order of revisions and, within one, of operations. Never empty.
        events: Vec<Event>,
        /// Whether the next answer of the stream holds more of the same revision.
        fragment: bool,
    },
    /// A watch has ended.
    Canceled {
        /// Its number, free again.
        watch_id: WatchId,
        /// The newest revision; zero after a compaction, as in etcd.
        revision: i64,
        /// Why it has ended.
        cause: Cause,
    },
    /// Everything up to a revision has been handed out.
    Progress {
        /// To this watch; to all of the stream if −1.
        watch_id: WatchId,
        /// Up to here.
        revision: i64,
    },
}

/// Why a watch has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The client has canceled it.
    Asked,
    /// It needs revisions before this one, at which the store was compacted. In etcd's answer this is
    /// `compact_revision`, and there is no reason beside it.
    Compacted(i64),
}

/// Why a watch was not created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The stream has a watch of that number.
    DuplicateId,
    /// The range's end is not after its beginning.
    EmptyRange,
    /// A negative start.
    NegativeStart,
    /// The stream or the gateway has as many watches as it may ([`super::Limits`]).
    TooMany,
    /// Too many answers of the stream are unread ([`super::Watchers::has_room`]). This alone is not answered.
    Unread,
    /// There is no such stream. This is not answered either.
    NoStream,
}

impl Refusal {
    /// What etcd gives as the reason (`cancel_reason`).
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
            Self::EmptyRange => "mvcc: watcher range is empty",
            Self::NegativeStart => "etcdserver: mvcc: required revision has been compacted",
            Self::TooMany | Self::Unread => "etcdserver: too many requests",
            Self::NoStream => "etcdserver: watch canceled",
        }
    }
}
