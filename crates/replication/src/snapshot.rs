//! Snapshots: the state of a stable checkpoint, with all that a replica needs beside it to go on from there.
//!
//! A snapshot is an O(1) clone that is written in the background. What is read back proves itself: the maps are what the
//! head says, and the head is what the certificate says. One that does not is as good as none, as the log still has all
//! that it stands for; so the same goes for one of another version of the service.
//!
//! It need not be exact about where the log is. Records that it covers are harmless: the ordering's only repeat what it
//! says, and of the bodies before [`Snapshot::logged`] those that it does not name were executed.

use crate::executor::Replicated;
use crate::feed::Head;
use crate::replica::{Fx, Replica};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use testudo_contracts::{Ordering, Service, StableCheckpoint};
use testudo_core::{Decode, DecodeError, Digest, Encode, Position, Reader, Slot, limits};
use testudo_state::{Import, Map};

/// Bytes that an ordering writes for one slot, about, beside the batch. They count for when a snapshot is due.
const SLOT_BYTES: u64 = 2048;

/// Bytes of an entry beside its key and value, about.
const ENTRY_BYTES: u64 = 16;

/// The state of a stable checkpoint, and what a replica needs to go on from it. `P` is the ordering's part.
#[derive(Clone)]
pub struct Snapshot<P> {
    /// What the ordering remembers.
    pub(crate) order: P,
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
        Ok(Self { order, certificate, head, logged, pending, state })
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

/// When the next snapshot is due.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshots {
    /// The slot of the last that was asked for or started from.
    pub(crate) slot: Slot,
    /// Bytes that the log has taken for what was executed since, about.
    logged: u64,
}

impl Snapshots {
    /// A slot with these bytes of bodies was executed.
    pub(crate) const fn executed(&mut self, bytes: u64) {
        self.logged = self.logged.saturating_add(bytes).saturating_add(SLOT_BYTES);
    }

    /// The state was not executed from what the log has: a snapshot is due at once.
    pub(crate) const fn demand(&mut self) {
        *self = Self { slot: Slot(0), logged: u64::MAX };
    }
}

impl<O: Ordering, S: Service> Replica<O, S> {
    /// The ordering knows of the stable checkpoint: has a snapshot of it written, if it saves enough of the log from being
    /// executed again.
    pub(crate) fn snapshot_if_due(&mut self, fx: &mut Fx<'_, O, S>) {
        let Some(served) = self.serving.latest() else { return };
        let slot = served.head.slot;
        let maps = [served.state.system.map(), &served.state.map];
        let size: u64 = maps.map(|map| map.bytes() + map.len() as u64 * ENTRY_BYTES).iter().sum();
        if slot <= self.snapshots.slot
            || self.snapshots.logged <= size.max(self.config.snapshot_bytes)
        {
            return;
        }
        // What was executed since is not covered either.
        let mut pending: BTreeSet<Digest> = self.bodies.keys().copied().collect();
        for later in slot.0 + 1..=self.state.slot.0 {
            let Some(executed) = self.recent.get(Slot(later)) else { return };
            pending.extend(&executed.batch.bundles);
        }
        let snapshot = Snapshot {
            order: self.order.snapshot(slot),
            certificate: served.certificate.clone(),
            head: served.head,
            logged: self.checkpoints.logged(),
            pending: Arc::new(pending),
            state: served.state.clone(),
        };
        fx.snapshot(snapshot);
        self.snapshots = Snapshots { slot, logged: 0 };
    }
}
