//! The map under keys that are chosen to hurt it: what it does is counted, and held to what its shape promises.

use crate::node::{BLOCK_ENTRIES, Block, Child};
use crate::path::nibble;
use crate::suffixes::Suffixes;
use crate::sync::Sync;
use crate::tally::{Tally, tallied};
use crate::{Damage, Import, Map};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Bound;
use proptest::prelude::*;
use testudo_contracts::Reading;
use testudo_core::Digest;

fn value() -> Arc<[u8]> {
    Arc::from(&b"value"[..])
}

/// What one change may do: it looks at each node on its way once or twice, copies these and what a node that collapses
/// holds, and dirties no others.
fn is_modest(tally: Tally, depth: usize) -> bool {
    let Tally { visited, copied, hashed, values_hashed } = tally;
    visited <= 2 * depth + 2
        && copied <= depth + BLOCK_ENTRIES + 1
        && hashed == 0
        && values_hashed == 0
}

/// Puts and removes a key with a clone held, and checks what it costs; and that the map is then as if it had never been.
fn disturb(map: &mut Map, key: &[u8]) {
    let (before, depth) = (map.digest(), map.statistics().depth);
    let held = map.clone();
    let ((), put) = tallied(|| drop(map.insert(key, value())));
    assert!(is_modest(put, depth), "{put:?} in a map of depth {depth}");
    let (_, hashing) = tallied(|| map.digest());
    assert!(hashing.hashed <= depth + BLOCK_ENTRIES + 2, "{hashing:?} in a map of depth {depth}");
    assert!(hashing.values_hashed <= 1, "{hashing:?}");
    let (_, again) = tallied(|| map.digest());
    assert_eq!(again.hashed, 0);
    let held_too = map.clone();
    let old = held.get(key).cloned();
    let ((), removal) = tallied(|| match old {
        None => drop(map.remove(key)),
        Some(old) => drop(map.insert(key, old)),
    });
    assert!(is_modest(removal, depth + 2), "{removal:?} in a map of depth {depth}");
    assert_eq!(map.digest(), before);
    assert_eq!(map.statistics(), held.statistics());
    drop((held, held_too));
}

/// "", "a", "aa" and so on: each key parts from the next one only where it ends.
#[test]
fn a_chain_as_deep_as_keys_are_long_breaks_nothing() {
    const DEEP: usize = 64 << 10;
    let all = vec![b'a'; DEEP];
    let mut import = Import::new();
    for length in 0..DEEP {
        import.push(&all[..length], value());
    }
    let mut map = import.finish();
    let statistics = map.statistics();
    assert!(statistics.depth > DEEP - 2 * BLOCK_ENTRIES, "{statistics:?}");
    let (root, tally) = tallied(|| map.digest());
    assert_eq!(tally.hashed, statistics.inner + statistics.blocks);

    disturb(&mut map, &all);
    disturb(&mut map, b"ab");
    let mut entries = 0;
    map.scan(Bound::Unbounded, Bound::Unbounded, true, &mut |key, _| {
        entries += 1;
        key.len() == DEEP - entries
    });
    assert_eq!(entries, DEEP);

    let proof = map.prove_key(&all);
    assert_eq!(proof.verify_key(&root, &all), Ok(None));
    let chunk = map.chunk(Some(&all[..DEEP - 100]), 1 << 20);
    let part = chunk.verify(&root, Some(&all[..DEEP - 100])).expect("it is true");
    assert_eq!(part.into_entries().next().expect("there are more").0.len(), DEEP - 99);
    assert!(map.chunk(None, 1 << 20).verify(&root, None).is_ok());

    let mut other = map.clone();
    other.remove(&all[..DEEP - 1]);
    other.insert(&all[..DEEP / 2], Arc::from(&b"other"[..]));
    let mut differing = Vec::new();
    map.diff(&other, |key, _, _| {
        differing.push(key.len());
        true
    });
    assert_eq!(differing, [DEEP / 2, DEEP - 1]);
    assert_eq!(map.scrub(None, usize::MAX).damage, []);
    assert_eq!(map.digest(), root);
}

/// "b", "ab", "aab" and so on: the first of all keys is the deepest.
#[test]
fn a_chain_that_leads_to_the_first_key_breaks_nothing() {
    const DEEP: usize = 8 << 10;
    let key = |length: usize| [&vec![b'a'; length][..], b"b"].concat();
    let mut map = Map::new();
    for length in 0..DEEP {
        let ((), tally) = tallied(|| drop(map.insert(key(length), value())));
        assert!(is_modest(tally, length + 1));
    }
    assert!(map.statistics().depth > DEEP - 2 * BLOCK_ENTRIES);
    disturb(&mut map, &key(DEEP));
    disturb(&mut map, &vec![b'a'; DEEP]);
    let mut import = Import::new();
    for length in (0..DEEP).rev() {
        import.push(key(length), value());
    }
    let imported = import.finish();
    assert_eq!(imported.statistics(), map.statistics());
    assert_eq!(imported.digest(), map.digest());
    for length in (0..DEEP).step_by(2) {
        assert!(map.remove(&key(length)).is_some());
    }
    for length in (1..DEEP).step_by(2).rev() {
        assert!(map.remove(&key(length)).is_some());
    }
    assert_eq!(map.digest(), Map::new().digest());
}

