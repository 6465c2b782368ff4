//! The folder that `cargo xtask new-protocol` writes keeps the rules of the house before anybody has
//! touched it. That it compiles and passes its own tests is seen where it is written.

use std::collections::BTreeSet;
use xtask::new_protocol::{Files, families, plan};
use xtask::tidy::{Finding, Package, Source, Workspace};
use xtask::tidy::{determinism, lengths, reach, shape, words};
use xtask::workspace_root;

const NAME: &str = "rendered-for-a-test";
const FOLDER: &str = "protocols/rendered-for-a-test/";
const CATALOG: &str = "crates/catalog/src/lib.rs";

fn rendered(family: &str) -> Files {
    plan(&workspace_root(), NAME, family).expect("the name and the family are good")
}

/// The rendered files as a workspace with this one protocol. Every Rust file must parse.
fn workspace(files: &Files) -> Workspace {
    let is_rust = |path: &str| path.ends_with(".rs");
    let parse = |(path, text): (&String, &String)| {
        Source::parse(path, text).unwrap_or_else(|finding| panic!("{finding}"))
    };
    let roots = files.keys().filter(|path| {
        let inside = path.trim_start_matches(FOLDER);
        inside == "src/lib.rs" || (inside.starts_with("tests/") && inside.matches('/').count() == 1)
    });
    let package = Package {
        name: format!("testudo-{NAME}"),
        folder: FOLDER.trim_end_matches('/').to_owned(),
        roots: roots.cloned().collect(),
        ..Package::default()
    };
    let others = files.iter().filter(|(path, _)| !is_rust(path));
    Workspace {
        packages: vec![package],
        sources: files.iter().filter(|(path, _)| is_rust(path)).map(parse).collect(),
        texts: others.map(|(path, text)| (path.clone(), text.clone())).collect(),
        ..Workspace::default()
    }
}

#[test]
fn every_family_renders_a_tidy_folder() {
    let families = families(&workspace_root()).expect("the templates are there");
    assert!(families.iter().any(|family| family == "ordering"));
    for family in families {
        let mut workspace = workspace(&rendered(&family));
        let mut findings: Vec<Finding> = shape::check(&workspace);
        findings.extend(determinism::check(&workspace));
        findings.extend(words::check(&workspace));
        workspace.sources.retain(|source| source.path != CATALOG);
        findings.extend(reach::check(&workspace));
        assert_eq!(findings, [], "{family}");
        assert!(lengths::measure(&workspace).is_empty(), "{family} has something too long");
    }
}

#[test]
fn an_ordering_has_all_its_parts() {
    let files = rendered("ordering");
    for path in [
        "Cargo.toml",
        "README.md",
        "src/client.rs",
        "src/lib.rs",
        "src/message.rs",
        "src/normal.rs",
        "src/safety.rs",
        "src/view_change.rs",
        "tests/conformance.rs",
        "tests/mutants.rs",
        "tests/paper.rs",
        "tests/scripts.rs",
    ] {
        assert!(files.contains_key(&format!("{FOLDER}{path}")), "{path} is missing");
    }
    assert!(files[CATALOG].contains("rendered_for_a_test: testudo_rendered_for_a_test::"));
    assert!(files["Cargo.toml"].contains("testudo-rendered-for-a-test = { path = "));
    assert!(files["crates/catalog/Cargo.toml"].contains("testudo-rendered-for-a-test.workspace"));
}

#[test]
fn nothing_existing_is_written_over() {
    let root = workspace_root();
    let files = rendered("ordering");
    let existing: BTreeSet<&str> =
        files.keys().map(String::as_str).filter(|path| root.join(path).exists()).collect();
    let woven = BTreeSet::from([CATALOG, "crates/catalog/Cargo.toml", "Cargo.toml"]);
    assert_eq!(existing, woven);
    for name in ["pbft", "core", "testudo", "match", "message", "Pbft", "../pbft"] {
        assert!(plan(&root, name, "ordering").is_err(), "{name}");
    }
    let refusal = plan(&root, NAME, "no-such-family").expect_err("there is none");
    assert!(refusal.contains("ordering"), "{refusal}");
}
