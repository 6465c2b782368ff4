//! The states of stable checkpoints, for whoever starts or was left behind.
//!
//! A state is an O(1) clone, but what it alone holds grows as the service goes on. So only the newest is kept, and an
//! older one while somebody is fetching it: whoever asks for a head or a part holds that state for a while, and holds no
//! other. When too many are held, those of which only the head was asked for go first, so that nobody's transfer is cut
//! short by others' idle questions.

use crate::executor::Replicated;
use crate::feed::{Head, StateAnswer, StateAsk, Summaries, Tree};
use crate::message::ReplicaMessage;
use crate::replica::{Fx, Replica};
use crate::rules::Rules;
use crate::status::Health;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use testudo_contracts::{Ordering, Service, StableCheckpoint};
use testudo_core::{Peer, Slot, limits};
use testudo_state::sync::{Node, Place};

/// Budget periods for which an older state is kept after somebody has asked for a part of it.
const PATIENCE: u32 = 64;

/// Bytes that it counts for to find one node, whatever it holds.
const PLACE_COST: usize = 256;

/// A state that is certified.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) certificate: StableCheckpoint,
    pub(crate) head: Head,
    pub(crate) state: Replicated,
}

/// Somebody is fetching a state.
#[derive(Clone, Copy, Debug)]
struct Hold {
    slot: Slot,
    /// What it is worth: whether parts were asked for, not the head alone, and when that was last, in the order of all
    /// questions.
    worth: (bool, u64),
    /// Periods since then.
    idle: u32,
}

