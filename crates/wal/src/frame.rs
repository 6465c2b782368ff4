//! One record on disk.
//!
//! ```text
//!   head: mark · fields · check     40 bytes
//!   payload, padded with zeros to 8 bytes
//!   tail: fields · check · mark     40 bytes
//!
//!   fields: position u64 · tag u64 · length u32 · batch u32 · blank u32 · payload check u32      (little endian)
//! ```
//!
//! The fields stand twice, before and after the payload, so that one damaged place cannot hide which record it was in,
//! nor that the record had been there; nor, by its tag, what it was about. Two of the fields exist only to tell rot from a torn write:
//!
//! - `batch` says how many records of the same flush stand before this one. A record of a later flush was written only
//!   after this one's flush had succeeded, and so proves that this one had been whole.
//! - `blank` counts the sectors of the frame that hold (almost) nothing but zeros. A segment is all zeros before it is
//!   written, so a sector that a crash kept from the disk reads as zeros: more blank sectors than the fields say means a
//!   write that was not finished.
//!
//! The marks and all checks depend on the log's identity, its salt and the segment (see [`Seal`]), so that neither bytes of
//! another log nor a payload made up by a client to look like a frame can pass for one.

use crate::segment::Identity;
use alloc::vec::Vec;
use core::ops::Range;
use crc32fast::Hasher;

/// The length of the fields before the payload, and again of those after it.
pub(crate) const EDGE: usize = 40;
/// The length of a frame with an empty payload: no frame is smaller.
pub(crate) const FRAME_MIN: usize = 2 * EDGE;
/// Frames begin at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// The smallest unit that a disk writes or keeps as a whole.
pub(crate) const SECTOR: usize = 512;

/// What an operating system reads and caches of a file at once: where a drive cannot read a sector nothing of its page can be
/// read.
pub(crate) const PAGE: usize = 4096;

const FIELDS: usize = 32;
/// The length of a mark, and of a check.
const WORD: usize = 4;

/// The length of the frame for a payload of that length.
pub(crate) fn frame_size(length: usize) -> usize {
    FRAME_MIN + length.next_multiple_of(ALIGN)
}

/// What binds a frame to its log and segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal {
    head: [u8; 4],
    tail: [u8; 4],
    seed: u32,
}

impl Seal {
    /// The seal of frames in the segment that begins at position `first`.
    ///
    /// The salt is unknown to clients, and both the marks and the seed depend on it: who cannot read the disk can get 64
    /// bits right only by chance.
    pub(crate) fn new(identity: Identity, salt: u64, first: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(b"testudo frame mark");
        hasher.update(&salt.to_le_bytes());
        // At least two set bits, so that no single flipped bit makes a mark vanish; and never equal to each other.
        let head = (hasher.finalize() | 0x8000_0001) & !2;
        let mut hasher = Hasher::new();
        hasher.update(b"testudo frame seed");
        hasher.update(&identity.0);
        hasher.update(&salt.rotate_left(32).to_le_bytes());
        hasher.update(&first.to_le_bytes());
        let seed = hasher.finalize() ^ (salt >> 32) as u32;
        Seal { head: head.to_le_bytes(), tail: (head | 2).to_le_bytes(), seed }
    }

    fn edge_check(&self, fields: &[u8], mark: [u8; 4]) -> [u8; 4] {
        let mut hasher = Hasher::new_with_initial(self.seed);
        hasher.update(fields);
        hasher.update(&mark);
        hasher.finalize().to_le_bytes()
    }

    fn payload_check(&self, position: u64, payload: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.seed);
        hasher.update(&position.to_le_bytes());
        hasher.update(payload);
        hasher.finalize()
    }
}

/// The fields of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    /// The index of the record in the log.
    pub(crate) position: u64,
    /// What the record is about, in the words of whoever wrote it.
    pub(crate) tag: u64,
    /// The length of the payload in bytes.
    pub(crate) length: u32,
    /// How many records of the same flush stand before this one.
    pub(crate) batch: u32,
    /// How many sectors of the frame were blank but for at most one bit.
    pub(crate) blank: u32,
    /// The checksum of position and payload.
    pub(crate) payload_check: u32,
}

