//! Whoever has signed two certificates that contradict each other is convicted by them.
//!
//! Votes are held against each other as they come in, one by one. But a liar tells each what that one may hear, and those
//! to whom it told different things never see each other's votes. What they do see are certificates: in view changes, in
//! new views, and in decisions that laggards fetch. Two quorums of one view share f+1 replicas at least, and a decision and
//! a new view that forgets it share as many that signed both. So where two correct replicas have decided different things,
//! f+1 liars can be named as soon as one of the two is shown what the other's view began from (Sheng, Wang, Nayak, Kannan
//! and Viswanath, "BFT protocol forensics", CCS 2021).
//!
//! One whose decisions are not what the others decided gets no further with them, is overtaken by a stable checkpoint,
//! and takes the state: then its decisions are gone, and nobody has seen both. So it keeps what it had decided there, and
//! asks the others what they decided, one at each tick: soon, as nobody keeps old decisions for ever.

use crate::log::Entry;
use crate::message::{Attested, Committed, Fetch, Message, Prepared};
use crate::safety::Rules;
use crate::{Pbft, Standing};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use testudo_core::{Certificate, Domain, Effects, Peer, ReplicaId, Slot, Statement};

/// What a replica had decided beyond its last stable checkpoint when the others' went beyond all that it had executed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overtaken {
    /// The slots. At most a window.
    entries: BTreeMap<Slot, Entry>,
    /// Of how many replicas it still asks what they decided there.
    left: usize,
}

impl Overtaken {
    /// In how many slots.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// One replica's part of a certificate.
pub(crate) fn part<T: Statement + Clone>(
    certificate: &Certificate<T>,
    signer: ReplicaId,
) -> Option<Attested<T>> {
    let signature = certificate.signature(signer)?;
    Some(Attested { signer, statement: certificate.statement().clone(), signature })
}

impl Entry {
    /// The certificates alone.
    fn certificates(&self) -> Self {
        Self { prepared: self.prepared.clone(), decided: self.decided.clone(), ..Self::default() }
    }

    /// The offence that `message` and a part of a certificate that is kept of this slot amount to, with the frame of that
    /// part. These outlive the votes of their view.
    pub(crate) fn contradicted_certificate<R: Rules>(
        &self,
        sender: ReplicaId,
        message: &Message,
        (domain, n): (Domain, usize),
    ) -> Option<(&'static str, Vec<u8>)> {
        let committed = || {
            let commit = part(&self.decided.as_ref()?.certificate, sender)?;
            let offence = R::convicts(&Message::Commit(commit.statement.clone()), message)?;
            Some((offence, commit.frame(domain)))
        };
        let prepared = || {
            let prepare = part(&self.prepared.as_ref()?.prepares, sender)?;
            let offence = R::convicts(&Message::Prepare(prepare.statement.clone()), message)?;
            Some((offence, prepare.frame(domain)))
        };
        let proposed = || {
            let proposal = self.proposal_of(sender, n)?;
            let offence = R::convicts(&Message::PrePrepare(proposal.statement.clone()), message)?;
            Some((offence, proposal.frame(domain)))
        };
        committed().or_else(prepared).or_else(proposed)
    }
}

impl<R: Rules> Pbft<R> {
    /// Holds what somebody shows to be prepared against all that its signers have said of those slots here.
    pub(crate) fn compare_prepared(&mut self, shown: &[Prepared], fx: &mut Effects<'_, Self>) {
        for prepared in shown {
            if let Some(proposal) = prepared.attested(self.system.n()) {
                self.compare_part(&proposal, Message::PrePrepare, fx);
            }
            for signer in prepared.prepares.signers() {
                if let Some(prepare) = part(&prepared.prepares, signer) {
                    self.compare_part(&prepare, Message::Prepare, fx);
                }
            }
        }
    }

    /// Holds a decision that somebody shows against all that its signers have said of that slot here.
    pub(crate) fn compare_decided(&mut self, shown: &Committed, fx: &mut Effects<'_, Self>) {
        for signer in shown.certificate.signers() {
            if let Some(commit) = part(&shown.certificate, signer) {
                self.compare_part(&commit, Message::Commit, fx);
            }
        }
    }

    /// What is known of a slot, or was when this replica was overtaken there.
    pub(crate) fn known(&self, slot: Slot) -> Option<&Entry> {
        self.log.entries.get(&slot).or_else(|| self.overtaken.entries.get(&slot))
    }

    /// All that is known of slots, and what was when this replica was overtaken.
    pub(crate) fn all_known(&self) -> impl Iterator<Item = &Entry> {
        self.log.entries.values().chain(self.overtaken.entries.values())
    }

    /// A checkpoint is stable up to this slot, and the log is about to let go of all up to it.
    pub(crate) fn note_overtaking(&mut self, stable: Slot) {
        if stable <= self.decisions.executed {
            return;
        }
        let passed = self.log.entries.range(..=stable);
        let decided = passed.filter(|(_, entry)| entry.decided.is_some());
        let entries: BTreeMap<Slot, Entry> =
            decided.map(|(slot, entry)| (*slot, entry.certificates())).collect();
        if !entries.is_empty() {
            self.overtaken = Overtaken { entries, left: self.system.n() };
        }
    }

    /// Asks one more of the others what it decided where this replica was overtaken. Whatever it answers is held against
    /// what was decided here, and changes nothing else.
    pub(crate) fn ask_overtakers(&mut self, fx: &mut Effects<'_, Self>) {
        let Some(first) = self.overtaken.entries.keys().next().copied() else { return };
        if self.overtaken.left == 0 || self.standing == Standing::Stopped {
            return;
        }
        self.overtaken.left -= 1;
        let of = ReplicaId(u16::try_from(self.overtaken.left).unwrap_or(u16::MAX));
        if of != self.me {
            fx.send(Peer::from(of), Message::Fetch(Fetch { from: first }));
        }
    }

    fn compare_part<T: Statement + Clone>(
        &mut self,
        part: &Attested<T>,
        message: impl Fn(T) -> Message,
        fx: &mut Effects<'_, Self>,
    ) {
        let said = message(part.statement.clone());
        let Some(slot) = said.vote().map(|vote| vote.slot) else { return };
        let domain = self.config.domain;
        self.compare(slot, part.signer, &said, || part.frame(domain), fx);
    }
}
