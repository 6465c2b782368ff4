//! What a run asks a service for, and how what was answered is judged.
//!
//! A run knows no service. It draws operations from a [`Workload`], keeps the history of calls and returns, and has the
//! workload judge it. The small one is [`crate::service`]'s; tests of real services bring their own.

use crate::event::NodeId;
use crate::linear::{Linearity, Operation, check};
use crate::oracle::settle;
use crate::rng::{Chance, Rng};
use crate::service::{Answer, Ask, KeyModel, KeyValues, Mix};
use std::fmt::Debug;
use std::time::Duration;
use testudo_contracts::{Moment, Service};
use testudo_core::{Decode, Encode, Slot, Time};
use testudo_replication::Published;
use testudo_state::Map;

/// A broken rule: its name, and how it was broken.
pub type Finding = (&'static str, String);

/// The operations of a run, and their judge.
pub trait Workload: 'static {
    /// An operation.
    type Ask: Clone + Debug;
    /// What it came to.
    type Answer: Clone + Debug;
    /// Whoever looks on beside the clients, and judges what no single answer shows.
    type Onlooker: Onlooker<Self::Ask, Self::Answer>;

    /// Who looks on in the run of this seed.
    fn onlooker(seed: u64) -> Self::Onlooker;
    /// The next operation of a client, on one of `keys` keys. `token` is new, so that values tell who wrote them.
    fn draw(keys: u64, token: u64, onlooker: &Self::Onlooker, rng: &mut Rng) -> Self::Ask;
    /// An operation of a client that lies: on keys that no other client has, so that it spoils nobody's history. Where a
    /// workload knows none it asks for what no service can read.
    fn foreign(token: u64, rng: &mut Rng) -> Vec<u8> {
        let _ = (token, rng);
        Vec::new()
    }
    /// The operations that read everything at the end.
    fn last_reads(keys: u64) -> Vec<Self::Ask>;
    /// The operation as it is submitted.
    fn encode(ask: &Self::Ask) -> Vec<u8>;
    /// What the operation in these bytes is, where a workload can say so: for runs that are told and not drawn.
    fn read_ask(operation: &[u8]) -> Option<Self::Ask> {
        let _ = operation;
        None
    }
    /// What the result of such an operation says.
    ///
    /// # Errors
    /// When it says nothing.
    fn decode(ask: &Self::Ask, result: &[u8]) -> Result<Self::Answer, String>;
    /// Judges a history of calls and returns. A whole one ends with [`Workload::last_reads`], after all else was
    /// answered.
    fn judge(history: &[Operation<Self::Ask, Self::Answer>], is_whole: bool) -> Vec<Finding>;
}

/// A workload on a service that replicas run.
pub trait Hosted: Workload {
    /// The service.
    type Service: Service + Clone;

    /// The service as every node starts with it.
    fn service() -> Self::Service;
    /// The service as learners start with it, where a test wants their machines to be faulty: they come to other results
    /// now and then, and no rule forbids them to say so.
    fn flawed() -> Option<Self::Service> {
        None
    }
    /// The operation that a script's words ask for.
    ///
    /// # Errors
    /// With a sentence, when they ask for none.
    fn parse(words: &[&str]) -> Result<Vec<u8>, String>;
    /// An operation as scripts print it.
    fn show(operation: &[u8]) -> String;
    /// A result as scripts print it.
    fn show_result(result: &[u8]) -> String;
    /// Whether an operation only reads, so that a learner may answer it from its copy.
    fn is_read(operation: &[u8]) -> bool;
    /// What an operation that only reads comes to on a copy of the state, by the service's own code.
    fn read(copy: &Map, operation: &[u8], moment: &Moment) -> Option<Vec<u8>>;
}

