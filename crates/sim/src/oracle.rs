//! Judges of runs.
//!
//! An oracle reads events and nothing else, and does its own arithmetic: it shares no predicate with the protocols that
//! it judges, so that a wrong idea of theirs is not repeated here. What a faulty node says or does convicts nobody;
//! every rule is about correct ones, who may crash but do not lie.

mod alarm;
mod blame;
mod bounds;
mod copies;
mod keeping;
mod ledger;
mod order;
mod record;
mod states;
mod validity;
mod window;

pub use alarm::{Alarm, Alarms};
pub use blame::{Honesty, Justice};
pub use bounds::{Bounds, Table};
pub use copies::Copies;
pub use keeping::Keeping;
pub use ledger::settle;
pub use order::{Agreement, Checkpoints, Once, TotalOrder, Unanimity, Views};
pub use record::{Counts, Trace};
pub use states::States;
pub use validity::Validity;

use crate::event::{Event, Fact, NodeId};
use crate::world::{Observer, System, World};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use testudo_core::{Peer, ReplicaId, Slot};

/// Who is who in a run.
#[derive(Clone, Debug, Default)]
pub struct Cast {
    peers: Vec<Peer>,
    liars: Vec<bool>,
    names: Vec<String>,
}

impl Cast {
    /// The nodes of a world as they are now.
    #[must_use]
    pub fn of<S: System>(world: &World<S>) -> Self {
        let mut cast = Self::default();
        for node in world.all() {
            cast.add(world.peer(node), world.is_correct(node), world.name(node));
        }
        cast
    }

    /// One more node.
    pub fn add(&mut self, peer: Peer, is_correct: bool, name: String) {
        self.peers.push(peer);
        self.liars.push(!is_correct);
        self.names.push(name);
    }

    /// Whether a node does not lie.
    #[must_use]
    pub fn is_correct(&self, node: NodeId) -> bool {
        self.liars.get(node.index()).is_some_and(|liar| !liar)
    }

    /// Whether no node of this identity lies.
    #[must_use]
    pub fn is_correct_peer(&self, peer: Peer) -> bool {
        let mut nodes = self.peers.iter().zip(&self.liars).filter(|(of, _)| **of == peer);
        nodes.clone().next().is_some() && nodes.all(|(_, liar)| !liar)
    }

    /// Whether a replica does not lie.
    #[must_use]
    pub fn is_correct_replica(&self, id: ReplicaId) -> bool {
        self.is_correct_peer(Peer::Replica(id))
    }

    /// A node's identity.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Option<Peer> {
        self.peers.get(node.index()).copied()
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.peers.len()).map(|index| NodeId(index as u16))
    }

    /// The nodes of an identity.
    pub fn nodes_of(&self, peer: Peer) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes().filter(move |node| self.peer(*node) == Some(peer))
    }

    /// A node's name.
    #[must_use]
    pub fn name(&self, node: NodeId) -> &str {
        self.names.get(node.index()).map_or("?", String::as_str)
    }
}

/// A rule that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Whose rule.
    pub oracle: &'static str,
    /// When it was found out.
    pub at: Duration,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:?}: {}", self.oracle, self.at, self.what)
    }
}

/// One rule.
pub trait Oracle {
    /// What it is called in reports.
    fn name(&self) -> &'static str;

    /// Takes in an event.
    ///
    /// # Errors
    /// When it breaks the rule, with a sentence that says how.
    fn see(&mut self, event: &Event, cast: &Cast) -> Result<(), String>;
}

/// All rules together, listening to a world.
///
/// A broken rule tends to stay broken, and says the same at every look; so the first breach of each rule is kept, and how
/// often it was broken is counted. There are few rules, and no number of breaches of one hides the first of another.
pub struct Jury {
    cast: Cast,
    oracles: Vec<Box<dyn Oracle>>,
    violations: Vec<Violation>,
    /// How often each rule was broken.
    times: BTreeMap<&'static str, u64>,
    /// In which slot each rule was broken first, where that can be told.
    places: BTreeMap<&'static str, Slot>,
}

impl Jury {
    /// The rules that hold for every protocol. The cast must be final: who lies is known.
    #[must_use]
    pub fn new(cast: Cast) -> Self {
        let oracles: Vec<Box<dyn Oracle>> = vec![
            Box::new(Agreement::default()),
            Box::new(TotalOrder::default()),
            Box::new(Once::default()),
            Box::new(Validity::default()),
            Box::new(Checkpoints::default()),
            Box::new(Views::default()),
            Box::new(Unanimity),
            Box::new(Justice),
            Box::new(Honesty),
            Box::<Keeping>::default(),
        ];
        let (violations, times, places) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { cast, oracles, violations, times, places }
    }

    /// Others lie from now on.
    pub fn recast(&mut self, cast: Cast) {
        self.cast = cast;
    }

    /// One more rule.
    pub fn add(&mut self, oracle: Box<dyn Oracle>) {
        self.oracles.push(oracle);
    }

    /// Notes a broken rule that was found out otherwise.
    pub fn violate(&mut self, violation: Violation) {
        let times = self.times.entry(violation.oracle).or_default();
        *times += 1;
        if *times == 1 {
            self.violations.push(violation);
        }
    }

    /// The first breach of each rule that was broken so far, in the order in which they were found out.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How often each rule was broken that was broken at all.
    #[must_use]
    pub const fn times(&self) -> &BTreeMap<&'static str, u64> {
        &self.times
    }

    /// In which slot each rule was broken first, where an event of a slot did it.
    #[must_use]
    pub const fn places(&self) -> &BTreeMap<&'static str, Slot> {
        &self.places
    }
}

impl Observer for Jury {
    fn observe(&mut self, at: Duration, event: &Event) {
        let mut found = Vec::new();
        for oracle in &mut self.oracles {
            if let Err(what) = oracle.see(event, &self.cast) {
                found.push(Violation { oracle: oracle.name(), at, what });
            }
        }
        for violation in found {
            if let Some(slot) = slot_of(event)
                && !self.times.contains_key(violation.oracle)
            {
                self.places.insert(violation.oracle, slot);
            }
            self.violate(violation);
        }
    }
}

/// The slot that an event is about, where it is about one and not about all up to it.
const fn slot_of(event: &Event) -> Option<Slot> {
    let Event::Told(_, fact) = event else { return None };
    match fact {
        Fact::Executed { slot, .. }
        | Fact::Applied { slot, .. }
        | Fact::Checkpoint { slot, .. }
        | Fact::Diverged(slot) => Some(*slot),
        _ => None,
    }
}
