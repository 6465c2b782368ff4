//! Nodes that were fetched and wait for what lies below them.

use super::Place;
use super::local::{Amount, Parted, block_of, inner_of};
use super::node::Shown;
use crate::hash;
use crate::node::{Block, Child, Inner, Slot};
use crate::path::{self, Path};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_core::Digest;

/// The number of an open node. One below has a greater one.
pub(crate) type Id = u64;

/// A value of a fetched node.
#[derive(Clone)]
pub(crate) enum Value {
    Wanted(Digest),
    Whole(Slot),
}

/// A subtree below a fetched node.
#[derive(Clone)]
pub(crate) enum Subtree {
    Wanted {
        digest: Digest,
        /// What the local tree has there.
        local: Option<Child>,
    },
    /// Its first node was fetched, and waits for others.
    Open(Id),
    Whole(Child),
}

/// A fetched node some of whose items are still missing. The items of an inner node are its value (0) and its children
/// (one more than their nibble), those of a block are its values.
#[derive(Clone)]
pub(crate) struct Open {
    /// The node above, and which of its items this is. None above the root.
    pub(crate) above: Spot,
    /// At which depth it begins.
    pub(crate) depth: usize,
    digest: Digest,
    pub(crate) body: Body,
    /// The items that are not here yet, one bit each.
    pub(crate) pending: u32,
    /// Those of them that nobody was told to fetch.
    pub(crate) unasked: u32,
    /// Whether it is among the nodes that have such ones.
    pub(crate) is_queued: bool,
}

#[derive(Clone)]
pub(crate) enum Body {
    Inner {
        path: Path,
        value: Option<Value>,
        present: u16,
        /// The subtrees after the nibbles that are present, in order.
        children: Vec<Subtree>,
    },
    Block {
        entries: Vec<(Arc<[u8]>, Value)>,
    },
}

/// Of a node: the one above and which of its items it is, the depth at which it begins, and its digest.
pub(crate) type Head = (Spot, usize, Digest);

/// An item of an open node; none is the root.
pub(crate) type Spot = Option<(Id, u8)>;

/// What a node came to that was fetched.
pub(crate) struct Opened {
    pub(crate) open: Open,
    /// What it adds to the whole.
    pub(crate) added: Amount,
    /// What of the local tree it leaves out.
    pub(crate) removed: Amount,
}

impl Open {
    fn new((above, depth, digest): Head, body: Body) -> Self {
        let pending = body.wanted();
        Self { above, depth, digest, body, pending, unasked: pending, is_queued: false }
    }

    /// An inner node, as far as it can be made of itself and of what is local. `values` has the digest of its value.
    pub(crate) fn inner(
        head: Head,
        (path, value, present, digests): (&Path, Option<&Shown>, u16, &[Digest]),
        values: &[Digest],
        local: Option<Child>,
    ) -> Opened {
        let Parted { value: old, children: mut locals, others: mut removed } =
            Parted::new(local, head.1, path);
        let end = head.1 + path.len();
        let mut added = Amount::default();
        if let Some(old) = &old {
            removed.add(Amount::of_entry(end / 2, old.value.len()));
        }
        let value = value.zip(values.first()).map(|(shown, digest)| {
            let old = old.filter(|old| hash::of_slot(old) == *digest);
            Value::new(shown, *digest, old, end / 2, &mut added)
        });
        let mut children = Vec::with_capacity(digests.len());
        let mut digests = digests.iter();
        for (nibble, local) in locals.iter_mut().enumerate() {
            let local = local.take();
            if present >> nibble & 1 == 0 {
                let local = local.map(|local| Amount::of_subtree(&local, end + 1));
                removed.add(local.unwrap_or_default());
            } else if let Some(digest) = digests.next() {
                children.push(Subtree::new(*digest, local));
            }
        }
        let body = Body::Inner { path: path.clone(), value, present, children };
        Opened { open: Self::new(head, body), added, removed }
    }

    /// A block, as far as it can be made of itself and of what is local: `old` says what a key has there. `values` has
    /// the digests of its values.
    pub(crate) fn block(
        head: Head,
        entries: &[(Arc<[u8]>, Shown)],
        values: &[Digest],
        old: impl Fn(&[u8]) -> Option<Slot>,
    ) -> Opened {
        let mut added = Amount::default();
        let entries = entries.iter().zip(values).map(|((suffix, shown), digest)| {
            let old = match shown {
                Shown::Whole(_) => None,
                Shown::Apart(_) => old(suffix).filter(|old| hash::of_slot(old) == *digest),
            };
            let key = head.1 / 2 + suffix.len();
            (Arc::clone(suffix), Value::new(shown, *digest, old, key, &mut added))
        });
        let body = Body::Block { entries: entries.collect() };
        let removed = Amount::default();
        Opened { open: Self::new(head, body), added, removed }
    }

    /// Hands out the place of the next item that nobody was told to fetch, if there is one; `way` leads to the node.
    pub(crate) fn hand_out(&mut self, way: &[u8]) -> Option<Place> {
        let item = (self.unasked != 0).then(|| self.unasked.trailing_zeros())?;
        self.unasked &= self.unasked - 1;
        Some(self.place(way, item))
    }

    /// The place of an item.
    fn place(&self, way: &[u8], item: u32) -> Place {
        match &self.body {
            Body::Block { entries } => {
                let suffix = entries.get(item as usize).map(|(suffix, _)| &**suffix);
                let begin = way.get(..self.depth / 2).unwrap_or_default();
                Place::of_value([begin, suffix.unwrap_or_default()].concat())
            }
            Body::Inner { path, .. } => {
                let (mut key, mut nibbles) = (way.to_vec(), self.depth);
                path::append(&mut key, &mut nibbles, path);
                match item.checked_sub(1) {
                    None => Place::of_value(key),
                    Some(nibble) => {
                        path::push(&mut key, &mut nibbles, nibble as u8);
                        Place::of_subtree(key, nibbles)
                    }
                }
            }
        }
    }

