//! What an operation costs, and where it stops: counted, not timed.

#[path = "support/instance.rs"]
mod instance;

use instance::Instance;
use std::cell::Cell;
use std::ops::Bound;
use std::sync::Arc;
use testudo_contracts::{Moment, Reading, Service, Store};
use testudo_core::{Decode, Encode, Slot, Time};
use testudo_kv::{
    Bytes, DeleteRange, Error, Kv, LeaseGrant, LeaseKeepAlive, LeaseRevoke, LeaseTimeToLive,
    Operation, Put, Range, RequestOp, Response, SLACK, Txn, WORK, changes,
};
use testudo_state::Map;

/// Counts what is asked of a store.
#[derive(Default)]
struct Counting {
    store: Map,
    gets: Cell<usize>,
    scanned: Cell<usize>,
    written: Vec<(Vec<u8>, Arc<[u8]>)>,
}

impl Reading for Counting {
    fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        self.gets.set(self.gets.get() + 1);
        Reading::get(&self.store, key)
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &Arc<[u8]>) -> bool,
    ) {
        self.store.scan(from, to, reverse, &mut |key, value| {
            self.scanned.set(self.scanned.get() + 1);
            visit(key, value)
        });
    }
}

impl Store for Counting {
    fn put(&mut self, key: &[u8], value: Arc<[u8]>) {
        self.written.push((key.to_vec(), value.clone()));
        self.store.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        self.store.delete(key)
    }
}

impl Counting {
    /// Executes; gives how many gets, puts and entries of scans that took.
    fn cost(&mut self, operation: &Operation) -> (usize, usize, usize) {
        self.gets.set(0);
        self.scanned.set(0);
        self.written.clear();
        let moment = Moment { slot: Slot(1), time: Time(1), elapsed: 0 };
        let result = Kv::default().execute(self, &operation.to_bytes(), &moment);
        assert!(!matches!(Response::from_bytes(&result), Ok(Response::Error(_)) | Err(_)));
        (self.gets.get(), self.written.len(), self.scanned.get())
    }
}

impl Counting {
    /// Lets milliseconds pass; gives what that took.
    fn pass(&mut self, elapsed: u64) -> (usize, usize, usize) {
        self.gets.set(0);
        self.scanned.set(0);
        self.written.clear();
        let moment = Moment { slot: Slot(1), time: Time(1), elapsed };
        Kv::default().advance(self, &moment);
        (self.gets.get(), self.written.len(), self.scanned.get())
    }
}

fn put(key: &str, value: Vec<u8>) -> Operation {
    Operation::Put(Put { key: key.as_bytes().into(), value: value.into(), ..Put::default() })
}

fn all() -> Range {
    Range { key: [0].into(), range_end: [0].into(), ..Range::default() }
}

#[test]
fn a_put_is_two_gets_and_three_puts_and_one_more_to_file_what_was() {
    let mut store = Counting::default();
    Kv::default().genesis(&mut store);
    assert_eq!(store.cost(&put("key", vec![7; 256])), (2, 3, 0));
    for _ in 0..3 {
        let before = Reading::get(&store.store, b"kkey").expect("the current record");
        assert_eq!(store.cost(&put("key", vec![7; 256])), (2, 4, 0));
        let filed = store.written.iter().find(|(key, _)| key.starts_with(b"v")).expect("a version");
        assert!(Arc::ptr_eq(&before, &filed.1), "the record moves and is not copied");
    }
    let delete =
        DeleteRange { key: Bytes::from(*b"key"), range_end: Bytes::default(), prev_kv: false };
    assert_eq!(store.cost(&Operation::DeleteRange(delete)), (2, 4, 0));
}

#[test]
fn what_revisions_changed_is_found_without_looking_at_others() {
    let mut store = Counting::default();
    Kv::default().genesis(&mut store);
    for round in 0..100 {
        store.cost(&put(&format!("key{}", round % 7), vec![round]));
    }
    let seen = |store: &Counting, from, to, most: usize| {
        store.gets.set(0);
        store.scanned.set(0);
        let mut seen = Vec::new();
        changes(store, from, to, &mut |change| {
            seen.push(change.revision);
            seen.len() < most
        });
        (seen, store.gets.get(), store.scanned.get())
    };
    // The meta entry, then each change with its record, which is another's past for all but the newest.
    assert_eq!(seen(&store, 101, i64::MAX, 9), (vec![101], 2, 1));
    assert_eq!(seen(&store, 50, 52, 9), (vec![50, 51, 52], 7, 3));
    assert_eq!(seen(&store, i64::MIN, i64::MAX, 2), (vec![2, 3], 5, 2));
    assert_eq!(seen(&store, 102, i64::MAX, 9), (vec![], 1, 0));
    assert_eq!(seen(&store, 52, 50, 9), (vec![], 1, 0));
}

