//! What a log keeps.

use super::{Cast, Oracle};
use crate::atlas::Harm;
use crate::event::{Event, NodeId, Salvage};
use std::collections::BTreeSet;

/// A log gives back what it was given: whatever stands whole on the disk comes back as it was, nothing comes back that was
/// never written, a loss is told only where there was harm, and a disk that refuses nothing stops nobody.
#[derive(Debug, Default)]
pub struct Keeping {
    /// Nodes whose bytes came to harm.
    harmed: BTreeSet<NodeId>,
    /// Nodes whose disks have refused something, or may.
    refused: BTreeSet<NodeId>,
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
                self.harmed.insert(*node);
            }
            Event::Harmed(_, Harm::Memory | Harm::SlowDisk) => {}
            Event::Harmed(node, _) => {
                self.harmed.insert(*node);
            }
            Event::Opened(node, salvage) => {
                let Salvage { missing, condemned, altered, lost, .. } = *salvage;
                let is_harmed = self.harmed.contains(node);
                if missing + condemned + altered > 0 || lost > 0 && !is_harmed {
                    return Err(format!("{} opened its log: {salvage}", cast.name(*node)));
                }
            }
            Event::Failed(node, why) if !self.refused.contains(node) => {
                return Err(format!("{}: a sound disk stops it: {why}", cast.name(*node)));
            }
            _ => {}
        }
        Ok(())
    }
}
