//! Synchronisation: what it costs, in nodes, bytes, questions and memory.

mod support;

use std::sync::Arc;
use support::sync::{assert_same, fetch, many, number, synchronise};
use testudo_core::Encode;
use testudo_state::Map;
use testudo_state::sync::{Node, Place, Sync};

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
