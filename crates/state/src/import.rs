//! A map made of entries that come in order.
//!
//! Only the nodes on the way to the last key are open: those in which the next key may still part from it. A node is
//! closed, and takes its shape, when a key comes that does not pass through it. So each entry is looked at a bounded
//! number of times, however deep it lies, and the work for a key is what it does not have in common with the one before.

use crate::Map;
use crate::edit::gather;
use crate::node::{BLOCK_ENTRIES, Child, Inner, Slot};
use crate::path::{Path, agreement, nibble};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::{fmt, mem};

/// A map in the making, of entries that come in order.
#[derive(Clone, Default)]
pub struct Import {
    /// The nodes on the way to the last key, and the depths at which their paths end.
    open: Vec<(usize, Inner)>,
    last: Vec<u8>,
    /// The last key's value; none at the beginning.
    slot: Option<Slot>,
    entries: usize,
    bytes: u64,
    /// What did not come in order.
    late: Vec<(Box<[u8]>, Arc<[u8]>)>,
}

/// A subtree that no further key passes through.
enum Closed {
    /// The last key alone.
    Key(Slot),
    /// A node, and the depth at which its path ends.
    Node(usize, Inner),
}

impl Import {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next entry. One that does not come in strictly ascending order is put in its place in the end, which
    /// is slower; of two with the same key the later one counts.
    pub fn push(&mut self, key: impl AsRef<[u8]>, value: Arc<[u8]>) {
        let key = key.as_ref();
        assert!(key.len() <= crate::KEY_BYTES, "push: keys are shorter than what they come in");
        if let Some(slot) = self.slot.take() {
            if key <= self.last.as_slice() {
                self.slot = Some(slot);
                return self.late.push((key.into(), value));
            }
            self.part(agreement(&self.last, key, false), slot);
        }
        self.entries += 1;
        self.bytes += (key.len() + value.len()) as u64;
        self.last.clear();
        self.last.extend_from_slice(key);
        self.slot = Some(Slot::new(value));
    }

    /// Closes what lies below `depth` on the way to the last key, as the next one leaves it there.
    fn part(&mut self, depth: usize, slot: Slot) {
        let mut closed = Closed::Key(slot);
        while let Some((end, mut inner)) = self.open.pop_if(|(end, _)| *end > depth) {
            add(&mut inner, end, closed, &self.last);
            closed = Closed::Node(end, inner);
        }
        let mut inner = match self.open.pop_if(|(end, _)| *end == depth) {
            Some((_, inner)) => inner,
            None => Inner::default(),
        };
        add(&mut inner, depth, closed, &self.last);
        self.open.push((depth, inner));
    }

    /// The map: the same as if its entries had been inserted.
    #[must_use]
    pub fn finish(mut self) -> Map {
        let mut map = Map::new();
        if let Some(slot) = self.slot.take() {
            let mut closed = Closed::Key(slot);
            while let Some((end, mut inner)) = self.open.pop() {
                add(&mut inner, end, closed, &self.last);
                closed = Closed::Node(end, inner);
            }
            let root = close(closed, 0, &self.last);
            map = Map { root: Some(root), entries: self.entries, bytes: self.bytes };
        }
        for (key, value) in mem::take(&mut self.late) {
            map.insert(key, value);
        }
        map
    }
}

/// Adds a subtree with the last key in it to an open node whose path ends at `end`.
fn add(inner: &mut Inner, end: usize, closed: Closed, last: &[u8]) {
    match closed {
        Closed::Key(slot) if last.len() * 2 == end => inner.value = Some(Box::new(slot)),
        closed => inner.set_child(nibble(last, end), close(closed, end + 1, last)),
    }
}

/// Gives a subtree with the last key in it its shape. It begins at `depth`.
fn close(closed: Closed, depth: usize, last: &[u8]) -> Child {
    match closed {
        Closed::Key(slot) => Child::single(&last[depth / 2..], slot),
        Closed::Node(end, mut inner) => {
            inner.path = Path::of(last, depth, end);
            if inner.small().is_some_and(|entries| entries <= BLOCK_ENTRIES) {
                Child::block(gather(inner, last, depth))
            } else {
                inner.children.shrink_to_fit();
                Child::inner(inner)
            }
        }
    }
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import")
            .field("entries", &self.entries)
            .field("bytes", &self.bytes)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}
