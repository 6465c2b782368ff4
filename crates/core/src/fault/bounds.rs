//! Resilience bounds as data, asked by problem and fault model.
//!
//! How many replicas it takes to survive f faults depends on what is to be done, on what is assumed of time, on what
//! the faulty may do, and on whether statements convince third parties. [`TABLE`] says it, row by row, with the source
//! of each bound; a cluster that is too small for what it claims to survive is refused with that row.
//!
//! Two readings of the literature are mixed up easily. *Consensus* among the replicas themselves is had with f+1 under
//! synchrony, as only survivors have to agree. *Replication* serves clients outside, who must not see an answer that
//! the survivors then do not know of (uniform agreement): so no row of it says f+1. And real synchrony fails by being
//! late, which is an omission; so where crashes would come cheaper than omissions for clients outside, they do not
//! here. Where a problem's exact bound is known for stronger faults only, that row stands for the weaker ones.

use super::{Authentication, FaultKind, FaultModel, Timing};
use core::fmt;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Problem {
    /// One service for clients outside, who trust no replica alone (Schneider 1990).
    StateMachineReplication,
    /// The same, where the fault-free case takes two message delays to decide.
    TwoStepReplication,
    /// Executing what others have ordered, for clients who vote on the answers.
    Execution,
    /// One value among the replicas: the common input, where all correct ones have the same.
    Consensus,
    /// The same, ended with probability 1 by coin tosses and not for certain.
    RandomisedConsensus,
    /// One commander's value, agreed upon even if he is faulty, and always within a time (the Byzantine generals).
    Broadcast,
    /// The same at one go for every replica's value.
    InteractiveConsistency,
    /// One sender's value at all correct replicas or at none; at none is allowed only if the sender is faulty.
    ReliableBroadcast,
    /// Values as close to each other as wished, within the range of the correct inputs.
    ApproximateAgreement,
    /// Clocks that stay together and keep to real time.
    ClockSynchronisation,
    /// A variable that clients read and write without ordering their operations first.
    Register,
    /// Replicas that come to the same state once they have heard of the same updates, in any order.
    EventualConsistency,
}

impl Problem {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::StateMachineReplication,
        Self::TwoStepReplication,
        Self::Execution,
        Self::Consensus,
        Self::RandomisedConsensus,
        Self::Broadcast,
        Self::InteractiveConsistency,
        Self::ReliableBroadcast,
        Self::ApproximateAgreement,
        Self::ClockSynchronisation,
        Self::Register,
        Self::EventualConsistency,
    ];
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StateMachineReplication => "state machine replication",
            Self::TwoStepReplication => "two-step replication",
            Self::Execution => "execution",
            Self::Consensus => "consensus",
            Self::RandomisedConsensus => "randomised consensus",
            Self::Broadcast => "Byzantine broadcast",
            Self::InteractiveConsistency => "interactive consistency",
            Self::ReliableBroadcast => "reliable broadcast",
            Self::ApproximateAgreement => "approximate agreement",
            Self::ClockSynchronisation => "clock synchronisation",
            Self::Register => "a shared register",
            Self::EventualConsistency => "eventual consistency",
        })
    }
}

/// How many replicas it takes: n ≥ times·f + plus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    times: i64,
    plus: i64,
}

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    /// What is to be done.
    pub problem: Problem,
    /// Under which of these assumptions on time the row holds.
    pub timing: &'static [Timing],
    /// Against which of these faults.
    pub kinds: &'static [FaultKind],
    /// With which of these bonds between message and sender.
    pub authentication: &'static [Authentication],
    /// The bound in its usual form; "none" where no number of replicas is enough.
    pub formula: &'static str,
    /// Who proved it, or who showed the protocol that meets it.
    pub source: &'static str,
    /// The bound in numbers; `None` where no number of replicas is enough.
    size: Option<Size>,
}

impl Bound {
    /// The least n that survives f faults; `None` where none does. Without faults one replica is always enough.
    #[must_use]
    pub fn minimum(&self, f: u16) -> Option<usize> {
        if f == 0 {
            return Some(1);
        }
        // At most 5·65535 + 2, and at least 1 as f ≥ 1.
        self.size.map(|Size { times, plus }| (times * i64::from(f) + plus) as usize)
    }

