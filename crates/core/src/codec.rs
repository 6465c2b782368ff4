//! One encoding per value.
//!
//! What is signed, hashed or stored must have exactly one form, so this codec has no optional spellings: integers are
//! little-endian and of fixed width, lengths are 32 bits, booleans are 0 or 1, enumerations bear a one-byte tag, maps
//! are in strictly ascending order, and nothing may follow the last field. Decoding never allocates more than the
//! input can fill.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// A value with one binary form.
pub trait Encode {
    /// Appends that form to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// That form alone.
    #[must_use]
    fn to_bytes(&self) -> Vec<u8> {
        // Most of what is written is small, and a list that grows is copied each time.
        let mut out = Vec::with_capacity(96);
        self.encode(&mut out);
        out
    }

    /// Hands a form of the value out in pieces, in order, until `put` says false. What is large gives many small ones, so
    /// that nobody ever holds all of it twice: snapshots are written this way. A piece of up to 64 MiB is read back as it
    /// was given, a longer one may be cut. Unless the type says otherwise it is one piece, that form alone.
    fn pieces(&self, put: &mut dyn FnMut(&[u8]) -> bool) {
        put(&self.to_bytes());
    }
}

/// A value that can be read back from its one form.
pub trait Decode: Sized {
    /// Reads one value.
    ///
    /// # Errors
    /// When the bytes are not that value's one encoding.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Reads one value that takes up all of `bytes`.
    ///
    /// # Errors
    /// When the bytes are not that value's one encoding, or more bytes follow it.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }

    /// Reads one value from the pieces that [`Encode::pieces`] gave: `next` hands them back one by one, in order, and none
    /// after the last. Whatever can be proved is to be proved here, as the pieces come from a disk.
    ///
    /// # Errors
    /// When the pieces are not that value's.
    fn from_pieces(next: &mut dyn FnMut() -> Option<Vec<u8>>) -> Result<Self, DecodeError> {
        let mut bytes = Vec::new();
        while let Some(piece) = next() {
            bytes.extend_from_slice(&piece);
        }
        Self::from_bytes(&bytes)
    }
}

/// Why bytes are not the encoding of what was expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The input ends inside a value.
    Truncated,
    /// Bytes follow the last value.
    Trailing,
    /// A tag, boolean or order that the format does not have; the word says of what.
    Unknown(&'static str),
    /// A length beyond its limit; the word says of what.
    TooLong(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the bytes end inside a value"),
            Self::Trailing => f.write_str("bytes follow the last value"),
            Self::Unknown(what) => write!(f, "no such {what} in this format"),
            Self::TooLong(what) => write!(f, "{what} is longer than its limit"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Reads values one after the other from a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// A length, checked against what is left: every element takes at least one byte.
    ///
    /// # Errors
    /// When fewer bytes are left than elements are announced.
    pub fn length(&mut self) -> Result<usize, DecodeError> {
        let length = u32::decode(self)? as usize;
        if length > self.rest.len() { Err(DecodeError::Truncated) } else { Ok(length) }
    }

    /// A string of bytes, with its length before it.
    ///
    /// # Errors
    /// When fewer bytes are left.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length()?;
        self.take(length)
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// When bytes are left.
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

macro_rules! integer {
    ($($int:ty),*) => {$(
        impl Encode for $int {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
        impl Decode for $int {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let mut bytes = [0; size_of::<$int>()];
                bytes.copy_from_slice(reader.take(size_of::<$int>())?);
                Ok(Self::from_le_bytes(bytes))
            }
        }
    )*};
}
integer!(u8, u16, u32, u64, u128, i32, i64);

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}
impl Decode for bool {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Unknown("boolean")),
        }
    }
}

impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}
impl<const N: usize> Decode for [u8; N] {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(reader.take(N)?);
        Ok(bytes)
    }
}

/// Appends a length. Nothing that is encoded here comes near 4 GiB (`limits`), so the cast cannot cut.
pub fn encode_length(length: usize, out: &mut Vec<u8>) {
    debug_assert!(u32::try_from(length).is_ok());
    (length as u32).encode(out);
}

/// Appends a string of bytes with its length before it: the same form as `Vec<u8>`, `Arc<[u8]>` and `String` have.
pub fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

