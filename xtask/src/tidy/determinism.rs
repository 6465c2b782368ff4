//! Same inputs, same run: what the crates that every driver replays may contain.
//!
//! `no_std` keeps clocks, threads and randomly seeded maps out of reach, and unsafe code could
//! fetch them back. Floats are refused because their rounding may differ between machines, and
//! hashed maps because their order may. Tests are free to use all of these.

use syn::visit::Visit;
use syn::{Attribute, Meta};

use super::syntax::{Product, words_of};
use super::{Finding, Package, Source, Workspace};

/// Crates under `crates/` that are cores, beside every protocol.
const CORES: &[&str] = &["core", "quorum", "contracts", "state", "replication", "wal", "kv"];

const REFUSED: &[(&str, &str)] = &[
    ("HashMap", "Iteration order is part of a run: use BTreeMap."),
    ("HashSet", "Iteration order is part of a run: use BTreeSet."),
    (
        "Instant",
        "A core knows no time but what it is handed: set a timer or ask the effects' clock.",
    ),
    ("SystemTime", "A core knows no time but what it is handed: ask the effects' clock."),
    ("f32", "Floats round differently between machines: use integers."),
    ("f64", "Floats round differently between machines: use integers."),
];

/// Whether a package is one that every driver must be able to replay.
#[must_use]
pub fn is_core(package: &Package) -> bool {
    let listed = |folder: &str| CORES.contains(&folder);
    package.folder.starts_with("protocols/")
        || package.folder.strip_prefix("crates/").is_some_and(listed)
}

/// Holds the sources of every core against the rule.
#[must_use]
pub fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in workspace.packages.iter().filter(|package| is_core(package)) {
        let root = format!("{}/src/lib.rs", package.folder);
        match workspace.source(&root) {
            Some(source) => findings.extend(declarations(source)),
            None => {
                findings.push(Finding::new(&root, 1, "A core crate is a library; it has none."));
            }
        }
        let inside = format!("{}/src/", package.folder);
        for source in &workspace.sources {
            if source.path.starts_with(&inside) {
                findings.extend(refused(source));
            }
        }
    }
    findings
}

fn declarations(source: &Source) -> Vec<Finding> {
    let attributes = &source.tree.attrs;
    let mut findings = Vec::new();
    if !attributes.iter().any(|attribute| attribute.path().is_ident("no_std")) {
        findings.push(Finding::new(&source.path, 1, "A core crate says #![no_std]."));
    }
    if !attributes.iter().any(forbids_unsafe) {
        findings.push(Finding::new(&source.path, 1, "A core crate says #![forbid(unsafe_code)]."));
    }
    findings
}

fn forbids_unsafe(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else { return false };
    let mut named = false;
    words_of(list.tokens.clone(), &mut |word, _| named |= word == "unsafe_code");
    list.path.is_ident("forbid") && named
}

fn refused(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let see = |word: &str, line: usize| {
        let float = word.starts_with(|first: char| first.is_ascii_digit());
        let reason = if float { Some("f64") } else { Some(word) }
            .and_then(|word| REFUSED.iter().find(|(refused, _)| *refused == word));
        if let Some((_, sentence)) = reason {
            findings.push(Finding::new(&source.path, line, format!("{word}: {sentence}")));
        }
    };
    Product { see }.visit_file(&source.tree);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(text: &str) -> Vec<Finding> {
        let path = "crates/core/src/lib.rs";
        let package = Package {
            name: "testudo-core".into(),
            folder: "crates/core".into(),
            ..Package::default()
        };
        let source = Source::parse(path, text).expect("the test's text is Rust");
        check(&Workspace { packages: vec![package], sources: vec![source], ..Workspace::default() })
    }

    const DECLARED: &str = "#![no_std]\n#![forbid(unsafe_code)]\n";

    #[test]
    fn a_core_declares_itself() {
        assert_eq!(core(DECLARED), Vec::new());
        assert_eq!(core("#![forbid(missing_docs)]").len(), 2);
    }

    #[test]
    fn what_differs_between_runs_is_found_in_code_and_macros() {
        let found = core(&format!(
            "{DECLARED}use std::collections::HashMap;\nfn f() {{ assert!(Instant::now() > t); }}\n\
             const HALF: u8 = 0.5;"
        ));
        let lines: Vec<usize> = found.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [3, 4, 5], "{found:#?}");
    }

    #[test]
    fn comments_and_tests_may_speak_of_it() {
        let found = core(&format!(
            "{DECLARED}//! Not a HashMap.\n/// No f64.\nfn f() {{}}\n\
             #[cfg(test)] mod tests {{ use std::collections::HashMap; }}"
        ));
        assert_eq!(found, Vec::new());
    }
}
