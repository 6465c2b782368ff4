//! The replicated state, and how a decided batch changes it.

use crate::message::{Bundle, ReplyBody, Request};
use crate::sessions::{Admission, Remembered, Sessions};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_contracts::{Batch, Moment, Service};
use testudo_core::{Digest, Encode, Panicked, PublicKey, Slot, Time, limits};
use testudo_state::{Map, Overlay};

/// Everything that replicas must agree on. Its digest is what checkpoints sign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replicated {
    /// The last slot executed.
    pub slot: Slot,
    /// The chain over slots and batches: equal chains, equal orders.
    pub chain: Digest,
    /// The chain over slots and results: equal ones, equal executions.
    pub outcome: Digest,
    /// Agreed time.
    pub time: Time,
    /// The version of the service that executes.
    pub version: u32,
    /// The client keys that are admitted.
    pub clients: BTreeSet<PublicKey>,
    /// Who asked for what, exactly once.
    pub sessions: Sessions,
    /// The service's own state.
    pub map: Map,
}

/// How an operation of the service is run so that its panic harms nobody.
pub type Guard<'a> = &'a mut dyn FnMut(&mut dyn FnMut()) -> Result<(), Panicked>;

/// A bundle of the slot that executes.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    /// Who signed it.
    pub client: PublicKey,
    /// Its digest.
    pub digest: Digest,
    /// What it asks for.
    pub bundle: &'a Bundle,
}

impl Replicated {
    /// The state that everything starts from.
    #[must_use]
    pub fn genesis<S: Service>(service: &S, clients: BTreeSet<PublicKey>) -> Self {
        let mut map = Map::new();
        let mut overlay = Overlay::new(&mut map);
        service.genesis(&mut overlay);
        overlay.merge();
        Self {
            slot: Slot(0),
            chain: Digest::ZERO,
            outcome: Digest::ZERO,
            time: Time(0),
            version: S::VERSION,
            clients,
            sessions: Sessions::default(),
            map,
        }
    }

    /// The digest of all of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut head = Vec::new();
        self.slot.encode(&mut head);
        self.chain.encode(&mut head);
        self.outcome.encode(&mut head);
        self.time.encode(&mut head);
        self.version.encode(&mut head);
        (self.clients.len() as u64).encode(&mut head);
        self.clients.iter().for_each(|client| client.encode(&mut head));
        self.sessions.digest().encode(&mut head);
        self.map.digest().encode(&mut head);
        Digest::of(&head)
    }

    /// Begins the next slot: agreed time moves, and never back. The moment is what its operations see.
    pub fn begin(&mut self, slot: Slot, batch: &Batch) -> Moment {
        assert_eq!(slot, self.slot.next(), "begin: slots execute in order, each once");
        let time = self.time.max(batch.time);
        // At genesis there is no time to count from, and across a change of view nobody vouches for the clock.
        let counted = !batch.gap_not_counted && self.time != Time(0);
        let elapsed = if counted { time.0 - self.time.0 } else { 0 };
        self.slot = slot;
        self.time = time;
        self.chain = link(self.chain, slot, batch.digest());
        Moment { slot, time, elapsed }
    }

    /// Executes one bundle of the slot that [`Replicated::begin`] began, and gives what it came to. A bundle that was
    /// executed before changes nothing.
    pub fn execute<S: Service>(
        &mut self,
        service: &S,
        decided: Decided<'_>,
        moment: &Moment,
        guard: Guard<'_>,
    ) -> Remembered {
        let Decided { client, digest, bundle } = decided;
        let refuse = |body: &ReplyBody| Remembered::new(digest, moment.slot, body);
        let (remembered, is_new) = if !self.clients.contains(&client) {
            (refuse(&ReplyBody::NotAdmitted), false)
        } else {
            match &bundle.request {
                Request::Register { nonce } => {
                    self.sessions.register(client, *nonce, digest, moment.slot)
                }
                Request::Operations { session, sequence, operations } => {
                    match self.sessions.admit(client, *session, *sequence, digest) {
                        Admission::Repeat(remembered) => (remembered, false),
                        Admission::Refuse(body) => (refuse(&body), false),
                        Admission::Execute => {
                            let results = self.run(service, operations, moment, guard);
                            let remembered = refuse(&ReplyBody::Results(results));
                            self.sessions.remember(*session, *sequence, remembered.clone());
                            (remembered, true)
                        }
                    }
                }
            }
        };
        // Only what had an effect is linked: sessions alone decide that, the same everywhere.
        if is_new {
            self.outcome = link(self.outcome, moment.slot, remembered.results);
        }
        remembered
    }

    /// Runs operations one after the other, each on an overlay of its own.
    fn run<S: Service>(
        &mut self,
        service: &S,
        operations: &[Arc<[u8]>],
        moment: &Moment,
        guard: Guard<'_>,
    ) -> Vec<Arc<[u8]>> {
        let mut results = Vec::with_capacity(operations.len());
        let mut bytes = 0;
        for operation in operations {
            let mut overlay = Overlay::new(&mut self.map);
            let mut result = None;
            let run =
                guard(&mut || result = Some(service.execute(&mut overlay, operation, moment)));
            let result = match (run, result) {
                (Ok(()), Some(result)) if bytes + result.len() <= limits::RESULT_BYTES => {
                    overlay.merge();
                    result
                }
                (Ok(()), Some(_)) => service.too_large(),
                (Err(Panicked), _) | (Ok(()), None) => service.internal_error(),
            };
            bytes += result.len();
            results.push(result.into());
        }
        results
    }
}

/// One more link of a chain of digests.
fn link(chain: Digest, slot: Slot, item: Digest) -> Digest {
    Digest::of_parts(&[&chain.0, &slot.0.to_le_bytes(), &item.0])
}
