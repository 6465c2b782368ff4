//! Keys that make trees of every shape, and a plain model of a map.
#![allow(dead_code)]

pub(crate) mod sync;

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use testudo_state::Map;

pub(crate) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

/// Few different keys, so that they meet: dense ones, each other's beginnings, ones with much in common.
pub(crate) fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => prop::collection::vec(prop::sample::select(vec![0_u8, 1, 7, 16, 255]), 0..4),
        2 => (0_u16..300).prop_map(|number| number.to_be_bytes().to_vec()),
        1 => (0_usize..60).prop_map(|length| vec![b'a'; length]),
        1 => (0_usize..60, 0_u8..3).prop_map(|(length, last)| {
            let mut key = vec![b'a'; length];
            key.push(b'b' + 8 * last);
            key
        }),
        1 => (0_u8..40).prop_map(|last| [&[b'/'; 50][..], &[last]].concat()),
    ]
}

pub(crate) fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..4)
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (key(), value()).prop_map(|(k, v)| Change::Put(k, v)),
        2 => key().prop_map(Change::Delete),
    ]
}

pub(crate) fn model() -> impl Strategy<Value = Model> {
    prop_oneof![
        1 => prop::collection::btree_map(key(), value(), 0..20),
        2 => prop::collection::btree_map(key(), value(), 0..250),
    ]
}

pub(crate) fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded)
    ]
}

pub(crate) fn of(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

pub(crate) fn within(key: &[u8], from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    (match from {
        Bound::Unbounded => true,
        Bound::Included(from) => key >= from.as_slice(),
        Bound::Excluded(from) => key > from.as_slice(),
    }) && (match to {
        Bound::Unbounded => true,
        Bound::Included(to) => key <= to.as_slice(),
        Bound::Excluded(to) => key < to.as_slice(),
    })
}

pub(crate) fn build<'a>(entries: impl IntoIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> Map {
    let mut map = Map::new();
    for (key, value) in entries {
        map.insert(key, value.as_slice().into());
    }
    map
}

pub(crate) fn contents(map: &Map) -> Model {
    plain(map.iter().map(|(key, value)| (key, value.clone()))).into_iter().collect()
}

/// Entries as plain vectors, in the order given.
pub(crate) fn plain(
    entries: impl IntoIterator<Item = (Arc<[u8]>, Arc<[u8]>)>,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    entries.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}
