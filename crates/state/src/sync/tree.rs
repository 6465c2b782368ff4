//! The target's tree, as far as it is here.
//!
//! Open nodes name each other by numbers. Who looks for a place begins at the node that was touched last and goes up to
//! where the ways part, and down from there: so along a chain, however deep, each step costs what lies between two places,
//! not what lies above them.

use super::open::{Body, Id, Open, Spot, Subtree, Value};
use super::serve::find;
use super::{Place, SyncError};
use crate::node::Child;
use crate::path::{self, agreement};
use crate::tally;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;
use testudo_core::Digest;

/// A tree that is being put together.
#[derive(Clone, Default)]
pub(crate) struct Tree {
    /// None if the tree is empty.
    root: Option<Subtree>,
    /// Whether the root is to be fetched, and nobody was told.
    is_root_unasked: bool,
    open: BTreeMap<Id, Open>,
    next: Id,
    /// The open nodes with items that nobody was told to fetch, and some that are closed by now. The last is next.
    queue: Vec<Id>,
    /// An open node that was touched lately, if there is one.
    last: Option<Id>,
    /// A key whose beginning leads there.
    last_key: Vec<u8>,
}

/// What is at a place.
pub(crate) enum State {
    /// It is wanted.
    Wanted(Spot),
    /// It is here.
    Here,
}

/// Where the way to a place goes on.
enum Step {
    Arrived(State),
    Open(Id),
}

impl Tree {
    /// A tree with such a root, of which there may be something.
    pub(crate) fn new(root: Option<Subtree>) -> Self {
        let is_root_unasked = matches!(root, Some(Subtree::Wanted { .. }));
        Self { root, is_root_unasked, ..Self::default() }
    }

    /// How many nodes are open.
    pub(crate) fn open_nodes(&self) -> usize {
        self.open.len()
    }

    /// The whole tree, if nothing is missing.
    pub(crate) fn whole(&self) -> Option<Option<Child>> {
        match &self.root {
            None => Some(None),
            Some(Subtree::Whole(child)) => Some(Some(child.clone())),
            Some(_) => None,
        }
    }

    /// Hands out up to `most` places that nobody was told to fetch, until they have `bytes`.
    pub(crate) fn hand_out(&mut self, most: usize, bytes: usize) -> Vec<Place> {
        let (mut places, mut sum) = (Vec::new(), 0);
        if most > 0 && mem::take(&mut self.is_root_unasked) {
            places.push(Place::root());
        }
        while places.len() < most
            && sum < bytes
            && let Some(&id) = self.queue.last()
        {
            if self.open.get(&id).is_none_or(|open| open.unasked == 0) {
                self.queue.pop();
                if let Some(open) = self.open.get_mut(&id) {
                    open.is_queued = false;
                }
                continue;
            }
            self.go_to(id);
            let place = self.open.get_mut(&id).and_then(|open| open.hand_out(&self.last_key));
            sum += place.as_ref().map_or(0, Place::size);
            places.extend(place);
        }
        places
    }

    /// Items of this open node are wanted of somebody.
    fn enqueue(&mut self, id: Id) {
        if let Some(open) = self.open.get_mut(&id)
            && !mem::replace(&mut open.is_queued, true)
        {
            self.queue.push(id);
        }
    }

    /// Something that is wanted is not on its way any more.
    pub(crate) fn give_back(&mut self, spot: Spot) {
        let Some((id, item)) = spot else {
            self.is_root_unasked = true;
            return;
        };
        if let Some(open) = self.open.get_mut(&id) {
            open.unasked |= 1 << item;
        }
        self.enqueue(id);
    }

    /// Nothing is on its way any more.
    pub(crate) fn give_all_back(&mut self) {
        self.is_root_unasked = self.root.as_ref().is_some_and(Subtree::is_wanted);
        self.queue.clear();
        for (id, open) in &mut self.open {
            open.unasked = open.body.wanted();
            open.is_queued = true;
            self.queue.push(*id);
        }
    }

