//! Which watches a key concerns.
//!
//! Most watches are of one key or of one prefix. Single keys lie in a map, everything else in a tree of ranges
//! ([`super::tree`]). Watches of the same keys share one entry.

use super::tree::{End, Tree};
use crate::operation::Bytes;
use alloc::collections::{BTreeMap, BTreeSet};
use core::cmp::Ordering;

/// The keys of one watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Span {
    /// One key.
    One(Bytes),
    /// All keys from the first up to the end. Never empty.
    Range(Bytes, End),
}

impl Span {
    /// Reads a pair of key and range end as etcd's watches do; none if no key can lie in it.
    pub(super) fn new(key: &Bytes, range_end: &Bytes) -> Option<Self> {
        let key = if key.is_empty() { Bytes::from([0]) } else { key.clone() };
        match &range_end[..] {
            [] => Some(Self::One(key)),
            [0] => Some(Self::Range(key, End::Never)),
            _ if *range_end > key => Some(Self::Range(key, End::Before(range_end.clone()))),
            _ => None,
        }
    }

    /// How many bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::One(key) | Self::Range(key, End::Never) => key.len(),
            Self::Range(key, End::Before(end)) => key.len() + end.len(),
        }
    }

    /// Where those of `sorted` lie that are in this span; `compare` holds an item's key against another.
    pub(super) fn within<T>(
        &self,
        sorted: &[T],
        compare: impl Fn(&T, &[u8]) -> Ordering,
    ) -> core::ops::Range<usize> {
        let before = |bound: &[u8]| sorted.partition_point(|item| compare(item, bound).is_lt());
        match self {
            Self::One(one) => {
                let at = before(one);
                let found = sorted.get(at).is_some_and(|item| compare(item, one).is_eq());
                at..at + usize::from(found)
            }
            Self::Range(from, End::Never) => before(from)..sorted.len(),
            Self::Range(from, End::Before(end)) => before(from)..before(end),
        }
    }
}

/// Watches by the keys that they are of.
#[derive(Debug)]
pub(super) struct Index<T> {
    keys: BTreeMap<Bytes, BTreeSet<T>>,
    ranges: Tree<T>,
    /// How many watches there are.
    count: usize,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), ranges: Tree::default(), count: 0 }
    }
}

impl<T: Ord + Copy> Index<T> {
    /// How many watches there are.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// Adds a watch, which is not there yet.
    pub(super) fn insert(&mut self, span: &Span, watch: T) {
        self.count += 1;
        match span {
            Span::One(key) => {
                self.keys.entry(key.clone()).or_default().insert(watch);
            }
            Span::Range(from, to) => self.ranges.insert(from, to, watch),
        }
    }

    /// Removes a watch, which is there.
    pub(super) fn remove(&mut self, span: &Span, watch: &T) {
        debug_assert!(self.count > 0);
        self.count = self.count.saturating_sub(1);
        match span {
            Span::One(key) => {
                if let Some(watches) = self.keys.get_mut(key) {
                    watches.remove(watch);
                    if watches.is_empty() {
                        self.keys.remove(key);
                    }
                }
            }
            Span::Range(from, to) => self.ranges.remove(from, to, watch),
        }
    }

    /// Visits every watch that `key` concerns, each once.
    pub(super) fn visit(&self, key: &[u8], visit: &mut dyn FnMut(T)) {
        if let Some(watches) = self.keys.get(key) {
            watches.iter().for_each(|watch| visit(*watch));
        }
        self.ranges.visit(key, visit);
    }
}
