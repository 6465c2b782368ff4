//! What a disk refuses to do for a while: a flush that fails, no space, no pace. None of it changes what is durable.

use crate::atlas::Harm;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use testudo_wal::{DiskErrorKind, MemoryDisk};

/// Why a disk did not do what it was asked.
pub(crate) type Failure = Rc<str>;

/// What a disk refuses to do now.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// How many changes succeed before one fails.
    fails_after: Option<u64>,
    /// There is no space until then.
    full_until: Option<Duration>,
    /// It takes so many times as long until then.
    slow: Option<(u32, Duration)>,
    /// How often it refused something, and because of what.
    refused: BTreeMap<Harm, u64>,
}

impl Faults {
    /// One of the next changes fails.
    pub(super) fn fail(&mut self, after: u64, bytes: Option<&MemoryDisk>) {
        self.fails_after = Some(after);
        if let Some(bytes) = bytes {
            bytes.fail_after(Some(after));
        }
    }

    /// There is no space until then.
    pub(super) fn fill(&mut self, until: Duration, bytes: Option<&MemoryDisk>) {
        self.full_until = Some(until);
        if let Some(bytes) = bytes {
            bytes.limit(Some(bytes.used()));
        }
    }

    /// It takes so many times as long until then.
    pub(super) fn slow(&mut self, times: u32, until: Duration) {
        self.slow = Some((times, until));
    }

    /// How many times as long as usual it takes now.
    pub(super) fn slowness(&self, now: Duration) -> u32 {
        self.slow.filter(|(_, until)| now < *until).map_or(1, |(times, _)| times)
    }

    /// Time has passed: there may be space again.
    pub(super) fn settle(&mut self, now: Duration, bytes: Option<&MemoryDisk>) {
        if self.full_until.is_some_and(|until| until <= now) {
            self.full_until = None;
            if let Some(bytes) = bytes {
                bytes.limit(None);
            }
        }
    }

    /// Whether it may refuse something at this moment.
    pub(super) fn is_sound(&self, now: Duration) -> bool {
        self.fails_after.is_none() && self.full_until.is_none_or(|until| until <= now)
    }

    /// It refuses nothing any more.
    pub(super) fn end(&mut self, bytes: Option<&MemoryDisk>) {
        *self = Self { refused: std::mem::take(&mut self.refused), ..Self::default() };
        if let Some(bytes) = bytes {
            bytes.limit(None);
            bytes.fail_after(None);
        }
    }

    /// No failure is to come any more.
    pub(super) fn disarm(&mut self) {
        self.fails_after = None;
    }

    /// The bytes have refused something.
    pub(super) fn fired(&mut self, bytes: &MemoryDisk) {
        self.disarm();
        match bytes.take_refusal() {
            Some(DiskErrorKind::Full) => self.note(Harm::FullDisk),
            Some(DiskErrorKind::Failed) => self.note(Harm::FailedFlush),
            _ => {}
        }
    }

    /// How often it refused something because of this.
    pub(super) fn refused(&self, harm: Harm) -> u64 {
        self.refused.get(&harm).copied().unwrap_or_default()
    }

    /// It refuses nothing, but what was refused before is not forgotten.
    pub(super) fn relieved(&self) -> Self {
        Self { refused: self.refused.clone(), ..Self::default() }
    }

    fn note(&mut self, harm: Harm) {
        *self.refused.entry(harm).or_default() += 1;
    }

    /// Whether a change fails where there are no bytes to decide it.
    pub(super) fn refuse(&mut self) -> Result<(), Failure> {
        if self.full_until.is_some() {
            self.note(Harm::FullDisk);
            return Err("disk full".into());
        }
        match self.fails_after {
            Some(0) => {
                self.fails_after = None;
                self.note(Harm::FailedFlush);
                Err("disk failed".into())
            }
            Some(left) => {
                self.fails_after = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }
}
