//! What a liar says of itself on `/status`.

use super::Lie;
use crate::status::claim::Claim;
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A replica's way to speak of itself.
pub(crate) struct Claims {
    lie: Option<Lie>,
    asked: AtomicU64,
    first: Mutex<Option<Value>>,
}

impl Claims {
    /// That of a liar, or of an honest replica.
    pub(crate) fn new(lie: Option<Lie>) -> Self {
        Self { lie, asked: AtomicU64::new(0), first: Mutex::new(None) }
    }

    /// What is told where this would be the truth.
    pub(crate) fn told(&self, mut claim: Claim) -> Value {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        match self.lie {
            None => {}
            Some(Lie::Silent) => return Value::Null,
            Some(Lie::Corrupt) => twist(&mut claim),
            Some(Lie::Equivocate) if asked.is_multiple_of(2) => twist(&mut claim),
            Some(Lie::Equivocate) => {}
            Some(Lie::Stale) => {
                let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
                return first.get_or_insert_with(|| value(&claim)).clone();
            }
            Some(Lie::Random) => {
                claim.slot = claim.slot.wrapping_add(asked.wrapping_mul(7_919) % 1_000);
                claim.view = claim.view.wrapping_add(asked % 5);
            }
        }
        value(&claim)
    }
}

fn twist(claim: &mut Claim) {
    for at in claim.executed.iter_mut().chain(&mut claim.stable) {
        at.digest = at.digest.chars().rev().collect();
    }
}

fn value(claim: &Claim) -> Value {
    // Plain fields always serialise.
    serde_json::to_value(claim).unwrap_or_default()
}
