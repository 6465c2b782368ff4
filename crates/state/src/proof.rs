//! Proofs of all that a map holds within a range, checked against its digest alone.
//!
//! A [`RangeProof`] is the map's tree with everything cut off that cannot hold keys of the range: of such subtrees it has
//! the digests, of such entries the digests of their values. Who checks it works out the root's digest from what is
//! there; so all that is there is the map's. And he sees at each place whether what was cut off could hold keys of the
//! range; so nothing is missing. A key is proved present or absent as the range of itself.
//!
//! A proof has one form for a map and a range. It is a flat list, each node before its children: nothing recurses, and
//! the work of checking is linear in the length of the proof, whatever it says.

use crate::Map;
use crate::hash::{self, Preimage};
use crate::node::{BLOCK_ENTRIES, Block, Child, Inner, Slot};
use crate::path::{self, Path};
use crate::span::Span;
use crate::walk::Cut;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Bound;
use core::slice;
use testudo_core::{Digest, wire_enum, wire_struct};

/// Why a proof proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProofError {
    /// It is not in the form that it would have for this range; the words say where.
    Malformed(&'static str),
    /// It lacks a part that may hold keys of the range.
    Incomplete,
    /// It is of another map.
    WrongRoot,
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "the proof is malformed: {what}"),
            Self::Incomplete => f.write_str("the proof lacks a part of the range"),
            Self::WrongRoot => f.write_str("the proof is of a map with another digest"),
        }
    }
}

impl core::error::Error for ProofError {}

/// A value as a proof has it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Shown {
    /// Its digest, as its key is outside of the range.
    Digest(Digest),
    /// All of it.
    Whole(Arc<[u8]>),
}
wire_enum!(Shown { 0 => Digest(digest), 1 => Whole(value) });

impl Shown {
    fn of(slot: &Slot, is_within: bool) -> Self {
        if is_within { Self::Whole(slot.value.clone()) } else { Self::Digest(hash::of_slot(slot)) }
    }

    fn digest(&self) -> Digest {
        match self {
            Self::Digest(digest) => *digest,
            Self::Whole(value) => hash::of_value(value),
        }
    }

    const fn whole(&self) -> Option<&Arc<[u8]>> {
        if let Self::Whole(value) = self { Some(value) } else { None }
    }

    const fn check(&self, is_within: bool) -> Result<(), ProofError> {
        match (self, is_within) {
            (Self::Digest(_), true) => Err(ProofError::Incomplete),
            (Self::Whole(_), false) => Err(ProofError::Malformed("a value outside of the range")),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct ShownEntry {
    suffix: Arc<[u8]>,
    value: Shown,
}
wire_struct!(ShownEntry { suffix, value });

#[derive(Clone, PartialEq, Eq, Debug)]
enum ShownNode {
    Inner {
        /// How many nibbles its path has, and the bytes that hold them.
        nibbles: u32,
        path: Arc<[u8]>,
        value: Option<Shown>,
        /// Which nibbles go on: bit n says n.
        present: u16,
        /// The digests of the children that cannot hold keys of the range, in order. The others follow as nodes.
        others: Vec<Digest>,
    },
    Block {
        entries: Vec<ShownEntry>,
    },
}
wire_enum!(ShownNode {
    0 => Inner { nibbles, path, value, present, others },
    1 => Block { entries },
});

/// What a map holds within a range, with the proof that this is all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeProof {
    /// How many entries the map has in all.
    entries: u64,
    /// Bytes of all its keys and values.
    bytes: u64,
    /// Each before its children, and these in order. None if the map is empty.
    nodes: Vec<ShownNode>,
}
wire_struct!(RangeProof { entries, bytes, nodes });

impl Map {
    /// The entries within the bounds, with the proof that these are all.
    #[must_use]
    pub fn prove(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> RangeProof {
        self.prove_between(Cut::from(from), Cut::to(to))
    }

    /// The value at a key, or that there is none, with its proof.
    #[must_use]
    pub fn prove_key(&self, key: &[u8]) -> RangeProof {
        self.prove_between(Cut::Before(key), Cut::After(key))
    }

    pub(crate) fn prove_between(&self, from: Cut<'_>, to: Cut<'_>) -> RangeProof {
        let mut nodes = Vec::new();
        let mut stack = Vec::new();
        stack.extend(self.root.as_ref().map(|root| (root, 0, Span::new(from, to))));
        while let Some((child, depth, span)) = stack.pop() {
            nodes.push(match child {
                Child::Block(_, block) => show_block(block, depth, &span),
                Child::Inner(inner) => {
                    let span = span.along(depth, &inner.path);
                    let end = depth + inner.path.len();
                    show_inner(inner, end, span, &mut stack)
                }
            });
        }
        RangeProof { entries: self.entries as u64, bytes: self.bytes, nodes }
    }
}

fn show_block(block: &Block, depth: usize, span: &Span<'_>) -> ShownNode {
    let entries = block.slots.iter().enumerate().map(|(at, slot)| {
        let suffix = block.suffixes.get(at);
        ShownEntry { suffix: suffix.into(), value: Shown::of(slot, span.has_suffix(depth, suffix)) }
    });
    ShownNode::Block { entries: entries.collect() }
}

/// Shows an inner node whose path ends at `end`, and puts the children to be shown on the stack.
fn show_inner<'a, 'k>(
    inner: &'a Inner,
    end: usize,
    span: Span<'k>,
    stack: &mut Vec<(&'a Child, usize, Span<'k>)>,
) -> ShownNode {
    let first = stack.len();
    let mut others = Vec::new();
    for (nibble, child) in nibbles(inner.present).zip(&inner.children) {
        let span = span.at_child(end, nibble);
        if span.meets() {
            stack.push((child, end + 1, span));
        } else {
            others.push(hash::of_child(child));
        }
    }
    stack[first..].reverse();
    ShownNode::Inner {
        nibbles: inner.path.len() as u32,
        path: inner.path.bytes().into(),
        value: inner.value.as_deref().map(|slot| Shown::of(slot, span.has_value(end))),
        present: inner.present,
        others,
    }
}

/// The nibbles that a set of them has, in order.
fn nibbles(present: u16) -> impl DoubleEndedIterator<Item = u8> {
    (0..16).filter(move |nibble| present >> nibble & 1 == 1)
}

impl RangeProof {
    /// Checks that this is what the map with the digest `root` holds within the bounds.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(
        &self,
        root: &Digest,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Proven<'_>, ProofError> {
        self.verify_between(root, Cut::from(from), Cut::to(to))
    }

    /// Checks that this is what the map with the digest `root` holds at a key, and gives it.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify_key(&self, root: &Digest, key: &[u8]) -> Result<Option<&Arc<[u8]>>, ProofError> {
        let proven = self.verify_between(root, Cut::Before(key), Cut::After(key))?;
        Ok(proven.walk().next_value())
    }

    pub(crate) fn verify_between(
        &self,
        root: &Digest,
        from: Cut<'_>,
        to: Cut<'_>,
    ) -> Result<Proven<'_>, ProofError> {
        let opened = self.open(Span::new(from, to))?;
        if self.root(&opened)? == *root {
            Ok(Proven { proof: self, opened })
        } else {
            Err(ProofError::WrongRoot)
        }
    }

