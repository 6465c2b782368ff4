//! The judge of leases: none ends before its time, by true time and by agreed time, and each ends.

use super::{Answer, Ask, What, ttl};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use testudo_core::Time;
use testudo_core::limits::CLOCK_BOUND;
use testudo_sim::workload::Finding;

/// How far the clocks of two correct nodes may be from each other in a run: what agreed time may be wrong by beyond
/// the bound that voters hold proposers to.
const SPREAD: Duration = Duration::from_millis(250);

/// How long beyond its time and the bound's slack a lease may last on a cluster that is well: changes of view, whose
/// gaps are not counted, and messages under way.
const MARGIN: Duration = Duration::from_secs(8);

/// How long after the last renewal everything has ended, trouble aside.
pub fn longest() -> Duration {
    Duration::from_secs(ttl(super::LEASES as i64) as u64) + 2 * CLOCK_BOUND + MARGIN
}

#[derive(Default, Debug)]
struct Lease {
    is_held: bool,
    /// When the last renewal that was acknowledged had been asked for.
    renewed: Option<Duration>,
    /// How far agreed time was at least when that was executed: what it was when that was asked for.
    agreed: Time,
    /// When anybody asked last for a renewal that may have come to something.
    asked: Duration,
    /// What agreed time was known to be at each of those moments.
    clocks: BTreeMap<Duration, Time>,
    /// How many revocations were asked for and not answered: each may come to something at any time, however often the
    /// lease ended by itself and was granted again meanwhile. Those of clients that crashed stay so for ever.
    revocations: u32,
    /// How many of them an end that came too early was put down to. Each ends the lease once at most, so none excuses
    /// another end.
    spent: u32,
}

/// All leases of a run.
#[derive(Default, Debug)]
pub struct Leases {
    leases: BTreeMap<i64, Lease>,
    /// How many ended by themselves.
    pub expired: u64,
    /// How many renewals were acknowledged.
    pub renewed: u64,
    /// When trouble ended last.
    healed: Duration,
    /// Agreed time, as far as any state has shown it.
    time: Time,
}

impl Leases {
    /// An operation was asked for.
    pub fn asked(&mut self, at: Duration, ask: &Ask) {
        match ask {
            Ask::Grant(id, _) | Ask::KeepAlive(id) => {
                let lease = self.leases.entry(*id).or_default();
                lease.asked = at;
                lease.clocks.insert(at, self.time);
            }
            Ask::Revoke(id) => self.leases.entry(*id).or_default().revocations += 1,
            _ => {}
        }
    }

    /// An operation that was asked for at `called` is answered.
    pub fn answered(&mut self, called: Duration, ask: &Ask, answer: &Answer) {
        if let Ask::Revoke(id) = ask {
            let lease = self.leases.entry(*id).or_default();
            lease.revocations = lease.revocations.saturating_sub(1);
            // One that was refused has ended nothing, so what an end was put down to is another one.
            let is_refused = matches!(answer.what, What::Refused(_));
            lease.spent = lease.spent.saturating_sub(u32::from(!is_refused)).min(lease.revocations);
        }
        let (Ask::Grant(id, _) | Ask::KeepAlive(id)) = ask else { return };
        let lease = self.leases.entry(*id).or_default();
        let agreed = lease.clocks.remove(&called).unwrap_or_default();
        if !matches!(answer.what, What::Lives(1..)) {
            return;
        }
        lease.renewed = lease.renewed.max(Some(called));
        lease.agreed = lease.agreed.max(agreed);
        self.renewed += u64::from(matches!(ask, Ask::KeepAlive(_)));
    }

    /// All trouble has ended.
    pub fn healed(&mut self, at: Duration) {
        self.healed = at;
    }

    /// The state that is furthest holds these leases, at that agreed time.
    pub fn held(&mut self, at: Duration, time: Time, held: &[i64]) -> Option<Finding> {
        self.time = self.time.max(time);
        let held: BTreeSet<i64> = held.iter().copied().collect();
        for id in &held {
            self.leases.entry(*id).or_default();
        }
        for (id, lease) in &mut self.leases {
            let was_held = std::mem::replace(&mut lease.is_held, held.contains(id));
            if !was_held || lease.is_held {
                continue;
            }
            let is_unrevoked = lease.spent == lease.revocations;
            let life = Duration::from_secs(ttl(*id) as u64);
            let agreed = std::mem::take(&mut lease.agreed);
            self.expired += u64::from(is_unrevoked);
            if let Some(renewed) = lease.renewed.take()
                && (at + SPREAD < renewed + life || time.0 < agreed.0 + life.as_millis() as u64)
            {
                if !is_unrevoked {
                    lease.spent += 1;
                    continue;
                }
                let what = format!(
                    "lease {id} of {life:?}, renewed at {renewed:?} and at or after {agreed:?} of \
                     agreed time, ended too early at {time:?}"
                );
                return Some(("leases", what));
            }
        }
        None
    }

    /// Nothing that has been due for long is still there.
    pub fn finish(&self, at: Duration) -> Vec<Finding> {
        let late = self.leases.iter().filter(|(id, lease)| {
            let began = lease.asked.max(self.healed);
            let life = Duration::from_secs(ttl(**id) as u64);
            lease.is_held && began + life + 2 * CLOCK_BOUND + MARGIN < at
        });
        late.map(|(id, lease)| {
            ("leases", format!("lease {id}, asked for at {:?} last, is still there", lease.asked))
        })
        .collect()
    }
}
