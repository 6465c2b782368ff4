//! What a replica executed last and whom it holds evidence against, kept for those who ask.

use super::notices;
use crate::logging::NOTICE;
use crate::status::claim::{self, Caught, EXECUTED, Healed, Shown, at};
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use testudo_core::{Digest, Incarnation};
use testudo_replication::Event;
use testudo_runtime::{EVIDENCE_FOLDER, read_evidence};

/// A replica's recent past.
pub(super) struct History {
    evidence: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    executed: VecDeque<(u64, Digest, Digest)>,
    caught: BTreeSet<Caught>,
    healed: Option<Healed>,
    /// How often each replica had come back when the last epoch began.
    incarnations: Vec<Incarnation>,
    /// When the folder of evidence had changed last, as far as it was read.
    read: Option<SystemTime>,
}

impl History {
    /// The past of a replica with that data folder.
    pub(super) fn open(data: &Path) -> Self {
        Self { evidence: data.join(EVIDENCE_FOLDER), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the replica tells.
    pub(super) fn take(&self, event: Event) {
        match event {
            Event::Executed { slot, chain, outcome, .. } => {
                let mut inner = self.lock();
                // A replica that restarts executes its past again.
                while inner.executed.back().is_some_and(|(last, ..)| *last >= slot.0) {
                    inner.executed.pop_back();
                }
                if inner.executed.len() == EXECUTED {
                    inner.executed.pop_front();
                }
                inner.executed.push_back((slot.0, chain, outcome));
            }
            // What it had executed before may have been wrong.
            Event::Restored(_) => self.lock().executed.clear(),
            Event::Healed { slot, fetched, differing } => {
                notices::healed(slot, fetched, differing.as_ref());
                let mut inner = self.lock();
                let times = inner.healed.as_ref().map_or(0, |healed| healed.times) + 1;
                inner.healed = Some(Healed {
                    times,
                    slot: slot.0,
                    fetched_bytes: fetched.bytes,
                    differing: differing.as_ref().map(|it| it.entries),
                    first: differing.map(|it| it.to_string()),
                });
            }
            Event::Halted(halt) => notices::halted(&halt),
            Event::Health(health) => notices::health(health),
            Event::Epoch { epoch, incarnations } => {
                let mut inner = self.lock();
                notices::epoch(epoch, &inner.incarnations, &incarnations);
                inner.incarnations = incarnations;
            }
            Event::Comeback(comeback) => {
                let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let now = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                notices::comeback(comeback, &claim::Comeback::from(comeback).words(now));
            }
            other => tracing::debug!(?other, "event"),
        }
    }

    /// What was executed last, who was caught, and how it healed.
    pub(super) fn show(&self) -> Shown {
        let mut inner = self.lock();
        self.read_evidence(&mut inner);
        let executed =
            inner.executed.iter().map(|(slot, chain, outcome)| at(*slot, chain, outcome));
        Shown {
            executed: executed.collect(),
            caught: inner.caught.iter().cloned().collect(),
            healed: inner.healed.clone(),
        }
    }

    /// How often it has healed since its process began.
    pub(super) fn healings(&self) -> u64 {
        self.lock().healed.as_ref().map_or(0, |healed| healed.times)
    }

    /// How many sets of evidence are held, and against how many replicas.
    pub(super) fn evidence(&self) -> (u64, u64) {
        let mut inner = self.lock();
        self.read_evidence(&mut inner);
        let accused: BTreeSet<u16> = inner.caught.iter().map(|caught| caught.accused).collect();
        (inner.caught.len() as u64, accused.len() as u64)
    }

    /// Reads the folder of evidence again if it has changed. There are a few files in it at most.
    fn read_evidence(&self, inner: &mut Inner) {
        let changed = std::fs::metadata(&self.evidence).and_then(|it| it.modified()).ok();
        if changed.is_none() || changed == inner.read {
            return;
        }
        inner.read = changed;
        let Ok(entries) = std::fs::read_dir(&self.evidence) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|kind| kind != "evidence") {
                continue;
            }
            match read_evidence(&path) {
                Ok(kept) => {
                    inner.caught.insert(Caught::by(&kept));
                }
                Err(error) => {
                    tracing::warn!(target: NOTICE, "cannot read {}: {error}", path.display());
                }
            }
        }
    }
}