#[test]
fn reading_one_key_is_two_gets_or_a_get_and_one_entry_of_history() {
    let mut store = Counting::default();
    Kv::default().genesis(&mut store);
    for round in 0..9 {
        store.cost(&put("key", vec![round]));
    }
    let newest = Range { key: Bytes::from(*b"key"), ..Range::default() };
    assert_eq!(store.cost(&Operation::Range(newest.clone())), (2, 0, 0));
    let past = Range { revision: 4, ..newest };
    assert_eq!(store.cost(&Operation::Range(past)), (2, 0, 1));
    // A scan of the newest state does not see history.
    assert_eq!(store.cost(&Operation::Range(all())), (1, 0, 1));
}

/// The same for ten leases and for ten thousand.
#[test]
fn a_lease_costs_the_same_however_many_there_are() {
    let mut store = Counting::default();
    Kv::default().genesis(&mut store);
    for id in 1..=10_000 {
        // The lease, its expiry, and the meta entry, which counts them.
        assert_eq!(store.cost(&Operation::LeaseGrant(LeaseGrant { id, ttl: 10 })), (2, 3, 0));
    }
    let on_lease = |lease| {
        let key = Bytes::from(*b"key");
        Operation::Put(Put { key, lease, ..Put::default() })
    };
    assert_eq!(store.cost(&on_lease(7)), (3, 4, 0), "a put and the key's hanging on the lease");
    assert_eq!(store.cost(&on_lease(8)), (3, 5, 0), "and a version");
    store.pass(1000);
    // Its new time, and its new place among the expiries; what is counted stays the same.
    let keep_alive = Operation::LeaseKeepAlive(LeaseKeepAlive { id: 5000 });
    assert_eq!(store.cost(&keep_alive), (2, 2, 0));
    let asked = Operation::LeaseTimeToLive(LeaseTimeToLive { id: 8, keys: true });
    assert_eq!(store.cost(&asked), (2, 0, 1), "the lease, and its one key");
    let revoke = Operation::LeaseRevoke(LeaseRevoke { id: 8 });
    let (gets, _, scanned) = store.cost(&revoke);
    assert_eq!((gets, scanned), (3, 1), "the lease, and each of its keys");
    // Time's passing looks at the lease that expires first, and at no other.
    let (gets, puts, scanned) = store.pass(1000);
    assert_eq!((gets, puts, scanned), (1, 1, 1));
    assert_eq!(Kv::default().due(&store), Some(8_000 + SLACK));
}

#[test]
fn results_have_a_largest_size() {
    let mut kv = Instance::new();
    let each = 1 << 20;
    for index in 0..33 {
        kv.execute(&put(&format!("k{index:02}"), vec![index; each]));
    }
    let refused = Response::Error(Error::ResultTooLarge);
    let range = |limit, keys_only| Operation::Range(Range { limit, keys_only, ..all() });
    assert_eq!(kv.execute(&range(0, false)), refused);
    assert_eq!(
        kv.execute(&range(32, false)),
        refused,
        "32 values of 1 MiB and what goes with them"
    );
    let Response::Range(answer) = kv.execute(&range(31, false)) else { panic!("31 fit") };
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (31, 33, true));
    let Response::Range(answer) = kv.execute(&range(0, true)) else { panic!("keys fit") };
    assert_eq!(answer.kvs.len(), 33);
    // A deletion whose answer does not fit deletes nothing, alone and in a transaction.
    let delete = |prev_kv| DeleteRange { key: [0].into(), range_end: [0].into(), prev_kv };
    assert_eq!(kv.execute(&Operation::DeleteRange(delete(true))), refused);
    let small = || RequestOp::Put(Put { key: Bytes::from(*b"z"), ..Put::default() });
    let txn = |ops| Operation::Txn(Txn { success: ops, ..Txn::default() });
    assert_eq!(kv.execute(&txn(vec![small(), RequestOp::DeleteRange(delete(true))])), refused);
    // Nor do the answers of one transaction fit together when each would alone.
    let half = || RequestOp::Range(Range { limit: 20, ..all() });
    assert_eq!(kv.execute(&txn(vec![small(), half(), half()])), refused);
    assert!(matches!(kv.execute(&txn(vec![small(), half()])), Response::Txn(_)));
    assert!(matches!(kv.execute(&Operation::DeleteRange(delete(false))), Response::DeleteRange(_)));
}

