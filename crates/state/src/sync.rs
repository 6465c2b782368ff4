//! Synchronisation: a local map becomes the one with a certified digest, and only the difference travels.
//!
//! The digest of a map is that of a tree in which each node has the digests of those below it. So a tree is fetched from
//! the root down, node by node, and each proves itself by the digest that its parent gave: it does not matter who sent
//! it, whether others sent lies before, and in what order answers come. What the local map has at the same place with
//! the same digest is taken over as it is, shared and unread; so the nodes that travel are those on the ways to what
//! differs, and a map that differs in nothing costs a [`Summary`].
//!
//! # What it costs
//!
//! For each entry that differs the nodes on its way are fetched, at most as many as the tree is deep, and once for all
//! entries below. Between nodes that hang from each other lies a way there and back; side by side they are fetched
//! together, and along a chain, which somebody's choice of keys may have made long, a source sends on what is likely to
//! be asked for next. Places are handed out depth first, so that few nodes are open (fetched, and waiting for some below):
//! those on the ways to what is being fetched. Beside the map itself that is the memory needed.
//!
//! # What can go wrong
//!
//! A [`Node`] is decoded strictly, found where it belongs, and hashed, before anything is made of it. Nothing that a
//! source says is believed, remembered, or worked on at a cost beyond the size of what it said. Two things only show
//! late, in [`Sync::finish`], which compares counts and then begins anew without the local map: a certified target whose
//! counts are not its own, which takes more faults than are borne, and a local map that holds another number of entries
//! than its digests say. Values that the memory has garbled under a digest that is kept do not show at all, as nobody reads
//! what is taken over: who knows of damage ([`Map::scrub`]) lets the map distrust its digests first ([`Map::distrust`]).

mod local;
mod node;
mod open;
mod place;
mod serve;
mod tree;

pub use node::Node;
pub use place::Place;

use crate::Map;
use crate::hash;
use crate::node::{Child, Slot};
use crate::path;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::{fmt, mem};
use local::Amount;
use node::Content;
use open::{Head, Id, Open, Opened, Spot, Subtree, Value};
use serve::{Found, find};
use testudo_core::{Digest, wire_struct};
use tree::{State, Tree};

/// What the digest of a map is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// How many entries the map has.
    pub entries: u64,
    /// Bytes of all its keys and values.
    pub bytes: u64,
    /// The digest of its root, unless it is empty.
    pub root: Option<Digest>,
}
wire_struct!(Summary { entries, bytes, root });

impl Summary {
    /// The digest of the map.
    #[must_use]
    pub fn digest(&self) -> Digest {
        hash::of_map(self.entries, self.bytes, self.root.as_ref())
    }
}

/// Why something that was said is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncError {
    /// It is not what has the digest that is wanted.
    WrongDigest,
    /// Nothing is wanted from that place, and nothing was.
    Unasked,
}

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongDigest => "it has another digest than the one that is wanted",
            Self::Unasked => "nobody asked for it",
        })
    }
}

impl core::error::Error for SyncError {}

/// How far a synchronisation came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Nodes and single values that were fetched and are true.
    pub fetched_nodes: u64,
    /// Bytes of their encodings.
    pub fetched_bytes: u64,
    /// Nodes that are held open for others below them.
    pub open_nodes: usize,
    /// How many entries the target has, once that is known.
    pub target_entries: Option<u64>,
    /// Bytes of the target's keys and values, once they are known: what is fetched is hardly ever more.
    pub target_bytes: Option<u64>,
}

/// A local map on its way to become another one.
///
/// Answers may come from any number of sources in any order. What a source was asked for and did not give is given back
/// with [`Sync::give_back`], for others to be asked.
#[derive(Clone)]
pub struct Sync {
    target: Digest,
    summary: Option<Summary>,
    /// The local tree, until the summary says what to look for in it.
    local: Option<Child>,
    /// The target's tree. Empty before there is a summary.
    tree: Tree,
    /// What the map amounts to that would come of a [`Sync::retarget`]: the target as far as it is here, and the local
    /// tree where it is not. In the end, what the target amounts to.
    amount: Amount,
    fetched: (u64, u64),
}

impl Sync {
    /// Bytes of places that are handed out at once, or as many more as one place has.
    pub const QUESTION_BYTES: usize = 128 << 10;

    /// Goes from `local`, which may be any map, to the one with the digest `target`. Costs what `local` has not hashed
    /// yet.
    #[must_use]
    pub fn new(target: Digest, local: Map) -> Self {
        let amount = Amount { entries: local.entries as u64, bytes: local.bytes };
        Self {
            target,
            summary: None,
            local: local.root,
            tree: Tree::default(),
            amount,
            fetched: (0, 0),
        }
    }

    /// The digest that it goes to.
    #[must_use]
    pub const fn target(&self) -> Digest {
        self.target
    }

    /// Takes in the target's summary. Nothing is wanted before. A second one is harmless.
    ///
    /// # Errors
    /// When it is another map's.
    pub fn take_summary(&mut self, summary: &Summary) -> Result<(), SyncError> {
        if summary.digest() != self.target {
            return Err(SyncError::WrongDigest);
        }
        if self.summary.replace(*summary).is_none() {
            let local = self.local.take();
            self.tree = Tree::new(summary.root.map(|digest| Subtree::new(digest, local)));
            if summary.root.is_none() {
                self.amount = Amount::default();
            }
        }
        Ok(())
    }

    /// Up to `most` places that are wanted and not on their way; now they are. Together they have no more than
    /// [`Sync::QUESTION_BYTES`], or one more place: so keys that are long make questions that have fewer places.
    #[must_use]
    pub fn wants(&mut self, most: usize) -> Vec<Place> {
        self.tree.hand_out(most, Self::QUESTION_BYTES)
    }

