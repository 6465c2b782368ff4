//! What people do: convict whoever lied, and decide how to go on.
#![allow(dead_code, unreachable_pub)]

use crate::cluster::{Cluster, Key};
use testudo_core::{Certificate, Domain, Epoch, Evidence, Peer, ReplicaId, Slot, Verified};
use testudo_replication::{Bundle, Decree, Plan, ReplicaMessage, Request, Returning, Unplanned};

/// Two batches for one slot, under one signature each.
pub fn equivocation(id: u16, epoch: u64) -> Evidence {
    let who = Peer::Replica(ReplicaId(id));
    let frame = |digest| {
        let vote = testudo_pbft::message::Prepare {
            view: testudo_core::View(1),
            slot: Slot(9),
            digest: testudo_core::Digest([digest; 32]),
        };
        let domain = Domain { epoch: Epoch(epoch), ..Domain::default() };
        let sealed =
            Verified::seal(testudo_pbft::Message::Prepare(vote), who, domain, &Key::of(who));
        testudo_core::Encode::to_bytes(&sealed.signed())
    };
    Evidence {
        accused: ReplicaId(id),
        protocol: testudo_pbft::PBFT,
        offence: testudo_pbft::safety::EQUIVOCATION.into(),
        statements: vec![frame(1), frame(2)],
    }
}

pub fn convict(cluster: &mut Cluster, evidence: &Evidence) {
    let bundle = Bundle { replier: ReplicaId(0), request: Request::Convict(evidence.clone()) };
    let from = Peer::Replica(ReplicaId(0));
    cluster.post(from, testudo_core::Target::Replicas, ReplicaMessage::Bundle(bundle));
    cluster.run();
}

pub fn sign(decree: &Decree, signers: &[u16]) -> Certificate<Decree> {
    let mut certificate = Certificate::new(decree.clone());
    for id in signers {
        let who = Peer::Replica(ReplicaId(*id));
        let domain = Domain { epoch: decree.from, ..Domain::default() };
        assert!(certificate.add(&Verified::seal(decree.clone(), who, domain, &Key::of(who))));
    }
    certificate
}

pub fn plan(cluster: &Cluster, id: u16, returning: &[u16]) -> Result<Plan, Unplanned> {
    let returning: Vec<Returning> = returning
        .iter()
        .map(|of| {
            let voting = cluster.nodes[usize::from(*of)].keys.candidate.expect("it has one");
            Returning { replica: ReplicaId(*of), voting }
        })
        .collect();
    cluster.replica(id).plan(&returning, &mut |run| {
        run();
        Ok(())
    })
}
