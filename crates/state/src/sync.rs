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
//! For each entry that differs, the nodes on its way are fetched: as many as the tree is deep, at most, once for all
//! entries below. Between nodes that hang from each other lies a way there and back; side by side they are fetched
//! together. Places are handed out depth first, so the nodes that are open (fetched, and waiting for some below) are
//! few: those on the ways to what is being fetched. Beside the map itself that is the memory needed.
//!
//! # What can go wrong
//!
//! A [`Node`] is decoded strictly, found where it belongs, and hashed, before anything is made of it. Nothing a source
//! says is believed, remembered or worked on at a cost beyond the size of what it said. Only a certified target whose own
//! counts are untrue, or a local map that the memory has garbled under the digests that it keeps, show late: in
//! [`Sync::finish`], which compares the counts and then begins anew without the local map.

mod local;
mod node;
mod open;
mod place;
mod serve;

pub use node::Node;
pub use place::Place;

use crate::Map;
use crate::hash;
use crate::node::{Child, Slot};
use crate::path;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::{fmt, mem};
use local::Amount;
use node::Content;
use open::{Body, Id, Open, Opened, Subtree, Value};
use serve::{Found, find};
use testudo_core::{Digest, wire_struct};

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
pub struct Sync {
    target: Digest,
    summary: Option<Summary>,
    /// The local tree, until the summary says what to look for in it.
    local: Option<Child>,
    /// The target's tree, once there is a summary; none if it is empty.
    root: Option<Subtree>,
    /// Whether the root is to be fetched, and nobody was told.
    is_root_unasked: bool,
    open: BTreeMap<Id, Open>,
    next: Id,
    /// The open nodes with items that nobody was told to fetch, and some that are closed by now. The last is next.
    queue: Vec<Id>,
    /// What the map amounts to that would come of a [`Sync::retarget`]: the target as far as it is here, and the local
    /// tree where it is not. In the end, what the target amounts to.
    amount: Amount,
    fetched: (u64, u64),
}

/// What is at a place.
enum Spot {
    /// It is wanted: an item of an open node, or the root.
    Wanted(Option<(Id, u8)>),
    /// It is here.
    Here,
}

impl Sync {
    /// Goes from `local`, which may be any map, to the one with the digest `target`. Costs what `local` has not hashed
    /// yet.
    #[must_use]
    pub fn new(target: Digest, local: Map) -> Self {
        let amount = Amount { entries: local.entries as u64, bytes: local.bytes };
        Self {
            target,
            summary: None,
            local: local.root,
            root: None,
            is_root_unasked: false,
            open: BTreeMap::new(),
            next: 0,
            queue: Vec::new(),
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
            self.root = summary.root.map(|digest| Subtree::new(digest, local));
            self.is_root_unasked = matches!(self.root, Some(Subtree::Wanted { .. }));
            if self.root.is_none() {
                self.amount = Amount::default();
            }
        }
        Ok(())
    }

    /// Up to `most` places that are wanted and not on their way; now they are.
    #[must_use]
    pub fn wants(&mut self, most: usize) -> Vec<Place> {
        let mut places = Vec::new();
        if most > 0 && mem::take(&mut self.is_root_unasked) {
            places.push(Place::root());
        }
        while places.len() < most
            && let Some(&id) = self.queue.last()
        {
            let count = most - places.len();
            let (key, nibbles) = self.way_to(id);
            match self.open.get_mut(&id) {
                Some(open) if open.unasked != 0 => hand_out(open, key, nibbles, count, &mut places),
                finished => {
                    if let Some(open) = finished {
                        open.is_queued = false;
                    }
                    self.queue.pop();
                }
            }
        }
        places
    }

    /// The nibbles that lead to where an open node begins.
    fn way_to(&self, id: Id) -> (Vec<u8>, usize) {
        let mut way = Vec::new();
        let mut above = self.open.get(&id).and_then(|open| open.above);
        while let Some((id, item)) = above {
            let Some(open) = self.open.get(&id) else { break };
            way.push((open, item));
            above = open.above;
        }
        let (mut key, mut nibbles) = (Vec::new(), 0);
        for (open, item) in way.into_iter().rev() {
            if let Body::Inner { path, .. } = &open.body {
                path::append(&mut key, &mut nibbles, path);
                path::push(&mut key, &mut nibbles, item - 1);
            }
        }
        (key, nibbles)
    }

    /// The source that was to give these is of no use: they are wanted again, as far as they did not come otherwise.
    pub fn give_back(&mut self, places: &[Place]) {
        for place in places {
            match self.locate(place) {
                Ok(Spot::Wanted(None)) => self.is_root_unasked = true,
                Ok(Spot::Wanted(Some((id, item)))) => {
                    if let Some(open) = self.open.get_mut(&id) {
                        open.unasked |= 1 << item;
                        if !mem::replace(&mut open.is_queued, true) {
                            self.queue.push(id);
                        }
                    }
                }
                Ok(Spot::Here) | Err(_) => {}
            }
        }
    }

