//! Opening a log: reading all of it, mending what is certain, and saying what is lost.

use crate::disk::{Disk, DiskError, DiskErrorKind, DiskFile};
use crate::files::Backing;
use crate::frame::{PAGE, Seal};
use crate::log::{Foundation, Log, Options, Position, Segment, UNIT};
use crate::scan::{Findings, SegmentBytes, scan};
use crate::segment::{
    FORMAT_VERSION, HEADER_SIZE, HeaderFound, Identity, SEGMENT_MAX, SegmentHeader,
    is_temporary_segment, parse_segment_name, segment_name,
};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// A place of the log that had been durable and is not readable any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first record that is lost; `None` where no record is, or none can be named.
    pub position: Option<Position>,
    /// How many records are lost, from `position` on. Where heads and tails are gone this is the most there can have been.
    pub records: u64,
    /// What the record is about that is lost, as [`Log::append`] was told, where that is left: only ever of a single one.
    pub tag: Option<u64>,
    /// The segment's file.
    pub segment: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What was found there.
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} of {}", self.what, self.offset, self.segment)?;
        match (self.position, self.records) {
            (Some(position), 1) => write!(f, ": record {position} is lost"),
            (Some(position), count) => {
                write!(f, ": records from {position} on are lost, up to {count} of them")
            }
            (None, _) => Ok(()),
        }
    }
}

/// What [`Log::open`] found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Whether there was no log; there is one now, and no later opening says this again. Whoever knows that there should have
    /// been one has lost it.
    pub fresh: bool,
    /// The position of the first record.
    pub first: Position,
    /// The position after the last.
    pub next: Position,
    /// How many bytes an unfinished write had left after the last record; they are gone now. Nothing that a flush had
    /// acknowledged was among them.
    pub torn_bytes: u64,
    /// How many damaged heads, tails and segment headers were written again from their twins. No record is concerned, but
    /// the disk deserves a look.
    pub mended: u64,
    /// What is lost, in order. What to do about it is the caller's to decide; the log works, and says so again at every
    /// opening until [`Log::truncate_before`] has removed the segment.
    pub damaged: Vec<Damage>,
}

/// Why a log was not opened. Nothing has been changed on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The disk failed.
    Disk(DiskError),
    /// The log belongs to another cluster, group or node.
    OtherIdentity {
        /// The segment's file.
        segment: String,
        /// Whose it is.
        found: Identity,
        /// Whose it should be.
        expected: Identity,
    },
    /// The log was written in a format that this version does not know.
    UnknownVersion {
        /// The segment's file.
        segment: String,
        /// The version that it names.
        version: u32,
    },
    /// The options make no sense; the sentence says why.
    Options(&'static str),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Disk(error) => write!(f, "the log could not be opened: {error}"),
            OpenError::OtherIdentity { segment, found, expected } => write!(
                f,
                "{segment} belongs to the log {found}, but this is {expected}: \
                 the directory is another cluster's, group's or node's"
            ),
            OpenError::UnknownVersion { segment, version } => write!(
                f,
                "{segment} has format version {version}, but this program knows only {FORMAT_VERSION}: \
                 use the release that wrote it"
            ),
            OpenError::Options(problem) => write!(f, "bad options for the log: {problem}"),
        }
    }
}

impl core::error::Error for OpenError {}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        OpenError::Disk(error)
    }
}

/// A segment whose header has been looked at. It is closed until its turn comes.
struct Candidate {
    first: u64,
    name: String,
    size: u64,
    header: Option<SegmentHeader>,
    mend_header: bool,
}

impl<D: Disk> Log<D> {
    /// Opens the log of this identity on the disk, or begins one, durably, where there is none.
    ///
    /// All segments are read and checked. What an unfinished write left at the end is removed, the last flush is made durable
    /// again (its success may have been lost with the process), damaged heads and tails with a good twin are written again,
    /// and everything that is lost is reported, and left as it is. Records can then be read with [`Log::records`].
    pub fn open(
        disk: D,
        identity: Identity,
        options: Options,
    ) -> Result<(Log<D>, Recovered), OpenError> {
        Log::open_with(disk, identity, options, &mut |_, _| ())
    }

    /// Like [`Log::open`], and hands each whole record to `visit` as it is read, in order, so that a start needs no second
    /// pass. What was visited counts only if this returns without an error.
    pub fn open_with(
        disk: D,
        identity: Identity,
        options: Options,
        visit: &mut dyn FnMut(Position, &[u8]),
    ) -> Result<(Log<D>, Recovered), OpenError> {
        if let Some(problem) = options.problem() {
            return Err(OpenError::Options(problem));
        }
        let names = disk.list()?;
        let candidates = find_segments(&disk, &names, identity)?;
        for name in names.iter().filter(|name| is_temporary_segment(name)) {
            disk.remove(name)?;
        }
        let salt = candidates
            .iter()
            .find_map(|candidate| candidate.header.map(|header| header.salt))
            .unwrap_or(options.salt);
        let mut recovery = Recovery {
            foundation: Foundation {
                identity,
                options,
                salt,
                segments: BTreeMap::new(),
                lost: Vec::new(),
                sealed: false,
                next: 0,
            },
            recovered: Recovered { fresh: candidates.is_empty(), ..Recovered::default() },
            buffer: Vec::new(),
        };
        recovery.recovered.first = candidates.first().map_or(0, |candidate| candidate.first);
        let successors: Vec<_> = candidates.iter().skip(1).map(|next| next.first).collect();
        for (index, candidate) in candidates.into_iter().enumerate() {
            recovery.segment(&disk, &candidate, successors.get(index).copied(), visit)?;
        }
        // The name of the last segment may not have been durable when the process ended.
        disk.flush()?;
        recovery.recovered.next = recovery.foundation.next;
        let mut log = Log::on(disk, recovery.foundation);
        if recovery.recovered.fresh {
            log.begin()?;
        }
        Ok((log, recovery.recovered))
    }
}