    /// Checks the form, top down: that what is open is what meets the range, no more and no less.
    fn open(&self, span: Span<'_>) -> Result<Vec<Opened<'_>>, ProofError> {
        let mut opened = Vec::with_capacity(self.nodes.len());
        let mut stack = vec![(0, span)];
        if self.nodes.is_empty() {
            stack.clear();
        }
        for node in &self.nodes {
            let (depth, span) = stack.pop().ok_or(ProofError::Malformed("a node too many"))?;
            match node {
                ShownNode::Block { entries } => {
                    check_block(entries, depth, &span)?;
                    opened.push(Opened { path: Path::default(), children: 0 });
                }
                ShownNode::Inner { nibbles: length, path, value, present, others } => {
                    let path = Path::checked(path, *length, !depth.is_multiple_of(2))
                        .ok_or(ProofError::Malformed("a path"))?;
                    let span = span.along(depth, &path);
                    let end = depth + path.len();
                    if let Some(value) = value {
                        if !end.is_multiple_of(2) {
                            return Err(ProofError::Malformed("a key that ends within a byte"));
                        }
                        value.check(span.has_value(end))?;
                    }
                    let mut children = 0;
                    for nibble in nibbles(*present).rev() {
                        let span = span.at_child(end, nibble);
                        if span.meets() {
                            children |= 1 << nibble;
                            stack.push((end + 1, span));
                        }
                    }
                    let closed = (present & !children).count_ones() as usize;
                    if *present == 0 || others.len() != closed {
                        return Err(ProofError::Malformed("a number of children"));
                    }
                    opened.push(Opened { path, children });
                }
            }
        }
        if stack.is_empty() { Ok(opened) } else { Err(ProofError::Incomplete) }
    }

    /// The map's digest, bottom up: from the last node to the first, so that a node's children are before it.
    fn root(&self, opened: &[Opened<'_>]) -> Result<Digest, ProofError> {
        let mut scratch = Preimage::default();
        let mut digests: Vec<Digest> = Vec::new();
        for (node, opened) in self.nodes.iter().zip(opened).rev() {
            let digest = match node {
                ShownNode::Block { entries } => {
                    scratch.begin_block(entries.len());
                    entries.iter().for_each(|e| scratch.entry(&e.suffix, &e.value.digest()));
                    scratch.finish()
                }
                ShownNode::Inner { value, present, others, .. } => {
                    let value = value.as_ref().map(Shown::digest);
                    scratch.begin_inner(&opened.path, value.as_ref(), *present);
                    let mut others = others.iter();
                    for nibble in nibbles(*present) {
                        let is_open = opened.children >> nibble & 1 == 1;
                        let digest = if is_open { digests.pop() } else { others.next().copied() };
                        scratch.children(&digest.ok_or(ProofError::Malformed("children"))?.0);
                    }
                    scratch.finish()
                }
            };
            digests.push(digest);
        }
        Ok(hash::of_map(self.entries, self.bytes, digests.pop().as_ref()))
    }
}

fn check_block(entries: &[ShownEntry], depth: usize, span: &Span<'_>) -> Result<(), ProofError> {
    if entries.is_empty() || entries.len() > BLOCK_ENTRIES {
        return Err(ProofError::Malformed("a number of entries"));
    }
    if !entries.is_sorted_by(|a, b| a.suffix < b.suffix) {
        return Err(ProofError::Malformed("an order of keys"));
    }
    entries.iter().try_for_each(|entry| entry.value.check(span.has_suffix(depth, &entry.suffix)))
}

/// What the check of a node found out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened<'a> {
    path: Path<&'a [u8]>,
    /// Which of its children follow as nodes.
    children: u16,
}

/// A proof that was checked.
#[derive(Clone, Debug)]
pub struct Proven<'a> {
    proof: &'a RangeProof,
    opened: Vec<Opened<'a>>,
}