    /// Takes in a node, whoever it is from and whether it was given back meanwhile. One that is here already is
    /// harmless.
    ///
    /// # Errors
    /// When it is not the target's, or nobody could have asked for it. Then nothing has changed.
    pub fn take(&mut self, node: &Node) -> Result<(), SyncError> {
        let Spot::Wanted(spot) = self.locate(&node.place)? else { return Ok(()) };
        let wanted = self.wanted(spot, node.place.is_value()).ok_or(SyncError::Unasked)?;
        let mut values = Vec::new();
        if node.content.digest(&mut values) != wanted {
            return Err(SyncError::WrongDigest);
        }
        self.fetched.0 += 1;
        self.fetched.1 += node.size() as u64;
        match (&node.content, spot) {
            (Content::Value(value), Some((id, item))) => {
                let slot = Slot::new(Arc::clone(value));
                slot.digest.set(&wanted);
                self.amount.add(Amount::of_entry(node.place.key().len(), value.len()));
                if let Some(place) = self.open.get_mut(&id).and_then(|open| open.body.value(item)) {
                    *place = Value::Whole(slot);
                }
                self.settle(id, item);
            }
            _ => self.unfold(spot, node, wanted, &values),
        }
        Ok(())
    }

    /// The digest of what is wanted.
    fn wanted(&mut self, spot: Option<(Id, u8)>, is_value: bool) -> Option<Digest> {
        if is_value {
            let (id, item) = spot?;
            return match self.open.get_mut(&id)?.body.value(item)? {
                Value::Wanted(digest) => Some(*digest),
                Value::Whole(_) => None,
            };
        }
        match self.subtree(spot)? {
            Subtree::Wanted { digest, .. } => Some(*digest),
            Subtree::Open(_) | Subtree::Whole(_) => None,
        }
    }

    fn subtree(&mut self, spot: Option<(Id, u8)>) -> Option<&mut Subtree> {
        match spot {
            None => self.root.as_mut(),
            Some((id, item)) => self.open.get_mut(&id)?.body.subtree(item),
        }
    }

    /// Puts a node that is true where it is wanted, and looks in the local tree for what lies below it.
    fn unfold(&mut self, spot: Option<(Id, u8)>, node: &Node, digest: Digest, values: &[Digest]) {
        let id = self.next;
        let Some(place) = self.subtree(spot) else { return };
        let Subtree::Wanted { local, .. } = mem::replace(place, Subtree::Open(id)) else { return };
        let depth = node.place.nibbles();
        let head = (spot, depth, digest);
        let Opened { mut open, added, removed } = match &node.content {
            Content::Inner { path, value, present, children } => {
                let fetched = (path, value.as_ref(), *present, children.as_slice());
                Open::inner(head, fetched, values, local)
            }
            Content::Block { entries } => {
                let begin = node.place.key().get(..depth / 2).unwrap_or_default();
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
            Content::Value(_) => return,
        };
        self.amount.subtract(removed);
        self.amount.add(added);
        self.next += 1;
        if open.pending == 0 {
            self.close(open);
        } else {
            open.is_queued = true;
            self.queue.push(id);
            self.open.insert(id, open);
        }
    }

    /// An item of an open node is here.
    fn settle(&mut self, id: Id, item: u8) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.pending &= !(1 << item);
        open.unasked &= !(1 << item);
        if open.pending == 0
            && let Some(open) = self.open.remove(&id)
        {
            self.close(open);
        }
    }

    /// A node is whole, and with it perhaps those above.
    fn close(&mut self, mut open: Open) {
        loop {
            let above = open.above;
            let child =
                open.close().expect("close: nothing is missing of a node with nothing pending");
            if let Some(place) = self.subtree(above) {
                *place = Subtree::Whole(child);
            }
            let Some((id, item)) = above else { return };
            let Some(next) = self.open.get_mut(&id) else { return };
            next.pending &= !(1 << item);
            if next.pending != 0 {
                return;
            }
            let Some(next) = self.open.remove(&id) else { return };
            open = next;
        }
    }

