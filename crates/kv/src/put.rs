//! Setting and deleting keys.

use crate::draft::{At, Draft};
use crate::error::Error;
use crate::layout::{Keys, Record, record};
use crate::lease::Lease;
use crate::operation::{Bytes, DeleteRange, Put};
use crate::response::Reply;
use alloc::vec::Vec;

/// Checks what a put expects of the state.
///
/// # Errors
/// When its lease does not exist, or the key of which it would keep something.
pub(crate) fn check(put: &Put, draft: &Draft<'_>) -> Result<(), Error> {
    lease(put, draft)?;
    if keeps_something(put) && draft.newest(&put.key)?.is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

/// Applies a put.
///
/// # Errors
/// As [`check`], and when the answer would be too large.
pub(crate) fn apply(put: &Put, draft: &mut Draft<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    lease(put, draft)?;
    let previous = draft.newest(&put.key)?;
    if keeps_something(put) && previous.is_none() {
        return Err(Error::KeyNotFound);
    }
    let revision = draft.next_revision();
    let before = previous.as_deref().map(Record::read);
    let value = before.filter(|_| put.ignore_value).map_or(&put.value[..], |before| before.value);
    let lease = before.filter(|_| put.ignore_lease).map_or(put.lease, |before| before.lease);
    let (created, version) =
        before.map_or((revision, 1), |before| (before.create_revision, before.version + 1));
    let now = record(&put.key, created, revision, version, lease, value);
    draft.put(&put.key, previous.clone(), now);
    reply.put(revision, previous.as_ref().filter(|_| put.prev_kv))
}

/// Applies a deletion.
///
/// # Errors
/// When there is too much to delete, or to answer.
pub(crate) fn delete_range(
    delete: &DeleteRange,
    draft: &mut Draft<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let mut previous: Vec<Bytes> = Vec::new();
    draft.visit(Keys::new(&delete.key, &delete.range_end), At::Newest, &mut |record| {
        previous.push(record.clone());
    })?;
    for record in &previous {
        draft.delete(&Record::read(record).key.into(), record.clone());
    }
    let answered = if delete.prev_kv { &previous[..] } else { &[] };
    reply.delete_range(draft.revision(), previous.len() as i64, answered)
}

fn keeps_something(put: &Put) -> bool {
    put.ignore_value || put.ignore_lease
}

/// Checks that a put's lease lives.
fn lease(put: &Put, draft: &Draft<'_>) -> Result<(), Error> {
    if put.lease == 0 || Lease::read_alive(draft.store(), draft.meta(), put.lease).is_some() {
        Ok(())
    } else {
        Err(Error::LeaseNotFound)
    }
}
