//! Bundles come in, wait, and are answered.

use crate::message::{Bundle, ReplicaMessage, Reply, ReplyBody};
use crate::record::{Record, Timer};
use crate::replica::{Fx, Replica};
use crate::rules::Rules;
use crate::sessions::Remembered;
use crate::status::Health;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use testudo_contracts::{Backlog, Ordering, Service};
use testudo_core::{Digest, Peer, PublicKey, Slot, Verified, limits};

/// Bytes of bodies that the primary is handed at once because it takes long, unless the first has more.
const REMINDER_BYTES: usize = 256 << 10;

/// Bodies that are held for proposals' sake beyond their clients' share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    lengths: BTreeMap<Digest, usize>,
    /// Invariant: the sum of the lengths, at most [`limits::EXTRA_BODY_BYTES`].
    bytes: usize,
}

impl Extra {
    fn may_hold(&mut self, digest: Digest, length: usize) -> bool {
        let fits = self.bytes + length <= limits::EXTRA_BODY_BYTES;
        if fits {
            self.bytes += length;
            self.lengths.insert(digest, length);
        }
        fits
    }

    /// It was executed, or waits within its client's share.
    pub(crate) fn let_go(&mut self, digest: &Digest) {
        self.bytes -= self.lengths.remove(digest).unwrap_or(0);
    }
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// A client's bundle has come, from the client or from somebody who had it.
    pub(crate) fn on_bundle(
        &mut self,
        bundle: Verified<Bundle>,
        from_client: bool,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        let (digest, sender) = (bundle.digest(), bundle.sender());
        if let Peer::Client(client) = sender
            && from_client
            && self.answer_from_memory(client, &bundle, fx)
        {
            return;
        }
        let is_needed = self.needed.contains(&digest) || self.judgements.lacks(&digest);
        let is_welcome = match sender {
            Peer::Client(client) => self.state.system.admits(client),
            // Whatever is proposed or decided is taken, as others may have a newer state.
            Peer::Replica(_) => is_needed || self.state.admits(sender, bundle.message()),
        };
        // What a replica asks for it is charged for like a client.
        let Some(client) = self.config.membership.identity(sender) else { return };
        if self.is_executed(&digest) || !is_welcome {
            return;
        }
        if self.bodies.contains_key(&digest) {
            // It may have come for a proposal's sake when its client had too many here.
            if !self.healing.is_settled(&digest) && self.waiting.enter(digest, client) {
                self.extra.let_go(&digest);
            }
            return;
        }
        let waits = !self.healing.is_settled(&digest) && self.waiting.enter(digest, client);
        if !waits && !self.may_hold_extra(&bundle) {
            return;
        }
        let position = fx.persist(Record::Body(bundle.signed()));
        self.written.insert(digest, position);
        self.bodies.insert(digest, bundle);
        self.needed.remove(&digest);
        if self.judgements.lacks(&digest) {
            self.waiting.serve(client);
        }
        self.judgements.arrived(&digest, &mut self.waiting);
        if self.judgements.was_last_asked_for(&digest) {
            self.fetch(fx);
        }
    }

    /// Whether a body beyond its client's share is taken: always for what is decided, within a limit for what is
    /// proposed.
    fn may_hold_extra(&mut self, bundle: &Verified<Bundle>) -> bool {
        let digest = bundle.digest();
        if self.needed.contains(&digest) {
            return true;
        }
        self.judgements.lacks(&digest) && self.extra.may_hold(digest, bundle.signed().len())
    }

    /// Whether no client has more than its share of a batch whose bodies are here.
    pub(crate) fn is_fair(&self, bundles: &[Digest]) -> bool {
        let mut shares: BTreeMap<Peer, usize> = BTreeMap::new();
        bundles.iter().filter_map(|digest| self.bodies.get(digest)).all(|body| {
            let share = shares.entry(body.sender()).or_default();
            *share += 1;
            *share <= limits::WAITING_BUNDLES_PER_CLIENT
        })
    }