impl Fields {
    fn encode(&self) -> [u8; FIELDS] {
        let mut bytes = [0; FIELDS];
        bytes[0..8].copy_from_slice(&self.position.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.tag.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.length.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.batch.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.blank.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.payload_check.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Fields> {
        let fields = Fields {
            position: u64::from_le_bytes(bytes.get(0..8)?.try_into().ok()?),
            tag: u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?),
            length: u32::from_le_bytes(bytes.get(16..20)?.try_into().ok()?),
            batch: u32::from_le_bytes(bytes.get(20..24)?.try_into().ok()?),
            blank: u32::from_le_bytes(bytes.get(24..28)?.try_into().ok()?),
            payload_check: u32::from_le_bytes(bytes.get(28..32)?.try_into().ok()?),
        };
        let sane = u64::from(fields.batch) <= fields.position
            && u64::from(fields.length) <= crate::segment::SEGMENT_MAX;
        sane.then_some(fields)
    }

    /// The edge that stands before the payload.
    pub(crate) fn head(&self, seal: &Seal) -> [u8; EDGE] {
        let fields = self.encode();
        let mut bytes = [0; EDGE];
        bytes[..WORD].copy_from_slice(&seal.head);
        bytes[WORD..WORD + FIELDS].copy_from_slice(&fields);
        bytes[WORD + FIELDS..].copy_from_slice(&seal.edge_check(&fields, seal.head));
        bytes
    }

    /// The edge that stands after the payload. Its mark comes last: a frame that was written to its end does not end in
    /// zeros.
    pub(crate) fn tail(&self, seal: &Seal) -> [u8; EDGE] {
        let fields = self.encode();
        let mut bytes = [0; EDGE];
        bytes[..FIELDS].copy_from_slice(&fields);
        bytes[FIELDS..FIELDS + WORD].copy_from_slice(&seal.edge_check(&fields, seal.tail));
        bytes[FIELDS + WORD..].copy_from_slice(&seal.tail);
        bytes
    }

    /// The fields of the head edge at `offset`, where a valid one stands there.
    pub(crate) fn read_head(bytes: &[u8], offset: usize, seal: &Seal) -> Option<Fields> {
        let edge = bytes.get(offset..offset.checked_add(EDGE)?)?;
        let (mark, rest) = edge.split_at(WORD);
        let (fields, check) = rest.split_at(FIELDS);
        let valid = mark == seal.head && check == seal.edge_check(fields, seal.head);
        if valid { Fields::decode(fields) } else { None }
    }

    /// The fields of the tail edge at `offset`, where a valid one stands there.
    pub(crate) fn read_tail(bytes: &[u8], offset: usize, seal: &Seal) -> Option<Fields> {
        let edge = bytes.get(offset..offset.checked_add(EDGE)?)?;
        let (fields, rest) = edge.split_at(FIELDS);
        let (check, mark) = rest.split_at(WORD);
        let valid = mark == seal.tail && check == seal.edge_check(fields, seal.tail);
        if valid { Fields::decode(fields) } else { None }
    }

    /// The length of the whole frame.
    pub(crate) fn frame_size(&self) -> usize {
        frame_size(self.length as usize)
    }

    /// The first position of the flush that wrote this record: everything before it was durable by then.
    pub(crate) fn batch_first(&self) -> u64 {
        self.position - u64::from(self.batch)
    }

    /// Where the payload of a frame at `offset` stands.
    pub(crate) fn payload_range(&self, offset: usize) -> Range<usize> {
        offset + EDGE..offset + EDGE + self.length as usize
    }

    /// Whether this payload is the one that was written under these fields.
    pub(crate) fn matches(&self, payload: &[u8], seal: &Seal) -> bool {
        payload.len() == self.length as usize
            && seal.payload_check(self.position, payload) == self.payload_check
    }

    /// Whether sectors of this frame, which stands at `offset` of its file, were never written.
    pub(crate) fn misses_sectors(&self, frame: &[u8], offset: usize) -> bool {
        let blank = sectors(frame, offset).filter(|unit| is_blank(unit)).count();
        blank > self.blank as usize
    }
}

/// Appends the frame of the record with this position and tag to `buffer`. `offset` is where in its segment the frame will
/// stand.
pub(crate) fn encode_frame(
    buffer: &mut Vec<u8>,
    seal: &Seal,
    offset: usize,
    (position, tag): (u64, u64),
    batch: u32,
    payload: &[u8],
) {
    let begin = buffer.len();
    let mut fields = Fields {
        position,
        tag,
        length: payload.len() as u32,
        batch,
        blank: 0,
        payload_check: seal.payload_check(position, payload),
    };
    buffer.reserve(fields.frame_size());
    buffer.extend_from_slice(&fields.head(seal));
    buffer.extend_from_slice(payload);
    buffer.resize(buffer.len() + payload.len().next_multiple_of(ALIGN) - payload.len(), 0);
    buffer.extend_from_slice(&fields.tail(seal));
    let units = sectors(&buffer[begin..], offset);
    fields.blank = units.filter(|unit| is_nearly_blank(unit)).count() as u32;
    if fields.blank > 0 {
        // The edges are in sectors too, but a number in them makes no sector blank that was not.
        let tail = buffer.len() - EDGE;
        buffer[begin..begin + EDGE].copy_from_slice(&fields.head(seal));
        buffer[tail..].copy_from_slice(&fields.tail(seal));
    }
}

/// The payload of the frame that fills `frame`, for the record at `position`: by its head, or else by its tail.
pub(crate) fn decode_frame<'a>(frame: &'a [u8], seal: &Seal, position: u64) -> Option<&'a [u8]> {
    let tail_offset = frame.len().checked_sub(EDGE)?;
    let head = Fields::read_head(frame, 0, seal);
    let tail = Fields::read_tail(frame, tail_offset, seal);
    [head, tail].into_iter().flatten().find_map(|fields| {
        let payload = frame.get(fields.payload_range(0))?;
        let fits = fields.position == position && fields.frame_size() == frame.len();
        (fits && fields.matches(payload, seal)).then_some(payload)
    })
}

