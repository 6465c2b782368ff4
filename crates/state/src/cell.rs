//! A place for a digest that is worked out when somebody asks, through a shared reference.

use core::sync::atomic::{AtomicU64, Ordering};
use testudo_core::Digest;

/// A digest, or nothing yet.
///
/// Four words, each zero until the digest is written; a digest that has a zero word (one in 2^62) is simply not kept.
/// So no flag says whether it is there, and no order of memory matters: a word goes from zero to its one final value,
/// whoever writes it, and four words that are not zero are the digest. It is emptied through an exclusive reference
/// only.
#[derive(Debug, Default)]
pub(crate) struct DigestCell([AtomicU64; 4]);

impl DigestCell {
    /// The digest, if it is there.
    pub(crate) fn get(&self) -> Option<Digest> {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.as_chunks_mut().0.iter_mut().zip(&self.0) {
            let word = word.load(Ordering::Relaxed);
            if word == 0 {
                return None;
            }
            *chunk = word.to_le_bytes();
        }
        Some(Digest(bytes))
    }

    /// Keeps the digest. All writers between two [`DigestCell::clear`]s write the same.
    pub(crate) fn set(&self, digest: &Digest) {
        for (chunk, word) in digest.0.as_chunks().0.iter().zip(&self.0) {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
    }

    /// Forgets it.
    pub(crate) fn clear(&mut self) {
        self.0.iter_mut().for_each(|word| *word.get_mut() = 0);
    }
}

impl Clone for DigestCell {
    fn clone(&self) -> Self {
        Self(self.0.each_ref().map(|word| AtomicU64::new(word.load(Ordering::Relaxed))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_kept_until_it_is_cleared_unless_a_word_of_it_is_zero() {
        let mut cell = DigestCell::default();
        assert_eq!(cell.get(), None);
        let digest = Digest::of(b"something");
        cell.set(&digest);
        assert_eq!(cell.get(), Some(digest));
        assert_eq!(cell.clone().get(), Some(digest));
        cell.clear();
        assert_eq!(cell.get(), None);
        let mut awkward = digest;
        awkward.0[8..16].fill(0);
        cell.set(&awkward);
        assert_eq!(cell.get(), None);
    }
}