    /// Answers a client whose bundle was executed, or never can be. False when it is still to be ordered.
    ///
    /// What this replica says by itself rather than out of the order bears slot 0, so that the words of different
    /// replicas are equal.
    fn answer_from_memory(
        &mut self,
        client: PublicKey,
        bundle: &Verified<Bundle>,
        fx: &mut Fx<'_, O, S, R>,
    ) -> bool {
        let digest = bundle.digest();
        let by_itself = |body: &ReplyBody| Remembered::new(digest, Slot(0), body);
        let answer = if !self.state.system.admits(client) {
            by_itself(&ReplyBody::NotAdmitted)
        } else if let Some(remembered) = self.state.remembered(client, digest, bundle.message()) {
            remembered
        } else if self.is_executed(&digest) {
            // It was executed, and its session is gone or has moved on: nobody knows what it came to.
            by_itself(&ReplyBody::NoSession)
        } else {
            return false;
        };
        if self.budgets.may_answer(digest) {
            self.keep_budget(fx);
            self.reply(client, &answer, true, fx);
        }
        true
    }

    /// A new budget period begins.
    pub(crate) fn on_budget_timer(&mut self, fx: &mut Fx<'_, O, S, R>) {
        self.budgets.tick();
        self.serving.tick();
        if self.serving.is_patient() {
            self.keep_budget(fx);
        }
    }

    /// Sees to it that budgets are full again after a period.
    pub(crate) fn keep_budget(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if self.budgets.must_set_tick() {
            fx.set_timer(Timer::Budget, self.config.resend / 2);
        }
    }

    /// Answers a client: the whole results if `whole`, their digest otherwise.
    pub(crate) fn reply(
        &self,
        client: PublicKey,
        remembered: &Remembered,
        whole: bool,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        if self.replaying || self.health != Health::Well {
            return;
        }
        let reply = Reply {
            bundle: remembered.bundle,
            view: self.order.view(),
            slot: remembered.slot,
            results: remembered.results,
            is_final: true,
            body: whole.then(|| remembered.body.clone()),
        };
        // EAGER: the order is final, so a quorum holds the batch and its bodies durably. If we crash before our own
        // record of the decision is written, we execute the same again.
        fx.send_eager(Peer::Client(client), ReplicaMessage::Reply(reply));
    }

    /// Sets the timer that hands waiting bundles to the primary.
    pub(crate) fn watch(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if self.waiting.is_empty() {
            self.relaying = false;
            fx.cancel_timer(Timer::Relay);
        } else if !self.relaying {
            self.relaying = true;
            self.relay_mark = self.waiting.newest();
            fx.set_timer(Timer::Relay, self.config.resend);
        }
    }

    /// Hands the primary what has waited a whole period and is in no open proposal: its client may not have reached it.
    pub(crate) fn relay(&mut self, fx: &mut Fx<'_, O, S, R>) {
        self.relaying = false;
        self.hand_over(self.relay_mark, limits::FRAME_BYTES / 2, fx);
        self.watch(fx);
    }

    /// The ordering finds that the primary takes long: it is handed what waits, and the ordering is told up to where
    /// that is.
    pub(crate) fn remind(&mut self, fx: &mut Fx<'_, O, S, R>) {
        self.handed_over = self.hand_over(self.waiting.newest(), REMINDER_BYTES, fx);
    }

    /// Hands the primary what arrived by then and is in no open proposal, one body, and more as far as
    /// they have so many bytes and one message holds them. Says up to when the clients whose
    /// they are have waited to be served.
    fn hand_over(&self, until: u64, most: usize, fx: &mut Fx<'_, O, S, R>) -> Option<u64> {
        if self.order.primary() == self.me {
            return None;
        }
        let (mut bodies, mut bytes, mut last) = (Vec::new(), 0, None);
        let unproposed = self.waiting.unproposed_since(until);
        for digest in unproposed.into_iter().take(limits::FETCH_ITEMS) {
            let Some(body) = self.bodies.get(&digest).map(Verified::signed) else { continue };
            bytes += body.len();
            if bytes > most && !bodies.is_empty() {
                break;
            }
            last = last.max(self.waiting.unserved_since(&digest));
            bodies.push(body);
        }
        if !bodies.is_empty() {
            fx.send(Peer::Replica(self.order.primary()), ReplicaMessage::Bodies(bodies));
        }
        last
    }

    /// The backlog, if the ordering is to be told of it: its oldest is another, or some of it was handed to the primary.
    pub(crate) fn news_of_backlog(&mut self) -> Option<Option<Backlog>> {
        let mut backlog = self.waiting.backlog();
        let oldest = backlog.map(|backlog| backlog.oldest);
        let handed_over = self.handed_over.take();
        if oldest == self.told_backlog && handed_over.is_none() {
            return None;
        }
        self.told_backlog = oldest;
        if let (Some(newest), Some(backlog)) = (handed_over, &mut backlog) {
            backlog.newest = newest;
        }
        Some(backlog)
    }
}
