//! A learner among replicas that a test plays. What the replicas truly execute is a [`Replicated`] of the test's own.

use crate::still::{Nobody, Still, membership};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use testudo_contracts::{Batch, Moment, Service, StableCheckpoint, Store};
use testudo_core::{
    Digest, Domain, Done, Effect, Effects, NoWork, Past, Peer, Position, Protocol, PublicKey,
    ReplicaId, Slot, Stamp, Target, Time, Verified, View,
};
use testudo_pbft::Pbft;
use testudo_replication::executor::Decided;
use testudo_replication::feed::{
    Claim, Feed, Follow, Head, StateAnswer, StateAsk, Summaries, Tree, Voucher,
};
use testudo_replication::{
    Bundle, Learner, LearnerConfig, LearnerInput, LearnerOutput, LearnerTimer, Outcome,
    ReplicaMessage, Replicated, Reply, ReplyBody, Request, Standing, Work,
};

pub(crate) const KEY: PublicKey = PublicKey([7; 32]);
const ME: Peer = Peer::Client(KEY);
const OTHER: PublicKey = PublicKey([8; 32]);

/// Adds the operation's bytes to the one value that there is, and gives it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tape {
    /// It stores something that nobody put, and answers as if it had not.
    pub(crate) is_crooked: bool,
}

/// Slots between two checkpoints.
pub(crate) const INTERVAL: u64 = 10;

impl Service for Tape {
    const VERSION: u32 = 1;
    fn genesis(&self, _: &mut dyn Store) {}
    fn execute(&self, store: &mut dyn Store, operation: &[u8], _: &Moment) -> Vec<u8> {
        let mut tape = store.get(b"tape").map(|tape| tape.to_vec()).unwrap_or_default();
        tape.extend_from_slice(operation);
        store.put(b"tape", tape.clone().into());
        if self.is_crooked {
            store.put(b"stray", b"bit".as_slice().into());
        }
        tape
    }
    fn internal_error(&self) -> Vec<u8> {
        b"internal error".to_vec()
    }
    fn too_large(&self) -> Vec<u8> {
        b"too large".to_vec()
    }
}

type Message = ReplicaMessage<testudo_pbft::Message>;

fn seal(from: Peer, message: Message) -> Verified<Message> {
    Verified::seal(message, from, Domain::default(), &Nobody)
}

/// What the replicas have decided and executed.
pub(crate) struct Truth {
    pub(crate) state: Replicated,
    /// Each slot: what is told of it.
    pub(crate) feeds: Vec<Feed>,
    /// A stable checkpoint's state, if one is offered.
    pub(crate) stable: Option<Replicated>,
    others: u64,
}

impl Truth {
    fn new() -> Self {
        let state = Replicated::genesis(&Tape::default(), &clients(), &membership());
        Self { state, feeds: Vec::new(), stable: None, others: 0 }
    }

    /// A slot is decided: these bundles of the learner's, and one of somebody else's that opens a session.
    pub(crate) fn decide(&mut self, own: &[Bundle]) -> Slot {
        self.others += 1;
        let request = Request::Register { nonce: self.others };
        let other = Bundle { replier: ReplicaId(0), request };
        let signed = Verified::seal(other.clone(), Peer::Client(OTHER), Domain::default(), &Nobody);
        let digests = own.iter().map(|bundle| bundle.digest(ME, Domain::default()));
        let bundles: Vec<Digest> = digests.chain([signed.digest()]).collect();
        let time = Time(self.state.slot.0 * 10 + 10);
        let batch = Batch { bundles, time, gap_not_counted: false };
        let slot = self.state.slot.next();
        let guard: testudo_replication::executor::Guard<'_> = &mut |run| {
            run();
            Ok(())
        };
        let moment = self.state.begin(&Tape::default(), slot, &batch, guard);
        let own = own.iter().map(|bundle| (KEY, bundle));
        for (index, (client, bundle)) in own.chain([(OTHER, &other)]).enumerate() {
            let decided = Decided { client, digest: batch.bundles[index], bundle };
            self.state.execute(&Tape::default(), decided, &moment, &mut |run| {
                run();
                Ok(())
            });
        }
        let Replicated { chain, outcome, .. } = self.state;
        let voucher = Voucher { slot, chain, outcome, view: View(0) };
        self.feeds.push(Feed { voucher, batch, bodies: vec![signed.signed()] });
        slot
    }

    /// The state has so many entries more.
    pub(crate) fn fill(&mut self, entries: u64) {
        for entry in 0..entries {
            self.state.map.insert(Digest::of_value(&entry).0, [7; 100].into());
        }
    }

    pub(crate) fn feed(&self, slot: Slot) -> Feed {
        self.feeds[slot.0 as usize - 1].clone()
    }
}

