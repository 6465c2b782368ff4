//! The client that keeps no replicated state: it believes what the protocol's reply rule accepts.
//!
//! How its operations become bundles, and how these are said again until they are answered, is [`Asker`]'s.

use crate::asking::{Alarm, Asked, Asker, first_nonce};
use crate::message::{ReplicaMessage, Reply, ReplyBody};
use crate::succession::Succession;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use testudo_contracts::{Ordering, ReplyRule, ReplyVote, Verdict};
use testudo_core::{
    Decode, Digest, Domain, Effects, Membership, NoWork, Past, Peer, Protocol, ReplicaId, Target,
    Verified, View,
};

pub use crate::asking::Outcome;

/// What a client is started with.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where its bundles count.
    pub domain: Domain,
    /// Who answers.
    pub membership: Membership,
    /// How long it waits for an answer before it sends a bundle again. It waits longer each time.
    pub resend: Duration,
}

/// What the client's user asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientInput {
    /// Execute this operation once. The ticket names it in the answer.
    Submit {
        /// Chosen by the user, not in use.
        ticket: u64,
        /// The operation.
        operation: Arc<[u8]>,
    },
}

/// What the client tells its user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientOutput {
    /// The answer to one ticket. Every ticket gets exactly one, in no particular order.
    Answer {
        /// The ticket.
        ticket: u64,
        /// What its operation came to.
        outcome: Outcome,
        /// The highest view that the replicas are known to be in: a correct one among those believed was. It never
        /// falls.
        view: View,
    },
}

/// A client writes no log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRecord {}

impl testudo_core::Tagged for NoRecord {
    fn tag(&self) -> testudo_core::Tag {
        match *self {}
    }
}
impl testudo_core::Encode for NoRecord {
    fn encode(&self, _: &mut Vec<u8>) {
        match *self {}
    }
}
impl Decode for NoRecord {
    fn decode(_: &mut testudo_core::Reader<'_>) -> Result<Self, testudo_core::DecodeError> {
        Err(testudo_core::DecodeError::Unknown("record"))
    }
}

/// A client's timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ClientTimer {
    /// Send again what is out.
    Resend,
}

/// What replicas have said of one bundle.
#[derive(Clone, Debug, Default)]
struct Replies {
    votes: BTreeMap<ReplicaId, ReplyVote>,
    /// What each replica sent as the results, with its digest: the latest of each, so that a liar fills one place.
    bodies: BTreeMap<ReplicaId, (Digest, Arc<[u8]>)>,
}

/// A client that keeps no replicated state.
pub struct Client<O> {
    config: ClientConfig,
    asker: Asker,
    /// What was said of each bundle that is out. Invariant: only of those.
    replies: BTreeMap<Digest, Replies>,
    /// The highest view that replies are believed to come from.
    view: View,
    order: PhantomData<fn() -> O>,
}

impl<O> Clone for Client<O> {
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            asker: self.asker.clone(),
            replies: self.replies.clone(),
            view: self.view,
            order: PhantomData,
        }
    }
}

impl<O> fmt::Debug for Client<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let out = self.asker.outstanding().count();
        write!(f, "Client({} unanswered, {out} out)", self.asker.unanswered())
    }
}

type Fx<'a, O> = Effects<'a, Client<O>>;

impl<O: Ordering> Protocol for Client<O> {
    type Config = ClientConfig;
    type Message = ReplicaMessage<O::Message>;
    type Record = NoRecord;
    type Snapshot = NoRecord;
    type Timer = ClientTimer;
    type Input = ClientInput;
    type Output = ClientOutput;
    type Work = NoWork;

    fn start(
        config: ClientConfig,
        me: Peer,
        _: Past<NoRecord, NoRecord>,
        fx: &mut Fx<'_, O>,
    ) -> Self {
        let secret = fx.secret();
        let n = config.membership.n().max(1) as u32;
        let replier = ReplicaId(fx.choose(n) as u16);
        let nonce = first_nonce(fx.clock(), &secret);
        let asker =
            Asker::new(me, config.domain, &config.membership, config.resend, nonce, replier);
        Self { config, asker, replies: BTreeMap::new(), view: View(0), order: PhantomData }
    }

    fn on_input(&mut self, input: ClientInput, fx: &mut Fx<'_, O>) {
        let ClientInput::Submit { ticket, operation } = input;
        let asked = self.asker.submit(ticket, operation);
        self.carry_out(asked, fx);
    }

