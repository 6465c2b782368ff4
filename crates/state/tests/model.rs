//! The map and its overlays against a plain model.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;
use testudo_contracts::{Reading, Store};
use testudo_state::{Map, Overlay};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0_u8, 1, 7, 255]), 0..4)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (key(), prop::collection::vec(any::<u8>(), 0..3)).prop_map(|(k, v)| Change::Put(k, v)),
        key().prop_map(Change::Delete),
    ]
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded)
    ]
}

fn apply(store: &mut dyn Store, model: &mut Model, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put(key, value) => {
                store.put(key, value.as_slice().into());
                model.insert(key.clone(), value.clone());
            }
            Change::Delete(key) => {
                assert_eq!(store.delete(key), model.remove(key).is_some());
            }
        }
    }
}

fn contents(map: &Map) -> Model {
    map.range(Bound::Unbounded, Bound::Unbounded).map(|(k, v)| (k.to_vec(), v.to_vec())).collect()
}

fn within(key: &[u8], from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
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

proptest! {
    #[test]
    fn an_overlay_reads_as_the_map_will_be(
        before in prop::collection::vec(change(), 0..30),
        during in prop::collection::vec(change(), 0..30),
        from in bound(), to in bound(), reverse in any::<bool>(), limit in 0_usize..6,
    ) {
        let (mut map, mut model) = (Map::new(), Model::new());
        let mut overlay = Overlay::new(&mut map);
        apply(&mut overlay, &mut model, &before);
        overlay.merge();
        prop_assert_eq!(contents(&map), model.clone());

        let (kept, kept_digest) = (model.clone(), map.digest());
        let mut overlay = Overlay::new(&mut map);
        apply(&mut overlay, &mut model, &during);
        let mut seen = Vec::new();
        overlay.scan(from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice), reverse, &mut |key, value| {
            seen.push((key.to_vec(), value.to_vec()));
            seen.len() <= limit
        });
        let mut expected: Vec<_> =
            model.iter().filter(|(key, _)| within(key, &from, &to)).map(|(k, v)| (k.clone(), v.clone())).collect();
        if reverse { expected.reverse(); }
        expected.truncate(limit + 1);
        prop_assert_eq!(seen, expected);

        drop(overlay);
        prop_assert_eq!(contents(&map), kept);
        prop_assert_eq!(map.digest(), kept_digest);
    }

    #[test]
    fn the_digest_and_size_depend_on_contents_alone(changes in prop::collection::vec(change(), 0..40)) {
        let (mut map, mut model) = (Map::new(), Model::new());
        let mut overlay = Overlay::new(&mut map);
        apply(&mut overlay, &mut model, &changes);
        overlay.merge();
        let mut fresh = Map::new();
        for (key, value) in model.iter().rev() {
            fresh.insert(key.as_slice().into(), value.as_slice().into());
        }
        prop_assert_eq!(map.digest(), fresh.digest());
        prop_assert_eq!(map.bytes(), fresh.bytes());
        prop_assert_eq!(map.len(), model.len());
        let mut other = fresh.clone();
        other.insert(vec![9].into(), vec![].into());
        prop_assert_ne!(other.digest(), fresh.digest());
    }
}
