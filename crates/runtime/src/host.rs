//! The host: it owns one automaton and drives it.
//!
//! A turn takes all that waits, steps through it, and ends with three acts in an order that matters. First the writes
//! of all steps go to the journal as one batch, if anything waits for them; the disk starts. Then everything that was
//! said is sealed, held or not; that is the time the disk needs anyway. Then what may leave leaves, with one wake. What
//! the gate holds leaves in the turn that hears of its durability. The automaton never waits.
//!
//! Records on which nothing that was said waits stay in memory for a little while, and share the flush of the next on
//! which something does. What the layer above is told is no hurry: peers wait for messages, not for outputs.

use crate::carrier::{Carrier, Scope};
use crate::environment::Environment;
use crate::inbox::{Burst, Inbox};
use crate::journal::{Archivist, Batch, Journal, Report, Write};
use crate::letters::{Letter, Sealer};
use crate::metrics::{Kinds, Metrics};
use crate::past::past;
use crate::ports::{Lineage, Ports};
use crate::storage::{Recovered, StorageError};
use crate::timers::Timers;
use crate::voice::Voice;
use crate::work::Workers;
use prometheus_client::metrics::counter::Counter;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testudo_core::gate::Gate;
use testudo_core::{
    Decode, Done, Effect, Effects, Encode, Evidence, Membership, Message, Peer, Position, Protocol,
    Stamp, Tagged as _, Target, Verified, Work,
};
use testudo_keys::KeyringError;

/// How long a record on which no message waits may stay in memory.
const LAZY: Duration = Duration::from_millis(10);

/// Bytes of records that are handed over whether or not anything waits for them.
const BATCH_BYTES: usize = 1 << 20;

/// How often a turn looks again at what the automaton has said to itself before it looks at the outside.
const ROUNDS: usize = 16;

/// A turn of this length is too long for an event loop. One that holds it up no longer is not noticed by anybody.
const LONG_TURN: Duration = Duration::from_millis(2);

/// How many turns after a long one are kept from the event loop.
const TURNS_ELSEWHERE: u32 = 64;

/// A protocol that this driver can run: what it says and asks crosses threads, and what it records has a binary form.
pub trait Driven:
    Protocol<
        Config: Send + 'static,
        Message: Message + Send + Sync + 'static,
        Record: Encode + Decode + Send + 'static,
        Snapshot: Encode + Decode + Send + 'static,
        Timer: Send + 'static,
        Input: Send + 'static,
        Output: Send + 'static,
    > + 'static
{
}

impl<P> Driven for P where
    P: Protocol<
            Config: Send + 'static,
            Message: Message + Send + Sync + 'static,
            Record: Encode + Decode + Send + 'static,
            Snapshot: Encode + Decode + Send + 'static,
            Timer: Send + 'static,
            Input: Send + 'static,
            Output: Send + 'static,
        > + 'static
{
}

/// A look at the automaton, on its own thread.
pub(crate) type Look<P> = Box<dyn FnOnce(&P) + Send>;

/// What the node tells itself.
pub(crate) enum Event<P: Protocol> {
    /// The storage has something to say.
    Report(Report),
    /// Work is done.
    Done(Stamp, <P::Work as Work>::Output),
    /// Work did not come to an end: it panicked.
    Broken(String),
    /// The layer above asks for something.
    Input(P::Input),
    /// Somebody wants to look.
    Look(Look<P>),
    /// Make everything durable, say what may be said, and end.
    Stop,
}

/// Why a node stopped of itself.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The disk failed. A replica that may forget what it said must say nothing more.
    #[error("storage failed, and a replica must not say what it may forget: {0}")]
    Storage(#[from] StorageError),
    /// The voting key that it is to sign with could not be kept. What it signs with a key that it may forget it may contradict.
    #[error(
        "a voting key could not be kept, and a replica must not sign with what it may forget: {0}"
    )]
    Keys(#[from] KeyringError),
    /// The log holds what this program cannot read.
    #[error("the log cannot be read: {0}")]
    Recovery(String),
    /// An invariant of the automaton does not hold, or its work panicked: a bug.
    #[error("the automaton broke down: {0}")]
    Broken(String),
}

