//! The round that wakes writers.
//!
//! A host's turn says something to many peers, and each has a writer of its own on the event loop's thread. To wake one from
//! another thread takes a system call; so the host wakes this round alone, and the round the writers, where that costs
//! nothing.

use super::outbox::Outbox;
use crate::sync::lock;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Outboxes whose writers are to be woken.
#[derive(Default)]
pub(super) struct Round {
    filled: Mutex<Vec<Arc<Outbox>>>,
    called: Notify,
}

impl Round {
    /// This outbox's writer is to be woken by the next call.
    pub(super) fn add(&self, outbox: Arc<Outbox>) {
        lock(&self.filled).push(outbox);
    }

    /// Has all of them woken.
    pub(super) fn call(&self) {
        let mut filled = lock(&self.filled);
        match filled.as_slice() {
            [] => {}
            [one] => {
                one.wake();
                filled.clear();
            }
            _ => {
                drop(filled);
                self.called.notify_one();
            }
        }
    }

    /// Goes round for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.called.notified().await;
            let filled = std::mem::take(&mut *lock(&self.filled));
            filled.iter().for_each(|outbox| outbox.wake());
        }
    }
}
