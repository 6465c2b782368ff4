//! What a replica knows of each slot: votes and certificates within the window ([`Log`]), and what is decided
//! ([`Decisions`]), of which below the window only the place in the node's own log is remembered.

use crate::message::{Attested, Commit, Committed, Message, PrePrepare, Prepare, Prepared};
use crate::safety::Rules;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use testudo_contracts::{Batch, StableCheckpoint};
use testudo_core::{
    Certificate, Digest, Domain, Encode, Position, ReplicaId, Slot, Statement, Verified, View,
};

/// Slots below the stable checkpoint whose decisions are still found for laggards, in the node's own log. Who lags
/// further behind takes the state instead. A place takes some 20 bytes of memory.
pub(crate) const HISTORY: u64 = 1 << 22;

/// The batch that a replica accepted for a slot of its view.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) digest: Digest,
    pub(crate) source: Source,
}

/// Where a proposal comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The primary's pre-prepare, which is also its vote.
    Fresh(Attested<PrePrepare>),
    /// The new view, which repeats a batch of an earlier one. The primary votes for it by a prepare.
    Repeated(Batch),
}

impl Proposal {
    pub(crate) fn fresh(attested: Attested<PrePrepare>) -> Self {
        Self { digest: attested.statement.batch.digest(), source: Source::Fresh(attested) }
    }
    pub(crate) fn repeated(batch: Batch) -> Self {
        Self { digest: batch.digest(), source: Source::Repeated(batch) }
    }
    pub(crate) const fn batch(&self) -> &Batch {
        match &self.source {
            Source::Fresh(attested) => &attested.statement.batch,
            Source::Repeated(batch) => batch,
        }
    }
    /// The pre-prepare, unless a new view stands for it.
    pub(crate) const fn attested(&self) -> Option<&Attested<PrePrepare>> {
        match &self.source {
            Source::Fresh(attested) => Some(attested),
            Source::Repeated(_) => None,
        }
    }
}

/// The votes of one kind for one slot of one view. Invariant: each is filed under its sender.
pub(crate) type Votes = BTreeMap<ReplicaId, Verified<Message>>;

/// One slot of the window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// What was accepted in the replica's view. Invariant: set only while that view is installed.
    pub(crate) proposal: Option<Proposal>,
    /// Whether this replica's vote for the proposal has been cast. Invariant: voted ⇒ proposal.
    pub(crate) voted: bool,
    /// The prepares of the replica's view, the first of each sender.
    pub(crate) prepares: Votes,
    /// The commits of the replica's view, the first of each sender.
    pub(crate) commits: Votes,
    /// P: the prepared certificate of the highest view. Invariant: it outlives its view, and its record is durable
    /// before anything is said that rests on it.
    pub(crate) prepared: Option<Prepared>,
    /// The decision. Invariant: once there it never changes.
    pub(crate) decided: Option<Committed>,
    /// The tick of the resend timer at which the slot was first heard of in this view.
    pub(crate) opened: u64,
}

fn certify<T: Statement>(statement: T, votes: &Votes, skip: Option<ReplicaId>) -> Certificate<T> {
    let mut certificate = Certificate::new(statement);
    for (_, vote) in votes.iter().filter(|(sender, _)| Some(**sender) != skip) {
        // Votes for another batch are no votes for this statement: `add` leaves them out.
        certificate.add(vote);
    }
    certificate
}

fn count(votes: &Votes, digest: Digest) -> usize {
    votes.values().filter(|vote| is_for(vote, digest)).count()
}

fn is_for(vote: &Verified<Message>, digest: Digest) -> bool {
    vote.message().vote().is_some_and(|vote| vote.digest == digest)
}

impl Entry {
    /// Whether something was proposed or said in this view and nothing is decided.
    pub(crate) fn is_open(&self) -> bool {
        let heard = !self.prepares.is_empty() || !self.commits.is_empty();
        self.decided.is_none() && (self.proposal.is_some() || heard)
    }

    /// Whether the slot was prepared in that view.
    pub(crate) fn is_prepared_in(&self, view: View) -> bool {
        self.prepared.as_ref().is_some_and(|prepared| prepared.view() == view)
    }

