//! Signatures as keyed hashes, and real ones in one seed of a hundred.
//!
//! A simulation makes millions of signatures, and nobody in it breaks hash functions. So a signature is a hash of the
//! digest under the signer's secret, and the verifier knows all secrets. What a liar holds is its own [`SimSigner`] and
//! nothing else: that it cannot sign as another is a matter of types.
//!
//! That would hide whatever goes wrong only with production's keys, so some runs have those ([`Signatures::Ed25519`]): the
//! same handles sign with a secret key, and the verifier knows no secret, but production's rule of acceptance.
//!
//! A replica has more than one key. Its identity and its first voting key come from outside its disk ([`Keyring`]). The
//! voting keys under which it comes back are made on the disk ([`Purse`]), and are gone with it.

use crate::rng::{Chance as _, Rng, mix};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use testudo_core::{Digest, Incarnation, Membership, PublicKey, Signature, Signer, Verifier};
use testudo_keys::{Ed25519Verifier, SigningKey};

/// What signatures are in a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Signatures {
    /// Hashes under secrets that the verifier knows.
    Hashed,
    /// Those of production.
    Ed25519,
}

impl Signatures {
    /// What they are under a seed that nobody overrides: real in one of a hundred. Which ones is drawn, so that no plan is
    /// left out whose turn comes with certain numbers only.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let is_real = Rng::split(seed, "signatures", 0).below(100) == 0;
        if is_real { Self::Ed25519 } else { Self::Hashed }
    }
}

enum Secret {
    Word([u64; 4]),
    Key(SigningKey),
}

impl Secret {
    fn sign(&self, digest: &Digest) -> Signature {
        match self {
            Self::Word(word) => hash(word, digest),
            Self::Key(key) => key.sign(digest),
        }
    }
}

/// All keys of a world. It verifies; it hands out one signer per key.
#[derive(Clone)]
pub struct SimKeys {
    rng: Rng,
    /// All forks of a world have the same.
    secrets: Rc<BTreeMap<PublicKey, Rc<Secret>>>,
    /// Production's verifier, where signatures are production's.
    verifier: Option<Rc<Ed25519Verifier>>,
}

impl core::fmt::Debug for SimKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SimKeys({} {:?})", self.secrets.len(), self.signatures())
    }
}

impl SimKeys {
    /// No key yet; those to come are drawn from `seed`, and signatures are hashes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Signatures::Hashed)
    }

    /// No key yet; those to come are drawn from `seed`.
    #[must_use]
    pub fn with(seed: u64, signatures: Signatures) -> Self {
        let rng = Rng::split(seed, "keys", 0);
        let verifier = match signatures {
            Signatures::Hashed => None,
            Signatures::Ed25519 => Some(Rc::new(Ed25519Verifier::new([]))),
        };
        Self { rng, secrets: Rc::default(), verifier }
    }

    /// What signatures are.
    #[must_use]
    pub const fn signatures(&self) -> Signatures {
        if self.verifier.is_some() { Signatures::Ed25519 } else { Signatures::Hashed }
    }

    /// Makes a key.
    pub fn mint(&mut self) -> SimSigner {
        let word: [u64; 4] = core::array::from_fn(|_| self.rng.next());
        let mut bytes = [0; 32];
        for (place, word) in bytes.chunks_exact_mut(8).zip(word) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let (public, secret) = if self.verifier.is_some() {
            let key = SigningKey::from_secret(&bytes);
            (key.public(), Secret::Key(key))
        } else {
            (PublicKey(Digest::of(&bytes).0), Secret::Word(word))
        };
        let secret = Rc::new(secret);
        Rc::make_mut(&mut self.secrets).insert(public, secret.clone());
        SimSigner { public, secret }
    }

    /// From now on these keys are members': production prepares tables for them once.
    pub(crate) fn expect(&mut self, members: &Membership) {
        if self.verifier.is_some() {
            let keys = members.members.iter().flat_map(|member| [member.voting, member.identity]);
            self.verifier = Some(Rc::new(Ed25519Verifier::new(keys)));
        }
    }

    /// The signer with this key, for what no node could do.
    pub(crate) fn signer(&self, key: &PublicKey) -> Option<SimSigner> {
        let secret = self.secrets.get(key)?.clone();
        Some(SimSigner { public: *key, secret })
    }
}

