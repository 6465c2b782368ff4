//! The client's side: it signs what waits as one bundle, sends it to all replicas, and believes what the protocol's
//! reply rule accepts.
//!
//! A bundle is sent again until it is answered, with the same bytes, so that it executes at most once however often
//! it arrives. At most a few bundles are out at once; what comes meanwhile gathers into the next.

use crate::message::{Bundle, ReplicaMessage, Reply, ReplyBody, Request};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use testudo_contracts::{Ordering, ReplyRule, ReplyVote, Verdict};
use testudo_core::{
    Decode, Digest, Domain, Effects, Membership, NoWork, Past, Peer, Protocol, ReplicaId, Slot,
    Target, Verified, View, limits,
};

/// Bundles that are out at once. Two keep the replicas busy while the next gathers; more would only make bundles
/// smaller.
const PIPELINE: usize = 2;

/// What a client is started with.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where its bundles count.
    pub domain: Domain,
    /// Who answers.
    pub membership: Membership,
    /// How long it waits for an answer before it sends a bundle again.
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

/// What an operation came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was executed, in this slot, with this result.
    Done(Slot, Arc<[u8]>),
    /// Whether it was executed is not known and cannot be found out: the session was evicted meanwhile.
    Unknown,
    /// It was not executed: the cluster does not admit this client's key.
    NotAdmitted,
    /// It was not sent: it is larger than an operation may be.
    TooLarge,
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

#[derive(Clone, Debug)]
struct Outstanding {
    digest: Digest,
    bundle: Bundle,
    tickets: Vec<u64>,
    votes: BTreeMap<ReplicaId, ReplyVote>,
    /// What each replica sent as the results, with its digest: the latest of each, so that a liar fills one place.
    bodies: BTreeMap<ReplicaId, (Digest, Arc<[u8]>)>,
    /// Whether the timer has run out since it was sent: it is sent again when it runs out once more.
    overdue: bool,
}

/// A client that keeps no replicated state.
pub struct Client<O> {
    me: Peer,
    config: ClientConfig,
    nonce: u64,
    session: Option<u64>,
    /// The last sequence number used in this session.
    sequence: u64,
    waiting: VecDeque<(u64, Arc<[u8]>)>,
    out: Vec<Outstanding>,
    /// Who is asked for whole results.
    replier: ReplicaId,
    /// The highest view that replies are believed to come from.
    view: View,
    order: PhantomData<fn() -> O>,
}

impl<O> Clone for Client<O> {
    fn clone(&self) -> Self {
        Self {
            me: self.me,
            config: self.config.clone(),
            nonce: self.nonce,
            session: self.session,
            sequence: self.sequence,
            waiting: self.waiting.clone(),
            out: self.out.clone(),
            replier: self.replier,
            view: self.view,
            order: PhantomData,
        }
    }
}

impl<O> fmt::Debug for Client<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Client({:?}, {} waiting, {} out)",
            self.session,
            self.waiting.len(),
            self.out.len()
        )
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
        let mut nonce = [0; 8];
        nonce.copy_from_slice(&secret[..8]);
        Self {
            me,
            config,
            nonce: u64::from_le_bytes(nonce),
            session: None,
            sequence: 0,
            waiting: VecDeque::new(),
            out: Vec::new(),
            replier,
            view: View(0),
            order: PhantomData,
        }
    }

    fn on_input(&mut self, input: ClientInput, fx: &mut Fx<'_, O>) {
        let ClientInput::Submit { ticket, operation } = input;
        if operation.len() > limits::OPERATION_BYTES {
            return self.answer(ticket, Outcome::TooLarge, fx);
        }
        self.waiting.push_back((ticket, operation));
        self.advance(fx);
    }

    fn on_message(&mut self, message: Verified<Self::Message>, fx: &mut Fx<'_, O>) {
        if let (ReplicaMessage::Reply(reply), Some(replica)) =
            (message.message(), message.replica())
        {
            self.on_reply(replica, reply, fx);
        }
    }

    fn on_timer(&mut self, ClientTimer::Resend: ClientTimer, fx: &mut Fx<'_, O>) {
        let mut slow_replier = false;
        for out in &mut self.out {
            if out.overdue {
                // EAGER: a client writes no log; what it asks for is in its signature.
                fx.send_eager(Target::Replicas, ReplicaMessage::Bundle(out.bundle.clone()));
                slow_replier |= out.bundle.replier == self.replier;
            }
            out.overdue = true;
        }
        if slow_replier {
            self.change_replier();
        }
        if !self.out.is_empty() {
            fx.set_timer(ClientTimer::Resend, self.config.resend);
        }
    }
}

