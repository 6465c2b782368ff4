//! The log that production uses, under a simulated node.
//!
//! A disk keeps the books of [`super::Disk`] in any case: what was acknowledged and is not forgotten. Beside them there may
//! be this: the store of `testudo-wal` on a disk in memory, with every byte of it. Writes reach it when their flush is
//! through, and all of them before anybody hears of it. When power fails, those that were under way reach it in part: the
//! log is stopped at some step of its own work, and of what it had written since its last flush any choice of sectors
//! stays. When the node starts, what it finds is held against the books ([`super::opening`]).

use super::codec::Codec;
use super::faults::Failure;
use super::flawed::FlawedDisk;
use super::{Disk, Write};
use crate::host::Flaw;
use crate::rng::{Chance, Rng};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use testudo_core::{Incarnation, Position, Protocol, Rot, Tag, Tagged as _};
use testudo_wal::store::{Archive, Asked};
use testudo_wal::{Identity, Loaded, MemoryDisk, Options, Owner, Place, Store, Superblock};

/// Segments so short that a run begins many.
pub(super) const OPTIONS: Options =
    Options { segment_bytes: 16 << 10, record_limit: 64 << 20, salt: 0x7e57_ed0c };

/// A record's bytes as they were written, and where.
#[derive(Clone, Debug)]
pub(super) struct Stand {
    pub(super) place: Place,
    pub(super) frame: Vec<u8>,
}

/// A record that was to be written when the node stopped.
#[derive(Clone, Debug)]
pub(super) struct Unwritten {
    pub(super) position: Position,
    pub(super) tag: Tag,
    pub(super) bytes: Vec<u8>,
}

/// A real log, with the disk that it is on.
pub(super) struct Log<P: Protocol> {
    pub(super) codec: Codec<P>,
    pub(super) flaw: Option<Flaw>,
    pub(super) identity: Identity,
    pub(super) bytes: MemoryDisk,
    /// While the node runs.
    pub(super) store: Option<(Store<FlawedDisk>, Archive<FlawedDisk>)>,
    /// What chance there is at this disk comes from this, and from what is asked of the disk: no draw shifts another.
    pub(super) seed: u64,
    /// Whether anything was ever written here.
    pub(super) has_begun: bool,
    /// The records before this one may go.
    pub(super) forget: Option<Position>,
    /// The records that the books have, as they stand on the disk.
    pub(super) stands: BTreeMap<Position, Stand>,
    /// Where the last flush began.
    pub(super) last_flush: Position,
    /// The numbers of the newest snapshot and the one before it.
    pub(super) numbers: [Option<u64>; 2],
    /// Both copies of the superblock as they were written.
    pub(super) superblock: [Option<Vec<u8>>; 2],
    /// Copies of the superblock that were being written when power failed, and cannot be read before the next start.
    pub(super) torn_copies: [bool; 2],
    /// Whether the node may say that it has forgotten what it promised: both copies were lost once.
    pub(super) may_forget: bool,
    /// What the last life had not written when it ended.
    pub(super) unwritten: Vec<Unwritten>,
}

impl<P: Protocol> fmt::Debug for Log<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Another disk with the same bytes. A log that is open is opened again there.
impl<P: Protocol> Clone for Log<P> {
    fn clone(&self) -> Self {
        let mut copy = self.at_rest();
        if self.store.is_some() {
            // What opens here was open on the same bytes; nothing in memory is beyond them between two steps.
            copy.store = copy.open(Incarnation(0)).ok().map(|(store, _)| {
                let archive = store.archive();
                (store, archive)
            });
        }
        copy
    }
}

impl<P: Protocol> Log<P> {
    /// An empty one.
    pub(super) fn new(codec: Codec<P>, flaw: Option<Flaw>, seed: u64) -> Self {
        Self {
            codec,
            flaw,
            identity: Identity(*b"a simulated node"),
            bytes: MemoryDisk::new(),
            store: None,
            seed,
            has_begun: false,
            forget: None,
            stands: BTreeMap::new(),
            last_flush: Position(0),
            numbers: [None; 2],
            superblock: [const { None }; 2],
            torn_copies: [false; 2],
            may_forget: false,
            unwritten: Vec::new(),
        }
    }

