//! Which parts of a tree can hold keys of a range: worked out on the way down, each nibble looked at once.

use crate::path::{Path, nibble};
use crate::walk::Cut;
use core::cmp::Ordering;
use core::ops::Deref;

/// Where all keys of a subtree lie, seen from a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Before,
    /// On both sides, for all that is known: the way here leads to the key of the cut.
    Around,
    After,
}

#[derive(Clone, Copy, Debug)]
struct Edge<'k> {
    cut: Cut<'k>,
    side: Side,
}

impl<'k> Edge<'k> {
    const fn new(cut: Cut<'k>) -> Self {
        let side = match cut {
            Cut::Start => Side::After,
            Cut::End => Side::Before,
            Cut::Before(_) | Cut::After(_) => Side::Around,
        };
        Self { cut, side }
    }

    /// The cut's key, while it lies on the way.
    const fn key(&self) -> Option<&'k [u8]> {
        match (self.side, self.cut) {
            (Side::Around, Cut::Before(key) | Cut::After(key)) => Some(key),
            _ => None,
        }
    }

    /// The side of the cut's key itself.
    const fn own_side(&self) -> Side {
        if let Cut::Before(_) = self.cut { Side::After } else { Side::Before }
    }

    fn along<B: Deref<Target = [u8]>>(&mut self, depth: usize, path: &Path<B>) {
        let Some(key) = self.key() else { return };
        let matched = path.matching(key.get(depth / 2..).unwrap_or_default());
        let end = depth + matched;
        if matched == path.len() {
            return;
        }
        let is_longer = key.len() * 2 == end;
        let is_after = is_longer || path.nibble(matched) > nibble(key, end);
        self.side = if is_after { Side::After } else { Side::Before };
    }

    fn at_child(&mut self, depth: usize, child: u8) {
        let Some(key) = self.key() else { return };
        let is_longer = key.len() * 2 == depth;
        self.side = match child.cmp(&if is_longer { 0 } else { nibble(key, depth) }) {
            _ if is_longer => Side::After,
            Ordering::Less => Side::Before,
            Ordering::Equal => Side::Around,
            Ordering::Greater => Side::After,
        };
    }

    const fn of_value(&self, depth: usize) -> Side {
        match self.key() {
            None => self.side,
            Some(key) if key.len() * 2 == depth => self.own_side(),
            Some(_) => Side::Before,
        }
    }

    fn of_suffix(&self, depth: usize, suffix: &[u8]) -> Side {
        let Some(key) = self.key() else { return self.side };
        match suffix.cmp(key.get(depth / 2..).unwrap_or_default()) {
            Ordering::Less => Side::Before,
            Ordering::Equal => self.own_side(),
            Ordering::Greater => Side::After,
        }
    }
}

/// A range of keys, seen from a subtree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'k> {
    from: Edge<'k>,
    to: Edge<'k>,
}

impl<'k> Span<'k> {
    /// The keys after one cut and before another, seen from the root.
    pub(crate) const fn new(from: Cut<'k>, to: Cut<'k>) -> Self {
        Self { from: Edge::new(from), to: Edge::new(to) }
    }

    /// The same, seen from where the path of an inner node that begins at `depth` ends.
    pub(crate) fn along<B: Deref<Target = [u8]>>(mut self, depth: usize, path: &Path<B>) -> Self {
        self.from.along(depth, path);
        self.to.along(depth, path);
        self
    }

    /// The same, seen from the child after a nibble of an inner node whose path ends at `depth`.
    pub(crate) fn at_child(mut self, depth: usize, nibble: u8) -> Self {
        self.from.at_child(depth, nibble);
        self.to.at_child(depth, nibble);
        self
    }

    /// Whether the subtree may hold keys of the range.
    pub(crate) fn meets(&self) -> bool {
        self.from.side != Side::Before && self.to.side != Side::After
    }

    /// Whether the key that ends here, after the path of an inner node, is in the range.
    pub(crate) fn has_value(&self, depth: usize) -> bool {
        self.from.of_value(depth) == Side::After && self.to.of_value(depth) == Side::Before
    }

    /// Whether a key of a block that begins at `depth` is in the range.
    pub(crate) fn has_suffix(&self, depth: usize, suffix: &[u8]) -> bool {
        self.from.of_suffix(depth, suffix) == Side::After
            && self.to.of_suffix(depth, suffix) == Side::Before
    }
}
