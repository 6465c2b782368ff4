//! Harm to the bytes of a real log, and what it comes to.
//!
//! What has come to harm is seen from the bytes themselves and not by asking the log: a record stands whole while its
//! payload and one of its edges are what was written. Zeros in the last flush, though, look like sectors that were never
//! written; there the log may say what is lost, or take it for an unfinished write, and the books take both for right.

use super::Disk;
use super::log::{Log, Stand};
use crate::rng::{Chance, Rng};
use testudo_core::{Position, Protocol, Tag, Tagged as _};
use testudo_wal::Disk as _;

const SECTOR: u64 = 512;
/// Where a sector cannot be read nothing of its page can be read.
const PAGE: u64 = 4096;

/// What became of a record's bytes.
enum Bytes {
    Whole,
    /// It cannot be read; whether an edge is left, which has its tag.
    Broken(bool),
}

impl Stand {
    fn judge(&self, now: Option<&[u8]>) -> Bytes {
        let edge = (self.place.payload - self.place.frame.start) as usize;
        let Some(now) = now else { return Bytes::Broken(false) };
        let last = self.frame.len() - edge;
        let has_edge = now[..edge] == self.frame[..edge] || now[last..] == self.frame[last..];
        if has_edge && now[edge..last] == self.frame[edge..last] {
            Bytes::Whole
        } else {
            Bytes::Broken(has_edge)
        }
    }
}

fn noise(rng: &mut Rng, length: u64) -> Vec<u8> {
    // No byte is zero: whatever this is, it is no sector that was never written.
    (0..length).map(|_| rng.next() as u8 | 1).collect()
}

impl<P: Protocol> Log<P> {
    /// A record's payload changes, or all of it.
    pub(super) fn rot(&mut self, position: Position, keeps_tag: bool) {
        let Some(Stand { place, .. }) = self.stands.get(&position).cloned() else { return };
        let (begin, length) = (place.frame.start, place.frame.end - place.frame.start);
        if keeps_tag {
            // The payload is padded at its end, which nobody checks; its beginning is its own.
            self.bytes.flip_bit(&place.segment, place.payload * 8 + position.0 % 8);
        } else {
            let noise = noise(&mut Rng::new(position.0), length);
            self.bytes.rot(&place.segment, begin, &noise);
        }
    }

    /// What should have been written at the place of a record was not.
    pub(super) fn lose(&mut self, position: Position) {
        let Some(Stand { place, frame }) = self.stands.get(&position) else { return };
        self.bytes.rot(&place.segment, place.frame.start, &vec![0; frame.len()]);
    }

    /// What should have been written at the place of one record was written over another.
    pub(super) fn misdirect(&mut self, from: Position, onto: Position) {
        let (Some(one), Some(other)) = (self.stands.get(&from), self.stands.get(&onto)) else {
            return;
        };
        let length = one.frame.len().min(other.frame.len());
        self.bytes.rot(&other.place.segment, other.place.frame.start, &one.frame[..length]);
        self.lose(from);
    }

    /// The first or the second copy of the superblock cannot be read any more.
    pub(super) fn lose_copy(&mut self, second: bool) {
        let name = if second { "superblock.b" } else { "superblock.a" };
        self.bytes.rot(name, 0, &noise(&mut Rng::new(0), 64));
    }

    /// The snapshot with this number cannot be read any more.
    pub(super) fn rot_snapshot(&mut self, number: u64) {
        let name = snapshot_name(number);
        let bits = self.bytes.get(&name).map_or(0, |bytes| bytes.len() as u64 * 8);
        let bit = Rng::split(self.seed, "snapshot", number).below(bits.max(1));
        self.bytes.flip_bit(&name, bit);
    }

    /// A place in what was written, in any of the files; the last copy of a superblock is left alone.
    fn somewhere(&self, is_superblock_whole: bool, rng: &mut Rng) -> Option<(String, u64)> {
        let mut names = self.bytes.list().ok()?;
        names.retain(|name| is_superblock_whole || !name.starts_with("superblock"));
        let name = names.get(rng.below(names.len() as u64) as usize)?.clone();
        let bytes = self.bytes.get(&name)?;
        let written = bytes.iter().rposition(|byte| *byte != 0)? as u64 + 1;
        Some((name, rng.below(written)))
    }
}

