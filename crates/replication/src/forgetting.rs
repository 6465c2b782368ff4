//! The log stays short: with every snapshot, what an earlier one covers is forgotten.
//!
//! What is forgotten is what neither the last snapshot nor the one before it needs: all replicas may find at once that the
//! last one cannot be read, and what none of them has in its log any more nobody can lend. What still matters is in the
//! snapshot: the state, and all that the ordering remembers. What is not, is written again behind the snapshot's place in the
//! log: bodies that have waited since before the last one, and what this replica has said about checkpoints that are not
//! stable. Other bodies before that place that its state has not executed, as they wait or were executed after its slot, are
//! needed beside it: the log from the first of them on stays as long as the snapshot.
//!
//! Laggards find decisions of the last two stretches of the log, and take the state where they need more. A bundle that was
//! executed and forgotten may come again; then its session keeps it from having its effect twice, as ever.
//!
//! When something on the disk has rotted, a fresh snapshot is written as soon as there is a stable checkpoint that covers
//! the place, and all that it covers is forgotten at once, the rot with it. Whatever was there is in memory still, unless the rot
//! was found at a start. Then what it was about is all that this replica knows of what it may have said, so it stays where it is
//! until that matters no more: until the others have answered what this replica has said, until it has every decision again,
//! and until no checkpoint is left that it may have signed.

use crate::message::Bundle;
use crate::record::Record;
use crate::replica::{Fx, Replica};
use crate::rules::Rules;
use crate::snapshot::Snapshot;
use crate::status::Health;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use testudo_contracts::{Ordering, Service, Standing};
use testudo_core::{Digest, Lost, Position, Rot, Signed, Slot, Tag};

/// Bytes that an ordering writes for one slot, about, beside the batch. They count for when a snapshot is due.
const SLOT_BYTES: u64 = 2048;

/// Bytes of an entry beside its key and value, about.
const ENTRY_BYTES: u64 = 16;

/// When the next snapshot is due, and what goes with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshots {
    /// The slot of the last that was asked for or started from.
    pub(crate) slot: Slot,
    /// Bytes that the log has taken for what was executed since, about.
    logged: u64,
    /// Where the log was when the last one was taken.
    cut: Position,
    /// The first record that a start from the last one needs. Invariant: at most `cut`.
    needed: Position,
    /// What lies before this is let go of.
    forgotten: Position,
    /// The last record that is known to have rotted on the disk, until it is let go of.
    rotten: Option<Position>,
    /// The last slot whose decision was lost in an earlier life.
    undecided: Slot,
    /// Whether the next is to be written whatever it saves: the last has rotted, or its state is none of this replica's.
    is_wanted: bool,
}

impl Snapshots {
    /// A snapshot of this slot was started from, which covers the log before this position.
    pub(crate) fn start_from(&mut self, slot: Slot, cut: Position) {
        *self = Self { slot, cut, needed: cut, ..Self::default() };
    }

    /// So much of the log was lost when this life began. It goes as what has rotted since: were it left where it is, every later
    /// start would find it again, and could not tell that it matters no more.
    pub(crate) fn find_lost(&mut self, lost: &[Lost]) {
        let decided = lost.iter().filter_map(|lost| match lost.tag {
            Some(Tag::Decided(slot)) => Some(slot),
            _ => None,
        });
        self.undecided = decided.max().unwrap_or_default();
        self.rotten = lost.iter().map(|lost| lost.position).max();
    }

    /// The body that lies there is needed beside the snapshot that was started from.
    pub(crate) fn need(&mut self, position: Position) {
        self.needed = self.needed.min(position);
    }

    /// The state was not executed from what the log has: a snapshot is due at once.
    pub(crate) const fn demand(&mut self) {
        (self.slot, self.is_wanted) = (Slot(0), true);
    }

    /// A slot with these bytes of bodies was executed.
    pub(crate) const fn executed(&mut self, bytes: u64) {
        self.logged = self.logged.saturating_add(bytes).saturating_add(SLOT_BYTES);
    }
}

/// A body to be written again.
type Rewrite = (Digest, Signed<Bundle>);

/// What a snapshot that is taken now leaves to the log.
struct Remainder {
    /// Bodies that may be missing from the state although the log has had them.
    pending: BTreeSet<Digest>,
    /// Those of them that are to be written again.
    rewrites: Vec<Rewrite>,
    /// The first record that a start from it needs.
    needed: Position,
    /// What lies before this can be let go of.
    before: Position,
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// The ordering knows of the stable checkpoint: has a snapshot of it written, if it saves enough of the log from being
    /// executed again.
    pub(crate) fn snapshot_if_due(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let Some(served) = self.serving.latest() else { return };
        let slot = served.head.slot;
        let maps = [served.state.system.map(), &served.state.map];
        let size: u64 = maps.map(|map| map.bytes() + map.len() as u64 * ENTRY_BYTES).iter().sum();
        let is_long = self.snapshots.logged > size.max(self.config.snapshot_bytes);
        let is_due = slot > self.snapshots.slot && is_long;
        let is_healing = slot >= self.snapshots.slot && self.snapshots.is_wanted;
        // What has rotted goes as soon as it can.
        let rids = |rotten| {
            let remainder = self.remainder(slot, fx.position());
            remainder.is_some_and(|remainder| rotten < remainder.before)
        };
        if is_due || is_healing || self.snapshots.rotten.is_some_and(rids) {
            self.take_snapshot(fx);
        }
    }

