//! A toy to try the simulator on: a register per key on a dissemination quorum system (Malkhi and Reiter 1998), whose
//! values are signed by their writers, with write-back on reads.
//!
//! Its flaws can be switched on one at a time, so that tests see the oracles convict each.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::time::Duration;
use testudo_core::{
    Context, Decode, DecodeError, Digest, Effects, Encode, Invalid, Kind, Message, NoWork, Past,
    Peer, Protocol, ProtocolId, PublicKey, Reader, ReplicaId, Signed, Strength, Target, Verified,
};
use testudo_sim::conformance::{Heard, Serving};
use testudo_sim::oracle::Table;
use testudo_sim::script::Scripted;
use testudo_sim::service::{self, Answer};
use testudo_sim::workload::Registers;
use testudo_sim::{Fact, NodeId, Setup, System};

/// What is wrong with the toy.
#[derive(Clone, Copy, Default, Debug)]
pub struct Flaws {
    /// Readers do not write back what they read.
    pub no_write_back: bool,
    /// Replicas acknowledge before the record is durable.
    pub eager_acknowledgement: bool,
    /// Quorums are majorities, which intersect in liars.
    pub small_quorum: bool,
    /// Replicas take values whose signature nobody checked.
    pub no_signatures: bool,
    /// Replicas keep every question that they were ever asked.
    pub hoards: bool,
}

/// When a value was written: by number, then by writer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Tag {
    pub number: u64,
    pub writer: PublicKey,
}
testudo_core::wire_struct!(Tag { number, writer });

/// What a writer signs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    pub key: String,
    pub tag: Tag,
    pub text: String,
}
testudo_core::wire_struct!(Value { key, tag, text });

pub type Frame = Signed<Said>;

#[derive(Clone, Debug)]
pub enum Said {
    Query { key: String, round: u64 },
    Answer { round: u64, value: Option<Frame> },
    Value(Value),
    Store(Frame),
    Stored { tag: Tag },
}

const PROTOCOL: ProtocolId = ProtocolId(200);

impl Message for Said {
    fn protocol(&self) -> ProtocolId {
        PROTOCOL
    }
    fn kind(&self) -> Kind {
        Kind(match self {
            Self::Query { .. } => 1,
            Self::Answer { .. } => 2,
            Self::Value(_) => 3,
            Self::Store(_) => 4,
            Self::Stored { .. } => 5,
        })
    }
    fn name(&self) -> &'static str {
        match self {
            Self::Query { .. } => "query",
            Self::Answer { .. } => "answer",
            Self::Value(_) => "value",
            Self::Store(_) => "store",
            Self::Stored { .. } => "stored",
        }
    }
    fn strength(&self) -> Strength {
        match self {
            Self::Value(_) => Strength::Signature,
            _ => Strength::Channel,
        }
    }
    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Query { key, round } => {
                key.encode(out);
                round.encode(out);
            }
            Self::Answer { round, value } => {
                round.encode(out);
                value.encode(out);
            }
            Self::Value(value) => value.encode(out),
            Self::Store(frame) => frame.encode(out),
            Self::Stored { tag } => tag.encode(out),
        }
    }
    fn decode_body(protocol: ProtocolId, kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        let said = match (protocol, kind.0) {
            (PROTOCOL, 1) => Self::Query { key: Decode::decode(r)?, round: Decode::decode(r)? },
            (PROTOCOL, 2) => Self::Answer { round: Decode::decode(r)?, value: Decode::decode(r)? },
            (PROTOCOL, 3) => Self::Value(Decode::decode(r)?),
            (PROTOCOL, 4) => Self::Store(Decode::decode(r)?),
            (PROTOCOL, 5) => Self::Stored { tag: Decode::decode(r)? },
            _ => return Err(DecodeError::Unknown("kind")),
        };
        reader.finish()?;
        Ok(said)
    }
    fn validate(&self, sender: Peer, context: &Context<'_>) -> Result<(), Invalid> {
        match self {
            Self::Value(value) if sender == Peer::Client(value.tag.writer) => Ok(()),
            Self::Value(_) => Err(Invalid("a value bears another's tag")),
            Self::Answer { value: Some(frame), .. } | Self::Store(frame) => {
                match frame.clone().verify(frame.header().sender, context) {
                    Ok(inner) if matches!(inner.message(), Self::Value(_)) => Ok(()),
                    _ => Err(Invalid("what is embedded is no value")),
                }
            }
            _ => Ok(()),
        }
    }
}

/// Reads a frame that was verified before.
fn open(frame: &Frame) -> Option<Value> {
    match Verified::replay(frame.clone()).ok()?.into_message() {
        Said::Value(value) => Some(value),
        _ => None,
    }
}

pub struct Replica {
    flaws: Flaws,
    values: BTreeMap<String, (Tag, Frame)>,
    count: u64,
    questions: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Never {}

impl Protocol for Replica {
    type Config = Flaws;
    type Message = Said;
    type Record = Frame;
    type Snapshot = BTreeMap<String, (Tag, Frame)>;
    type Timer = Never;
    type Input = ();
    type Output = ();
    type Work = NoWork;

