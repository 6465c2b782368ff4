//! Reading one segment, and telling a torn write from rot. Pure: bytes in, findings out.
//!
//! A crash may keep from the disk any part of what was written since the last flush: all from some byte on, or any choice of
//! sectors. As the log flushes after every write, and a segment is all zeros before, that leaves traces:
//!
//! | found at the place of record p                                  | it is |
//! |-----------------------------------------------------------------|-------|
//! | an edge (head or tail) and a payload that matches it            | whole; the other edge is mended |
//! | not whole, and a record of a *later* flush stands further on    | rot: p had been durable |
//! | not whole, in a segment that has a successor                    | rot: a segment is flushed before its successor is made |
//! | one edge, but zeros where the other should be                   | torn |
//! | an edge, and more blank sectors in the frame than it counted    | torn |
//! | neither edge, and zeros for a head, or a blank sector before whatever is next, or too little to have been a frame | torn |
//! | anything else                                                   | rot |
//!
//! So rot in the last flushed record is found as rot as long as it does not look exactly like sectors that were never
//! written; one flipped bit cannot. What cannot be decided counts as rot, which is loud, never as torn, which is silent.
//!
//! Two limits. Whole sectors of the very last flush that turn to zeros are taken for an unfinished write: nothing on this disk
//! says otherwise. And a torn write whose missing sectors held a single set bit each is taken for rot.

use crate::frame::{ALIGN, EDGE, FRAME_MIN, Fields, Seal, is_blank, sectors};
use crate::segment::HEADER_SIZE;
use alloc::vec::Vec;
use core::ops::Range;

/// A segment to be read.
pub(crate) struct SegmentBytes<'a> {
    /// The whole file.
    pub(crate) bytes: &'a [u8],
    /// The seal of its frames.
    pub(crate) seal: Seal,
    /// The position of its first record.
    pub(crate) first: u64,
    /// The first position of the next segment, where there is one.
    pub(crate) successor: Option<u64>,
    /// Whether an unfinished write can have left its traces here: in the last segment, with its header intact.
    pub(crate) may_be_torn: bool,
}

/// Records that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) position: u64,
    pub(crate) records: u64,
    /// The tag, of a single record whose head or tail is left.
    pub(crate) tag: Option<u64>,
    pub(crate) offset: usize,
    pub(crate) what: &'static str,
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Where the frame of each record stands, from the segment's first position on; for lost records where their region
    /// begins.
    pub(crate) offsets: Vec<usize>,
    /// Where the next frame goes.
    pub(crate) end: usize,
    /// Where the last flush that left anything here began: what is after this may not be durable yet.
    pub(crate) last_batch: usize,
    /// What is lost, in order of position.
    pub(crate) losses: Vec<Loss>,
    /// Bytes that an unfinished write left behind.
    pub(crate) torn: Option<Range<usize>>,
    /// Edges to be written again.
    pub(crate) mends: Vec<(usize, [u8; EDGE])>,
}

/// What stands at the place of a record.
enum Found {
    Whole { fields: Fields, mend: Option<(usize, [u8; EDGE])> },
    Broken { fields: Option<Fields>, edge_blank: bool },
}

/// Something valid further on.
struct Later {
    offset: usize,
    position: u64,
}

const EDGES_AND_PAYLOAD: &str = "record damaged";
const UNREADABLE: &str = "head and tail of a record are damaged";
const MISSING: &str = "records are missing before the next segment";

/// Reads a segment, handing each whole record to `visit`.
pub(crate) fn scan(segment: &SegmentBytes<'_>, visit: &mut dyn FnMut(u64, &[u8])) -> Findings {
    let mut scanner = Scanner {
        segment,
        written: segment.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1),
        newest_batch: None,
        findings: Findings { end: HEADER_SIZE, last_batch: HEADER_SIZE, ..Findings::default() },
    };
    scanner.run(visit);
    scanner.compare_with_successor();
    scanner.findings
}