    /// Has a snapshot of the stable checkpoint written, and lets go of what need not stay in the log beside it.
    fn take_snapshot(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let Some(served) = self.serving.latest().cloned() else { return };
        // What is decided and not executed, as the state is wrong, is in the log alone.
        let is_wrong = matches!(self.health, Health::Diverged(_));
        if is_wrong || self.is_between_epochs() || self.is_in_doubt() {
            return;
        }
        let (slot, cut) = (served.head.slot, fx.position());
        let Some(Remainder { pending, rewrites, needed, before }) = self.remainder(slot, cut)
        else {
            return;
        };
        // Before the snapshot in this list, and so durable before it is, and before anything is let go of.
        for (digest, body) in rewrites {
            let position = fx.persist(Record::Body(body));
            self.written.insert(digest, position);
        }
        for said in self.checkpoints.said_above(slot) {
            fx.persist(Record::Checkpointed(said));
        }
        if let Some(slot) = self.checkpoints.halted_at() {
            fx.persist(Record::Halted(slot));
        }
        let order = self.order.snapshot(slot);
        let (certificate, head, state) = (served.certificate, served.head, served.state);
        let pending = Arc::new(pending);
        let (epoch, logged) = (self.epoch(), cut);
        let successions = self.epochs.successions(epoch);
        let snapshot =
            Snapshot { order, epoch, successions, certificate, head, logged, pending, state };
        fx.snapshot(snapshot);
        self.forget(slot, before, fx);
        let Snapshots { forgotten, rotten, undecided, .. } = self.snapshots;
        let rotten = rotten.filter(|rotten| *rotten >= forgotten);
        self.snapshots = Snapshots {
            slot,
            logged: 0,
            cut,
            needed,
            forgotten,
            rotten,
            undecided,
            is_wanted: false,
        };
    }

    /// Whether this replica may have said something that it does not know of, but for what its log has lost. A snapshot would
    /// know nothing of that.
    fn is_in_doubt(&self) -> bool {
        let is_lost = self.snapshots.rotten.is_some();
        self.order.standing() == Standing::Joining
            || (is_lost && (self.is_mute() || self.order.executed() < self.snapshots.undecided))
    }

    /// What a snapshot of this slot that is taken here leaves to the log. What has rotted is let go of with all before it,
    /// even if the last snapshot needs that. None if too much was executed since the slot to say.
    fn remainder(&self, slot: Slot, cut: Position) -> Option<Remainder> {
        let is_rotten = self.snapshots.rotten.is_some();
        let target = if is_rotten { cut } else { self.snapshots.cut };
        let (mut pending, mut rewrites) = (BTreeSet::new(), Vec::new());
        let place = |digest: &Digest| self.written.get(digest).copied();
        let is_early = |digest: &Digest| place(digest).is_some_and(|position| position < target);
        // What is being read back must stay where it is.
        let mut needed = self.needed.iter().filter_map(place).fold(cut, Position::min);
        for (digest, body) in &self.bodies {
            pending.insert(*digest);
            if is_early(digest) {
                rewrites.push((*digest, body.signed()));
            } else {
                needed = place(digest).map_or(needed, |position| needed.min(position));
            }
        }
        for later in slot.0 + 1..=self.state.slot.0 {
            let executed = self.recent.get(Slot(later))?;
            let digests = &executed.batch.bundles;
            pending.extend(digests);
            if is_rotten && executed.bodies.len() == digests.len() {
                let bodies = digests.iter().copied().zip(executed.bodies.iter().cloned());
                rewrites.extend(bodies.filter(|(digest, _)| is_early(digest)));
            } else {
                needed = digests.iter().filter_map(place).fold(needed, Position::min);
            }
        }
        let before = if is_rotten { needed } else { needed.min(self.snapshots.needed) };
        Some(Remainder { pending, rewrites, needed, before })
    }

    /// Lets go of the log before this position, beside a snapshot of this slot, and of all that names places there.
    fn forget(&mut self, slot: Slot, before: Position, fx: &mut Fx<'_, O, S, R>) {
        if before <= self.snapshots.forgotten {
            return;
        }
        self.snapshots.forgotten = before;
        self.written.retain(|_, position| *position >= before);
        self.budgets.lenders.retain(|position, _| *position >= before);
        let bare = self.recent.forget(slot, |digest| self.written.contains_key(digest));
        self.order.forget(before, bare);
        fx.forget(before);
    }

    /// Something on the disk has rotted: sees to it that what is needed of it is there again, and that the rot goes.
    pub(crate) fn write_anew(&mut self, rot: Rot, fx: &mut Fx<'_, O, S, R>) {
        match rot {
            Rot::Snapshot => self.snapshots.is_wanted = true,
            Rot::Record(Lost { position, .. }) => {
                self.snapshots.rotten = self.snapshots.rotten.max(Some(position));
                let mut bodies = self.bodies.iter();
                let lost = bodies.find(|(digest, _)| self.written.get(digest) == Some(&position));
                if let Some((digest, body)) = lost {
                    let again = fx.persist(Record::Body(body.signed()));
                    self.written.insert(*digest, again);
                }
            }
        }
        self.snapshot_if_due(fx);
    }
}
