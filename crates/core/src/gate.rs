//! Durable before visible.
//!
//! A driver numbers everything that must be durable (records and promises alike) and holds back what was said after it
//! until the disk has it. Many steps share one flush. Production and simulation use this same gate.

use alloc::collections::VecDeque;

/// Holds effects until what they rest on is durable. Its marks count durable *writes*: records and promises in the
/// order of the effects that asked for them.
#[derive(Clone, Debug)]
pub struct Gate<T> {
    /// Writes asked for. Invariant: `written ≥ durable`.
    written: u64,
    /// Writes known to be durable.
    durable: u64,
    /// What waits, with the number of writes that must be durable first. Invariant: those numbers never fall from
    /// front to back, and the front's is above `durable`.
    held: VecDeque<(u64, T)>,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self { written: 0, durable: 0, held: VecDeque::new() }
    }
}

impl<T> Gate<T> {
    /// A gate with nothing behind it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more write was asked for. Its mark is given back: the write is durable when [`Gate::durable`] says so.
    pub fn write(&mut self) -> u64 {
        self.written += 1;
        self.written
    }

    /// Passes an effect through: it comes back at once when nothing before it is unwritten, and is held otherwise.
    pub fn pass(&mut self, effect: T) -> Option<T> {
        if self.durable == self.written {
            Some(effect)
        } else {
            self.held.push_back((self.written, effect));
            None
        }
    }

    /// All writes up to this mark are durable: whatever waited for them alone is let go, in order.
    pub fn durable(&mut self, mark: u64) -> impl Iterator<Item = T> + use<T> {
        assert!(mark <= self.written, "durable: a write that nobody asked for");
        self.durable = self.durable.max(mark);
        let ready = self.held.partition_point(|(needs, _)| *needs <= self.durable);
        let rest = self.held.split_off(ready);
        core::mem::replace(&mut self.held, rest).into_iter().map(|(_, effect)| effect)
    }

    /// Whether somebody waits for a flush. A record on which nothing waits may be flushed with the next.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// What waits, each with the mark that must be durable first, in the order in which it is let go.
    pub fn held(&self) -> impl Iterator<Item = (u64, &T)> {
        self.held.iter().map(|(needs, effect)| (*needs, effect))
    }

    /// Writes asked for so far.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }
}
