//! What replicas say to each other, how it travels, and what makes each message what its kind promises.
//!
//! Five kinds are signed, as they enter certificates or are handed on: pre-prepare, prepare, commit, view change and
//! new view. The others go by the authenticated channel: [`Status`], [`Fetch`] and [`Inquiry`] are believed no further
//! than a question deserves, and [`Committed`], [`Testimony`], [`Message::Proposal`] and [`Message::Installed`] prove
//! themselves by what they carry, whoever brings them.
//!
//! [`validate`](testudo_core::Message::validate) checks every message completely, certificates included, so that no
//! handler ever checks a signature.

pub use crate::slots::Slots;
pub use crate::testimony::{Inquiry, Nonce, Testimony};

use alloc::boxed::Box;
use alloc::vec::Vec;
use testudo_contracts::{Batch, StableCheckpoint, check_stable};
use testudo_core::{
    Certificate, Context, Decode, DecodeError, Digest, Domain, Encode, Evidence, Header, Invalid,
    Kind, Membership, Peer, Proof, ProtocolId, ReplicaId, Signature, Slot, Statement, Strength,
    Verified, View, limits, wire_struct,
};
use testudo_quorum::Dissemination;

/// The number of this protocol in every frame, record and signed statement.
pub const PBFT: ProtocolId = ProtocolId(2);

/// The primary of `view` among `n` replicas: they take turns (OSDI'99, section 4).
#[must_use]
pub fn primary_of(view: View, n: usize) -> ReplicaId {
    ReplicaId((view.0 % n.max(1) as u64) as u16)
}

/// "I propose this batch for this slot of my view." It is also the primary's vote for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrePrepare {
    /// The view, whose primary says it.
    pub view: View,
    /// The slot, from 1.
    pub slot: Slot,
    /// What is proposed.
    pub batch: Batch,
}
wire_struct!(PrePrepare { view, slot, batch });

/// "I have accepted the proposal with this digest, and will accept no other for this slot of this view."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prepare {
    /// The view.
    pub view: View,
    /// The slot.
    pub slot: Slot,
    /// The digest of the batch.
    pub digest: Digest,
}
wire_struct!(Prepare { view, slot, digest });

/// "I hold a durable certificate that this was prepared." A quorum of these decides the slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit {
    /// The view.
    pub view: View,
    /// The slot.
    pub slot: Slot,
    /// The digest of the batch.
    pub digest: Digest,
}
wire_struct!(Commit { view, slot, digest });

/// Proof that a quorum of replicas voted for one batch in one slot of one view (OSDI'99, section 4.2: "prepared").
///
/// Each of the quorum is there once. The primary's vote is its pre-prepare. Where a new view repeats a batch there is
/// no pre-prepare of its own, and the primary votes by a prepare as everybody does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prepared {
    /// The batch, whose digest the prepares name.
    pub batch: Batch,
    /// The primary's signature on the pre-prepare of this view, slot and batch; none where a new view repeats it.
    pub proposal: Option<Signature>,
    /// The prepares.
    pub prepares: Certificate<Prepare>,
}
wire_struct!(Prepared { batch, proposal, prepares });

/// "I do nothing more in lower views, and this is all that I know to be prepared there" (OSDI'99, section 4.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ViewChange {
    /// The view to be installed.
    pub view: View,
    /// C: the sender's last stable checkpoint; none at the genesis.
    pub stable: Option<StableCheckpoint>,
    /// P: for each slot above it the prepared certificate of the highest view, in ascending order of slots.
    pub prepared: Vec<Prepared>,
    /// The slots above it of which the sender's log has lost records: what it voted there, and whether something was
    /// prepared, it no longer knows. Its word on them does not count.
    pub lost: Slots,
}
wire_struct!(ViewChange { view, stable, prepared, lost });