    /// The source that was to give these is of no use: they are wanted again, as far as they did not come otherwise.
    pub fn give_back(&mut self, places: &[Place]) {
        for place in places {
            if let Ok(State::Wanted(spot)) = self.tree.locate(place) {
                self.tree.give_back(spot);
            }
        }
    }

    /// Takes in a node, whoever it is from and whether it was given back meanwhile. One that is here already is
    /// harmless.
    ///
    /// # Errors
    /// When it, or one that came along with it from below, is not the target's, or nobody could have asked for it.
    pub fn take(&mut self, node: &Node) -> Result<(), SyncError> {
        let State::Wanted(spot) = self.tree.locate(&node.place)? else { return Ok(()) };
        let mut values = Vec::new();
        let digest = self.prove(spot, &node.content, &mut values)?;
        self.fetched.0 += 1;
        self.fetched.1 += node.size() as u64;
        if let (Content::Value(value), Some(item)) = (&node.content, spot) {
            let (key, slot) = (node.place.key(), Slot::new(Arc::clone(value)));
            slot.digest.set(&digest);
            self.amount.add(Amount::of_entry(key.len(), value.len()));
            self.tree.set_value(item, Value::Whole(slot), key);
            return Ok(());
        }
        let (mut key, mut nibbles) = (node.place.key().to_vec(), node.place.nibbles());
        let mut id = self.unfold((spot, nibbles, digest), &node.content, &values, &key);
        let mut above = &node.content;
        for (nibble, content) in &node.run {
            let (Some(open), Content::Inner { path, .. }) = (id, above) else { break };
            let spot = Some((open, nibble + 1));
            if self.tree.subtree(spot).is_some_and(|below| !below.is_wanted()) {
                break;
            }
            let digest = self.prove(spot, content, &mut values)?;
            path::append(&mut key, &mut nibbles, path);
            path::push(&mut key, &mut nibbles, *nibble);
            self.fetched.0 += 1;
            id = self.unfold((spot, nibbles, digest), content, &values, &key);
            above = content;
        }
        Ok(())
    }

    /// The digest of what is wanted, if that is it; and those of its values.
    fn prove(
        &mut self,
        spot: Spot,
        content: &Content,
        values: &mut Vec<Digest>,
    ) -> Result<Digest, SyncError> {
        let is_value = matches!(content, Content::Value(_));
        let wanted = self.tree.wanted(spot, is_value).ok_or(SyncError::Unasked)?;
        values.clear();
        if content.digest(values) == wanted { Ok(wanted) } else { Err(SyncError::WrongDigest) }
    }

    /// Puts a node that is true where it is wanted, and looks in the local tree for what lies below it. Its number, if
    /// something there is missing.
    fn unfold(
        &mut self,
        head: Head,
        content: &Content,
        values: &[Digest],
        key: &[u8],
    ) -> Option<Id> {
        let (spot, depth, digest) = head;
        let place = self.tree.subtree(spot)?;
        let Subtree::Wanted { local, .. } = mem::replace(place, Subtree::none(digest)) else {
            return None;
        };
        let Opened { open, added, removed } = match content {
            Content::Inner { path, value, present, children } => {
                let fetched = (path, value.as_ref(), *present, children.as_slice());
                Open::inner(head, fetched, values, local)
            }
            Content::Block { entries } => {
                let begin = key.get(..depth / 2).unwrap_or_default();
                let old = |suffix: &[u8]| {
                    let place = Place::of_value([begin, suffix].concat());
                    match find(local.as_ref()?, depth, &place)? {
                        Found::Value(slot) => Some(slot.clone()),
                        Found::Subtree(_) => None,
                    }
                };
                let opened = Open::block(head, entries, values, old);
                let local = local.map(|local| Amount::of_subtree(&local, depth));
                Opened { removed: local.unwrap_or_default(), ..opened }
            }
            Content::Value(_) => return None,
        };
        self.amount.subtract(removed);
        self.amount.add(added);
        self.tree.open(open, key)
    }

    /// Goes to another map instead, or on to the same. What was fetched and what is local both serve: where something
    /// was fetched, it is that which is compared. Nothing is on its way any more: answers to what was asked before are not
    /// to be taken in, as they would be held against another target than they are of.
    pub fn retarget(&mut self, target: Digest) {
        let tree = &mut self.tree;
        if target == self.target {
            tree.give_all_back();
            return;
        }
        self.target = target;
        if self.summary.take().is_some() {
            self.local = mem::take(tree).patched();
        }
    }

    /// The map, once nothing is missing. Its digest is the target, and all its nodes have theirs.
    ///
    /// Should the counts of what was put together not be the certified ones, then the local map was not what its digests
    /// say: it is left aside, all is wanted anew, and there is no map yet.
    #[must_use]
    pub fn finish(&mut self) -> Option<Map> {
        let summary = self.summary?;
        let root = self.tree.whole()?;
        if self.amount != (Amount { entries: summary.entries, bytes: summary.bytes }) {
            self.tree = Tree::new(summary.root.map(Subtree::none));
            self.amount = Amount::default();
            return None;
        }
        let entries = usize::try_from(summary.entries).ok()?;
        let map = Map { root, entries, bytes: summary.bytes };
        assert_eq!(
            map.digest(),
            self.target,
            "finish: each node has the digest that its parent gave"
        );
        Some(map)
    }

    /// How far it came.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            fetched_nodes: self.fetched.0,
            fetched_bytes: self.fetched.1,
            open_nodes: self.tree.open_nodes(),
            target_entries: self.summary.map(|summary| summary.entries),
            target_bytes: self.summary.map(|summary| summary.bytes),
        }
    }
}

impl fmt::Debug for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sync")
            .field("target", &self.target)
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}
