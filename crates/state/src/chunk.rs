//! Transfer of a map in parts, each of which proves itself against the map's digest.

use crate::Map;
use crate::proof::{ProofError, Proven, RangeProof};
use crate::walk::{Cut, Walk};
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_core::{Digest, wire_struct};

/// Bytes that are counted for an entry of a chunk beside its key and value.
const ENTRY_BYTES: usize = 16;

/// The next entries of a map after a key, with the proof that none is left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// The last key; none if the chunk goes on to the map's end.
    until: Option<Arc<[u8]>>,
    proof: RangeProof,
}
wire_struct!(Chunk { until, proof });

impl Map {
    /// The next entries after `after`, or from the beginning, of at most `max_bytes` in all (keys, values, and a little
    /// for each), but at least one if there is one. The proof adds the digests beside two paths of the tree.
    #[must_use]
    pub fn chunk(&self, after: Option<&[u8]>, max_bytes: usize) -> Chunk {
        let from = start(after);
        let mut walk = Walk::new(self.root.as_ref(), from, false);
        let (mut last, mut bytes) = (None::<Vec<u8>>, 0);
        let is_last = loop {
            let Some(slot) = walk.next_entry() else { break true };
            bytes += walk.key().len() + slot.value.len() + ENTRY_BYTES;
            if bytes > max_bytes && last.is_some() {
                break false;
            }
            let last = last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(walk.key());
        };
        let until: Option<Arc<[u8]>> = last.filter(|_| !is_last).map(Into::into);
        let proof = self.prove_between(from, end(until.as_deref()));
        Chunk { until, proof }
    }
}

const fn start(after: Option<&[u8]>) -> Cut<'_> {
    match after {
        Some(key) => Cut::After(key),
        None => Cut::Start,
    }
}

const fn end(until: Option<&[u8]>) -> Cut<'_> {
    match until {
        Some(key) => Cut::After(key),
        None => Cut::End,
    }
}

impl Chunk {
    /// Checks that these are the next entries, after `after`, of the map with the digest `root`.
    ///
    /// # Errors
    /// When they are not.
    pub fn verify(&self, root: &Digest, after: Option<&[u8]>) -> Result<Part<'_>, ProofError> {
        let until = self.until.as_deref();
        let proven = self.proof.verify_between(root, start(after), end(until))?;
        if let Some(until) = until {
            // Else a chunk could hold nothing, and a transfer never end.
            let mut walk = proven.walk();
            while walk.next_value().is_some() {}
            if walk.key() != until || after.is_some_and(|after| after >= until) {
                return Err(ProofError::Malformed("a last key"));
            }
        }
        Ok(Part { proven, is_last: until.is_none() })
    }
}

/// A chunk that was checked.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    proven: Proven<'a>,
    is_last: bool,
}

impl Part<'_> {
    /// Whether the map ends here.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.is_last
    }

    /// How many entries the whole map has.
    #[must_use]
    pub const fn map_entries(&self) -> u64 {
        self.proven.map_entries()
    }

    /// Bytes of all keys and values of the whole map.
    #[must_use]
    pub const fn map_bytes(&self) -> u64 {
        self.proven.map_bytes()
    }

    /// The entries, in order; keys are put together one by one.
    pub fn into_entries(self) -> impl Iterator<Item = (Arc<[u8]>, Arc<[u8]>)> {
        self.proven.into_entries()
    }
}
