//! What a replica can prove against another, it has ordered: whoever is convicted never gets its vote back.
//!
//! Evidence counts wherever it is shown. But whether a replica may come back all must agree on, and so on whether it is
//! convicted: so evidence becomes part of the state, by an operation that only holds evidence. It is said again until it has
//! been executed, also in epochs after the one that it is about, so that nobody escapes it by coming back at once.

use crate::message::{Bundle, ReplicaMessage, Request};
use crate::replica::{Fx, Replica};
use crate::rules::Rules;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use testudo_contracts::{Ordering, Service};
use testudo_core::{Encode as _, Evidence, ReplicaId, Target, limits};

/// Bytes of a bundle beside the evidence in it, at most.
const HEAD: usize = 1 << 10;

/// What is to be ordered against others. Invariant: at most one of each replica.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accusations {
    open: BTreeMap<ReplicaId, Evidence>,
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// Takes up what the ordering has found.
    pub(crate) fn accuse(&mut self, fx: &mut Fx<'_, O, S, R>) {
        for evidence in self.order.take_accusations() {
            let accused = evidence.accused;
            let fits = evidence.to_bytes().len() + HEAD < limits::EVIDENCE_BYTES;
            if fits && !self.state.system.is_convicted(accused) {
                self.accusations.open.entry(accused).or_insert(evidence);
                self.say_accusation(accused, fx);
            }
        }
    }

    /// Says again what is not executed yet.
    pub(crate) fn accuse_again(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let system = &self.state.system;
        self.accusations.open.retain(|accused, _| !system.is_convicted(*accused));
        let open: Vec<ReplicaId> = self.accusations.open.keys().copied().collect();
        open.into_iter().for_each(|accused| self.say_accusation(accused, fx));
    }

    fn say_accusation(&self, accused: ReplicaId, fx: &mut Fx<'_, O, S, R>) {
        let Some(evidence) = self.accusations.open.get(&accused) else { return };
        // It speaks for itself, but it is signed by a member, which pays for it.
        let bundle = Bundle { replier: self.me, request: Request::Convict(evidence.clone()) };
        // EAGER: the evidence convicts, whatever becomes of whoever shows it.
        fx.send_eager(Target::Replicas, ReplicaMessage::Bundle(bundle));
    }
}
