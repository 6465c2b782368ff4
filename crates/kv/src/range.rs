//! Reading keys.

use crate::draft::Draft;
use crate::error::Error;
use crate::layout::{Keys, Record};
use crate::operation::{Bytes, Range, SortOrder, SortTarget};
use crate::response::Reply;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// Checks the revision that a range inside a transaction reads at, before anything of the transaction is applied.
///
/// etcd is stricter here than outside of transactions: there every revision below 1 is the newest, here one below that
/// of the last compaction is compacted, be it negative.
///
/// # Errors
/// When the revision cannot be read.
pub(crate) fn check(range: &Range, draft: &Draft<'_>) -> Result<(), Error> {
    let meta = draft.meta();
    if range.revision == 0 {
        Ok(())
    } else if range.revision > meta.revision {
        Err(Error::FutureRevision)
    } else if range.revision < meta.compacted {
        Err(Error::Compacted)
    } else {
        Ok(())
    }
}

/// Answers a range from the draft.
///
/// # Errors
/// When the revision cannot be read, or there is too much to read or to answer.
pub(crate) fn answer(range: &Range, draft: &Draft<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let at = draft.at(range.revision)?;
    let keys = Keys::new(&range.key, &range.range_end);
    let limit = usize::try_from(range.limit).ok().filter(|limit| *limit > 0);
    let wanted =
        limit.filter(|_| keeps_limit(range)).map_or(usize::MAX, |limit| limit.saturating_add(1));
    let mut count = 0_i64;
    let mut found: Vec<Bytes> = Vec::new();
    draft.visit(keys, at, &mut |record| {
        count += 1;
        if !range.count_only && found.len() < wanted && passes(range, record) {
            found.push(record.clone());
        }
    })?;
    sort(range, &mut found);
    let more = limit.is_some_and(|limit| found.len() > limit);
    if let Some(limit) = limit {
        found.truncate(limit);
    }
    reply.range(draft.revision(), &found, range.keys_only, more, count)
}

/// Whether only the first records up to the limit need be kept. So it is where records come in the order asked for; and
/// where no order is asked for but a target is named: etcd then sorts what the limit has left, and so it is here.
fn keeps_limit(range: &Range) -> bool {
    range.sort_order == SortOrder::NONE
        && (range.sort_target == SortTarget::KEY || !has_filters(range))
        || range.sort_order == SortOrder::ASCEND && range.sort_target == SortTarget::KEY
}

fn has_filters(range: &Range) -> bool {
    [
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ] != [0; 4]
}

fn passes(range: &Range, record: &[u8]) -> bool {
    if !has_filters(range) {
        return true;
    }
    let record = Record::read(record);
    let within = |revision: i64, min: i64, max: i64| {
        (min == 0 || revision >= min) && (max == 0 || revision <= max)
    };
    within(record.mod_revision, range.min_mod_revision, range.max_mod_revision)
        && within(record.create_revision, range.min_create_revision, range.max_create_revision)
}

/// Sorts records that come in ascending order of keys. Equals stay in that order.
fn sort(range: &Range, records: &mut [Bytes]) {
    let descending = range.sort_order == SortOrder::DESCEND;
    if range.sort_target == SortTarget::KEY {
        if descending {
            records.reverse();
        }
        return;
    }
    records.sort_by(|a, b| {
        let order = compare(range.sort_target, &Record::read(a), &Record::read(b));
        if descending { order.reverse() } else { order }
    });
}

fn compare(target: SortTarget, a: &Record<'_>, b: &Record<'_>) -> Ordering {
    match target {
        SortTarget::VERSION => a.version.cmp(&b.version),
        SortTarget::CREATE => a.create_revision.cmp(&b.create_revision),
        SortTarget::MOD => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::VALUE => a.value.cmp(b.value),
        _ => a.key.cmp(b.key),
    }
}