/// What a thread works out on a clone is there for all that share its nodes, changed meanwhile or not.
#[test]
fn a_digest_is_worked_out_once_whoever_asks() {
    extern crate std;
    let key = |number: u32| Digest::of(&number.to_le_bytes()).0;
    let mut map = Map::new();
    for number in 0..5000 {
        map.insert(key(number), value());
    }
    let clones = [map.clone(), map.clone(), map.clone()];
    let digests = clones.map(|clone| std::thread::spawn(move || clone.digest()));
    let digests = digests.map(|thread| thread.join().expect("it does not panic"));
    let (digest, tally) = tallied(|| map.digest());
    assert_eq!(digests, [digest; 3]);
    assert_eq!((tally.hashed, tally.values_hashed), (0, 0));

    let checkpoint = map.clone();
    for number in 0..50 {
        map.insert(key(number), Arc::from(&number.to_le_bytes()[..]));
    }
    let later = map.clone();
    map.insert(key(6000), value());
    let thread = std::thread::spawn(move || later.digest());
    assert_ne!(thread.join().expect("it does not panic"), digest);
    let depth = map.statistics().depth;
    let (_, tally) = tallied(|| map.digest());
    assert!(tally.hashed <= depth + BLOCK_ENTRIES + 1 && tally.values_hashed == 1, "{tally:?}");
    let (again, tally) = tallied(|| checkpoint.digest());
    assert_eq!((again, tally.hashed), (digest, 0));
}

/// Every number of 16 bits: nodes as full as they get.
#[test]
fn a_dense_range_is_shallow() {
    let mut map = Map::new();
    for number in 0..=u16::MAX {
        map.insert(number.reverse_bits().to_be_bytes(), value());
    }
    let statistics = map.statistics();
    assert_eq!((statistics.inner, statistics.blocks, statistics.depth), (273, 4096, 4));
    for key in [&[7, 7][..], &[7], &[], &[7, 7, 7], &[255; 4]] {
        disturb(&mut map, key);
    }
}

/// What keys have in common is gone through as one node, however long it is.
#[test]
fn a_long_common_beginning_costs_one_node() {
    let key = |number: u16| [&[b'/'; 3000][..], &number.to_be_bytes(), &[0; 500]].concat();
    let mut map = Map::new();
    for number in 0..1000 {
        let ((), tally) = tallied(|| drop(map.insert(key(number), value())));
        assert!(tally.visited <= 5 && is_modest(tally, 4), "{tally:?}");
    }
    assert!(map.statistics().depth <= 4);
    disturb(&mut map, &[b'/'; 1500]);
    disturb(&mut map, &[&[b'/'; 1500][..], b"#"].concat());
    disturb(&mut map, &key(1001));
}

