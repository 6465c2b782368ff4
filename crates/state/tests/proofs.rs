//! Proofs and chunks: what is true is proved, and what is proved is true.

mod support;

use proptest::prelude::*;
use support::{Model, bound, build, key, model, of, plain, within};
use testudo_core::{Decode, Digest, Encode};
use testudo_state::{Chunk, Import, Map, ProofError, RangeProof};

fn transfer(map: &Map, bytes: usize) -> (Map, usize) {
    let (root, mut import, mut after, mut chunks) = (map.digest(), Import::new(), None, 0);
    loop {
        let sent = map.chunk(after.as_deref(), bytes).to_bytes();
        let chunk = Chunk::from_bytes(&sent).expect("what was encoded decodes");
        let part = chunk.verify(&root, after.as_deref()).expect("a chunk of the map proves itself");
        assert_eq!((part.map_entries(), part.map_bytes()), (map.len() as u64, map.bytes()));
        chunks += 1;
        let is_last = part.is_last();
        for (key, value) in part.into_entries() {
            after = Some(key.clone());
            import.push(key, value);
        }
        if is_last {
            return (import.finish(), chunks);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_range_is_proved_as_it_is(model in model(), from in bound(), to in bound(), other in key()) {
        let map = build(&model);
        let proof = RangeProof::from_bytes(&map.prove(of(&from), of(&to)).to_bytes()).unwrap();
        let proven = proof.verify(&map.digest(), of(&from), of(&to)).unwrap();
        let expected: Vec<_> =
            model.iter().filter(|(key, _)| within(key, &from, &to)).map(|(k, v)| (k.clone(), v.clone())).collect();
        prop_assert_eq!(plain(proven.entries()), expected.clone());
        prop_assert_eq!(proven.map_entries(), model.len() as u64);
        prop_assert_eq!(plain(proven.into_entries()), expected);

        let proof = map.prove_key(&other);
        let value = proof.verify_key(&map.digest(), &other).unwrap();
        prop_assert_eq!(value.map(|value| value.to_vec()), model.get(&other).cloned());
        prop_assert_eq!(proof.verify_key(&Digest::ZERO, &other), Err(ProofError::WrongRoot));
    }

    /// A proof for one range proves another one only if it says the same of it.
    #[test]
    fn a_proof_proves_no_other_range_wrongly(
        model in model(), from in bound(), to in bound(), other_from in bound(), other_to in bound(),
    ) {
        let map = build(&model);
        let proof = map.prove(of(&from), of(&to));
        if let Ok(proven) = proof.verify(&map.digest(), of(&other_from), of(&other_to)) {
            let expected: Vec<_> =
                model.into_iter().filter(|(key, _)| within(key, &other_from, &other_to)).collect();
            prop_assert_eq!(plain(proven.entries()), expected);
        }
    }

    /// Whatever is changed in a proof, it is refused: each has one form.
    #[test]
    fn a_changed_proof_is_refused(
        model in model(), from in bound(), to in bound(),
        at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>(),
    ) {
        let map = build(&model);
        let mut bytes = map.prove(of(&from), of(&to)).to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if cut {
            bytes.truncate(at);
        }
        if let Ok(proof) = RangeProof::from_bytes(&bytes) {
            let proven = proof.verify(&map.digest(), of(&from), of(&to));
            prop_assert!(proven.is_err(), "accepted {:?}", proof);
        }
    }

    #[test]
    fn a_changed_chunk_is_refused(
        model in model(), after in prop::option::of(key()), bytes in 0_usize..200,
        at in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let map = build(&model);
        let mut bytes = map.chunk(after.as_deref(), bytes).to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(chunk) = Chunk::from_bytes(&bytes) {
            prop_assert!(chunk.verify(&map.digest(), after.as_deref()).is_err());
        }
    }

    #[test]
    fn a_map_is_transferred_in_chunks(model in model(), bytes in 0_usize..2000) {
        let map = build(&model);
        let (copy, chunks) = transfer(&map, bytes);
        prop_assert_eq!(&copy, &map);
        prop_assert_eq!(copy.digest(), map.digest());
        prop_assert_eq!(copy.statistics(), map.statistics());
        prop_assert!(chunks <= model.len().max(1));
    }

    #[test]
    fn any_bytes_are_refused_or_true(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let root = build(&Model::from([(vec![1], vec![2])])).digest();
        if let Ok(chunk) = Chunk::from_bytes(&bytes) {
            prop_assert!(chunk.verify(&root, None).is_err());
        }
    }
}

#[test]
fn a_chunk_of_another_place_or_map_is_refused() {
    let model: Model = (0_u32..500).map(|i| (i.to_be_bytes().to_vec(), vec![1; 10])).collect();
    let map = build(&model);
    let root = map.digest();
    let first = map.chunk(None, 1000);
    let part = first.verify(&root, None).unwrap();
    assert!(!part.is_last());
    let last = part.into_entries().last().unwrap().0;
    // 30 bytes each.
    assert_eq!(*last, 32_u32.to_be_bytes());
    let second = map.chunk(Some(&last), 1000);
    assert!(second.verify(&root, Some(&last)).is_ok());
    assert!(second.verify(&root, None).is_err());
    assert!(first.verify(&root, Some(&last)).is_err());
    assert!(first.verify(&root, Some(&[0xff])).is_err());

    let mut other = map.clone();
    other.insert([0xff], vec![].into());
    assert_eq!(first.verify(&other.digest(), None).err(), Some(ProofError::WrongRoot));
    let beyond = map.chunk(Some(&[0xff, 0xff]), 10);
    let part = beyond.verify(&root, Some(&[0xff, 0xff])).unwrap();
    assert!(part.is_last());
    assert_eq!(part.into_entries().count(), 0);
}
