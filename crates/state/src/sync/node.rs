//! Nodes as they travel.

use super::Place;
use crate::hash::{self, Preimage};
use crate::node::{BLOCK_ENTRIES, Block, Child, Inner, Slot};
use crate::path::{Path, nibble};
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_core::codec::{encode_bytes, encode_length};
use testudo_core::{Decode, DecodeError, Digest, Encode, Reader};

/// Bytes of the largest value that travels with its node. A larger one is there as its digest, and fetched by itself if
/// it is not held already: so a node never outgrows a frame, whatever values it has, and a change beside a large value
/// does not move that. It is part of the format: of larger ones, nodes have the digests and nothing else.
pub(crate) const SMALL_VALUE: usize = 4 << 10;

/// A node of a map, with the place that it is from. It is in the form that nodes have at that place, from wherever it
/// came; only its digest can tell whether it is the map's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    pub(crate) place: Place,
    pub(crate) content: Content,
    /// Nodes that are likely to be wanted next, each below the one before it, after a nibble: so a chain of nodes does
    /// not take as many questions as it is long. All are inner nodes.
    pub(crate) run: Vec<(u8, Content)>,
}

/// What a node holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// Where keys part.
    Inner {
        path: Path,
        value: Option<Shown>,
        /// Which nibbles go on: bit n says n.
        present: u16,
        /// The digests of the subtrees after them, in order.
        children: Vec<Digest>,
    },
    /// Entries, in order: what remains of their keys, and their values.
    Block { entries: Vec<(Arc<[u8]>, Shown)> },
    /// A value that is too large for its node.
    Value(Arc<[u8]>),
}

/// A value within a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    /// All of it.
    Whole(Arc<[u8]>),
    /// Its digest: it is large.
    Apart(Digest),
}

const INNER: u8 = 0;
const BLOCK: u8 = 1;
const VALUE: u8 = 2;

impl Node {
    /// The place that it says it is from.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// How many bytes its encoding has.
    #[must_use]
    pub fn size(&self) -> usize {
        let run = self.run.iter().map(|(_, content)| RUN_ITEM + content.size());
        self.place.size() + self.content.size() + LENGTH + run.sum::<usize>()
    }

    /// The node that a subtree begins with.
    pub(crate) fn of_subtree(place: Place, child: &Child) -> Self {
        let content = match child {
            Child::Inner(inner) => Content::of_inner(inner),
            Child::Block(_, block) => Content::of_block(block),
        };
        Self { place, content, run: Vec::new() }
    }

    /// A value by itself.
    pub(crate) fn of_value(place: Place, slot: &Slot) -> Self {
        Self { place, content: Content::Value(Arc::clone(&slot.value)), run: Vec::new() }
    }
}

/// Bytes of a digest, of a length, and of what a node of a run has beside itself.
const DIGEST: usize = size_of::<Digest>();
const LENGTH: usize = size_of::<u32>();
pub(crate) const RUN_ITEM: usize = 1;

impl Content {
    pub(crate) fn of_inner(inner: &Inner) -> Self {
        Self::Inner {
            path: inner.path.clone(),
            value: inner.value.as_deref().map(Shown::of),
            present: inner.present,
            children: inner.children.iter().map(hash::of_child).collect(),
        }
    }

    fn of_block(block: &Block) -> Self {
        let entries = block.slots.iter().enumerate();
        let entries = entries.map(|(at, slot)| (block.suffixes.get(at).into(), Shown::of(slot)));
        Self::Block { entries: entries.collect() }
    }

    /// How many bytes its encoding has.
    pub(crate) fn size(&self) -> usize {
        1 + match self {
            Self::Inner { path, value, children, .. } => {
                let value = value.as_ref().map_or(0, Shown::size);
                2 * LENGTH + path.bytes().len() + 1 + value + 2 + children.len() * DIGEST
            }
            Self::Block { entries } => {
                let entries = entries.iter().map(|(suffix, value)| suffix.len() + value.size());
                LENGTH + entries.map(|entry| LENGTH + entry).sum::<usize>()
            }
            Self::Value(value) => LENGTH + value.len(),
        }
    }

    /// Its digest. Those of the values in it are handed out on the way, in order, as they are needed again.
    pub(crate) fn digest(&self, values: &mut Vec<Digest>) -> Digest {
        let mut preimage = Preimage::default();
        match self {
            Self::Inner { path, value, present, children } => {
                values.extend(value.iter().map(Shown::digest));
                preimage.begin_inner(path, values.first(), *present);
                children.iter().for_each(|digest| preimage.children(&digest.0));
            }
            Self::Block { entries } => {
                preimage.begin_block(entries.len());
                for (suffix, value) in entries {
                    let digest = value.digest();
                    preimage.entry(suffix, &digest);
                    values.push(digest);
                }
            }
            Self::Value(value) => return hash::of_value(value),
        }
        preimage.finish()
    }
}

impl Shown {
    fn of(slot: &Slot) -> Self {
        if slot.value.len() <= SMALL_VALUE {
            Self::Whole(Arc::clone(&slot.value))
        } else {
            Self::Apart(hash::of_slot(slot))
        }
    }