/// "This view begins, from these view changes, with these batches" (OSDI'99, section 4.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewView {
    /// The view, whose primary says it.
    pub view: View,
    /// V: view changes, in ascending order of their signers: of a quorum, and of more where some have lost slots.
    pub changes: Vec<Attested<ViewChange>>,
    /// O: what the view repeats, slot after slot without a gap. It follows from V; every receiver computes it again.
    pub ordered: Vec<(Slot, Batch)>,
}
wire_struct!(NewView { view, changes, ordered });

/// How far the sender is, so that others can see what it lacks, and it what they have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The last view that it installed.
    pub view: View,
    /// The last slot that it gave out for execution.
    pub executed: Slot,
    /// Its last stable checkpoint's slot.
    pub stable: Slot,
    /// Slots of that view whose proposals it lacks though later ones or votes are there; ascending.
    pub lacks: Vec<Slot>,
    /// Whether it finds the primary of that view too slow. f+1 who do end the view.
    pub is_slow: bool,
}
wire_struct!(Status { view, executed, stable, lacks, is_slow });

/// "Send me what was decided from this slot on." Answered by at most [`limits::FETCH_ITEMS`] of [`Committed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// The first slot wanted.
    pub from: Slot,
}
wire_struct!(Fetch { from });

/// A decision, with the commits of a quorum, which convince whoever reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// What was decided.
    pub batch: Batch,
    /// The commits.
    pub certificate: Certificate<Commit>,
}
wire_struct!(Committed { batch, certificate });

macro_rules! statements {
    ($($name:ident = $kind:literal),* $(,)?) => {$(
        impl Statement for $name {
            const PROTOCOL: ProtocolId = PBFT;
            const KIND: Kind = Kind($kind);
        }
    )*};
}
statements! { PrePrepare = 1, Prepare = 2, Commit = 3, ViewChange = 4, NewView = 5 }

const STATUS: Kind = Kind(6);
const FETCH: Kind = Kind(7);
const COMMITTED: Kind = Kind(8);
const PROPOSAL: Kind = Kind(9);
const INSTALLED: Kind = Kind(10);
const INQUIRY: Kind = Kind(11);
const TESTIMONY: Kind = Kind(12);

/// One replica's signed statement, embedded in a message or record, where it can be read because that was verified
/// with all that is in it. Its frame can be made again, for evidence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attested<T> {
    /// Who says it.
    pub signer: ReplicaId,
    /// What is said.
    pub statement: T,
    /// The signature on it.
    pub signature: Signature,
}
wire_struct!(Attested<T> { signer, statement, signature });

impl<T: Statement> Attested<T> {
    /// Takes the statement with its proof out of a verified message. `None` when it is not a replica's, is not signed,
    /// or is of another kind.
    #[must_use]
    pub fn of<M>(message: &Verified<M>, statement: T) -> Option<Self> {
        let header = message.header();
        let (signer, signature) = (message.replica()?, message.signature()?);
        (header.protocol == T::PROTOCOL && header.kind == T::KIND).then_some(Self {
            signer,
            statement,
            signature,
        })
    }

    const fn header(&self, domain: Domain) -> Header {
        let sender = Peer::Replica(self.signer);
        Header { domain, protocol: T::PROTOCOL, kind: T::KIND, sender }
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// When the signer is no member or has not signed this.
    pub fn check(&self, context: &Context<'_>) -> Result<(), Invalid> {
        let header = self.header(context.domain);
        let key = context
            .membership
            .key(header.sender)
            .ok_or(Invalid("an embedded statement is a stranger's"))?;
        let digest = header.digest(&self.statement.to_bytes());
        require(
            context.verifier.check(&key, &digest, &self.signature),
            "an embedded statement bears a wrong signature",
        )
    }

    /// The signed frame that the statement came in, byte for byte: what evidence consists of.
    #[must_use]
    pub fn frame(&self, domain: Domain) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.push(limits::FORMAT_VERSION);
        self.header(domain).encode(&mut frame);
        Proof::Signature(self.signature).encode(&mut frame);
        testudo_core::codec::encode_bytes(&self.statement.to_bytes(), &mut frame);
        frame
    }
}

