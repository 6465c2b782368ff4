//! What a local tree has at the places of another one.
//!
//! The two may have other shapes: where one has a path, the other may part in the middle of it, and where one has a block,
//! the other may have a node over blocks. So it is not nodes that are held against each other but places: what the local
//! tree has under a place is brought into the one shape that it would have as a subtree that begins there. It costs a
//! node where the shapes differ, and nothing where they do not.

use crate::node::{Block, Child, Inner, Slot};
use crate::path::{Path, nibble};
use crate::walk::Walk;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// How much there is, as a map counts it.
///
/// Sums wrap: they are compared with what was certified, and a local count that the memory has garbled is to be found
/// then, not met here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Amount {
    pub(crate) entries: u64,
    /// Bytes of keys and values.
    pub(crate) bytes: u64,
}

impl Amount {
    pub(crate) const fn of_entry(key: usize, value: usize) -> Self {
        Self { entries: 1, bytes: (key + value) as u64 }
    }

    pub(crate) const fn add(&mut self, other: Self) {
        self.entries = self.entries.wrapping_add(other.entries);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }

    pub(crate) const fn subtract(&mut self, other: Self) {
        self.entries = self.entries.wrapping_sub(other.entries);
        self.bytes = self.bytes.wrapping_sub(other.bytes);
    }

    /// All that is in a subtree that begins at `depth`.
    pub(crate) fn of_subtree(child: &Child, depth: usize) -> Self {
        let beginning = vec![0; depth.div_ceil(2)];
        let mut walk = Walk::within(&beginning, depth, false);
        walk.enter(child);
        let mut amount = Self::default();
        while let Some(slot) = walk.next_entry() {
            amount.add(Self::of_entry(walk.key().len(), slot.value.len()));
        }
        amount
    }
}

/// A subtree, seen from the end of a path that begins where it begins.
#[derive(Default)]
pub(crate) struct Parted {
    /// The value of the key that ends there.
    pub(crate) value: Option<Slot>,
    /// What goes on there, after each nibble, as subtrees of their own.
    pub(crate) children: [Option<Child>; 16],
    /// All the rest: what leaves the path.
    pub(crate) others: Amount,
}

impl Parted {
    /// Parts what begins at `depth`.
    pub(crate) fn new(mut local: Option<Child>, mut depth: usize, path: &Path) -> Self {
        let mut parted = Self::default();
        // How much of the path lies behind.
        let mut from = 0;
        while let Some(child) = local.take() {
            match &child {
                Child::Block(_, block) => parted.take_block(block, depth, path, from),
                Child::Inner(inner) => {
                    let common = path.matching_from(from, inner.path.bytes()).min(inner.path.len());
                    if common == path.len() - from {
                        parted.take_inner(inner, common);
                    } else if common == inner.path.len() {
                        let nibble = path.nibble(from + common);
                        parted.leave_others(inner, depth + common, nibble);
                        local = inner.child(nibble).cloned();
                        depth += common + 1;
                        from += common + 1;
                    } else {
                        parted.others.add(Amount::of_subtree(&child, depth));
                    }
                }
            }
        }
        parted
    }

    /// All of an inner node passes through the end of the path, which lies after so many nibbles of its own.
    fn take_inner(&mut self, inner: &Inner, matched: usize) {
        if matched < inner.path.len() {
            let mut below = Inner::clone(inner);
            below.path = inner.path.tail(matched + 1);
            let nibble = inner.path.nibble(matched);
            self.children[usize::from(nibble)] = Some(Child::inner(below));
            return;
        }
        self.value = inner.value.as_deref().cloned();
        for nibble in 0..16_u8 {
            self.children[usize::from(nibble)] = inner.child(nibble).cloned();
        }
    }

    /// The path goes on after one nibble of an inner node whose own path ends at `end`. The rest of it leaves.
    fn leave_others(&mut self, inner: &Inner, end: usize, kept: u8) {
        if let Some(slot) = &inner.value {
            self.others.add(Amount::of_entry(end / 2, slot.value.len()));
        }
        for nibble in (0..16).filter(|nibble| *nibble != kept) {
            if let Some(child) = inner.child(nibble) {
                self.others.add(Amount::of_subtree(child, end + 1));
            }
        }
    }

    /// Sorts the entries of a block that begins at `depth`, along a path from one of its nibbles on.
    fn take_block(&mut self, block: &Block, depth: usize, path: &Path, from: usize) {
        let ahead = path.len() - from;
        let end = depth % 2 + ahead;
        let mut groups: [(Vec<&[u8]>, Vec<Slot>); 16] = Default::default();
        for (at, slot) in block.slots.iter().enumerate() {
            let suffix = block.suffixes.get(at);
            if path.matching_from(from, suffix) < ahead {
                self.others.add(Amount::of_entry(depth / 2 + suffix.len(), slot.value.len()));
            } else if suffix.len() * 2 <= end {
                self.value = Some(slot.clone());
            } else {
                let (suffixes, slots) = &mut groups[usize::from(nibble(suffix, end))];
                suffixes.push(&suffix[end.div_ceil(2)..]);
                slots.push(slot.clone());
            }
        }
        for (child, (suffixes, slots)) in self.children.iter_mut().zip(groups) {
            if !slots.is_empty() {
                *child = Some(Child::block(Block::new(&suffixes, slots)));
            }
        }
    }
}

/// An inner node of whatever there is, in no certain shape: none if there is nothing.
pub(crate) fn inner_of(
    path: Path,
    value: Option<Slot>,
    children: impl Iterator<Item = (u8, Option<Child>)>,
) -> Option<Child> {
    let mut inner = Inner::new(path);
    inner.value = value.map(Box::new);
    for (nibble, child) in children {
        if let Some(child) = child {
            inner.present |= 1 << nibble;
            inner.children.push(child);
        }
    }
    inner.children.shrink_to_fit();
    let is_empty = inner.items() == 0;
    (!is_empty).then(|| Child::Inner(Arc::new(inner)))
}

/// A block of whatever there is: none if there is nothing.
pub(crate) fn block_of(entries: impl Iterator<Item = (Arc<[u8]>, Option<Slot>)>) -> Option<Child> {
    let entries = entries.filter_map(|(suffix, slot)| Some((suffix, slot?)));
    let (suffixes, slots): (Vec<Arc<[u8]>>, Vec<Slot>) = entries.unzip();
    let suffixes: Vec<&[u8]> = suffixes.iter().map(|suffix| &**suffix).collect();
    (!slots.is_empty()).then(|| Child::block(Block::new(&suffixes, slots)))
}
