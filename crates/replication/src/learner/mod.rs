//! The learner: it follows the log, executes on its own copy, and compares.
//!
//! It is what a gateway stands on. It trusts no replica alone, and itself no further than f+1 replicas agree with it:
//!
//! 1. One replica, the *upstream*, tells it what was decided ([`crate::feed::Feed`]); the others only vouch
//!    ([`crate::feed::Voucher`]). It links what it is told into the chain by itself. What f+1 replicas vouch for in the
//!    same words at least one correct replica has executed, and the chain binds all before it.
//! 2. Such slots it executes on its own copy of the state, and compares what they come to with what is vouched for.
//!    Only then is anything shown: the copy is published, and whoever asked for an operation is answered, from the
//!    learner's own execution.
//! 3. If its own execution differs, the fault is here. It answers nothing any more, says so, throws its copy away and
//!    fetches a certified one ([`crate::transfer`]). Once it is right again it says what was wrong.
//! 4. At each checkpoint it holds the digest of its whole state against what a quorum has signed ([`comparing`]).
//! 5. Readers that want all that was acknowledged before share one round of claims ([`reads`]).
//!
//! An upstream that tells lies, or too little, or nothing, is left for the next one. Nobody above sees it.
//!
//! It writes no log: what it knows it can learn again.

mod comparing;
mod epochs;
mod following;
mod pending;
pub(crate) mod reads;
pub mod rules;
mod transfer;
mod vouchers;

use crate::asking::{Alarm, Asked, Asker, Outcome, first_nonce};
use crate::client::NoRecord;
use crate::executor::{Difference, Replicated};
use crate::feed::Follow;
use crate::hearing::Hearing;
use crate::message::{ReplicaMessage, Reply, ReplyBody};
use crate::transfer::{Fetched, Transfer};
use crate::work::{Work, Worked};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use comparing::Comparing;
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use following::{Patience, Setbacks};
use pending::Pending;
use reads::{Overdue, Reads};
use rules::{Rules, Standard};
use testudo_contracts::{Ordering, Service};
use testudo_core::{
    Digest, Domain, Done, Effects, Epoch, Membership, Message as _, NoWork, Past, Peer, Protocol,
    PublicKey, ReplicaId, Slot, Target, Time, Validity, Verified, View,
};
use testudo_quorum::Dissemination;
use testudo_state::Map;
use transfer::Wrong;
use vouchers::Vouchers;

/// What a learner is started with.
#[derive(Clone, Debug)]
pub struct LearnerConfig<S> {
    /// Where its bundles count.
    pub domain: Domain,
    /// Who orders.
    pub membership: Membership,
    /// The client keys that are admitted from the start: part of the state that everything starts from.
    pub clients: BTreeSet<PublicKey>,
    /// What is replicated.
    pub service: S,
    /// How long it waits before what may have been lost is said or asked for again.
    pub resend: Duration,
    /// Slots between two checkpoints, as the replicas have it.
    pub checkpoint_interval: u64,
}

/// What the learner's user asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LearnerInput {
    /// Execute this operation once. The ticket names it in the answer.
    Submit {
        /// Chosen by the user, not in use.
        ticket: u64,
        /// The operation.
        operation: Arc<[u8]>,
    },
    /// Say when the published state covers all that was acknowledged, by whomever, before this was asked.
    Read {
        /// Chosen by the user, not in use.
        ticket: u64,
    },
}

/// What the learner has executed and found to be what f+1 replicas vouch for.
#[derive(Clone, Debug)]
pub struct Published {
    /// The last slot.
    pub slot: Slot,
    /// Agreed time after it.
    pub time: Time,
    /// The epoch that the replicas are known to be in. It never falls.
    pub epoch: Epoch,
    /// The highest view of that epoch that they are known to be in.
    pub view: View,
    /// The service's state: an O(1) clone.
    pub state: Map,
}

