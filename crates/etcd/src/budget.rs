//! Bytes that strangers may make the gateway hold.
//!
//! There is one budget for the gateway and one for each connection, so that no single connection
//! can spend it all. Whoever holds bytes for a client holds a [`Charge`] for them, and gives it back
//! by dropping it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;

/// Bytes that are left to be charged: less than none when what was charged in advance did not do.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicI64,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self::of(bytes))
    }

    fn of(bytes: usize) -> Self {
        Self { left: AtomicI64::new(signed(bytes)) }
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        usize::try_from(self.left.load(Ordering::Relaxed)).unwrap_or(0)
    }

    fn take(&self, bytes: usize) -> bool {
        let bytes = signed(bytes);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                (left >= bytes).then(|| left - bytes)
            })
            .is_ok()
    }

    fn give(&self, bytes: i64) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One connection's budget, within the gateway's.
#[derive(Debug)]
pub(crate) struct Account {
    gateway: Arc<Budget>,
    own: Budget,
    /// What its own had at the beginning.
    bytes: usize,
}

impl Account {
    pub(crate) fn new(gateway: Arc<Budget>, bytes: usize) -> Arc<Self> {
        Arc::new(Self { gateway, own: Budget::of(bytes), bytes })
    }

    /// What the connection may hold at all.
    pub(crate) const fn most(&self) -> usize {
        self.bytes
    }

    /// Charges for something whose size is yet to be found out: as many bytes as it may well have,
    /// though never more than half of what a connection has at all.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        self.charge(bytes.min(self.bytes / 2))
    }

    /// Charges bytes to both budgets, or to neither when either has too little left.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        if !self.own.take(bytes) {
            return None;
        }
        if !self.gateway.take(bytes) {
            self.own.give(signed(bytes));
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

    /// How many bytes are charged.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Charges as many bytes more, or none when there are not that many left.
    pub(crate) fn extend(&mut self, bytes: usize) -> Option<()> {
        let mut more = self.account.charge(bytes)?;
        self.bytes += std::mem::take(&mut more.bytes);
        Some(())
    }

    /// Charges as many bytes as it has come to be, even if there are not that many left.
    pub(crate) fn settle(&mut self, bytes: usize) {
        let back = signed(self.bytes) - signed(bytes);
        self.account.own.give(back);
        self.account.gateway.give(back);
        self.bytes = bytes;
    }
}

/// Nothing in memory has more bytes than fit.
fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.own.give(signed(self.bytes));
        self.account.gateway.give(signed(self.bytes));
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
        assert_eq!((gateway.left(), one.own.left()), (100, 80));
    }

    #[test]
    fn what_is_charged_in_advance_is_settled_when_its_size_is_known() {
        let gateway = Budget::new(100);
        let one = Account::new(gateway.clone(), 80);
        let mut charge = one.reserve(60).expect("there is room");
        assert_eq!(gateway.left(), 60, "no more than half of the connection's");
        charge.settle(10);
        assert_eq!((gateway.left(), one.own.left()), (90, 70));
        charge.settle(95);
        assert_eq!((gateway.left(), one.own.left()), (5, 0));
        assert!(one.reserve(1).is_none(), "more is taken than there was");
        drop(charge);
        assert_eq!((gateway.left(), one.own.left()), (100, 80));
    }
}
