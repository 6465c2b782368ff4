//! Ordering: replicas agree on one sequence of batches.
//!
//! What is ordered is a list of **bundle digests**. Bodies travel beside, from whoever has them, and the layer above
//! votes ([`OrderInput::Judged`]) only for bodies that it holds durably. The ordering core never sees one.

use crate::profile::Profile;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use testudo_core::{
    Base, Certificate, Context, Digest, Domain, Effects, Evidence, Invalid, Kind, Membership, Past,
    Peer, Position, Protocol, ProtocolId, ReplicaId, Slot, Statement, Time, View, limits,
    wire_enum, wire_struct,
};
use testudo_quorum::Dissemination;

/// The protocol number of replication itself, which orderings need to name checkpoints.
pub const REPLICATION: ProtocolId = ProtocolId(1);

/// The kind of a checkpoint statement within [`REPLICATION`].
pub const CHECKPOINT: Kind = Kind(1);

/// What is decided for one slot.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Batch {
    /// The digests of the bundles, in the order of their execution.
    pub bundles: Vec<Digest>,
    /// The proposer's clock. Execution takes the maximum of the last agreed time and this.
    pub time: Time,
    /// Whether the time since the batch before is not to be counted as elapsed (for leases): set on the first fresh
    /// batch of a view, as nobody vouches for how long the change took.
    pub gap_not_counted: bool,
}
wire_struct!(Batch { bundles, time, gap_not_counted });

impl Batch {
    /// The batch that a new view puts into slots where nothing was prepared: it does nothing, and adds no time.
    #[must_use]
    pub fn null() -> Self {
        Self::default()
    }

    /// Its digest, which votes are for.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_value(self)
    }

    /// Whether it keeps the limits: not too many bundles, none twice.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let mut sorted: Vec<&Digest> = self.bundles.iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        self.bundles.len() <= limits::BATCH_BUNDLES && sorted.len() == self.bundles.len()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}", self.bundles, if self.gap_not_counted { "!" } else { "" })
    }
}

/// "After executing this slot my whole replicated state has this digest." Signed; a quorum of it is stable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Checkpoint {
    /// The slot that was executed last.
    pub slot: Slot,
    /// The digest of all replicated state after it.
    pub state: Digest,
}
wire_struct!(Checkpoint { slot, state });

impl Statement for Checkpoint {
    const PROTOCOL: ProtocolId = REPLICATION;
    const KIND: Kind = CHECKPOINT;
}

/// A checkpoint with a quorum's signatures; or the one that an epoch begins with, which needs none within the epoch.
pub type StableCheckpoint = Certificate<Checkpoint>;

/// The checkpoint that this epoch begins with, as its members show it to each other. None in the first one.
#[must_use]
pub fn base_checkpoint(membership: &Membership) -> Option<StableCheckpoint> {
    let Base { slot, state } = membership.base;
    (membership.base != Base::GENESIS).then(|| Certificate::new(Checkpoint { slot, state }))
}

/// Whether a checkpoint is to be believed: a quorum of the epoch has signed it, or the epoch begins with it.
///
/// # Errors
/// When it is neither.
pub fn check_stable(certificate: &StableCheckpoint, context: &Context<'_>) -> Result<(), Invalid> {
    if base_checkpoint(context.membership).as_ref() == Some(certificate) {
        return Ok(());
    }
    let quorums =
        Dissemination::of(context.membership).ok_or(Invalid("this membership has no quorums"))?;
    certificate.check(quorums.quorum(), context)
}

/// What an ordering is started with.
#[derive(Clone, Debug)]
pub struct OrderConfig {
    /// Where its statements count.
    pub domain: Domain,
    /// Who orders. Checked against the bound before any protocol starts.
    pub membership: Membership,
    /// How long a request may wait before its primary is suspected. Doubled with each view that fails.
    pub view_timeout: Duration,
    /// How long a primary may always take to propose what it has, however quick the others are. Beyond that it is
    /// measured by how long they take to agree. Shorter is stricter, and gives more primaries up that merely had to
    /// wait for a disk or a processor.
    pub pace_floor: Duration,
    /// How long to wait before what may have been lost is said or asked for again.
    pub resend: Duration,
    /// Slots between two checkpoints.
    pub checkpoint_interval: u64,
    /// Slots that may be ordered beyond the last stable checkpoint. The same in every life of a replica: by it it reckons
    /// what records may have been about that its log has lost without a trace.
    pub window: u64,
    /// Bytes that the log takes in, about, before the next stable checkpoint is written down as a snapshot; or as many as
    /// the state has, if that is more.
    pub snapshot_bytes: u64,
}

impl OrderConfig {
    /// The settings of a cluster on one site.
    #[must_use]
    pub const fn new(domain: Domain, membership: Membership) -> Self {
        Self {
            domain,
            membership,
            view_timeout: Duration::from_millis(1000),
            pace_floor: Duration::from_millis(20),
            resend: Duration::from_millis(250),
            checkpoint_interval: limits::CHECKPOINT_INTERVAL,
            window: limits::WINDOW,
            snapshot_bytes: limits::SNAPSHOT_BYTES,
        }
    }
}

