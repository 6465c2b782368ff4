//! The states of stable checkpoints, for whoever starts or was left behind.
//!
//! A state is an O(1) clone, but what it alone holds grows as the service goes on. So only the newest is kept, and an
//! older one while somebody is fetching it.

use crate::executor::Replicated;
use crate::feed::{Head, StateAnswer, StateAsk, Tree};
use crate::message::ReplicaMessage;
use crate::replica::{Fx, Replica};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use testudo_contracts::{Ordering, Service, StableCheckpoint};
use testudo_core::{Encode, Peer, Slot, limits};

/// Budget periods for which an older state is kept after somebody has asked for a part of it.
const PATIENCE: u32 = 64;

/// A state that is certified.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) certificate: StableCheckpoint,
    pub(crate) head: Head,
    pub(crate) state: Replicated,
    /// Periods since somebody asked for it; none if nobody has.
    idle: Option<u32>,
}

/// States of checkpoints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Serving {
    /// Of those that this replica has hashed and that are not stable yet. Invariant: at most `SERVED_CHECKPOINTS`; one
    /// that falls behind so far is not served when it becomes stable.
    unstable: BTreeMap<Slot, (Head, Replicated)>,
    /// Of stable ones. Invariant: at most `SERVED_CHECKPOINTS`.
    stable: BTreeMap<Slot, Served>,
}

impl Serving {
    /// This is the state of a checkpoint that may become stable.
    pub(crate) fn hold(&mut self, head: Head, state: Replicated) {
        self.unstable.insert(head.slot, (head, state));
        while self.unstable.len() > limits::SERVED_CHECKPOINTS {
            self.unstable.pop_first();
        }
    }

    /// A checkpoint is stable. It is served if it is of the state that is held.
    pub(crate) fn certify(&mut self, certificate: &StableCheckpoint) {
        let checkpoint = certificate.statement();
        let later = self.unstable.split_off(&checkpoint.slot.next());
        let held = core::mem::replace(&mut self.unstable, later).remove(&checkpoint.slot);
        if let Some((head, state)) = held
            && head.digest() == checkpoint.state
        {
            self.serve(certificate.clone(), head, state);
        }
    }

    /// Serves a certified state.
    pub(crate) fn serve(&mut self, certificate: StableCheckpoint, head: Head, state: Replicated) {
        self.stable.insert(head.slot, Served { certificate, head, state, idle: None });
        self.drop_idle();
    }

    /// The newest stable one.
    pub(crate) fn latest(&self) -> Option<&Served> {
        self.stable.values().next_back()
    }

    /// The slot of the oldest that is served.
    pub(crate) fn oldest(&self) -> Option<Slot> {
        self.stable.keys().next().copied()
    }

    /// Somebody asks for a part of the state of this slot.
    fn ask(&mut self, slot: Slot) -> Option<&Served> {
        let served = self.stable.get_mut(&slot)?;
        served.idle = Some(0);
        Some(served)
    }

    /// A budget period is over.
    pub(crate) fn tick(&mut self) {
        for served in self.stable.values_mut() {
            served.idle = served.idle.map(|idle| idle.saturating_add(1));
        }
        self.drop_idle();
    }

    /// Whether an older one is kept, whose time runs.
    pub(crate) fn is_patient(&self) -> bool {
        self.stable.len() > 1
    }

    fn drop_idle(&mut self) {
        let latest = self.stable.keys().next_back().copied();
        self.stable.retain(|slot, served| {
            Some(*slot) == latest || served.idle.is_some_and(|idle| idle <= PATIENCE)
        });
        while self.stable.len() > limits::SERVED_CHECKPOINTS {
            self.stable.pop_first();
        }
    }
}

impl<O: Ordering, S: Service> Replica<O, S> {
    /// Somebody asks for certified state. It proves itself, so it is told however this replica is.
    pub(crate) fn on_state_ask(&mut self, from: Peer, ask: &StateAsk, fx: &mut Fx<'_, O, S>) {
        if from == Peer::Replica(self.me) || !self.may_be_told(from) || !self.budgets.may_ask(from)
        {
            return;
        }
        self.keep_budget(fx);
        let answer = match ask {
            StateAsk::Head => {
                let latest = self.serving.latest().map(|served| served.head.slot);
                let served = latest.and_then(|slot| self.serving.ask(slot));
                served.map_or(StateAnswer::Gone(Slot(0)), |served| {
                    StateAnswer::Head(served.certificate.clone(), served.head)
                })
            }
            StateAsk::Chunk { slot, tree, after } => {
                let Some(answer) = self.chunk(from, *slot, *tree, after.clone()) else { return };
                answer
            }
        };
        // EAGER: a head proves itself by its certificate, a chunk by the head; that something is gone promises nothing.
        fx.send_eager(from, ReplicaMessage::State(answer));
    }

    /// A part of a map. None if this peer has had enough for now.
    fn chunk(
        &mut self,
        from: Peer,
        slot: Slot,
        tree: Tree,
        after: Option<Arc<[u8]>>,
    ) -> Option<StateAnswer> {
        let Some(served) = self.serving.ask(slot) else { return Some(StateAnswer::Gone(slot)) };
        // What it takes to find a chunk is known only when it is found, so what fits must fit whole.
        if !self.budgets.may_lend(from, limits::CHUNK_BYTES) {
            return None;
        }
        let map = match tree {
            Tree::System => served.state.system.map(),
            Tree::Service => &served.state.map,
        };
        let chunk = map.chunk(after.as_deref(), limits::CHUNK_BYTES).to_bytes().into();
        Some(StateAnswer::Chunk { slot, tree, after, chunk })
    }

    /// Whether this peer is told what is decided and what the state is: replicas and admitted clients are.
    pub(crate) fn may_be_told(&self, peer: Peer) -> bool {
        match peer {
            Peer::Client(client) => self.state.system.admits(client),
            Peer::Replica(_) => true,
        }
    }
}
