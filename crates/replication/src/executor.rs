//! The replicated state, and how a decided batch changes it.

use crate::feed::{Head, Tree};
use crate::learner::rules::Standard;
use crate::message::{Bundle, ReplyBody, Request};
use crate::rules::Rules;
use crate::sessions::{Admission, Remembered, System};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use testudo_contracts::{Batch, Moment, Service};
use testudo_core::{
    Digest, Encode as _, Membership, Panicked, Peer, PublicKey, ReplicaId, Slot, Time, limits,
};
use testudo_state::{Import, Map, Overlay};

/// Everything that replicas must agree on. The digest of its [`Head`] is what checkpoints sign. A clone costs nothing.
#[derive(Clone)]
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
    /// Who may ask, and who asked for what, exactly once.
    pub system: System,
    /// The service's own state.
    pub map: Map,
}

impl fmt::Debug for Replicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replicated({:?}, {:?}, {:?})", self.slot, self.chain, self.outcome)
    }
}

/// What a service did by itself is hashed under this word, which no reply's encoding begins with.
const ADVANCE: &[u8] = b"advance";

/// A change of the members is hashed under this word.
const MEMBERS: &[u8] = b"members";

/// How an operation of the service is run so that its panic harms nobody.
pub type Guard<'a> = &'a mut dyn FnMut(&mut dyn FnMut()) -> Result<(), Panicked>;

