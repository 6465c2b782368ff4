//! Forgetting history.
//!
//! A compaction takes effect at once: from then on nothing before its revision can be read or watched. What is left of
//! it in the store is removed by *sweeps*, a bounded piece in each slot, which nobody can see but in the bytes that the
//! store holds. Of each key there stays the newest record that is not after the compacted revision. A deletion stays
//! only if it was made by that very revision: a watch may still begin there.
//!
//! A sweep follows the changes, oldest first. When a key was changed, what it was before can be forgotten, for that
//! has been superseded; and the change itself, unless it was made by the compacted revision. So each change is looked
//! at once, or twice if history was once compacted to its revision, and what lives is not looked at at all.
//!
//! History is also compacted by the store itself, if its settings say so ([`AutoCompaction`]): down to so many
//! revisions, or to so much time. For the latter the store keeps samples of which revision there was when. Where
//! revisions or time have grown past what is to be kept by less than a [`PART`], it waits, so that the samples are few
//! and the compactions worth the while.

use crate::draft::Draft;
use crate::error::Error;
use crate::layout::{
    CURSOR, Ledger, Meta, SAMPLES, change_bounds, sample_key, split_change_key, split_version_key,
    time_of_sample, version_key, version_prefix,
};
use crate::operation::{Bytes, Compact};
use crate::response::CompactResponse;
use crate::settings::AutoCompaction;
use alloc::vec::Vec;
use core::ops::Bound;
use testudo_contracts::Reading;
use testudo_core::{Decode, Encode, Time};

/// Changes that one slot's sweep looks at. What is left is left to the next slots.
pub(crate) const SWEPT_CHANGES: usize = 512;

/// Into how many parts the revisions or the time to be kept are divided, to compact by whole parts.
const PART: u64 = 16;

/// Compacts the store to a revision.
pub(crate) fn compact(request: &Compact, draft: &mut Draft<'_>) -> Result<CompactResponse, Error> {
    let Meta { revision, compacted, swept, .. } = *draft.meta();
    if request.revision <= compacted.max(0) {
        Err(Error::Compacted)
    } else if request.revision > revision {
        Err(Error::FutureRevision)
    } else {
        draft.compact(request.revision);
        Ok(CompactResponse { revision, swept })
    }
}

/// Makes `revision` the oldest that can be read.
pub(crate) fn forget_before(ledger: &mut Ledger<'_>, revision: i64) {
    // Changes of the revision that was compacted before were looked at and left; now they can go.
    ledger.set_cursor(None);
    ledger.meta.compacted = revision;
}

/// Sweeps a piece of what is compacted, if anything is.
pub(crate) fn sweep(ledger: &mut Ledger<'_>) {
    let compacted = ledger.meta.compacted;
    if ledger.meta.swept >= compacted {
        return;
    }
    let (first, end) = change_bounds(0, compacted);
    let cursor = ledger.reading().get(CURSOR);
    let from = cursor.as_ref().map_or(Bound::Included(&first[..]), |at| Bound::Excluded(&at[..]));
    let mut piece: Vec<Vec<u8>> = Vec::new();
    ledger.reading().scan(from, Bound::Excluded(&end), false, &mut |store_key, _| {
        piece.push(store_key.to_vec());
        piece.len() < SWEPT_CHANGES
    });
    for change_key in &piece {
        let (revision, key) = split_change_key(change_key);
        sweep_change(ledger, key, revision, compacted);
        if revision < compacted {
            ledger.remove(change_key, 0);
        }
    }
    match piece.last() {
        Some(last) if piece.len() == SWEPT_CHANGES => {
            // Changes that were removed are no more in the way; those that stay are passed by.
            if split_change_key(last).0 == compacted {
                ledger.set_cursor(Some(last));
            }
        }
        _ => {
            ledger.set_cursor(None);
            ledger.meta.swept = compacted;
        }
    }
}

/// Removes what a change has superseded; and the change's own version if that says that the key was deleted, unless
/// the deletion can still be read.
fn sweep_change(ledger: &mut Ledger<'_>, key: &[u8], revision: i64, compacted: i64) {
    let (from, to) = (version_prefix(key), version_key(key, revision));
    let (from, to) = (Bound::Included(&from[..]), Bound::Included(&to[..]));
    let mut gone: Vec<(Vec<u8>, usize)> = Vec::new();
    ledger.reading().scan(from, to, false, &mut |store_key, version| {
        let (_, written) = split_version_key(store_key);
        if written < revision || version.is_empty() && written < compacted {
            gone.push((store_key.to_vec(), version.len()));
        }
        true
    });
    gone.iter().for_each(|(store_key, length)| ledger.remove(store_key, *length));
}