/// What replicas say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// A primary's proposal.
    PrePrepare(PrePrepare),
    /// A vote for it.
    Prepare(Prepare),
    /// A vote to decide it.
    Commit(Commit),
    /// A wish for another view.
    ViewChange(ViewChange),
    /// The beginning of one.
    NewView(NewView),
    /// How far somebody is.
    Status(Status),
    /// A question for decisions.
    Fetch(Fetch),
    /// A decision.
    Committed(Committed),
    /// A primary's pre-prepare, handed on by anybody to whom lacks it.
    Proposal(Attested<PrePrepare>),
    /// A primary's new view, handed on by anybody to whom has not heard of it.
    Installed(Attested<NewView>),
    /// A question of a replica that has started.
    Inquiry(Inquiry),
    /// The answer: what it once said.
    Testimony(Box<Testimony>),
}

impl testudo_core::Message for Message {
    fn protocol(&self) -> ProtocolId {
        PBFT
    }

    fn kind(&self) -> Kind {
        match self {
            Self::PrePrepare(_) => PrePrepare::KIND,
            Self::Prepare(_) => Prepare::KIND,
            Self::Commit(_) => Commit::KIND,
            Self::ViewChange(_) => ViewChange::KIND,
            Self::NewView(_) => NewView::KIND,
            Self::Status(_) => STATUS,
            Self::Fetch(_) => FETCH,
            Self::Committed(_) => COMMITTED,
            Self::Proposal(_) => PROPOSAL,
            Self::Installed(_) => INSTALLED,
            Self::Inquiry(_) => INQUIRY,
            Self::Testimony(_) => TESTIMONY,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::PrePrepare(_) => "pre-prepare",
            Self::Prepare(_) => "prepare",
            Self::Commit(_) => "commit",
            Self::ViewChange(_) => "view-change",
            Self::NewView(_) => "new-view",
            Self::Status(_) => "status",
            Self::Fetch(_) => "fetch",
            Self::Committed(_) => "committed",
            Self::Proposal(_) => "proposal",
            Self::Installed(_) => "installed",
            Self::Inquiry(_) => "inquiry",
            Self::Testimony(_) => "testimony",
        }
    }

    fn strength(&self) -> Strength {
        match self {
            Self::PrePrepare(_)
            | Self::Prepare(_)
            | Self::Commit(_)
            | Self::ViewChange(_)
            | Self::NewView(_) => Strength::Signature,
            Self::Status(_)
            | Self::Fetch(_)
            | Self::Committed(_)
            | Self::Proposal(_)
            | Self::Installed(_)
            | Self::Inquiry(_)
            | Self::Testimony(_) => Strength::Channel,
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::PrePrepare(body) => body.encode(out),
            Self::Prepare(body) => body.encode(out),
            Self::Commit(body) => body.encode(out),
            Self::ViewChange(body) => body.encode(out),
            Self::NewView(body) => body.encode(out),
            Self::Status(body) => body.encode(out),
            Self::Fetch(body) => body.encode(out),
            Self::Committed(body) => body.encode(out),
            Self::Proposal(body) => body.encode(out),
            Self::Installed(body) => body.encode(out),
            Self::Inquiry(body) => body.encode(out),
            Self::Testimony(body) => body.encode(out),
        }
    }

    fn decode_body(protocol: ProtocolId, kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        if protocol != PBFT {
            return Err(DecodeError::Unknown("protocol"));
        }
        Ok(match kind {
            PrePrepare::KIND => Self::PrePrepare(Decode::from_bytes(body)?),
            Prepare::KIND => Self::Prepare(Decode::from_bytes(body)?),
            Commit::KIND => Self::Commit(Decode::from_bytes(body)?),
            ViewChange::KIND => Self::ViewChange(Decode::from_bytes(body)?),
            NewView::KIND => Self::NewView(Decode::from_bytes(body)?),
            STATUS => Self::Status(Decode::from_bytes(body)?),
            FETCH => Self::Fetch(Decode::from_bytes(body)?),
            COMMITTED => Self::Committed(Decode::from_bytes(body)?),
            PROPOSAL => Self::Proposal(Decode::from_bytes(body)?),
            INSTALLED => Self::Installed(Decode::from_bytes(body)?),
            INQUIRY => Self::Inquiry(Decode::from_bytes(body)?),
            TESTIMONY => Self::Testimony(Box::new(Decode::from_bytes(body)?)),
            _ => return Err(DecodeError::Unknown("kind")),
        })
    }

