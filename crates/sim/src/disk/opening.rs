//! A node starts: what its log finds is held against the books.
//!
//! The books know what was acknowledged, what has come to harm since by the bytes that changed, and what was under way when
//! the power failed. So a log is right if every record that stands whole comes back as it was, if nothing comes back that
//! was never written, and if a loss is told wherever the bytes say that there was one. That is judged by an oracle
//! ([`crate::oracle::Keeping`]), from the event that tells it.

use super::Disk;
use super::codec::ReadBack;
use super::faults::Failure;
use super::log::Log;
use crate::event::Salvage;
use crate::host::Flaw;
use std::collections::{BTreeMap, BTreeSet};
use testudo_core::{Incarnation, Past, Position, Protocol};
use testudo_wal::Store;
use testudo_wal::store::Found;

/// What a node starts from: its past, the position of its next record, and what a real log found.
pub(crate) type Opening<P> =
    (Past<<P as Protocol>::Snapshot, <P as Protocol>::Record>, Position, Option<Salvage>);

impl<P: Protocol> Disk<P> {
    /// What a driver does when it starts. `last` is the incarnation that it may have spoken as last.
    pub(crate) fn open(
        &mut self,
        last: Incarnation,
        flaw: Option<Flaw>,
    ) -> Result<Opening<P>, Failure> {
        let Some(mut log) = self.log.take() else {
            if flaw == Some(Flaw::Truncates) {
                self.truncate();
            }
            self.mend();
            let (past, end) = self.past();
            return Ok((past, end, None));
        };
        let opened = self.open_log(&mut log, last);
        if opened.is_err() {
            self.faults.fired(&log.bytes);
        }
        self.log = Some(log);
        opened
    }

    fn open_log(&mut self, log: &mut Log<P>, last: Incarnation) -> Result<Opening<P>, Failure> {
        if log.flaw == Some(Flaw::Truncates) {
            log.truncate();
        }
        let (mut store, mut found) = log.open(last)?;
        if log.flaw == Some(Flaw::AcceptsTorn) {
            accept_torn(log, &mut store, &mut found)?;
        }
        let back = (log.codec.read)(&store, found.clone()).map_err(Failure::from)?;
        let is_lost = log.superblock.iter().any(Option::is_some) && self.promise().is_none();
        log.may_forget = found.has_forgotten && (log.may_forget || is_lost);
        let salvage = self.compare(log, &found, &back);
        self.rebuild(log, &store, &found, &back);
        let archive = store.archive();
        log.store = Some((store, archive));
        log.has_begun = true;
        log.unwritten.clear();
        Ok((back.past, found.next, Some(salvage)))
    }

    /// Holds what was found against the books.
    fn compare(&self, log: &Log<P>, found: &Found, back: &ReadBack<P>) -> Salvage {
        let read: BTreeMap<Position, &[u8]> =
            back.records.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
        let told: BTreeSet<Position> = found.lost.iter().map(|lost| lost.position).collect();
        let mut salvage = Salvage {
            torn: found.log.torn_bytes,
            mended: found.log.mended + u64::from(found.is_superblock_mended),
            lost: found.lost.len() as u64,
            ..Salvage::default()
        };
        for (position, record) in &self.records {
            match read.get(position) {
                Some(bytes) if (log.codec.encode)(record) == *bytes => {}
                Some(_) => salvage.altered += 1,
                None if log.may_forget && *position < found.forgotten => {}
                None if told.contains(position) => salvage.condemned += 1,
                None => salvage.missing += 1,
            }
        }
        for (position, bytes) in read.range(self.end..) {
            let mut asked = log.unwritten.iter().filter(|asked| asked.position == *position);
            if !asked.any(|asked| asked.bytes == *bytes) {
                salvage.altered += 1;
            }
        }
        let newest = self.snapshot.as_ref().and(log.numbers[0]);
        let readable = newest.or(self.older.as_ref().and(log.numbers[1]));
        salvage.missing += u64::from(back.snapshot < readable);
        salvage.missing += u64::from(!log.may_forget && found.promise < self.promise());
        salvage
    }

    /// From now on the books say what was found.
    fn rebuild(
        &mut self,
        log: &mut Log<P>,
        store: &Store<super::flawed::FlawedDisk>,
        found: &Found,
        back: &ReadBack<P>,
    ) {
        let decode = |(at, bytes): &(Position, Vec<u8>)| Some((*at, (log.codec.decode)(bytes)?));
        self.records = back.records.iter().filter_map(decode).collect();
        let lost = found.lost.iter().filter(|lost| lost.position < found.next);
        self.lost = lost.map(|lost| (lost.position, lost.tag)).collect();
        self.unwritten.clear();
        self.copies = [found.promise; 2];
        self.rebuild_snapshots(log, found, back);
        log.last_flush = log.last_flush.min(self.end).min(found.next);
        (self.floor, self.end) = (found.forgotten, found.next);
        log.stands.clear();
        for (position, _) in &back.records {
            log.note_record(store, *position);
        }
        log.note_superblock();
        log.torn_copies = [false; 2];
    }

    fn rebuild_snapshots(&mut self, log: &mut Log<P>, found: &Found, back: &ReadBack<P>) {
        let [newest, older] = log.numbers;
        let mut known: BTreeMap<u64, P::Snapshot> = BTreeMap::new();
        known.extend(newest.zip(self.snapshot.take()));
        known.extend(older.zip(self.older.take()));
        known.extend(back.snapshot.zip(back.past.snapshot.clone()));
        let mut numbers = found.snapshots.iter().copied();
        log.numbers = [numbers.next(), numbers.next()];
        let [newest, older] = log.numbers.map(|number| known.remove(&number?));
        (self.snapshot, self.older) = (newest, older);
    }
}

/// What no log should do: a record that was written in part is taken for whole.
fn accept_torn<P: Protocol>(
    log: &Log<P>,
    store: &mut Store<super::flawed::FlawedDisk>,
    found: &mut Found,
) -> Result<(), Failure> {
    let torn = log.unwritten.iter().find(|record| record.position == found.next);
    let Some(torn) = torn.filter(|_| found.log.torn_bytes > 0) else { return Ok(()) };
    let mut bytes = torn.bytes.clone();
    let half = bytes.len() / 2;
    bytes[half..].fill(0);
    store
        .append(torn.position, torn.tag, &bytes)
        .and_then(|()| store.flush())
        .map_err(|error| Failure::from(error.to_string()))?;
    found.next = found.next.next();
    Ok(())
}

impl<P: Protocol> Log<P> {
    /// What no log should do: it ends before the first record that cannot be read, whatever stands behind that.
    fn truncate(&mut self) {
        use testudo_wal::Disk as _;
        let copy = self.bytes.duplicate();
        let opened = testudo_wal::Log::open(copy, self.identity, super::log::OPTIONS);
        let Ok((_, recovered)) = opened else { return };
        let Some(first) = recovered.damaged.first() else { return };
        let Ok(names) = self.bytes.list() else { return };
        let later = |name: &&String| name.starts_with("log-") && **name > first.segment;
        for name in names.iter().filter(later) {
            let _ = self.bytes.remove(name);
        }
        let _ = self.bytes.flush();
        if let Some(bytes) = self.bytes.get(&first.segment) {
            let rest = bytes.len().saturating_sub(first.offset as usize);
            self.bytes.rot(&first.segment, first.offset, &vec![0; rest]);
        }
    }
}
