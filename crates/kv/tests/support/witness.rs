//! What watches must be told, said as plainly as possible: a list of everything that has happened, and for each watch
//! how far it has been told.
//!
//! The witness sees the store through nothing but ordinary reads, before and after each operation, and the watches
//! through nothing but what they say.

use std::collections::BTreeMap;
use testudo_core::Decode;
use testudo_kv::watch::{Cause, Event, Notice, Refusal, StreamId, WatchId, WatchRequest};
use testudo_kv::{Bytes, KeyValue};

/// All keys at some revision.
pub(crate) type State = BTreeMap<Bytes, KeyValue>;

/// One thing that happened.
#[derive(Clone, Debug)]
struct Happening {
    revision: i64,
    key: Bytes,
    before: Option<KeyValue>,
    after: Option<KeyValue>,
}

/// What is known of one watch.
#[derive(Clone, Debug)]
struct Told {
    request: WatchRequest,
    start: i64,
    /// Everything that concerns it up to here, and nothing beyond, must have been told.
    through: i64,
    /// The revision that came last; while fragments of it are outstanding, with how many events came of it.
    partial: Option<(i64, usize)>,
    /// Ticks since it was told anything, and progress that it may be told because of them.
    quiet: bool,
    due: bool,
    /// Whether it was to come when it became due: a watch that begins later has no progress yet.
    early: bool,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    watches: BTreeMap<WatchId, Told>,
    /// Answers that must come, in order.
    answers: Vec<Notice>,
    progress: bool,
    next_id: WatchId,
    /// The watch of which fragments are outstanding.
    open: Option<WatchId>,
}

/// Everything that happened, and everything that was said.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    happened: Vec<Happening>,
    streams: BTreeMap<StreamId, Stream>,
    /// The revision and the compaction that were published last.
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    /// What has been seen of each kind, so that a test can say that it has tested something.
    pub(crate) seen: BTreeMap<&'static str, usize>,
}

impl Witness {
    pub(crate) fn new(revision: i64) -> Self {
        Self { revision, compacted: -1, ..Self::default() }
    }

    /// An operation has made `after` of `before`, in this revision; `place` says which of its requests touched a key.
    pub(crate) fn operation(
        &mut self,
        before: &State,
        after: &State,
        revision: i64,
        place: impl Fn(&[u8]) -> usize,
    ) {
        let mut keys: Vec<&Bytes> = before.keys().chain(after.keys()).collect();
        keys.sort_by_key(|key| (place(key), *key));
        keys.dedup();
        for key in keys {
            let (before, after) = (before.get(key).cloned(), after.get(key).cloned());
            if before != after {
                self.happened.push(Happening { revision, key: key.clone(), before, after });
            }
        }
    }

    pub(crate) fn open(&mut self, stream: StreamId) {
        self.streams.insert(stream, Stream::default());
    }

