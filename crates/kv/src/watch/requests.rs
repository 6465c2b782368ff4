//! What streams ask for.

use super::index::Span;
use super::notice::{Cause, Notice, Refusal, WatchRequest};
use super::stream::{Position, Stream, Watch};
use super::{ALL, Full, Name, StreamId, WatchId, Watchers};
use testudo_contracts::Reading;

impl<S: Reading> Watchers<S> {
    /// Opens a stream.
    ///
    /// # Errors
    /// When there are too many ([`super::Limits::streams`]).
    pub fn open(&mut self) -> Result<StreamId, Full> {
        if self.streams.len() >= self.limits.streams {
            return Err(Full);
        }
        let stream_id = StreamId(self.next_stream);
        self.next_stream += 1;
        self.streams.insert(stream_id, Stream::default());
        Ok(stream_id)
    }

    /// Closes a stream and ends all its watches.
    pub fn close(&mut self, stream_id: StreamId) {
        let Some(stream) = self.streams.remove(&stream_id) else { return };
        for (watch_id, watch) in &stream.watches {
            self.forget((stream_id, *watch_id), watch);
        }
        self.waiting.remove(&stream_id);
        self.woken.remove(&stream_id);
    }

    /// Whether the stream's next request may be read: not while too many answers to earlier ones wait to be sent.
    #[must_use]
    pub fn has_room(&self, stream_id: StreamId) -> bool {
        let stream = self.streams.get(&stream_id);
        stream.is_some_and(|stream| stream.answers.len() < self.limits.answers)
    }

    /// Creates a watch. The answer, also when it is a refusal, comes out of [`Watchers::poll`], before any event of the
    /// watch; what is given here is for the caller's information.
    ///
    /// A start in the past begins with history; one that is compacted is created and then canceled. A start in the
    /// future begins there.
    ///
    /// # Errors
    /// When there is no watch for such a request, or no room for one.
    pub fn create(
        &mut self,
        stream_id: StreamId,
        request: &WatchRequest,
    ) -> Result<WatchId, Refusal> {
        let revision = self.revision;
        if !self.streams.contains_key(&stream_id) {
            return Err(Refusal::NoStream);
        }
        if !self.has_room(stream_id) {
            return Err(Refusal::Unread);
        }
        let result = self.add(stream_id, request);
        self.answer(
            stream_id,
            match result {
                Ok(watch_id) => Notice::Created { watch_id, revision },
                Err(refusal) => Notice::Refused { refusal, revision },
            },
        );
        result
    }

    /// Cancels a watch: whether there was one. If so, that is answered.
    pub fn cancel(&mut self, stream_id: StreamId, watch_id: WatchId) -> bool {
        let revision = self.revision;
        let found = self.end((stream_id, watch_id));
        if found {
            self.answer(stream_id, Notice::Canceled { watch_id, revision, cause: Cause::Asked });
        }
        found
    }

    /// Asks for progress to be said for all watches of the stream, once all of them have caught up. A stream without
    /// watches has none, and is not answered.
    pub fn request_progress(&mut self, stream_id: StreamId) {
        let Some(stream) = self.streams.get_mut(&stream_id) else { return };
        if !stream.watches.is_empty() {
            stream.progress = true;
            self.waiting.insert(stream_id);
            self.woken.insert(stream_id);
        }
    }

    /// The interval of progress notification has passed for a stream, by the caller's clock: each of its watches that
    /// has asked for that and has been told nothing since the last time is to be told how far it is.
    pub fn tick(&mut self, stream_id: StreamId) {
        let Some(stream) = self.streams.get_mut(&stream_id) else { return };
        for (watch_id, watch) in &mut stream.watches {
            // A watch that calls itself −1 would speak for all of the stream.
            if watch.progress_notify && *watch_id != ALL {
                watch.due = watch.quiet;
                watch.quiet = true;
            }
            if watch.due {
                stream.busy.insert(*watch_id);
                self.woken.insert(stream_id);
            }
        }
    }

    /// Ends a watch without a word: whether there was one.
    pub(super) fn end(&mut self, name: Name) -> bool {
        let Some(stream) = self.streams.get_mut(&name.0) else { return false };
        let Some(watch) = stream.remove(name.1) else { return false };
        if stream.progress {
            // Perhaps all the others have caught up.
            self.woken.insert(name.0);
        } else {
            self.waiting.remove(&name.0);
        }
        self.forget(name, &watch);
        true
    }

    fn add(&mut self, stream_id: StreamId, request: &WatchRequest) -> Result<WatchId, Refusal> {
        if request.start_revision < 0 {
            return Err(Refusal::NegativeStart);
        }
        let span = Span::new(&request.key, &request.range_end).ok_or(Refusal::EmptyRange)?;
        let stream = self.streams.get_mut(&stream_id).ok_or(Refusal::NoStream)?;
        if self.watches >= self.limits.watches
            || stream.watches.len() >= self.limits.watches_per_stream
            || self.key_bytes.saturating_add(span.bytes()) > self.limits.key_bytes
        {
            return Err(Refusal::TooMany);
        }
        let watch_id = stream.number(request.watch_id).ok_or(Refusal::DuplicateId)?;
        let name = (stream_id, watch_id);
        let watch = Watch::new(request, span, self.revision);
        self.watches += 1;
        self.key_bytes += watch.span.bytes();
        match watch.position {
            Position::Hungry(next) => {
                self.behind.insert(&watch.span, name);
                self.hungry.insert((next, name));
            }
            Position::Live | Position::Full(_) => self.live.insert(&watch.span, name),
        }
        stream.add(watch_id, watch, self.revision);
        Ok(watch_id)
    }

    fn answer(&mut self, stream_id: StreamId, notice: Notice) {
        if let Some(stream) = self.streams.get_mut(&stream_id) {
            stream.answers.push_back(notice);
            self.woken.insert(stream_id);
        }
    }

    /// Takes a watch that has ended out of everything but its stream.
    fn forget(&mut self, name: Name, watch: &Watch) {
        self.watches -= 1;
        self.key_bytes -= watch.span.bytes();
        match watch.position {
            Position::Live => self.live.remove(&watch.span, &name),
            Position::Hungry(next) => {
                self.behind.remove(&watch.span, &name);
                self.hungry.remove(&(next, name));
            }
            Position::Full(_) => self.behind.remove(&watch.span, &name),
        }
    }
}
