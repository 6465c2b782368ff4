//! When a view is given up, and how the next one begins (the paper's section on view changes goes here).
//!
//! One replica has nobody to agree with: its next view begins as soon as the promise to it is durable, from its own
//! votes. Among several, a replica *changes* first: it says what it knows, and the next primary begins the view from
//! what a quorum has said. Then [`Ordering::is_changing_view`](testudo_contracts::Ordering::is_changing_view) and
//! `may_propose` tell the two apart, and nothing is said in a view that is not installed.

use crate::message::Proposal;
use crate::safety::Rules;
use crate::{__Type__, Standing, Timer};
use alloc::vec::Vec;
use core::time::Duration;
use testudo_contracts::{OrderOutput, Ordering as _, Waiting};
use testudo_core::{Effects, Promise};

/// How often the view timeout is doubled at most: to 64 times its first length.
const DOUBLINGS: u32 = 6;

/// How long a replica puts up with a view.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// Whether requests wait here.
    waiting: Waiting,
    /// How often the timeout is doubled now. Invariant: at most `DOUBLINGS`.
    doublings: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { waiting: Waiting::Nothing, doublings: 0 }
    }
}

impl Patience {
    /// The view has decided something: trust comes back step by step.
    pub(crate) const fn progress(&mut self) {
        self.doublings = self.doublings.saturating_sub(1);
    }
}

impl<R: Rules> __Type__<R> {
    /// Requests wait, or none do. The timer starts afresh only for another oldest one, so that a primary that orders
    /// everything but one request is removed.
    pub(crate) fn on_waiting(&mut self, waiting: Waiting, fx: &mut Effects<'_, Self>) {
        if self.patience.waiting != waiting {
            self.patience.waiting = waiting;
            self.watch_primary(fx);
        }
    }

    fn watch_primary(&self, fx: &mut Effects<'_, Self>) {
        match self.patience.waiting {
            Waiting::Oldest(_) if self.standing == Standing::Voting => {
                let timeout = self.config.view_timeout.saturating_mul(1 << self.patience.doublings);
                fx.set_timer(Timer::View, timeout.max(Duration::from_millis(1)));
            }
            Waiting::Oldest(_) | Waiting::Nothing => self.stop_view_timer(fx),
        }
    }

    pub(crate) fn stop_view_timer(&self, fx: &mut Effects<'_, Self>) {
        fx.cancel_timer(Timer::View);
    }

    /// The view's time is up: the oldest request was not executed.
    pub(crate) fn on_view_timer(&mut self, fx: &mut Effects<'_, Self>) {
        if self.standing == Standing::Voting {
            self.patience.doublings = DOUBLINGS.min(self.patience.doublings + 1);
            self.change_view(fx);
            self.watch_primary(fx);
        }
    }

    /// Gives the view up and begins the next one.
    pub(crate) fn change_view(&mut self, fx: &mut Effects<'_, Self>) {
        self.view = self.view.next();
        self.promise(fx);
        self.begin_view(fx);
    }

    /// Nothing is said in a view before this is durable.
    pub(crate) fn promise(&self, fx: &mut Effects<'_, Self>) {
        let incarnation = self.config.membership.member(self.me).map(|member| member.incarnation);
        let (epoch, incarnation) = (self.config.domain.epoch, incarnation.unwrap_or_default());
        fx.promise(Promise { epoch, view: self.view, incarnation });
    }

    /// Repeats what was voted for in earlier views. What was only proposed there is void: the layer above proposes it
    /// again.
    fn begin_view(&mut self, fx: &mut Effects<'_, Self>) {
        for entry in self.entries.values_mut() {
            entry.accepted = None;
            entry.judged = None;
            entry.votes.clear();
        }
        self.entries.retain(|_, entry| entry.voted.is_some() || entry.decided.is_some());
        let voted: Vec<Proposal> =
            self.entries.values().filter_map(|entry| entry.voted.clone()).collect();
        let repeated = R::adopt(self.low(), &voted);
        let last = repeated.last().map_or_else(|| self.low(), |(slot, _)| *slot);
        self.first_fresh = last.max(self.known()).next();
        self.next = self.first_fresh;
        fx.output(OrderOutput::View(self.view, self.primary()));
        for (slot, batch) in repeated {
            let is_decided =
                self.entries.get(&slot).is_some_and(|entry| entry.decided.is_some());
            if !is_decided && slot > self.executed {
                self.accept(slot, batch, fx);
            }
        }
    }
}