impl<O: Ordering> Client<O> {
    /// Sends what waits, as far as the pipeline has room.
    fn advance(&mut self, fx: &mut Fx<'_, O>) {
        while !self.waiting.is_empty() && self.out.len() < PIPELINE {
            let Some(session) = self.session else {
                if self.out.is_empty() {
                    self.send(Request::Register { nonce: self.nonce }, Vec::new(), fx);
                }
                return;
            };
            if !self.window_has_room() {
                return;
            }
            let (mut tickets, mut operations, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some((_, operation)) = self.waiting.front() {
                bytes += operation.len();
                let full =
                    operations.len() == limits::BUNDLE_OPERATIONS || bytes > limits::BUNDLE_BYTES;
                if full && !operations.is_empty() {
                    break;
                }
                let Some((ticket, operation)) = self.waiting.pop_front() else { break };
                tickets.push(ticket);
                operations.push(operation);
            }
            self.sequence += 1;
            let request = Request::Operations { session, sequence: self.sequence, operations };
            self.send(request, tickets, fx);
        }
    }

    /// Whether the next number leaves every bundle that is out within the session's window. A replica forgets what
    /// falls behind it, so a bundle that is retried for long holds the others up.
    fn window_has_room(&self) -> bool {
        let oldest = self.out.iter().filter_map(|out| out.bundle.sequence()).min();
        oldest
            .is_none_or(|oldest| self.sequence.saturating_add(1) < oldest + limits::SESSION_WINDOW)
    }

    fn send(&mut self, request: Request, tickets: Vec<u64>, fx: &mut Fx<'_, O>) {
        let bundle = Bundle { replier: self.replier, request };
        let digest = bundle.digest(self.me, self.config.domain);
        // EAGER: a client writes no log; what it asks for is in its signature.
        fx.send_eager(Target::Replicas, ReplicaMessage::Bundle(bundle.clone()));
        if self.out.is_empty() {
            fx.set_timer(ClientTimer::Resend, self.config.resend);
        }
        let (votes, bodies) = (BTreeMap::new(), BTreeMap::new());
        self.out.push(Outstanding { digest, bundle, tickets, votes, bodies, overdue: false });
    }

    fn on_reply(&mut self, replica: ReplicaId, reply: &Reply, fx: &mut Fx<'_, O>) {
        let Some(index) = self.out.iter().position(|out| out.digest == reply.bundle) else {
            return;
        };
        let out = &mut self.out[index];
        let Reply { view, slot, results, is_final, .. } = *reply;
        out.votes.insert(replica, ReplyVote { view, slot, results, is_final });
        if let Some(body) = &reply.body
            && Digest::of(body) == results
        {
            out.bodies.insert(replica, (results, body.clone()));
        }
        let Verdict::Accept(slot, results) = O::Reply::judge(&self.config.membership, &out.votes)
        else {
            return;
        };
        // Those that said the same are enough to hold a correct replica, which was in no lower view than the lowest.
        let same = out.votes.values().filter(|vote| (vote.slot, vote.results) == (slot, results));
        self.view = self.view.max(same.map(|vote| vote.view).min().unwrap_or_default());
        let body = out.bodies.values().find(|(digest, _)| *digest == results);
        match body.map(|(_, body)| ReplyBody::from_bytes(body)) {
            Some(Ok(body)) => {
                let out = self.out.swap_remove(index);
                self.accept(out, slot, body, fx);
            }
            // A digest of something unreadable: so many replicas do not lie together.
            Some(Err(_)) => {}
            // The digest is certain and nobody has sent what it is of. Everybody who is asked again sends it whole.
            None => {
                let lost = out.votes.contains_key(&out.bundle.replier);
                if lost && !out.overdue {
                    out.overdue = true;
                    fx.send_eager(Target::Replicas, ReplicaMessage::Bundle(out.bundle.clone()));
                    self.change_replier();
                }
            }
        }
    }

    fn accept(&mut self, out: Outstanding, slot: Slot, body: ReplyBody, fx: &mut Fx<'_, O>) {
        match body {
            ReplyBody::Registered(session) => {
                self.session = Some(session);
                self.sequence = 0;
            }
            ReplyBody::Results(results) if results.len() == out.tickets.len() => {
                for (ticket, result) in out.tickets.into_iter().zip(results) {
                    self.answer(ticket, Outcome::Done(slot, result), fx);
                }
            }
            ReplyBody::Results(_) => self.answer_all(out.tickets, &Outcome::Unknown, fx),
            // What this bundle asked for was not executed under this reply, but may have been before the session was
            // evicted. The next bundle opens another session, under another nonce.
            ReplyBody::NoSession | ReplyBody::Stale => {
                self.answer_all(out.tickets, &Outcome::Unknown, fx);
                self.session = None;
                self.nonce = self.nonce.wrapping_add(1);
            }
            ReplyBody::NotAdmitted => {
                self.answer_all(out.tickets, &Outcome::NotAdmitted, fx);
                let waiting = self.waiting.drain(..).map(|(ticket, _)| ticket).collect();
                self.answer_all(waiting, &Outcome::NotAdmitted, fx);
            }
        }
        if self.out.is_empty() {
            fx.cancel_timer(ClientTimer::Resend);
        }
        self.advance(fx);
    }

    fn answer(&self, ticket: u64, outcome: Outcome, fx: &mut Fx<'_, O>) {
        fx.output(ClientOutput::Answer { ticket, outcome, view: self.view });
    }

    fn answer_all(&self, tickets: Vec<u64>, outcome: &Outcome, fx: &mut Fx<'_, O>) {
        for ticket in tickets {
            self.answer(ticket, outcome.clone(), fx);
        }
    }

    fn change_replier(&mut self) {
        let n = self.config.membership.n().max(1) as u16;
        self.replier = ReplicaId((self.replier.0 + 1) % n);
    }

    /// How many operations are not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.waiting.len() + self.out.iter().map(|out| out.tickets.len()).sum::<usize>()
    }
}