/// How a learner is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It has not caught up since it started, or was left too far behind to follow, and fetches a certified state.
    Fetching,
    /// It follows this upstream. Only now are tickets answered.
    Following(ReplicaId),
    /// Its own execution, or its own chain, came to something else than f+1 replicas vouch for at this slot. It answers
    /// nothing, has thrown its copy away, and fetches a certified one.
    Diverged(Slot),
}

/// What the learner tells its user.
#[derive(Clone, Debug)]
pub enum LearnerOutput {
    /// The state has moved. Comes before the answers that rest on it.
    Published(Published),
    /// The answer to a submitted ticket. Every such ticket gets exactly one, in no particular order.
    Answer {
        /// The ticket.
        ticket: u64,
        /// What its operation came to.
        outcome: Outcome,
        /// The highest view of their epoch that the replicas are known to be in.
        view: View,
    },
    /// The state published last covers what this ticket asked for.
    Readable {
        /// The ticket.
        ticket: u64,
    },
    /// How the learner is has changed.
    Standing(Standing),
    /// Its copy was wrong, and is right again.
    Repaired(Repair),
}

/// What was wrong with a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    /// The slot after which it was compared with the right one, or that of the state that it was replaced with.
    pub slot: Slot,
    /// What was fetched to repair it.
    pub fetched: Fetched,
    /// Where it was wrong; none if the state that replaced it is of a later slot, so that the two cannot be compared.
    pub differing: Option<Difference>,
}

/// A learner's timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LearnerTimer {
    /// Say again whom it follows and what it lacks; leave an upstream that is of no use.
    Tick,
    /// Send bundles again.
    Resend,
}

/// The first ticket of the barriers that stand for rounds of reads. Users' tickets are lower.
const BARRIERS: u64 = 1 << 63;

/// A learner.
pub struct Learner<O, S, R = Standard> {
    key: PublicKey,
    config: LearnerConfig<S>,
    quorums: Dissemination,
    asker: Asker,
    /// What everything starts from.
    genesis: Replicated,
    /// Who was heard of in its epoch.
    hearing: Hearing,
    /// Its own copy, executed as far as its slot.
    copy: Replicated,
    /// The slot up to which the copy is known to be right. Invariant: verified ≤ copy.slot.
    verified: Slot,
    /// The last slot that was shown. Invariant: it never falls; while it follows, shown = verified.
    shown: Slot,
    /// What its own bundles came to in slots that are not shown yet.
    unshown: Vec<(Digest, Slot, ReplyBody)>,
    standing: Standing,
    /// Where it wants to be before it follows: how far a correct replica was when it began to catch up.
    goal: Option<Slot>,
    upstream: ReplicaId,
    pending: Pending,
    vouchers: Vouchers,
    /// The slot from which it asked last.
    followed: Slot,
    patience: Patience,
    setbacks: Setbacks,
    /// Whether slots were skipped by taking up a state, and its own bundles were not looked for in it yet.
    has_skipped: bool,
    /// Replicas that could not tell what comes next. A state is fetched once there is a correct one among them.
    unable: BTreeSet<ReplicaId>,
    /// Upstreams whose slots did not link to what is vouched for, since something was shown.
    unlinked: BTreeSet<ReplicaId>,
    transfer: Option<Transfer<R>>,
    /// Its copy that was wrong, until what was wrong with it is told.
    wrong: Option<Wrong>,
    /// Ticks that it rests before it fetches a state in place of a wrong one.
    rest: u32,
    comparing: Comparing,
    /// Replicas that say that the cluster does not admit it.
    refused_by: BTreeSet<ReplicaId>,
    reads: Reads,
    view: View,
    marker: PhantomData<fn() -> (O, R)>,
}

impl<O, S, R> fmt::Debug for Learner<O, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { standing, upstream, shown, copy, .. } = self;
        write!(f, "Learner({standing:?}, {upstream:?}, shown {shown:?}, executed {:?})", copy.slot)
    }
}

pub(crate) type Fx<'a, O, S, R> = Effects<'a, Learner<O, S, R>>;