    /// What is at a place, if anything of the target is known to be.
    fn locate(&self, place: &Place) -> Result<Spot, SyncError> {
        let mut spot = None;
        let mut subtree = self.root.as_ref().ok_or(SyncError::Unasked)?;
        let mut depth = 0;
        loop {
            let is_it = depth == place.nibbles() && !place.is_value();
            let open = match subtree {
                Subtree::Wanted { .. } if is_it => return Ok(Spot::Wanted(spot)),
                Subtree::Wanted { .. } => return Err(SyncError::Unasked),
                Subtree::Whole(child) => {
                    let found = find(child, depth, place).ok_or(SyncError::Unasked)?;
                    let (Found::Subtree(_) | Found::Value(_)) = found;
                    return Ok(Spot::Here);
                }
                Subtree::Open(_) if is_it => return Ok(Spot::Here),
                Subtree::Open(id) => *id,
            };
            let node = self.open.get(&open).ok_or(SyncError::Unasked)?;
            let (item, value) = match &node.body {
                Body::Block { entries } => {
                    let rest = place.key().get(depth / 2..).filter(|_| place.is_value());
                    let rest = rest.ok_or(SyncError::Unasked)?;
                    let at = entries.binary_search_by(|(suffix, _)| (**suffix).cmp(rest));
                    let at = at.map_err(|_| SyncError::Unasked)?;
                    (at as u8, entries.get(at).map(|(_, value)| value))
                }
                Body::Inner { path, value, .. } => {
                    if !place.goes_along(depth, path) {
                        return Err(SyncError::Unasked);
                    }
                    depth += path.len() + 1;
                    match place.nibble(depth - 1) {
                        None => (0, value.as_ref().filter(|_| place.is_value())),
                        Some(nibble) => {
                            let item = nibble + 1;
                            spot = Some((open, item));
                            subtree = node.body.peek(item).ok_or(SyncError::Unasked)?;
                            continue;
                        }
                    }
                }
            };
            return match value.ok_or(SyncError::Unasked)? {
                Value::Wanted(_) => Ok(Spot::Wanted(Some((open, item)))),
                Value::Whole(_) => Ok(Spot::Here),
            };
        }
    }

    /// Goes to another map instead. What was fetched and what is local both serve: where something was fetched it is
    /// what was fetched that is compared. Whatever is on its way is of the old target and is not to be taken in, as it
    /// would be held against the new one.
    pub fn retarget(&mut self, target: Digest) {
        if target == self.target {
            return;
        }
        self.target = target;
        if self.summary.take().is_some() {
            self.local = self.patched();
            self.is_root_unasked = false;
        }
    }

    /// The target's tree as far as it is here, and the local one where it is not.
    fn patched(&mut self) -> Option<Child> {
        self.queue.clear();
        // Nodes below have greater numbers.
        while let Some((_, open)) = self.open.pop_last() {
            let above = open.above;
            let child = open.patch();
            if let Some(place) = self.subtree(above) {
                *place = match child {
                    Some(child) => Subtree::Whole(child),
                    None => Subtree::Wanted { digest: Digest::ZERO, local: None },
                };
            }
        }
        match self.root.take()? {
            Subtree::Whole(child) => Some(child),
            Subtree::Wanted { local, .. } => local,
            Subtree::Open(_) => None,
        }
    }

    /// The map, once nothing is missing. Its digest is the target, and all its nodes have theirs.
    ///
    /// Should the counts of what was put together not be the certified ones, then the local map was not what its digests
    /// say: it is left aside, all is wanted anew, and there is no map yet.
    #[must_use]
    pub fn finish(&mut self) -> Option<Map> {
        let summary = self.summary?;
        let root = match &self.root {
            None => None,
            Some(Subtree::Whole(child)) => Some(child.clone()),
            Some(_) => return None,
        };
        if self.amount != (Amount { entries: summary.entries, bytes: summary.bytes }) {
            self.root = summary.root.map(|digest| Subtree::Wanted { digest, local: None });
            self.is_root_unasked = self.root.is_some();
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
            open_nodes: self.open.len(),
            target_entries: self.summary.map(|summary| summary.entries),
            target_bytes: self.summary.map(|summary| summary.bytes),
        }
    }
}

/// Hands out up to `count` places of an open node that begins at the end of `key`.
fn hand_out(open: &mut Open, key: Vec<u8>, nibbles: usize, count: usize, places: &mut Vec<Place>) {
    let mut ahead = open.unasked;
    for _ in 0..count.min(ahead.count_ones() as usize) {
        let item = ahead.trailing_zeros();
        ahead &= ahead - 1;
        places.push(match &open.body {
            Body::Block { entries } => {
                let suffix = entries.get(item as usize).map(|(suffix, _)| &**suffix);
                let begin = key.get(..nibbles / 2).unwrap_or_default();
                Place::of_value([begin, suffix.unwrap_or_default()].concat())
            }
            Body::Inner { path, .. } => {
                let (mut key, mut nibbles) = (key.clone(), nibbles);
                path::append(&mut key, &mut nibbles, path);
                match item.checked_sub(1) {
                    None => Place::of_value(key),
                    Some(nibble) => {
                        path::push(&mut key, &mut nibbles, nibble as u8);
                        Place::of_subtree(key, nibbles)
                    }
                }
            }
        });
    }
    open.unasked = ahead;
}

impl fmt::Debug for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sync")
            .field("target", &self.target)
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}
