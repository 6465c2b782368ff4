//! Checkpoints: every so often each replica signs the digest of all its state.
//!
//! The digest is computed off the core's thread, of a copy of the state; the order goes on meanwhile. One that a quorum
//! has signed is stable: it moves the ordering's window, and whoever's own digest differs knows
//! that it has diverged. A stable checkpoint is used only after the replica itself has executed its slot.
//!
//! No slot's digest is ever signed twice: what was signed is on record first. A replica whose log may have lost the record of a
//! slot signs nothing for that slot, and one that does not take part in ordering, as it does not know yet, or no longer,
//! what it has said, signs nothing at all.

use crate::executor::Replicated;
use crate::feed::Head;
use crate::message::ReplicaMessage;
use crate::record::{Record, Timer};
use crate::replica::{Fx, Replica};
use crate::rules::Rules;
use crate::status::{Event, Health};
use crate::work::Work;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use testudo_contracts::{Checkpoint, Ordering, Service, StableCheckpoint, Standing};
use testudo_core::{Digest, Lost, Peer, ReplicaId, Slot, Tag, Target, Verified};

/// This replica's own digest of a slot.
#[derive(Clone, Copy, Debug)]
struct Own {
    /// What it is.
    state: Digest,
    /// Whether this is what was signed, or may be: never when the log says that another was, or may have lost it.
    may_say: bool,
}

/// What is known of checkpoints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoints {
    /// The last stable one that this replica has executed.
    stable: Option<StableCheckpoint>,
    /// What the ordering has been told of. Invariant: at most the stable one's slot.
    told: Slot,
    /// A stable one ahead of what this replica has executed and hashed, the highest known.
    ahead: Option<StableCheckpoint>,
    /// What was signed of slots that are not stable, whatever became of this replica's state since. None has a second.
    signed: BTreeMap<Slot, Digest>,
    /// States of executed slots whose digests are being computed.
    pending: BTreeMap<Slot, Replicated>,
    /// Digests of executed slots that are not stable.
    own: BTreeMap<Slot, Own>,
    /// Signatures that came in, one for each replica and slot, for slots above the stable one.
    votes: BTreeMap<Slot, BTreeMap<ReplicaId, StableCheckpoint>>,
    /// The last signature of each replica for a slot that is no checkpoint by the interval. It may be the last of the epoch,
    /// which this replica does not know as long as it has not executed it.
    odd: BTreeMap<ReplicaId, StableCheckpoint>,
    /// The log has lost the records of what was signed for these slots: nothing is signed for them any more.
    mute: BTreeSet<Slot>,
    /// The log has lost records of which it does not say what they were about: nothing is signed for slots up to this one, the
    /// last that may have been executed and signed by then.
    mute_until: Slot,
    /// What part the replica took in ordering when it was looked at last.
    stood: Option<Standing>,
    /// The log says that no digest of this slot could reach a quorum.
    halted: Option<Slot>,
}

impl Checkpoints {
    /// Nothing is known yet, but what the log has lost. What it does not say was about no slot beyond `end`.
    pub(crate) fn new(lost: &[Lost], end: Slot) -> Self {
        let signed = |lost: &Lost| match lost.tag {
            Some(Tag::Checkpointed(slot)) => Some(slot),
            _ => None,
        };
        let is_vague = lost.iter().any(|lost| lost.tag.is_none());
        Self {
            mute: lost.iter().filter_map(signed).collect(),
            mute_until: if is_vague { end } else { Slot(0) },
            ..Self::default()
        }
    }

    /// How many slots something is kept of.
    pub(crate) fn len(&self) -> usize {
        let most = self.signed.len().max(self.own.len()).max(self.pending.len());
        most.max(self.votes.len())
    }

    /// Whether something may have been signed for this slot that nobody here remembers.
    fn is_mute(&self, slot: Slot) -> bool {
        slot <= self.mute_until || self.mute.contains(&slot)
    }

