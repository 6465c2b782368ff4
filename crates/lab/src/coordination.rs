//! The coordination service as a workload: what a run asks of it, and how its answers, watches and leases are judged.
//!
//! Keys that begin with `k` are registers, and judged by linearizability. Keys that begin with `e` come and go with
//! leases, in deletions of many and in transactions; watches and leases are judged by what replicas hold
//! ([`truth`]), without a line of the code that makes watches' events.
pub mod effects;
pub mod gateways;
pub mod leases;
mod order;
pub mod truth;
mod words;

use gateways::Gateways;
use std::sync::Arc;
use testudo_contracts::Moment;
use testudo_core::{Decode, Encode, Slot, Time};
use testudo_kv::{
    Compact, Compare, CompareTarget, DeleteRange, Error, Kv, LeaseGrant, LeaseKeepAlive,
    LeaseRevoke, Operand, Operation, Put, Range, Relation, RequestOp, Response, ResponseOp, Txn,
};
use testudo_sim::linear::{Model, Operation as Call, check, explains};
use testudo_sim::workload::{Finding, Hosted, Workload, linearity};
use testudo_sim::{Chance, Rng};
use testudo_state::Map;

/// The workload.
pub enum Coordination {}

/// What a run asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Reads a register.
    Get(String),
    /// Sets a register.
    Put(String, String),
    /// Deletes a register.
    Delete(String),
    /// Sets a register if it is as expected.
    Swap(String, Option<String>, String),
    /// Begins the lease of that number, for so many seconds.
    Grant(i64, i64),
    /// Lets a lease's time begin anew.
    KeepAlive(i64),
    /// Ends a lease.
    Revoke(i64),
    /// Sets a key that hangs on a lease.
    Attach(String, String, i64),
    /// Sets several keys in one transaction.
    Batch(Vec<(String, String)>),
    /// Deletes every key that is no register.
    Clear,
    /// Forgets history before this revision.
    Compact(i64),
}

/// What it came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The store's revision; none where an answer bears none.
    pub revision: Option<i64>,
    /// The rest of it.
    pub what: What,
}

/// What an operation came to, but for its revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// It was done.
    Done,
    /// A register's value.
    Value(Option<String>),
    /// So many keys were deleted.
    Deleted(i64),
    /// Whether the register was as expected.
    Swapped(bool),
    /// A lease lives for so many seconds.
    Lives(i64),
    /// The service refused it.
    Refused(Error),
}

/// How long the lease of a number lives: always the same, so that no renewal shortens another.
pub fn ttl(lease: i64) -> i64 {
    1 + lease
}

/// The leases are numbered from 1 to this.
const LEASES: u64 = 4;
/// The keys that are no registers: `e0` and on.
const EPHEMERAL: u64 = 5;

/// Keys that begin with this are written by clients that lie, of whom nobody knows what they asked for.
const FOREIGN: u8 = b'z';

fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A range over all keys that begin with a letter.
pub fn prefix(letter: u8) -> (Arc<[u8]>, Arc<[u8]>) {
    (Arc::from([letter]), Arc::from([letter + 1]))
}

impl Ask {
    /// Whether it makes a revision when it is done.
    fn writes(&self, what: &What) -> bool {
        match (self, what) {
            (Self::Put(..) | Self::Attach(..) | Self::Batch(_), What::Done) => true,
            (_, What::Swapped(swapped)) => *swapped,
            (_, What::Deleted(count)) => *count > 0,
            _ => false,
        }
    }

