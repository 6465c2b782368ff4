//! Signatures as keyed hashes.
//!
//! A simulation makes millions of signatures, and nobody in it breaks hash functions. So a signature is a hash of the
//! digest under the signer's secret, and the verifier knows all secrets. What a liar holds is its own [`SimSigner`] and
//! nothing else: that it cannot sign as another is a matter of types.

use crate::rng::{Rng, mix};
use std::collections::BTreeMap;
use std::rc::Rc;
use testudo_core::{Digest, PublicKey, Signature, Signer, Verifier};

type Secret = [u64; 4];

/// All keys of a world. It verifies; it hands out one signer per key.
#[derive(Clone, Debug)]
pub struct SimKeys {
    rng: Rng,
    secrets: BTreeMap<PublicKey, Secret>,
}

impl SimKeys {
    /// No key yet; those to come are drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::split(seed, "keys", 0), secrets: BTreeMap::new() }
    }

    /// Makes a key.
    pub fn mint(&mut self) -> SimSigner {
        let secret: Secret = core::array::from_fn(|_| self.rng.next());
        let bytes: Vec<u8> = secret.iter().flat_map(|word| word.to_le_bytes()).collect();
        let public = PublicKey(Digest::of(&bytes).0);
        self.secrets.insert(public, secret);
        SimSigner { public, secret: Rc::new(secret) }
    }
}

fn hash(secret: &Secret, digest: &Digest) -> Signature {
    let mut state = *secret;
    for (index, chunk) in digest.0.chunks_exact(8).enumerate() {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        state[index] = mix(state[index] ^ u64::from_le_bytes(word));
    }
    let mut last = state.iter().fold(0, |sum, word| mix(sum ^ word));
    let mut bytes = [0; 64];
    for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        last = mix(last ^ state[index % 4]);
        chunk.copy_from_slice(&last.to_le_bytes());
    }
    Signature(bytes)
}

impl Verifier for SimKeys {
    fn check(&self, key: &PublicKey, digest: &Digest, signature: &Signature) -> bool {
        self.secrets.get(key).is_some_and(|secret| hash(secret, digest) == *signature)
    }
}

/// Signs with one key of the world.
#[derive(Clone)]
pub struct SimSigner {
    public: PublicKey,
    secret: Rc<Secret>,
}

impl SimSigner {
    /// The key that its signatures are checked with.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }
}

impl core::fmt::Debug for SimSigner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SimSigner({:?})", self.public)
    }
}

impl Signer for SimSigner {
    fn sign(&self, digest: &Digest) -> Signature {
        hash(&self.secret, digest)
    }
}
