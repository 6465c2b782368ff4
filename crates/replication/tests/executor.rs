//! What executing a decided batch does, and does not.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use testudo_contracts::{Batch, Moment, Service, Store};
use testudo_core::{Decode, Digest, Panicked, PublicKey, ReplicaId, Slot, Time, limits};
use testudo_replication::executor::Decided;
use testudo_replication::{Bundle, Replicated, ReplyBody, Request};

/// Appends to one entry; panics or swells on demand, each after it has changed something.
struct Tape;

impl Service for Tape {
    const VERSION: u32 = 1;
    fn genesis(&self, store: &mut dyn Store) {
        store.put(b"tape", Arc::from(&b""[..]));
    }
    fn execute(&self, store: &mut dyn Store, operation: &[u8], _: &Moment) -> Vec<u8> {
        let mut tape = store.get(b"tape").map(|tape| tape.to_vec()).unwrap_or_default();
        tape.extend_from_slice(operation);
        store.put(b"tape", tape.clone().into());
        match operation {
            b"!" => panic!("an operation that panics"),
            b"huge" => vec![0; limits::RESULT_BYTES + 1],
            _ => tape,
        }
    }
    fn internal_error(&self) -> Vec<u8> {
        b"internal".to_vec()
    }
    fn too_large(&self) -> Vec<u8> {
        b"too large".to_vec()
    }
}

const CLIENT: PublicKey = PublicKey([1; 32]);

fn guard(run: &mut dyn FnMut()) -> Result<(), Panicked> {
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(run)).map_err(|_| Panicked);
    drop(std::panic::take_hook());
    outcome
}

fn execute(state: &mut Replicated, slot: u64, client: PublicKey, request: Request) -> ReplyBody {
    let bundle = Bundle { replier: ReplicaId(0), request };
    let digest = Digest::of_value(&bundle);
    let batch = Batch { bundles: vec![digest], time: Time(slot * 10), gap_not_counted: false };
    let moment = state.begin(Slot(slot), &batch);
    let decided = Decided { client, digest, bundle: &bundle };
    let remembered = state.execute(&Tape, decided, &moment, &mut guard);
    ReplyBody::from_bytes(&remembered.body).expect("a reply that can be read")
}

fn operations(sequence: u64, operations: &[&[u8]]) -> Request {
    let operations = operations.iter().map(|operation| Arc::from(*operation)).collect();
    Request::Operations { session: 1, sequence, operations }
}

fn results(results: &[&[u8]]) -> ReplyBody {
    ReplyBody::Results(results.iter().map(|result| Arc::from(*result)).collect())
}

fn with_session() -> Replicated {
    let mut state = Replicated::genesis(&Tape, BTreeSet::from([CLIENT]));
    assert_eq!(
        execute(&mut state, 1, CLIENT, Request::Register { nonce: 5 }),
        ReplyBody::Registered(1)
    );
    state
}

#[test]
fn an_operation_that_panics_is_undone_and_its_neighbours_are_not() {
    let mut state = with_session();
    let reply = execute(&mut state, 2, CLIENT, operations(1, &[b"a", b"!", b"b"]));
    assert_eq!(reply, results(&[b"a", b"internal", b"ab"]));
}

#[test]
fn results_beyond_the_limit_are_refused_and_undone() {
    let mut state = with_session();
    let reply = execute(&mut state, 2, CLIENT, operations(1, &[b"a", b"huge", b"b"]));
    assert_eq!(reply, results(&[b"a", b"too large", b"ab"]));
}

#[test]
fn a_bundle_that_is_ordered_twice_executes_once() {
    let mut state = with_session();
    let first = execute(&mut state, 2, CLIENT, operations(1, &[b"a"]));
    let again = execute(&mut state, 3, CLIENT, operations(1, &[b"a"]));
    assert_eq!(first, again);
    assert_eq!(execute(&mut state, 4, CLIENT, operations(2, &[b"b"])), results(&[b"ab"]));
}

#[test]
fn a_stranger_changes_nothing() {
    let mut state = with_session();
    let map = state.map.digest();
    let stranger = PublicKey([9; 32]);
    assert_eq!(
        execute(&mut state, 2, stranger, Request::Register { nonce: 5 }),
        ReplyBody::NotAdmitted
    );
    assert_eq!(execute(&mut state, 3, stranger, operations(1, &[b"x"])), ReplyBody::NotAdmitted);
    assert_eq!(state.map.digest(), map);
}

#[test]
fn agreed_time_never_falls_and_gaps_are_not_counted() {
    let mut state = Replicated::genesis(&Tape, BTreeSet::new());
    let batch =
        |time, gap_not_counted| Batch { bundles: vec![], time: Time(time), gap_not_counted };
    let first = state.begin(Slot(1), &batch(1000, false));
    assert_eq!(
        (first.time, first.elapsed),
        (Time(1000), 0),
        "nothing has elapsed before time began"
    );
    let second = state.begin(Slot(2), &batch(1250, false));
    assert_eq!((second.time, second.elapsed), (Time(1250), 250));
    let earlier = state.begin(Slot(3), &batch(900, false));
    assert_eq!((earlier.time, earlier.elapsed), (Time(1250), 0));
    let gap = state.begin(Slot(4), &batch(9000, true));
    assert_eq!((gap.time, gap.elapsed), (Time(9000), 0));
    let null = state.begin(Slot(5), &Batch::null());
    assert_eq!((null.time, null.elapsed), (Time(9000), 0));
}

#[test]
fn the_digest_covers_everything() {
    let state = with_session();
    let mut digests = vec![state.digest()];
    let mut vary = |change: &mut dyn FnMut(&mut Replicated)| {
        let mut other = state.clone();
        change(&mut other);
        digests.push(other.digest());
    };
    vary(&mut |state| state.slot = Slot(77));
    vary(&mut |state| state.chain = Digest::of(b"another order"));
    vary(&mut |state| state.outcome = Digest::of(b"other results"));
    vary(&mut |state| state.time = Time(77));
    vary(&mut |state| state.version = 77);
    vary(&mut |state| state.clients = BTreeSet::new());
    vary(&mut |state| state.sessions = testudo_replication::sessions::Sessions::default());
    vary(&mut |state| drop(state.map.insert(Arc::from(&b"k"[..]), Arc::from(&b"v"[..]))));
    let distinct: BTreeSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len());
}
