//! May I vote for this? And where are the bodies that I lack?
//!
//! A vote says: I hold every body of this batch durably, and where its clock is fresh it is plausible. What cannot be
//! said yet waits here until the bodies have come, from the client or from another replica. The clock must be plausible
//! when the vote is cast, not only when the proposal comes: otherwise a primary and a client that keeps a body back
//! could have a time agreed on long after it was over.

use crate::message::{Bundle, ReplicaMessage};
use crate::record::Timer;
use crate::replica::{Fx, Replica};
use crate::rules::Rules;
use crate::status::Event;
use crate::waiting::WaitingRoom;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use testudo_contracts::{Batch, Freshness, Ordering, Service};
use testudo_core::{Digest, Peer, Position, ReplicaId, Signed, Slot, Time, Verified, View, limits};

/// How long a missing body is waited for before the primary is asked, who has it: its client sends it to everybody, so
/// it is most likely on its way. A client that does not can delay a slot by so much.
const PATIENCE: Duration = Duration::from_millis(3);

/// A batch that is judged, or will be when its bodies are here.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// The view that it is proposed in.
    pub(crate) view: View,
    /// Its slot.
    pub(crate) slot: Slot,
    /// Its digest.
    pub(crate) batch: Digest,
    /// Its bundles.
    pub(crate) bundles: Vec<Digest>,
    /// Its clock, if that is fresh. One that a new view repeats was judged before.
    fresh: Option<Time>,
}

/// Judgements that wait for bodies, and those that are made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judgements {
    /// Batches that lack bodies, with what they lack. Invariant: no set is empty.
    open: BTreeMap<(View, Slot), (Judged, BTreeSet<Digest>)>,
    /// Those that lack nothing.
    made: VecDeque<Judged>,
    /// Whether the timer for missing bodies runs.
    fetching: bool,
    /// What the replica that was asked last has not given.
    asked_for: BTreeSet<Digest>,
}

impl Judgements {
    /// Whether an open judgement lacks this body.
    pub(crate) fn lacks(&self, digest: &Digest) -> bool {
        self.open.values().any(|(_, lacking)| lacking.contains(digest))
    }

    /// A body has come.
    pub(crate) fn arrived(&mut self, digest: &Digest, waiting: &mut WaitingRoom) {
        let mut complete = Vec::new();
        for (place, (_, lacking)) in &mut self.open {
            if lacking.remove(digest) {
                waiting.propose(digest, place.0);
                if lacking.is_empty() {
                    complete.push(*place);
                }
            }
        }
        for place in complete {
            self.made.extend(self.open.remove(&place).map(|(judged, _)| judged));
        }
    }

    /// A body has come: whether it was the last that somebody was asked for, so that more can be asked at once.
    pub(crate) fn was_last_asked_for(&mut self, digest: &Digest) -> bool {
        self.asked_for.remove(digest) && self.asked_for.is_empty()
    }

    /// A view was installed: what was proposed before it is void unless it repeats it.
    pub(crate) fn enter_view(&mut self, view: View) {
        self.open.retain(|(proposed, _), _| *proposed >= view);
        self.made.retain(|judged| judged.view >= view);
    }

    /// The next batch that may be voted for, as far as bodies and clocks go.
    pub(crate) fn next_judged(&mut self) -> Option<Judged> {
        self.made.pop_front()
    }
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// The ordering asks whether it may vote.
    pub(crate) fn judge(
        &mut self,
        view: View,
        slot: Slot,
        batch: Batch,
        freshness: Freshness,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        if !batch.is_well_formed() {
            return;
        }
        let fresh = (freshness != Freshness::Repeated).then_some(batch.time);
        let judged = Judged { view, slot, batch: batch.digest(), bundles: batch.bundles, fresh };
        if !self.is_timely(&judged, fx) {
            return;
        }
        if let Some(time) = fresh
            && batch.gap_not_counted != (freshness == Freshness::First)
        {
            return self.withhold(slot, time, fx);
        }
        let mut lacking = BTreeSet::new();
        for bundle in &judged.bundles {
            self.waiting.propose(bundle, view);
            if !self.written.contains_key(bundle) {
                lacking.insert(*bundle);
            }
        }
        if lacking.is_empty() {
            self.judgements.made.push_back(judged);
        } else if (self.judgements.open.len() as u64) < self.config.window {
            self.judgements.open.insert((view, slot), (judged, lacking));
            if !self.judgements.fetching {
                self.asked = self.order.primary();
                self.judgements.asked_for.clear();
            }
            self.lack(fx);
        }
    }

