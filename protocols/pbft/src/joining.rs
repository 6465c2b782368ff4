//! The door through which every replica comes that starts: what have I said? (See [`safety`](crate::safety), "Old
//! images".)
//!
//! Until a quorum has answered, it listens and fetches what was decided, and says nothing that it would have to sign. It
//! installs no view either, as that would raise its promise, which is the measure of what it ought to know.

use crate::forensics::part;
use crate::log::Entry;
use crate::message::{
    Attested, Commit, Inquiry, Message, NewView, Nonce, PrePrepare, Prepare, Testimony, ViewChange,
};
use crate::promises::Recollection;
use crate::recovery::Record;
use crate::safety::{Adopted, Rules};
use crate::{Pbft, Standing};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use testudo_contracts::Ordering as _;
use testudo_core::{Effects, Peer, ReplicaId, Slot, Target, limits};

/// A replica that waits for answers.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    nonce: Nonce,
    /// What it knew when it started.
    kept: Recollection,
    /// Who has answered, and told nothing that it does not know.
    answered: BTreeSet<ReplicaId>,
    /// The highest new view that it was shown meanwhile.
    shown: Option<Attested<NewView>>,
}

/// What one replica said last, wherever the window and the view are by now.
#[derive(Clone, Default, Debug)]
pub(crate) struct LastWords {
    prepare: Option<Attested<Prepare>>,
    commit: Option<Attested<Commit>>,
    change: Option<Attested<ViewChange>>,
}

impl LastWords {
    pub(crate) fn changed(&mut self, one: Attested<ViewChange>) {
        let view = |said: &Attested<ViewChange>| said.statement.view;
        if self.change.as_ref().is_none_or(|last| view(last) < view(&one)) {
            self.change = Some(one);
        }
    }
    pub(crate) fn prepared(&mut self, one: Attested<Prepare>) {
        let place = |said: &Attested<Prepare>| (said.statement.view, said.statement.slot);
        if self.prepare.as_ref().is_none_or(|last| place(last) < place(&one)) {
            self.prepare = Some(one);
        }
    }
    pub(crate) fn committed(&mut self, one: Attested<Commit>) {
        let place = |said: &Attested<Commit>| (said.statement.view, said.statement.slot);
        if self.commit.as_ref().is_none_or(|last| place(last) < place(&one)) {
            self.commit = Some(one);
        }
    }
}

impl Entry {
    /// The latest vote of `of` here.
    fn prepare_of(&self, of: ReplicaId) -> Option<Attested<Prepare>> {
        let said = self.prepares.get(&of).and_then(|vote| match vote.message() {
            Message::Prepare(prepare) => Attested::of(vote, prepare.clone()),
            _ => None,
        });
        said.or_else(|| part(&self.prepared.as_ref()?.prepares, of))
    }

    /// The latest commit of `of` here.
    fn commit_of(&self, of: ReplicaId) -> Option<Attested<Commit>> {
        let said = self.commits.get(&of).and_then(|vote| match vote.message() {
            Message::Commit(commit) => Attested::of(vote, commit.clone()),
            _ => None,
        });
        said.or_else(|| part(&self.decided.as_ref()?.certificate, of))
    }

    /// The latest proposal of `of` here.
    pub(crate) fn proposal_of(&self, of: ReplicaId, n: usize) -> Option<Attested<PrePrepare>> {
        let accepted = self.proposal.as_ref().and_then(|proposal| proposal.attested().cloned());
        let certified = || self.prepared.as_ref()?.attested(n);
        accepted.or_else(certified).filter(|attested| attested.signer == of)
    }
}

