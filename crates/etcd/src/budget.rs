//! Bytes that strangers may make the gateway hold.
//!
//! There is one budget for the gateway and one for each connection, so that no single connection
//! can spend it all. Whoever holds bytes for a client holds a [`Charge`] for them, and gives it back
//! by dropping it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Bytes that are left to be charged.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .is_ok()
    }

    fn give(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One connection's budget, within the gateway's.
#[derive(Debug)]
pub(crate) struct Account {
    gateway: Arc<Budget>,
    own: Budget,
}

impl Account {
    pub(crate) fn new(gateway: Arc<Budget>, bytes: usize) -> Arc<Self> {
        Arc::new(Self { gateway, own: Budget { left: AtomicUsize::new(bytes) } })
    }

    /// Charges bytes to both budgets, or to neither when either has too little left.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        if !self.own.take(bytes) {
            return None;
        }
        if !self.gateway.take(bytes) {
            self.own.give(bytes);
            return None;
        }
        Some(Charge { account: self.clone(), bytes })
    }
}

/// Bytes that are charged until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Charge {
    /// What is charged.
    pub(crate) const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Charges as many bytes more, or none when there are not that many left.
    pub(crate) fn extend(&mut self, bytes: usize) -> Option<()> {
        let mut more = self.account.charge(bytes)?;
        self.bytes += std::mem::take(&mut more.bytes);
        Some(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.own.give(self.bytes);
        self.account.gateway.give(self.bytes);
    }
}

/// Ties a charge to the bytes that it is for: it lasts as long as any view of them, wherever a
/// connection may queue it.
pub(crate) fn charged(bytes: Vec<u8>, charge: Charge) -> Bytes {
    Bytes::from_owner(Charged { bytes, _charge: charge })
}

struct Charged {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_budget_is_overdrawn_and_both_are_given_back() {
        let gateway = Budget::new(100);
        let one = Account::new(gateway.clone(), 80);
        let other = Account::new(gateway.clone(), 80);
        let mut charge = one.charge(60).expect("both have enough");
        assert!(one.charge(21).is_none(), "the connection has 20 left");
        assert!(other.charge(41).is_none(), "the gateway has 40 left");
        assert!(charge.extend(21).is_none());
        charge.extend(20).expect("the connection has 20 left");
        assert!(other.charge(21).is_none());
        let view = charged(vec![1, 2, 3], charge).slice(1..2);
        assert!(other.charge(21).is_none(), "a view is alive");
        drop(view);
        drop(other.charge(80).expect("everything was given back"));
        assert_eq!(gateway.left.load(Ordering::Relaxed), 100);
        assert_eq!(one.own.left.load(Ordering::Relaxed), 80);
    }
}
