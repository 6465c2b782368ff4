//! Which crate may depend on which.
//!
//! The arrows run from what users touch down to the seam, and protocols see the seam only. Tests
//! may reach up (a protocol's tests need the simulator), so dev-dependencies are free; cargo
//! itself refuses a cycle of the others.

use super::{Finding, Package, Workspace};

/// A crate under `crates/` and what it may depend on, both without the `testudo-` before them.
/// `*` stands for every protocol.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("quorum", &["core"]),
    ("contracts", &["core", "quorum"]),
    ("state", &["core", "contracts"]),
    ("replication", &["core", "quorum", "contracts", "state"]),
    ("wal", &["core"]),
    ("kv", &["core", "contracts", "state"]),
    ("keys", &["core"]),
    ("sim", &["core", "quorum", "contracts", "state", "replication", "keys", "wal"]),
    ("lab", &["core", "contracts", "state", "replication", "kv", "sim"]),
    ("runtime", &["core", "quorum", "contracts", "state", "replication", "keys", "wal"]),
    ("client", &["core", "quorum", "contracts", "state", "replication", "keys", "wal", "runtime"]),
    (
        "etcd",
        &[
            "core",
            "quorum",
            "contracts",
            "state",
            "replication",
            "keys",
            "wal",
            "runtime",
            "kv",
            "client",
        ],
    ),
    ("plan", &["core", "quorum", "contracts"]),
    ("catalog", &["core", "quorum", "contracts", "*"]),
];

/// What a protocol may depend on, of ours and of others.
const PROTOCOL: &[&str] = &["testudo-core", "testudo-quorum", "testudo-contracts"];

/// Holds every manifest against the arrows.
#[must_use]
pub fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let manifest = format!("{}/Cargo.toml", package.folder);
        let text = workspace.text(&manifest).unwrap_or_default();
        if let Some(sentence) = naming(package) {
            findings.push(Finding::new(&manifest, line_of(text, "name"), sentence));
        }
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.dev) {
            if let Some(sentence) = refusal(workspace, package, &dependency.name) {
                let line = line_of(text, &dependency.name);
                findings.push(Finding::new(&manifest, line, sentence));
            }
        }
        if let Some(script) = &package.build_script {
            let sentence =
                "Generated code is committed by `cargo xtask codegen`; there are no build scripts.";
            findings.push(Finding::new(script, 1, sentence));
        }
    }
    if workspace.default_members.iter().any(|folder| folder == "xtask") {
        let sentence = "The project's tools are heavy: keep xtask out of default-members.";
        findings.push(Finding::new("Cargo.toml", 1, sentence));
    }
    findings
}

/// Why a dependency is refused, if it is.
fn refusal(workspace: &Workspace, package: &Package, dependency: &str) -> Option<String> {
    let name = &package.name;
    let target = workspace.packages.iter().find(|package| package.name == dependency);
    if package.folder.starts_with("protocols/") {
        let allowed = PROTOCOL.contains(&dependency);
        let sentence = format!(
            "A protocol stands on core, quorum and contracts only, so {name} may not depend on {dependency}."
        );
        return (!allowed).then_some(sentence);
    }
    let target = target?;
    if target.name == "xtask" || name == "xtask" {
        return Some(format!(
            "Tools and product stay apart: {name} may not depend on {dependency}."
        ));
    }
    if name == "testudo" {
        return None;
    }
    let short = name.trim_start_matches("testudo-");
    let (_, allowed) = ARROWS.iter().find(|(from, _)| *from == short)?;
    let protocol = target.folder.starts_with("protocols/") && allowed.contains(&"*");
    let wanted = dependency.trim_start_matches("testudo-");
    let sentence =
        format!("There is no arrow from {name} to {dependency}; see the design's layers.");
    (!protocol && !allowed.contains(&wanted)).then_some(sentence)
}

