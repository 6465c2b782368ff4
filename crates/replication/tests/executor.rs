//! What executing a decided batch does, and does not.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use testudo_contracts::{Batch, Moment, Service, Store};
use testudo_core::{
    Decode, Digest, FaultModel, Membership, Panicked, PublicKey, ReplicaId, Slot, Time, limits,
};
use testudo_replication::executor::Decided;
use testudo_replication::sessions::System;
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
    /// Every hundred milliseconds it notes the time; then it panics once.
    fn advance(&self, store: &mut dyn Store, moment: &Moment) -> Vec<u8> {
        if moment.elapsed < 100 {
            return Vec::new();
        }
        let time = moment.time.0.to_le_bytes().to_vec();
        store.put(b"time", time.clone().into());
        assert!(moment.elapsed < 1000, "an advance that panics");
        time
    }
    fn internal_error(&self) -> Vec<u8> {
        b"internal".to_vec()
    }
    fn too_large(&self) -> Vec<u8> {
        b"too large".to_vec()
    }
}

const CLIENT: PublicKey = PublicKey([1; 32]);

/// Whoever orders has nothing to do with it here.
fn members() -> Membership {
    Membership::first(Vec::new(), FaultModel::byzantine(0))
}

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
    let moment = state.begin(&Tape, Slot(slot), &batch, &mut guard);
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
    let mut state = Replicated::genesis(&Tape, &BTreeSet::from([CLIENT]), &members());
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
    let mut state = Replicated::genesis(&Tape, &BTreeSet::new(), &members());
    let batch =
        |time, gap_not_counted| Batch { bundles: vec![], time: Time(time), gap_not_counted };
    let first = state.begin(&Tape, Slot(1), &batch(1000, false), &mut guard);
    assert_eq!(
        (first.time, first.elapsed),
        (Time(1000), 0),
        "nothing has elapsed before time began"
    );
    let second = state.begin(&Tape, Slot(2), &batch(1250, false), &mut guard);
    assert_eq!((second.time, second.elapsed), (Time(1250), 250));
    let earlier = state.begin(&Tape, Slot(3), &batch(900, false), &mut guard);
    assert_eq!((earlier.time, earlier.elapsed), (Time(1250), 0));
    let gap = state.begin(&Tape, Slot(4), &batch(9000, true), &mut guard);
    assert_eq!((gap.time, gap.elapsed), (Time(9000), 0));
    let null = state.begin(&Tape, Slot(5), &Batch::null(), &mut guard);
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
    vary(&mut |state| state.system = System::genesis(&BTreeSet::new(), &members()));
    vary(&mut |state| state.system = System::genesis(&BTreeSet::from([CLIENT]), &members()));
    vary(&mut |state| drop(state.map.insert(Arc::from(&b"k"[..]), Arc::from(&b"v"[..]))));
    let distinct: BTreeSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len());
}

#[test]
fn what_time_brings_happens_before_operations_and_is_linked() {
    let batch = |time| Batch { bundles: vec![], time: Time(time), gap_not_counted: false };
    let mut state = Replicated::genesis(&Tape, &BTreeSet::new(), &members());
    state.begin(&Tape, Slot(1), &batch(1000), &mut guard);
    let (outcome, map) = (state.outcome, state.map.digest());
    state.begin(&Tape, Slot(2), &batch(1050), &mut guard);
    assert_eq!((state.outcome, state.map.digest()), (outcome, map), "nothing happened");
    let mut other = state.clone();
    state.begin(&Tape, Slot(3), &batch(1200), &mut guard);
    assert_eq!(
        state.map.get(b"time").map(|time| time.to_vec()),
        Some(1200_u64.to_le_bytes().into())
    );
    other.begin(&Tape, Slot(3), &batch(1201), &mut guard);
    assert_ne!(state.outcome, outcome);
    assert_ne!(state.outcome, other.outcome);
}

#[test]
fn what_time_brings_is_undone_when_it_panics() {
    let batch = |time| Batch { bundles: vec![], time: Time(time), gap_not_counted: false };
    let mut state = Replicated::genesis(&Tape, &BTreeSet::new(), &members());
    state.begin(&Tape, Slot(1), &batch(1000), &mut guard);
    let (outcome, map) = (state.outcome, state.map.digest());
    let moment = state.begin(&Tape, Slot(2), &batch(3000), &mut guard);
    assert_eq!(moment.elapsed, 2000, "the slot goes on");
    assert_eq!((state.outcome, state.map.digest()), (outcome, map));
}

#[test]
fn a_state_is_made_of_its_parts_only_if_they_are_what_the_head_says() {
    let mut state = with_session();
    execute(&mut state, 2, CLIENT, operations(1, &[b"a"]));
    let (head, system, map) = (state.head(), state.system.map().clone(), state.map.clone());
    let mut copy = Replicated::from_parts(&head, system.clone(), map.clone()).expect("its parts");
    assert_eq!(copy.digest(), state.digest());
    let next = |state: &mut Replicated| {
        let reply = execute(state, 3, CLIENT, operations(2, &[b"b"]));
        (reply, state.digest())
    };
    assert_eq!(next(&mut copy), next(&mut state));
    assert!(Replicated::from_parts(&head, map.clone(), system.clone()).is_none());
    let mut other = map;
    other.insert(Arc::from(&b"tape"[..]), Arc::from(&b"forged"[..]));
    assert!(Replicated::from_parts(&head, system, other).is_none());
}

#[test]
fn an_empty_bundle_executes_once_and_comes_to_nothing() {
    let mut state = with_session();
    let map = state.map.digest();
    assert_eq!(execute(&mut state, 2, CLIENT, operations(1, &[])), results(&[]));
    assert_eq!(state.map.digest(), map);
}
