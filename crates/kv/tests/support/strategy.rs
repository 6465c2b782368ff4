//! Random operations that collide with each other often enough to be interesting.
#![allow(dead_code, reason = "no test uses all of it")]

use proptest::collection::vec;
use proptest::prelude::*;
use testudo_kv::{
    Bytes, Compact, Compare, CompareTarget, DeleteRange, LeaseGrant, LeaseKeepAlive, LeaseRevoke,
    LeaseTimeToLive, Operand, Operation, Put, Range, Relation, RequestOp, SLACK, SortOrder,
    SortTarget, Txn,
};

/// Few bytes, the awkward ones among them.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(0xff)]
}

fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        60 => vec(byte(), 1),
        20 => vec(byte(), 2),
        1 => Just(Vec::new()),
    ]
    .prop_map(Bytes::from)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![3 => Just(Vec::new()), 1 => Just(vec![0]), 3 => vec(byte(), 1), 1 => vec(byte(), 2)]
        .prop_map(Bytes::from)
}

fn value() -> impl Strategy<Value = Bytes> {
    vec(byte(), 0..3).prop_map(Bytes::from)
}

fn rarely(odds: u32) -> impl Strategy<Value = bool> {
    (0..odds).prop_map(|draw| draw == 0)
}

/// Mostly zero, which is what clients leave such fields at.
fn bound() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(0), 1 => -1_i64..10]
}

fn range() -> impl Strategy<Value = Range> {
    let sorting = (
        prop_oneof![30 => 0..3, 1 => -1..5].prop_map(SortOrder),
        prop_oneof![30 => 0..5, 1 => -1..7].prop_map(SortTarget),
    );
    let revision =
        prop_oneof![3 => Just(0), 3 => -3_i64..8, 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
    let limit = prop_oneof![2 => Just(0), 3 => -1_i64..4, 1 => Just(i64::MAX)];
    let flags = (any::<bool>(), rarely(4), rarely(6));
    (key(), range_end(), limit, revision, sorting, flags, (bound(), bound(), bound(), bound()))
        .prop_map(|(key, range_end, limit, revision, sorting, flags, bounds)| Range {
            key,
            range_end,
            limit,
            revision,
            sort_order: sorting.0,
            sort_target: sorting.1,
            serializable: flags.0,
            keys_only: flags.1,
            count_only: flags.2,
            min_mod_revision: bounds.0,
            max_mod_revision: bounds.1,
            min_create_revision: bounds.2,
            max_create_revision: bounds.3,
        })
}

fn put() -> impl Strategy<Value = Put> {
    let lease = prop_oneof![30 => Just(0), 15 => 1_i64..4, 1 => any::<i64>()];
    (key(), value(), lease, any::<bool>(), rarely(8), rarely(8)).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| Put {
            key,
            // Mostly as allowed: a value beside `ignore_value` is refused before anything interesting happens.
            value: if ignore_value && value.len() < 2 { Bytes::default() } else { value },
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete_range() -> impl Strategy<Value = DeleteRange> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRange {
        key,
        range_end,
        prev_kv,
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let number = -1_i64..6;
    let operand = prop_oneof![
        1 => Just(Operand::None),
        2 => number.clone().prop_map(Operand::Version),
        2 => number.clone().prop_map(Operand::Create),
        2 => number.clone().prop_map(Operand::Mod),
        2 => value().prop_map(Operand::Value),
        1 => number.prop_map(Operand::Lease),
    ];
    let target = prop_oneof![20 => Just(None), 3 => (-1..7).prop_map(Some)];
    (-1..5, target, key(), range_end(), operand).prop_map(
        |(relation, target, key, range_end, operand)| {
            let fitting = match operand {
                Operand::None | Operand::Version(_) => 0,
                Operand::Create(_) => 1,
                Operand::Mod(_) => 2,
                Operand::Value(_) => 3,
                Operand::Lease(_) => 4,
            };
            let target = CompareTarget(target.unwrap_or(fitting));
            Compare { relation: Relation(relation), target, key, range_end, operand }
        },
    )
}

fn request() -> impl Strategy<Value = RequestOp> {
    let leaf = prop_oneof![
        1 => Just(RequestOp::None),
        30 => range().prop_map(RequestOp::Range),
        40 => put().prop_map(RequestOp::Put),
        20 => delete_range().prop_map(RequestOp::DeleteRange),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| txn_of(inner).prop_map(RequestOp::Txn))
}

fn txn_of(request: impl Strategy<Value = RequestOp> + Clone) -> impl Strategy<Value = Txn> {
    (vec(compare(), 0..3), vec(request.clone(), 0..4), vec(request, 0..3))
        .prop_map(|(compare, success, failure)| Txn { compare, success, failure })
}

/// Few leases, and rarely one that cannot be.
fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![30 => 1_i64..4, 1 => Just(0), 1 => any::<i64>()]
}

fn lease_operation() -> impl Strategy<Value = Operation> {
    let ttl = prop_oneof![20 => -1_i64..7, 1 => any::<i64>()];
    prop_oneof![
        4 => (lease(), ttl).prop_map(|(id, ttl)| Operation::LeaseGrant(LeaseGrant { id, ttl })),
        1 => lease().prop_map(|id| Operation::LeaseRevoke(LeaseRevoke { id })),
        2 => lease().prop_map(|id| Operation::LeaseKeepAlive(LeaseKeepAlive { id })),
        2 => (lease(), any::<bool>())
            .prop_map(|(id, keys)| Operation::LeaseTimeToLive(LeaseTimeToLive { id, keys })),
        1 => Just(Operation::LeaseLeases),
    ]
}

fn compact() -> impl Strategy<Value = Operation> {
    (-2_i64..14, any::<bool>())
        .prop_map(|(revision, physical)| Operation::Compact(Compact { revision, physical }))
}

/// Any operation but a status.
pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => range().prop_map(Operation::Range),
        8 => put().prop_map(Operation::Put),
        4 => delete_range().prop_map(Operation::DeleteRange),
        8 => txn_of(request().boxed()).prop_map(Operation::Txn),
        5 => lease_operation(),
        2 => compact(),
    ]
}

/// An operation, or so many milliseconds that pass without one.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Operation(Operation),
    Pass(u64),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => operation().prop_map(Step::Operation),
        1 => (0..SLACK + 6000).prop_map(Step::Pass),
    ]
}
