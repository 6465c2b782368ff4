//! What is replicated: a deterministic service over an ordered map of byte strings.
//!
//! A service keeps all its state in the [`Store`] that it is handed, and none anywhere else. So its state is in the
//! checkpoint's digest, in snapshots and in transfers without a line of its own, and an operation that panics is
//! undone by throwing its overlay away.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;
use testudo_core::{Slot, Time};

/// When and where in the order an operation executes: the same at every replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The slot that it was ordered in.
    pub slot: Slot,
    /// Agreed time, which never falls.
    pub time: Time,
    /// Time that passed since the slot before, with gaps that nobody vouches for left out; for leases. In milliseconds.
    pub elapsed: u64,
}

/// An ordered map from bytes to bytes, as one may read it: the replicated state, a snapshot of it, a learner's copy.
pub trait Reading {
    /// The value at `key`.
    fn get(&self, key: &[u8]) -> Option<Arc<[u8]>>;
    /// Visits the entries within the bounds in ascending order (descending if `reverse`) until `visit` says false.
    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &Arc<[u8]>) -> bool,
    );
}

/// The same, as a service may change it: all the state that a service has.
pub trait Store: Reading {
    /// Sets the value at `key`.
    fn put(&mut self, key: &[u8], value: Arc<[u8]>);
    /// Removes `key`; true if it was there.
    fn delete(&mut self, key: &[u8]) -> bool;
}

/// A deterministic service.
pub trait Service: Send + 'static {
    /// Version of what operations and state mean. Replicas of other versions do not execute together.
    const VERSION: u32;

    /// Writes the state that everything starts from.
    fn genesis(&self, store: &mut dyn Store);

    /// Executes one operation and gives its result. A function of its arguments alone: no clock, no chance, no state of
    /// its own. Whatever the bytes are, it answers; bad input gets a result that says so.
    fn execute(&self, store: &mut dyn Store, operation: &[u8], moment: &Moment) -> Vec<u8>;

    /// What the service does by itself as agreed time passes: leases expire, history is compacted. Runs at the beginning
    /// of every slot, before its operations and even if it has none, on an overlay of its own. Bounded: what is left over
    /// is left to the next slot, and [`Service::due`] says so. What it gives goes into the digest of results that replicas
    /// and learners compare; nothing if nothing happened.
    fn advance(&self, store: &mut dyn Store, moment: &Moment) -> Vec<u8> {
        let _ = (store, moment);
        Vec::new()
    }

    /// After how many milliseconds of elapsed time, counted from the slot that executed last, the service wants a slot
    /// to be ordered though nobody asks for anything: at once, later, or never. Every replica waits for it, as for a
    /// request, and removes a primary that will not order it.
    fn due(&self, store: &dyn Reading) -> Option<u64> {
        let _ = store;
        None
    }

    /// The result of an operation that panicked and was undone.
    fn internal_error(&self) -> Vec<u8>;

    /// The result of an operation that was not executed because its bundle's results would be too large.
    fn too_large(&self) -> Vec<u8>;
}
