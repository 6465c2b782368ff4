//! Source files that nothing compiles.
//!
//! From the root of every target the declarations of modules are followed; what is not reached
//! is dead, however well it reads.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};
use syn::{Expr, ExprLit, ItemMod, Lit, Meta};

use super::{Finding, Source, Workspace};

/// Finds the files that no target reaches.
#[must_use]
pub fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<(String, bool)> = Vec::new();
    for root in workspace.packages.iter().flat_map(|package| &package.roots) {
        open.push((root.clone(), true));
    }
    while let Some((path, is_root)) = open.pop() {
        let Some(source) = workspace.source(&path) else { continue };
        if reached.insert(path) {
            open.extend(declared(source, is_root));
        }
    }
    let dead = workspace.sources.iter().filter(|source| !reached.contains(&source.path));
    dead.map(|source| {
        let sentence = "No module declaration leads here: declare this file or delete it.";
        Finding::new(&source.path, 1, sentence)
    })
    .collect()
}

/// The files that a file's declarations may mean. Of `name.rs` and `name/mod.rs` one exists.
fn declared(source: &Source, is_root: bool) -> Vec<(String, bool)> {
    let (folder, name) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let stem = name.trim_end_matches(".rs");
    let base =
        if is_root || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
    let mut declarations = Declarations { folder: folder.to_owned(), base, found: Vec::new() };
    declarations.visit_file(&source.tree);
    declarations.found
}

struct Declarations {
    /// Where the file itself lies: what `#[path]` and `include!` start from.
    folder: String,
    /// Where the files of its modules lie.
    base: String,
    found: Vec<(String, bool)>,
}

impl<'ast> Visit<'ast> for Declarations {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let name = item.ident.to_string();
        let name = name.trim_start_matches("r#");
        if item.content.is_some() {
            let outer = self.base.clone();
            self.base = format!("{outer}/{name}");
            visit::visit_item_mod(self, item);
            self.base = outer;
        } else if let Some(path) = stated_path(item) {
            // A file named by its path has its modules beside it, as a root has.
            self.found.push((join(&self.folder, &path), true));
        } else {
            self.found.push((format!("{}/{name}.rs", self.base), false));
            self.found.push((format!("{}/{name}/mod.rs", self.base), false));
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if call.path.is_ident("include")
            && let Ok(path) = call.parse_body::<syn::LitStr>()
        {
            self.found.push((join(&self.folder, &path.value()), true));
        }
    }
}

fn stated_path(item: &ItemMod) -> Option<String> {
    item.attrs.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(path), .. }) => Some(path.value()),
            _ => None,
        },
        _ => None,
    })
}

/// Joins and takes out `.` and `..`.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::Package;
    use super::*;

    fn dead(roots: &[&str], files: &[(&str, &str)]) -> Vec<String> {
        let roots = roots.iter().map(|root| (*root).to_owned()).collect();
        let package = Package { folder: "a".into(), roots, ..Package::default() };
        let parse = |(path, text): &(&str, &str)| Source::parse(path, text).expect("valid Rust");
        let sources = files.iter().map(parse).collect();
        let workspace = Workspace { packages: vec![package], sources, ..Workspace::default() };
        check(&workspace).into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn modules_are_followed_in_both_layouts() {
        let files = [
            ("a/src/lib.rs", "mod new; pub mod old; mod inline { mod deep; }"),
            ("a/src/new.rs", "mod child;"),
            ("a/src/new/child.rs", ""),
            ("a/src/old/mod.rs", "mod child;"),
            ("a/src/old/child.rs", ""),
            ("a/src/inline/deep.rs", ""),
            ("a/src/forgotten.rs", "mod also;"),
            ("a/src/forgotten/also.rs", ""),
        ];
        let found = dead(&["a/src/lib.rs"], &files);
        assert_eq!(found, ["a/src/forgotten.rs", "a/src/forgotten/also.rs"]);
    }

    #[test]
    fn paths_and_includes_are_followed() {
        let files = [
            ("a/tests/x.rs", "#[path = \"../shared/y.rs\"] mod y; mod common;"),
            ("a/shared/y.rs", "mod z;"),
            ("a/shared/z.rs", "include!(\"part.rs\");"),
            ("a/shared/part.rs", ""),
            ("a/tests/common/mod.rs", ""),
        ];
        assert!(dead(&["a/tests/x.rs"], &files).is_empty());
    }
}