/// What is wrong with a package's name and place.
fn naming(package: &Package) -> Option<String> {
    let (parent, folder) = package.folder.rsplit_once('/').unwrap_or(("", &package.folder));
    let name = package.name.as_str();
    if ["xtask", "testudo"].contains(&name) && folder == name {
        return None;
    }
    if name.strip_prefix("testudo-") != Some(folder) {
        return Some(format!("The crate in {} is to be named testudo-{folder}.", package.folder));
    }
    let known = parent == "protocols" || ARROWS.iter().any(|(from, _)| *from == folder);
    let sentence = format!(
        "{name} has no place in the layers: say in xtask/src/tidy/arrows.rs what it may depend on."
    );
    (!known).then_some(sentence)
}

/// The line on which a manifest begins to speak of a name; the first if none does.
fn line_of(manifest: &str, name: &str) -> usize {
    let starts = |line: &str| {
        line.trim_start().strip_prefix(name).is_some_and(|rest| {
            rest.starts_with(|next: char| next == '.' || next == '=' || next.is_whitespace())
        })
    };
    manifest.lines().position(starts).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::super::Dependency;
    use super::*;

    fn package(folder: &str, name: &str, needs: &[&str]) -> Package {
        let needs = needs.iter().map(|name| Dependency { name: (*name).into(), dev: false });
        Package {
            name: name.into(),
            folder: folder.into(),
            dependencies: needs.collect(),
            ..Package::default()
        }
    }

    fn sentences(packages: Vec<Package>) -> Vec<String> {
        let workspace = Workspace { packages, ..Workspace::default() };
        check(&workspace).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn the_drawn_arrows_are_allowed() {
        let found = sentences(vec![
            package("crates/core", "testudo-core", &["sha2"]),
            package("crates/quorum", "testudo-quorum", &["testudo-core"]),
            package("protocols/pbft", "testudo-pbft", &["testudo-core", "testudo-quorum"]),
            package("crates/catalog", "testudo-catalog", &["testudo-pbft", "testudo-core"]),
            package("crates/testudo", "testudo", &["testudo-catalog", "testudo-pbft"]),
            package("xtask", "xtask", &["syn"]),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn arrows_up_and_sideways_are_refused() {
        let found = sentences(vec![
            package("crates/core", "testudo-core", &["testudo-quorum"]),
            package("crates/quorum", "testudo-quorum", &[]),
            package("crates/wal", "testudo-wal", &["testudo-quorum"]),
            package("protocols/pbft", "testudo-pbft", &["rand"]),
            package("xtask", "xtask", &["testudo-core"]),
        ]);
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found[0].contains("from testudo-core to testudo-quorum"));
        assert!(found[2].contains("testudo-pbft may not depend on rand"));
    }

    #[test]
    fn dev_dependencies_may_reach_up() {
        let mut wal = package("crates/wal", "testudo-wal", &[]);
        wal.dependencies.push(Dependency { name: "testudo-sim".into(), dev: true });
        assert!(sentences(vec![wal, package("crates/sim", "testudo-sim", &[])]).is_empty());
    }

    #[test]
    fn a_crate_without_a_place_is_named() {
        let found = sentences(vec![
            package("crates/extra", "testudo-extra", &[]),
            package("crates/kv", "kv", &[]),
        ]);
        assert!(found[0].contains("has no place in the layers"), "{found:?}");
        assert!(found[1].contains("is to be named testudo-kv"), "{found:?}");
    }

    #[test]
    fn build_scripts_and_heavy_defaults_are_refused() {
        let mut core = package("crates/core", "testudo-core", &[]);
        core.build_script = Some("crates/core/build.rs".into());
        let workspace = Workspace {
            packages: vec![core],
            default_members: vec!["xtask".into()],
            ..Workspace::default()
        };
        assert_eq!(check(&workspace).len(), 2);
    }

    #[test]
    fn a_finding_points_at_the_manifests_line() {
        let manifest =
            "[dependencies]\ntestudo-core-extra = \"1\"\ntestudo-core.workspace = true\n";
        assert_eq!(line_of(manifest, "testudo-core"), 3);
        assert_eq!(line_of(manifest, "absent"), 1);
    }
}