    fn digest(&self) -> Digest {
        match self {
            Self::Whole(value) => hash::of_value(value),
            Self::Apart(digest) => *digest,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Whole(value) => 1 + LENGTH + value.len(),
            Self::Apart(_) => 1 + DIGEST,
        }
    }
}

impl Encode for Node {
    fn encode(&self, out: &mut Vec<u8>) {
        self.place.encode(out);
        self.content.encode(out);
        encode_length(self.run.len(), out);
        for (nibble, content) in &self.run {
            nibble.encode(out);
            content.encode(out);
        }
    }
}

impl Decode for Node {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let place = Place::decode(reader)?;
        let mut depth = place.nibbles();
        let content = match (u8::decode(reader)?, place.is_value()) {
            (INNER, false) => decode_inner(&mut depth, reader)?,
            (BLOCK, false) => decode_block(&place, reader)?,
            (VALUE, true) => Content::Value(Arc::decode(reader)?),
            _ => return Err(DecodeError::Unknown("node")),
        };
        let count = reader.length()?;
        if count > 0 && !matches!(content, Content::Inner { .. }) {
            return Err(DecodeError::Unknown("node below this one"));
        }
        let mut run = Vec::new();
        for _ in 0..count {
            let nibble = u8::decode(reader)?;
            if nibble > 15 || u8::decode(reader)? != INNER {
                return Err(DecodeError::Unknown("node below this one"));
            }
            depth += 1;
            run.push((nibble, decode_inner(&mut depth, reader)?));
        }
        Ok(Self { place, content, run })
    }
}

impl Encode for Content {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Inner { path, value, present, children } => {
                out.push(INNER);
                (path.len() as u32).encode(out);
                encode_bytes(path.bytes(), out);
                value.encode(out);
                present.encode(out);
                children.iter().for_each(|digest| digest.encode(out));
            }
            Self::Block { entries } => {
                out.push(BLOCK);
                encode_length(entries.len(), out);
                entries.iter().for_each(|(suffix, value)| {
                    suffix.encode(out);
                    value.encode(out);
                });
            }
            Self::Value(value) => {
                out.push(VALUE);
                value.encode(out);
            }
        }
    }
}

/// An inner node that begins at `depth`, which becomes that at which its path ends.
fn decode_inner(depth: &mut usize, reader: &mut Reader<'_>) -> Result<Content, DecodeError> {
    let (nibbles, bytes) = (u32::decode(reader)?, reader.bytes()?);
    let path = Path::checked(bytes, nibbles, !depth.is_multiple_of(2))
        .ok_or(DecodeError::Unknown("path"))?
        .to_path();
    *depth += path.len();
    // The places of its children have a nibble more.
    if *depth >= Place::BYTES * 2 {
        return Err(DecodeError::TooLong("path"));
    }
    let value: Option<Shown> = Decode::decode(reader)?;
    if value.is_some() && !depth.is_multiple_of(2) {
        return Err(DecodeError::Unknown("key that ends within a byte"));
    }
    let present = u16::decode(reader)?;
    let count = present.count_ones();
    // Where nothing parts, there is no node.
    if count + u32::from(value.is_some()) < 2 {
        return Err(DecodeError::Unknown("node where nothing parts"));
    }
    let children = (0..count).map(|_| Digest::decode(reader)).collect::<Result<_, _>>()?;
    Ok(Content::Inner { path, value, present, children })
}

fn decode_block(place: &Place, reader: &mut Reader<'_>) -> Result<Content, DecodeError> {
    let count = reader.length()?;
    if count == 0 || count > BLOCK_ENTRIES {
        return Err(DecodeError::TooLong("block"));
    }
    let depth = place.nibbles();
    let above = place.nibble(depth.wrapping_sub(1)).filter(|_| !depth.is_multiple_of(2));
    let mut entries: Vec<(Arc<[u8]>, Shown)> = Vec::with_capacity(count);
    for _ in 0..count {
        let suffix = Arc::<[u8]>::decode(reader)?;
        if depth / 2 + suffix.len() > Place::BYTES {
            return Err(DecodeError::TooLong("key"));
        }
        // A block that begins within a byte has all of that byte.
        let is_of_place =
            above.is_none_or(|above| !suffix.is_empty() && nibble(&suffix, 0) == above);
        if !is_of_place || entries.last().is_some_and(|(last, _)| *last >= suffix) {
            return Err(DecodeError::Unknown("order of keys"));
        }
        entries.push((suffix, Shown::decode(reader)?));
    }
    Ok(Content::Block { entries })
}

impl Encode for Shown {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Whole(value) => {
                out.push(0);
                value.encode(out);
            }
            Self::Apart(digest) => {
                out.push(1);
                digest.encode(out);
            }
        }
    }
}

impl Decode for Shown {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(reader)? {
            0 => {
                let value = reader.bytes()?;
                if value.len() > SMALL_VALUE {
                    return Err(DecodeError::TooLong("value within a node"));
                }
                Ok(Self::Whole(value.into()))
            }
            1 => Digest::decode(reader).map(Self::Apart),
            _ => Err(DecodeError::Unknown("value")),
        }
    }
}
