//! Synchronisation: whatever two maps are, and whatever is lost, repeated, late or untrue on the way.

mod support;

use proptest::prelude::*;
use std::sync::Arc;
use support::{Model, build, key, model, value};
use testudo_core::{Decode, Encode};
use testudo_state::Map;
use testudo_state::sync::{Node, Place, Progress, Summary, Sync, SyncError};

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

fn number(number: u32) -> Vec<u8> {
    testudo_core::Digest::of(&number.to_le_bytes()).0[..16].to_vec()
}

fn many(count: u32) -> Map {
    let mut map = Map::new();
    for at in 0..count {
        map.insert(number(at), Arc::from(&[at as u8; 100][..]));
    }
    map
}

#[test]
fn one_change_among_many_costs_one_way() {
    let map = many(100_000);
    let depth = map.statistics().depth as u64;
    let mut changed = map.clone();
    changed.insert(number(500), Arc::from(&b"changed"[..]));
    let mut larger = map.clone();
    larger.insert(number(200_000), Arc::from(&b"new"[..]));
    let mut smaller = map.clone();
    smaller.remove(&number(700));
    let mut forked = map.clone();
    forked.insert(b"", Arc::from(&b"new"[..]));
    for other in [&changed, &larger, &smaller, &forked] {
        let progress = synchronise(&map, other);
        assert!((1..=depth + 1).contains(&progress.fetched_nodes), "{progress:?}, depth {depth}");
        assert!(progress.fetched_bytes < 8000, "{progress:?}");
        let progress = synchronise(other, &map);
        assert!((1..=depth + 1).contains(&progress.fetched_nodes), "{progress:?}, depth {depth}");
    }
    assert_eq!(synchronise(&map, &map).fetched_nodes, 0);
    assert_eq!(synchronise(&map, &Map::new()).fetched_nodes, 0);
    let nodes = (map.statistics().inner + map.statistics().blocks) as u64;
    assert_eq!(synchronise(&Map::new(), &map).fetched_nodes, nodes);
}

/// One key in front of all moves every other one a level down or none: what lies below stays where it is.
#[test]
fn another_common_beginning_costs_a_node() {
    let mut map = Map::new();
    for at in 0..10_000 {
        map.insert([&b"k/registry/"[..], &number(at)].concat(), Arc::from(&b"value"[..]));
    }
    let mut forked = map.clone();
    forked.insert(b"k/a", Arc::from(&b"value"[..]));
    forked.insert(b"j", Arc::from(&b"value"[..]));
    // The two nodes where keys part now, and their blocks of one.
    assert_eq!(synchronise(&map, &forked).fetched_nodes, 4);
    assert_eq!(synchronise(&forked, &map).fetched_nodes, 1);
}

/// "", "a", "aa" and so on: as deep as keys are long, and each node known only when the one above is.
#[test]
fn a_chain_is_fetched_in_few_questions() {
    const DEEP: usize = 4000;
    let all = vec![b'a'; DEEP];
    let mut map = Map::new();
    for length in 0..DEEP {
        map.insert(&all[..length], Arc::from(&b"value"[..]));
    }
    let nodes = map.statistics().inner + map.statistics().blocks;
    let mut sync = Sync::new(map.digest(), Map::new());
    let questions = fetch(&mut sync, &map, 64, 1 << 20);
    assert_same(&sync.finish().expect("nothing is missing"), &map);
    assert_eq!(sync.progress().fetched_nodes, nodes as u64);
    assert!(questions < 24, "{questions}");
    assert!(sync.progress().fetched_bytes < 1 << 20);

    // The last of all differs, so every node above it does.
    let mut other = map.clone();
    other.insert(&all[..DEEP - 1], Arc::from(&b"other"[..]));
    let progress = synchronise(&map, &other);
    assert_eq!(progress.fetched_nodes, other.statistics().depth as u64);
    // In front, all but the first are as they were.
    let mut other = map.clone();
    other.insert(&all[..1], Arc::from(&b"other"[..]));
    assert_eq!(synchronise(&map, &other).fetched_nodes, 2);
    // Half as long.
    let mut other = map.clone();
    (DEEP / 2..DEEP).for_each(|length| drop(other.remove(&all[..length])));
    synchronise(&map, &other);
    synchronise(&other, &map);
}