/// What a look at a frame that should be whole finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Examined {
    /// It is.
    Whole,
    /// It is but for this edge, which belongs there.
    Mend(usize, [u8; EDGE]),
    /// Its payload is lost; this was its tag, if that is left.
    Broken(Option<u64>),
}

/// Looks at the frame that fills `frame`, which should be that of the record at `position`.
pub(crate) fn examine_frame(frame: &[u8], seal: &Seal, position: u64) -> Examined {
    let tail_offset = frame.len().saturating_sub(EDGE);
    let fits = |fields: &Fields| fields.position == position && fields.frame_size() == frame.len();
    let head = Fields::read_head(frame, 0, seal).filter(fits);
    let tail = Fields::read_tail(frame, tail_offset, seal).filter(fits);
    let whole = |fields: &Fields| {
        frame.get(fields.payload_range(0)).is_some_and(|payload| fields.matches(payload, seal))
    };
    match (head.filter(whole), tail.filter(whole)) {
        (Some(_), Some(_)) => Examined::Whole,
        (Some(fields), None) => Examined::Mend(tail_offset, fields.tail(seal)),
        (None, Some(fields)) => Examined::Mend(0, fields.head(seal)),
        (None, None) => Examined::Broken(head.or(tail).map(|fields| fields.tag)),
    }
}

/// The parts of `bytes`, which stand at `offset` of their file, that lie in one sector each.
pub(crate) fn sectors(bytes: &[u8], offset: usize) -> impl Iterator<Item = &[u8]> {
    let first = (offset.next_multiple_of(SECTOR) - offset).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    (!head.is_empty()).then_some(head).into_iter().chain(rest.chunks(SECTOR))
}