/// All segments in order, with their headers. Refuses files of another log or format before anything is changed.
fn find_segments<D: Disk>(
    disk: &D,
    names: &[String],
    identity: Identity,
) -> Result<Vec<Candidate>, OpenError> {
    let firsts = names.iter().filter_map(|name| parse_segment_name(name));
    let mut candidates = Vec::new();
    for first in firsts {
        let name = segment_name(first);
        let file = disk.open(&name)?;
        let size = file.size()?;
        let mut start = [0; HEADER_SIZE];
        let readable = size.min(HEADER_SIZE as u64) as usize;
        read_around(&file, &mut start[..readable])?;
        let (header, mend_header) = match SegmentHeader::find(&start[..readable]) {
            HeaderFound::Whole { header, .. } if header.identity != identity => {
                let found = header.identity;
                return Err(OpenError::OtherIdentity { segment: name, found, expected: identity });
            }
            HeaderFound::Version(version) => {
                return Err(OpenError::UnknownVersion { segment: name, version });
            }
            HeaderFound::Whole { header, .. } if header.first != first => (None, false),
            HeaderFound::Whole { header, mend } => (Some(header), mend),
            HeaderFound::Damaged => (None, false),
        };
        candidates.push(Candidate { first, name, size, header, mend_header });
    }
    candidates.sort_by_key(|candidate| candidate.first);
    Ok(candidates)
}

/// Pages that may be unreadable in one segment. Where more are it is no sector that has failed but a disk, and nothing there
/// must be given up for lost.
const UNREADABLE_MOST: usize = 4;

/// What stands in place of bytes that cannot be read. It is nothing that anybody writes, and not blank: nobody takes it for a
/// write that was never finished.
const UNREADABLE: u8 = 0xA5;

/// Reads a file from its beginning. Where a page cannot be read it is tried by itself, and given up if that fails: says which
/// pages those are.
fn read_around(file: &impl DiskFile, buffer: &mut [u8]) -> Result<Vec<Range<usize>>, DiskError> {
    let error = match file.read_at(0, buffer) {
        Ok(()) => return Ok(Vec::new()),
        Err(error) if error.kind == DiskErrorKind::Failed => error,
        Err(error) => return Err(error),
    };
    let mut unreadable = Vec::new();
    let mut begin = 0;
    for page in buffer.chunks_mut(PAGE) {
        let end = begin + page.len();
        if file.read_at(begin as u64, page).is_err() {
            page.fill(UNREADABLE);
            unreadable.push(begin..end);
        }
        begin = end;
    }
    if unreadable.len() > UNREADABLE_MOST { Err(error) } else { Ok(unreadable) }
}

/// The state of opening, segment by segment.
struct Recovery<F> {
    foundation: Foundation<F>,
    recovered: Recovered,
    /// One segment at a time, in the same memory.
    buffer: Vec<u8>,
}

const NO_HEADER: &str = "neither copy of the segment's header can be believed";
const TOO_SHORT: &str = "the segment's file is shorter than it was made";
const OUT_OF_SEQUENCE: &str = "the segment's number does not follow its predecessor's";

