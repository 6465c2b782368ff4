//! Leases: keys that live as long as their holder says that it does.
//!
//! A lease's time is that of the *lease clock*, the sum of what [`Moment::elapsed`] says has passed: what replicas have
//! agreed on, without the gaps of which nobody knows how long they were. A gap can thus prolong a lease, each by no more
//! than [`LONGEST_STRETCH`] and the change of primaries itself, and nothing can shorten one. Clocks of replicas may differ by [`CLOCK_BOUND`], and a slot is ordered a little before its
//! results are seen, so a lease that has [`Lease::ttl`] seconds expires after these and [`SLACK`].
//!
//! Leases expire by [`expire`], which runs as time passes, with or without anyone's asking. A lease's keys are deleted
//! in one revision, however many they are: a watcher sees them go together, as in etcd. How many there can be is
//! bounded by the store's quota, as it is for a deletion of everything. But of several leases that are due no more are
//! ended in one slot than [`EXPIRED_LEASES`] and [`EXPIRED_KEYS`] allow; the others follow in the next slots. Until
//! then they are dead: nothing can be put on them, and no keep-alive brings them back.
//!
//! [`Moment::elapsed`]: testudo_contracts::Moment::elapsed

use crate::draft::Draft;
use crate::error::Error;
use crate::layout::{
    EXPIRIES, Ledger, Meta, attachment_bounds, lease_key, split_attachment_key, split_expiry_key,
};
use crate::operation::{Bytes, LeaseGrant, LeaseKeepAlive, LeaseTimeToLive};
use crate::response::{
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse,
    LeaseTimeToLiveResponse,
};
use alloc::vec::Vec;
use core::ops::Bound;
use testudo_contracts::Reading;
use testudo_core::limits::{CLOCK_BOUND, RESULT_BYTES};
use testudo_core::{Decode, wire_struct};

/// Seconds that every lease lives at least: what etcd makes of its default timeouts.
pub const MIN_TTL: i64 = 2;

/// Seconds that a lease may live at most unless it is kept alive, as in etcd.
pub const MAX_TTL: i64 = 9_000_000_000;

/// Milliseconds that pass at most before a slot is ordered while there are leases. Time counts when a slot is ordered, and
/// what has passed since the last one is lost when the primary changes: so no change prolongs a lease by more than this.
pub const LONGEST_STRETCH: u64 = 30_000;

/// Milliseconds that a lease lives beyond its time, so that it never lives less.
pub const SLACK: u64 = 2 * CLOCK_BOUND.as_millis() as u64;

/// Leases that expire in one slot at most. The others expire in the next ones.
pub(crate) const EXPIRED_LEASES: usize = 256;

/// Keys that the leases that expire in one slot may have, but for the last of them. The others expire in the next ones.
pub(crate) const EXPIRED_KEYS: usize = 1024;

/// A lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lease {
    /// For how many seconds it was granted.
    pub(crate) ttl: i64,
    /// When it expires, by the lease clock.
    pub(crate) expires: u64,
}

wire_struct!(Lease { ttl, expires });

impl Lease {
    /// A lease whose time begins now.
    fn new(ttl: i64, clock: u64) -> Self {
        let milliseconds = u64::try_from(ttl).unwrap_or(0).saturating_mul(1000);
        Self { ttl, expires: clock.saturating_add(milliseconds).saturating_add(SLACK) }
    }

    /// The lease of this number, dead or alive.
    pub(crate) fn read(store: &dyn Reading, id: i64) -> Option<Self> {
        let bytes = store.get(&lease_key(id))?;
        Some(Self::from_bytes(&bytes).expect("leases are our own"))
    }

    /// The lease of this number, unless it is dead.
    pub(crate) fn read_alive(store: &dyn Reading, meta: &Meta, id: i64) -> Option<Self> {
        Self::read(store, id).filter(|lease| lease.expires > meta.clock)
    }

    /// Whole seconds until its time is over, which is a little before it expires.
    fn left(self, clock: u64) -> i64 {
        let left = self.expires.saturating_sub(SLACK).saturating_sub(clock) / 1000;
        i64::try_from(left).unwrap_or(i64::MAX)
    }
}

/// Begins a lease.
pub(crate) fn grant(
    request: &LeaseGrant,
    draft: &mut Draft<'_>,
) -> Result<LeaseGrantResponse, Error> {
    let LeaseGrant { id, ttl } = *request;
    if Lease::read(draft.store(), id).is_some() {
        return Err(Error::LeaseExists);
    }
    let ttl = ttl.max(MIN_TTL);
    draft.set_lease(id, None, Some(Lease::new(ttl, draft.meta().clock)));
    Ok(LeaseGrantResponse { revision: draft.revision(), id, ttl })
}