/// What the gate holds.
enum Held<P: Protocol> {
    /// The next of the letters.
    Letter,
    /// Something for the layer above.
    Output(P::Output),
    /// The snapshot of this number: it may rest on records that are not durable yet.
    Snapshot(u64, Box<P::Snapshot>),
}

/// Counters of steps, one a kind, and of messages by theirs.
struct Steps {
    heard: Kinds,
    said: Kinds,
    message: Counter,
    own: Counter,
    input: Counter,
    timer: Counter,
    work: Counter,
    recalled: Counter,
    rot: Counter,
}

/// One automaton and all that its driver keeps for it.
pub(crate) struct Host<P: Driven> {
    automaton: P,
    me: Peer,
    scope: Scope,
    /// What is said from now on is sealed with it.
    voice: Arc<Voice>,
    carrier: Arc<dyn Carrier>,
    sealer: Sealer<P::Message>,
    disk: Option<(Journal, Archivist)>,
    workers: Workers<P>,
    outputs: Box<dyn FnMut(P::Output) + Send>,
    evidence: Box<dyn FnMut(Evidence, Vec<u8>) + Send>,
    lineage: Lineage<P>,
    metrics: Arc<Metrics>,
    steps: Steps,

    environment: Environment,
    /// The position of the next record.
    next: Position,
    /// Kept between steps for its memory alone.
    effects: Vec<Effect<P>>,
    gate: Gate<Held<P>>,
    /// What was said, and the gate holds. Invariant: as many as the gate holds [`Held::Letter`], in the same order.
    held: VecDeque<Letter<P::Message>>,
    /// How many of `held`, from the front, are sealed.
    held_sealed: usize,
    /// What was said, and nothing holds.
    ready: VecDeque<Letter<P::Message>>,
    /// What the automaton has said to itself, in order.
    own: VecDeque<Verified<P::Message>>,
    /// Writes of this turn, and of turns before on which nothing waits.
    batch: Batch,
    /// When the oldest of them was asked for.
    batch_since: Option<Instant>,
    timers: Timers<P::Timer>,
    snapshots_asked: u64,
    snapshots_durable: u64,
    /// Records to let go of, each once the snapshot with that number is durable.
    forgets: VecDeque<(u64, Position)>,
    is_stopping: bool,
    /// Why it must stop, before anything more is said.
    failure: Option<Fatal>,
}

impl<P: Driven> Host<P> {
    /// Starts the automaton from its past.
    ///
    /// # Errors
    /// When the past cannot be read, a voting key cannot be kept, or the operating system has no randomness.
    pub(crate) fn start(
        config: P::Config,
        recovered: Recovered,
        ports: Ports<P>,
    ) -> Result<Self, Fatal> {
        let mut environment = Environment::new(ports.keys)
            .map_err(|error| Fatal::Recovery(format!("no randomness from the system: {error}")))?;
        let voice = Voice::plain(&ports.scope, ports.signer);
        let voice = voice.among(&ports.scope, ports.me, &mut environment.keys)?;
        let mut next = recovered.next;
        let past = past::<P>(recovered, &ports.metrics)?;
        let mut effects = Vec::new();
        let automaton = P::start(
            config,
            ports.me,
            past,
            &mut Effects::new(&mut effects, &mut next, &mut environment),
        );
        let metrics = ports.metrics;
        let steps = Steps {
            heard: metrics.messages_heard(),
            said: metrics.messages_said(),
            message: metrics.steps("message"),
            own: metrics.steps("own"),
            input: metrics.steps("input"),
            timer: metrics.steps("timer"),
            work: metrics.steps("work"),
            recalled: metrics.steps("recalled"),
            rot: metrics.steps("rot"),
        };
        let mut host = Self {
            automaton,
            me: ports.me,
            scope: ports.scope,
            voice: Arc::new(voice),
            carrier: ports.carrier,
            sealer: Sealer { me: ports.me, outgoing: ports.outgoing },
            disk: ports.disk,
            workers: ports.workers,
            outputs: ports.outputs,
            evidence: ports.evidence,
            lineage: ports.lineage,
            metrics,
            steps,
            environment,
            next,
            effects,
            gate: Gate::new(),
            held: VecDeque::new(),
            held_sealed: 0,
            ready: VecDeque::new(),
            own: VecDeque::new(),
            batch: Batch::default(),
            batch_since: None,
            timers: Timers::new(),
            snapshots_asked: 0,
            snapshots_durable: 0,
            forgets: VecDeque::new(),
            is_stopping: false,
            failure: None,
        };
        host.after_step();
        host.finish_turn()?;
        Ok(host)
    }