    /// A snapshot says that this was stable, and that this replica's state was what it says.
    pub(crate) fn start_from(&mut self, certificate: StableCheckpoint) {
        self.stable = Some(certificate);
    }

    /// The log says that this was signed. What a snapshot covers is not executed again.
    pub(crate) fn said(&mut self, checkpoint: &Checkpoint) {
        if checkpoint.slot > self.stable_slot() {
            self.signed.insert(checkpoint.slot, checkpoint.state);
        }
    }

    /// What this replica has signed for slots above this one.
    pub(crate) fn said_above(&self, slot: Slot) -> Vec<Checkpoint> {
        let above = self.signed.range(slot.next()..);
        above.map(|(slot, state)| Checkpoint { slot: *slot, state: *state }).collect()
    }

    /// The slot after which nothing may be executed.
    pub(crate) const fn halted_at(&self) -> Option<Slot> {
        self.halted
    }

    /// The log says that nothing may be executed after this slot.
    pub(crate) fn halted(&mut self, slot: Slot) {
        self.halted = Some(slot);
    }

    /// Others have gone on from this slot, or from a later one than it was stopped at.
    pub(crate) fn go_on_from(&mut self, slot: Slot) {
        self.halted = self.halted.filter(|halted| *halted > slot);
    }

    /// After the log was read: a halt is over where it says that others have gone on.
    pub(crate) fn end_halt_if_over(&mut self) {
        self.go_on_from(self.ahead_slot().unwrap_or_default().max(self.stable_slot()));
    }

    /// This replica's state is now that of this checkpoint. Nothing that was hashed before is true of it.
    pub(crate) fn restart_from(&mut self, certificate: StableCheckpoint) {
        let slot = certificate.statement().slot;
        self.pending.clear();
        self.own.clear();
        if slot >= self.stable_slot() {
            self.stable = Some(certificate);
        }
        self.forget_up_to(slot);
        // The ordering is told that the state was restored, which says as much.
        self.told = self.told.max(slot);
    }

    /// An epoch begins with this state. Signatures of the last one count no more, and whatever may have been signed in it
    /// forbids nothing any more.
    pub(crate) fn begin_epoch(&mut self, base: StableCheckpoint) {
        let slot = base.statement().slot;
        self.mute_until = Slot(0);
        self.halted = None;
        self.pending.clear();
        self.own.clear();
        self.votes.clear();
        self.odd.clear();
        self.forget_up_to(slot);
        self.stable = Some(base);
        self.told = slot;
    }

    /// From now on it signs with a key with which nothing was signed.
    pub(crate) fn sign_anew(&mut self) {
        self.signed.clear();
        self.mute.clear();
        self.mute_until = Slot(0);
    }

    /// Nothing is signed for slots up to this one.
    pub(crate) fn mute_up_to(&mut self, slot: Slot) {
        self.mute_until = self.mute_until.max(slot);
    }

    /// Whether it signs no checkpoint for a while, as it may have signed some that it does not know of.
    pub(crate) fn is_mute_after(&self, slot: Slot) -> bool {
        self.mute_until > slot || self.mute.range(slot.next()..).next().is_some()
    }

    /// What is known of this slot and those before matters no more: it is stable.
    fn forget_up_to(&mut self, slot: Slot) {
        let above = slot.next();
        self.own = self.own.split_off(&above);
        self.votes = self.votes.split_off(&above);
        self.signed = self.signed.split_off(&above);
        self.mute = self.mute.split_off(&above);
        if self.ahead_slot().is_some_and(|ahead| ahead <= slot) {
            self.ahead = None;
        }
    }

    /// This slot is a checkpoint, whatever the interval: what others have signed of it counts.
    fn take_odd(&mut self, slot: Slot) {
        for (voter, signed) in core::mem::take(&mut self.odd) {
            if signed.statement().slot == slot {
                self.votes.entry(slot).or_default().entry(voter).or_insert(signed);
            } else {
                self.odd.insert(voter, signed);
            }
        }
    }