/// Ends a lease and deletes its keys.
pub(crate) fn revoke(id: i64, draft: &mut Draft<'_>) -> Result<LeaseRevokeResponse, Error> {
    let lease = Lease::read(draft.store(), id).ok_or(Error::LeaseNotFound)?;
    let mut keys: Vec<Bytes> = Vec::new();
    let enough = attached(draft.store(), id, &mut |key| {
        keys.push(key.into());
        draft.look()
    });
    if !enough {
        return Err(Error::TooMuchWork);
    }
    for key in &keys {
        if let Some(newest) = draft.newest(key)? {
            draft.delete(key, newest);
        }
    }
    draft.set_lease(id, Some(lease), None);
    Ok(LeaseRevokeResponse { revision: draft.revision() })
}

/// Lets a lease's time begin anew.
pub(crate) fn keep_alive(
    request: &LeaseKeepAlive,
    draft: &mut Draft<'_>,
) -> LeaseKeepAliveResponse {
    let LeaseKeepAlive { id } = *request;
    let lease = Lease::read_alive(draft.store(), draft.meta(), id);
    if let Some(lease) = lease {
        draft.set_lease(id, Some(lease), Some(Lease::new(lease.ttl, draft.meta().clock)));
    }
    let ttl = lease.map_or(0, |lease| lease.ttl);
    LeaseKeepAliveResponse { revision: draft.revision(), id, ttl }
}

/// Says how long a lease has; `since` is how many milliseconds have passed by the reader's clock since the lease clock
/// was set.
pub(crate) fn time_to_live(
    request: &LeaseTimeToLive,
    draft: &Draft<'_>,
    since: u64,
) -> Result<LeaseTimeToLiveResponse, Error> {
    let LeaseTimeToLive { id, keys: with_keys } = *request;
    let revision = draft.revision();
    let Some(lease) = Lease::read_alive(draft.store(), draft.meta(), id) else {
        let (ttl, granted_ttl, keys) = (-1, 0, Vec::new());
        return Ok(LeaseTimeToLiveResponse { revision, id, ttl, granted_ttl, keys });
    };
    let (mut keys, mut bytes): (Vec<Bytes>, usize) = (Vec::new(), 0);
    let mut enough = true;
    if with_keys {
        enough = attached(draft.store(), id, &mut |key| {
            bytes += size_of::<u32>() + key.len();
            keys.push(key.into());
            bytes <= RESULT_BYTES && draft.look()
        });
    }
    if bytes > RESULT_BYTES {
        return Err(Error::ResultTooLarge);
    } else if !enough {
        return Err(Error::TooMuchWork);
    }
    let ttl = lease.left(draft.meta().clock.saturating_add(since));
    Ok(LeaseTimeToLiveResponse { revision, id, ttl, granted_ttl: lease.ttl, keys })
}

/// Says which leases there are.
pub(crate) fn leases(draft: &Draft<'_>) -> Result<LeaseLeasesResponse, Error> {
    let mut leases: Vec<i64> = Vec::new();
    let mut enough = true;
    visit_expiries(draft.store(), &mut |expires, id| {
        if expires > draft.meta().clock {
            leases.push(id);
        }
        enough = leases.len() < RESULT_BYTES / size_of::<i64>() && draft.look();
        enough
    });
    if !enough {
        return Err(Error::ResultTooLarge);
    }
    Ok(LeaseLeasesResponse { revision: draft.revision(), leases })
}

/// Ends leases that are due, each in a revision of its own if it has keys; no more than may be ended in one slot.
pub(crate) fn expire(ledger: &mut Ledger<'_>) {
    let (mut leases, mut keys) = (0, 0);
    while leases < EXPIRED_LEASES
        && keys < EXPIRED_KEYS
        && let Some((expires, id)) = next(ledger.reading())
        && expires <= ledger.meta.clock
    {
        let mut draft = Draft::unbounded(ledger.reading(), ledger.meta);
        revoke(id, &mut draft).expect("a lease that expires is there, and all of it may be read");
        let changes = draft.finish();
        leases += 1;
        keys += changes.len();
        changes.write(ledger);
    }
}

/// After how many milliseconds by the lease clock the next lease expires, or time's passing is to be agreed on though none
/// does.
pub(crate) fn due(store: &dyn Reading, meta: &Meta) -> Option<u64> {
    next(store).map(|(expires, _)| expires.saturating_sub(meta.clock).min(LONGEST_STRETCH))
}

/// The lease that expires first, and when.
fn next(store: &dyn Reading) -> Option<(u64, i64)> {
    let mut first = None;
    visit_expiries(store, &mut |expires, id| {
        first = Some((expires, id));
        false
    });
    first
}

fn visit_expiries(store: &dyn Reading, visit: &mut dyn FnMut(u64, i64) -> bool) {
    let (from, to) = EXPIRIES;
    store.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |store_key, _| {
        let (expires, id) = split_expiry_key(store_key);
        visit(expires, id)
    });
}

/// Visits the keys of a lease until `visit` says false; whether it never did.
fn attached(store: &dyn Reading, id: i64, visit: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let (from, to) = attachment_bounds(id);
    let mut all = true;
    store.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |store_key, _| {
        all = visit(split_attachment_key(store_key).1);
        all
    });
    all
}