    fn start(
        flaws: Flaws,
        _: Peer,
        past: Past<Self::Snapshot, Frame>,
        _: &mut Effects<'_, Self>,
    ) -> Self {
        let values = past.snapshot.unwrap_or_default();
        let mut replica = Self { flaws, values, count: 0, questions: Vec::new() };
        for (_, frame) in past.records {
            replica.take(&frame);
        }
        replica
    }
    fn on_input(&mut self, (): (), _: &mut Effects<'_, Self>) {}
    fn on_timer(&mut self, timer: Never, _: &mut Effects<'_, Self>) {
        match timer {}
    }
    fn on_message(&mut self, message: Verified<Said>, fx: &mut Effects<'_, Self>) {
        let from = message.via();
        match message.message() {
            Said::Query { key, round } => {
                if !self.flaws.hoards {
                    self.questions.clear();
                }
                self.questions.push(*round);
                let value = self.values.get(key).map(|(_, frame)| frame.clone());
                fx.send(from, Said::Answer { round: *round, value });
            }
            Said::Value(_) => self.store(from, message.signed(), fx),
            Said::Store(frame) => self.store(from, frame.clone(), fx),
            Said::Answer { .. } | Said::Stored { .. } => {}
        }
    }
}

impl Replica {
    fn take(&mut self, frame: &Frame) -> Option<(Tag, bool)> {
        let value = open(frame)?;
        let is_newer = self.values.get(&value.key).is_none_or(|(tag, _)| *tag < value.tag);
        if is_newer {
            self.values.insert(value.key, (value.tag, frame.clone()));
        }
        Some((value.tag, is_newer))
    }

    fn store(&mut self, from: Peer, frame: Frame, fx: &mut Effects<'_, Self>) {
        let Some((tag, is_newer)) = self.take(&frame) else { return };
        if is_newer {
            let position = fx.persist(frame);
            self.count += 1;
            if self.count.is_multiple_of(20) {
                fx.snapshot(self.values.clone());
                fx.forget(position);
            }
        }
        if self.flaws.eager_acknowledgement {
            fx.send_eager(from, Said::Stored { tag });
        } else {
            fx.send(from, Said::Stored { tag });
        }
    }
}

/// What a client is asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    pub id: u64,
    pub key: String,
    /// The text to write, or none to read.
    pub write: Option<String>,
}

#[allow(clippy::large_enum_variant)]
enum Phase {
    Querying(BTreeMap<ReplicaId, Option<Frame>>),
    Storing(Said, Tag, BTreeMap<ReplicaId, ()>, String),
}

pub struct Client {
    me: PublicKey,
    quorum: usize,
    flaws: Flaws,
    round: u64,
    waiting: Vec<Ask>,
    current: Option<(Ask, Phase)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Resend;

impl Protocol for Client {
    type Config = (usize, Flaws);
    type Message = Said;
    type Record = ();
    type Snapshot = ();
    type Timer = Resend;
    type Input = Ask;
    type Output = (u64, String);
    type Work = NoWork;

    fn start(
        (quorum, flaws): (usize, Flaws),
        me: Peer,
        _: Past<(), ()>,
        _: &mut Effects<'_, Self>,
    ) -> Self {
        let Peer::Client(me) = me else { panic!("a client") };
        Self { me, quorum, flaws, round: 0, waiting: Vec::new(), current: None }
    }
    fn on_input(&mut self, ask: Ask, fx: &mut Effects<'_, Self>) {
        self.waiting.push(ask);
        self.next(fx);
    }
    fn on_timer(&mut self, _: Resend, fx: &mut Effects<'_, Self>) {
        self.speak(fx);
    }
    fn on_message(&mut self, message: Verified<Said>, fx: &mut Effects<'_, Self>) {
        let Some(replica) = message.replica() else { return };
        match (&mut self.current, message.into_message()) {
            (Some((_, Phase::Querying(answers))), Said::Answer { round, value })
                if round == self.round =>
            {
                answers.insert(replica, value);
                if answers.len() == self.quorum {
                    self.queried(fx);
                }
            }
            (Some((_, Phase::Storing(_, expected, stored, _))), Said::Stored { tag })
                if tag == *expected =>
            {
                stored.insert(replica, ());
                if stored.len() == self.quorum {
                    self.done(fx);
                }
            }
            _ => {}
        }
    }
}

impl Client {
    fn next(&mut self, fx: &mut Effects<'_, Self>) {
        if self.current.is_none() && !self.waiting.is_empty() {
            self.round += 1;
            self.current = Some((self.waiting.remove(0), Phase::Querying(BTreeMap::new())));
            self.speak(fx);
        }
    }

    fn speak(&mut self, fx: &mut Effects<'_, Self>) {
        let Some((ask, phase)) = &self.current else { return };
        let said = match phase {
            Phase::Querying(_) => Said::Query { key: ask.key.clone(), round: self.round },
            Phase::Storing(said, ..) => said.clone(),
        };
        fx.send(Target::Replicas, said);
        fx.set_timer(Resend, Duration::from_millis(100));
    }

