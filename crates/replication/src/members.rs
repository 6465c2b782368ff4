//! Who orders: the members as the replicated state has them.
//!
//! A replica whose promises are lost may not vote under its old key again, as nobody knows what it has signed. It asks, with
//! its long-lived key, to come back under a new one. That is an operation like any other, and ends the epoch: with the slot
//! that executes it the members are others, and what was signed before counts for nothing after it
//! ([`crate::succession`]).
//!
//! Coming back is rationed. A disk that loses what it holds again and again needs a person, and each return costs all a
//! change of epoch.
//!
//! Two kinds of entries of [`System`]:
//!
//! - `e`: the epoch and its members;
//! - `k` key: a voting key that is or was some member's. None is ever used twice.

use crate::message::Readmission;
use crate::sessions::{System, key};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use testudo_contracts::Reading;
use testudo_core::{
    Decode as _, Epoch, Member, Membership, Reader, ReplicaId, Time, limits, wire_enum, wire_struct,
};

/// A member, and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registered {
    /// Its keys.
    pub member: Member,
    /// When it came back of late, in agreed time: at most [`limits::READMISSIONS`].
    pub returns: Vec<Time>,
    /// Whether it was shown to have signed what no correct replica signs. That is never forgotten.
    pub is_convicted: bool,
}
wire_struct!(Registered { member, returns, is_convicted });

/// An epoch and its members.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Configuration {
    /// The epoch.
    pub epoch: Epoch,
    /// The members, by id.
    pub members: Vec<Registered>,
}
wire_struct!(Configuration { epoch, members });

/// Why a replica is not readmitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It asks in an epoch that is over, or has not begun.
    Epoch,
    /// It is no member.
    Stranger,
    /// It is not its next incarnation.
    Incarnation,
    /// Somebody votes or has voted with that key, or is known by it.
    UsedKey,
    /// It has come back too often of late. It may again at this time.
    Ration(Time),
    /// It is convicted of having lied.
    Convicted,
}

wire_enum!(Refusal {
    0 => Epoch,
    1 => Stranger,
    2 => Incarnation,
    3 => UsedKey,
    4 => Ration(until),
    5 => Convicted,
});

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoch => "it asks in another epoch",
            Self::Stranger => "it is no member",
            Self::Incarnation => "it has come back since, or counts wrongly",
            Self::UsedKey => "the key was used before",
            Self::Ration(_) => "it has come back too often of late",
            Self::Convicted => "it is convicted of having lied",
        })
    }
}

impl Configuration {
    /// What a cluster begins with.
    #[must_use]
    pub fn first(membership: &Membership) -> Self {
        let register = |member: &Member| Registered {
            member: member.clone(),
            returns: Vec::new(),
            is_convicted: false,
        };
        Self { epoch: membership.epoch, members: membership.members.iter().map(register).collect() }
    }

    fn registered(&self, id: ReplicaId) -> Option<&Registered> {
        self.members.get(usize::from(id.0))
    }
}

/// The key of the entry that names the members.
pub(crate) const MEMBERS: &[u8] = b"e";

impl System {
    /// Enters the members that everything starts with.
    pub(crate) fn found(&mut self, membership: &Membership) {
        self.write(MEMBERS, &Configuration::first(membership));
        for member in &membership.members {
            self.put(&key(b'k', &member.voting.0, &[]), Arc::from([]));
        }
    }

    /// Who orders.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        self.read(MEMBERS).unwrap_or_default()
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        let entry = Reading::get(self.map(), MEMBERS);
        let epoch = entry.and_then(|entry| Epoch::decode(&mut Reader::new(&entry)).ok());
        epoch.unwrap_or_default()
    }

    /// Whether a replica would be readmitted at this time.
    ///
    /// # Errors
    /// When it would not be, with the reason.
    pub fn may_readmit(
        &self,
        id: ReplicaId,
        asked: &Readmission,
        now: Time,
    ) -> Result<(), Refusal> {
        let configuration = self.configuration();
        if asked.epoch != configuration.epoch {
            return Err(Refusal::Epoch);
        }
        let Registered { member, returns, is_convicted } =
            configuration.registered(id).ok_or(Refusal::Stranger)?;
        if *is_convicted {
            return Err(Refusal::Convicted);
        }
        if asked.incarnation != member.incarnation.next() {
            return Err(Refusal::Incarnation);
        }
        let is_used = Reading::get(self.map(), &key(b'k', &asked.voting.0, &[])).is_some();
        let is_identity = |one: &Registered| one.member.identity == asked.voting;
        if is_used || configuration.members.iter().any(is_identity) {
            return Err(Refusal::UsedKey);
        }
        match returns.first() {
            Some(first) if returns.len() >= limits::READMISSIONS && still_counts(*first, now) => {
                Err(Refusal::Ration(Time(first.0.saturating_add(PERIOD))))
            }
            _ => Ok(()),
        }
    }

    /// Whether this replica is convicted of having lied.
    #[must_use]
    pub fn is_convicted(&self, id: ReplicaId) -> bool {
        self.configuration().registered(id).is_some_and(|one| one.is_convicted)
    }

    /// Convicts a replica. False if there was nothing to change.
    pub fn convict(&mut self, id: ReplicaId) -> bool {
        let mut configuration = self.configuration();
        let Some(one) = configuration.members.get_mut(usize::from(id.0)) else { return false };
        let is_new = !core::mem::replace(&mut one.is_convicted, true);
        if is_new {
            self.write(MEMBERS, &configuration);
        }
        is_new
    }

    /// Makes these the members of this epoch, as people have decided. False if a key among them was another's before; then the
    /// state is of no use.
    pub(crate) fn decree(&mut self, members: &[Member], epoch: Epoch) -> bool {
        let mut configuration = self.configuration();
        let mut is_right = configuration.members.len() == members.len();
        for (one, next) in configuration.members.iter_mut().zip(members) {
            if one.member != *next {
                let entry = key(b'k', &next.voting.0, &[]);
                is_right &= Reading::get(self.map(), &entry).is_none();
                self.put(&entry, Arc::from([]));
                one.member = next.clone();
            }
        }
        configuration.epoch = epoch;
        self.write(MEMBERS, &configuration);
        is_right
    }

    /// Readmits a replica: the next epoch begins after this slot.
    ///
    /// # Errors
    /// When it may not come back. Then nothing changes.
    pub fn readmit(
        &mut self,
        id: ReplicaId,
        asked: &Readmission,
        now: Time,
    ) -> Result<(), Refusal> {
        self.may_readmit(id, asked, now)?;
        let mut configuration = self.configuration();
        let one = configuration.members.get_mut(usize::from(id.0)).ok_or(Refusal::Stranger)?;
        one.member.voting = asked.voting;
        one.member.incarnation = asked.incarnation;
        one.returns.retain(|at| still_counts(*at, now));
        one.returns.push(now);
        configuration.epoch = configuration.epoch.next();
        self.write(MEMBERS, &configuration);
        self.put(&key(b'k', &asked.voting.0, &[]), Arc::from([]));
        Ok(())
    }
}

/// For how long a return counts, in milliseconds.
const PERIOD: u64 = limits::READMISSION_PERIOD.as_millis() as u64;

fn still_counts(at: Time, now: Time) -> bool {
    at.0.saturating_add(PERIOD) > now.0
}
