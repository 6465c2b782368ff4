//! Fetching a certified state: from anybody, trusting nobody.
//!
//! A head is worth its certificate, and a chunk proves itself against the head's digests. So it matters not who sends
//! what; a replica that sends something else, or nothing, is left for the next one, and what was taken stays.

use super::{Fx, Learner, Standing};
use crate::executor::Replicated;
use crate::feed::{Head, StateAnswer, StateAsk, Tree};
use crate::learner::rules::Rules;
use crate::message::ReplicaMessage;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use testudo_contracts::{Ordering, Service};
use testudo_core::{Decode, Digest, ReplicaId, Slot, limits};
use testudo_state::{Chunk, Import, Map};

/// Ticks without an answer after which another replica is asked. It takes two, as the first may come right after it was
/// asked.
const PATIENCE: u32 = 2;

/// A transfer under way.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    source: ReplicaId,
    /// Ticks before it begins.
    rest: u32,
    /// Ticks since the source has last answered much of use.
    ticks: u32,
    /// Sources left since the last tick. When all were, nobody is asked before the next: nobody is asked in circles.
    left: usize,
    /// Bytes of use that came since the last tick.
    bytes: usize,
    /// Replicas that do not hold the checkpoint, or any. Once so many say so that a correct one is among them whatever
    /// liars say, and all correct ones could, it is given up.
    gone: BTreeSet<ReplicaId>,
    /// The highest checkpoint that was given up. An older one is of no use either: a liar could offer it again and again.
    given_up: Slot,
    /// What is fetched; none while no head is known.
    parts: Option<Parts>,
}

#[derive(Clone, Debug)]
struct Parts {
    head: Head,
    /// The map that is finished, once it is.
    system: Option<Map>,
    import: Import,
    after: Option<Arc<[u8]>>,
}

impl Parts {
    fn new(head: Head) -> Self {
        Self { head, system: None, import: Import::default(), after: None }
    }

    const fn tree(&self) -> Tree {
        if self.system.is_some() { Tree::Service } else { Tree::System }
    }

    const fn root(&self) -> Digest {
        if self.system.is_some() { self.head.service } else { self.head.system }
    }

    /// Takes a chunk. Both maps, once they are whole; nothing if it was the next part; an error if it was not.
    fn take(&mut self, chunk: &[u8]) -> Result<Option<(Map, Map)>, ()> {
        let chunk = Chunk::from_bytes(chunk).map_err(drop)?;
        let part = chunk.verify(&self.root(), self.after.as_deref()).map_err(drop)?;
        let is_last = part.is_last();
        for (key, value) in part.into_entries() {
            self.after = Some(key.clone());
            self.import.push(key, value);
        }
        if !is_last {
            return Ok(None);
        }
        let map = core::mem::take(&mut self.import).finish();
        self.after = None;
        match self.system.take() {
            Some(system) => Ok(Some((system, map))),
            None => {
                self.system = Some(map);
                Ok(None)
            }
        }
    }
}

impl Transfer {
    /// What is to be asked next.
    fn ask(&self) -> StateAsk {
        match &self.parts {
            None => StateAsk::Head,
            Some(parts) => StateAsk::Chunk {
                slot: parts.head.slot,
                tree: parts.tree(),
                after: parts.after.clone(),
            },
        }
    }

    /// Whether this answers what was asked last.
    fn is_asked(&self, at: Slot, tree: Tree, after: Option<&Arc<[u8]>>) -> bool {
        self.parts.as_ref().is_some_and(|parts| {
            (parts.head.slot, parts.tree(), parts.after.as_ref()) == (at, tree, after)
        })
    }
}

impl<O: Ordering, S: Service + Clone, R: Rules> Learner<O, S, R> {
    /// Begins to fetch a state. Until it is there nothing is executed.
    pub(super) fn begin_transfer(&mut self, fx: &mut Fx<'_, O, S, R>) {
        self.begin_transfer_after(0, fx);
    }

    /// Begins to fetch a state after so many ticks. Until it is there nothing is executed.
    pub(super) fn begin_transfer_after(&mut self, rest: u32, fx: &mut Fx<'_, O, S, R>) {
        if let Standing::Following(_) = self.standing {
            self.stand(Standing::Fetching, fx);
        }
        let source = self.upstream;
        self.transfer = Some(Transfer {
            source,
            rest,
            ticks: 0,
            left: 0,
            bytes: 0,
            gone: BTreeSet::new(),
            given_up: Slot(0),
            parts: None,
        });
        self.ask_for_state(fx);
    }

