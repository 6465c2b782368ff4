//! Tallies against plain lists of who said what when.

use proptest::prelude::*;
use testudo_core::ReplicaId;
use testudo_quorum::{Cast, Tally};

#[test]
fn the_first_vote_stands_when_cast() {
    let mut tally = Tally::new();
    assert_eq!(tally.cast(ReplicaId(0), "a"), Cast::Counted);
    assert_eq!(tally.cast(ReplicaId(0), "a"), Cast::Repeated);
    assert_eq!(tally.cast(ReplicaId(0), "b"), Cast::Conflicting);
    assert_eq!((tally.count(&"a"), tally.count(&"b")), (1, 0));
    assert_eq!(tally.vote(ReplicaId(0)), Some(&"a"));
}

#[test]
fn the_latest_vote_stands_when_revised() {
    let mut tally = Tally::new();
    assert_eq!(tally.revise(ReplicaId(0), "a"), None);
    assert_eq!(tally.revise(ReplicaId(0), "b"), Some("a"));
    assert_eq!((tally.count(&"a"), tally.count(&"b")), (0, 1));
    assert_eq!(tally.len(), 1);
}

#[test]
fn a_replica_that_says_both_cannot_make_both_reach() {
    let mut tally = Tally::new();
    tally.cast(ReplicaId(0), "a");
    tally.cast(ReplicaId(1), "b");
    tally.cast(ReplicaId(2), "a");
    tally.cast(ReplicaId(2), "b");
    assert!(tally.reached(&"a", 2) && !tally.reached(&"b", 2));
    assert_eq!(tally.winner(2), Some(&"a"));
    assert_eq!(tally.winner(3), None);
    assert_eq!(tally.voters(&"a").collect::<Vec<_>>(), [ReplicaId(0), ReplicaId(2)]);
}

#[test]
fn ranks_count_from_one() {
    let mut tally = Tally::new();
    assert_eq!((tally.smallest(1), tally.largest(1)), (None, None));
    for (replica, claim) in [(0, 7), (1, 3), (2, u64::MAX), (3, 5)] {
        tally.revise(ReplicaId(replica), claim);
    }
    assert_eq!(tally.smallest(3), Some(&7), "an inflated claim does not bind");
    assert_eq!(tally.largest(2), Some(&7), "a correct one got as far");
    assert_eq!((tally.smallest(0), tally.largest(0)), (None, None));
    assert_eq!((tally.smallest(5), tally.largest(5)), (None, None));
}

#[test]
fn votes_can_be_forgotten() {
    let mut tally = Tally::new();
    (0..4).for_each(|i| {
        tally.cast(ReplicaId(i), i);
    });
    tally.retain(|_, value| *value >= 2);
    assert_eq!(tally.votes().collect::<Vec<_>>(), [(ReplicaId(2), &2), (ReplicaId(3), &3)]);
    tally.clear();
    assert!(tally.is_empty());
}

proptest! {
    #[test]
    fn tallies_count_like_a_list(
        said in prop::collection::vec((0_u16..6, 0_u8..4), 0..40),
        latest: bool,
        size in 0_usize..8,
    ) {
        let mut tally = Tally::new();
        let mut list: Vec<(u16, u8)> = Vec::new();
        for (replica, value) in said {
            let before = list.iter_mut().find(|(who, _)| *who == replica);
            if latest {
                prop_assert_eq!(tally.revise(ReplicaId(replica), value), before.as_ref().map(|vote| vote.1));
            } else {
                let expected = match &before {
                    None => Cast::Counted,
                    Some((_, same)) if *same == value => Cast::Repeated,
                    Some(_) => Cast::Conflicting,
                };
                prop_assert_eq!(tally.cast(ReplicaId(replica), value), expected);
            }
            match before {
                Some(vote) if latest => vote.1 = value,
                Some(_) => {}
                None => list.push((replica, value)),
            }
        }
        prop_assert_eq!(tally.len(), list.len());
        let counts: Vec<_> = (0..4).map(|value| list.iter().filter(|vote| vote.1 == value).count()).collect();
        for (value, count) in (0..4).zip(&counts) {
            prop_assert_eq!(tally.count(&value), *count);
            prop_assert_eq!(tally.reached(&value, size), *count >= size);
        }
        let most = *counts.iter().max().expect("four values");
        let winner = (0..4).find(|value| counts[usize::from(*value)] == most);
        let winner = winner.filter(|_| most >= size.max(1));
        prop_assert_eq!(tally.winner(size).copied(), winner);

        let mut values: Vec<_> = list.iter().map(|vote| vote.1).collect();
        values.sort_unstable();
        for rank in 1..8 {
            prop_assert_eq!(tally.smallest(rank), values.get(rank - 1));
            prop_assert_eq!(tally.largest(rank), values.iter().rev().nth(rank - 1));
        }
    }
}
