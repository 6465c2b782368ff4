//! The production verifier: the one rule of [`ed25519`](crate::ed25519), made quick for keys that come again.
//!
//! A key that has a table of multiples is checked in less than two thirds of the time that one without takes; the
//! table takes the time of about five checks to compute, and 40 KiB. So the members of a cluster get theirs when
//! the verifier is made, and any other key gets one when it has signed rightly for a while. How a signature is checked
//! changes how long that takes and nothing else.

use crate::ed25519::{Claim, all_hold, decode_point, statement};
use crate::table::Table;
use curve25519_dalek::edwards::EdwardsPoint;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use testudo_core::{Digest, PublicKey, Signature, Verifier};

/// Other keys than members' that are remembered: with their tables, 10 MiB at most. The one that was not used for the
/// longest is forgotten for a new one, and costs a little more when it comes again.
const STRANGERS: usize = 256;

/// Right signatures after which a remembered key gets a table.
const USES_BEFORE_TABLE: u32 = 16;

/// From this many signatures on, a batch is quicker than single checks even where every key has its table.
const BATCH_OF_PREPARED: usize = 12;

/// A key's point, and its multiples where it has earned them.
#[derive(Clone)]
struct Known {
    point: EdwardsPoint,
    table: Option<Arc<Table>>,
}

impl Known {
    fn new(key: &PublicKey) -> Option<Self> {
        Some(Self { point: decode_point(&key.0)?, table: None })
    }

    fn prepare(&mut self) {
        self.table = Some(Arc::new(Table::new(&-self.point)));
    }

    fn accepts(&self, claim: &Claim) -> bool {
        match &self.table {
            Some(negated) => claim.holds_for(negated.multiply_add_base(&claim.k, &claim.s)),
            None => claim.holds(&self.point),
        }
    }
}

struct Stranger {
    known: Known,
    /// Right signatures seen, as far as it matters.
    uses: u32,
    /// When it was last used, in lookups.
    last: u64,
}

#[derive(Default)]
struct Strangers {
    keys: BTreeMap<PublicKey, Stranger>,
    lookups: u64,
}

/// Checks Ed25519 signatures on statements. Threads share one.
pub struct Ed25519Verifier {
    members: BTreeMap<PublicKey, Known>,
    strangers: Mutex<Strangers>,
    salt: [u8; 32],
}

impl fmt::Debug for Ed25519Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ed25519Verifier").field("members", &self.members.keys()).finish()
    }
}

impl Ed25519Verifier {
    /// A verifier that is quick for `keys` from the start: members' voting and identity keys. A key among them that is
    /// no point of the curve verifies nothing, as everywhere.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let mut members = BTreeMap::new();
        for key in keys {
            if let Some(mut known) = Known::new(&key) {
                known.prepare();
                members.insert(key, known);
            }
        }
        let mut salt = [0; 32];
        // A batch is sound without a salt too (its coefficients are bound to its contents); with one, nobody can try
        // coefficients beforehand. So a system without randomness may go on here.
        let _ = getrandom::fill(&mut salt);
        Self { members, strangers: Mutex::default(), salt }
    }

    /// What is known of a key; `None` if it is no point.
    fn known(&self, key: &PublicKey) -> Option<Known> {
        if let Some(known) = self.members.get(key) {
            return Some(known.clone());
        }
        {
            let mut strangers = self.lock();
            strangers.lookups += 1;
            let now = strangers.lookups;
            if let Some(stranger) = strangers.keys.get_mut(key) {
                stranger.last = now;
                return Some(stranger.known.clone());
            }
        }
        Known::new(key)
    }

    /// Remembers that a key that is no member's signed rightly `times` times.
    fn remember(&self, key: &PublicKey, known: &Known, times: u32) {
        if self.members.contains_key(key) || known.table.is_some() {
            return;
        }
        let uses = self.count(key, known, times);
        if uses >= USES_BEFORE_TABLE {
            // Outside the lock: two threads may both do it once, and others do not wait for it.
            let mut known = known.clone();
            known.prepare();
            if let Some(stranger) = self.lock().keys.get_mut(key) {
                stranger.known = known;
            }
        }
    }

    /// Adds to a stranger's uses, making room for it if it is new.
    fn count(&self, key: &PublicKey, known: &Known, times: u32) -> u32 {
        let strangers = &mut *self.lock();
        if !strangers.keys.contains_key(key) && strangers.keys.len() >= STRANGERS {
            let oldest = strangers.keys.iter().min_by_key(|(_, stranger)| stranger.last);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                strangers.keys.remove(&oldest);
            }
        }
        let last = strangers.lookups;
        let stranger = strangers.keys.entry(*key).or_insert_with(|| Stranger {
            known: known.clone(),
            uses: 0,
            last,
        });
        stranger.uses = stranger.uses.saturating_add(times);
        stranger.uses
    }

    fn lock(&self) -> MutexGuard<'_, Strangers> {
        // Whatever a panicking thread left behind is a cache like before.
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verifier for Ed25519Verifier {
    fn check(&self, key: &PublicKey, digest: &Digest, signature: &Signature) -> bool {
        let Some(claim) = Claim::read(key, &statement(digest), signature) else { return false };
        let Some(known) = self.known(key) else { return false };
        let right = known.accepts(&claim);
        if right {
            self.remember(key, &known, 1);
        }
        right
    }

    fn check_all(&self, items: &[(PublicKey, Digest, Signature)]) -> bool {
        let mut claims = Vec::with_capacity(items.len());
        let mut keys: BTreeMap<PublicKey, (Known, u32)> = BTreeMap::new();
        for (key, digest, signature) in items {
            let Some(claim) = Claim::read(key, &statement(digest), signature) else { return false };
            if let Some((_, uses)) = keys.get_mut(key) {
                *uses += 1;
            } else {
                let Some(known) = self.known(key) else { return false };
                keys.insert(*key, (known, 1));
            }
            claims.push(claim);
        }
        let prepared = keys.values().all(|(known, _)| known.table.is_some());
        let known = |key: &PublicKey| keys.get(key).map(|(known, _)| known);
        let right = if claims.len() == 1 || (prepared && claims.len() < BATCH_OF_PREPARED) {
            claims.iter().all(|claim| known(&claim.key).is_some_and(|known| known.accepts(claim)))
        } else {
            all_hold(&claims, &self.salt, |key| known(key).map(|known| known.point))
        };
        if right {
            keys.iter().for_each(|(key, (known, uses))| self.remember(key, known, *uses));
        }
        right
    }
}
