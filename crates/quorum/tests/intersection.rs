//! That quorums intersect as they should, found by looking at every set of replicas there is.

use proptest::prelude::*;
use testudo_core::{
    FaultModel, Incarnation, Member, Membership, PublicKey,
    fault::bounds::{Problem, check},
};
use testudo_quorum::{Dissemination, Majority, intersect_in_correct, is_available};

/// Every set of `size` among n replicas, as bits.
fn sets(n: usize, size: usize) -> impl Iterator<Item = u32> {
    (0..1_u32 << n).filter(move |set| set.count_ones() as usize == size)
}

/// The least that a set of `a` and a set of `b` have in common. Names of replicas do not matter, so that the first set
/// can be the first `a` of them; `None` if there are no such sets.
fn least_common(n: usize, a: usize, b: usize) -> Option<usize> {
    let first = sets(n, a).next()?;
    sets(n, b).map(|second| (first & second).count_ones() as usize).min()
}

#[test]
fn names_of_replicas_do_not_matter() {
    for n in 1..=8 {
        for (a, b) in (0..=n).flat_map(|a| (0..=n).map(move |b| (a, b))) {
            let all = sets(n, a)
                .flat_map(|first| sets(n, b).map(move |second| (first & second).count_ones()))
                .min();
            assert_eq!(all.map(|least| least as usize), least_common(n, a, b));
        }
    }
}

#[test]
fn dissemination_quorums_intersect_in_a_correct_replica_and_no_smaller_ones_do() {
    for n in 1..=16 {
        for f in (0..n).filter(|f| n > 3 * f) {
            let system = Dissemination::new(n, f).expect("n > 3f");
            assert_eq!((system.n(), system.f(), system.weak()), (n, f, f + 1));
            let q = system.quorum();
            assert!(least_common(n, q, q).expect("sets") > f, "n {n}, f {f}");
            assert!(least_common(n, q - 1, q - 1).expect("sets") <= f, "n {n}, f {f}");
            // Whichever f are silent, the others still hold a quorum.
            for faulty in sets(n, f) {
                assert!((!faulty & ((1 << n) - 1)).count_ones() as usize >= q);
            }
            if n == 3 * f + 1 {
                assert_eq!(q, 2 * f + 1);
            }
        }
    }
}

#[test]
fn majorities_intersect_and_no_smaller_ones_do() {
    for n in 1..=16 {
        for f in (0..n).filter(|f| n > 2 * f) {
            let system = Majority::new(n, f).expect("n > 2f");
            assert_eq!((system.n(), system.f()), (n, f));
            let q = system.quorum();
            assert!(least_common(n, q, q).expect("sets") > 0);
            assert_eq!(least_common(n, q - 1, q - 1), Some(0));
            assert!(is_available(n, f, q));
        }
    }
}

#[test]
fn systems_that_would_stop_with_their_faults_are_refused() {
    for n in 0..=16 {
        for f in 0..=16 {
            assert_eq!(Dissemination::new(n, f).is_some(), n > 3 * f);
            assert_eq!(Majority::new(n, f).is_some(), n > 2 * f);
        }
    }
    assert_eq!(Dissemination::new(4, usize::MAX), None);
    assert_eq!(Majority::new(4, usize::MAX), None);
}

#[test]
fn the_intersection_check_agrees_with_enumeration() {
    for n in 1..=12 {
        for (a, b) in (0..=n + 1).flat_map(|a| (0..=n + 1).map(move |b| (a, b))) {
            let least = least_common(n, a, b);
            for liars in 0..=n {
                let expected = least.is_some_and(|least| least > liars);
                assert_eq!(intersect_in_correct(n, liars, a, b), expected, "{n} {liars} {a} {b}");
            }
        }
    }
    assert!(!intersect_in_correct(4, 1, usize::MAX, usize::MAX));
    assert!(!intersect_in_correct(4, usize::MAX, 4, 4));
    assert!(!is_available(4, usize::MAX, 0) && !is_available(4, 1, usize::MAX));
}

fn membership(n: usize, model: FaultModel) -> Membership {
    let member = |i| Member {
        identity: PublicKey([i; 32]),
        voting: PublicKey([i; 32]),
        incarnation: Incarnation(0),
    };
    Membership::first((0..n as u8).map(member).collect(), model)
}

#[test]
fn memberships_get_the_system_that_their_model_calls_for() {
    for n in 0..20 {
        for f in 0..8 {
            let liars = membership(n, FaultModel::byzantine(f));
            let survived = check(Problem::StateMachineReplication, &liars.model, n).is_ok();
            assert_eq!(Dissemination::of(&liars).is_some(), survived, "the bound and the quorums");
            assert_eq!(Majority::of(&liars).is_some(), f == 0 && n > 0);
            let crashes = membership(n, FaultModel::crash(f));
            let survived = check(Problem::StateMachineReplication, &crashes.model, n).is_ok();
            assert_eq!(Majority::of(&crashes).is_some(), survived, "the bound and the quorums");
        }
    }
}

proptest! {
    #[test]
    fn any_size_of_cluster(n in 1_usize..100_000, share in 0_usize..100_000) {
        let f = share % n.div_ceil(3);
        let system = Dissemination::new(n, f).expect("n > 3f");
        let q = system.quorum();
        prop_assert!(intersect_in_correct(n, f, q, q));
        prop_assert!(!intersect_in_correct(n, f, q - 1, q - 1));
        prop_assert!(is_available(n, f, q));
        // What all that are not silent have done, any quorum tells of.
        prop_assert!(intersect_in_correct(n, f, n - f, q));
        prop_assert!(system.weak() <= q);

        let f = share % n.div_ceil(2);
        let q = Majority::new(n, f).expect("n > 2f").quorum();
        prop_assert!(intersect_in_correct(n, 0, q, q));
        prop_assert!(is_available(n, f, q));
    }

    #[test]
    fn the_check_is_about_sums(n in 0_usize..50, liars in 0_usize..50, a in 0_usize..50, b in 0_usize..50) {
        let expected = a <= n && b <= n && a + b > n + liars;
        prop_assert_eq!(intersect_in_correct(n, liars, a, b), expected);
    }
}
