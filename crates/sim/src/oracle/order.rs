//! Rules of ordering: one batch per slot, no gaps, each request once, equal states, one primary per view.

use super::window::{Recent, forget_old};
use super::{Cast, Oracle};
use crate::atlas::Harm;
use crate::event::{Event, Fact, NodeId};
use std::collections::BTreeMap;
use testudo_core::{Digest, Epoch, ReplicaId, Slot, View};

/// The node and fact of a correct node's [`Event::Told`]; other events break no rule.
macro_rules! told {
    ($event:expr, $cast:expr) => {
        match $event {
            Event::Told(node, fact) if $cast.is_correct(*node) => (*node, fact),
            _ => return Ok(()),
        }
    };
}

/// No two correct replicas finally execute different batches in one slot, and none changes its mind.
#[derive(Default, Debug)]
pub struct Agreement {
    decided: BTreeMap<Slot, (Digest, NodeId)>,
    /// What each replica executed and may still roll back.
    speculative: BTreeMap<NodeId, BTreeMap<Slot, Digest>>,
}

impl Agreement {
    fn decide(
        &mut self,
        node: NodeId,
        slot: Slot,
        batch: Digest,
        cast: &Cast,
    ) -> Result<(), String> {
        match self.decided.get(&slot) {
            None => {
                self.decided.insert(slot, (batch, node));
                forget_old(&mut self.decided);
                Ok(())
            }
            Some((other, _)) if *other == batch => Ok(()),
            Some((other, by)) => Err(format!(
                "in {slot:?} {} executed {batch:?}, but {} {other:?}",
                cast.name(node),
                cast.name(*by)
            )),
        }
    }
}

