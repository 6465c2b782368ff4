//! What a digest says. This is the format that checkpoints sign.
//!
//! All digests are SHA-256 of a tag byte and what follows it; integers are little-endian.
//!
//! ```text
//! value  0  the value's bytes
//! block  1  number of entries (32 bits); of each: length of its suffix (32 bits), suffix, digest of its value
//! inner  2  1 if the path begins in the middle of a byte, else 0 (8 bits); nibbles of the path (32 bits), the bytes that
//!           hold them with zeroes around; 1 and the digest of its value if a key ends here, else 0; which nibbles go on
//!           (16 bits, bit n for nibble n), and their digests in order
//! map    3  number of entries (64 bits), bytes of all keys and values (64 bits); the root's digest unless it is empty
//! ```
//!
//! The suffix of a key in a block that begins at depth d (in nibbles) is what remains of it from byte d/2 on, rounded
//! down. Where each field ends is said before it or fixed, so no two different nodes are hashed from the same bytes.
//!
//! A digest is worked out when it is asked for, and kept in its node until that is changed. A node that has one has only
//! such nodes below it, but for digests that cells do not keep: a change forgets the digests of all nodes on its way.

use crate::node::{Block, Child, Inner, Slot, warm};
use crate::path::Path;
use crate::tally;
use alloc::vec::Vec;
use core::ops::Deref;
use testudo_core::Digest;

const VALUE: u8 = 0;
const BLOCK: u8 = 1;
const INNER: u8 = 2;
const MAP: u8 = 3;

/// The digest of a value.
pub(crate) fn of_value(value: &[u8]) -> Digest {
    tally::values_hashed();
    Digest::of_parts(&[&[VALUE], value])
}

/// The digest of a map of so many entries and bytes; `root` is the digest of its root.
pub(crate) fn of_map(entries: u64, bytes: u64, root: Option<&Digest>) -> Digest {
    let root = root.map_or(&[][..], |root| &root.0);
    Digest::of_parts(&[&[MAP], &entries.to_le_bytes(), &bytes.to_le_bytes(), root])
}

/// What a node is hashed from, in the making. The buffer may be used again and again.
#[derive(Default)]
pub(crate) struct Preimage(Vec<u8>);

impl Preimage {
    /// Begins a block of so many entries.
    pub(crate) fn begin_block(&mut self, entries: usize) {
        self.0.clear();
        self.0.push(BLOCK);
        self.0.extend_from_slice(&(entries as u32).to_le_bytes());
    }

    /// Takes in the next entry of a block.
    pub(crate) fn entry(&mut self, suffix: &[u8], value: &Digest) {
        self.0.extend_from_slice(&(suffix.len() as u32).to_le_bytes());
        self.0.extend_from_slice(suffix);
        self.0.extend_from_slice(&value.0);
    }

    /// Begins an inner node.
    pub(crate) fn begin_inner<B: Deref<Target = [u8]>>(
        &mut self,
        path: &Path<B>,
        value: Option<&Digest>,
        present: u16,
    ) {
        self.0.clear();
        self.0.extend_from_slice(&[INNER, u8::from(path.is_odd())]);
        self.0.extend_from_slice(&(path.len() as u32).to_le_bytes());
        self.0.extend_from_slice(path.bytes());
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            self.0.extend_from_slice(&value.0);
        }
        self.0.extend_from_slice(&present.to_le_bytes());
    }

    /// Takes in the digests of the next children of an inner node.
    pub(crate) fn children(&mut self, digests: &[u8]) {
        self.0.extend_from_slice(digests);
    }

    /// All of a block.
    pub(crate) fn block(&mut self, block: &Block) {
        self.begin_block(block.len());
        for (at, slot) in block.slots.iter().enumerate() {
            self.entry(block.suffixes.get(at), &of_slot(slot));
        }
    }

    /// All of an inner node but its children.
    pub(crate) fn inner(&mut self, inner: &Inner) {
        let value = inner.value.as_deref().map(of_slot);
        self.begin_inner(&inner.path, value.as_ref(), inner.present);
    }

    /// How many bytes it is.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The node's digest.
    pub(crate) fn finish(&self) -> Digest {
        tally::hashed();
        Digest::of(&self.0)
    }
}

/// The digest of a slot's value.
pub(crate) fn of_slot(slot: &Slot) -> Digest {
    slot.digest.get().unwrap_or_else(|| {
        let digest = of_value(&slot.value);
        slot.digest.set(&digest);
        digest
    })
}

/// The digest of a block.
pub(crate) fn of_block(block: &Block, scratch: &mut Preimage) -> Digest {
    block.digest.get().unwrap_or_else(|| {
        scratch.block(block);
        let digest = scratch.finish();
        block.digest.set(&digest);
        digest
    })
}

/// An inner node whose children are being hashed.
struct Frame<'a> {
    inner: &'a Inner,
    /// The child whose digest is next.
    next: usize,
    /// Where its children's digests begin among all those that wait for the nodes above them.
    first: usize,
}

/// Reads what the hashing of a node will read, so that the memory is waited for once for all its children.
fn warm_children(inner: &Inner) {
    warm(inner.children.iter().map(Child::holders));
    let dirty = || {
        let blocks = inner.children.iter().filter_map(|child| match child {
            Child::Block(_, block) => Some(&**block),
            Child::Inner(_) => None,
        });
        blocks.filter(|block| block.digest.get().is_none())
    };
    warm(dirty().map(|block| block.suffixes.get(0).len()));
    warm(
        dirty().flat_map(|block| &block.slots).map(|slot| usize::from(slot.digest.get().is_none())),
    );
    let new = dirty().flat_map(|block| &block.slots).filter(|slot| slot.digest.get().is_none());
    warm(new.map(|slot| usize::from(slot.value.first().copied().unwrap_or_default())));
}

/// The digest of a subtree: bottom up over the nodes that have none, with a stack of its own.
pub(crate) fn of_child(root: &Child) -> Digest {
    let (mut scratch, mut stack, mut digests) = (Preimage::default(), Vec::new(), Vec::new());
    let mut child = root;
    loop {
        let mut digest = match child {
            Child::Block(_, block) => Some(of_block(block, &mut scratch)),
            Child::Inner(inner) => {
                let known = inner.digest.get();
                if known.is_none() {
                    warm_children(inner);
                    stack.push(Frame { inner, next: 0, first: digests.len() });
                }
                known
            }
        };
        // Hand the digest to the node above, and that one's on when it is whole.
        loop {
            let Some(frame) = stack.last_mut() else { return digest.unwrap_or_default() };
            if let Some(digest) = digest.take() {
                digests.extend_from_slice(&digest.0);
                frame.next += 1;
            }
            if let Some(next) = frame.inner.children.get(frame.next) {
                child = next;
                break;
            }
            let inner = frame.inner;
            scratch.inner(inner);
            scratch.children(&digests[frame.first..]);
            digests.truncate(frame.first);
            stack.pop();
            let finished = scratch.finish();
            inner.digest.set(&finished);
            digest = Some(finished);
        }
    }
}
