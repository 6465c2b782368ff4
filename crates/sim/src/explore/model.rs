//! What an explorer must know of a system beyond what a world knows.

use crate::event::NodeId;
use crate::oracle::{Cast, Jury};
use crate::world::{System, World};
use std::fmt;
use testudo_core::{Peer, Protocol};

/// Something that a layer above may ask for now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Of the automaton of this node.
    pub node: NodeId,
    /// What, as a script says it.
    pub words: String,
}

/// Something that a liar may say now.
#[derive(Clone, Debug)]
pub struct Falsehood<M> {
    /// What it is, for people.
    pub words: String,
    /// The messages, in order, and to whom. All arrive at once.
    pub messages: Vec<(Peer, M)>,
}

/// How worlds are copied. Without it each state's world is made anew and led there, which takes longer by the length
/// of the way.
pub struct Forks<S: System> {
    pub(crate) fork: fn(&World<S>) -> Option<World<S>>,
    pub(crate) own: fn(&mut World<S>, NodeId),
}

impl<S: System> Clone for Forks<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: System> Copy for Forks<S> {}

impl<S> Forks<S>
where
    S: System + Clone,
    S::Replica: Clone,
    S::Client: Clone,
    <S::Replica as Protocol>::Output: Clone,
    <S::Client as Protocol>::Output: Clone,
{
    /// By cloning their parts.
    #[must_use]
    pub const fn by_clone() -> Self {
        Self { fork: World::fork, own: World::own }
    }
}

/// A system that can be explored.
///
/// What is written down of automata and upper layers is their identity: two states that print alike are taken for one. So
/// it must leave out nothing that what they do later depends on. A derived `Debug` does that, unless a type inside leaves
/// something out.
pub trait Model: System {
    /// How worlds are copied.
    #[must_use]
    fn forks() -> Option<Forks<Self>> {
        None
    }

    /// Whether this one's worlds are to be copied, if they can be.
    #[must_use]
    fn may_fork(&self) -> bool {
        true
    }

    /// Writes down a replica's automaton.
    ///
    /// # Errors
    /// When `out` takes no more.
    fn print_replica(replica: &Self::Replica, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Writes down a client's automaton.
    ///
    /// # Errors
    /// When `out` takes no more.
    fn print_client(client: &Self::Client, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Writes down what the layers above remember.
    ///
    /// # Errors
    /// When `out` takes no more.
    fn print_above(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let _ = out;
        Ok(())
    }

    /// Whether exploration begins when all that a first start sets off has come to its end, without timers.
    #[must_use]
    fn begins_settled() -> bool {
        true
    }

    /// What layers above may ask for in this state.
    #[must_use]
    fn asks(world: &World<Self>) -> Vec<Ask> {
        let _ = world;
        Vec::new()
    }

    /// A layer above asks for this, which is one of [`Model::asks`]. Nothing but its node is changed.
    fn ask(world: &mut World<Self>, ask: &Ask) {
        let _ = (world, ask);
    }

    /// What a node that is not correct may say in this state.
    #[must_use]
    fn falsehoods(world: &World<Self>, liar: NodeId) -> Vec<Falsehood<Self::Message>> {
        let _ = (world, liar);
        Vec::new()
    }

    /// What the layer above a node does at once after each step of it. Nothing but this node is changed. What nobody takes is
    /// dropped here: answers of clients above all.
    fn settle(world: &mut World<Self>, node: NodeId) {
        let _ = node;
        while world.take_answer().is_some() {}
    }

    /// The rules. They see what nodes tell, start, crash, blame and refuse, and not each message; what they remember of it must
    /// follow from what each node told, in its order.
    #[must_use]
    fn jury(&self, cast: Cast) -> Jury {
        Jury::new(cast)
    }

    /// Checks a state, beyond the automata's own audit. Name of the rule, and how it is broken.
    ///
    /// # Errors
    /// When the state breaks a rule.
    fn check(world: &World<Self>) -> Result<(), (&'static str, String)> {
        let _ = world;
        Ok(())
    }

    /// Replicas that may change places: within the bounds no rule of the protocol treats one of them otherwise than another. At
    /// most four, as all their orders are tried.
    #[must_use]
    fn interchangeable(world: &World<Self>) -> Vec<NodeId> {
        let _ = world;
        Vec::new()
    }
}