    /// The whole node, if nothing is missing.
    pub(crate) fn close(self) -> Option<Child> {
        match self.body {
            Body::Inner { path, value, present, children } => {
                let mut inner = Inner::new(path);
                inner.value = match value {
                    None => None,
                    Some(value) => Some(Box::new(value.whole()?)),
                };
                inner.present = present;
                inner.children = children.into_iter().map(Subtree::whole).collect::<Option<_>>()?;
                inner.digest.set(&self.digest);
                Some(Child::inner(inner))
            }
            Body::Block { entries } => {
                let (suffixes, values): (Vec<Arc<[u8]>>, Vec<Value>) = entries.into_iter().unzip();
                let slots = values.into_iter().map(Value::whole).collect::<Option<Vec<_>>>()?;
                let suffixes: Vec<&[u8]> = suffixes.iter().map(|suffix| &**suffix).collect();
                let block = Block::new(&suffixes, slots);
                block.digest.set(&self.digest);
                Some(Child::block(block))
            }
        }
    }

    /// What there is of the node, with the local tree where something is missing. No subtree below it may be open.
    pub(crate) fn patch(self) -> Option<Child> {
        match self.body {
            Body::Inner { path, value, present, children } => {
                let nibbles = (0..16_u8).filter(|nibble| present >> nibble & 1 == 1);
                let children = children.into_iter().map(Subtree::patch);
                inner_of(path, value.and_then(Value::whole), nibbles.zip(children))
            }
            Body::Block { entries } => {
                block_of(entries.into_iter().map(|(suffix, value)| (suffix, value.whole())))
            }
        }
    }
}

impl Body {
    /// The items that are to be fetched, one bit each.
    pub(crate) fn wanted(&self) -> u32 {
        match self {
            Self::Inner { value, present, children, .. } => {
                let value = u32::from(value.as_ref().is_some_and(Value::is_wanted));
                let nibbles = (0..16).filter(|nibble| present >> nibble & 1 == 1);
                let wanted = nibbles.zip(children).filter(|(_, child)| child.is_wanted());
                wanted.fold(value, |wanted, (nibble, _)| wanted | 2 << nibble)
            }
            Self::Block { entries } => {
                let wanted = entries.iter().enumerate().filter(|(_, (_, value))| value.is_wanted());
                wanted.fold(0, |wanted, (at, _)| wanted | 1 << at)
            }
        }
    }

    /// The subtree at an item of an inner node.
    pub(crate) fn subtree(&mut self, item: u8) -> Option<&mut Subtree> {
        let Self::Inner { present, children, .. } = self else { return None };
        let at = position(*present, item)?;
        children.get_mut(at)
    }

    /// The value at an item.
    pub(crate) fn value(&mut self, item: u8) -> Option<&mut Value> {
        match self {
            Self::Inner { value, .. } => value.as_mut().filter(|_| item == 0),
            Self::Block { entries } => entries.get_mut(usize::from(item)).map(|(_, value)| value),
        }
    }

    /// The subtree at an item of an inner node, to look at.
    pub(crate) fn peek(&self, item: u8) -> Option<&Subtree> {
        let Self::Inner { present, children, .. } = self else { return None };
        children.get(position(*present, item)?)
    }
}

/// Where an item of an inner node is among its children.
fn position(present: u16, item: u8) -> Option<usize> {
    let nibble = u32::from(item.checked_sub(1)?);
    let is_there = present.checked_shr(nibble)? & 1 == 1;
    is_there.then(|| (present & ((1 << nibble) - 1)).count_ones() as usize)
}

impl Value {
    /// A value as it is shown, or the one that is local.
    fn new(
        shown: &Shown,
        digest: Digest,
        old: Option<Slot>,
        key: usize,
        added: &mut Amount,
    ) -> Self {
        let slot = match (old, shown) {
            (Some(old), _) => old,
            (None, Shown::Whole(value)) => Slot::new(Arc::clone(value)),
            (None, Shown::Apart(_)) => return Self::Wanted(digest),
        };
        slot.digest.set(&digest);
        added.add(Amount::of_entry(key, slot.value.len()));
        Self::Whole(slot)
    }

    /// Whether it is to be fetched.
    const fn is_wanted(&self) -> bool {
        matches!(self, Self::Wanted(_))
    }

    fn whole(self) -> Option<Slot> {
        if let Self::Whole(slot) = self { Some(slot) } else { None }
    }
}

impl Subtree {
    /// A subtree of which the digest is known, and what is local at its place.
    pub(crate) fn new(digest: Digest, local: Option<Child>) -> Self {
        match local {
            Some(local) if hash::of_child(&local) == digest => Self::Whole(local),
            local => Self::Wanted { digest, local },
        }
    }

    /// One of which nothing is here.
    pub(crate) const fn none(digest: Digest) -> Self {
        Self::Wanted { digest, local: None }
    }

    /// Whether it is to be fetched.
    pub(crate) const fn is_wanted(&self) -> bool {
        matches!(self, Self::Wanted { .. })
    }

    fn whole(self) -> Option<Child> {
        if let Self::Whole(child) = self { Some(child) } else { None }
    }

    pub(crate) fn patch(self) -> Option<Child> {
        match self {
            Self::Whole(child) => Some(child),
            Self::Wanted { local, .. } => local,
            Self::Open(_) => None,
        }
    }
}
