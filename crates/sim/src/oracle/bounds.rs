//! What replicas keep in memory stays bounded.
//!
//! How much of each thing there may be is a function of the configuration, and not of how long a run lasts. The bounds are
//! a system's reckoning for its simulation; what is counted are the replicas' own tables.

use crate::workload::Finding;
use std::collections::BTreeMap;

/// A name, how many there are, and how many there may ever be, if anybody has reckoned that.
pub type Table = (&'static str, usize, Option<usize>);

/// The most that there ever was of each thing at any correct replica.
#[derive(Default, Debug)]
pub struct Bounds {
    most: BTreeMap<&'static str, usize>,
    looks: u64,
}

impl Bounds {
    /// A correct replica keeps these. What nobody has reckoned a bound for is not bounded.
    pub fn keeps(&mut self, who: &str, tables: &[Table]) -> Option<Finding> {
        self.looks += 1;
        let mut finding = None;
        for (name, count, bound) in tables {
            let most = self.most.entry(name).or_default();
            *most = (*most).max(*count);
            let what = match bound {
                None => format!("{who} keeps {name}, and nobody has said how many there may be"),
                Some(bound) if count > bound => {
                    format!("{who} keeps {count} {name}, and not {bound} at most")
                }
                Some(_) => continue,
            };
            finding.get_or_insert(("bounded memory", what));
        }
        finding
    }

    /// How often something was looked at.
    #[must_use]
    pub const fn looks(&self) -> u64 {
        self.looks
    }

    /// The most that there ever was of each thing.
    pub fn most(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.most.iter().map(|(name, most)| (*name, *most))
    }
}