    pub(crate) fn close(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    pub(crate) fn create(
        &mut self,
        stream: StreamId,
        request: &WatchRequest,
    ) -> Result<WatchId, Refusal> {
        let revision = self.revision;
        let stream = self.streams.get_mut(&stream).unwrap();
        let result = stream.expect_creation(request);
        stream.answers.push(match result {
            Ok(watch_id) => Notice::Created { watch_id, revision },
            Err(refusal) => Notice::Refused { refusal, revision },
        });
        if let Ok(watch_id) = result {
            let start =
                if request.start_revision == 0 { revision + 1 } else { request.start_revision };
            let request = request.clone();
            let (through, partial) = (start - 1, None);
            let (quiet, due, early) = (true, false, false);
            let told = Told { request, start, through, partial, quiet, due, early };
            stream.watches.insert(watch_id, told);
        }
        result
    }

    pub(crate) fn cancel(&mut self, stream: StreamId, watch_id: WatchId) -> bool {
        let (revision, cause) = (self.revision, Cause::Asked);
        let stream = self.streams.get_mut(&stream).unwrap();
        let found = stream.end(watch_id);
        if found {
            stream.answers.push(Notice::Canceled { watch_id, revision, cause });
        }
        found
    }

    pub(crate) fn request_progress(&mut self, stream: StreamId) {
        let stream = self.streams.get_mut(&stream).unwrap();
        stream.progress |= !stream.watches.is_empty();
    }

    pub(crate) fn tick(&mut self, stream: StreamId) {
        for (watch_id, told) in &mut self.streams.get_mut(&stream).unwrap().watches {
            told.due = told.request.progress_notify && told.quiet && *watch_id != -1;
            told.early = told.start > self.revision + 1;
            told.quiet = true;
        }
    }

    /// A stream says something.
    pub(crate) fn notice(&mut self, stream_id: StreamId, notice: &Notice) {
        let mut stream = self.streams.remove(&stream_id).expect("a closed stream is silent");
        if let Some(open) = stream.open {
            let same = matches!(notice, Notice::Events { watch_id, .. } if *watch_id == open);
            assert!(same, "something comes between fragments: {notice:?}");
        }
        match notice {
            Notice::Created { .. }
            | Notice::Refused { .. }
            | Notice::Canceled { cause: Cause::Asked, .. } => {
                assert!(!stream.answers.is_empty(), "nobody has asked for {notice:?}");
                assert_eq!(*notice, stream.answers.remove(0), "answers come in order");
                self.count("answer");
            }
            Notice::Events { watch_id, revision, events, fragment } => {
                assert!(stream.answers.is_empty() || stream.open.is_some(), "answers come first");
                self.events(&mut stream, *watch_id, *revision, events, *fragment);
            }
            Notice::Canceled { watch_id, revision, cause: Cause::Compacted(at) } => {
                let told = &stream.watches[watch_id];
                assert_eq!((*revision, *at), (0, self.compacted));
                assert!(told.through + 1 < *at, "nothing that it needs is compacted: {told:?}");
                stream.end(*watch_id);
                self.count("compacted");
            }
            Notice::Progress { watch_id: -1, revision } => {
                assert!(stream.progress, "nobody has asked for progress");
                stream.progress = false;
                for told in stream.watches.values_mut() {
                    self.progress(told, *revision);
                }
                self.count("progress");
            }
            Notice::Progress { watch_id, revision } => {
                let told = stream.watches.get_mut(watch_id).expect("of a watch");
                assert!(told.due, "no notification is due");
                told.due = false;
                self.progress(told, *revision);
                self.count("notification");
            }
        }
        self.streams.insert(stream_id, stream);
    }

    /// A stream says that it has nothing to say.
    pub(crate) fn nothing(&mut self, stream_id: StreamId) {
        let revision = self.revision;
        let mut stream = self.streams.remove(&stream_id).unwrap_or_default();
        assert!(stream.answers.is_empty() && stream.open.is_none(), "something is left to be said");
        let mut future = false;
        for told in stream.watches.values_mut() {
            assert!(!told.due || told.early, "a notification is left out");
            told.due = false;
            future |= told.start > revision + 1;
            self.reach(told, revision);
        }
        assert!(!stream.progress || future, "progress could be said, and is not");
        self.streams.insert(stream_id, stream);
    }

    fn progress(&self, told: &mut Told, revision: i64) {
        assert_eq!(revision, self.revision, "progress is of the newest revision");
        assert!(told.start <= revision + 1, "progress before what the watch has asked for");
        self.reach(told, revision);
    }

    /// Everything up to `revision` must have been told.
    fn reach(&self, told: &mut Told, revision: i64) {
        assert_eq!(told.partial, None);
        let missing = self.happened.iter().find(|it| {
            (told.through + 1..=revision).contains(&it.revision) && concerns(&told.request, it)
        });
        assert!(missing.is_none(), "{told:?} is not told of {missing:?}");
        told.through = told.through.max(revision);
    }

    fn events(
        &mut self,
        stream: &mut Stream,
        watch_id: WatchId,
        header: i64,
        events: &[Event],
        fragment: bool,
    ) {
        let told = stream.watches.get_mut(&watch_id).expect("events of a watch that is");
        assert!(!events.is_empty() && (!fragment || told.request.fragment));
        assert!(header <= self.revision && header >= events[events.len() - 1].change.revision);
        let skip = told.partial.take().map_or(0, |(_, told)| told);
        let expected = self.happened.iter().filter(|it| {
            (told.through + 1..=header).contains(&it.revision) && concerns(&told.request, it)
        });
        let expected: Vec<&Happening> = expected.skip(skip).collect();
        for (event, it) in events.iter().zip(&expected) {
            self.event(&told.request, event, it);
        }
        assert!(
            events.len() <= expected.len(),
            "told of what has not happened, or twice: {events:?}"
        );
        if fragment {
            let last = events[events.len() - 1].change.revision;
            assert_eq!(expected[0].revision, last, "a fragment holds one revision");
            assert_eq!(expected[events.len()].revision, last, "and is not its last");
            told.partial = Some((last, skip + events.len()));
        } else {
            assert_eq!(events.len(), expected.len(), "not told of everything up to the header");
            told.through = header;
        }
        (told.quiet, told.due) = (false, false);
        stream.open = fragment.then_some(watch_id);
        self.count(if fragment || skip > 0 { "fragment" } else { "events" });
    }

    fn event(&self, request: &WatchRequest, event: &Event, it: &Happening) {
        let decode = |record: &Bytes| KeyValue::from_bytes(record).expect("a record");
        let change = &event.change;
        assert_eq!((change.revision, &change.key), (it.revision, &it.key), "in order, each once");
        assert_eq!(change.record.as_ref().map(decode), it.after);
        let known = request.prev_kv && it.revision > self.compacted;
        assert_eq!(event.previous.as_ref().map(decode), it.before.clone().filter(|_| known));
        let size = event.change.record.as_ref().map_or(0, |record| record.len());
        assert!(event.size() >= size + event.previous.as_ref().map_or(0, |record| record.len()));
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }
}

impl Stream {
    fn expect_creation(&mut self, request: &WatchRequest) -> Result<WatchId, Refusal> {
        let key = if request.key.is_empty() { &[0][..] } else { &request.key[..] };
        let end = &request.range_end[..];
        if request.start_revision < 0 {
            return Err(Refusal::NegativeStart);
        }
        if !end.is_empty() && end != [0] && end <= key {
            return Err(Refusal::EmptyRange);
        }
        if request.watch_id != 0 {
            let free = !self.watches.contains_key(&request.watch_id);
            return if free { Ok(request.watch_id) } else { Err(Refusal::DuplicateId) };
        }
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    fn end(&mut self, watch_id: WatchId) -> bool {
        self.open.take_if(|open| *open == watch_id);
        let found = self.watches.remove(&watch_id).is_some();
        self.progress &= !self.watches.is_empty();
        found
    }
}

/// Whether a watch is to be told of something.
fn concerns(request: &WatchRequest, it: &Happening) -> bool {
    let key = if request.key.is_empty() { &[0][..] } else { &request.key[..] };
    let within = match &request.range_end[..] {
        [] => it.key[..] == *key,
        [0] => it.key[..] >= *key,
        end => it.key[..] >= *key && it.key[..] < *end,
    };
    within && if it.after.is_some() { !request.no_put } else { !request.no_delete }
}
