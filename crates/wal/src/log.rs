//! The log: appending, flushing, reading back and forgetting.

use crate::disk::{Disk, DiskError, DiskErrorKind, DiskFile};
use crate::files::{Backing, Reopened};
use crate::frame::{EDGE, FRAME_MIN, Seal, decode_frame, encode_frame, frame_size};
use crate::segment::{
    FORMAT_VERSION, HEADER_SIZE, Identity, SEGMENT_MAX, SegmentHeader, segment_name,
};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::ops::Range;

/// The index of a record in its log, counted from 0. It never changes and is never used again.
pub type Position = u64;

/// The sizes of a log, and what its checksums are salted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The length of a segment file in bytes, rounded up to whole pages of 4096. It may change between runs.
    pub segment_bytes: u64,
    /// The longest record in bytes that may be appended. A record that does not fit a segment gets one of its own size.
    pub record_limit: u32,
    /// A number drawn once and kept secret, which all checksums of a new log start from, so that nobody can hide bytes in a
    /// payload that would pass for a record should the real one be damaged. An existing log keeps the salt it was made
    /// with.
    pub salt: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { segment_bytes: 64 << 20, record_limit: 64 << 20, salt: 0 }
    }
}

impl Options {
    const PAGE: u64 = 4096;

    /// The sentence that names what is wrong with these options, if anything is.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.segment_bytes < Self::PAGE {
            Some("segments must have at least 4096 bytes")
        } else if self.segment_bytes > SEGMENT_MAX {
            Some("segments must not have more than 1 GiB")
        } else if u64::from(self.record_limit) > SEGMENT_MAX / 2 {
            Some("records must not be longer than 512 MiB")
        } else {
            None
        }
    }

    /// The length of a segment whose first frame has this size.
    pub(crate) fn capacity_for(&self, frame: usize) -> u64 {
        self.segment_bytes.max((HEADER_SIZE + frame) as u64).next_multiple_of(Self::PAGE)
    }
}

/// Why a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The record is longer than [`Options::record_limit`] allows. The log is as it was.
    TooLarge {
        /// The length of the record in bytes.
        length: usize,
        /// The longest allowed.
        limit: u32,
    },
    /// An earlier operation failed, and the log takes nothing any more. This is that failure.
    Poisoned(DiskError),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::TooLarge { length, limit } => {
                write!(f, "a record of {length} bytes is longer than the limit of {limit}")
            }
            AppendError::Poisoned(error) => write!(f, "the log failed before: {error}"),
        }
    }
}

impl core::error::Error for AppendError {}