/// States of checkpoints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Serving {
    /// Of those that this replica has hashed and that are not stable yet. Invariant: at most `SERVED_CHECKPOINTS`; one
    /// that falls behind so far is not served when it becomes stable.
    unstable: BTreeMap<Slot, (Head, Replicated)>,
    /// Of stable ones. Invariants: at most `SERVED_CHECKPOINTS`; each but the newest is held by somebody.
    stable: BTreeMap<Slot, Served>,
    /// Who holds which of the stable ones: replicas and admitted clients, each one state.
    holds: BTreeMap<Peer, Hold>,
    /// How many heads and parts were asked for.
    questions: u64,
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
        self.stable.insert(head.slot, Served { certificate, head, state });
        self.drop_unheld();
    }

    /// An epoch begins, with this state if it is there. What the members of the last one have signed convinces nobody now.
    pub(crate) fn begin_epoch(&mut self, base: Option<StableCheckpoint>, state: &Replicated) {
        *self = Self::default();
        if let Some(base) = base {
            self.serve(base, state.head(), state.clone());
        }
    }

    /// How many states are kept.
    pub(crate) fn len(&self) -> usize {
        self.stable.len() + self.unstable.len()
    }

    /// The newest stable one.
    pub(crate) fn latest(&self) -> Option<&Served> {
        self.stable.values().next_back()
    }

    /// The slot of the oldest that is served.
    pub(crate) fn oldest(&self) -> Option<Slot> {
        self.stable.keys().next().copied()
    }

    /// Somebody asks for the newest head. It holds that state, unless it is fetching another.
    fn head_for(&mut self, peer: Peer) -> Option<&Served> {
        let newest = self.stable.keys().next_back().copied()?;
        if self.holds.get(&peer).is_none_or(|hold| !hold.worth.0) {
            self.hold_for(peer, newest, false);
        }
        self.stable.get(&newest)
    }

    /// Somebody asks for a part of the state of this slot.
    fn part_for(&mut self, peer: Peer, slot: Slot) -> Option<&Served> {
        if self.stable.contains_key(&slot) {
            self.hold_for(peer, slot, true);
        }
        self.stable.get(&slot)
    }

    /// It holds this state from now on, instead of what it held before.
    fn hold_for(&mut self, peer: Peer, slot: Slot, takes_parts: bool) {
        self.questions += 1;
        let worth = (takes_parts, self.questions);
        self.holds.insert(peer, Hold { slot, worth, idle: 0 });
        self.drop_unheld();
    }

    /// A budget period is over.
    pub(crate) fn tick(&mut self) {
        self.holds.retain(|_, hold| {
            hold.idle += 1;
            hold.idle <= PATIENCE
        });
        self.drop_unheld();
    }

    /// Whether somebody holds a state, so that its time runs.
    pub(crate) fn is_patient(&self) -> bool {
        !self.holds.is_empty()
    }

    /// Lets go of what nobody holds but the newest, and if that is not enough, of what is worth least to its holders.
    fn drop_unheld(&mut self) {
        let newest = self.stable.keys().next_back().copied();
        let mut worth: BTreeMap<Slot, (bool, u64)> = BTreeMap::new();
        for hold in self.holds.values() {
            let most = worth.entry(hold.slot).or_default();
            *most = hold.worth.max(*most);
        }
        self.stable.retain(|slot, _| Some(*slot) == newest || worth.contains_key(slot));
        while self.stable.len() > limits::SERVED_CHECKPOINTS {
            let older = self.stable.keys().filter(|slot| Some(**slot) != newest);
            let Some(least) = older.min_by_key(|slot| worth.get(slot)).copied() else { break };
            self.stable.remove(&least);
        }
        self.holds.retain(|_, hold| self.stable.contains_key(&hold.slot));
    }
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// Somebody asks for certified state. One that heals has none to give, or an old one, or cannot know what it is worth
    /// by now.
    pub(crate) fn on_state_ask(&mut self, from: Peer, ask: &StateAsk, fx: &mut Fx<'_, O, S, R>) {
        let may_say = matches!(self.health, Health::Well | Health::Halted(_));
        if !may_say
            || from == Peer::Replica(self.me)
            || !self.may_be_told(from)
            || !self.budgets.may_ask(from)
        {
            return;
        }
        self.keep_budget(fx);
        let answer = match ask {
            StateAsk::Certificate => {
                if let Some(certificate) = self.checkpoints.certificate().cloned() {
                    // EAGER: the certificate proves itself.
                    fx.send_eager(from, ReplicaMessage::Stable(certificate));
                }
                return;
            }
            StateAsk::Head => {
                self.serving.head_for(from).map_or(StateAnswer::Gone(Slot(0)), |served| {
                    let Served { certificate, head, state } = served;
                    let (system, service) = (state.system.map().summary(), state.map.summary());
                    let summaries = Box::new(Summaries { system, service });
                    StateAnswer::Head(certificate.clone(), *head, summaries)
                })
            }
            StateAsk::Nodes { slot, tree, places } => {
                let Some(answer) = self.nodes(from, *slot, *tree, places) else { return };
                answer
            }
        };
        // EAGER: a head proves itself by its certificate, a node by the head; that something is gone promises nothing.
        fx.send_eager(from, ReplicaMessage::State(answer));
    }

    /// Nodes of a map. None if this peer, or all together, have had enough for now.
    fn nodes(
        &mut self,
        from: Peer,
        slot: Slot,
        tree: Tree,
        places: &[Place],
    ) -> Option<StateAnswer> {
        let Some(served) = self.serving.part_for(from, slot) else {
            return Some(StateAnswer::Gone(slot));
        };
        if !self.budgets.may_lend_part(from) {
            return None;
        }
        let map = match tree {
            Tree::System => served.state.system.map(),
            Tree::Service => &served.state.map,
        };
        let nodes = map.nodes(places, limits::CHUNK_BYTES);
        let bytes: usize = nodes.iter().map(Node::size).sum();
        self.budgets.lent_part(from, bytes + places.len() * PLACE_COST);
        Some(StateAnswer::Nodes { slot, tree, nodes })
    }

    /// Whether this peer is told what is decided and what the state is: replicas and admitted clients are.
    pub(crate) fn may_be_told(&self, peer: Peer) -> bool {
        match peer {
            Peer::Client(client) => self.state.system.admits(client),
            Peer::Replica(_) => true,
        }
    }
}