    fn on_message(&mut self, message: Verified<Self::Message>, fx: &mut Fx<'_, O>) {
        // It may have been verified before the epoch ended that it belongs to.
        if message.header().domain.epoch != self.config.membership.epoch {
            return;
        }
        match (message.message(), message.replica()) {
            (ReplicaMessage::Reply(reply), Some(replica)) => self.on_reply(replica, reply, fx),
            (ReplicaMessage::Succession(succession), _) => self.on_succession(succession, fx),
            _ => {}
        }
    }

    fn on_timer(&mut self, ClientTimer::Resend: ClientTimer, fx: &mut Fx<'_, O>) {
        let asked = self.asker.tick();
        if !asked.bundles.is_empty() {
            // Nobody may answer any more as the epoch is over that this client is in.
            // EAGER: a client writes no log; it asks.
            fx.send_eager(Target::Replicas, ReplicaMessage::Hello(self.config.membership.epoch));
        }
        self.carry_out(asked, fx);
    }
}

impl<O: Ordering> Client<O> {
    fn carry_out(&self, asked: Asked, fx: &mut Fx<'_, O>) {
        for (ticket, outcome) in asked.answers {
            fx.output(ClientOutput::Answer { ticket, outcome, view: self.view });
        }
        for bundle in asked.bundles {
            // EAGER: a client writes no log; what it asks for is in its signature.
            fx.send_eager(Target::Replicas, ReplicaMessage::Bundle(bundle));
        }
        match asked.alarm {
            Alarm::Keep => {}
            Alarm::Set(after) => fx.set_timer(ClientTimer::Resend, after),
            Alarm::Cancel => fx.cancel_timer(ClientTimer::Resend),
        }
    }

    /// Somebody shows how the epoch has ended. It was verified with its members. Bundles are what they were; what replicas
    /// have said of them does not add up with what they say from now on.
    fn on_succession(&mut self, succession: &Succession, fx: &mut Fx<'_, O>) {
        let Ok(next) = succession.membership(&self.config.membership) else { return };
        fx.members(next.clone());
        self.config.domain.epoch = next.epoch;
        self.config.membership = next;
        self.replies.clear();
        for bundle in self.asker.outstanding().map(|(_, bundle)| bundle.clone()) {
            // EAGER: a client writes no log; what it asks for is in its signature.
            fx.send_eager(Target::Replicas, ReplicaMessage::Bundle(bundle));
        }
        // There may be another epoch after it.
        // EAGER: a client writes no log; it asks.
        fx.send_eager(Target::Replicas, ReplicaMessage::Hello(self.config.membership.epoch));
    }

    fn on_reply(&mut self, replica: ReplicaId, reply: &Reply, fx: &mut Fx<'_, O>) {
        let digest = reply.bundle;
        let Some(replier) = self.asker.owns(&digest).map(|bundle| bundle.replier) else { return };
        let replies = self.replies.entry(digest).or_default();
        let Reply { view, slot, results, is_final, .. } = *reply;
        replies.votes.insert(replica, ReplyVote { view, slot, results, is_final });
        if let Some(body) = &reply.body
            && Digest::of(body) == results
        {
            replies.bodies.insert(replica, (results, body.clone()));
        }
        let Verdict::Accept(slot, results) =
            O::Reply::judge(&self.config.membership, &replies.votes)
        else {
            return;
        };
        // Those that said the same are enough to hold a correct replica, which was in no lower view than the lowest.
        let same =
            replies.votes.values().filter(|vote| (vote.slot, vote.results) == (slot, results));
        self.view = self.view.max(same.map(|vote| vote.view).min().unwrap_or_default());
        let body = replies.bodies.values().find(|(digest, _)| *digest == results);
        match body.map(|(_, body)| ReplyBody::from_bytes(body)) {
            Some(Ok(body)) => {
                self.replies.remove(&digest);
                let asked = self.asker.accept(&digest, slot, body);
                self.carry_out(asked, fx);
            }
            // A digest of something unreadable: so many replicas do not lie together.
            Some(Err(_)) => {}
            // The digest is certain and nobody has sent what it is of. Everybody who is asked again sends it whole.
            None if replies.votes.contains_key(&replier) => {
                let asked = self.asker.insist(&digest);
                self.carry_out(asked, fx);
            }
            None => {}
        }
    }

    /// How many operations are not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.asker.unanswered()
    }
}