/// Compacts what the settings say is to be forgotten by now.
pub(crate) fn compact_by_itself(ledger: &mut Ledger<'_>) {
    match ledger.meta.settings.compaction {
        AutoCompaction::Off => {}
        AutoCompaction::Revisions(kept) => {
            let part = (kept / PART).clamp(1, SWEPT_CHANGES as u64);
            let Meta { revision, compacted, .. } = ledger.meta;
            let target = revision.saturating_sub(i64::try_from(kept).unwrap_or(i64::MAX));
            if target.saturating_sub(compacted.max(0)) >= i64::try_from(part).unwrap_or(i64::MAX) {
                forget_before(ledger, target);
            }
        }
        AutoCompaction::Period { milliseconds } => {
            sample(ledger, part_of_period(milliseconds));
            compact_by_time(ledger, milliseconds);
        }
    }
}

/// After how many milliseconds at most there is something to do here: a sweep, a sample, a compaction by time.
pub(crate) fn due(store: &dyn Reading, meta: &Meta) -> Option<u64> {
    if meta.swept < meta.compacted {
        return Some(0);
    }
    let AutoCompaction::Period { milliseconds } = meta.settings.compaction else { return None };
    let until = |then: Time, passes: u64| then.0.saturating_add(passes).saturating_sub(meta.time.0);
    let part = part_of_period(milliseconds);
    let (oldest, newest) = (first_sample(store, false), first_sample(store, true));
    let compaction = oldest.map(|(time, _)| until(time, milliseconds));
    let known = newest.map_or(meta.compacted.max(1), |(_, revision)| revision);
    let sample =
        (meta.revision > known).then(|| newest.map_or(part, |(time, _)| until(time, part)));
    compaction.into_iter().chain(sample).min()
}

const fn part_of_period(milliseconds: u64) -> u64 {
    let part = milliseconds / PART;
    if part == 0 { 1 } else { part }
}

/// Notes which revision there is now, if it is another than at the last sample and that was long enough ago.
fn sample(ledger: &mut Ledger<'_>, part: u64) {
    let Meta { revision, compacted, time, .. } = ledger.meta;
    let wanted = match first_sample(ledger.reading(), true) {
        Some((then, known)) => revision > known && time.0 >= then.0.saturating_add(part),
        None => revision > compacted.max(1),
    };
    if wanted {
        ledger.add(&sample_key(time), revision.to_bytes().into());
    }
}

/// Compacts to the newest revision that was there `milliseconds` ago, and forgets the samples up to it.
fn compact_by_time(ledger: &mut Ledger<'_>, milliseconds: u64) {
    let mut old: Vec<(Vec<u8>, Bytes)> = Vec::new();
    let (from, to) = SAMPLES;
    let now = ledger.meta.time;
    let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
    ledger.reading().scan(bounds.0, bounds.1, false, &mut |store_key, revision| {
        let is_old = time_of_sample(store_key).0.saturating_add(milliseconds) <= now.0;
        if is_old {
            old.push((store_key.to_vec(), revision.clone()));
        }
        is_old
    });
    for (store_key, revision) in &old {
        ledger.remove(store_key, revision.len());
    }
    let target = old.last().map(|(_, revision)| revision_of_sample(revision));
    if let Some(target) = target.filter(|target| *target > ledger.meta.compacted) {
        forget_before(ledger, target);
    }
}

/// The oldest sample, or the newest.
fn first_sample(store: &dyn Reading, newest: bool) -> Option<(Time, i64)> {
    let (from, to) = SAMPLES;
    let mut first = None;
    store.scan(Bound::Included(&from), Bound::Excluded(&to), newest, &mut |store_key, revision| {
        first = Some((time_of_sample(store_key), revision_of_sample(revision)));
        false
    });
    first
}

fn revision_of_sample(bytes: &[u8]) -> i64 {
    i64::from_bytes(bytes).expect("samples are our own")
}