impl<O: Ordering, S: Service + Clone, R: Rules> Protocol for Learner<O, S, R> {
    type Config = LearnerConfig<S>;
    type Message = ReplicaMessage<O::Message>;
    type Record = NoRecord;
    type Snapshot = NoRecord;
    type Timer = LearnerTimer;
    type Input = LearnerInput;
    type Output = LearnerOutput;
    type Work = Work<NoWork>;

    /// # Panics
    /// When `me` is a replica, or the membership has no quorums: whoever makes a membership checks it first.
    fn start(
        config: LearnerConfig<S>,
        me: Peer,
        _: Past<NoRecord, NoRecord>,
        fx: &mut Fx<'_, O, S, R>,
    ) -> Self {
        let Peer::Client(key) = me else { panic!("start: a learner's name is a client's") };
        let quorums = Dissemination::of(&config.membership)
            .expect("start: the membership was checked against its bound");
        let secret = fx.secret();
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&secret[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let nonce = first_nonce(fx.clock(), &secret);
        let n = quorums.n().max(1) as u32;
        let upstream = ReplicaId(fx.choose(n) as u16);
        let asker =
            Asker::new(me, config.domain, &config.membership, config.resend, nonce, upstream);
        let copy = Replicated::genesis(&config.service, &config.clients, &config.membership);
        let mut learner = Self {
            key,
            quorums,
            asker,
            genesis: copy.clone(),
            hearing: Hearing::default(),
            verified: copy.slot,
            shown: copy.slot,
            unshown: Vec::new(),
            standing: Standing::Fetching,
            goal: None,
            upstream,
            pending: Pending::after(copy.slot, copy.chain),
            copy,
            vouchers: Vouchers::default(),
            followed: Slot(0),
            patience: Patience::default(),
            setbacks: Setbacks::default(),
            has_skipped: false,
            unable: BTreeSet::new(),
            unlinked: BTreeSet::new(),
            transfer: None,
            wrong: None,
            rest: 0,
            comparing: Comparing::default(),
            refused_by: BTreeSet::new(),
            reads: Reads::new(number(8), BARRIERS),
            view: View(0),
            config,
            marker: PhantomData,
        };
        learner.follow(fx);
        fx.set_timer(LearnerTimer::Tick, learner.config.resend / 2);
        learner
    }

    fn on_input(&mut self, input: LearnerInput, fx: &mut Fx<'_, O, S, R>) {
        match input {
            LearnerInput::Submit { ticket, operation } => {
                let asked = self.asker.submit(ticket, operation);
                self.carry_out(asked, fx);
                self.refuse_if_not_admitted(fx);
            }
            LearnerInput::Read { ticket } => {
                let round = self.reads.enter(ticket);
                self.ask_for_claims(round, fx);
            }
        }
    }

    fn on_message(&mut self, message: Verified<Self::Message>, fx: &mut Fx<'_, O, S, R>) {
        let Some(from) = message.replica() else { return };
        let validity = message.message().validity();
        // It may have been verified before the epoch ended that it belongs to.
        let said_in = message.header().domain.epoch;
        if validity != Validity::Group && said_in != self.config.membership.epoch {
            return;
        }
        if validity == Validity::Epoch {
            self.hearing.hear(from);
        }
        match message.message() {
            ReplicaMessage::Feed(_) => self.on_feed(from, &message, fx),
            ReplicaMessage::Voucher(voucher) => self.on_voucher(from, voucher, fx),
            ReplicaMessage::Bodies(bodies) => {
                for body in bodies {
                    if let Ok(body) = message.embedded(body) {
                        self.pending.receive(body);
                    }
                }
                self.advance(fx);
            }
            ReplicaMessage::Claim(claim) => {
                self.reads.claim(from, claim.round, claim.slot);
                self.serve_readers(fx);
            }
            ReplicaMessage::Stable(certificate) => {
                let checkpoint = certificate.statement();
                self.on_certified(checkpoint.slot, checkpoint.state, fx);
                self.on_stable(from, checkpoint.slot, fx);
            }
            ReplicaMessage::State(answer) => self.on_state(from, answer, fx),
            ReplicaMessage::Reply(reply) => self.on_reply(from, reply, fx),
            ReplicaMessage::Succession(succession) => self.on_succession(succession, fx),
            ReplicaMessage::Order(_)
            | ReplicaMessage::Checkpoint(_)
            | ReplicaMessage::Bundle(_)
            | ReplicaMessage::Fetch(_)
            | ReplicaMessage::Follow(_)
            | ReplicaMessage::ClaimAsk(_)
            | ReplicaMessage::StateAsk(_)
            | ReplicaMessage::Hello(_) => {}
        }
    }

    fn on_timer(&mut self, timer: LearnerTimer, fx: &mut Fx<'_, O, S, R>) {
        match timer {
            LearnerTimer::Tick => {
                self.on_tick(fx);
                fx.set_timer(LearnerTimer::Tick, self.config.resend / 2);
            }
            LearnerTimer::Resend => {
                let asked = self.asker.tick();
                self.carry_out(asked, fx);
            }
        }
    }

    fn on_work(&mut self, done: Done<Self>, fx: &mut Fx<'_, O, S, R>) {
        match done.output {
            Worked::Order(never) => match never {},
            Worked::Digest(head, is_whole, next) => {
                self.on_own_digest(done.stamp, (&head, is_whole, next), fx);
            }
            Worked::MadeAnew(state) => self.on_made_anew(done.stamp, state, fx),
        }
    }

    fn invariants(&self) {
        assert!(self.verified <= self.copy.slot, "compared what it has not executed");
        if let Standing::Following(_) = self.standing {
            assert_eq!(
                self.shown, self.verified,
                "follows, and shows something else than it has compared"
            );
        }
        assert!(self.pending.next() > self.copy.slot, "is told what it has executed");
    }
}

impl<O: Ordering, S: Service + Clone, R: Rules> Learner<O, S, R> {
    /// How it is.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// The replica that tells it what was decided.
    #[must_use]
    pub const fn upstream(&self) -> ReplicaId {
        self.upstream
    }

