//! When a view is given up, and how the next one begins (OSDI'99, section 4.4).
//!
//! A replica is *active* in a view that it has installed, or *changes* to one that it has asked for. It never goes
//! back: from the moment that its view change is on record, it says nothing in lower views, also after a restart.

use crate::Pbft;
use crate::Standing;
use crate::Timer;
use crate::log::Proposal;
use crate::message::{Attested, Message, NewView, ViewChange};
use crate::recovery::Record;
use crate::safety::{Adopted, Rules};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use testudo_contracts::{OrderOutput, Ordering as _, Waiting};
use testudo_core::{Effects, Peer, Promise, ReplicaId, Target, View};

/// How often the view timeout is doubled at most: to 64 times its first length.
const DOUBLINGS: u32 = 6;

/// How long a replica puts up with a view.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// Whether requests wait here.
    pub(crate) waiting: Waiting,
    /// Whether the view timer runs.
    pub(crate) is_running: bool,
    /// How often the timeout is doubled now. Invariant: at most `DOUBLINGS`.
    pub(crate) doublings: u32,
    /// Whether the last view that was entered has decided anything. A view that has not has failed when it is left.
    pub(crate) progressed: bool,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Self { waiting: Waiting::Nothing, is_running: false, doublings: 0, progressed: true }
    }

    /// The view has decided something: trust comes back step by step.
    pub(crate) const fn progress(&mut self) {
        self.doublings = self.doublings.saturating_sub(1);
        self.progressed = true;
    }

    /// The view is left.
    fn leave(&mut self) {
        if !self.progressed {
            self.doublings = DOUBLINGS.min(self.doublings + 1);
        }
        self.progressed = false;
    }
}

impl<R: Rules> Pbft<R> {
    /// How long the view timer runs now.
    pub(crate) fn view_timeout(&self) -> Duration {
        let timeout = self.config.view_timeout.saturating_mul(1 << self.patience.doublings);
        timeout.max(Duration::from_millis(1))
    }

    fn start_view_timer(&mut self, fx: &mut Effects<'_, Self>) {
        self.patience.is_running = true;
        fx.set_timer(Timer::View, self.view_timeout());
    }

    pub(crate) fn stop_view_timer(&mut self, fx: &mut Effects<'_, Self>) {
        if core::mem::take(&mut self.patience.is_running) {
            fx.cancel_timer(Timer::View);
        }
    }

    /// Requests wait, or none do. The timer starts afresh only for another oldest one, so that a primary that orders
    /// everything but one request is removed.
    pub(crate) fn on_waiting(&mut self, waiting: Waiting, fx: &mut Effects<'_, Self>) {
        if self.patience.waiting == waiting {
            return;
        }
        self.patience.waiting = waiting;
        if self.standing == Standing::Voting && self.is_active() {
            self.watch_primary(fx);
        }
    }

    pub(crate) fn watch_primary(&mut self, fx: &mut Effects<'_, Self>) {
        match self.patience.waiting {
            Waiting::Nothing => self.stop_view_timer(fx),
            Waiting::Oldest(_) => self.start_view_timer(fx),
        }
    }

    /// The view's time is up: the oldest request was not executed, or a quorum waits for a new view in vain.
    pub(crate) fn on_view_timer(&mut self, fx: &mut Effects<'_, Self>) {
        let was_running = core::mem::take(&mut self.patience.is_running);
        if was_running && self.standing == Standing::Voting {
            self.change_to(self.view.next(), fx);
        }
    }

    /// Moves to a view without installing it. The promise is durable before anything is said in that view.
    fn move_to(&mut self, view: View, fx: &mut Effects<'_, Self>) {
        assert!(view > self.view, "a replica never goes back to an earlier view");
        self.view = view;
        self.announced = false;
        self.own_change = None;
        self.proposing.clear();
        self.log.forget_view();
        self.pace.leave_view();
        self.promise(fx);
    }

    pub(crate) fn promise(&self, fx: &mut Effects<'_, Self>) {
        let incarnation = self.config.membership.member(self.me).map(|member| member.incarnation);
        let (epoch, incarnation) = (self.config.domain.epoch, incarnation.unwrap_or_default());
        fx.promise(Promise { epoch, view: self.view, incarnation });
    }

    /// Gives the present view up for a higher one.
    pub(crate) fn change_to(&mut self, view: View, fx: &mut Effects<'_, Self>) {
        if self.standing != Standing::Voting || view <= self.view {
            return;
        }
        self.patience.leave();
        self.move_to(view, fx);
        // Only when a quorum has come along does the new primary's time begin to run.
        self.stop_view_timer(fx);
        self.say_change(fx);
    }