/// Keys that part at every nibble of a long one, with a block beside each.
#[test]
fn a_bushy_chain_is_fetched() {
    let mut map = Map::new();
    for length in 0..600 {
        for last in 0..40_u8 {
            map.insert([&vec![0x77; length][..], &[last * 6]].concat(), Arc::from(&[last][..]));
        }
    }
    let mut sync = Sync::new(map.digest(), Map::new());
    fetch(&mut sync, &map, 5, 5000);
    assert_same(&sync.finish().expect("nothing is missing"), &map);
    let nodes = map.statistics().inner + map.statistics().blocks;
    assert_eq!(sync.progress().fetched_nodes, nodes as u64);
}

#[test]
fn what_is_open_is_bounded_by_the_depth_and_what_is_on_its_way() {
    let map = many(50_000);
    let mut sync = Sync::new(map.digest(), Map::new());
    sync.take_summary(&map.summary()).expect("it is the target's");
    let (mut most, depth) = (0, map.statistics().depth);
    let mut asked: Vec<Vec<Place>> = Vec::new();
    loop {
        let places = sync.wants(16);
        asked.extend((!places.is_empty()).then_some(places));
        if asked.len() == 4 || sync.wants(1).is_empty() {
            if asked.is_empty() {
                break;
            }
            let places = asked.remove(0);
            map.nodes(&places, 1 << 20)
                .iter()
                .for_each(|node| sync.take(node).expect("it is true"));
        }
        most = most.max(sync.progress().open_nodes);
    }
    assert!(most <= depth * 4 * 16, "{most}");
}

/// A newer target is reached with all that was fetched for the older one.
#[test]
fn a_new_target_costs_what_is_new() {
    let map = many(20_000);
    let nodes = (map.statistics().inner + map.statistics().blocks) as u64;
    let mut sync = Sync::new(map.digest(), Map::new());
    sync.take_summary(&map.summary()).expect("it is the target's");
    let mut target = map;
    for round in 0..20_u32 {
        for _ in 0..10 {
            let places = sync.wants(64);
            let nodes = target.nodes(&places, usize::MAX);
            nodes.iter().for_each(|node| sync.take(node).expect("it is true"));
        }
        for change in 0..10 {
            target.insert(number(round * 100 + change), Arc::from(&b"changed"[..]));
            target.remove(&number(10_000 + round * 100 + change));
            target.insert(number(100_000 + round * 100 + change), Arc::from(&b"new"[..]));
        }
        sync.retarget(target.digest());
        sync.retarget(target.digest());
        assert!(sync.finish().is_none());
        sync.take_summary(&target.summary()).expect("it is the target's");
    }
    fetch(&mut sync, &target, 64, 1 << 20);
    assert_same(&sync.finish().expect("nothing is missing"), &target);
    let changed = 20 * 30 * (target.statistics().depth as u64 + 1);
    let fetched = sync.progress().fetched_nodes;
    assert!(fetched <= nodes + changed, "{fetched} of {nodes} and {changed}");
    // It goes on from where it is, too.
    let mut later = target.clone();
    later.insert(number(1), Arc::from(&b"later"[..]));
    sync.retarget(later.digest());
    fetch(&mut sync, &later, 64, 1 << 20);
    assert_same(&sync.finish().expect("nothing is missing"), &later);
    let depth = later.statistics().depth as u64;
    assert!(sync.progress().fetched_nodes <= fetched + depth);
}

/// What bad memory has changed is found, told apart from what is whole, and fetched, from every kind of node.
#[test]
fn bad_memory_is_found_and_fetched() {
    let mut map = many(3000);
    map.insert(&number(5)[..1], Arc::from(&b"in an inner node"[..]));
    map.insert(b"large", vec![1; 100_000].into());
    map.insert(b"empty", Arc::default());
    for key in [&number(5)[..1], b"large", &number(6)] {
        let mut rotten = map.clone();
        assert!(rotten.garble(key, 7) && rotten.get(key) != map.get(key));
        assert!(
            !rotten.garble(key, 1 << 30)
                && !rotten.garble(b"empty", 0)
                && !rotten.garble(b"none", 0)
        );
        assert_eq!(rotten.digest(), map.digest(), "nobody was told");
        assert_eq!(map.scrub(None, usize::MAX).damage, []);
        let damage = rotten.scrub(None, usize::MAX).damage;
        assert_eq!(damage.iter().map(|d| (&*d.first, &*d.last)).collect::<Vec<_>>(), [(key, key)]);
        rotten.distrust(&damage);
        assert_ne!(rotten.digest(), map.digest());
        let progress = synchronise(&rotten, &map);
        assert!(progress.fetched_nodes <= map.statistics().depth as u64 + 1);
    }
}