    /// The digest that this replica is bound to.
    pub(crate) fn bound(&self) -> Option<Digest> {
        let decided = || self.decided.as_ref().map(Committed::digest);
        self.proposal.as_ref().map(|proposal| proposal.digest).or_else(decided)
    }

    /// How many different replicas voted for the proposal. A primary that proposed it afresh counts by its
    /// pre-prepare, and its prepare, which it need not send, not at all.
    pub(crate) fn preparers(&self, primary: ReplicaId) -> usize {
        let Some(proposal) = &self.proposal else { return 0 };
        match proposal.source {
            Source::Repeated(_) => count(&self.prepares, proposal.digest),
            Source::Fresh(_) => {
                let backups = self.prepares.iter().filter(|(sender, _)| **sender != primary);
                1 + backups.filter(|(_, vote)| is_for(vote, proposal.digest)).count()
            }
        }
    }

    /// How many different replicas sent commits for the proposal.
    pub(crate) fn committers(&self) -> usize {
        self.proposal.as_ref().map_or(0, |proposal| count(&self.commits, proposal.digest))
    }

    /// The certificate that the proposal is prepared, of the votes that are there.
    pub(crate) fn certify_prepared(&self, view: View, slot: Slot) -> Option<Prepared> {
        let proposal = self.proposal.as_ref()?;
        let statement = Prepare { view, slot, digest: proposal.digest };
        let attested = proposal.attested();
        Some(Prepared {
            batch: proposal.batch().clone(),
            proposal: attested.map(|attested| attested.signature),
            prepares: certify(statement, &self.prepares, attested.map(|by| by.signer)),
        })
    }

    /// The certificate that the proposal is decided, of the commits that are there.
    pub(crate) fn certify_committed(&self, view: View, slot: Slot) -> Option<Committed> {
        let proposal = self.proposal.as_ref()?;
        let statement = Commit { view, slot, digest: proposal.digest };
        Some(Committed {
            batch: proposal.batch().clone(),
            certificate: certify(statement, &self.commits, None),
        })
    }

    /// The offence that `message` and something else that `sender` signed for this slot of this view amount to, with
    /// the frame of the other.
    pub(crate) fn contradiction<R: Rules>(
        &self,
        sender: ReplicaId,
        message: &Message,
        (domain, n): (Domain, usize),
    ) -> Option<(&'static str, Vec<u8>)> {
        let votes = [self.prepares.get(&sender), self.commits.get(&sender)];
        let found = votes.into_iter().flatten().find_map(|vote| {
            let offence = R::convicts(vote.message(), message)?;
            Some((offence, vote.signed().to_bytes()))
        });
        let found = found.or_else(|| {
            let attested = self.proposal.as_ref().and_then(Proposal::attested)?;
            let attested = Some(attested).filter(|attested| attested.signer == sender)?;
            let said = Message::PrePrepare(attested.statement.clone());
            Some((R::convicts(&said, message)?, attested.frame(domain)))
        });
        found.or_else(|| self.contradicted_certificate::<R>(sender, message, (domain, n)))
    }

    /// Asserts the invariants of a slot, however long it takes.
    pub(crate) fn audit(&self, slot: Slot, view: View, is_active: bool) {
        assert!(self.proposal.is_some() || !self.voted, "voted for nothing");
        assert!(is_active || self.proposal.is_none(), "a proposal of a view that is left");
        for (sender, vote) in self.prepares.iter().chain(&self.commits) {
            assert_eq!(vote.replica(), Some(*sender), "a vote under another name");
            let place = vote.message().vote().map(|vote| (vote.view, vote.slot));
            assert_eq!(place, Some((view, slot)), "a vote for another place");
        }
        if let Some(attested) = self.proposal.as_ref().and_then(Proposal::attested) {
            let PrePrepare { view: proposed, slot: place, .. } = attested.statement;
            assert_eq!((proposed, place), (view, slot), "a proposal for another place");
        }
        if let Some(prepared) = &self.prepared {
            assert_eq!((prepared.slot(), prepared.digest()), (slot, prepared.batch.digest()));
            assert!(prepared.view() <= view, "prepared in a view that never was");
        }
        if let Some(decided) = &self.decided {
            assert_eq!((decided.slot(), decided.digest()), (slot, decided.batch.digest()));
        }
    }

    fn forget_view(&mut self) {
        self.proposal = None;
        self.voted = false;
        self.prepares.clear();
        self.commits.clear();
    }
}

