//! A segment: one file of the log, its name and its header.
//!
//! The file is made under a temporary name, filled with zeros, given its header, flushed, and only then named after the
//! position of its first record: a segment that has its name has its full length and a header. The header stands twice, in
//! two sectors of its own.

use crate::frame::SECTOR;
use alloc::format;
use alloc::string::String;
use core::fmt;
use crc32fast::Hasher;

/// The version of the formats written by this crate. A file of another version is refused.
pub const FORMAT_VERSION: u32 = 2;

/// The length of the two headers: frames begin here.
pub(crate) const HEADER_SIZE: usize = 2 * SECTOR;
/// No segment is larger than this, whatever a header says.
pub(crate) const SEGMENT_MAX: u64 = 1 << 30;
/// No log gets this far; a file that claims it is not ours, and positions can be counted without overflow.
const POSITION_MAX: u64 = 1 << 62;
/// Names of files that are not yet part of the log end in this.
pub(crate) const TEMPORARY: &str = ".tmp";

const MAGIC: [u8; 8] = *b"TSTD-LOG";
const FIELDS_END: usize = 64;
const HEADER_END: usize = FIELDS_END + 4;

/// Which log a file belongs to: what cluster, what node and, where groups do not share a log, what group. The caller
/// derives it; a log is opened only under the identity that it was made with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(pub [u8; 16]);

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

/// The name of the segment whose first record has this position.
pub(crate) fn segment_name(first: u64) -> String {
    format!("log-{first:016x}.segment")
}

/// The first position of the segment with this name; `None` for other files.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("log-")?.strip_suffix(".segment")?;
    let first = u64::from_str_radix(digits, 16).ok()?;
    // Only the one spelling counts, so that no two files claim the same position.
    (first <= POSITION_MAX && segment_name(first) == name).then_some(first)
}

/// Whether this file is what a crash left of making a segment.
pub(crate) fn is_temporary_segment(name: &str) -> bool {
    name.starts_with("log-") && name.ends_with(TEMPORARY)
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The log that the segment belongs to.
    pub(crate) identity: Identity,
    /// The number of the segment in its log, one more than its predecessor's.
    pub(crate) sequence: u64,
    /// The position of the first record.
    pub(crate) first: u64,
    /// The length of the file in bytes.
    pub(crate) capacity: u64,
    /// See [`crate::Options::salt`].
    pub(crate) salt: u64,
}

/// What stands where a header should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFound {
    /// At least one copy is good. `mend` tells whether the other is not.
    Whole { header: SegmentHeader, mend: bool },
    /// Both copies say that they are of another version.
    Version(u32),
    /// Neither copy can be believed.
    Damaged,
}

impl SegmentHeader {
    /// Both copies, as they stand at the beginning of the file.
    pub(crate) fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.identity.0);
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.salt.to_le_bytes());
        let check = check(&bytes[..FIELDS_END]);
        bytes[FIELDS_END..HEADER_END].copy_from_slice(&check);
        let (copy, twin) = bytes.split_at_mut(SECTOR);
        twin[..HEADER_END].copy_from_slice(&copy[..HEADER_END]);
        bytes
    }

    /// Reads the header from the beginning of a segment, which may be shorter than a header.
    pub(crate) fn find(bytes: &[u8]) -> HeaderFound {
        let copies = [bytes, bytes.get(SECTOR..).unwrap_or_default()];
        match copies.map(SegmentHeader::decode) {
            [Some(header), Some(twin)] if header == twin => {
                HeaderFound::Whole { header, mend: false }
            }
            // Two good copies that differ cannot come from any crash: the file is not what it was.
            [Some(_), Some(_)] => HeaderFound::Damaged,
            [Some(header), None] | [None, Some(header)] => {
                HeaderFound::Whole { header, mend: true }
            }
            [None, None] => match copies.map(version) {
                [Some(one), Some(two)] if one == two && one != FORMAT_VERSION => {
                    HeaderFound::Version(one)
                }
                _ => HeaderFound::Damaged,
            },
        }
    }

    fn decode(copy: &[u8]) -> Option<SegmentHeader> {
        let fields = copy.get(..FIELDS_END)?;
        if copy.get(FIELDS_END..HEADER_END)? != check(fields) || version(copy)? != FORMAT_VERSION {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(fields.get(at..at + 8)?.try_into().ok()?));
        let header = SegmentHeader {
            identity: Identity(fields.get(16..32)?.try_into().ok()?),
            sequence: number(32)?,
            first: number(40)?,
            capacity: number(48)?,
            salt: number(56)?,
        };
        let sane = (HEADER_SIZE as u64..=SEGMENT_MAX).contains(&header.capacity)
            && header.capacity.is_multiple_of(8);
        sane.then_some(header)
    }
}

fn version(copy: &[u8]) -> Option<u32> {
    if copy.get(..8)? != MAGIC {
        return None;
    }
    Some(u32::from_le_bytes(copy.get(8..12)?.try_into().ok()?))
}

fn check(fields: &[u8]) -> [u8; 4] {
    let mut hasher = Hasher::new();
    hasher.update(fields);
    hasher.finalize().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            identity: Identity(*b"0123456789abcdef"),
            sequence: 4,
            first: 77,
            capacity: 8192,
            salt: 99,
        }
    }

    #[test]
    fn names_are_read_back_and_others_are_not() {
        for first in [0, 1, 0xABCD, POSITION_MAX] {
            assert_eq!(parse_segment_name(&segment_name(first)), Some(first));
        }
        for name in [
            "log-0.segment",
            "log-000000000000000A.segment",
            "log-+00000000000000a.segment",
            "log-ffffffffffffffff.segment",
            "x",
        ] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }

    #[test]
    fn any_flipped_bit_leaves_the_header_readable() {
        let header = header();
        let mut bytes = header.encode();
        assert_eq!(SegmentHeader::find(&bytes), HeaderFound::Whole { header, mend: false });
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let HeaderFound::Whole { header: found, .. } = SegmentHeader::find(&bytes) else {
                panic!("bit {bit} lost the header");
            };
            assert_eq!(found, header);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let mut bytes = header().encode();
        bytes[8] = 1;
        bytes[SECTOR + 8] = 1;
        assert_eq!(SegmentHeader::find(&bytes), HeaderFound::Version(1));
        bytes[SECTOR + 8] = 3;
        assert_eq!(SegmentHeader::find(&bytes), HeaderFound::Damaged);
        assert_eq!(SegmentHeader::find(&[]), HeaderFound::Damaged);
    }
}
