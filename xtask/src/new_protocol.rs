//! A new protocol's folder: `cargo xtask new-protocol NAME --family ordering`.
//!
//! The templates of a family lie under `xtask/templates/FAMILY`, in the shape of the folder that they become, and are
//! plain files with a few words to be replaced ([`Names::words`]). What they become works: it compiles, keeps the
//! family's contract for the smallest cluster there is, and its tests pass. So a protocol begins as something that can
//! be run, broken and mended, and not as an empty file.
//!
//! Everything is checked before anything is written. [`plan`] gives every file with its whole text, so that tests can
//! judge a rendered tree without one on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use proc_macro2::TokenStream;

use crate::tidy::syntax::{protocol_numbers, words_of};
use crate::tidy::workspace::{files_below, has_extension, read};

mod names;
mod weave;

pub use names::Names;

/// Where the families' templates lie, relative to the workspace.
const TEMPLATES: &str = "xtask/templates";
/// The list of protocols, relative to the workspace.
const CATALOG: &str = "crates/catalog/src/lib.rs";
/// The manifest of the crate that holds the list, relative to the workspace.
const CATALOG_MANIFEST: &str = "crates/catalog/Cargo.toml";
/// The workspace's manifest.
const MANIFEST: &str = "Cargo.toml";

/// Files by path, relative to the workspace, with their whole text.
pub type Files = BTreeMap<String, String>;

/// Makes the folder of a protocol, the catalog's line and the manifests' lines, and returns the paths written.
///
/// # Errors
/// As [`plan`], or a file cannot be written.
pub fn write(root: &Path, name: &str, family: &str) -> Result<Vec<String>, String> {
    let files = plan(root, name, family)?;
    for (path, text) in &files {
        let at = root.join(path);
        let folder = at.parent().unwrap_or(root);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&at, text))
            .map_err(|error| format!("{path}: {error}"))?;
    }
    finish(root, name)?;
    Ok(files.into_keys().collect())
}

/// All that a new protocol adds and changes.
///
/// # Errors
/// The name or the family is refused, with a sentence that says why; a file cannot be read, or has lost the line that
/// the new one belongs behind.
pub fn plan(root: &Path, name: &str, family: &str) -> Result<Files, String> {
    let templates = templates(root, family)?;
    let names = Names::new(name, &taken(root)?, &meanings(&templates))?;
    let words = names.words(free_number(&numbers(root)?)?);
    let mut files = Files::new();
    for (path, text) in templates {
        let rendered = names::render(&text, &words).map_err(|why| format!("{path}: {why}"))?;
        files.insert(format!("protocols/{name}/{path}"), rendered);
    }
    let weaves: [(&str, fn(&str, &Names) -> Result<String, String>); 3] = [
        (CATALOG, weave::catalog),
        (CATALOG_MANIFEST, weave::catalog_manifest),
        (MANIFEST, weave::manifest),
    ];
    for (path, weave) in weaves {
        let text = weave(&read(root, path)?, &names).map_err(|why| format!("{path}: {why}"))?;
        files.insert(path.to_owned(), text);
    }
    Ok(files)
}

/// The families that there are templates for.
///
/// # Errors
/// The folder of templates cannot be read.
pub fn families(root: &Path) -> io::Result<Vec<String>> {
    let mut families = Vec::new();
    for entry in fs::read_dir(root.join(TEMPLATES))? {
        families.push(entry?.file_name().to_string_lossy().into_owned());
    }
    families.sort();
    Ok(families)
}

/// A family's templates by path within the protocol's folder.
fn templates(root: &Path, family: &str) -> Result<Files, String> {
    let families = families(root).map_err(|error| format!("{TEMPLATES}: {error}"))?;
    if !families.iter().any(|known| known == family) {
        let known = families.join(", ");
        return Err(format!("There is no family `{family}`; there is {known}."));
    }
    let base = format!("{TEMPLATES}/{family}");
    let mut files = Files::new();
    for path in files_below(root, &base)? {
        let inside = path[base.len()..].trim_start_matches('/');
        files.insert(inside.to_owned(), read(root, &path)?);
    }
    Ok(files)
}

/// The words that the templates' code uses itself: a protocol of such a name would mean two things at once.
fn meanings(templates: &Files) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for (_, text) in templates.iter().filter(|(path, _)| has_extension(path, "rs")) {
        if let Ok(tokens) = text.parse::<TokenStream>() {
            words_of(tokens, &mut |word, _| {
                words.insert(word.to_string());
            });
        }
    }
    words
}

/// The names that crates of this workspace have already.
fn taken(root: &Path) -> Result<BTreeSet<String>, String> {
    let mut taken = BTreeSet::from(["testudo".to_owned(), "xtask".to_owned()]);
    for folder in ["crates", "protocols"] {
        taken.extend(folders(root, folder)?);
    }
    Ok(taken)
}

/// The numbers that protocols have already, replication among them.
fn numbers(root: &Path) -> Result<BTreeSet<u8>, String> {
    let mut numbers = BTreeSet::new();
    for parent in ["crates", "protocols"] {
        for folder in folders(root, parent)? {
            for path in files_below(root, &format!("{parent}/{folder}/src"))? {
                if let Ok(file) = syn::parse_file(&read(root, &path)?) {
                    numbers.extend(protocol_numbers(&file).into_iter().map(|(number, _)| number));
                }
            }
        }
    }
    Ok(numbers)
}

/// The smallest number that no protocol has. 0 is nobody's, so that a forgotten number is found out.
fn free_number(numbers: &BTreeSet<u8>) -> Result<u8, String> {
    let free = (1..=u8::MAX).find(|number| !numbers.contains(number));
    free.ok_or_else(|| "Every number that a protocol can have is taken.".to_owned())
}

/// Has cargo put the new files into the house's format and the new crate into the lock file: names differ in length
/// and in alphabetical order, so lines break and imports sort differently.
fn finish(root: &Path, name: &str) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let package = format!("testudo-{name}");
    let steps: [&[&str]; 2] =
        [&["update", "--workspace", "--offline", "--quiet"], &["fmt", "--package", &package]];
    for arguments in steps {
        let status = Command::new(&cargo).args(arguments).current_dir(root).status();
        let status = status.map_err(|error| format!("cargo does not start: {error}"))?;
        if !status.success() {
            let command = arguments.join(" ");
            return Err(format!("The files are written, but `cargo {command}` failed: {status}."));
        }
    }
    Ok(())
}

fn folders(root: &Path, parent: &str) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(root.join(parent)).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| format!("{parent}: {error}"))?;
    let folders = entries.into_iter().filter(|entry| entry.path().is_dir());
    Ok(folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}