    /// The slot of the highest stable checkpoint that is ahead of what this replica has executed and hashed.
    pub(crate) fn ahead_slot(&self) -> Option<Slot> {
        self.ahead.as_ref().map(|ahead| ahead.statement().slot)
    }

    /// Keeps the highest stable checkpoint that is not executed.
    fn keep_ahead(&mut self, certificate: StableCheckpoint) {
        let known = self.ahead.as_ref().map_or(self.stable_slot(), |ahead| ahead.statement().slot);
        let slot = certificate.statement().slot;
        if known < slot {
            // What is signed of earlier ones decides nothing any more. One that executes nothing for long would gather it.
            self.votes = self.votes.split_off(&slot);
            self.ahead = Some(certificate);
        }
    }

    /// The log says that this was stable.
    pub(crate) fn stable_before(&mut self, certificate: StableCheckpoint) {
        self.keep_ahead(certificate);
    }

    /// The last stable one that this replica has executed, with its signatures.
    pub(crate) const fn certificate(&self) -> Option<&StableCheckpoint> {
        self.stable.as_ref()
    }

    /// The last stable one that this replica has executed.
    pub(crate) fn latest(&self) -> Option<&Checkpoint> {
        self.stable.as_ref().map(StableCheckpoint::statement)
    }

    /// Its slot; 0 if there is none.
    pub(crate) fn stable_slot(&self) -> Slot {
        self.latest().map_or(Slot(0), |checkpoint| checkpoint.slot)
    }

    /// A stable one that the ordering has not been told of. `executed` is how far the state is.
    pub(crate) fn next_stable(&mut self, executed: Slot) -> Option<StableCheckpoint> {
        let stable = self.stable.as_ref()?;
        let slot = stable.statement().slot;
        if slot <= self.told || slot > executed {
            return None;
        }
        self.told = slot;
        Some(stable.clone())
    }

    /// One that is ahead of what this replica has executed, while it executes nothing. The ordering may be told of it if it
    /// has decided all that it covers, so that it can go on voting.
    pub(crate) fn next_ahead(&mut self, decided: Slot) -> Option<StableCheckpoint> {
        let ahead = self.ahead.as_ref()?;
        let slot = ahead.statement().slot;
        if slot <= self.told || slot > decided {
            return None;
        }
        self.told = slot;
        Some(ahead.clone())
    }
}

impl<O: Ordering, S: Service, R: Rules> Replica<O, S, R> {
    /// After a slot has executed: if a checkpoint is due there, the digest of a copy of the state is computed.
    pub(crate) fn checkpoint_if_due(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let slot = self.state.slot;
        let is_regular = slot.0.is_multiple_of(self.config.checkpoint_interval.max(1));
        if !is_regular && self.epochs.end() != Some(slot) {
            return;
        }
        self.checkpoints.take_odd(slot);
        let ahead = self.checkpoints.ahead_slot();
        // While the past is executed again only what may still be compared is worth hashing. It is hashed at once, so
        // that nobody is told anything before this replica knows whether it is well.
        if ahead.is_none_or(|ahead| slot >= ahead) {
            let state = self.state.clone();
            self.checkpoints.pending.insert(slot, state.clone());
            if self.replaying {
                self.on_digest(state.head(), fx);
            } else {
                let stamp = self.stamp();
                let stretch = self.healing.stretch.clone();
                fx.work(stamp, Work::Digest(state, stretch));
            }
        }
        if self.checkpoints.halted == Some(slot) {
            self.fall_ill(Health::Halted(slot), fx);
        }
    }

