//! Locks that outlive a panic.
//!
//! A thread that panics here stops its node, and what it leaves behind a lock is looked at only by what winds the node
//! up. So poison says nothing, and is passed over in this one place.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Locks, poisoned or not.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits to be woken, or until the time is over.
pub(crate) fn wait<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    limit: Option<Duration>,
) -> MutexGuard<'a, T> {
    match limit {
        None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(limit) => condvar.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0,
    }
}