    /// The values that it writes, which nothing else does.
    fn values(&self) -> Vec<&str> {
        match self {
            Self::Put(_, value) | Self::Swap(_, _, value) | Self::Attach(_, value, _) => {
                vec![value]
            }
            Self::Batch(pairs) => pairs.iter().map(|(_, value)| value.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    fn operation(&self) -> Operation {
        let put = |key: &str, value: &str, lease: i64| Put {
            key: bytes(key),
            value: bytes(value),
            lease,
            ..Put::default()
        };
        let get = |key: &str| Range { key: bytes(key), ..Range::default() };
        match self {
            Self::Get(key) => Operation::Range(get(key)),
            Self::Put(key, value) => Operation::Put(put(key, value, 0)),
            Self::Delete(key) => {
                Operation::DeleteRange(DeleteRange { key: bytes(key), ..DeleteRange::default() })
            }
            Self::Swap(key, expected, value) => {
                let (target, operand) = match expected {
                    Some(value) => (CompareTarget::VALUE, Operand::Value(bytes(value))),
                    None => (CompareTarget::CREATE, Operand::Create(0)),
                };
                let relation = Relation::EQUAL;
                let key_bytes = bytes(key);
                let compare =
                    Compare { relation, target, key: key_bytes, operand, ..Compare::default() };
                Operation::Txn(Txn {
                    compare: vec![compare],
                    success: vec![RequestOp::Put(put(key, value, 0))],
                    failure: vec![RequestOp::Range(get(key))],
                })
            }
            Self::Grant(id, ttl) => Operation::LeaseGrant(LeaseGrant { id: *id, ttl: *ttl }),
            Self::KeepAlive(id) => Operation::LeaseKeepAlive(LeaseKeepAlive { id: *id }),
            Self::Revoke(id) => Operation::LeaseRevoke(LeaseRevoke { id: *id }),
            Self::Attach(key, value, lease) => Operation::Put(put(key, value, *lease)),
            Self::Batch(pairs) => Operation::Txn(Txn {
                success: pairs
                    .iter()
                    .map(|(key, value)| RequestOp::Put(put(key, value, 0)))
                    .collect(),
                ..Txn::default()
            }),
            Self::Clear => {
                let (key, range_end) = prefix(b'e');
                Operation::DeleteRange(DeleteRange { key, range_end, prev_kv: false })
            }
            Self::Compact(revision) => {
                Operation::Compact(Compact { revision: *revision, physical: false })
            }
        }
    }

    fn answer(&self, response: Response) -> Result<Answer, String> {
        let (revision, what) = match response {
            Response::Range(range) => {
                let value = range.kvs.first().map(|record| text(&record.value));
                (Some(range.revision), What::Value(value))
            }
            Response::Put(put) => (Some(put.revision), What::Done),
            Response::DeleteRange(delete) => (Some(delete.revision), What::Deleted(delete.deleted)),
            Response::Txn(txn) => {
                let is_swap = matches!(self, Self::Swap(..));
                let what = if is_swap { What::Swapped(txn.succeeded) } else { What::Done };
                let held = txn
                    .responses
                    .iter()
                    .all(|response| matches!(response, ResponseOp::Put(_) | ResponseOp::Range(_)));
                if !held {
                    return Err("a transaction answers what it was not asked".into());
                }
                (Some(txn.revision), what)
            }
            Response::LeaseGrant(grant) => (Some(grant.revision), What::Lives(grant.ttl)),
            Response::LeaseKeepAlive(kept) => (Some(kept.revision), What::Lives(kept.ttl)),
            Response::LeaseRevoke(revoke) => (Some(revoke.revision), What::Done),
            Response::Compact(compact) => (Some(compact.revision), What::Done),
            Response::Error(error) => (None, What::Refused(error)),
            other => return Err(format!("{self:?} is answered {other:?}")),
        };
        Ok(Answer { revision, what })
    }
}

/// One register.
struct Register;

impl Model for Register {
    type State = Option<String>;
    type Input = Ask;
    type Output = What;
    type Part = String;

    fn initial(&self, _: &String) -> Option<String> {
        None
    }
    fn part(&self, ask: &Ask) -> String {
        match ask {
            Ask::Get(key) | Ask::Put(key, _) | Ask::Delete(key) | Ask::Swap(key, ..) => key.clone(),
            other => unreachable!("{other:?} is of no register"),
        }
    }
    fn step(&self, state: &Option<String>, ask: &Ask) -> (Option<String>, What) {
        match ask {
            Ask::Put(_, value) => (Some(value.clone()), What::Done),
            Ask::Delete(_) => (None, What::Deleted(i64::from(state.is_some()))),
            Ask::Swap(_, expected, value) if expected == state => {
                (Some(value.clone()), What::Swapped(true))
            }
            Ask::Swap(..) => (state.clone(), What::Swapped(false)),
            _ => (state.clone(), What::Value(state.clone())),
        }
    }
}

/// Revisions keep to the order of time: whatever begins after something else was answered is answered with no lower
/// revision, and with a higher one if it makes one.
fn revisions(history: &[Call<Ask, Answer>]) -> Option<Finding> {
    let mut moments: Vec<(u64, bool, usize)> = Vec::new();
    for (index, call) in history.iter().enumerate() {
        let Some((at, _)) = &call.returned else { continue };
        moments.push((call.called, false, index));
        moments.push((*at, true, index));
    }
    moments.sort_unstable();
    let (mut newest, mut floors) = (0, vec![0; history.len()]);
    for (_, is_return, index) in moments {
        let call = &history[index];
        let Some((_, Answer { revision: Some(revision), what })) = &call.returned else { continue };
        let is_new = call.input.writes(what);
        if !is_return {
            floors[index] = newest;
        } else if *revision < floors[index] + i64::from(is_new) {
            let how = format!("{call:?}, though {} was answered before", floors[index]);
            return Some(("revisions", how));
        } else {
            newest = newest.max(*revision);
        }
    }
    None
}

impl Workload for Coordination {
    type Ask = Ask;
    type Answer = Answer;
    type Onlooker = Gateways;

    fn onlooker(seed: u64) -> Gateways {
        Gateways::new(seed)
    }

    fn draw(keys: u64, token: u64, onlooker: &Gateways, rng: &mut Rng) -> Ask {
        let (key, value) = (format!("k{}", rng.below(keys)), format!("v{token}"));
        let ephemeral = |rng: &mut Rng| format!("e{}", rng.below(EPHEMERAL));
        let lease = rng.between(1, LEASES) as i64;
        match rng.below(100) {
            0..28 => Ask::Get(key),
            28..46 => Ask::Put(key, value),
            46..52 => Ask::Delete(key),
            52..62 => {
                let expected = (rng.below(4) > 0).then(|| format!("v{}", rng.below(token + 1)));
                Ask::Swap(key, expected, value)
            }
            62..70 => Ask::Grant(lease, ttl(lease)),
            70..76 => Ask::KeepAlive(lease),
            76..78 => Ask::Revoke(lease),
            78..87 => Ask::Attach(ephemeral(rng), value, lease),
            87..93 => {
                let first = rng.below(EPHEMERAL);
                let pair = |place: u64| {
                    (format!("e{}", (first + place) % EPHEMERAL), format!("v{token}.{place}"))
                };
                Ask::Batch((0..rng.between(2, EPHEMERAL)).map(pair).collect())
            }
            93..97 => Ask::Clear,
            _ => Ask::Compact(onlooker.newest() - rng.below(20) as i64),
        }
    }

    fn foreign(token: u64, rng: &mut Rng) -> Vec<u8> {
        let key = format!("{}{}", FOREIGN as char, rng.below(3));
        let ask = match rng.below(4) {
            0 => Ask::Get(key),
            1 => Ask::Delete(key),
            _ => Ask::Put(key, format!("{}{token}", FOREIGN as char)),
        };
        ask.operation().to_bytes()
    }

    fn last_reads(keys: u64) -> Vec<Ask> {
        (0..keys).map(|key| Ask::Get(format!("k{key}"))).collect()
    }

    fn encode(ask: &Ask) -> Vec<u8> {
        ask.operation().to_bytes()
    }

    fn read_ask(operation: &[u8]) -> Option<Ask> {
        words::ask(&Operation::from_bytes(operation).ok()?)
    }

    fn decode(ask: &Ask, result: &[u8]) -> Result<Answer, String> {
        let response = Response::from_bytes(result).map_err(|error| error.to_string())?;
        ask.answer(response)
    }

    fn judge(history: &[Call<Ask, Answer>], _: bool) -> Vec<Finding> {
        let is_of_register =
            |ask: &Ask| matches!(ask, Ask::Get(_) | Ask::Put(..) | Ask::Delete(_) | Ask::Swap(..));
        let answers: Vec<&Call<Ask, Answer>> =
            history.iter().filter(|call| is_of_register(&call.input)).collect();
        let registers: Vec<Call<Ask, What>> = answers
            .iter()
            .map(|call| Call {
                client: call.client,
                input: call.input.clone(),
                called: call.called,
                returned: call.returned.as_ref().map(|(at, answer)| (*at, answer.what.clone())),
            })
            .collect();
        // The revisions in the answers tell the order in all but few histories.
        let is_explained = explains(&Register, &registers, &order::guessed(&answers));
        let found = if is_explained { None } else { linearity(check(&Register, &registers)) };
        found.into_iter().chain(revisions(history)).collect()
    }
}

/// What only reads, read from a copy at the moment of its slot.
pub fn read(copy: &Map, slot: Slot, time: Time, operation: &Operation) -> Option<Response> {
    let moment = Moment { slot, time, elapsed: 0 };
    let result = Kv::default().read(copy, operation, &moment)?;
    Response::from_bytes(&result).ok()
}

impl Hosted for Coordination {
    type Service = Kv;

    fn service() -> Kv {
        Kv::default()
    }
    fn parse(line: &[&str]) -> Result<Vec<u8>, String> {
        words::parse(line).map(|operation| operation.to_bytes())
    }
    fn show(operation: &[u8]) -> String {
        words::show(operation)
    }
    fn show_result(result: &[u8]) -> String {
        words::show_result(result)
    }
    fn is_read(operation: &[u8]) -> bool {
        Operation::from_bytes(operation).is_ok_and(|operation| operation.is_read_only())
    }
    fn read(copy: &Map, operation: &[u8], moment: &Moment) -> Option<Vec<u8>> {
        let operation = Operation::from_bytes(operation).ok()?;
        Kv::default().read(copy, &operation, moment)
    }
}