/// However long keys are, questions are not.
#[test]
fn long_keys_make_questions_of_fewer_places() {
    const LONG: usize = 100_000;
    let mut map = Map::new();
    for at in 0..400_u16 {
        map.insert([&vec![b'k'; LONG][..], &at.to_be_bytes()].concat(), Arc::from(&b"value"[..]));
    }
    let mut sync = Sync::new(map.digest(), Map::new());
    sync.take_summary(&map.summary()).expect("it is the target's");
    let mut questions = 0;
    loop {
        let places = sync.wants(64);
        if places.is_empty() {
            break;
        }
        questions += 1;
        assert!(places.to_bytes().len() <= Sync::QUESTION_BYTES + LONG + 10);
        map.nodes(&places, usize::MAX).iter().for_each(|node| sync.take(node).expect("it is true"));
    }
    assert!(questions > 10);
    assert_same(&sync.finish().expect("nothing is missing"), &map);
}

/// A newer checkpoint may have the same digest. Who drops his questions with the old one is told all that is missing.
#[test]
fn a_new_target_that_is_the_same_loses_nothing() {
    let map = many(5000);
    let nodes = (map.statistics().inner + map.statistics().blocks) as u64;
    let mut sync = Sync::new(map.digest(), Map::new());
    for _ in 0..30 {
        sync.take_summary(&map.summary()).expect("it is the target's");
        let places = sync.wants(20);
        map.nodes(&places[..=places.len() / 2], usize::MAX)
            .iter()
            .for_each(|node| sync.take(node).expect("it is true"));
        sync.retarget(map.digest());
    }
    fetch(&mut sync, &map, 64, 1 << 20);
    assert_same(&sync.finish().expect("nothing is missing"), &map);
    assert_eq!(sync.progress().fetched_nodes, nodes, "nothing is fetched twice");
}

/// A block of the largest values: none but what differs travels, one by one, and what does not is shared.
#[test]
fn large_values_travel_by_themselves() {
    const LARGE: usize = 3 << 19;
    let mut map = Map::new();
    for at in 0..16_u8 {
        map.insert([b'v', at], vec![at; LARGE].into());
    }
    map.insert(b"v", vec![16; LARGE].into());
    assert_eq!(map.statistics().inner, 1, "one has its value in an inner node");

    let mut sync = Sync::new(map.digest(), Map::new());
    sync.take_summary(&map.summary()).expect("it is the target's");
    let mut values = 0;
    loop {
        let places = sync.wants(20);
        if places.is_empty() {
            break;
        }
        let nodes = map.nodes(&places, 1 << 20);
        assert!(nodes.iter().all(|node| node.size() < LARGE + 100));
        assert!(nodes.len() == 1 || nodes.iter().map(Node::size).sum::<usize>() <= 1 << 20);
        values += nodes.iter().filter(|node| node.size() > LARGE).count();
        nodes.iter().for_each(|node| sync.take(node).expect("it is true"));
        sync.give_back(&places[nodes.len()..]);
    }
    assert_eq!(values, 17);
    assert_same(&sync.finish().expect("nothing is missing"), &map);

    let mut other = map.clone();
    other.insert([b'v', 3], vec![0; LARGE].into());
    other.remove(&[b'v', 4]);
    other.insert(b"w", vec![0; 4096].into());
    for (from, to, bytes) in [(&map, &other, LARGE + 4096), (&other, &map, 2 * LARGE)] {
        let mut sync = Sync::new(to.digest(), from.clone());
        fetch(&mut sync, to, 20, 1 << 20);
        let synchronised = sync.finish().expect("nothing is missing");
        assert_same(&synchronised, to);
        assert!(sync.progress().fetched_bytes < bytes as u64 + 2000, "{:?}", sync.progress());
        let shared = |key: &[u8]| {
            Arc::ptr_eq(&synchronised.get(key).unwrap().clone(), from.get(key).unwrap())
        };
        assert!(shared(&[b'v', 5]) && shared(b"v") && !shared(&[b'v', 3]));
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
