//! The lines that the rest of the tree needs for a new protocol: one in the catalog, one in its manifest, one in the
//! workspace's. Each goes behind the last of its kind, and everything else stays as it is, byte for byte.

use super::Names;

/// Adds the protocol to the catalog's macro.
///
/// # Errors
/// The catalog has no line of a protocol that the new one could go behind.
pub(super) fn catalog(text: &str, names: &Names) -> Result<String, String> {
    let line = format!("{}: {}::{},", names.snake, names.crate_name(), names.type_name);
    let is_entry = |line: &str| {
        let words: Vec<&str> = line.split("::").collect();
        matches!(words[..], [entry, last] if entry.contains(": testudo_") && last.ends_with(','))
    };
    behind_last(text, &line, is_entry)
}

/// Adds the protocol to what the catalog depends on.
///
/// # Errors
/// The manifest depends on no crate of the workspace, behind which the new one could go.
pub(super) fn catalog_manifest(text: &str, names: &Names) -> Result<String, String> {
    let line = format!("{}.workspace = true", names.package());
    behind_last(text, &line, |line| line.starts_with("testudo-") && line.contains(".workspace"))
}

/// Adds the protocol to what the workspace's crates may depend on.
///
/// # Errors
/// The manifest names no protocol that the new one could go behind.
pub(super) fn manifest(text: &str, names: &Names) -> Result<String, String> {
    let is_protocol =
        |line: &str| line.starts_with("testudo-") && line.contains("path = \"protocols/");
    let last = text.lines().rfind(|line| is_protocol(line)).unwrap_or_default();
    let version = last.split("version = ").nth(1).and_then(|rest| rest.split('"').nth(1));
    let version = version.ok_or("No protocol is listed with its version.")?;
    let (package, name) = (names.package(), &names.name);
    let line = format!("{package} = {{ path = \"protocols/{name}\", version = \"{version}\" }}");
    behind_last(text, &line, is_protocol)
}

/// Puts a line behind the last one that is of its kind, as far in as that one.
fn behind_last(text: &str, line: &str, is_kind: impl Fn(&str) -> bool) -> Result<String, String> {
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.iter().rposition(|line| is_kind(line.trim()));
    let last = last.ok_or_else(|| format!("No line is like `{line}`, to put it behind."))?;
    let indent = &lines[last][..lines[last].len() - lines[last].trim_start().len()];
    let mut woven = String::with_capacity(text.len() + line.len());
    for (index, old) in lines.iter().enumerate() {
        woven.push_str(old);
        woven.push('\n');
        if index == last {
            woven.push_str(indent);
            woven.push_str(line);
            woven.push('\n');
        }
    }
    Ok(woven)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn names() -> Names {
        Names::new("view-stamp", &BTreeSet::new(), &BTreeSet::new()).expect("it is a good name")
    }

    #[test]
    fn the_catalog_gets_a_line_in_its_macro() {
        let before = "//! One line: each.\nmacro_rules! for_each_protocol {\n    ($use:ident) => {\n        \
            $use! {\n            pbft: testudo_pbft::Pbft,\n        }\n    };\n}\nfn f() {}\n";
        let after = catalog(before, &names()).expect("it has a protocol");
        let line = "            view_stamp: testudo_view_stamp::ViewStamp,\n";
        assert_eq!(after.replace(line, ""), before);
        assert!(after.contains(&format!("::Pbft,\n{line}        }}\n")), "{after}");
        assert!(catalog("fn f() {}\n", &names()).is_err());
    }

    #[test]
    fn manifests_get_a_line_each() {
        let before = "[dependencies]\ntestudo-pbft.workspace = true\n\n[lints]\nworkspace = true\n";
        let after = catalog_manifest(before, &names()).expect("it has a dependency");
        let line = "testudo-view-stamp.workspace = true\n";
        assert_eq!(after.replace(line, ""), before);
        assert!(after.contains(&format!("testudo-pbft.workspace = true\n{line}\n[lints]")));
        let before = "[workspace.dependencies]\n\
            testudo-core = { path = \"crates/core\", version = \"0.2.0\" }\n\
            testudo-pbft = { path = \"protocols/pbft\", version = \"0.3.0\" }\n\n# others\n";
        let after = manifest(before, &names()).expect("it has a protocol");
        let line =
            "testudo-view-stamp = { path = \"protocols/view-stamp\", version = \"0.3.0\" }\n";
        assert_eq!(after.replace(line, ""), before);
        assert!(after.ends_with(&format!("{line}\n# others\n")));
        assert!(manifest("[workspace]\n", &names()).is_err());
    }
}
