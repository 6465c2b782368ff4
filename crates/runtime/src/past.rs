//! What an automaton remembers, read from what its storage held.

use crate::host::{Driven, Fatal};
use crate::metrics::Metrics;
use crate::storage::{Recovered, SnapshotReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use testudo_core::{Decode, Past};
use testudo_wal::store::{Kept, PastError, Taken, read_whole, take_up};

/// What the automaton is started from. Snapshots that cannot be believed are reported.
///
/// # Errors
/// When the log holds what is no record of the automaton's, or the disk fails.
pub(crate) fn past<P: Driven>(
    recovered: Recovered,
    metrics: &Metrics,
) -> Result<Past<P::Snapshot, P::Record>, Fatal> {
    let Recovered { promise, snapshots, forgotten, records, lost, next } = recovered;
    let kept = Kept { promise, snapshots, records, lost, forgotten, next };
    let taken = take_up::<P, _>(kept, read, |problem| report(metrics, &problem));
    let Taken { past, is_state_lost } = taken.map_err(|error| match error {
        PastError::Storage(error) => Fatal::Storage(error),
        PastError::Form(..) => Fatal::Recovery(error.to_string()),
    })?;
    metrics.found_lost(past.lost.len() - usize::from(is_state_lost));
    if is_state_lost {
        tracing::error!(
            "the records before {forgotten} are forgotten, and the snapshot that stood for them is lost: this replica has \
             the state from others, and votes on no slot on which it may have voted before",
        );
    }
    Ok(past)
}

fn report(metrics: &Metrics, problem: &str) {
    metrics.snapshots_lost.inc();
    tracing::error!("a snapshot is lost, and an older one or none is used: {problem}");
}

fn read<S: Decode>(mut reader: Box<dyn SnapshotReader>) -> Result<S, String> {
    let name = format!("{reader:?}");
    // What is on the disk is not ours until it is proved: a decoder that trips over it must not take the replica along.
    let read = catch_unwind(AssertUnwindSafe(|| read_whole(|| reader.next())));
    match read {
        Ok(Ok(snapshot)) => {
            tracing::info!(snapshot = name, "starting from a snapshot");
            Ok(snapshot)
        }
        Ok(Err(problem)) => Err(format!("{name}: {problem}")),
        Err(_) => Err(format!("{name}: reading it panicked")),
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

    fn newest<S: Decode>(found: Vec<Box<dyn SnapshotReader>>, metrics: &Metrics) -> Option<S> {
        found
            .into_iter()
            .find_map(|reader| read(reader).map_err(|problem| report(metrics, &problem)).ok())
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