/// Where a block becomes a node and a node becomes a block, going back and forth costs no more than anywhere else.
#[test]
fn going_back_and_forth_at_a_blocks_limit_is_cheap() {
    for around in [0, 1, 300] {
        let mut map = Map::new();
        for number in 0..around {
            map.insert([1, number as u8, (number >> 8) as u8], value());
        }
        for number in 0..BLOCK_ENTRIES {
            map.insert([2, 16 * number as u8], value());
        }
        for _ in 0..20 {
            disturb(&mut map, &[2, 8]);
            disturb(&mut map, &[2]);
            disturb(&mut map, &[2, 16, 0]);
            map.insert([2, 1], value());
            disturb(&mut map, &[2, 16]);
            map.remove(&[2, 1]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No choice of keys makes more nodes than entries, or a way that is longer than a key.
    #[test]
    fn shape_is_bounded_by_contents(
        keys in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![0_u8, 1, 16, 17]), 0..12), 1..400),
        other in prop::collection::vec(0_u8..20, 0..12),
    ) {
        let mut map = Map::new();
        for key in &keys {
            map.insert(key, value());
        }
        let statistics = map.statistics();
        let longest = keys.iter().map(Vec::len).max().unwrap_or_default();
        prop_assert!(statistics.depth <= 2 * longest + 1);
        // Each level has an entry of its own whose key is as long as the way there, and a block may lie below the last.
        let levels = statistics.depth.saturating_sub(1) as u64;
        prop_assert!(levels * levels.saturating_sub(1) <= 4 * (map.bytes() - 5 * map.len() as u64));
        prop_assert!(statistics.inner * BLOCK_ENTRIES <= map.len() * statistics.depth);
        prop_assert!(statistics.inner + statistics.blocks <= 2 * map.len());
        disturb(&mut map, &other);
        for key in keys.iter().take(20) {
            disturb(&mut map, key);
        }
        let (_, tally) = tallied(|| map.get(&other).is_some());
        prop_assert!(tally.visited <= statistics.depth);
    }

    /// A difference between versions costs what differs, however much there is.
    #[test]
    fn a_difference_visits_what_differs(keys in prop::collection::btree_set(0_u32..1_000_000, 1..10)) {
        let mut map = Map::new();
        for number in (0..1_000_000_u32).step_by(500) {
            map.insert(Digest::of(&number.to_le_bytes()).0, value());
        }
        let mut other = map.clone();
        for key in &keys {
            other.insert(Digest::of(&key.to_le_bytes()).0, Arc::from(&b"new"[..]));
        }
        let mut differing = 0;
        let ((), tally) = tallied(|| map.diff(&other, |_, _, _| { differing += 1; true }));
        prop_assert_eq!(differing, keys.len());
        prop_assert!(tally.visited <= keys.len() * 2 * (other.statistics().depth + 1));
    }

    /// Whatever bit flips in a clean node, a scrub says where; and of what is whole, nothing.
    #[test]
    fn a_scrub_finds_a_flipped_bit(
        count in 1_u16..600, at in any::<prop::sample::Index>(), what in 0_usize..3, bit in 0_u8..8,
        budget in 0_usize..5000, dirty in any::<bool>(),
    ) {
        let key = |number: u16| Digest::of(&number.to_le_bytes()).0;
        let mut map = Map::new();
        for number in 0..count {
            map.insert(key(number), Arc::from(&key(number)[..7]));
        }
        let _ = map.digest();
        prop_assert_eq!(scrub_all(&map, budget), vec![]);
        let garbled = key(at.index(usize::from(count)) as u16);
        if dirty {
            map.insert([1], value());
        }
        let (block, at) = block_of(&mut map, &garbled);
        prop_assume!(block.digest.get().is_some());
        block.flip(at, what, bit);
        let damage = scrub_all(&map, budget);
        prop_assert!(!damage.is_empty());
        let expected: &[u8] = &garbled[..4];
        prop_assert!(
            damage.iter().any(|d| d.first[..4] <= *expected && *expected <= d.last[..4]),
            "{:?}", damage
        );
    }
}

/// Damage is a difference like any other once the digests above it are not trusted: it is fetched, and only it.
#[test]
fn what_the_memory_garbled_is_fetched_again() {
    let key = |number: u16| Digest::of(&number.to_le_bytes()).0;
    let mut whole = Map::new();
    for number in 0..5000 {
        whole.insert(key(number), Arc::from(&key(number)[..9]));
    }
    let target = whole.digest();
    let sync = |local: &Map| {
        let mut sync = Sync::new(target, local.clone());
        sync.take_summary(&whole.summary()).expect("it is the target's");
        loop {
            let places = sync.wants(16);
            if places.is_empty() {
                break (sync.finish().expect("nothing is missing"), sync.progress().fetched_nodes);
            }
            let nodes = whole.nodes(&places, usize::MAX);
            nodes.iter().for_each(|node| sync.take(node).expect("it is true"));
        }
    };
    for (number, what) in (0..1000).step_by(100).flat_map(|number| [0, 1, 2].map(|w| (number, w))) {
        let mut rotten = whole.iter().fold(Map::new(), |mut map, (key, value)| {
            map.insert(key, value.clone());
            map
        });
        let _ = rotten.digest();
        let (block, at) = block_of(&mut rotten, &key(number));
        block.flip(at, what, 3);
        // Its digests say that it is whole.
        let depth = rotten.statistics().depth as u64;
        let (blind, fetched) = sync(&rotten);
        assert!(fetched <= depth && !blind.scrub(None, usize::MAX).damage.is_empty());

        let damage = scrub_all(&rotten, 500);
        assert!(!damage.is_empty());
        rotten.distrust(&damage);
        assert_eq!(rotten.scrub(None, usize::MAX).damage, []);
        // A flipped bit of a digest is no difference once that is worked out again.
        assert_eq!(rotten.digest() == target, what == 2);
        let mut differing = 0;
        whole.diff(&rotten, |_, _, _| {
            differing += 1;
            true
        });
        assert_eq!(differing, [1, 2, 0][what]);
        let (healed, fetched) = sync(&rotten);
        assert!(fetched <= depth);
        assert_eq!(healed, whole);
        assert_eq!(healed.scrub(None, usize::MAX).damage, []);
    }
}

