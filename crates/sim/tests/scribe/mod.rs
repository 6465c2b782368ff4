//! A node that does what it is told: each thing that is asked of it is one effect.
#![allow(dead_code, reason = "each test uses what it needs of this")]

use std::time::Duration;
use testudo_core::{
    Context, DecodeError, Done, Effects, Invalid, Kind, Message, Past, Peer, Position, Promise,
    Protocol, ProtocolId, ReplicaId, Stamp, Strength, Verified, View, Work,
};
use testudo_sim::{
    Codec, Event, Fact, NoClient, NodeId, Observer, Pending, Setup, Shape, System, World,
};

#[derive(Clone, Debug)]
pub(crate) struct Word(u8);

impl Message for Word {
    fn protocol(&self) -> ProtocolId {
        ProtocolId(201)
    }
    fn kind(&self) -> Kind {
        Kind(1)
    }
    fn name(&self) -> &'static str {
        "word"
    }
    fn strength(&self) -> Strength {
        Strength::Signature
    }
    fn encode_body(&self, out: &mut Vec<u8>) {
        out.push(self.0);
    }
    fn decode_body(_: ProtocolId, _: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        match body {
            [word] => Ok(Self(*word)),
            _ => Err(DecodeError::Truncated),
        }
    }
    fn validate(&self, _: Peer, _: &Context<'_>) -> Result<(), Invalid> {
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Square(u64);

impl Work for Square {
    type Output = u64;
    fn run(self) -> u64 {
        self.0 * self.0
    }
}

/// What the layer above asks of the scribe: one effect each.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Promise(u64),
    Persist(u8),
    Snapshot(u8),
    Forget(u64),
    Say(u8),
    SayEagerly(u8),
    Tell(&'static str),
    Recall(u64),
    Work(u64),
    Timer(u64),
    Panic,
    Clock,
}

pub(crate) struct Scribe;

impl Protocol for Scribe {
    type Config = ();
    type Message = Word;
    type Record = u8;
    type Snapshot = u8;
    type Timer = u8;
    type Input = Ask;
    type Output = String;
    type Work = Square;

    fn start((): (), _: Peer, past: Past<u8, u8>, fx: &mut Effects<'_, Self>) -> Self {
        let Past { promise, snapshot, records, lost } = past;
        let view = promise.map(|promise| promise.view);
        fx.output(format!("{view:?} {snapshot:?} {records:?} {lost:?}"));
        Self
    }
    fn on_input(&mut self, ask: Ask, fx: &mut Effects<'_, Self>) {
        match ask {
            Ask::Promise(view) => {
                fx.promise(Promise { view: View(view), ..Promise::default() });
            }
            Ask::Persist(record) => {
                fx.persist(record);
            }
            Ask::Snapshot(snapshot) => fx.snapshot(snapshot),
            Ask::Forget(before) => fx.forget(Position(before)),
            Ask::Say(word) => fx.send(ReplicaId(1), Word(word)),
            // EAGER: a test of eagerness.
            Ask::SayEagerly(word) => fx.send_eager(ReplicaId(1), Word(word)),
            Ask::Tell(text) => fx.output(text.into()),
            Ask::Recall(position) => fx.recall(Position(position)),
            Ask::Work(number) => fx.work(Stamp::default(), Square(number)),
            Ask::Timer(seconds) => fx.set_timer(1, Duration::from_secs(seconds)),
            Ask::Panic => {
                let result = fx.guard(&mut || panic!("as asked"));
                fx.output(format!("{result:?}"));
            }
            Ask::Clock => {
                let clock = fx.clock();
                fx.output(clock.to_string());
            }
        }
    }
    fn on_message(&mut self, message: Verified<Word>, fx: &mut Effects<'_, Self>) {
        fx.output(format!("heard {}", message.message().0));
    }
    fn on_timer(&mut self, timer: u8, fx: &mut Effects<'_, Self>) {
        fx.output(format!("timer {timer}"));
    }
    fn on_work(&mut self, done: Done<Self>, fx: &mut Effects<'_, Self>) {
        fx.output(format!("squared {}", done.output));
    }
    fn on_recalled(&mut self, position: Position, record: u8, fx: &mut Effects<'_, Self>) {
        fx.output(format!("recalled {position} {record}"));
    }
}

pub(crate) struct Scribes;

impl System for Scribes {
    type Message = Word;
    type Replica = Scribe;
    type Client = NoClient<Word>;

    fn replica_config(&mut self, _: &Setup, _: NodeId, _: ReplicaId) {}
    fn client_config(&mut self, _: &Setup, _: usize) {}
    fn codec(&self) -> Option<Codec<Scribe>> {
        Some(Codec::new())
    }
    fn replica_facts(&self, output: &String, facts: &mut Vec<Fact>) {
        facts.push(Fact::Note(output.as_str().into()));
    }
}

/// What node 0 told its upper layer.
#[derive(Default)]
pub(crate) struct Notes(pub(crate) Vec<String>);

impl Observer for Notes {
    fn observe(&mut self, _: Duration, event: &Event) {
        if let Event::Told(NodeId(0), Fact::Note(note)) = event {
            self.0.push(note.to_string());
        }
    }
}

pub(crate) struct Bench {
    pub(crate) world: World<Scribes>,
    pub(crate) notes: std::rc::Rc<std::cell::RefCell<Notes>>,
    pub(crate) pending: Vec<Pending>,
}

pub(crate) const ME: NodeId = NodeId(0);
pub(crate) const FRESH: &str = "None None [] []";

impl Bench {
    pub(crate) fn new() -> Self {
        Self::over(None)
    }
    /// The same where nodes keep real logs; the number decides what crashes leave of what was not flushed.
    pub(crate) fn with_logs(seed: u64) -> Self {
        Self::over(Some(seed))
    }
    fn over(logs: Option<u64>) -> Self {
        let mut world = World::asleep(Scribes, &Shape::byzantine(1, 0), 1);
        if let Some(seed) = logs {
            world.keep_logs(seed);
        }
        let notes = std::rc::Rc::<std::cell::RefCell<Notes>>::default();
        world.watch(notes.clone());
        world.start_all();
        let bench = Self { world, notes, pending: Vec::new() };
        bench.told(&[FRESH]);
        bench
    }
    pub(crate) fn ask(&mut self, asks: &[Ask]) -> &mut Self {
        for ask in asks {
            self.world.ask_replica(ME, *ask);
        }
        self.pending.extend(self.world.take_pending());
        self
    }
    /// Finishes everything of that kind that is pending.
    pub(crate) fn flush(&mut self) -> &mut Self {
        let (flushes, rest) =
            self.pending.drain(..).partition(|item| matches!(item, Pending::Flush(..)));
        self.pending = rest;
        let flushes: Vec<Pending> = flushes;
        for flush in flushes {
            if let Pending::Flush(node, life, mark) = flush {
                self.world.flush(node, life, mark);
            }
        }
        self.pending.extend(self.world.take_pending());
        self
    }
    pub(crate) fn finish(&mut self) -> &mut Self {
        for item in std::mem::take(&mut self.pending) {
            if let Pending::Chore(node, number) = item {
                self.world.finish(node, number);
            } else {
                self.pending.push(item);
            }
        }
        self.pending.extend(self.world.take_pending());
        self
    }
    pub(crate) fn restart(&mut self, keep: usize) -> &mut Self {
        self.world.crash(ME, keep);
        self.world.restart(ME);
        self
    }
    #[track_caller]
    pub(crate) fn told(&self, expected: &[&str]) {
        let told: Vec<String> = std::mem::take(&mut self.notes.borrow_mut().0);
        assert_eq!(told, expected);
    }
    pub(crate) fn words_under_way(&self) -> usize {
        self.world.letters().count()
    }
}
