//! Any bytes, as a proof and as a chunk of a map: what is accepted is true.

use std::ops::Bound;
use std::sync::{Arc, LazyLock};
use testudo_core::{Decode, Encode};
use testudo_state::{Chunk, Map, RangeProof};

static MAP: LazyLock<Map> = LazyLock::new(|| {
    let mut map = Map::new();
    for number in 0..400_u16 {
        map.insert(key(number), number.to_le_bytes().as_slice().into());
    }
    map
});

fn key(number: u16) -> Vec<u8> {
    match number % 3 {
        0 => number.to_be_bytes().to_vec(),
        1 => vec![b'a'; usize::from(number / 4)],
        _ => [&[b'/'; 40][..], &number.to_be_bytes()].concat(),
    }
}

/// Overwrites bytes: each change is two bytes of place and one of what is put there.
fn garble(bytes: &mut [u8], changes: &[u8]) {
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        if let Some(byte) = bytes.get_mut(at) {
            *byte = change[2];
        }
    }
}

fn expect(
    after: Option<&[u8]>,
    entries: impl Iterator<Item = (Arc<[u8]>, Arc<[u8]>)>,
    is_last: bool,
) {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut expected = MAP.range(from, Bound::Unbounded);
    for (key, value) in entries {
        assert_eq!(expected.next(), Some((key, &value)));
    }
    assert!(!is_last || expected.next().is_none());
}

/// The input is a byte that chooses the form, one that chooses a key, and the encoded proof; or a proof of the map with
/// some bytes overwritten, so that what is nearly true is met, too.
pub(crate) fn run(input: &[u8]) {
    let [form, which, rest @ ..] = input else { return };
    let root = MAP.digest();
    let key = key(u16::from(*which));
    let after = (form & 4 != 0).then_some(key.as_slice());
    let mut bytes = rest.to_vec();
    if form & 1 == 0 {
        if form & 2 != 0 {
            bytes = MAP.chunk(after, usize::from(*which)).to_bytes();
            garble(&mut bytes, rest);
        }
        let Ok(chunk) = Chunk::from_bytes(&bytes) else { return };
        assert_eq!(chunk.to_bytes(), bytes);
        if let Ok(part) = chunk.verify(&root, after) {
            let is_last = part.is_last();
            expect(after, part.into_entries(), is_last);
        }
    } else {
        if form & 2 != 0 {
            bytes = MAP.prove_key(&key).to_bytes();
            garble(&mut bytes, rest);
        }
        let Ok(proof) = RangeProof::from_bytes(&bytes) else { return };
        assert_eq!(proof.to_bytes(), bytes);
        if let Ok(value) = proof.verify_key(&root, &key) {
            assert_eq!(value, MAP.get(&key));
        }
        if let Ok(proven) = proof.verify(&root, Bound::Unbounded, Bound::Unbounded) {
            expect(None, proven.entries(), true);
        }
    }
}

/// Changes to a proof and to a chunk, and both as they are.
pub(crate) fn good() -> Vec<Vec<u8>> {
    let chunk = [&[0, 9][..], &MAP.chunk(None, 9).to_bytes()].concat();
    let proof = [&[1, 9][..], &MAP.prove_key(&key(9)).to_bytes()].concat();
    vec![chunk, proof, vec![2, 9, 4, 0, 1], vec![3, 9, 4, 0, 1]]
}
