//! The acceptance rule against ZIP-215's own vectors, against another implementation of the same rule, and against
//! itself: batches and tables must accept what single checks accept, whatever a liar makes up.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::Scalar;
use proptest::prelude::*;
use sha2::{Digest as _, Sha512};
use testudo_core::{Digest, PublicKey, Signature, Signer, Verifier};
use testudo_keys::{Ed25519Verifier, SigningKey, verify, verify_batch};

/// p + `low`, with that sign bit: encodings of y = `low` that are not reduced.
fn unreduced(low: u8, sign: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xed + low;
    bytes[31] = 0x7f | sign << 7;
    bytes
}

/// Every encoding of every point of small order: eight short ones, and six that only ZIP-215 admits.
fn small_order() -> Vec<[u8; 32]> {
    let mut all: Vec<_> = EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
    for sign in [0, 1] {
        all.extend([unreduced(0, sign), unreduced(1, sign)]);
    }
    // x = 0 with the sign bit set: the neutral element, and the point of order two.
    let mut neutral = [0; 32];
    (neutral[0], neutral[31]) = (1, 0x80);
    let mut two = EIGHT_TORSION[4].compress().0;
    two[31] |= 0x80;
    all.extend([neutral, two]);
    for (i, bytes) in all.iter().enumerate() {
        let point = CompressedEdwardsY(*bytes).decompress().expect("a point");
        assert!(point.is_small_order());
        assert!(!all[..i].contains(bytes));
    }
    assert_eq!(all.len(), 14);
    all
}

fn joined(r: [u8; 32], s: [u8; 32]) -> Signature {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&r);
    bytes[32..].copy_from_slice(&s);
    Signature(bytes)
}

/// What an independent implementation of ZIP-215 says.
fn oracle(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    ed25519_consensus::VerificationKey::try_from(key.0).is_ok_and(|key| {
        key.verify(&ed25519_consensus::Signature::from(signature.0), message).is_ok()
    })
}

#[test]
fn zip_215_vectors_all_verify() {
    let verifier = Ed25519Verifier::new([]);
    let mut items = Vec::new();
    for a in small_order() {
        let prepared = Ed25519Verifier::new([PublicKey(a)]);
        for r in small_order() {
            let (key, signature) = (PublicKey(a), joined(r, [0; 32]));
            assert!(verify(&key, b"Zcash", &signature), "A {a:02x?}, R {r:02x?}");
            assert!(oracle(&key, b"Zcash", &signature));
            // With s = 0 and both points of small order the message does not matter.
            assert!(verifier.check(&key, &Digest::ZERO, &signature));
            assert!(prepared.check(&key, &Digest::ZERO, &signature));
            items.push((key, &b"Zcash"[..], signature));
        }
    }
    assert_eq!(items.len(), 196);
    assert!(verify_batch(&items, &[0; 32]));
}

#[test]
fn a_multiple_of_the_order_in_s_is_refused() {
    let key = SigningKey::from_secret(&[1; 32]);
    let digest = Digest::of(b"malleable");
    let verifier = Ed25519Verifier::new([key.public()]);
    let mut signature = key.sign(&digest);
    assert!(verifier.check(&key.public(), &digest, &signature));
    // s + ℓ: the same number modulo ℓ, another encoding.
    let order: [u8; 32] = {
        let mut bytes = (-Scalar::ONE).to_bytes();
        bytes[0] += 1;
        bytes
    };
    let mut carry = 0;
    for (byte, add) in signature.0[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert!(!verifier.check(&key.public(), &digest, &signature));
    assert!(!verifier.check_all(&[(key.public(), digest, signature); 2]));
}

#[test]
fn empty_batches_hold_and_one_bad_item_spoils_any() {
    assert!(verify_batch(&[], &[0; 32]));
    let verifier = Ed25519Verifier::new([]);
    assert!(verifier.check_all(&[]));
    for count in 1..20_u8 {
        let mut items: Vec<_> = (0..count)
            .map(|i| {
                let key = SigningKey::from_secret(&[i; 32]);
                let digest = Digest::of(&[i]);
                (key.public(), digest, key.sign(&digest))
            })
            .collect();
        let member = Ed25519Verifier::new(items.iter().map(|(key, ..)| *key));
        assert!(verifier.check_all(&items) && member.check_all(&items));
        let bad = usize::from(count / 2);
        items[bad].1 = Digest::of(b"something else");
        assert!(!verifier.check_all(&items) && !member.check_all(&items));
    }
}

#[test]
fn errors_that_cancel_out_in_a_sum_do_not_in_a_batch() {
    let key = SigningKey::from_secret(&[5; 32]);
    let messages = [Digest::of(b"one"), Digest::of(b"two")];
    let [mut one, mut two] = messages.map(|digest| key.sign(&digest));
    let s = |signature: &Signature| {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&signature.0[32..]);
        Scalar::from_canonical_bytes(bytes).expect("reduced")
    };
    let (more, less) = (s(&one) + Scalar::ONE, s(&two) - Scalar::ONE);
    one.0[32..].copy_from_slice(more.as_bytes());
    two.0[32..].copy_from_slice(less.as_bytes());
    let items = [(key.public(), messages[0], one), (key.public(), messages[1], two)];
    assert!(!Ed25519Verifier::new([]).check_all(&items));
}