/// Whether a batch is proposed for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Freshness {
    /// A new view repeats it: its clock was judged before, perhaps long ago. Only its bodies must be there.
    Repeated,
    /// The first fresh batch of its view: it must bear the mark [`Batch::gap_not_counted`].
    First,
    /// A later fresh batch of its view: it must not bear the mark.
    Later,
}

/// Whether accepted requests wait to be executed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Waiting {
    /// None does.
    Nothing,
    /// At least one does. The number names the one that has waited longest; it changes when that one is executed. So
    /// a primary that orders everything but one request is suspected too.
    Oldest(u64),
}

/// Clients who wait for something of theirs to be proposed in the present view. Numbers name the moments since when each
/// does: when something of it came, or when something else of it was proposed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Backlog {
    /// Of the one that has waited longest.
    pub oldest: u64,
    /// The last such moment.
    pub newest: u64,
}

/// What the layer above asks of an ordering.
#[derive(Clone, Debug)]
pub enum OrderInput {
    /// Order this batch. Only sensible while [`Ordering::may_propose`] holds; otherwise it is ignored, and the layer
    /// above still has what is in it.
    Propose(Batch),
    /// Every body of this batch is held durably here, and a fresh one's time and mark are right: a vote for it may be
    /// cast. Those that are never judged get no vote: a clock that looked wrong withholds it for the whole view, though
    /// others may vouch for it, and the slot is decided without this replica or in the next view.
    Judged {
        /// The view that it was proposed in.
        view: View,
        /// Its slot.
        slot: Slot,
        /// The batch's digest.
        batch: Digest,
    },
    /// Whether requests wait. The ordering runs its own timer on it.
    Waiting(Waiting),
    /// What waits here without being proposed; none if nothing does. Told when the oldest changes, and after
    /// [`OrderOutput::Remind`]. An ordering whose primaries are measured by their pace needs it, others ignore it.
    Backlog(Option<Backlog>),
    /// This checkpoint is stable: the window moves, and what lies below may be let go.
    Stable(StableCheckpoint),
    /// The layer above has installed this state by transfer: nothing at or below it need be executed.
    Restored(StableCheckpoint),
    /// The epoch has ended: sign nothing more, and answer what others ask of what was decided.
    Stop,
}

/// What part a replica may take in ordering.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Standing {
    /// It has started, and waits for others to tell it what it has said: it signs nothing.
    Joining,
    /// It takes part.
    Voting,
    /// It has signed what it knows nothing of, or may have: its disk was wiped, or gave back an old image. It follows what the
    /// others decide, serves it, and signs nothing, for as long as its voting key is the same.
    Forgotten,
    /// Its epoch has ended: it orders nothing more, and answers what others ask of what was decided.
    Stopped,
}

/// How firm a decision is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// It will never change.
    Final,
    /// It may be rolled back until [`OrderOutput::Commit`] covers it.
    Speculative,
}

/// What an ordering tells the layer above.
#[derive(Clone, Debug)]
pub enum OrderOutput {
    /// May I vote for this? Answered by [`OrderInput::Judged`], at once, later or never. Asked again after a restart
    /// and in each view.
    Judge {
        /// The view that it is proposed in.
        view: View,
        /// Its slot.
        slot: Slot,
        /// What is proposed.
        batch: Batch,
        /// Whether its clock is to be judged, and which mark it must bear.
        freshness: Freshness,
    },
    /// Execute this: slots come in order, each once (again in order after a rollback, and after a restart from what
    /// the past's snapshot covers). Bodies may be missing when the vote of others decided it.
    Execute {
        /// Its slot.
        slot: Slot,
        /// What was decided.
        batch: Batch,
        /// How firm that is.
        mode: Mode,
    },
    /// Everything executed up to this slot is final.
    Commit(Slot),
    /// Undo everything after this slot.
    Rollback(Slot),
    /// Others are known to have decided up to this slot, and it cannot be had from them by the ordering itself:
    /// transfer the state.
    Behind(Slot),
    /// The primary does not propose what waits here, which it may never have got: hand it over, as much as can be
    /// handed over at once, and say by [`OrderInput::Backlog`] up to where that is.
    Remind,
    /// A view was installed, with this primary. Told again at a restart in a view other than the first.
    View(View, ReplicaId),
}

