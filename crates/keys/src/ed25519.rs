//! Ed25519 under one acceptance rule.
//!
//! RFC 8032 leaves open what a verifier does with points outside the prime-order group and with encodings that are
//! not the shortest, and lets it choose between two equations. Libraries chose differently, and one library's batch
//! may accept what its own single check refuses. For replicated state that is a split: a signature that half of the
//! replicas accept is a fault of nobody's that no quorum survives. So there is one rule here, that of ZIP-215:
//!
//! 1. A (the key) and R (the first half of the signature) decode to points of the curve. Encodings of y that are not
//!    reduced modulo p are accepted, and so is the sign bit on x = 0.
//! 2. s (the second half) is reduced: below the group's order ℓ.
//! 3. \[8\](\[s\]B − \[k\]A − R) is the neutral element, for k the SHA-512 of R, A and the message, as they were encoded.
//!
//! The factor 8 is what makes batches agree with single checks: it wipes out the part of a point that lies outside the
//! prime-order group, which random coefficients could otherwise cancel or keep by chance.
//!
//! Nothing here is secret but in [`SigningKey`], so that verification runs in variable time.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha512};
use std::collections::BTreeMap;
use std::fmt;
use testudo_core::{Digest, PublicKey, Signature, Signer};

/// What stands before a statement's digest when it is signed. A node's identity key also signs TLS handshakes (64
/// spaces first) and its own certificate (a DER sequence first); no such input begins like this one. Its length lets
/// R, A, prefix and digest fill just one block of SHA-512.
const STATEMENT: [u8; 15] = *b"testudo-sign-1\0";

/// The bytes that a signature on `digest` covers.
pub(crate) fn statement(digest: &Digest) -> [u8; 47] {
    let mut bytes = [0; 47];
    let (prefix, rest) = bytes.split_at_mut(STATEMENT.len());
    prefix.copy_from_slice(&STATEMENT);
    rest.copy_from_slice(&digest.0);
    bytes
}

/// A secret key, which signs. Its memory is wiped when it is dropped, and no trace shows it.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key that grows from 32 secret bytes (RFC 8032's seed).
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// A fresh key from the operating system's randomness.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self::from_secret(&secret))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// The 32 secret bytes.
    pub(crate) fn secret(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Signs bytes as they are, without the prefix that keeps statements apart.
    pub(crate) fn sign_raw(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl Signer for SigningKey {
    fn sign(&self, digest: &Digest) -> Signature {
        self.sign_raw(&statement(digest))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {:?})", self.public())
    }
}

/// The point that a key encodes, by rule 1.
pub(crate) fn decode_point(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    CompressedEdwardsY(*bytes).decompress()
}

/// A signature that is well-formed by rules 1 and 2; whether it holds is for rule 3 to say.
pub(crate) struct Claim {
    /// The key as it was encoded, by which a batch gathers terms.
    pub(crate) key: PublicKey,
    /// R.
    pub(crate) r: EdwardsPoint,
    /// s.
    pub(crate) s: Scalar,
    /// k = SHA-512(R ‖ A ‖ message) modulo ℓ. It stands for all three of them.
    pub(crate) k: Scalar,
}

impl Claim {
    /// Reads a signature on `message` by `key`, whose own point the caller decodes.
    pub(crate) fn read(key: &PublicKey, message: &[u8], signature: &Signature) -> Option<Self> {
        let mut r = [0; 32];
        let mut s = [0; 32];
        r.copy_from_slice(&signature.0[..32]);
        s.copy_from_slice(&signature.0[32..]);
        let s = Option::from(Scalar::from_canonical_bytes(s))?;
        let hash = Sha512::new().chain_update(r).chain_update(key.0).chain_update(message);
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        Some(Self { key: *key, r: decode_point(&r)?, s, k })
    }

    /// Rule 3, given \[s\]B − \[k\]A by whichever way it was computed.
    pub(crate) fn holds_for(&self, difference: EdwardsPoint) -> bool {
        (difference - self.r).mul_by_cofactor().is_identity()
    }

    /// Rule 3, for the point A of the key.
    pub(crate) fn holds(&self, a: &EdwardsPoint) -> bool {
        self.holds_for(EdwardsPoint::vartime_double_scalar_mul_basepoint(&self.k, &-a, &self.s))
    }
}

/// Whether `signature` on the bytes of `message` was made with `key`'s secret, by the rule above.
///
/// [`Ed25519Verifier`](crate::Ed25519Verifier) checks signed statements, whose bytes begin with a prefix, by this rule.
#[must_use]
pub fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    let Some(a) = decode_point(&key.0) else { return false };
    Claim::read(key, message, signature).is_some_and(|claim| claim.holds(&a))
}

/// Whether every one of `items` (key, message, signature) passes [`verify`]. True when there are none.
///
/// The coefficients that mix the items come from a hash of all of them and of `salt`, so that whoever made the items
/// had to know them first; a salt that was not known either makes it hopeless to try many. A batch with a bad item
/// passes with probability 2⁻¹²⁸ at most. When it fails, single checks tell which item is bad.
#[must_use]
pub fn verify_batch(items: &[(PublicKey, &[u8], Signature)], salt: &[u8; 32]) -> bool {
    let mut claims = Vec::with_capacity(items.len());
    for (key, message, signature) in items {
        let Some(claim) = Claim::read(key, message, signature) else { return false };
        claims.push(claim);
    }
    all_hold(&claims, salt, |key| decode_point(&key.0))
}