    fn is_convicted(evidence: &Evidence, context: &Context<'_>) -> bool {
        crate::safety::is_convicted(evidence, context)
    }

    fn validate(&self, sender: Peer, context: &Context<'_>) -> Result<(), Invalid> {
        let sender = sender.replica().ok_or(Invalid("only replicas speak this protocol"))?;
        require(context.membership.member(sender).is_some(), "its sender is no member")?;
        match self {
            Self::PrePrepare(body) => body.validate(sender, context.membership),
            Self::Prepare(body) => slot_counts(body.slot),
            Self::Commit(body) => slot_counts(body.slot),
            Self::ViewChange(body) => body.validate(context),
            Self::NewView(body) => body.validate(sender, context),
            Self::Status(body) => {
                require(body.lacks.len() <= limits::FETCH_ITEMS, "it lacks too many slots")?;
                require(body.lacks.is_sorted_by(|a, b| a < b), "the slots it lacks are unordered")
            }
            Self::Fetch(body) => slot_counts(body.from),
            Self::Committed(body) => body.validate(context),
            Self::Proposal(body) => {
                body.statement.validate(body.signer, context.membership)?;
                body.check(context)
            }
            Self::Installed(body) => {
                require_primary(body.signer, body.statement.view, context.membership)?;
                body.check(context)?;
                body.statement.validate(body.signer, context)
            }
            Self::Inquiry(_) => Ok(()),
            Self::Testimony(body) => body.validate(context),
        }
    }
}

/// A vote: a pre-prepare is its primary's, a prepare and a commit are anybody's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vote {
    /// The view.
    pub view: View,
    /// The slot.
    pub slot: Slot,
    /// The digest of the batch that it is for.
    pub digest: Digest,
}

impl Prepare {
    /// The vote that this is.
    #[must_use]
    pub const fn vote(&self) -> Vote {
        Vote { view: self.view, slot: self.slot, digest: self.digest }
    }
}

impl Commit {
    /// The vote that this is.
    #[must_use]
    pub const fn vote(&self) -> Vote {
        Vote { view: self.view, slot: self.slot, digest: self.digest }
    }
}

impl Message {
    /// The vote that this is, if it is one.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        match self {
            Self::PrePrepare(PrePrepare { view, slot, batch }) => {
                Some(Vote { view: *view, slot: *slot, digest: batch.digest() })
            }
            Self::Prepare(prepare) => Some(prepare.vote()),
            Self::Commit(commit) => Some(commit.vote()),
            _ => None,
        }
    }
}

impl PrePrepare {
    pub(crate) fn validate(
        &self,
        sender: ReplicaId,
        membership: &Membership,
    ) -> Result<(), Invalid> {
        require_primary(sender, self.view, membership)?;
        slot_counts(self.slot)?;
        require(self.batch.is_well_formed(), "its batch is malformed")
    }
}

impl Prepared {
    /// The view that it was prepared in.
    #[must_use]
    pub const fn view(&self) -> View {
        self.prepares.statement().view
    }
    /// The slot that it was prepared in.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.prepares.statement().slot
    }
    /// The digest of its batch.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.prepares.statement().digest
    }

    /// The signed pre-prepare that it holds, if the batch was fresh.
    #[must_use]
    pub fn attested(&self, n: usize) -> Option<Attested<PrePrepare>> {
        let (view, slot) = (self.view(), self.slot());
        let statement = PrePrepare { view, slot, batch: self.batch.clone() };
        let signer = primary_of(view, n);
        self.proposal.map(|signature| Attested { signer, statement, signature })
    }

    fn validate(&self, context: &Context<'_>) -> Result<(), Invalid> {
        let quorum = system(context)?.quorum();
        require(self.batch.is_well_formed(), "a prepared batch is malformed")?;
        require(self.batch.digest() == self.digest(), "prepares are for another batch")?;
        slot_counts(self.slot())?;
        match self.attested(context.membership.n()) {
            None => self.prepares.check(quorum, context),
            Some(proposal) => {
                require(
                    self.prepares.signers().all(|signer| signer != proposal.signer),
                    "a primary is counted twice",
                )?;
                proposal.check(context)?;
                self.prepares.check(quorum - 1, context)
            }
        }
    }
}