    /// The digests of a checkpoint's state are known: it is signed if it never was.
    pub(crate) fn on_digest(&mut self, head: Head, fx: &mut Fx<'_, O, S, R>) {
        let (slot, state) = (head.slot, head.digest());
        let Some(replicated) = self.checkpoints.pending.remove(&slot) else { return };
        if slot <= self.checkpoints.stable_slot() {
            return;
        }
        // What was signed may not be what the state is now. It is not signed a second time.
        let signed = self.checkpoints.signed.get(&slot);
        let may_say = signed.map_or(!self.checkpoints.is_mute(slot), |signed| *signed == state);
        self.checkpoints.own.insert(slot, Own { state, may_say });
        self.serving.hold(head, replicated);
        self.say_checkpoint_again(fx);
        if let Some(certificate) = self.checkpoints.ahead.clone() {
            self.on_stable(certificate, fx);
        }
        self.count(slot, fx);
    }

    /// Says the newest checkpoint, again while it is not stable: the others may not have heard.
    pub(crate) fn say_checkpoint_again(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let takes_part = match self.order.standing() {
            Standing::Voting => true,
            Standing::Stopped => self.epochs.signs_the_end(self.epoch()),
            Standing::Joining | Standing::Forgotten => false,
        };
        let Some((slot, own)) = self.checkpoints.own.last_key_value() else { return };
        if self.health == Health::Well && own.may_say && takes_part {
            let checkpoint = Checkpoint { slot: *slot, state: own.state };
            if self.checkpoints.signed.insert(*slot, own.state).is_none() {
                fx.persist(Record::Checkpointed(checkpoint.clone()));
            }
            fx.send(Target::Replicas, ReplicaMessage::Checkpoint(checkpoint));
            fx.set_timer(Timer::Checkpoint, self.config.resend * 4);
        }
    }

    /// Looks whether the replica has begun to take part in ordering: then it says what it has held back, and writes the snapshot
    /// that had to wait.
    pub(crate) fn look_at_standing(&mut self, fx: &mut Fx<'_, O, S, R>) {
        let stands = Some(self.order.standing());
        let stood = core::mem::replace(&mut self.checkpoints.stood, stands);
        if stood != stands {
            self.say_checkpoint_again(fx);
            if stood == Some(Standing::Joining) {
                self.snapshot_if_due(fx);
            }
        }
    }

    /// A replica has signed a digest.
    pub(crate) fn on_checkpoint(
        &mut self,
        vote: &Verified<ReplicaMessage<O::Message>>,
        fx: &mut Fx<'_, O, S, R>,
    ) {
        let (ReplicaMessage::Checkpoint(checkpoint), Some(voter)) =
            (vote.message(), vote.replica())
        else {
            return;
        };
        let (slot, interval) = (checkpoint.slot, self.config.checkpoint_interval.max(1));
        if slot <= self.checkpoints.stable_slot() {
            if voter != self.me
                && let Some(stable) = self.checkpoints.stable.clone()
                && self.budgets.may_tell(Peer::Replica(voter))
            {
                self.keep_budget(fx);
                // EAGER: the certificate proves itself.
                fx.send_eager(Peer::Replica(voter), ReplicaMessage::Stable(stable));
            }
            return;
        }
        if self.checkpoints.ahead_slot().is_some_and(|ahead| slot < ahead) {
            return;
        }
        let reached = self.state.slot.max(self.order.executed());
        let horizon = reached.0.saturating_add(self.config.window).saturating_add(interval);
        if slot.0 > horizon {
            return;
        }
        let mut signed = StableCheckpoint::new(checkpoint.clone());
        if !slot.0.is_multiple_of(interval) && self.epochs.end() != Some(slot) {
            if signed.add(vote) {
                self.checkpoints.odd.insert(voter, signed);
            }
        } else if signed.add(vote) {
            // The first word counts; a correct replica never has another.
            let votes = self.checkpoints.votes.entry(slot).or_default();
            votes.entry(voter).or_insert(signed);
            self.count(slot, fx);
        }
    }

