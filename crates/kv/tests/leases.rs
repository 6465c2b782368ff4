//! Leases: how many there may be, what they cost, and how they end.

#[path = "support/instance.rs"]
mod instance;

use instance::Instance;
use testudo_contracts::Moment;
use testudo_core::{Decode, Slot, Time};
use testudo_kv::{
    Bytes, Change, Error, LONGEST_STRETCH, LeaseGrant, LeaseKeepAlive, LeaseLeasesResponse,
    LeaseRevoke, LeaseTimeToLive, LeaseTimeToLiveResponse, Operation, Put, RequestOp, Response,
    SLACK, Txn, changes,
};

fn grant(id: i64, ttl: i64) -> Operation {
    Operation::LeaseGrant(LeaseGrant { id, ttl })
}

fn put(key: &str, lease: i64) -> Put {
    Put { key: key.as_bytes().into(), lease, ..Put::default() }
}

fn leases(kv: &mut Instance) -> LeaseLeasesResponse {
    match kv.execute(&Operation::LeaseLeases) {
        Response::LeaseLeases(leases) => leases,
        other => panic!("{other:?}"),
    }
}

/// Grants leases and hangs keys on them, without the checks of everything that the instance makes.
fn grant_many(kv: &mut Instance, count: i64, ttl: i64) {
    for id in 1..=count {
        kv.execute_unchecked(&grant(id, ttl));
        kv.execute_unchecked(&Operation::Put(put(&format!("key{id}"), id)));
    }
}

#[test]
fn thousands_of_leases_that_are_due_at_once_end_over_several_slots() {
    let mut kv = Instance::new();
    grant_many(&mut kv, 1000, 10);
    let revision = kv.kv.revision(&kv.store);
    assert_eq!(kv.due(), Some(10_000 + SLACK));
    assert!(!kv.pass(9_999 + SLACK));
    assert_eq!(kv.due(), Some(100), "a little patience lets more fall due");
    let mut ended = Vec::new();
    loop {
        kv.pass(1);
        let last = ended.last().copied().unwrap_or(0);
        ended.push(kv.kv.revision(&kv.store) - revision);
        assert!(ended[ended.len() - 1] - last <= 256, "too many at once");
        if kv.due() != Some(0) {
            break;
        }
        // Those that wait for their end are dead already.
        let id = 1000;
        let answer = kv.execute(&Operation::LeaseKeepAlive(LeaseKeepAlive { id }));
        assert!(matches!(answer, Response::LeaseKeepAlive(answer) if answer.ttl == 0));
        let answer = kv.execute(&Operation::LeaseTimeToLive(LeaseTimeToLive { id, keys: true }));
        assert!(matches!(answer, Response::LeaseTimeToLive(answer) if answer.ttl == -1));
        assert_eq!(
            kv.execute(&Operation::Put(put("late", id))),
            Response::Error(Error::LeaseNotFound)
        );
        assert_eq!(kv.execute(&grant(id, 5)), Response::Error(Error::LeaseExists));
        assert_eq!(leases(&mut kv).leases, []);
    }
    assert_eq!(ended, [256, 512, 768, 1000]);
    assert_eq!(kv.due(), None);
    assert!(matches!(kv.execute(&grant(1000, 5)), Response::LeaseGrant(_)));
}

/// What has passed since the last slot is lost when the primary changes, so it is never long while there are leases.
#[test]
fn the_time_of_an_idle_stretch_is_agreed_on_in_steps() {
    let mut kv = Instance::new();
    assert_eq!(kv.due(), None, "nothing expires, so time need not pass");
    grant_many(&mut kv, 1, 100);
    let mut steps = Vec::new();
    while let Some(due) = kv.due() {
        assert!(due <= LONGEST_STRETCH);
        kv.pass(due);
        steps.push(due);
    }
    assert_eq!(steps, [30_000, 30_000, 30_000, 10_000 + SLACK]);
    assert_eq!(leases(&mut kv).leases, [], "it lived no longer for that");
}

#[test]
fn a_dead_lease_can_be_revoked_before_it_is_ended() {
    let mut kv = Instance::new();
    grant_many(&mut kv, 300, 10);
    kv.pass(10_000 + SLACK);
    let revision = kv.kv.revision(&kv.store);
    let revoke = Operation::LeaseRevoke(LeaseRevoke { id: 300 });
    let answer = kv.execute(&revoke);
    assert!(matches!(answer, Response::LeaseRevoke(answer) if answer.revision == revision + 1));
    assert_eq!(kv.execute(&revoke), Response::Error(Error::LeaseNotFound));
}

