//! Joins the reports of parts into that of the whole.
//!
//! Whoever joins wants to be told if something is not as it seems: all parts must be of one program and one question, no
//! seed may be in two of them, and none may be missing between the first and the last.

use super::flags::Span;
use super::sum::{Question, Sum};
use crate::failure::{Failure, Outcome, plain};
use std::fs;
use std::path::{Path, PathBuf};

/// Reads reports and joins them.
pub(super) fn merge(files: &[PathBuf]) -> Outcome<Sum> {
    let mut parts = files.iter().map(|path| Ok((path.as_path(), read(path)?)));
    let first: (&Path, Sum) = parts
        .next()
        .ok_or_else(|| Failure::refused("name the files to join"))
        .and_then(|first: Outcome<_>| first)?;
    let mut taken: Vec<(Span, &Path)> = Vec::new();
    let mut whole = Sum::new(first.1.question.clone());
    let mut asked = first.1.seeds;
    for part in std::iter::once(Ok(first)).chain(parts) {
        let (path, part) = part?;
        same(&whole.question, &part.question, path)?;
        disjoint(&taken, &part, path)?;
        taken.extend(part.done.iter().map(|span| (*span, path)));
        asked = match (asked, part.seeds) {
            (Some(one), Some(other)) => {
                Some(Span { from: one.from.min(other.from), to: one.to.max(other.to) })
            }
            _ => None,
        };
        whole.join(&part);
    }
    complete(&whole, asked)?;
    whole.seeds = asked;
    Ok(whole)
}

fn read(path: &Path) -> Outcome<Sum> {
    // No rule was broken where a file is missing: it is refused like any other that does not fit.
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::refused(format!("cannot read {}: {}", path.display(), plain(&error)))
    })?;
    serde_json::from_str(&text).map_err(|error| {
        let path = path.display();
        Failure::refused(format!("{path} is no report of `testudo sim --json`: {error}"))
    })
}

/// Refuses a part of another question or another program.
fn same(first: &Question, other: &Question, path: &Path) -> Outcome {
    let flag = |is_set: bool| if is_set { "set" } else { "not set" }.to_owned();
    let pairs = [
        ("version", first.version.clone(), other.version.clone()),
        ("build", first.build.clone(), other.build.clone()),
        ("protocol", first.protocol.clone(), other.protocol.clone()),
        ("faults", first.faults.clone(), other.faults.clone()),
        ("--beyond", flag(first.beyond), flag(other.beyond)),
        ("--twice", flag(first.twice), flag(other.twice)),
    ];
    match pairs.iter().find(|(_, first, other)| first != other) {
        None => Ok(()),
        Some((what, first, other)) => {
            let path = path.display();
            Err(Failure::refused(format!(
                "{path} is no part of the same whole: its {what} is {other}, that of the first {first}"
            )))
        }
    }
}

/// Refuses a part with seeds that another part has, or of which its own counts say otherwise.
fn disjoint(taken: &[(Span, &Path)], part: &Sum, path: &Path) -> Outcome {
    let overlap = part.done.iter().find_map(|span| {
        taken.iter().find(|(other, _)| span.from < other.to && other.from < span.to)
    });
    if let Some((span, other)) = overlap {
        let (path, other) = (path.display(), other.display());
        return Err(Failure::refused(format!(
            "{path} has seeds of {span}, which {other} has, too"
        )));
    }
    let is_sound = part.done.iter().all(|span| span.from < span.to);
    let seeds: u128 =
        part.done.iter().map(|span| u128::from(span.to.saturating_sub(span.from))).sum();
    if !is_sound || seeds != u128::from(part.runs) {
        let (path, runs) = (path.display(), part.runs);
        return Err(Failure::refused(format!("{path} tells of {runs} runs, and of {seeds} seeds")));
    }
    Ok(())
}

/// Refuses a whole in which seeds are missing.
fn complete(whole: &Sum, asked: Option<Span>) -> Outcome {
    let missing = match (whole.done.as_slice(), asked) {
        ([], _) => return Err(Failure::refused("nothing was run in any of these parts")),
        ([first, ..], Some(asked)) if first.from > asked.from => {
            Some(Span { from: asked.from, to: first.from })
        }
        ([first, second, ..], _) => Some(Span { from: first.to, to: second.from }),
        ([only], Some(asked)) if only.to < asked.to => Some(Span { from: only.to, to: asked.to }),
        _ => None,
    };
    match missing {
        None => Ok(()),
        Some(span) => {
            Err(Failure::refused(format!("a part is missing: nobody ran the seeds {span}")))
        }
    }
}
