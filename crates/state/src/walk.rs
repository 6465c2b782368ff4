//! Going through a tree in the order of its keys, in either direction, with a stack of one's own.

use crate::node::{Block, Child, Inner, Slot};
use crate::path::{self, nibble};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::Bound;

/// A place between keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut<'k> {
    /// Before all keys.
    Start,
    /// Just before a key.
    Before(&'k [u8]),
    /// Just after a key.
    After(&'k [u8]),
    /// After all keys.
    End,
}

impl<'k> Cut<'k> {
    /// Where a range with this lower bound begins.
    pub(crate) const fn from(bound: Bound<&'k [u8]>) -> Self {
        match bound {
            Bound::Included(key) => Self::Before(key),
            Bound::Excluded(key) => Self::After(key),
            Bound::Unbounded => Self::Start,
        }
    }

    /// Where a range with this upper bound ends.
    pub(crate) const fn to(bound: Bound<&'k [u8]>) -> Self {
        match bound {
            Bound::Included(key) => Self::After(key),
            Bound::Excluded(key) => Self::Before(key),
            Bound::Unbounded => Self::End,
        }
    }

    /// Whether a key lies after the cut.
    pub(crate) fn is_before(self, key: &[u8]) -> bool {
        match self {
            Self::Start => true,
            Self::Before(at) => at <= key,
            Self::After(at) => at < key,
            Self::End => false,
        }
    }
}

/// What comes next in a subtree that was entered.
#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    /// A subtree. Unless it is entered, it is passed over.
    Child(&'a Child),
    /// An entry.
    Entry(&'a Slot),
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Inner(&'a Inner),
    Block(&'a Block),
}

/// A subtree that was entered.
struct Frame<'a> {
    place: Place<'a>,
    /// Of an inner node: the depth at which its path ends. Of a block: the depth at which it begins.
    depth: usize,
    /// Items before this one lie on one side of where the walk stands, the others on the other.
    at: usize,
}

/// A walk through a tree.
pub(crate) struct Walk<'a> {
    stack: Vec<Frame<'a>>,
    /// The key, or the beginning of all keys of the subtree, that the last step came to.
    key: Vec<u8>,
    /// How many nibbles of it.
    nibbles: usize,
    reverse: bool,
}

impl<'a> Walk<'a> {
    /// A walk of all that lies after the cut, or of all before it if `reverse`.
    pub(crate) fn new(root: Option<&'a Child>, cut: Cut<'_>, reverse: bool) -> Self {
        let mut walk = Self::within(&[], 0, reverse);
        let Some(root) = root else { return walk };
        match cut {
            Cut::Start if reverse => {}
            Cut::End if !reverse => {}
            Cut::Start | Cut::End => walk.enter(root),
            Cut::Before(key) => walk.seek(root, key, false),
            Cut::After(key) => walk.seek(root, key, true),
        }
        walk
    }

    /// A walk that stands before a subtree whose keys all begin so, to enter that and nothing else.
    pub(crate) fn within(key: &[u8], nibbles: usize, reverse: bool) -> Self {
        Self { stack: Vec::new(), key: key.to_vec(), nibbles, reverse }
    }

    /// Enters the subtrees on the way to a key. The walk stands before or after it.
    fn seek(&mut self, mut child: &'a Child, key: &[u8], after: bool) {
        loop {
            let depth = self.nibbles;
            let rest = &key[depth / 2..];
            self.enter(child);
            let Some(frame) = self.stack.last_mut() else { return };
            match frame.place {
                Place::Block(block) => {
                    frame.at = match block.suffixes.find(rest) {
                        Ok(at) => at + usize::from(after),
                        Err(at) => at,
                    };
                    return;
                }
                Place::Inner(inner) => {
                    let matched = inner.path.matching(rest);
                    let end = depth + matched;
                    if matched < inner.path.len() {
                        // All of the subtree lies on one side.
                        let ends = key.len() * 2 == end;
                        let less = ends || nibble(key, end) < inner.path.nibble(matched);
                        frame.at = if less { 0 } else { Frame::ITEMS };
                        return;
                    }
                    if key.len() * 2 == end {
                        frame.at = usize::from(after);
                        return;
                    }
                    let nibble = nibble(key, end);
                    frame.at = usize::from(nibble) + 1;
                    let Some(next) = inner.child(nibble) else { return };
                    // The walk stands in this child, so here it has been passed.
                    frame.at += usize::from(!self.reverse);
                    path::push(&mut self.key, &mut self.nibbles, nibble);
                    child = next;
                }
            }
        }
    }

    /// Enters the subtree that the last step came to.
    pub(crate) fn enter(&mut self, child: &'a Child) {
        let frame = match child {
            Child::Inner(inner) => {
                path::append(&mut self.key, &mut self.nibbles, &inner.path);
                let at = if self.reverse { Frame::ITEMS } else { 0 };
                Frame { place: Place::Inner(inner), depth: self.nibbles, at }
            }
            Child::Block(_, block) => {
                let at = if self.reverse { block.len() } else { 0 };
                Frame { place: Place::Block(block), depth: self.nibbles, at }
            }
        };
        self.stack.push(frame);
    }

    /// Goes on to the next item.
    pub(crate) fn step(&mut self) -> Option<Step<'a>> {
        loop {
            let frame = self.stack.last_mut()?;
            let item = frame.next(self.reverse);
            let depth = frame.depth;
            match (frame.place, item) {
                (Place::Block(block), Some(at)) => {
                    self.key.truncate(depth / 2);
                    self.key.extend_from_slice(block.suffixes.get(at));
                    self.nibbles = self.key.len() * 2;
                    return Some(Step::Entry(&block.slots[at]));
                }
                (Place::Inner(inner), Some(at)) => {
                    path::cut_to(&mut self.key, depth);
                    self.nibbles = depth;
                    let Some(nibble) = at.checked_sub(1) else {
                        if let Some(slot) = inner.value.as_deref() {
                            return Some(Step::Entry(slot));
                        }
                        continue;
                    };
                    path::push(&mut self.key, &mut self.nibbles, nibble as u8);
                    if let Some(child) = inner.child(nibble as u8) {
                        return Some(Step::Child(child));
                    }
                }
                (_, None) => {
                    self.stack.pop();
                }
            }
        }
    }

    /// Goes on to the next entry.
    pub(crate) fn next_entry(&mut self) -> Option<&'a Slot> {
        loop {
            match self.step()? {
                Step::Entry(slot) => return Some(slot),
                Step::Child(child) => self.enter(child),
            }
        }
    }

    /// The key that the last step came to; of a subtree, what all its keys begin with.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// How many nibbles of it.
    pub(crate) const fn nibbles(&self) -> usize {
        self.nibbles
    }

    /// How many subtrees it is in.
    pub(crate) const fn depth(&self) -> usize {
        self.stack.len()
    }
}

