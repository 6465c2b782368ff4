//! Where too many have lost their promises, no quorum is left that knows what it has signed. Then people decide.
//!
//! A [`Decree`] says with which state the next epoch begins, and under which new keys those vote who have lost theirs. It
//! is signed with the long-lived keys of a quorum of the members, which no disk has lost: so it takes those who run them,
//! and no fewer than it takes to order anything.
//!
//! It cannot be known any more what was decided. But whatever was, a quorum held certificates for it, so as long as fewer
//! than a quorum have lost theirs somebody still does. Therefore the state that a survivor proposes has executed, beyond what
//! it knows to be decided, whatever it holds certificates for. The one whose state reaches furthest is the best to go on
//! from.
//!
//! What clients asked for is carried so, and who is convicted; the members are what the decree says. Only where the epoch is
//! over, and too many were lost before the next one began, what its last slot has made of the members holds: everything that
//! was decided after it is void, and so is every certificate.
//!
//! A replica that has halted proposes its own state, with all that was decided since. No digest of that can reach a quorum,
//! so which replica's state is right nobody can know; it is for people to choose.

use crate::executor::{Decided, Guard, Replicated};
use crate::message::{Bundle, Request};
use crate::replica::Replica;
use crate::rules::Rules;
use crate::status::Health;
use alloc::vec::Vec;
use core::fmt;
use testudo_contracts::ordering::REPLICATION;
use testudo_contracts::{Ordering, Service};
use testudo_core::{
    Base, Context, Decode, DecodeError, Encode, Epoch, Invalid, Kind, Member, Message, Peer,
    ProtocolId, PublicKey, ReplicaId, Slot, Statement, Strength, Verified, wire_struct,
};

const DECREE: Kind = Kind(16);

/// A member that votes under a new key from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Returning {
    /// Who.
    pub replica: ReplicaId,
    /// Under which key.
    pub voting: PublicKey,
}
wire_struct!(Returning { replica, voting });

/// "This epoch is over. The next one begins with this state, and these come back under new keys."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decree {
    /// The epoch that is over.
    pub from: Epoch,
    /// The state that the next one begins with. Its members are those of the next epoch already.
    pub base: Base,
    /// Who comes back, in ascending order.
    pub returning: Vec<Returning>,
}
wire_struct!(Decree { from, base, returning });

impl Statement for Decree {
    const PROTOCOL: ProtocolId = REPLICATION;
    const KIND: Kind = DECREE;
    const STRENGTH: Strength = Strength::Identity;
}

/// Only to be signed. What travels is the [`crate::Succession`] that it makes.
impl Message for Decree {
    fn protocol(&self) -> ProtocolId {
        REPLICATION
    }
    fn kind(&self) -> Kind {
        DECREE
    }
    fn name(&self) -> &'static str {
        "decree"
    }
    fn strength(&self) -> Strength {
        Self::STRENGTH
    }
    fn encode_body(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }
    fn decode_body(protocol: ProtocolId, kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        match (protocol, kind) {
            (REPLICATION, DECREE) => Self::from_bytes(body),
            _ => Err(DecodeError::Unknown("kind")),
        }
    }
    fn validate(&self, sender: Peer, context: &Context<'_>) -> Result<(), Invalid> {
        if sender.replica().is_none() {
            return Err(Invalid("only members decree"));
        }
        self.members(&context.membership.members).map(drop)
    }
}

impl Decree {
    /// The members of the next epoch.
    ///
    /// # Errors
    /// When it names somebody who is no member, or twice, or a key that another has.
    pub(crate) fn members(&self, before: &[Member]) -> Result<Vec<Member>, Invalid> {
        if !self.returning.is_sorted_by(|a, b| a.replica < b.replica) {
            return Err(Invalid("a decree names somebody twice, or without order"));
        }
        let mut members = before.to_vec();
        for Returning { replica, voting } in &self.returning {
            let is_used = |one: &Member| one.voting == *voting || one.identity == *voting;
            if members.iter().any(is_used) {
                return Err(Invalid("a decree names a key that is in use"));
            }
            let member = members.get_mut(usize::from(replica.0));
            let member = member.ok_or(Invalid("a decree names a stranger"))?;
            member.voting = *voting;
            member.incarnation = member.incarnation.next();
        }
        Ok(members)
    }
}

