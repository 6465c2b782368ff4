//! What turns an automaton's records and snapshots into bytes and back, where a node keeps a real log.

use super::flawed::FlawedDisk;
use std::fmt;
use testudo_core::{Decode, Encode, Past, Position, Protocol};
use testudo_wal::Store;
use testudo_wal::store::{Asked, Found, Kept, read_whole, take_up};

/// Takes the pieces of a snapshot, and says false when it takes no more.
type Put<'a> = &'a mut dyn FnMut(&[u8]) -> bool;

/// The binary forms of what an automaton keeps.
pub struct Codec<P: Protocol> {
    pub(super) encode: fn(&P::Record) -> Vec<u8>,
    pub(super) decode: fn(&[u8]) -> Option<P::Record>,
    pub(super) pieces: fn(&P::Snapshot, Put<'_>),
    pub(super) read: fn(&Store<FlawedDisk>, Found) -> Result<ReadBack<P>, String>,
}

impl<P: Protocol> Clone for Codec<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Protocol> Copy for Codec<P> {}

impl<P: Protocol> fmt::Debug for Codec<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

/// What a log that was opened held.
pub(super) struct ReadBack<P: Protocol> {
    pub(super) past: Past<P::Snapshot, P::Record>,
    /// Every record that could be read, as it stood there.
    pub(super) records: Vec<(Position, Vec<u8>)>,
    /// The number of the snapshot that the past begins with.
    pub(super) snapshot: Option<u64>,
}

impl<P> Codec<P>
where
    P: Protocol<Record: Encode + Decode, Snapshot: Encode + Decode>,
{
    /// The forms that production uses.
    #[must_use]
    pub fn new() -> Self {
        Self {
            encode: |record| record.to_bytes(),
            decode: |bytes| P::Record::from_bytes(bytes).ok(),
            pieces: |snapshot, put| snapshot.pieces(put),
            read: read::<P>,
        }
    }
}

impl<P> Default for Codec<P>
where
    P: Protocol<Record: Encode + Decode, Snapshot: Encode + Decode>,
{
    fn default() -> Self {
        Self::new()
    }
}

fn read<P>(store: &Store<FlawedDisk>, found: Found) -> Result<ReadBack<P>, String>
where
    P: Protocol<Record: Encode + Decode, Snapshot: Encode + Decode>,
{
    let mut records = Vec::new();
    let mut all = Vec::new();
    for position in (found.first.0..found.next.0).map(Position) {
        let read = match store.read(position).map_err(|error| error.to_string())? {
            Asked::Record(bytes) => Some(bytes),
            Asked::Absent | Asked::Damaged => None,
            Asked::Unreadable(why) => return Err(why),
        };
        records.extend(read.iter().map(|bytes| (position, bytes.clone())));
        all.push(Ok((position, read)));
    }
    let Found { promise, snapshots, forgotten, next, lost, .. } = found;
    let kept = Kept { promise, snapshots, records: all, lost, forgotten, next };
    let mut used = None;
    let files = store.snapshots();
    let read = |number: u64| {
        let mut reader = files.read(number).map_err(|error| error.to_string())?;
        let snapshot = read_whole(|| reader.next_chunk())?;
        used = Some(number);
        Ok(snapshot)
    };
    let taken = take_up::<P, u64>(kept, read, drop).map_err(|error| error.to_string())?;
    Ok(ReadBack { past: taken.past, records, snapshot: used })
}
