//! Reading a log again while it runs, to find what has rotted before it is needed.

use crate::disk::{Disk, DiskError, DiskFile};
use crate::frame::{Examined, examine_frame};
use crate::log::{Log, Position};
use crate::recover::Damage;
use crate::segment::{HEADER_SIZE, HeaderFound, SegmentHeader, segment_name};
use alloc::vec;
use alloc::vec::Vec;

/// What [`Log::scrub`] found in a part of the log.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// Where to go on the next time; `None` when the end of what is durable was reached.
    pub next: Option<Position>,
    /// How many bytes were read.
    pub bytes: u64,
    /// How many damaged heads, tails and segment headers were written again from their twins.
    pub mended: u64,
    /// Records that are lost, each told once.
    pub damaged: Vec<Damage>,
}

const ROTTEN: &str = "record damaged since it was written";
const UNREADABLE: &str = "the disk cannot read a record";

impl<D: Disk> Log<D> {
    /// Reads the durable records from a position on, until at least `budget` bytes are read or the end is reached, and
    /// checks them. Damaged heads, tails and headers are written again, durably, from their twins; records that are lost are
    /// named, and lost to [`Log::read`] from then on. A file that cannot be opened now is passed over.
    ///
    /// # Errors
    /// When writing again fails, which poisons the log.
    pub fn scrub(&mut self, from: Position, budget: u64) -> Result<Scrubbed, DiskError> {
        let mut found = Scrubbed::default();
        let mut position = from.max(self.first());
        self.guarded(|log| {
            while position < log.durable() && found.bytes < budget {
                log.scrub_record(position, &mut found)?;
                position += 1;
            }
            Ok(())
        })?;
        found.next = (position < self.durable()).then_some(position);
        Ok(found)
    }

    fn scrub_record(&mut self, position: Position, found: &mut Scrubbed) -> Result<(), DiskError> {
        let Some(first) = self.segment_of(position) else { return Ok(()) };
        if position == first {
            self.scrub_header(first, found)?;
        }
        if self.is_lost(position) {
            return Ok(());
        }
        let Some(place) = self.place(first, position) else { return Ok(()) };
        let mut frame = vec![0; (place.end - place.start) as usize];
        let Ok(Some(read)) = self.on_file(first, |file| file.read_at(place.start, &mut frame))
        else {
            return Ok(());
        };
        found.bytes += frame.len() as u64;
        let (tag, what) = match read.map(|()| examine_frame(&frame, &self.seal(first), position)) {
            Ok(Examined::Whole) => return Ok(()),
            Ok(Examined::Mend(at, edge)) => {
                return self.mend(first, place.start + at as u64, &edge, found);
            }
            Ok(Examined::Broken(tag)) => (tag, ROTTEN),
            Err(_) => (None, UNREADABLE),
        };
        self.lose(position);
        let (position, segment) = (Some(position), segment_name(first));
        let offset = place.start;
        found.damaged.push(Damage { position, records: 1, tag, segment, offset, what });
        Ok(())
    }

    fn scrub_header(&mut self, first: u64, found: &mut Scrubbed) -> Result<(), DiskError> {
        let mut start = [0; HEADER_SIZE];
        let Ok(Some(Ok(()))) = self.on_file(first, |file| file.read_at(0, &mut start)) else {
            return Ok(());
        };
        found.bytes += HEADER_SIZE as u64;
        match (SegmentHeader::find(&start), self.header(first)) {
            (HeaderFound::Whole { header, mend: true }, Some(expected)) if header == expected => {
                self.mend(first, 0, &expected.encode(), found)
            }
            _ => Ok(()),
        }
    }

    fn mend(
        &mut self,
        first: u64,
        offset: u64,
        bytes: &[u8],
        found: &mut Scrubbed,
    ) -> Result<(), DiskError> {
        let written = self.on_file(first, |file| {
            file.write_at(offset, bytes)?;
            file.flush()
        });
        let Ok(Some(written)) = written else { return Ok(()) };
        found.mended += 1;
        written
    }
}
