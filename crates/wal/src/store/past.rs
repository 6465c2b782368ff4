//! What an automaton remembers, read from what its store held.
//!
//! One snapshot that does not read back whole, or whose contents do not prove themselves, is passed over for an older one, or
//! for none. Where the log has not all that it stood for, the automaton is told that something is lost, and goes on from
//! what there is: its promise is intact, and the rest it can have from others.
//!
//! The log is read record by record, and of each only what the automaton wants to keep beside the snapshot is held.

use super::StorageError;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use testudo_core::{Decode, DecodeError, Lost, Past, Position, Promise, Protocol};

/// What a store held, as it is read.
#[derive(Debug)]
pub struct Kept<S, R> {
    /// The superblock's content.
    pub promise: Option<Promise>,
    /// The snapshots that are there, the newest first.
    pub snapshots: S,
    /// The records that are durable and not forgotten, in order; none in place of one that is there and cannot be read.
    pub records: R,
    /// Records that were durable and cannot be read any more.
    pub lost: Vec<Lost>,
    /// Records before this one were let go of.
    pub forgotten: Position,
    /// The position of the next record.
    pub next: Position,
}

/// What an automaton is started from, and what is to be told of it.
#[derive(Debug)]
pub struct Taken<S, R> {
    /// What it is started from.
    pub past: Past<S, R>,
    /// Whether the records before a snapshot are forgotten, and the snapshot is lost.
    pub is_state_lost: bool,
}

/// Why there is no past to start from.
#[derive(Debug)]
pub enum PastError {
    /// The disk failed.
    Storage(StorageError),
    /// The record at this position was read back, and is no record of the automaton's.
    Form(Position, DecodeError),
}

impl fmt::Display for PastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => write!(f, "{error}"),
            Self::Form(position, error) => {
                write!(f, "the record at {position} is of another form: {error}")
            }
        }
    }
}

impl core::error::Error for PastError {}

/// What a step of reading gives: a record, or none where it cannot be read.
type Read = Result<(Position, Option<Vec<u8>>), StorageError>;

/// What the automaton is started from. `read` reads one snapshot, or says what is wrong with it; what it trips over is for
/// it to bear, as what is on the disk is not ours until it is proved.
///
/// # Errors
/// When the log holds what is no record of the automaton's, or the disk fails.
pub fn take_up<P, S>(
    kept: Kept<impl IntoIterator<Item = S>, impl IntoIterator<Item = Read>>,
    mut read: impl FnMut(S) -> Result<P::Snapshot, String>,
    mut lost_snapshot: impl FnMut(String),
) -> Result<Taken<P::Snapshot, P::Record>, PastError>
where
    P: Protocol<Record: Decode>,
{
    let Kept { promise, snapshots, records: found, mut lost, forgotten, next } = kept;
    let mut snapshots = snapshots.into_iter();
    let snapshot = snapshots.find_map(|snapshot| read(snapshot).map_err(&mut lost_snapshot).ok());
    let mut records = Vec::new();
    for read in found {
        let (position, bytes) = read.map_err(PastError::Storage)?;
        let Some(bytes) = bytes else {
            if !lost.iter().any(|lost| lost.position == position) {
                lost.push(Lost { position, tag: None });
            }
            continue;
        };
        let record =
            P::Record::from_bytes(&bytes).map_err(|error| PastError::Form(position, error))?;
        let kept = P::keep(snapshot.as_ref(), position, record);
        records.extend(kept.map(|record| (position, record)));
    }
    lost.sort_unstable();
    let covered = snapshot.as_ref().map_or(Position(0), P::covered);
    let is_state_lost = covered < forgotten;
    if is_state_lost {
        // After all that there is: whatever slots that goes to, what is lost may have been about as many more.
        lost.push(Lost { position: next, tag: None });
    }
    Ok(Taken { past: Past { promise, snapshot, records, lost }, is_state_lost })
}

/// Reads one snapshot to its end, as only then it is known to be whole.
///
/// # Errors
/// What is wrong with it.
pub fn read_whole<S: Decode, E: fmt::Display>(
    mut piece: impl FnMut() -> Result<Option<Vec<u8>>, E>,
) -> Result<S, String> {
    let mut failure = None;
    let mut is_over = false;
    let mut next = || {
        if is_over {
            return None;
        }
        let piece = piece().unwrap_or_else(|error| {
            failure = Some(error);
            None
        });
        is_over = piece.is_none();
        piece
    };
    let decoded = S::from_pieces(&mut next);
    let is_more = decoded.is_ok() && next().is_some();
    match (failure, decoded) {
        (Some(failure), _) => Err(alloc::format!("{failure}")),
        (None, Err(error)) => Err(alloc::format!("it does not prove itself: {error}")),
        (None, Ok(_)) if is_more => Err("something follows its end".into()),
        (None, Ok(snapshot)) => Ok(snapshot),
    }
}
