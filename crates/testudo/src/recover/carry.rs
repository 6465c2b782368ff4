//! Carries out what people have decided.

use super::crew::Crew;
use super::survey::{self, refine, seat};
use super::verdict::{Proposal, Verdict};
use crate::failure::{Failure, Outcome, plain};
use crate::init::private_folder;
use crate::protocols::Runnable;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use testudo_core::{
    Certificate, Context, Domain, Encode as _, Epoch, Membership, Peer, ReplicaId, Verified,
};
use testudo_keys::{Ed25519Verifier, Keyring};
use testudo_kv::Kv;
use testudo_replication::{Decree, Replica, Returning, Succession};
use testudo_runtime::disk::FsDisk;
use testudo_runtime::peek::Held;
use testudo_runtime::{Addresses, NodeConfig, Probe, node};

/// Makes the keys, signs, and lets the chosen replica begin the next epoch. Gives what was decreed.
pub(crate) fn out<O: Runnable>(
    crew: &Crew,
    membership: &Membership,
    verdict: &Verdict,
    proposal: &Proposal,
    mut holds: BTreeMap<u16, Held>,
) -> Outcome<Decree> {
    let (returning, mut disks) = keys(crew, proposal, &mut holds)?;
    // It opens its own folder from here on.
    holds.remove(&proposal.from);
    disks.remove(&proposal.from);
    let decree = survey::plan::<O>(crew, proposal.from, &returning)?.decree;
    if (decree.from, decree.base.slot) != (verdict.epoch, proposal.reach) {
        return Err(Failure::failed(format!(
            "the folder of replica {} has changed meanwhile; look again",
            proposal.from
        )));
    }
    let certificate = sign(crew, membership, &decree)?;
    obey::<O>(crew, proposal.from, certificate)?;
    // What counts is what its next start finds.
    match survey::epoch_of::<O>(crew, proposal.from)? {
        (epoch, Some(last), true) if epoch == decree.from.next() && last == decree => Ok(decree),
        _ => Err(Failure::failed(format!(
            "replica {} has not begun the next epoch with the state that was decided; nothing is lost by that: look again",
            proposal.from
        ))),
    }
}

/// The keys of those who come back. Theirs are made, durably, where there are none. Each of their folders stays held.
fn keys(
    crew: &Crew,
    proposal: &Proposal,
    holds: &mut BTreeMap<u16, Held>,
) -> Outcome<(Vec<Returning>, BTreeMap<u16, FsDisk>)> {
    let (mut returning, mut disks) = (Vec::new(), BTreeMap::new());
    for id in &proposal.returning {
        let seat = seat(crew, *id)?;
        private_folder(&seat.data)?;
        holds.remove(id);
        let disk = FsDisk::open(seat.data.join("log")).map_err(|error| {
            Failure::failed(format!("cannot take the folder of replica {id}: {error}"))
        })?;
        disks.insert(*id, disk);
        let ring = Keyring::open(&seat.key, &seat.data)
            .map_err(|error| Failure::failed(error.to_string()))?;
        let voting = ring
            .candidate()
            .ok_or_else(|| Failure::failed(format!("no key can be made for replica {id}")))?;
        returning.push(Returning { replica: ReplicaId(*id), voting });
    }
    Ok((returning, disks))
}

/// Signs in the name of all replicas whose keys are at hand.
fn sign(crew: &Crew, membership: &Membership, decree: &Decree) -> Outcome<Certificate<Decree>> {
    let domain = Domain { epoch: decree.from, ..crew.cluster.domain() };
    let mut certificate = Certificate::new(decree.clone());
    for (id, seat) in &crew.seats {
        let who = Peer::Replica(ReplicaId(*id));
        certificate.add(&Verified::seal(decree.clone(), who, domain, &seat.key.identity));
    }
    let verifier = Ed25519Verifier::new(membership.members.iter().map(|member| member.identity));
    let context = Context { domain, membership, verifier: &verifier };
    let checked = Succession::decreed(certificate.clone()).check(&context);
    checked
        .map_err(|why| Failure::refused(format!("what was signed proves nothing: {}", why.0)))?;
    Ok(certificate)
}

/// Starts the replica on its own, reached by nobody, and stops it once the next epoch is there. What it has recorded by then is
/// durable when it has stopped: its state is what it executes again from its log, and then what was decided about it.
fn obey<O: Runnable>(crew: &Crew, id: u16, decree: Certificate<Decree>) -> Outcome {
    let seat = seat(crew, id)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .map_err(|error| Failure::failed(format!("cannot open a port: {}", plain(&error))))?;
    let config = NodeConfig {
        name: format!("replica-{id}"),
        data: seat.data.clone(),
        key: seat.key.clone(),
        domain: crew.cluster.domain(),
        membership: crew.cluster.membership()?,
        me: ReplicaId(id),
        addresses: Addresses::new(),
        clients: Some(BTreeSet::new()),
        listener,
        metrics: None,
        verifiers: 0,
        scrub: 0,
        outgoing: None,
        probe: Probe {
            lineage: Box::new(|replica: &Replica<O, Kv>, epoch| match epoch {
                Epoch(0) => Vec::new(),
                epoch => replica.lineage(epoch).to_vec().to_bytes(),
            }),
            ..Probe::default()
        },
    };
    let automaton = survey::config(crew, Some(decree))?;
    let node = node::start::<Replica<O, Kv>>(config, automaton, |_| {})
        .map_err(|error| refine(id, seat, &error))?;
    // It has obeyed when it has started. This waits until it has come to its first turn.
    let _ = node.inspect_blocking(Replica::status);
    let failure = node.failure();
    node.shutdown();
    match failure {
        None => Ok(()),
        Some(fatal) => Err(Failure::failed(format!("replica {id} stops: {fatal}"))),
    }
}
