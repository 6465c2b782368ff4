//! Snapshots: the state of a stable checkpoint, with all that a replica needs beside it to go on from there.
//!
//! A snapshot is an O(1) clone that is written in the background. What is read back proves itself: the maps are what the
//! head says, and the head is what the certificate says. One that does not is as good as none.
//!
//! It covers the log up to where that was when it was taken. Records that it covers are harmless: the ordering's only
//! repeat what it says, and of the bodies before [`Snapshot::logged`] those that it does not name were executed. What neither
//! the last snapshot nor the one before it needs is forgotten: so two stretches of the log lie on the disk, the one since the
//! last snapshot, and the one before that, for laggards who lack decisions and for a start at which the last snapshot cannot
//! be read; and a little more, from the first body on that the older snapshot names and has not executed. What lies before
//! that and still matters is in the snapshot, or is written again (`forgetting`).

use crate::executor::Replicated;
use crate::feed::Head;
use crate::succession::Succession;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use testudo_contracts::StableCheckpoint;
use testudo_core::{Decode, DecodeError, Digest, Encode, Epoch, Position, Reader, Slot, limits};
use testudo_state::{Import, Map};

/// The state of a stable checkpoint, and what a replica needs to go on from it. `P` is the ordering's part.
#[derive(Clone)]
pub struct Snapshot<P> {
    /// What the ordering remembers of its epoch.
    pub(crate) order: P,
    /// That epoch.
    pub(crate) epoch: Epoch,
    /// What led to it from the first.
    pub(crate) successions: Arc<Vec<Succession>>,
    /// What certifies the head.
    pub(crate) certificate: StableCheckpoint,
    pub(crate) head: Head,
    /// Where the log was when it was taken: bodies at and after this position are not covered.
    pub(crate) logged: Position,
    /// The bodies before that position that were not executed by the head's slot. Others may be among them.
    pub(crate) pending: Arc<BTreeSet<Digest>>,
    pub(crate) state: Replicated,
}

impl<P> Snapshot<P> {
    /// The slot of its checkpoint.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.head.slot
    }

    /// Whether it has the effects of the bundle with this digest whose body lies there.
    pub(crate) fn covers(&self, position: Position, bundle: &Digest) -> bool {
        position < self.logged && !self.pending.contains(bundle)
    }
}

impl<P> fmt::Debug for Snapshot<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({:?}, {} pending)", self.head.slot, self.pending.len())
    }
}

impl<P: Encode> Snapshot<P> {
    /// Everything but the maps' entries.
    fn preface(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.order.encode(&mut out);
        self.epoch.encode(&mut out);
        self.successions.encode(&mut out);
        self.certificate.encode(&mut out);
        self.head.encode(&mut out);
        self.logged.encode(&mut out);
        testudo_core::codec::encode_length(self.pending.len(), &mut out);
        self.pending.iter().for_each(|digest| digest.encode(&mut out));
        out
    }
}

impl<P: Encode> Encode for Snapshot<P> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.pieces(&mut |piece| {
            testudo_core::codec::encode_bytes(piece, out);
            true
        });
    }

    /// First everything but the entries, then the entries of the two maps: so many in each piece as there is room for,
    /// and at the end of each map an empty piece.
    fn pieces(&self, put: &mut dyn FnMut(&[u8]) -> bool) {
        let _ = put(&self.preface())
            && entry_pieces(self.state.system.map(), put)
            && entry_pieces(&self.state.map, put);
    }
}

/// Hands out the entries of a map, and an empty piece after the last.
fn entry_pieces(map: &Map, put: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let mut piece = Vec::new();
    for (key, value) in map.iter() {
        key.encode(&mut piece);
        value.encode(&mut piece);
        if piece.len() >= limits::CHUNK_BYTES {
            if !put(&piece) {
                return false;
            }
            piece.clear();
        }
    }
    (piece.is_empty() || put(&piece)) && put(&[])
}

/// What is read is read, and verified, piece by piece.
impl<P: Decode> Decode for Snapshot<P> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut failure = None;
        let snapshot = Self::from_pieces(&mut || match reader.bytes() {
            Ok(piece) => Some(piece.to_vec()),
            Err(error) => {
                failure = Some(error);
                None
            }
        });
        failure.map_or(snapshot, Err)
    }

    fn from_pieces(next: &mut dyn FnMut() -> Option<Vec<u8>>) -> Result<Self, DecodeError> {
        let preface = next().ok_or(DecodeError::Truncated)?;
        let mut reader = Reader::new(&preface);
        let order = P::decode(&mut reader)?;
        let epoch = Epoch::decode(&mut reader)?;
        let successions = Vec::<Succession>::decode(&mut reader)?;
        if successions.len() as u64 != epoch.0 {
            return Err(DecodeError::Unknown("number of successions"));
        }
        let successions = Arc::new(successions);
        let certificate = StableCheckpoint::decode(&mut reader)?;
        let head = Head::decode(&mut reader)?;
        let logged = Position::decode(&mut reader)?;
        let pending = Vec::<Digest>::decode(&mut reader)?;
        reader.finish()?;
        if !pending.is_sorted_by(|a, b| a < b) {
            return Err(DecodeError::Unknown("order of pending bodies"));
        }
        let pending = Arc::new(pending.into_iter().collect());
        let checkpoint = certificate.statement();
        if (checkpoint.slot, checkpoint.state) != (head.slot, head.digest()) {
            return Err(DecodeError::Unknown("head of a certified state"));
        }
        let (system, service) = (read_entries(next)?, read_entries(next)?);
        let state = Replicated::from_parts(&head, system, service)
            .ok_or(DecodeError::Unknown("state with the digests of its head"))?;
        Ok(Self { order, epoch, successions, certificate, head, logged, pending, state })
    }
}

/// Reads a map up to its empty piece.
fn read_entries(next: &mut dyn FnMut() -> Option<Vec<u8>>) -> Result<Map, DecodeError> {
    let (mut import, mut last) = (Import::new(), None::<Arc<[u8]>>);
    loop {
        let piece = next().ok_or(DecodeError::Truncated)?;
        if piece.is_empty() {
            return Ok(import.finish());
        }
        let mut reader = Reader::new(&piece);
        while reader.remaining() > 0 {
            let key = Arc::<[u8]>::decode(&mut reader)?;
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(DecodeError::Unknown("order of keys"));
            }
            import.push(&key, Arc::decode(&mut reader)?);
            last = Some(key);
        }
    }
}
