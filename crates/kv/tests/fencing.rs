//! A lock whose holder sleeps too long (trace C13): whoever wakes up late must not write, however sure it is of its lock.
//!
//! A lock is a key on a lease, created where there was none; its token is the revision that created it. Nobody can see from
//! afar that the lease of a sleeper has ended and the lock moved on, and a look at one's own clock is as old as the sleep that
//! follows it. So whoever writes under the lock has the store itself compare the token, in the same transaction.

#[path = "support/instance.rs"]
mod instance;

use instance::Instance;
use testudo_kv::{
    Compare, CompareTarget, LeaseGrant, Operand, Operation, Put, Range, Relation, RequestOp,
    Response, SLACK, Txn,
};

const LOCK: &[u8] = b"lock";
const DATA: &[u8] = b"data";
/// Seconds that a lock's lease lives.
const TTL: i64 = 10;

fn created_at(revision: i64) -> Compare {
    Compare {
        relation: Relation::EQUAL,
        target: CompareTarget::CREATE,
        key: LOCK.into(),
        operand: Operand::Create(revision),
        ..Compare::default()
    }
}

fn put(key: &[u8], value: &str, lease: i64) -> Put {
    Put { key: key.into(), value: value.as_bytes().into(), lease, ..Put::default() }
}

/// Takes the lock if it is free: its token.
fn acquire(kv: &mut Instance, name: &str, lease: i64) -> Option<i64> {
    kv.execute(&Operation::LeaseGrant(LeaseGrant { id: lease, ttl: TTL }));
    let response = kv.execute(&Operation::Txn(Txn {
        compare: vec![created_at(0)],
        success: vec![RequestOp::Put(put(LOCK, name, lease))],
        failure: Vec::new(),
    }));
    match response {
        Response::Txn(txn) => txn.succeeded.then_some(txn.revision),
        other => panic!("{other:?}"),
    }
}

fn read(kv: &mut Instance) -> String {
    let range = Range { key: DATA.into(), ..Range::default() };
    match kv.execute(&Operation::Range(range)) {
        Response::Range(range) => range.kvs.first().map_or_else(String::new, |record| {
            String::from_utf8(record.value.to_vec()).expect("it was text")
        }),
        other => panic!("{other:?}"),
    }
}

/// How somebody who holds the lock writes. None if it does not even try.
type Write = fn(token: i64, knows: &Knows) -> Option<Operation>;

/// What a holder knows at the moment at which it sends its write.
struct Knows {
    /// How long it has held the lock, by its own clock, when it last looked, in milliseconds.
    held: u64,
    /// Whose lock it was when it last looked.
    is_mine: bool,
}

/// It holds the lock, or did a moment ago.
fn trustingly(_: i64, _: &Knows) -> Option<Operation> {
    Some(Operation::Put(put(DATA, "late", 0)))
}

/// It looks at its own clock first.
fn by_its_clock(_: i64, knows: &Knows) -> Option<Operation> {
    (knows.held < TTL as u64 * 1000).then(|| Operation::Put(put(DATA, "late", 0)))
}

/// It asks the store first whether the lock is still its own.
fn after_asking(_: i64, knows: &Knows) -> Option<Operation> {
    knows.is_mine.then(|| Operation::Put(put(DATA, "late", 0)))
}

/// It has the store compare the token.
fn fenced(token: i64, _: &Knows) -> Option<Operation> {
    Some(Operation::Txn(Txn {
        compare: vec![created_at(token)],
        success: vec![RequestOp::Put(put(DATA, "late", 0))],
        failure: Vec::new(),
    }))
}

/// It has the store compare who holds the lock, by name.
fn by_name(_: i64, _: &Knows) -> Option<Operation> {
    let target = CompareTarget::VALUE;
    let operand = Operand::Value(b"worker"[..].into());
    Some(Operation::Txn(Txn {
        compare: vec![Compare { target, operand, ..created_at(0) }],
        success: vec![RequestOp::Put(put(DATA, "late", 0))],
        failure: Vec::new(),
    }))
}

/// A holds the lock, looks at whatever it looks at, and sleeps for a minute. The lock moves to B, who writes. Then A wakes up
/// and writes. What is there in the end.
fn sleeper(write: Write) -> String {
    let mut kv = Instance::new();
    let old = acquire(&mut kv, "worker", 7).expect("the lock is free");
    kv.pass(1_000);
    let operation = write(old, &Knows { held: 1_000, is_mine: true });
    assert_eq!(acquire(&mut kv, "worker", 8), None, "the lock is held");
    for _ in 0..60 {
        kv.pass(1_000 + SLACK / 60);
    }
    let new = acquire(&mut kv, "worker", 9).expect("the lease of the sleeper has ended");
    assert!(new > old, "tokens rise");
    kv.execute(&Operation::Txn(Txn {
        compare: vec![created_at(new)],
        success: vec![RequestOp::Put(put(DATA, "new", 0))],
        failure: Vec::new(),
    }));
    assert_eq!(read(&mut kv), "new", "whoever holds the lock may write");
    if let Some(operation) = operation {
        kv.execute(&operation);
    }
    read(&mut kv)
}

#[test]
fn a_sleeper_overwrites_nothing() {
    assert_eq!(sleeper(fenced), "new");
    let naive: [(&str, Write); 4] = [
        ("trust", trustingly),
        ("a look at the clock", by_its_clock),
        ("a question before", after_asking),
        ("a compare of names", by_name),
    ];
    for (name, write) in naive {
        assert_eq!(sleeper(write), "late", "{name} has protected the data");
    }
}

/// The token is good while the lock is held, whatever else is written, and for one's own lease alone.
#[test]
fn a_holder_writes_as_long_as_it_holds() {
    let mut kv = Instance::new();
    let token = acquire(&mut kv, "worker", 7).expect("the lock is free");
    let knows = Knows { held: 0, is_mine: true };
    for round in 0..3 {
        kv.execute(&Operation::Put(put(b"other", &round.to_string(), 0)));
        let operation = fenced(token, &knows).expect("it writes");
        assert!(matches!(kv.execute(&operation), Response::Txn(txn) if txn.succeeded));
    }
    let wrong = fenced(token + 1, &knows).expect("it writes");
    assert!(matches!(kv.execute(&wrong), Response::Txn(txn) if !txn.succeeded));
}
