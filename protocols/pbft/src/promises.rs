//! What a replica that starts still knows of what it has said, and what it knows that it does not know.
//!
//! Pure, like [`safety`](crate::safety), which says why this suffices.

use crate::message::{Attested, Commit, Slots, Testimony, ViewChange, Vote};
use alloc::collections::BTreeMap;
use testudo_core::{Digest, Slot, Tag, View};

/// A record that the log has lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// What it was about, if that is left of it.
    pub tag: Option<Tag>,
    /// The highest slot that what lies before it in the log is about.
    pub reached: Slot,
    /// The slot of the first stable checkpoint that was recorded after it.
    pub stable: Option<Slot>,
}

/// What a replica no longer knows of itself.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Loss {
    /// Slots above its stable checkpoint where it may have voted, and may have held a certificate, otherwise than its log
    /// says.
    pub slots: Slots,
    /// Whether it may have said a view change for the view that it has promised.
    pub change: bool,
    /// A slot that its stable checkpoint had reached at least.
    pub floor: Slot,
    /// The last slot whose decision may be among what is lost.
    pub decided: Slot,
    /// Whether it may have been said that it has forgotten its promises.
    pub standing: bool,
}

/// What a replica's log says that it has signed, when it starts. Of each slot the latest.
#[derive(Clone, Default, Debug)]
pub struct Recollection {
    /// Whether there is no log at all, nor anything lost from one.
    pub is_blank: bool,
    /// The highest view that it has promised, by its superblock or its log.
    pub promised: View,
    /// The view that was installed last.
    pub installed: View,
    /// The slot of its stable checkpoint.
    pub low: Slot,
    /// How far beyond that it votes, in this life and in those before.
    pub window: u64,
    /// The last slot that it may have executed.
    pub executed: Slot,
    /// Its own view change for the promised view.
    pub change: Option<ViewChange>,
    /// What it proposed.
    pub proposed: BTreeMap<Slot, (View, Digest)>,
    /// What it voted for.
    pub voted: BTreeMap<Slot, (View, Digest)>,
    /// What it holds a certificate for.
    pub prepared: BTreeMap<Slot, (View, Digest)>,
    /// What the installed view repeats.
    pub repeated: BTreeMap<Slot, Digest>,
    /// What it no longer knows.
    pub loss: Loss,
}

/// See [`Rules::lost`](crate::Rules::lost).
pub(crate) fn lost(damage: &[Damage], kept: &Recollection) -> Loss {
    let mut loss = Loss::default();
    // A view that it promised and has not installed it may have installed all the same, and voted for all that this repeats.
    let is_settled = kept.installed >= kept.promised;
    for Damage { tag, reached, stable } in damage {
        let first = kept.low.next();
        let beyond = |low: Slot| Slot(low.max(*reached).0.saturating_add(kept.window));
        let end = beyond(kept.low);
        match tag {
            Some(Tag::Vote(slot)) => loss.slots.insert(*slot, *slot),
            // What a view repeats is voted for without a record of its own. A later view has ended all that.
            Some(Tag::NewView(view)) if *view > kept.installed => loss.slots.insert(first, end),
            Some(Tag::ViewChange(view)) => loss.change |= *view >= kept.promised,
            Some(Tag::Decided(slot)) => loss.decided = loss.decided.max(*slot),
            Some(Tag::Stable(slot)) => loss.floor = loss.floor.max(*slot),
            Some(Tag::Other) => loss.standing = true,
            Some(Tag::NewView(_) | Tag::Checkpointed(_) | Tag::Body | Tag::Halted(_)) => {}
            None => {
                // What it was about lay in the window of that time, which a later checkpoint only moves on.
                let low = stable.filter(|_| is_settled).map_or(kept.low, |it| it.min(kept.low));
                let end = beyond(low);
                loss.slots.insert(first, end);
                loss.change = true;
                loss.decided = loss.decided.max(end);
            }
        }
    }
    // Nobody votes further than a window beyond its stable checkpoint.
    let tagged = damage.iter().filter_map(|damage| match damage.tag {
        Some(Tag::Vote(slot)) => Some(slot),
        _ => None,
    });
    let said = [&kept.proposed, &kept.voted, &kept.prepared];
    let said = said.into_iter().filter_map(|slots| slots.keys().next_back().copied());
    let top = said.chain(tagged).max().unwrap_or_default();
    loss.floor = loss.floor.max(Slot(top.0.saturating_sub(kept.window)));
    loss.slots.trim(kept.low);
    loss
}

impl Testimony {
    /// Whether it holds no statement.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.proposals.is_empty()
            && self.prepares.is_empty()
            && self.commits.is_empty()
            && self.change.is_none()
            && self.checkpoint.is_none()
    }
}

impl Recollection {
    /// Whether each of these statements of its own is on record, or lost and known to be, or such that it would have been
    /// let go of by now.
    #[must_use]
    pub fn knows(&self, testimony: &Testimony) -> bool {
        if self.is_blank {
            return testimony.is_empty();
        }
        let proposals = testimony.proposals.iter().filter_map(|said| {
            let (view, slot) = (said.statement.view, said.statement.slot);
            // The digest is worth computing only where it decides something.
            (view >= self.promised).then(|| Vote {
                view,
                slot,
                digest: said.statement.batch.digest(),
            })
        });
        let checkpoint = testimony.checkpoint.as_ref().map(|said| said.statement.slot);
        proposals.into_iter().all(|vote| self.knows_vote(vote, &self.proposed))
            && testimony.prepares.iter().all(|said| self.knows_prepare(said.statement.vote()))
            && testimony.commits.iter().all(|said| self.knows_commit(&said.statement))
            && testimony.change.iter().all(|said| self.knows_change(said))
            && checkpoint.is_none_or(|slot| {
                slot <= self.executed.max(self.low).max(self.loss.decided).max(self.loss.floor)
            })
    }

    /// A vote of the promised view must be on record. One of an earlier view was cast before the promise that ended that
    /// view, so this log, which has the promise, is younger; the record may have been let go of.
    fn knows_vote(&self, vote: Vote, said: &BTreeMap<Slot, (View, Digest)>) -> bool {
        vote.view < self.promised
            || (vote.view == self.promised
                && (vote.slot <= self.low
                    || self.loss.slots.contains(vote.slot)
                    || said.get(&vote.slot) == Some(&(vote.view, vote.digest))))
    }

    fn knows_prepare(&self, vote: Vote) -> bool {
        let is_repeated =
            self.installed == vote.view && self.repeated.get(&vote.slot) == Some(&vote.digest);
        is_repeated || self.knows_vote(vote, &self.voted)
    }

    /// The certificate that a commit stands for is kept, whatever the view, until a checkpoint covers it or one of a
    /// higher view takes its place.
    fn knows_commit(&self, commit: &Commit) -> bool {
        let Commit { view, slot, digest } = commit;
        let holds = |held: &(View, Digest)| held.0 > *view || held == &(*view, *digest);
        *view <= self.promised
            && (*slot <= self.low
                || self.loss.slots.contains(*slot)
                || self.prepared.get(slot).is_some_and(holds))
    }

    fn knows_change(&self, said: &Attested<ViewChange>) -> bool {
        let view = said.statement.view;
        let is_known = self.installed >= view || self.change.as_ref() == Some(&said.statement);
        view < self.promised || (view == self.promised && (is_known || self.loss.change))
    }
}
