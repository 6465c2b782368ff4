//! Synchronisation: whatever two maps are, and whatever is lost, repeated, late or untrue on the way.

mod support;

use proptest::prelude::*;
use support::sync::{assert_same, fetch, many, synchronise};
use support::{Model, build, key, model, value};
use testudo_core::{Decode, Encode};
use testudo_state::Map;
use testudo_state::sync::{Node, Place, Summary, Sync, SyncError};

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
        let from = spread(model);
        let mut to = from.clone();
        for (key, value) in &changes {
            match value {
                Some(value) => drop(to.insert(key, value.as_slice().into())),
                None => drop(to.remove(key)),
            }
        }
        let progress = synchronise(&from, &to);
        let depth = to.statistics().depth as u64;
        prop_assert!(progress.fetched_nodes <= changes.len() as u64 * (depth + 1), "{:?}", progress);
    }

    /// Several sources answer in any order, some twice, some never, some with lies, some what was not asked; and midway
    /// the target changes.
    #[test]
    fn whatever_sources_do_the_map_is_the_targets(
        maps in [model(), model(), model(), model()], events in prop::collection::vec(event(), 0..120),
        retarget in 0_usize..120,
    ) {
        let [local, first, second, other] = maps.map(spread);
        let mut world = World::new(local, first, other);
        for (at, event) in events.into_iter().enumerate() {
            if at == retarget {
                world.retarget(second.clone());
            }
            world.happen(event);
        }
        let World { mut sync, target, asked, .. } = world;
        asked.iter().for_each(|places| sync.give_back(places));
        fetch(&mut sync, &target, 8, 4000);
        assert_same(&sync.finish().expect("nothing is missing"), &target);
    }

    /// A node has one form, and of what is nearly true nothing is taken.
    #[test]
    fn a_changed_node_is_refused(
        model in model(), steps in 0_usize..6, at in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let map = spread(model);
        let mut sync = Sync::new(map.digest(), Map::new());
        sync.take_summary(&map.summary()).unwrap();
        for _ in 0..steps {
            let places = sync.wants(3);
            map.nodes(&places, usize::MAX).iter().for_each(|node| sync.take(node).unwrap());
        }
        for node in map.nodes(&sync.wants(20), usize::MAX) {
            let mut bytes = node.to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(changed) = Node::from_bytes(&bytes) {
                prop_assert_eq!(changed.to_bytes(), bytes);
                // At another place it may be one that is here already, or the same as one that is wanted there.
                let is_taken = sync.take(&changed).is_ok();
                prop_assert!(!is_taken || changed.place() != node.place());
            }
            sync.take(&node).unwrap();
        }
        fetch(&mut sync, &map, 50, 1 << 20);
        assert_same(&sync.finish().unwrap(), &map);
    }

    #[test]
    fn any_bytes_are_refused_or_one_nodes(bytes in prop::collection::vec(any::<u8>(), 0..200), start in 0_u8..3) {
        let bytes = [&[start % 3, 0, 0, 0, 0, start][..], &bytes].concat();
        if let Ok(node) = Node::from_bytes(&bytes) {
            prop_assert_eq!(node.to_bytes().len(), node.size());
            prop_assert_eq!(node.to_bytes(), bytes.clone());
        }
        if let Ok(place) = Place::from_bytes(&bytes) {
            prop_assert_eq!(place.to_bytes(), bytes);
        }
    }
}

/// What happens to questions that are on their way; the number says to which.
#[derive(Clone, Copy, Debug)]
enum Event {
    Ask(usize),
    /// Is answered, as far as it fits.
    Answer(usize, usize),
    /// Is answered twice.
    Repeat(usize),
    /// Is given up, and answered nevertheless.
    Late(usize),
    Lose(usize),
    /// Is answered from another map.
    Lie(usize),
    /// Is answered with the nodes of other places.
    Mistake(usize),
    /// A summary comes: the target's, or another's.
    Summary(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1_usize..10).prop_map(Event::Ask),
        4 => (0_usize..8, 0_usize..9000).prop_map(|(which, bytes)| Event::Answer(which, bytes)),
        1 => (0_usize..8).prop_map(Event::Repeat),
        1 => (0_usize..8).prop_map(Event::Late),
        1 => (0_usize..8).prop_map(Event::Lose),
        1 => (0_usize..8).prop_map(Event::Lie),
        1 => (0_usize..8).prop_map(Event::Mistake),
        2 => any::<bool>().prop_map(Event::Summary),
    ]
}

struct World {
    sync: Sync,
    target: Map,
    other: Map,
    asked: Vec<Vec<Place>>,
}

impl World {
    fn new(local: Map, target: Map, other: Map) -> Self {
        let sync = Sync::new(target.digest(), local);
        Self { sync, target, other, asked: Vec::new() }
    }

