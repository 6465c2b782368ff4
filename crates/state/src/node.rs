//! What the tree is made of.

use crate::cell::DigestCell;
use crate::path::{self, Path};
use crate::suffixes::Suffixes;
use crate::tally;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;

/// How many entries a block holds at most. It is part of the format: a subtree with more is an inner node.
pub(crate) const BLOCK_ENTRIES: usize = 16;

/// The value of an entry, and its digest.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) value: Arc<[u8]>,
    pub(crate) digest: DigestCell,
}

impl Slot {
    pub(crate) fn new(value: Arc<[u8]>) -> Self {
        // Empty values are many, and need not take memory each.
        let value = if value.is_empty() { Arc::default() } else { value };
        Self { value, digest: DigestCell::default() }
    }
}

/// A small subtree: its entries in order. A block begins at a depth, as every subtree does: all its keys agree in so
/// many nibbles. Of each key it holds the bytes from the one on in which the nibble at that depth lies.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) digest: DigestCell,
    pub(crate) suffixes: Suffixes,
    pub(crate) slots: Vec<Slot>,
}

impl Block {
    /// A block of the entries gathered.
    pub(crate) fn new(suffixes: &[&[u8]], slots: Vec<Slot>) -> Self {
        debug_assert_eq!(suffixes.len(), slots.len());
        Self { digest: DigestCell::default(), suffixes: Suffixes::new(suffixes), slots }
    }

    pub(crate) const fn len(&self) -> usize {
        self.slots.len()
    }

    /// Sets the value of a key; the one that it had.
    pub(crate) fn insert(&mut self, suffix: &[u8], slot: Slot) -> Option<Slot> {
        self.digest.clear();
        match self.suffixes.find(suffix) {
            Ok(at) => Some(mem::replace(&mut self.slots[at], slot)),
            Err(at) => {
                self.suffixes.insert(at, suffix);
                self.slots.reserve_exact(1);
                self.slots.insert(at, slot);
                None
            }
        }
    }

    /// Removes a key that is there.
    pub(crate) fn remove(&mut self, suffix: &[u8]) -> Option<Slot> {
        let at = self.suffixes.find(suffix).ok()?;
        self.digest.clear();
        self.suffixes.remove(at);
        let slot = self.slots.remove(at);
        self.slots.shrink_to_fit();
        Some(slot)
    }

    /// The inner node that this block is when it holds one entry too many. It begins at `depth`. As its keys do not all
    /// agree in the nibble after their longest common path, none of its children has too many.
    pub(crate) fn split(mut self, depth: usize) -> Inner {
        let last = self.len() - 1;
        let odd = !depth.is_multiple_of(2);
        let common = path::agreement(self.suffixes.get(0), self.suffixes.get(last), odd);
        // Where the path ends and the children's nibble is, counted within the suffixes.
        let end = usize::from(odd) + common;
        let path = Path::of(self.suffixes.get(0), usize::from(odd), end);
        let mut inner = Inner::new(path);
        let mut slots = mem::take(&mut self.slots).into_iter();
        let mut at = 0;
        if self.suffixes.get(0).len() * 2 == end {
            inner.value = slots.next().map(Box::new);
            at = 1;
        }
        while at <= last {
            let nibble = path::nibble(self.suffixes.get(at), end);
            let group: Vec<&[u8]> = (at..=last)
                .map(|i| self.suffixes.get(i))
                .take_while(|suffix| path::nibble(suffix, end) == nibble)
                .map(|suffix| &suffix[end.div_ceil(2)..])
                .collect();
            at += group.len();
            let slots = slots.by_ref().take(group.len()).collect();
            inner.set_child(nibble, Child::block(Self::new(&group, slots)));
        }
        inner.children.shrink_to_fit();
        inner
    }
}

/// A subtree of more than [`BLOCK_ENTRIES`] entries: where its keys part.
#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) digest: DigestCell,
    /// The nibbles in which all its keys agree, from the depth on at which it begins.
    pub(crate) path: Path,
    /// The value of the key that ends after the path.
    pub(crate) value: Option<Box<Slot>>,
    /// Which nibbles go on after the path: bit n says n.
    pub(crate) present: u16,
    /// The subtrees that begin after each of them.
    pub(crate) children: Vec<Child>,
}

impl Inner {
    /// An inner node with nothing in it yet.
    pub(crate) fn new(path: Path) -> Self {
        let mut inner = Self::default();
        inner.path = path;
        inner
    }

    /// Where the child after a nibble lies among the children.
    pub(crate) const fn position(&self, nibble: u8) -> Option<usize> {
        if self.present >> nibble & 1 == 1 { Some(self.rank(nibble)) } else { None }
    }