/// What a replica proposes to go on from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is to be signed.
    pub decree: Decree,
    /// The last slot that it knows to be decided.
    pub known: Slot,
    /// The state, with the members of the next epoch.
    pub(crate) state: Replicated,
}

impl Plan {
    /// How many slots beyond those are taken for decided, as this replica holds certificates for them.
    #[must_use]
    pub const fn carried(&self) -> u64 {
        self.decree.base.slot.0.saturating_sub(self.known.0)
    }
}

/// Why a replica proposes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unplanned {
    /// Its own state is wrong, or older than one that a quorum has signed.
    Ill,
    /// The next epoch has begun elsewhere, and the state that it begins with is not here.
    BetweenEpochs,
    /// Those who come back are no members, or their keys were used before.
    Returning,
}

impl fmt::Display for Unplanned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ill => "its state is not right, or lacks what was decided",
            Self::BetweenEpochs => {
                "the next epoch has begun, and it lacks the state that it begins with"
            }
            Self::Returning => "those who come back are no members, or their keys were used before",
        })
    }
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// What this replica would go on from if these came back under new keys, in ascending order.
    ///
    /// # Errors
    /// When it has nothing to propose.
    pub fn plan(&self, returning: &[Returning], guard: Guard<'_>) -> Result<Plan, Unplanned> {
        let has_ended = self.has_ended();
        if self.is_between_epochs() && !has_ended {
            return Err(Unplanned::BetweenEpochs);
        }
        if matches!(self.health, Health::Behind(_) | Health::Diverged(_)) {
            return Err(Unplanned::Ill);
        }
        let mut state = self.state.clone();
        let mut returning = returning.to_vec();
        if has_ended {
            self.name_admitted(&mut returning);
        } else {
            self.carry(&mut state, guard);
        }
        let known = self.known_decided().min(state.slot);
        let mut decree = Decree {
            from: self.epoch(),
            base: Base { slot: state.slot, state: state.digest() },
            returning,
        };
        let members = decree.members(&self.config.membership.members);
        let members = members.map_err(|_| Unplanned::Returning)?;
        if !state.system.decree(&members, self.epoch().next()) {
            return Err(Unplanned::Returning);
        }
        decree.base.state = state.digest();
        Ok(Plan { decree, known, state })
    }

    /// The last slot that it knows to be decided, and not to be void.
    pub fn known_decided(&self) -> Slot {
        if self.has_ended() { self.state.slot } else { self.order.executed() }
    }

    /// Whether its state is the one that its epoch ends with, and the next has not begun anywhere that it knows of.
    pub fn has_ended(&self) -> bool {
        self.epochs.end() == Some(self.state.slot) && !self.epochs.awaits(self.epoch())
    }

    /// Executes what is decided, and what it holds certificates for, as far as its bodies are here.
    fn carry(&self, state: &mut Replicated, guard: Guard<'_>) {
        for (slot, batch) in self.decided.iter().cloned().chain(self.order.undecided()) {
            let bodies: Option<Vec<&Verified<Bundle>>> =
                batch.bundles.iter().map(|digest| self.bodies.get(digest)).collect();
            let Some(bodies) = bodies.filter(|_| slot == state.slot.next()) else { return };
            let moment = state.begin(&self.service, slot, &batch, guard);
            for body in bodies {
                let (digest, bundle) = (body.digest(), body.message());
                match body.sender() {
                    Peer::Client(client) => {
                        let decided = Decided { client, digest, bundle };
                        state.execute(&self.service, decided, &moment, guard);
                    }
                    // What changes the members is not carried: it is decreed.
                    Peer::Replica(_) if matches!(bundle.request, Request::Readmit(..)) => {}
                    Peer::Replica(replica) => state.administer(replica, bundle, &moment),
                }
            }
        }
    }

    /// Whom the last slot of the epoch has let in comes back, unless somebody is named under a later key.
    fn name_admitted(&self, returning: &mut Vec<Returning>) {
        let after = self.state.system.configuration();
        for (before, after) in self.config.membership.replicas().zip(&after.members) {
            let voting = after.member.voting;
            let is_new =
                self.config.membership.member(before).is_some_and(|it| it.voting != voting);
            let place = returning.partition_point(|it| it.replica < before);
            let is_named = returning.get(place).is_some_and(|it| it.replica == before);
            if is_new && !is_named {
                returning.insert(place, Returning { replica: before, voting });
            }
        }
    }
}