    fn retarget(&mut self, target: Map) {
        self.sync.retarget(target.digest());
        self.target = target;
        self.asked.clear();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ask(most) => {
                let places = self.sync.wants(most);
                let handed_out = self.asked.iter().flatten();
                assert!(handed_out.into_iter().all(|place| !places.contains(place)));
                self.asked.extend((!places.is_empty()).then_some(places));
            }
            Event::Summary(is_true) => {
                let map = if is_true { &self.target } else { &self.other };
                let is_targets = map.digest() == self.target.digest();
                let expected = if is_targets { Ok(()) } else { Err(SyncError::WrongDigest) };
                assert_eq!(self.sync.take_summary(&map.summary()), expected);
            }
            Event::Answer(which, _)
            | Event::Repeat(which)
            | Event::Late(which)
            | Event::Lose(which)
            | Event::Lie(which)
            | Event::Mistake(which) => {
                if self.asked.is_empty() {
                    return;
                }
                let places = self.asked.remove(which % self.asked.len());
                self.answer(event, &places);
            }
        }
    }

    fn answer(&mut self, event: Event, places: &[Place]) {
        let Self { sync, target, other, .. } = self;
        let mut answer = |max_bytes| {
            let nodes = target.nodes(places, max_bytes);
            assert!(!nodes.is_empty());
            nodes.iter().for_each(|node| sync.take(node).expect("it is true"));
            nodes.len()
        };
        match event {
            Event::Answer(_, bytes) => {
                let answered = answer(bytes);
                sync.give_back(&places[answered..]);
            }
            Event::Repeat(_) => {
                answer(usize::MAX);
                answer(usize::MAX);
            }
            Event::Late(_) => {
                sync.give_back(places);
                let more = sync.wants(3);
                sync.give_back(&more);
                target
                    .nodes(places, usize::MAX)
                    .iter()
                    .for_each(|node| sync.take(node).expect("it is true"));
            }
            Event::Lie(_) => {
                for node in other.nodes(places, usize::MAX) {
                    let is_true = target.nodes(&[node.place().clone()], usize::MAX)[0] == node;
                    let taken = sync.take(&node);
                    // Below a node that is the same others may differ.
                    assert!(taken.is_ok() || !is_true, "{taken:?}");
                }
                sync.give_back(places);
            }
            Event::Mistake(_) => {
                let mut elsewhere = Sync::new(other.digest(), Map::new());
                elsewhere.take_summary(&other.summary()).expect("it is the target's");
                let nodes = other.nodes(&elsewhere.wants(10), usize::MAX);
                for node in &nodes {
                    let _ = sync.take(node);
                }
                sync.give_back(places);
            }
            _ => sync.give_back(places),
        }
    }
}

/// A certified summary whose counts are not those of its tree leads to no map; and neither does anything panic.
#[test]
fn a_summary_that_counts_wrong_gives_no_map() {
    let map = many(100);
    let wrong = Summary { entries: 101, ..map.summary() };
    let mut sync = Sync::new(wrong.digest(), Map::new());
    for _ in 0..2 {
        sync.take_summary(&wrong).expect("it is the target's");
        loop {
            let places = sync.wants(50);
            if places.is_empty() {
                break;
            }
            let nodes = map.nodes(&places, usize::MAX);
            nodes.iter().for_each(|node| sync.take(node).expect("it is true"));
        }
        assert!(sync.finish().is_none());
    }
    assert_eq!(sync.take_summary(&map.summary()), Err(SyncError::WrongDigest));
    let nothing = Summary { entries: 1, bytes: 0, root: None };
    let mut sync = Sync::new(nothing.digest(), map);
    sync.take_summary(&nothing).expect("it is the target's");
    assert!(sync.finish().is_none() && sync.wants(9).is_empty());
}

/// What nobody has is not found, and ends an answer.
#[test]
fn a_place_that_is_not_there_ends_an_answer() {
    let (map, other) = (many(1000), many(10));
    assert_eq!(Map::new().nodes(&[Place::root()], usize::MAX), []);
    let mut sync = Sync::new(map.digest(), Map::new());
    assert_eq!(sync.take(&map.nodes(&[Place::root()], 0)[0]), Err(SyncError::Unasked));
    sync.take_summary(&map.summary()).expect("it is the target's");
    let root = sync.wants(1);
    sync.take(&map.nodes(&root, 0)[0]).expect("it is true");
    let mut places = sync.wants(3);
    places.insert(1, Place::root());
    assert_eq!(other.nodes(&places, usize::MAX), []);
    assert_eq!(map.nodes(&places, usize::MAX).len(), 4);
    assert_eq!(map.nodes(&places, 0).len(), 1);
    places.swap(0, 1);
    assert_eq!(other.nodes(&places, usize::MAX).len(), 1);
    assert_eq!(sync.take(&other.nodes(&places, usize::MAX)[0]), Ok(()), "the root is here already");
}