/// A protocol that orders batches.
pub trait Ordering:
    Protocol<Config = OrderConfig, Input = OrderInput, Output = OrderOutput>
{
    /// What it costs and assumes.
    const PROFILE: Profile;
    /// When a client may believe a reply.
    type Reply: ReplyRule;

    /// Begins to order in an epoch that this replica has come to with all that it knew of the one before, and in which it has
    /// said nothing yet, with any key. Every other beginning is [`Protocol::start`]'s.
    fn begin(config: OrderConfig, me: Peer, fx: &mut Effects<'_, Self>) -> Self {
        Self::start(config, me, Past::none(), fx)
    }
    /// What it holds certificates for that may have been decided after [`Ordering::executed`], and is not known to be: the
    /// slots from there on without a gap, each with the batch of its highest view. Whatever was decided, so many hold a
    /// certificate for it as make a quorum.
    fn undecided(&self) -> Vec<(Slot, Batch)> {
        Vec::new()
    }
    /// All slots after [`Ordering::executed`] that it holds certificates for, whether or not it holds some for those before:
    /// each with the highest view that it holds one of, and the digest of the batch. In ascending order. Where two replicas
    /// hold certificates for different batches, the one of the lower view was never decided.
    fn certified(&self) -> Vec<(Slot, View, Digest)> {
        Vec::new()
    }
    /// Takes the evidence that it has handed to its driver since this was asked last: the layer above may have it ordered.
    fn take_accusations(&mut self) -> Vec<Evidence> {
        Vec::new()
    }
    /// The view that it is in, or is changing to.
    fn view(&self) -> View;
    /// The primary of that view.
    fn primary(&self) -> ReplicaId;
    /// The primary of any view. They take turns, unless a protocol says otherwise.
    #[must_use]
    fn primary_of(view: View, membership: &Membership) -> ReplicaId {
        ReplicaId((view.0 % membership.n().max(1) as u64) as u16)
    }
    /// How many replicas must have signed a checkpoint for it to be stable: a quorum, so that what a view change goes on
    /// from is held by enough correct ones, and no liars certify a state by themselves.
    #[must_use]
    fn checkpoint_quorum(system: &Dissemination) -> usize {
        system.quorum()
    }
    /// Whether this replica is the primary of an installed view and the window has room.
    fn may_propose(&self) -> bool;
    /// Slots proposed or accepted and not yet executed.
    fn open_slots(&self) -> u64;
    /// The last slot that was given out for execution.
    fn executed(&self) -> Slot;
    /// The last stable checkpoint's slot.
    fn stable(&self) -> Slot;
    /// Whether it is between views.
    fn is_changing_view(&self) -> bool;
    /// The highest slot that some peer provably decided: at least [`Ordering::executed`].
    fn known(&self) -> Slot;
    /// This replica's claim in a round of linearizable reads: no slot beyond it was voted for here so that it may have
    /// been decided in the last view that was installed, is covered by that view's beginning, or was executed here. Any
    /// quorum of claims has one of a correct replica that is no smaller than each slot decided before it was asked. None
    /// if it does not know what it has voted for.
    fn read_claim(&self) -> Option<Slot>;
    /// What part it may take. Where it may not vote, the layer above signs nothing either. A protocol whose replicas always
    /// know what they have said has nothing to add.
    fn standing(&self) -> Standing {
        Standing::Voting
    }
    /// How many slots above the stable checkpoint it does not vote on, as its log has lost records of them.
    fn lost_slots(&self) -> u64 {
        self.lost_ranges().iter().map(|(first, last)| last.0.saturating_sub(first.0) + 1).sum()
    }
    /// The same, as ranges: the first and the last slot of each, in ascending order.
    fn lost_ranges(&self) -> Vec<(Slot, Slot)> {
        Vec::new()
    }
    /// What it keeps in memory, by name, and how many of each, for whoever sees to it that nothing grows without end.
    fn tables(&self) -> Vec<(&'static str, usize)> {
        Vec::new()
    }
    /// All that must survive a crash, in short, for a layer above that writes snapshots of its own. A replica that starts
    /// from it gives out for execution what was decided after `executed`, which is no higher than [`Ordering::executed`].
    fn snapshot(&self, executed: Slot) -> Self::Snapshot;
    /// The layer above lets go of the log before this position, which its snapshot covers: what lies there can be read back
    /// no more. Decisions of slots up to `bare` are of no use to laggards any more, as bodies of theirs are gone.
    fn forget(&mut self, before: Position, bare: Slot) {
        let _ = (before, bare);
    }
}

/// One replica's word on a client's bundle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplyVote {
    /// The view that the replica was in.
    pub view: View,
    /// The slot that it executed the bundle in.
    pub slot: Slot,
    /// The digest of the results.
    pub results: Digest,
    /// Whether it says that this is final.
    pub is_final: bool,
}

/// What replies add up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing yet.
    Wait,
    /// The results with this digest are right, executed in this slot.
    Accept(Slot, Digest),
}

/// When a client that keeps no state may believe replies.
pub trait ReplyRule: fmt::Debug {
    /// Judges the votes that have come in, the latest of each replica.
    fn judge(membership: &Membership, votes: &BTreeMap<ReplicaId, ReplyVote>) -> Verdict;
}

wire_enum!(Standing { 0 => Joining, 1 => Voting, 2 => Forgotten, 3 => Stopped });
wire_enum!(Mode { 0 => Final, 1 => Speculative });
