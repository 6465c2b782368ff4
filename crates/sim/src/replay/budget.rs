//! How many replicas are faulty at a moment of a replay.

use crate::atlas::{Ailment, Findings, Harm};
use crate::event::NodeId;
use crate::step::{Injury, Step};
use crate::world::{System, World};
use std::collections::BTreeSet;

/// A clock that is this many milliseconds off keeps no time.
const WRONG: u64 = 1_000;

/// A clock that runs this many millionths too fast or too slowly will keep none.
const FAST: u32 = 1_000;

/// What has befallen replicas and may not be over.
#[derive(Default, Debug)]
pub(super) struct Budget {
    ailments: Vec<(NodeId, Ailment)>,
    /// Replicas whose clocks are wrong.
    clocks: BTreeSet<NodeId>,
    /// What a step is about to bring about.
    coming: Option<Coming>,
}

#[derive(Debug)]
enum Coming {
    Ailment(NodeId, Ailment),
    Clock(NodeId, bool),
}

impl Injury {
    /// What kind of harm it is.
    #[must_use]
    pub const fn harm(self) -> Harm {
        match self {
            Self::Record(_) => Harm::Record,
            Self::RecordAndTag(_) => Harm::RecordAndTag,
            Self::Write(_) => Harm::LostWrite,
            Self::Misdirected(..) => Harm::Misdirected,
            Self::Snapshot => Harm::Snapshot,
            Self::Memory(_) => Harm::Memory,
            Self::SuperblockCopy(_) => Harm::SuperblockCopy,
            Self::Superblock => Harm::Superblock,
            Self::Wiped => Harm::Wiped,
            Self::OldImage => Harm::OldImage,
            Self::FlippedBit(_) => Harm::FlippedBit,
            Self::LostSector(_) => Harm::LostSector,
            Self::ZeroedRun(_) => Harm::ZeroedRun,
            Self::UnreadableSector(_) => Harm::UnreadableSector,
            Self::FailedFlush(_) => Harm::FailedFlush,
            Self::FullDisk(_) => Harm::FullDisk,
            Self::SlowDisk(..) => Harm::SlowDisk,
        }
    }
}

/// Whom a step makes faulty, if it makes anybody so.
fn victim<S: System>(world: &World<S>, step: &Step) -> Option<NodeId> {
    let who = match step {
        Step::Harm(who, injury) if injury.harm().counts() => who,
        Step::Clock(who, offset) if offset.unsigned_abs() > WRONG => who,
        Step::Rate(who, rate) if rate.unsigned_abs() > FAST => who,
        _ => return None,
    };
    world.named(*who).filter(|node| world.is_replica(*node))
}

impl Budget {
    /// How many other replicas are faulty now, if the step makes one so.
    pub(super) fn company<S: System>(&mut self, world: &World<S>, step: &Step) -> Option<usize> {
        let victim = victim(world, step)?;
        self.ailments.retain(|(node, ailment)| !ailment.is_over(&world.findings(*node)));
        let ailing = self.ailments.iter().map(|(node, _)| *node);
        let liars = world.replicas().filter(|node| !world.is_correct(*node));
        let faulty: BTreeSet<NodeId> =
            ailing.chain(liars).chain(self.clocks.iter().copied()).collect();
        Some(faulty.into_iter().filter(|node| *node != victim).count())
    }

    /// A step is about to be done.
    pub(super) fn brace<S: System>(&mut self, world: &World<S>, step: &Step) {
        self.coming = match step {
            Step::Clock(who, offset) => {
                world.named(*who).map(|node| Coming::Clock(node, offset.unsigned_abs() > WRONG))
            }
            Step::Rate(who, rate) if rate.unsigned_abs() > FAST => {
                world.named(*who).map(|node| Coming::Clock(node, true))
            }
            Step::Harm(who, injury) if injury.harm().counts() => {
                let horizons = world.replicas().filter_map(|node| world.condition(node));
                let horizon = horizons.map(|condition| condition.horizon).max().unwrap_or_default();
                world.named(*who).map(|node| {
                    let Findings { life, mended, .. } = world.findings(node);
                    Coming::Ailment(node, Ailment { harm: injury.harm(), life, mended, horizon })
                })
            }
            _ => None,
        };
    }

    /// It was done, and did something or not.
    pub(super) fn reckon(&mut self, happened: bool) {
        match self.coming.take().filter(|_| happened) {
            Some(Coming::Ailment(node, ailment)) => self.ailments.push((node, ailment)),
            Some(Coming::Clock(node, true)) => drop(self.clocks.insert(node)),
            Some(Coming::Clock(node, false)) => drop(self.clocks.remove(&node)),
            None => {}
        }
    }

    /// Whether a replica's memory has come to harm, and its state has not been replaced since.
    pub(super) fn is_spoilt<S: System>(&self, world: &World<S>, of: NodeId) -> bool {
        let mut ailments = self.ailments.iter().filter(|(node, _)| *node == of);
        ailments.any(|(node, ailment)| {
            ailment.harm == Harm::Memory && !ailment.is_over(&world.findings(*node))
        })
    }
}
