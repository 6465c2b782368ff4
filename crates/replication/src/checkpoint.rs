//! Checkpoints: every so often each replica signs the digest of all its state.
//!
//! A digest that a quorum has signed is stable: it moves the ordering's window, and whoever's own digest differs knows
//! that it has diverged. A stable checkpoint is used only after the replica itself has executed its slot.

use crate::message::ReplicaMessage;
use crate::record::{Record, Timer};
use crate::replica::{Fx, Replica};
use crate::status::{Event, Health};
use alloc::collections::BTreeMap;
use testudo_contracts::{Checkpoint, Ordering, Service, StableCheckpoint};
use testudo_core::{Digest, Peer, ReplicaId, Slot, Verified};

/// What is known of checkpoints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoints {
    /// The last stable one that this replica has executed.
    stable: Option<StableCheckpoint>,
    /// What the ordering has been told of. Invariant: at most the stable one's slot.
    told: Slot,
    /// A stable one ahead of what this replica has executed, the highest known.
    ahead: Option<StableCheckpoint>,
    /// What this replica has signed and is not stable, by slot.
    own: BTreeMap<Slot, Digest>,
    /// Signatures that came in, one for each replica and slot, for slots above the stable one.
    votes: BTreeMap<Slot, BTreeMap<ReplicaId, (Digest, Vote)>>,
}

type Vote = StableCheckpoint;

impl Checkpoints {
    /// The log says that this was signed.
    pub(crate) fn said(&mut self, checkpoint: &Checkpoint) {
        self.own.insert(checkpoint.slot, checkpoint.state);
    }

    /// The log says that this was stable.
    pub(crate) fn stable_before(&mut self, certificate: StableCheckpoint) {
        self.ahead = Some(certificate);
    }

    /// The last stable one that this replica has executed.
    pub(crate) fn latest(&self) -> Option<&Checkpoint> {
        self.stable.as_ref().map(StableCheckpoint::statement)
    }

    fn stable_slot(&self) -> Slot {
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
}

impl<O: Ordering, S: Service> Replica<O, S> {
    /// After a slot has executed: if a checkpoint is due there, its digest is computed, and signed if it never was.
    pub(crate) fn checkpoint_if_due(&mut self, fx: &mut Fx<'_, O, S>) {
        let slot = self.state.slot;
        if !slot.0.is_multiple_of(self.config.checkpoint_interval.max(1)) {
            return;
        }
        // While the past is executed again only what may still be compared is worth hashing.
        let ahead = self.checkpoints.ahead.as_ref().map(|certificate| certificate.statement().slot);
        if ahead.is_some_and(|ahead| slot < ahead) {
            self.checkpoints.own.remove(&slot);
            return;
        }
        let state = self.state.digest();
        match self.checkpoints.own.get(&slot) {
            Some(said) if *said == state => self.say_checkpoint_again(fx),
            // What the log says was signed is not what the state is now. It is not signed a second time.
            Some(_) => return self.fall_ill(Health::Diverged(slot), fx),
            None if self.health == Health::Well && ahead != Some(slot) => {
                let checkpoint = Checkpoint { slot, state };
                self.checkpoints.said(&checkpoint);
                fx.persist(Record::Checkpointed(checkpoint.clone()));
                fx.send(testudo_core::Target::Replicas, ReplicaMessage::Checkpoint(checkpoint));
                fx.set_timer(Timer::Checkpoint, self.config.resend * 4);
            }
            None => self.checkpoints.said(&Checkpoint { slot, state }),
        }
        if let Some(certificate) = self.checkpoints.ahead.clone() {
            self.on_stable(certificate, fx);
        }
        self.count(slot, fx);
    }

    /// Says the newest checkpoint again while it is not stable: the others may not have heard.
    pub(crate) fn say_checkpoint_again(&mut self, fx: &mut Fx<'_, O, S>) {
        let Some((slot, state)) = self.checkpoints.own.last_key_value() else { return };
        if self.health == Health::Well {
            let checkpoint = Checkpoint { slot: *slot, state: *state };
            fx.send(testudo_core::Target::Replicas, ReplicaMessage::Checkpoint(checkpoint));
            fx.set_timer(Timer::Checkpoint, self.config.resend * 4);
        }
    }

