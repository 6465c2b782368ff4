//! Small configurations of an ordering alone, to be seen to the last.

use crate::subject::Testable;
use testudo_core::{FaultModel, Message, Peer, ReplicaId, Slot, View};
use testudo_sim::explore::ordering::{Ordered, batch};
use testudo_sim::explore::{Bounds, Explored, Falsehood, Progress, explore as see};
use testudo_sim::{NodeId, Shape, World};

/// A small cluster that survives one fault, and what may happen in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configuration {
    /// How many requests there are to order; at most 26.
    pub requests: u8,
    /// Whether the first primary lies: it tells each replica what it likes about the first slot.
    pub has_liar: bool,
    /// How far it goes.
    pub bounds: Bounds,
}

/// The first primary.
const LIAR: NodeId = NodeId(0);

/// Requests that a liar can be for: with two it can tell one half one thing, and the other half another.
const FACES: [&str; 2] = ["a", "b"];

/// Sees all that can happen, or as much as the bounds say.
pub(crate) fn explore<O: Testable>(
    configuration: &Configuration,
    progress: &mut dyn FnMut(&Progress),
) -> Explored {
    let replicas = u16::try_from((O::PROFILE.replicas)(1)).unwrap_or(u16::MAX);
    let model = match O::PROFILE.faults {
        testudo_core::fault::FaultKind::Byzantine => FaultModel::byzantine(1),
        kind => FaultModel { kind, ..FaultModel::crash(1) },
    };
    let make = || {
        let mut system = Ordered::<O>::new(configuration.requests);
        system.convicts = <O::Message as Message>::is_convicted;
        if configuration.has_liar {
            system.falsehoods = two_faced;
        }
        let shape = Shape { replicas, model, ..Shape::byzantine(1, 0) };
        let mut world = World::asleep(system, &shape, 0);
        if configuration.has_liar {
            world.suborn(LIAR);
        }
        world
    };
    see(make, &configuration.bounds, progress)
}

/// The first primary says all that it can for one request to some, and for another to others, whether anybody asks for
/// the other or not.
fn two_faced<O: Testable>(world: &World<Ordered<O>>, liar: NodeId) -> Vec<Falsehood<O::Message>> {
    let others = world.replicas().filter(|node| *node != liar);
    let faces = |to: NodeId| {
        FACES.map(|name| {
            let said = O::advocate(View(0), Slot(1), &batch(name, true)).into_iter();
            let peer = Peer::Replica(ReplicaId(to.0));
            Falsehood {
                words: format!("->{to} is for {name}", to = to.0),
                messages: said.map(|said| (peer, said)).collect(),
            }
        })
    };
    others.flat_map(faces).collect()
}
