//! Who noticed that something is wrong, and when.

use super::Cast;
use crate::event::{Event, Fact};
use crate::world::Observer;
use std::collections::BTreeSet;
use std::time::Duration;
use testudo_core::{ReplicaId, Slot};

/// A correct node found its own state wrong, or stopped as no state can be agreed upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alarm {
    /// When.
    pub at: Duration,
    /// After which slot the state is wrong.
    pub slot: Slot,
}

/// What correct nodes have said is wrong. The word of a liar's automaton is no alarm.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    cast: Cast,
    /// How often evidence was handed over that convicts a liar.
    pub evidence: u64,
    /// Whom that convicts.
    pub convicted: BTreeSet<ReplicaId>,
    /// How often an alarm was raised.
    pub raised: u64,
    /// The alarms that no later one covers, in the order of time. One covers another that is about no later slot, so the
    /// slots here fall, and there are few of them.
    standing: Vec<Alarm>,
}

impl Alarms {
    /// Listens to these nodes.
    #[must_use]
    pub fn new(cast: Cast) -> Self {
        Self { cast, ..Self::default() }
    }

    /// The alarms that tell all that the alarms raised so far tell of when and where something was still wrong.
    #[must_use]
    pub fn standing(&self) -> &[Alarm] {
        &self.standing
    }

    fn raise(&mut self, alarm: Alarm) {
        self.raised += 1;
        while self.standing.last().is_some_and(|last| last.slot <= alarm.slot) {
            self.standing.pop();
        }
        self.standing.push(alarm);
    }
}

impl Observer for Alarms {
    fn observe(&mut self, at: Duration, event: &Event) {
        match event {
            Event::Blamed { by, accused, convincing: true, .. } => {
                let is_just = !self.cast.is_correct_replica(*accused);
                if is_just && self.cast.is_correct(*by) {
                    self.evidence += 1;
                    self.convicted.insert(*accused);
                }
            }
            Event::Told(node, Fact::Wrong(slot) | Fact::Halted(slot) | Fact::Diverged(slot))
                if self.cast.is_correct(*node) =>
            {
                self.raise(Alarm { at, slot: *slot });
            }
            _ => {}
        }
    }
}