impl ViewChange {
    /// The slot of its stable checkpoint, 0 at the genesis.
    #[must_use]
    pub fn base(&self) -> Slot {
        self.stable.as_ref().map_or(Slot(0), |stable| stable.statement().slot)
    }

    fn validate(&self, context: &Context<'_>) -> Result<(), Invalid> {
        require(self.view > View(0), "nobody changes to view 0")?;
        let base = self.base();
        let top = Slot(base.0.saturating_add(limits::WINDOW));
        require(
            self.prepared.iter().all(|prepared| base < prepared.slot() && prepared.slot() <= top),
            "a prepared slot is outside the window",
        )?;
        require(
            self.prepared.is_sorted_by(|a, b| a.slot() < b.slot()),
            "prepared slots are unordered",
        )?;
        require(
            self.prepared.iter().all(|prepared| prepared.view() < self.view),
            "it was prepared in no lower view",
        )?;
        self.lost.validate(base)?;
        if let Some(stable) = &self.stable {
            slot_counts(base)?;
            check_stable(stable, context)?;
        }
        self.prepared.iter().try_for_each(|prepared| prepared.validate(context))
    }
}

impl NewView {
    fn validate(&self, sender: ReplicaId, context: &Context<'_>) -> Result<(), Invalid> {
        require(self.view > View(0), "view 0 needs no new-view message")?;
        require_primary(sender, self.view, context.membership)?;
        let (count, quorum) = (self.changes.len(), system(context)?.quorum());
        require(quorum <= count && count <= context.membership.n(), "V is no quorum")?;
        require(self.changes.is_sorted_by(|a, b| a.signer < b.signer), "V is unordered")?;
        require(
            self.changes.iter().all(|change| change.statement.view == self.view),
            "V holds a change to another view",
        )?;
        require(self.ordered.len() as u64 <= limits::WINDOW, "O is longer than the window")?;
        require(
            self.ordered.windows(2).all(|pair| matches!(pair, [a, b] if b.0 == a.0.next())),
            "O has a gap",
        )?;
        require(self.ordered.iter().all(|(_, batch)| batch.is_well_formed()), "O is malformed")?;
        self.changes.iter().try_for_each(|change| {
            change.check(context)?;
            change.statement.validate(context)
        })
    }
}

impl Committed {
    /// The slot that was decided.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.certificate.statement().slot
    }
    /// The view that it was decided in.
    #[must_use]
    pub const fn view(&self) -> View {
        self.certificate.statement().view
    }
    /// The digest of the batch.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.certificate.statement().digest
    }

    fn validate(&self, context: &Context<'_>) -> Result<(), Invalid> {
        slot_counts(self.slot())?;
        require(self.batch.is_well_formed(), "a decided batch is malformed")?;
        require(self.batch.digest() == self.digest(), "commits are for another batch")?;
        self.certificate.check(system(context)?.quorum(), context)
    }
}

pub(crate) const fn require(holds: bool, otherwise: &'static str) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid(otherwise)) }
}

fn slot_counts(slot: Slot) -> Result<(), Invalid> {
    require(slot > Slot(0), "slots are counted from 1")
}

fn require_primary(sender: ReplicaId, view: View, membership: &Membership) -> Result<(), Invalid> {
    require(sender == primary_of(view, membership.n()), "its sender is not the view's primary")
}

fn system(context: &Context<'_>) -> Result<Dissemination, Invalid> {
    Dissemination::of(context.membership).ok_or(Invalid("the membership bears no quorums"))
}