/// Rule 3 for all of `claims` at once: \[8\](Σ zᵢRᵢ + Σ zᵢkᵢAᵢ − (Σ zᵢsᵢ)B) is the neutral element. Terms of one key are
/// gathered. False if `point` does not know one of the keys.
pub(crate) fn all_hold(
    claims: &[Claim],
    salt: &[u8; 32],
    mut point: impl FnMut(&PublicKey) -> Option<EdwardsPoint>,
) -> bool {
    let coefficients = Coefficients::new(claims, salt);
    let mut of_base = Scalar::ZERO;
    let mut of_keys: BTreeMap<PublicKey, Scalar> = BTreeMap::new();
    let mut scalars = Vec::with_capacity(2 * claims.len() + 1);
    let mut points = Vec::with_capacity(2 * claims.len() + 1);
    for (claim, z) in claims.iter().zip(coefficients) {
        of_base -= z * claim.s;
        *of_keys.entry(claim.key).or_insert(Scalar::ZERO) += z * claim.k;
        scalars.push(z);
        points.push(claim.r);
    }
    for (key, scalar) in of_keys {
        let Some(a) = point(&key) else { return false };
        scalars.push(scalar);
        points.push(a);
    }
    scalars.push(of_base);
    points.push(ED25519_BASEPOINT_POINT);
    EdwardsPoint::vartime_multiscalar_mul(&scalars, &points).mul_by_cofactor().is_identity()
}

/// The coefficients zᵢ of a batch, 128 bits each, four to a hash.
struct Coefficients {
    seed: [u8; 64],
    block: [u8; 64],
    next: u64,
}

impl Coefficients {
    fn new(claims: &[Claim], salt: &[u8; 32]) -> Self {
        let mut hash = Sha512::new().chain_update(b"testudo-batch-1\0").chain_update(salt);
        for claim in claims {
            // k binds R, A and the message.
            hash.update(claim.k.as_bytes());
            hash.update(claim.s.as_bytes());
        }
        Self { seed: hash.finalize().into(), block: [0; 64], next: 0 }
    }
}

impl Iterator for Coefficients {
    type Item = Scalar;

    fn next(&mut self) -> Option<Scalar> {
        let place = (self.next % 4) as usize;
        if place == 0 {
            let hash = Sha512::new().chain_update(self.seed).chain_update(self.next.to_le_bytes());
            self.block = hash.finalize().into();
        }
        self.next += 1;
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.block[16 * place..16 * (place + 1)]);
        Some(Scalar::from(u128::from_le_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        assert_eq!(hex.len(), 2 * N);
        std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex"))
    }

    /// RFC 8032, section 7.1: secret key, public key, message and signature of tests 1 to 3.
    const RFC_8032: [[&str; 4]; 3] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ],
    ];

    #[test]
    fn signs_and_verifies_as_rfc_8032_has_it() {
        for [secret, public, message, signature] in RFC_8032 {
            let key = SigningKey::from_secret(&bytes(secret));
            let message = match message {
                "" => vec![],
                one if one.len() == 2 => bytes::<1>(one).to_vec(),
                two => bytes::<2>(two).to_vec(),
            };
            assert_eq!(key.public(), PublicKey(bytes(public)));
            let signature = Signature(bytes(signature));
            assert_eq!(key.sign_raw(&message), signature);
            assert!(verify(&key.public(), &message, &signature));
            assert!(!verify(&key.public(), b"another message", &signature));
        }
    }

    #[test]
    fn statements_are_signed_under_their_prefix() {
        let key = SigningKey::from_secret(&[3; 32]);
        let digest = Digest::of(b"a statement");
        let signature = key.sign(&digest);
        assert_eq!(signature, key.sign(&digest));
        assert!(!verify(&key.public(), &digest.0, &signature));
        let signed = [&b"testudo-sign-1\0"[..], &digest.0].concat();
        assert!(verify(&key.public(), &signed, &signature));
    }

    #[test]
    fn coefficients_depend_on_every_item_and_on_the_salt() {
        let key = SigningKey::from_secret(&[3; 32]);
        let claim = |message: &[u8]| {
            Claim::read(&key.public(), message, &key.sign_raw(message)).expect("well-formed")
        };
        let first = |claims: &[Claim], salt| {
            Coefficients::new(claims, &[salt; 32]).take(6).collect::<Vec<_>>()
        };
        let all = [
            first(&[claim(b"a"), claim(b"b")], 0),
            first(&[claim(b"a"), claim(b"b")], 1),
            first(&[claim(b"a"), claim(b"c")], 0),
            first(&[claim(b"b"), claim(b"a")], 0),
        ]
        .concat();
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| other != one), "coefficients repeat");
            assert!(one.as_bytes()[16..].iter().all(|byte| *byte == 0), "beyond 128 bits");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = SigningKey::from_secret(&[0xab; 32]);
        assert!(!format!("{key:?}").contains("abab"));
    }
}