impl<F: DiskFile> Recovery<F> {
    fn segment<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        candidate: &Candidate,
        successor: Option<u64>,
        visit: &mut dyn FnMut(Position, &[u8]),
    ) -> Result<(), OpenError> {
        let Candidate { first, size, header, .. } = *candidate;
        let file = disk.open(&candidate.name)?;
        // Without a header nobody knows how long the file was, but no segment is made shorter than the options say.
        let usual = self.foundation.options.capacity_for(0);
        let capacity = header.map_or(size.clamp(usual, SEGMENT_MAX), |header| header.capacity);
        let readable = size.min(capacity) as usize;
        let unharmed = header.is_some() && size >= capacity;
        self.buffer.clear();
        self.buffer.resize(readable, 0);
        let unreadable = read_around(&file, &mut self.buffer)?;
        let seal = Seal::new(self.foundation.identity, self.foundation.salt, first);
        let may_be_torn = successor.is_none() && unharmed;
        let bytes = &self.buffer[..];
        let findings = scan(&SegmentBytes { bytes, seal, first, successor, may_be_torn }, visit);
        let sequence = self.judge_file(candidate, capacity, successor.is_none());
        self.report(&candidate.name, &findings);
        self.repair(&file, candidate, &findings, &unreadable, successor.is_none())?;
        let told = findings.losses.last().map_or(0, |loss| loss.position + loss.records);
        let next = first.saturating_add(findings.offsets.len() as u64).max(told);
        self.foundation.next = next;
        if successor.is_none() && (!unharmed || !findings.losses.is_empty()) {
            self.seal_last(candidate, next, capacity);
        }
        let segment = Segment {
            file: if successor.is_none() { Backing::Open(file) } else { Backing::Closed },
            sequence,
            capacity,
            offsets: findings.offsets.iter().map(|offset| (offset / UNIT) as u32).collect(),
            end: findings.end as u64,
        };
        self.foundation.segments.insert(first, segment);
        Ok(())
    }

    /// Reports what is wrong with the file as such, and returns the segment's number.
    fn judge_file(&mut self, candidate: &Candidate, capacity: u64, is_last: bool) -> u64 {
        let expected = self
            .foundation
            .segments
            .last_key_value()
            .map(|(_, previous)| previous.sequence.saturating_add(1));
        let mut damage = |offset, what| {
            let segment = candidate.name.clone();
            self.recovered.damaged.push(Damage {
                position: None,
                records: 0,
                tag: None,
                segment,
                offset,
                what,
            });
        };
        let Some(header) = candidate.header else {
            damage(0, NO_HEADER);
            return expected.unwrap_or(0);
        };
        // Where the last segment is short, `seal_last` names the records that may be gone with its end.
        if candidate.size < capacity && !is_last {
            damage(candidate.size, TOO_SHORT);
        }
        if expected.is_some_and(|expected| expected != header.sequence) {
            damage(0, OUT_OF_SEQUENCE);
        }
        header.sequence
    }

    /// Nothing is appended after damage: what stands there stays as evidence, and the next record gets a segment of its own.
    /// Where the damage hides how many records there were, positions go on after the most there can have been, so that none
    /// is ever used twice.
    fn seal_last(&mut self, candidate: &Candidate, next: u64, capacity: u64) {
        self.foundation.sealed = true;
        let cut = capacity.saturating_sub(candidate.size);
        if cut > 0 {
            let records = (cut / crate::frame::FRAME_MIN as u64).max(1);
            let lost = next..next.saturating_add(records);
            self.foundation.next = lost.end;
            self.recovered.damaged.push(Damage {
                position: Some(next),
                records,
                tag: None,
                segment: candidate.name.clone(),
                offset: candidate.size,
                what: TOO_SHORT,
            });
            self.foundation.lost.push(lost);
        }
    }

    fn report(&mut self, segment: &str, findings: &Findings) {
        for loss in &findings.losses {
            self.foundation.lost.push(loss.position..loss.position + loss.records);
            self.recovered.damaged.push(Damage {
                position: Some(loss.position),
                records: loss.records,
                tag: loss.tag,
                segment: segment.into(),
                offset: loss.offset as u64,
                what: loss.what,
            });
        }
        self.recovered.torn_bytes +=
            findings.torn.as_ref().map_or(0, ExactSizeIterator::len) as u64;
        self.recovered.mended += findings.mends.len() as u64;
    }

    /// Writes again what can be written again with certainty, and makes it durable.
    ///
    /// In the last segment this includes the whole last flush: if the process ended before that flush returned, or after it
    /// failed, its records may be in the machine's memory and not on the disk. Whoever reads them now will act on them.
    fn repair(
        &mut self,
        file: &F,
        candidate: &Candidate,
        findings: &Findings,
        unreadable: &[Range<usize>],
        is_last: bool,
    ) -> Result<(), DiskError> {
        for (offset, edge) in &findings.mends {
            self.buffer[*offset..*offset + edge.len()].copy_from_slice(edge);
        }
        if let Some(torn) = findings.torn.clone() {
            self.buffer[torn].fill(0);
        }
        let mut dirty = !unreadable.is_empty();
        for page in unreadable {
            // As a whole, so that the drive puts another sector in its place. What stood there is told to be lost, but for
            // what has a twin.
            file.write_at(page.start as u64, &self.buffer[page.clone()])?;
        }
        if let (true, Some(header)) = (candidate.mend_header, candidate.header) {
            self.recovered.mended += 1;
            file.write_at(0, &header.encode())?;
            dirty = true;
        }
        let mended = findings.mends.iter().map(|(offset, edge)| *offset..*offset + edge.len());
        if is_last {
            let begin = mended.map(|range| range.start).min().unwrap_or(findings.last_batch);
            let begin = begin.min(findings.last_batch);
            let end = findings.torn.as_ref().map_or(findings.end, |torn| torn.end);
            if let Some(bytes) = self.buffer.get(begin..end)
                && !bytes.is_empty()
            {
                file.write_at(begin as u64, bytes)?;
                dirty = true;
            }
        } else {
            for range in mended {
                file.write_at(range.start as u64, &self.buffer[range])?;
                dirty = true;
            }
        }
        if dirty { file.flush() } else { Ok(()) }
    }
}