    /// Whether its clock is plausible now. If not, this replica says so, and does not vote in this view.
    pub(crate) fn is_timely(&self, judged: &Judged, fx: &mut Fx<'_, O, S, R>) -> bool {
        let Some(time) = judged.fresh else { return true };
        let is_timely = time.distance(fx.clock()) <= limits::CLOCK_BOUND;
        if !is_timely {
            self.withhold(judged.slot, time, fx);
        }
        is_timely
    }

    fn withhold(&self, slot: Slot, time: Time, fx: &mut Fx<'_, O, S, R>) {
        let (proposer, off) = (self.order.primary(), time.distance(fx.clock()));
        fx.output(Event::Implausible { proposer, slot, off });
    }

    /// Something is missing: see to it that it is asked for, after a moment.
    pub(crate) fn lack(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if !self.judgements.fetching {
            self.judgements.fetching = true;
            fx.set_timer(Timer::Fetch, PATIENCE);
        }
    }

    /// Asks for what is missing: the same replica as before if it has given all that it was asked for, otherwise the
    /// next in turn.
    pub(crate) fn fetch(&mut self, fx: &mut Fx<'_, O, S, R>) {
        self.judgements.fetching = false;
        let decided = self.decided.iter().flat_map(|(_, batch)| &batch.bundles);
        let decided = decided.filter(|digest| self.needed.contains(*digest));
        let judged = self.judgements.open.values().flat_map(|(_, lacking)| lacking);
        let mut wanted = BTreeSet::new();
        for digest in decided.chain(judged) {
            wanted.insert(*digest);
            if wanted.len() == limits::FETCH_ITEMS {
                break;
            }
        }
        if wanted.is_empty() {
            self.judgements.asked_for.clear();
            return;
        }
        if !self.decided.is_empty() {
            self.starve(fx);
        }
        let n = self.config.membership.n() as u16;
        let was_helpful = self.judgements.asked_for.is_empty() && self.asked != self.me;
        if !was_helpful {
            self.asked = ReplicaId((self.asked.0 + 1) % n);
        }
        if self.asked == self.me {
            self.asked = ReplicaId((self.asked.0 + 1) % n);
        }
        self.judgements.asked_for.clone_from(&wanted);
        let wanted = wanted.into_iter().collect();
        // EAGER: a question promises nothing.
        fx.send_eager(Peer::Replica(self.asked), ReplicaMessage::Fetch(wanted));
        self.judgements.fetching = true;
        fx.set_timer(Timer::Fetch, self.config.resend / 4);
    }

    /// Another replica, or a learner, lacks bodies: give what is at hand, and have the rest read from the log.
    pub(crate) fn on_fetch(&mut self, asker: Peer, digests: &[Digest], fx: &mut Fx<'_, O, S, R>) {
        if !self.may_be_told(asker) {
            return;
        }
        self.keep_budget(fx);
        for digest in digests {
            if !self.budgets.may_look_up(asker) {
                return;
            }
            if let Some(body) = self.bodies.get(digest).map(Verified::signed) {
                self.lend(asker, &body, fx);
            } else if let Some(position) = self.written.get(digest) {
                let askers = self.budgets.lenders.entry(*position).or_default();
                if askers.is_empty() {
                    fx.recall(*position);
                }
                askers.insert(asker);
            }
        }
    }

    /// A body was read back from the log for those who asked, oneself perhaps among them.
    pub(crate) fn on_body(
        &mut self,
        position: Position,
        body: &Signed<Bundle>,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        for asker in self.budgets.lenders.remove(&position).unwrap_or_default() {
            self.lend(asker, body, fx);
        }
        if let Ok(body) = Verified::replay(body.clone())
            && self.needed.remove(&body.digest())
        {
            self.bodies.insert(body.digest(), body);
        }
    }

    fn lend(&mut self, asker: Peer, body: &Signed<Bundle>, fx: &mut Fx<'_, O, S, R>) {
        if self.budgets.may_lend(asker, body.len()) {
            // EAGER: its client signed it. That we have it durably is not what we say.
            fx.send_eager(asker, ReplicaMessage::Bodies(vec![body.clone()]));
        }
    }
}
