//! Compaction takes effect at once, and is swept in pieces that are bounded.

#[path = "support/instance.rs"]
mod instance;
#[path = "support/model.rs"]
mod model;
#[path = "support/strategy.rs"]
mod strategy;

use instance::{Instance, contents};
use model::Model;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use strategy::Step;
use testudo_kv::{
    AutoCompaction, Bytes, Change, Compact, DeleteRange, Error, Operation, Put, Range, RequestOp,
    Response, Settings, Txn, changes,
};

/// What one slot's sweep may remove: for each of 512 changes the change, what it superseded, and a deletion.
const MOST_REMOVED: usize = 3 * 512;

fn compact(revision: i64) -> Operation {
    Operation::Compact(Compact { revision, physical: true })
}

fn put_many(from: usize, count: usize) -> Operation {
    let put = |index: usize| {
        let key = format!("{index:05}").as_bytes().into();
        RequestOp::Put(Put { key, value: Bytes::from(*b"value"), ..Put::default() })
    };
    let success = (from..from + count).map(put).collect();
    Operation::Txn(Txn { success, ..Txn::default() })
}

fn delete_all() -> Operation {
    let key = Bytes::from([0]);
    Operation::DeleteRange(DeleteRange { key: key.clone(), range_end: key, prev_kv: false })
}

fn count_at(revision: i64) -> Operation {
    let key = Bytes::from([0]);
    let range_end = key.clone();
    Operation::Range(Range { key, range_end, revision, count_only: true, ..Range::default() })
}

/// A store of 2,048 keys, made by the revisions 2 to 17 and deleted by the 18th.
fn filled_and_emptied() -> Instance {
    let mut kv = Instance::new();
    for round in 0..16 {
        kv.execute(&put_many(128 * round, 128));
    }
    kv.execute(&delete_all());
    assert_eq!(kv.kv.revision(&kv.store), 18);
    kv
}

fn changed(kv: &Instance, from: i64) -> Vec<(i64, Bytes)> {
    let mut seen = Vec::new();
    changes(&kv.store, from, i64::MAX, &mut |Change { revision, key, .. }| {
        seen.push((revision, key));
        true
    });
    seen
}

#[test]
fn a_revision_of_thousands_of_changes_is_swept_in_bounded_pieces() {
    let mut kv = filled_and_emptied();
    let seen = changed(&kv, 18);
    assert_eq!(seen.len(), 2048);
    assert_eq!(kv.due(), None);
    assert!(matches!(kv.execute(&compact(18)), Response::Compact(_)));
    let mut slots = 0;
    while kv.due() == Some(0) {
        assert!(kv.kv.swept(&kv.store) < 18);
        let before = contents(&kv.store).len();
        assert!(kv.pass(1), "a sweep that does nothing would never end");
        let removed = before.saturating_sub(contents(&kv.store).len());
        assert!(removed <= MOST_REMOVED, "{removed} entries in one slot");
        assert_eq!(
            changed(&kv, 0),
            seen,
            "what can be read stays the same however far the sweep is"
        );
        slots += 1;
    }
    // 2,048 creations and 2,048 deletions, 512 a slot; and a last slot that finds nothing more.
    assert_eq!(slots, 9);
    assert_eq!((kv.due(), kv.kv.swept(&kv.store)), (None, 18));
    // Only the deletions are left, each with its change, for watches that begin with that revision.
    assert_eq!(contents(&kv.store).len(), 1 + 2 * 2048);
}

#[test]
fn a_later_compaction_takes_over_from_a_sweep_that_is_half_done() {
    // At each point of the first sweep, which is among the deletions of revision 18 from the fifth slot on.
    for slots in 0..9 {
        let mut kv = filled_and_emptied();
        kv.execute(&compact(18));
        for _ in 0..slots {
            kv.pass(1);
        }
        kv.execute(&put_many(0, 5));
        assert!(matches!(kv.execute(&compact(19)), Response::Compact(_)));
        while kv.due() == Some(0) {
            kv.pass(1);
        }
        // Five records with their changes, and the meta entry.
        assert_eq!(contents(&kv.store).len(), 1 + 5 + 5, "after {slots} slots");
        assert_eq!(kv.execute(&count_at(18)), Response::Error(Error::Compacted));
    }
}