/// Why a record could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The record is before the first that the log still has.
    Forgotten {
        /// The first position that the log still has.
        first: Position,
    },
    /// Nothing has been appended at this position yet.
    NotYet {
        /// The position of the next record to be appended.
        next: Position,
    },
    /// The record was there once and does not match its checksum any more.
    Damaged,
    /// The disk failed, now or at an earlier operation that poisoned the log.
    Disk(DiskError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Forgotten { first } => {
                write!(f, "the record is forgotten; the log begins at {first}")
            }
            ReadError::NotYet { next } => write!(f, "no record yet; the next will be {next}"),
            ReadError::Damaged => write!(f, "the record is damaged"),
            ReadError::Disk(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for ReadError {}

impl From<DiskError> for ReadError {
    fn from(error: DiskError) -> Self {
        ReadError::Disk(error)
    }
}

/// Where a record stands, for whoever looks at the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment's file.
    pub segment: String,
    /// The bytes in it that belong to the record, head and tail included.
    pub frame: Range<u64>,
    /// Where in the file the record itself begins.
    pub payload: u64,
}

/// A segment as the log knows it.
pub(crate) struct Segment<F> {
    pub(crate) file: Backing<F>,
    pub(crate) sequence: u64,
    pub(crate) capacity: u64,
    /// Where the frame of each record begins, in units of [`UNIT`] bytes, which lets four bytes reach any segment's end.
    pub(crate) offsets: Vec<u32>,
    /// Where the next frame goes; the end of the last one.
    pub(crate) end: u64,
}

/// The unit of [`Segment::offsets`].
pub(crate) const UNIT: usize = crate::frame::ALIGN;

/// Frames in memory that one write will bring to one segment.
struct Piece {
    /// The first position of the segment.
    segment: u64,
    /// Where in the segment the frames go.
    offset: u64,
    /// Where in the buffer they begin; they end where the next piece begins.
    start: usize,
    /// The position of the first of them.
    first: Position,
}

/// A durable log of records over a disk. See the crate's page for the format and what is promised.
///
/// [`Log::append`] only touches memory. [`Log::flush`] makes all appended records durable with one write and one flush of the
/// segment. After any operation that failed on the disk the log is *poisoned*: all further ones fail, since after a failed
/// flush nobody can say what is on the disk, and trying again may succeed without having written anything. Open the log
/// again, in a new process, to find out.
pub struct Log<D: Disk> {
    disk: D,
    identity: Identity,
    options: Options,
    salt: u64,
    /// By first position. Invariant: the records of a segment end where its successor begins, or are in `lost`.
    segments: BTreeMap<u64, Segment<D::File>>,
    /// Positions that hold no record, in order.
    lost: Vec<Range<u64>>,
    /// Whether the last segment takes no more records, because of damage in it.
    sealed: bool,
    /// Invariant: `durable <= next`.
    durable: Position,
    next: Position,
    /// Frames not yet written; used again and again.
    buffer: Vec<u8>,
    /// Invariant: empty exactly when `durable == next`; the pieces cover the buffer in order.
    pieces: Vec<Piece>,
    /// An empty file of the usual capacity, made ahead of time.
    spare: Option<(D::File, u64)>,
    /// Segments that are read again: a few files, however many the log has.
    reopened: RefCell<Reopened<D::File>>,
    poison: Option<DiskError>,
}

/// What opening found out, for the log to go on with.
pub(crate) struct Foundation<F> {
    pub(crate) identity: Identity,
    pub(crate) options: Options,
    pub(crate) salt: u64,
    pub(crate) segments: BTreeMap<u64, Segment<F>>,
    pub(crate) lost: Vec<Range<u64>>,
    pub(crate) sealed: bool,
    pub(crate) next: Position,
}

const NEW_SEGMENT: &str = "log-new.tmp";
const SPARE_SEGMENT: &str = "log-spare.tmp";
/// A buffer that one extraordinary flush made larger than this is given back.
const BUFFER_KEPT: usize = 8 << 20;

impl<D: Disk> Log<D> {
    pub(crate) fn on(disk: D, found: Foundation<D::File>) -> Self {
        Log {
            disk,
            identity: found.identity,
            options: found.options,
            salt: found.salt,
            segments: found.segments,
            lost: found.lost,
            sealed: found.sealed,
            durable: found.next,
            next: found.next,
            buffer: Vec::new(),
            pieces: Vec::new(),
            spare: None,
            reopened: RefCell::default(),
            poison: None,
        }
    }

    /// Makes the first segment of a new log, so that from now on the log is seen to exist.
    pub(crate) fn begin(&mut self) -> Result<(), DiskError> {
        self.guarded(|log| {
            let first = log.segment_with_room(0);
            log.make_file(first)
        })
    }

    /// The position of the first record that the log still has; equal to [`Log::next`] if it has none.
    pub fn first(&self) -> Position {
        self.segments.keys().next().copied().unwrap_or(self.next)
    }

    /// The position that the next appended record will get.
    pub fn next(&self) -> Position {
        self.next
    }

    /// Every record before this position is durable.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// How many bytes the next flush will write.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The failure that poisoned the log, if one did.
    pub fn poison(&self) -> Option<&DiskError> {
        self.poison.as_ref()
    }

    /// The disk that the log is on.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Adds a record, in memory: it is durable once [`Log::flush`] has returned a position after this one. The tag says, in
    /// the caller's words, what it is about: that stands outside the record, and is told when the record is lost.
    pub fn append(&mut self, tag: u64, payload: &[u8]) -> Result<Position, AppendError> {
        if let Some(error) = &self.poison {
            return Err(AppendError::Poisoned(error.clone()));
        }
        let limit = self.options.record_limit;
        if payload.len() > limit as usize {
            return Err(AppendError::TooLarge { length: payload.len(), limit });
        }
        let position = self.next;
        let first = self.segment_with_room(frame_size(payload.len()));
        let segment = self.segments.get_mut(&first).expect("the segment was found or planned");
        if self.pieces.last().is_none_or(|piece| piece.segment != first) {
            let start = self.buffer.len();
            self.pieces.push(Piece { segment: first, offset: segment.end, start, first: position });
        }
        let begun = self.pieces.last().map_or(position, |piece| piece.first);
        let seal = Seal::new(self.identity, self.salt, first);
        let offset = segment.end as usize;
        let batch = (position - begun) as u32;
        encode_frame(&mut self.buffer, &seal, offset, (position, tag), batch, payload);
        segment.offsets.push((offset / UNIT) as u32);
        segment.end += frame_size(payload.len()) as u64;
        self.next += 1;
        Ok(position)
    }

    /// The last segment if the frame fits it, or else a newly planned one.
    fn segment_with_room(&mut self, frame: usize) -> u64 {
        let last = self.segments.last_key_value();
        if let Some((first, segment)) = last
            && !self.sealed
            && segment.end + frame as u64 <= segment.capacity
        {
            return *first;
        }
        // A last segment without any record begins at this position too; the new one takes its place and number.
        let sequence = last.map_or(0, |(first, segment)| {
            segment.sequence.saturating_add(u64::from(*first != self.next))
        });
        let planned = Segment {
            file: Backing::Planned,
            sequence,
            capacity: self.options.capacity_for(frame),
            offsets: Vec::new(),
            end: HEADER_SIZE as u64,
        };
        self.segments.insert(self.next, planned);
        self.sealed = false;
        self.next
    }

    /// Makes all appended records durable, and returns the position before which everything is.
    ///
    /// One write and one flush of the segment; where the records fill a segment, the same again for the next, whose file is
    /// only made after the full one is durable. An error poisons the log.
    pub fn flush(&mut self) -> Result<Position, DiskError> {
        self.guarded(Self::write_pending)?;
        Ok(self.durable)
    }

    /// Makes the next segment's file ahead of time, once the present one is more than half full, so that no flush has to wait
    /// for it. For moments when nothing else is to do; doing without only costs time. An error poisons the log.
    pub fn prepare(&mut self) -> Result<(), DiskError> {
        self.guarded(|log| {
            let last = log.segments.last_key_value();
            let early = last.is_some_and(|(_, segment)| segment.end < segment.capacity / 2);
            if early || log.spare.is_some() {
                return Ok(());
            }
            let capacity = log.options.capacity_for(0);
            let file = log.disk.create(SPARE_SEGMENT, capacity)?;
            file.flush()?;
            log.spare = Some((file, capacity));
            Ok(())
        })
    }

    /// Reads one record back and checks it, from memory if it is not flushed yet.
    pub fn read(&self, position: Position) -> Result<Vec<u8>, ReadError> {
        if let Some(error) = &self.poison {
            return Err(ReadError::Disk(error.clone()));
        }
        if position >= self.next {
            return Err(ReadError::NotYet { next: self.next });
        }
        if self.is_lost(position) {
            return Err(ReadError::Damaged);
        }
        let Some(first) = self.segment_of(position) else {
            return Err(ReadError::Forgotten { first: self.first() });
        };
        let place = self.place(first, position).ok_or(ReadError::Damaged)?;
        let seal = self.seal(first);
        if let Some(frame) = self.pending(first, place.clone()) {
            return decode_frame(frame, &seal, position).map(Vec::from).ok_or(ReadError::Damaged);
        }
        let mut frame = vec![0; (place.end - place.start) as usize];
        let read = self.on_file(first, |file| file.read_at(place.start, &mut frame))?;
        read.ok_or(ReadError::Damaged)??;
        decode_frame(&frame, &seal, position).map(Vec::from).ok_or(ReadError::Damaged)
    }

    /// Where a record stands; none where the log has none at this position.
    pub fn whereabouts(&self, position: Position) -> Option<Place> {
        let first = self.segment_of(position)?;
        let frame = self.place(first, position)?;
        let payload = frame.start + EDGE as u64;
        Some(Place { segment: segment_name(first), frame, payload })
    }

    /// The first position of the segment that has this record.
    pub(crate) fn segment_of(&self, position: Position) -> Option<u64> {
        self.segments.range(..=position).next_back().map(|(first, _)| *first)
    }

    /// The seal of the frames of the segment that begins at `first`.
    pub(crate) fn seal(&self, first: u64) -> Seal {
        Seal::new(self.identity, self.salt, first)
    }

    /// Where in the segment that begins at `first` this record's frame stands.
    pub(crate) fn place(&self, first: u64, position: Position) -> Option<Range<u64>> {
        let segment = self.segments.get(&first)?;
        let index = usize::try_from(position.checked_sub(first)?).ok()?;
        let begin = u64::from(*segment.offsets.get(index)?) * UNIT as u64;
        let after = segment.offsets.get(index + 1);
        let end = after.map_or(segment.end, |offset| u64::from(*offset) * UNIT as u64);
        let size = end.checked_sub(begin)?;
        (size >= FRAME_MIN as u64).then_some(begin..end)
    }

    /// The header of the segment that begins at `first`, as it should be.
    pub(crate) fn header(&self, first: u64) -> Option<SegmentHeader> {
        let Segment { sequence, capacity, .. } = *self.segments.get(&first)?;
        let (identity, salt) = (self.identity, self.salt);
        Some(SegmentHeader { identity, sequence, first, capacity, salt })
    }

    /// Does something with a segment's file. None if it has none yet; an error if it cannot be opened.
    pub(crate) fn on_file<R>(
        &self,
        first: u64,
        act: impl FnOnce(&D::File) -> R,
    ) -> Result<Option<R>, DiskError> {
        Ok(match self.segments.get(&first).map(|segment| &segment.file) {
            None | Some(Backing::Planned) => None,
            Some(Backing::Open(file)) => Some(act(file)),
            Some(Backing::Closed) => Some(act(self.reopened.borrow_mut().of(&self.disk, first)?)),
        })
    }

    /// From now on this record is known to be lost.
    pub(crate) fn lose(&mut self, position: Position) {
        let index = self.lost.partition_point(|lost| lost.end <= position);
        self.lost.insert(index, position..position + 1);
    }

    /// All records from a position on, one at a time, each read and checked when it is asked for. Lost ones are errors in
    /// their place.
    pub fn records(
        &self,
        from: Position,
    ) -> impl Iterator<Item = (Position, Result<Vec<u8>, ReadError>)> + '_ {
        (from.max(self.first())..self.next).map(|position| (position, self.read(position)))
    }

    /// Removes the segments that hold only records before `position`: what is removed may be fewer, never more. Each
    /// removal is durable before the next, so that no crash leaves a gap. The last segment always stays. An error poisons
    /// the log.
    pub fn truncate_before(&mut self, position: Position) -> Result<(), DiskError> {
        self.guarded(|log| {
            // A successor that is only planned is no log to come back to after a crash.
            while let Some((&successor, next)) = log.segments.iter().nth(1)
                && !matches!(next.file, Backing::Planned)
                && successor <= position.min(log.durable)
                && let Some((first, segment)) = log.segments.pop_first()
            {
                drop(segment);
                log.reopened.get_mut().close(first);
                log.disk.remove(&segment_name(first))?;
                log.disk.flush()?;
                log.lost.retain(|lost| lost.end > successor);
            }
            Ok(())
        })
    }

    pub(crate) fn guarded(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        if let Some(error) = &self.poison {
            let what = format!("the log failed before: {error}");
            return Err(DiskError::new(DiskErrorKind::Failed, what));
        }
        let result = operation(self);
        if let Err(error) = &result {
            self.poison = Some(error.clone());
        }
        result
    }

    fn write_pending(&mut self) -> Result<(), DiskError> {
        for index in 0..self.pieces.len() {
            let piece = &self.pieces[index];
            let (first, offset) = (piece.segment, piece.offset);
            let end = self.pieces.get(index + 1).map_or(self.buffer.len(), |next| next.start);
            let bytes = piece.start..end;
            self.make_file(first)?;
            let Some(Segment { file: Backing::Open(file), .. }) = self.segments.get(&first) else {
                unreachable!("the segment that is written is open");
            };
            file.write_at(offset, &self.buffer[bytes])?;
            file.flush()?;
            self.durable = self.pieces.get(index + 1).map_or(self.next, |next| next.first);
        }
        self.pieces.clear();
        self.buffer.clear();
        if self.buffer.capacity() > BUFFER_KEPT {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Makes the file of a planned segment. It gets its name only once its header is durable. Those before it are written
    /// no more, and closed.
    fn make_file(&mut self, first: u64) -> Result<(), DiskError> {
        let segment = self.segments.get_mut(&first).expect("pieces belong to segments");
        if !matches!(segment.file, Backing::Planned) {
            return Ok(());
        }
        let fitting = self.spare.take_if(|(_, capacity)| *capacity == segment.capacity);
        let (name, file) = match fitting {
            Some((file, _)) => (SPARE_SEGMENT, file),
            None => (NEW_SEGMENT, self.disk.create(NEW_SEGMENT, segment.capacity)?),
        };
        let Segment { sequence, capacity, .. } = *segment;
        let (identity, salt) = (self.identity, self.salt);
        let header = SegmentHeader { identity, sequence, first, capacity, salt };
        file.write_at(0, &header.encode())?;
        file.flush()?;
        self.disk.rename(name, &segment_name(first))?;
        self.disk.flush()?;
        segment.file = Backing::Open(file);
        let before = self.segments.range_mut(..first).next_back();
        if let Some((_, Segment { file: backing @ Backing::Open(_), .. })) = before {
            *backing = Backing::Closed;
        }
        Ok(())
    }

    /// The frame at this place of this segment, if it is still in memory.
    fn pending(&self, first: u64, place: Range<u64>) -> Option<&[u8]> {
        let piece = self.pieces.iter().find(|piece| piece.segment == first)?;
        let begin = piece.start + usize::try_from(place.start.checked_sub(piece.offset)?).ok()?;
        let end = begin + usize::try_from(place.end.checked_sub(place.start)?).ok()?;
        self.buffer.get(begin..end)
    }

    pub(crate) fn is_lost(&self, position: Position) -> bool {
        let index = self.lost.partition_point(|lost| lost.end <= position);
        self.lost.get(index).is_some_and(|lost| lost.contains(&position))
    }
}

impl<D: Disk> fmt::Debug for Log<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("identity", &self.identity)
            .field("version", &FORMAT_VERSION)
            .field("first", &self.first())
            .field("durable", &self.durable)
            .field("next", &self.next)
            .field("segments", &self.segments.len())
            .field("poison", &self.poison.as_ref().map(|error| -> &String { &error.what }))
            .finish_non_exhaustive()
    }
}
