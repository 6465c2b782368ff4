//! Signatures that were found right are not checked again.
//!
//! The same vote comes by itself, inside a certificate, and again inside the next one. Remembering that a key made a
//! signature on a digest keeps certificates cheap, and lets a whole batch of frames be checked at once and then be
//! verified one by one without paying twice. Only what was right is remembered; the memory is bounded by forgetting the
//! older half.

use crate::carrier::SharedVerifier;
use crate::metrics::Metrics;
use crate::sync::lock;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use testudo_core::{Digest, PublicKey, Signature, Verifier};

/// Signatures in one of the two generations.
const GENERATION: usize = 8192;

type Check = (PublicKey, Digest, Signature);

#[derive(Default)]
struct Generations {
    young: HashSet<Check>,
    old: HashSet<Check>,
}

/// A verifier with a memory.
pub(crate) struct Memo {
    inner: SharedVerifier,
    seen: Mutex<Generations>,
    metrics: Arc<Metrics>,
}

impl Memo {
    pub(crate) fn new(inner: SharedVerifier, metrics: Arc<Metrics>) -> Self {
        Self { inner, seen: Mutex::default(), metrics }
    }

    fn unseen(&self, items: &[Check]) -> Vec<Check> {
        let seen = lock(&self.seen);
        let is_new = |item: &&Check| !(seen.young.contains(*item) || seen.old.contains(*item));
        let unseen: Vec<Check> = items.iter().filter(is_new).copied().collect();
        drop(seen);
        self.metrics.signatures_remembered.inc_by((items.len() - unseen.len()) as u64);
        unseen
    }

    fn remember(&self, items: Vec<Check>) {
        let mut seen = lock(&self.seen);
        for item in items {
            if seen.young.len() >= GENERATION {
                seen.old = std::mem::take(&mut seen.young);
            }
            seen.young.insert(item);
        }
    }
}

impl Verifier for Memo {
    fn check(&self, key: &PublicKey, digest: &Digest, signature: &Signature) -> bool {
        self.check_all(&[(*key, *digest, *signature)])
    }

    fn check_all(&self, items: &[Check]) -> bool {
        let unseen = self.unseen(items);
        let is_right = match unseen.as_slice() {
            [] => return true,
            [(key, digest, signature)] => self.inner.check(key, digest, signature),
            many => self.inner.check_all(many),
        };
        if is_right {
            self.remember(unseen);
        }
        is_right
    }
}
