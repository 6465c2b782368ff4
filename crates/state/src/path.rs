//! Keys as sequences of half bytes (nibbles), the higher one of each byte first, and stretches of them.
//!
//! Everything below counts nibbles from the beginning of the key, and hands over the bytes of a key from the byte that
//! holds the nibble in question: so two strings that are compared always lie in step.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Deref;

/// The nibble at `at`, counted from the beginning of `bytes`.
pub(crate) const fn nibble(bytes: &[u8], at: usize) -> u8 {
    if at.is_multiple_of(2) { bytes[at / 2] >> 4 } else { bytes[at / 2] & 15 }
}

/// In how many nibbles two strings agree, the first nibble of both left out if `odd`.
pub(crate) fn agreement(a: &[u8], b: &[u8], odd: bool) -> usize {
    let shared = a.len().min(b.len());
    let (a, b) = (&a[..shared], &b[..shared]);
    if shared == 0 || (odd && (a[0] ^ b[0]) & 15 != 0) {
        return 0;
    }
    let mut at = usize::from(odd);
    for stride in [1024, 32] {
        while at + stride <= shared && a[at..at + stride] == b[at..at + stride] {
            at += stride;
        }
    }
    at += a[at..].iter().zip(&b[at..]).take_while(|(a, b)| a == b).count();
    let half = usize::from(at < shared && a[at] >> 4 == b[at] >> 4);
    2 * at + half - usize::from(odd)
}

/// A stretch of nibbles of a key.
///
/// The bytes are those of the key that hold it, with the nibbles that do not belong to it set to zero; none if the
/// stretch is empty. So equal stretches at equal parities are equal values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Path<B = Box<[u8]>> {
    bytes: B,
    nibbles: u32,
    /// Whether it begins with the lower nibble of its first byte.
    odd: bool,
}

impl Path {
    /// The nibbles of `bytes` from `from` to before `to`.
    pub(crate) fn of(bytes: &[u8], from: usize, to: usize) -> Self {
        let odd = !from.is_multiple_of(2);
        if from == to {
            return Self { bytes: Box::default(), nibbles: 0, odd };
        }
        let mut bytes: Box<[u8]> = bytes[from / 2..to.div_ceil(2)].into();
        if odd {
            bytes[0] &= 0x0f;
        }
        if !to.is_multiple_of(2) {
            *bytes.last_mut().expect("a stretch that is not empty has bytes") &= 0xf0;
        }
        Self { bytes, nibbles: (to - from) as u32, odd }
    }

    /// Its first nibbles.
    pub(crate) fn head(&self, nibbles: usize) -> Self {
        let odd = usize::from(self.odd);
        Self::of(&self.bytes, odd, odd + nibbles)
    }

    /// Its nibbles from one on.
    pub(crate) fn tail(&self, from: usize) -> Self {
        let odd = usize::from(self.odd);
        if from == self.len() {
            return Self { bytes: Box::default(), nibbles: 0, odd: self.odd != (from % 2 == 1) };
        }
        Self::of(&self.bytes, odd + from, odd + self.len())
    }

    /// This path, then a nibble, then another path.
    pub(crate) fn join(&self, nibble: u8, next: &Self) -> Self {
        let odd = usize::from(self.odd);
        let mut key = self.bytes.to_vec();
        let mut at = odd + self.len();
        if at == 1 && self.len() == 0 {
            key.push(0);
        }
        push(&mut key, &mut at, nibble);
        append(&mut key, &mut at, next);
        Self::of(&key, odd, at)
    }
}

impl<'a> Path<&'a [u8]> {
    /// A path as it came from outside; none if it is not in its one form.
    pub(crate) fn checked(bytes: &'a [u8], nibbles: u32, odd: bool) -> Option<Self> {
        let end = nibbles as usize + usize::from(odd);
        let expected = if nibbles == 0 { 0 } else { end.div_ceil(2) };
        let (first, last) = (bytes.first().unwrap_or(&0), bytes.last().unwrap_or(&0));
        let is_clean = (!odd || first & 0xf0 == 0) && (end.is_multiple_of(2) || last & 0x0f == 0);
        let path = Self { bytes, nibbles, odd };
        (bytes.len() == expected && is_clean).then_some(path)
    }

    /// The same, to keep.
    pub(crate) fn to_path(self) -> Path {
        let Self { bytes, nibbles, odd } = self;
        Path { bytes: bytes.into(), nibbles, odd }
    }
}

impl<B: Deref<Target = [u8]>> Path<B> {
    /// How many nibbles.
    pub(crate) const fn len(&self) -> usize {
        self.nibbles as usize
    }

    /// Whether it begins in the middle of a byte.
    pub(crate) const fn is_odd(&self) -> bool {
        self.odd
    }

