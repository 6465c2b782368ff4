//! The rules with one of them broken. Whatever tests the protocol must find out each of these.
#![allow(dead_code, unreachable_pub)]

use std::time::Duration;
use testudo_contracts::Batch;
use testudo_core::Slot;
use testudo_pbft::message::{Message, NewView, Testimony, ViewChange};
use testudo_pbft::safety::{Adopted, Damage, EQUIVOCATION, Loss, Recollection};
use testudo_pbft::{Rules, Standard};
use testudo_quorum::Dissemination;

/// Quorums are one replica short: two of them may share liars only.
#[derive(Clone, Debug)]
pub enum ShortQuorum {}

impl Rules for ShortQuorum {
    fn quorum(system: &Dissemination) -> usize {
        system.quorum() - 1
    }
}

/// A new view takes up no prepared certificate: what was decided may be decided again, otherwise.
#[derive(Clone, Debug)]
pub enum DropsPrepared {}

impl Rules for DropsPrepared {
    fn adopt(system: &Dissemination, changes: &[&ViewChange]) -> Adopted {
        let bare = |change: &&ViewChange| ViewChange { prepared: Vec::new(), ..(*change).clone() };
        let bare: Vec<ViewChange> = changes.iter().map(bare).collect();
        testudo_pbft::Standard::adopt(system, &bare.iter().collect::<Vec<_>>())
    }
}

/// A new view takes up the certificate of the lowest view where there are several.
#[derive(Clone, Debug)]
pub enum LowestView {}

impl Rules for LowestView {
    fn adopt(system: &Dissemination, changes: &[&ViewChange]) -> Adopted {
        let mut adopted = testudo_pbft::Standard::adopt(system, changes);
        for (slot, batch) in &mut adopted.ordered {
            let all = changes.iter().flat_map(|change| &change.prepared);
            let lowest = all.filter(|one| one.slot() == *slot).min_by_key(|one| one.view());
            *batch = lowest.map_or_else(Batch::null, |one| one.batch.clone());
        }
        adopted
    }
}

/// Backups believe what the primary says that follows from the view changes.
#[derive(Clone, Debug)]
pub enum TrustsPrimary {}

impl Rules for TrustsPrimary {
    fn derive(_: &Dissemination, new_view: &NewView) -> Option<Adopted> {
        let highest = new_view.changes.iter().max_by_key(|change| change.statement.base());
        let stable = highest.and_then(|change| change.statement.stable.clone());
        let base = stable.as_ref().map_or(Slot(0), |stable| stable.statement().slot);
        let ordered = new_view.ordered.iter().filter(|(slot, _)| *slot > base).cloned().collect();
        Some(Adopted { stable, ordered })
    }
}

/// A slot counts as decided, and is executed and replied to, as soon as one replica has committed.
#[derive(Clone, Debug)]
pub enum RepliesEarly {}

impl Rules for RepliesEarly {
    fn is_committed(_: &Dissemination, voters: usize) -> bool {
        voters >= 1
    }
}

/// No primary is ever too slow, as long as it orders everything in time.
#[derive(Clone, Debug)]
pub enum BearsEverything {}

impl Rules for BearsEverything {
    fn is_too_slow(_: Duration, _: Duration) -> bool {
        false
    }
}

/// What cannot be read of a log was never written: the damaged end of it is cut off.
#[derive(Clone, Debug)]
pub enum Truncates {}

impl Rules for Truncates {
    fn lost(_: &[Damage], _: &Recollection) -> Loss {
        Loss::default()
    }
}

/// A new view takes "I do not know" for "there was nothing".
#[derive(Clone, Debug)]
pub enum CountsTheLost {}

impl Rules for CountsTheLost {
    fn covers(system: &Dissemination, changes: &[&ViewChange]) -> bool {
        changes.len() >= Self::quorum(system)
    }
}

/// A replica that starts takes part at once.
#[derive(Clone, Debug)]
pub enum AsksNobody {}

impl Rules for AsksNobody {
    fn answers(_: &Dissemination) -> usize {
        1
    }
}

/// A replica that starts asks, and takes part whatever it is told.
#[derive(Clone, Debug)]
pub enum AcceptsOldImages {}

impl Rules for AcceptsOldImages {
    fn knows(_: &Recollection, _: &Testimony) -> bool {
        true
    }
}

/// Whoever says the same vote again is convicted of it.
#[derive(Clone, Debug)]
pub enum BlamesRepetition {}

impl Rules for BlamesRepetition {
    fn convicts(one: &Message, other: &Message) -> Option<&'static str> {
        let repeats = one.vote().is_some() && one == other;
        repeats.then_some(EQUIVOCATION).or_else(|| Standard::convicts(one, other))
    }
}

/// The signatures of f replicas make a checkpoint stable: they may all be liars', or rotten.
#[derive(Clone, Debug)]
pub enum HastyCheckpoints {}

impl Rules for HastyCheckpoints {
    fn checkpoint(system: &Dissemination) -> usize {
        system.f()
    }
}
