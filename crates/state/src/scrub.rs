//! Looking for what the memory has garbled.
//!
//! A node that has a digest is hashed again, from the digests that the nodes below it have, and a value from its bytes;
//! nothing else may have changed them, so a digest that comes out different is damage. A pass over a map is cut into
//! steps: each goes on after the key at which the one before ended, whatever happened to the map in between.
//!
//! Digests that are kept are what makes reading, comparing and synchronising maps cheap, and with damage below them they
//! are not true. A map that is damaged is to distrust them ([`Map::distrust`]): then its digest is that of what it has.

use crate::Map;
use crate::hash::{self, Preimage};
use crate::node::{Child, Slot, own};
use crate::path::nibble;
use crate::sync::Place;
use crate::walk::{Cut, Step, Walk};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Where the contents of a node do not have its digest: from the first to the last of its keys, as they can be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The first key.
    pub first: Arc<[u8]>,
    /// The last key.
    pub last: Arc<[u8]>,
    /// Where the node is, or the value.
    place: Place,
}

/// How far a step of a scrub came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scrubbed {
    /// The damage that it met, node by node.
    pub damage: Vec<Damage>,
    /// The key to go on after; none if the pass is over.
    pub next: Option<Arc<[u8]>>,
    /// How many bytes were hashed, with something for each node and value beside.
    pub bytes: usize,
}

impl Map {
    /// Hashes again what has a digest, from after a key (or from the beginning) on, until `budget` bytes are hashed: as
    /// much more as one value has, and the nodes above and around it. What was changed since the digest was last asked
    /// for has none, and is left to the next pass. A pass costs what it took to hash the map at first; beside the hashing
    /// a step costs the way to where it begins.
    ///
    /// It reads through a shared reference, so it may be done with a clone, by another thread: nodes are shared, and what
    /// is damaged in the clone is damaged in the map. Two steps of one pass need not be on the same version of a map.
    #[must_use]
    pub fn scrub(&self, after: Option<&[u8]>, budget: usize) -> Scrubbed {
        let mut scratch = Preimage::default();
        let mut walk = Walk::new(None, Cut::Start, false);
        let mut next = match (&self.root, after) {
            (None, _) => None,
            (Some(root), None) => Some(Step::Child(root)),
            (root, Some(key)) => {
                walk = Walk::new(root.as_ref(), Cut::After(key), false);
                walk.step()
            }
        };
        let (mut hashed, mut damage) = (0, Vec::new());
        while let Some(step) = next {
            match step {
                Step::Child(child) => {
                    let (is_damaged, bytes) = check(child, &mut scratch);
                    hashed += bytes + BESIDE;
                    if is_damaged {
                        damage.push(extent(&walk, child));
                    }
                    walk.enter(child);
                }
                Step::Entry(slot) => {
                    hashed += slot.value.len() + BESIDE;
                    let known = slot.digest.get();
                    if known.is_some_and(|known| known != hash::of_value(&slot.value)) {
                        let key: Arc<[u8]> = walk.key().into();
                        let place = Place::of_value(key.to_vec());
                        damage.push(Damage { first: key.clone(), last: key, place });
                    }
                    if hashed >= budget {
                        let next = Some(walk.key().into());
                        return Scrubbed { damage, next, bytes: hashed };
                    }
                }
            }
            next = walk.step();
        }
        Scrubbed { damage, next: None, bytes: hashed }
    }

    /// Flips a bit of the value at `key` as bad memory would: what was hashed before stays as it was hashed, and nobody is
    /// told. Other maps that share the value keep it as it is. False if there is no such bit. It is there for tests of all
    /// that is to find such damage, and has no other use.
    #[doc(hidden)]
    pub fn garble(&mut self, key: &[u8], bit: usize) -> bool {
        let _ = self.digest();
        let Some(value) = self.get(key) else { return false };
        let mut bytes = value.to_vec();
        let Some(byte) = bytes.get_mut(bit / 8) else { return false };
        *byte ^= 1 << (bit % 8);
        let slot = self.root.as_mut().and_then(|root| slot_mut(root, key));
        slot.map(|slot| slot.value = bytes.into()).is_some()
    }

    /// Forgets the digests of what is damaged and of all that lies above it. They are worked out again from what is
    /// there when somebody asks; so the damage is then a difference like any other, which [`Map::diff`] finds and
    /// [`crate::sync`] fetches. Clones that were made before go on to trust theirs.
    pub fn distrust(&mut self, damage: &[Damage]) {
        for damage in damage {
            if let Some(root) = &mut self.root {
                forget(root, &damage.place);
            }
        }
    }
}

/// The entry of a key that is there. No digest is forgotten.
fn slot_mut<'a>(mut child: &'a mut Child, key: &[u8]) -> Option<&'a mut Slot> {
    let mut depth = 0;
    loop {
        match child {
            Child::Block(_, block) => {
                let at = block.suffixes.find(key.get(depth / 2..)?).ok()?;
                return own(block).slots.get_mut(at);
            }
            Child::Inner(inner) => {
                let known = inner.digest.get();
                let inner = own(inner);
                known.iter().for_each(|digest| inner.digest.set(digest));
                depth += inner.path.len();
                if key.len() * 2 == depth {
                    return inner.value.as_deref_mut();
                }
                let at = inner.position(nibble(key, depth))?;
                child = inner.children.get_mut(at)?;
                depth += 1;
            }
        }
    }
}

/// Forgets the digests on the way to a place, and the one there.
fn forget(mut child: &mut Child, place: &Place) {
    let mut depth = 0;
    loop {
        let is_there = depth == place.nibbles() && !place.is_value();
        match child {
            Child::Block(_, block) => {
                let block = own(block);
                block.digest.clear();
                let suffix = place.key().get(depth / 2..).filter(|_| place.is_value());
                let at = suffix.and_then(|suffix| block.suffixes.find(suffix).ok());
                if let Some(slot) = at.and_then(|at| block.slots.get_mut(at)) {
                    slot.digest.clear();
                }
                return;
            }
            Child::Inner(inner) => {
                let inner = own(inner);
                inner.digest.clear();
                if is_there || !place.goes_along(depth, &inner.path) {
                    return;
                }
                depth += inner.path.len();
                let Some(nibble) = place.nibble(depth) else {
                    inner.value.iter_mut().for_each(|slot| slot.digest.clear());
                    return;
                };
                let Some(at) = inner.position(nibble) else { return };
                let Some(next) = inner.children.get_mut(at) else { return };
                child = next;
                depth += 1;
            }
        }
    }
}

/// Bytes that are counted for a node, and for an entry beside its value.
const BESIDE: usize = 64;

/// Whether what a node holds is not what its digest says, if it has one; and how many bytes were hashed.
fn check(child: &Child, scratch: &mut Preimage) -> (bool, usize) {
    let Some(known) = child.known_digest() else { return (false, 0) };
    match child {
        Child::Block(_, block) => scratch.block(block),
        Child::Inner(inner) => {
            scratch.inner(inner);
            for child in &inner.children {
                scratch.children(&child.known_digest().unwrap_or_else(|| hash::of_child(child)).0);
            }
        }
    }
    (scratch.finish() != known, scratch.len())
}

/// The keys that a subtree that a walk came to reaches from and to.
fn extent(walk: &Walk<'_>, child: &Child) -> Damage {
    let end = |reverse: bool| {
        let mut within = Walk::within(walk.key(), walk.nibbles(), reverse);
        within.enter(child);
        within.next_entry();
        Arc::from(within.key())
    };
    let place = Place::of_subtree(walk.key().to_vec(), walk.nibbles());
    Damage { first: end(false), last: end(true), place }
}