/// The window of slots that may be agreed on.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// C: the last stable checkpoint; none at the genesis.
    pub(crate) stable: Option<StableCheckpoint>,
    /// H − h, the width of the window. Invariant: 0 < window ≤ `limits::WINDOW`.
    pub(crate) window: u64,
    /// The slots. Invariant: low < slot ≤ high for each, so there are at most `window` of them.
    pub(crate) entries: BTreeMap<Slot, Entry>,
}

impl Log {
    pub(crate) const fn new(window: u64) -> Self {
        Self { stable: None, window, entries: BTreeMap::new() }
    }

    /// h: the slot of the last stable checkpoint.
    pub(crate) fn low(&self) -> Slot {
        self.stable.as_ref().map_or(Slot(0), |stable| stable.statement().slot)
    }

    /// H: the last slot of the window.
    pub(crate) fn high(&self) -> Slot {
        Slot(self.low().0.saturating_add(self.window))
    }

    pub(crate) fn contains(&self, slot: Slot) -> bool {
        self.low() < slot && slot <= self.high()
    }

    /// The entry of a slot of the window, made if it is not there; `tick` is when it is opened.
    pub(crate) fn open(&mut self, slot: Slot, tick: u64) -> Option<&mut Entry> {
        if !self.contains(slot) {
            return None;
        }
        let entry = self.entries.entry(slot).or_default();
        if !entry.is_open() {
            entry.opened = tick;
        }
        Some(entry)
    }

    /// Moves the window up to a stable checkpoint. False, and nothing changes, when it is there already.
    pub(crate) fn advance(&mut self, stable: StableCheckpoint) -> bool {
        let slot = stable.statement().slot;
        if slot <= self.low() {
            return false;
        }
        self.entries = self.entries.split_off(&slot.next());
        self.stable = Some(stable);
        true
    }

    /// Lets go of what belongs to the view that ends. Certificates and decisions stay.
    pub(crate) fn forget_view(&mut self) {
        self.entries.values_mut().for_each(Entry::forget_view);
        self.entries.retain(|_, entry| entry.prepared.is_some() || entry.decided.is_some());
    }

    /// P: every prepared certificate above the stable checkpoint, in order of slots.
    pub(crate) fn prepared(&self) -> Vec<Prepared> {
        self.entries.values().filter_map(|entry| entry.prepared.clone()).collect()
    }

    /// The highest slot of which anything is known.
    pub(crate) fn last(&self) -> Slot {
        self.entries.keys().next_back().copied().unwrap_or_else(|| self.low())
    }
}

/// What is decided, beyond the window too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    /// The last slot given out for execution. It never falls.
    pub(crate) executed: Slot,
    /// Decided, but a slot before it is not. Invariant: every slot > executed + 1.
    pub(crate) ready: BTreeMap<Slot, Batch>,
    /// Where the decisions lie in the node's own log. Invariant: none more than `HISTORY` below the checkpoint.
    pub(crate) positions: BTreeMap<Slot, Position>,
}

impl Decisions {
    /// Whether the slot is decided.
    pub(crate) fn contains(&self, slot: Slot) -> bool {
        slot <= self.executed || self.ready.contains_key(&slot)
    }

    /// The next decision to execute, taken out.
    pub(crate) fn take_next(&mut self) -> Option<(Slot, Batch)> {
        let slot = self.executed.next();
        let batch = self.ready.remove(&slot)?;
        self.executed = slot;
        Some((slot, batch))
    }

    /// The state is that after `slot`, by other means than execution.
    pub(crate) fn skip_to(&mut self, slot: Slot) {
        self.executed = self.executed.max(slot);
        self.ready = self.ready.split_off(&self.executed.next());
    }

    /// The log is let go of before this position, and bodies of slots up to `bare` are gone: laggards have no use for what
    /// is left of those.
    pub(crate) fn forget(&mut self, before: Position, bare: Slot) {
        self.positions.retain(|slot, position| *slot > bare && *position >= before);
    }

    /// Forgets the places of decisions that are too old to be asked for.
    pub(crate) fn trim(&mut self, stable: Slot) {
        self.positions = self.positions.split_off(&Slot(stable.0.saturating_sub(HISTORY)));
    }
}