fn hash(secret: &[u64; 4], digest: &Digest) -> Signature {
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
        match &self.verifier {
            Some(verifier) => verifier.check(key, digest, signature),
            None => self.secrets.get(key).is_some_and(|secret| secret.sign(digest) == *signature),
        }
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
        self.secret.sign(digest)
    }
}

/// The keys of a node that lie outside its disk. Both copies of a twin have the same.
#[derive(Clone, Debug)]
pub(crate) struct Keyring {
    /// Its long-lived key.
    pub(crate) identity: SimSigner,
    /// The first key that it votes with; a client's only key.
    pub(crate) first: SimSigner,
    /// Keys that it has not made yet.
    pub(crate) unmade: VecDeque<SimSigner>,
}

impl Keyring {
    /// How many voting keys a replica can make in the course of a run.
    pub(crate) const UNMADE: usize = 24;

    /// That of a node that has but one key, for ever.
    pub(crate) fn single(signer: &SimSigner) -> Self {
        let (identity, first) = (signer.clone(), signer.clone());
        Self { identity, first, unmade: VecDeque::new() }
    }
}

/// The voting keys that lie on a node's disk. They are durable as soon as they are there.
#[derive(Clone, Default, Debug)]
pub(crate) struct Purse {
    /// Those that the members named for this node once.
    made: Vec<SimSigner>,
    /// The one that it would come back under.
    candidate: Option<SimSigner>,
    /// The last incarnation that it may have spoken as.
    last: Incarnation,
}

impl Purse {
    /// The last incarnation under whose key this node may have signed anything.
    pub(crate) const fn last(&self) -> Incarnation {
        self.last
    }

    /// It may sign as this incarnation from now on.
    pub(crate) fn speak(&mut self, incarnation: Incarnation) {
        self.last = self.last.max(incarnation);
    }

    /// The key that it would come back under.
    pub(crate) fn candidate(&self) -> Option<PublicKey> {
        self.candidate.as_ref().map(SimSigner::public)
    }

    /// How many keys were made here, and whether there is a candidate. Which keys those are follows from how many the node
    /// has not made yet: it makes them in a fixed order.
    pub(crate) fn counts(&self) -> (usize, bool) {
        (self.made.len(), self.candidate.is_some())
    }

    /// The candidate's signature.
    pub(crate) fn vouch(&self, digest: &Digest) -> Option<Signature> {
        self.candidate.as_ref().map(|key| key.sign(digest))
    }

    /// Makes a candidate if there is none.
    pub(crate) fn refill(&mut self, ring: &mut Keyring) {
        if self.candidate.is_none() {
            self.candidate = ring.unmade.pop_front();
        }
    }

    /// The members name this key for the node. If that is the candidate, it votes with it from now on.
    pub(crate) fn adopt(&mut self, voting: &PublicKey, ring: &mut Keyring) {
        if self.candidate().as_ref() == Some(voting) {
            self.made.extend(self.candidate.take());
            self.refill(ring);
        }
    }

    /// The voting key's secret, if the node has it. It has the candidate's, too.
    pub(crate) fn held<'a>(
        &'a self,
        ring: &'a Keyring,
        voting: &PublicKey,
    ) -> Option<&'a SimSigner> {
        self.made
            .iter()
            .chain(&self.candidate)
            .chain([&ring.first])
            .find(|signer| signer.public == *voting)
    }
}

/// What a node signs with while certain members count.
pub(crate) struct Pen<'a> {
    /// None if it lacks the key that the members know it by.
    pub(crate) voting: Option<&'a SimSigner>,
    pub(crate) identity: &'a SimSigner,
}

impl Signer for Pen<'_> {
    fn sign(&self, digest: &Digest) -> Signature {
        self.voting.map_or(Signature([0; 64]), |signer| signer.sign(digest))
    }
    fn certify(&self, digest: &Digest) -> Signature {
        self.identity.sign(digest)
    }
}