/// However deep a tree is, who fetches it and who serves it go from each place to the next, not from the root.
#[test]
fn a_deep_tree_is_synchronised_at_the_cost_of_its_nodes() {
    const DEEP: usize = 3000;
    let all = vec![b'a'; DEEP];
    let mut import = Import::new();
    for length in 0..DEEP {
        import.push(&all[..length], value());
    }
    for length in (0..DEEP).rev() {
        for last in [b'b', b'q'] {
            import.push([&all[..length], &[last]].concat(), value());
        }
    }
    let map = import.finish();
    let target = map.digest();
    let statistics = map.statistics();
    let nodes = statistics.inner + statistics.blocks;
    assert!(statistics.depth > 2 * DEEP - 100);
    let mut sync = Sync::new(target, Map::new());
    sync.take_summary(&map.summary()).expect("it is the target's");
    let mut questions = 0;
    let ((), tally) = tallied(|| {
        loop {
            let places = sync.wants(64);
            if places.is_empty() {
                break;
            }
            questions += 1;
            let answer = map.nodes(&places, 1 << 20);
            answer.iter().for_each(|node| sync.take(node).expect("it is true"));
            sync.give_back(&places[answer.len()..]);
        }
    });
    assert_eq!(sync.finish().expect("nothing is missing").statistics(), statistics);
    assert_eq!(tally.hashed, nodes, "each node is hashed once");
    assert!(questions < 200, "{questions}");
    let bound = 8 * nodes + 2 * questions * statistics.depth;
    assert!(tally.visited <= bound, "{tally:?}, {questions} questions, {nodes} nodes");
}

/// A step of a scrub hashes what it may, and not much more.
#[test]
fn a_scrub_goes_in_steps() {
    let mut map = Map::new();
    for number in 0..20_000_u32 {
        map.insert(Digest::of(&number.to_le_bytes()).0, Arc::from(&[7; 100][..]));
    }
    let _ = map.digest();
    let (whole, tally) = tallied(|| map.scrub(None, usize::MAX));
    let nodes = map.statistics().inner + map.statistics().blocks;
    assert_eq!((tally.hashed, tally.values_hashed), (nodes, map.len()));
    let (mut after, mut steps, mut bytes) = (None::<Arc<[u8]>>, 0, 0);
    loop {
        let step = map.scrub(after.as_deref(), 10_000);
        assert!(step.bytes < 10_000 + map.statistics().depth * 1024, "{step:?}");
        bytes += step.bytes;
        steps += 1;
        after = step.next;
        if after.is_none() {
            break;
        }
        assert!(step.bytes >= 10_000);
    }
    assert_eq!(bytes, whole.bytes, "nothing is hashed twice");
    assert!(steps > 100);
}

fn scrub_all(map: &Map, budget: usize) -> Vec<Damage> {
    let (mut after, mut damage) = (None::<Arc<[u8]>>, Vec::new());
    loop {
        let mut step = map.scrub(after.as_deref(), budget);
        damage.append(&mut step.damage);
        match step.next {
            None => return damage,
            next => {
                assert!(next > after, "a scrub goes on");
                after = next;
            }
        }
    }
}

/// The block that a key is in, and where, without anything being told that it changes.
fn block_of<'a>(map: &'a mut Map, key: &[u8]) -> (&'a mut Block, usize) {
    let mut child = map.root.as_mut().expect("there are entries");
    let mut depth = 0;
    loop {
        match child {
            Child::Block(_, block) => {
                let at = block.suffixes.find(&key[depth / 2..]).expect("the key is there");
                return (Arc::get_mut(block).expect("it is not shared"), at);
            }
            Child::Inner(inner) => {
                let inner = Arc::get_mut(inner).expect("it is not shared");
                depth += inner.path.len();
                let at = inner.position(nibble(key, depth)).expect("the key is there");
                child = &mut inner.children[at];
                depth += 1;
            }
        }
    }
}

impl Block {
    /// Flips a bit of a value, of its key, or of the digest.
    fn flip(&mut self, at: usize, what: usize, bit: u8) {
        match what {
            0 => {
                let mut bytes = self.slots[at].value.to_vec();
                bytes[0] ^= 1 << bit;
                self.slots[at].value = bytes.into();
            }
            1 => {
                let strings = (0..self.len()).map(|at| self.suffixes.get(at).to_vec());
                let mut strings: Vec<Vec<u8>> = strings.collect();
                *strings[at].last_mut().expect("no key ends here") ^= 1 << bit;
                let strings: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
                self.suffixes = Suffixes::new(&strings);
            }
            _ => {
                let mut digest = self.digest.get().expect("it is clean");
                digest.0[usize::from(bit)] ^= 1 << bit;
                self.digest.set(&digest);
            }
        }
    }
}
