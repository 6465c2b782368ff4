//! Who noticed that something is wrong, and when.

use super::Cast;
use crate::event::{Event, Fact};
use crate::world::Observer;
use std::time::Duration;

/// What correct nodes have said is wrong. The word of a liar's automaton is no alarm.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    cast: Cast,
    /// How often evidence was handed over that convicts a liar.
    pub evidence: u64,
    /// How often somebody found its own state wrong, or stopped as no state can be agreed upon.
    pub raised: u64,
    /// When that happened last.
    pub last: Option<Duration>,
}

impl Alarms {
    /// Listens to these nodes.
    #[must_use]
    pub fn new(cast: Cast) -> Self {
        Self { cast, ..Self::default() }
    }
}

impl Observer for Alarms {
    fn observe(&mut self, at: Duration, event: &Event) {
        match event {
            Event::Blamed { by, accused, convincing: true, .. } => {
                let is_just = !self.cast.is_correct_replica(*accused);
                self.evidence += u64::from(is_just && self.cast.is_correct(*by));
            }
            Event::Told(node, Fact::Wrong(_) | Fact::Halted(_) | Fact::Diverged(_))
                if self.cast.is_correct(*node) =>
            {
                self.raised += 1;
                self.last = Some(at);
            }
            _ => {}
        }
    }
}