    /// The last slot that was published.
    #[must_use]
    pub const fn shown(&self) -> Slot {
        self.shown
    }

    /// How far at least one correct replica is known to be.
    #[must_use]
    pub fn known(&self) -> Slot {
        self.vouchers.known(R::vouchers(&self.quorums)).unwrap_or_default().max(self.shown)
    }

    /// Its own copy of the replicated state. It may be ahead of what is shown.
    #[must_use]
    pub const fn copy(&self) -> &Replicated {
        &self.copy
    }

    /// Operations that are not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.asker.unanswered()
    }

    /// Does what asking leads to: bundles are said, tickets answered. A barrier's answer frees the readers.
    fn carry_out(&mut self, asked: Asked, fx: &mut Fx<'_, O, S, R>) {
        for (ticket, outcome) in asked.answers {
            if ticket >= BARRIERS {
                self.on_barrier(ticket, &outcome, fx);
            } else {
                fx.output(LearnerOutput::Answer { ticket, outcome, view: self.view });
            }
        }
        for bundle in asked.bundles {
            // EAGER: a learner writes no log; what it asks for is in its signature.
            fx.send_eager(Target::Replicas, ReplicaMessage::Bundle(bundle));
        }
        match asked.alarm {
            Alarm::Keep => {}
            Alarm::Set(after) => fx.set_timer(LearnerTimer::Resend, after),
            Alarm::Cancel => fx.cancel_timer(LearnerTimer::Resend),
        }
    }

    /// Once it has caught up it knows by itself whether the cluster admits it. Replicas drop what a stranger asks for.
    fn refuse_if_not_admitted(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if !matches!(self.standing, Standing::Following(_)) || self.copy.system.admits(self.key) {
            return;
        }
        let out: Vec<Digest> = self.asker.outstanding().map(|(digest, _)| *digest).collect();
        for digest in out {
            let asked = self.asker.accept(&digest, self.shown, ReplyBody::NotAdmitted);
            self.carry_out(asked, fx);
        }
    }