    /// The bytes that hold it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The nibble at `at` of the path.
    pub(crate) fn nibble(&self, at: usize) -> u8 {
        nibble(&self.bytes, at + usize::from(self.odd))
    }

    /// How many of its nibbles a key has, too; `rest` is the key from the byte on in which the path begins.
    pub(crate) fn matching(&self, rest: &[u8]) -> usize {
        self.matching_from(0, rest)
    }

    /// How many of its nibbles from one on a key has, too; `rest` is the key from the byte on in which that one lies.
    pub(crate) fn matching_from(&self, from: usize, rest: &[u8]) -> usize {
        let at = usize::from(self.odd) + from;
        let bytes = self.bytes.get(at / 2..).unwrap_or_default();
        (self.len() - from).min(agreement(bytes, rest, !at.is_multiple_of(2)))
    }
}

/// Appends a nibble to a key of `at` nibbles.
pub(crate) fn push(key: &mut Vec<u8>, at: &mut usize, nibble: u8) {
    if at.is_multiple_of(2) {
        key.push(nibble << 4);
    } else if let Some(last) = key.last_mut() {
        *last |= nibble;
    }
    *at += 1;
}

/// Appends a path to a key of `at` nibbles, whose parity is the path's.
pub(crate) fn append<B: Deref<Target = [u8]>>(key: &mut Vec<u8>, at: &mut usize, path: &Path<B>) {
    let mut bytes = path.bytes();
    if path.odd
        && let Some((first, rest)) = bytes.split_first()
        && let Some(last) = key.last_mut()
    {
        *last |= first;
        bytes = rest;
    }
    key.extend_from_slice(bytes);
    *at += path.len();
}

/// Cuts a key back to its first nibbles.
pub(crate) fn cut_to(key: &mut Vec<u8>, nibbles: usize) {
    key.truncate(nibbles.div_ceil(2));
    if !nibbles.is_multiple_of(2)
        && let Some(last) = key.last_mut()
    {
        *last &= 0xf0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn nibbles(bytes: &[u8]) -> Vec<u8> {
        (0..2 * bytes.len()).map(|at| nibble(bytes, at)).collect()
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(prop::sample::select(vec![0_u8, 1, 16, 17]), 0..6),
            prop::collection::vec(prop::sample::select(vec![0_u8, 0, 0, 0, 0, 0, 0, 0, 1]), 30..80),
        ]
    }

    proptest! {
        #[test]
        fn paths_do_with_bytes_what_they_say_of_nibbles(
            a in bytes(), b in bytes(), from in 0_usize..8, mid in 0_usize..200, to in 0_usize..200,
        ) {
            let plain = nibbles(&a);
            let from = from.min(plain.len());
            let to = to.clamp(from, plain.len());
            let path = Path::of(&a, from, to);
            let given: Vec<u8> = (0..path.len()).map(|at| path.nibble(at)).collect();
            prop_assert_eq!(&given, &plain[from..to]);
            prop_assert_eq!(
                Path::checked(path.bytes(), path.len() as u32, path.is_odd()).map(|p| p.bytes),
                Some(path.bytes())
            );
            let mid = mid.clamp(from, to);
            prop_assert_eq!(path.head(mid - from), Path::of(&a, from, mid));
            prop_assert_eq!(path.tail(mid - from), Path::of(&a, mid, to));
            if mid < to {
                let joined = Path::of(&a, from, mid).join(plain[mid], &Path::of(&a, mid + 1, to));
                prop_assert_eq!(joined, path.clone());
            }
            let mut key = a.clone();
            cut_to(&mut key, from);
            let mut at = from;
            append(&mut key, &mut at, &path);
            prop_assert_eq!(&nibbles(&key)[..at], &plain[..to]);

            if from / 2 < b.len() {
                let rest = &b[from / 2..];
                let other = nibbles(rest);
                let expected = other[from % 2..].iter().zip(&plain[from..to]).take_while(|(a, b)| a == b).count();
                prop_assert_eq!(path.matching(rest), expected);
            }
            let expected = nibbles(&a).iter().zip(&nibbles(&b)).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(agreement(&a, &b, false), expected);
        }
    }

    #[test]
    fn a_path_that_is_not_in_its_one_form_is_refused() {
        assert!(Path::checked(&[0x12], 1, false).is_none());
        assert!(Path::checked(&[0x10], 1, false).is_some());
        assert!(Path::checked(&[0x12], 1, true).is_none());
        assert!(Path::checked(&[0x02], 1, true).is_some());
        assert!(Path::checked(&[0x02], 0, true).is_none());
        assert!(Path::checked(&[], 1, true).is_none());
        assert!(Path::checked(&[0x12], u32::MAX, false).is_none());
        assert!(Path::checked(&[0x02, 0x30], 2, true).is_some());
        assert!(Path::checked(&[0x02, 0x31], 2, true).is_none());
    }
}