/// Looks on while a run goes on: at what learners publish, what replicas hold, and what is answered.
pub trait Onlooker<Ask, Answer> {
    /// A learner has published this.
    fn published(&mut self, at: Duration, client: usize, published: &Published) -> Vec<Finding> {
        let _ = (at, client, published);
        Vec::new()
    }
    /// A correct replica has come to hold this state of the service after that slot, at that agreed time.
    fn held(
        &mut self,
        at: Duration,
        node: NodeId,
        slot: Slot,
        time: Time,
        state: &Map,
    ) -> Vec<Finding> {
        let _ = (at, node, slot, time, state);
        Vec::new()
    }
    /// An operation is submitted.
    fn asked(&mut self, at: Duration, client: usize, ask: &Ask) {
        let _ = (at, client, ask);
    }
    /// An operation that was submitted at `called` is answered.
    fn answered(&mut self, called: Duration, at: Duration, ask: &Ask, answer: &Answer) {
        let _ = (called, at, ask, answer);
    }
    /// A learner crashed, and all that its upper layer had in memory with it.
    fn crashed(&mut self, client: usize) {
        let _ = client;
    }
    /// All trouble has ended.
    fn healed(&mut self, at: Duration) {
        let _ = at;
    }
    /// How long after the last answer it wants to go on looking on while nobody asks for anything.
    fn afterthought(&self) -> Duration {
        Duration::ZERO
    }
    /// The run is over, wherever it ended: what was wrong in it. It is asked once, after all else.
    fn judge(&mut self, at: Duration) -> Vec<Finding> {
        let _ = at;
        Vec::new()
    }
    /// A whole run is over, all trouble is, and there was time for everything: what should have happened and did not.
    fn finish(&mut self, at: Duration) -> Vec<Finding> {
        let _ = at;
        Vec::new()
    }
    /// How often it saw what it is there for, by name.
    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// Nobody looks on.
#[derive(Clone, Copy, Default, Debug)]
pub struct Nobody;

impl<Ask, Answer> Onlooker<Ask, Answer> for Nobody {}

/// All operations of the small service.
#[derive(Clone, Copy, Debug)]
pub enum Small {}

/// Its reads and writes alone, for systems that know no others.
#[derive(Clone, Copy, Debug)]
pub enum Registers {}

/// What both workloads on the small service share.
macro_rules! on_the_small_service {
    ($workload:ident, $mix:expr, $logs:expr) => {
        impl Workload for $workload {
            type Ask = Ask;
            type Answer = Answer;
            type Onlooker = Nobody;

            fn onlooker(_: u64) -> Nobody {
                Nobody
            }
            fn draw(keys: u64, token: u64, _: &Nobody, rng: &mut Rng) -> Ask {
                Ask::drawn(keys, token, $mix, rng)
            }
            fn foreign(token: u64, rng: &mut Rng) -> Vec<u8> {
                let (key, value) = (format!("z{}", rng.below(3)), format!("z{token}"));
                let ask = match rng.below(3) {
                    0 => Ask::Get { key },
                    1 => Ask::Append { key, token: format!("{value},") },
                    _ => Ask::Put { key, value },
                };
                ask.to_bytes()
            }
            fn last_reads(keys: u64) -> Vec<Ask> {
                let kinds: &[char] = if $logs { &['k', 'l'] } else { &['k'] };
                let names = kinds.iter().flat_map(|kind| (0..keys).map(move |key| (kind, key)));
                names.map(|(kind, key)| Ask::Get { key: format!("{kind}{key}") }).collect()
            }
            fn encode(ask: &Ask) -> Vec<u8> {
                ask.to_bytes()
            }
            fn read_ask(operation: &[u8]) -> Option<Ask> {
                Ask::from_bytes(operation).ok()
            }
            fn decode(_: &Ask, result: &[u8]) -> Result<Answer, String> {
                Answer::from_bytes(result).map_err(|error| error.to_string())
            }
            fn judge(history: &[Operation<Ask, Answer>], is_whole: bool) -> Vec<Finding> {
                let mut findings = Vec::new();
                findings.extend(linearity(check(&KeyModel, history)));
                if is_whole && let Err(what) = settle(history) {
                    findings.push(("ledger", what));
                }
                findings
            }
        }
    };
}
on_the_small_service!(Small, Mix::Everything, true);
on_the_small_service!(Registers, Mix::Registers, false);

/// What the checker's word means for a run.
#[must_use]
pub fn linearity(found: Linearity) -> Option<Finding> {
    match found {
        Linearity::Holds => None,
        Linearity::Broken(how) => Some(("linearizability", how)),
        Linearity::Unknown(steps) => {
            Some(("linearizability", format!("undecided after {steps} steps")))
        }
    }
}

impl Hosted for Small {
    type Service = KeyValues;

    fn service() -> KeyValues {
        KeyValues
    }
    /// `put k=v`, `get k`, `append k=v`, `cas k old=new` (`-` for no value), `panic k`.
    fn parse(words: &[&str]) -> Result<Vec<u8>, String> {
        Ask::parse(words).map(|ask| ask.to_bytes())
    }
    fn show(operation: &[u8]) -> String {
        Ask::from_bytes(operation).map_or("?".into(), |ask| ask.to_string())
    }
    fn show_result(result: &[u8]) -> String {
        match Answer::from_bytes(result) {
            Ok(answer) => answer.to_string(),
            Err(error) => format!("no answer: {error}"),
        }
    }
    fn is_read(operation: &[u8]) -> bool {
        matches!(Ask::from_bytes(operation), Ok(Ask::Get { .. }))
    }
    fn read(copy: &Map, operation: &[u8], _: &Moment) -> Option<Vec<u8>> {
        let Ok(Ask::Get { key }) = Ask::from_bytes(operation) else { return None };
        let value = testudo_contracts::Reading::get(copy, key.as_bytes());
        let value = value.map(|value| String::from_utf8_lossy(&value).into_owned());
        Some(Answer::Value(value).to_bytes())
    }
}
