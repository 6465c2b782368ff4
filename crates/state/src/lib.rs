//! The replicated state: an ordered map from bytes to bytes, and overlays on it that can be thrown away.
//!
//! An operation executes on an [`Overlay`]. If it ends well the overlay is merged into the [`Map`]; if it panics the
//! overlay is dropped and the map never knew. The digest is a function of the map's contents alone; it is computed
//! over the whole map, which is what limits how large a state a cluster carries comfortably.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod overlay;

pub use overlay::Overlay;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Bound;
use testudo_contracts::{Reading, Store};
use testudo_core::Digest;
use testudo_core::digest::Hasher;

/// An ordered map from bytes to bytes whose digest depends on its contents only. Values are shared, not copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    entries: BTreeMap<Arc<[u8]>, Arc<[u8]>>,
    /// Bytes of all keys and values.
    bytes: u64,
}

impl Map {
    /// The empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value at `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Arc<[u8]>> {
        self.entries.get(key)
    }

    /// Sets the value at `key`, and gives the one that was there.
    pub fn insert(&mut self, key: Arc<[u8]>, value: Arc<[u8]>) -> Option<Arc<[u8]>> {
        let (key_bytes, value_bytes) = (key.len() as u64, value.len() as u64);
        let old = self.entries.insert(key, value);
        self.bytes += value_bytes;
        match &old {
            Some(old) => self.bytes -= old.len() as u64,
            None => self.bytes += key_bytes,
        }
        old
    }

    /// Removes `key`, and gives the value that was there.
    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<[u8]>> {
        let old = self.entries.remove(key)?;
        self.bytes -= (key.len() + old.len()) as u64;
        Some(old)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The entries within the bounds, in ascending order. Bounds that cross hold nothing.
    pub fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&Arc<[u8]>, &Arc<[u8]>)> {
        let (from, to) = if crosses(from, to) {
            (Bound::Included(&[][..]), Bound::Excluded(&[][..]))
        } else {
            (from, to)
        };
        self.entries.range::<[u8], _>((from, to))
    }

    /// The digest of the contents: of every key and value with their lengths, in order of keys, and their number.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher.update(&(self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            hasher.update(&(key.len() as u64).to_le_bytes());
            hasher.update(key);
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(value);
        }
        hasher.finish()
    }
}

impl Reading for Map {
    fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        Self::get(self, key).cloned()
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &Arc<[u8]>) -> bool,
    ) {
        let mut range = self.range(from, to);
        while let Some((key, value)) = if reverse { range.next_back() } else { range.next() } {
            if !visit(key, value) {
                return;
            }
        }
    }
}

impl Store for Map {
    fn put(&mut self, key: &[u8], value: Arc<[u8]>) {
        self.insert(key.into(), value);
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        self.remove(key).is_some()
    }
}

/// Whether no key can lie within the bounds; `BTreeMap::range` panics on most such bounds.
pub(crate) fn crosses(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to)) => from >= to,
    }
}