/// Whether all bytes are zero.
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether at most one bit is set: one flipped bit can make such a sector blank, and must not look like an unfinished write.
fn is_nearly_blank(bytes: &[u8]) -> bool {
    let mut set = 0;
    for byte in bytes {
        set += byte.count_ones();
        if set > 1 {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const SEAL_IDENTITY: Identity = Identity(*b"one log of tests");

    fn frame(payload: &[u8]) -> (Seal, Vec<u8>) {
        let seal = Seal::new(SEAL_IDENTITY, 7, 3);
        let mut buffer = Vec::new();
        encode_frame(&mut buffer, &seal, 1024, (5, 6), 2, payload);
        (seal, buffer)
    }

    #[test]
    fn a_frame_is_read_back_by_either_edge() {
        for length in [0, 1, 7, 8, 9, 1000] {
            let payload = vec![0xA7; length];
            let (seal, mut bytes) = frame(&payload);
            assert_eq!(bytes.len(), frame_size(length));
            assert_eq!(decode_frame(&bytes, &seal, 5), Some(&payload[..]));
            assert_eq!(decode_frame(&bytes, &seal, 6), None);
            bytes[3] ^= 1;
            assert_eq!(decode_frame(&bytes, &seal, 5), Some(&payload[..]), "by its tail");
            bytes[3] ^= 1;
            let end = bytes.len();
            bytes[end - 1] ^= 1;
            assert_eq!(decode_frame(&bytes, &seal, 5), Some(&payload[..]), "by its head");
        }
    }

    #[test]
    fn another_seal_does_not_open_a_frame() {
        let (_, bytes) = frame(b"payload");
        let others = [
            Seal::new(Identity(*b"two log of tests"), 7, 3),
            Seal::new(SEAL_IDENTITY, 8, 3),
            Seal::new(SEAL_IDENTITY, 7 << 32, 3),
            Seal::new(SEAL_IDENTITY, 7, 4),
        ];
        for seal in others {
            assert_eq!(decode_frame(&bytes, &seal, 5), None);
        }
    }

    #[test]
    fn no_flipped_bit_changes_what_is_read() {
        let payload = b"a payload of some length, not a multiple of eight";
        let (seal, mut bytes) = frame(payload);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = decode_frame(&bytes, &seal, 5);
            assert!(read.is_none() || read == Some(payload));
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn missing_sectors_are_told_from_payloads_of_zeros() {
        let (seal, bytes) = frame(&vec![0; 4 * SECTOR]);
        let fields = Fields::read_head(&bytes, 0, &seal).unwrap();
        assert_eq!(fields.blank, 3, "the edges keep the first and the last from being blank");
        assert!(!fields.misses_sectors(&bytes, 1024));

        let (seal, mut bytes) = frame(&vec![9; 4 * SECTOR]);
        let fields = Fields::read_head(&bytes, 0, &seal).unwrap();
        assert_eq!(fields.blank, 0);
        bytes[SECTOR..2 * SECTOR].fill(0);
        assert!(fields.misses_sectors(&bytes, 1024));
    }

    #[test]
    fn a_flipped_bit_never_looks_like_a_missing_sector() {
        let mut payload = vec![0; 3 * SECTOR];
        payload[700] = 4;
        let (seal, mut bytes) = frame(&payload);
        let fields = Fields::read_head(&bytes, 0, &seal).unwrap();
        bytes[EDGE + 700] = 0;
        assert!(!fields.misses_sectors(&bytes, 1024));
    }

    #[test]
    fn sectors_follow_the_alignment_of_the_file() {
        let bytes = vec![0; 1200];
        let lengths = |offset| sectors(&bytes, offset).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(0), [512, 512, 176]);
        assert_eq!(lengths(500), [12, 512, 512, 164]);
        assert_eq!(sectors(&[], 5).count(), 0);
    }
}