impl Oracle for Agreement {
    fn name(&self) -> &'static str {
        "agreement"
    }
    fn see(&mut self, event: &Event, cast: &Cast) -> Result<(), String> {
        if let Event::Started(node) = event {
            self.speculative.remove(node);
        }
        let (node, fact) = told!(event, cast);
        match fact {
            Fact::Executed { slot, batch, is_final: true } => {
                self.decide(node, *slot, *batch, cast)?;
            }
            Fact::Executed { slot, batch, is_final: false } => {
                self.speculative.entry(node).or_default().insert(*slot, *batch);
            }
            Fact::RolledBack(to) => {
                self.speculative.entry(node).or_default().split_off(&to.next());
            }
            Fact::Committed(upto) => {
                let mine = self.speculative.entry(node).or_default();
                let rest = mine.split_off(&upto.next());
                let settled = std::mem::replace(mine, rest);
                for (slot, batch) in settled {
                    self.decide(node, slot, batch, cast)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What is speculative is bounded by how far a protocol may be ahead of what is final.
    fn size(&self) -> usize {
        self.decided.len() + self.speculative.values().map(BTreeMap::len).sum::<usize>()
    }
}

/// Each correct replica executes slots in order, without gaps, each once in a life.
#[derive(Default, Debug)]
pub struct TotalOrder {
    /// Per replica: the slot expected next in this life, and the highest that was ever executed or restored.
    places: BTreeMap<NodeId, (Option<Slot>, Slot)>,
}

impl Oracle for TotalOrder {
    fn name(&self) -> &'static str {
        "total order"
    }
    fn see(&mut self, event: &Event, cast: &Cast) -> Result<(), String> {
        if let Event::Started(node) = event {
            self.places.entry(*node).or_default().0 = None;
        }
        let (node, fact) = told!(event, cast);
        let (next, highest) = self.places.entry(node).or_default();
        match fact {
            Fact::Executed { slot, .. } => {
                // A new life begins where its snapshot ends, which is not beyond what an earlier life reached.
                let is_right =
                    next.map_or(*slot > Slot(0) && *slot <= highest.next(), |next| next == *slot);
                let expected = *next;
                *next = Some(slot.next());
                *highest = (*slot).max(*highest);
                if !is_right {
                    let name = cast.name(node);
                    return Err(format!("{name} executed {slot:?} where {expected:?} was due"));
                }
            }
            Fact::Restored(slot) => {
                *next = Some(slot.next());
                *highest = (*slot).max(*highest);
            }
            Fact::RolledBack(to) => *next = Some(to.next()),
            _ => {}
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.places.len()
    }
}

/// No request takes effect twice, and each has the same result in the same slot everywhere.
///
/// What took effect too long ago is forgotten. If it takes effect once more, nobody has said it for just as long, and so it
/// is [`super::Validity`] that convicts it.
#[derive(Default, Debug)]
pub struct Once {
    /// Per replica, in its present history: where each request took effect.
    applied: BTreeMap<NodeId, Recent<Digest, Slot>>,
    /// Where a request took effect finally, with its result.
    effects: Recent<Digest, (Slot, Digest, NodeId)>,
    /// The newest slot in which anything took effect.
    newest: Slot,
    /// Replicas that began a new life and have executed nothing in it yet.
    fresh: BTreeMap<NodeId, bool>,
    /// Replicas whose memory came to harm, and whether they have found that out: what they come to binds nobody until they
    /// have another state in place of the wrong one. Who is merely behind takes over what has rotted.
    spoilt: BTreeMap<NodeId, bool>,
}

impl Once {
    fn forget_from(&mut self, node: NodeId, slot: Slot) {
        self.applied.entry(node).or_default().retain(|at| *at < slot);
    }

    fn apply(
        &mut self,
        node: NodeId,
        slot: Slot,
        request: Digest,
        result: Digest,
        cast: &Cast,
    ) -> Result<(), String> {
        let name = cast.name(node);
        let applied = self.applied.entry(node).or_default();
        if let Some(before) = applied.insert(slot, request, slot) {
            return Err(format!("{name} applied {request:?} in {before:?} and in {slot:?}"));
        }
        if self.spoilt.contains_key(&node) {
            return Ok(());
        }
        match self.effects.get(&request) {
            None => {
                self.newest = self.newest.max(slot);
                self.effects.insert(self.newest, request, (slot, result, node));
                Ok(())
            }
            Some((at, same, _)) if *at == slot && *same == result => Ok(()),
            Some((at, other, by)) => Err(format!(
                "{name} applied {request:?} in {slot:?} with {result:?}, but {} in {at:?} with {other:?}",
                cast.name(*by)
            )),
        }
    }
}

impl Oracle for Once {
    fn name(&self) -> &'static str {
        "exactly once"
    }
    fn see(&mut self, event: &Event, cast: &Cast) -> Result<(), String> {
        match event {
            Event::Harmed(node, Harm::Memory) => {
                self.spoilt.insert(*node, false);
            }
            Event::Started(node) => {
                self.spoilt.remove(node);
                self.fresh.insert(*node, true);
            }
            _ => {}
        }
        let (node, fact) = told!(event, cast);
        match fact {
            // A new life executes again what its snapshot does not cover.
            Fact::Executed { slot, .. } if self.fresh.insert(node, false) == Some(true) => {
                self.forget_from(node, *slot);
            }
            Fact::RolledBack(to) => self.forget_from(node, to.next()),
            // What comes after a state that was transferred is executed from there on, perhaps once more.
            Fact::Wrong(_) => {
                self.spoilt.entry(node).and_modify(|is_found| *is_found = true);
            }
            Fact::Restored(to) => {
                if self.spoilt.get(&node) == Some(&true) {
                    self.spoilt.remove(&node);
                }
                self.fresh.insert(node, false);
                self.forget_from(node, to.next());
            }
            Fact::Applied { slot, request, result } => {
                self.apply(node, *slot, *request, *result, cast)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn size(&self) -> usize {
        let applied: usize = self.applied.values().map(Recent::len).sum();
        applied + self.effects.len() + self.fresh.len() + self.spoilt.len()
    }
}

/// All correct replicas have the same state after the same slot.
#[derive(Default, Debug)]
pub struct Checkpoints {
    states: BTreeMap<Slot, (Digest, NodeId)>,
}

impl Oracle for Checkpoints {
    fn name(&self) -> &'static str {
        "equal checkpoints"
    }
    fn see(&mut self, event: &Event, cast: &Cast) -> Result<(), String> {
        let (node, fact) = told!(event, cast);
        let Fact::Checkpoint { slot, state } = fact else { return Ok(()) };
        let (first, by) = *self.states.entry(*slot).or_insert((*state, node));
        forget_old(&mut self.states);
        if first == *state {
            return Ok(());
        }
        let (name, other) = (cast.name(node), cast.name(by));
        Err(format!("after {slot:?} {name} has state {state:?}, but {other} {first:?}"))
    }

    fn size(&self) -> usize {
        self.states.len()
    }
}

/// No correct learner comes to other results than are vouched for.
#[derive(Default, Debug)]
pub struct Unanimity;

impl Oracle for Unanimity {
    fn name(&self) -> &'static str {
        "unanimity"
    }
    fn see(&mut self, event: &Event, cast: &Cast) -> Result<(), String> {
        let (node, fact) = told!(event, cast);
        let Fact::Diverged(slot) = fact else { return Ok(()) };
        Err(format!("{} came to other results in {slot:?}", cast.name(node)))
    }

    fn size(&self) -> usize {
        0
    }
}

/// A correct replica's epoch never falls within a life, nor its view within an epoch; and a view of an epoch has one primary.
///
/// The primaries of the newest views are remembered. Nobody installs a view for the first time that is so far behind the
/// newest, as none is left that could vote in it; whoever was in it before says nothing new when it comes back to it.
#[derive(Default, Debug)]
pub struct Views {
    installed: BTreeMap<NodeId, (Epoch, View)>,
    primaries: BTreeMap<(Epoch, View), ReplicaId>,
}

impl Oracle for Views {
    fn name(&self) -> &'static str {
        "views"
    }
    fn see(&mut self, event: &Event, cast: &Cast) -> Result<(), String> {
        if let Event::Started(node) = event {
            self.installed.remove(node);
        }
        let (node, fact) = told!(event, cast);
        let name = cast.name(node);
        let before = self.installed.get(&node).copied();
        let now = match fact {
            Fact::Epoch(epoch, _) => (*epoch, View(0)),
            Fact::View(view, _) => (before.unwrap_or_default().0, *view),
            _ => return Ok(()),
        };
        self.installed.insert(node, now);
        if before.is_some_and(|before| before > now) {
            return Err(format!("{name} went back from {before:?} to {now:?}"));
        }
        let Fact::View(_, primary) = fact else { return Ok(()) };
        let first = *self.primaries.entry(now).or_insert(*primary);
        forget_old(&mut self.primaries);
        if first == *primary {
            Ok(())
        } else {
            Err(format!("{name} has {primary:?} as primary of {now:?}, others {first:?}"))
        }
    }

    fn size(&self) -> usize {
        self.installed.len() + self.primaries.len()
    }
}