impl Encode for Arc<[u8]> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(self, out);
    }
}
impl Decode for Arc<[u8]> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.bytes().map(Into::into)
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(self.as_bytes(), out);
    }
}
impl Decode for String {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        core::str::from_utf8(reader.bytes()?)
            .map(Self::from)
            .map_err(|_| DecodeError::Unknown("UTF-8 text"))
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        self.iter().for_each(|item| item.encode(out));
    }
}
impl<T: Decode> Decode for Vec<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = reader.length()?;
        // An element may be larger in memory than on the wire: grow with what is really there.
        let mut items = Self::with_capacity(length.min(1024));
        for _ in 0..length {
            items.push(T::decode(reader)?);
        }
        Ok(items)
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.encode(out);
            }
        }
    }
}
impl<T: Decode> Decode for Option<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::decode(reader)? { Some(T::decode(reader)?) } else { None })
    }
}

impl<K: Encode, V: Encode> Encode for BTreeMap<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }
}
impl<K: Decode + Ord, V: Decode> Decode for BTreeMap<K, V> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = reader.length()?;
        let mut map = Self::new();
        for _ in 0..length {
            let key = K::decode(reader)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(DecodeError::Unknown("order of keys"));
            }
            map.insert(key, V::decode(reader)?);
        }
        Ok(map)
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}
impl<A: Decode, B: Decode> Decode for (A, B) {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::decode(reader)?, B::decode(reader)?))
    }
}

/// Gives a struct its one encoding: its fields in the order named, which must be all of them.
///
/// `wire_struct!(Prepare { view, slot, digest });`
#[macro_export]
macro_rules! wire_struct {
    ($name:ident $(<$($param:ident),*>)? { $($field:ident),* $(,)? }) => {
        impl $(<$($param: $crate::Encode),*>)? $crate::Encode for $name $(<$($param),*>)? {
            fn encode(&self, out: &mut ::alloc::vec::Vec<u8>) {
                let Self { $($field),* } = self;
                $($crate::Encode::encode($field, out);)*
            }
        }
        impl $(<$($param: $crate::Decode),*>)? $crate::Decode for $name $(<$($param),*>)? {
            fn decode(reader: &mut $crate::Reader<'_>) -> ::core::result::Result<Self, $crate::DecodeError> {
                $(let $field = $crate::Decode::decode(reader)?;)*
                Ok(Self { $($field),* })
            }
        }
    };
}

/// Gives an enum its one encoding: a one-byte tag, then the variant's fields. Every variant must be named.
///
/// `wire_enum!(Vote { 0 => Prepare(p), 1 => Commit { view, slot }, 2 => Null });`
#[macro_export]
macro_rules! wire_enum {
    ($name:ident { $($tag:literal => $variant:ident $( ( $($item:ident),* ) )? $( { $($field:ident),* } )? ),* $(,)? }) => {
        impl $crate::Encode for $name {
            fn encode(&self, out: &mut ::alloc::vec::Vec<u8>) {
                match self {
                    $(Self::$variant $( ( $($item),* ) )? $( { $($field),* } )? => {
                        out.push($tag);
                        $($($crate::Encode::encode($item, out);)*)?
                        $($($crate::Encode::encode($field, out);)*)?
                    })*
                }
            }
        }
        impl $crate::Decode for $name {
            fn decode(reader: &mut $crate::Reader<'_>) -> ::core::result::Result<Self, $crate::DecodeError> {
                Ok(match <u8 as $crate::Decode>::decode(reader)? {
                    $($tag => {
                        $($(let $item = $crate::Decode::decode(reader)?;)*)?
                        $($(let $field = $crate::Decode::decode(reader)?;)*)?
                        Self::$variant $( ( $($item),* ) )? $( { $($field),* } )?
                    })*
                    _ => return Err($crate::DecodeError::Unknown(stringify!($name))),
                })
            }
        }
    };
}

/// Gives a tuple struct of one field the encoding of that field.
#[macro_export]
macro_rules! wire_tuple {
    ($name:ident) => {
        impl $crate::Encode for $name {
            fn encode(&self, out: &mut ::alloc::vec::Vec<u8>) {
                $crate::Encode::encode(&self.0, out);
            }
        }
        impl $crate::Decode for $name {
            fn decode(
                reader: &mut $crate::Reader<'_>,
            ) -> ::core::result::Result<Self, $crate::DecodeError> {
                Ok(Self($crate::Decode::decode(reader)?))
            }
        }
    };
}
