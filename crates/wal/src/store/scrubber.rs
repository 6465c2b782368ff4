//! The slow look at what is on the disk: the log from its beginning, then the snapshots, and again.
//!
//! Rot is found while what was there is still known in memory, and before a second fault makes it worse. Each finding is told
//! once; it goes when the automaton has written anew what stood there, and let go of it.

use super::{Look, StorageError};
use crate::disk::Disk;
use crate::log::Log;
use crate::snapshot::{SnapshotError, SnapshotReader, Snapshots};
use alloc::collections::BTreeSet;
use alloc::format;
use testudo_core::{Lost, Position, Rot, Tag};

/// Where a scrub is.
enum Stage<F> {
    /// In the log, at this position.
    Log(u64),
    /// In the snapshot with this number.
    Snapshot(u64, SnapshotReader<F>),
}

/// A look at everything, a part at a time.
pub(super) struct Scrubber<D: Disk> {
    snapshots: Snapshots<D>,
    stage: Stage<D::File>,
    /// Snapshots that were told of.
    rotten: BTreeSet<u64>,
}

impl<D: Disk> Scrubber<D> {
    pub(super) fn new(snapshots: Snapshots<D>) -> Self {
        Self { snapshots, stage: Stage::Log(0), rotten: BTreeSet::new() }
    }

    /// Looks at about so many bytes. Records before `forgotten` are nobody's business.
    pub(super) fn scrub(
        &mut self,
        log: &mut Log<D>,
        forgotten: Position,
        bytes: u64,
    ) -> Result<Look, StorageError> {
        let mut found = Look::default();
        while found.bytes < bytes && !found.is_round {
            match &mut self.stage {
                Stage::Log(position) => {
                    let from = (*position).max(forgotten.0);
                    let part = log
                        .scrub(from, bytes - found.bytes)
                        .map_err(|error| StorageError::caused("mend the log", error))?;
                    found.bytes += part.bytes;
                    found.mended += part.mended;
                    for damage in part.damaged {
                        found.sentences.push(format!("the log has rotted: {damage}"));
                        let Some(position) = damage.position.map(Position) else { continue };
                        let tag = damage.tag.and_then(Tag::from_bits);
                        found.rot.push(Rot::Record(Lost { position, tag }));
                    }
                    match part.next {
                        Some(next) => self.stage = Stage::Log(next),
                        None => self.go_on_after(0, &mut found),
                    }
                }
                Stage::Snapshot(number, reader) => {
                    let number = *number;
                    match reader.next_chunk() {
                        Ok(Some(chunk)) => found.bytes += chunk.len() as u64,
                        Ok(None) => self.go_on_after(number, &mut found),
                        Err(problem) => {
                            self.judge(number, &problem, &mut found);
                            self.go_on_after(number, &mut found);
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    /// The next snapshot after this number, or a new round.
    fn go_on_after(&mut self, number: u64, found: &mut Look) {
        let numbers = self.snapshots.list().unwrap_or_default();
        self.rotten.retain(|number| numbers.contains(number));
        for next in numbers.into_iter().filter(|next| *next > number) {
            match self.snapshots.read(next) {
                Ok(reader) => {
                    self.stage = Stage::Snapshot(next, reader);
                    return;
                }
                Err(problem) => self.judge(next, &problem, found),
            }
        }
        found.is_round = true;
        self.stage = Stage::Log(0);
    }

    /// A snapshot could not be read. One that was removed meanwhile had its time, and a disk that is busy is no rot.
    fn judge(&mut self, number: u64, problem: &SnapshotError, found: &mut Look) {
        let is_rot = match problem {
            SnapshotError::Absent(_) | SnapshotError::Disk(_) | SnapshotError::TooLarge(_) => false,
            SnapshotError::Damaged { .. }
            | SnapshotError::OtherIdentity(_)
            | SnapshotError::UnknownVersion(_) => true,
        };
        if is_rot && self.rotten.insert(number) {
            found.sentences.push(format!("snapshot {number} has rotted: {problem}"));
            found.rot.push(Rot::Snapshot);
        }
    }
}