    fn covers(&self, problem: Problem, model: &FaultModel) -> bool {
        self.problem == problem
            && self.timing.contains(&model.timing)
            && self.kinds.contains(&model.kind)
            && self.authentication.contains(&model.authentication)
    }
}

/// Why a configuration cannot survive what it claims to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsurvivable {
    /// It takes more replicas.
    TooFew(TooFew),
    /// No number of replicas is enough.
    Impossible(Impossible),
}

/// It takes more replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooFew {
    /// What was asked for.
    pub model: FaultModel,
    /// The row that says so.
    pub bound: &'static Bound,
    /// How many replicas that takes.
    pub needed: usize,
    /// How many there are.
    pub given: usize,
}

/// No number of replicas is enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Impossible {
    /// What was asked for.
    pub model: FaultModel,
    /// The row that says so.
    pub bound: &'static Bound,
}

impl fmt::Display for Unsurvivable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew(too_few) => too_few.fmt(f),
            Self::Impossible(impossible) => impossible.fmt(f),
        }
    }
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, bound, needed, given } = self;
        let (replicas, faults) = (
            if *needed == 1 { "replica is" } else { "replicas are" },
            if model.f == 1 { "fault" } else { "faults" },
        );
        write!(
            f,
            "{needed} {replicas} needed to survive {} {} {faults} under {} ({}, {}); {given} given",
            model.f, model.kind, model.timing, bound.formula, bound.source
        )
    }
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, bound } = self;
        write!(
            f,
            "no deterministic protocol achieves {} under {} once a single {} fault may occur, with however many replicas ({})",
            bound.problem, model.timing, model.kind, bound.source
        )
    }
}

impl core::error::Error for Unsurvivable {}
impl core::error::Error for TooFew {}
impl core::error::Error for Impossible {}

/// The row for a problem under a model, whatever its f.
///
/// # Errors
/// When no number of replicas is enough and the model names faults to survive.
pub fn minimum(problem: Problem, model: &FaultModel) -> Result<&'static Bound, Impossible> {
    let bound = row(problem, model);
    match bound.minimum(model.f) {
        Some(_) => Ok(bound),
        None => Err(Impossible { model: *model, bound }),
    }
}

/// Whether n replicas survive what the model says, doing that.
///
/// # Errors
/// When they do not, with the row of the table that says so.
pub fn check(problem: Problem, model: &FaultModel, n: usize) -> Result<(), Unsurvivable> {
    let bound = row(problem, model);
    match bound.minimum(model.f) {
        Some(needed) if needed <= n => Ok(()),
        Some(needed) => {
            Err(Unsurvivable::TooFew(TooFew { model: *model, bound, needed, given: n }))
        }
        None => Err(Unsurvivable::Impossible(Impossible { model: *model, bound })),
    }
}

/// The most faults that n replicas survive under the model, whatever its f; 0 where not even one is survived.
#[must_use]
pub fn most_faults(problem: Problem, model: &FaultModel, n: usize) -> u16 {
    let Some(Size { times, plus }) = row(problem, model).size else { return 0 };
    let n = i64::try_from(n).unwrap_or(i64::MAX / 2);
    u16::try_from(((n - plus) / times).max(0)).unwrap_or(u16::MAX)
}

fn row(problem: Problem, model: &FaultModel) -> &'static Bound {
    let mut rows = TABLE.iter().filter(|bound| bound.covers(problem, model));
    rows.next().expect("the table answers every question")
}

use Authentication::{Channels, Signatures};
use FaultKind::{Byzantine, Crash, FailStop, Omission};
use Timing::{Asynchronous, PartiallySynchronous, Synchronous};

