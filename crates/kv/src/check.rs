//! What can be told of an operation without looking at the state.
//!
//! A gateway calls this before it has anything ordered, so that nonsense costs no agreement. The service calls it
//! again, because whoever ordered the operation need not have.

use crate::error::Error;
use crate::lease::MAX_TTL;
use crate::operation::{Bytes, DeleteRange, LeaseGrant, Operation, Put, Range, RequestOp, Txn};
use alloc::collections::{BTreeMap, BTreeSet};

/// Compares, and requests in each branch, that a transaction may have. One inside another may have as many as the
/// outer one leaves of this. More is [`Error::TooManyOperations`].
pub const TXN_OPERATIONS: usize = 128;

/// How deep a transaction may lie inside others. etcd has no bound of its own here, but every level costs its stack.
/// Deeper is [`Error::TooManyOperations`].
pub const NESTING: usize = 8;

/// Bytes of a request as its client sent it, and of the keys and values in it. More is [`Error::RequestTooLarge`].
pub const REQUEST_BYTES: usize = 1536 << 10;

/// Checks the length of a request that is not read-only, in etcd's protocol.
///
/// # Errors
/// When the request is too large.
pub const fn request_size(bytes: usize) -> Result<(), Error> {
    if bytes > REQUEST_BYTES { Err(Error::RequestTooLarge) } else { Ok(()) }
}

/// Checks an operation by itself.
///
/// # Errors
/// What etcd answers to it without looking at its store.
pub fn operation(operation: &Operation) -> Result<(), Error> {
    match operation {
        Operation::Status
        | Operation::Compact(_)
        | Operation::LeaseRevoke(_)
        | Operation::LeaseKeepAlive(_)
        | Operation::LeaseTimeToLive(_)
        | Operation::LeaseLeases => Ok(()),
        Operation::LeaseGrant(request) => lease_grant(request),
        Operation::Range(request) => range(request),
        Operation::Put(request) => put(request).and_then(|()| request_size(put_size(request))),
        Operation::DeleteRange(request) => {
            delete_range(request).and_then(|()| request_size(delete_size(request)))
        }
        Operation::Txn(request) => {
            txn(request, TXN_OPERATIONS, 0)?;
            // Overlaps come after the counts, so that their cost is bounded.
            overlaps(&request.success)?;
            overlaps(&request.failure)?;
            if operation.is_read_only() { Ok(()) } else { request_size(txn_size(request)) }
        }
    }
}

/// Whether an operation may make the store grow, so that it is refused where there is no space left: a put, a
/// transaction that could put, a new lease. etcd, too, looks at both branches of a transaction before it is judged, but
/// not at transactions inside; here those count.
pub(crate) fn grows(operation: &Operation) -> bool {
    match operation {
        Operation::Put(_) | Operation::LeaseGrant(_) => true,
        Operation::Txn(txn) => may_put(txn),
        _ => false,
    }
}

fn may_put(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        RequestOp::Put(_) => true,
        RequestOp::Txn(inner) => may_put(inner),
        RequestOp::None | RequestOp::Range(_) | RequestOp::DeleteRange(_) => false,
    })
}

fn lease_grant(grant: &LeaseGrant) -> Result<(), Error> {
    if grant.id == 0 {
        Err(Error::LeaseWithoutId)
    } else if grant.ttl > MAX_TTL {
        Err(Error::LeaseTtlTooLarge)
    } else {
        Ok(())
    }
}

fn key(key: &Bytes) -> Result<(), Error> {
    if key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

fn range(range: &Range) -> Result<(), Error> {
    key(&range.key)?;
    if range.sort_order.is_known() && range.sort_target.is_known() {
        Ok(())
    } else {
        Err(Error::InvalidSortOption)
    }
}

fn put(put: &Put) -> Result<(), Error> {
    key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        Err(Error::ValueProvided)
    } else if put.ignore_lease && put.lease != 0 {
        Err(Error::LeaseProvided)
    } else {
        Ok(())
    }
}

fn delete_range(delete: &DeleteRange) -> Result<(), Error> {
    key(&delete.key)
}

fn txn(txn: &Txn, allowance: usize, depth: usize) -> Result<(), Error> {
    let size = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let left = allowance.checked_sub(size).ok_or(Error::TooManyOperations)?;
    if depth > NESTING {
        return Err(Error::TooManyOperations);
    }
    txn.compare.iter().try_for_each(|compare| key(&compare.key))?;
    txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
        RequestOp::None => Err(Error::KeyNotFound),
        RequestOp::Range(request) => range(request),
        RequestOp::Put(request) => put(request),
        RequestOp::DeleteRange(request) => delete_range(request),
        RequestOp::Txn(inner) => self::txn(inner, left, depth + 1),
    })
}

