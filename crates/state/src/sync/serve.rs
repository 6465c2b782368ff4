//! Nodes of a map, for those who ask for them.

use super::node::{Content, RUN_ITEM};
use super::{Node, Place, Summary};
use crate::Map;
use crate::hash;
use crate::node::{Child, Inner, Slot};
use crate::path::agreement;
use crate::tally;
use alloc::vec;
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
    /// Along a chain of nodes one is followed by some of those below it, so that who fetches it does not have to ask for
    /// each. A node by itself is no longer than the keys of a block with a digest or a small value for each, or one value.
    #[must_use]
    pub fn nodes(&self, places: &[Place], max_bytes: usize) -> Vec<Node> {
        let (mut nodes, mut bytes) = (Vec::new(), 0);
        let Some(root) = &self.root else { return nodes };
        let mut finder = Finder::new(root, 0);
        for place in places {
            let Some(found) = finder.find(place) else { break };
            let mut node = match found {
                Found::Subtree(child) => Node::of_subtree(place.clone(), child),
                Found::Value(slot) => Node::of_value(place.clone(), slot),
            };
            bytes += node.size();
            if bytes > max_bytes && !nodes.is_empty() {
                break;
            }
            if let Found::Subtree(Child::Inner(inner)) = found {
                let left = max_bytes.saturating_sub(bytes);
                bytes += run(inner, finder.level(), left, &mut node.run);
            }
            nodes.push(node);
        }
        nodes
    }
}

/// What a node is followed by: as long as one child is an inner node and no other is, that one, but no more of them than
/// lead to the node, and not more than `max_bytes`; and what they come to. So a chain is fetched in a few steps, each as
/// long as all before it, and what does not differ is sent in vain at most as often as something that does.
fn run(mut inner: &Inner, most: usize, max_bytes: usize, run: &mut Vec<(u8, Content)>) -> usize {
    let mut bytes = 0;
    while run.len() < most {
        let nibbles = (0..16_u8).filter(|nibble| inner.present >> nibble & 1 == 1);
        let mut inners = nibbles.zip(&inner.children).filter_map(|(nibble, child)| match child {
            Child::Inner(inner) => Some((nibble, inner)),
            Child::Block(..) => None,
        });
        let (Some((nibble, next)), None) = (inners.next(), inners.next()) else { break };
        let content = Content::of_inner(next);
        let size = RUN_ITEM + content.size();
        if bytes + size > max_bytes {
            break;
        }
        bytes += size;
        run.push((nibble, content));
        inner = next;
    }
    bytes
}

/// Finds places one after the other, each from where the way to it leaves the way to the one before: those that are asked
/// for together lie side by side, however deep.
struct Finder<'a> {
    /// The subtrees on the way to the last place, and where they begin.
    way: Vec<(&'a Child, usize)>,
    last: &'a [u8],
}

impl<'a> Finder<'a> {
    fn new(child: &'a Child, depth: usize) -> Self {
        Self { way: vec![(child, depth)], last: &[] }
    }

    /// What lies at a place.
    fn find(&mut self, place: &'a Place) -> Option<Found<'a>> {
        let shared = agreement(self.last, place.key(), false).min(place.nibbles());
        self.last = place.key();
        while self.way.len() > 1 && self.way.last().is_some_and(|(_, depth)| *depth > shared) {
            self.way.pop();
        }
        loop {
            tally::visited();
            let (child, depth) = *self.way.last()?;
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
                    let end = depth + inner.path.len();
                    let Some(nibble) = place.nibble(end) else {
                        let value = inner.value.as_deref().filter(|_| place.is_value());
                        return value.map(Found::Value);
                    };
                    self.way.push((inner.child(nibble)?, end + 1));
                }
            }
        }
    }

    /// How many nodes lead to what was found last.
    fn level(&self) -> usize {
        self.way.len() - 1
    }
}

/// What lies at a place, in a subtree that begins at `depth` of the way to it.
pub(crate) fn find<'a>(child: &'a Child, depth: usize, place: &'a Place) -> Option<Found<'a>> {
    Finder::new(child, depth).find(place)
}