impl<R: Rules> Pbft<R> {
    /// Asks all what this replica has said, unless it knows that it has forgotten that.
    pub(crate) fn knock(&mut self, kept: Recollection, fx: &mut Effects<'_, Self>) {
        let [a, b, c, d, e, f, g, h, ..] = fx.secret();
        let nonce = Nonce(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        self.joining = Some(Joining { nonce, kept, answered: BTreeSet::new(), shown: None });
        self.join_if_answered(fx);
        self.ask_again(fx);
    }

    /// Asks those again who may not have heard.
    pub(crate) fn ask_again(&self, fx: &mut Effects<'_, Self>) {
        if let Some(joining) = &self.joining {
            fx.send(Target::Others, Message::Inquiry(Inquiry { nonce: joining.nonce }));
        }
    }

    /// Somebody has started and asks what it once said.
    pub(crate) fn on_inquiry(
        &mut self,
        from: ReplicaId,
        inquiry: Inquiry,
        fx: &mut Effects<'_, Self>,
    ) {
        if from != self.me && self.catchup.may_testify(from) {
            let testimony = Box::new(self.testify(from, inquiry.nonce));
            fx.send(Peer::from(from), Message::Testimony(testimony));
        }
    }

    fn testify(&self, of: ReplicaId, nonce: Nonce) -> Testimony {
        let words = self.heard.get(&of).cloned().unwrap_or_default();
        // What was said last may lie below the window; in it, it is said once.
        let prepare = words.prepare.map(|said| (said.statement.slot, said));
        let commit = words.commit.map(|said| (said.statement.slot, said));
        let mut prepares: BTreeMap<Slot, _> = prepare.into_iter().collect();
        let mut commits: BTreeMap<Slot, _> = commit.into_iter().collect();
        let mut proposals = alloc::vec::Vec::new();
        for (slot, entry) in &self.log.entries {
            prepares.extend(entry.prepare_of(of).map(|said| (*slot, said)));
            commits.extend(entry.commit_of(of).map(|said| (*slot, said)));
            proposals.extend(entry.proposal_of(of, self.system.n()));
        }
        let mut installed = self.installed.iter().flat_map(|view| &view.statement.changes);
        let installed = || installed.find(|change| change.signer == of).cloned();
        Testimony {
            of,
            nonce,
            proposals,
            prepares: prepares.into_values().collect(),
            commits: commits.into_values().collect(),
            change: words.change.or_else(installed),
            checkpoint: self.log.stable.as_ref().and_then(|stable| part(stable, of)),
        }
    }

    /// Somebody answers what this replica has said.
    pub(crate) fn on_testimony(
        &mut self,
        from: ReplicaId,
        testimony: &Testimony,
        fx: &mut Effects<'_, Self>,
    ) {
        let Some(joining) = &mut self.joining else { return };
        if testimony.of != self.me || testimony.nonce != joining.nonce || from == self.me {
            return;
        }
        if R::knows(&joining.kept, testimony) {
            joining.answered.insert(from);
            self.join_if_answered(fx);
        } else {
            self.have_forgotten(fx);
        }
    }

    /// A new view, while joining: kept for later. One that this replica has begun itself is a statement of its own.
    pub(crate) fn keep_new_view(
        &mut self,
        attested: Attested<NewView>,
        fx: &mut Effects<'_, Self>,
    ) {
        let Some(joining) = &mut self.joining else { return };
        let view = attested.statement.view;
        if attested.signer == self.me && view > joining.kept.promised {
            self.have_forgotten(fx);
        } else if joining.shown.as_ref().is_none_or(|shown| shown.statement.view < view) {
            joining.shown = Some(attested);
        }
    }

    /// It takes part once a quorum has answered, itself counted, and its checkpoint is no lower than it once was.
    pub(crate) fn join_if_answered(&mut self, fx: &mut Effects<'_, Self>) {
        let needed = R::answers(&self.system);
        let joining = self.joining.take_if(|joining| {
            joining.answered.len() + 1 >= needed && self.log.low() >= joining.kept.loss.floor
        });
        let Some(Joining { kept, shown, .. }) = joining else { return };
        self.standing = Standing::Voting;
        self.has_joined = true;
        self.resume(&kept, fx);
        if let Some(shown) = shown {
            self.on_new_view(shown, fx);
        }
    }

    /// It has signed what it knows nothing of. From now on, and after each restart, it only follows.
    pub(crate) fn have_forgotten(&mut self, fx: &mut Effects<'_, Self>) {
        let shown = self.joining.take().and_then(|joining| joining.shown);
        self.standing = Standing::Forgotten;
        fx.persist(Record::Forgotten);
        if let Some(shown) = shown {
            self.on_new_view(shown, fx);
        }
    }

    /// Whether this replica may vote on this slot: it takes part, and has lost nothing there.
    pub(crate) fn may_vote(&self, slot: Slot) -> bool {
        self.standing == Standing::Voting && !self.lost.contains(slot)
    }

    /// Whether it could lead a view that goes on from this: it may not propose on a slot that it has lost.
    pub(crate) fn could_lead(&self, adopted: &Adopted) -> bool {
        let end = Slot(adopted.base().0.saturating_add(limits::WINDOW));
        !self.lost.meets(adopted.first_fresh(), end)
    }

    /// Whether it is the primary of the view that it is in or changing to.
    pub(crate) fn is_primary(&self) -> bool {
        self.primary() == self.me
    }
}