fn put_size(put: &Put) -> usize {
    put.key.len() + put.value.len()
}

fn delete_size(delete: &DeleteRange) -> usize {
    delete.key.len() + delete.range_end.len()
}

/// Bytes of keys and values in a transaction: less than any encoding of it has.
fn txn_size(txn: &Txn) -> usize {
    let compares = txn.compare.iter().map(|compare| {
        let operand = match &compare.operand {
            crate::operation::Operand::Value(value) => value.len(),
            _ => 0,
        };
        compare.key.len() + compare.range_end.len() + operand
    });
    let requests = txn.success.iter().chain(&txn.failure).map(|op| match op {
        RequestOp::None => 0,
        RequestOp::Range(range) => range.key.len() + range.range_end.len(),
        RequestOp::Put(put) => put_size(put),
        RequestOp::DeleteRange(delete) => delete_size(delete),
        RequestOp::Txn(inner) => txn_size(inner),
    });
    compares.chain(requests).sum()
}

/// The keys that a list of requests may put and delete.
#[derive(Default)]
struct Touched<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

/// Collects what a list of requests may touch, and refuses a key put twice, or put and deleted.
///
/// This is etcd's rule with its seams. The two branches of an inner transaction exclude each other, so both may put a
/// key. Of two inner transactions the first may put what the second deletes, but not the other way round. A deletion
/// of everything from a key on (range end `\0`) is no hindrance to a put, since here its end is taken by the letter.
/// Clients that go through etcd go through here: a stricter rule would refuse what works there.
fn overlaps(requests: &[RequestOp]) -> Result<Touched<'_>, Error> {
    let mut touched = Touched::default();
    for request in requests {
        if let RequestOp::DeleteRange(delete) = request {
            touched.deletes.insert(&delete.key, &delete.range_end);
        }
    }
    for request in requests {
        if let RequestOp::Txn(inner) = request {
            let success = overlaps(&inner.success)?;
            let failure = overlaps(&inner.failure)?;
            let puts: BTreeSet<_> = success.puts.union(&failure.puts).copied().collect();
            puts.into_iter().try_for_each(|key| touched.put(key))?;
            touched.deletes.append(success.deletes);
            touched.deletes.append(failure.deletes);
        }
    }
    for request in requests {
        if let RequestOp::Put(put) = request {
            touched.put(&put.key)?;
        }
    }
    Ok(touched)
}

impl<'a> Touched<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if self.deletes.contain(key) || !self.puts.insert(key) {
            Err(Error::DuplicateKey)
        } else {
            Ok(())
        }
    }
}

/// Where an interval ends: at a key, and whether that key is in it. The derived order is the order of the ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End<'a> {
    key: &'a [u8],
    included: bool,
}

/// A set of keys as disjoint intervals, by their first key. However many intervals are put in, a look-up costs one
/// search: comparing every put with every deletion would let one request cost billions of comparisons.
#[derive(Default)]
struct Intervals<'a> {
    ends: BTreeMap<&'a [u8], End<'a>>,
}

impl<'a> Intervals<'a> {
    fn insert(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        if range_end.is_empty() {
            self.add(key, End { key, included: true });
        } else if range_end > key {
            self.add(key, End { key: range_end, included: false });
        }
    }

    fn append(&mut self, other: Self) {
        other.ends.into_iter().for_each(|(start, end)| self.add(start, end));
    }

    fn contain(&self, key: &[u8]) -> bool {
        let before = self.ends.range::<&[u8], _>(..=key).next_back();
        before.is_some_and(|(_, end)| *end >= End { key, included: true })
    }

    /// Adds an interval that is not empty, merging it with those that it meets.
    fn add(&mut self, mut start: &'a [u8], mut end: End<'a>) {
        if let Some((before, until)) = self.ends.range::<&[u8], _>(..=start).next_back()
            && *until >= (End { key: start, included: false })
        {
            start = before;
        }
        while let Some((&next, &until)) = self.ends.range::<&[u8], _>(start..).next()
            && (End { key: next, included: false }) <= end
        {
            self.ends.remove(next);
            end = end.max(until);
        }
        self.ends.insert(start, end);
    }
}