#[test]
fn all_keys_of_a_lease_go_in_one_revision_however_many_they_are() {
    let mut kv = Instance::new();
    kv.execute(&grant(7, 10));
    kv.execute(&grant(8, 10));
    for round in 0..40 {
        let success = (0..128).map(|index| RequestOp::Put(put(&format!("{round}/{index}"), 7)));
        let success = success.collect();
        kv.execute_unchecked(&Operation::Txn(Txn { success, ..Txn::default() }));
    }
    kv.execute(&Operation::Put(put("other", 8)));
    let revision = kv.kv.revision(&kv.store);
    assert!(kv.pass(10_000 + SLACK));
    assert_eq!(kv.kv.revision(&kv.store), revision + 1);
    let mut deleted = 0;
    changes(&kv.store, revision + 1, i64::MAX, &mut |Change { record, .. }| {
        assert_eq!(record, None);
        deleted += 1;
        true
    });
    assert_eq!(deleted, 40 * 128);
    // So many were enough for one slot: the other lease is next.
    assert_eq!(kv.due(), Some(0));
    kv.pass(1);
    assert_eq!((kv.kv.revision(&kv.store), kv.due()), (revision + 2, None));
}

/// Whatever number a lease has, its keys are its own.
#[test]
fn the_keys_of_neighbouring_leases_are_not_mixed_up() {
    let mut kv = Instance::new();
    let ids = [i64::MIN, i64::MIN + 1, -256, -2, -1, 1, 2, 255, 256, i64::MAX - 1, i64::MAX];
    for id in ids {
        kv.execute(&grant(id, 10));
        kv.execute(&Operation::Put(put(&format!("one of {id}"), id)));
        kv.execute(&Operation::Put(put(&format!("other of {id}"), id)));
    }
    for id in ids {
        let asked = Operation::LeaseTimeToLive(LeaseTimeToLive { id, keys: true });
        let Response::LeaseTimeToLive(answer) = kv.execute(&asked) else { panic!("{id}") };
        let expected = [format!("one of {id}"), format!("other of {id}")];
        let expected: Vec<Bytes> = expected.iter().map(|key| key.as_bytes().into()).collect();
        assert_eq!(answer.keys, expected);
    }
}

/// A reader's clock goes on after the last slot; what it shows is never more than what is left.
#[test]
fn a_reader_counts_what_has_passed_since_the_last_slot() {
    let mut kv = Instance::new();
    kv.execute(&grant(7, 10));
    kv.pass(3_000);
    let asked = Operation::LeaseTimeToLive(LeaseTimeToLive { id: 7, keys: true });
    let read = |elapsed| {
        let moment = Moment { slot: Slot(9), time: Time(9), elapsed };
        let bytes = kv.kv.read(&kv.store, &asked, &moment).expect("it only reads");
        match Response::from_bytes(&bytes) {
            Ok(Response::LeaseTimeToLive(LeaseTimeToLiveResponse { ttl, .. })) => ttl,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([0, 999, 1000, 6_500, 7_000, 99_000].map(read), [7, 6, 6, 0, 0, 0]);
    assert_eq!(read(u64::MAX), 0);
}

/// Agreed time may stand still, or be left out of the lease clock: neither brings a lease nearer to its end.
#[test]
fn only_what_counts_as_elapsed_ages_a_lease() {
    let mut kv = Instance::new();
    kv.execute(&grant(7, 2));
    for _ in 0..50 {
        kv.execute(&Operation::Status);
        kv.pass(0);
    }
    assert_eq!(kv.due(), Some(2_000 + SLACK));
    assert_eq!(leases(&mut kv).leases, [7]);
}

#[test]
fn a_lease_of_the_longest_time_never_overflows() {
    let mut kv = Instance::new();
    kv.execute(&grant(7, 9_000_000_000));
    kv.execute(&Operation::Put(Put { value: Bytes::from(*b"1"), ..put("a", 7) }));
    kv.pass(u64::MAX / 2);
    assert_eq!(leases(&mut kv).leases, [0; 0], "even that time is over at last");
    kv.execute(&grant(8, 9_000_000_000));
    assert_eq!(leases(&mut kv).leases, [8]);
}
