//! What the folders of stopped replicas hold.

use super::crew::{Crew, Seat};
use crate::failure::{Failure, Outcome};
use crate::protocols::Runnable;
use std::collections::{BTreeMap, BTreeSet};
use testudo_contracts::{OrderConfig, Standing};
use testudo_core::{Certificate, Digest, Epoch, Membership, PublicKey, ReplicaId, Slot, View};
use testudo_keys::Keyring;
use testudo_kv::Kv;
use testudo_replication::{Config, Decree, Health, Plan, Replica, Returning, Unplanned};
use testudo_runtime::StartError;
use testudo_runtime::peek::{self, Held, Memory, Peek, Place};

/// What was found in one replica's folder.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// Which replica it is.
    pub(crate) id: u16,
    /// What there is of its promises.
    pub(crate) memory: Memory,
    /// The epoch that it belongs to.
    pub(crate) epoch: Epoch,
    /// The last slot that it has executed.
    pub(crate) slot: Slot,
    /// The highest slot that it knows to be decided.
    pub(crate) known: Slot,
    /// The last slot that it knows to be stable.
    pub(crate) stable: Slot,
    /// Whether it has executed the last slot of its epoch: what was decided beyond is void.
    pub(crate) has_ended: bool,
    /// Whether it knows that it has forgotten what it said in its epoch.
    pub(crate) has_forgotten: bool,
    /// Slots that it does not vote on, as its log has lost what it held there: the first and the last of each range.
    pub(crate) lost: Vec<(Slot, Slot)>,
    /// Whether it signs no checkpoint, as its log may have lost what it signed.
    pub(crate) is_mute: bool,
    /// The slot at which it has halted, as no digest of its state can reach a quorum.
    pub(crate) halted: Option<Slot>,
    /// The digest of its state after the last slot that it has executed.
    pub(crate) state: Digest,
    /// The chain over results after each slot that it has executed since its snapshot.
    pub(crate) outcomes: BTreeMap<Slot, Digest>,
    /// What it holds certificates for beyond what it has executed.
    pub(crate) certified: Vec<(Slot, View, Digest)>,
    /// The last slot of the state that it would go on from.
    pub(crate) reach: Result<Slot, String>,
    /// Whether it can sign as the latest epoch names it.
    pub(crate) has_key: bool,
    /// Who is convicted of having lied, in its state.
    pub(crate) convicted: BTreeSet<u16>,
    /// The key that it may come back under, if it has made one.
    pub(crate) candidate: Option<PublicKey>,
    /// Whether the latest epoch names it under that key already.
    pub(crate) is_named: bool,
}

/// What was found in all.
#[derive(Debug)]
pub(crate) struct Findings {
    /// By id.
    pub(crate) findings: BTreeMap<u16, Finding>,
    /// The members of the latest epoch.
    pub(crate) membership: Membership,
    /// Keeps the replicas from starting.
    pub(crate) holds: BTreeMap<u16, Held>,
}

/// Looks into the folders of all that are at hand.
pub(crate) fn survey<O: Runnable>(crew: &Crew) -> Outcome<Findings> {
    let mut membership = crew.cluster.membership()?;
    let (mut findings, mut holds) = (BTreeMap::new(), BTreeMap::new());
    let mut places: BTreeMap<u16, Membership> = BTreeMap::new();
    for id in crew.seats.keys() {
        let (finding, own, held) = look::<O>(crew, *id)?;
        if own.epoch > membership.epoch {
            membership = own.clone();
        }
        findings.insert(*id, finding);
        places.insert(*id, own);
        holds.insert(*id, held);
    }
    if let Some((other, _)) = places.iter().find(|(_, own)| differs(own, &membership)) {
        return Err(Failure::refused(format!(
            "replica {other} has another epoch {} than the others: the cluster was recovered twice, and went on from two \
             states; move the folders of those away that went on from the wrong one",
            membership.epoch
        )));
    }
    for (id, finding) in &mut findings {
        let (Some(seat), Some(member)) = (crew.seats.get(id), membership.member(ReplicaId(*id)))
        else {
            continue;
        };
        let ring = Keyring::look(&seat.key, &seat.data)
            .map_err(|error| Failure::refused(error.to_string()))?;
        finding.has_key = ring.holds(&member.voting);
        finding.is_named = finding.candidate == Some(member.voting);
    }
    Ok(Findings { findings, membership, holds })
}

/// Whether these are other members of the same epoch.
fn differs(one: &Membership, other: &Membership) -> bool {
    one.epoch == other.epoch && (one.base, &one.members) != (other.base, &other.members)
}