/// Faults that lie about nothing. That others can tell a fail-stop holds under synchrony at most.
const BENIGN: &[FaultKind] = &[FailStop, Crash, Omission];
const LIES: &[FaultKind] = &[Byzantine];
const ALL_KINDS: &[FaultKind] = &[FailStop, Crash, Omission, Byzantine];
const SYNC: &[Timing] = &[Synchronous];
const PARTIAL: &[Timing] = &[PartiallySynchronous];
const ASYNC: &[Timing] = &[Asynchronous];
const UNBOUNDED: &[Timing] = &[PartiallySynchronous, Asynchronous];
const BOUNDED: &[Timing] = &[Synchronous, PartiallySynchronous];
const ANY_TIME: &[Timing] = &[Synchronous, PartiallySynchronous, Asynchronous];
const SIGNED: &[Authentication] = &[Signatures];
const UNSIGNED: &[Authentication] = &[Channels];
const EITHER: &[Authentication] = &[Channels, Signatures];

const PSL_80: &str = "Pease, Shostak and Lamport 1980";
const LSP_82: &str = "Lamport, Shostak and Pease 1982";
const DS_83: &str = "Dolev and Strong 1983";
const FLP_85: &str = "Fischer, Lynch and Paterson 1985";
const ST_87: &str = "Srikanth and Toueg 1987";
const DLS_88: &str = "Dwork, Lynch and Stockmeyer 1988";
const CT_96: &str = "Chandra and Toueg 1996";
const YIN_03: &str = "Yin et al. 2003";