impl Frame<'_> {
    /// Items of an inner node: the value, and sixteen children.
    const ITEMS: usize = 17;

    /// The next item; the frame stands after it.
    fn next(&mut self, reverse: bool) -> Option<usize> {
        let item = match (self.place, reverse) {
            (Place::Block(block), false) => (self.at < block.len()).then_some(self.at),
            (Place::Block(_), true) => self.at.checked_sub(1),
            (Place::Inner(inner), false) => {
                let ahead = inner.items() >> self.at;
                (ahead != 0).then(|| self.at + ahead.trailing_zeros() as usize)
            }
            (Place::Inner(inner), true) => {
                let ahead = inner.items() & ((1 << self.at) - 1);
                ahead.checked_ilog2().map(|item| item as usize)
            }
        }?;
        self.at = item + usize::from(!reverse);
        Some(item)
    }
}

/// Entries in ascending order from one end, and in descending order from the other.
pub(crate) struct Range<'a> {
    root: Option<&'a Child>,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    front: Option<Walk<'a>>,
    back: Option<Walk<'a>>,
    is_done: bool,
}

impl<'a> Range<'a> {
    pub(crate) fn new(root: Option<&'a Child>, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Self {
        let (from, to) = (from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec));
        Self { root, from, to, front: None, back: None, is_done: false }
    }

    /// Goes on at one end until what lies there has been met from the other.
    pub(crate) fn advance(&mut self, reverse: bool) -> Option<(&[u8], &'a Slot)> {
        if self.is_done {
            return None;
        }
        let (from, to) = (Cut::from(bound(&self.from)), Cut::to(bound(&self.to)));
        let (near, far, start) = if reverse {
            (&mut self.back, &self.front, to)
        } else {
            (&mut self.front, &self.back, from)
        };
        let near = near.get_or_insert_with(|| Walk::new(self.root, start, reverse));
        let slot = near.next_entry();
        let is_within = match far.as_ref().map(Walk::key) {
            Some(met) => {
                near.key().cmp(met) == if reverse { Ordering::Greater } else { Ordering::Less }
            }
            None if reverse => from.is_before(near.key()),
            None => !to.is_before(near.key()),
        };
        self.is_done = slot.is_none() || !is_within;
        let key = near.key();
        slot.filter(|_| is_within).map(|slot| (key, slot))
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = (Arc<[u8]>, &'a Arc<[u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.advance(false).map(|(key, slot)| (key.into(), &slot.value))
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.advance(true).map(|(key, slot)| (key.into(), &slot.value))
    }
}

fn bound(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}