fn clients() -> BTreeSet<PublicKey> {
    BTreeSet::from([KEY, OTHER])
}

pub(crate) fn config(clients: BTreeSet<PublicKey>) -> LearnerConfig<Tape> {
    let resend = Duration::from_millis(100);
    let (domain, membership) = (Domain::default(), membership());
    LearnerConfig {
        domain,
        membership,
        clients,
        service: Tape::default(),
        resend,
        checkpoint_interval: INTERVAL,
    }
}

/// Of a learner that stores what nobody put.
pub(crate) fn crooked() -> LearnerConfig<Tape> {
    LearnerConfig { service: Tape { is_crooked: true }, ..config(clients()) }
}

/// The learner, and all that it has said.
pub(crate) struct Stage {
    pub(crate) learner: Learner<Pbft, Tape>,
    pub(crate) truth: Truth,
    pub(crate) bundles: Vec<Bundle>,
    pub(crate) follows: Vec<(ReplicaId, Follow)>,
    pub(crate) fetched: Vec<(ReplicaId, Vec<Digest>)>,
    pub(crate) asked: Vec<(ReplicaId, StateAsk)>,
    pub(crate) rounds: Vec<u64>,
    pub(crate) outputs: Vec<LearnerOutput>,
    /// What is to be computed in the background.
    works: Vec<(Stamp, Work<NoWork>)>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::admitting(clients())
    }

    pub(crate) fn admitting(clients: BTreeSet<PublicKey>) -> Self {
        Self::with(config(clients))
    }

    pub(crate) fn with(config: LearnerConfig<Tape>) -> Self {
        let (mut list, mut next) = (Vec::new(), Position(0));
        let mut host = Still;
        let mut fx = Effects::new(&mut list, &mut next, &mut host);
        let learner = Learner::start(config, ME, Past::none(), &mut fx);
        let mut stage = Self {
            learner,
            truth: Truth::new(),
            bundles: Vec::new(),
            follows: Vec::new(),
            fetched: Vec::new(),
            asked: Vec::new(),
            rounds: Vec::new(),
            outputs: Vec::new(),
            works: Vec::new(),
        };
        stage.note(list);
        stage
    }

    fn note(&mut self, effects: Vec<Effect<Learner<Pbft, Tape>>>) {
        for effect in effects {
            match effect {
                Effect::SendEager(to, message) => self.hear(to, message),
                Effect::Output(output) => self.outputs.push(output),
                Effect::SetTimer(..) | Effect::CancelTimer(_) => {}
                Effect::Work(stamp, work) => self.works.push((stamp, work)),
                other => panic!("a learner does not {other:?}"),
            }
        }
    }

    fn hear(&mut self, to: Target, message: Message) {
        let replica = match to {
            Target::Peer(Peer::Replica(replica)) => Some(replica),
            _ => None,
        };
        match (message, replica) {
            (ReplicaMessage::Bundle(bundle), None) => self.bundles.push(bundle),
            (ReplicaMessage::ClaimAsk(round), None) => self.rounds.push(round),
            (ReplicaMessage::Follow(follow), Some(to)) => self.follows.push((to, follow)),
            (ReplicaMessage::Fetch(digests), Some(to)) => self.fetched.push((to, digests)),
            (ReplicaMessage::StateAsk(ask), Some(to)) => self.asked.push((to, ask)),
            // It asks whether the epoch is over when too few say anything.
            (ReplicaMessage::Hello(_), None) => {}
            (other, to) => panic!("a learner does not say {other:?} to {to:?}"),
        }
    }

    fn step(
        &mut self,
        step: impl FnOnce(&mut Learner<Pbft, Tape>, &mut Effects<'_, Learner<Pbft, Tape>>),
    ) {
        let (mut list, mut next) = (Vec::new(), Position(0));
        step(&mut self.learner, &mut Effects::new(&mut list, &mut next, &mut Still));
        self.learner.invariants();
        self.note(list);
    }

    pub(crate) fn say(&mut self, from: u16, message: Message) {
        let message = seal(Peer::Replica(ReplicaId(from)), message);
        self.step(|learner, fx| learner.on_message(message, fx));
    }

    /// A replica says that it does not admit the bundle's client.
    pub(crate) fn refuse(&mut self, from: u16, bundle: &Bundle) {
        let results = Digest::of(&testudo_core::Encode::to_bytes(&ReplyBody::NotAdmitted));
        let bundle = bundle.digest(ME, Domain::default());
        let (view, slot) = (View(0), Slot(0));
        let reply = Reply { bundle, view, slot, results, is_final: true, body: None };
        self.say(from, ReplicaMessage::Reply(reply));
    }

    pub(crate) fn submit(&mut self, ticket: u64, operation: &str) {
        let operation = Arc::from(operation.as_bytes());
        self.step(|learner, fx| learner.on_input(LearnerInput::Submit { ticket, operation }, fx));
    }

    pub(crate) fn read(&mut self, ticket: u64) {
        self.step(|learner, fx| learner.on_input(LearnerInput::Read { ticket }, fx));
    }

    /// What is computed in the background is done.
    pub(crate) fn work(&mut self) {
        for (stamp, work) in std::mem::take(&mut self.works) {
            let output = testudo_core::Work::run(work);
            self.step(|learner, fx| learner.on_work(Done { stamp, output }, fx));
        }
    }

    pub(crate) fn tick(&mut self) {
        self.step(|learner, fx| learner.on_timer(LearnerTimer::Tick, fx));
    }

    /// A replica vouches truthfully for a slot.
    pub(crate) fn vouch(&mut self, from: u16, slot: Slot) {
        let voucher = match slot {
            Slot(0) => Voucher { slot, chain: Digest::ZERO, outcome: Digest::ZERO, view: View(0) },
            slot => self.truth.feed(slot).voucher,
        };
        self.say(from, ReplicaMessage::Voucher(voucher));
    }

    /// A replica tells of a slot truthfully.
    pub(crate) fn tell(&mut self, from: u16, slot: Slot) {
        let feed = self.truth.feed(slot);
        self.say(from, ReplicaMessage::Feed(feed));
    }

    pub(crate) fn claim(&mut self, from: u16, slot: u64) {
        let round = *self.rounds.last().expect("a round was asked");
        self.say(from, ReplicaMessage::Claim(Claim { round, slot: Slot(slot) }));
    }

    /// Nothing is decided yet, and a quorum says so: the learner follows.
    pub(crate) fn settled() -> Self {
        let mut stage = Self::new();
        stage.vouch(1, Slot(0));
        stage.vouch(2, Slot(0));
        assert_eq!(stage.learner.standing(), Standing::Fetching, "one of the two may lie");
        stage.vouch(3, Slot(0));
        assert!(matches!(stage.learner.standing(), Standing::Following(_)));
        stage
    }

    /// Everything decided so far is told by the upstream and vouched for by another.
    pub(crate) fn catch_up(&mut self) {
        let upstream = self.learner.upstream().0;
        for slot in self.learner.shown().0 + 1..=self.truth.state.slot.0 {
            self.tell(upstream, Slot(slot));
            self.vouch((upstream + 1) % 4, Slot(slot));
        }
    }

    /// The last bundle that was said.
    pub(crate) fn last_bundle(&self) -> Bundle {
        self.bundles.last().expect("a bundle was said").clone()
    }

    /// With a session open: the learner has registered.
    pub(crate) fn open() -> Self {
        let mut stage = Self::settled();
        stage.submit(1, "a");
        let opening = stage.last_bundle();
        stage.truth.decide(&[opening]);
        stage.catch_up();
        stage
    }

    /// Ten slots are decided and covered by a stable checkpoint, which two replicas have offered: the learner asks all for
    /// their heads.
    pub(crate) fn left_behind() -> Self {
        let mut stage = Self::new();
        for _ in 0..10 {
            stage.truth.decide(&[]);
        }
        stage.truth.stable = Some(stage.truth.state.clone());
        stage.offer(0);
        stage.offer(1);
        stage
    }

    /// A replica offers the stable checkpoint that the truth holds.
    pub(crate) fn offer(&mut self, from: u16) {
        let (certificate, ..) = self.stable();
        self.say(from, ReplicaMessage::Stable(certificate));
    }

    pub(crate) fn stable(&self) -> (StableCheckpoint, Head, Box<Summaries>) {
        let state = self.truth.stable.as_ref().expect("a checkpoint is stable");
        let head = state.head();
        let checkpoint = testudo_contracts::Checkpoint { slot: head.slot, state: head.digest() };
        let (system, service) = (state.system.map().summary(), state.map.summary());
        (StableCheckpoint::new(checkpoint), head, Box::new(Summaries { system, service }))
    }

    /// A replica that was asked for its head answers.
    pub(crate) fn serve_head(&mut self, from: u16) {
        let asked = |(to, ask): &(ReplicaId, StateAsk)| to.0 == from && *ask == StateAsk::Head;
        let index = self.asked.iter().position(asked).expect("the head is asked for");
        self.asked.remove(index);
        self.answer_state(ReplicaId(from), StateAsk::Head, 1);
    }

    /// Answers what this replica is asked, truthfully, with as little as it can.
    pub(crate) fn serve_little(&mut self, replica: u16) {
        for (to, ask) in self.take_asked(replica) {
            self.answer_state(to, ask, 1);
        }
    }

    /// What this replica is asked for.
    pub(crate) fn take_asked(&mut self, replica: u16) -> Vec<(ReplicaId, StateAsk)> {
        let asked = std::mem::take(&mut self.asked).into_iter();
        let (own, others) = asked.partition(|(to, _)| to.0 == replica);
        self.asked = others;
        own
    }

    pub(crate) fn answer_state(&mut self, to: ReplicaId, ask: StateAsk, bytes: usize) {
        let answer = match ask {
            StateAsk::Head => {
                let (certificate, head, summaries) = self.stable();
                StateAnswer::Head(certificate, head, summaries)
            }
            StateAsk::Certificate => return self.offer(to.0),
            StateAsk::Nodes { slot, .. }
                if self.truth.stable.as_ref().is_none_or(|state| state.slot != slot) =>
            {
                StateAnswer::Gone(slot)
            }
            StateAsk::Nodes { slot, tree, places } => {
                let state = self.truth.stable.as_ref().expect("a checkpoint is stable");
                let map = match tree {
                    Tree::System => state.system.map(),
                    Tree::Service => &state.map,
                };
                let nodes = map.nodes(&places, bytes);
                StateAnswer::Nodes { slot, tree, nodes }
            }
        };
        self.say(to.0, ReplicaMessage::State(answer));
    }

    /// Answers all that is asked of the state, truthfully, until nothing is asked any more.
    pub(crate) fn serve_state(&mut self) {
        while let Some((to, ask)) = self.asked.pop() {
            self.answer_state(to, ask, 64);
        }
    }

    /// What was answered so far, and nothing since: tickets with their results.
    pub(crate) fn answers(&mut self) -> Vec<(u64, String)> {
        let (mut answers, mut last) = (Vec::new(), Slot(0));
        for output in std::mem::take(&mut self.outputs) {
            match output {
                LearnerOutput::Answer { ticket, outcome: Outcome::Done(_, result), .. } => {
                    answers.push((ticket, String::from_utf8_lossy(&result).into_owned()));
                }
                LearnerOutput::Answer { ticket, outcome, .. } => {
                    answers.push((ticket, format!("{outcome:?}")));
                }
                LearnerOutput::Readable { ticket } => answers.push((ticket, "readable".into())),
                LearnerOutput::Published(published) => {
                    assert!(last <= published.slot && published.slot <= self.learner.shown());
                    last = published.slot;
                }
                LearnerOutput::Standing(_) | LearnerOutput::Repaired(_) => {}
            }
        }
        answers
    }
}