fn snapshot_name(number: u64) -> String {
    format!("snapshot-{number:016x}.snapshot")
}

/// How bytes change at a place that nobody chose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// One bit.
    Bit,
    /// A run of bytes, zeros from now on.
    Zeros,
    /// A whole sector, noise from now on.
    Sector,
    /// A whole page, which cannot be read from now on. What stood there is gone.
    Page,
}

impl<P: Protocol> Disk<P> {
    /// Bytes change somewhere on the disk; a number says where. False if nothing stands there.
    pub(crate) fn change(&mut self, change: Change, draw: u64) -> bool {
        let mut rng = Rng::new(draw);
        let is_superblock_whole = self.has_both_copies();
        let Some(log) = self.log.take() else { return self.change_books(change, &mut rng) };
        let place = log.somewhere(is_superblock_whole, &mut rng);
        if let Some((name, byte)) = &place {
            match change {
                Change::Bit => {
                    let bit = rng.below(8);
                    log.bytes.flip_bit(name, byte * 8 + bit);
                }
                Change::Zeros => {
                    let length = 1 + rng.below(2 * SECTOR);
                    log.bytes.rot(name, *byte, &vec![0; length as usize]);
                }
                Change::Sector => {
                    let noise = noise(&mut rng, SECTOR);
                    log.bytes.rot(name, byte / SECTOR * SECTOR, &noise);
                }
                Change::Page => {
                    let noise = noise(&mut rng, PAGE);
                    log.bytes.rot(name, byte / PAGE * PAGE, &noise);
                    log.bytes.fail_reads(name, *byte);
                }
            }
        }
        self.log = Some(log);
        if let Some((name, _)) = &place {
            self.assess(change != Change::Bit, Some(name));
        }
        place.is_some()
    }

    /// The same where there are no bytes: what it would have cost.
    fn change_books(&mut self, change: Change, rng: &mut Rng) -> bool {
        match rng.below(6) {
            0 if self.has_both_copies() => return self.lose_copy(rng.below(2) == 0),
            1 if self.snapshot.is_some() => return self.rot_snapshot(),
            _ => {}
        }
        let positions: Vec<Position> = self.positions().collect();
        if positions.is_empty() {
            return false;
        }
        let first = rng.below(positions.len() as u64) as usize;
        if change == Change::Bit {
            // Most bits belong to records, and the others to edges and headers, which stand twice.
            return rng.below(3) > 0 && self.rot(positions[first], true);
        }
        let run = positions.iter().skip(first).take(1 + rng.below(3) as usize);
        let is_last = first + run.len() == positions.len();
        run.fold(false, |bites, position| {
            let is_silent = change == Change::Zeros && is_last;
            bites | if is_silent { self.lose(*position) } else { self.rot(*position, false) }
        })
    }

    /// Brings the books to what the bytes are now. `looks_torn` where they may look like sectors that were never written;
    /// `harmed` is the file that came to harm, where it may be a snapshot.
    pub(super) fn assess(&mut self, looks_torn: bool, harmed: Option<&str>) {
        let Some(log) = self.log.take() else { return };
        let mut cut = None;
        let mut broken: Vec<(Position, Option<Tag>)> = Vec::new();
        for (position, record) in &self.records {
            let Some(stand) = log.stands.get(position) else { continue };
            let now = log.read(&stand.place);
            if let Bytes::Broken(has_tag) = stand.judge(now.as_deref()) {
                if looks_torn && *position >= log.last_flush {
                    cut = Some(*position);
                    break;
                }
                broken.push((*position, has_tag.then(|| record.tag())));
            }
        }
        for (position, tag) in broken {
            self.records.remove(&position);
            self.lost.insert(position, tag);
        }
        if let Some(cut) = cut {
            self.unwritten.extend(self.records.split_off(&cut).into_keys());
        }
        for (index, name) in ["superblock.a", "superblock.b"].into_iter().enumerate() {
            if log.superblock[index].is_some() && log.bytes.get(name) != log.superblock[index] {
                self.copies[index] = None;
            }
        }
        let is_harmed = |number: &u64| harmed == Some(&snapshot_name(*number));
        let [newest, older] = log.numbers.map(|number| number.filter(is_harmed).is_some());
        if newest && self.snapshot.take().is_some() || older && self.older.take().is_some() {
            self.is_snapshot_rotten = true;
        }
        self.log = Some(log);
    }
}