    /// Says what is known to be prepared, once it is on record; and never anything else for the same view.
    pub(crate) fn say_change(&mut self, fx: &mut Effects<'_, Self>) {
        let (stable, prepared) = (self.log.stable.clone(), self.log.prepared());
        let change = ViewChange { view: self.view, stable, prepared, lost: self.lost.clone() };
        self.own_change = Some(change.clone());
        fx.persist(Record::ViewChange(change.clone()));
        fx.send(Target::Replicas, Message::ViewChange(change));
    }

    /// Somebody wants another view. The latest wish of each replica is kept, one's own among them.
    pub(crate) fn on_view_change(
        &mut self,
        attested: Attested<ViewChange>,
        fx: &mut Effects<'_, Self>,
    ) {
        let (sender, view) = (attested.signer, attested.statement.view);
        self.heard.entry(sender).or_default().changed(attested.clone());
        if self.standing == Standing::Stopped {
            return;
        }
        self.compare_change(&attested, fx);
        if view <= self.installed_view() {
            self.show_new_view(sender, fx);
            return;
        }
        if self.changes.get(&sender).is_some_and(|latest| latest.statement.view >= view) {
            return;
        }
        self.changes.insert(sender, attested);
        self.join(fx);
        self.review_changes(fx);
    }

    /// Holds a view change against what its signer has said before, and what it shows against what others have.
    fn compare_change(&mut self, attested: &Attested<ViewChange>, fx: &mut Effects<'_, Self>) {
        let message = Message::ViewChange(attested.statement.clone());
        let (sender, domain, n) = (attested.signer, self.config.domain, self.system.n());
        let before = self.changes.get(&sender).and_then(|latest| {
            let said = Message::ViewChange(latest.statement.clone());
            Some((R::convicts(&said, &message)?, latest.frame(domain)))
        });
        let found = before.or_else(|| {
            self.all_known()
                .find_map(|entry| entry.contradiction::<R>(sender, &message, (domain, n)))
        });
        if let Some((offence, proof)) = found {
            self.accuse(sender, offence, vec![proof, attested.frame(domain)], fx);
        }
        self.compare_prepared(&attested.statement.prepared, fx);
    }

    /// Follows others: when f+1 have left for higher views, one of them is correct, and the smallest of those views
    /// is as far as anybody need go; and when the primary itself gives its view up, or passes on the view that it was to
    /// begin, there is nothing to wait for.
    pub(crate) fn join(&mut self, fx: &mut Effects<'_, Self>) {
        let others = self.changes.iter().filter(|(id, _)| **id != self.me);
        let views = others.map(|(id, change)| (*id, change.statement.view));
        let higher: Vec<(ReplicaId, View)> = views.filter(|(_, view)| *view > self.view).collect();
        let smallest = higher.iter().map(|(_, view)| *view).min();
        let is_given_up = higher.iter().any(|(id, _)| *id == self.primary());
        if let Some(view) = smallest.filter(|_| higher.len() >= self.system.weak()) {
            self.change_to(view, fx);
        } else if is_given_up {
            self.change_to(self.view.next(), fx);
        }
    }

    /// What the view changes that are there allow: the timer of the new view, and at its primary the new view itself.
    pub(crate) fn review_changes(&mut self, fx: &mut Effects<'_, Self>) {
        if self.is_active() || self.standing != Standing::Voting {
            return;
        }
        let quorum = R::quorum(&self.system);
        // Whoever is further on has left this view's predecessors too.
        let moved = self.changes.values().filter(|change| change.statement.view >= self.view);
        if !self.patience.is_running && moved.count() >= quorum {
            self.start_view_timer(fx);
        }
        if self.announced || !self.is_primary() {
            return;
        }
        let Some((changes, adopted)) = self.choose_changes(quorum) else { return };
        if !self.could_lead(&adopted) {
            return self.change_to(self.view.next(), fx);
        }
        self.announced = true;
        // No record: a primary that restarts gives its view up, and so never announces it again.
        let new_view = NewView { view: self.view, changes, ordered: adopted.ordered };
        fx.send(Target::Replicas, Message::NewView(new_view));
    }

