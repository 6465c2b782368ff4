//! The replicated state: a persistent, authenticated, ordered map from bytes to bytes, and overlays on it that can be
//! thrown away.
//!
//! An operation executes on an [`Overlay`]. If it ends well the overlay is merged into the [`Map`]; if it panics the
//! overlay is dropped and the map never knew.
//!
//! # The tree
//!
//! A [`Map`] is a radix tree over the nibbles of its keys. Paths on which nothing parts are compressed, and every
//! largest subtree of at most sixteen entries is packed into one *block*, sorted. So the shape is a function of the
//! contents alone, whatever came and went before, and so is the digest ([`hash`] has the format). No hash of keys and no
//! chance takes part in the shape, so there are no collisions to look for. Who chooses the keys can make the tree deep, at
//! a price: no way is longer than a key has nibbles, and each level on it takes an entry of its own that parts there, whose
//! key is as long as the way to that place. A depth of d so costs some d²/4 bytes of keys: a thousand levels a quarter of
//! a megabyte, and no map with a gigabyte of keys is deeper than 65,537. And that is all that it does: a change under such
//! a key looks at, copies and hashes as many nodes as there are levels, and no others. Because a tree may be so deep,
//! nothing here recurses: not even dropping.
//!
//! Nodes are shared. A clone costs O(1), and whoever changes a node that others hold copies it first ([`edit`]). Nodes
//! keep their digests once they were asked for, through shared references: a digest worked out on a clone, by another
//! thread, is there for all who hold the same nodes.
//!
//! # What it gives
//!
//! The digest of a checkpoint and an O(1) copy of it to keep; proofs of what lies in a range, and of what does not;
//! transfer in chunks that prove themselves ([`Chunk`], [`Import`]), or node by node, so that only what differs travels
//! ([`sync`]); the difference of two versions; and a scrub that finds what the memory has garbled.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(test)]
mod bounds;
mod cell;
mod chunk;
mod diff;
mod edit;
mod hash;
mod import;
mod node;
mod overlay;
mod path;
mod proof;
mod scrub;
mod span;
mod statistics;
mod suffixes;
pub mod sync;
mod tally;
mod walk;

pub use chunk::{Chunk, Part};
pub use import::Import;
pub use overlay::Overlay;
pub use proof::{ProofError, Proven, RangeProof};
pub use scrub::{Damage, Scrubbed};
pub use statistics::Statistics;

use alloc::sync::Arc;
use core::fmt;
use core::ops::Bound;
use node::{Child, Slot};
use testudo_contracts::{Reading, Store};
use testudo_core::Digest;
use walk::{Cut, Range, Walk};

/// An ordered map from bytes to bytes whose digest depends on its contents only. Values are shared, not copied, and so
/// are all parts of the map that a clone has in common with it.
#[derive(Clone, Default)]
pub struct Map {
    /// None if there are no entries.
    root: Option<Child>,
    entries: usize,
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
        edit::get(self.root.as_ref()?, key).map(|slot| &slot.value)
    }

    /// Sets the value at `key`, and gives the one that was there.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: Arc<[u8]>) -> Option<Arc<[u8]>> {
        let key = key.as_ref();
        assert!(key.len() <= KEY_BYTES, "insert: keys are shorter than what they come in");
        self.bytes += value.len() as u64;
        let slot = Slot::new(value);
        let old = match &mut self.root {
            None => {
                self.root = Some(Child::single(key, slot));
                None
            }
            Some(root) => edit::insert(root, key, slot),
        };
        match &old {
            Some(old) => self.bytes -= old.value.len() as u64,
            None => {
                self.bytes += key.len() as u64;
                self.entries += 1;
            }
        }
        old.map(|old| old.value)
    }

    /// Removes `key`, and gives the value that was there.
    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<[u8]>> {
        self.get(key)?;
        let old = edit::remove(self.root.as_mut()?, key)?;
        self.entries -= 1;
        self.bytes -= (key.len() + old.value.len()) as u64;
        if self.entries == 0 {
            self.root = None;
        }
        Some(old.value)
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The entries within the bounds, in ascending order. Bounds that cross hold nothing. Each key is put together for
    /// the caller; [`Reading::scan`] lends them.
    pub fn range<'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (Arc<[u8]>, &'a Arc<[u8]>)> + use<'a> {
        Range::new(self.root.as_ref(), from, to)
    }

    /// All entries, in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Arc<[u8]>, &Arc<[u8]>)> {
        self.range(Bound::Unbounded, Bound::Unbounded)
    }

    /// The digest of the contents, of their number and of their size. It costs the nodes that changed since it was last
    /// asked of this map or of one that shares them: asked of a clone on another thread, it is work done for this one.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let root = self.root.as_ref().map(hash::of_child);
        hash::of_map(self.entries as u64, self.bytes, root.as_ref())
    }
}

/// Bytes that a key may have. What comes from outside is smaller by far (`limits`); this keeps the offsets in blocks
/// within 32 bits.
const KEY_BYTES: usize = 128 << 20;

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        let mut is_equal = (self.entries, self.bytes) == (other.entries, other.bytes);
        if is_equal {
            self.diff(other, |_, _, _| {
                is_equal = false;
                false
            });
        }
        is_equal
    }
}

impl Eq for Map {}

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
        let (from, to) = (Cut::from(from), Cut::to(to));
        let start = if reverse { to } else { from };
        let mut walk = Walk::new(self.root.as_ref(), start, reverse);
        while let Some(slot) = walk.next_entry() {
            let key = walk.key();
            let is_past = if reverse { !from.is_before(key) } else { to.is_before(key) };
            if is_past || !visit(key, &slot.value) {
                return;
            }
        }
    }
}

impl Store for Map {
    fn put(&mut self, key: &[u8], value: Arc<[u8]>) {
        self.insert(key, value);
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        self.remove(key).is_some()
    }
}
