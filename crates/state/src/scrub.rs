//! Looking for what the memory has garbled.
//!
//! A node that has a digest is hashed again, from the digests that the nodes below it have, and a value from its bytes;
//! nothing else may have changed them, so a digest that comes out different is damage. A pass over a map is cut into
//! steps: each goes on after the key at which the one before ended, whatever happened to the map in between.

use crate::Map;
use crate::hash::{self, Preimage};
use crate::node::Child;
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
}

/// How far a step of a scrub came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scrubbed {
    /// The damage that it met, node by node.
    pub damage: Vec<Damage>,
    /// The key to go on after; none if the pass is over.
    pub next: Option<Arc<[u8]>>,
}

impl Map {
    /// Hashes again what has a digest, from after a key (or from the beginning) on, until about `budget` bytes are hashed. What was changed since the digest was last asked for has none, and is left to the next pass.
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
                    hashed += BESIDE;
                    if is_damaged(child, &mut scratch) {
                        damage.push(extent(&walk, child));
                    }
                    walk.enter(child);
                }
                Step::Entry(slot) => {
                    hashed += slot.value.len() + BESIDE;
                    let known = slot.digest.get();
                    if known.is_some_and(|known| known != hash::of_value(&slot.value)) {
                        let key: Arc<[u8]> = walk.key().into();
                        damage.push(Damage { first: key.clone(), last: key });
                    }
                    if hashed >= budget {
                        return Scrubbed { damage, next: Some(walk.key().into()) };
                    }
                }
            }
            next = walk.step();
        }
        Scrubbed { damage, next: None }
    }
}

/// Bytes that are counted for a node, and for an entry beside its value.
const BESIDE: usize = 64;

/// Whether what a node holds is not what its digest says, if it has one.
fn is_damaged(child: &Child, scratch: &mut Preimage) -> bool {
    let Some(known) = child.known_digest() else { return false };
    match child {
        Child::Block(_, block) => scratch.block(block),
        Child::Inner(inner) => {
            scratch.inner(inner);
            for child in &inner.children {
                scratch.children(&child.known_digest().unwrap_or_else(|| hash::of_child(child)).0);
            }
        }
    }
    scratch.finish() != known
}

/// The keys that a subtree that a walk came to reaches from and to.
fn extent(walk: &Walk<'_>, child: &Child) -> Damage {
    let end = |reverse: bool| {
        let mut within = Walk::within(walk.key(), walk.nibbles(), reverse);
        within.enter(child);
        within.next_entry();
        Arc::from(within.key())
    };
    Damage { first: end(false), last: end(true) }
}