    fn queried(&mut self, fx: &mut Effects<'_, Self>) {
        let Some((ask, Phase::Querying(answers))) = &mut self.current else { return };
        let best = answers
            .values()
            .flatten()
            .filter_map(|frame| open(frame).map(|value| (value.tag, value, frame.clone())))
            .filter(|(_, value, _)| value.key == ask.key)
            .max_by_key(|(tag, ..)| *tag);
        let phase = match (&ask.write, best) {
            (Some(text), best) => {
                let number = best.map_or(0, |(tag, ..)| tag.number) + 1;
                let tag = Tag { number, writer: self.me };
                let value = Value { key: ask.key.clone(), tag, text: text.clone() };
                Phase::Storing(Said::Value(value), tag, BTreeMap::new(), "ok".into())
            }
            (None, Some((tag, value, frame))) if !self.flaws.no_write_back => {
                Phase::Storing(Said::Store(frame), tag, BTreeMap::new(), value.text)
            }
            (None, best) => {
                let text = best.map(|(_, value, _)| value.text).unwrap_or_default();
                let said = Said::Query { key: String::new(), round: 0 };
                let tag = Tag::default();
                self.current.as_mut().unwrap().1 = Phase::Storing(said, tag, BTreeMap::new(), text);
                return self.done(fx);
            }
        };
        self.current.as_mut().unwrap().1 = phase;
        self.speak(fx);
    }

    fn done(&mut self, fx: &mut Effects<'_, Self>) {
        if let Some((ask, Phase::Storing(.., answer))) = self.current.take() {
            fx.output((ask.id, answer));
            fx.cancel_timer(Resend);
            self.next(fx);
        }
    }
}

/// The toy as a system.
#[derive(Clone, Copy, Default)]
pub struct Register {
    pub flaws: Flaws,
}

impl System for Register {
    type Message = Said;
    type Replica = Replica;
    type Client = Client;

    fn replica_config(&mut self, _: &Setup, _: NodeId, _: ReplicaId) -> Flaws {
        self.flaws
    }
    fn client_config(&mut self, setup: &Setup, _: usize) -> (usize, Flaws) {
        let quorums = testudo_quorum::Dissemination::of(&setup.membership).expect("n > 3f");
        let n = setup.membership.n();
        (if self.flaws.small_quorum { n / 2 } else { quorums.quorum() }, self.flaws)
    }
    fn tables(&self, replica: &Replica) -> Vec<Table> {
        vec![("questions", replica.questions.len(), Some(1))]
    }
    fn client_facts(&self, (request, answer): &(u64, String), facts: &mut Vec<Fact>) {
        facts.push(Fact::Answered { request: *request, answer: Digest::of(answer.as_bytes()) });
    }
}

impl Serving for Register {
    type Workload = Registers;

    fn submit(&mut self, _: usize, id: u64, operation: Vec<u8>) -> Ask {
        match service::Ask::from_bytes(&operation) {
            Ok(service::Ask::Put { key, value }) => Ask { id, key, write: Some(value) },
            Ok(ask) => Ask { id, key: ask.key().into(), write: None },
            Err(error) => panic!("{error}"),
        }
    }
    fn answered(&mut self, _: usize, (id, text): (u64, String)) -> Vec<Heard> {
        let answer = match text.as_str() {
            "ok" => Answer::Done,
            "" => Answer::Value(None),
            _ => Answer::Value(Some(text)),
        };
        vec![Heard::Answer(id, answer.to_bytes())]
    }
}

impl Scripted for Register {
    fn request(&mut self, _: usize, words: &[&str]) -> Result<Ask, String> {
        match service::Ask::parse(words)? {
            service::Ask::Put { key, value } => Ok(Ask { id: 0, key, write: Some(value) }),
            service::Ask::Get { key } => Ok(Ask { id: 0, key, write: None }),
            other => Err(format!("a register cannot {other}")),
        }
    }
    fn show_answer(&mut self, _: usize, (_, text): (u64, String)) -> Option<String> {
        Some(if text.is_empty() { "no value".into() } else { text })
    }
    fn show_message(&self, message: &Said) -> String {
        let value = |frame: &Frame| {
            open(frame).map_or("?".into(), |value| format!("{}#{}", value.text, value.tag.number))
        };
        match message {
            Said::Query { key, .. } => key.clone(),
            Said::Answer { value: None, .. } => "nothing".into(),
            Said::Answer { value: Some(frame), .. } | Said::Store(frame) => value(frame),
            Said::Value(Value { key, tag, text }) => format!("{key}={text}#{}", tag.number),
            Said::Stored { tag } => format!("#{}", tag.number),
        }
    }
    fn show_status(&self, replica: &Replica) -> String {
        let values = replica.values.values().filter_map(|(_, frame)| open(frame));
        let values: Vec<String> =
            values.map(|v| format!("{}={}#{}", v.key, v.text, v.tag.number)).collect();
        if values.is_empty() { "nothing".into() } else { values.join(" ") }
    }
}
