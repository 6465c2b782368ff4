//! The index against the plainest one.

extern crate std;

use super::index::{Index, Span};
use super::tree::{End, Tree};
use crate::operation::Bytes;
use alloc::vec::Vec;
use proptest::collection::vec;
use proptest::prelude::*;
use std::format;

fn bytes() -> impl Strategy<Value = Bytes> {
    let byte = prop_oneof![Just(0_u8), Just(1), Just(b'a'), Just(b'b'), Just(0xff)];
    vec(byte, 0..4).prop_map(Bytes::from)
}

/// Whether a key lies in a range, by etcd's words.
fn holds(key: &[u8], from: &[u8], end: &[u8]) -> bool {
    let from = if from.is_empty() { &[0][..] } else { from };
    match end {
        [] => key == from,
        [0] => key >= from,
        end => key >= from && key < end,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    })]

    /// However watches come and go, the index names those whose ranges hold the key, each once.
    #[test]
    fn the_index_names_whom_a_key_concerns(
        steps in vec((bytes(), bytes(), 0..12_u32, any::<bool>()), 1..120),
        keys in vec(bytes(), 1..12),
    ) {
        let mut index = Index::default();
        let mut held: Vec<(Bytes, Bytes, u32)> = Vec::new();
        for (from, end, holder, comes) in steps {
            let Some(span) = Span::new(&from, &end) else {
                let nobody = keys.iter().all(|key| !holds(key, &from, &end));
                prop_assert!(nobody, "a range that holds something is refused");
                continue;
            };
            // Watches of two spellings of the same range are told apart by their holders.
            let place = held.iter().position(|(other, to, by)| {
                Span::new(other, to).as_ref() == Some(&span) && *by == holder
            });
            match (comes, place) {
                (true, None) => {
                    index.insert(&span, holder);
                    held.push((from, end, holder));
                }
                (false, Some(place)) => {
                    index.remove(&span, &holder);
                    held.swap_remove(place);
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        prop_assert_eq!(index.len(), held.len());
        for key in keys {
            let mut named: Vec<u32> = Vec::new();
            index.visit(&key, &mut |holder| named.push(holder));
            let mut expected: Vec<u32> = held
                .iter()
                .filter(|(from, end, _)| holds(&key, from, end))
                .map(|(_, _, holder)| *holder)
                .collect();
            named.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(named, expected);
        }
    }

    /// The changes of a revision that a range holds are found by their order.
    #[test]
    fn a_span_finds_its_keys_among_sorted_ones(from in bytes(), end in bytes(), keys in vec(bytes(), 0..20)) {
        let mut keys = keys;
        keys.sort();
        keys.dedup();
        if let Some(span) = Span::new(&from, &end) {
            let found = &keys[span.within(&keys, |key, other| key[..].cmp(other))];
            let expected: Vec<Bytes> =
                keys.iter().filter(|key| holds(key, &from, &end)).cloned().collect();
            prop_assert_eq!(found, &expected[..]);
        }
    }
}

fn key(number: usize) -> Bytes {
    format!("{number:06}").as_bytes().into()
}

/// Orders that break trees which trust their input: rising, falling, from the outside in.
fn orders(count: usize) -> [Vec<usize>; 3] {
    let inwards = (0..count).map(|at| if at % 2 == 0 { at / 2 } else { count - 1 - at / 2 });
    [(0..count).collect(), (0..count).rev().collect(), inwards.collect()]
}

#[test]
fn the_tree_stays_balanced_in_whatever_order_ranges_come_and_go() {
    for order in orders(4096) {
        let mut tree = Tree::default();
        for number in &order {
            tree.insert(&key(*number), &End::Before(key(number + 1)), *number);
        }
        let (count, height) = tree.audit();
        assert_eq!(count, 4096);
        assert!(height <= 18, "1.44 times the logarithm at most: {height}");
        for number in order.iter().filter(|number| **number % 3 != 0) {
            tree.remove(&key(*number), &End::Before(key(number + 1)), number);
        }
        assert_eq!(tree.audit().0, 4096_usize.div_ceil(3));
        for number in order.iter().filter(|number| **number % 3 == 0) {
            tree.remove(&key(*number), &End::Before(key(number + 1)), number);
        }
        assert_eq!(tree.audit(), (0, 0));
    }
}

/// Ten thousand ranges that a key is not in cost the way down; ranges that it is in cost a way down each at most.
#[test]
fn a_search_looks_at_few_ranges() {
    let mut tree = Tree::default();
    for number in 0..10_000 {
        tree.insert(&key(2 * number), &End::Before(key(2 * number + 1)), number);
    }
    let (_, height) = tree.audit();
    for number in [0, 1, 4_999, 5_000, 9_999] {
        assert!(tree.cost(&key(2 * number + 1)) <= 2 * usize::from(height), "no match");
        assert!(tree.cost(&key(2 * number)) <= 2 * usize::from(height), "one match");
    }
    // Ranges that hold everything, among the others: each is found, and no others are looked at.
    for number in 0..100 {
        tree.insert(&key(number), &End::Never, 10_000 + number);
    }
    let (_, height) = tree.audit();
    let mut found = 0;
    tree.visit(&key(15_001), &mut |_| found += 1);
    assert_eq!(found, 100);
    assert!(tree.cost(&key(15_001)) <= (2 + found) * usize::from(height));
}

/// Ten thousand ranges that all end at one key reach as far as each other: none is left out for where it ends. What they
/// begin with does as well: a search looks at those that hold the key, and at one way down besides.
#[test]
fn ranges_that_share_an_end_cost_what_matches() {
    const COUNT: usize = 10_000;
    for order in orders(COUNT) {
        let mut tree = Tree::default();
        for number in order {
            tree.insert(&key(2 * number + 10), &End::Before(key(90_000)), number);
        }
        let (count, height) = tree.audit();
        assert_eq!(count, COUNT);
        for at in [0, 9, 10, 11, 12, 13, 100, 5_000, 2 * COUNT + 9, 89_999, 90_000, 99_999] {
            let mut matches = 0;
            tree.visit(&key(at), &mut |_| matches += 1);
            let expected =
                if at < 90_000 { at.saturating_sub(8).div_euclid(2).min(COUNT) } else { 0 };
            assert_eq!(matches, expected, "at {at}");
            assert!(tree.cost(&key(at)) <= matches + usize::from(height), "at {at}");
        }
        assert_eq!(tree.cost(&key(90_000)), 0, "nothing reaches beyond the end");
    }
}

/// Ranges in two layers, of which one always reaches the key and begins after it or ends before it: the worst that a
/// search can be given still costs a way down for each match.
#[test]
fn ranges_that_reach_and_do_not_hold_are_left_out() {
    const COUNT: usize = 10_000;
    let mut tree = Tree::default();
    for number in 0..COUNT {
        // Short ones, and beside every hundredth one that reaches over all that follow for a while.
        tree.insert(&key(2 * number), &End::Before(key(2 * number + 1)), number);
        if number % 100 == 0 {
            tree.insert(&key(2 * number), &End::Before(key(2 * number + 5_000)), COUNT + number);
        }
    }
    let (_, height) = tree.audit();
    for at in (0..2 * COUNT + 6_000).step_by(37) {
        let mut matches = 0;
        tree.visit(&key(at), &mut |_| matches += 1);
        assert!(matches <= 27);
        assert!(tree.cost(&key(at)) <= (2 + matches) * usize::from(height), "at {at}");
    }
}