#[test]
fn keys_that_are_no_points_verify_nothing() {
    let not_a_point = (0..=255)
        .map(|low| {
            let mut bytes = [0; 32];
            bytes[0] = low;
            bytes
        })
        .find(|bytes| CompressedEdwardsY(*bytes).decompress().is_none())
        .map(PublicKey)
        .expect("half of all encodings are none");
    let verifier = Ed25519Verifier::new([not_a_point]);
    let signature = joined([1; 32], [0; 32]);
    assert!(!verifier.check(&not_a_point, &Digest::ZERO, &signature));
    assert!(!verify(&not_a_point, b"", &signature));
    assert!(!verify_batch(&[(not_a_point, b"", signature)], &[0; 32]));
}

#[test]
fn strangers_that_come_again_and_again_are_judged_alike() {
    let verifier = Ed25519Verifier::new([]);
    let regular = SigningKey::from_secret(&[9; 32]);
    for round in 0_u32..400 {
        let digest = Digest::of(&round.to_le_bytes());
        let signature = regular.sign(&digest);
        assert!(verifier.check(&regular.public(), &digest, &signature));
        assert!(!verifier.check(&regular.public(), &Digest::ZERO, &signature));
        // Enough others to fill the memory for strangers and to push some out of it.
        let mut secret = [0; 32];
        secret[..4].copy_from_slice(&round.to_le_bytes());
        let other = SigningKey::from_secret(&secret);
        assert!(verifier.check(&other.public(), &digest, &other.sign(&digest)));
        assert!(!verifier.check(&other.public(), &digest, &signature));
    }
}

/// A signature made by a liar who knows the discrete logarithms, and how it was bent.
#[derive(Clone, Debug)]
struct Crafted {
    secret: [u8; 32],
    nonce: [u8; 32],
    message: [u8; 32],
    /// Which points of small order are added to A and to R.
    torsion: (usize, usize),
    /// Added to s, in case.
    shift: u8,
    /// The bit to flip in key, digest or signature, in case.
    flip: Option<usize>,
}

impl Crafted {
    /// Made by hand, as no signing library makes these.
    fn make(&self) -> (PublicKey, Digest, Signature) {
        let a = Scalar::from_bytes_mod_order(self.secret);
        let r = Scalar::from_bytes_mod_order(self.nonce);
        let key = (a * ED25519_BASEPOINT_POINT + EIGHT_TORSION[self.torsion.0]).compress().0;
        let nonce = (r * ED25519_BASEPOINT_POINT + EIGHT_TORSION[self.torsion.1]).compress().0;
        let hash = Sha512::new()
            .chain_update(nonce)
            .chain_update(key)
            .chain_update(b"testudo-sign-1\0")
            .chain_update(self.message);
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let s = r + k * a + Scalar::from(self.shift);
        let mut made = (PublicKey(key), Digest(self.message), joined(nonce, s.to_bytes()));
        if let Some(bit) = self.flip {
            let byte = match bit / 8 {
                i @ 0..32 => &mut made.0.0[i],
                i @ 32..64 => &mut made.1.0[i - 32],
                i => &mut made.2.0[i - 64],
            };
            *byte ^= 1 << (bit % 8);
        }
        made
    }
}

fn crafted() -> impl Strategy<Value = Crafted> {
    let flip = prop_oneof![5 => Just(None), 1 => (0_usize..1024).prop_map(Some)];
    let shift = prop_oneof![7 => Just(0_u8), 1 => 1_u8..];
    // Few secrets, so that one key often signs more than one item of a batch.
    let secret = (0_u8..4).prop_map(|low| [low; 32]);
    (secret, any::<[u8; 32]>(), any::<[u8; 32]>(), (0_usize..8, 0_usize..8), shift, flip).prop_map(
        |(secret, nonce, message, torsion, shift, flip)| Crafted {
            secret,
            nonce,
            message,
            torsion,
            shift,
            flip,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn every_way_to_check_agrees(mix in prop::collection::vec(crafted(), 1..16), salt: [u8; 32]) {
        let items: Vec<_> = mix.iter().map(Crafted::make).collect();
        let messages: Vec<_> =
            items.iter().map(|item| [&b"testudo-sign-1\0"[..], &item.1.0].concat()).collect();
        let stranger = Ed25519Verifier::new([]);
        let member = Ed25519Verifier::new(items.iter().map(|item| item.0));
        let mut all = true;
        for ((key, digest, signature), message) in items.iter().zip(&messages) {
            let right = verify(key, message, signature);
            prop_assert_eq!(right, oracle(key, message, signature));
            prop_assert_eq!(right, stranger.check(key, digest, signature));
            prop_assert_eq!(right, member.check(key, digest, signature));
            all &= right;
        }
        for (craft, (key, digest, signature)) in mix.iter().zip(&items) {
            if craft.shift == 0 && craft.flip.is_none() {
                prop_assert!(member.check(key, digest, signature), "torsion must not matter");
            }
        }
        let batch: Vec<_> = items
            .iter()
            .zip(&messages)
            .map(|((key, _, signature), message)| (*key, &message[..], *signature))
            .collect();
        prop_assert_eq!(all, verify_batch(&batch, &salt));
        prop_assert_eq!(all, stranger.check_all(&items));
        prop_assert_eq!(all, member.check_all(&items));
    }
}