impl<'a> Proven<'a> {
    /// How many entries the map has in all.
    #[must_use]
    pub const fn map_entries(&self) -> u64 {
        self.proof.entries
    }

    /// Bytes of all keys and values of the map.
    #[must_use]
    pub const fn map_bytes(&self) -> u64 {
        self.proof.bytes
    }

    /// The entries within the range, in order. Keys are put together one by one as they are asked for: many long ones
    /// with much in common may take less in a proof than they take apart.
    pub fn entries(&self) -> impl Iterator<Item = (Arc<[u8]>, Arc<[u8]>)> {
        let mut walk = self.walk();
        core::iter::from_fn(move || {
            let value = walk.next_value()?;
            Some((walk.key.as_slice().into(), value.clone()))
        })
    }

    /// The same.
    pub fn into_entries(self) -> impl Iterator<Item = (Arc<[u8]>, Arc<[u8]>)> {
        let mut walk = ProofWalk::new(self.proof, self.opened.into_iter());
        core::iter::from_fn(move || {
            let value = walk.next_value()?;
            Some((walk.key.as_slice().into(), value.clone()))
        })
    }

    pub(crate) fn walk(&self) -> ProofWalk<'a, impl Iterator<Item = Opened<'a>> + use<'a, '_>> {
        ProofWalk::new(self.proof, self.opened.iter().copied())
    }
}

/// Goes through the entries of a checked proof.
pub(crate) struct ProofWalk<'a, I> {
    nodes: core::iter::Zip<slice::Iter<'a, ShownNode>, I>,
    /// Where the subtrees begin that are to come: the depth before, and the nibble.
    stack: Vec<(usize, Option<u8>)>,
    /// The rest of the block that it is in.
    block: slice::Iter<'a, ShownEntry>,
    /// Where that block begins.
    depth: usize,
    key: Vec<u8>,
}

impl<'a, I: Iterator<Item = Opened<'a>>> ProofWalk<'a, I> {
    fn new(proof: &'a RangeProof, opened: I) -> Self {
        let nodes = proof.nodes.iter().zip(opened);
        Self { nodes, stack: vec![(0, None)], block: [].iter(), depth: 0, key: Vec::new() }
    }

    /// The key of the last entry.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value of the next entry.
    pub(crate) fn next_value(&mut self) -> Option<&'a Arc<[u8]>> {
        loop {
            for entry in self.block.by_ref() {
                if let Some(value) = entry.value.whole() {
                    self.key.truncate(self.depth / 2);
                    self.key.extend_from_slice(&entry.suffix);
                    return Some(value);
                }
            }
            let (mut depth, nibble) = self.stack.pop()?;
            path::cut_to(&mut self.key, depth);
            if let Some(nibble) = nibble {
                path::push(&mut self.key, &mut depth, nibble);
            }
            let (node, opened) = self.nodes.next()?;
            match node {
                ShownNode::Block { entries } => {
                    self.block = entries.iter();
                    self.depth = depth;
                }
                ShownNode::Inner { value, .. } => {
                    path::append(&mut self.key, &mut depth, &opened.path);
                    let children = nibbles(opened.children).rev();
                    self.stack.extend(children.map(|nibble| (depth, Some(nibble))));
                    if let Some(value) = value.as_ref().and_then(Shown::whole) {
                        return Some(value);
                    }
                }
            }
        }
    }
}