#[test]
fn who_reads_a_copy_says_how_much_there_is_room_for() {
    let mut kv = Instance::new();
    for index in 0..40 {
        kv.execute(&put(&format!("k{index:02}"), vec![index; 1 << 20]));
    }
    let ranges = |ops: Vec<Range>| {
        let success = ops.into_iter().map(RequestOp::Range).collect();
        Operation::Txn(Txn { success, ..Txn::default() })
    };
    let keys_only = Range { keys_only: true, ..all() };
    let one = Range { limit: 1, ..all() };
    let operations = [
        Operation::Range(all()),
        Operation::Range(keys_only.clone()),
        Operation::Status,
        Operation::LeaseLeases,
        ranges(Vec::new()),
        ranges(vec![one, keys_only, all()]),
    ];
    let moment = Moment { slot: Slot(9), time: Time(9), elapsed: 0 };
    for operation in operations {
        let read = |most: usize| {
            let mut asked = 0;
            let answer = kv.kv.read_within(&kv.store, &operation, &moment, &mut |bytes| {
                asked += bytes;
                asked <= most
            });
            (answer.expect("it only reads"), asked)
        };
        let (answer, asked) = read(usize::MAX);
        assert_eq!(asked, answer.len(), "room for the answer, and for no more");
        assert!(!matches!(Response::from_bytes(&answer), Ok(Response::Error(_)) | Err(_)));
        assert_eq!(read(asked).0, answer);
        let refused = Response::Error(Error::ResultTooLarge).to_bytes();
        assert_eq!(read(asked - 1).0, refused);
        assert_eq!(read(0).0, refused);
    }
}

/// A transaction that holds `outer` transactions that hold `inner` requests each.
fn square(outer: usize, inner: usize, request: impl Fn(usize) -> RequestOp) -> Txn {
    let success = (0..outer).map(|at| {
        let success = (0..inner).map(|index| request(at * inner + index)).collect();
        RequestOp::Txn(Txn { success, ..Txn::default() })
    });
    Txn { success: success.collect(), ..Txn::default() }
}

fn put_number(index: usize) -> RequestOp {
    RequestOp::Put(Put { key: index.to_string().as_bytes().into(), ..Put::default() })
}

fn count(_: usize) -> RequestOp {
    RequestOp::Range(Range { count_only: true, ..all() })
}

#[test]
fn one_operation_looks_at_so_much_and_no_more() {
    let mut kv = Instance::new();
    // 4096 counts of everything, in a request of a few hundred kilobytes: just within the limit, and just beyond.
    let counts = Operation::Txn(square(64, 64, count));
    kv.execute(&Operation::Txn(square(64, 63, put_number)));
    const { assert!(64 * 64 * (64 * 63 + 1) <= WORK) };
    assert!(matches!(kv.execute(&counts), Response::Txn(_)));
    kv.execute(&Operation::Txn(square(64, 64, |index| put_number(10_000 + index))));
    assert_eq!(kv.execute(&counts), Response::Error(Error::TooMuchWork));
}

#[test]
fn what_a_transaction_itself_has_put_counts_as_looked_at() {
    let mut kv = Instance::new();
    let (puts, counts) = (square(62, 63, put_number), square(62, 63, count));
    const { assert!(2 * (62 * 63) * (62 * 63) > WORK) };
    let success = [puts, counts.clone(), counts].map(RequestOp::Txn).into();
    let operation = Operation::Txn(Txn { success, ..Txn::default() });
    assert_eq!(kv.execute(&operation), Response::Error(Error::TooMuchWork));
}

/// Each put of one list against each deletion of the other would be billions of comparisons.
#[test]
fn looking_for_overlaps_does_not_compare_everything_with_everything() {
    let key = |index: usize| Bytes::from(format!("{index:08}").as_bytes());
    let leaf = |from: usize| {
        let success = (from..from + 32)
            .map(|index| RequestOp::Put(Put { key: key(index), ..Put::default() }))
            .collect();
        let failure = (from..from + 32)
            .map(|index| {
                RequestOp::DeleteRange(DeleteRange {
                    key: key(1_000_000 + 2 * index),
                    ..DeleteRange::default()
                })
            })
            .collect();
        RequestOp::Txn(Txn { success, failure, ..Txn::default() })
    };
    let inner = |from: usize| {
        let success = (0..32).map(|index| leaf(from + 32 * index)).collect();
        RequestOp::Txn(Txn { success, ..Txn::default() })
    };
    let success: Vec<_> = (0..20).map(|index| inner(32 * 32 * index)).collect();
    let operation = Operation::Txn(Txn { success, ..Txn::default() });
    assert_eq!(testudo_kv::check::operation(&operation), Ok(()));
}
