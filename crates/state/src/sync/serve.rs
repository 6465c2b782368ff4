//! Nodes of a map, for those who ask for them.

use super::{Node, Place, Summary};
use crate::Map;
use crate::hash;
use crate::node::{Child, Slot};
use alloc::vec::Vec;

/// What lies at a place.
pub(crate) enum Found<'a> {
    Subtree(&'a Child),
    Value(&'a Slot),
}

impl Map {
    /// What the map's digest is made of, for those who fetch the map.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            entries: self.entries as u64,
            bytes: self.bytes,
            root: self.root.as_ref().map(hash::of_child),
        }
    }

    /// The nodes at the places, in the order asked: as many as fit into `max_bytes` encoded, but the first in any case.
    /// A place that is not there ends the answer, so an answer that is shorter says nothing of the places that it lacks.
    ///
    /// A node is no longer than the keys of a block with a digest or a small value for each, or one value.
    #[must_use]
    pub fn nodes(&self, places: &[Place], max_bytes: usize) -> Vec<Node> {
        let (mut nodes, mut bytes) = (Vec::new(), 0);
        for place in places {
            let found = self.root.as_ref().and_then(|root| find(root, 0, place));
            let node = match found {
                None => break,
                Some(Found::Subtree(child)) => Node::of_subtree(place.clone(), child),
                Some(Found::Value(slot)) => Node::of_value(place.clone(), slot),
            };
            bytes += node.size();
            if bytes > max_bytes && !nodes.is_empty() {
                break;
            }
            nodes.push(node);
        }
        nodes
    }
}

/// What lies at a place, in a subtree that begins at `depth` of the way to it.
pub(crate) fn find<'a>(mut child: &'a Child, mut depth: usize, place: &Place) -> Option<Found<'a>> {
    loop {
        if depth == place.nibbles() && !place.is_value() {
            return Some(Found::Subtree(child));
        }
        match child {
            Child::Block(_, block) => {
                let rest = place.key().get(depth / 2..).filter(|_| place.is_value())?;
                let at = block.suffixes.find(rest).ok()?;
                return block.slots.get(at).map(Found::Value);
            }
            Child::Inner(inner) => {
                if !place.goes_along(depth, &inner.path) {
                    return None;
                }
                depth += inner.path.len();
                let Some(nibble) = place.nibble(depth) else {
                    let value = inner.value.as_deref().filter(|_| place.is_value());
                    return value.map(Found::Value);
                };
                child = inner.child(nibble)?;
                depth += 1;
            }
        }
    }
}