    fn ask_for_state(&self, fx: &mut Fx<'_, O, S, R>) {
        if let Some(transfer) = self.transfer.as_ref().filter(|transfer| transfer.rest == 0) {
            // EAGER: a learner writes no log; it asks.
            fx.send_eager(transfer.source, ReplicaMessage::StateAsk(transfer.ask()));
        }
    }

    /// A replica answers. Its certificate was verified.
    pub(super) fn on_state(
        &mut self,
        from: ReplicaId,
        answer: &StateAnswer,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        let lacks_copy = matches!(self.standing, Standing::Diverged(_));
        let copy = self.copy.slot;
        let Some(transfer) = &mut self.transfer else { return };
        if from != transfer.source || transfer.rest > 0 {
            return;
        }
        match answer {
            StateAnswer::Head(_, head) if transfer.parts.is_none() => {
                if (head.slot <= copy && !lacks_copy) || head.slot <= transfer.given_up {
                    // It is further back than where this learner stands, or nobody serves it: of no use. Another
                    // replica may know more.
                    return self.next_source(fx);
                }
                transfer.parts = Some(Parts::new(*head));
                transfer.gone.clear();
                transfer.ticks = 0;
                self.ask_for_state(fx);
            }
            StateAnswer::Chunk { slot, tree, after, chunk }
                if transfer.is_asked(*slot, *tree, after.as_ref()) =>
            {
                let Some(parts) = &mut transfer.parts else { return };
                match parts.take(chunk) {
                    Ok(None) => {
                        transfer.bytes += chunk.len();
                        self.ask_for_state(fx);
                    }
                    Ok(Some((system, service))) => {
                        let copy = Replicated::from_parts(&parts.head, system, service);
                        self.transfer = None;
                        match copy {
                            Some(copy) => self.install(copy, fx),
                            // Each chunk was right, so the whole is: this is a fault of our own, and is begun anew.
                            None => {
                                let rest = self.setbacks.suffer(self.shown);
                                self.begin_transfer_after(rest, fx);
                            }
                        }
                    }
                    Err(()) => self.next_source(fx),
                }
            }
            StateAnswer::Gone(slot)
                if transfer.parts.as_ref().is_none_or(|parts| parts.head.slot == *slot) =>
            {
                transfer.gone.insert(from);
                if transfer.gone.len() >= self.quorums.quorum() {
                    transfer.gone.clear();
                    match transfer.parts.take() {
                        Some(parts) => transfer.given_up = parts.head.slot,
                        // No checkpoint was ever stable, so everything that was decided can still be told.
                        None => return self.begin_anew(fx),
                    }
                }
                self.next_source(fx);
            }
            StateAnswer::Head(..) | StateAnswer::Chunk { .. } | StateAnswer::Gone(_) => {}
        }
    }

    /// Time has passed: what was asked may be lost, or its source of no use.
    pub(super) fn transfer_again(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let Some(transfer) = &mut self.transfer else { return };
        if transfer.rest > 0 {
            transfer.rest -= 1;
            return self.ask_for_state(fx);
        }
        // A source that gives a little at a time keeps nobody waiting: what it gave stays, and another one goes on.
        let is_useful = transfer.bytes >= limits::CHUNK_BYTES / 2;
        transfer.ticks = if is_useful { 0 } else { transfer.ticks + 1 };
        transfer.bytes = 0;
        let was_stuck = transfer.left > self.quorums.n();
        transfer.left = 0;
        if transfer.ticks > PATIENCE {
            self.next_source(fx);
        } else if was_stuck {
            self.ask_for_state(fx);
        }
    }

    /// Begins again with the state that everything starts from.
    fn begin_anew(&mut self, fx: &mut Fx<'_, O, S, R>) {
        self.transfer = None;
        let genesis = Replicated::genesis(&self.config.service, &self.config.clients);
        self.install(genesis, fx);
    }

    /// Asks the next replica for what is lacking.
    fn next_source(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let n = self.quorums.n().max(1) as u16;
        let Some(transfer) = &mut self.transfer else { return };
        transfer.source = ReplicaId((transfer.source.0 + 1) % n);
        transfer.ticks = 0;
        transfer.left += 1;
        if transfer.left <= self.quorums.n() {
            self.ask_for_state(fx);
        }
    }
}
