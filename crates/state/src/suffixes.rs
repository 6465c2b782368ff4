//! The ends of a block's keys, in ascending order, in one allocation.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Bytes of one offset.
const OFFSET: usize = size_of::<u32>();

/// Strings in strictly ascending order: first where each ends (32 bits each, counted from behind the last of these
/// offsets), then the strings. A block is searched in here, so it is kept together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suffixes {
    packed: Box<[u8]>,
    count: u32,
}

impl Suffixes {
    /// The strings given, which ascend.
    pub(crate) fn new(strings: &[&[u8]]) -> Self {
        debug_assert!(strings.is_sorted());
        let text: usize = strings.iter().map(|string| string.len()).sum();
        let mut packed = Vec::with_capacity(OFFSET * strings.len() + text);
        let mut end = 0;
        for string in strings {
            end += string.len();
            packed.extend_from_slice(&(end as u32).to_le_bytes());
        }
        strings.iter().for_each(|string| packed.extend_from_slice(string));
        Self { packed: packed.into(), count: strings.len() as u32 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.count as usize
    }

    /// Where the string before `at` ends, and the one at `at` begins.
    fn start(&self, at: usize) -> usize {
        let Some(before) = at.checked_sub(1) else { return 0 };
        let bytes = self.packed.get(OFFSET * before..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
    }

    /// The string at `at`. Nothing of what is kept makes this panic: what the memory garbled is to be found, not met.
    pub(crate) fn get(&self, at: usize) -> &[u8] {
        let text = self.packed.get(OFFSET * self.len()..).unwrap_or_default();
        text.get(self.start(at)..self.start(at + 1)).unwrap_or_default()
    }

    /// Where a string is, or where it would be.
    pub(crate) fn find(&self, string: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).cmp(string) {
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Equal => return Ok(middle),
                core::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Puts a string in at the place where it would be.
    pub(crate) fn insert(&mut self, at: usize, string: &[u8]) {
        let (count, text) = (self.len(), &self.packed[OFFSET * self.len()..]);
        let split = self.start(at);
        let mut packed = Vec::with_capacity(self.packed.len() + OFFSET + string.len());
        packed.extend_from_slice(&self.packed[..OFFSET * at]);
        for end in at..=count {
            let end = self.start(end) + string.len();
            packed.extend_from_slice(&(end as u32).to_le_bytes());
        }
        packed.extend_from_slice(&text[..split]);
        packed.extend_from_slice(string);
        packed.extend_from_slice(&text[split..]);
        *self = Self { packed: packed.into(), count: self.count + 1 };
    }

    /// Takes the string at `at` out.
    pub(crate) fn remove(&mut self, at: usize) {
        let (count, text) = (self.len(), &self.packed[OFFSET * self.len()..]);
        let (start, end) = (self.start(at), self.start(at + 1));
        let mut packed = Vec::with_capacity(self.packed.len() - OFFSET - (end - start));
        packed.extend_from_slice(&self.packed[..OFFSET * at]);
        for later in at + 2..=count {
            let end = self.start(later) - (end - start);
            packed.extend_from_slice(&(end as u32).to_le_bytes());
        }
        packed.extend_from_slice(&text[..start]);
        packed.extend_from_slice(&text[end..]);
        *self = Self { packed: packed.into(), count: self.count - 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn suffixes_are_a_sorted_set(
            changes in prop::collection::vec((prop::collection::vec(0_u8..3, 0..4), any::<bool>()), 0..40)
        ) {
            let (mut suffixes, mut model) = (Suffixes::default(), BTreeSet::new());
            for (string, add) in changes {
                match suffixes.find(&string) {
                    Ok(at) if !add => suffixes.remove(at),
                    Err(at) if add => suffixes.insert(at, &string),
                    _ => {}
                }
                if add { model.insert(string) } else { model.remove(&string) };
                let strings: Vec<&[u8]> = model.iter().map(Vec::as_slice).collect();
                let kept: Vec<&[u8]> = (0..suffixes.len()).map(|at| suffixes.get(at)).collect();
                prop_assert_eq!(&kept, &strings);
                prop_assert_eq!(&Suffixes::new(&strings).packed, &suffixes.packed);
            }
        }
    }
}