    /// Whether a digest of this slot has a quorum now, or can have none any more.
    fn count(&mut self, slot: Slot, fx: &mut Fx<'_, O, S, R>) {
        let Some(votes) = self.checkpoints.votes.get(&slot) else { return };
        let mut tally: BTreeMap<Digest, StableCheckpoint> = BTreeMap::new();
        for vote in votes.values() {
            let statement = vote.statement();
            let same = tally.entry(statement.state);
            same.or_insert_with(|| StableCheckpoint::new(statement.clone())).join(vote);
        }
        let most = tally.values().map(StableCheckpoint::len).max().unwrap_or(0);
        let silent = self.config.membership.n() - votes.len();
        let quorum = O::checkpoint_quorum(&self.quorums);
        // The others have gone on, whatever this replica was told of what they had signed here.
        let is_over = self.checkpoints.ahead_slot().is_some_and(|ahead| ahead > slot);
        if let Some(certificate) = tally.into_values().find(|c| c.len() >= quorum) {
            self.on_stable(certificate, fx);
        } else if most + silent < quorum && self.state.slot >= slot && !is_over {
            self.fall_ill(Health::Halted(slot), fx);
        }
    }

    /// A checkpoint of the slot at which this replica has stopped, or of a later one, is stable: the others go on, so somebody
    /// had lied to it, or it is wrong itself. It finds out which at that checkpoint, and says nothing of its state till then.
    fn end_halt(&mut self, certificate: &StableCheckpoint, fx: &mut Fx<'_, O, S, R>) {
        let slot = certificate.statement().slot;
        if !matches!(self.health, Health::Halted(halted) if halted <= slot) {
            return;
        }
        // So that it does not stop there again after a restart.
        fx.persist(Record::Stable(certificate.clone()));
        self.checkpoints.go_on_from(slot);
        self.healing.end_halt();
        if slot > self.state.slot {
            self.checkpoints.keep_ahead(certificate.clone());
            self.health = Health::Well;
            self.fall_ill(Health::Behind(slot), fx);
        } else {
            self.recover(fx);
        }
    }

    /// A checkpoint is stable. If this replica has executed its slot, it compares; if not, it keeps it until it has.
    pub(crate) fn on_stable(&mut self, certificate: StableCheckpoint, fx: &mut Fx<'_, O, S, R>) {
        let Checkpoint { slot, state } = certificate.statement().clone();
        if slot <= self.checkpoints.stable_slot() {
            return;
        }
        self.end_halt(&certificate, fx);
        if slot > self.state.slot || self.checkpoints.pending.contains_key(&slot) {
            return self.checkpoints.keep_ahead(certificate);
        }
        let Some(own) = self.checkpoints.own.get(&slot).copied() else { return };
        self.checkpoints.forget_up_to(slot);
        if self.checkpoints.own.is_empty() {
            fx.cancel_timer(Timer::Checkpoint);
        }
        // The order goes on whatever this replica's own state is; and after a restart it is compared again.
        fx.persist(Record::Stable(certificate.clone()));
        self.serving.certify(&certificate);
        self.recent.trim(self.serving.oldest().unwrap_or_default());
        self.checkpoints.stable = Some(certificate);
        if own.state == state {
            self.healing.go_right();
            fx.output(Event::Stable(Checkpoint { slot, state }));
            if self.epochs.end() == Some(slot)
                && let Some(certificate) = self.checkpoints.stable.clone()
            {
                self.succeed(certificate, fx);
            }
        } else {
            self.fall_ill(Health::Diverged(slot), fx);
        }
    }

    pub(crate) fn fall_ill(&mut self, health: Health, fx: &mut Fx<'_, O, S, R>) {
        if !matches!(self.health, Health::Well | Health::Behind(_)) {
            return;
        }
        if let Health::Halted(slot) = health
            && self.checkpoints.halted.is_none()
        {
            self.checkpoints.halted = Some(slot);
            fx.persist(Record::Halted(slot));
        }
        self.health = health;
        fx.output(Event::Health(health));
        self.heal(fx);
    }
}
