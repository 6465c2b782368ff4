//! What runs came to, for people.

use super::progress::{hours, rate};
use super::sum::{Failed, Sum};
use crate::words;
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write as _;
use std::time::Duration;
use testudo_lab::Coverage;

/// The whole of it.
pub(super) fn show(sum: &Sum, coverage: &Coverage) -> String {
    let mut text = head(sum);
    text.push_str("\n\nWhat went wrong, as asked for:\n");
    let mut table = plain();
    for (group, faults) in &coverage.faults {
        let mut group = group.name();
        for (name, count) in faults {
            table.add_row([group.to_owned(), name.clone(), count.to_string()]);
            group = "";
        }
    }
    text.push_str(&aligned(table));
    text.push_str("\n\nWhat it led to:\n");
    let mut table = plain();
    for (name, count) in &coverage.effects {
        table.add_row([String::new(), name.clone(), count.to_string()]);
    }
    text.push_str(&aligned(table));
    if sum.is_enough() && !coverage.missing.is_empty() {
        let missing: Vec<&str> = coverage.missing.iter().map(String::as_str).collect();
        // Writing to a string does not fail.
        let _ = write!(text, "\n\nNever happened: {}.", words::list(&missing));
    }
    for failed in &sum.failures {
        text.push_str("\n\n");
        text.push_str(&failure(sum, failed));
    }
    let hidden = sum.failed.saturating_sub(sum.failures.len() as u64);
    if hidden > 0 {
        let _ = write!(text, "\n\nAnd {hidden} more that failed.");
    }
    text
}

fn head(sum: &Sum) -> String {
    let wall = Duration::from_millis(sum.wall_milliseconds);
    let seeds: Vec<String> = sum.done.iter().map(ToString::to_string).collect();
    let verdicts: Vec<String> =
        sum.verdicts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let part = sum.shard.map(|shard| format!(", part {} of {}", shard.index, shard.of));
    let mut text = format!(
        "{} runs of {}{}, seeds {}: {}",
        sum.runs,
        sum.question.protocol,
        part.unwrap_or_default(),
        if seeds.is_empty() { "none".to_owned() } else { seeds.join(" ") },
        verdicts.join(", "),
    );
    let hours = hours(sum.simulated_milliseconds);
    let times = sum.simulated_milliseconds as f64 / sum.wall_milliseconds.max(1) as f64;
    let _ = write!(
        text,
        "\n{:.1} seeds a second, {hours:.2} simulated hours in {:.1} s ({times:.0} times real time), {} steps, {} \
         operations answered\naudit {}",
        rate(sum.runs, wall),
        wall.as_secs_f64(),
        sum.steps,
        sum.answered,
        sum.audit,
    );
    if sum.interrupted {
        text.push_str("\nended before its time, as asked");
    }
    text
}

/// A failed run, and how to see it again.
fn failure(sum: &Sum, failed: &Failed) -> String {
    let Failed { seed, title, broken, .. } = failed;
    let mut text = format!("Seed {seed} ({title}) broke");
    for broken in broken {
        let at = Duration::from_millis(broken.at_milliseconds);
        let _ = write!(text, "\n  {} at {at:.3?}: {}", broken.rule, broken.what);
    }
    let repeat = sum.to_repeat(*seed);
    for more in ["", " --shrink", &format!(" --diagram {seed}.html")] {
        let _ = write!(text, "\n  testudo sim {repeat}{more}");
    }
    text
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// Counts stand to the right.
fn aligned(mut table: Table) -> String {
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}