struct Scanner<'a> {
    segment: &'a SegmentBytes<'a>,
    /// After this, all bytes are zero.
    written: usize,
    /// The highest first position of a flush among all valid edges of the segment, once that was needed.
    newest_batch: Option<u64>,
    findings: Findings,
}

impl Scanner<'_> {
    fn next(&self) -> u64 {
        self.segment.first.saturating_add(self.findings.offsets.len() as u64)
    }

    fn run(&mut self, visit: &mut dyn FnMut(u64, &[u8])) {
        let segment = self.segment;
        loop {
            let offset = self.findings.end;
            let position = self.next();
            let complete = segment.successor == Some(position);
            if complete || offset >= self.written || position == u64::MAX {
                return;
            }
            match self.at(offset, position) {
                Found::Whole { fields, mend } => {
                    visit(position, &segment.bytes[fields.payload_range(offset)]);
                    let begun = fields.batch_first().checked_sub(segment.first);
                    self.findings.offsets.push(offset);
                    self.findings.end = offset + fields.frame_size();
                    self.findings.mends.extend(mend);
                    // A batch that claims to have begun in an earlier segment is as good as one that began with this one.
                    let begun = begun.and_then(|index| self.findings.offsets.get(index as usize));
                    self.findings.last_batch = begun.copied().unwrap_or(HEADER_SIZE);
                }
                Found::Broken { fields, edge_blank } => {
                    if !self.broken(offset, position, fields, edge_blank) {
                        return;
                    }
                }
            }
        }
    }

    /// What stands at `offset`, where the record `position` should.
    fn at(&self, offset: usize, position: u64) -> Found {
        let (bytes, seal) = (self.segment.bytes, &self.segment.seal);
        let head = Fields::read_head(bytes, offset, seal)
            .filter(|fields| fields.position == position && self.fits(offset, fields));
        let by_tail = || self.find_tail(offset, position);
        let Some(fields) = head.or_else(by_tail) else {
            return Found::Broken { fields: None, edge_blank: false };
        };
        let tail_offset = offset + fields.frame_size() - EDGE;
        let tail = &bytes[tail_offset..tail_offset + EDGE];
        if !fields.matches(&bytes[fields.payload_range(offset)], seal) {
            let edge_blank = is_blank(tail) || is_blank(&bytes[offset..offset + EDGE]);
            return Found::Broken { fields: Some(fields), edge_blank };
        }
        let mend = if head.is_none() {
            Some((offset, fields.head(seal)))
        } else if tail != fields.tail(seal) {
            Some((tail_offset, fields.tail(seal)))
        } else {
            None
        };
        Found::Whole { fields, mend }
    }

    fn fits(&self, offset: usize, fields: &Fields) -> bool {
        fields.frame_size() <= self.segment.bytes.len() - offset
    }

    /// The tail of the record at `offset` whose head is damaged. The search ends at the next record.
    fn find_tail(&self, offset: usize, position: u64) -> Option<Fields> {
        let (bytes, seal) = (self.segment.bytes, &self.segment.seal);
        let last = self.written.min(bytes.len());
        for candidate in (offset + EDGE..last).step_by(ALIGN) {
            if let Some(fields) = Fields::read_tail(bytes, candidate, seal)
                && fields.position == position
                && offset + fields.frame_size() == candidate + EDGE
            {
                return Some(fields);
            }
            if self.later_at(candidate, offset, position).is_some() {
                return None;
            }
        }
        None
    }

    /// Whether a record after `position` is seen to stand at `candidate`, by its head, or to end there, by its tail. Not
    /// more records can lie between than there is room for.
    fn later_at(&self, candidate: usize, offset: usize, position: u64) -> Option<Later> {
        let (bytes, seal) = (self.segment.bytes, &self.segment.seal);
        let plausible = |start: usize, fields: &Fields| {
            let room = start.checked_sub(offset)? / FRAME_MIN;
            let ahead = fields.position.checked_sub(position)?;
            let in_order = (1..=room as u64).contains(&ahead)
                && self.segment.successor.is_none_or(|successor| fields.position < successor);
            in_order.then_some(Later { offset: start, position: fields.position })
        };
        let head = Fields::read_head(bytes, candidate, seal)
            .filter(|fields| self.fits(candidate, fields))
            .and_then(|fields| plausible(candidate, &fields));
        head.or_else(|| {
            let fields = Fields::read_tail(bytes, candidate, seal)?;
            let start = (candidate + EDGE).checked_sub(fields.frame_size())?;
            plausible(start, &fields)
        })
    }

    /// Whether a record of a flush later than the one that wrote `position` is anywhere in the segment.
    fn proven_durable(&mut self, offset: usize, position: u64) -> bool {
        let newest = self.newest_batch.unwrap_or_else(|| {
            let (bytes, seal) = (self.segment.bytes, &self.segment.seal);
            let edges = (offset..self.written).step_by(ALIGN).filter_map(|candidate| {
                Fields::read_head(bytes, candidate, seal)
                    .or_else(|| Fields::read_tail(bytes, candidate, seal))
                    .filter(|fields| fields.position > position)
            });
            edges.map(|fields| fields.batch_first()).max().unwrap_or(0)
        });
        self.newest_batch = Some(newest);
        newest > position
    }

    /// Judges a record that is not whole. Returns whether there is anything to read after it.
    fn broken(
        &mut self,
        offset: usize,
        position: u64,
        fields: Option<Fields>,
        edge_blank: bool,
    ) -> bool {
        let bytes = self.segment.bytes;
        let later = match fields {
            Some(_) => None,
            None => (offset + ALIGN..self.written)
                .step_by(ALIGN)
                .find_map(|candidate| self.later_at(candidate, offset, position)),
        };
        let region_end = later.as_ref().map_or(self.written, |later| later.offset);
        let looks_torn = match fields {
            Some(fields) => {
                let frame = &bytes[offset..offset + fields.frame_size()];
                edge_blank || fields.misses_sectors(frame, offset)
            }
            None => {
                let region = &bytes[offset..region_end];
                region.len() < FRAME_MIN
                    || is_blank(&region[..EDGE])
                    || sectors(region, offset).any(is_blank)
            }
        };
        if self.segment.may_be_torn && looks_torn && !self.proven_durable(offset, position) {
            self.findings.torn = Some(offset..self.written);
            return false;
        }
        let room = (((self.written - offset) / FRAME_MIN) as u64).max(1);
        let (records, end, what) = match (fields, &later) {
            (Some(fields), _) => (1, offset + fields.frame_size(), EDGES_AND_PAYLOAD),
            (None, Some(later)) => (later.position - position, later.offset, UNREADABLE),
            (None, None) => {
                let left = self.segment.successor.map_or(room, |s| s.saturating_sub(position));
                (left.min(u64::MAX - position), self.written, UNREADABLE)
            }
        };
        let tag = fields.map(|fields| fields.tag);
        self.findings.losses.push(Loss { position, records, tag, offset, what });
        // Only as many entries as there is room for records: a successor that is far off must not cost memory.
        let entries = records.min(room) as usize;
        self.findings.offsets.resize(self.findings.offsets.len() + entries, offset);
        self.findings.end = end.next_multiple_of(ALIGN);
        fields.is_some() || later.is_some()
    }

    /// Holds the end of the segment against the beginning of the next.
    fn compare_with_successor(&mut self) {
        let Some(successor) = self.segment.successor else {
            return;
        };
        let told = self.findings.losses.last().map_or(0, |loss| loss.position + loss.records);
        let next = self.next().max(told);
        let offset = self.findings.end;
        if next < successor {
            let records = successor - next;
            let (position, tag, what) = (next, None, MISSING);
            self.findings.losses.push(Loss { position, records, tag, offset, what });
        }
    }
}