#[test]
fn a_store_that_is_overwritten_forever_stays_small() {
    let compaction = AutoCompaction::Revisions(32);
    let mut kv = Instance::with(Settings { compaction, ..Settings::default() });
    for round in 0..400 {
        kv.execute(&put_many(round % 7, 3));
        kv.pass(1);
        let kept = kv.kv.revision(&kv.store) - kv.kv.compacted(&kv.store);
        assert!(kept <= 32 + 2 || round < 32, "{kept} revisions are kept");
        assert!(contents(&kv.store).len() <= 1 + 9 + 2 * 3 * 34);
    }
}

#[test]
fn samples_of_time_are_few() {
    let compaction = AutoCompaction::Period { milliseconds: 60_000 };
    let mut kv = Instance::with(Settings { compaction, ..Settings::default() });
    for round in 0..600 {
        kv.execute(&put_many(round % 7, 1));
        kv.pass(100);
        let samples = contents(&kv.store).iter().filter(|(key, _)| key[0] == b'p').count();
        assert!(samples <= 17, "{samples} samples");
    }
    // A second and a tenth pass with each round, and a period's sixteenth more may be kept than asked for.
    let kept = kv.kv.revision(&kv.store) - kv.kv.compacted(&kv.store);
    assert!((60_000 / 1100..=64_000 / 1100 + 1).contains(&kept), "{kept} revisions are kept");
}

#[test]
fn an_idle_store_forgets_in_time_and_then_rests() {
    let compaction = AutoCompaction::Period { milliseconds: 16_000 };
    let mut kv = Instance::with(Settings { compaction, ..Settings::default() });
    kv.execute(&put_many(0, 3));
    kv.execute(&put_many(0, 3));
    let mut passed = 0;
    while let Some(due) = kv.due() {
        kv.pass(due);
        passed += due;
        assert!(passed <= 17_000, "it asks for slots and does nothing with them");
    }
    assert!(passed >= 16_000, "forgotten too early");
    assert_eq!(kv.kv.swept(&kv.store), 3);
}

#[test]
fn settings_are_those_that_the_store_began_with() {
    let mut kv = Instance::with(Settings { quota: 0, ..Settings::default() });
    // The instance's own service has the default settings.
    assert_eq!(kv.kv.settings, Settings::default());
    assert!(matches!(kv.execute(&put_many(0, 1)), Response::Txn(_)), "empty is not too much");
    assert_eq!(kv.execute(&put_many(0, 1)), Response::Error(Error::NoSpace));
    assert!(kv.kv.alarm(&kv.store));
}

fn settings() -> impl Strategy<Value = Settings> {
    let compaction = prop_oneof![
        Just(AutoCompaction::Off),
        (0_u64..5).prop_map(AutoCompaction::Revisions),
        (0_u64..9000).prop_map(|milliseconds| AutoCompaction::Period { milliseconds }),
    ];
    let quota = prop_oneof![3 => Just(u64::MAX), 1 => 500_u64..4000];
    (quota, compaction).prop_map(|(quota, compaction)| Settings { quota, compaction })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 800,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(3),
        ..ProptestConfig::default()
    })]

    /// Whatever a store compacts by itself, the rest is what it would be; and growth is refused exactly while there is
    /// more than the quota.
    #[test]
    fn what_is_kept_is_whole(
        settings in settings(),
        steps in prop::collection::vec(strategy::step(), 1..30),
    ) {
        let (mut kv, mut model) = (Instance::with(settings), Model::new());
        for step in &steps {
            match step {
                Step::Operation(operation) => {
                    let full = kv.kv.alarm(&kv.store);
                    let answer = kv.execute(operation);
                    if answer == Response::Error(Error::NoSpace) {
                        prop_assert!(full, "{:?}", operation);
                    } else if !matches!(answer, Response::Compact(_)) {
                        prop_assert_eq!(answer, model.execute(operation), "{:?}", operation);
                    }
                }
                Step::Pass(milliseconds) => {
                    kv.pass(*milliseconds);
                    model.pass(*milliseconds);
                }
            }
            model.compacted = kv.kv.compacted(&kv.store);
        }
        prop_assert_eq!(kv.kv.status(&kv.store, testudo_core::Time(0)).keys, model.keys());
    }
}
