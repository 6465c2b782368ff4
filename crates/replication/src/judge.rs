//! May I vote for this? And where are the bodies that I lack?
//!
//! A vote says: I hold every body of this batch durably, and where its clock is fresh it is plausible. What cannot be
//! said yet waits here until the bodies have come, from the client or from another replica.

use crate::message::{Bundle, ReplicaMessage};
use crate::record::Timer;
use crate::replica::{Fx, Replica};
use crate::status::Event;
use crate::waiting::WaitingRoom;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use testudo_contracts::{Batch, Freshness, Ordering, Service};
use testudo_core::{Digest, Peer, Position, ReplicaId, Signed, Slot, View, limits};

/// How long a missing body is waited for before somebody is asked: its client sends it to everybody, so it is most
/// likely on its way.
const PATIENCE: Duration = Duration::from_millis(20);

/// Judgements that wait for bodies, and those that are made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judgements {
    /// Batches that lack bodies, with what they lack. Invariant: no set is empty.
    open: BTreeMap<(View, Slot), (Digest, BTreeSet<Digest>)>,
    /// Votes that may be cast.
    made: VecDeque<(View, Slot, Digest)>,
    /// Whether the timer for missing bodies runs.
    fetching: bool,
}

impl Judgements {
    /// Whether an open judgement lacks this body.
    pub(crate) fn lacks(&self, digest: &Digest) -> bool {
        self.open.values().any(|(_, lacking)| lacking.contains(digest))
    }

    /// A body has come.
    pub(crate) fn arrived(&mut self, digest: &Digest, waiting: &mut WaitingRoom) {
        let mut complete = Vec::new();
        for (place, (batch, lacking)) in &mut self.open {
            if lacking.remove(digest) {
                waiting.propose(digest, place.0);
                if lacking.is_empty() {
                    complete.push((*place, *batch));
                }
            }
        }
        for (place, batch) in complete {
            self.open.remove(&place);
            self.made.push_back((place.0, place.1, batch));
        }
    }

    /// A view was installed: what was proposed before it is void unless it repeats it.
    pub(crate) fn enter_view(&mut self, view: View) {
        self.open.retain(|(proposed, _), _| *proposed >= view);
        self.made.retain(|(proposed, _, _)| *proposed >= view);
    }

    /// The next vote that may be cast.
    pub(crate) fn next_judged(&mut self) -> Option<(View, Slot, Digest)> {
        self.made.pop_front()
    }
}

impl<O: Ordering, S: Service> Replica<O, S> {
    /// The ordering asks whether it may vote.
    pub(crate) fn judge(
        &mut self,
        view: View,
        slot: Slot,
        batch: Batch,
        freshness: Freshness,
        fx: &mut Fx<'_, O, S>,
    ) {
        if !batch.is_well_formed() {
            return;
        }
        if freshness != Freshness::Repeated {
            let off = batch.time.distance(fx.clock());
            let right_mark = batch.gap_not_counted == (freshness == Freshness::First);
            if off > limits::CLOCK_BOUND || !right_mark {
                let proposer = self.order.primary();
                return fx.output(Event::Implausible { proposer, slot, off });
            }
        }
        let digest = batch.digest();
        let mut lacking = BTreeSet::new();
        for bundle in batch.bundles {
            self.waiting.propose(&bundle, view);
            if !self.written.contains_key(&bundle) {
                lacking.insert(bundle);
            }
        }
        if lacking.is_empty() {
            self.judgements.made.push_back((view, slot, digest));
        } else if (self.judgements.open.len() as u64) < self.config.window {
            self.judgements.open.insert((view, slot), (digest, lacking));
            self.lack(fx);
        }
    }

    /// Something is missing: see to it that it is asked for, after a moment.
    pub(crate) fn lack(&mut self, fx: &mut Fx<'_, O, S>) {
        if !self.judgements.fetching {
            self.judgements.fetching = true;
            fx.set_timer(Timer::Fetch, PATIENCE);
        }
    }

    /// Asks the next replica in turn for what is missing.
    pub(crate) fn fetch(&mut self, fx: &mut Fx<'_, O, S>) {
        self.judgements.fetching = false;
        let decided = self.decided.iter().flat_map(|(_, batch)| &batch.bundles);
        let judged = self.judgements.open.values().flat_map(|(_, lacking)| lacking);
        let mut wanted: Vec<Digest> = Vec::new();
        for digest in decided.chain(judged) {
            if !self.written.contains_key(digest) && !wanted.contains(digest) {
                wanted.push(*digest);
            }
            if wanted.len() == limits::FETCH_ITEMS {
                break;
            }
        }
        if wanted.is_empty() {
            return;
        }
        let n = self.config.membership.n() as u16;
        self.asked = ReplicaId((self.asked.0 + 1) % n);
        if self.asked == self.me {
            self.asked = ReplicaId((self.asked.0 + 1) % n);
        }
        // EAGER: a question promises nothing.
        fx.send_eager(Peer::Replica(self.asked), ReplicaMessage::Fetch(wanted));
        self.judgements.fetching = true;
        fx.set_timer(Timer::Fetch, self.config.resend / 4);
    }

    /// Another replica lacks bodies: give what is at hand, and have the rest read from the log.
    pub(crate) fn on_fetch(
        &mut self,
        asker: Option<ReplicaId>,
        digests: &[Digest],
        fx: &mut Fx<'_, O, S>,
    ) {
        let Some(asker) = asker else { return };
        for digest in digests {
            if let Some(body) = self.bodies.get(digest) {
                let bodies = ReplicaMessage::Bodies(vec![body.signed()]);
                // EAGER: the client signed it; that we have it durably is not what we say.
                fx.send_eager(Peer::Replica(asker), bodies);
            } else if let Some(position) = self.written.get(digest) {
                let askers = self.lenders.entry(*position).or_default();
                if askers.is_empty() {
                    fx.recall(*position);
                }
                askers.insert(asker);
            }
        }
    }

    /// A body was read back from the log for those who asked.
    pub(crate) fn lend(
        &mut self,
        position: Position,
        body: &Signed<Bundle>,
        fx: &mut Fx<'_, O, S>,
    ) {
        for asker in self.lenders.remove(&position).unwrap_or_default() {
            let bodies = ReplicaMessage::Bodies(vec![body.clone()]);
            // EAGER: the client signed it, and it comes from our log.
            fx.send_eager(Peer::Replica(asker), bodies);
        }
    }
}
