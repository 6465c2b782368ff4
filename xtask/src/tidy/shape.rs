//! What every protocol's folder contains.
//!
//! Whoever has read one protocol should find their way in all others: the paper's story in the
//! README, the state and one dispatch function in `lib.rs`, what may be voted for in `safety.rs`,
//! and four kinds of test. A protocol that the catalog does not name is one that nobody can run;
//! two that have one number would take each other's statements for their own.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};
use syn::Item;

use super::syntax::{protocol_numbers, words_of};
use super::{Finding, Package, Workspace};

const FILES: &[&str] = &[
    "src/lib.rs",
    "src/message.rs",
    "src/safety.rs",
    "tests/paper.rs",
    "tests/scripts.rs",
    "tests/conformance.rs",
    "tests/mutants.rs",
];

const HEADINGS: &[&str] = &["Deviations", "Errata"];

const CATALOG: &str = "crates/catalog/src/lib.rs";
const LIST: &str = "for_each_protocol";

/// Holds every folder under `protocols/` against the template.
#[must_use]
pub fn check(workspace: &Workspace) -> Vec<Finding> {
    let protocols = workspace.packages.iter().filter(|package| is_protocol(package));
    let folders = protocols.flat_map(|package| folder(workspace, package));
    folders.chain(shared_numbers(workspace)).collect()
}

/// Finds protocols that are told apart by nothing: branches that begin one each choose the same
/// free number.
fn shared_numbers(workspace: &Workspace) -> Vec<Finding> {
    let mut owners: BTreeMap<u8, &str> = BTreeMap::new();
    let mut findings = Vec::new();
    for source in workspace.sources.iter().filter(|source| !source.is_test()) {
        for (number, line) in protocol_numbers(&source.tree) {
            let owner = *owners.entry(number).or_insert(&source.path);
            if owner != source.path {
                let sentence = format!(
                    "{owner} has given number {number} to its protocol already: take a free one."
                );
                findings.push(Finding::new(&source.path, line, sentence));
            }
        }
    }
    findings
}

fn is_protocol(package: &Package) -> bool {
    package.folder.starts_with("protocols/")
}

fn folder(workspace: &Workspace, package: &Package) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in FILES {
        let path = format!("{}/{file}", package.folder);
        let unparsed = workspace.unparsed.iter().any(|finding| finding.path == path);
        if workspace.source(&path).is_none() && !unparsed {
            findings.push(Finding::new(path, 1, "Every protocol has this file; it is missing."));
        }
    }
    let readme = format!("{}/README.md", package.folder);
    let text = workspace.text(&readme).unwrap_or_default();
    for heading in HEADINGS.iter().filter(|heading| !has_heading(text, heading)) {
        let sentence = format!("Every protocol's README has the heading {heading}; it is missing.");
        findings.push(Finding::new(&readme, 1, sentence));
    }
    if !cataloged(workspace).contains(&package.name.replace('-', "_")) {
        let name = &package.name;
        let sentence = format!("{name} is not named in {LIST}!: nothing can run it.");
        findings.push(Finding::new(CATALOG, 1, sentence));
    }
    findings
}

fn has_heading(text: &str, heading: &str) -> bool {
    text.lines().any(|line| line.starts_with('#') && line.trim_start_matches('#').trim() == heading)
}

/// Every word in the body of the catalog's macro.
fn cataloged(workspace: &Workspace) -> Vec<String> {
    let mut words = Vec::new();
    let items = workspace.source(CATALOG).map_or(&[][..], |source| &source.tree.items);
    for item in items {
        if let Item::Macro(item) = item
            && item.ident.as_ref().is_some_and(|name| name == LIST)
        {
            words_of(bodies(item.mac.tokens.clone()), &mut |word, _| words.push(word.to_string()));
        }
    }
    words
}

/// The right sides of a macro's rules: what it becomes, not what it is called with.
fn bodies(rules: TokenStream) -> TokenStream {
    let mut after_arrow = false;
    let mut bodies = TokenStream::new();
    for token in rules {
        match token {
            TokenTree::Punct(mark) => after_arrow = mark.as_char() == '>',
            TokenTree::Group(group) if after_arrow => bodies.extend(group.stream()),
            _ => {}
        }
    }
    bodies
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;

    fn workspace(readme: &str, catalog: &str) -> Workspace {
        let package = Package {
            name: "testudo-view-stamp".into(),
            folder: "protocols/view-stamp".into(),
            ..Package::default()
        };
        let parse = |path: &str, text| Source::parse(path, text).expect("the test's text is Rust");
        let mut sources: Vec<Source> =
            FILES.iter().map(|file| parse(&format!("{}/{file}", package.folder), "")).collect();
        sources.push(parse(CATALOG, catalog));
        let texts = vec![(format!("{}/README.md", package.folder), readme.to_owned())];
        Workspace { packages: vec![package], sources, texts, ..Workspace::default() }
    }

    const README: &str = "# View stamps\n\n## Deviations\n\n## Errata\n";
    const NAMED: &str = "macro_rules! for_each_protocol {\n\
        ($use:ident) => { $use! { view_stamp: testudo_view_stamp::ViewStamp } };\n}";

    #[test]
    fn a_whole_folder_passes() {
        assert_eq!(check(&workspace(README, NAMED)), Vec::new());
    }

    #[test]
    fn each_missing_part_is_named() {
        let mut lacking = workspace("# View stamps\n\nDeviations: none\n## Errata", "");
        lacking.sources.retain(|source| !source.path.ends_with("safety.rs"));
        let found: Vec<String> = check(&lacking).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].starts_with("protocols/view-stamp/src/safety.rs:1:"));
        assert!(found[1].contains("heading Deviations"));
        assert!(found[2].contains("testudo-view-stamp is not named"));
    }

    #[test]
    fn no_two_protocols_share_a_number() {
        let mut both = workspace(README, NAMED);
        let path = |name: &str| format!("protocols/{name}/src/message.rs");
        both.sources.retain(|source| source.path != path("view-stamp"));
        for (name, text) in [
            ("other", "const OTHER: ProtocolId = ProtocolId(3);"),
            ("view-stamp", "// Later.\nconst VIEW_STAMP: ProtocolId = ProtocolId(3);"),
        ] {
            both.sources.push(Source::parse(&path(name), text).expect("the test's text is Rust"));
        }
        let found: Vec<String> = check(&both).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with("protocols/view-stamp/src/message.rs:2: protocols/other/"));
    }
}
