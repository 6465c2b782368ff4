//! Which files of a log are open.
//!
//! A log that is kept whole has thousands of segments, and a process has few file descriptors, which its channels want
//! too. So only the segment that is written stays open, and a few that were read again lately.

use crate::disk::{Disk, DiskError};
use crate::segment::segment_name;
use alloc::vec::Vec;

/// Segments that are kept open for reading. Who lags reads one after the other, and few lag at once.
const KEPT: usize = 4;

/// The file of a segment.
pub(crate) enum Backing<F> {
    /// There is none yet: the segment's first records are still in memory.
    Planned,
    /// It is the one that is written.
    Open(F),
    /// It is written no more, and opened again when it is read.
    Closed,
}

/// The files that were opened again, with the first positions of their segments; the one read last comes last.
pub(crate) struct Reopened<F>(Vec<(u64, F)>);

impl<F> Default for Reopened<F> {
    fn default() -> Self {
        Reopened(Vec::new())
    }
}

impl<F> Reopened<F> {
    /// The file of this segment, opened if it is not open. The one that was not read for longest gives way to it.
    pub(crate) fn of<D: Disk<File = F>>(&mut self, disk: &D, first: u64) -> Result<&F, DiskError> {
        let entry = match self.0.iter().position(|(open, _)| *open == first) {
            Some(index) => self.0.remove(index),
            None => {
                if self.0.len() >= KEPT {
                    self.0.remove(0);
                }
                (first, disk.open(&segment_name(first))?)
            }
        };
        self.0.push(entry);
        let (_, file) = self.0.last().expect("it was just added");
        Ok(file)
    }

    /// The segment is removed.
    pub(crate) fn close(&mut self, first: u64) {
        self.0.retain(|(open, _)| *open != first);
    }
}
