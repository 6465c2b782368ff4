//! The rules of the house that no compiler holds.
//!
//! Each rule is a pure function from the [`Workspace`], read once, to its findings:
//!
//! - [`arrows`]: which crate may depend on which. The layers are the design; an arrow that points
//!   the wrong way undoes it quietly.
//! - [`decoders`]: whatever reads bytes that somebody else may have written is tried on any.
//! - [`determinism`]: the crates that every driver must be able to replay are `no_std`, forbid
//!   unsafe code, and use nothing whose order or value differs between two runs.
//! - [`lengths`] with [`ratchet`]: files and functions stay readable. Today's exceptions are
//!   listed by name and may only shrink.
//! - [`reach`]: no source file lies about that nothing compiles.
//! - [`words`]: nothing unfinished is committed.
//! - [`shape`]: every protocol's folder has the same parts, so that whoever knows one finds their
//!   way in all, and is named in the catalog.
//!
//! A finding is one line, `path:line: sentence`, and the sentence says what to do.

use std::fmt;
use std::path::Path;

pub mod arrows;
pub mod decoders;
pub mod determinism;
pub mod lengths;
pub mod ratchet;
pub mod reach;
pub mod shape;
pub mod syntax;
pub mod words;
pub mod workspace;

pub use workspace::{Dependency, Package, Source, Workspace};

/// One breach of one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the workspace.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what mends it, as a sentence.
    pub sentence: String,
}

impl Finding {
    /// A finding at a place.
    pub fn new(path: impl Into<String>, line: usize, sentence: impl Into<String>) -> Self {
        Self { path: path.into(), line, sentence: sentence.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path, self.line, self.sentence)
    }
}

/// Holds every rule against the tree at `root` and returns the findings in order of place.
///
/// # Errors
/// The tree cannot be judged at all: cargo does not understand it, or a file cannot be read.
pub fn check(root: &Path) -> Result<Vec<Finding>, String> {
    let workspace = Workspace::read(root)?;
    let exceptions = ratchet::read(root)?;
    let mut findings = workspace.unparsed.clone();
    findings.extend(arrows::check(&workspace));
    findings.extend(decoders::check(&workspace));
    findings.extend(determinism::check(&workspace));
    findings.extend(ratchet::check(&exceptions, &lengths::measure(&workspace)));
    findings.extend(reach::check(&workspace));
    findings.extend(words::check(&workspace));
    findings.extend(shape::check(&workspace));
    findings.sort();
    findings.dedup();
    Ok(findings)
}

/// Lowers the ratchet to what the tree measures today, and returns how many lines changed. It
/// never adds an exception and never raises one.
///
/// # Errors
/// As [`check`], or the list cannot be written.
pub fn tighten(root: &Path) -> Result<usize, String> {
    let workspace = Workspace::read(root)?;
    let before = ratchet::read(root)?;
    let after = ratchet::tightened(&before, &lengths::measure(&workspace));
    let changed = before.iter().filter(|(place, length)| after.get(place) != Some(length)).count();
    if changed > 0 {
        ratchet::write(root, &after)?;
    }
    Ok(changed)
}
