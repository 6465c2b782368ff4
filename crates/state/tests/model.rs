//! The map and its overlays against a plain model.

mod support;

use proptest::prelude::*;
use std::collections::BTreeSet;
use support::{
    Change, Model, bound, build, change, contents, key, model, of, plain, value, within,
};
use testudo_contracts::{Reading, Store};
use testudo_state::{Import, Map, Overlay};

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
        let (Change::Put(key, _) | Change::Delete(key)) = change;
        assert_eq!(store.get(key).as_deref(), model.get(key).map(Vec::as_slice));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_overlay_reads_as_the_map_will_be(
        before in prop::collection::vec(change(), 0..150),
        during in prop::collection::vec(change(), 0..60),
        from in bound(), to in bound(), reverse in any::<bool>(), limit in 0_usize..60,
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
        overlay.scan(of(&from), of(&to), reverse, &mut |key, value| {
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
    fn the_digest_and_size_depend_on_contents_alone(
        changes in prop::collection::vec(change(), 0..300), shuffle in any::<u64>(),
    ) {
        let (mut map, mut model) = (Map::new(), Model::new());
        apply(&mut map, &mut model, &changes);
        let mut entries: Vec<_> = model.iter().collect();
        entries.sort_by_key(|(key, _)| key.iter().fold(shuffle, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        }));
        let mut fresh = build(entries);
        prop_assert_eq!(map.digest(), fresh.digest());
        prop_assert_eq!(&map, &fresh);
        prop_assert_eq!(map.statistics(), fresh.statistics());
        prop_assert_eq!(map.bytes(), fresh.bytes());
        prop_assert_eq!(map.len(), model.len());

        let mut import = Import::new();
        for (key, value) in &model {
            import.push(key, value.as_slice().into());
        }
        let imported = import.finish();
        prop_assert_eq!(imported.digest(), map.digest());
        prop_assert_eq!(imported.statistics(), map.statistics());
        prop_assert_eq!(imported.bytes(), map.bytes());

        fresh.insert([9], vec![].into());
        prop_assert_ne!(fresh.digest(), map.digest());
        prop_assert_ne!(fresh, map);
    }

    /// Clones are taken, changed and dropped in between, digests asked for or not: none ever sees another's changes.
    #[test]
    fn a_clone_keeps_what_it_had(
        rounds in prop::collection::vec(
            (prop::collection::vec(change(), 0..40), any::<bool>(), prop::option::of(0_usize..8)), 1..12
        ),
    ) {
        let mut versions = vec![(Map::new(), Model::new())];
        for (changes, hashed, from) in rounds {
            let at = from.unwrap_or(versions.len() - 1).min(versions.len() - 1);
            let (mut map, mut model) = versions[at].clone();
            apply(&mut map, &mut model, &changes);
            if hashed {
                prop_assert_eq!(map.digest(), build(&model).digest());
            }
            if from.is_some_and(|from| from % 3 == 0) {
                versions.remove(at);
            }
            versions.push((map, model));
        }
        for (map, model) in versions {
            prop_assert_eq!(&contents(&map), &model);
            prop_assert_eq!(map.digest(), build(&model).digest());
        }
    }

    /// In whatever order entries come, and however often.
    #[test]
    fn an_import_takes_what_comes(entries in prop::collection::vec((key(), value()), 0..200), ordered in 0_usize..200) {
        let mut entries = entries;
        let ordered = ordered.min(entries.len());
        entries[..ordered].sort();
        let (mut import, mut map) = (Import::new(), Map::new());
        for (at, (key, value)) in entries.iter().enumerate() {
            import.push(key, value.as_slice().into());
            map.insert(key, value.as_slice().into());
            if at % 64 == 5 {
                let so_far = import.clone().finish();
                prop_assert_eq!(so_far.digest(), map.digest());
            }
        }
        let imported = import.finish();
        prop_assert_eq!(imported.digest(), map.digest());
        prop_assert_eq!(imported.statistics(), map.statistics());
        prop_assert_eq!((imported.len(), imported.bytes()), (map.len(), map.bytes()));
    }

    #[test]
    fn a_difference_is_what_differs(
        before in model(), changes in prop::collection::vec(change(), 0..60), other in model(),
        related in any::<bool>(), hashed in any::<bool>(), limit in 0_usize..200,
    ) {
        let map = build(&before);
        if hashed { let _ = map.digest(); }
        let (mut after, mut expected) = if related { (map.clone(), before.clone()) } else { (build(&other), other) };
        apply(&mut after, &mut expected, &changes);
        if hashed { let _ = after.digest(); }
        let mut seen = Vec::new();
        map.diff(&after, |key, here, there| {
            seen.push((key.to_vec(), here.map(|v| v.to_vec()), there.map(|v| v.to_vec())));
            seen.len() <= limit
        });
        let keys: BTreeSet<_> = before.keys().chain(expected.keys()).cloned().collect();
        let all = keys.into_iter().map(|key| {
            let (here, there) = (before.get(&key).cloned(), expected.get(&key).cloned());
            (key, here, there)
        });
        let differing: Vec<_> = all.filter(|(_, here, there)| here != there).take(limit + 1).collect();
        prop_assert_eq!(map == after, differing.is_empty());
        prop_assert_eq!(seen, differing);
    }

    #[test]
    fn a_range_is_gone_through_from_both_ends(
        model in model(), from in bound(), to in bound(), turns in prop::collection::vec(any::<bool>(), 300),
    ) {
        let map = build(&model);
        let mut range = map.range(of(&from), of(&to));
        let (mut front, mut back) = (Vec::new(), Vec::new());
        for reverse in turns {
            match if reverse { range.next_back() } else { range.next() } {
                Some((key, value)) if reverse => back.push((key, value.clone())),
                Some((key, value)) => front.push((key, value.clone())),
                None => break,
            }
        }
        front.extend(back.into_iter().rev());
        let expected: Vec<_> =
            model.into_iter().filter(|(key, _)| within(key, &from, &to)).collect();
        prop_assert_eq!(plain(front), expected);
        prop_assert!(range.next().is_none() && range.next_back().is_none());
    }
}