    /// When the next turn is due though nothing comes in.
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        if !self.own.is_empty() {
            return Some(Instant::now());
        }
        let lazy = self.batch_since.map(|since| since + LAZY);
        [lazy, self.timers.next()].into_iter().flatten().min()
    }

    /// Runs on a thread of its own until it is told to stop.
    ///
    /// # Errors
    /// When the replica must stop.
    pub(crate) fn run(&mut self, inbox: &Inbox<P::Message, Event<P>>) -> Result<(), Fatal> {
        let mut burst = Burst::default();
        loop {
            let deadline = self.deadline();
            inbox.wait(&mut burst, deadline);
            if self.turn(&mut burst, inbox.len())? {
                return Ok(());
            }
        }
    }

    /// Runs as a task until it is told to stop: for automata without a disk whose steps are mostly short, where a thread's
    /// wake would cost more than the step. Turns that are likely to be long are run on a thread for blocking work.
    ///
    /// # Errors
    /// When the automaton must stop.
    pub(crate) async fn run_as_task(
        mut self,
        inbox: &Inbox<P::Message, Event<P>>,
    ) -> Result<(), Fatal>
    where
        P: Send,
    {
        let mut burst = Burst::default();
        // How many turns are still run elsewhere.
        let mut elsewhere = 0_u32;
        loop {
            let deadline = self.deadline();
            inbox.wait_as_task(&mut burst, deadline).await;
            let waiting = inbox.len();
            let outcome;
            let took;
            if elsewhere == 0 {
                (outcome, took) = self.timed_turn(&mut burst, waiting);
            } else {
                elsewhere -= 1;
                let away = tokio::task::spawn_blocking(move || {
                    let (outcome, took) = self.timed_turn(&mut burst, waiting);
                    (self, burst, outcome, took)
                });
                (self, burst, outcome, took) =
                    away.await.map_err(|error| Fatal::Broken(format!("a turn: {error}")))?;
            }
            if outcome? {
                return Ok(());
            }
            if took > LONG_TURN {
                elsewhere = TURNS_ELSEWHERE;
            }
            if waiting > 0 {
                // Whoever else runs on this event loop has a turn, too.
                tokio::task::yield_now().await;
            }
        }
    }

    fn timed_turn(
        &mut self,
        burst: &mut Burst<P::Message, Event<P>>,
        waiting: usize,
    ) -> (Result<bool, Fatal>, Duration) {
        let begun = Instant::now();
        (self.turn(burst, waiting), begun.elapsed())
    }

    /// One turn: what came in, what the automaton told itself, what was due. True when the host has come to its end.
    fn turn(
        &mut self,
        burst: &mut Burst<P::Message, Event<P>>,
        waiting: usize,
    ) -> Result<bool, Fatal> {
        self.metrics.bursts.inc();
        if !burst.relieved.is_empty() {
            self.carrier.relieve(&burst.relieved);
            burst.relieved.clear();
        }
        for event in burst.control.drain(..) {
            self.on_event(event)?;
        }
        for message in burst.messages.drain(..) {
            if !self.is_stopping {
                self.steps.message.inc();
                self.steps.heard.count(message.message().name());
                self.step(|automaton, fx| automaton.on_message(message, fx));
            }
        }
        if !self.is_stopping {
            let now = Instant::now();
            while let Some(timer) = self.timers.expire(now) {
                self.steps.timer.inc();
                self.step(|automaton, fx| automaton.on_timer(timer, fx));
            }
        }
        self.finish_turn()?;
        self.metrics.inbox.set(waiting as i64);
        self.metrics.held.set(self.held.len() as i64);
        Ok(self.is_stopping && !self.gate.is_waiting() && self.batch.writes.is_empty())
    }

    fn on_event(&mut self, event: Event<P>) -> Result<(), Fatal> {
        match event {
            Event::Report(report) => self.on_report(report)?,
            Event::Broken(what) => return Err(Fatal::Broken(what)),
            Event::Stop => self.is_stopping = true,
            Event::Look(look) => look(&self.automaton),
            _ if self.is_stopping => {}
            Event::Input(input) => {
                self.steps.input.inc();
                self.step(|automaton, fx| automaton.on_input(input, fx));
            }
            Event::Done(stamp, output) => {
                self.steps.work.inc();
                self.step(|automaton, fx| automaton.on_work(Done { stamp, output }, fx));
            }
        }
        Ok(())
    }

    fn on_report(&mut self, report: Report) -> Result<(), Fatal> {
        match report {
            Report::Failed(error) => return Err(Fatal::Storage(error)),
            Report::Durable(mark) => self.release(mark),
            Report::Snapshot(number) => {
                self.snapshots_durable = self.snapshots_durable.max(number);
                while let Some((needs, before)) = self.forgets.front().copied() {
                    if needs > self.snapshots_durable {
                        break;
                    }
                    self.forgets.pop_front();
                    self.write(Write::Forget(before));
                }
            }
            Report::Rot(_) if self.is_stopping => {}
            Report::Rot(rot) => {
                self.steps.rot.inc();
                self.step(|automaton, fx| automaton.on_rot(rot, fx));
            }
            Report::Recalled(position, None) => {
                tracing::warn!(%position, "a record was asked for that the log does not hold");
            }
            Report::Recalled(..) if self.is_stopping => {}
            Report::Recalled(position, Some(bytes)) => {
                let record = P::Record::from_bytes(&bytes).map_err(|error| {
                    Fatal::Recovery(format!("the record at {position} is of another form: {error}"))
                })?;
                self.steps.recalled.inc();
                self.step(|automaton, fx| automaton.on_recalled(position, record, fx));
            }
        }
        Ok(())
    }

    fn step(&mut self, step: impl FnOnce(&mut P, &mut Effects<'_, P>)) {
        let mut fx = Effects::new(&mut self.effects, &mut self.next, &mut self.environment);
        step(&mut self.automaton, &mut fx);
        self.after_step();
    }

    fn after_step(&mut self) {
        self.automaton.invariants();
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.apply(effect);
        }
        self.effects = effects;
    }

    fn apply(&mut self, effect: Effect<P>) {
        match effect {
            Effect::Promise(promise) => self.write_marked(Write::Promise(promise)),
            Effect::Persist(..) if self.disk.is_none() => {}
            Effect::Persist(position, record) => {
                record.encode(&mut self.batch.bytes);
                let end = self.batch.bytes.len();
                self.write_marked(Write::Record(position, record.tag(), end));
            }
            Effect::Forget(before) if self.snapshots_durable >= self.snapshots_asked => {
                self.write(Write::Forget(before));
            }
            Effect::Forget(before) => self.forgets.push_back((self.snapshots_asked, before)),
            Effect::Snapshot(snapshot) => {
                self.snapshots_asked += 1;
                let held = Held::Snapshot(self.snapshots_asked, snapshot);
                if let Some(held) = self.gate.pass(held) {
                    self.let_go(held);
                }
            }
            Effect::Send(to, message) => {
                let letter = self.letter(to, message);
                match self.gate.pass(Held::Letter) {
                    Some(_) => self.ready.push_back(letter),
                    None => self.held.push_back(letter),
                }
            }
            Effect::SendEager(to, message) => {
                let letter = self.letter(to, message);
                self.ready.push_back(letter);
            }
            Effect::SetTimer(timer, after) => self.timers.set(timer, Instant::now() + after),
            Effect::CancelTimer(timer) => self.timers.cancel(timer),
            Effect::Output(output) => {
                if let Some(held) = self.gate.pass(Held::Output(output)) {
                    self.let_go(held);
                }
            }
            Effect::Blame(evidence) => {
                let lineage = (self.lineage)(&self.automaton, self.scope.domain.epoch);
                (self.evidence)(evidence, lineage);
            }
            Effect::Members(membership) => self.change_members(membership),
            Effect::Work(stamp, work) => self.workers.submit(stamp, work),
            Effect::Recall(position) => self.write(Write::Recall(position)),
        }
    }

    fn letter(&mut self, to: Target, message: P::Message) -> Letter<P::Message> {
        self.steps.said.count(message.name());
        Letter::Open { to, message, voice: self.voice.clone() }
    }

    /// From here on these are the members: what comes in is verified by their keys, and what is said from now on is said among
    /// them.
    fn change_members(&mut self, membership: Membership) {
        self.scope.domain.epoch = membership.epoch;
        self.scope.membership = membership;
        self.carrier.members(&self.scope);
        match self.voice.among(&self.scope, self.me, &mut self.environment.keys) {
            Ok(voice) => self.voice = Arc::new(voice),
            Err(error) => self.failure = Some(error.into()),
        }
    }

    /// Asks for something that must be durable before what follows leaves. Without a disk nothing can be lost by
    /// losing it, and the gate never holds.
    fn write_marked(&mut self, write: Write) {
        if self.disk.is_some() {
            self.gate.write();
            self.write(write);
        }
    }

    fn write(&mut self, write: Write) {
        if self.disk.is_none() {
            return;
        }
        self.batch.writes.push(write);
        self.batch_since.get_or_insert_with(Instant::now);
    }

    /// All writes up to this mark are durable.
    fn release(&mut self, mark: u64) {
        let released: Vec<_> = self.gate.durable(mark).collect();
        for held in released {
            self.let_go(held);
        }
    }

    /// What this rests on is durable.
    fn let_go(&mut self, held: Held<P>) {
        match held {
            Held::Output(output) => (self.outputs)(output),
            Held::Letter => {
                let letter = self.held.pop_front();
                self.held_sealed = self.held_sealed.saturating_sub(1);
                self.ready.extend(letter);
            }
            Held::Snapshot(number, snapshot) => match &self.disk {
                Some((_, archivist)) => {
                    archivist.write(number, Box::new(move |put| snapshot.pieces(put)));
                }
                None => self.snapshots_durable = number,
            },
        }
    }

    /// Writes, seals and sends, and goes on with what the automaton has said to itself.
    ///
    /// # Errors
    /// When the replica must stop. Then nothing more has left.
    fn finish_turn(&mut self) -> Result<(), Fatal> {
        for _ in 0..ROUNDS {
            self.failure.take().map_or(Ok(()), Err)?;
            self.submit();
            self.post();
            if self.own.is_empty() || self.is_stopping {
                break;
            }
            for message in std::mem::take(&mut self.own) {
                self.steps.own.inc();
                self.step(|automaton, fx| automaton.on_message(message, fx));
            }
        }
        self.failure.take().map_or(Ok(()), Err)?;
        self.submit();
        self.post();
        self.carrier.flush();
        Ok(())
    }

    /// Hands the writes over if a message waits for them, or they have waited long enough.
    fn submit(&mut self) {
        let Some(since) = self.batch_since else { return };
        let is_asked_for = !self.held.is_empty()
            || self.is_stopping
            || self.batch.bytes.len() >= BATCH_BYTES
            || self.batch.writes.iter().any(|write| matches!(write, Write::Recall(_)))
            || since.elapsed() >= LAZY;
        if !is_asked_for {
            return;
        }
        self.batch_since = None;
        let mut batch = std::mem::take(&mut self.batch);
        batch.mark = self.gate.written();
        if let Some((journal, _)) = &self.disk {
            journal.submit(batch);
        }
    }

    /// Sends what may leave, and seals what may not yet.
    fn post(&mut self) {
        while let Some(letter) = self.ready.pop_front() {
            let sealed = self.sealer.seal(letter);
            for (peer, frame) in sealed.parcels {
                self.carrier.send(peer, frame);
            }
            self.own.extend(sealed.own);
        }
        for letter in self.held.range_mut(self.held_sealed..) {
            let open = std::mem::replace(letter, Letter::Sealed(crate::letters::Sealed::empty()));
            *letter = Letter::Sealed(self.sealer.seal(open));
        }
        self.held_sealed = self.held.len();
    }
}