    /// A replica answers a bundle. What a bundle came to the learner finds out by itself; but to a stranger replicas tell
    /// nothing that it could follow, only that it is one. Believed once a correct replica says so.
    fn on_reply(&mut self, from: ReplicaId, reply: &Reply, fx: &mut Fx<'_, O, S, R>) {
        let follows = matches!(self.standing, Standing::Following(_));
        let refusal = Digest::of_value(&ReplyBody::NotAdmitted);
        if follows || reply.results != refusal || self.asker.owns(&reply.bundle).is_none() {
            return;
        }
        self.refused_by.insert(from);
        if self.refused_by.len() >= self.quorums.weak() {
            let asked = self.asker.accept(&reply.bundle, reply.slot, ReplyBody::NotAdmitted);
            self.carry_out(asked, fx);
        }
    }

    /// Says to all from where it follows, and whose payload it wants.
    fn follow(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let from = self.pending.next();
        self.followed = from;
        for replica in self.config.membership.replicas() {
            let payload = replica == self.upstream && self.transfer.is_none();
            // EAGER: a learner writes no log; it asks.
            fx.send_eager(replica, ReplicaMessage::Follow(Follow { from, payload }));
        }
    }

    /// Asks the upstream alone to go on from where it stands.
    fn follow_upstream(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let from = self.pending.next();
        self.followed = from;
        // EAGER: a learner writes no log; it asks.
        fx.send_eager(self.upstream, ReplicaMessage::Follow(Follow { from, payload: true }));
    }

    fn ask_for_claims(&mut self, round: Option<u64>, fx: &mut Fx<'_, O, S, R>) {
        if let Some(round) = round {
            // EAGER: a learner writes no log; it asks.
            fx.send_eager(Target::Replicas, ReplicaMessage::ClaimAsk(round));
        }
    }

    /// Answers the readers whose round is covered by what is shown, and asks the next round's claims.
    fn serve_readers(&mut self, fx: &mut Fx<'_, O, S, R>) {
        if !matches!(self.standing, Standing::Following(_)) {
            return;
        }
        let readers = self.reads.readable(self.shown, R::claims(&self.quorums));
        self.let_read(readers, fx);
    }

    fn on_barrier(&mut self, ticket: u64, outcome: &Outcome, fx: &mut Fx<'_, O, S, R>) {
        // If nobody knows what became of it the round goes on being asked.
        if let Outcome::Done(..) = outcome {
            let readers = self.reads.passed(ticket);
            self.let_read(readers, fx);
        }
    }

    fn let_read(&mut self, readers: Vec<u64>, fx: &mut Fx<'_, O, S, R>) {
        if readers.is_empty() {
            return;
        }
        for ticket in readers {
            fx.output(LearnerOutput::Readable { ticket });
        }
        let round = self.reads.next_round();
        self.ask_for_claims(round, fx);
    }

    fn on_tick(&mut self, fx: &mut Fx<'_, O, S, R>) {
        self.look_at_epoch(fx);
        self.leave_useless_upstream(fx);
        self.follow(fx);
        self.fetch_bodies(fx);
        self.transfer_again(fx);
        self.ask_for_certificate(fx);
        match self.reads.tick() {
            Overdue::Nothing => {}
            Overdue::Ask(round) => self.ask_for_claims(Some(round), fx),
            Overdue::Barrier(ticket) => {
                let asked = self.asker.barrier(ticket);
                self.carry_out(asked, fx);
            }
        }
    }

    fn stand(&mut self, standing: Standing, fx: &mut Fx<'_, O, S, R>) {
        if self.standing != standing {
            self.standing = standing;
            self.goal = None;
            self.refused_by.clear();
            fx.output(LearnerOutput::Standing(standing));
        }
    }
}
