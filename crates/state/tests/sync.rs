//! Synchronisation: whatever two maps are, and whatever is lost, repeated, late or untrue on the way.

mod support;

use proptest::prelude::*;
use support::{Model, build, key, model, value};
use testudo_core::{Decode, Encode};
use testudo_state::Map;
use testudo_state::sync::{Place, Progress, Sync};

/// One that goes over the wire, both ways.
fn sent<T: Encode + Decode>(value: &T) -> T {
    T::from_bytes(&value.to_bytes()).expect("what was encoded decodes")
}

/// Fetches all from one source; how often it was asked.
fn fetch(sync: &mut Sync, source: &Map, most: usize, bytes: usize) -> usize {
    sync.take_summary(&sent(&source.summary())).expect("it is the target's");
    let mut questions = 0;
    loop {
        let places: Vec<Place> = sync.wants(most).iter().map(sent).collect();
        if places.is_empty() {
            return questions;
        }
        questions += 1;
        assert!(places.len() <= most);
        let nodes = source.nodes(&places, bytes);
        assert!(!nodes.is_empty(), "what is wanted is there");
        for (node, place) in nodes.iter().zip(&places) {
            assert_eq!(node.place(), place);
            assert_eq!(node.to_bytes().len(), node.size());
            sync.take(&sent(node)).expect("it is true");
        }
        sync.give_back(&places[nodes.len()..]);
    }
}

/// From one map to another; how much of it travelled.
fn synchronise(from: &Map, to: &Map) -> Progress {
    let mut sync = Sync::new(to.digest(), from.clone());
    assert!(sync.wants(10).is_empty(), "nothing is known to be wanted");
    assert!(sync.finish().is_none());
    fetch(&mut sync, to, 64, 1 << 20);
    let map = sync.finish().expect("nothing is missing");
    assert_same(&map, to);
    sync.progress()
}

fn assert_same(map: &Map, expected: &Map) {
    assert_eq!(map.digest(), expected.digest());
    assert_eq!((map.len(), map.bytes()), (expected.len(), expected.bytes()));
    assert_eq!(map.statistics(), expected.statistics());
    assert_eq!(map, expected);
    assert_eq!(map.scrub(None, usize::MAX).damage, []);
}

/// Values of both kinds: those that travel within their node, and those that do not.
fn spread(model: Model) -> Map {
    let large = |value: Vec<u8>| match value.first() {
        Some(first) if first % 4 == 0 => [&value[..], &[7; 5000]].concat(),
        _ => value,
    };
    let model: Model = model.into_iter().map(|(key, value)| (key, large(value))).collect();
    build(&model)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_map_becomes_any_other(
        from in model(), to in model(), most in 1_usize..80, bytes in 0_usize..20_000,
    ) {
        let (from, to) = (spread(from), spread(to));
        let mut sync = Sync::new(to.digest(), from);
        fetch(&mut sync, &to, most, bytes);
        let map = sync.finish().expect("nothing is missing");
        assert_same(&map, &to);
        prop_assert_eq!(sync.progress().open_nodes, 0);
    }

    #[test]
    fn a_few_changes_cost_the_ways_to_them(
        model in model(), changes in prop::collection::vec((key(), prop::option::of(value())), 0..6),
    ) {
        let from = spread(model.clone());
        let mut to = from.clone();
        for (key, value) in &changes {
            match value {
                Some(value) => drop(to.insert(key, value.as_slice().into())),
                None => drop(to.remove(key)),
            }
        }
        let progress = synchronise(&from, &to);
        let depth = to.statistics().depth as u64;
        // A value may be fetched for itself; what a block lost may leave a node with another path, and its neighbour.
        prop_assert!(progress.fetched_nodes <= changes.len() as u64 * (depth + 3), "{:?}", progress);
    }
}
