//! Names of nodes: where in the tree they are.

use crate::path::{self, Path};
use alloc::boxed::Box;
use alloc::vec::Vec;
use testudo_core::codec::encode_bytes;
use testudo_core::{Decode, DecodeError, Encode, Reader, limits};

/// Where a node of a map is: the nibbles that lead from the root to where a subtree begins, or the key of a value that
/// is too large to travel with the node that it belongs to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The nibbles, the last byte filled with a zero if they are odd in number; or the key.
    key: Box<[u8]>,
    end: End,
}

/// What lies at a place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    /// A subtree that begins with a whole byte.
    Byte,
    /// A subtree that begins with the lower nibble of a byte.
    Nibble,
    /// A value.
    Value,
}

impl Place {
    /// Bytes that a place may have. A longer one is malformed, and a map with a longer key cannot be synchronised. A key
    /// comes in an operation, and a service may put something before it.
    pub const BYTES: usize = 2 * limits::OPERATION_BYTES;

    /// Where the tree begins.
    #[must_use]
    pub fn root() -> Self {
        Self { key: Box::default(), end: End::Byte }
    }

    /// Where a subtree begins: after so many nibbles, held in `key` with zeroes behind them.
    pub(crate) fn of_subtree(key: Vec<u8>, nibbles: usize) -> Self {
        debug_assert_eq!(key.len(), nibbles.div_ceil(2));
        let end = if nibbles.is_multiple_of(2) { End::Byte } else { End::Nibble };
        Self { key: key.into(), end }
    }

    /// Where the value of a key is.
    pub(crate) fn of_value(key: Vec<u8>) -> Self {
        Self { key: key.into(), end: End::Value }
    }

    /// Whether it is a value's.
    pub(crate) const fn is_value(&self) -> bool {
        matches!(self.end, End::Value)
    }

    /// The bytes that hold the nibbles.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// How many nibbles lead here.
    pub(crate) const fn nibbles(&self) -> usize {
        self.key.len() * 2 - matches!(self.end, End::Nibble) as usize
    }

    /// The nibble at `at`, if the place goes on so far.
    pub(crate) fn nibble(&self, at: usize) -> Option<u8> {
        (at < self.nibbles()).then(|| path::nibble(&self.key, at))
    }

    /// Whether the way here leads along a path that begins at `depth`, all of it.
    pub(crate) fn goes_along(&self, depth: usize, path: &Path) -> bool {
        let rest = self.key.get(depth / 2..).unwrap_or_default();
        depth + path.len() <= self.nibbles() && path.matching(rest) == path.len()
    }

    /// How many bytes its encoding has.
    pub(crate) const fn size(&self) -> usize {
        1 + size_of::<u32>() + self.key.len()
    }
}

impl Encode for Place {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.end {
            End::Byte => 0,
            End::Nibble => 1,
            End::Value => 2,
        });
        encode_bytes(&self.key, out);
    }
}

impl Decode for Place {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let end = match u8::decode(reader)? {
            0 => End::Byte,
            1 => End::Nibble,
            2 => End::Value,
            _ => return Err(DecodeError::Unknown("place")),
        };
        let key = reader.bytes()?;
        if key.len() > Self::BYTES {
            return Err(DecodeError::TooLong("place"));
        }
        // A nibble that leads here has its byte, whose other half is zero.
        if end == End::Nibble && key.last().is_none_or(|last| last & 15 != 0) {
            return Err(DecodeError::Unknown("half byte of a place"));
        }
        Ok(Self { key: key.into(), end })
    }
}