    /// A replica has signed a digest.
    pub(crate) fn on_checkpoint(
        &mut self,
        vote: &Verified<ReplicaMessage<O::Message>>,
        fx: &mut Fx<'_, O, S>,
    ) {
        let (ReplicaMessage::Checkpoint(checkpoint), Some(voter)) =
            (vote.message(), vote.replica())
        else {
            return;
        };
        let (slot, interval) = (checkpoint.slot, self.config.checkpoint_interval.max(1));
        if slot <= self.checkpoints.stable_slot() {
            if let Some(stable) = self.checkpoints.stable.clone().filter(|_| voter != self.me) {
                // EAGER: the certificate proves itself.
                fx.send_eager(Peer::Replica(voter), ReplicaMessage::Stable(stable));
            }
            return;
        }
        let horizon = self.state.slot.0.saturating_add(self.config.window).saturating_add(interval);
        if !slot.0.is_multiple_of(interval) || slot.0 > horizon {
            return;
        }
        let mut signed = StableCheckpoint::new(checkpoint.clone());
        if signed.add(vote) {
            // The first word counts; a correct replica never has another.
            let votes = self.checkpoints.votes.entry(slot).or_default();
            votes.entry(voter).or_insert((checkpoint.state, signed));
            self.count(slot, fx);
        }
    }

    /// Whether a digest of this slot has a quorum now, or can have none any more.
    fn count(&mut self, slot: Slot, fx: &mut Fx<'_, O, S>) {
        let Some(votes) = self.checkpoints.votes.get(&slot) else { return };
        let mut tally: BTreeMap<Digest, StableCheckpoint> = BTreeMap::new();
        for (state, vote) in votes.values() {
            tally
                .entry(*state)
                .or_insert_with(|| StableCheckpoint::new(Checkpoint { slot, state: *state }))
                .join(vote);
        }
        let most = tally.values().map(StableCheckpoint::len).max().unwrap_or(0);
        let silent = self.config.membership.n() - votes.len();
        let quorum = self.quorums.quorum();
        if let Some(certificate) = tally.into_values().find(|c| c.len() >= quorum) {
            self.on_stable(certificate, fx);
        } else if most + silent < quorum && self.state.slot >= slot {
            self.fall_ill(Health::Halted(slot), fx);
        }
    }

    /// A checkpoint is stable. If this replica has executed its slot, it compares; if not, it keeps it until it has.
    pub(crate) fn on_stable(&mut self, certificate: StableCheckpoint, fx: &mut Fx<'_, O, S>) {
        let Checkpoint { slot, state } = certificate.statement().clone();
        if slot <= self.checkpoints.stable_slot() {
            return;
        }
        let Some(own) = self.checkpoints.own.get(&slot).copied() else {
            let known = self.checkpoints.ahead.as_ref().map(|ahead| ahead.statement().slot);
            if slot > self.state.slot && known.is_none_or(|known| known < slot) {
                self.checkpoints.ahead = Some(certificate);
            }
            return;
        };
        if self.state.slot < slot {
            self.checkpoints.ahead = Some(certificate);
            return;
        }
        if own != state {
            return self.fall_ill(Health::Diverged(slot), fx);
        }
        let above = slot.next();
        self.checkpoints.own = self.checkpoints.own.split_off(&above);
        self.checkpoints.votes = self.checkpoints.votes.split_off(&above);
        if self.checkpoints.ahead.as_ref().is_some_and(|ahead| ahead.statement().slot <= slot) {
            self.checkpoints.ahead = None;
        }
        if self.checkpoints.own.is_empty() {
            fx.cancel_timer(Timer::Checkpoint);
        }
        fx.persist(Record::Stable(certificate.clone()));
        fx.output(Event::Stable(certificate.statement().clone()));
        self.checkpoints.stable = Some(certificate);
    }

    /// The stable checkpoint that the ordering is to be told of.
    pub(crate) fn next_stable(&mut self, _: &mut Fx<'_, O, S>) -> Option<StableCheckpoint> {
        self.checkpoints.next_stable(self.state.slot)
    }

    fn fall_ill(&mut self, health: Health, fx: &mut Fx<'_, O, S>) {
        if self.health == Health::Well {
            self.health = health;
            fx.output(Event::Health(health));
        }
    }
}