/// Where a state was other than it should have been.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    /// Entries that were missing, too many, or of another value.
    pub entries: u64,
    /// The first of them; none if all entries were right, and only what is counted beside them was not.
    pub first: Option<(Tree, Arc<[u8]>)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((tree, key)) = &self.first else {
            return f.write_str("no entry was wrong, only what is counted beside them");
        };
        let tree = match tree {
            Tree::System => "sessions",
            Tree::Service => "the service's state",
        };
        write!(
            f,
            "{} wrong in all, the first in {tree} at \"{}\"",
            self.entries,
            key.escape_ascii()
        )
    }
}

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
    pub fn genesis<S: Service>(
        service: &S,
        clients: &BTreeSet<PublicKey>,
        membership: &Membership,
    ) -> Self {
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
            system: System::genesis(clients, membership),
            map,
        }
    }

    /// The state that a head stands for, made of its two maps. None if they are not what the head says.
    #[must_use]
    pub fn from_parts(head: &Head, system: Map, service: Map) -> Option<Self> {
        let Head { slot, chain, outcome, time, version, .. } = *head;
        let system = System::from(system);
        let state = Self { slot, chain, outcome, time, version, system, map: service };
        (state.head() == *head).then_some(state)
    }

    /// The same entries in maps that are made anew, with the digests that they truly have: whatever happened to the
    /// memory, nothing that was worked out before is believed. It costs as much as there is.
    #[must_use]
    pub fn made_anew(&self) -> Self {
        let anew = |map: &Map| {
            let mut import = Import::new();
            map.iter().for_each(|(key, value)| import.push(key, value.clone()));
            import.finish()
        };
        let (system, map) = (System::from(anew(self.system.map())), anew(&self.map));
        let made = Self { system, map, ..self.clone() };
        // Worked out here, so that nobody waits for it later.
        let _ = made.head();
        made
    }

    /// Where the entries of this state are other than those of the right one.
    #[must_use]
    pub fn difference(&self, right: &Self) -> Difference {
        let mut difference = Difference::default();
        let maps = [
            (Tree::System, self.system.map(), right.system.map()),
            (Tree::Service, &self.map, &right.map),
        ];
        for (tree, own, right) in maps {
            own.diff(right, |key, _, _| {
                difference.entries += 1;
                difference.first.get_or_insert_with(|| (tree, Arc::from(key)));
                true
            });
        }
        difference
    }

    /// All of it but its maps, which stand for themselves by their digests.
    #[must_use]
    pub fn head(&self) -> Head {
        Head {
            slot: self.slot,
            chain: self.chain,
            outcome: self.outcome,
            time: self.time,
            version: self.version,
            system: self.system.digest(),
            service: self.map.digest(),
        }
    }

    /// The digest of all of it: its head's.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.head().digest()
    }

    /// Begins the next slot: agreed time moves, and never back, and the service does by itself what its passing brings.
    /// The moment is what the slot's operations see.
    pub fn begin<S: Service>(
        &mut self,
        service: &S,
        slot: Slot,
        batch: &Batch,
        guard: Guard<'_>,
    ) -> Moment {
        assert_eq!(slot, self.slot.next(), "begin: slots execute in order, each once");
        let time = self.time.max(batch.time);
        // At genesis there is no time to count from, and across a change of view nobody vouches for the clock.
        let counted = !batch.gap_not_counted && self.time != Time(0);
        let elapsed = if counted { time.0 - self.time.0 } else { 0 };
        self.slot = slot;
        self.time = time;
        self.chain = link(self.chain, slot, batch.digest());
        let moment = Moment { slot, time, elapsed };
        self.advance(service, &moment, guard);
        moment
    }

    /// Lets the service do what the passing of time brings. What that came to is linked as no bundle's results are.
    fn advance<S: Service>(&mut self, service: &S, moment: &Moment, guard: Guard<'_>) {
        let mut overlay = Overlay::new(&mut self.map);
        let mut result = None;
        let run = guard(&mut || result = Some(service.advance(&mut overlay, moment)));
        if let (Ok(()), Some(result)) = (run, result) {
            overlay.merge();
            if !result.is_empty() {
                let item = Digest::of_parts(&[ADVANCE, &result]);
                self.outcome = link(self.outcome, moment.slot, item);
            }
        }
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
        self.execute_by::<S, Standard>(service, decided, moment, guard)
    }

    /// The same by these rules.
    pub(crate) fn execute_by<S: Service, R: Rules>(
        &mut self,
        service: &S,
        decided: Decided<'_>,
        moment: &Moment,
        guard: Guard<'_>,
    ) -> Remembered {
        let Decided { client, digest, bundle } = decided;
        let refuse = |body: &ReplyBody| Remembered::new(digest, moment.slot, body);
        let (remembered, is_new) = if !self.system.admits(client) {
            (refuse(&ReplyBody::NotAdmitted), false)
        } else {
            match &bundle.request {
                // Whoever checked it has seen to it that no client asks for that.
                Request::Readmit(..) | Request::Convict(_) => {
                    (refuse(&ReplyBody::NotAdmitted), false)
                }
                Request::Register { nonce } => {
                    self.system.register(client, *nonce, digest, moment.slot)
                }
                Request::Operations { session, sequence, operations } => {
                    match self.system.admit(client, *session, *sequence, digest) {
                        Admission::Repeat(remembered) => (remembered, false),
                        Admission::Refuse(body) => (refuse(&body), false),
                        Admission::Execute => {
                            let results = self.run(service, operations, moment, guard);
                            let remembered = refuse(&ReplyBody::Results(results));
                            R::remember(&mut self.system, *session, *sequence, &remembered);
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

    /// Executes what a replica asks for, of the slot that [`Replicated::begin`] began. It may end the epoch.
    pub fn administer(&mut self, replica: ReplicaId, bundle: &Bundle, moment: &Moment) {
        let has_effect = match &bundle.request {
            Request::Readmit(readmission, _) => {
                self.system.readmit(replica, readmission, moment.time).is_ok()
            }
            Request::Convict(evidence) => self.system.convict(evidence.accused),
            Request::Register { .. } | Request::Operations { .. } => false,
        };
        if has_effect {
            let item = Digest::of_parts(&[MEMBERS, &bundle.request.to_bytes()]);
            self.outcome = link(self.outcome, moment.slot, item);
        }
    }

    /// Whether this bundle is worth a slot: its client is admitted, or what its replica asks for would be granted now.
    #[must_use]
    pub fn admits(&self, sender: Peer, bundle: &Bundle) -> bool {
        match (sender, &bundle.request) {
            (Peer::Client(client), _) => self.system.admits(client),
            (Peer::Replica(replica), Request::Readmit(readmission, _)) => {
                self.system.may_readmit(replica, readmission, self.time).is_ok()
            }
            (Peer::Replica(_), Request::Convict(evidence)) => {
                !self.system.is_convicted(evidence.accused)
            }
            (Peer::Replica(_), _) => false,
        }
    }

    /// What a bundle of this client came to, if it was executed and its session still knows.
    #[must_use]
    pub fn remembered(
        &self,
        client: PublicKey,
        digest: Digest,
        bundle: &Bundle,
    ) -> Option<Remembered> {
        match bundle.request {
            Request::Register { nonce } => {
                self.system.opening(client, nonce).filter(|opening| opening.bundle == digest)
            }
            Request::Operations { session, sequence, .. } => {
                match self.system.admit(client, session, sequence, digest) {
                    Admission::Repeat(remembered) => Some(remembered),
                    Admission::Execute | Admission::Refuse(_) => None,
                }
            }
            Request::Readmit(..) | Request::Convict(_) => None,
        }
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
pub(crate) fn link(chain: Digest, slot: Slot, item: Digest) -> Digest {
    Digest::of_parts(&[&chain.0, &slot.0.to_le_bytes(), &item.0])
}
