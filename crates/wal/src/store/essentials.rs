//! What the superblock holds, and what it says of what is lost.

use super::StorageError;
use crate::recover::Recovered;
use alloc::vec;
use alloc::vec::Vec;
use testudo_core::{Decode, Encode, Incarnation, Lost, Position, Promise, Tag, wire_struct};

/// Lost positions of one place that are told one by one.
const LOST: u64 = 1 << 12;

/// What the superblock holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Essentials {
    pub(super) promise: Option<Promise>,
    pub(super) forgotten: Position,
    /// The last incarnation under which it had spoken when a promise, or all records, were lost: whoever uses this disk does
    /// not know what it has said under that one and those before. None when nothing of the kind is lost.
    pub(super) amnesia: Option<Incarnation>,
}
wire_struct!(Essentials { promise, forgotten, amnesia });

/// The form of what the superblock holds; its first byte. Forms before this one had no such byte, and began with 0 or 1.
const FORM: u8 = 2;

impl Essentials {
    pub(super) fn framed(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        self.encode(&mut bytes);
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, StorageError> {
        match bytes.split_first() {
            Some((&FORM, rest)) => Self::from_bytes(rest)
                .map_err(|error| StorageError::caused("read the superblock", error)),
            _ => Err(StorageError::new(
                "the superblock was written by another version of testudo, in a form that this one does not read; run the \
                 version that wrote it, or let this replica start on an empty data folder: it fetches the state, and comes \
                 back under another voting key by itself",
            )),
        }
    }
}

/// What says that this replica has forgotten what it promised, if anything does. A superblock that says nothing was begun
/// before its log; otherwise each of the two is nothing without the other.
pub(super) fn amnesia(
    known: Option<Essentials>,
    is_lost: bool,
    has_log: bool,
    had_data: bool,
) -> Option<&'static str> {
    let is_blank = known.unwrap_or_default() == Essentials::default();
    match known {
        None if is_lost => Some("both copies of the superblock are damaged"),
        None if has_log => Some("the superblock is gone, and the log is there"),
        None if had_data => Some("log and superblock are gone"),
        Some(_) if !has_log && (had_data || !is_blank) => Some("the log is gone"),
        _ => None,
    }
}

/// Something is lost that nobody can name. It stands after all that there is: whatever slots that goes to, what is lost may
/// have been about as many more.
pub(super) const fn unknown(found: &Recovered) -> Lost {
    Lost { position: Position(found.next), tag: None }
}

/// The records that matter and are lost: those that are damaged, and those before the first segment that is left.
pub(super) fn lost(found: &Recovered, forgotten: Position) -> Vec<Lost> {
    let missing = core::iter::once((forgotten.0..found.first, None));
    let damaged = found.damaged.iter().filter_map(|damage| {
        let first = damage.position?;
        let end = first.saturating_add(damage.records).min(found.next);
        Some((first.max(forgotten.0)..end, damage.tag.and_then(Tag::from_bits)))
    });
    let mut lost = Vec::new();
    for (range, tag) in missing.chain(damaged) {
        // Of so many all that matters is that nobody knows what they were.
        let range = range.start..range.end.min(range.start.saturating_add(LOST));
        lost.extend(range.map(|position| Lost { position: Position(position), tag }));
    }
    lost
}
