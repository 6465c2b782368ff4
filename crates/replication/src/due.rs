//! The service wants a slot, though nobody asks for anything: a lease is over, history is to be compacted.
//!
//! After every slot the service says when ([`Service::due`]). Each replica waits that long by its own clock; what is
//! overdue then is a waiting request like any other: the primary proposes a batch, an empty one if nothing else waits,
//! and a primary that does not is removed.

use crate::record::Timer;
use crate::replica::{Fx, Replica};
use crate::rules::Rules;
use crate::status::Health;
use core::time::Duration;
use testudo_contracts::{Ordering, Service, Waiting};

/// Milliseconds between a slot and the next that only the service wants. One that is never content, as a service that
/// panics whenever time passes, does not keep the cluster busy with that alone.
const SHORTEST: u64 = 10;

/// Milliseconds that a timer runs at most. A longer wait takes several.
const LONGEST: u64 = 1000 * 60 * 60;

/// What the service wants.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Due {
    /// Milliseconds that are to be waited when the timer that runs has run out. None if none runs.
    rest: Option<u64>,
    is_overdue: bool,
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// A slot has executed: what the service wants now counts from here.
    pub(crate) fn plan_due(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if self.replaying {
            return;
        }
        let mut due = None;
        // A service that panics does not know.
        if self.health == Health::Well {
            let (service, map) = (&self.service, &self.state.map);
            if fx.guard(&mut || due = service.due(map)).is_err() {
                due = None;
            }
        }
        let was_set = self.due.rest.is_some();
        self.due = Due::default();
        match due {
            Some(after) => self.wait_for(after.max(SHORTEST), fx),
            None if was_set => fx.cancel_timer(Timer::Due),
            None => {}
        }
    }

    fn wait_for(&mut self, after: u64, fx: &mut Fx<'_, O, S, R>) {
        let now = after.min(LONGEST);
        self.due.rest = Some(after - now);
        fx.set_timer(Timer::Due, Duration::from_millis(now));
    }

    /// The time has come, or part of it.
    pub(crate) fn on_due(&mut self, fx: &mut Fx<'_, O, S, R>) {
        match self.due.rest.take() {
            Some(0) => self.due.is_overdue = true,
            Some(rest) => self.wait_for(rest, fx),
            None => {}
        }
    }

    /// Whether the service waits for a slot. Who is not well does not know.
    pub(crate) fn is_due(&self) -> bool {
        self.due.is_overdue && self.health == Health::Well
    }

    /// What waits longest. Bundles come first: the slot that one gets is the slot that the service wants. The service's
    /// wish has a number that no arrival has, and another after each slot.
    pub(crate) fn oldest_wish(&self) -> Waiting {
        // What waits at one that is behind may have been executed long ago.
        if matches!(self.health, Health::Behind(_)) || self.is_between_epochs() {
            return Waiting::Nothing;
        }
        match self.waiting.waiting() {
            Waiting::Nothing if self.is_due() => Waiting::Oldest(u64::MAX - self.state.slot.0),
            waiting => waiting,
        }
    }
}