    const fn rank(&self, nibble: u8) -> usize {
        (self.present & ((1 << nibble) - 1)).count_ones() as usize
    }

    /// The child after a nibble.
    pub(crate) fn child(&self, nibble: u8) -> Option<&Child> {
        self.children.get(self.position(nibble)?)
    }

    /// Sets the child after a nibble.
    pub(crate) fn set_child(&mut self, nibble: u8, child: Child) {
        match self.position(nibble) {
            Some(at) => self.children[at] = child,
            None => {
                self.children.insert(self.rank(nibble), child);
                self.present |= 1 << nibble;
            }
        }
    }

    /// Removes the child after a nibble.
    pub(crate) fn remove_child(&mut self, nibble: u8) {
        if let Some(at) = self.position(nibble) {
            self.children.remove(at);
            self.present &= !(1 << nibble);
        }
    }

    /// How many entries the subtree has, if all its children are blocks. Only such a one can be few enough for a block.
    pub(crate) fn small(&self) -> Option<usize> {
        self.children.iter().try_fold(usize::from(self.value.is_some()), |sum, child| match child {
            Child::Inner(_) => None,
            Child::Block(entries, _) => Some(sum + usize::from(*entries)),
        })
    }

    /// What lies here, as bits: bit 0 the value, bit n + 1 the child after nibble n. In this order the keys ascend.
    pub(crate) const fn items(&self) -> u32 {
        (self.present as u32) << 1 | self.value.is_some() as u32
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        warm(self.slots.iter().map(|slot| Arc::strong_count(&slot.value)));
        let Self { digest, suffixes, slots } = self;
        Self { digest: digest.clone(), suffixes: suffixes.clone(), slots: slots.clone() }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        warm(self.slots.iter().map(|slot| Arc::strong_count(&slot.value)));
    }
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        warm(self.children.iter().map(Child::holders));
        let mut copy = Self::new(self.path.clone());
        copy.value.clone_from(&self.value);
        copy.present = self.present;
        copy.children.clone_from(&self.children);
        copy
    }
}

impl Drop for Inner {
    /// Chains of nodes may be as long as keys, so they are not dropped by recursion.
    fn drop(&mut self) {
        warm(self.children.iter().map(Child::holders));
        if self.children.iter().all(|child| matches!(child, Child::Block(..))) {
            return;
        }
        let mut rest = mem::take(&mut self.children);
        while let Some(child) = rest.pop() {
            if let Child::Inner(inner) = child
                && let Some(mut inner) = Arc::into_inner(inner)
            {
                rest.append(&mut inner.children);
            }
        }
    }
}

/// A subtree.
#[derive(Clone)]
pub(crate) enum Child {
    Inner(Arc<Inner>),
    /// With how many entries there are, so that nobody has to look for that.
    Block(u8, Arc<Block>),
}

impl Child {
    pub(crate) fn inner(inner: Inner) -> Self {
        Self::Inner(Arc::new(inner))
    }

    pub(crate) fn block(block: Block) -> Self {
        debug_assert!(block.len() <= BLOCK_ENTRIES);
        Self::Block(block.len() as u8, Arc::new(block))
    }

    /// A block of one entry.
    pub(crate) fn single(suffix: &[u8], slot: Slot) -> Self {
        let slots = vec![slot];
        Self::block(Block::new(&[suffix], slots))
    }

    /// How many share it.
    pub(crate) fn holders(&self) -> usize {
        match self {
            Self::Inner(inner) => Arc::strong_count(inner),
            Self::Block(_, block) => Arc::strong_count(block),
        }
    }

    /// Whether both are one and the same node.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inner(a), Self::Inner(b)) => Arc::ptr_eq(a, b),
            (Self::Block(_, a), Self::Block(_, b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// The digest, if it is known.
    pub(crate) fn known_digest(&self) -> Option<testudo_core::Digest> {
        match self {
            Self::Inner(inner) => inner.digest.get(),
            Self::Block(_, block) => block.digest.get(),
        }
    }
}

/// A node to change: the one there if nobody else has it, otherwise a copy.
pub(crate) fn own<T: Clone>(node: &mut Arc<T>) -> &mut T {
    if cfg!(test) && Arc::get_mut(node).is_none() {
        tally::copied();
    }
    Arc::make_mut(node)
}

/// Reads counts of holders that are about to be changed. Changed one by one, each waits for the memory; read before,
/// they are waited for together.
pub(crate) fn warm(counts: impl Iterator<Item = usize>) {
    core::hint::black_box(counts.fold(0, usize::wrapping_add));
}