fn look<O: Runnable>(crew: &Crew, id: u16) -> Outcome<(Finding, Membership, Held)> {
    let mut peek = peek::<O>(crew, id)?;
    let (memory, candidate) = (peek.memory, peek.candidate());
    let (replica, mut guard) = peek.guarded();
    let status = replica.status();
    let mut membership = crew.cluster.membership()?;
    for succession in replica.lineage(status.epoch) {
        membership = succession.membership(&membership).map_err(|invalid| {
            Failure::failed(format!(
                "replica {id} has a log that does not prove itself: {}",
                invalid.0
            ))
        })?;
    }
    let has_ended = replica.has_ended();
    let certified = if has_ended { Vec::new() } else { replica.order().certified() };
    let reach = if memory == Memory::Empty {
        Err("its folder is empty".to_owned())
    } else {
        let plan = replica.plan(&[], &mut guard);
        plan.map(|plan| plan.decree.base.slot).map_err(|why| unplanned(why, status.health))
    };
    let is_convicted = |id: &u16| replica.state().system.is_convicted(ReplicaId(*id));
    let finding = Finding {
        id,
        memory,
        epoch: status.epoch,
        slot: status.slot,
        known: if has_ended { status.slot } else { status.known },
        stable: status.stable.map_or(Slot(0), |stable| stable.slot),
        has_ended,
        has_forgotten: status.standing == Standing::Forgotten,
        lost: status.lost,
        is_mute: replica.is_mute(),
        halted: match status.health {
            Health::Halted(slot) => Some(slot),
            _ => None,
        },
        state: replica.state().digest(),
        outcomes: replica.outcomes().collect(),
        certified,
        reach,
        has_key: false,
        convicted: crew.seats.keys().copied().filter(is_convicted).collect(),
        candidate,
        is_named: false,
    };
    drop(guard);
    Ok((finding, membership, peek.hold()))
}

fn unplanned(why: Unplanned, health: Health) -> String {
    match (why, health) {
        (Unplanned::Ill, Health::Behind(slot)) => {
            format!("it is behind slot {slot}, which the others had decided")
        }
        (Unplanned::Ill, Health::Diverged(slot)) => {
            format!("its state after slot {slot} is not what a quorum had signed")
        }
        (why, _) => why.to_string(),
    }
}

/// What this replica would go on from if these came back.
pub(crate) fn plan<O: Runnable>(crew: &Crew, id: u16, returning: &[Returning]) -> Outcome<Plan> {
    let mut peek = peek::<O>(crew, id)?;
    let (replica, mut guard) = peek.guarded();
    let plan = replica.plan(returning, &mut guard);
    plan.map_err(|why| Failure::refused(format!("replica {id} has nothing to go on from: {why}")))
}

/// The members of the epoch that this replica belongs to, and the digest and slot that they began with.
pub(crate) fn epoch_of<O: Runnable>(
    crew: &Crew,
    id: u16,
) -> Outcome<(Epoch, Option<Decree>, bool)> {
    let peek = peek::<O>(crew, id)?;
    let (epoch, replica) = (peek.automaton.status().epoch, &peek.automaton);
    let last = replica.lineage(epoch).last().and_then(|it| it.decree().cloned());
    let state = replica.state();
    let has_state = last.as_ref().is_some_and(|decree| {
        (state.slot, state.digest()) == (decree.base.slot, decree.base.state)
    });
    Ok((epoch, last, has_state))
}

fn peek<O: Runnable>(crew: &Crew, id: u16) -> Outcome<Peek<Replica<O, Kv>>> {
    let (seat, config) = (seat(crew, id)?, config(crew, None)?);
    let place = Place {
        data: &seat.data,
        key: &seat.key,
        domain: crew.cluster.domain(),
        me: ReplicaId(id),
    };
    Peek::at(&place, config).map_err(|error| refine(id, seat, &error))
}

/// The replica of that id, which is at hand.
pub(crate) fn seat(crew: &Crew, id: u16) -> Outcome<&Seat> {
    crew.seats.get(&id).ok_or_else(|| Failure::refused(format!("replica {id} is not at hand")))
}

/// What replicas of this cluster are started with.
pub(crate) fn config(crew: &Crew, decree: Option<Certificate<Decree>>) -> Outcome<Config<Kv>> {
    let cluster = &crew.cluster;
    Ok(Config {
        order: OrderConfig::new(cluster.domain(), cluster.membership()?),
        clients: cluster.clients(),
        service: Kv::new(cluster.service),
        decree,
    })
}

/// Why a folder cannot be looked at, or its replica not be started, as a failure.
pub(crate) fn refine(id: u16, seat: &Seat, error: &StartError) -> Failure {
    let data = seat.data.display();
    if peek::is_in_use(error) {
        return Failure::refused(format!(
            "replica {id} runs: its folder {data} is in use; stop all replicas first, as people decide for a cluster only \
             while none of it runs"
        ));
    }
    let text: Vec<String> = error.to_string().lines().map(|line| line.trim().to_owned()).collect();
    let text = text.join("; ");
    if peek::is_foreign(error) {
        return Failure::refused(format!("{text}; give each replica the folder that is its own"));
    }
    Failure::failed(format!(
        "cannot look into {data}, the folder of replica {id}: {text}; mend that, or move the folder away, and the replica \
         counts as one that has lost everything"
    ))
}