    /// The view changes that the view can begin from, if there are such: those of a quorum, or of all who have sent one where
    /// a quorum has lost too much.
    fn choose_changes(&self, quorum: usize) -> Option<(Vec<Attested<ViewChange>>, Adopted)> {
        let exact = self.changes.values().filter(|change| change.statement.view == self.view);
        let exact: Vec<&Attested<ViewChange>> = exact.collect();
        [quorum, exact.len()].into_iter().find_map(|count| {
            let chosen = exact.get(..count)?;
            let statements: Vec<_> = chosen.iter().map(|change| &change.statement).collect();
            let is_enough = count >= quorum && R::covers(&self.system, &statements);
            is_enough.then(|| {
                let changes = chosen.iter().map(|change| (*change).clone()).collect();
                (changes, R::adopt(&self.system, &statements))
            })
        })
    }

    /// A view begins, says its primary, perhaps through others. It is installed if what it adopts is right.
    pub(crate) fn on_new_view(&mut self, attested: Attested<NewView>, fx: &mut Effects<'_, Self>) {
        let (signer, view) = (attested.signer, attested.statement.view);
        match self.standing {
            Standing::Stopped => return,
            Standing::Joining => return self.keep_new_view(attested, fx),
            Standing::Voting | Standing::Forgotten => {}
        }
        if let Some(installed) = self.installed.as_ref().filter(|i| i.statement.view == view) {
            let one = Message::NewView(installed.statement.clone());
            let other = Message::NewView(attested.statement.clone());
            if let Some(offence) = R::convicts(&one, &other) {
                let domain = self.config.domain;
                let frames = vec![installed.frame(domain), attested.frame(domain)];
                self.accuse(signer, offence, frames, fx);
            }
        }
        if view <= self.installed_view() || view < self.view {
            return;
        }
        for change in &attested.statement.changes {
            self.compare_change(change, fx);
        }
        let Some(adopted) = R::derive(&self.system, &attested.statement) else {
            let message = Message::NewView(attested.statement.clone());
            if let Some(offence) = R::convicts_alone(&self.system, &message) {
                let frames = vec![attested.frame(self.config.domain)];
                self.accuse(signer, offence, frames, fx);
            }
            return;
        };
        // This cannot be while at most f lie; if more do, a decision is still not voted against.
        let contradicts = adopted.ordered.iter().any(|(slot, batch)| {
            let decided = self.log.entries.get(slot).and_then(|entry| entry.decided.as_ref());
            decided.is_some_and(|decided| decided.digest() != batch.digest())
        });
        if !contradicts {
            self.install(attested, adopted, fx);
        }
    }

    fn install(
        &mut self,
        attested: Attested<NewView>,
        adopted: Adopted,
        fx: &mut Effects<'_, Self>,
    ) {
        let view = attested.statement.view;
        if view > self.view {
            self.patience.leave();
            self.move_to(view, fx);
        }
        fx.persist(Record::NewView(attested.clone()));
        self.installed = Some(attested);
        self.own_change = None;
        self.changes.retain(|_, change| change.statement.view > view);
        self.catchup.ahead = false;
        if let Some(stable) = adopted.stable.clone() {
            self.on_stable(stable, fx);
        }
        fx.output(OrderOutput::View(view, self.primary()));
        if self.standing == Standing::Voting {
            self.watch_primary(fx);
        }
        self.begin(&adopted);
        for (slot, batch) in adopted.ordered {
            if self.log.contains(slot) {
                self.ask(slot, batch, fx);
                self.advance(slot, fx);
            }
        }
        self.begin_turn(fx);
        self.join(fx);
    }

    /// Takes up what a view repeats, in place of pre-prepares. Also after a restart.
    pub(crate) fn begin(&mut self, adopted: &Adopted) {
        self.go_on_after(adopted);
        let tick = self.catchup.tick;
        for (slot, batch) in &adopted.ordered {
            if let Some(entry) = self.log.open(*slot, tick) {
                entry.proposal = Some(Proposal::repeated(batch.clone()));
            }
        }
    }

    /// Fresh batches come after what a view repeats.
    pub(crate) fn go_on_after(&mut self, adopted: &Adopted) {
        self.first_fresh = adopted.first_fresh();
        self.next = self.first_fresh;
    }

    /// Shows somebody the view that is installed here, at most once between two ticks.
    pub(crate) fn show_new_view(&mut self, to: ReplicaId, fx: &mut Effects<'_, Self>) {
        let Some(installed) = &self.installed else { return };
        if to != self.me && self.catchup.may_show_view(to) {
            fx.send(Peer::from(to), Message::Installed(installed.clone()));
        }
    }
}
