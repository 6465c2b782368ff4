//! The list of what is longer than it should be, which may only shrink.
//!
//! Each line of `xtask/ratchet.txt` names a file or a function and its length on the day it was
//! written down. Growth, a new exception and an outdated line are findings; `cargo xtask tidy
//! --tighten` writes down what has become shorter, and nothing else. A new line is added by hand,
//! where a reviewer sees it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Finding;
use super::lengths::{Length, Place};

/// The list, relative to the workspace.
const LIST: &str = "xtask/ratchet.txt";

const PREAMBLE: &str = "\
# What is longer than it should be, and how long it was when last looked at. Lines may only shrink
# or go: `cargo xtask tidy --tighten` sees to both. One exception a line:
#
#   path file LINES
#   path fn:NAME LINES
";

/// The listed lengths.
pub type Exceptions = BTreeMap<Place, usize>;

/// Reads the list; no file is an empty list.
///
/// # Errors
/// A line is not of the form that the list's head shows.
pub fn read(root: &Path) -> Result<Exceptions, String> {
    match fs::read_to_string(root.join(LIST)) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Exceptions::new()),
        Err(error) => Err(format!("{LIST}: {error}")),
    }
}

/// Writes the list, head and all.
///
/// # Errors
/// The file cannot be written.
pub fn write(root: &Path, exceptions: &Exceptions) -> Result<(), String> {
    let mut text = PREAMBLE.to_owned();
    for (place, length) in exceptions {
        text.push_str(&entry(place, *length));
        text.push('\n');
    }
    fs::write(root.join(LIST), text).map_err(|error| format!("{LIST}: {error}"))
}

fn parse(text: &str) -> Result<Exceptions, String> {
    let mut exceptions = Exceptions::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let parsed = match words.as_slice() {
            [path, "file", length] => Some((*path, None, *length)),
            [path, function, length] => {
                function.strip_prefix("fn:").map(|name| (*path, Some(name.to_owned()), *length))
            }
            _ => None,
        };
        let parsed = parsed
            .and_then(|(path, function, length)| Some((path, function, length.parse().ok()?)));
        let Some((path, function, length)) = parsed else {
            return Err(format!("{LIST}:{}: This is not `path kind lines`: {line}", index + 1));
        };
        exceptions.insert(Place { path: path.to_owned(), function }, length);
    }
    Ok(exceptions)
}

fn entry(place: &Place, length: usize) -> String {
    match &place.function {
        Some(name) => format!("{} fn:{name} {length}", place.path),
        None => format!("{} file {length}", place.path),
    }
}

fn described(place: &Place) -> String {
    place
        .function
        .as_ref()
        .map_or_else(|| "This file".to_owned(), |name| format!("Function {name}"))
}

/// Holds what was measured against what is listed.
#[must_use]
pub fn check(exceptions: &Exceptions, measured: &BTreeMap<Place, Length>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (place, length) in measured {
        let Length { lines, limit, at } = *length;
        let what = described(place);
        let sentence = match exceptions.get(place) {
            None => format!("{what} has {lines} lines, the limit is {limit}: divide it."),
            Some(listed) if *listed < lines => {
                format!("{what} has grown from {listed} lines to {lines}: it may only shrink.")
            }
            Some(listed) if *listed > lines => {
                format!(
                    "{what} has shrunk from {listed} lines to {lines}: run `cargo xtask tidy --tighten`."
                )
            }
            Some(_) => continue,
        };
        findings.push(Finding::new(&place.path, at, sentence));
    }
    for place in exceptions.keys().filter(|place| !measured.contains_key(place)) {
        let what = described(place);
        let sentence =
            format!("{what} is no exception any more: run `cargo xtask tidy --tighten`.");
        findings.push(Finding::new(&place.path, 1, sentence));
    }
    findings
}

/// The list with every length lowered to what was measured, and without what is none any more.
#[must_use]
pub fn tightened(exceptions: &Exceptions, measured: &BTreeMap<Place, Length>) -> Exceptions {
    let lowered = |(place, listed): (&Place, &usize)| {
        let length = measured.get(place)?;
        Some((place.clone(), length.lines.min(*listed)))
    };
    exceptions.iter().filter_map(lowered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(function: Option<&str>) -> Place {
        Place { path: "a/src/x.rs".into(), function: function.map(str::to_owned) }
    }

    fn measured(function: Option<&str>, lines: usize) -> BTreeMap<Place, Length> {
        BTreeMap::from([(place(function), Length { lines, limit: 70, at: 4 })])
    }

    #[test]
    fn the_list_reads_back_as_written() {
        let list = Exceptions::from([(place(None), 640), (place(Some("Big::grow")), 81)]);
        let text: String =
            list.iter().map(|(place, length)| entry(place, *length) + "\n").collect();
        assert_eq!(parse(&format!("{PREAMBLE}\n{text}")), Ok(list));
        assert!(parse("a/src/x.rs file many").is_err());
        assert!(parse("a/src/x.rs grow 3").is_err());
    }

    #[test]
    fn only_shrinking_passes_and_only_once_written_down() {
        let list = Exceptions::from([(place(Some("f")), 80)]);
        assert!(check(&list, &measured(Some("f"), 80)).is_empty());
        let sentence = |lines| check(&list, &measured(Some("f"), lines))[0].sentence.clone();
        assert!(sentence(81).contains("may only shrink"));
        assert!(sentence(79).contains("--tighten"));
        assert!(check(&Exceptions::new(), &measured(Some("f"), 80))[0].sentence.contains("divide"));
        assert!(check(&list, &BTreeMap::new())[0].sentence.contains("no exception any more"));
    }

    #[test]
    fn tightening_never_adds_or_raises() {
        let list = Exceptions::from([(place(Some("f")), 80), (place(Some("gone")), 90)]);
        let mut lengths = measured(Some("f"), 75);
        lengths.extend(measured(Some("new"), 99));
        assert_eq!(tightened(&list, &lengths), Exceptions::from([(place(Some("f")), 75)]));
        let grown = measured(Some("f"), 85);
        assert_eq!(tightened(&list, &grown), Exceptions::from([(place(Some("f")), 80)]));
    }
}