/// Every bound. Each problem, under each timing, kind of fault and authentication, has exactly one row.
pub static TABLE: &[Bound] = {
    use Problem::{
        ApproximateAgreement, Broadcast, ClockSynchronisation, Consensus, EventualConsistency,
        Execution, InteractiveConsistency, RandomisedConsensus, Register, ReliableBroadcast,
        StateMachineReplication, TwoStepReplication,
    };
    &[
        // Uniform agreement under omissions needs a majority; a client's vote needs one against liars.
        bound(StateMachineReplication, SYNC, BENIGN, EITHER, (2, 1), "Neiger and Toueg 1990"),
        bound(StateMachineReplication, SYNC, LIES, SIGNED, (2, 1), "Schneider 1990"),
        bound(StateMachineReplication, SYNC, LIES, UNSIGNED, (3, 1), LSP_82),
        bound(StateMachineReplication, PARTIAL, BENIGN, EITHER, (2, 1), DLS_88),
        bound(StateMachineReplication, PARTIAL, LIES, EITHER, (3, 1), DLS_88),
        none(StateMachineReplication, ASYNC, ALL_KINDS, FLP_85),
        // Every fault may hit the fast path: e = f in Lamport's 2e+f+1.
        bound(TwoStepReplication, BOUNDED, BENIGN, EITHER, (3, 1), "Lamport 2006"),
        bound(
            TwoStepReplication,
            BOUNDED,
            LIES,
            SIGNED,
            (5, -1),
            "Kuznetsov, Tonkikh and Zhang 2021",
        ),
        bound(TwoStepReplication, BOUNDED, LIES, UNSIGNED, (5, 1), "Martin and Alvisi 2006"),
        none(TwoStepReplication, ASYNC, ALL_KINDS, FLP_85),
        bound(Execution, ANY_TIME, BENIGN, EITHER, (1, 1), YIN_03),
        bound(Execution, ANY_TIME, LIES, EITHER, (2, 1), YIN_03),
        // Only survivors agree here: f+1 is no bound for serving clients.
        bound(Consensus, SYNC, BENIGN, EITHER, (1, 1), DLS_88),
        bound(Consensus, SYNC, LIES, SIGNED, (2, 1), DS_83),
        bound(Consensus, SYNC, LIES, UNSIGNED, (3, 1), PSL_80),
        bound(Consensus, PARTIAL, BENIGN, EITHER, (2, 1), DLS_88),
        bound(Consensus, PARTIAL, LIES, EITHER, (3, 1), DLS_88),
        none(Consensus, ASYNC, ALL_KINDS, FLP_85),
        bound(RandomisedConsensus, ANY_TIME, BENIGN, EITHER, (2, 1), "Ben-Or 1983"),
        bound(RandomisedConsensus, ANY_TIME, LIES, EITHER, (3, 1), "Bracha 1987"),
        // Any f is survived; below f+2 fewer than two correct replicas are left to agree.
        bound(Broadcast, SYNC, BENIGN, EITHER, (1, 2), DS_83),
        bound(Broadcast, SYNC, LIES, SIGNED, (1, 2), DS_83),
        bound(Broadcast, SYNC, LIES, UNSIGNED, (3, 1), LSP_82),
        // To end without the sender one has to be certain that he failed, which takes bounds that hold.
        none(Broadcast, UNBOUNDED, ALL_KINDS, CT_96),
        bound(InteractiveConsistency, SYNC, BENIGN, EITHER, (1, 2), DS_83),
        bound(InteractiveConsistency, SYNC, LIES, SIGNED, (1, 2), DS_83),
        bound(InteractiveConsistency, SYNC, LIES, UNSIGNED, (3, 1), PSL_80),
        none(InteractiveConsistency, UNBOUNDED, ALL_KINDS, CT_96),
        bound(ReliableBroadcast, ANY_TIME, BENIGN, EITHER, (1, 1), "Hadzilacos and Toueg 1994"),
        bound(ReliableBroadcast, SYNC, LIES, SIGNED, (1, 2), DS_83),
        bound(ReliableBroadcast, SYNC, LIES, UNSIGNED, (3, 1), "Bracha and Toueg 1985"),
        bound(ReliableBroadcast, UNBOUNDED, LIES, EITHER, (3, 1), "Bracha and Toueg 1985"),
        // With consensus to be had as cheaply, approximation costs no less.
        bound(ApproximateAgreement, SYNC, BENIGN, EITHER, (1, 1), DLS_88),
        bound(ApproximateAgreement, SYNC, LIES, SIGNED, (2, 1), DS_83),
        bound(ApproximateAgreement, SYNC, LIES, UNSIGNED, (3, 1), "Dolev et al. 1986"),
        bound(ApproximateAgreement, UNBOUNDED, BENIGN, EITHER, (2, 1), "Fekete 1994"),
        bound(
            ApproximateAgreement,
            UNBOUNDED,
            LIES,
            EITHER,
            (3, 1),
            "Abraham, Amit and Dolev 2004",
        ),
        bound(ClockSynchronisation, SYNC, BENIGN, EITHER, (2, 1), ST_87),
        bound(ClockSynchronisation, SYNC, LIES, SIGNED, (2, 1), ST_87),
        bound(ClockSynchronisation, SYNC, LIES, UNSIGNED, (3, 1), "Dolev, Halpern and Strong 1984"),
        // Clocks cannot be closer than what is unknown of the delay.
        none(ClockSynchronisation, UNBOUNDED, ALL_KINDS, "Lundelius and Lynch 1984"),
        bound(Register, ANY_TIME, BENIGN, EITHER, (2, 1), "Attiya, Bar-Noy and Dolev 1995"),
        bound(Register, ANY_TIME, LIES, EITHER, (3, 1), "Martin, Alvisi and Dahlin 2002"),
        bound(EventualConsistency, ANY_TIME, ALL_KINDS, EITHER, (1, 1), "Kleppmann 2022"),
    ]
};

const fn bound(
    problem: Problem,
    timing: &'static [Timing],
    kinds: &'static [FaultKind],
    authentication: &'static [Authentication],
    (times, plus): (i64, i64),
    source: &'static str,
) -> Bound {
    let formula = match (times, plus) {
        (1, 1) => "n ≥ f+1",
        (1, 2) => "n ≥ f+2",
        (2, 1) => "n ≥ 2f+1",
        (3, 1) => "n ≥ 3f+1",
        (5, 1) => "n ≥ 5f+1",
        (5, -1) => "n ≥ 5f−1",
        _ => panic!("a size without its formula"),
    };
    let size = Some(Size { times, plus });
    Bound { problem, timing, kinds, authentication, formula, source, size }
}

const fn none(
    problem: Problem,
    timing: &'static [Timing],
    kinds: &'static [FaultKind],
    source: &'static str,
) -> Bound {
    let authentication = EITHER;
    Bound { problem, timing, kinds, authentication, formula: "none", source, size: None }
}

#[cfg(test)]
mod tests;
