//! What is decided executes: in the order of slots, each once, as soon as all bodies are here.

use crate::executor::Decided;
use crate::message::Bundle;
use crate::recent::Executed;
use crate::record::Record;
use crate::replica::{Fx, Replica};
use crate::rules::Rules;
use crate::status::{Event, Health};
use alloc::vec::Vec;
use testudo_contracts::{Batch, Moment, Ordering, Service};
use testudo_core::{Digest, Peer, ReplicaId, Slot, Verified};

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// Whether this bundle was executed: its body was written once, and let go.
    pub(crate) fn is_executed(&self, digest: &Digest) -> bool {
        self.written.contains_key(digest)
            && !self.bodies.contains_key(digest)
            && !self.needed.contains(digest)
    }

    /// Executes decided batches in the order of their slots, as far as all bodies are here.
    pub(crate) fn execute_decided(&mut self, fx: &mut Fx<'_, O, S, R>) {
        while let Some((_, batch)) = self.decided.front() {
            let is_ill = matches!(self.health, Health::Halted(_) | Health::Diverged(_));
            if is_ill || self.is_between_epochs() {
                return;
            }
            let lacking: Vec<Digest> =
                batch.bundles.iter().filter(|d| !self.bodies.contains_key(*d)).copied().collect();
            if !lacking.is_empty() {
                lacking.iter().for_each(|digest| self.want_again(digest, fx));
                return self.lack(fx);
            }
            let Some((slot, batch)) = self.decided.pop_front() else { return };
            self.execute(slot, batch, fx);
            self.plan_due(fx);
        }
    }

    /// A bundle that is decided is lacking. If it was executed in an earlier slot its body was let go, and is read back:
    /// a bundle that is decided twice executes twice, and it is the sessions that keep the second time from having an
    /// effect. What this replica happens to remember must not decide what its state becomes.
    fn want_again(&mut self, digest: &Digest, fx: &mut Fx<'_, O, S, R>) {
        if self.needed.insert(*digest)
            && let Some(position) = self.written.get(digest)
        {
            // One whose slot executes again on a right state was let go of, and is no repetition.
            if !self.healing.executes_again(digest) {
                self.repeated.insert(*digest);
            }
            fx.recall(*position);
        }
    }

    fn execute(&mut self, slot: Slot, batch: Batch, fx: &mut Fx<'_, O, S, R>) {
        let moment = self.state.begin(&self.service, slot, &batch, &mut |run| fx.guard(run));
        let (mut applied, mut bodies, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut is_administered = false;
        for digest in &batch.bundles {
            let body = self.bodies.remove(digest).expect("execute: every body is here");
            let client = match body.sender() {
                Peer::Client(client) => client,
                Peer::Replica(replica) => {
                    bytes += body.body().len() as u64;
                    is_administered = true;
                    self.administer(replica, digest, &body, &moment);
                    bodies.push(body.signed());
                    if self.repeated.remove(digest) {
                        let position = fx.persist(Record::Body(body.signed()));
                        self.written.insert(*digest, position);
                    }
                    continue;
                }
            };
            let decided = Decided { client, digest: *digest, bundle: body.message() };
            let before = self.state.outcome;
            let remembered =
                self.state
                    .execute_by::<S, R>(&self.service, decided, &moment, &mut |run| fx.guard(run));
            self.waiting.leave(digest);
            self.waiting.feed(client);
            self.extra.let_go(digest);
            bytes += body.body().len() as u64;
            bodies.push(body.signed());
            self.healing.executed(digest);
            // Whoever started from a snapshot knows of a repetition by its session alone: it links nothing.
            let is_repeated = self.repeated.remove(digest);
            if self.state.outcome != before {
                applied.push((*digest, remembered.results));
            }
            if is_repeated {
                // So that it does not hold up forgetting, whoever has it decided again and again.
                let position = fx.persist(Record::Body(body.signed()));
                self.written.insert(*digest, position);
                continue;
            }
            if !self.followers.contains(client) {
                self.reply(client, &remembered, body.message().replier == self.me, fx);
            }
        }
        self.snapshots.executed(bytes);
        let (chain, outcome) = (self.state.chain, self.state.outcome);
        self.recent.push(Executed { slot, batch: batch.clone(), chain, outcome, bodies });
        self.tell_followers(slot, fx);
        fx.output(Event::Executed { slot, batch, applied, chain, outcome });
        self.compare_wrong(fx);
        if is_administered {
            self.end_if_over();
        }
        self.checkpoint_if_due(fx);
    }

    /// Executes what a replica asks for.
    fn administer(
        &mut self,
        replica: ReplicaId,
        digest: &Digest,
        body: &Verified<Bundle>,
        moment: &Moment,
    ) {
        self.state.administer(replica, body.message(), moment);
        self.waiting.leave(digest);
        self.extra.let_go(digest);
        self.healing.executed(digest);
    }
}