    /// The same with nothing on its disk.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.codec, self.flaw, self.seed)
    }

    /// What is durable here now, on a disk of its own.
    pub(super) fn at_rest(&self) -> Self {
        Self {
            bytes: self.bytes.duplicate(),
            store: None,
            has_begun: self.has_begun,
            stands: self.stands.clone(),
            last_flush: self.last_flush,
            numbers: self.numbers,
            superblock: self.superblock.clone(),
            torn_copies: self.torn_copies,
            may_forget: self.may_forget,
            ..self.emptied()
        }
    }

    pub(super) fn disk(&self) -> FlawedDisk {
        FlawedDisk { bytes: self.bytes.clone(), flaw: self.flaw }
    }

    pub(super) fn open(
        &self,
        last: Incarnation,
    ) -> Result<(Store<FlawedDisk>, testudo_wal::store::Found), Failure> {
        let owner = Owner { identity: self.identity, had_data: self.has_begun, last };
        Store::open(self.disk(), owner, OPTIONS).map_err(|error| error.to_string().into())
    }

    /// Carries writes out in their order, as production's journal does: records before a promise are flushed first.
    pub(super) fn write<'a>(
        &mut self,
        writes: impl Iterator<Item = &'a Write<P::Record>>,
    ) -> Result<(), Failure>
    where
        P::Record: 'a,
    {
        let Some((mut store, archive)) = self.store.take() else { return Ok(()) };
        let done = self.carry_out(&mut store, writes);
        self.store = Some((store, archive));
        done.map_err(|error| error.to_string().into())
    }

    fn carry_out<'a>(
        &mut self,
        store: &mut Store<FlawedDisk>,
        writes: impl Iterator<Item = &'a Write<P::Record>>,
    ) -> Result<(), testudo_wal::StorageError>
    where
        P::Record: 'a,
    {
        if let Some(before) = self.forget.take() {
            store.forget(before)?;
            self.stands = self.stands.split_off(&before);
            self.note_superblock();
        }
        let mut pending = Vec::new();
        for write in writes {
            match write {
                Write::Record(position, record) => {
                    store.append(*position, record.tag(), &(self.codec.encode)(record))?;
                    pending.push(*position);
                }
                Write::Promise(promise) => {
                    self.flush(store, &mut pending)?;
                    store.promise(*promise)?;
                    self.note_superblock();
                }
            }
        }
        self.flush(store, &mut pending)?;
        store.idle()
    }

    fn flush(
        &mut self,
        store: &mut Store<FlawedDisk>,
        pending: &mut Vec<Position>,
    ) -> Result<(), testudo_wal::StorageError> {
        let Some(first) = pending.first().copied() else { return Ok(()) };
        store.flush()?;
        self.last_flush = first;
        for position in pending.drain(..) {
            self.note_record(store, position);
        }
        Ok(())
    }

    /// Takes down how a record stands on the disk.
    pub(super) fn note_record(&mut self, store: &Store<FlawedDisk>, position: Position) {
        let Some(place) = store.whereabouts(position) else { return };
        if let Some(frame) = self.read(&place) {
            self.stands.insert(position, Stand { place, frame });
        }
    }

    /// The bytes at a place, as they are now.
    pub(super) fn read(&self, place: &Place) -> Option<Vec<u8>> {
        use testudo_wal::{Disk as _, DiskFile as _};
        let mut frame = vec![0; (place.frame.end - place.frame.start) as usize];
        let file = self.bytes.open(&place.segment).ok()?;
        file.read_at(place.frame.start, &mut frame).ok()?;
        Some(frame)
    }

    /// Takes down how the superblock stands on the disk.
    pub(super) fn note_superblock(&mut self) {
        self.superblock = ["superblock.a", "superblock.b"].map(|name| self.bytes.get(name));
    }

    /// Reads everything again, and writes the superblock anew.
    pub(super) fn scrub(&mut self) -> Result<Vec<Rot>, Failure> {
        let Some((store, _)) = &mut self.store else { return Ok(Vec::new()) };
        let look = store.scrub(u64::MAX).and_then(|look| store.refresh().map(|()| look));
        let look = look.map_err(|error| Failure::from(error.to_string()))?;
        self.note_superblock();
        Ok(look.rot)
    }

    /// A record, read back.
    pub(super) fn recall(&self, position: Position) -> Option<P::Record> {
        let (store, _) = self.store.as_ref()?;
        match store.read(position) {
            Ok(Asked::Record(bytes)) => (self.codec.decode)(&bytes),
            _ => None,
        }
    }

    /// Writes a snapshot. It is durable when this returns.
    pub(super) fn archive(&mut self, snapshot: &P::Snapshot) -> Result<(), Failure> {
        let Some((store, archive)) = &mut self.store else { return Ok(()) };
        let pieces = self.codec.pieces;
        archive
            .write(&mut |put| pieces(snapshot, put))
            .map_err(|error| Failure::from(error.to_string()))?;
        let mut numbers = store.snapshots().list().unwrap_or_default().into_iter().rev();
        self.numbers = [numbers.next(), numbers.next()];
        Ok(())
    }

    /// The power fails. The first `keep` writes reach the disk all the same; of those after them, and of a snapshot that
    /// was being written, any part may. Says whether the first ones did.
    pub(super) fn crash(
        &mut self,
        writes: &VecDeque<Write<P::Record>>,
        keep: usize,
        snapshot: Option<&P::Snapshot>,
    ) -> bool {
        let end = self.stands.keys().next_back().map_or(0, |last| last.0 + 1);
        let mut rng = Rng::split(self.seed, "tear", (end << 16) + writes.len() as u64);
        let is_kept = keep == 0 || self.write(writes.iter().take(keep)).is_ok();
        let books = (self.stands.clone(), self.last_flush, self.numbers);
        if is_kept && rng.below(3) > 0 {
            self.bytes.fail_after(Some(rng.below(8)));
            // Whether it was carried out is what nobody is told.
            let _ = self.write(writes.iter().skip(keep));
        }
        if let Some(snapshot) = snapshot
            && rng.below(2) == 0
        {
            self.bytes.fail_after(Some(rng.below(6)));
            let _ = self.archive(snapshot);
        }
        // The books know of nothing that was not acknowledged.
        (self.stands, self.last_flush, self.numbers) = books;
        self.forget = None;
        self.unwritten = writes.iter().filter_map(|write| self.unwritten(write)).collect();
        self.store = None;
        self.bytes.fail_after(None);
        // What was torn was refused by no fault.
        let _ = self.bytes.take_refusal();
        self.bytes.crash(&mut |bound| rng.below(bound));
        self.note_superblock();
        self.torn_copies = [0, 1].map(|index| !self.is_readable(index));
        is_kept
    }

    /// Whether a copy of the superblock can be read by itself.
    fn is_readable(&self, index: usize) -> bool {
        let alone = MemoryDisk::new();
        if let Some(bytes) = &self.superblock[index] {
            alone.put(["superblock.a", "superblock.b"][index], bytes);
        }
        let opened = Superblock::open(alone, "superblock", self.identity);
        matches!(opened, Ok((_, Loaded::Present { .. })))
    }

    fn unwritten(&self, write: &Write<P::Record>) -> Option<Unwritten> {
        let Write::Record(position, record) = write else { return None };
        let bytes = (self.codec.encode)(record);
        Some(Unwritten { position: *position, tag: record.tag(), bytes })
    }
}

impl<P: Protocol> Disk<P> {
    /// From now on there is a real log here, empty at first.
    pub(crate) fn keep_log(&mut self, codec: Codec<P>, flaw: Option<Flaw>, seed: u64) {
        self.log = Some(Box::new(Log::new(codec, flaw, seed)));
    }

    /// Whether there is a real log here.
    #[must_use]
    pub const fn has_log(&self) -> bool {
        self.log.is_some()
    }
}