    /// The digest of what is wanted.
    pub(crate) fn wanted(&mut self, spot: Spot, is_value: bool) -> Option<Digest> {
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

    /// A subtree.
    pub(crate) fn subtree(&mut self, spot: Spot) -> Option<&mut Subtree> {
        match spot {
            None => self.root.as_mut(),
            Some((id, item)) => self.open.get_mut(&id)?.body.subtree(item),
        }
    }

    /// Opens a node that `key` leads to, or closes it at once if nothing of it is missing. Its number, if it is open.
    pub(crate) fn open(&mut self, open: Open, key: &[u8]) -> Option<Id> {
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        if open.pending == 0 {
            self.close(open);
            return None;
        }
        let id = self.next;
        self.next += 1;
        if let Some(place) = self.subtree(open.above) {
            *place = Subtree::Open(id);
        }
        if open.above.is_none() {
            self.is_root_unasked = false;
        }
        if let Some((above, item)) = open.above
            && let Some(above) = self.open.get_mut(&above)
        {
            above.unasked &= !(1 << item);
        }
        self.open.insert(id, open);
        self.last = Some(id);
        self.enqueue(id);
        Some(id)
    }

    /// A value is here that `key` leads to.
    pub(crate) fn set_value(&mut self, (id, item): (Id, u8), value: Value, key: &[u8]) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if let Some(place) = open.body.value(item) {
            *place = value;
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.last = Some(id);
        self.settle(id, item);
    }

    /// A node of which nothing is missing is put into the one above; and that one perhaps, too.
    fn close(&mut self, open: Open) {
        let above = open.above;
        let child = open.close().expect("close: nothing is missing of a node with nothing pending");
        if let Some(place) = self.subtree(above) {
            *place = Subtree::Whole(child);
        }
        match above {
            None => (self.last, self.is_root_unasked) = (None, false),
            Some((id, item)) => self.settle(id, item),
        }
    }

    /// An item of an open node is whole.
    fn settle(&mut self, mut id: Id, mut item: u8) {
        loop {
            let Some(open) = self.open.get_mut(&id) else { return };
            open.pending &= !(1 << item);
            open.unasked &= !(1 << item);
            self.last = Some(id);
            if open.pending != 0 {
                return;
            }
            let Some(open) = self.open.remove(&id) else { return };
            let above = open.above;
            let child =
                open.close().expect("settle: nothing is missing of a node with nothing pending");
            if let Some(place) = self.subtree(above) {
                *place = Subtree::Whole(child);
            }
            let Some(next) = above else {
                self.last = None;
                return;
            };
            (id, item) = next;
        }
    }

    /// What is at a place, if it is known that something of the target is there.
    pub(crate) fn locate(&self, place: &Place) -> Result<State, SyncError> {
        let mut step = match self.nearest(place) {
            Some(id) => Step::Open(id),
            None => look(self.root.as_ref().ok_or(SyncError::Unasked)?, None, 0, place)?,
        };
        loop {
            match step {
                Step::Arrived(state) => return Ok(state),
                Step::Open(id) => {
                    tally::visited();
                    let open = self.open.get(&id).ok_or(SyncError::Unasked)?;
                    step = pass(open, id, place)?;
                }
            }
        }
    }

    /// The lowest open node on the way to a place among those above the one that was touched last. None if it is to be
    /// looked for from the root down: the search costs no more than the place is long, or twice that.
    fn nearest(&self, place: &Place) -> Option<Id> {
        let depth = self.open.get(&self.last?)?.depth;
        if depth / 2 > place.nibbles() {
            return None;
        }
        let shared = agreement(&self.last_key, place.key(), false).min(place.nibbles());
        let mut at = self.last;
        while let Some(id) = at {
            tally::visited();
            let open = self.open.get(&id)?;
            if open.depth <= shared {
                break;
            }
            at = open.above.map(|(above, _)| above);
        }
        at
    }

    /// Makes an open node the one that was touched last.
    fn go_to(&mut self, id: Id) {
        // A node above has a smaller number, so the greater of two is not above the other.
        let (mut at, mut last, mut way) = (Some(id), self.last, Vec::new());
        while at != last {
            tally::visited();
            if at > last {
                let Some(open) = at.and_then(|id| self.open.get(&id)) else { break };
                at = open.above.map(|(above, _)| above);
                way.extend(open.above);
            } else {
                let Some(open) = last.and_then(|id| self.open.get(&id)) else { break };
                last = open.above.map(|(above, _)| above);
            }
        }
        let key = &mut self.last_key;
        let mut nibbles = at.and_then(|id| self.open.get(&id)).map_or(0, |open| open.depth);
        path::cut_to(key, nibbles);
        for (id, item) in way.into_iter().rev() {
            if let Some(open) = self.open.get(&id)
                && let Body::Inner { path, .. } = &open.body
            {
                path::append(key, &mut nibbles, path);
                path::push(key, &mut nibbles, item - 1);
            }
        }
        self.last = Some(id);
    }

    /// What there is of the tree, and where something is missing what was local there.
    pub(crate) fn patched(mut self) -> Option<Child> {
        // Nodes below have greater numbers.
        while let Some((_, open)) = self.open.pop_last() {
            let above = open.above;
            let child = open.patch();
            if let Some(place) = self.subtree(above) {
                *place = match child {
                    Some(child) => Subtree::Whole(child),
                    None => Subtree::none(Digest::ZERO),
                };
            }
        }
        self.root.take().and_then(Subtree::patch)
    }
}

/// Whether a subtree that begins at `depth` of the way to a place is what is there.
fn look(subtree: &Subtree, spot: Spot, depth: usize, place: &Place) -> Result<Step, SyncError> {
    let is_it = depth == place.nibbles() && !place.is_value();
    match subtree {
        Subtree::Open(id) => Ok(Step::Open(*id)),
        Subtree::Wanted { .. } if is_it => Ok(Step::Arrived(State::Wanted(spot))),
        Subtree::Whole(child) if find(child, depth, place).is_some() => {
            Ok(Step::Arrived(State::Here))
        }
        Subtree::Wanted { .. } | Subtree::Whole(_) => Err(SyncError::Unasked),
    }
}

/// Where the way to a place goes on that leads to an open node.
fn pass(open: &Open, id: Id, place: &Place) -> Result<Step, SyncError> {
    if open.depth == place.nibbles() && !place.is_value() {
        return Ok(Step::Arrived(State::Here));
    }
    let (item, value) = match &open.body {
        Body::Block { entries } => {
            let rest = place.key().get(open.depth / 2..).filter(|_| place.is_value());
            let rest = rest.ok_or(SyncError::Unasked)?;
            let at = entries.binary_search_by(|(suffix, _)| (**suffix).cmp(rest));
            let at = at.map_err(|_| SyncError::Unasked)?;
            (at as u8, entries.get(at).map(|(_, value)| value))
        }
        Body::Inner { path, value, .. } => {
            if !place.goes_along(open.depth, path) {
                return Err(SyncError::Unasked);
            }
            let end = open.depth + path.len();
            if let Some(nibble) = place.nibble(end) {
                let subtree = open.body.peek(nibble + 1).ok_or(SyncError::Unasked)?;
                return look(subtree, Some((id, nibble + 1)), end + 1, place);
            }
            (0, value.as_ref().filter(|_| place.is_value()))
        }
    };
    Ok(Step::Arrived(match value.ok_or(SyncError::Unasked)? {
        Value::Wanted(_) => State::Wanted(Some((id, item))),
        Value::Whole(_) => State::Here,
    }))
}
