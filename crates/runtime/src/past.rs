//! What an automaton remembers, read from what its storage held.
//!
//! One snapshot that does not read back whole, or whose contents do not prove themselves, is passed over for an older one, or
//! for none. Where the log has not all that it stood for, the automaton is told that something is lost, and goes on from
//! what there is: its promise is intact, and the rest it can have from others.
//!
//! The log is read record by record, and of each only what the automaton wants to keep beside the snapshot is held.

use crate::host::{Driven, Fatal};
use crate::metrics::Metrics;
use crate::storage::{Recovered, SnapshotReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use testudo_core::{Decode, Lost, Past, Position};

/// What the automaton is started from.
///
/// # Errors
/// When the log holds what is no record of the automaton's, or the disk fails.
pub(crate) fn past<P: Driven>(
    recovered: Recovered,
    metrics: &Metrics,
) -> Result<Past<P::Snapshot, P::Record>, Fatal> {
    let snapshot = newest::<P::Snapshot>(recovered.snapshots, metrics);
    let (mut records, mut lost) = (Vec::new(), recovered.lost);
    for read in recovered.records {
        let (position, bytes) = read?;
        let Some(bytes) = bytes else {
            if !lost.iter().any(|lost| lost.position == position) {
                lost.push(Lost { position, tag: None });
            }
            continue;
        };
        let record = P::Record::from_bytes(&bytes).map_err(|error| {
            Fatal::Recovery(format!("the record at {position} is of another form: {error}"))
        })?;
        let kept = P::keep(snapshot.as_ref(), position, record);
        records.extend(kept.map(|record| (position, record)));
    }
    lost.sort_unstable();
    metrics.found_lost(lost.len());
    let covered = snapshot.as_ref().map_or(Position(0), P::covered);
    if covered < recovered.forgotten {
        tracing::error!(
            "the records before {} are forgotten, and the snapshot that stood for them is lost: this replica has the state \
             from others, and votes on no slot on which it may have voted before",
            recovered.forgotten
        );
        // After all that there is: whatever slots that goes to, what is lost may have been about as many more.
        lost.push(Lost { position: recovered.next, tag: None });
    }
    Ok(Past { promise: recovered.promise, snapshot, records, lost })
}

/// The newest snapshot that can be believed. Those that cannot are reported.
fn newest<S: Decode>(found: Vec<Box<dyn SnapshotReader>>, metrics: &Metrics) -> Option<S> {
    for mut reader in found {
        match read(&mut *reader) {
            Ok(snapshot) => {
                tracing::info!(snapshot = ?reader, "starting from a snapshot");
                return Some(snapshot);
            }
            Err(problem) => {
                metrics.snapshots_lost.inc();
                tracing::error!(
                    snapshot = ?reader,
                    "a snapshot is lost, and an older one or none is used: {problem}"
                );
            }
        }
    }
    None
}

/// Reads one snapshot to its end, as only then it is known to be whole.
fn read<S: Decode>(reader: &mut dyn SnapshotReader) -> Result<S, String> {
    let mut failure = None;
    let mut is_over = false;
    let mut next = || {
        if is_over {
            return None;
        }
        let piece = reader.next().unwrap_or_else(|error| {
            failure = Some(error);
            None
        });
        is_over = piece.is_none();
        piece
    };
    // What is on the disk is not ours until it is proved: a decoder that trips over it must not take the replica along.
    let decoded = catch_unwind(AssertUnwindSafe(|| S::from_pieces(&mut next)));
    let is_more = decoded.is_ok() && next().is_some();
    match (failure, decoded) {
        (Some(failure), _) => Err(failure.to_string()),
        (None, Err(_)) => Err("reading it panicked".to_owned()),
        (None, Ok(Err(error))) => Err(format!("it does not prove itself: {error}")),
        (None, Ok(Ok(_))) if is_more => Err("something follows its end".to_owned()),
        (None, Ok(Ok(snapshot))) => Ok(snapshot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StorageError;
    use std::collections::VecDeque;
    use testudo_core::{DecodeError, Encode, Reader};

    #[derive(Debug)]
    struct Pieces(VecDeque<Result<Vec<u8>, &'static str>>);

    impl SnapshotReader for Pieces {
        fn next(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
            self.0.pop_front().transpose().map_err(StorageError::new)
        }
    }

    fn pieces<const N: usize>(pieces: [Result<&[u8], &'static str>; N]) -> Box<dyn SnapshotReader> {
        Box::new(Pieces(pieces.map(|piece| piece.map(<[u8]>::to_vec)).into()))
    }

    /// Reads one piece and stops; a zero makes it panic.
    #[derive(Debug, PartialEq)]
    struct First(u8);

    impl Decode for First {
        fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
            u8::decode(reader).map(Self)
        }
        fn from_pieces(next: &mut dyn FnMut() -> Option<Vec<u8>>) -> Result<Self, DecodeError> {
            let number = u8::from_bytes(&next().unwrap_or_default())?;
            assert!(number > 0, "no snapshot holds a zero");
            Ok(Self(number))
        }
    }

    #[test]
    fn the_newest_snapshot_that_proves_itself_is_used() {
        let metrics = Metrics::new();
        let rotten = pieces([Ok(&[1]), Err("rot")]);
        let (malformed, trailing) = (pieces([Ok(&[1, 2])]), pieces([Ok(&[2]), Ok(&[3])]));
        let (panics, empty, good) = (pieces([Ok(&[0])]), pieces([]), pieces([Ok(&[7])]));
        let older = pieces([Ok(&[8])]);
        let found = vec![rotten, malformed, trailing, panics, empty, good, older];
        assert_eq!(newest(found, &metrics), Some(First(7)));
        assert_eq!(metrics.lost_snapshots(), 5);
        assert_eq!(newest::<First>(vec![pieces([Ok(&[9, 9])])], &metrics), None);
        assert_eq!(metrics.lost_snapshots(), 6);
        let two = vec![3_u16, 4].to_bytes();
        let halves = pieces([Ok(&two[..3]), Ok(&two[3..])]);
        assert_eq!(newest(vec![halves], &metrics), Some(vec![3_u16, 4]));
    }
}
