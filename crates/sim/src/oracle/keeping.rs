//! What a log keeps.

use super::{Cast, Oracle};
use crate::atlas::Harm;
use crate::event::{Event, NodeId, Salvage};
use std::collections::{BTreeMap, BTreeSet};

/// How much may be lost of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loss {
    /// Bytes have come to harm since the log was opened last, and nobody has said of how many records.
    Untold,
    /// So many losses were told when it was opened last. What is not there is not there at the next start either, until
    /// the log is let go that far; but no more is lost unless there is harm again.
    Told(u64),
}

/// A log gives back what it was given: whatever stands whole on the disk comes back as it was, nothing comes back that was
/// never written, a loss is told only where there was harm, and a disk that refuses nothing stops nobody.
///
/// Harm excuses what it has caused, and nothing that comes later: once a log was opened it has told all of its losses, and
/// once it was opened on a disk that refuses nothing the next failure is its own.
#[derive(Debug, Default)]
pub struct Keeping {
    /// Nodes whose bytes came to harm, and what of their logs is lost since.
    harmed: BTreeMap<NodeId, Loss>,
    /// Nodes whose disks have refused something, or may.
    refused: BTreeSet<NodeId>,
}

impl Keeping {
    fn opened(&mut self, node: NodeId, salvage: &Salvage) -> Result<(), String> {
        let Salvage { missing, condemned, altered, lost, .. } = *salvage;
        let is_excused = match self.harmed.get(&node) {
            None => lost == 0,
            Some(Loss::Untold) => true,
            Some(Loss::Told(most)) => lost <= *most,
        };
        if lost == 0 {
            self.harmed.remove(&node);
        } else {
            self.harmed.insert(node, Loss::Told(lost));
        }
        if !salvage.may_refuse {
            self.refused.remove(&node);
        }
        if is_excused && missing + condemned + altered == 0 {
            Ok(())
        } else {
            Err(format!("opened its log: {salvage}"))
        }
    }
}

impl Oracle for Keeping {
    fn name(&self) -> &'static str {
        "keeping"
    }

    fn see(&mut self, event: &Event, cast: &Cast) -> Result<(), String> {
        match event {
            Event::Harmed(node, harm) if harm.stops() => {
                self.refused.insert(*node);
            }
            // What stood there is gone, and who writes a part of such a page is refused.
            Event::Harmed(node, Harm::UnreadableSector) => {
                self.refused.insert(*node);
                self.harmed.insert(*node, Loss::Untold);
            }
            Event::Harmed(_, Harm::Memory | Harm::SlowDisk) => {}
            Event::Harmed(node, _) => {
                self.harmed.insert(*node, Loss::Untold);
            }
            Event::Opened(node, salvage) => {
                let found = self.opened(*node, salvage);
                return found.map_err(|what| format!("{} {what}", cast.name(*node)));
            }
            Event::Failed(node, why) if !self.refused.contains(node) => {
                return Err(format!("{}: a sound disk stops it: {why}", cast.name(*node)));
            }
            _ => {}
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.harmed.len() + self.refused.len()
    }
}
